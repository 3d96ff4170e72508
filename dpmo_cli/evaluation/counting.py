"""How well people are counted: errors of the count, overall and by how many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.evaluation.bootstrap import draw_weights, ratio, sums
from dpmo_cli.evaluation.summary import Figure, without_nan
from dpmo_cli.geometry.points import FloatArray

PEOPLE_EDGES = (0.0, 50.0, 200.0, 500.0, 1000.0, math.inf)


@dataclass(frozen=True)
class CountFigures:
    """Errors of the count, predicted less true, over images.

    Attributes:
        mae: mean absolute error.
        rmse: root of the mean squared error.
        nae: mean of absolute errors in parts of the true count; images without people left out.
        bias: mean error; positive where too many are counted.
    """

    mae: Figure
    rmse: Figure
    nae: Figure
    bias: Figure


@dataclass(frozen=True)
class CountLevel:
    """The images with from `low` up to below `high` people."""

    low: float
    high: float
    images: int
    figures: CountFigures


@dataclass(frozen=True)
class CountSummary:
    """The figures of all images.

    Attributes:
        images: how many.
        images_without_people: of them, left out of NAE.
        predicted_people, true_people: in all images.
        figures: of all images.
        by_people: by the true count.
        samples, seed: of the intervals.
    """

    images: int
    images_without_people: int
    predicted_people: float
    true_people: int
    figures: CountFigures
    by_people: tuple[CountLevel, ...]
    samples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """As plain objects; what is NaN or infinite becomes None."""
        return without_nan(asdict(self))


def summarise_counts(
    predicted: Sequence[float], true: Sequence[int], samples: int = 1000, seed: int = 0
) -> CountSummary:
    """Compare the counts of I images, and resample the images.

    Args:
        predicted: I counts, whole or not.
        true: I counts.
        samples: how many resamples the intervals come from; 0 for none.
        seed: the same seed gives the same intervals.
    """
    of_predicted, of_true = np.array(predicted, np.float64), np.array(true, np.float64)
    weights = draw_weights(len(of_true), samples, seed)
    levels = []
    for low, high in pairwise(PEOPLE_EDGES):
        kept = (of_true >= low) & (of_true < high)
        figures = _figures(of_predicted, of_true, kept, weights)
        levels.append(CountLevel(low, high, int(kept.sum()), figures))
    return CountSummary(
        images=len(of_true),
        images_without_people=int((of_true == 0).sum()),
        predicted_people=float(of_predicted.sum()),
        true_people=int(of_true.sum()),
        figures=_figures(of_predicted, of_true, np.ones(len(of_true), dtype=np.bool_), weights),
        by_people=tuple(levels),
        samples=len(weights),
        seed=seed,
    )


def _figures(
    predicted: FloatArray, true: FloatArray, kept: NDArray[np.bool_], weights: FloatArray
) -> CountFigures:
    error = np.where(kept, predicted - true, 0.0)
    with_people = kept & (true > 0)
    images = sums(kept, weights)
    parts = sums(np.abs(error) * with_people / np.maximum(true, 1.0), weights)
    values = (
        ratio(sums(np.abs(error), weights), images),
        np.sqrt(ratio(sums(error**2, weights), images)),
        ratio(parts, sums(with_people, weights)),
        ratio(sums(error, weights), images),
    )
    return CountFigures(*(Figure.of(one[0], one[1:]) for one in values))
