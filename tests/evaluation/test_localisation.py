"""Precision, recall and F1 of points: by hand, by definition, and on NWPU's real heads."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from dpmo_cli.datasets.nwpu_lines import read_sized_heads
from dpmo_cli.evaluation.localisation import (
    QNRF_RADII_PX,
    PointSummary,
    match_at_radii,
    match_at_sigmas,
    summarise_points,
)
from dpmo_cli.evaluation.matching import count_matches
from dpmo_cli.evaluation.true_heads import size_heads
from dpmo_cli.geometry.points import FloatArray
from tests.datasets.conftest import SHARED_DATA

NWPU_HEADS = SHARED_DATA / "NWPU-Crowd" / "val_gt_loc.txt"


def xy(*points: tuple[float, float]) -> FloatArray:
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def figures_of(found: PointSummary, row: int = 0) -> tuple[float, float, float]:
    one = found.rows[row]
    return one.precision.value, one.recall.value, one.f1.value


def test_by_hand() -> None:
    """Two images: at 4 px 1 of 2 and 1 of 1 predictions are right, at 8 px all."""
    measures = [
        match_at_radii(xy((0, 0), (10, 0)), xy((3, 0), (10, 6), (90, 90)), (8, 4)),
        match_at_radii(xy((5, 5)), xy((5, 5)), (8, 4)),
    ]
    found = summarise_points(measures, "fixed", (8, 4), samples=0)
    assert (found.images, found.predicted_points, found.true_points) == (2, 3, 4)
    assert [(row.criterion, row.matched) for row in found.rows] == [("8 px", 3), ("4 px", 2)]
    assert figures_of(found, 0) == (1, 3 / 4, 6 / 7)
    assert figures_of(found, 1) == (2 / 3, 2 / 4, 4 / 7)
    assert found.levels == ()
    assert math.isnan(found.rows[0].f1.low)


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        pytest.param(xy(), xy(), (math.nan, math.nan, math.nan), id="nothing"),
        pytest.param(xy((1, 1)), xy(), (0, math.nan, 0), id="no heads"),
        pytest.param(xy(), xy((1, 1)), (math.nan, 0, 0), id="no points"),
    ],
)
@pytest.mark.parametrize("protocol", ["fixed", "qnrf", "nwpu"])
def test_nothing_to_divide(
    protocol: str, predicted: FloatArray, true: FloatArray, expected: tuple[float, float, float]
) -> None:
    if protocol == "nwpu":
        boxes = np.concatenate([true - 2, true + 2], axis=1)
        measure = match_at_sigmas(predicted, size_heads(true, boxes))
    else:
        measure = match_at_radii(predicted, true, QNRF_RADII_PX if protocol == "qnrf" else (4,))
    found = summarise_points([measure], protocol, (4,))
    np.testing.assert_equal(figures_of(found), expected)


def test_the_mean_over_distances() -> None:
    """A head 51 px away counts at 50 of the 100 distances; the other one at all."""
    measure = match_at_radii(xy((0, 0), (500, 51)), xy((0, 0), (500, 0)), QNRF_RADII_PX)
    found = summarise_points([measure], "qnrf")
    assert found.rows[0].criterion == "1 to 100 px"
    assert found.rows[0].matched is None
    np.testing.assert_allclose(figures_of(found), [0.75, 0.75, 0.75])


def test_sigmas_and_levels_by_hand() -> None:
    true = xy((20, 20), (100, 20), (200, 20))
    # 6 x 8: sigma_s 3, sigma_l 5, area 48; 10 x 10: area 100; a box of no width.
    boxes = np.array([[17, 16, 23, 24], [95, 15, 105, 25], [200, 10, 200, 30]], dtype=np.float64)
    heads = size_heads(true, boxes)
    assert heads.sigma_small_px.tolist() == [3, 5, 0]
    np.testing.assert_allclose(heads.sigma_large_px, [5, math.sqrt(50), 10])
    assert heads.levels.tolist() == [1, 1, 0]
    measure = match_at_sigmas(xy((23, 24), (104, 20), (200, 20), (400, 400)), heads)
    found = summarise_points([measure, measure], "nwpu")
    assert [(row.criterion, row.matched) for row in found.rows] == [("sigma_l", 6), ("sigma_s", 4)]
    assert figures_of(found, 0) == (3 / 4, 1, 6 / 7)
    assert [level.heads for level in found.levels] == [2, 4, 0, 0, 0, 0]
    assert (found.levels[0].area, found.levels[0].sigma_s.value) == ("1 to 10", 1)
    assert (found.levels[1].sigma_l.value, found.levels[1].sigma_s.value) == (1, 0.5)
    assert math.isnan(found.levels[5].sigma_l.value)


@pytest.mark.parametrize(
    ("side", "level"), [(0, 0), (1, 0), (3.2, 1), (10, 1), (11, 2), (100, 3), (101, 4), (317, 5)]
)
def test_levels_hold_their_upper_end(side: float, level: int) -> None:
    heads = size_heads(np.zeros((1, 2)), np.array([[0.0, 0.0, side, side]]))
    assert heads.levels.tolist() == [level]


def test_intervals() -> None:
    rng = np.random.default_rng(0)
    measures = []
    for _ in range(30):
        true = rng.uniform(0, 200, (40, 2))
        measures.append(match_at_radii(true + rng.normal(0, 3, (40, 2)), true, (4, 8)))
    found = summarise_points(measures, "fixed")
    assert found == summarise_points(measures, "fixed")
    assert found != summarise_points(measures, "fixed", seed=1)
    f1 = found.rows[0].f1
    assert 0 < f1.low < f1.value < f1.high < 1
    assert (found.samples, found.seed) == (1000, 0)


@pytest.mark.skipif(not NWPU_HEADS.is_file(), reason="needs ../shared/data/NWPU-Crowd")
def test_the_real_heads_are_fast() -> None:
    """NWPU's 196,238 heads as prediction: 1 everywhere, in seconds."""
    heads = read_sized_heads(NWPU_HEADS).values()
    began = time.process_time()
    measures = [match_at_radii(one.points_xy, one.points_xy, (4, 8)) for one in heads]
    found = summarise_points(measures, "fixed")
    assert time.process_time() - began < 20
    assert found.true_points == 196_238
    assert {figures_of(found, row) for row in (0, 1)} == {(1, 1, 1)}


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_by_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [(rng.uniform(0, 300, (20, 2)), rng.uniform(0, 300, (25, 2))) for _ in range(3)]
    found = summarise_points([match_at_radii(*one, QNRF_RADII_PX) for one in images], "qnrf")
    matched = np.array([sum(count_matches(*one, r) for one in images) for r in range(1, 101)])
    expected = [(matched / 60).mean(), (matched / 75).mean(), (2 * matched / 135).mean()]
    np.testing.assert_allclose(figures_of(found), expected)
