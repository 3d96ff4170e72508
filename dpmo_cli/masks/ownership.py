"""Exclusive ownership: every pixel belongs to at most one site, whatever the order of points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dpmo_cli.geometry.points import FloatArray, IntArray
from dpmo_cli.geometry.rle import WindowXYXY

NOBODY = -1


def own_pixels(
    claims: Sequence[NDArray[np.bool_] | None],
    windows_xyxy: Sequence[WindowXYXY],
    sites_xy: FloatArray,
    holders: NDArray[np.int64],
    pixels_xy: IntArray,
    size_hw: tuple[int, int],
) -> NDArray[np.int32]:
    """Settle which site owns which pixel: of those that claim it, the nearest.

    Args:
        claims: for each of S sites the pixels that its clipped mask holds, (h, w) bool, or None.
        windows_xyxy: the window of each claim, px, half open.
        sites_xy: (S, 2) float64, px, in the order of their coordinates.
        holders: (n,) sites inside the image: the pixel that a site holds is its own.
        pixels_xy: (S, 2) int64, the pixels that sites hold.
        size_hw: height and width of the image, px.

    Returns:
        (H, W) int32 index of the owner, -1 for nobody. Equal distances go to the first site.
    """
    owner = np.full(size_hw, NOBODY, dtype=np.int32)
    for index, (claim, (x0, y0, x1, y1)) in enumerate(zip(claims, windows_xyxy, strict=True)):
        if claim is None:
            continue
        # The present owners' distances are computed where they are needed, not kept for the image.
        rows, columns = np.nonzero(claim)
        current = owner[y0:y1, x0:x1][rows, columns]
        contested = np.flatnonzero(current != NOBODY)
        wins = np.ones(len(rows), dtype=np.bool_)
        if len(contested):
            pixels = np.stack([columns[contested] + x0, rows[contested] + y0], axis=1)
            mine = ((pixels - sites_xy[index]) ** 2).sum(axis=1)
            theirs = ((pixels - sites_xy[current[contested]]) ** 2).sum(axis=1)
            wins[contested] = mine < theirs
        owner[rows[wins] + y0, columns[wins] + x0] = index
    held = pixels_xy[holders]
    owner[held[:, 1], held[:, 0]] = holders
    return owner


def component_at(mask: NDArray[np.bool_], pixel_xy: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The part of a mask that is connected, by edges, to a pixel of its window; None without it."""
    x, y = pixel_xy
    if not mask[y, x]:
        return None
    if mask.all():
        return mask
    parts, count = ndimage.label(mask)
    if count == 1:
        return mask
    component: NDArray[np.bool_] = parts == parts[y, x]
    return component
