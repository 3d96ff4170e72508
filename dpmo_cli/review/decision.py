"""One decision of a reviewer about a person, what can be meant by it, and why one is refused."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.rle import Rle, WindowXYXY, rle_window
from dpmo_cli.outputs.corrections import REJECTED, VERDICTS, Correction, Person
from dpmo_cli.outputs.schema import ACCEPTED, ADDED, ADDED_FROM, CORRECTED

COLUMNS = (
    "id, split, image_id, point_id, verdict, mask, height, width, point_x, point_y, reviewer,"
    " source, seconds, image, seen_x, seen_y, time, replaces, restores"
)
"""How the log keeps a decision; `values_of` gives them, without the id, `decision_of` reads."""
_KINDS: Mapping[str, type | UnionType] = {
    "split": str,
    "image_id": int,
    "point_id": int,
    "verdict": str,
    "mask": str | None,
    "height": int | None,
    "width": int | None,
    "point_x": float | None,
    "point_y": float | None,
    "reviewer": str,
    "source": str,
    "seconds": float | None,
    "image": str,
    "seen_x": float | None,
    "seen_y": float | None,
    "time": str,
    "replaces": int | None,
    "restores": int | None,
}
"""What SQLite itself does not see to: its columns take values of any kind."""


@dataclass(frozen=True)
class Decision:
    """What somebody decided about a person.

    Attributes:
        person: whom it is about.
        verdict: one of VERDICTS.
        rle: the person's mask: that to take (corrected, added), or that which was seen (accepted:
            a later run with other settings keeps it; None accepts that there is no mask).
        point_xy: where the person's point is now, px; None where it stays.
        reviewer: who decided.
        source: with what: "page", "grid", "import:cvat", ...
        seconds: spent on it; None where nobody measured.
        image: file name of the image that the reviewer saw. Image ids are ranks: should the
            dataset change, one can come to mean another image.
        seen_xy: where the automatic point lay, px; None for added persons alone.
        id: rank of the decision; given when it is written, as are the following.
        time: UTC, ISO 8601 with microseconds.
        replaces: id of the person's decision before; None for the first.
        restores: id of the decision that an undo went back to, 0 for none; None for all others.
    """

    person: Person
    verdict: str
    rle: Rle | None
    point_xy: tuple[float, float] | None
    reviewer: str
    source: str
    seconds: float | None = None
    image: str = ""
    seen_xy: tuple[float, float] | None = None
    id: int = 0
    time: str = ""
    replaces: int | None = None
    restores: int | None = None

    def as_correction(self) -> Correction:
        """What of the decision shows in the outputs."""
        return Correction(
            self.person,
            self.verdict,
            self.rle,
            self.point_xy,
            self.reviewer,
            self.image,
            self.seen_xy,
        )


class RefusedError(DpmoError):
    """A decision that was not written."""


class ConflictError(RefusedError):
    """Somebody decided in between.

    Attributes:
        person: the person.
        current: the person's latest decision; None where there is none.
    """

    def __init__(self, person: Person, current: Decision | None) -> None:
        self.person = person
        self.current = current
        now = "is open" if current is None else f"was {current.verdict} by {current.reviewer}"
        super().__init__(f"{person}: {now} in the meantime; look again, then decide")


class OverlapError(RefusedError):
    """The mask takes pixels of masks that people drew.

    Attributes:
        person: whom the mask is for.
        others: whose pixels it takes.
    """

    def __init__(self, person: Person, others: Sequence[Person]) -> None:
        self.person = person
        self.others = tuple(others)
        points = ", ".join(str(other.point_id) for other in others)
        super().__init__(
            f"{person}: the mask overlaps the corrected one of point {points}; "
            "take the pixels from one of them"
        )


def check(decision: Decision) -> WindowXYXY | None:
    """See that a decision can be meant, and return the window of its mask.

    Raises:
        ValueError: an unknown verdict; a mask or a point that the verdict needs is missing or does
            not go with it; a broken or empty mask; no reviewer, no image.
    """
    verdict, person = decision.verdict, decision.person
    if verdict not in VERDICTS:
        raise ValueError(f"{verdict!r} is no verdict; use one of {', '.join(VERDICTS)}")
    if not decision.reviewer or not decision.image:
        raise ValueError("a decision names its reviewer and its image")
    if verdict == ADDED and not person.is_added:
        raise ValueError(f"added persons have point ids from {ADDED_FROM} on")
    if (decision.seen_xy is None) != person.is_added:
        raise ValueError("seen_xy is the point of the dataset; added persons have none")
    with_mask = verdict in (ACCEPTED, CORRECTED, ADDED)
    if decision.rle is None and with_mask and (verdict != ACCEPTED or person.is_added):
        raise ValueError(f"{verdict} needs a mask")
    if decision.rle is not None and not with_mask:
        raise ValueError(f"{verdict} has no mask")
    if decision.point_xy is None and person.is_added and (with_mask or verdict == REJECTED):
        raise ValueError(f"{verdict} needs the point of an added person")
    if decision.point_xy is not None and not all(map(math.isfinite, decision.point_xy)):
        raise ValueError("the point is not finite")
    if decision.rle is None:
        return None
    _, window = rle_window(decision.rle)
    if window[0] == window[2]:
        raise ValueError("the mask has no pixels; reject it instead")
    return window


def person_key(person: Person) -> list[object]:
    """The columns that name a person."""
    return [person.split, person.image_id, person.point_id]


def values_of(decision: Decision) -> list[object]:
    """The columns of COLUMNS without the id."""
    rle = decision.rle
    return [
        *person_key(decision.person),
        decision.verdict,
        *((None, None, None) if rle is None else (rle["counts"], *rle["size"])),
        *(decision.point_xy or (None, None)),
        decision.reviewer,
        decision.source,
        decision.seconds,
        decision.image,
        *(decision.seen_xy or (None, None)),
        decision.time,
        decision.replaces,
        decision.restores,
    ]


def decision_of(row: sqlite3.Row) -> Decision:
    """The decision of a row of COLUMNS.

    Raises:
        ValueError: the row is damaged: `check` would not have let it in.
    """
    for name, kind in _KINDS.items():
        if not isinstance(row[name], kind):
            raise ValueError(f"{name} is {row[name]!r:.40}")
    person = Person(row["split"], row["image_id"], row["point_id"])
    if not -(2**31) <= person.point_id < 2**31:
        raise ValueError(f"point_id is {person.point_id}")
    rle: Rle | None = None
    if row["mask"] is not None:
        rle = {"size": [row["height"], row["width"]], "counts": row["mask"]}
    decision = Decision(
        person=person,
        verdict=row["verdict"],
        rle=rle,
        point_xy=None if row["point_x"] is None else (row["point_x"], row["point_y"]),
        reviewer=row["reviewer"],
        source=row["source"],
        seconds=row["seconds"],
        image=row["image"],
        seen_xy=None if person.is_added else (_number(row["seen_x"]), _number(row["seen_y"])),
        id=row["id"],
        time=row["time"],
        replaces=row["replaces"],
        restores=row["restores"],
    )
    check(decision)
    return decision


def _number(value: float | None) -> float:
    """A coordinate as it was given: SQLite keeps no NaN."""
    return math.nan if value is None else value
