"""A mask in its window: how the server and the page exchange masks, and set them off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.components import component_at
from dpmo_cli.geometry.rle import Rle, WindowXYXY, frame_rle, rle_window, tighten
from dpmo_cli.outputs.json_values import as_int, as_object

MAX_RUNS = 400_000
"""Runs of a mask that a page may send; a ragged one of a large photo has some thousands."""


@dataclass(frozen=True)
class PlacedMask:
    """Pixels of an image inside a window.

    Attributes:
        pixels: (h, w) bool, at least one true.
        window_xyxy: where they lie, px, half open.
    """

    pixels: NDArray[np.bool_]
    window_xyxy: WindowXYXY

    @classmethod
    def of_rle(cls, rle: Rle) -> PlacedMask | None:
        """Decode a COCO RLE of the frame, None for an empty one. Raises ValueError."""
        pixels, window = rle_window(rle)
        return cls(pixels, window) if pixels.size else None

    @classmethod
    def of_pixels(cls, pixels: NDArray[np.bool_], window: WindowXYXY) -> PlacedMask | None:
        """Pixels with the tightest window, None where there are none."""
        return cls(*tighten(pixels, window)) if pixels.any() else None

    def rle(self, size_hw: tuple[int, int]) -> Rle:
        """The mask as a COCO RLE of the frame."""
        return frame_rle(self.pixels, self.window_xyxy, size_hw)

    def as_json(self) -> dict[str, object]:
        """`x`, `y`, `w`, `h` of the window; `runs`, by columns, zeros first."""
        x0, y0, x1, y1 = self.window_xyxy
        flat = self.pixels.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat.view(np.int8), prepend=0, append=0))
        # A mask that fills its end has its last edge there; else zeros follow.
        steps = np.diff(edges, prepend=0, append=flat.size) if edges[-1] != flat.size else (
            np.diff(edges, prepend=0)
        )  # fmt: skip
        return {"x": x0, "y": y0, "w": x1 - x0, "h": y1 - y0, "runs": steps.tolist()}

    def holds(self, x: int, y: int) -> bool:
        """Whether a pixel of the image is the mask's."""
        x0, y0, x1, y1 = self.window_xyxy
        return x0 <= x < x1 and y0 <= y < y1 and bool(self.pixels[y - y0, x - x0])

    def meets(self, window: WindowXYXY) -> bool:
        """Whether the mask's window and another have a pixel in common."""
        x0, y0, x1, y1 = self.window_xyxy
        return x0 < window[2] and window[0] < x1 and y0 < window[3] and window[1] < y1

    def without(self, other: PlacedMask) -> PlacedMask | None:
        """The pixels that are not another's, None where none are left; itself where all are."""
        shared = self.within(other)
        if shared is None:
            return self
        return PlacedMask.of_pixels(self.pixels & ~shared, self.window_xyxy)

    def within(self, other: PlacedMask) -> NDArray[np.bool_] | None:
        """(h, w) bool of this window, pixels that are another's too; None where there are none."""
        if not self.meets(other.window_xyxy):
            return None
        x0, y0, x1, y1 = self.window_xyxy
        left, top, right, bottom = other.window_xyxy
        a0, b0, a1, b1 = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
        shared = np.zeros_like(self.pixels)
        shared[b0 - y0 : b1 - y0, a0 - x0 : a1 - x0] = other.pixels[
            b0 - top : b1 - top, a0 - left : a1 - left
        ]
        shared &= self.pixels
        return shared if shared.any() else None

    def part_at(self, x: int, y: int) -> PlacedMask | None:
        """The part that is connected to a pixel of the image; None where the mask lacks it."""
        if not self.holds(x, y):
            return None
        x0, y0 = self.window_xyxy[:2]
        part = component_at(self.pixels, (x - x0, y - y0))
        if part is None or part is self.pixels:
            return self
        return PlacedMask.of_pixels(part, self.window_xyxy)


def parse_mask(value: object, size_hw: tuple[int, int]) -> PlacedMask:
    """Take apart what a page sends as a mask, as `as_json` writes it.

    Raises:
        ValueError: it is no mask inside the image, or an empty one.
    """
    document: Mapping[str, object] = as_object(value, "mask")
    x, y, width, height = (as_int(document.get(name), f"mask.{name}") for name in "xywh")
    if not (0 <= x < x + width <= size_hw[1] and 0 <= y < y + height <= size_hw[0]):
        raise ValueError(f"mask: lies outside the image of {size_hw[1]} x {size_hw[0]} px")
    listed = document.get("runs")
    if not isinstance(listed, list) or not 2 <= len(listed) <= MAX_RUNS:
        raise ValueError("mask.runs is no list of runs")
    runs = np.array([as_int(run, "mask.runs") for run in listed], dtype=np.int64)
    # Each is compared too: made-up ones could overflow to the right sum.
    if ((runs < 0) | (runs > width * height)).any() or runs.sum() != width * height:
        raise ValueError(f"mask.runs do not add up to {width} x {height} px")
    ones = np.arange(len(runs)) % 2 == 1
    pixels = np.repeat(ones, runs).reshape(width, height).T
    mask = PlacedMask.of_pixels(pixels, (x, y, x + width, y + height))
    if mask is None:
        raise ValueError("mask: has no pixels; reject or delete instead")
    return mask
