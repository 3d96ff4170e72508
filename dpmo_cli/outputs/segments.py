"""The pixels of many RLE masks as vertical segments: work that never needs a full frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """The runs of ones of several masks of one image, mask after mask.

    Attributes:
        owner: (R,) int64, the index of the run's mask.
        begin, end: (R,) int64, column-major pixel index, `end` exclusive.
    """

    owner: Ints
    begin: Ints
    end: Ints


@dataclass(frozen=True)
class Segments:
    """Runs cut at the columns: each is one vertical piece of one mask.

    Attributes:
        owner: (S,) int64, the index of the segment's mask.
        x: (S,) int64, its column, px.
        top, bottom: (S,) int64, its first and last row, px, both inclusive.
    """

    owner: Ints
    x: Ints
    top: Ints
    bottom: Ints


def ones_of(run_lengths: Sequence[Ints]) -> Runs:
    """Return the non-empty runs of ones of masks given by alternating run lengths, zeros first."""
    begins, ends = [], []
    for lengths in run_lengths:
        edges = np.cumsum(lengths)
        ends.append(edges[1::2])
        begins.append(edges[0::2][: len(ends[-1])])
    owner = np.repeat(np.arange(len(ends)), [len(end) for end in ends])
    begin, end = _joined(begins), _joined(ends)
    filled = end > begin
    return Runs(owner[filled], begin[filled], end[filled])


def segments_of(runs: Runs, height: int) -> Segments:
    """Cut runs at the columns of an image of `height` px."""
    first, last = runs.begin // height, (runs.end - 1) // height
    pieces = last - first + 1
    run = np.repeat(np.arange(len(pieces)), pieces)
    x = first[run] + np.arange(len(run)) - (np.cumsum(pieces) - pieces)[run]
    top = np.maximum(runs.begin[run] - x * height, 0)
    bottom = np.minimum(runs.end[run] - 1 - x * height, height - 1)
    return Segments(runs.owner[run], x, top, bottom)


def areas_of(runs: Runs, masks: int) -> Ints:
    """Return the (masks,) numbers of pixels."""
    areas = np.zeros(masks, np.int64)
    np.add.at(areas, runs.owner, runs.end - runs.begin)
    return areas


def boxes_of(segments: Segments, masks: int) -> Ints:
    """Return the (masks, 4) boxes xyxy of the pixels, exclusive at the far side, 0 where empty."""
    low = np.full((masks, 2), np.iinfo(np.int64).max)
    high = np.zeros((masks, 2), np.int64)
    np.minimum.at(low, segments.owner, np.stack([segments.x, segments.top], axis=1))
    np.maximum.at(high, segments.owner, np.stack([segments.x, segments.bottom], axis=1) + 1)
    low[high[:, 0] == 0] = 0
    return np.concatenate([low, high], axis=1)


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *parts])
