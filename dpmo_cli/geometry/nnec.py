"""Nearest Neighbor Exclusive Circles: the disc that bounds the mask of each site."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dpmo_cli.geometry.points import FloatArray, IntArray, Sites
from dpmo_cli.geometry.windows import Windows

MIN_RADIUS_PX = 3.0
MAX_RADIUS_OF_SIDE = 0.5
"""Largest radius, in parts of the image's shorter side."""
LONE_RADIUS_OF_SIDE = 0.25
"""Radius of the only site of an image, in parts of the image's shorter side."""
SPACING_NEIGHBOURS = 9
ROBUST_OF_SPACING = (0.6, 1.5)
"""Where robust distances lie, in parts of the local spacing."""
FAR_PX = 1e15
"""Distances end here, so that coordinates too large to square do not look like a lone site."""


def neighbour_distances(sites: Sites) -> FloatArray:
    """Distance from each site to the nearest other one: (S,) float64 px, inf for a lone site."""
    if len(sites) < 2:
        return np.full(len(sites), np.inf)
    distances, _ = cKDTree(sites.xy).query(sites.xy, k=2)
    return np.asarray(np.minimum(distances[:, 1], FAR_PX))


def nearest_others(points_xy: FloatArray, count: int) -> IntArray:
    """The nearest other points of each, nearest first: (N, k) int64, k at most `count`.

    Args:
        points_xy: (N, 2) float64 px, finite.
        count: how many are wanted.
    """
    count = min(count, len(points_xy) - 1)
    if count < 1:
        return np.zeros((len(points_xy), 0), dtype=np.int64)
    # The tree finds nothing at distances that are too large to square.
    places = np.clip(points_xy, -FAR_PX, FAR_PX)
    _, order = cKDTree(places).query(places, k=count + 1)
    # Of several points at one place any may come first; none is its own neighbour.
    own = order == np.arange(len(order))[:, None]
    own[~own.any(axis=1), -1] = True
    return np.asarray(order[~own].reshape(len(order), count), dtype=np.int64)


def disc_radii(distances_px: FloatArray, size_hw: tuple[int, int], scale: float) -> FloatArray:
    """Radii of the discs: max(3, min(scale * distance, half the shorter side)).

    Args:
        distances_px: (S,) distance to the nearest other site, inf for a lone site.
        size_hw: height and width of the image, px.
        scale: factor on the distance; 1 is the full distance to the neighbour.

    Returns:
        (S,) float64 px. A lone site gets a quarter of the shorter side, whatever the scale.

    Source: the sister paper's pseudo-mask builder (arXiv 2603.16241).
    """
    shorter = float(min(size_hw))
    with np.errstate(over="ignore"):
        wanted = scale * distances_px
    radii = np.maximum(MIN_RADIUS_PX, np.minimum(wanted, MAX_RADIUS_OF_SIDE * shorter))
    return np.where(np.isinf(distances_px), LONE_RADIUS_OF_SIDE * shorter, radii)


def robust_distances(distances_px: FloatArray, spacing_px: FloatArray) -> FloatArray:
    """Neighbour distances held near the local spacing: (S,) float64 px, inf for a lone site.

    A pair that stands close, or a person apart from the crowd, says less about a head's size than
    the spacing round about does.

    Args:
        distances_px: (S,) distance to the nearest other site.
        spacing_px: (S,) as from `local_spacing`.
    """
    low, high = ROBUST_OF_SPACING
    return np.clip(distances_px, low * spacing_px, high * spacing_px)


def clamped(distances_px: FloatArray, size_hw: tuple[int, int], scale: float) -> NDArray[np.bool_]:
    """Which radii are not simply scale * distance, (S,) bool; lone sites are not counted."""
    with np.errstate(over="ignore"):
        wanted = scale * distances_px
    limit = MAX_RADIUS_OF_SIDE * min(size_hw)
    return np.isfinite(distances_px) & ((wanted < MIN_RADIUS_PX) | (wanted > limit))


def local_spacing(sites: Sites) -> FloatArray:
    """Median distance to the nearest nine neighbours: (S,) float64 px, inf for a lone site.

    A steadier measure of how large people appear than the nearest neighbour alone.
    """
    return spacing_of(sites.xy)


def spacing_of(points_xy: FloatArray) -> FloatArray:
    """The local spacing of (N, 2) distinct points: (N,) float64 px, inf for a lone one."""
    neighbours = min(SPACING_NEIGHBOURS, len(points_xy) - 1)
    if neighbours < 1:
        return np.full(len(points_xy), np.inf)
    distances, _ = cKDTree(points_xy).query(points_xy, k=neighbours + 1)
    return np.asarray(np.minimum(np.median(distances[:, 1:], axis=1), FAR_PX))


def disc_windows(
    centres_xy: FloatArray, radii_px: FloatArray, size_hw: tuple[int, int]
) -> IntArray:
    """Columns and rows that the circles reach: (S, 4) int64 x0, y0, x1, y1, half open.

    The site's own pixel is always part of the window, and the image's border cuts it.
    """
    height, width = size_hw
    limit = np.array([width, height])
    own = np.clip(np.rint(centres_xy), 0, limit - 1)
    low = np.minimum(np.ceil(centres_xy - radii_px[:, None]), own)
    high = np.maximum(np.floor(centres_xy + radii_px[:, None]), own) + 1
    corners = np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)], axis=1)
    return corners.astype(np.int64)


def disc_mask(
    centre_xy: FloatArray, radius_px: float, window_xyxy: tuple[int, int, int, int]
) -> NDArray[np.bool_]:
    """Pixels of a window whose centres lie within the disc: (h, w) bool."""
    (squares,) = Windows(np.array([window_xyxy])).squared_distances(centre_xy[None])
    inside: NDArray[np.bool_] = squares <= radius_px**2
    return inside
