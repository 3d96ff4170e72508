"""Density-adaptive tiles: crops in which neighbours stand apart as far as the network needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dpmo_cli.geometry.points import FloatArray

LEVEL_STEP = 2.0**0.5
"""Ratio of the sizes of neighbouring tile levels."""
MAX_MAGNIFICATION = 4.0
DISC_ROOM = 2.6
"""Least side of a tile in radii: a disc's diameter, and a core for more sites than one."""


@dataclass(frozen=True)
class Tile:
    """A crop of the image and the sites that are decoded in it.

    Attributes:
        window_xyxy: x0, y0, x1, y1 in px, half open, inside the image.
        sites: (n,) int64 indices, ascending.
    """

    window_xyxy: tuple[int, int, int, int]
    sites: NDArray[np.int64]


def whole_image(site_ids: NDArray[np.int64], size_hw: tuple[int, int]) -> list[Tile]:
    """One tile that is the image itself, or none without sites."""
    height, width = size_hw
    return [Tile((0, 0, width, height), site_ids)] if len(site_ids) else []


def adaptive_tiles(
    xy: FloatArray,
    radii_px: FloatArray,
    units_px: FloatArray,
    site_ids: NDArray[np.int64],
    size_hw: tuple[int, int],
    *,
    frame_px: int,
    target_px: float,
) -> list[Tile]:
    """Cut tiles so that discs reach the network at about one size; every site is in one tile.

    Args:
        xy: (S, 2) float64 sites, px.
        radii_px: (S,) float64 discs, px: the halo of a tile is no smaller than its discs.
        units_px: (S,) float64 length by which to scale, px: the disc at scale 1.
        site_ids: (n,) which of the sites to decode, ascending.
        size_hw: height and width of the image, px.
        frame_px: side of the network's square input.
        target_px: length that the unit should have in the network's frame.

    Returns:
        Tiles from the smallest to the largest, each level by rows. Tiles lie inside the image; a
        tile as large as the image is the image.
    """
    longest = max(size_hw)
    smallest = np.ceil(frame_px / MAX_MAGNIFICATION)
    wanted = frame_px * units_px[site_ids] / target_px
    # Large discs need a large tile, whatever the scale that the crowd would like.
    room = DISC_ROOM * (radii_px[site_ids] + 2)
    levels = np.maximum(np.ceil(_level(wanted / smallest) - 0.5), np.ceil(_level(room / smallest)))
    sides = np.rint(smallest * LEVEL_STEP ** np.maximum(levels, 0)).astype(np.int64)
    whole = sides >= longest
    tiles: list[Tile] = []
    for side in np.unique(sides[~whole]).tolist():
        members = site_ids[sides == side]
        halo = float(radii_px[members].max()) + 1
        tiles.extend(_cover(xy, members, side - 2 * halo, side, size_hw))
    return tiles + whole_image(site_ids[whole], size_hw)


def _level(ratio: FloatArray) -> FloatArray:
    """How many steps of size a ratio is."""
    levels: FloatArray = np.log(ratio) / np.log(LEVEL_STEP)
    return levels


def _cover(
    xy: FloatArray,
    members: NDArray[np.int64],
    core_px: float,
    side_px: int,
    size_hw: tuple[int, int],
) -> list[Tile]:
    """Cover sites of one level by tiles: a grid of cores, each moved onto its own sites."""
    points = xy[members]
    centres = _box_centres(points, np.floor(points / core_px).astype(np.int64))
    # A site near the border of its core may suit a neighbouring tile better.
    _, nearest = cKDTree(centres).query(points, p=np.inf)
    height, width = size_hw
    size = np.minimum(side_px, (width, height))
    tiles: list[Tile] = []
    for index in np.unique(nearest):
        chosen = members[nearest == index]
        corner = np.rint(centres[index] - size / 2)
        x0, y0 = np.clip(corner, 0, np.array([width, height]) - size).astype(int)
        window = (int(x0), int(y0), int(x0 + size[0]), int(y0 + size[1]))
        tiles.append(Tile(window, chosen))
    return tiles


def _box_centres(points: FloatArray, cells: NDArray[np.int64]) -> FloatArray:
    """Centre of the bounding box of the points of each cell, cells by rows: (C, 2)."""
    _, group = np.unique(cells[:, ::-1], axis=0, return_inverse=True)
    group = group.reshape(-1)
    count = int(group.max()) + 1
    low = np.full((count, 2), np.inf)
    high = np.full((count, 2), -np.inf)
    np.minimum.at(low, group, points)
    np.maximum.at(high, group, points)
    return np.asarray((low + high) / 2)
