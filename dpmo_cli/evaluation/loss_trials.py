"""What the mask losses change: counts of trainings with and without, on the same images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dpmo_cli.errors import InputError
from dpmo_cli.evaluation.bootstrap import SAMPLES, draw_weights, interval, sums
from dpmo_cli.evaluation.summary import Figure, Samples
from dpmo_cli.evaluation.trial_files import AGAIN, MASK, NONE, TrialResult
from dpmo_cli.geometry.points import FloatArray

_OfSeeds = Mapping[int, Samples]
"""The figures of a way's runs, by their seed."""


@dataclass(frozen=True)
class Change:
    """A change of a figure between trainings, paired by the seed.

    Attributes:
        value: the mean over the seeds.
        low, high: its 95 % interval over the images, for these trainings; NaN without samples.
        least, most: the smallest and the largest change of one seed, over all images.
    """

    value: float
    low: float
    high: float
    least: float
    most: float


@dataclass(frozen=True)
class LossRow:
    """A way of training, over its seeds.

    Attributes:
        dataset, model, shape, loss: which.
        settings: those in which it differs from rows of the same dataset and model that it is not
            compared with.
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
    settings: Mapping[str, object]
    seeds: int
    figures: dict[str, Figure]
    gains: dict[str, Change] | None
    over_masks: dict[str, Change] | None


def compare_trials(trials: Sequence[TrialResult], seed: int = 0) -> Iterator[LossRow]:
    """Figures of each way of training, and its gain over the training without masks.

    Intervals are paired: all come from the same draws of the images.

    Args:
        trials: each training once, as of `read_trials`.
        seed: of the draws.

    Raises:
        InputError: runs that should be compared counted different images, or tell different things.
    """
    groups: dict[tuple[str, str, str], dict[tuple[str, str], list[TrialResult]]] = {}
    for one in trials:
        group = groups.setdefault((one.dataset, one.model, one.shared), {})
        group.setdefault((one.shape, one.loss), []).append(one)
    for (dataset, model, shared), ways in groups.items():
        _check_alike([one for runs in ways.values() for one in runs])
        settings = _differing(
            shared, [other for *names, other in groups if names == [dataset, model]]
        )
        (images,) = {len(one.images) for runs in ways.values() for one in runs}
        weights = draw_weights(images, SAMPLES, seed)
        values = {
            way: {one.seed: _values(one, weights) for one in runs} for way, runs in ways.items()
        }
        without: _OfSeeds = next((of for (_, loss), of in values.items() if loss == NONE), {})
        for (shape, loss), of_seeds in values.items():
            masked = values.get((MASK, loss), {}) if shape != MASK else {}
            yield LossRow(
                dataset, model, shape, loss, settings, len(of_seeds),
                _figures(of_seeds),
                _changes(of_seeds, without if loss != NONE else {}),
                _changes(of_seeds, masked),
            )  # fmt: skip


def _check_alike(runs: Sequence[TrialResult]) -> None:
    """Refuse runs that can't be compared image by image."""
    first = runs[0]
    for one in runs[1:]:
        for words, same in (
            ("counted other images than", one.images == first.images),
            ("tells other people in the same images than", np.array_equal(one.true, first.true)),
            ("holds other figures than", one.matched.keys() == first.matched.keys()),
        ):
            if not same:
                raise InputError(one.path, f"{words} {first.path}", AGAIN)


def _differing(shared: str, others: Sequence[str]) -> dict[str, object]:
    """Of settings as text, those that are not the same in all of some others."""
    own = json.loads(shared)
    rivals = [json.loads(other) for other in others]
    names = sorted({name for rival in rivals for name in rival})
    return {
        name: own.get(name)
        for name in names
        if any(rival.get(name) != own.get(name) for rival in rivals)
    }


def _figures(of_seeds: _OfSeeds) -> dict[str, Figure]:
    """Each figure, the mean over the seeds."""
    names = next(iter(of_seeds.values()))
    means = {name: np.mean([one[name] for one in of_seeds.values()], axis=0) for name in names}
    return {name: Figure.of(mean[0], mean[1:]) for name, mean in means.items()}


def _changes(of_seeds: _OfSeeds, others: _OfSeeds) -> dict[str, Change] | None:
    """What runs have more than others of the same seeds; None where no seed is the same."""
    pairs = [(one, others[seed]) for seed, one in of_seeds.items() if seed in others]
    if not pairs:
        return None
    return {
        name: _change([own[name] - other[name] for own, other in pairs]) for name in pairs[0][0]
    }


def _change(of_seeds: Sequence[FloatArray]) -> Change:
    """One (1 + S,) change of each seed: of all images, and of each sample."""
    mean = np.mean(of_seeds, axis=0)
    whole = [float(one[0]) for one in of_seeds]
    return Change(float(mean[0]), *interval(mean[1:]), min(whole), max(whole))


def _values(one: TrialResult, weights: FloatArray) -> Samples:
    """Each figure of a run: (1 + S,), of all images and then of each sample."""
    images = sums(np.ones(len(one.true)), weights)
    values: Samples = {}
    for suffix, counts in (("", one.plain), ("_fitted", one.fitted)):
        error = counts - one.true
        values[f"mae{suffix}"] = sums(np.abs(error), weights) / images
        values[f"rmse{suffix}"] = np.sqrt(sums(error**2, weights) / images)
        values[f"bias{suffix}"] = sums(error, weights) / images
    people = np.maximum(1.0, sums(one.plain + one.true, weights))
    for radius, pairs in one.matched.items():
        values[f"f1@{radius}"] = 2 * sums(pairs, weights) / people
    return values
