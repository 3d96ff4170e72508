"""The mask of one site as it leaves the method: run lengths, box and area."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.rle import Rle, frame_rles
from dpmo_cli.geometry.windows import Windows


@dataclass(frozen=True, slots=True)
class SiteMask:
    """The mask of one site; small, since an image may have tens of thousands.

    Attributes:
        size_hw: height and width of the image, px.
        counts: COCO's compressed run lengths of the full frame.
        bbox_xywh: box of the mask's pixels, px.
        area_px: number of its pixels.
    """

    size_hw: tuple[int, int]
    counts: str
    bbox_xywh: tuple[int, int, int, int]
    area_px: int

    @property
    def rle(self) -> Rle:
        """As COCO writes it."""
        return {"size": list(self.size_hw), "counts": self.counts}


def site_masks(
    masks: NDArray[np.bool_], windows: Windows, size_hw: tuple[int, int]
) -> list[SiteMask | None]:
    """Masks (n, h, w) of windows in a frame of `size_hw` px; None for one without pixels."""
    rles = frame_rles(masks, windows.boxes_xyxy, size_hw)
    boxes = windows.around(masks)
    boxes[:, 2:] -= boxes[:, :2]
    areas = masks.sum(axis=(1, 2)).tolist()
    return [
        SiteMask(size_hw, rle["counts"], (x, y, width, height), area) if area else None
        for rle, (x, y, width, height), area in zip(rles, boxes.tolist(), areas, strict=True)
    ]
