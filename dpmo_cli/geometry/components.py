"""Connected parts of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_EDGES = ndimage.generate_binary_structure(2, 1)


def component_at(mask: NDArray[np.bool_], pixel_xy: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The part of a mask that is connected, by edges, to a pixel of its window; None without it."""
    x, y = pixel_xy
    if not mask[y, x]:
        return None
    if mask.all():
        return mask
    parts, count = ndimage.label(mask, _EDGES)
    if count == 1:
        return mask
    component: NDArray[np.bool_] = parts == parts[y, x]
    return component
