"""The mask of one site as it leaves the method: run lengths, box and area."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.rle import Rle, frame_rles
from dpmo_cli.geometry.windows import Windows


@dataclass(frozen=True)
class SiteMask:
    """The mask of one site.

    Attributes:
        rle: COCO run lengths of the full frame.
        bbox_xywh: box of the mask's pixels, px.
        area_px: number of its pixels.
    """

    rle: Rle
    bbox_xywh: tuple[int, int, int, int]
    area_px: int


def site_masks(
    masks: NDArray[np.bool_], windows: Windows, size_hw: tuple[int, int]
) -> list[SiteMask | None]:
    """Masks (n, h, w) of windows in a frame of `size_hw` px; None for one without pixels."""
    rles = frame_rles(masks, windows.boxes_xyxy, size_hw)
    boxes = windows.around(masks)
    boxes[:, 2:] -= boxes[:, :2]
    areas = masks.sum(axis=(1, 2)).tolist()
    return [
        SiteMask(rle, (x, y, width, height), area) if area else None
        for rle, (x, y, width, height), area in zip(rles, boxes.tolist(), areas, strict=True)
    ]
