"""Connected parts of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dpmo_cli.geometry.points import IntArray

_IN_PLANE = np.zeros((3, 3, 3), dtype=np.bool_)
_IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


def component_at(mask: NDArray[np.bool_], pixel_xy: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The part of a mask that is connected, by edges, to a pixel of its window; None without it."""
    x, y = pixel_xy
    if not mask[y, x]:
        return None
    component: NDArray[np.bool_] = components_at(mask[None], np.array([pixel_xy]))[0]
    return component


def components_at(masks: NDArray[np.bool_], pixels_xy: IntArray) -> NDArray[np.bool_]:
    """The parts of masks (n, h, w) connected to a pixel each, (n, 2); nothing without it."""
    each = np.arange(len(masks))
    parts, _ = ndimage.label(masks, _IN_PLANE)
    own = parts[each, pixels_xy[:, 1], pixels_xy[:, 0]][:, None, None]
    components: NDArray[np.bool_] = (parts == own) & (own > 0)
    return components
