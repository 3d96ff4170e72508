"""How well heads are found: precision, recall and F1 of points, by three protocols.

- fixed: a pair stands at most so many px apart, in the dataset's own pixels.
- qnrf: the mean of each figure over the distances 1, 2, ..., 100 px. The matching, a largest one,
  and the mean of F1 over the distances are our choice.
- nwpu: each head has its own distance, half the shorter side of its box (sigma_s), or half the
  box's diagonal (sigma_l); recall also by the area of the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dpmo_cli.datasets.nwpu_lines import LEVELS, SizedHeads
from dpmo_cli.evaluation.bootstrap import draw_weights, ratio, sums
from dpmo_cli.evaluation.matching import NOBODY, count_matches_at, match_points
from dpmo_cli.evaluation.summary import Figure, without_nan
from dpmo_cli.geometry.points import FloatArray, IntArray

FIXED, QNRF, NWPU = "fixed", "qnrf", "nwpu"
PROTOCOLS = (FIXED, QNRF, NWPU)
RADII_PX = (4.0, 8.0)
QNRF_RADII_PX = tuple(range(1, 101))
SIGMAS = ("sigma_l", "sigma_s")


@dataclass(frozen=True)
class PointMatches:
    """What is matched in one image.

    Attributes:
        predicted, true: how many points there are.
        matched: (K,) int64, pairs by criterion: a distance or a sigma.
        level_heads: (6,) int64, true heads by level; zeros unless the protocol is nwpu.
        level_matched: (K, 6) int64, those that are matched.
    """

    predicted: int
    true: int
    matched: IntArray
    level_heads: IntArray
    level_matched: IntArray


@dataclass(frozen=True)
class PointRow:
    """The figures of one criterion, pooled over all images.

    Attributes:
        criterion: such as "4 px", "1 to 100 px" or "sigma_l".
        matched: pairs; None for a mean over distances.
    """

    criterion: str
    matched: int | None
    precision: Figure
    recall: Figure
    f1: Figure


@dataclass(frozen=True)
class LevelRow:
    """Recall of the heads of one area level, in px; of equally large matchings one is taken."""

    area: str
    heads: int
    sigma_l: Figure
    sigma_s: Figure


@dataclass(frozen=True)
class PointSummary:
    """The figures of all images.

    Attributes:
        images: how many.
        predicted_points, true_points: in them.
        rows: by criterion.
        levels: of the protocol nwpu; else none.
        samples, seed: of the intervals.
    """

    images: int
    predicted_points: int
    true_points: int
    rows: tuple[PointRow, ...]
    levels: tuple[LevelRow, ...]
    samples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """As plain objects; what is NaN becomes None."""
        return without_nan(asdict(self))


def match_at_radii(
    predicted_xy: FloatArray, true_xy: FloatArray, radii_px: Sequence[float]
) -> PointMatches:
    """Match the points of one image at fixed distances.

    Args:
        predicted_xy: (P, 2) float64 px, finite.
        true_xy: (N, 2) float64 px, finite.
        radii_px: K distances, in any order.
    """
    ascending, places = np.unique(radii_px, return_inverse=True)
    matched = count_matches_at(predicted_xy, true_xy, ascending.tolist())[places]
    no_levels = np.zeros((len(radii_px), len(LEVELS)), dtype=np.int64)
    return PointMatches(len(predicted_xy), len(true_xy), matched, no_levels[0], no_levels)


def match_at_sigmas(predicted_xy: FloatArray, heads: SizedHeads) -> PointMatches:
    """Match the points of one image within each head's own distance, sigma_l and then sigma_s.

    Args:
        predicted_xy: (P, 2) float64 px, finite.
        heads: N true heads.
    """
    partners = [
        match_points(predicted_xy, heads.points_xy, sigma_px)
        for sigma_px in (heads.sigma_large_px, heads.sigma_small_px)
    ]
    is_matched = np.stack(partners) != NOBODY
    is_level = heads.levels[:, None] == np.arange(len(LEVELS))
    return PointMatches(
        predicted=len(predicted_xy),
        true=len(heads.points_xy),
        matched=is_matched.sum(axis=1),
        level_heads=is_level.sum(axis=0),
        level_matched=is_matched.astype(np.int64) @ is_level,
    )


def summarise_points(
    measures: Sequence[PointMatches],
    protocol: str,
    radii_px: Sequence[float] = RADII_PX,
    samples: int = 1000,
    seed: int = 0,
) -> PointSummary:
    """Pool the images and resample them.

    Args:
        measures: of each image once, all by the same protocol.
        protocol: one of PROTOCOLS.
        radii_px: the distances of the protocol fixed.
        samples: how many resamples the intervals come from; 0 for none.
        seed: the same seed gives the same intervals.
    """
    weights = draw_weights(len(measures), samples, seed)
    matched = sums([one.matched for one in measures], weights)
    predicted = sums([[one.predicted] for one in measures], weights)
    true = sums([[one.true] for one in measures], weights)
    figures = (
        ratio(matched, predicted),
        ratio(matched, true),
        ratio(2 * matched, predicted + true),
    )
    counts: list[int | None]
    if protocol == QNRF:
        of_rows = [one.mean(axis=1, keepdims=True) for one in figures]
        names, counts = [f"1 to {QNRF_RADII_PX[-1]} px"], [None]
    else:
        of_rows = list(figures)
        names = list(SIGMAS) if protocol == NWPU else [f"{one:g} px" for one in radii_px]
        counts = [int(one) for one in matched[0]]
    rows = tuple(
        PointRow(name, count, *(Figure.of(one[0, k], one[1:, k]) for one in of_rows))
        for k, (name, count) in enumerate(zip(names, counts, strict=True))
    )
    return PointSummary(
        images=len(measures),
        predicted_points=int(predicted[0, 0]),
        true_points=int(true[0, 0]),
        rows=rows,
        levels=_levels(measures, weights) if protocol == NWPU else (),
        samples=len(weights),
        seed=seed,
    )


def _levels(measures: Sequence[PointMatches], weights: FloatArray) -> tuple[LevelRow, ...]:
    heads = sums([one.level_heads for one in measures], weights)
    recalls = [
        ratio(sums([one.level_matched[sigma] for one in measures], weights), heads)
        for sigma in range(len(SIGMAS))
    ]
    return tuple(
        LevelRow(area, int(heads[0, k]), *(Figure.of(one[0, k], one[1:, k]) for one in recalls))
        for k, area in enumerate(LEVELS)
    )
