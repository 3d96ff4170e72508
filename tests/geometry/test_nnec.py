from __future__ import annotations

from time import process_time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from dpmo_cli.geometry.nnec import (
    clamped,
    disc_mask,
    disc_radii,
    disc_windows,
    local_spacing,
    nearest_others,
    neighbour_distances,
)
from dpmo_cli.geometry.points import FloatArray, group_points
from tests.geometry.crowds import Crowd, crowds, shuffled


def radii_of_points(
    points: list[tuple[float, float]], size_hw: tuple[int, int], scale: float = 1.0
) -> list[float]:
    sites = group_points(np.array(points), size_hw)
    radii = disc_radii(neighbour_distances(sites), size_hw, scale)
    return [float(radii[site]) for site in sites.site_of_point]


@pytest.mark.parametrize(
    ("points", "size_hw", "scale", "expected"),
    [
        pytest.param([(10, 10), (13, 14)], (100, 80), 1.0, [5, 5], id="full distance"),
        pytest.param([(10, 10), (16, 18), (22, 18)], (100, 80), 1.0, [10, 6, 6], id="nearest"),
        pytest.param([(10, 10), (16, 18)], (100, 80), 0.5, [5, 5], id="scale"),
        pytest.param([(10, 10), (12, 10)], (100, 80), 1.0, [3, 3], id="at least 3 px"),
        pytest.param([(10, 10), (16, 10)], (100, 80), 0.25, [3, 3], id="3 px after the scale"),
        pytest.param([(0, 0), (0, 90)], (100, 80), 1.0, [40, 40], id="at most half the width"),
        pytest.param([(0, 0), (90, 0)], (60, 100), 1.0, [30, 30], id="at most half the height"),
        pytest.param([(0, 0), (30, 40)], (100, 80), 5.0, [40, 40], id="half side after the scale"),
        pytest.param([(5, 5)], (100, 80), 1.0, [20], id="lone: a quarter of the shorter side"),
        pytest.param([(5, 5)], (100, 80), 3.0, [20], id="lone: whatever the scale"),
        pytest.param([(5, 5)] * 3, (100, 80), 1.0, [20] * 3, id="all equal: one lone site"),
        pytest.param([(5, 5.2), (5, 4.9)], (100, 80), 1.0, [20, 20], id="one pixel: lone"),
        pytest.param([(2, 9), (-8, 9)], (100, 80), 1.0, [10, 10], id="outside is a neighbour"),
        pytest.param([(-9, 9), (-9, 9)], (100, 80), 1.0, [3, 3], id="equal points outside"),
        pytest.param([(5, 5), (1e200, 5)], (100, 80), 1.0, [40, 40], id="very far outside"),
        pytest.param([(0, 0)], (1, 1), 1.0, [0.25], id="lone in one pixel"),
        pytest.param([(0, 0), (7, 0)], (1, 1), 1.0, [3, 3], id="3 px wins over half the side"),
        pytest.param([(0, 0), (7, 0)], (1, 12_000), 1.0, [3, 3], id="one row"),
    ],
)
def test_radii(
    points: list[tuple[float, float]], size_hw: tuple[int, int], scale: float, expected: list[float]
) -> None:
    assert radii_of_points(points, size_hw, scale) == expected


def test_sites_without_points_have_no_radii() -> None:
    sites = group_points(np.full((3, 2), np.nan), (10, 10))
    assert disc_radii(neighbour_distances(sites), (10, 10), 1.0).shape == (0,)
    assert local_spacing(sites).shape == (0,)
    assert disc_windows(sites.xy, np.zeros(0), (10, 10)).shape == (0, 4)


@pytest.mark.parametrize(
    ("points", "scale", "expected"),
    [
        pytest.param([(10, 10), (20, 10)], 1.0, [False, False], id="free"),
        pytest.param([(10, 10), (13, 10)], 1.0, [False, False], id="just 3 px"),
        pytest.param([(10, 10), (12, 10)], 1.0, [True, True], id="too near"),
        pytest.param([(10, 10), (20, 10)], 0.2, [True, True], id="too near after the scale"),
        pytest.param([(10, 10), (60, 10)], 1.0, [True, True], id="too far"),
        pytest.param([(10, 10), (50, 10)], 1.0, [False, False], id="just half the side"),
        pytest.param([(10, 10), (20, 10), (90, 10)], 1.0, [False, False, True], id="by site"),
        pytest.param([(10, 10)], 1.0, [False], id="lone sites are not counted"),
    ],
)
def test_clamped(points: list[tuple[float, float]], scale: float, expected: list[bool]) -> None:
    sites = group_points(np.array(points, dtype=np.float64), (80, 100))
    assert clamped(neighbour_distances(sites), (80, 100), scale).tolist() == expected


def all_distances(sites_xy: FloatArray) -> FloatArray:
    """(S, S - 1) distances to the other sites, ascending."""
    offsets = sites_xy[:, None] - sites_xy[None]
    distances = np.hypot(offsets[..., 0], offsets[..., 1])
    np.fill_diagonal(distances, -1)
    return np.sort(distances, axis=1)[:, 1:]


