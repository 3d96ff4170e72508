"""Matching of points: tables, and against the assignment solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from dpmo_cli.evaluation.matching import count_matches


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


@pytest.mark.parametrize("seed", range(8))
def test_against_the_assignment_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, true = rng.uniform(0, 60, (40, 2)), rng.uniform(0, 60, (50, 2))
    allowed = cdist(predicted, true) <= 6
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    assert count_matches(predicted, true, 6.0) == allowed[rows, columns].sum()
