"""Photos and prompts for the tests of the engine, and all its answers at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpmo_cli.sam.engine import Encoded, SamEngine


class Answers(NamedTuple):
    logits: Tensor
    scores: Tensor


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Soft coloured blobs with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), 90.0)
    for _ in range(12):
        centre = rng.uniform(0, 1, 2) * (height, width)
        radius = rng.uniform(3, 20)
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        image[inside] = rng.uniform(0, 255, 3)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def prompts(
    count: int, size_hw: tuple[int, int], negatives: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positive points, the four corners among them, each with points outside the person."""
    height, width = size_hw
    rng = np.random.default_rng(count)
    points = rng.uniform(0, 1, (count, 1 + negatives, 2)) * (width, height)
    corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)])
    points[: min(4, count), 0] = corners[:count]
    labels = np.zeros((count, 1 + negatives), dtype=np.int64)
    labels[:, 0] = 1
    # Every other prompt has fewer points than there is room for.
    labels[::2, 2:] = -1
    return points, labels


def gather(
    engine: SamEngine,
    encoded: Encoded,
    points_xy: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> Answers:
    answers = list(engine.prompt(encoded, points_xy, labels))
    covered = [index for answer in answers for index in answer.chunk.tolist()]
    assert covered == list(range(len(points_xy)))
    assert not any(answer.corners.any() for answer in answers)
    return Answers(
        torch.cat([answer.logits for answer in answers]),
        torch.cat([answer.predicted_ious for answer in answers]),
    )
