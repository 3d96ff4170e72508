"""Clicks to a mask, live: the run's network, weights and method, in one thread."""

from __future__ import annotations

import hashlib
import math
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.extents import IN_DISC
from dpmo_cli.geometry.nnec import disc_mask, disc_windows, nearest_others
from dpmo_cli.geometry.points import FloatArray, group_points
from dpmo_cli.geometry.rle import WindowXYXY
from dpmo_cli.masks.method import LOGIT, NEAREST, Method
from dpmo_cli.masks.ownership import distance_cost, logit_cost
from dpmo_cli.outputs.schema import INVALID, REJECTED
from dpmo_cli.review.people import People, pixel_of
from dpmo_cli.review.photos import Photo, Recent
from dpmo_cli.review.placed import PlacedMask
from dpmo_cli.review.run_index import RunInfo

if TYPE_CHECKING:
    from dpmo_cli.sam.engine import Encoded, SamEngine

EMBEDDING_BYTES = 256 * 2**20
"""Embeddings that are held: some hundred of nano, some dozen of the ViTs."""
RIVALS = 12
"""Neighbours that are asked too, so that each keeps what the network says is its own."""
REACH = 1.25
"""A click outside the disc widens it to so many times its distance from the point."""

PLACES_HELD = 64

PointXY = tuple[float, float]
"""px of the photo."""
Click = tuple[float, float, bool]
"""x, y in px of the photo; whether it lies on the person."""


class NoClicksError(DpmoError):
    """Clicks can't be answered here: the run's weights are not at hand."""


@dataclass(frozen=True)
class Asked:
    """A question to the network.

    Attributes:
        photo: the whole photo.
        people: who stands where in it.
        point_id: whose mask it is; None for a new person.
        xy: the person's point, px.
        clicks: further points on the person, and points on others.
    """

    photo: Photo
    people: People
    point_id: int | None
    xy: PointXY
    clicks: Sequence[Click] = ()


@dataclass(frozen=True)
class Drawn:
    """What the network draws: a mask, or None; and the seconds it took."""

    mask: PlacedMask | None
    seconds: float


@dataclass(frozen=True)
class _Place:
    """Where a person lies in the crop that the network sees."""

    window_xyxy: WindowXYXY
    radius_px: float
    sites_xy: FloatArray
    own: int


