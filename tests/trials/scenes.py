"""Small true scenes for the trials, and engines that are asked about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.geometry.rle import Rle, rle_window
from dpmo_cli.sam.calibration import Calibration
from dpmo_cli.sam.engine import Answer, Encoded
from tests.masks import fakes
from tests.training.worlds import block_scene

Bools = NDArray[np.bool_]

# Two that touch, one that is hidden in part, and one by itself.
BOXES = ((6, 8, 22, 40), (22, 12, 36, 44), (30, 34, 50, 58), (66, 10, 84, 46))
SIZE_HW = (64, 96)


def small_scene(seed: int = 0, *, heads: bool = True, boxes: tuple[tuple[int, ...], ...] = BOXES):
    """Four blocks with a little noise, each seed its own."""
    scene = block_scene(SIZE_HW, boxes, heads=heads)
    rng = np.random.default_rng(seed)
    image = np.clip(scene.image + rng.normal(0, 12, scene.image.shape), 0, 255).astype(np.uint8)
    return replace(scene, name=f"blocks/{seed}", image=image)


def frame(rle: Rle) -> Bools:
    """A mask as all pixels of its image, (H, W)."""
    height, width = rle["size"]
    full = np.zeros((height, width), dtype=np.bool_)
    window, (x0, y0, x1, y1) = rle_window(rle)
    full[y0:y1, x0:x1] = window
    return full


def without_truth(scene: TruthScene) -> TruthScene:
    """What an attempt may look at: the image and the points."""
    return replace(scene, labels=np.zeros_like(scene.labels), heads=None)


@dataclass
class AskedEngine(fakes.DiscEngine):
    """Discs beside the prompt; it notes all points and labels of each prompt, px of the crop."""

    chunk: int = 64
    extents: tuple[str, ...] = ()
    calibration: Calibration | None = None
    away_cells: float = 0.0
    all_asked: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        fakes.FakeEngine.__init__(self, self.chunk)

    def prompt(
        self,
        encoded: Encoded,
        points_xy: NDArray[np.float64],
        labels: NDArray[np.int64],
        extent: str | None = None,
        squares: NDArray[np.float64] | None = None,
    ) -> Iterator[Answer]:
        self.all_asked.append((points_xy.copy(), labels.copy()))
        return super().prompt(encoded, points_xy, labels, extent, squares)

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return super().candidates(encoded, cell_xy + np.array([self.away_cells, 0]))


@dataclass
class RoughEngine(fakes.NoiseEngine):
    """Masks full of holes and spurs, the same for the same prompt."""

    chunk: int = 64
    extents: tuple[str, ...] = ()
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        fakes.FakeEngine.__init__(self, self.chunk)
