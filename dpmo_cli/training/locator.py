"""Training of the localiser: annotated crowds in, safetensors weights and a log out."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.matching import count_matches
from dpmo_cli.rps.locator import Locator, find_peaks, load_locator, locate, logit_map
from dpmo_cli.sam.trunk import copy_weights, imagenet_state
from dpmo_cli.training.checkpoint import (
    Part,
    export_weights,
    load_checkpoint,
    make_folder,
    save_checkpoint,
)
from dpmo_cli.training.crowds import Batch, CropBatches, Crowd, load_crowds
from dpmo_cli.training.loop import CLIP_NORM, Average, make_loader, make_optimiser
from dpmo_cli.training.p2r import p2r_loss

CHECKPOINT_EVERY_S = 60.0
SAY_EVERY = 50
MATCH_RADII_PX = (4, 8)
THRESHOLD_STEP = 0.05
THRESHOLD_STEPS = 12
"""Thresholds of the count are looked for up to this many steps from zero, on both sides."""


@dataclass(frozen=True)
class LocatorTraining:
    """Settings of one training run; a run resumes only with the settings it began with.

    `crop` is the side of a crop in px, a multiple of 32; `trunk` one of `sam.trunk.TRUNKS`.
    """

    datasets: tuple[str, ...] = ("shanghaitech-a", "shanghaitech-b")
    trunk: str = "lite0"
    steps: int = 3000
    batch: int = 8
    crop: int = 256
    rate_trunk: float = 2e-4
    rate_rest: float = 8e-4
    seed: int = 0


def start_model(settings: LocatorTraining, init: Path | None) -> Locator:
    """Build a localiser from earlier weights, or from an ImageNet trunk.

    Raises:
        UsageError: neither is there, or the file holds something else.
    """
    # The head's first weights come from the seed; the caller's own chance stays as it is.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Locator(settings.trunk)
        if init is None:
            copy_weights(model.trunk, settings.trunk, imagenet_state(settings.trunk))
            return model
    before = load_locator(init)
    try:
        model.load_state_dict(before.state_dict())
    except RuntimeError as error:
        raise UsageError(f"--init {init}: has another trunk; give its name as --trunk") from error
    return model


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


def count_threshold(model: Locator, crowds: Sequence[Crowd], *, bf16: bool) -> float:
    """The logit above which cells must count for the best counts on whole images.

    Best is the least sum over the datasets of the absolute errors in parts of the people.
    """
    thresholds = np.arange(-THRESHOLD_STEPS, THRESHOLD_STEPS + 1) * THRESHOLD_STEP
    errors: dict[str, NDArray[np.float64]] = {}
    people: dict[str, int] = {}
    for crowd in crowds:
        logits = logit_map(crowd.image, model, bf16=bf16)
        size_hw = (crowd.image.shape[0], crowd.image.shape[1])
        counts = [len(find_peaks(logits, size_hw, threshold=t)) for t in thresholds.tolist()]
        error = np.abs(np.array(counts, dtype=np.float64) - len(crowd.points_xy))
        errors[crowd.dataset] = errors.get(crowd.dataset, 0) + error
        people[crowd.dataset] = people.get(crowd.dataset, 0) + len(crowd.points_xy)
    total = np.sum([errors[name] / max(1, people[name]) for name in errors], axis=0)
    # Of equal ones the nearest to the training's own, zero.
    best = np.flatnonzero(total == total.min())
    return float(thresholds[best[np.argmin(np.abs(thresholds[best]))]])


def calibrated(model: Locator, crowds: Sequence[Crowd], *, bf16: bool) -> Locator:
    """A copy of a network whose logits are moved so that cells above zero give the best counts.

    The loss alone leaves the counts biased: where a head is doubtful, so is which of its cells.
    """
    copied = copy.deepcopy(model)
    assert copied.logit.bias is not None
    with torch.no_grad():
        copied.logit.bias -= count_threshold(model, crowds, bf16=bf16)
    return copied


def batch_loss(model: Locator, batch: Batch) -> Tensor:
    """P2R loss of a batch, on the network's device; on CUDA the network runs in bfloat16.

    Processors without matrix units take twice as long in bfloat16 as in single precision.
    """
    device = model.logit.weight.device
    frames, owner, cost, weight = (
        part.to(device, non_blocking=True)
        for part in (batch.frames, batch.owner, batch.cost, batch.weight)
    )
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        logits = model(frames)
    return p2r_loss(logits, owner, cost, weight, batch.points)


def train_locator(
    root: Path,
    out: Path,
    settings: LocatorTraining,
    *,
    init: Path | None = None,
    device: str = "cpu",
    workers: int = 0,
    validate_every: int = 1000,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the localiser, resuming from `out/checkpoint.pt` when it is there.

    Args:
        root: folder that holds the datasets.
        out: folder of the run.
        settings: what the run is.
        init: weights to go on from, instead of an ImageNet trunk.
        device: as torch names it.
        workers: processes that make crops; 0 makes them in this one.
        validate_every: steps between validations; the last step has one anyway.
        say: called with lines of progress.

    Returns:
        Path of the averaged weights, `out/locator.safetensors`, in half precision: written at
        each validation, with a line in `out/log.jsonl`.

    Raises:
        UsageError: no data, no trunk weights, a checkpoint of other settings or a damaged one, or
            an `out` that is no folder.
        InputError: an image or an annotation can't be read.
    """
    make_folder(out)
    training, validation = load_crowds(root, settings.datasets, say)
    say(f"{len(training)} images to train on, {len(validation)} to validate")
    model = start_model(settings, init).to(device)
    model.to(memory_format=torch.channels_last)
    average = Average(model)
    model.train()
    optimiser, schedule = make_optimiser(
        model, model.trunk, (settings.rate_trunk, settings.rate_rest), settings.steps
    )
    parts: dict[str, Part] = {
        "model": model,
        "average": average,
        "optimiser": optimiser,
        "schedule": schedule,
    }
    checkpoint, weights = out / "checkpoint.pt", out / "locator.safetensors"
    first = load_checkpoint(checkpoint, asdict(settings), parts, device)
    if first:
        say(f"resuming at step {first}")

    cuda = device.startswith("cuda")
    batches = CropBatches(training, settings.batch, settings.crop, settings.seed)
    loader = make_loader(batches, range(first, settings.steps), workers, pin=cuda)
    started = saved_at = time.monotonic()
    # Sums stay on the device: asking for each loss would make it wait.
    total, summed = torch.zeros((), device=device), 0
    for step, batch in enumerate(loader, start=first):
        loss = batch_loss(model, batch)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()
        schedule.step()
        average.update(step)
        total += loss.detach()
        summed += 1
        done = step + 1
        last = done == settings.steps
        if done % SAY_EVERY == 0 or last:
            pace = (time.monotonic() - started) / (done - first)
            mean = float(total) / summed
            say(f"step {done}/{settings.steps} loss {mean:.5f} {pace:.3f} s/step")
            total.zero_()
            summed = 0
        validating = done % validate_every == 0 or last
        if validating:
            shown = calibrated(average.model, validation, bf16=cuda) if last else average.model
            figures = validate(shown, validation, bf16=cuda)
            say(" ".join(f"{name} {value:.3f}" for name, value in figures.items()))
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps({"step": done, **figures}) + "\n")
            export_weights(shown, weights)
        if validating or time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
            save_checkpoint(checkpoint, done, asdict(settings), parts)
            saved_at = time.monotonic()
    # A finished run whose weights were moved away gives them again.
    if weights.is_file():
        return weights
    return export_weights(calibrated(average.model, validation, bf16=cuda), weights)
