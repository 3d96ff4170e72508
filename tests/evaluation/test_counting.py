"""Errors of counts, by hand."""

from __future__ import annotations

import math

import numpy as np

from dpmo_cli.evaluation.counting import CountFigures, summarise_counts


def values(found: CountFigures) -> tuple[float, float, float, float]:
    return found.mae.value, found.rmse.value, found.nae.value, found.bias.value


def test_by_hand() -> None:
    """Errors 2, -10 and 30; NAE of 10 / 40 and 30 / 50."""
    found = summarise_counts([2, 30, 80.0], [0, 40, 50])
    assert (found.images, found.images_without_people) == (3, 1)
    assert (found.predicted_people, found.true_people) == (112, 90)
    expected = (14, math.sqrt((4 + 100 + 900) / 3), (0.25 + 0.6) / 2, 22 / 3)
    np.testing.assert_allclose(values(found.figures), expected)
    below, above, *others = found.by_people
    assert (below.low, below.high, below.images) == (0, 50, 2)
    np.testing.assert_allclose(values(below.figures), (6, math.sqrt(52), 0.25, -4))
    assert (above.low, above.high, above.images) == (50, 200, 1)
    np.testing.assert_allclose(values(above.figures), (30, 30, 0.6, 30))
    assert [(one.low, one.high, one.images) for one in others] == [
        (200, 500, 0),
        (500, 1000, 0),
        (1000, math.inf, 0),
    ]
    assert all(math.isnan(value) for value in values(others[0].figures))


def test_edges() -> None:
    found = summarise_counts([0] * 8, [49, 50, 199, 200, 499, 500, 999, 1000])
    assert [one.images for one in found.by_people] == [1, 2, 2, 2, 1]


def test_nobody() -> None:
    found = summarise_counts([0, 3], [0, 0])
    np.testing.assert_equal(values(found.figures), (1.5, math.sqrt(4.5), math.nan, 1.5))


def test_perfect_counts() -> None:
    true = list(range(0, 2000, 37))
    figures = summarise_counts(true, true).figures
    for one in (figures.mae, figures.rmse, figures.nae, figures.bias):
        assert (one.value, one.low, one.high) == (0, 0, 0)


def test_intervals() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 300, 60).tolist()
    predicted = [
        max(0.0, count + error) for count, error in zip(true, rng.normal(5, 20, 60), strict=True)
    ]
    found = summarise_counts(predicted, true)
    for one in (found.figures.mae, found.figures.rmse, found.figures.nae, found.figures.bias):
        assert one.low < one.value < one.high
    assert found.as_json() == summarise_counts(predicted, true).as_json()
    assert math.isnan(summarise_counts(predicted, true, samples=0).figures.mae.low)


def test_json_has_no_nan() -> None:
    found = summarise_counts([1], [0]).as_json()
    assert found["figures"]["nae"]["value"] is None
    assert found["by_people"][-1]["high"] is None
