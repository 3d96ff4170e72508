"""The persons of one image as they stand: its automatic record under what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.rle import Rle, WindowXYXY
from dpmo_cli.outputs.corrections import DELETED, OPEN, REJECTED, Person
from dpmo_cli.outputs.records import ImageRecord, read_record, record_path
from dpmo_cli.outputs.schema import ACCEPTED, ADDED, AUTO, CORRECTED, OK, SHARED
from dpmo_cli.review.decision import Decision
from dpmo_cli.review.placed import PlacedMask


@dataclass(frozen=True)
class ShownPerson:
    """A person as the page shows it.

    Attributes:
        person: who.
        xy: the point, px.
        radius_px: of the disc; None without one.
        status: of the automatic row; "added" for added persons.
        score: of the automatic mask; None without one.
        reasons: why a person should look.
        mask: as it stands; None without one.
        origin: where the mask comes from, AUTO, "corrected" or "added"; None without one.
        decision: the latest decision; None for none.
        lost: the mask that was rejected, or went with the point; None for none.
    """

    person: Person
    xy: tuple[float, float]
    radius_px: float | None
    status: str
    score: float | None
    reasons: tuple[str, ...]
    mask: PlacedMask | None
    origin: str | None
    decision: Decision | None
    lost: PlacedMask | None = None

    @property
    def verdict(self) -> str:
        """The latest verdict, "open" for none."""
        return OPEN if self.decision is None else self.decision.verdict


class People:
    """The persons of an image. Masks are decoded when they are asked for.

    Args:
        record: the automatic rows.
        decisions: the latest decision about each person of the image, open ones too.

    Attributes:
        info: the image.
        size_hw: its height and width, px.
        xy: (N, 2) float64, the automatic points, px.
        status: the N automatic statuses.
        lock: to be held by threads that share the object.
    """

    def __init__(self, record: ImageRecord, decisions: Iterable[Decision]) -> None:
        rows = record.rows
        info = record.info
        if info.width is None or info.height is None:
            raise DpmoError(f"{info.file_name}: the photo could not be read when it was converted")
        self.info = info
        self.size_hw = (info.height, info.width)
        self.xy = np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1)
        self.status: list[str] = rows["status"].to_pylist()
        self._radius = rows["radius_px"].to_pylist()
        self._score = rows["score"].to_pylist()
        self._reasons = rows["reasons"].to_pylist()
        self._rle = rows["rle"]
        self._annotated = len(rows)
        self._owners = _owners(self.status, rows["annotation_id"].to_pylist())
        self._boxes = _boxes_xyxy(rows["bbox"].to_pylist(), self.xy)
        self.lock = RLock()
        self._decisions: dict[int, Decision] = {}
        self._drawn: dict[int, PlacedMask] = {}
        # Masks that were accepted and are other than the record's: it was made again since.
        self._pinned: dict[int, PlacedMask] = {}
        self._auto: dict[int, PlacedMask | None] = {}
        self._standing: dict[int, PlacedMask | None] = {}
        self.update(decisions)

    def __contains__(self, point_id: int) -> bool:
        if point_id < self._annotated:
            return point_id >= 0
        return point_id in self._decisions

    def update(self, decisions: Iterable[Decision]) -> set[int]:
        """Take in later decisions.

        Returns:
            Points whose mask or state may have changed: those decided on, and neighbours that
            yield pixels to them, or get them back.
        """
        changed: set[int] = set()
        for decision in decisions:
            point_id = decision.person.point_id
            known = self._decisions.get(point_id)
            if known is not None and known.id >= decision.id:
                continue
            self._decisions[point_id] = decision
            moved = [self._drawn.pop(point_id, None), self._pinned.pop(point_id, None)]
            mask = None if decision.rle is None else PlacedMask.of_rle(decision.rle)
            if mask is not None and decision.as_correction().is_drawn:
                self._drawn[point_id] = mask
                moved.append(mask)
            elif mask is not None and decision.rle != self._rle[point_id].as_py():
                self._pinned[point_id] = mask
                moved.append(mask)
            elif self._pinned and point_id < self._annotated:
                # Accepted or no longer, it stands otherwise against those of other settings.
                moved.append(self.automatic(point_id))
            changed.add(point_id)
            for mask in moved:
                if mask is not None:
                    changed |= self._near(mask)
        # What a pinned mask loses, others may get back.
        waiting = changed & self._pinned.keys()
        while waiting:
            near = self._near(self._pinned[waiting.pop()])
            waiting |= (near - changed) & self._pinned.keys()
            changed |= near
        for point_id in changed:
            self._standing.pop(point_id, None)
        shared = {one for one, owner in self._owners.items() if owner in changed}
        for point_id in shared:
            self._standing.pop(point_id, None)
        changed |= shared
        return changed

    def meeting(self, window: WindowXYXY) -> list[int]:
        """Points whose automatic mask, drawn mask or point may lie in a window."""
        x0, y0, x1, y1 = window
        boxes = self._boxes
        meets = (boxes[:, 0] < x1) & (boxes[:, 2] > x0) & (boxes[:, 1] < y1) & (boxes[:, 3] > y0)
        found = set(np.flatnonzero(meets).tolist())
        for others in (self._drawn, self._pinned):
            found.update(point_id for point_id, mask in others.items() if mask.meets(window))
        for point_id, decision in self._decisions.items():
            if decision.point_xy is not None:
                x, y = decision.point_xy
                if x0 <= x < x1 and y0 <= y < y1 and decision.verdict != OPEN:
                    found.add(point_id)
        return sorted(found)

    def _near(self, mask: PlacedMask) -> set[int]:
        """The points of the run whose mask may meet one."""
        return {one for one in self.meeting(mask.window_xyxy) if one < self._annotated}

    def show(self, point_id: int) -> ShownPerson | None:
        """A person; None for none, or for an added one that was taken back."""
        if point_id not in self:
            return None
        decision = self._decisions.get(point_id)
        person = Person(self.info.split, self.info.image_id, point_id)
        if person.is_added:
            if decision is None or decision.point_xy is None or decision.verdict == OPEN:
                return None
            mask = self._drawn.get(point_id)
            return ShownPerson(
                person, decision.point_xy, None, ADDED, None, (), mask,
                None if mask is None else ADDED, decision,
            )  # fmt: skip
        mask = self.mask(point_id)
        origin = None if mask is None else CORRECTED if point_id in self._drawn else AUTO
        moved = None if decision is None else decision.point_xy
        x, y = self.xy[point_id].tolist()
        return ShownPerson(
            person=person,
            xy=moved or (x, y),
            radius_px=self._radius[point_id],
            status=self.status[point_id],
            score=self._score[point_id],
            reasons=tuple(self._reasons[point_id]),
            mask=mask,
            origin=origin,
            decision=decision,
            lost=self._yielding(point_id)
            if self._verdict(point_id) in (REJECTED, DELETED)
            else None,
        )

    def seen_xy(self, point_id: int) -> tuple[float, float]:
        """The automatic point of a person of the run, px."""
        x, y = self.xy[point_id].tolist()
        return x, y

    def radius_px(self, point_id: int) -> float:
        """Of a point's disc; one pixel for a point of the run that has none."""
        return self._radius[point_id] or 1.0

    def mask(self, point_id: int) -> PlacedMask | None:
        """The mask as it stands: drawn, or another less what those before it took."""
        if point_id in self._drawn:
            return self._drawn[point_id]
        if point_id >= self._annotated:
            return None
        if point_id not in self._standing:
            verdict = self._verdict(point_id)
            owner = self._owners.get(point_id)
            if verdict in (REJECTED, DELETED):
                mask = None
            elif verdict == OPEN and owner is not None and self._verdict(owner) != DELETED:
                # It shares whatever becomes of the mask.
                return self.mask(owner)
            else:
                mask = self._yielding(point_id)
            self._standing[point_id] = mask
        return self._standing[point_id]

    def automatic(self, point_id: int) -> PlacedMask | None:
        """The mask of the record, whatever was decided."""
        if point_id not in self._auto:
            rle = self._rle[point_id].as_py()
            self._auto[point_id] = None if rle is None else PlacedMask.of_rle(cast(Rle, rle))
        return self._auto[point_id]

    def drawn_near(self, window: WindowXYXY, but: int | None) -> dict[int, PlacedMask]:
        """The masks of others that people drew and whose window meets one."""
        return {
            point_id: mask
            for point_id, mask in self._drawn.items()
            if point_id != but and mask.meets(window)
        }

    def _verdict(self, point_id: int) -> str:
        decision = self._decisions.get(point_id)
        return OPEN if decision is None else decision.verdict

    def _yielding(self, point_id: int) -> PlacedMask | None:
        """The connected part of an automatic mask, or one found right, that others leave."""
        before = self._pinned.get(point_id) or self.automatic(point_id)
        if before is None:
            return None
        mask: PlacedMask | None = before
        for other in self._takers(point_id, before):
            if mask is None:
                return None
            mask = mask.without(other)
        if mask is None or mask is before:
            return mask
        x, y = pixel_of(self.seen_xy(point_id), self.size_hw)
        # An accepted mask of a point that moved a little need not hold it.
        return mask.part_at(x, y) if before.holds(x, y) else mask

    def _takers(self, point_id: int, mask: PlacedMask) -> Iterator[PlacedMask]:
        """The masks that take pixels of one: drawn ones, and accepted ones of other settings.

        Of two accepted ones the first keeps its pixels. Masks of one record do not overlap.
        """
        yield from self._drawn.values()
        accepted = self._verdict(point_id) == ACCEPTED
        others = {one for one in self._pinned if one < point_id or not accepted}
        if point_id in self._pinned:
            near = self.meeting(mask.window_xyxy)
            others |= {one for one in near if one < point_id and self._verdict(one) == ACCEPTED}
        for other in others - {point_id}:
            taker = self._pinned.get(other)
            if taker is None or taker.meets(mask.window_xyxy):
                standing = self.mask(other)
                if standing is not None:
                    yield standing


