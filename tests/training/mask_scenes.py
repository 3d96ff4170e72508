"""Points and label maps to try mask losses on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dpmo_cli.training.mask_regions import Regions, nearest_labels, regions_of


def crowd(people: int, size_hw: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points on distinct pixels, and a label map of discs that go over the middle between them."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    pixels = rng.permutation(height * width)[:people]
    points = torch.tensor(np.stack([pixels % width, pixels // width], axis=1), dtype=torch.float32)
    labels = torch.zeros(size_hw, dtype=torch.int64)
    x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    reach = max(2.0, 0.6 * (height * width / max(1, people)) ** 0.5)
    for number, (px, py) in enumerate(points.tolist(), start=1):
        labels[torch.hypot(x - px, y - py) <= reach] = number
    return points, labels


def regions_of_crowd(
    points: Tensor, labels: Tensor, cell_px: int = 1, weight: Tensor | None = None
) -> Regions:
    size_hw = (labels.shape[0], labels.shape[1])
    return regions_of(
        labels[None],
        cell_px,
        counts=[len(points)],
        nearest=nearest_labels([points], size_hw, cell_px),
        weight=weight,
    )


def row(*labels: int) -> Tensor:
    return torch.tensor([[labels]])


def dense(people: int, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Points on distinct pixels, each with the three pixels beside it, without a loop."""
    rng = np.random.default_rng(0)
    height, width = size_hw
    place = rng.permutation(height * (width // 4))[:people]
    points = np.stack([place % (width // 4) * 4 + 1, place // (width // 4)], axis=1)
    labels = torch.zeros(size_hw, dtype=torch.int64)
    for step in range(-1, 3):
        labels[points[:, 1], points[:, 0] + step] = torch.arange(1, people + 1)
    return torch.from_numpy(points).float(), labels
