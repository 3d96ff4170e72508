"""Rejection: it learns who is somebody, counts as many as there are, and says what it changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dpmo_cli.cli import train_rps
from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.rps.candidates import COUNT, FEATURES
from dpmo_cli.rps.policy import Policy, load_policy
from dpmo_cli.training.rejection import (
    RejectionTraining,
    compare_rejection,
    fit_rejection,
    located_alone,
    people_of,
    rejection_lines,
)
from dpmo_cli.training.rps import write_policy
from dpmo_cli.training.sources import Located, Measured
from dpmo_cli.training.states import States
from tests.conftest import Dpmo
from tests.masks.fakes import DiscEngine, FakeEngine
from tests.rps.knowing import knows_logits
from tests.training.test_rivals import BOXES, METHOD, measured
from tests.training.test_states import boxes_engine

NETWORK = "e" * 64
SHORT = RejectionTraining(steps=300, rate=5e-3)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of few cells, which answer sooner."""
    monkeypatch.setattr(FakeEngine, "cells", 32)


def crowd(
    count: int, seed: int, *, missing: int = 0, of_feature: float = 1.0, of_logit: float = 0.0
) -> Measured:
    """A scene of points that mean somebody by what a feature and the localiser say of them.

    `missing` are people without a point.
    """
    rng = np.random.default_rng(seed)
    features = np.repeat(rng.normal(size=(count, 1, len(FEATURES))), COUNT, axis=1)
    located = rng.normal(1.0, 2.0, count)
    meant = of_feature * features[:, 0, 0] + of_logit * located + rng.logistic(0, 0.3, count) > 0
    nothing = np.zeros((count, COUNT), np.float32)
    states = States(
        features.astype(np.float32), np.zeros((count, COUNT, 2), np.float32), nothing, nothing,
        nothing, meant, located,
    )  # fmt: skip
    people = int(meant.sum()) + missing
    image, labels = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.int32)
    ids = np.arange(1, people + 1, dtype=np.int32)
    scene = TruthScene("crowd", image, labels, ids, np.zeros((people, 2)), None)
    return Measured(scene, Located(states, np.zeros((count, COUNT, 2))))


def kept_of(policy: Policy, one: Measured) -> NDArray[np.bool_]:
    states = one.located.states
    return ~policy.act(states.features, states.embedding, states.located, reject=True)[1]


@pytest.mark.parametrize(("of_feature", "of_logit"), [(2.0, 0.0), (0.0, 1.0), (2.0, -1.0)])
def test_it_learns_who_is_somebody(of_feature: float, of_logit: float) -> None:
    """By the candidates, the localiser, or both; in scenes that it has not seen."""
    rule = {"of_feature": of_feature, "of_logit": of_logit}
    sets = {"photos": [crowd(300, seed, **rule) for seed in range(4)]}
    fitted = fit_rejection(Policy(2), sets, ["photos"], SHORT)
    other = crowd(500, 9, **rule)
    right = (kept_of(fitted, other) == other.located.states.meant).mean()
    assert right > 0.85
    located = ((other.located.states.located > 0) == other.located.states.meant).mean()
    assert right > (located + 0.1 if of_feature else located - 0.06)


def test_chances_of_photos_add_up_to_their_people() -> None:
    """A part of whom has no point, which other sets say nothing of."""
    photos = [crowd(300, seed, missing=40) for seed in range(3)]
    sets = {"crowds": [crowd(300, 7, missing=900)], "photos": photos}
    fitted = fit_rejection(Policy(2), sets, ["photos"], SHORT)
    kept = sum(int(kept_of(fitted, one).sum()) for one in photos)
    assert kept == pytest.approx(sum(map(people_of, photos)), abs=3)
    alone = fit_rejection(Policy(2), {"crowds": sets["crowds"]}, [], SHORT)
    people = [float(one.presence.get_buffer("people")) for one in (alone, fitted)]
    assert people[0] > 3 * people[1] > 3


