"""Candidates: where they stand, what is known of them, and what that does not depend on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpmo_cli.masks.method import Method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.rps import candidates as module
from dpmo_cli.rps.asking import Asked
from dpmo_cli.rps.candidates import (
    COUNT,
    FEATURES,
    RECENTRED,
    Candidates,
    ask_candidates,
    positions_in_discs,
    recentre,
)
from dpmo_cli.sam.engine import Answer, Encoded, SamEngine
from dpmo_cli.sam.models import load_engine, resolve_engine
from tests.masks.fakes import ENGINES, DiscEngine, FakeEngine, NothingEngine

NAN, INF = float("nan"), float("inf")
HEIGHT, WIDTH = 60, 90
Points = Sequence[tuple[float, float]]

POINTS: dict[str, Points] = {
    "a few": [(20, 20), (31.5, 24), (70, 40), (12, 50)],
    "one": [(33, 21)],
    "a dense row": [(10 + 7 * i, 30) for i in range(11)],
    "duplicates": [(20, 20), (20, 20), (20.3, 19.8), (50, 30)],
    "at the corners": [(0, 0), (WIDTH - 0.01, 0), (0, HEIGHT - 0.01), (WIDTH - 1, HEIGHT - 1)],
    "some outside": [(20, 20), (-4, 10), (WIDTH, 10), (30, 200), (40, 30)],
    "some not finite": [(20, 20), (NAN, 10), (INF, 3), (40, 30)],
    "far outside": [(20, 20), (40, 30), (1e12, -1e12)],
    "beyond all squares": [(20, 20), (1e200, -1e300), (-1e308, 5)],
    "on the border and just beyond": [(0, 10), (-1e-200, 10)],
}
UNASKED: dict[str, Points] = {
    "none": [],
    "all outside": [(-3, 2), (200, 10)],
    "all not finite": [(NAN, 2), (3, -INF)],
}


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of few cells, which answer sooner."""
    monkeypatch.setattr(FakeEngine, "cells", 32)


class MapEngine(DiscEngine):
    """Discs; the embedding holds the place of each of its cells in the frame, x and y in px."""

    def encode(self, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        step = self.frame_px // 16
        y, x = np.mgrid[:16, :16] * float(step) + (step - 1) / 2
        places = torch.from_numpy(np.stack([x, y])[None]).float()
        return [Encoded(places, one.frame) for one in super().encode(crops)]


@pytest.fixture(scope="module")
def nano() -> SamEngine:
    return load_engine(resolve_engine("nano", device="cpu"))


def array(points: Points) -> NDArray[np.float64]:
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def noise(size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def check(found: Candidates, size_hw: tuple[int, int]) -> None:
    """What holds for candidates of any points."""
    sites, shape = len(found.sites), (len(found.sites), COUNT)
    assert found.positions_xy.shape == (*shape, 2)
    assert found.features.shape == (*shape, len(FEATURES))
    assert found.embedding.shape[:2] == found.scores.shape == shape
    assert found.prompted.shape == (sites,)
    np.testing.assert_array_equal(found.prompted, found.sites.inside)
    np.testing.assert_array_equal(found.positions_xy[:, 0], found.sites.xy)
    for name in ("features", "embedding", "scores"):
        values = getattr(found, name)
        assert values.dtype == np.float32
        assert np.isfinite(values).all(), name
        assert not values[~found.prompted].any(), "what was not asked about is zero"
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    asked = found.positions_xy[found.prompted]
    assert ((asked >= 0) & (asked < size_hw[::-1])).all(), "in the image"
    away = np.hypot(*(asked - asked[:, :1]).transpose(2, 0, 1))
    assert (away <= found.discs.radii_px[found.prompted, None] + 1e-9).all(), "in the disc"


def same(one: Candidates, other: Candidates) -> None:
    for field in ("prompted", "positions_xy", "features", "embedding", "scores"):
        left, right = getattr(one, field), getattr(other, field)
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5, err_msg=field)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", POINTS)
def test_points_of_all_kinds(name: str, engine: type[FakeEngine]) -> None:
    found = ask_candidates(noise(), array(POINTS[name]), engine(), Method(negatives=1))
    check(found, (HEIGHT, WIDTH))
    assert found.prompted.any()
    assert found.features[found.prompted].any(axis=2).all()


@pytest.mark.parametrize("name", UNASKED)
def test_nothing_to_ask(name: str) -> None:
    engine = DiscEngine()
    found = ask_candidates(noise(), array(UNASKED[name]), engine, Method())
    check(found, (HEIGHT, WIDTH))
    assert not found.prompted.any()
    assert engine.crops == engine.asked == []


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_images_of_few_pixels(size_hw: tuple[int, int]) -> None:
    points = [(0.0, 0.0), (size_hw[1] - 1.0, size_hw[0] - 1.0)]
    for some in (points, points[:1]):
        found = ask_candidates(noise(size_hw), array(some), DiscEngine(), Method(negatives=1))
        check(found, size_hw)
        assert found.prompted.all()


@pytest.mark.parametrize(("extent", "tiles"), [("nnec", True), ("head", False), ("visible", True)])
def test_nano(nano: SamEngine, extent: str, tiles: bool) -> None:
    method = Method(negatives=1, extent=extent, tiles=tiles)
    found = ask_candidates(noise(), array(POINTS["a few"][:2]), nano, method)
    check(found, (HEIGHT, WIDTH))
    assert found.embedding.shape[2] == 128
    assert found.embedding.std(axis=1).any(), "places differ"


@given(
    points=st.lists(
        st.tuples(st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1)), min_size=1, max_size=9
    ),
    radius_px=st.floats(0.1, 200),
)
def test_positions(points: list[tuple[float, float]], radius_px: float) -> None:
    xy = array(points)
    heads = np.stack([xy, np.clip(xy + radius_px / 2, 0, (WIDTH - 1, HEIGHT - 1))], axis=1)
    found = positions_in_discs(xy, heads, np.full(len(xy), radius_px), (HEIGHT, WIDTH))
    np.testing.assert_array_equal(found[:, 0], xy)
    np.testing.assert_array_equal(found[:, 1 : 1 + RECENTRED], heads)
    assert ((found >= 0) & (found <= (WIDTH - 1, HEIGHT - 1))).all()
    assert (np.hypot(*(found - xy[:, None]).transpose(2, 0, 1)) <= radius_px + 1e-9).all()


