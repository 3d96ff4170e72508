"""Rejection fitted to counts: it finds the weights that count best, and says what they change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpmo_cli.cli import train_rps
from dpmo_cli.rps.policy import Policy, load_policy
from dpmo_cli.training.rejection import (
    Counted,
    compare_rejection,
    count_scenes,
    fit_rejection,
    located_alone,
    rejection_lines,
)
from dpmo_cli.training.rps import write_policy
from dpmo_cli.training.sources import Measured
from tests.conftest import Dpmo
from tests.masks.fakes import DiscEngine, FakeEngine
from tests.training.test_rivals import BOXES, METHOD, measured
from tests.training.test_states import boxes_engine

NETWORK = "e" * 64


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of few cells, which answer sooner."""
    monkeypatch.setattr(FakeEngine, "cells", 32)


def scene(trust: float, level: float, rng: np.random.Generator, count: int = 400) -> Counted:
    """Points of which those are people that a rule of this trust and level (a logit) keeps."""
    logits, doubts = rng.uniform(-1, 3, count), rng.normal(0, 4, count)
    return Counted(doubts, logits, int((logits - doubts / trust > level).sum()))


def rule_of(fitted: Policy) -> tuple[float, float]:
    """Its trust, and its level as a logit of the localiser."""
    trust = float(fitted.get_buffer("trust"))
    return trust, float(fitted.get_buffer("level")) / trust


def doubted(trust: float, count: int = 1024) -> list[Counted]:
    """Two photos, one doubted as much as the other is not; the rule of this trust counts both."""
    logits = np.linspace(-1, 3, count)
    return [
        Counted(np.full(count, doubt), logits, int((logits - doubt / trust > 0).sum()))
        for doubt in (-1.0, 1.0)
    ]


@pytest.mark.parametrize("trust", [2.0, 8.0, 32.0])
def test_it_finds_the_trust_that_counts_best(trust: float) -> None:
    fitted = fit_rejection(Policy(2), {"photos": doubted(trust)}, ["photos"])
    assert rule_of(fitted) == pytest.approx((trust, 0), abs=0.02)
    for one in doubted(trust):
        kept = ~fitted.rejects(one.doubts, one.logits)
        assert abs(int(kept.sum()) - one.people) <= 5


def test_the_level_keeps_as_many_as_are_located_in_photos() -> None:
    """Whatever their people, and whatever other sets would like."""
    rng = np.random.default_rng(0)
    doubts = [rng.normal(3.0, 1.0, 900) for _ in range(4)]
    photos = [Counted(one, rng.uniform(-1, 3, 900), 5) for one in doubts]
    crowds = [scene(4.0, 1.5, rng) for _ in range(4)]
    sets = {"crowds": crowds, "photos": photos}
    fitted = fit_rejection(Policy(2), sets, ["photos"])
    kept = sum(int((~fitted.rejects(one.doubts, one.logits)).sum()) for one in photos)
    located = sum(int((one.logits > 0).sum()) for one in photos)
    assert kept == pytest.approx(located, rel=0.01)
    assert rule_of(fit_rejection(Policy(2), {"crowds": crowds}, [])) != rule_of(fitted)


def test_no_kind_of_crowd_pays_for_another() -> None:
    """A large set that gains much from doubts does not outweigh a small one that they harm."""
    large, small = {"large": 9 * doubted(1.0, 9999)}, {"small": doubted(64.0)}
    assert rule_of(fit_rejection(Policy(2), large, ["large"]))[0] == 1
    assert rule_of(fit_rejection(Policy(2), small, ["small"]))[0] == 64
    # At 32 the small set would be as wrong as without.
    both = fit_rejection(Policy(2), large | small, ["large", "small"])
    assert 32 < rule_of(both)[0] < 64


def test_the_given_policy_stays_and_nobody_is_a_scene_too() -> None:
    policy = Policy(2)
    nobody = Counted(np.zeros(0), np.zeros(0), 0)
    rng = np.random.default_rng(0)
    fitted = fit_rejection(
        policy, {"empty": [nobody], "one": [scene(4.0, 0.0, rng), nobody]}, ["one"]
    )
    assert fitted.asks_locator
    assert not policy.asks_locator


def located(logits: list[float]) -> Measured:
    """The scene of nobody's point and three blocks, with what a localiser said."""
    one = measured()
    states = replace(one.located.states, located=np.array(logits))
    return Measured(one.scene, replace(one.located, states=states))


