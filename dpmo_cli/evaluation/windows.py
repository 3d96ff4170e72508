"""A mask in the window that holds its pixels, and how well two such masks agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.nnec import disc_mask
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.geometry.rle import Rle, WindowXYXY, frame_rle, rle_window

Bools = NDArray[np.bool_]

_MARGIN_PX = 2
"""Empty border around two masks: one for the erosion, one for the tolerance."""


@dataclass(frozen=True)
class WindowMask:
    """A mask cut out of its image.

    Attributes:
        pixels: (h, w) bool.
        window_xyxy: where they lie, px, half open; no pixel of the mask lies beyond.
    """

    pixels: Bools
    window_xyxy: WindowXYXY

    @classmethod
    def of(cls, rle: Rle) -> WindowMask:
        """Decode a mask. ValueError where the runs do not fill the frame."""
        return cls(*rle_window(rle))

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.pixels))

    def within_disc(self, centre_xy: FloatArray, radius_px: float) -> WindowMask:
        """The pixels whose centres lie within a disc; (2,) float64 px and px."""
        x0, y0, x1, y1 = self.window_xyxy
        left = max(x0, math.ceil(centre_xy[0] - radius_px))
        top = max(y0, math.ceil(centre_xy[1] - radius_px))
        right = min(x1, math.floor(centre_xy[0] + radius_px) + 1)
        bottom = min(y1, math.floor(centre_xy[1] + radius_px) + 1)
        if left >= right or top >= bottom:
            return WindowMask(np.zeros((0, 0), dtype=np.bool_), (0, 0, 0, 0))
        window_xyxy = (left, top, right, bottom)
        part = self.pixels[top - y0 : bottom - y0, left - x0 : right - x0]
        return WindowMask(part & disc_mask(centre_xy, radius_px, window_xyxy), window_xyxy)

    def rle(self, size_hw: tuple[int, int]) -> Rle:
        """Encode it for a frame of (H, W) px."""
        return frame_rle(self.pixels, self.window_xyxy, size_hw)


def agreement(one: WindowMask, other: WindowMask) -> tuple[float, float]:
    """IoU and boundary F-score of two masks, both 0 where neither shares anything.

    A boundary is what an erosion by the four neighbours takes away (beyond the image there is
    nothing); one of its pixels is found where the other boundary lies within 1 px. F is the
    harmonic mean of the parts of both boundaries that are found.
    """
    x0, y0, x1, y1 = _common_window(one, other)
    first, second = (_placed(mask, (x0, y0, x1, y1)) for mask in (one, other))
    union = np.count_nonzero(first | second)
    if not union:
        return 0.0, 0.0
    iou = np.count_nonzero(first & second) / union
    boundaries = _boundary(first), _boundary(second)
    parts = []
    for edge, near in (boundaries, boundaries[::-1]):
        length = np.count_nonzero(edge)
        found = np.count_nonzero(edge & _cross(near, np.logical_or))
        parts.append(found / length if length else 0.0)
    both = sum(parts)
    return iou, 2 * parts[0] * parts[1] / both if both else 0.0


def _common_window(one: WindowMask, other: WindowMask) -> WindowXYXY:
    windows = [mask.window_xyxy for mask in (one, other) if mask.pixels.size]
    if not windows:
        return 0, 0, 0, 0
    corners = np.array(windows)
    x0, y0 = corners[:, :2].min(axis=0).tolist()
    x1, y1 = corners[:, 2:].max(axis=0).tolist()
    return x0, y0, x1, y1


def _placed(mask: WindowMask, window_xyxy: WindowXYXY) -> Bools:
    """The mask in a larger window with an empty border of `_MARGIN_PX`."""
    x0, y0, x1, y1 = window_xyxy
    placed = np.zeros((y1 - y0 + 2 * _MARGIN_PX, x1 - x0 + 2 * _MARGIN_PX), dtype=np.bool_)
    height, width = mask.pixels.shape
    left, top = mask.window_xyxy[0] - x0 + _MARGIN_PX, mask.window_xyxy[1] - y0 + _MARGIN_PX
    if mask.pixels.size:
        placed[top : top + height, left : left + width] = mask.pixels
    return placed


def _boundary(mask: Bools) -> Bools:
    return mask & ~_cross(mask, np.logical_and)


def _cross(mask: Bools, join: np.ufunc) -> Bools:
    """Join each pixel with its four neighbours; the outermost pixels, always empty, stay so."""
    result = np.zeros_like(mask)
    inner = result[1:-1, 1:-1]
    inner[:] = mask[1:-1, 1:-1]
    for near in (mask[:-2, 1:-1], mask[2:, 1:-1], mask[1:-1, :-2], mask[1:-1, 2:]):
        join(inner, near, out=inner)
    return result
