"""Fine-tuning of nano on masks that people corrected or accepted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.compose import Ingredients
from dpmo_cli.outputs.findings import few
from dpmo_cli.sam.weights import sha256_of
from dpmo_cli.training.checkpoint import (
    export_weights,
    load_checkpoint,
    make_folder,
    save_checkpoint,
)
from dpmo_cli.training.judged import JudgedImage, JudgedScenes, digest
from dpmo_cli.training.nano import (
    CHECKPOINT_EVERY_S,
    Course,
    NanoTraining,
    append_line,
    in_words,
    start_model,
    validate,
)
from dpmo_cli.training.scenes import (
    CORRECTIONS,
    UNJUDGED,
    CropBatches,
    Material,
    load_material,
)

RATE_FACTOR = 0.1
"""The rates of a training from the start, times this: what is known is not to be forgotten."""
LEAST_TRAINED = 20
LEAST_VALIDATED = 5
"""Judged masks that a fine-tuning needs, to learn from and to tell when to stop."""


@dataclass(frozen=True)
class NanoTuning:
    """Settings of a fine-tuning.

    Attributes:
        training: of the steps; they end sooner where the validation no longer gains.
        validate_every: steps between validations.
        patience: so many validations in a row without a new best end it.
    """

    training: NanoTraining
    validate_every: int = 25
    patience: int = 6


@dataclass
class Best:
    """The best weights so far, as a part of a checkpoint.

    Attributes:
        weights: of the network.
        figures: their validation.
        step: when they were.
        worse: validations since then.
        first: the validation of the weights that the run began with.
    """

    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)
    figures: dict[str, float] = field(default_factory=dict)
    step: int = 0
    worse: int = 0
    first: dict[str, float] = field(default_factory=dict)

    def take(self, model: nn.Module, figures: dict[str, float], step: int) -> bool:
        """Take in a validation, and say whether it is the best.

        What was corrected and what nobody judged count alike: gaining the one by losing as much
        of the other is no gain.
        """
        if step == 0:
            self.first = figures
        if self.figures and _worth(figures) <= _worth(self.figures):
            self.worse += 1
            return False
        self.figures, self.step, self.worse = figures, step, 0
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}
        return True

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Take it back."""
        return vars(self).update(state)


@dataclass(frozen=True)
class Tuned:
    """Where the weights are, at which step they were best, and the mean IoUs before and then.

    Attributes:
        weights: the file.
        step: 0 where nothing was better than the first weights.
        corrected: of held-out masks that people judged.
        unjudged: of the other masks there with the run's own; NaN where there are none.
    """

    weights: Path
    step: int
    corrected: tuple[float, float]
    unjudged: tuple[float, float]


