from __future__ import annotations

from dataclasses import dataclass
from time import process_time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from dpmo_cli.geometry.nnec import disc_radii, disc_windows, neighbour_distances
from dpmo_cli.geometry.points import FloatArray, Sites, group_points
from dpmo_cli.geometry.tiles import MAX_MAGNIFICATION, Tile, adaptive_tiles, whole_image
from tests.geometry.crowds import shuffled

NANO, VIT = (256, 36.0), (1024, 64.0)
"""Frame, px, and the disc's radius wanted in it, px."""
networks = st.sampled_from([NANO, VIT])


@dataclass(frozen=True)
class Cut:
    """An image's sites with their discs, and the tiles cut for those inside."""

    sites: Sites
    radii_px: FloatArray
    units_px: FloatArray
    size_hw: tuple[int, int]
    tiles: list[Tile]

    @property
    def largest_px(self) -> list[int]:
        """Longer side of each tile."""
        windows = [tile.window_xyxy for tile in self.tiles]
        return [max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in windows]


def cut(
    points: FloatArray,
    size_hw: tuple[int, int],
    network: tuple[int, float] = NANO,
    scale: float = 1.0,
) -> Cut:
    sites = group_points(points, size_hw)
    distances = neighbour_distances(sites)
    radii, units = disc_radii(distances, size_hw, scale), disc_radii(distances, size_hw, 1.0)
    tiles = adaptive_tiles(
        sites.xy,
        radii,
        units,
        units,
        np.flatnonzero(sites.inside),
        size_hw,
        frame_px=network[0],
        target_px=network[1],
    )
    return Cut(sites, radii, units, size_hw, tiles)


def assert_sound(found: Cut, network: tuple[int, float]) -> None:
    """Check what must hold for any sites at all."""
    height, width = found.size_hw
    decoded = np.concatenate([np.zeros(0, dtype=np.int64), *(tile.sites for tile in found.tiles)])
    assert sorted(decoded.tolist()) == np.flatnonzero(found.sites.inside).tolist()
    discs = disc_windows(found.sites.xy, found.radii_px, found.size_hw)
    for tile, longer in zip(found.tiles, found.largest_px, strict=True):
        x0, y0, x1, y1 = tile.window_xyxy
        assert len(tile.sites)
        assert (np.diff(tile.sites) > 0).all()
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert (discs[tile.sites] >= (x0, y0, 0, 0)).all()
        assert (discs[tile.sites, 2:] <= (x1, y1)).all()
        # An image smaller than the smallest tile is magnified more: it is all there is.
        assert longer == max(height, width) or network[0] / longer <= MAX_MAGNIFICATION
    assert found.largest_px == sorted(found.largest_px)


