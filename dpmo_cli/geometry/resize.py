"""SAM's two bilinear resizes as one small matrix per axis, exact for any window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from dpmo_cli.geometry.points import FloatArray, IntArray


def fitted_size(size_hw: tuple[int, int], frame_px: int) -> tuple[int, int]:
    """Height and width of a crop whose longer side is resized to `frame_px`, at least one px.

    Source: `segment_anything.utils.transforms.ResizeLongestSide.get_preprocess_shape`.
    """
    scale = frame_px / max(size_hw)
    return max(1, int(size_hw[0] * scale + 0.5)), max(1, int(size_hw[1] * scale + 0.5))


def _bilinear(source: int, target: int) -> csr_array:
    """Bilinear resize of one axis as a (target, source) float64 matrix of two cells a row.

    Half-pixel centres, edge values repeated, no antialiasing, positions in float32: as
    `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.
    """
    step = np.float64(np.float32(source) / np.float32(target))
    # Rounded once, like the fused multiply-add of torch's kernels: logits differ by 1e-4 otherwise.
    centre = (step * (np.arange(target) + 0.5) - 0.5).astype(np.float32)
    centre = np.maximum(centre, np.float32(0))
    low = np.minimum(centre.astype(np.int64), source - 1)
    high = np.minimum(low + 1, source - 1)
    upper = (centre - low.astype(np.float32)).clip(0, 1).astype(np.float64)
    places = np.tile(np.arange(target), 2), np.concatenate([low, high])
    values = np.concatenate([1 - upper, upper])
    return coo_array((values, places), shape=(target, source)).tocsr()


@dataclass(frozen=True)
class Axis:
    """From the network's mask grid to the pixels of a crop, along one axis.

    Attributes:
        weights: (pixels, cells) float32.
        first: (pixels,) int64, the first cell with weight in a row.
        last: (pixels,) int64, one past the last cell with weight in a row.
    """

    weights: NDArray[np.float32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def cells(self, start: int, stop: int) -> tuple[int, int]:
        """The cells that the pixels start to stop need, half open."""
        # Neither of the two falls from one pixel to the next.
        return int(self.first[start]), int(self.last[stop - 1])


@lru_cache(maxsize=16)
def composed_axis(cells: int, frame_px: int, valid_px: int, pixels: int) -> Axis:
    """SAM's post-processing of one axis: grid to frame, crop of the padding, frame to pixels.

    Args:
        cells: length of the network's mask grid.
        frame_px: side of the network's square input.
        valid_px: how many of the frame's pixels the crop fills.
        pixels: length of the crop, px.

    Source: `segment_anything.modeling.Sam.postprocess_masks`.
    """
    up = _bilinear(cells, frame_px)[:valid_px]
    weights = (_bilinear(valid_px, pixels) @ up).astype(np.float32).toarray()
    used = weights != 0
    last = cells - np.argmax(used[:, ::-1], axis=1)
    return Axis(weights, np.argmax(used, axis=1), last)


@dataclass(frozen=True)
class Frame:
    """How a crop of an image lies in a network's square input and in its mask grid.

    Attributes:
        size_hw: height and width of the crop, px.
        frame_px: side of the network's input, px.
        cells: side of the network's mask grid.
    """

    size_hw: tuple[int, int]
    frame_px: int
    cells: int

    @property
    def valid_hw(self) -> tuple[int, int]:
        """The part of the input that the crop fills, px; the rest is padding."""
        return fitted_size(self.size_hw, self.frame_px)

    def to_frame(self, points_xy: FloatArray) -> FloatArray:
        """Points (..., 2) of the crop in the input's pixels; pixel centres are integers in both."""
        factor = np.array([self.valid_hw[1] / self.size_hw[1], self.valid_hw[0] / self.size_hw[0]])
        return np.asarray((np.asarray(points_xy) + 0.5) * factor - 0.5)

    def to_cells(self, points_xy: FloatArray) -> FloatArray:
        """Points (..., 2) of the crop in cells of the mask grid; cell centres are integers."""
        return (self.to_frame(points_xy) + 0.5) * (self.cells / self.frame_px) - 0.5

    def from_cells(self, cells_xy: FloatArray) -> FloatArray:
        """Points (..., 2) of the mask grid in pixels of the crop; the inverse of `to_cells`."""
        factor = np.array([self.valid_hw[1] / self.size_hw[1], self.valid_hw[0] / self.size_hw[0]])
        return np.asarray((cells_xy + 0.5) * (self.frame_px / self.cells) / factor - 0.5)

    def cells_per_px(self) -> float:
        """Cells of the mask grid per pixel of the crop, along its longer side."""
        return max(self.valid_hw) / max(self.size_hw) * self.cells / self.frame_px

    def axes(self) -> tuple[Axis, Axis]:
        """From the mask grid to the crop's pixels, down and across."""
        down, across = (
            composed_axis(self.cells, self.frame_px, valid, pixels)
            for valid, pixels in zip(self.valid_hw, self.size_hw, strict=True)
        )
        return down, across

    def window_logits(
        self,
        logits: NDArray[np.float32],
        window_xyxy: tuple[int, int, int, int],
        corner: tuple[int, int] = (0, 0),
    ) -> NDArray[np.float32]:
        """Upsample logits to a window of the crop, (h, w) float32.

        Equal to that window of `Sam.postprocess_masks`, up to rounding.

        Args:
            logits: (r, c) of the mask grid, at least the cells that the window needs.
            window_xyxy: px of the crop, half open.
            corner: column and row of the grid at which they begin.

        Raises:
            ValueError: cells that the window needs are missing.
        """
        x0, y0, x1, y1 = window_xyxy
        if x0 >= x1 or y0 >= y1:
            return np.zeros((max(0, y1 - y0), max(0, x1 - x0)), dtype=np.float32)
        down, across = self.axes()
        (top, bottom), (left, right) = down.cells(y0, y1), across.cells(x0, x1)
        needed = logits[max(0, top - corner[1]) : bottom - corner[1],
                        max(0, left - corner[0]) : right - corner[0]]  # fmt: skip
        corners = np.array([[max(left, corner[0]), max(top, corner[1])]])
        sizes = np.array([needed.shape[::-1]])
        (rows,), (columns,) = upsampling([(down, across)], sizes, np.array([window_xyxy]), corners)
        return np.asarray(rows @ needed @ columns.T)


def upsampling(
    axes: Sequence[tuple[Axis, Axis]], sizes: IntArray, windows_xyxy: IntArray, corners: IntArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Matrices that upsample logits to windows of their crops, as `Frame.window_logits` does.

    Args:
        axes: of the frames of n crops.
        sizes: (n, 2) int64, how many columns and rows of the mask grids there are logits of.
        windows_xyxy: (n, 4) int64 px of the crops, half open, each with pixels.
        corners: (n, 2) int64, columns and rows of the grids at which the logits begin.

    Returns:
        (n, h, r) and (n, w, c) float32, `down` and `across`, with the sides of the largest windows
        and sizes: `down @ logits @ across.T` of (r, c) logits is (h, w), of no meaning beyond a
        window; logits beyond a size count for nothing.

    Raises:
        ValueError: cells that a window needs are missing.
    """
    sides = (windows_xyxy[:, 2:] - windows_xyxy[:, :2]).max(axis=0)
    across, down = (
        np.zeros((len(sizes), side, length), dtype=np.float32)
        for side, length in zip(sides.tolist(), sizes.max(axis=0).tolist(), strict=True)
    )
    places = zip(axes, *(a.tolist() for a in (sizes, windows_xyxy, corners)), strict=True)
    for index, ((of_rows, of_columns), size, (x0, y0, x1, y1), corner) in enumerate(places):
        for weights, axis, start, stop, first, length in (
            (across, of_columns, x0, x1, corner[0], size[0]),
            (down, of_rows, y0, y1, corner[1], size[1]),
        ):
            low, high = axis.cells(start, stop)
            if low < first or high > first + length:
                raise ValueError(f"logits {size} from {corner} do not hold {(x0, y0, x1, y1)}")
            part = axis.weights[start:stop, first : first + length]
            weights[index, : part.shape[0], : part.shape[1]] = part
    return down, across
