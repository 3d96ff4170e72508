"""Overlaps and matchings against brute force."""

from __future__ import annotations

from itertools import permutations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import linear_sum_assignment

from dpmo_cli.evaluation import overlaps as module
from dpmo_cli.evaluation.overlaps import (
    Overlaps,
    assigned_iou,
    find_hits,
    matched_ious,
    overlaps_of,
)
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.geometry.rle import Rle
from tests.evaluation.crowds import Bools, box, random_image, rle_of
from tests.outputs.samples import pixels_of


def sparse(dense: FloatArray) -> Overlaps:
    rows, columns = np.nonzero(dense > 0)
    return Overlaps(rows, columns, dense[rows, columns], *dense.shape)


def dense_of(found: Overlaps) -> FloatArray:
    dense = np.zeros((found.predictions, found.instances))
    dense[found.prediction, found.instance] = found.iou
    return dense


tables = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**32 - 1))


def table(shape: tuple[int, int, int]) -> FloatArray:
    rng = np.random.default_rng(shape[2])
    dense = rng.choice([0, 0, 0.2, 0.5, 0.55, 1.0], shape[:2])
    return np.where(rng.random(shape[:2]) < 0.5, dense, dense * rng.random(shape[:2]))


@settings(deadline=None)
@given(tables)
def test_the_assignment_by_trying_all(shape: tuple[int, int, int]) -> None:
    dense = table(shape)
    wide = dense if dense.shape[0] <= dense.shape[1] else dense.T
    rows = np.arange(len(wide))
    best = max(wide[rows, list(p)].sum() for p in permutations(range(wide.shape[1]), len(wide)))
    assert assigned_iou(sparse(dense)) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("density", [0.005, 0.05])
def test_the_assignment_of_many(density: float) -> None:
    rng = np.random.default_rng(3)
    dense = rng.random((300, 260)) * (rng.random((300, 260)) < density)
    rows, columns = linear_sum_assignment(dense, maximize=True)
    assert assigned_iou(sparse(dense)) == pytest.approx(dense[rows, columns].sum(), abs=1e-9)


def pixels(rles: list[Rle]) -> list[Bools]:
    return [pixels_of({"rle": rle}) for rle in rles]


@pytest.mark.parametrize("cells", [1, 40, 10**6])
def test_bands_do_not_matter(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    image = random_image(1)
    predicted = [mask for mask in image.predicted if mask is not None]
    expected = np.array(
        [
            [np.logical_and(a, b).sum() / np.logical_or(a, b).sum() for b in pixels(image.truth)]
            for a in pixels(predicted)
        ]
    )
    monkeypatch.setattr(module, "_CELLS_AT_ONCE", cells)
    np.testing.assert_array_equal(dense_of(overlaps_of(predicted, image.truth)), expected)


@pytest.mark.parametrize("none", ["predictions", "instances", "both"])
def test_nothing_to_match(none: str) -> None:
    one = [rle_of(box((4, 4), 0, 0, 2, 2))]
    found = overlaps_of([] if none != "instances" else one, [] if none != "predictions" else one)
    assert (len(found.iou), assigned_iou(found), len(matched_ious(found))) == (0, 0.0, 0)
    assert find_hits(found, np.zeros(found.predictions)).shape == (10, found.predictions)


def test_pairs_are_taken_best_first() -> None:
    # The first prediction fits both instances; 0.5 itself is not above 0.5.
    dense = np.array([[0.6, 0.9, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 0.5]])
    assert matched_ious(sparse(dense)).tolist() == [0.9]


def test_hits_by_hand() -> None:
    dense = np.array([[0.62, 0.91], [0.0, 0.92], [0.5, 0.0]])
    # The surer first prediction takes instance 1, so that the second finds nothing.
    hits = find_hits(sparse(dense), np.array([0.9, 0.8, 0.7]))
    assert hits.sum(axis=1).tolist() == [2, *[1] * 8, 0]
    assert hits[0].tolist() == [True, False, True]
    # The other way round the first has to do with instance 0, which the third has taken at 0.5.
    hits = find_hits(sparse(dense), np.array([0.1, 0.8, 0.7]))
    assert hits[:4].tolist() == [
        [False, True, True],
        [True, True, False],
        [True, True, False],
        [False, True, False],
    ]
    assert find_hits(sparse(dense), np.array([0.1, 0.8, 0.05]))[0].tolist() == [True, True, False]
