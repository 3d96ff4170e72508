"""Matching of points: tables, and against the assignment solver."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from dpmo_cli.evaluation.matching import NOBODY, count_matches, count_matches_at, match_points


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        pytest.param([], [], 0, id="nothing"),
        pytest.param([(0, 0)], [], 0, id="no truth"),
        pytest.param([], [(0, 0)], 0, id="no prediction"),
        pytest.param([(0, 0)], [(4, 0)], 1, id="at the radius"),
        pytest.param([(0, 0)], [(4.01, 0)], 0, id="beyond the radius"),
        pytest.param([(0, 0), (1, 0)], [(0, 0)], 1, id="one person once"),
        # Taking the nearest first, 3 - 2, would leave 0 and 6 without partners.
        pytest.param([(3, 0), (0, 0)], [(2, 0), (6, 0)], 2, id="the most pairs"),
    ],
)
def test_cases(
    predicted: list[tuple[float, float]], true: list[tuple[float, float]], expected: int
) -> None:
    arrays = [np.array(xy, dtype=np.float64).reshape(-1, 2) for xy in (predicted, true)]
    assert count_matches(arrays[0], arrays[1], 4.0) == expected


def most_pairs(allowed: NDArray[np.bool_]) -> int:
    """By the assignment solver."""
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    return int(allowed[rows, columns].sum())


@pytest.mark.parametrize("seed", range(8))
def test_against_the_assignment_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, true = rng.uniform(0, 60, (40, 2)), rng.uniform(0, 60, (50, 2))
    assert count_matches(predicted, true, 6.0) == most_pairs(cdist(predicted, true) <= 6)


@pytest.mark.parametrize("seed", range(12))
def test_each_head_with_its_own_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = rng.integers(0, 40, (rng.integers(1, 60), 2)).astype(np.float64)
    true = rng.integers(0, 40, (rng.integers(1, 60), 2)).astype(np.float64)
    radii = rng.integers(0, 12, len(true)).astype(np.float64)
    partners = match_points(predicted, true, radii)
    found = np.flatnonzero(partners != NOBODY)
    allowed = cdist(predicted, true) <= radii
    assert allowed[partners[found], found].all()
    assert len(np.unique(partners[found])) == len(found) == most_pairs(allowed)


@pytest.mark.parametrize("seed", range(12))
def test_several_distances_at_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = rng.normal(0, 20, (rng.integers(1, 60), 2))
    true = rng.normal(5, 20, (rng.integers(1, 60), 2))
    found = count_matches_at(predicted, true, range(1, 60, 3))
    assert found.tolist() == [count_matches(predicted, true, r) for r in range(1, 60, 3)]
    assert found.tolist() == [most_pairs(cdist(predicted, true) <= r) for r in range(1, 60, 3)]


def test_several_distances_of_nothing() -> None:
    nothing, one = np.zeros((0, 2)), np.zeros((1, 2))
    assert count_matches_at(nothing, one, [1, 2]).tolist() == [0, 0]
    assert count_matches_at(one, nothing, [1]).tolist() == [0]
    assert count_matches_at(one, one, []).tolist() == []
    assert count_matches_at(one, one, [0, 3]).tolist() == [1, 1]


def test_a_long_path() -> None:
    """Points in a row, each between two heads: the last free head moves all the others."""
    predicted, true = (
        np.stack([np.arange(n) + at, np.zeros(n)], 1) for n, at in ((500, 0.5), (501, 0))
    )
    assert count_matches(predicted, true, 0.5) == 500


def test_dense_crowds_are_fast() -> None:
    """5,000 points against 5,000 others at 100 distances: seconds."""
    rng = np.random.default_rng(0)
    predicted, true = (rng.uniform(0, 1, (5000, 2)) * (1024, 768) for _ in range(2))
    began = time.process_time()
    assert count_matches_at(predicted, true, range(1, 101))[-1] == 5000
    assert time.process_time() - began < 20
