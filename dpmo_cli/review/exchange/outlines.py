"""A mask as one polygon that a person can edit: few corners, and still exactly its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.evaluation.truth_coco import mask_of_segmentation
from dpmo_cli.geometry.contours import Part, Ring, joined_ring, trace_parts
from dpmo_cli.geometry.rle import Rle, WindowXYXY, frame_rle, rle_window

DECIMALS = 2
"""Of coordinates, px: what CVAT keeps."""
_TOLERANCES_PX = (0.6, 0.45, 0.3)
_LEAST_CORNERS = 3


def outline(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY, size_hw: tuple[int, int]
) -> list[list[float]]:
    """Return one polygon [[x, y], ...] that is filled to the very pixels of a mask.

    Parts and holes hang on the longest outline by lines that hold no pixel. The polygon with the
    fewest corners is taken that is still exact; at worst it follows the edges of the pixels.

    Args:
        mask: (h, w) bool with at least one pixel.
        window_xyxy: where it lies in the image, px, half open.
        size_hw: height and width of the image, px.
    """
    exact = frame_rle(mask, window_xyxy, size_hw)
    parts = trace_parts(mask, window_xyxy[:2])
    for tolerance_px in _TOLERANCES_PX:
        # In halves of a pixel the middles of edges are whole numbers too.
        halves = joined_ring([_simpler_part(part, 2 * tolerance_px) for part in parts])
        polygon: list[list[float]] = (halves / 2).tolist()
        if polygon_rle([polygon], size_hw) == exact:
            return polygon
    along_edges: list[list[float]] = joined_ring(parts).astype(np.float64).tolist()
    return along_edges


def polygon_rle(polygons: list[list[list[float]]], size_hw: tuple[int, int]) -> Rle:
    """Return the pixels of polygons [[x, y], ...], all parts of one mask, as COCO fills them.

    Coordinates are rounded to `DECIMALS`, so that what a tool does to the last digits is undone.

    Raises:
        ValueError: a polygon has fewer than three corners, or one that is not finite or far
            outside the image.
    """
    return segmentation_rle(
        [[v for corner in polygon for v in corner] for polygon in polygons], size_hw
    )


def segmentation_rle(segmentation: object, size_hw: tuple[int, int]) -> Rle:
    """Return the pixels of a COCO segmentation, in one spelling: RLE of any kind, or polygons.

    Raises:
        ValueError: it is broken, is of another size, or has no pixel in the image.
    """
    if isinstance(segmentation, list):
        segmentation = [_rounded(polygon) for polygon in segmentation]
    mask, window_xyxy = rle_window(mask_of_segmentation(segmentation, size_hw))
    if not mask.size:
        raise ValueError("the shape has no pixel inside its picture")
    return frame_rle(mask, window_xyxy, size_hw)


def joined(parts: Sequence[Rle]) -> Rle:
    """Return the pixels of several masks of one frame."""
    if len(parts) == 1:
        return parts[0]
    merged = coco_mask.merge([{**part, "counts": part["counts"].encode()} for part in parts])
    return {"size": parts[0]["size"], "counts": merged["counts"].decode("ascii")}


def _rounded(polygon: object) -> object:
    """A polygon's numbers with `DECIMALS`; anything else as it is, to be refused by name."""
    if not isinstance(polygon, list):
        return polygon
    return [round(v, DECIMALS) if isinstance(v, float) and isfinite(v) else v for v in polygon]


def _simpler_part(part: Part, tolerance: float) -> Part:
    holes = tuple(_simpler(hole, tolerance) for hole in part.holes)
    return Part(_simpler(part.outer, tolerance), holes)


def _simpler(ring: Ring, tolerance: float) -> Ring:
    """Leave out corners of an outline while it stays near the middles of the pixels' edges.

    Args:
        ring: an outline along the edges of pixels.
        tolerance: how far a middle may lie from the result, half pixels.

    Returns:
        An outline through some of the middles, half pixels (Ramer, Douglas and Peucker).
    """
    middles = _edge_middles(ring)
    # Two corners that stay: the first, and the one farthest from it.
    far = int(np.argmax(np.hypot(*(middles - middles[0]).T)))
    closed = np.concatenate([middles, middles[:1]])
    keep = np.zeros(len(closed), np.bool_)
    keep[[0, far]] = True
    spans = [(0, far), (far, len(middles))]
    while spans:
        first, last = spans.pop()
        away = closed[first + 1 : last] - closed[first]
        if not len(away):
            continue
        along = closed[last] - closed[first]
        across = np.abs(along[0] * away[:, 1] - along[1] * away[:, 0])
        worst = int(np.argmax(across))
        if across[worst] > tolerance * np.hypot(*along):
            middle = first + 1 + worst
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    kept = middles[keep[:-1]]
    return kept if len(kept) >= _LEAST_CORNERS else middles


def _edge_middles(ring: Ring) -> Ring:
    """(N, 2) middles of the unit edges of an outline, in order, half pixels."""
    steps = np.roll(ring, -1, axis=0) - ring
    lengths = np.abs(steps).sum(axis=1)
    edge = np.repeat(np.arange(len(ring)), lengths)
    rank = np.arange(len(edge)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    middles: Ring = 2 * ring[edge] + np.sign(steps)[edge] * (2 * rank + 1)[:, None]
    return middles
