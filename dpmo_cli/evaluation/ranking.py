"""How well an order finds the bad masks: what a review of the worst part would come upon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dpmo_cli.geometry.points import FloatArray

BAD_IOU = 0.5
WORST_PART = 0.1


@dataclass(frozen=True)
class Ranking:
    """What the worst part of a ranking holds.

    Attributes:
        points: how many are ranked.
        bad: how many of them have an IoU below BAD_IOU.
        found: how many of these are in the worst part.
        of_perfect: the same in parts of what a perfect order finds; NaN where nothing is bad.
        of_random: the same in parts of what a random order finds on average.
    """

    points: int
    bad: int
    found: int
    of_perfect: float
    of_random: float


def rank(scores: FloatArray, ious: FloatArray) -> Ranking:
    """Review the worst tenth by score, first those without a score.

    Args:
        scores: (N,) float64, larger is better, NaN for a point without a mask.
        ious: (N,) float64, of each point's mask with its truth.
    """
    looked_at = round(WORST_PART * len(scores))
    # A stable order: what is equal is looked at as it comes.
    worst = np.argsort(np.nan_to_num(scores, nan=-np.inf), kind="stable")[:looked_at]
    bad = ious < BAD_IOU
    found, total = int(bad[worst].sum()), int(bad.sum())
    if not total or not looked_at:
        return Ranking(len(scores), total, found, np.nan, np.nan)
    expected = total * looked_at / len(scores)
    return Ranking(len(scores), total, found, found / min(looked_at, total), found / expected)
