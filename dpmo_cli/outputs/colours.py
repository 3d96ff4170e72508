"""Colours for pictures: a palette in which neighbouring masks never look alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

RGB = tuple[int, int, int]
Colours = NDArray[np.uint8]
"""(N, 3) RGB."""

WHITE: RGB = (255, 255, 255)
BLACK: RGB = (12, 14, 18)
REVIEW: RGB = (255, 38, 52)
MISSING: RGB = (255, 176, 0)

_GOLDEN = 0.618033988749895
_ENTRIES = 24
_NEIGHBOURS = 8
_LIGHTNESSES = (0.82, 0.66, 0.74)
_CHROMA = 0.19
# Degrees of hue; red, about 25, is left to the review flag.
_FIRST_HUE, _HUE_SPAN = 55.0, 300.0

# From Oklab to cone responses and on to linear sRGB (B. Ottosson, "A perceptual color space for
# image processing", 2020).
_TO_CONES = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def palette_oklab() -> NDArray[np.float64]:
    """Return (24, 3) Oklab colours: hues a golden section apart, three lightnesses, no red."""
    index = np.arange(_ENTRIES)
    hues = np.deg2rad(_FIRST_HUE + _HUE_SPAN * (index * _GOLDEN % 1))
    lightness = np.array(_LIGHTNESSES)[index % len(_LIGHTNESSES)]
    return np.stack([lightness, _CHROMA * np.cos(hues), _CHROMA * np.sin(hues)], axis=1)


def to_rgb(oklab: NDArray[np.float64]) -> Colours:
    """Convert (N, 3) Oklab colours to sRGB, clipped to what a screen can show."""
    linear = np.clip((oklab @ _TO_CONES.T) ** 3 @ _TO_LINEAR_RGB.T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    rounded: Colours = np.rint(curved * 255).astype(np.uint8)
    return rounded


def colours_of(points_xy: NDArray[np.float64]) -> Colours:
    """Return (N, 3) RGB colours such that each differs clearly from its neighbours'.

    Greedy in the order given: of the palette's colours that are far enough from those of the
    eight nearest points, the one used least so far.

    Args:
        points_xy: (N, 2) finite positions.
    """
    if not len(points_xy):
        return np.zeros((0, 3), np.uint8)
    oklab = palette_oklab()
    distances = np.linalg.norm(oklab[:, None] - oklab[None], axis=2)
    nearest = min(_NEIGHBOURS + 1, len(points_xy))
    neighbours = cKDTree(points_xy).query(points_xy, k=list(range(1, nearest + 1)))[1]
    chosen = np.full(len(points_xy), -1)
    used = np.zeros(len(oklab))
    for index, near in enumerate(neighbours):
        taken = chosen[near]
        margin = distances[:, taken[taken >= 0]].min(axis=1, initial=distances.max())
        chosen[index] = np.where(margin >= 0.6 * margin.max(), used, np.inf).argmin()
        used[chosen[index]] += 1
    picked: Colours = to_rgb(oklab)[chosen]
    return picked
