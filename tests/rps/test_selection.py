"""Selection: who moves, who stays, who is dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dpmo_cli.errors import UsageError
from dpmo_cli.masks.method import Method
from dpmo_cli.rps.candidates import COUNT, RECENTRED, Candidates, ask_candidates
from dpmo_cli.rps.policy import Policy
from dpmo_cli.rps.selection import (
    FIRST,
    HEAD,
    RANK,
    RPS,
    SCORE,
    SELECTORS,
    WITH_POLICY,
    Selector,
    moved,
)
from dpmo_cli.rps.weights import EMBEDDED_FOLDER, find_weights
from tests.masks.fakes import DiscEngine, FakeEngine, NoiseEngine, NothingEngine
from tests.rps.knowing import knows_logits
from tests.rps.test_candidates import POINTS, UNASKED, array, noise

CHANNELS = 2
"""Of the fake engines' embedding."""


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of few cells, which answer sooner."""
    monkeypatch.setattr(FakeEngine, "cells", 32)


class Fixed(Policy):
    """A policy that says the same of every point."""

    def __init__(self, logits: Sequence[float]) -> None:
        super().__init__(CHANNELS)
        self.logits = torch.tensor([logits])

    def forward(self, features: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        assert embedding.shape[2] == CHANNELS
        return self.logits.expand(len(features), -1)


class Whims(Policy):
    """A policy that decides by any small difference."""

    def forward(self, features: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        each = torch.sin(100 * features.sum(dim=2))
        return torch.cat([each, 2 * each[:, :1]], dim=1)


def taking(index: int, *, reject: float = -9.0) -> Policy:
    """A policy that takes one of the candidates."""
    return Fixed([float(at == index) for at in range(COUNT)] + [reject])


def select(
    selector: Selector, points: NDArray[np.float64], engine: type[FakeEngine] = DiscEngine
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    before = points.copy()
    found = selector.select(noise(), points, engine(), Method())
    np.testing.assert_array_equal(points, before, err_msg="the caller's points stay")
    assert found.points_xy.shape == points.shape
    assert found.rejected.shape == (len(points),)
    return found.points_xy, found.rejected


@pytest.mark.parametrize("name", [*POINTS, *UNASKED])
@pytest.mark.parametrize(
    "selector",
    [
        pytest.param(Selector(FIRST), id="first"),
        pytest.param(Selector(RPS, taking(0)), id="a policy that takes the first"),
    ],
)
def test_nothing_moves(selector: Selector, name: str) -> None:
    points = array({**POINTS, **UNASKED}[name])
    found, rejected = select(selector, points)
    np.testing.assert_array_equal(found, points)
    assert not rejected.any()


def test_the_first_asks_nobody() -> None:
    engine = DiscEngine()
    Selector(FIRST).select(noise(), array(POINTS["a few"]), engine, Method())
    assert engine.crops == []


@pytest.mark.parametrize("name", POINTS)
def test_the_best_score(name: str) -> None:
    points = array(POINTS[name])
    asked = ask_candidates(noise(), points, NoiseEngine(), Method())
    best = asked.scores.argmax(axis=1)
    found, rejected = select(Selector(SCORE), points, NoiseEngine)
    assert not rejected.any()
    for index, site in enumerate(asked.sites.site_of_point.tolist()):
        stays = site < 0 or not asked.prompted[site] or best[site] == 0
        expected = points[index] if stays else asked.positions_xy[site, best[site]]
        np.testing.assert_array_equal(found[index], expected)
    assert best.any(), "somebody moves"


def test_of_equal_scores_the_first() -> None:
    points = array(POINTS["a few"])
    found, _ = select(Selector(SCORE), points, NothingEngine)
    np.testing.assert_array_equal(found, points)


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("index", [1, 7])
def test_a_policy_moves_points(index: int, name: str) -> None:
    points = array(POINTS[name])
    asked = ask_candidates(noise(), points, DiscEngine(), Method())
    found, rejected = select(Selector(RPS, taking(index)), points)
    inside = ((points >= 0) & (points < (90, 60))).all(axis=1)
    np.testing.assert_array_equal(found[~inside], points[~inside])
    sites = asked.sites.site_of_point[inside]
    np.testing.assert_array_equal(found[inside], asked.positions_xy[sites, index])
    assert not rejected.any()


def test_points_of_one_site_stay_together() -> None:
    points = array([(20, 20), (20.3, 19.8), (20, 20), (50, 30)])
    found, _ = select(Selector(RPS, taking(3)), points)
    assert len(np.unique(found[:3], axis=0)) == 1
    assert not (found == points).all(axis=1).any()
    _, dropped = select(Selector(RPS, taking(3, reject=5), reject=True), points)
    assert dropped.all()


@pytest.mark.parametrize(
    ("logit", "reject", "rejected"),
    [
        pytest.param(5.0, True, True, id="it would and it may"),
        pytest.param(5.0, False, False, id="it would but may not"),
        pytest.param(0.5, True, False, id="it may but would not"),
    ],
)
@pytest.mark.parametrize("name", [*POINTS, *UNASKED])
def test_rejection(logit: float, reject: bool, rejected: bool, name: str) -> None:
    points = array({**POINTS, **UNASKED}[name])
    found, dropped = select(Selector(RPS, taking(2, reject=logit), reject), points)
    inside = ((points >= 0) & (points < (90, 60))).all(axis=1)
    np.testing.assert_array_equal(dropped, inside & rejected)
    kept, _ = select(Selector(RPS, taking(2)), points)
    np.testing.assert_array_equal(found, kept)


def test_logits_of_the_localiser_decide() -> None:
    """Once a policy has been fitted to them, each site with its own."""
    points = array([(50, 30), (-5, 9), (20, 20), (70, 40)])
    located = np.array([1.0, -2.0, 3.0, 0.9])
    # Chances of 0.73, 0.95 and 0.71 are two people, though the policy would reject everybody;
    # outside nobody is asked.
    chooser = Selector(RPS, knows_logits(taking(2, reject=3), 1.0), reject=True)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        found = chooser.select(noise(), points[order], DiscEngine(), Method(), None, located[order])
        assert found.rejected.tolist() == np.array([False, False, False, True])[order].tolist()
    unknown = chooser.select(noise(), points, DiscEngine(), Method())
    assert unknown.rejected.tolist() == [True, False, True, True]


def test_the_order_of_points_does_not_matter() -> None:
    points = np.random.default_rng(3).uniform((0, 0), (90, 60), (20, 2))
    order = np.random.default_rng(4).permutation(len(points))
    for selector in (Selector(SCORE), Selector(RANK, Whims(CHANNELS), reject=True)):
        one, dropped = select(selector, points, NoiseEngine)
        other, also = select(selector, points[order], NoiseEngine)
        np.testing.assert_array_equal(one[order], other)
        np.testing.assert_array_equal(dropped[order], also)
        assert (one != points).any()
    assert 0 < dropped.sum() < len(points)


def test_moved_by_hand() -> None:
    points = array([(10, 10), (float("nan"), 1), (40, 30), (99, 1), (9.8, 10.1)])
    asked: Candidates = ask_candidates(noise(), points, DiscEngine(), Method())
    assert asked.sites.site_of_point.tolist() == [0, -1, 1, 2, 0]
    chosen, dropped = np.array([4, 0, 5]), np.array([False, True, False])
    found = moved(points, asked, chosen, dropped)
    expected = points.copy()
    expected[[0, 4]] = asked.positions_xy[0, 4]
    np.testing.assert_array_equal(found.points_xy, expected)
    assert found.rejected.tolist() == [False, False, True, False, False]


def test_the_selectors() -> None:
    assert set(WITH_POLICY) < set(SELECTORS) == {RPS, RANK, HEAD, SCORE, FIRST}


def test_head_takes_the_middle_of_the_head() -> None:
    points = np.array([(20.0, 20.0), (31.5, 24.0), (70.0, 40.0), (np.nan, 3.0), (-5.0, 2.0)])
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    engine, method = DiscEngine(), Method()
    candidates = ask_candidates(image, points, engine, method)
    found = Selector(HEAD).select(image, points, engine, method)
    assert not found.rejected.any()
    site = candidates.sites.site_of_point[:3]
    np.testing.assert_array_equal(
        found.points_xy[:3], candidates.positions_xy[site, RECENTRED], err_msg="as the candidate"
    )
    np.testing.assert_array_equal(found.points_xy[3:], points[3:])


def _folder(path: Path) -> None:
    path.mkdir()


def _nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        pytest.param("w.safetensors", _nothing, "no such file of weights; check", id="missing"),
        pytest.param("w.safetensors", _folder, "no such file of weights; check", id="a folder"),
        pytest.param("w" * 300, _nothing, "check the name", id="an impossible name"),
    ],
)
def test_weights_that_are_not_there(
    name: str, make: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(UsageError, match=says):
        find_weights("rps", tmp_path / name)


def test_weights_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"1")
    assert find_weights("rps", tmp_path / "mine") == tmp_path / "mine"
    with pytest.raises(UsageError, match="install dpmo-cli again"):
        find_weights("nobody's")
    for name in ("locator", RPS, RANK):
        if (EMBEDDED_FOLDER / f"{name}.safetensors").is_file():
            assert find_weights(name).parent == EMBEDDED_FOLDER
