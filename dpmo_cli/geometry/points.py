"""Sites: the distinct pixels of an image that hold annotated points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Sites:
    """The points of an image, grouped by the pixel they round to.

    Sites stand in the order of their coordinates, so nothing computed from them depends on the
    order of the points. A point outside the image is a site of its own.

    Attributes:
        xy: (S, 2) float64 px; the smallest point (x, then y) of each site, its representative.
        pixel_xy: (S, 2) int64, the pixel that the site holds; for one outside, its point rounded.
        inside: (S,) bool, whether the site lies inside the image.
        point_of_site: (S,) int64, index of the representative point.
        site_of_point: (N,) int64, -1 for a point with a NaN or infinite coordinate.
    """

    xy: FloatArray
    pixel_xy: IntArray
    inside: NDArray[np.bool_]
    point_of_site: IntArray
    site_of_point: IntArray

    def __len__(self) -> int:
        return len(self.xy)


def group_points(points_xy: FloatArray, size_hw: tuple[int, int]) -> Sites:
    """Group points into sites.

    Args:
        points_xy: (N, 2) float64, pixels; pixel centres are integers. Any value is accepted.
        size_hw: height and width of the image, px.

    Returns:
        The sites of all finite points.
    """
    points_xy = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
    height, width = size_hw
    valid = np.flatnonzero(np.isfinite(points_xy).all(axis=1))
    # Stable, so that of equal points the one that comes first represents the site.
    valid = valid[np.lexsort((valid, points_xy[valid, 1], points_xy[valid, 0]))]
    xy = points_xy[valid]
    inside = np.asarray(((xy >= 0) & (xy < (width, height))).all(axis=1))
    # Coordinates beyond any image would not fit an integer.
    pixel_xy = np.rint(np.clip(xy, -1e15, 1e15)).astype(np.int64)
    clipped = np.clip(pixel_xy, 0, (max(width - 1, 0), max(height - 1, 0)))
    pixel_xy[inside] = clipped[inside]

    key = np.where(inside, pixel_xy[:, 1] * width + pixel_xy[:, 0], -1 - np.arange(len(xy)))
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    # np.unique sorts by key; go back to the order of coordinates.
    rank = np.argsort(first)
    position = np.empty_like(rank)
    position[rank] = np.arange(len(rank))
    kept = first[rank]

    site_of_point = np.full(len(points_xy), -1, dtype=np.int64)
    site_of_point[valid] = position[inverse.reshape(-1)]
    return Sites(xy[kept], pixel_xy[kept], inside[kept], valid[kept], site_of_point)