@settings(deadline=None, max_examples=100)
@given(crowds(finite=True))
def test_distances_and_spacing_are_those_of_all_pairs(crowd: Crowd) -> None:
    sites = group_points(*crowd)
    pairs = all_distances(sites.xy)
    if len(sites) < 2:
        nearest = median = np.full(len(sites), np.inf)
    else:
        nearest, median = pairs[:, 0], np.median(pairs[:, :9], axis=1)
    np.testing.assert_allclose(neighbour_distances(sites), nearest, rtol=1e-12)
    np.testing.assert_allclose(local_spacing(sites), median, rtol=1e-12)


@settings(deadline=None, max_examples=100)
@given(crowds(), st.sampled_from([0.3, 1.0, 5.0]), st.integers(0, 2**32))
def test_order_of_points_does_not_matter(crowd: Crowd, scale: float, seed: int) -> None:
    points, size_hw = crowd
    sites = group_points(points, size_hw)
    again = group_points(points[shuffled(len(points), seed)], size_hw)
    distances, distances_again = neighbour_distances(sites), neighbour_distances(again)
    np.testing.assert_array_equal(distances_again, distances)
    np.testing.assert_array_equal(local_spacing(again), local_spacing(sites))
    radii = disc_radii(distances, size_hw, scale)
    np.testing.assert_array_equal(disc_radii(distances_again, size_hw, scale), radii)
    np.testing.assert_array_equal(
        disc_windows(again.xy, radii, size_hw), disc_windows(sites.xy, radii, size_hw)
    )


# Eighths of a pixel, in which rims are computed without rounding.
eighths = st.integers(0, 500).map(lambda value: value / 8)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 30), st.integers(1, 30), eighths, eighths, st.integers(1, 300))
def test_disc_windows_are_the_columns_and_rows_of_the_circle(
    height: int, width: int, x: float, y: float, radius_eighths: int
) -> None:
    x, y, radius = x % width, y % height, radius_eighths / 8
    pixels = disc_mask(np.array([x, y]), radius, (0, 0, width, height))
    column, row = min(round(x), width - 1), min(round(y), height - 1)
    columns = [at for at in range(width) if abs(at - x) <= radius or at == column]
    rows = [at for at in range(height) if abs(at - y) <= radius or at == row]
    windows = disc_windows(np.array([(x, y)]), np.array([radius]), (height, width))
    x0, y0, x1, y1 = windows[0].tolist()
    assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert pixels[y0:y1, x0:x1].sum() == pixels.sum()


@settings(deadline=None, max_examples=100)
@given(crowds())
def test_disc_windows_lie_in_the_image_and_hold_the_sites_pixel(crowd: Crowd) -> None:
    points, (height, width) = crowd
    sites = group_points(points, (height, width))
    radii = disc_radii(neighbour_distances(sites), (height, width), 1.0)
    x0, y0, x1, y1 = disc_windows(sites.xy, radii, (height, width)).T
    assert ((x0 >= 0) & (y0 >= 0) & (x1 <= width) & (y1 <= height)).all()
    assert ((x0 < x1) & (y0 < y1)).all()
    x, y = sites.pixel_xy[sites.inside].T
    assert ((x0[sites.inside] <= x) & (x < x1[sites.inside])).all()
    assert ((y0[sites.inside] <= y) & (y < y1[sites.inside])).all()


def test_disc_is_cut_by_its_window() -> None:
    whole = disc_mask(np.array([4.0, 3.0]), 3.0, (0, 0, 9, 8))
    assert whole.sum() == 29
    assert whole[3, 7]
    assert not whole[3, 8]
    np.testing.assert_array_equal(
        disc_mask(np.array([4.0, 3.0]), 3.0, (2, 1, 6, 7)), whole[1:7, 2:6]
    )


def test_window_of_a_one_pixel_image_is_that_pixel() -> None:
    assert disc_windows(np.array([(0.9, 0.9)]), np.array([0.25]), (1, 1)).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("spread_px", [0, 300, 4000], ids=["all equal", "dense", "sparse"])
def test_twenty_thousand_points_are_fast(spread_px: int) -> None:
    points = np.random.default_rng(0).random((20_000, 2)) * spread_px
    begin = process_time()
    sites = group_points(points, (5000, 5000))
    radii = disc_radii(neighbour_distances(sites), (5000, 5000), 1.0)
    local_spacing(sites)
    disc_windows(sites.xy, radii, (5000, 5000))
    assert process_time() - begin < 2
    assert radii.min() >= 3
    assert radii.max() <= 2500


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 6))
def test_nearest_others_equal_the_definition(seed: int, points: int, count: int) -> None:
    xy = np.random.default_rng(seed).uniform(-50, 50, (points, 2))
    found = nearest_others(xy, count)
    for index, row in enumerate(found):
        others = [other for other in range(points) if other != index]
        away = np.hypot(*(xy[others] - xy[index]).T)
        assert row.tolist() == [others[place] for place in np.argsort(away)[:count]]


@pytest.mark.parametrize("far", [1e16, 1e200, 1e308])
def test_points_too_far_to_square_are_still_others(far: float) -> None:
    xy = np.array([[0.0, 0.0], [far, 0.0], [far, far / 2], [3.0, 0.0]])
    found = nearest_others(xy, 3)
    assert [sorted({*row, index}) for index, row in enumerate(found.tolist())] == [[0, 1, 2, 3]] * 4
    assert found[0, 0] == 3