@st.composite
def scattered(draw: st.DrawFn) -> tuple[FloatArray, tuple[int, int]]:
    """Clusters and loose points in and around an image of up to 1200 px."""
    height, width = draw(st.integers(1, 1200)), draw(st.integers(1, 1200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        count, spread = draw(st.integers(0, 60)), draw(st.sampled_from([0.0, 2.0, 30.0, 1200.0]))
        parts.append(rng.random(2) * [width, height] + rng.normal(0, spread, (count, 2)))
    points = np.concatenate(parts)
    if draw(st.booleans()):
        points = np.clip(points, 0, [width - 0.01, height - 0.01])
    return points, (height, width)


@settings(deadline=None, max_examples=150)
@given(scattered(), networks, st.sampled_from([0.2, 1.0, 2.0, 5.0]))
@example((np.array([(588.0, 588.0), (0.0, 0.0)]), (1177, 1177)), NANO, 1.0)
@example((np.array([(588.0, 588.0), (400.0, 588.0)]), (1177, 1177)), VIT, 5.0)
def test_tiles_hold_the_discs_of_all_sites(
    crowd: tuple[FloatArray, tuple[int, int]], network: tuple[int, float], scale: float
) -> None:
    assert_sound(cut(*crowd, network, scale), network)


@settings(deadline=None, max_examples=50)
@given(scattered(), networks, st.integers(0, 2**32))
def test_order_of_points_does_not_matter(
    crowd: tuple[FloatArray, tuple[int, int]], network: tuple[int, float], seed: int
) -> None:
    points, size_hw = crowd
    found = cut(points, size_hw, network)
    again = cut(points[shuffled(len(points), seed)], size_hw, network)
    assert [tile.window_xyxy for tile in again.tiles] == [tile.window_xyxy for tile in found.tiles]
    for one, other in zip(again.tiles, found.tiles, strict=True):
        np.testing.assert_array_equal(one.sites, other.sites)


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("network", [NANO, VIT], ids=["nano", "vit"])
@pytest.mark.parametrize(
    ("points", "size_hw"),
    [
        pytest.param([(0, 0)], (1, 1), id="one pixel"),
        pytest.param([(0.9, 0.9)], (1, 1), id="rim of the only pixel"),
        pytest.param([(x, 0) for x in range(0, 12_000, 7)], (1, 12_000), id="one long row"),
        pytest.param([(0, y) for y in range(0, 12_000, 7)], (12_000, 1), id="one long column"),
        pytest.param([(0, 0), (11_999.9, 11_999.9)], (12_000, 12_000), id="opposite corners"),
        pytest.param([(6000, 6000)], (12_000, 12_000), id="lone in a large image"),
        pytest.param([(0, 0), (99.9, 0), (0, 79.9), (99.9, 79.9)], (80, 100), id="four corners"),
        pytest.param([(40, 40)] * 9, (80, 100), id="all points equal"),
        pytest.param([(5, 5), (-4, 5), (5, 200)], (80, 100), id="neighbours outside"),
        pytest.param([(50, 40), (50, 1e200)], (80, 100), id="neighbour far outside"),
    ],
)
def test_extremes(
    points: list[tuple[float, float]],
    size_hw: tuple[int, int],
    network: tuple[int, float],
    scale: float,
) -> None:
    found = cut(np.array(points, dtype=np.float64), size_hw, network, scale)
    assert_sound(found, network)
    assert found.tiles


def as_plain(tiles: list[Tile]) -> list[tuple[tuple[int, int, int, int], list[int]]]:
    return [(tile.window_xyxy, tile.sites.tolist()) for tile in tiles]


@settings(deadline=None, max_examples=50)
@given(scattered(), networks, st.sampled_from([0.2, 0.5, 0.99]))
def test_smaller_discs_are_asked_in_the_tiles_of_scale_1(
    crowd: tuple[FloatArray, tuple[int, int]], network: tuple[int, float], scale: float
) -> None:
    assert as_plain(cut(*crowd, network, scale).tiles) == as_plain(cut(*crowd, network).tiles)


@settings(deadline=None, max_examples=50)
@given(scattered(), networks, st.sampled_from([1.01, 1.5, 3.0]))
def test_larger_discs_are_asked_in_the_tiles_of_scale_1_that_hold_them(
    crowd: tuple[FloatArray, tuple[int, int]], network: tuple[int, float], scale: float
) -> None:
    found, natural = cut(*crowd, network, scale), cut(*crowd, network)
    reach = found.radii_px[:, None] + 1
    limit = np.array([found.size_hw[1], found.size_hw[0]])
    chosen = as_plain(found.tiles)
    for window, sites in as_plain(natural.tiles):
        low, high = np.array(window[:2]), np.array(window[2:])
        xy, halo = found.sites.xy[sites], reach[sites]
        # The image's border cuts discs anyway.
        if (((xy - halo >= low) | (low == 0)) & ((xy + halo < high) | (high == limit))).all():
            assert (window, sites) in chosen


def test_a_slightly_larger_scale_keeps_tiles_with_room_and_moves_the_rest() -> None:
    """Pairs far apart have room to spare in their tile; the dense part has none."""
    dense = grid_points(8, 100, 200)
    pairs = np.array(
        [(600.0 + 300 * pair, 1000.0 + 20 * one) for pair in range(4) for one in (0, 1)]
    )
    points = np.concatenate([dense, pairs])
    natural, larger = (
        as_plain(cut(points, (2000, 2000)).tiles),
        cut(points, (2000, 2000), scale=1.5),
    )
    kept = [tile for tile in natural if tile in as_plain(larger.tiles)]
    assert 4 <= len(kept) < len(natural)
    assert_sound(larger, NANO)


def test_no_sites_give_no_tiles() -> None:
    assert cut(np.array([(-3.0, 4.0)]), (50, 60)).tiles == []
    assert whole_image(np.zeros(0, dtype=np.int64), (50, 60)) == []


def test_image_without_tiling_is_one_tile() -> None:
    (tile,) = whole_image(np.array([2, 5]), (50, 60))
    assert tile.window_xyxy == (0, 0, 60, 50)
    assert tile.sites.tolist() == [2, 5]


@pytest.mark.parametrize(
    ("points", "size_hw"),
    [
        pytest.param([(30, 20)], (60, 60), id="small image"),
        pytest.param([(300, 200)], (600, 800), id="lone person"),
        pytest.param([(200, 300), (600, 300)], (600, 800), id="two large people"),
        pytest.param([(100, 300), (400, 280), (700, 300)], (600, 800), id="three large people"),
    ],
)
def test_few_and_large_people_take_the_whole_image(
    points: list[tuple[float, float]], size_hw: tuple[int, int]
) -> None:
    (tile,) = cut(np.array(points, dtype=np.float64), size_hw).tiles
    assert tile.window_xyxy == (0, 0, size_hw[1], size_hw[0])


def grid_points(spacing_px: float, left: float, side_px: float) -> FloatArray:
    """Points in rows and columns over a square part of an image."""
    line = left + np.arange(0, side_px, spacing_px)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize("network", [NANO, VIT], ids=["nano", "vit"])
@pytest.mark.parametrize("spacing_px", [17, 23, 31, 45, 60, 90])
def test_discs_reach_the_network_at_the_wanted_size(
    spacing_px: int, network: tuple[int, float]
) -> None:
    frame_px, target_px = network
    found = cut(grid_points(spacing_px, 5, 2000), (4000, 4000), network)
    for side in found.largest_px:
        # Levels stand half an octave apart, so a disc is off by a quarter of one at most.
        assert abs(np.log2(spacing_px * frame_px / side / target_px)) < 0.26


def test_sub_resolution_crowds_are_magnified_as_much_as_allowed() -> None:
    found = cut(grid_points(4, 5, 300), (2000, 2000))
    assert set(found.largest_px) == {64}


def test_dense_and_sparse_parts_get_tiles_of_their_own() -> None:
    dense, sparse = grid_points(8, 100, 200), grid_points(100, 1000, 1000)
    found = cut(np.concatenate([dense, sparse]), (2000, 2000))
    in_dense = found.sites.xy[:, 0] < 500
    for tile, side in zip(found.tiles, found.largest_px, strict=True):
        assert in_dense[tile.sites].all() or not in_dense[tile.sites].any()
        assert side == (64 if in_dense[tile.sites[0]] else 724)


@pytest.mark.parametrize(
    ("scale", "network", "most"),
    [
        pytest.param(1.0, NANO, 200, id="nano"),
        pytest.param(5.0, NANO, 1300, id="nano, large discs"),
        pytest.param(1.0, VIT, 30, id="vit"),
        pytest.param(5.0, VIT, 30, id="vit, large discs"),
    ],
)
def test_one_dense_cluster_in_a_huge_image(
    scale: float, network: tuple[int, float], most: int
) -> None:
    points = np.random.default_rng(0).random((20_000, 2)) * 500 + 7000
    begin = process_time()
    found = cut(points, (12_000, 12_000), network, scale)
    assert process_time() - begin < 3
    assert len(found.tiles) < most
    assert_sound(found, network)


def test_twenty_thousand_points_over_a_huge_image_are_fast() -> None:
    points = np.random.default_rng(0).random((20_000, 2)) * 12_000
    begin = process_time()
    found = cut(points, (12_000, 12_000), NANO, 5.0)
    assert process_time() - begin < 3
    assert_sound(found, NANO)
