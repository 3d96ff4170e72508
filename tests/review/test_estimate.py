"""The estimated share of right masks and its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dpmo_cli.review.estimate import Estimate, Stratum, estimate_share

BY_HAND: dict[str, tuple[list[Stratum], float]] = {
    "one stratum": ([Stratum(1000, 50, 40)], 0.8),
    "weighted by size, not by judged": ([Stratum(900, 10, 10), Stratum(100, 10, 5)], 0.95),
    "nothing judged in one": ([Stratum(500, 0, 0), Stratum(500, 20, 15)], 0.75),
    "one judged in the middle": (
        [Stratum(100, 4, 2), Stratum(100, 1, 1), Stratum(200, 10, 10)],
        0.5 * 0.6 + 0.5 * 1.0,
    ),
    "one judged in the last": ([Stratum(100, 4, 4), Stratum(100, 1, 0)], 0.8),
    "a stratum without persons": ([Stratum(0, 0, 0), Stratum(10, 5, 5)], 1.0),
    "a stratum of one person": ([Stratum(1, 1, 0), Stratum(99, 20, 20)], 0.99),
    "a single judged mask": ([Stratum(10, 1, 1), Stratum(10, 0, 0)], 1.0),
}


@pytest.mark.parametrize(("strata", "share"), BY_HAND.values(), ids=BY_HAND)
def test_the_share_is_that_of_the_strata(strata: list[Stratum], share: float) -> None:
    found = estimate_share(strata)
    assert found.share == pytest.approx(share)
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert found.high - found.low > 0.02


def test_nothing_judged_is_no_estimate() -> None:
    for strata in ([], [Stratum(5, 0, 0), Stratum(7, 0, 0)]):
        assert all(map(math.isnan, vars(estimate_share(strata)).values()))


def test_what_was_judged_to_the_last_is_known() -> None:
    found = estimate_share([Stratum(4, 4, 3), Stratum(6, 6, 6)])
    assert found == Estimate(0.9, 0.9, 0.9)


def test_one_stratum_is_about_the_exact_interval() -> None:
    """Clopper and Pearson for 40 of 50: 0.6628 to 0.8997."""
    found = estimate_share([Stratum(10**9, 50, 40)])
    assert (found.low, found.high) == pytest.approx((0.6628, 0.8997), abs=0.004)


def test_all_right_is_not_certain() -> None:
    found = estimate_share([Stratum(1000, 20, 20)] * 5)
    assert found.high == 1
    assert 0.93 < found.low < 0.985


POPULATIONS: dict[str, tuple[list[tuple[int, float]], int]] = {
    "even": ([(1000, 0.8)] * 4, 100),
    "as queues are": ([(2000, 0.55), (4000, 0.9), (14000, 0.98)], 150),
    "nearly all right": ([(3000, 0.99)] * 6, 120),
    "nearly all wrong": ([(500, 0.02), (500, 0.1)], 60),
    "a large part of few": ([(60, 0.7), (80, 0.9), (40, 0.95)], 90),
    "few": ([(5000, 0.9)] * 3, 12),
}


@pytest.mark.parametrize(("strata", "sample"), POPULATIONS.values(), ids=POPULATIONS)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    strata: list[tuple[int, float]], sample: int
) -> None:
    """1,500 audits of a known population; three standard errors below 95 % are 93.3 %."""
    rng = np.random.default_rng(3)
    total = sum(persons for persons, _ in strata)
    right = [round(persons * share) for persons, share in strata]
    truth = sum(right) / total
    held, shares = 0, []
    for _ in range(1500):
        audit = []
        for (persons, _share), good in zip(strata, right, strict=True):
            drawn = max(2, round(sample * persons / total))
            audit.append(
                Stratum(persons, drawn, int(rng.hypergeometric(good, persons - good, drawn)))
            )
        found = estimate_share(audit)
        held += found.low <= truth <= found.high
        shares.append(found.share)
    assert held / 1500 >= 0.933
    assert np.mean(shares) == pytest.approx(truth, abs=4 * np.std(shares) / 1500**0.5)
