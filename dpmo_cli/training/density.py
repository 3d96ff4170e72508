"""A second model that counts: a small network whose density map's sum is the count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dpmo_cli.rps.locator import logit_map
from dpmo_cli.sam.trunk import build_trunk, channels_of
from dpmo_cli.training.counter import LIKELIHOOD, CounterTraining, Task, weighted_terms
from dpmo_cli.training.crowd_masks import gaussian_parts
from dpmo_cli.training.crowds import Crop, Crowd, stack_regions
from dpmo_cli.training.mask_losses import poisson_deviance
from dpmo_cli.training.mask_regions import Regions

STRIDE = 8
WIDTH = 128
SIGMA_PX = 8.0
"""Of the Gaussian round each point that the map is to show, px of the crop."""
FIRST_BIAS = -3.0
"""Few people stand in a cell: an untrained network should say so."""
MASK_WEIGHT = 0.1
"""Of each mask term beside the squared error, both per person: their gradients are alike."""
FACTORS = 1 + 0.05 * np.arange(-10, 11)
"""What counts may be multiplied with to see what is bias alone."""


class DensityNetwork(nn.Module):
    """Trunk at strides 8 to 32, summed at 8; the map is positive.

    Args:
        trunk: one of `sam.trunk.TRUNKS`.
    """

    def __init__(self, trunk: str = "lite0") -> None:
        super().__init__()
        self.trunk = build_trunk(trunk, (2, 3, 4))
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH))
            for channels in channels_of(self.trunk)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
        )
        self.density = nn.Conv2d(WIDTH, 1, 1)
        assert self.density.bias is not None
        nn.init.constant_(self.density.bias, FIRST_BIAS)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B, H, W, 3) uint8 RGB, H and W multiples of 32, to (B, H/8, W/8) float32 people."""
        # The trunk was trained on values from -1 to 1.
        images = (frames.permute(0, 3, 1, 2).float() - 127.5) / 127.5
        levels = [
            lateral(features)
            for lateral, features in zip(self.lateral, self.trunk(images), strict=True)
        ]
        total = levels[0]
        for level in levels[1:]:
            total = total + functional.interpolate(
                level, size=total.shape[-2:], mode="bilinear", align_corners=False
            )
        # Softplus has a gradient where ReLU has none: where a person is missed.
        people: Tensor = functional.softplus(self.density(self.head(total))[:, 0].float())
        return people


class DensityBatch(NamedTuple):
    """One step's crops and what the map should be.

    Attributes:
        frames: (B, C, C, 3) uint8 RGB.
        target: (B, C/8, C/8) float32 people; each point is one.
        valid: (B, C/8, C/8) float32, 1 where the middle of the cell lies in the image.
        points: number of points in the batch.
        regions: whose the cells are; None without masks.
    """

    frames: Tensor
    target: Tensor
    valid: Tensor
    points: int
    regions: Regions | None


def density_batch(crops: Sequence[Crop]) -> DensityBatch:
    """Prepare a step."""
    cells = crops[0].frame.shape[0] // STRIDE
    middle = (np.arange(cells) + 0.5) * STRIDE
    target = np.zeros((len(crops), cells * cells))
    valid = np.zeros((len(crops), cells, cells), dtype=np.float32)
    for crop, of_crop, inside in zip(crops, target, valid, strict=True):
        sigma = np.full(len(crop.points_xy), SIGMA_PX)
        cell, point, value = gaussian_parts(crop.points_xy, sigma, (cells, cells), STRIDE)
        # What would fall outside the crop is given to the inside.
        whole = np.bincount(point, value, minlength=len(sigma))
        np.add.at(of_crop, cell, value / whole[point])
        inside[:] = (middle < crop.valid_hw[0])[:, None] & (middle < crop.valid_hw[1])
    return DensityBatch(
        torch.from_numpy(np.stack([crop.frame for crop in crops])),
        torch.from_numpy(target.reshape(valid.shape).astype(np.float32)),
        torch.from_numpy(valid),
        sum(len(crop.points_xy) for crop in crops),
        stack_regions(crops, STRIDE),
    )


def batch_loss(model: DensityNetwork, batch: DensityBatch, settings: CounterTraining) -> Tensor:
    """Squared error of the map, per person, and the mask terms; on CUDA in bfloat16."""
    device = model.density.weight.device
    frames, target, valid = (
        part.to(device, non_blocking=True) for part in (batch.frames, batch.target, batch.valid)
    )
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        density = model(frames)
    loss: Tensor = ((density - target) ** 2 * valid).sum() / max(1, batch.points)
    if batch.regions is None or not settings.mask_losses:
        return loss
    regions = batch.regions.to(device)
    terms = weighted_terms(density, regions, settings.mask_losses)
    if LIKELIHOOD in settings.mask_losses:
        terms = terms + poisson_deviance(density, regions)
    factor = MASK_WEIGHT if settings.mask_weight is None else settings.mask_weight
    total: Tensor = loss + factor * terms
    return total


def count_people(model: DensityNetwork, crowd: Crowd, *, bf16: bool) -> float:
    """The sum of the map of a whole image."""
    density = logit_map(crowd.image, model, stride=STRIDE, bf16=bf16)
    return float(density.sum(dtype=np.float64))


def validate(model: DensityNetwork, crowds: Sequence[Crowd], bf16: bool) -> dict[str, float]:
    """For each dataset `mae` and `rmse` of the counts over its images."""
    figures: dict[str, float] = {}
    errors = np.array([count_people(model, one, bf16=bf16) - len(one.points_xy) for one in crowds])
    datasets = np.array([crowd.dataset for crowd in crowds])
    for dataset in sorted(set(datasets.tolist())):
        figures[f"{dataset}/mae"] = float(np.abs(errors[datasets == dataset]).mean())
        figures[f"{dataset}/rmse"] = float(np.sqrt(np.square(errors[datasets == dataset]).mean()))
    return figures


def measure(model: DensityNetwork, crowd: Crowd, bf16: bool) -> dict[str, object]:
    """`counts` of a whole image, the sum of its map times each of FACTORS."""
    return {"counts": (FACTORS * count_people(model, crowd, bf16=bf16)).tolist()}


def _as_it_is(model: DensityNetwork, crowds: Sequence[Crowd], bf16: bool) -> DensityNetwork:
    return model


DENSITY: Task[DensityNetwork, DensityBatch] = Task(
    "density",
    DensityNetwork,
    density_batch,
    batch_loss,
    validate,
    _as_it_is,
    measure,
    tuple(FACTORS.tolist()),
    len(FACTORS) // 2,
)
