"""The method on one image: disjoint masks inside their discs, the same in any order of points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpmo_cli.geometry.nnec import disc_radii, neighbour_distances
from dpmo_cli.geometry.windows import batches
from dpmo_cli.masks import reasons
from dpmo_cli.masks.claims import Seconds
from dpmo_cli.masks.method import LOGIT, RATIO, ROBUST, Method
from dpmo_cli.masks.prompting import TILES_AT_ONCE
from dpmo_cli.masks.segment import ask_network, segment_image
from dpmo_cli.masks.settle import settle
from tests.masks.fakes import (
    ENGINES,
    DiscEngine,
    ElsewhereEngine,
    FakeEngine,
    NothingEngine,
    StripeEngine,
)
from tests.masks.promises import Points, by_coordinates, check, decoded, noise, same_scores, segment

METHODS = [
    pytest.param(Method(), id="tiles"),
    pytest.param(Method(tiles=False), id="whole image"),
    pytest.param(Method(nnec_scale=2.5), id="large discs"),
    pytest.param(Method(extent="head", negatives=3), id="heads, with neighbours"),
    pytest.param(Method(radii=ROBUST), id="robust radii"),
    pytest.param(Method(nnec_scale=2.0, ownership=RATIO), id="least share of the radius"),
    pytest.param(Method(nnec_scale=2.0, ownership=LOGIT), id="highest logit"),
    pytest.param(Method(tile_unit=ROBUST, tile_target_px=20.0), id="tiles by the local spacing"),
]


def test_only_what_holds_points_is_encoded() -> None:
    """Two groups in the corners of an image; what lies between costs nothing."""
    group = np.mgrid[20:90:14, 20:90:14].reshape(2, -1).T.astype(np.float64)
    points = np.concatenate([group, group + np.array([1080, 780])])
    engine = DiscEngine()
    found = segment((900, 1200), points.tolist(), engine)
    assert len(engine.crops) == found.tiles == sum(engine.batches)
    assert sum(height * width for height, width in engine.crops) < 0.2 * 900 * 1200
    assert len(engine.asked) >= found.tiles
    nothing = DiscEngine()
    assert segment((900, 1200), [(-5.0, 7.0)], nothing).tiles == 0
    assert nothing.crops == []


@st.composite
def crowds(draw: st.DrawFn) -> tuple[tuple[int, int], NDArray[np.float64]]:
    """An image's size and points: some equal, some outside, some not finite."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(0, 9))
    points = rng.uniform(-0.05, 1.05, (count, 2)) * (width, height)
    if draw(st.booleans()):
        points = np.rint(points)
    if count > 2:
        points[rng.random(count) < 0.2] = points[0]
        points[rng.random(count) < 0.1, 0] = draw(st.sampled_from([np.nan, np.inf, -1e300]))
    return (height, width), points


