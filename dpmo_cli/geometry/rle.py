"""COCO run lengths written from a mask's window, at a cost that the image's size does not touch."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

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
    x0, y0, x1, y1 = window_xyxy
    height, width = size_hw
    if mask.shape != (y1 - y0, x1 - x0) or not (0 <= x0 <= x1 <= width and 0 <= y0 <= y1 <= height):
        raise ValueError(f"window {window_xyxy} does not fit mask {mask.shape} in frame {size_hw}")
    total = height * width
    columns = np.zeros((x1 - x0, y1 - y0 + 2), dtype=np.int8)
    columns[:, 1:-1] = mask.T
    steps = np.diff(columns, axis=1)
    starts_column, starts_row = np.nonzero(steps == 1)
    ends_column, ends_row = np.nonzero(steps == -1)
    starts = (starts_column + x0) * height + starts_row + y0
    ends = (ends_column + x0) * height + ends_row + y0
    # In a window of the image's full height a run at a column's foot goes on in the next column.
    joined = starts[1:] == ends[:-1]
    if joined.any():
        starts = starts[np.concatenate([[True], ~joined])]
        ends = ends[np.concatenate([~joined, [True]])]
    edges = np.empty(2 * len(starts) + 2, dtype=np.int64)
    edges[0], edges[-1] = 0, total
    edges[1:-1:2], edges[2:-1:2] = starts, ends
    runs = np.diff(edges)
    return runs[:-1] if len(runs) > 1 and runs[-1] == 0 else runs


def tighten(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY
) -> tuple[NDArray[np.bool_], WindowXYXY]:
    """The part of a mask, which has pixels, that its box holds, and the box as a window."""
    x0, y0 = window_xyxy[:2]
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    right, bottom = int(columns[-1]) + 1, int(rows[-1]) + 1
    return mask[top:bottom, left:right], (x0 + left, y0 + top, x0 + right, y0 + bottom)


def frame_rle(mask: NDArray[np.bool_], window_xyxy: WindowXYXY, size_hw: tuple[int, int]) -> Rle:
    """Compressed COCO RLE of a full frame that is empty outside a window; see `window_runs`."""
    return rle_of_runs(window_runs(mask, window_xyxy, size_hw), size_hw)


def rle_of_runs(runs: NDArray[np.int64], size_hw: tuple[int, int]) -> Rle:
    """Compress alternating run lengths, zeros first, that add up to a frame of `size_hw` px."""
    height, width = size_hw
    packed = coco_mask.frPyObjects(
        {"size": [height, width], "counts": runs.tolist()}, height, width
    )
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


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
