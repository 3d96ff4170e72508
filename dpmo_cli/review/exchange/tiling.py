"""An image cut into tiles of few persons, each person whole in one of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.rle import WindowXYXY

MARGIN_PX = 48
"""What a tile shows beyond its masks, px: a person is judged by the surroundings."""
LEAST_SIDE_PX = 256


def cut(
    points_xy: NDArray[np.float64],
    boxes_xyxy: NDArray[np.float64],
    size_hw: tuple[int, int],
    most: int,
) -> list[tuple[NDArray[np.intp], WindowXYXY]]:
    """Divide persons into groups of at most `most`, and give each the window that shows it.

    A group is halved at the median along its longer side. Windows may overlap; that of a single
    group is the whole image.

    Args:
        points_xy: (N, 2) points, px.
        boxes_xyxy: (N, 4) boxes round each mask and its point, px.
        size_hw: (H, W) of the image, px.
        most: persons of a tile; 0 for no limit.

    Returns:
        Indices of the persons, in order, and the window in the image, px, for each tile.
    """
    height, width = size_hw
    everyone = np.arange(len(points_xy))
    if not most or len(everyone) <= most:
        return [(everyone, (0, 0, width, height))]
    tiles = []
    waiting = [everyone]
    while waiting:
        group = waiting.pop()
        if len(group) <= most:
            tiles.append((np.sort(group), _window(boxes_xyxy[group], size_hw)))
            continue
        of_group = points_xy[group]
        axis = int(np.argmax(np.ptp(of_group, axis=0)))
        order = group[np.argsort(of_group[:, axis], kind="stable")]
        waiting += [order[len(order) // 2 :], order[: len(order) // 2]]
    return tiles


def _window(boxes_xyxy: NDArray[np.float64], size_hw: tuple[int, int]) -> WindowXYXY:
    """The window of some boxes with a margin, of a useful size, inside the image."""
    sides = []
    for axis, side in ((0, size_hw[1]), (1, size_hw[0])):
        low = int(np.floor(boxes_xyxy[:, axis].min())) - MARGIN_PX
        high = int(np.ceil(boxes_xyxy[:, axis + 2].max())) + MARGIN_PX
        missing = max(0, LEAST_SIDE_PX - (high - low))
        low, high = low - missing // 2, high + missing - missing // 2
        sides.append((max(low, 0), min(high, side)))
    (x0, x1), (y0, y1) = sides
    return x0, y0, x1, y1