def test_what_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The localiser took nobody's point, the first, for somebody, and missed a person."""
    monkeypatch.setattr(FakeEngine, "cells", 64)
    # Of the scene's 90 px the engine sees 64.
    engine: Any = boxes_engine(*[tuple(round(v * 64 / 90) for v in box) for box in BOXES])
    one = located([0.2, 1.0, -0.5, 2.0])
    assert one.located.states.meant.tolist() == [False, True, True, True]
    policy = Policy(2).eval()
    (counted,) = count_scenes(policy, [one])
    assert counted.people == 3
    np.testing.assert_array_equal(counted.logits, [0.2, 1.0, -0.5, 2.0])

    class Knowing(Policy):
        def decide(self, features: Any, embedding: Any) -> Any:
            return np.zeros(len(features), dtype=np.int64), np.array([9.0, -9.0, -9.0, -9.0])

    knowing = Knowing(2)
    knowing.get_buffer("trust").fill_(1.0)
    row = compare_rejection(knowing, "set", [one], engine, METHOD, true_masks=True)
    assert row.mae == (0.0, 0.0), "three kept of three people by both, though others"
    assert row.pq is not None
    assert 0 < row.pq[0].value < row.pq[1].value
    assert (~located_alone(knowing)(one.located.states)[1]).tolist() == [True, True, False, True]
    unknown = compare_rejection(knowing, "photos", [one], engine, METHOD, true_masks=False)
    lines = rejection_lines([row, unknown])
    assert lines[2].startswith("| set | 1 | 3 | 0.0 | 0.0 | 0.")
    assert lines[3] == "| photos | 1 | 3 | 0.0 | 0.0 | | |"
    assert {line.count("|") for line in lines} == {8}


def test_the_command(dpmo: Dpmo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fits on training scenes, prints validation's, and leaves the policy's choices alone."""
    asked = []

    class Gatherer:
        engine, method = DiscEngine(), METHOD

        def to_fit(self, crowds: int, photos: int) -> dict[str, list[Measured]]:
            asked.append(("fit", crowds, photos))
            scenes = [located([0.4, 1.0, 0.7, 2.0])]
            return {"composed": scenes, "shanghaitech-b": scenes, "shanghaitech-a": []}

        def to_check_fit(self, checks: int, photos: int) -> dict[str, list[Measured]]:
            asked.append(("check", checks, photos))
            return {
                "composed": [located([0.3, 1.0, 0.8, 2.0])],
                "shanghaitech-b": [located([0.3, 1.0, 0.8, 2.0])],
            }

    spec: Any = type("Spec", (), {"weights_sha256": NETWORK})
    gatherer: Any = Gatherer()
    ready = train_rps.Ready(gatherer, spec)
    monkeypatch.setattr(train_rps, "_prepare", lambda *args, **options: ready)
    policy = Policy(2).eval()
    last: Any = policy.score[-1]
    torch.nn.init.zeros_(last.weight)
    write_policy(policy, tmp_path / "mine.safetensors", NETWORK)
    (tmp_path / "out").mkdir()
    command = ("train", "rejection", "--policy", "mine.safetensors", "--data", ".", "--root", ".")
    outcome = dpmo(*command, "--out", "out", "--crowds", "2", "--photos", "3", "--checks", "1")
    assert outcome.code == 0, outcome.stderr
    assert asked == [("fit", 2, 3), ("check", 1, 3)]
    fitted = load_policy(tmp_path / "out/mine.safetensors", NETWORK)
    assert fitted.asks_locator
    states = located([0.3, 1.0, 0.8, 2.0]).located.states
    first, again = (one.decide(states.features, states.embedding) for one in (policy, fitted))
    np.testing.assert_array_equal(first[0], again[0])
    lines = outcome.stdout.splitlines()
    assert lines[2].startswith("| composed | 1 | 3 | 1.0 | 1.0 | 0.")
    assert lines[3] == "| shanghaitech-b | 1 | 3 | 1.0 | 1.0 | | |"
    assert lines[4] == "out/mine.safetensors"


def test_no_policy(dpmo: Dpmo, tmp_path: Path) -> None:
    outcome = dpmo(
        "train", "rejection", "--policy", "none", "--data", ".", "--root", ".", "--out", "out"
    )
    assert outcome.code == 2
    assert "--policy none: no such file" in outcome.stderr
    assert not (tmp_path / "out").exists()