def load_people(out: Path, split: str, image_id: int, decisions: Iterable[Decision]) -> People:
    """Read the record of an image and put the decisions over it.

    Raises:
        DamagedRecordError: there is no whole record.
        DpmoError: the photo could not be read when the run was made.
    """
    return People(read_record(record_path(out, split, image_id)), decisions)


def pixel_of(xy: tuple[float, float], size_hw: tuple[int, int]) -> tuple[int, int]:
    """The pixel that holds a point: the nearest of the image."""
    height, width = size_hw
    # Half to even, as the sites of a run are rounded.
    return min(max(round(xy[0]), 0), width - 1), min(max(round(xy[1]), 0), height - 1)


def _owners(status: Sequence[str], annotation_ids: Sequence[int | None]) -> dict[int, int]:
    """For each point that shares a mask the point that owns it."""
    pairs = list(enumerate(zip(status, annotation_ids, strict=True)))
    owner_of = {number: point_id for point_id, (what, number) in pairs if what == OK}
    return {
        point_id: owner_of[number]
        for point_id, (what, number) in pairs
        if what == SHARED and number in owner_of
    }


def _boxes_xyxy(boxes: list[Any], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) boxes round each mask and its point; without a mask round the point alone."""
    low, high = np.floor(xy), np.floor(xy) + 1
    given = np.array([box or (np.nan,) * 4 for box in boxes], dtype=np.float64).reshape(-1, 4)
    return np.concatenate(
        [np.fmin(low, given[:, :2]), np.fmax(high, given[:, :2] + given[:, 2:])], axis=1
    )


def shown_ok(person: ShownPerson) -> bool:
    """Whether the person's mask is drawn: a shared point's is drawn with its site."""
    return person.origin != AUTO or person.status == OK
