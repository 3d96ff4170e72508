"""Training of a network that counts: annotated crowds in, safetensors weights and a log out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.trial_files import VERSION
from dpmo_cli.sam.checkpoint import load_state_dict
from dpmo_cli.sam.trunk import copy_weights, imagenet_state
from dpmo_cli.training.checkpoint import (
    Part,
    export_weights,
    load_checkpoint,
    make_folder,
    save_checkpoint,
)
from dpmo_cli.training.crowd_masks import MASK
from dpmo_cli.training.crowds import Crop, CropBatches, Crowd
from dpmo_cli.training.loop import CLIP_NORM, Average, make_loader, make_optimiser
from dpmo_cli.training.mask_losses import MaskTerms, mask_terms
from dpmo_cli.training.mask_regions import Regions

CHECKPOINT_EVERY_S = 60.0
SAY_EVERY = 50
ALL = "all"
NONE = "none"
TERMS = MaskTerms._fields
LIKELIHOOD = "likelihood"
MASK_LOSSES = (*TERMS, LIKELIHOOD, ALL, NONE)
"""`all` are the three terms, of which the likelihood is another form."""


@dataclass(frozen=True)
class CounterTraining:
    """Settings of one training run; a run resumes only with the settings it began with.

    Attributes:
        datasets: what to train on.
        trunk: one of `sam.trunk.TRUNKS`.
        steps: in all.
        batch: crops of a step.
        crop: side of a crop in px, a multiple of 32.
        rate_trunk, rate_rest: learning rates.
        seed: of all chance.
        mask_losses: of TERMS and LIKELIHOOD, those that are added to the model's own loss.
        mask_weight: of each of them; None for what suits the model.
        mask_shape: one of `crowd_masks.SHAPES`.
        masks: for each converted folder that is trained on, what its masks are, hashed.
        init: SHA-256 of the weights that it goes on from; None for an ImageNet trunk.
    """

    datasets: tuple[str, ...] = ("shanghaitech-a", "shanghaitech-b")
    trunk: str = "lite0"
    steps: int = 3000
    batch: int = 8
    crop: int = 256
    rate_trunk: float = 2e-4
    rate_rest: float = 8e-4
    seed: int = 0
    mask_losses: tuple[str, ...] = ()
    mask_weight: float | None = None
    mask_shape: str = MASK
    masks: tuple[str, ...] = ()
    init: str | None = None


Network = TypeVar("Network", bound=nn.Module)
StepBatch = TypeVar("StepBatch")


@dataclass(frozen=True)
class Task(Generic[Network, StepBatch]):
    """What of a training depends on the model, which has a `trunk`.

    Attributes:
        name: of the model, and of the file of its weights.
        build: a new network of one of `sam.trunk.TRUNKS`, without trained weights.
        prepare: makes a batch of crops.
        loss: of a batch; a scalar.
        validate: figures of whole images by name; bfloat16 where the last argument says so.
        finish: the averaged network made ready for use by whole images.
        measure: what is found in one image: `counts`, one for each of `levels`, and figures.
        levels: at which people are counted: thresholds, or factors on the sum.
        plain_level: the position of that which the loss itself means.
    """

    name: str
    build: Callable[[str], Network]
    prepare: Callable[[Sequence[Crop]], StepBatch]
    loss: Callable[[Network, StepBatch, CounterTraining], Tensor]
    validate: Callable[[Network, Sequence[Crowd], bool], dict[str, float]]
    finish: Callable[[Network, Sequence[Crowd], bool], Network]
    measure: Callable[[Network, Crowd, bool], Mapping[str, object]]
    levels: tuple[float, ...]
    plain_level: int


def weighted_terms(mass: Tensor, regions: Regions, names: Sequence[str]) -> Tensor:
    """Sum of the mask terms of these names, in people per person; nothing of none."""
    terms = mask_terms(mass, regions)._asdict()
    return sum((terms[name] for name in names if name in terms), mass.new_zeros(()))


class _Tally:
    """The mean loss since it was last told, and the pace of a run that goes on at step `first`."""

    def __init__(self, first: int, device: str) -> None:
        self._first, self._started = first, time.monotonic()
        # Sums stay on the device: asking for each loss would make it wait.
        self._total, self._summed = torch.zeros((), device=device), 0

    def add(self, loss: Tensor) -> None:
        """A step's."""
        self._total += loss.detach()
        self._summed += 1

    @property
    def mean(self) -> float:
        """Of the steps since the last line."""
        return float(self._total) / self._summed

    def line(self, done: int, steps: int) -> str:
        """Tell, and begin anew."""
        pace = (time.monotonic() - self._started) / (done - self._first)
        line = f"step {done}/{steps} loss {self.mean:.5f} {pace:.3f} s/step"
        self._total.zero_()
        self._summed = 0
        return line


