"""What a reviewer wants to be decided, and the decision that it means."""

from __future__ import annotations

from dataclasses import dataclass

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.rle import Rle
from dpmo_cli.outputs.corrections import DELETED, REJECTED, Person
from dpmo_cli.outputs.schema import ACCEPTED, ADDED, AUTO, CORRECTED
from dpmo_cli.review.decision import ConflictError, Decision, RefusedError
from dpmo_cli.review.people import People, ShownPerson, pixel_of
from dpmo_cli.review.placed import PlacedMask


class UnknownError(DpmoError):
    """The run has no such image or person."""


class UnfitError(RefusedError):
    """A decision that makes no sense for its person."""


@dataclass(frozen=True)
class Wish:
    """What a reviewer wants to be decided.

    Attributes:
        person: about whom.
        verdict: of VERDICTS, but neither added nor open.
        expected: the latest decision that the page has seen; None for none.
        mask: with corrected.
        xy: where the point is to be; None where it stays.
        seconds: spent on it.
    """

    person: Person
    verdict: str
    expected: int | None
    mask: PlacedMask | None = None
    xy: tuple[float, float] | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A decision that is on disk, and the persons whose masks it changed, with itself."""

    decision: Decision
    changed: tuple[ShownPerson, ...]


def decision_of(people: People, wish: Wish, *, reviewer: str, source: str) -> Decision:
    """The decision that a wish means, checked against the person as it stands.

    Raises:
        UnknownError, UnfitError: there is no such person; it makes no sense.
        ConflictError: somebody has decided since the page looked.
    """
    shown = people.show(wish.person.point_id)
    if shown is None:
        raise UnknownError(f"{wish.person}: there is no such person")
    if (None if shown.decision is None else shown.decision.id) != wish.expected:
        raise ConflictError(wish.person, shown.decision)
    verdict, xy = wish.verdict, wish.xy
    if xy is None and shown.decision is not None:
        xy = shown.decision.point_xy
    rle: Rle | None = None
    if verdict == ACCEPTED:
        # What was rejected is right after all; without a mask it is right that there is none.
        mask = shown.lost if shown.mask is None else shown.mask
        rle = None if mask is None else mask.rle(people.size_hw)
        if shown.origin not in (AUTO, None):
            # It stays a drawn mask, which no other may take pixels of.
            verdict = CORRECTED
    elif verdict == CORRECTED:
        if wish.mask is None:
            raise UnfitError("a correction needs a mask")
        require_point(wish.mask, xy or shown.xy, people.size_hw)
        rle = wish.mask.rle(people.size_hw)
    elif verdict not in (REJECTED, DELETED):
        raise UnfitError(f"{verdict!r} can't be decided here")
    if wish.person.is_added:
        if verdict == ACCEPTED:
            raise UnfitError("there is no mask to accept; draw one, or say that it is nobody")
        verdict = ADDED if rle is not None else verdict
        xy = xy or shown.xy
    return Decision(
        person=wish.person,
        verdict=verdict,
        rle=rle,
        point_xy=None if verdict == DELETED and not wish.person.is_added else xy,
        reviewer=reviewer,
        source=source,
        seconds=wish.seconds,
        image=people.info.file_name,
        seen_xy=None if wish.person.is_added else people.seen_xy(wish.person.point_id),
    )


def require_point(mask: PlacedMask, xy: tuple[float, float], size_hw: tuple[int, int]) -> None:
    """Refuse a mask that does not hold its person's point. Raises UnfitError."""
    height, width = size_hw
    if not (0 <= xy[0] < width and 0 <= xy[1] < height):
        raise UnfitError("the point lies outside the photo; move it in")
    if not mask.holds(*pixel_of(xy, size_hw)):
        raise UnfitError("the mask misses its point; paint over it, or move the point")
