"""Small windows of a frame side by side, so that work on many of them is work on one array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.points import FloatArray, IntArray

T = TypeVar("T", bound=np.generic)
PX_AT_ONCE = 2**15
"""Pixels of an array of windows: it stays in a processor's cache."""


@dataclass(frozen=True)
class Windows:
    """Windows of a frame, as the corners of arrays (n, h, w) of one size.

    Attributes:
        boxes_xyxy: (n, 4) int64 px of the frame, half open; n is at least one.
    """

    boxes_xyxy: IntArray

    @cached_property
    def columns(self) -> IntArray:
        """(n, w) int64 columns of the frame; those beyond a window may lie outside the frame."""
        return self._steps(0)

    @cached_property
    def rows(self) -> IntArray:
        """(n, h) int64 rows of the frame, as `columns`."""
        return self._steps(1)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """(n, h, w), where the windows are, and not what they are padded with."""
        across = self.columns < self.boxes_xyxy[:, 2:3]
        down = self.rows < self.boxes_xyxy[:, 3:4]
        return down[:, :, None] & across[:, None]

    def _steps(self, axis: int) -> IntArray:
        first = self.boxes_xyxy[:, axis]
        most = max(0, int((self.boxes_xyxy[:, axis + 2] - first).max()))
        return first[:, None] + np.arange(most)

    def squared_distances(self, points_xy: FloatArray) -> FloatArray:
        """From the pixels' centres to a point each, (n, 2): (n, h, w) float64 px."""
        dx, dy = self.columns - points_xy[:, :1], self.rows - points_xy[:, 1:]
        return np.asarray(dy[:, :, None] ** 2 + dx[:, None] ** 2)

    def of(self, frame: NDArray[T]) -> NDArray[T]:
        """The windows' pixels of a frame (H, W), (n, h, w); of no meaning beyond a window."""
        if len(self.boxes_xyxy) == 1:
            ((x0, y0, x1, y1),) = self.boxes_xyxy.tolist()
            return frame[None, y0:y1, x0:x1]
        places = self.rows[:, :, None] * frame.shape[1] + self.columns[:, None]
        found: NDArray[T] = frame.ravel()[np.where(self.inside, places, 0)]
        return found

    def around(self, masks: NDArray[np.bool_]) -> IntArray:
        """The boxes of masks (n, h, w), (n, 4) as windows; of no size for an empty one."""
        left, right = _span(np.asarray(masks.any(axis=1)), self.boxes_xyxy[:, 0])
        top, bottom = _span(np.asarray(masks.any(axis=2)), self.boxes_xyxy[:, 1])
        return np.stack([left, top, right, bottom], axis=1)


def _span(held: NDArray[np.bool_], first: IntArray) -> tuple[IntArray, IntArray]:
    """Where rows (n, k) that begin at `first` are held, half open; of no length if nowhere."""
    stop = first + held.shape[1] - held[:, ::-1].argmax(axis=1)
    return first + held.argmax(axis=1), np.where(held.any(axis=1), stop, first)


def batches(boxes_xyxy: IntArray, most_px: int = PX_AT_ONCE) -> Iterator[IntArray]:
    """Indices of windows of like sizes, so many at a time as fit side by side; of one at least.

    What they take is reckoned as squares, which the windows of discs nearly are.
    """
    sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    order = np.argsort(sizes.max(axis=1, initial=0), kind="stable")
    sides = sizes.max(axis=1, initial=0)[order].tolist()
    start = 0
    for stop in range(1, len(order) + 1):
        # Sides grow: the next one would be the largest of its batch.
        if stop == len(order) or (stop + 1 - start) * sides[stop] ** 2 > most_px:
            yield order[start:stop]
            start = stop
