"""The share of right masks in a run, estimated from a stratified sample of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

LEVEL = 0.95
FEWEST = 2
"""One judged mask tells nothing of the spread in its stratum."""


@dataclass(frozen=True)
class Stratum:
    """One part of a population: its size, how many of it were judged, how many of those right."""

    persons: int
    judged: int
    right: int


@dataclass(frozen=True)
class Estimate:
    """A share with its 95 % interval; NaN where nothing was judged."""

    share: float
    low: float
    high: float


def estimate_share(strata: Sequence[Stratum]) -> Estimate:
    """Estimate the share of right masks from simple random samples of the strata.

    The share is the mean of the strata's, weighted by size, and its variance that of stratified
    sampling without replacement (Cochran, Sampling Techniques, 1977, chapter 5). The interval is
    that of Clopper and Pearson for as many masks as a simple sample would need for this variance
    (Korn and Graubard, Survey Methodology, 1998). For that number alone each stratum's share is
    taken with half a right and half a wrong mask more (Jeffreys), so that strata without a wrong
    one do not seem certain. Judged all, the share is known and the interval has no width.

    A stratum with fewer than two judged masks is put together with the one before it in order, the
    first with the one after.
    """
    merged = _collapse(strata)
    if merged is None:
        return Estimate(math.nan, math.nan, math.nan)
    persons, judged, right = np.array(
        [(one.persons, one.judged, one.right) for one in merged], np.float64
    ).T
    weight = persons / persons.sum()
    share = float(weight @ (right / judged))
    smooth = (right + 0.5) / (judged + 1)
    unseen = 1 - judged / persons
    variance = float((weight**2 * unseen * smooth * (1 - smooth) / judged).sum())
    if variance == 0:
        return Estimate(share, share, share)
    centre = float(weight @ smooth)
    enough = centre * (1 - centre) / variance
    low, high = share * enough, (1 - share) * enough
    tail = (1 - LEVEL) / 2
    return Estimate(
        share,
        float(beta.ppf(tail, low, high + 1)) if low > 0 else 0.0,
        float(beta.ppf(1 - tail, low + 1, high)) if high > 0 else 1.0,
    )


def _collapse(strata: Sequence[Stratum]) -> list[Stratum] | None:
    """Put strata together until each has enough judged masks; None where all have too few.

    Strata that were judged to the last mask tell all there is to know of them.
    """
    merged: list[Stratum] = []
    for one in strata:
        if not one.persons:
            continue
        if merged and (_thin(merged[-1]) or _thin(one)):
            merged.append(_together(merged.pop(), one))
        else:
            merged.append(one)
    if not merged or not merged[0].judged:
        return None
    return merged


def _together(one: Stratum, other: Stratum) -> Stratum:
    return Stratum(one.persons + other.persons, one.judged + other.judged, one.right + other.right)


def _thin(one: Stratum) -> bool:
    return one.judged < min(FEWEST, one.persons)