def test_small_sets_are_learnt_as_large_ones_are() -> None:
    """In one a feature means somebody, in the other nobody; the localiser tells them apart."""
    large = [crowd(2000, 0, of_feature=2.0)]
    small = [crowd(100, 1, of_feature=-2.0)]
    large[0].located.states.located[:] = 4.0
    small[0].located.states.located[:] = -4.0
    fitted = fit_rejection(Policy(2), {"large": large, "small": small}, [], SHORT)
    states = small[0].located.states
    chances = fitted.chances(states.features, states.embedding, states.located)
    assert ((chances > 0.5) == states.meant).mean() > 0.85


def test_a_fit_is_the_same_again_and_the_given_policy_stays() -> None:
    policy = Policy(2)
    before = torch.get_rng_state()
    sets = {"empty": [crowd(0, 0)], "one": [crowd(50, 1), crowd(0, 2, missing=3)]}
    fitted, again = (fit_rejection(policy, sets, ["one"], SHORT) for _ in range(2))
    assert fitted.asks_locator
    assert not policy.asks_locator
    for name, value in fitted.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(UsageError, match="nobody is located in any scene"):
        fit_rejection(policy, {"empty": [crowd(0, 0)]}, ["empty"], SHORT)


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

    class Knowing(Policy):
        def decide(self, features: Any, embedding: Any) -> Any:
            return np.zeros(len(features), dtype=np.int64), np.zeros(len(features))

        def chances(self, features: Any, embedding: Any, located: Any) -> Any:
            return np.array([0.1, 0.9, 0.9, 0.9])

    knowing = knows_logits(Knowing(2), 1.0)
    row = compare_rejection(knowing, "set", [one], engine, METHOD, true_masks=True)
    assert row.mae == (0.0, 0.0), "three kept of three people by both, though others"
    assert row.pq is not None
    assert 0 < row.pq[0].value < row.pq[1].value
    assert (~located_alone(knowing)(one.located.states)[1]).tolist() == [True, True, False, True]
    unknown = compare_rejection(knowing, "photos", [one], engine, METHOD, true_masks=False)
    lines = rejection_lines([row, unknown])
    assert lines[2].startswith("| set | 1 | 3 | 0.0 | 0.0 | +0.0 [nan, nan] | 0.")
    assert lines[3] == "| photos | 1 | 3 | 0.0 | 0.0 | +0.0 [nan, nan] | | |"
    assert {line.count("|") for line in lines} == {9}


def test_the_change_is_paired() -> None:
    """Of two scenes one gains two people, the other loses one."""
    scenes = [crowd(40, seed) for seed in range(2)]
    kept = [people_of(scenes[0]) - 4, people_of(scenes[1]), people_of(scenes[1]) - 1]

    class Turns(Policy):
        def act(self, features: Any, embedding: Any, located: Any, *, reject: bool) -> Any:
            first = len(located) and located is scenes[0].located.states.located
            dropped = np.arange(40) >= (kept[0] + 2 if first else kept[2])
            return np.zeros(40, dtype=np.int64), dropped

    for one, count in zip(scenes, kept, strict=False):
        one.located.states.located[:] = np.where(np.arange(40) < count, 1.0, -1.0)
    engine: Any = DiscEngine()
    row = compare_rejection(Turns(2), "set", scenes, engine, METHOD, true_masks=False)
    assert row.mae == (2.0, 1.5)
    assert (row.change.value, row.change.low, row.change.high) == (-0.5, -2.0, 1.0)


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
    # As many are kept as in the scene of the fit, the right number.
    assert lines[2].startswith("| composed | 1 | 3 | 1.0 | 0.0 | -1.0 [nan, nan] | 0.")
    assert lines[3] == "| shanghaitech-b | 1 | 3 | 1.0 | 0.0 | -1.0 [nan, nan] | | |"
    assert lines[4] == "out/mine.safetensors"


def test_no_policy(dpmo: Dpmo, tmp_path: Path) -> None:
    outcome = dpmo(
        "train", "rejection", "--policy", "none", "--data", ".", "--root", ".", "--out", "out"
    )
    assert outcome.code == 2
    assert "--policy none: no such file" in outcome.stderr
    assert not (tmp_path / "out").exists()
