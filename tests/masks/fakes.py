"""Engines that need no network: what they answer depends on the prompt and the crop alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpmo_cli.geometry.resize import Frame
from dpmo_cli.sam.calibration import Calibration
from dpmo_cli.sam.engine import Answer, Encoded


class FakeEngine:
    """A prompt engine whose candidates are drawn round the prompt, by cells of its mask grid.

    It notes the sizes of the crops it encoded, how many at a time, and the prompts it was asked,
    in px of the crop.
    """

    frame_px = 256
    cells = 64
    extents: tuple[str, ...] = ()
    calibration: Calibration | None = None

    def __init__(self, chunk: int = 4) -> None:
        self.chunk = chunk
        self.crops: list[tuple[int, int]] = []
        self.batches: list[int] = []
        self.asked: list[NDArray[np.float64]] = []

    def encode(self, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        assert all(crop.size for crop in crops)
        self.batches.append(len(crops))
        self.crops += [(crop.shape[0], crop.shape[1]) for crop in crops]
        return [
            Encoded(
                torch.full((1, 2, 4, 4), float(zlib.crc32(crop.tobytes()) % 2**16)),
                Frame((crop.shape[0], crop.shape[1]), self.frame_px, self.cells),
            )
            for crop in crops
        ]

    def prompt(
        self,
        encoded: Encoded,
        points_xy: NDArray[np.float64],
        labels: NDArray[np.int64],
        extent: str | None = None,
        squares: NDArray[np.float64] | None = None,
    ) -> Iterator[Answer]:
        assert (labels[:, 0] == 1).all()
        assert np.isin(labels, (-1, 0, 1)).all()
        self.asked.append(points_xy[:, 0])
        cells_xy = encoded.frame.to_cells(points_xy[:, 0])
        for start in range(0, len(cells_xy), self.chunk):
            chunk = np.arange(start, min(start + self.chunk, len(cells_xy)))
            scores = torch.tensor([[0.7, 0.8, 0.9]] * len(chunk))
            corners = np.zeros((len(chunk), 2), dtype=np.int64)
            side = self.cells
            if squares is not None:
                low, high = (np.clip(np.floor(squares[chunk, :2] + way * squares[chunk, 2:]),
                                     0, self.cells - 1) for way in (-1, 1))  # fmt: skip
                side = int((high - low).max()) + 1
                corners = np.minimum(low, self.cells - side).astype(np.int64)
            logits = [
                self.candidates(encoded, xy)[:, row : row + side, column : column + side]
                for xy, (column, row) in zip(cells_xy[chunk], corners.tolist(), strict=True)
            ]
            yield Answer(chunk, torch.from_numpy(np.stack(logits)).float(), scores, corners)

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits of three masks, (3, cells, cells)."""
        raise NotImplementedError

    def grid(self, cell_xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        y, x = np.mgrid[: self.cells, : self.cells].astype(np.float64)
        return x - cell_xy[0], y - cell_xy[1]


class DiscEngine(FakeEngine):
    """Discs of three sizes."""

    radii_cells: ClassVar = (4.0, 9.0, 30.0)

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = np.hypot(*self.grid(cell_xy))
        return np.stack([8 * (radius - distance) for radius in self.radii_cells])


class StripeEngine(FakeEngine):
    """Stripes through the whole crop."""

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = self.grid(cell_xy)
        return np.stack([2 * (3 - abs(y)), 2 * (5 - abs(x)), 2 * (8 - abs(x + y))])


class NoiseEngine(FakeEngine):
    """Logits of chance, the same for the same prompt in the same crop."""

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        seed = zlib.crc32(cell_xy.tobytes(), int(encoded.embedding[0, 0, 0, 0]))
        return np.random.default_rng(seed).normal(0.5, 2, (3, self.cells, self.cells))


class NothingEngine(FakeEngine):
    """Finds nothing anywhere."""

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full((3, self.cells, self.cells), -5.0)


class ElsewhereEngine(FakeEngine):
    """Finds the whole crop but the surroundings of the point."""

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = np.hypot(*self.grid(cell_xy))
        return np.stack([2 * (distance - 3)] * 3)


ENGINES: tuple[type[FakeEngine], ...] = (DiscEngine, StripeEngine, NoiseEngine, ElsewhereEngine)


def as_tensor(*masks: NDArray[np.bool_]) -> Tensor:
    """Confident logits of boolean masks, (1, c, h, w)."""
    return torch.from_numpy(np.stack([np.where(mask, 6.0, -6.0) for mask in masks])[None]).float()
