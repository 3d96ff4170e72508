"""Training of nano: scenes with exact masks in, safetensors weights and a log out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.truth_sets import RECIPES
from dpmo_cli.geometry.extents import EXTENTS
from dpmo_cli.sam.checkpoint import load_state_dict
from dpmo_cli.sam.decoder import CANDIDATES, SINGLE, decode
from dpmo_cli.sam.nano import TRUNK, build_nano, load_trunk
from dpmo_cli.sam.trunk import imagenet_state
from dpmo_cli.training.checkpoint import (
    Part,
    export_weights,
    load_checkpoint,
    make_folder,
    save_checkpoint,
)
from dpmo_cli.training.crops import Crop
from dpmo_cli.training.loop import CLIP_NORM, Average, make_loader, make_optimiser
from dpmo_cli.training.losses import MaskLosses, mask_losses
from dpmo_cli.training.scenes import (
    CORRECTIONS,
    UNJUDGED,
    Batch,
    CropBatches,
    Material,
    collate,
    load_material,
    validation_crops,
)

CHECKPOINT_EVERY_S = 120.0
SAY_EVERY = 25
VALIDATION_CROPS = 32
"""Crops of each source: with eight prompts each, 256 masks, the same every time."""
VALIDATION_NEGATIVES = 2
VALIDATION_BATCH = 8


@dataclass(frozen=True)
class NanoTraining:
    """Settings of one training run; a run resumes only with the settings it began with."""

    steps: int = 1500
    crops: int = 4
    prompts: int = 8
    rate_trunk: float = 4e-4
    rate_rest: float = 8e-4
    seed: int = 0


def start_model(init: Path | None, seed: int) -> Sam:
    """Build nano from earlier weights, or from an ImageNet trunk.

    Raises:
        UsageError: neither is there, or the file holds something else.
    """
    # The first weights come from the seed; the caller's own chance stays as it is.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_nano()
        if init is None:
            load_trunk(model, imagenet_state(TRUNK))
            return model
    try:
        model.load_state_dict(load_state_dict(init))
    except RuntimeError as error:
        raise UsageError(f"--init {init}: does not hold nano's weights") from error
    return model


def answer(model: Sam, batch: Batch, *, bf16: bool) -> tuple[Tensor, Tensor]:
    """Logits (B * P, 4, F/2, F/2) and predicted IoUs (B * P, 4) of a batch on the model's device.

    The same path as a run's, for prompts of many crops at once.
    """
    device = model.pixel_mean.device
    frames = batch.images.permute(0, 3, 1, 2).float()
    inputs = (frames - model.pixel_mean) / model.pixel_std
    # Padding is zero after normalisation, as in `Sam.preprocess`.
    height, width = frames.shape[-2:]
    rows = torch.arange(height, device=device)[None, :, None] < batch.valid_hw[:, :1, None]
    columns = torch.arange(width, device=device)[None, None] < batch.valid_hw[:, 1:, None]
    inputs = (inputs * (rows & columns)[:, None]).contiguous(memory_format=torch.channels_last)
    points, labels = batch.points_xy.flatten(0, 1), batch.labels.flatten(0, 1)
    sparse, dense = model.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    precision: AbstractContextManager[object] = nullcontext()
    if bf16:
        precision = torch.autocast(device.type, dtype=torch.bfloat16)
    with precision:
        embeddings = model.image_encoder(inputs)
        logits, scores = decode(
            model.mask_decoder,
            embeddings.repeat_interleave(batch.points_xy.shape[1], dim=0),
            model.prompt_encoder.get_dense_pe(),
            sparse,
            dense,
            (SINGLE, *CANDIDATES),
        )
    return logits, scores


def losses_of(model: Sam, batch: Batch, *, bf16: bool) -> MaskLosses:
    """Losses of a batch on the model's device."""
    logits, scores = answer(model, batch, bf16=bf16)
    visible, head, disc = (
        part.flatten(0, 1).float() / 255 for part in (batch.visible, batch.head, batch.disc)
    )
    known = batch.known.repeat_interleave(batch.points_xy.shape[1], dim=0)
    return mask_losses(logits, scores, visible, head, disc, known)


def _on(batch: Batch, device: str) -> Batch:
    return Batch(*(part.to(device, non_blocking=True) for part in batch))


def validate(model: Sam, material: Material, settings: NanoTraining) -> dict[str, float]:
    """Mean IoU of each extent on fixed validation crops of each source.

    Returns:
        `name/extent` without neighbours in the prompts, and for crowds and corrections, where
        neighbours stand close, also `name/extent-2` with two of them; only extents that a source
        knows.
    """
    figures: dict[str, float] = {}
    for name, scenes in material.scenes.items():
        if not scenes:
            continue
        for given in (
            (0, VALIDATION_NEGATIVES) if name in (*RECIPES, CORRECTIONS, UNJUDGED) else (0,)
        ):
            crops = validation_crops(
                scenes, VALIDATION_CROPS, settings.prompts, settings.seed, given
            )
            for extent, iou in _mean_ious(model, crops).items():
                figures[f"{name}/{extent}" + (f"-{given}" if given else "")] = iou
    return figures


