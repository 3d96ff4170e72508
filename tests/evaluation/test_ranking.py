"""Reviews of the worst tenth, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpmo_cli.evaluation.ranking import BAD_IOU, Ranking, rank

NAN = math.nan


def twenty(*bad: int) -> list[float]:
    """IoUs of 20 points, of which some are bad."""
    return [0.2 if index in bad else 0.8 for index in range(20)]


RISING = [index / 20 for index in range(20)]


@pytest.mark.parametrize(
    ("scores", "ious", "expected"),
    [
        pytest.param(RISING, twenty(0, 1), Ranking(20, 2, 2, 1.0, 10.0), id="both found"),
        pytest.param(RISING, twenty(0, 9), Ranking(20, 2, 1, 0.5, 5.0), id="one found"),
        pytest.param(RISING, twenty(18, 19), Ranking(20, 2, 0, 0.0, 0.0), id="the wrong way"),
        pytest.param(
            RISING, twenty(0, 1, 5, 6), Ranking(20, 4, 2, 1.0, 5.0), id="more bad than looked at"
        ),
        pytest.param(
            RISING, twenty(1), Ranking(20, 1, 1, 1.0, 10.0), id="fewer bad than looked at"
        ),
        pytest.param(RISING, [0.1] * 20, Ranking(20, 20, 2, 1.0, 1.0), id="all bad"),
        pytest.param(RISING, twenty(), Ranking(20, 0, 0, NAN, NAN), id="nothing bad"),
        pytest.param(
            [0.5] * 20, twenty(0, 2), Ranking(20, 2, 1, 0.5, 5.0), id="ties: as they come"
        ),
        pytest.param(
            [*[0.0] * 18, NAN, NAN], twenty(18, 19), Ranking(20, 2, 2, 1.0, 10.0), id="NaN first"
        ),
        pytest.param(
            [*[-9.0] * 19, NAN], twenty(19), Ranking(20, 1, 1, 1.0, 10.0), id="NaN before less"
        ),
        pytest.param([NAN] * 20, twenty(0, 2), Ranking(20, 2, 1, 0.5, 5.0), id="all NaN"),
        pytest.param(RISING, [BAD_IOU] * 20, Ranking(20, 0, 0, NAN, NAN), id="at the limit"),
        pytest.param([0.1] * 4, [0.0] * 4, Ranking(4, 4, 0, NAN, NAN), id="too few for a tenth"),
        pytest.param([0.2, 0.1, *[0.5] * 7], [0.9, 0.0, *[0.9] * 7], Ranking(9, 1, 1, 1.0, 9.0),
                     id="nine points: one is a tenth"),
        pytest.param([], [], Ranking(0, 0, 0, NAN, NAN), id="nothing at all"),
    ],
)  # fmt: skip
def test_by_hand(scores: list[float], ious: list[float], expected: Ranking) -> None:
    found = rank(np.array(scores, dtype=np.float64), np.array(ious, dtype=np.float64))
    assert vars(found) == pytest.approx(vars(expected), nan_ok=True)


@given(st.integers(0, 10**6), st.integers(5, 60))
def test_no_order_is_better_than_the_truth(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    ious = rng.random(count)
    perfect, other = rank(ious, ious), rank(rng.random(count), ious)
    assert perfect.bad == other.bad == (ious < 0.5).sum()
    assert other.found <= perfect.found
    if perfect.bad and count >= 6:
        assert perfect.of_perfect == 1
        assert 0 <= other.of_perfect <= 1
        assert other.of_random == pytest.approx(other.of_perfect * perfect.of_random)
