"""The localiser as a task of training: P2R's loss, masks beside it, and how well it counts."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpmo_cli.evaluation.matching import count_matches
from dpmo_cli.rps.locator import Locator, find_peaks, locate, logit_map
from dpmo_cli.training.counter import LIKELIHOOD, CounterTraining, Task, weighted_terms
from dpmo_cli.training.crowds import Batch, Crowd, locator_batch
from dpmo_cli.training.mask_losses import likelihood, mass_of_logits
from dpmo_cli.training.p2r import POSITIVE_WEIGHT, p2r_loss

MATCH_RADII_PX = (4, 8)
THRESHOLD_STEP = 0.05
THRESHOLD_STEPS = 12
"""Thresholds of the count are looked for up to this many steps from zero, on both sides."""
THRESHOLDS = np.arange(-THRESHOLD_STEPS, THRESHOLD_STEPS + 1) * THRESHOLD_STEP
MASK_WEIGHT = 1.0
"""Of each mask term beside P2R's loss, both in people per cell: their gradients are alike."""


def validate(model: Locator, crowds: Sequence[Crowd], *, bf16: bool) -> dict[str, float]:
    """Count and find the people of whole images.

    Returns:
        For each dataset: `mae` and `rmse` of the counts over its images, and `f1@4` and `f1@8`,
        the F1 of a maximum matching within 4 and 8 px over all its people.
    """
    figures: dict[str, float] = {}
    for dataset in sorted({crowd.dataset for crowd in crowds}):
        errors: list[int] = []
        people = 0
        matched = dict.fromkeys(MATCH_RADII_PX, 0)
        for crowd in crowds:
            if crowd.dataset != dataset:
                continue
            found = locate(crowd.image, model, bf16=bf16)
            errors.append(len(found) - len(crowd.points_xy))
            people += len(found) + len(crowd.points_xy)
            for radius in MATCH_RADII_PX:
                matched[radius] += count_matches(found.points_xy, crowd.points_xy, radius)
        figures[f"{dataset}/mae"] = float(np.abs(errors).mean())
        figures[f"{dataset}/rmse"] = float(np.sqrt(np.square(errors).mean()))
        for radius in MATCH_RADII_PX:
            figures[f"{dataset}/f1@{radius}"] = 2 * matched[radius] / max(1, people)
    return figures


def _counts(logits: NDArray[np.float32], size_hw: tuple[int, int]) -> list[int]:
    return [len(find_peaks(logits, size_hw, threshold=t)) for t in THRESHOLDS.tolist()]


def measure(model: Locator, crowd: Crowd, bf16: bool) -> dict[str, object]:
    """What is found in a whole image.

    Returns:
        `counts` at each of THRESHOLDS, and `matched_4` and `matched_8`, the pairs of a maximum
        matching of the points at threshold zero within 4 and 8 px.
    """
    logits = logit_map(crowd.image, model, bf16=bf16)
    size_hw = (crowd.image.shape[0], crowd.image.shape[1])
    found = find_peaks(logits, size_hw)
    return {
        "counts": _counts(logits, size_hw),
        **{
            f"matched_{radius}": int(count_matches(found.points_xy, crowd.points_xy, radius))
            for radius in MATCH_RADII_PX
        },
    }


def count_threshold(model: Locator, crowds: Sequence[Crowd], *, bf16: bool) -> float:
    """The logit above which cells must count for the best counts on whole images.

    Best is the least sum over the datasets of the absolute errors in parts of the people.
    """
    counts = np.array(
        [
            _counts(
                logit_map(one.image, model, bf16=bf16), (one.image.shape[0], one.image.shape[1])
            )
            for one in crowds
        ]
    )
    true = np.array([len(crowd.points_xy) for crowd in crowds], dtype=np.int64)
    errors = np.abs(counts - true[:, None])
    datasets = np.array([crowd.dataset for crowd in crowds])
    parts = [
        errors[datasets == name].sum(axis=0) / max(1, true[datasets == name].sum())
        for name in sorted(set(datasets.tolist()))
    ]
    total = np.sum(parts, axis=0)
    # Of equal ones the nearest to the training's own, zero.
    best = np.flatnonzero(total == np.min(total))
    return float(THRESHOLDS[best[np.argmin(np.abs(THRESHOLDS[best]))]])


def calibrated(model: Locator, crowds: Sequence[Crowd], *, bf16: bool) -> Locator:
    """A copy of a network whose logits are moved so that cells above zero give the best counts.

    The loss alone leaves the counts biased: where a head is doubtful, so is which of its cells.
    """
    copied = copy.deepcopy(model)
    assert copied.logit.bias is not None
    with torch.no_grad():
        copied.logit.bias -= count_threshold(model, crowds, bf16=bf16)
    return copied


def batch_loss(model: Locator, batch: Batch, settings: CounterTraining) -> Tensor:
    """P2R loss of a batch and its mask terms, on the network's device; on CUDA in bfloat16.

    Processors without matrix units take twice as long in bfloat16 as in single precision.
    """
    device = model.logit.weight.device
    frames, owner, cost, weight = (
        part.to(device, non_blocking=True)
        for part in (batch.frames, batch.owner, batch.cost, batch.weight)
    )
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        logits = model(frames)
    loss = p2r_loss(logits, owner, cost, weight, batch.points)
    if batch.regions is None or not settings.mask_losses:
        return loss
    regions = batch.regions.to(device, non_blocking=True)
    # P2R's weight of people is in its logits: as they are, they tell half as many people too many.
    mass = mass_of_logits(logits, POSITIVE_WEIGHT)
    terms = weighted_terms(mass, regions, settings.mask_losses)
    if LIKELIHOOD in settings.mask_losses:
        terms = terms + likelihood(logits - math.log(POSITIVE_WEIGHT), regions)
    # As P2R's loss is, in parts of the cells: a crowd of more people weighs more.
    share = len(regions.people) / logits.numel()
    factor = MASK_WEIGHT if settings.mask_weight is None else settings.mask_weight
    total: Tensor = loss + factor * share * terms
    return total


def _validate(model: Locator, crowds: Sequence[Crowd], bf16: bool) -> dict[str, float]:
    return validate(model, crowds, bf16=bf16)


def _finish(model: Locator, crowds: Sequence[Crowd], bf16: bool) -> Locator:
    return calibrated(model, crowds, bf16=bf16)


LOCATOR: Task[Locator, Batch] = Task(
    "locator",
    Locator,
    locator_batch,
    batch_loss,
    _validate,
    _finish,
    measure,
    tuple(THRESHOLDS.tolist()),
    THRESHOLD_STEPS,
)
