"""SAM's two bilinear resizes as one small matrix per axis, exact for any window."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.points import FloatArray


def fitted_size(size_hw: tuple[int, int], frame_px: int) -> tuple[int, int]:
    """Height and width of a crop whose longer side is resized to `frame_px`, at least one px.

    Source: `segment_anything.utils.transforms.ResizeLongestSide.get_preprocess_shape`.
    """
    scale = frame_px / max(size_hw)
    return max(1, int(size_hw[0] * scale + 0.5)), max(1, int(size_hw[1] * scale + 0.5))


def _bilinear(source: int, target: int) -> NDArray[np.float64]:
    """Bilinear resize of one axis as a (target, source) matrix.

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
    matrix = np.zeros((target, source))
    rows = np.arange(target)
    np.add.at(matrix, (rows, low), 1 - upper)
    np.add.at(matrix, (rows, high), upper)
    return matrix


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

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.float32], slice]:
        """Weights of the pixels start to stop, on only the cells that they need."""
        cells = slice(int(self.first[start:stop].min()), int(self.last[start:stop].max()))
        return self.weights[start:stop, cells], cells


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
    weights = (_bilinear(valid_px, pixels) @ up).astype(np.float32)
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
        valid_h, valid_w = self.valid_hw
        vertical = composed_axis(self.cells, self.frame_px, valid_h, self.size_hw[0])
        horizontal = composed_axis(self.cells, self.frame_px, valid_w, self.size_hw[1])
        rows, row_cells = vertical.rows(y0, y1)
        columns, column_cells = horizontal.rows(x0, x1)
        top, left = row_cells.start - corner[1], column_cells.start - corner[0]
        bottom, right = row_cells.stop - corner[1], column_cells.stop - corner[0]
        if min(top, left) < 0 or bottom > logits.shape[0] or right > logits.shape[1]:
            raise ValueError(f"logits of {logits.shape} from {corner} do not hold {window_xyxy}")
        window = rows @ logits[top:bottom, left:right] @ columns.T
        return np.asarray(window, dtype=np.float32)