def _record(figures: Mapping[str, float], out: Path, step: int, say: Callable[[str], None]) -> None:
    """Tell the figures of a validation, and add them to the log."""
    if figures:
        say(" ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": step, **figures}) + "\n")


def _check_finite(loss: float, out: Path, step: int) -> None:
    """Refuse to go on where nothing can be learnt any more."""
    if not math.isfinite(loss):
        raise UsageError(
            f"{out}: the loss is not finite at step {step}; "
            "use another --out with a smaller --rate or --mask-weight"
        )


def start_model(
    task: Task[Network, StepBatch], settings: CounterTraining, init: Path | None
) -> Network:
    """Build a network from earlier weights, or from an ImageNet trunk.

    Raises:
        UsageError: neither is there, or the file holds something else.
    """
    # The head's first weights come from the seed; the caller's own chance stays as it is.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = task.build(settings.trunk)
    if init is None:
        copy_weights(trunk_of(model), settings.trunk, imagenet_state(settings.trunk))
        return model
    try:
        model.load_state_dict(load_state_dict(init))
    except RuntimeError as error:
        raise UsageError(
            f"--init {init}: has another trunk, or is of another model; give its name as --trunk"
        ) from error
    return model


def trunk_of(model: nn.Module) -> nn.Module:
    """The part of a network that comes from ImageNet."""
    return model.get_submodule("trunk")


def train_counter(
    task: Task[Network, StepBatch],
    crowds: tuple[Sequence[Crowd], Sequence[Crowd]],
    out: Path,
    settings: CounterTraining,
    *,
    init: Path | None = None,
    device: str = "cpu",
    workers: int = 0,
    validate_every: int = 1000,
    say: Callable[[str], None] = print,
) -> Path:
    """Train a network, resuming from `out/checkpoint.pt` when it is there.

    Args:
        task: the model.
        crowds: to train on, and to validate.
        out: folder of the run.
        settings: what the run is.
        init: weights to go on from, instead of an ImageNet trunk.
        device: as torch names it.
        workers: processes that make crops; 0 makes them in this one.
        validate_every: steps between validations; the last step has one anyway.
        say: called with lines of progress.

    Returns:
        Path of the averaged weights, in half precision: written at each validation, with a line
        in `out/log.jsonl`.

    Raises:
        UsageError: no trunk weights, a checkpoint of other settings or a damaged one, an `out`
            that is no folder, or a loss that is not finite.
    """
    make_folder(out)
    training, validation = crowds
    say(f"{len(training)} images to train on, {len(validation)} to validate")
    model = start_model(task, settings, init).to(device)
    model.to(memory_format=torch.channels_last)
    average = Average(model)
    model.train()
    optimiser, schedule = make_optimiser(
        model, trunk_of(model), (settings.rate_trunk, settings.rate_rest), settings.steps
    )
    parts: dict[str, Part] = {
        "model": model,
        "average": average,
        "optimiser": optimiser,
        "schedule": schedule,
    }
    checkpoint, weights = out / "checkpoint.pt", out / f"{task.name}.safetensors"
    about = {"model": task.name, **asdict(settings)}
    if settings.mask_losses:
        about["formulas"] = VERSION
    first = load_checkpoint(checkpoint, about, parts, device)
    if first:
        say(f"resuming at step {first}")

    cuda = device.startswith("cuda")
    batches = CropBatches(training, settings.batch, settings.crop, settings.seed, task.prepare)
    loader = make_loader(batches, range(first, settings.steps), workers, pin=cuda)
    tally, saved_at = _Tally(first, device), time.monotonic()
    for step, batch in enumerate(loader, start=first):
        loss = task.loss(model, batch, settings)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()
        schedule.step()
        average.update(step)
        tally.add(loss)
        done = step + 1
        last = done == settings.steps
        saying = done % SAY_EVERY == 0 or last
        validating = done % validate_every == 0 or last
        saving = validating or time.monotonic() - saved_at > CHECKPOINT_EVERY_S
        if saying or saving:
            # An endless gradient of this step shows in no loss yet.
            _check_finite(tally.mean + float(norm), out, done)
        if saying:
            say(tally.line(done, settings.steps))
        if validating:
            shown = task.finish(average.model, validation, cuda) if last else average.model
            _record(task.validate(shown, validation, cuda), out, done, say)
            export_weights(shown, weights)
        if saving:
            save_checkpoint(checkpoint, done, about, parts)
            saved_at = time.monotonic()
    # A finished run whose weights were moved away gives them again.
    if weights.is_file():
        return weights
    return export_weights(task.finish(average.model, validation, cuda), weights)
