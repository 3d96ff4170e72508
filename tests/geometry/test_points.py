from __future__ import annotations

import math
from time import process_time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from dpmo_cli.geometry.points import FloatArray, group_points
from tests.geometry.crowds import Crowd, crowds, shuffled

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("points", "size_hw", "pixels", "inside", "site_of_point"),
    [
        pytest.param([], (4, 6), [], [], [], id="no points"),
        pytest.param([(2.5, 1.5)], (4, 6), [(2, 2)], [True], [0], id="halves round to even"),
        pytest.param([(1.4, 1), (0.6, 1)], (4, 6), [(1, 1)], [True], [0, 0], id="one pixel"),
        pytest.param(
            [(1.6, 1), (1.4, 1)], (4, 6), [(1, 1), (2, 1)], [True, True], [1, 0], id="by coordinate"
        ),
        pytest.param(
            [(5.9, 3.9), (5, 3)], (4, 6), [(5, 3)], [True], [0, 0], id="clipped to the last pixel"
        ),
        pytest.param([(6, 1)], (4, 6), [(6, 1)], [False], [0], id="x = W is outside"),
        pytest.param([(1, 4)], (4, 6), [(1, 4)], [False], [0], id="y = H is outside"),
        pytest.param([(-0.2, 0)], (4, 6), [(0, 0)], [False], [0], id="x below 0 is outside"),
        pytest.param([(0, -1e-9)], (4, 6), [(0, 0)], [False], [0], id="y below 0 is outside"),
        pytest.param([(-0.0, 0)], (4, 6), [(0, 0)], [True], [0], id="minus zero is inside"),
        pytest.param(
            [(-0.2, 0), (0, 0)],
            (4, 6),
            [(0, 0), (0, 0)],
            [False, True],
            [0, 1],
            id="outside and inside never share",
        ),
        pytest.param(
            [(9, 9), (9, 9)],
            (4, 6),
            [(9, 9), (9, 9)],
            [False, False],
            [0, 1],
            id="outside points are sites of their own",
        ),
        pytest.param(
            [(NAN, 1), (1, 1), (1, INF), (-INF, 1)],
            (4, 6),
            [(1, 1)],
            [True],
            [-1, 0, -1, -1],
            id="invalid points have no site",
        ),
        pytest.param(
            [(0.99, 0.99), (0, 0)], (1, 1), [(0, 0)], [True], [0, 0], id="one-pixel image"
        ),
        pytest.param([(3, 2)] * 5, (4, 6), [(3, 2)], [True], [0] * 5, id="all points equal"),
    ],
)
def test_grouping(
    points: list[tuple[float, float]],
    size_hw: tuple[int, int],
    pixels: list[tuple[int, int]],
    inside: list[bool],
    site_of_point: list[int],
) -> None:
    sites = group_points(np.array(points, dtype=np.float64), size_hw)
    assert [tuple(pixel) for pixel in sites.pixel_xy.tolist()] == pixels
    assert sites.inside.tolist() == inside
    assert sites.site_of_point.tolist() == site_of_point
    assert len(sites) == len(pixels)


def test_coordinates_beyond_any_image_are_outside() -> None:
    sites = group_points(np.array([(1e300, -1e300), (2.0, 2.0)]), (5, 5))
    assert sites.inside.tolist() == [True, False]
    assert sites.xy[1].tolist() == [1e300, -1e300]


def test_smallest_point_represents_its_site() -> None:
    points = np.array([(3.2, 1.0), (2.9, 1.4), (2.9, 1.1), (2.9, 1.1)])
    sites = group_points(points, (5, 5))
    assert sites.xy.tolist() == [[2.9, 1.1]]
    assert sites.point_of_site.tolist() == [2]


@settings(deadline=None, max_examples=100)
@given(crowds())
def test_points_share_a_site_where_they_share_a_pixel_inside(crowd: Crowd) -> None:
    points, (height, width) = crowd
    sites = group_points(points, (height, width))
    groups: dict[object, set[int]] = {}
    for index, (x, y) in enumerate(points.tolist()):
        if not (math.isfinite(x) and math.isfinite(y)):
            assert sites.site_of_point[index] == -1
            continue
        inside = 0 <= x < width and 0 <= y < height
        # Python rounds halves to even too.
        pixel = (min(round(x), width - 1), min(round(y), height - 1))
        groups.setdefault(pixel if inside else index, set()).add(index)
        site = sites.site_of_point[index]
        assert sites.inside[site] == inside
        if inside:
            assert tuple(sites.pixel_xy[site].tolist()) == pixel
    found = [set(np.flatnonzero(sites.site_of_point == site)) for site in range(len(sites))]
    assert sorted(map(sorted, found)) == sorted(map(sorted, groups.values()))


@settings(deadline=None, max_examples=100)
@given(crowds(), st.integers(0, 2**32))
def test_order_of_points_does_not_matter(crowd: Crowd, seed: int) -> None:
    points, size_hw = crowd
    order = shuffled(len(points), seed)
    sites, again = group_points(points, size_hw), group_points(points[order], size_hw)
    np.testing.assert_array_equal(again.xy, sites.xy)
    np.testing.assert_array_equal(again.pixel_xy, sites.pixel_xy)
    np.testing.assert_array_equal(again.inside, sites.inside)
    np.testing.assert_array_equal(points[order][again.point_of_site], again.xy)
    # Equal points outside may swap their sites, which are equal too.
    np.testing.assert_array_equal(
        site_coordinates(again.xy, again.site_of_point),
        site_coordinates(sites.xy, sites.site_of_point[order]),
    )


def site_coordinates(sites_xy: FloatArray, site_of_point: object) -> FloatArray:
    """Coordinates of each point's site, NaN for points without one."""
    return np.asarray(np.concatenate([sites_xy, [(NAN, NAN)]])[np.asarray(site_of_point)])


@settings(deadline=None, max_examples=100)
@given(crowds())
def test_sites_stand_in_the_order_of_their_coordinates(crowd: Crowd) -> None:
    sites = group_points(*crowd)
    keys = [tuple(xy) for xy in sites.xy.tolist()]
    assert keys == sorted(keys)


@pytest.mark.parametrize("spread_px", [0, 300, 4000], ids=["all equal", "dense", "sparse"])
def test_twenty_thousand_points_are_grouped_fast(spread_px: int) -> None:
    points = np.random.default_rng(0).random((20_000, 2)) * spread_px + 100
    begin = process_time()
    sites = group_points(points, (5000, 5000))
    assert process_time() - begin < 2
    assert len(sites) == len(np.unique(np.rint(points), axis=0))
