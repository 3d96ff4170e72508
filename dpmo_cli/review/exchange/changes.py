"""From the shapes of one image to decisions: what changed since the export, and may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import distance_transform_edt

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.schema import ADDED, ADDED_FROM, CORRECTED
from dpmo_cli.review.decisions import Decision
from dpmo_cli.review.exchange.manifest import MASKS, Exported, Manifest, Tile, mask_hash
from dpmo_cli.review.exchange.matching import in_image, match
from dpmo_cli.review.exchange.report import CONFLICT, GONE, OVERLAP, UNMATCHED, Report
from dpmo_cli.review.exchange.shapes import Answers, Found
from dpmo_cli.review.people import People
from dpmo_cli.review.placed import PlacedMask

_STILL_PX = 1e-6


@dataclass(frozen=True)
class Terms:
    """How shapes are taken.

    Attributes:
        reviewer: who decided.
        source: of the decisions.
        deleted: verdict on persons whose shape is gone, DELETED or REJECTED; None for no decision.
    """

    reviewer: str
    source: str
    deleted: str | None


@dataclass(frozen=True)
class Change:
    """A decision to be written.

    Attributes:
        decision: the decision.
        expected: id of the person's latest decision as of the export.
        place: of the shape, or of its tile.
        mask: the decision's mask; None without one.
    """

    decision: Decision
    expected: int | None
    place: str
    mask: PlacedMask | None

    @property
    def person(self) -> Person:
        """Whom it is about."""
        return self.decision.person


class ImageChanges:
    """Gathers the changes of one image, tile after tile.

    Args:
        people: the image as it stands.
        latest: the latest decision about each of its persons.
        manifest: of the export.
        terms: how shapes are taken.
        report: where to say what was found.

    Attributes:
        converted: shapes that came back as polygons, though masks were exported.
        stale: corrected persons whose mask in the run has changed since the export.
    """

    def __init__(
        self,
        people: People,
        latest: Mapping[Person, Decision],
        manifest: Manifest,
        terms: Terms,
        report: Report,
    ) -> None:
        self.converted = self.stale = 0
        self._people, self._latest = people, latest
        self._manifest, self._terms, self._report = manifest, terms, report
        self._changes: dict[Person, Change] = {}
        added = [person.point_id for person in latest if person.is_added]
        self._next_id = max([ADDED_FROM, *(point_id + 1 for point_id in added)])

    def take(self, tile: Tile, answers: Answers) -> None:
        """Compare the shapes of a tile with what was exported."""
        found = answers.tiles[tile.name]
        matched = match(tile, found, self._people)
        exported = {one.point_id: one for one in tile.persons}
        with_ids = any(one.person is not None for one in found)
        for point_id, shape in sorted(matched.of_point.items()):
            was = exported.get(point_id)
            if was is not None and was.counts == shape.rle["counts"]:
                self._report.unchanged += 1
            elif was is not None and was.counts is not None and self._is_converted(shape, with_ids):
                self.converted += 1
            else:
                self._correct(tile, point_id, was, shape)
        for one in tile.persons:
            person = tile.person(one.point_id)
            came = matched.has_shape(one.point_id) or person in answers.broken
            if one.counts is not None and not came:
                self._miss(tile, one, answers.tile_places[tile.name])
        for shape in matched.free:
            self._add(tile, shape)
        for shape, why in matched.unclear:
            mend = "draw it so that it holds the point of one person who has no other shape"
            self._report.add(UNMATCHED, f"{shape.place}: {why}; {mend}", shape.person)

    def disjoint(self) -> list[Change]:
        """The changes, ordered by person, without those whose masks overlap; each is reported."""
        pending = dict(sorted(self._changes.items()))
        while True:
            clashes = dict(self._clashes(pending))
            if not clashes:
                break
            for person, (other, pixels) in clashes.items():
                text = (
                    f"{pending[person].place}: the mask of point {person.point_id} and the drawn "
                    f"one of point {other.point_id} share {pixels} px; give them to one of both"
                )
                self._report.add(OVERLAP, text, person)
                del pending[person]
        for person, change in pending.items():
            text = f"{change.place}: point {person.point_id} of {self._people.info.file_name}"
            self._report.add(change.decision.verdict, text, person)
        return list(pending.values())

    def _is_converted(self, shape: Found, with_ids: bool) -> bool:
        """Whether the tool made a polygon of a mask: one that was drawn anew has no id."""
        as_masks = self._manifest.shapes == MASKS and shape.is_polygon
        return as_masks and (shape.person is not None or not with_ids)

    def _correct(self, tile: Tile, point_id: int, was: Exported | None, shape: Found) -> None:
        person = tile.person(point_id)
        mask = in_image(tile, shape.rle)
        shown = self._people.show(point_id)
        if shown is None or self._stands(person, CORRECTED, mask):
            self._report.already += shown is not None
            return
        latest = self._latest.get(person)
        if was is None and shown.mask is not None:
            if mask.rle(self._people.size_hw) == shown.mask.rle(self._people.size_hw):
                self._report.already += 1
                return
            why = f"it is of point {point_id}, whom this tile did not export"
            mend = "leave it out, or export that person"
            self._report.add(UNMATCHED, f"{shape.place}: {why}; {mend}", person)
            return
        expected = None if latest is None else latest.id
        if was is not None:
            if not self._as_exported(person, was, shape.place):
                return
            expected = was.decision
            if was.mask_sha256 is not None and shown.mask is not None:
                self.stale += mask_hash(shown.mask.rle(self._people.size_hw)) != was.mask_sha256
        self._put(person, CORRECTED, shape.place, expected, mask)

    def _miss(self, tile: Tile, was: Exported, place: str) -> None:
        """An exported shape did not come back."""
        person = tile.person(was.point_id)
        verdict = self._terms.deleted
        if verdict is None:
            text = f"{place}: the shape of point {was.point_id} is gone; say what that means"
            self._report.add(GONE, f"{text} with --deleted", person)
        elif self._stands(person, verdict, None):
            self._report.already += 1
        elif self._as_exported(person, was, place):
            self._put(person, verdict, place, was.decision, None)

    def _add(self, tile: Tile, shape: Found) -> None:
        person = tile.person(self._next_id)
        self._next_id += 1
        mask = in_image(tile, shape.rle)
        self._put(person, ADDED, shape.place, None, mask, _deepest(mask))

    def _as_exported(self, person: Person, was: Exported, place: str) -> bool:
        """Whether a person is as the export saw them; a conflict is reported."""
        latest = self._latest.get(person)
        shown = self._people.show(person.point_id)
        problem = ""
        if (None if latest is None else latest.id) != was.decision:
            problem = "is open again" if latest is None else (
                f"was {latest.verdict} by {latest.reviewer} since the export"
            )  # fmt: skip
        elif shown is None:
            problem = "is no longer there"
        elif max(abs(a - b) for a, b in zip(shown.xy, was.point_xy, strict=True)) > _STILL_PX:
            problem = "has moved since the export"
        if problem:
            text = f"{place}: point {person.point_id} {problem}; look at it and decide anew"
            self._report.add(CONFLICT, text, person)
        return not problem

    def _stands(self, person: Person, verdict: str, mask: PlacedMask | None) -> bool:
        """Whether the latest decision says the same already."""
        latest = self._latest.get(person)
        if latest is None:
            return False
        if mask is None:
            return latest.verdict == verdict
        drawn = latest.as_correction().is_drawn
        return drawn and latest.rle == mask.rle(self._people.size_hw)

    def _put(
        self,
        person: Person,
        verdict: str,
        place: str,
        expected: int | None,
        mask: PlacedMask | None,
        point_xy: tuple[float, float] | None = None,
    ) -> None:
        if person in self._changes:
            text = f"{place}: point {person.point_id} was changed in another tile too; keep one"
            self._report.add(UNMATCHED, text, person)
            return
        latest = self._latest.get(person)
        if point_xy is None and latest is not None:
            point_xy = latest.point_xy
        decision = Decision(
            person=person,
            verdict=verdict,
            rle=None if mask is None else mask.rle(self._people.size_hw),
            point_xy=point_xy,
            reviewer=self._terms.reviewer,
            source=self._terms.source,
            image=self._people.info.file_name,
            seen_xy=None if person.is_added else self._people.seen_xy(person.point_id),
        )
        self._changes[person] = Change(decision, expected, place, mask)

    def _clashes(
        self, pending: Mapping[Person, Change]
    ) -> Iterator[tuple[Person, tuple[Person, int]]]:
        """Yield changes whose mask shares pixels with a drawn one: whose, and how many."""
        drawing = [change for change in pending.values() if change.mask is not None]
        boxes = np.array([one.mask.window_xyxy for one in drawing if one.mask], np.int64)
        boxes = boxes.reshape(-1, 4)
        for change in drawing:
            assert change.mask is not None
            x0, y0, x1, y1 = change.mask.window_xyxy
            meets = (boxes[:, :2] < (x1, y1)).all(axis=1) & (boxes[:, 2:] > (x0, y0)).all(axis=1)
            others: dict[Person, PlacedMask | None] = {
                drawing[at].person: drawing[at].mask for at in np.flatnonzero(meets)
            }
            near = self._people.drawn_near(change.mask.window_xyxy, None)
            for point_id, drawn in near.items():
                other = replace(change.person, point_id=point_id)
                if other not in pending:
                    others[other] = drawn
            for other, mask in others.items():
                if other == change.person or mask is None:
                    continue
                shared = change.mask.within(mask)
                if shared is not None:
                    yield change.person, (other, int(shared.sum()))
                    break


def _deepest(mask: PlacedMask) -> tuple[float, float]:
    """The pixel of a mask that is farthest from its edge."""
    depths = distance_transform_edt(np.pad(mask.pixels, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depths)), depths.shape)
    return float(mask.window_xyxy[0] + x), float(mask.window_xyxy[1] + y)