def test_positions_far_from_the_border() -> None:
    site, head = array([(400, 300)]), array([(410, 290)])
    (found,) = positions_in_discs(
        site, np.stack([site, head], axis=1), np.array([50.0]), (1000, 1000)
    )
    near, far = found[3:7], found[7:]
    np.testing.assert_allclose(np.hypot(*(near - head).T), [9] * 4)
    np.testing.assert_allclose(np.hypot(*(far - site).T), [20] * 5)
    np.testing.assert_allclose(near.mean(axis=0), head[0])
    np.testing.assert_allclose(far.mean(axis=0), site[0])
    assert len(np.unique(found.round(6), axis=0)) == COUNT - 1, "the first head is the site here"


class HeadEngine(DiscEngine):
    """Draws discs ten pixels of the crop above the prompt."""

    def prompt(
        self,
        encoded: Encoded,
        points_xy: NDArray[np.float64],
        labels: NDArray[np.int64],
        extent: str | None = None,
        squares: NDArray[np.float64] | None = None,
    ) -> Iterator[Answer]:
        up = points_xy - (0, 10) * (labels == 1)[:, :, None]
        return super().prompt(encoded, up, labels, extent, squares)


def test_heads_are_looked_for_twice() -> None:
    points = array([(90, 150), (200, 190)])
    sites, asked, found = recentre(noise((300, 400)), points, HeadEngine(), Method())
    assert asked.all()
    np.testing.assert_allclose(found, sites.xy - (0, 20), atol=4)
    positions = ask_candidates(noise((300, 400)), points, HeadEngine(), Method()).positions_xy
    np.testing.assert_array_equal(positions[:, RECENTRED], found)
    np.testing.assert_allclose(positions[:, 1], sites.xy - (0, 10), atol=4)


@pytest.mark.parametrize("name", POINTS)
def test_the_order_of_points_does_not_matter(name: str) -> None:
    points = array(POINTS[name])
    order = np.random.default_rng(1).permutation(len(points))
    one = ask_candidates(noise(), points, DiscEngine(), Method(negatives=2))
    other = ask_candidates(noise(), points[order], DiscEngine(), Method(negatives=2))
    same(one, other)
    np.testing.assert_array_equal(one.sites.site_of_point[order], other.sites.site_of_point)


