"""Who keeps a pixel: what people drew before what they accepted, before what is automatic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.components import component_at
from dpmo_cli.geometry.rle import Rle, WindowXYXY, frame_rle, rle_window
from dpmo_cli.outputs import schema
from dpmo_cli.outputs.schema import ACCEPTED, AUTO

_AUTO_RANK, _ACCEPTED_RANK, _DRAWN_RANK = 2, 1, 0
_RANKS = {AUTO: _AUTO_RANK, ACCEPTED: _ACCEPTED_RANK}
_NO_MASK = ("annotation_id", "bbox", "area", "rle", "source", "score")

Row = dict[str, Any]
Window = tuple[NDArray[np.bool_], WindowXYXY]


class DrawnOverlapError(DpmoError):
    """Two masks that people drew share pixels; it names both."""

    def __init__(self, about: str, points: tuple[int, int]) -> None:
        super().__init__(
            f"{about}: the corrected masks of points {points[0]} and {points[1]} overlap; "
            "correct one of them again"
        )


def settle(
    owners: Sequence[Row],
    automatic: Mapping[int, Rle | None],
    size_hw: tuple[int, int],
    about: str,
) -> None:
    """Take from each mask the pixels that one of a better rank holds, so that none overlap.

    The masks of a record are disjoint: only pairs with one that was changed are looked at.

    Args:
        owners: the rows that own a mask, changed in place: `source` says whose it is.
        automatic: point id -> its mask in the record.
        size_hw: of the image, px.
        about: names the image.

    Raises:
        DrawnOverlapError: two masks that people drew overlap.
    """
    rank = np.array([_RANKS.get(row["source"], _DRAWN_RANK) for row in owners], np.int64)
    changed = np.array([row["rle"] != automatic.get(row["point_id"]) for row in owners], np.bool_)
    boxes = np.array([row["bbox"] for row in owners], np.float64).reshape(-1, 4)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    windows: dict[int, Window] = {}

    def window(index: int) -> Window:
        if index not in windows:
            windows[index] = rle_window(owners[index]["rle"])
        return windows[index]

    # Accepted masks may be of runs with different settings: the first keeps its pixels.
    order = np.lexsort(([row["point_id"] for row in owners], rank))
    for place, index in enumerate(order):
        others = order[:place]
        others = others[rank[others] < _AUTO_RANK]
        if not changed[index]:
            others = others[changed[others]]
        if not len(others):
            continue
        meet = (low[others] < high[index]).all(axis=1) & (low[index] < high[others]).all(axis=1)
        before, where = window(index) if meet.any() else (np.zeros((0, 0), np.bool_), (0, 0, 0, 0))
        rest = before.copy()
        for other in others[meet]:
            if _clear(rest, where, window(other)) and rank[index] == _DRAWN_RANK:
                both = owners[other]["point_id"], owners[index]["point_id"]
                raise DrawnOverlapError(about, both)
        if (rest != before).any():
            _yield(owners[index], before, rest, where, size_hw)
            windows.pop(index)
            changed[index] = True
            rank[index] = rank[index] if owners[index]["rle"] is not None else _AUTO_RANK


def _clear(pixels: NDArray[np.bool_], where: WindowXYXY, other: Window) -> bool:
    """Take another mask's pixels out of one in place; whether there were any."""
    mask, (left, top, right, bottom) = other
    x0, y0 = max(where[0], left), max(where[1], top)
    x1, y1 = max(x0, min(where[2], right)), max(y0, min(where[3], bottom))
    mine = pixels[y0 - where[1] : y1 - where[1], x0 - where[0] : x1 - where[0]]
    theirs = mask[y0 - top : y1 - top, x0 - left : x1 - left]
    taken = bool((mine & theirs).any())
    mine &= ~theirs
    return taken


def _yield(
    row: Row,
    before: NDArray[np.bool_],
    rest: NDArray[np.bool_],
    where: WindowXYXY,
    size_hw: tuple[int, int],
) -> None:
    """Leave a row the part of the rest that holds its point, or no mask."""
    height, width = size_hw
    x = int(np.clip(np.rint(row["x"]), 0, width - 1)) - where[0]
    y = int(np.clip(np.rint(row["y"]), 0, height - 1)) - where[1]
    inside = 0 <= y < before.shape[0] and 0 <= x < before.shape[1]
    # An accepted mask of a point that moved a little need not hold it.
    part = component_at(rest, (x, y)) if inside and before[y, x] else rest
    if part is None or not part.any():
        empty_row(row)
    else:
        rle = frame_rle(part, where, size_hw)
        row |= mask_columns(rle, rle_window(rle))


def mask_columns(rle: Rle, window: Window) -> Row:
    """The columns that a mask fills."""
    mask, (x0, y0, x1, y1) = window
    box = [float(side) for side in (x0, y0, x1 - x0, y1 - y0)]
    return {"bbox": box, "area": int(mask.sum()), "rle": rle}


def empty_row(row: Row) -> None:
    """Leave a row without a mask, since others have all its pixels."""
    reasons = [*row["reasons"], schema.YIELDED]
    row |= {"status": schema.EMPTY, "reasons": reasons, "flagged": True, **dict.fromkeys(_NO_MASK)}
