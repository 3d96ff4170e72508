"""What the page asks for, taken apart and checked: query strings and JSON bodies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpmo_cli.masks.reasons import REASONS
from dpmo_cli.outputs.corrections import VERDICTS, Person
from dpmo_cli.outputs.json_values import as_int, as_number, as_numbers, as_object, as_text
from dpmo_cli.review.clicks import Click
from dpmo_cli.review.placed import parse_mask
from dpmo_cli.review.run_index import QueueFilter, RunIndex
from dpmo_cli.review.wishes import Wish

MAX_CLICKS = 64
MAX_ROWS = 200
_SOURCES = ("page", "grid")
_MASKS = {"with": True, "without": False}


class MalformedError(ValueError):
    """A request that the page does not make."""


@dataclass(frozen=True)
class Question:
    """What clicks ask: for a person, or for a new one at a point."""

    split: str
    image_id: int
    point_id: int | None
    xy: tuple[float, float] | None
    clicks: Sequence[Click]


def parse_json(body: bytes) -> Mapping[str, object]:
    """A JSON object.

    Raises:
        MalformedError: the body is none.
    """
    try:
        return as_object(json.loads(body), "the body")
    except (ValueError, RecursionError) as error:
        problem = "is no JSON" if not isinstance(error, RecursionError) else "is nested too deep"
        raise MalformedError(f"the body {problem}") from error


def parse_person(body: Mapping[str, object]) -> Person:
    """Whom a body is about. Raises ValueError."""
    return Person(
        as_text(body.get("split"), "split"),
        as_int(body.get("image_id"), "image_id"),
        as_int(body.get("point_id"), "point_id"),
    )


def parse_wish(body: Mapping[str, object], size_hw: tuple[int, int]) -> Wish:
    """What is to be decided in an image of that size. Raises ValueError."""
    mask = body.get("mask")
    return Wish(
        person=parse_person(body),
        verdict=as_text(body.get("verdict"), "verdict"),
        expected=_optional_int(body, "expected"),
        mask=None if mask is None else parse_mask(mask, size_hw),
        xy=parse_xy(body, "xy"),
        seconds=parse_seconds(body),
    )


def parse_seconds(body: Mapping[str, object]) -> float | None:
    """The time spent on a decision, s. Raises ValueError."""
    seconds = body.get("seconds")
    return None if seconds is None else max(0.0, as_number(seconds, "seconds"))


def parse_source(body: Mapping[str, object]) -> str:
    """Which view a decision comes from. Raises ValueError."""
    source = as_text(body.get("source", _SOURCES[0]), "source")
    if source not in _SOURCES:
        raise ValueError(f"source is none of {', '.join(_SOURCES)}")
    return source


def parse_xy(body: Mapping[str, object], name: str) -> tuple[float, float] | None:
    """A point in px of the photo, None where none is given. Raises ValueError."""
    value = body.get(name)
    if value is None:
        return None
    x, y = as_numbers(value, 2, name)
    return x, y


def parse_question(body: Mapping[str, object]) -> Question:
    """What clicks ask. Raises ValueError."""
    clicks = body.get("clicks", [])
    if not isinstance(clicks, list) or len(clicks) > MAX_CLICKS:
        raise ValueError(f"clicks is no list of at most {MAX_CLICKS}")
    listed = [as_numbers(one, 3, "clicks") for one in clicks]
    return Question(
        split=as_text(body.get("split"), "split"),
        image_id=as_int(body.get("image_id"), "image_id"),
        point_id=_optional_int(body, "point_id"),
        xy=parse_xy(body, "xy"),
        clicks=[(x, y, kind > 0) for x, y, kind in listed],
    )


def parse_filter(
    query: Mapping[str, str], index: RunIndex, audit: tuple[Person, ...] | None
) -> QueueFilter:
    """The filter that a query string means; words are separated by commas. Raises ValueError."""
    masks = query.get("mask", "")
    if masks and masks not in _MASKS:
        raise ValueError("mask is neither with nor without")
    return QueueFilter(
        reasons=_words(query, "reason", tuple(REASONS)),
        flagged=query.get("flagged") == "1",
        splits=_words(query, "split", index.splits),
        image=query.get("image", ""),
        score=(_number(query, "score_min", 0.0), _number(query, "score_max", 1.0)),
        crowd=(int(_number(query, "crowd_min", 0)), int(_number(query, "crowd_max", 2**31))),
        verdicts=_words(query, "verdict", VERDICTS),
        with_mask=_MASKS.get(masks),
        persons=(audit or ()) if query.get("audit") == "1" else None,
    )


def parse_ranks(query: Mapping[str, str]) -> list[int]:
    """The rows that a query string names. Raises ValueError."""
    words = query.get("ranks", "").split(",")
    if len(words) > MAX_ROWS or not all(word.isdecimal() and len(word) < 10 for word in words):
        raise ValueError(f"ranks is no list of at most {MAX_ROWS} numbers")
    return [int(word) for word in words]


def parse_window(query: Mapping[str, str]) -> tuple[int, int, int, int]:
    """The window x0, y0, x1, y1 of a query string, px. Raises ValueError."""
    x0, y0, x1, y1 = (int(_number(query, name, 0)) for name in ("x0", "y0", "x1", "y1"))
    if not (x0 < x1 and y0 < y1):
        raise ValueError("the window is empty")
    return x0, y0, x1, y1


def parse_whole(query: Mapping[str, str], name: str, low: int, high: int) -> int:
    """A whole number of a query string between two others. Raises ValueError."""
    value = _number(query, name, low)
    if value != int(value) or not low <= value <= high:
        raise ValueError(f"{name} is no whole number from {low} to {high}")
    return int(value)


def _optional_int(body: Mapping[str, object], name: str) -> int | None:
    value = body.get(name)
    return None if value is None else as_int(value, name)


def _words(query: Mapping[str, str], name: str, known: Sequence[str]) -> tuple[str, ...]:
    words = tuple(word for word in query.get(name, "").split(",") if word)
    for word in words:
        if word not in known:
            raise ValueError(f"{name}: there is no {word[:40]!r}")
    return words


def _number(query: Mapping[str, str], name: str, default: float) -> float:
    text = query.get(name, "")
    try:
        return as_number(float(text), name) if text else default
    except ValueError:
        raise ValueError(f"{name} is no number") from None