@given(
    crowds(),
    st.sampled_from(ENGINES),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_promises(
    crowd: tuple[tuple[int, int], NDArray[np.float64]],
    engine: type[FakeEngine],
    scale: float,
    tiles: bool,
) -> None:
    size_hw, points = crowd
    check(segment(size_hw, points, engine(), Method(scale, tiles)), size_hw)


@given(crowds(), st.sampled_from(ENGINES), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_points_does_not_matter(
    crowd: tuple[tuple[int, int], NDArray[np.float64]], engine: type[FakeEngine], chance: object
) -> None:
    size_hw, points = crowd
    order = list(range(len(points)))
    chance.shuffle(order)
    before = segment(size_hw, points, engine())
    after = segment(size_hw, points[order], engine())
    assert by_coordinates(before) == by_coordinates(after)


@given(crowds(), st.sampled_from(ENGINES))
@settings(max_examples=30, deadline=None)
def test_chunks_do_not_matter(
    crowd: tuple[tuple[int, int], NDArray[np.float64]], engine: type[FakeEngine]
) -> None:
    size_hw, points = crowd
    before = segment(size_hw, points, engine(chunk=1))
    after = segment(size_hw, points, engine(chunk=5))
    assert by_coordinates(before, scores=False) == by_coordinates(after, scores=False)
    same_scores(before, after)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_crowd(engine: type[FakeEngine], method: Method) -> None:
    """Many tiles: dense at the left, sparse at the right."""
    rng = np.random.default_rng(5)
    dense, sparse = rng.uniform(0, 90, (60, 2)), rng.uniform((90, 0), (300, 200), (8, 2))
    points = np.concatenate([dense, sparse, dense[:3]])
    asked = engine()
    found = segment((200, 300), points, asked, method)
    check(found, (200, 300))
    assert len(found.sites) == 68
    assert sum(len(part) for part in asked.asked) == 68, "a site is asked about once"
    assert len(asked.crops) == found.tiles
    if method.tiles:
        assert found.tiles > 1
    else:
        assert asked.crops == [(200, 300)]
    if engine in (DiscEngine, StripeEngine):
        assert all(found.masks)


@pytest.mark.parametrize("method", METHODS)
def test_masks_side_by_side_are_those_of_each_alone(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(8)
    points = np.concatenate([rng.normal(60, 9, (40, 2)), rng.uniform(-2, [152, 92], (20, 2))])
    together = segment((90, 150), points, DiscEngine(chunk=5), method)
    monkeypatch.setattr("dpmo_cli.masks.prompting.CELLS_AT_ONCE", 0)
    for user in ("prompting", "settle"):
        monkeypatch.setattr(f"dpmo_cli.masks.{user}.batches", partial(batches, most_px=0))
    alone = segment((90, 150), points, DiscEngine(chunk=1), method)
    assert by_coordinates(together, scores=False) == by_coordinates(alone, scores=False)
    same_scores(together, alone)
    np.testing.assert_allclose(together.evidence, alone.evidence, rtol=1e-4, atol=1e-5)


def test_threads_that_ask_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpmo_cli.masks.segment.TILES_AT_ONCE", 2)
    rng = np.random.default_rng(6)
    points = np.concatenate([rng.uniform(0, 90, (60, 2)), rng.uniform(90, 200, (8, 2))])
    alone, seconds = segment((200, 300), points, DiscEngine()), Seconds()
    with ThreadPoolExecutor(3) as pool:
        image, method = noise(200, 300), Method()
        asked = ask_network(image, points, DiscEngine(), method, seconds=seconds, pool=pool)
        assert len(asked.pending) > 3
        together = settle(asked, DiscEngine(), method)
    assert by_coordinates(together) == by_coordinates(alone)
    assert min(seconds.encode, seconds.prompt, seconds.choose, seconds.clip) > 0


def test_many_tiles_are_encoded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(1).uniform(0, 300, (90, 2))
    together, apart = DiscEngine(), DiscEngine()
    before = segment((300, 300), points, together)
    monkeypatch.setattr("dpmo_cli.masks.segment.TILES_AT_ONCE", 2)
    after = segment((300, 300), points, apart)
    assert before.tiles == len(together.crops) > 4
    assert max(together.batches) <= TILES_AT_ONCE
    assert max(apart.batches) == 2
    assert together.crops == apart.crops
    assert by_coordinates(before, scores=False) == by_coordinates(after, scores=False)
    same_scores(before, after)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "points",
    [
        # Discs as large as the image allows, one of them in its very middle.
        pytest.param([(200, 200), (399, 399)], id="far pair"),
        pytest.param([(0, 0), (399, 0), (0, 399), (399, 399)], id="corners"),
    ],
)
def test_large_discs(points: Points, method: Method) -> None:
    engine = DiscEngine()
    check(segment((400, 400), points, engine, method), (400, 400))
    assert sum(len(part) for part in engine.asked) == len(points)


def test_masks_are_where_the_engine_saw_them() -> None:
    class Known(DiscEngine):
        radii_cells = (4.0, 9.0, 60.0)

    found = segment((64, 64), [(16, 16), (48, 16), (32, 43)], Known(), Method(tiles=False))
    for site, mask in enumerate(found.masks):
        assert mask is not None
        x, y = found.sites.pixel_xy[site]
        rows, columns = np.mgrid[:64, :64]
        # One cell is one pixel here; the second candidate is the best that fits the disc.
        away = np.hypot(columns - x, rows - y)
        assert (decoded(mask) == (away < 9))[abs(away - 9) > 0.5].all()
    assert found.reasons == [[], [], []]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("size_hw", "points", "masks", "sites"),
    [
        pytest.param((40, 50), [], 0, 0, id="no points"),
        pytest.param((40, 50), [(20, 20)], 1, 1, id="one point"),
        pytest.param((40, 50), [(20, 20)] * 5, 1, 1, id="all equal"),
        pytest.param((40, 50), [(20, 20), (20.4, 19.8)], 1, 1, id="one pixel"),
        pytest.param((40, 50), [(-3, 20), (20, 40), (50, 3)], 0, 3, id="all outside"),
        pytest.param((40, 50), [(-3, 20), (20, 20)], 1, 2, id="one outside"),
        pytest.param((40, 50), [(np.nan, 3), (4, np.inf), (20, 20)], 1, 1, id="not finite"),
        pytest.param((40, 50), [(np.nan, np.nan)], 0, 0, id="nothing finite"),
        pytest.param((1, 1), [(0, 0)], 1, 1, id="one-pixel image"),
        pytest.param((1, 1), [(0, 0), (5, 5)], 1, 2, id="one-pixel image, one outside"),
        pytest.param((1, 12000), [(0, 0), (6000, 0), (6004, 0), (11999.9, 0)], 4, 4, id="wide"),
        pytest.param((12000, 1), [(0, 0), (0, 6000), (0, 11999)], 3, 3, id="tall"),
    ],
)
def test_odd_input(
    size_hw: tuple[int, int], points: Points, masks: int, sites: int, method: Method
) -> None:
    found = segment(size_hw, points, DiscEngine(), method)
    check(found, size_hw)
    assert len(found.sites) == sites
    assert sum(mask is not None for mask in found.masks) == masks


def test_nothing_is_encoded_without_points() -> None:
    engine = DiscEngine()
    found = segment((40, 50), [(-1, -1), (np.nan, 0)], engine)
    assert (found.tiles, engine.crops, engine.asked) == (0, [], [])


def test_radii_are_those_of_the_discs() -> None:
    found = segment((60, 80), [(10, 10), (22, 10), (70, 50), (90, 50)], DiscEngine(), Method(0.5))
    expected = disc_radii(neighbour_distances(found.sites), (60, 80), 0.5)
    assert (found.radii_px == expected).all()
    assert found.radii_px[0] == 6


@pytest.mark.parametrize("tiles", [True, False])
def test_hidden_points(tiles: bool) -> None:
    """Fully occluded heads get no mask and are not asked about, but count as neighbours."""
    points = [(20.0, 20.0), (30.0, 20.0), (60.0, 60.0)]
    hidden = np.array([False, True, False])
    engine = DiscEngine()
    found = segment((80, 80), points, engine, Method(tiles=tiles), hidden)
    check(found, (80, 80))
    assert found.prompted.tolist() == [True, False, True]
    assert [mask is not None for mask in found.masks] == [True, False, True]
    assert sum(len(part) for part in engine.asked) == 2
    assert found.radii_px[0] == 10
    # The pixel that the hidden site holds is nobody else's.
    mask = found.masks[0]
    assert mask is not None
    assert not decoded(mask)[20, 30]
    assert np.isnan(found.scores.score[1])


@pytest.mark.parametrize(
    ("hidden", "prompted"),
    [([True, True], False), ([True, False], True), ([False, True], True)],
)
def test_a_site_is_hidden_when_all_its_points_are(hidden: list[bool], prompted: bool) -> None:
    found = segment((40, 40), [(9, 9), (9, 9)], DiscEngine(), hidden=np.array(hidden))
    assert found.prompted.tolist() == [prompted]
    assert (found.masks[0] is not None) == prompted


def test_hidden_is_not_changed() -> None:
    hidden = np.array([False, True])
    segment((40, 40), [(9, 9), (30, 30)], DiscEngine(), hidden=hidden)
    assert hidden.tolist() == [False, True]


class TestReasons:
    def reasons_of(
        self,
        points: Points,
        engine: type[FakeEngine] = DiscEngine,
        method: Method | None = None,
        size_hw: tuple[int, int] = (64, 64),
    ) -> list[list[str]]:
        return segment(size_hw, points, engine(), method or Method(tiles=False)).reasons

    def test_lone_point(self) -> None:
        assert reasons.LONE in self.reasons_of([(30, 30)])[0]

    def test_close_pair_and_clamped(self) -> None:
        points = [(30, 30), (31, 30), (50, 30), (30, 55), (10, 10), (10, 50)]
        # Sites are in the order of x, then y.
        found = self.reasons_of(points)
        for site, names in enumerate(found):
            assert (reasons.CLOSE_PAIR in names) == (site in (2, 4)), (site, names)
            assert (reasons.RADIUS_CLAMPED in names) == (site in (2, 4)), (site, names)

    def test_clamped_to_half_the_image(self) -> None:
        found = self.reasons_of([(2, 2), (60, 60)])
        assert all(reasons.RADIUS_CLAMPED in names for names in found)

    def test_leaks(self) -> None:
        found = self.reasons_of([(10, 30), (18, 30)], StripeEngine)
        assert all(reasons.LEAKS in names for names in found)

    def test_misses_point(self) -> None:
        found = segment((64, 64), [(20, 20), (44, 44)], ElsewhereEngine(), Method(tiles=False))
        assert found.masks == [None, None]
        for names in found.reasons:
            assert reasons.MISSES_POINT in names
            # It is no mask, so nothing else is said of one.
            assert not {reasons.TINY, reasons.LOW_SCORE, reasons.NO_PIXELS} & set(names)

    def test_nothing_found(self) -> None:
        found = segment((64, 64), [(20, 20), (44, 44)], NothingEngine())
        assert found.masks == [None, None]
        assert all(reasons.MISSES_POINT in names for names in found.reasons)
        assert not any(reasons.AMBIGUOUS in names for names in found.reasons)

    def test_sub_resolution(self) -> None:
        # One cell is four pixels: a disc of 8 px has two cells.
        found = self.reasons_of([(100, 100), (108, 100), (200, 40)], size_hw=(256, 256))
        assert [reasons.SUB_RESOLUTION in names for names in found] == [True, True, False]

    def test_tiny(self) -> None:
        class Specks(DiscEngine):
            radii_cells = (0.8, 0.8, 0.8)

        found = self.reasons_of([(20, 20), (44, 44)], Specks)
        assert all(reasons.TINY in names for names in found)

    def test_low_score(self) -> None:
        class Leaking(DiscEngine):
            radii_cells = (60.0, 60.0, 60.0)

        found = self.reasons_of([(30, 30), (38, 30)], Leaking)
        assert all(reasons.LOW_SCORE in names for names in found)

    def test_points_outside_have_no_reasons_of_masks(self) -> None:
        (names,) = self.reasons_of([(-20, 5)])
        assert names == [reasons.LONE]


def test_seconds_add_up() -> None:
    seconds = Seconds()
    points = np.array([(20.0, 20.0), (40.0, 20.0)])
    for _ in range(2):
        before = sum(vars(seconds).values())
        segment_image(noise(60, 60), points, DiscEngine(), Method(), seconds=seconds)
        assert sum(vars(seconds).values()) > before
    assert min(vars(seconds).values()) > 0
