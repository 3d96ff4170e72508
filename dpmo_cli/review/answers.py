"""What the review page is answered with: bodies, pictures, its own files, and problems in words."""

from __future__ import annotations

import html
import json
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dpmo_cli.errors import DpmoError
from dpmo_cli.review.decision import ConflictError, Decision, OverlapError
from dpmo_cli.review.people import ShownPerson, shown_ok
from dpmo_cli.review.prompts import NoClicksError
from dpmo_cli.review.run_index import RunIndex
from dpmo_cli.review.wishes import UnfitError, UnknownError

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_FOR_LONG = "private, max-age=86400, immutable"


def person_body(shown: ShownPerson) -> dict[str, object]:
    """A person as the page reads it."""
    decision = shown.decision
    return {
        "id": shown.person.point_id,
        "x": shown.xy[0],
        "y": shown.xy[1],
        "r": shown.radius_px,
        "status": shown.status,
        "score": None if shown.score is None else round(shown.score, 4),
        "reasons": list(shown.reasons),
        "origin": shown.origin,
        "drawn": shown_ok(shown),
        "verdict": shown.verdict,
        "decision": None if decision is None else decision.id,
        "reviewer": None if decision is None else decision.reviewer,
        "mask": None if shown.mask is None else shown.mask.as_json(),
        "lost": None if shown.lost is None else shown.lost.as_json(),
    }


def decision_body(decision: Decision, index: RunIndex) -> dict[str, object]:
    """A decision as the page reads it, with its row of the queue."""
    return {
        "id": decision.id,
        "split": decision.person.split,
        "image_id": decision.person.image_id,
        "point_id": decision.person.point_id,
        "rank": index.rank(decision.person),
        "verdict": decision.verdict,
        "reviewer": decision.reviewer,
        "time": decision.time,
    }


def problem_of(error: DpmoError) -> tuple[int, dict[str, object]]:
    """Status and body that tell the page what stands against a request."""
    body: dict[str, object] = {"error": str(error)}
    if isinstance(error, ConflictError):
        current = error.current
        return 409, body | {
            "kind": "conflict",
            "current": None if current is None else current.id,
            "verdict": None if current is None else current.verdict,
        }
    if isinstance(error, OverlapError):
        return 409, body | {"kind": "overlap", "others": [one.point_id for one in error.others]}
    if isinstance(error, UnfitError):
        return 422, body | {"kind": "unfit"}
    if isinstance(error, UnknownError):
        return 404, body | {"kind": "unknown"}
    if isinstance(error, NoClicksError):
        return 503, body | {"kind": "no_clicks"}
    return 500, body | {"kind": "failed"}


def on_error(_request: Request, error: Exception) -> Response:
    """What stands against a request, in words."""
    assert isinstance(error, DpmoError)
    status, body = problem_of(error)
    return json_answer(body, status)


def on_malformed(_request: Request, error: Exception) -> Response:
    """A request that the page does not make."""
    return json_answer({"error": " ".join(str(error).split()), "kind": "malformed"}, 400)


def on_http_error(_request: Request, error: Exception) -> Response:
    """An address that is none, or a method that it does not know."""
    assert isinstance(error, HTTPException)
    return Response(
        json.dumps({"error": error.detail, "kind": "http"}),
        error.status_code,
        media_type="application/json",
        headers=error.headers,
    )


def json_answer(body: object, status: int = 200) -> Response:
    """JSON that no browser keeps."""
    return Response(
        json.dumps(body, allow_nan=False, separators=(",", ":")),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def jpeg_answer(picture: bytes) -> Response:
    """A picture that browsers may keep: its address is of this start alone."""
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": _FOR_LONG})


def page_files(token: str, start: str) -> dict[str, tuple[bytes, str]]:
    """The page's files by name, with their types; the page itself holds the token."""
    files: dict[str, tuple[bytes, str]] = {}
    for entry in resources.files("dpmo_cli.review").joinpath("page").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES:
            files[entry.name] = entry.read_bytes(), _TYPES[suffix]
    page, kind = files["index.html"]
    filled = page.decode().replace("{{token}}", html.escape(token))
    files["index.html"] = filled.replace("{{start}}", start).encode(), kind
    return files
