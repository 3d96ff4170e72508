"""Rivals of the policy on the same located points, measured through the whole method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dpmo_cli.masks.method import Method
from dpmo_cli.rps.candidates import COUNT
from dpmo_cli.rps.candidates import RECENTRED as AT_HEAD
from dpmo_cli.rps.policy import Policy
from dpmo_cli.training.rivals import (
    FIRST,
    ORACLE,
    RANDOM,
    RECENTRED,
    SCORE,
    Choose,
    Standing,
    chosen_by,
    plain_rivals,
    stand,
)
from dpmo_cli.training.sources import Located, Measured
from dpmo_cli.training.states import States, states_of
from tests.masks.fakes import DiscEngine, FakeEngine
from tests.training.worlds import block_scene

BOXES = [(10, 10, 23, 31), (40, 20, 53, 41), (70, 8, 82, 30)]
POINTS = np.array([(13.0, 13.0), (50.0, 38.0), (76.0, 19.0), (5.0, 55.0)])
"""The last one is nobody's."""
METHOD = Method(tiles=False)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of few cells, which answer sooner."""
    monkeypatch.setattr(FakeEngine, "cells", 32)


def measured(points: Any = POINTS) -> Measured:
    scene = block_scene((60, 90), BOXES)
    states, candidates = states_of(scene, np.array(points).reshape(-1, 2), DiscEngine(), METHOD)
    return Measured(scene, Located(states, candidates.positions_xy))


def measure(choose: Choose) -> Standing:
    engine: Any = DiscEngine()
    (found,) = stand("one", choose, {"set": [measured()]}, engine, METHOD, samples=10)
    return found


def test_what_plain_rivals_choose() -> None:
    states = measured().located.states
    rivals = plain_rivals(0)
    assert set(rivals) == {FIRST, SCORE, RANDOM, RECENTRED, ORACLE}
    chosen = {name: choose(states) for name, choose in rivals.items()}
    assert not any(dropped.any() for _, dropped in chosen.values())
    assert chosen[FIRST][0].tolist() == [0] * 4
    assert chosen[RECENTRED][0].tolist() == [AT_HEAD] * 4
    np.testing.assert_array_equal(chosen[SCORE][0], states.scores.argmax(axis=1))
    np.testing.assert_array_equal(chosen[ORACLE][0], states.ious.argmax(axis=1))
    at_random = chosen[RANDOM][0]
    np.testing.assert_array_equal(at_random, plain_rivals(0)[RANDOM](states)[0])
    assert ((at_random >= 0) & (at_random < COUNT)).all()


def test_standings() -> None:
    rivals = plain_rivals(0)
    first, best = measure(rivals[FIRST]), measure(rivals[ORACLE])
    states = measured().located.states
    assert states.meant.tolist().count(True) == 3
    assert first.chosen_iou == pytest.approx(float(states.ious[states.meant, 0].mean()))
    assert best.chosen_iou == pytest.approx(float(states.ious[states.meant].max(axis=1).mean()))
    assert best.chosen_iou > first.chosen_iou
    for one in (first, best):
        assert (one.name, one.truth_set) == ("one", "set")
        assert (one.kept, one.located, one.people, one.count_mae) == (4, 4, 3, 1.0)
        assert 0 < one.mean_iou_c.value <= 1


def test_dropped_points() -> None:
    """Who drops the point of nobody counts right."""

    def drop(states: States) -> Any:
        return np.zeros(len(states), dtype=np.int64), ~states.meant

    found = measure(drop)
    assert (found.kept, found.located, found.count_mae) == (3, 4, 0.0)


def test_a_policy_chooses_its_likeliest_action() -> None:
    states = measured().located.states
    torch.manual_seed(0)
    policy = Policy(2).eval()
    chosen, _ = chosen_by(policy, reject=False)(states)
    assert chosen.shape == (4,)
    last: Any = policy.reject[-1]
    last.bias.data.fill_(1e9)  # the embeddings are large and not normalised
    again, all_dropped = chosen_by(policy, reject=True)(states)
    np.testing.assert_array_equal(chosen, again)
    assert all_dropped.all()
    assert not chosen_by(policy, reject=False)(states)[1].any()


def test_a_scene_where_nobody_is_located() -> None:
    empty, engine = measured([]), DiscEngine()
    choices = [*plain_rivals(0).values(), chosen_by(Policy(2), reject=True)]
    for choose in choices:
        chosen, dropped = choose(empty.located.states)
        assert len(chosen) == len(dropped) == 0
        sets = {"set": [empty, measured()]}
        (found,) = stand("one", choose, sets, engine, METHOD, samples=10)
        assert (found.located, found.people) == (4, 6)
