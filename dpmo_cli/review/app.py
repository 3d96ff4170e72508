"""The routes of the review page: what it reads, what it posts, and its own files."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dpmo_cli.errors import DpmoError
from dpmo_cli.masks.reasons import REASONS
from dpmo_cli.outputs.json_values import as_int, as_object, as_text
from dpmo_cli.outputs.schema import STATUSES
from dpmo_cli.review import bodies
from dpmo_cli.review.answers import (
    decision_body,
    jpeg_answer,
    json_answer,
    on_error,
    on_http_error,
    on_malformed,
    page_files,
    person_body,
    problem_of,
)
from dpmo_cli.review.desk import Desk
from dpmo_cli.review.guard import Guard
from dpmo_cli.review.photos import crop, tile
from dpmo_cli.review.placed import parse_mask
from dpmo_cli.review.run_index import QueueFilter, ShownPhoto
from dpmo_cli.review.wishes import Outcome, UnknownError

MAX_CROP_PX = 4096
MAX_THUMB_PX = 512
MAX_LEVEL = 8


def create_app(
    desk: Desk, *, hosts: frozenset[str], token: str, log: Callable[[str], None]
) -> Starlette:
    """The page's server.

    Args:
        desk: what it works on.
        hosts: the Host headers that are its own.
        token: what the page shows with each post.
        log: takes one line for each refusal.
    """
    routes = Routes(desk, token)
    return Starlette(
        routes=routes.listed(),
        exception_handlers={
            HTTPException: on_http_error,
            DpmoError: on_error,
            ValueError: on_malformed,
        },
        middleware=[Middleware(Guard, hosts=hosts, token=token, log=log)],
    )


class Routes:
    """What each address answers.

    Args:
        desk: what they work on.
        token: written into the page.
    """

    def __init__(self, desk: Desk, token: str) -> None:
        self._desk = desk
        # Addresses of pictures hold it, so that no browser shows those of another start.
        self._start = secrets.token_hex(4)
        self._files = page_files(token, self._start)

    def listed(self) -> list[Route]:
        """The addresses."""
        return [
            Route("/", self.page_file),
            Route("/page/{name}", self.page_file),
            Route(
                "/photo/{split}/{image_id:int}/{level:int}/{column:int}_{row:int}.jpg", self.tile
            ),
            Route("/crop/{split}/{image_id:int}.jpg", self.crop),
            Route("/api/run", self.run),
            Route("/api/queue", self.queue),
            Route("/api/rows", self.rows),
            Route("/api/people/{split}/{image_id:int}", self.people),
            Route("/api/progress", self.progress),
            Route("/api/events", self.events),
            Route("/api/decide", self.decide, methods=["POST"]),
            Route("/api/decide_many", self.decide_many, methods=["POST"]),
            Route("/api/add", self.add, methods=["POST"]),
            Route("/api/undo", self.undo, methods=["POST"]),
            Route("/api/prompt", self.prompt, methods=["POST"]),
            Route("/api/prepare", self.prepare, methods=["POST"]),
        ]

    def page_file(self, request: Request) -> Response:
        """The page and its files, held in memory: no path of a request is ever opened."""
        found = self._files.get(request.path_params.get("name", "index.html"))
        if found is None:
            raise HTTPException(404, "there is no such file")
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "no-cache"})

    def run(self, _request: Request) -> Response:
        """What the page says of the run, and what it may filter by."""
        index = self._desk.index
        return json_answer(
            {
                "out": self._desk.run.out.resolve().name,
                "dataset": self._desk.run.dataset,
                "extent": self._desk.run.extent,
                "sam": str(self._desk.run.settings["sam"]),
                "reviewer": self._desk.reviewer,
                "rows": len(index),
                "images": len(index.images),
                "largest_crowd": int(index.crowd.max(initial=0)),
                "splits": list(index.splits),
                "reasons": [
                    {"name": name, "count": count, "words": REASONS[name]}
                    for name, count in index.reason_counts().items()
                ],
                "statuses": list(STATUSES),
                "unmarked": [
                    {
                        "split": image.split,
                        "image_id": image.image_id,
                        "image": image.file_name,
                        "width": image.size_hw[1],
                        "height": image.size_hw[0],
                    }
                    for image in index.unmarked
                ],
                "audit": None if self._desk.audit is None else len(self._desk.audit),
                "last": self._desk.refresh(),
            }
        )

    def queue(self, request: Request) -> Response:
        """The ranks that a filter lets through, worst first, as int32 in little-endian bytes."""
        ranks = self._desk.choose(self._filter(request))
        return Response(
            ranks.astype("<i4").tobytes(),
            media_type="application/octet-stream",
            headers={"Cache-Control": "no-store"},
        )

    def rows(self, request: Request) -> Response:
        """Some rows of the queue with their persons."""
        rows = []
        for rank in bodies.parse_ranks(request.query_params):
            photo, shown = self._desk.row(rank)
            height, width = self._desk.people(photo.split, photo.image_id).size_hw
            crowd = int(self._desk.index.crowd[self._desk.index.image[rank]])
            rows.append(
                {
                    "rank": rank,
                    "split": photo.split,
                    "image_id": photo.image_id,
                    "image": photo.file_name,
                    "width": width,
                    "height": height,
                    "crowd": crowd,
                    "person": person_body(shown),
                }
            )
        return json_answer({"rows": rows})

    def people(self, request: Request) -> Response:
        """The persons in a window of an image: with masks, or of too many the points alone."""
        split, image_id = request.path_params["split"], request.path_params["image_id"]
        window = bodies.parse_window(request.query_params)
        people, shown, detailed = self._desk.visible(split, image_id, window)
        body: dict[str, object] = {"detailed": detailed}
        if detailed:
            body["people"] = [person_body(one) for one in shown]
        else:
            with people.lock:
                found = people.meeting(window)
            body["points"] = [
                [one, *(round(side, 1) for side in people.seen_xy(one))]
                for one in found
                if one < len(people.status)
            ]
        return json_answer(body)

    def tile(self, request: Request) -> Response:
        """A tile of a photo."""
        about = request.path_params
        if about["level"] > MAX_LEVEL:
            raise HTTPException(404, "there is no such tile")
        photo = self._desk.photo(about["split"], about["image_id"])
        picture = tile(photo, about["level"], about["column"], about["row"])
        if picture is None:
            raise HTTPException(404, "there is no such tile")
        return jpeg_answer(picture)

    def crop(self, request: Request) -> Response:
        """A square part of a photo at another size."""
        query = request.query_params
        side = bodies.parse_whole(query, "side", 1, MAX_CROP_PX)
        size = bodies.parse_whole(query, "size", 1, MAX_THUMB_PX)
        x = bodies.parse_whole(query, "x", -MAX_CROP_PX, 2**31)
        y = bodies.parse_whole(query, "y", -MAX_CROP_PX, 2**31)
        photo = self._desk.photo(request.path_params["split"], request.path_params["image_id"])
        return jpeg_answer(crop(photo, (x, y, x + side, y + side), (size, size)))

    def progress(self, request: Request) -> Response:
        """How far the review has come, of the rows that a filter means."""
        progress = self._desk.progress(self._filter(request))
        return json_answer(
            {
                "total": progress.total,
                "done": progress.done,
                "left": progress.total - progress.done,
                "per_minute": round(progress.per_minute, 1),
            }
        )

    def events(self, request: Request) -> Response:
        """Decisions after one: what happened in other tabs."""
        since = bodies.parse_whole(request.query_params, "since", 0, 2**53)
        events = [decision_body(one, self._desk.index) for one in self._desk.events(since)]
        return json_answer({"events": events})

    async def decide(self, request: Request) -> Response:
        """Write one decision."""
        body = bodies.parse_json(await request.body())
        return await asyncio.to_thread(self._decide, body)

    def _decide(self, body: Any) -> Response:
        person = bodies.parse_person(body)
        size_hw = self._desk.people(person.split, person.image_id).size_hw
        wish = bodies.parse_wish(body, size_hw)
        return json_answer(self._outcome(self._desk.decide(wish, bodies.parse_source(body))))

    async def decide_many(self, request: Request) -> Response:
        """Write several decisions; each is answered alone."""
        body = bodies.parse_json(await request.body())
        return await asyncio.to_thread(self._decide_many, body)

    def _decide_many(self, body: Any) -> Response:
        listed = body.get("items")
        if not isinstance(listed, list) or len(listed) > bodies.MAX_ROWS:
            raise ValueError(f"items is no list of at most {bodies.MAX_ROWS}")
        wishes = []
        for item in listed:
            one = as_object(item, "items")
            person = bodies.parse_person(one)
            size_hw = self._desk.people(person.split, person.image_id).size_hw
            wishes.append(bodies.parse_wish(one, size_hw))
        results = []
        for told in self._desk.decide_many(wishes, bodies.parse_source(body)):
            if isinstance(told, Outcome):
                results.append(self._outcome(told))
            else:
                results.append(problem_of(told)[1])
        return json_answer({"results": results})

    async def add(self, request: Request) -> Response:
        """Add a person."""
        body = bodies.parse_json(await request.body())
        return await asyncio.to_thread(self._add, body)

    def _add(self, body: Any) -> Response:
        photo = self._photo(body)
        size_hw = self._desk.people(photo.split, photo.image_id).size_hw
        xy = bodies.parse_xy(body, "xy")
        if xy is None:
            raise ValueError("xy is missing")
        mask = parse_mask(body.get("mask"), size_hw)
        seconds, source = bodies.parse_seconds(body), bodies.parse_source(body)
        return json_answer(self._outcome(self._desk.add(photo, xy, mask, seconds, source)))

    async def undo(self, request: Request) -> Response:
        """Go back to the state before a person's latest decision."""
        body = bodies.parse_json(await request.body())
        return await asyncio.to_thread(self._undo, body)

    def _undo(self, body: Any) -> Response:
        expected = as_int(body.get("expected"), "expected")
        return json_answer(self._outcome(self._desk.undo(bodies.parse_person(body), expected)))

    async def prompt(self, request: Request) -> Response:
        """The mask that clicks give."""
        body = bodies.parse_json(await request.body())
        asked = bodies.parse_question(body)
        photo = self._photo(body)
        future = await asyncio.to_thread(
            self._desk.ask, photo, asked.point_id, asked.xy, asked.clicks
        )
        drawn = await asyncio.wrap_future(future)
        mask = None if drawn.mask is None else drawn.mask.as_json()
        return json_answer({"mask": mask, "milliseconds": round(1000 * drawn.seconds)})

    async def prepare(self, request: Request) -> Response:
        """Load the network and encode what it sees of a person."""
        body = bodies.parse_json(await request.body())
        person = bodies.parse_person(body)
        unasked = body.get("unasked") is True
        future = await asyncio.to_thread(
            self._desk.prepare, self._photo(body), person.point_id, unasked=unasked
        )
        return json_answer({"ready": await asyncio.wrap_future(future)})

    def _filter(self, request: Request) -> QueueFilter:
        return bodies.parse_filter(request.query_params, self._desk.index, self._desk.audit)

    def _photo(self, body: Any) -> ShownPhoto:
        split = as_text(body.get("split"), "split")
        image_id = as_int(body.get("image_id"), "image_id")
        photo = self._desk.index.photo(split, image_id)
        if photo is None:
            raise UnknownError(f"the run has no image {image_id} in split {split!r}")
        return photo

    def _outcome(self, outcome: Outcome) -> dict[str, object]:
        return {
            "decision": decision_body(outcome.decision, self._desk.index),
            "people": [person_body(one) for one in outcome.changed],
        }
