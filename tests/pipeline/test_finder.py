"""What finds points for `predict`: weights, scores, and words that tell finders apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmo_cli.datasets.base import Heads
from dpmo_cli.errors import UsageError
from dpmo_cli.masks.method import Method
from dpmo_cli.pipeline.predict import resolve_finder
from dpmo_cli.rps.policy import OFFERED_SCORE
from dpmo_cli.sam.models import EngineSpec
from tests.conftest import FakeEngine, draw_people
from tests.pipeline.test_predict import policy_file


def test_what_a_policy_is_offered(spec: EngineSpec, locator_file: Path, tmp_path: Path) -> None:
    """Doubtful points only where a fitted policy may reject, and where nobody says otherwise."""
    plain = policy_file(tmp_path / "p", spec.weights_sha256)
    fitted = policy_file(tmp_path / "f", spec.weights_sha256, people=1.0)

    def scores(policy: Path, reject: bool, **options: Any) -> tuple[float, float]:
        found = resolve_finder(
            spec, Method(), selector="rps", policy=policy, reject=reject, locator=locator_file,
            **options,
        )  # fmt: skip
        return found.min_score, found.offered_score

    assert scores(fitted, True) == (0.5, OFFERED_SCORE) == (0.5, 0.27)
    assert scores(fitted, False) == scores(plain, True) == scores(plain, False) == (0.5, 0.5)
    assert scores(fitted, True, min_score=0.6) == (0.6, 0.6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({"selector": "best"}, "--selector best: unknown; use one of", id="unknown"),
        pytest.param({"selector": "first", "reject": True}, "--reject needs a policy", id="reject"),
        pytest.param(
            {"selector": "score", "policy": Path("p")}, "--policy needs a policy", id="policy"
        ),
        pytest.param(
            {"selector": "first", "points_given": True, "locator": Path("l")},
            "--points and --locator exclude each other",
            id="points and locator",
        ),
        pytest.param(
            {"selector": "first", "locator": Path("none")}, "no such file of weights", id="missing"
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str, spec: EngineSpec) -> None:
    with pytest.raises(UsageError, match=says):
        resolve_finder(spec, Method(), **{"reject": False, "min_score": 0.5, **options})


def test_words_tell_finders_apart(spec: EngineSpec, locator_file: Path, tmp_path: Path) -> None:
    policy = policy_file(tmp_path / "p", spec.weights_sha256)
    other = policy_file(tmp_path / "q", spec.weights_sha256, reject=-3.0)
    plain: dict[str, Any] = {"selector": "first", "reject": False, "min_score": 0.5,
                             "locator": locator_file}  # fmt: skip
    ways = [
        plain,
        {**plain, "min_score": 0.25},
        {**plain, "min_score": 0.2500000001},
        {**plain, "selector": "score"},
        {**plain, "locator": None, "points_given": True},
        {**plain, "selector": "rps", "policy": policy},
        {**plain, "selector": "rank", "policy": policy},
        {**plain, "selector": "rps", "policy": other},
        {**plain, "selector": "rps", "policy": policy, "reject": True},
    ]
    words = [resolve_finder(spec, Method(), **way).words for way in ways]
    assert len(set(words)) == len(ways)
    assert words == [resolve_finder(spec, Method(), **way).words for way in ways]


def test_known_points_are_kept_as_they_are(spec: EngineSpec) -> None:
    finder = resolve_finder(
        spec, Method(), selector="first", reject=False, min_score=0.5, points_given=True
    )
    heads = Heads(np.array([[3.0, 4.0], [-1.0, 2.0]]), locator_scores=np.array([0.5, 7.0]))
    found = finder.find(draw_people(0), heads, FakeEngine())
    np.testing.assert_array_equal(found.points_xy, heads.points_xy)
    assert found.locator_scores is heads.locator_scores
    assert found.rejected is None
