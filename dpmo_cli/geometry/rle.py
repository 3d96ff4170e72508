"""COCO run lengths written from a mask's window, at a cost that the image's size does not touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.geometry.windows import Windows

WindowXYXY = tuple[int, int, int, int]


class Rle(TypedDict):
    """A compressed COCO RLE: `size` is [H, W], `counts` is ASCII."""

    size: list[int]
    counts: str


def window_runs(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY, size_hw: tuple[int, int]
) -> NDArray[np.int64]:
    """Run lengths of a full frame that is empty outside a window.

    Args:
        mask: (h, w) bool, the window's pixels.
        window_xyxy: where the window lies in the frame, px, half open.
        size_hw: height and width of the frame, px.

    Returns:
        (R,) int64, alternately runs of 0 and of 1 in column-major order, beginning with 0; they
        add up to the frame's pixels, and only the first may be zero.

    Raises:
        ValueError: the window does not fit the mask or the frame.
    """
    (runs,) = windows_runs(mask[None], np.array([window_xyxy]), size_hw)
    return runs


def windows_runs(
    masks: NDArray[np.bool_], boxes_xyxy: NDArray[np.int64], size_hw: tuple[int, int]
) -> list[NDArray[np.int64]]:
    """Run lengths of n full frames, each empty outside a window; as `window_runs`.

    Args:
        masks: (n, h, w) bool, false beyond the windows, of which h and w are the largest sides.
        boxes_xyxy: (n, 4) int64, where the windows lie in the frame, px, half open.
        size_hw: height and width of the frame, px.

    Raises:
        ValueError: the windows do not fit the masks or the frame.
    """
    height, width = size_hw
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    fits = ((low >= 0) & (low <= high) & (high <= (width, height))).all()
    sides = (high - low).max(axis=0).tolist()
    if not fits or masks.shape != (len(boxes_xyxy), sides[1], sides[0]):
        raise ValueError(
            f"a window of {boxes_xyxy.tolist()} does not fit masks {masks.shape} in {size_hw}"
        )
    columns = np.zeros((len(masks), masks.shape[2], masks.shape[1] + 2), dtype=np.int8)
    columns[:, :, 1:-1] = masks.transpose(0, 2, 1)
    steps = np.diff(columns, axis=2)
    of_mask, column, row = np.nonzero(steps == 1)
    starts = (column + low[of_mask, 0]) * height + row + low[of_mask, 1]
    _, column, row = np.nonzero(steps == -1)
    ends = (column + low[of_mask, 0]) * height + row + low[of_mask, 1]
    # In a window of the image's full height a run at a column's foot goes on in the next column.
    joined = (starts[1:] == ends[:-1]) & (of_mask[1:] == of_mask[:-1])
    if joined.any():
        of_mask, starts = (x[np.concatenate([[True], ~joined])] for x in (of_mask, starts))
        ends = ends[np.concatenate([~joined, [True]])]
    runs = np.empty((len(starts), 2), dtype=np.int64)
    runs[:, 1] = ends - starts
    runs[1:, 0] = starts[1:] - ends[:-1]
    first = np.flatnonzero(np.diff(of_mask, prepend=-1))
    runs[first, 0] = starts[first]
    stops = np.cumsum(np.bincount(of_mask, minlength=len(masks)))
    rest = np.full(len(masks), height * width)
    rest[of_mask[stops[stops > 0] - 1]] -= ends[stops[stops > 0] - 1]
    found = []
    begin = 0
    for stop, last in zip(stops.tolist(), rest.tolist(), strict=True):
        own = runs[begin:stop].ravel()
        found.append(np.append(own, last) if last or not len(own) else own)
        begin = stop
    return found


def tighten(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY
) -> tuple[NDArray[np.bool_], WindowXYXY]:
    """The part of a mask, which has pixels, that its box holds, and the box as a window."""
    x0, y0 = window_xyxy[:2]
    ((left, top, right, bottom),) = Windows(np.array([window_xyxy])).around(mask[None]).tolist()
    return mask[top - y0 : bottom - y0, left - x0 : right - x0], (left, top, right, bottom)


def frame_rle(mask: NDArray[np.bool_], window_xyxy: WindowXYXY, size_hw: tuple[int, int]) -> Rle:
    """Compressed COCO RLE of a full frame that is empty outside a window; see `window_runs`."""
    return rle_of_runs(window_runs(mask, window_xyxy, size_hw), size_hw)


def frame_rles(
    masks: NDArray[np.bool_], boxes_xyxy: NDArray[np.int64], size_hw: tuple[int, int]
) -> list[Rle]:
    """Compressed COCO RLEs of full frames that are empty outside windows; see `windows_runs`."""
    return rles_of_runs(windows_runs(masks, boxes_xyxy, size_hw), size_hw)


def rle_of_runs(runs: NDArray[np.int64], size_hw: tuple[int, int]) -> Rle:
    """Compress alternating run lengths, zeros first, that add up to a frame of `size_hw` px."""
    return rles_of_runs([runs], size_hw)[0]


def rles_of_runs(runs: Sequence[NDArray[np.int64]], size_hw: tuple[int, int]) -> list[Rle]:
    """Compress the run lengths of some masks of one frame; see `rle_of_runs`."""
    size = list(size_hw)
    packed = coco_mask.frPyObjects([{"size": size, "counts": one} for one in runs], *size_hw)
    return [{"size": list(size), "counts": one["counts"].decode("ascii")} for one in packed]


def run_lengths(counts: str | bytes) -> NDArray[np.int64]:
    """Decode compressed COCO counts into alternating run lengths, (R,) int64.

    Each value is written in groups of five bits, least significant first, with a flag for more in
    the sixth bit and the sign in the last group's fifth; from the fourth value on it is stored as
    the difference to the value two before (cocoapi, `maskApi.c`).

    Raises:
        ValueError: the text is not such a code.
    """
    text = counts.encode("latin-1") if isinstance(counts, str) else counts
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("not compressed COCO run lengths")
    last = (codes & 32) == 0
    first = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff(np.concatenate([first, [len(codes)]]))
    if lengths.max() > 12:
        raise ValueError("not compressed COCO run lengths")
    position = np.arange(len(codes)) - np.repeat(first, lengths)
    values = np.add.reduceat((codes & 31) << (5 * position), first)
    negative = (codes[last] & 16) != 0
    values -= np.where(negative, np.int64(1) << (5 * lengths), 0)
    # Undo the differences: values 1, 3, 5, ... and 2, 4, 6, ... are running sums (0 is plain).
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs


def rle_window(rle: Rle) -> tuple[NDArray[np.bool_], WindowXYXY]:
    """Decode a mask into the smallest window that holds its pixels.

    Returns:
        (h, w) bool and x0, y0, x1, y1; an empty mask gives a window without pixels.

    Raises:
        ValueError: the runs do not add up to the frame.
    """
    height, width = rle["size"]
    runs = run_lengths(rle["counts"])
    total = height * width
    # Each run is compared too: made-up ones could overflow to the right sum.
    if ((runs < 0) | (runs > total)).any() or runs.sum() != total:
        raise ValueError(f"run lengths do not add up to a frame of {width} x {height}")
    edges = np.cumsum(runs)
    starts, ends = edges[0:-1:2], edges[1::2]
    # Other writers may leave runs of no pixels.
    starts, ends = starts[starts < ends], ends[starts < ends]
    if not len(starts):
        return np.zeros((0, 0), dtype=np.bool_), (0, 0, 0, 0)
    columns = starts // height
    x0, x1 = int(columns[0]), int((ends[-1] - 1) // height) + 1
    if ((ends - 1) // height == columns).all():
        tops, bottoms = starts - columns * height, ends - columns * height
        y0, y1 = int(tops.min()), int(bottoms.max())
    else:
        # A run that goes on in the next column fills the whole height between.
        y0, y1 = 0, height
    span = y1 - y0
    strip = np.zeros((x1 - x0) * span + 1, dtype=np.int8)
    strip[starts - x0 * height - (height - span) * (columns - x0) - y0] += 1
    strip[ends - x0 * height - (height - span) * (columns - x0) - y0] -= 1
    filled = np.cumsum(strip[:-1], dtype=np.int8).astype(np.bool_).reshape(x1 - x0, span).T
    return filled, (x0, y0, x1, y1)


def share_pixels(one: Rle, other: Rle) -> bool:
    """Whether two masks of one frame have a pixel in common.

    Raises:
        ValueError: the runs of one do not add up to its frame, or the frames differ.
    """
    if one["size"] != other["size"]:
        raise ValueError(f"masks of frames {one['size']} and {other['size']} (H, W)")
    (mask, (left, top, right, bottom)), (mask_2, window_2) = rle_window(one), rle_window(other)
    x0, y0 = max(left, window_2[0]), max(top, window_2[1])
    x1, y1 = max(x0, min(right, window_2[2])), max(y0, min(bottom, window_2[3]))
    here = mask[y0 - top : y1 - top, x0 - left : x1 - left]
    there = mask_2[y0 - window_2[1] : y1 - window_2[1], x0 - window_2[0] : x1 - window_2[0]]
    return bool((here & there).any())