def tune_nano(
    judged: Sequence[JudgedImage],
    out: Path,
    settings: NanoTuning,
    *,
    init: Path,
    data: Path | None = None,
    rendered: Sequence[Path] = (),
    device: str = "cpu",
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> Tuned:
    """Fine-tune nano on judged masks, resuming from `out/checkpoint.pt` when it is there.

    The weights are averaged over the last steps, and those of the best validation are kept: of the
    judged masks in images that are held out, and of the others there that nobody judged.

    Args:
        judged: images, those without judged masks too.
        out: folder of the training; `out/nano.safetensors` and `out/log.jsonl` are written.
        settings: what the training is.
        init: the weights to begin with.
        data: folder of the scenes that nano has learnt from, for every other crop; None to learn
            from corrections alone.
        rendered: roots of scene sets written by `examples.render`, beside `data`.
        device: as torch names it.
        workers: processes that make crops; 0 makes them in this one.
        say: called with lines of progress.

    Raises:
        UsageError: too few masks, or none in images that are held out; a checkpoint of another
            training or a damaged one; what `start_model` and `load_material` raise.
        InputError: a photo can't be read.
    """
    material, held_out = _material(judged, data, rendered, say)
    make_folder(out)
    course = Course.begin(start_model(init, settings.training.seed), settings.training, device)
    best = Best()
    parts = {**course.parts(), "best": best}
    plain = {
        **asdict(settings.training),
        "validate_every": settings.validate_every,
        "patience": settings.patience,
        "corrections": digest(judged),
        "init": sha256_of(init),
        "data": data is not None,
        "rendered": len(rendered),
    }
    checkpoint, weights = out / "checkpoint.pt", out / "nano.safetensors"
    first = load_checkpoint(checkpoint, plain, parts, device)
    steps = range(first, settings.training.steps)

    def check(done: int) -> None:
        figures = validate(course.average.model, held_out, settings.training)
        is_best = best.take(course.average.model, figures, done)
        say(f"step {done}: {in_words(figures)}{' (best)' if is_best else ''}")
        append_line(out / "log.jsonl", {"step": done, **figures})
        save_checkpoint(checkpoint, done, plain, parts)

    if checkpoint.is_file():
        say(f"resuming at step {first}")
    else:
        check(0)
    saved_at = time.monotonic()
    if best.worse < settings.patience and steps:
        train = settings.training
        batches = CropBatches(material, train.crops, train.prompts, train.seed)
        for done in course.steps(batches, steps, workers, say):
            if done % settings.validate_every == 0 or done == steps.stop:
                check(done)
                saved_at = time.monotonic()
                if best.worse >= settings.patience:
                    say(f"step {done}: {settings.patience} validations without a gain; done")
                    break
            elif time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
                save_checkpoint(checkpoint, done, plain, parts)
                saved_at = time.monotonic()
    course.model.load_state_dict(best.weights)
    corrected, unjudged = (
        (_mean(best.first, name), _mean(best.figures, name)) for name in (CORRECTIONS, UNJUDGED)
    )
    return Tuned(export_weights(course.model, weights), best.step, corrected, unjudged)


def _worth(figures: Mapping[str, float]) -> float:
    return float(np.nanmean([_mean(figures, name) for name in (CORRECTIONS, UNJUDGED)]))


def _mean(figures: Mapping[str, float], source: str) -> float:
    """The mean IoU of a source, with neighbours in the prompts and without; NaN for none."""
    found = [value for name, value in figures.items() if name.startswith(f"{source}/")]
    return float(np.mean(found)) if found else math.nan


def _material(
    judged: Sequence[JudgedImage],
    data: Path | None,
    rendered: Sequence[Path],
    say: Callable[[str], None],
) -> tuple[Material, Material]:
    """The judged masks to learn from and to validate on, beside the scenes of `data`."""
    parts = [
        [one for one in judged if one.masks and one.is_held_out == validation]
        for validation in (False, True)
    ]
    counts = [sum(len(one.masks) for one in part) for part in parts]
    say(
        f"{counts[0]} judged masks of {len(parts[0])} images to learn from, {counts[1]} of "
        f"{len(parts[1])} to validate on"
    )
    if counts[0] < LEAST_TRAINED or counts[1] < LEAST_VALIDATED:
        raise _too_few(judged, counts)
    if data is None:
        nobody = Ingredients([], [])
        whole = Material(nobody), Material(nobody)
    else:
        whole = load_material(data, rendered, say)
    whole[0].scenes[CORRECTIONS] = JudgedScenes(parts[0])
    whole[1].scenes[CORRECTIONS] = JudgedScenes(parts[1], CORRECTIONS)
    others = [one for one in parts[1] if one.others]
    whole[1].scenes[UNJUDGED] = JudgedScenes(others, UNJUDGED)
    return whole


def _too_few(judged: Sequence[JudgedImage], counts: Sequence[int]) -> UsageError:
    lacking = counts[1] < LEAST_VALIDATED
    names = [one.file_name for one in judged if one.is_held_out == lacking]
    where = f", those of {few(names, 3)}" if names else ""
    what = "validate on" if lacking else "learn from"
    return UsageError(
        f"--from-corrections: {counts[0]} corrected or accepted masks to learn from and "
        f"{counts[1]} to validate on, needed are {LEAST_TRAINED} and {LEAST_VALIDATED}; review "
        f"more to {what}{where}, and run `dpmo review apply`"
    )