@pytest.mark.parametrize(("sites", "tiles", "chunk"), [(1, 8, 4), (3, 1, 1), (1000, 1000, 1000)])
def test_what_is_in_memory_changes_nothing(
    sites: int, tiles: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform((0, 0), (260, 150), (24, 2))
    image = noise((150, 260))
    plain, engine = DiscEngine(), DiscEngine(chunk)
    one = ask_candidates(image, points, plain, Method(negatives=1))
    monkeypatch.setattr(module, "SITES_AT_ONCE", sites)
    monkeypatch.setattr(module, "TILES_AT_ONCE", tiles)
    other = ask_candidates(image, points, engine, Method(negatives=1))
    same(one, other)
    assert len(plain.crops) > 1, "several tiles"
    assert max(engine.batches) <= tiles
    assert max(map(len, engine.asked)) <= sites * COUNT


def test_each_site_is_watched_once() -> None:
    seen: list[Asked] = []
    points = array(POINTS["a dense row"])
    found = ask_candidates(noise(), points, DiscEngine(), Method(), seen.append)
    order = np.concatenate([asked.sites for asked in seen])
    assert sorted(order.tolist()) == list(range(len(points)))
    for asked in seen:
        count = len(asked.sites)
        assert count <= module.SITES_AT_ONCE
        side = asked.logits.shape[2]
        assert asked.logits.shape == (count, COUNT, side, side)
        assert (asked.corners >= 0).all()
        assert (asked.corners + side <= DiscEngine.cells).all()
        np.testing.assert_array_equal(asked.positions_xy, found.positions_xy[asked.sites])
        np.testing.assert_array_equal(asked.radii_px, found.discs.radii_px[asked.sites])
        assert set(asked.sites) <= set(asked.tile.sites)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_candidate_is_what_the_method_prompts(engine: type[FakeEngine]) -> None:
    """Same tiles, same prompts: the same scores as the whole method's."""
    points = array(POINTS["some outside"])
    method = Method(negatives=1)
    found = ask_candidates(noise(), points, engine(), method)
    segmented = segment_image(noise(), points, engine(), method)
    expected = segmented.scores.score[segmented.prompted]
    np.testing.assert_allclose(found.scores[found.prompted, 0], expected, atol=1e-6)
    assert np.isfinite(expected).all()


def test_the_embedding_is_that_of_the_place() -> None:
    points = array([(30, 25), (45, 30), (60, 28)])
    found = ask_candidates(noise(), points, MapEngine(), Method(tiles=False))
    # The longer side, of 90 px, becomes 256 px.
    frame_xy = (found.positions_xy + 0.5) * [256 / WIDTH, 171 / HEIGHT] - 0.5
    np.testing.assert_allclose(found.embedding, frame_xy, atol=1e-3)


def feature(found: Candidates, name: str) -> NDArray[np.float32]:
    """(S, K) of one feature."""
    return found.features[:, :, FEATURES.index(name)]


class OneDisc(DiscEngine):
    """The same disc from each candidate, round the middle of the frame."""

    cells = 64
    radius_cells = 8.0

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        middle = np.array([31.5, 31.5])
        distance = np.hypot(*self.grid(middle))
        return np.stack([8 * (self.radius_cells - distance)] * 3)


def test_features_by_hand() -> None:
    """A lone site in the middle of 64 x 64 px: a cell is a pixel, the disc has 16 px."""
    found = ask_candidates(noise((64, 64)), array([(31.5, 31.5)]), OneDisc(), Method(tiles=False))
    assert found.discs.radii_px.tolist() == [16]
    np.testing.assert_allclose(
        feature(found, "offset")[0], [0] * 3 + [0.18] * 4 + [0.4] * 5, atol=1e-6
    )
    np.testing.assert_allclose(feature(found, "x")[0, 3:7], [0.18, 0, -0.18, 0], atol=1e-6)
    np.testing.assert_allclose(feature(found, "y")[0, 3:7], [0, 0.18, 0, -0.18], atol=1e-6)
    # Discs of half the radius: a quarter of the area, and all alike.
    np.testing.assert_allclose(feature(found, "part of disc"), -2, atol=0.05)
    np.testing.assert_allclose(feature(found, "agreement"), 1)
    np.testing.assert_allclose(feature(found, "holds its point"), 1)
    np.testing.assert_allclose(feature(found, "retained"), 1)
    # logit of 0.9, the best of what the fake engine predicts
    np.testing.assert_allclose(feature(found, "predicted IoU"), np.log(9), atol=1e-4)
    np.testing.assert_allclose(feature(found, "mask's x"), -feature(found, "x"), atol=1e-5)
    np.testing.assert_allclose(feature(found, "mask's y"), -feature(found, "y"), atol=1e-5)
    np.testing.assert_allclose(feature(found, "radius"), 4)
    np.testing.assert_allclose(feature(found, "spacing"), 3, err_msg="a lone site: the limit")
    assert not feature(found, "part nearer to others").any()
    # The head's middle is the site here.
    np.testing.assert_allclose(feature(found, "x from the head"), feature(found, "x"), atol=1e-5)
    np.testing.assert_allclose(
        feature(found, "away from the head"), feature(found, "offset"), atol=1e-5
    )


def test_masks_that_stray_to_others() -> None:
    """Two sites, both of whose masks stand round the middle between them."""
    points = array([(20.5, 31.5), (42.5, 31.5)])
    found = ask_candidates(noise((64, 64)), points, OneDisc(), Method(tiles=False))
    np.testing.assert_allclose(feature(found, "part nearer to others"), 0.5, atol=0.02)
    np.testing.assert_allclose(feature(found, "spacing"), 0)
    np.testing.assert_allclose(feature(found, "radius"), np.log2(22), atol=1e-6)
    mine = feature(found, "mask's x")[:, 0]
    np.testing.assert_allclose(mine, [11 / 22, -11 / 22], atol=0.03)


def test_masks_without_pixels() -> None:
    found = ask_candidates(noise(), array(POINTS["a few"]), NothingEngine(), Method())
    check(found, (HEIGHT, WIDTH))
    for name in ("agreement", "mask's x", "mask's y", "part nearer to others", "holds its point"):
        assert not feature(found, name).any(), name
    assert len(np.unique(feature(found, "part of disc"))) == 1
    assert not found.scores.any()