def _mean_ious(model: Sam, crops: Sequence[Crop]) -> dict[str, float]:
    """Mean IoU of each extent that the crops know."""
    device = str(model.pixel_mean.device)
    parts: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(crops), VALIDATION_BATCH):
            batch = _on(collate(crops[start : start + VALIDATION_BATCH]), device)
            parts.append(losses_of(model, batch, bf16=False).ious[:, 1:])
    ious = torch.cat(parts).cpu()
    known = torch.tensor([crop.known for crop in crops])
    told = known.repeat_interleave(len(ious) // len(crops), dim=0)
    means: dict[str, float] = {}
    for extent, own, of_extent in zip(EXTENTS, ious.T, told.T, strict=True):
        measured = own[of_extent]
        if len(measured):
            means[extent] = float(measured.mean())
    return means


def train_nano(
    data: Path,
    out: Path,
    settings: NanoTraining,
    *,
    rendered: Sequence[Path] = (),
    init: Path | None = None,
    device: str = "cpu",
    workers: int = 0,
    validate_every: int = 500,
    say: Callable[[str], None] = print,
) -> Path:
    """Train nano, resuming from `out/checkpoint.pt` when it is there.

    Args:
        data: folder that holds PennFudanPed, COCO_panoptic_100 and DSB2018.
        out: folder of the run.
        settings: what the run is.
        rendered: roots of scene sets written by `examples.render`.
        init: weights to go on from, instead of an ImageNet trunk.
        device: as torch names it; on CUDA the network computes in bfloat16.
        workers: processes that make crops; 0 makes them in this one.
        validate_every: steps between validations; the last step has one anyway.
        say: called with lines of progress.

    Returns:
        Path of the weights, `out/nano.safetensors`: averaged over the last steps, in half
        precision, written at each validation. `out/log.jsonl` holds a line for each validation.

    Raises:
        UsageError: no data, no trunk weights, a checkpoint of other settings or a damaged one, or
            an `out` that is no folder.
    """
    make_folder(out)
    material, held_out = load_material(data, rendered, say)
    course = Course.begin(start_model(init, settings.seed), settings, device)
    checkpoint = out / "checkpoint.pt"
    plain = asdict(settings)
    first = load_checkpoint(checkpoint, plain, course.parts(), device)
    if first:
        say(f"resuming at step {first}")
    weights = out / "nano.safetensors"
    batches = CropBatches(material, settings.crops, settings.prompts, settings.seed)
    saved_at = time.monotonic()
    for done in course.steps(batches, range(first, settings.steps), workers, say):
        validating = done % validate_every == 0 or done == settings.steps
        if validating:
            figures = validate(course.average.model, held_out, settings)
            say(in_words(figures))
            append_line(out / "log.jsonl", {"step": done, **figures})
            export_weights(course.average.model, weights)
        if validating or time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
            save_checkpoint(checkpoint, done, plain, course.parts())
            saved_at = time.monotonic()
    # A finished run whose weights were moved away gives them again.
    return weights if weights.is_file() else export_weights(course.average.model, weights)


def in_words(figures: Mapping[str, float]) -> str:
    """The figures of a validation as one line."""
    return " ".join(f"{name} {value:.3f}" for name, value in figures.items())


def append_line(path: Path, figures: Mapping[str, float]) -> None:
    """Append a line of JSON to a log."""
    with path.open("a") as log:
        log.write(json.dumps(figures) + "\n")


@dataclass(frozen=True)
class Course:
    """All that a step of a training changes."""

    model: Sam
    average: Average[Sam]
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @classmethod
    def begin(cls, model: Sam, settings: NanoTraining, device: str) -> Course:
        """The course of a network from its first weights, on a device."""
        model = model.to(device).train()
        encoder = model.image_encoder
        encoder.to(memory_format=torch.channels_last)
        average = Average(model)
        rates = (settings.rate_trunk, settings.rate_rest)
        optimiser, schedule = make_optimiser(model, encoder.trunk, rates, settings.steps)
        return cls(model, average, optimiser, schedule)

    def parts(self) -> dict[str, Part]:
        """What a checkpoint has to keep."""
        return dict(vars(self))

    def steps(
        self, batches: CropBatches, steps: range, workers: int, say: Callable[[str], None]
    ) -> Iterator[int]:
        """Take steps, and yield after each how many are done in all; on CUDA in bfloat16."""
        device = str(self.model.pixel_mean.device)
        cuda = device.startswith("cuda")
        started = time.monotonic()
        for step, batch in zip(steps, make_loader(batches, steps, workers, pin=cuda), strict=True):
            loss = losses_of(self.model, _on(batch, device), bf16=cuda).total
            self.optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
            self.optimiser.step()
            self.schedule.step()
            self.average.update(step)
            done = step + 1
            if done % SAY_EVERY == 0:
                pace = (time.monotonic() - started) / (done - steps.start)
                loss_now = float(loss.detach())
                say(f"step {done}/{steps.stop} loss {loss_now:.3f} {pace:.2f} s/step")
            yield done
