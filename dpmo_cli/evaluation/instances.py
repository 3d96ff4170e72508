"""Predicted masks and true instances of one image, joined at its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.evaluation.truth import snap_into
from dpmo_cli.geometry.points import FloatArray, IntArray, group_points
from dpmo_cli.geometry.rle import Rle, rle_window, run_lengths
from dpmo_cli.outputs.json_values import as_list, as_object
from dpmo_cli.outputs.segments import areas_of, ones_of

NO_TRUTH = -1
"""In the place of an instance's index: the point has none."""


@dataclass(frozen=True)
class ImageMasks:
    """What was predicted for the points of one image, and what is true of it.

    Attributes:
        name: of the image, for messages and for pairing.
        size_hw: height and width, px.
        points_xy: (N, 2) float64 px, pixel centres at integers; all points of the image, since
            the discs come of their distances.
        predicted: N masks, None where a point has none. Points that round to one pixel are one
            site: its first mask counts for all of them and is one detection.
        scores: (N,) float64, higher is surer; NaN is the worst. Ignored where there is no mask.
        truth: T true instances of at least one pixel, which may overlap.
        true_of_point: (N,) int64, the instance that each point means, -1 for none. A point
            without one is left out of the figures per point.
    """

    name: str
    size_hw: tuple[int, int]
    points_xy: FloatArray
    predicted: list[Rle | None]
    scores: FloatArray
    truth: list[Rle]
    true_of_point: IntArray


def find_truths(points_xy: FloatArray, size_hw: tuple[int, int], truth: Sequence[Rle]) -> IntArray:
    """Find the true instance that holds each point's rounded pixel.

    Args:
        points_xy: (N, 2) float64 px, any value.
        size_hw: height and width of the image, px.
        truth: T instances of that size.

    Returns:
        (N,) int64 index into `truth`: the smallest where several hold the pixel, then the first;
        -1 where none does, and for points outside the image.
    """
    sites = group_points(points_xy, size_hw)
    found = np.full(len(sites) + 1, NO_TRUTH, dtype=np.int64)
    inside = np.flatnonzero(sites.inside)
    runs = ones_of([run_lengths(one["counts"]) for one in truth])
    areas = areas_of(runs, len(truth))
    pixels = sites.pixel_xy[inside, 0] * size_hw[0] + sites.pixel_xy[inside, 1]
    inside, pixels = inside[np.argsort(pixels)], np.sort(pixels)
    # Each run of an instance holds the pixels from `first` to `stop` of the sorted ones.
    first, stop = np.searchsorted(pixels, runs.begin), np.searchsorted(pixels, runs.end)
    run = np.repeat(np.arange(len(first)), stop - first)
    within = np.arange(len(run)) - (np.cumsum(stop - first) - (stop - first))[run]
    site, owner = inside[first[run] + within], runs.owner[run]
    # The last write wins: the smallest instance, of equal ones the first.
    order = np.lexsort((-owner, -areas[owner]))
    found[site[order]] = owner[order]
    # Site -1, of a coordinate that is no number, is the last entry.
    return found[sites.site_of_point]


def mask_centres(masks: Sequence[Rle | None], points_xy: FloatArray) -> FloatArray:
    """The centre of each mask, on the mask; the point itself where there is none: (N, 2) px."""
    found = points_xy.copy()
    for index, rle in enumerate(masks):
        if rle is None:
            continue
        window, (x0, y0, _, _) = rle_window(rle)
        rows, columns = np.nonzero(window)
        x, y = snap_into(window, (float(columns.mean()), float(rows.mean())))
        found[index] = x + x0, y + y0
    return found


def rles_of_labels(labels: NDArray[np.integer] | NDArray[np.bool_]) -> list[Rle]:
    """Encode a label map: one mask per value but 0, in the order of the values.

    The cost is that of one pass over the map, however many instances it holds.

    Args:
        labels: (H, W) of any integer type, or bool.
    """
    height, width = labels.shape
    flat = labels.ravel(order="F")
    begins = np.flatnonzero(np.concatenate([[len(flat) > 0], flat[1:] != flat[:-1]]))
    ends = np.append(begins[1:], len(flat))[: len(begins)]
    values = flat[begins]
    order = np.argsort(values, kind="stable")
    order = order[values[order] != 0]
    _, first = np.unique(values[order], return_index=True)
    return [
        _rle_of_ones(begins[runs], ends[runs], (height, width))
        for runs in np.split(order, first[1:])
        if len(runs)
    ]


def checked_rle(value: object, size_hw: tuple[int, int]) -> Rle:
    """Return a COCO RLE, compressed or not, as a compressed one that fits its image.

    Args:
        value: an object with `size` [H, W] and `counts`: text, bytes or a list of run lengths.
        size_hw: height and width of the image, px.

    Raises:
        ValueError: one line that says why it is no mask of this size.
    """
    rle = as_object(value, "the segmentation")
    height, width = size_hw
    stated = as_list(rle.get("size"), 2, "size")
    if stated != [height, width]:
        raise ValueError(f"the mask's size (H, W) is {stated}, the image's {[height, width]}")
    counts = rle.get("counts")
    if isinstance(counts, list):
        if not all(type(run) is int for run in counts):
            raise ValueError("counts holds something other than whole numbers")
        runs = counts
    elif isinstance(counts, (str, bytes)):
        try:
            runs = run_lengths(counts).tolist()
        except (ValueError, OverflowError, IndexError, UnicodeEncodeError) as error:
            raise ValueError("counts are not compressed COCO run lengths") from error
    else:
        raise ValueError("counts is neither text nor a list")
    # Summed as Python integers: made-up runs could overflow to the right sum.
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"the runs do not add up to {width} x {height} px")
    if isinstance(counts, list):
        return _compressed(runs, size_hw)
    text = counts if isinstance(counts, str) else counts.decode("ascii")
    return {"size": [height, width], "counts": text}


def _rle_of_ones(begins: IntArray, ends: IntArray, size_hw: tuple[int, int]) -> Rle:
    """Encode runs of ones given by column-major pixel indices, in order and apart."""
    edges = np.zeros(2 * len(begins) + 2, dtype=np.int64)
    edges[1:-1:2], edges[2:-1:2], edges[-1] = begins, ends, size_hw[0] * size_hw[1]
    runs = np.diff(edges).tolist()
    # An instance that ends with the frame has no zeros behind it.
    return _compressed(runs[:-1] if runs[-1] == 0 else runs, size_hw)


def _compressed(runs: list[int], size_hw: tuple[int, int]) -> Rle:
    size = list(size_hw)
    packed = coco_mask.frPyObjects({"size": size, "counts": runs}, *size)
    return {"size": size, "counts": packed["counts"].decode("ascii")}
