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
GUEST_RATIO = 2.0
"""A tile also takes sites that would like tiles up to this much larger: fewer tiles to encode."""


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
    natural_px: FloatArray,
    units_px: FloatArray,
    site_ids: NDArray[np.int64],
    size_hw: tuple[int, int],
    *,
    frame_px: int,
    target_px: float,
) -> list[Tile]:
    """Cut tiles so that discs reach the network at about one size; every site is in one tile.

    Tiles are cut for the discs at scale 1, so that an embedding serves any smaller scale too. At a
    larger one the tiles that hold all their discs stay, and the sites of the others get new ones.

    Args:
        xy: (S, 2) float64 sites, px.
        radii_px: (S,) float64 discs, px: the halo of a tile is no smaller than its discs.
        natural_px: (S,) float64 discs at scale 1, px.
        units_px: (S,) float64 length by which to scale, px.
        site_ids: (n,) which of the sites to decode, ascending.
        size_hw: height and width of the image, px.
        frame_px: side of the network's square input.
        target_px: length that the unit should have in the network's frame.

    Returns:
        Tiles from the smallest to the largest, each level by rows. Tiles lie inside the image; a
        tile as large as the image is the image.
    """

    def cut(discs_px: FloatArray, ids: NDArray[np.int64]) -> list[Tile]:
        return _cut(xy, discs_px, units_px, ids, size_hw, frame_px=frame_px, target_px=target_px)

    tiles = cut(natural_px, site_ids)
    if (radii_px[site_ids] <= natural_px[site_ids]).all():
        return tiles
    kept = [tile for tile in tiles if _holds(tile, xy, radii_px, size_hw)]
    held = np.concatenate([site_ids[:0], *(tile.sites for tile in kept)])
    again = np.setdiff1d(site_ids, held)
    return sorted(kept + cut(np.maximum(natural_px, radii_px), again), key=_longer_side)


def _cut(
    xy: FloatArray,
    radii_px: FloatArray,
    units_px: FloatArray,
    site_ids: NDArray[np.int64],
    size_hw: tuple[int, int],
    *,
    frame_px: int,
    target_px: float,
) -> list[Tile]:
    """Tiles as of `adaptive_tiles`, for discs of one scale."""
    longest = max(size_hw)
    smallest = np.ceil(frame_px / MAX_MAGNIFICATION)
    wanted = frame_px * units_px[site_ids] / target_px
    # Large discs need a large tile, whatever the scale that the crowd would like.
    room = DISC_ROOM * (radii_px[site_ids] + 2)
    levels = np.maximum(np.ceil(_level(wanted / smallest) - 0.5), np.ceil(_level(room / smallest)))
    sides = np.rint(smallest * LEVEL_STEP ** np.maximum(levels, 0)).astype(np.int64)
    whole = sides >= longest
    waiting = ~whole
    tiles: list[Tile] = []
    for side in np.unique(sides[~whole]).tolist():
        home = np.flatnonzero(waiting & (sides == side))
        if not len(home):
            continue
        members = site_ids[home]
        halo = float(radii_px[members].max()) + 1
        centres, tile_of_member = _cover(xy[members], side - 2 * halo)
        windows = _windows(centres, side, size_hw)
        # Neighbours of another level join where their disc fits, rather than need a tile more.
        others = np.flatnonzero(waiting & (sides > side) & (sides <= GUEST_RATIO * side))
        tile_of_other, fits = _fitting(xy[site_ids[others]], radii_px[site_ids[others]],
                                       centres, windows, size_hw)  # fmt: skip
        placed = np.concatenate([home, others[fits]])
        tile_of_placed = np.concatenate([tile_of_member, tile_of_other[fits]])
        waiting[placed] = False
        for index in np.unique(tile_of_placed).tolist():
            x0, y0, x1, y1 = windows[index].tolist()
            chosen = np.sort(site_ids[placed[tile_of_placed == index]])
            tiles.append(Tile((x0, y0, x1, y1), chosen))
    return tiles + whole_image(site_ids[whole], size_hw)


def _level(ratio: FloatArray) -> FloatArray:
    """How many steps of size a ratio is."""
    levels: FloatArray = np.log(ratio) / np.log(LEVEL_STEP)
    return levels


def _cover(points: FloatArray, core_px: float) -> tuple[FloatArray, NDArray[np.int64]]:
    """Cover sites by tiles: a grid of cores, each moved onto its own sites.

    Returns:
        (T, 2) float64 centres, and for each site the tile whose centre suits it best.
    """
    centres = _box_centres(points, np.floor(points / core_px).astype(np.int64))
    _, nearest = cKDTree(centres).query(points, p=np.inf)
    return centres, np.asarray(nearest)


def _windows(centres: FloatArray, side_px: int, size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Squares round the centres, moved into the image and cut to it: (T, 4) x0, y0, x1, y1."""
    limit = np.array([size_hw[1], size_hw[0]])
    size = np.minimum(side_px, limit)
    low = np.clip(np.rint(centres - size / 2), 0, limit - size)
    return np.concatenate([low, low + size], axis=1).astype(np.int64)


def _fitting(
    points: FloatArray,
    radii_px: FloatArray,
    centres: FloatArray,
    windows_xyxy: NDArray[np.int64],
    size_hw: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The tile nearest to each site, and whether the site's disc lies inside it."""
    if not len(points):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    _, nearest = cKDTree(centres).query(points, p=np.inf)
    return np.asarray(nearest), _inside(points, radii_px, windows_xyxy[nearest], size_hw)


def _inside(
    points: FloatArray,
    radii_px: FloatArray,
    windows_xyxy: NDArray[np.int64],
    size_hw: tuple[int, int],
) -> NDArray[np.bool_]:
    """Whether each of n sites lies in its window, (n, 4) or (4,), with its disc: (n,) bool."""
    limit = np.array([size_hw[1], size_hw[0]])
    low, high = windows_xyxy[..., :2], windows_xyxy[..., 2:]
    halo = radii_px[:, None] + 1
    # The image's border cuts a disc anyway.
    fits = ((points - halo >= low) | (low == 0)) & ((points + halo < high) | (high == limit))
    inside = (points >= low) & (points < high)
    return np.asarray((fits & inside).all(axis=1))


def _holds(tile: Tile, xy: FloatArray, radii_px: FloatArray, size_hw: tuple[int, int]) -> bool:
    """Whether a tile holds the discs of all its sites."""
    window = np.array(tile.window_xyxy)
    return bool(_inside(xy[tile.sites], radii_px[tile.sites], window, size_hw).all())


def _longer_side(tile: Tile) -> int:
    """Px."""
    x0, y0, x1, y1 = tile.window_xyxy
    return max(x1 - x0, y1 - y0)


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
