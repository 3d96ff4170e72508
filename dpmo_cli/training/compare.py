"""Trainings that differ in their masks alone, run by run: what the mask losses are worth."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.trial_files import RESULT_FILE, VERSION, read_trial
from dpmo_cli.outputs.atomic import write_text
from dpmo_cli.sam.checkpoint import load_state_dict
from dpmo_cli.training.counter import (
    ALL,
    LIKELIHOOD,
    MASK_LOSSES,
    NONE,
    TERMS,
    CounterTraining,
    Task,
    train_counter,
)
from dpmo_cli.training.crowd_masks import MASK, SHAPES
from dpmo_cli.training.crowds import Crowd, load_masked_crowds, masks_fingerprint
from dpmo_cli.training.density import DENSITY
from dpmo_cli.training.locator import LOCATOR

TASKS: Mapping[str, Task[Any, Any]] = {task.name: task for task in (LOCATOR, DENSITY)}


@dataclass(frozen=True)
class Trial:
    """One run: `model` of TASKS, `loss` as of `terms_of`, `shape` of `crowd_masks.SHAPES`."""

    model: str
    loss: str
    shape: str
    seed: int

    def settings(self, plain: CounterTraining) -> CounterTraining:
        """Of the run, from those that all runs share."""
        terms = terms_of([self.loss])
        return replace(
            plain,
            seed=self.seed,
            mask_losses=terms,
            mask_shape=self.shape,
            # Without a mask loss it weighs nothing, and must not make another run.
            mask_weight=plain.mask_weight if terms else None,
        )


def terms_of(losses: Sequence[str]) -> tuple[str, ...]:
    """The mask terms that some of MASK_LOSSES name, several by a plus; each once and in order.

    Raises:
        UsageError: an unknown name.
    """
    names = [name for loss in losses for name in loss.split("+")]
    for name in names:
        if name not in MASK_LOSSES:
            known = ", ".join(MASK_LOSSES)
            raise UsageError(f"--mask-loss {name}: unknown; use one of {known}")
    terms = tuple(name for name in TERMS if ALL in names or name in names)
    return (*terms, LIKELIHOOD) if LIKELIHOOD in names else terms


def loss_of(name: str) -> str:
    """The one name of what a name of mask terms means: `all`, `none`, or terms in order.

    Raises:
        UsageError: an unknown name.
    """
    terms = terms_of([name])
    if set(terms) >= set(TERMS):
        terms = (ALL, *terms[len(TERMS) :])
    return "+".join(terms) or NONE


def plan_trials(
    models: Sequence[str], losses: Sequence[str], shapes: Sequence[str], seeds: Sequence[int]
) -> list[Trial]:
    """All runs of these, seed by seed and each once; without masks one for all shapes.

    Raises:
        UsageError: an unknown name.
    """
    for option, values, known in (("model", models, TASKS), ("mask-shape", shapes, SHAPES)):
        for value in values:
            if value not in known:
                raise UsageError(f"--{option} {value}: unknown; use one of {', '.join(known)}")
    trials = [
        Trial(model, loss, MASK if loss == NONE else shape, seed)
        for model, seed, shape, loss in product(models, seeds, shapes, map(loss_of, losses))
    ]
    return list(dict.fromkeys(trials))


def run_trials(
    masks: Sequence[Path],
    out: Path,
    trials: Sequence[Trial],
    settings: CounterTraining,
    *,
    root: Path | None = None,
    init: Path | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> Iterator[Path]:
    """Train what has no result yet, one after the other, and count validation images with each.

    Killed at any moment, the same call goes on from the last checkpoint. The level at which
    people are counted is not fitted to validation images; results tell the counts at all.

    Args:
        masks: converted folders to train on.
        out: the folder; each run has one in it, with `result.json` once it is finished.
        trials: the runs.
        settings: that all of them share.
        root: where the photos lie; by default where each run says.
        init: weights to go on from, instead of an ImageNet trunk.
        device: as torch names it.
        say: called with lines of progress.

    Yields:
        The path of each result.

    Raises:
        UsageError, InputError: as of `train_counter`, `load_masked_crowds` and `read_trial`; a
            result of other settings is there; no image is for validation.
    """
    known = masks_fingerprint(masks)
    settings = replace(settings, datasets=tuple(known), masks=tuple(known.values()))
    loaded: dict[str, tuple[list[Crowd], list[Crowd]]] = {}
    for number, trial in enumerate(trials, start=1):
        task, own = TASKS[trial.model], trial.settings(settings)
        folder = out / f"{'+'.join(known)}.{trial.model}.{trial.shape}.{trial.loss}.{trial.seed}"
        path = folder / RESULT_FILE
        about = {**asdict(trial), "settings": json.loads(json.dumps(asdict(own)))}
        if path.is_file():
            if read_trial(path).settings != about["settings"]:
                raise UsageError(f"{path}: is of other settings; use another --out")
            yield path
            continue
        say(f"run {number} of {len(trials)}: {folder.name}")
        if trial.shape not in loaded:
            # One at a time: the photos take most of the memory.
            loaded.clear()
            loaded[trial.shape] = load_masked_crowds(masks, trial.shape, say, root=root)
        training, validation = loaded[trial.shape]
        if not validation:
            where = ", ".join(map(str, masks))
            raise UsageError(
                f"{where}: none of the images is for validation, about one in five by its name; "
                "convert more images"
            )
        begun = time.monotonic()
        plain = replace(task, finish=_unchanged, validate=_unmeasured)
        weights = train_counter(
            plain, (training, validation), folder, own, init=init, device=device, say=say,
            validate_every=own.steps,
        )  # fmt: skip
        trained = time.monotonic()
        model = task.build(own.trunk)
        model.load_state_dict(load_state_dict(weights))
        model = model.float().eval().to(device)
        found = [task.measure(model, crowd, device.startswith("cuda")) for crowd in validation]
        document = {
            "version": VERSION,
            **about,
            "dataset": "+".join(known),
            "levels": task.levels,
            "plain_level": task.plain_level,
            "images": [crowd.name for crowd in validation],
            "true": [len(crowd.points_xy) for crowd in validation],
            **{name: [one[name] for one in found] for name in found[0]},
            "device": device,
            "seconds": {"train": trained - begun, "measure": time.monotonic() - trained},
        }
        write_text(path, json.dumps(document) + "\n")
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        yield path


def _unchanged(model: Any, crowds: Sequence[Crowd], bf16: bool) -> Any:
    return model


def _unmeasured(model: Any, crowds: Sequence[Crowd], bf16: bool) -> dict[str, float]:
    return {}
