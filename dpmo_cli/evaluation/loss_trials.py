"""What the mask losses change: counts of trainings with and without, on the same images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.evaluation.bootstrap import draw_weights, sums
from dpmo_cli.evaluation.summary import Figure
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.outputs.findings import one_line

RESULT_FILE = "result.json"
VERSION = 1
NONE, MASK = "none", "mask"
SAMPLES = 2000


@dataclass(frozen=True)
class TrialResult:
    """What one training counts in I images.

    Attributes:
        dataset, model, shape, loss, seed: which one it is; the loss tells a
            weight that was given.
        setting: all that its rivals must share with it, as text.
        images: names.
        true: (I,) float64 people.
        plain: (I,) float64 counts at the level that the loss means.
        fitted: (I,) float64 counts at the level that is best for the other half of the images.
        matched: pairs within some px, by name, of each image; empty where there are no points.
        seconds: that the training took.
    """

    dataset: str
    model: str
    shape: str
    loss: str
    seed: int
    setting: str
    images: tuple[str, ...]
    true: FloatArray
    plain: FloatArray
    fitted: FloatArray
    matched: dict[str, FloatArray]
    seconds: float


@dataclass(frozen=True)
class LossRow:
    """A way of training, over its seeds.

    Attributes:
        dataset, model, shape, loss: which.
        seeds: how many it has.
        figures: by name, the mean over the seeds: `mae`, `rmse`, `mae_fitted`, `rmse_fitted`,
            and `f1@4`, `f1@8` of models that give points.
        gains: by name, what the training without masks has more, over the seeds that both have;
            None where there is none, or for that training itself.
        over_masks: by name, what a training with another shape has more than that with the masks
            themselves and the same loss; None where there is none.
    """

    dataset: str
    model: str
    shape: str
    loss: str
    seeds: int
    figures: dict[str, Figure]
    gains: dict[str, Figure] | None
    over_masks: dict[str, Figure] | None


def read_trials(out: Path) -> list[TrialResult]:
    """Read the results of all finished runs below a folder, by name.

    Raises:
        UsageError: there is none.
        InputError: one can't be read.
    """
    found = []
    for path in sorted(out.glob(f"**/{RESULT_FILE}")):
        try:
            found.append(_result(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise InputError(path, f"can't be read ({one_line(error)})", "run it again") from error
    if not found:
        raise UsageError(f"{out}: holds no finished run; see `dpmo train compare`")
    return found


def compare_trials(trials: Sequence[TrialResult], seed: int = 0) -> Iterator[LossRow]:
    """Figures of each way of training, and its gain over the training without masks.

    Intervals are paired: all come from the same draws of the images.
    """
    groups: dict[tuple[str, str, str], dict[tuple[str, str], list[TrialResult]]] = {}
    for one in trials:
        group = groups.setdefault((one.dataset, one.model, one.setting), {})
        group.setdefault((one.shape, one.loss), []).append(one)
    for (dataset, model, _), ways in groups.items():
        images = {one.images for runs in ways.values() for one in runs}
        if len(images) > 1:
            raise UsageError(f"the runs of {model} on {dataset} counted different images")
        weights = draw_weights(len(images.pop()), SAMPLES, seed)
        without = next((runs for (_, loss), runs in ways.items() if loss == NONE), [])
        for (shape, loss), runs in ways.items():
            figures = _values(runs, weights)
            masked = ways.get((MASK, loss), []) if shape != MASK else []
            yield LossRow(
                dataset, model, shape, loss, len(runs),
                {name: _figure(value) for name, value in figures.items()},
                _changes(runs, without if loss != NONE else [], weights),
                _changes(runs, masked, weights),
            )  # fmt: skip


def _changes(
    runs: Sequence[TrialResult], others: Sequence[TrialResult], weights: FloatArray
) -> dict[str, Figure] | None:
    """What runs have more than others of the same seeds; None where no seed is the same."""
    both = {one.seed for one in runs} & {one.seed for one in others}
    if not both:
        return None
    own, other = (
        _values([one for one in part if one.seed in both], weights) for part in (runs, others)
    )
    return {name: _figure(own[name] - other[name]) for name in own}


def _result(document: dict[str, Any]) -> TrialResult:
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']}, not {VERSION}")
    counts = np.array(document["counts"], dtype=np.float64)
    true = np.array(document["true"], dtype=np.float64)
    if counts.shape != (len(true), len(document["levels"])) or len(document["images"]) != len(true):
        raise ValueError("counts do not go with the images")
    own = ("seed", "mask_losses", "mask_shape", "mask_weight")
    weight = document["settings"].get("mask_weight")
    weighed = "" if weight is None or document["loss"] == NONE else f" x {weight:g}"
    setting = {name: value for name, value in document["settings"].items() if name not in own}
    return TrialResult(
        dataset=document["dataset"],
        model=document["model"],
        shape=document["shape"],
        loss=document["loss"] + weighed,
        seed=document["seed"],
        setting=json.dumps(setting, sort_keys=True),
        images=tuple(document["images"]),
        true=true,
        plain=counts[:, document["plain_level"]],
        fitted=_cross_fitted(counts, true),
        matched={
            name.removeprefix("matched_"): np.array(document[name], dtype=np.float64)
            for name in sorted(document)
            if name.startswith("matched_")
        },
        seconds=float(document["seconds"]["train"]),
    )


def _cross_fitted(counts: FloatArray, true: FloatArray) -> FloatArray:
    """Counts of each half of the images at the level with the least errors on the other half."""
    fitted = np.zeros(len(true))
    half = np.arange(len(true)) % 2 == 0
    for part in (half, ~half):
        errors = np.abs(counts[~part] - true[~part, None]).sum(axis=0)
        # Of equal ones the middle: thresholds without effect lie side by side.
        best = np.flatnonzero(errors == errors.min())
        fitted[part] = counts[part, best[len(best) // 2]]
    return fitted


def _values(runs: Sequence[TrialResult], weights: FloatArray) -> dict[str, FloatArray]:
    """Each figure, the mean over runs: (1 + S,), of all images and then of each sample."""
    found = [_values_of(one, weights) for one in runs]
    return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}


def _values_of(one: TrialResult, weights: FloatArray) -> dict[str, FloatArray]:
    images = sums(np.ones(len(one.true)), weights)
    values: dict[str, FloatArray] = {}
    for suffix, counts in (("", one.plain), ("_fitted", one.fitted)):
        error = counts - one.true
        values[f"mae{suffix}"] = sums(np.abs(error), weights) / images
        values[f"rmse{suffix}"] = np.sqrt(sums(error**2, weights) / images)
        values[f"bias{suffix}"] = sums(error, weights) / images
    people = np.maximum(1.0, sums(one.plain + one.true, weights))
    for radius, pairs in one.matched.items():
        values[f"f1@{radius}"] = 2 * sums(pairs, weights) / people
    return values


def _figure(values: FloatArray) -> Figure:
    return Figure.of(values[0], values[1:])