class Prompter:
    """Answers clicks in a thread of its own, where the network is loaded at the first question.

    Args:
        run: whose network, weights and method are taken.
    """

    def __init__(self, run: RunInfo) -> None:
        self._run = run
        self._engine: SamEngine | None = None
        self._encoded: Recent[tuple[str, WindowXYXY], Encoded] = Recent(
            EMBEDDING_BYTES, lambda one: one.embedding.nbytes
        )
        self._places: Recent[tuple[int, int | None, PointXY], tuple[People, _Place]] = Recent(
            PLACES_HELD, lambda _: 1
        )
        self._hashes: Recent[int, tuple[Photo, str]] = Recent(8, lambda _: 1)
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = (
            queue.SimpleQueue()
        )
        # A daemon: Ctrl-C does not wait for the network.
        self._thread = Thread(target=self._work, name="network", daemon=True)
        self._starting = Lock()

    def ask(self, asked: Asked) -> Future[Drawn]:
        """The mask that clicks give; the future raises NoClicksError where none can be had."""
        return self._submit(lambda: self._draw(asked))

    def prepare(self, asked: Asked) -> Future[None]:
        """Load the network and encode what it will see of a person, before the first click."""

        def encode() -> None:
            engine = self._loaded()
            with asked.people.lock:
                window = self._placed(engine, asked).window_xyxy
            self._seen(engine, asked.photo, window)

        return self._submit(encode)

    def _submit(self, work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.put((future, work))
        with self._starting:
            if not self._thread.is_alive():
                self._thread.start()
        return future

    def _work(self) -> None:
        while True:
            future, work = self._waiting.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

    def _loaded(self) -> SamEngine:
        """The run's network.

        Raises:
            NoClicksError: its weights are missing, or are others.
        """
        if self._engine is None:
            from dpmo_cli.sam.models import load_engine, resolve_engine

            settings = self._run.settings
            name, wanted = str(settings["sam"]), str(settings["weights_sha256"])
            checkpoint = self._run.checkpoint
            try:
                spec = resolve_engine(name, dtype=str(settings["dtype"]))
            except DpmoError as missing:
                spec = None
                why = str(missing)
            if (spec is None or spec.weights_sha256 != wanted) and checkpoint is not None:
                try:
                    spec = resolve_engine(name, checkpoint=checkpoint, dtype=str(settings["dtype"]))
                except DpmoError as missing:
                    why = str(missing)
            if spec is None:
                raise NoClicksError(f"no clicks: {why}")
            if spec.weights_sha256 != wanted:
                raise NoClicksError(
                    f"no clicks: the weights of {name} that the run was made with "
                    f"(SHA-256 {wanted[:12]}...) are not here"
                )
            self._engine = load_engine(spec)
        return self._engine

    def _method(self) -> Method:
        settings = self._run.settings
        return Method(
            nnec_scale=float(settings["nnec_scale"]),
            tiles=settings["tiles"] == "auto",
            extent=str(settings["extent"]),
            negatives=int(settings["negatives"]),
            radii=str(settings["radii"]),
            ownership=str(settings["ownership"]),
        )

    def _placed(self, engine: SamEngine, asked: Asked) -> _Place:
        """Where the person lies; the same for all clicks on it."""
        key = id(asked.people), asked.point_id, asked.xy
        held = self._places.get(key)
        # The id may be that of persons who were forgotten.
        if held is None or held[0] is not asked.people:
            held = asked.people, self._found_place(engine, asked)
            self._places.put(key, held)
        return held[1]

    def _found_place(self, engine: SamEngine, asked: Asked) -> _Place:
        """The crop that the run took for the person, or would take for one at this point."""
        from dpmo_cli.masks.segment import discs_of, plan_tiles

        people, method = asked.people, self._method()
        # Nobody's points are nobody's neighbours; the person's own counts where it is now.
        counted = np.array([one not in (INVALID, REJECTED) for one in people.status], dtype=bool)
        stays = False
        if asked.point_id is not None and asked.point_id < len(people.status):
            stays = people.seen_xy(asked.point_id) == asked.xy
            counted[asked.point_id] = False
        points = np.concatenate([people.xy[counted], [asked.xy]])
        sites = group_points(points, people.size_hw)
        own = int(sites.site_of_point[-1])
        discs = discs_of(sites, people.size_hw, method)
        prompted = np.flatnonzero(sites.inside) if stays else np.array([own])
        tiles = plan_tiles(sites, discs, prompted, people.size_hw, engine.frame_px, method)
        window = next(tile.window_xyxy for tile in tiles if own in tile.sites)
        return _Place(window, float(discs.radii_px[own]), sites.xy, own)

    def _seen(self, engine: SamEngine, photo: Photo, window: WindowXYXY) -> Encoded:
        """The embedding of a part of a photo, by its content."""
        held = self._hashes.get(id(photo))
        if held is None:
            held = photo, hashlib.sha256(photo.data).hexdigest()
            self._hashes.put(id(photo), held)
        key = held[1], window
        encoded = self._encoded.get(key)
        if encoded is None:
            x0, y0, x1, y1 = window
            (encoded,) = engine.encode([photo[y0:y1, x0:x1]])
            self._encoded.put(key, encoded)
        return encoded

    def _draw(self, asked: Asked) -> Drawn:
        engine = self._loaded()
        begin = perf_counter()
        with asked.people.lock:
            place = self._placed(engine, asked)
        encoded = self._seen(engine, asked.photo, place.window_xyxy)
        with asked.people.lock:
            mask = self._mask(engine, encoded, place, asked)
        return Drawn(mask, perf_counter() - begin)

    def _mask(
        self, engine: SamEngine, encoded: Encoded, place: _Place, asked: Asked
    ) -> PlacedMask | None:
        """Prompt for the person and its rivals, and settle whose the pixels are."""
        from dpmo_cli.masks.choice import choose
        from dpmo_cli.masks.claims import prompts_of

        method, people = self._method(), asked.people
        positive = [(x, y) for x, y, on in asked.clicks if on]
        negative = [(x, y) for x, y, on in asked.clicks if not on]
        away = [math.dist(click, asked.xy) for click in positive]
        radius = max([place.radius_px, *(REACH * one for one in away if one > place.radius_px)])
        in_disc = method.extent in IN_DISC
        disc = _disc_window(asked.xy, radius, people.size_hw) if in_disc else place.window_xyxy
        window = _common(disc, place.window_xyxy)
        if window is None:
            return None
        origin = np.array(place.window_xyxy[:2], dtype=np.float64)
        others = place.sites_xy[nearest_others(place.sites_xy, method.negatives)[place.own]]
        own_xy = np.array([asked.xy, *positive]) - origin
        others_xy = np.concatenate([others, np.array(negative).reshape(-1, 2)]) - origin
        prompt, labels = prompts_of(own_xy[None], others_xy[None], encoded.frame)
        # Those far from the crop are not named, but clicks always are.
        (answer,) = engine.prompt(encoded, prompt, labels, method.extent)
        scale = encoded.frame.cells_per_px()
        choice = choose(
            answer.logits,
            answer.predicted_ious,
            encoded.frame.to_cells(own_xy[:1]),
            np.array([radius * scale]),
            method.extent,
            method.terms,
        )
        x0, y0, x1, y1 = window
        left, top = place.window_xyxy[:2]
        inside = (x0 - left, y0 - top, x1 - left, y1 - top)
        logits = encoded.frame.window_logits(choice.logits[0], inside)
        pixels = logits > 0
        if in_disc:
            pixels &= disc_mask(np.array(asked.xy), radius, window)
        mask = PlacedMask.of_pixels(pixels, window)
        if mask is None:
            return None
        for drawn in people.drawn_near(mask.window_xyxy, asked.point_id).values():
            mask = mask.without(drawn)
            if mask is None:
                return None
        mask = self._settled(engine, encoded, place, asked, mask, logits, window, radius)
        return None if mask is None else _connected(mask, [asked.xy, *positive], people.size_hw)

    def _settled(
        self,
        engine: SamEngine,
        encoded: Encoded,
        place: _Place,
        asked: Asked,
        mask: PlacedMask,
        logits: NDArray[np.float32],
        window: WindowXYXY,
        radius: float,
    ) -> PlacedMask | None:
        """What is left of a mask when automatic neighbours keep the pixels that are rather theirs.

        A neighbour on whose mask a positive click lies keeps none: the reviewer says so.
        """
        from dpmo_cli.masks.choice import choose
        from dpmo_cli.masks.claims import prompts_of

        method, people = self._method(), asked.people
        positive = [pixel_of((x, y), people.size_hw) for x, y, on in asked.clicks if on]
        rivals: list[tuple[int, PlacedMask]] = []
        for point_id in people.meeting(mask.window_xyxy):
            if point_id == asked.point_id or point_id >= len(people.status):
                continue
            theirs = people.mask(point_id)
            if theirs is None or mask.within(theirs) is None:
                continue
            if any(theirs.holds(x, y) for x, y in positive):
                continue
            rivals.append((point_id, theirs))
        rivals.sort(key=lambda one: math.dist(people.seen_xy(one[0]), asked.xy))
        rivals = rivals[:RIVALS]
        if not rivals:
            return mask
        origin = np.array(place.window_xyxy[:2], dtype=np.float64)
        rivals_xy = people.xy[[point_id for point_id, _ in rivals]]
        sites_xy = np.concatenate([[asked.xy], rivals_xy])
        radii = np.array([radius, *(self._radius(people, one) for one, _ in rivals)])
        values: list[NDArray[np.float32] | None] = [logits]
        windows: list[WindowXYXY] = [window]
        if method.ownership == LOGIT:
            own = np.broadcast_to(np.array(asked.xy), rivals_xy.shape)
            prompt, labels = prompts_of(
                rivals_xy[:, None] - origin, own[:, None] - origin, encoded.frame
            )
            for answer in engine.prompt(encoded, prompt, labels, method.extent):
                chunk = answer.chunk
                choice = choose(
                    answer.logits,
                    answer.predicted_ious,
                    encoded.frame.to_cells(prompt[chunk, 0]),
                    radii[1:][chunk] * encoded.frame.cells_per_px(),
                    method.extent,
                    method.terms,
                )
                x0, y0, x1, y1 = window
                left, top = place.window_xyxy[:2]
                inside = (x0 - left, y0 - top, x1 - left, y1 - top)
                for theirs_logits in choice.logits:
                    values.append(encoded.frame.window_logits(theirs_logits, inside))
                    windows.append(window)
            cost = logit_cost(values, windows, sites_xy, radii)
        elif method.ownership == NEAREST:
            cost = distance_cost(sites_xy)
        else:
            cost = distance_cost(sites_xy, radii)
        lost = np.zeros_like(mask.pixels)
        x0, y0 = mask.window_xyxy[:2]
        for number, (_, theirs) in enumerate(rivals, start=1):
            shared = mask.within(theirs)
            if shared is None:
                continue
            rows, columns = np.nonzero(shared)
            pixels = np.stack([columns + x0, rows + y0], axis=1)
            mine = cost(np.zeros(len(pixels), dtype=np.int64), pixels)
            others = cost(np.full(len(pixels), number), pixels)
            lost[rows, columns] |= mine >= others
        return PlacedMask.of_pixels(mask.pixels & ~lost, mask.window_xyxy)

    def _radius(self, people: People, point_id: int) -> float:
        shown = people.show(point_id)
        radius = None if shown is None else shown.radius_px
        return radius or 1.0


def _disc_window(xy: PointXY, radius_px: float, size_hw: tuple[int, int]) -> WindowXYXY:
    ((x0, y0, x1, y1),) = disc_windows(np.array([xy]), np.array([radius_px]), size_hw).tolist()
    return x0, y0, x1, y1


def _common(one: WindowXYXY, other: WindowXYXY) -> WindowXYXY | None:
    x0, y0 = max(one[0], other[0]), max(one[1], other[1])
    x1, y1 = min(one[2], other[2]), min(one[3], other[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _connected(
    mask: PlacedMask, points: Sequence[PointXY], size_hw: tuple[int, int]
) -> PlacedMask | None:
    """The parts of a mask that hold one of the points; the whole of it where none does."""
    parts = [mask.part_at(*pixel_of(point, size_hw)) for point in points]
    x0, y0, x1, y1 = mask.window_xyxy
    kept = np.zeros_like(mask.pixels)
    for part in parts:
        if part is not None:
            left, top, right, bottom = part.window_xyxy
            kept[top - y0 : bottom - y0, left - x0 : right - x0] |= part.pixels
    return PlacedMask.of_pixels(kept, (x0, y0, x1, y1)) or mask
