"""Calibration: curves that were drawn are found again, and scenes are tested by others' curves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.geometry.extents import EXTENTS, HEAD, NNEC, VISIBLE
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.score import FEATURES
from dpmo_cli.sam.calibration import Calibration, as_json, load_calibration
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.trials import calibration
from dpmo_cli.trials.calibration import FOLDS, calibrate, fit_curve
from dpmo_cli.trials.variants import PointMasks, run_method
from tests.trials.scenes import AskedEngine, RoughEngine, small_scene

NANO = Method(negatives=1)
Sets = Mapping[str, Sequence[TruthScene]]


def mirrored(scene: TruthScene) -> TruthScene:
    """The same the other way round: other evidence of the same persons."""
    points = scene.points_xy.copy()
    points[:, 0] = scene.image.shape[1] - 1 - points[:, 0]
    heads = None if scene.heads is None else scene.heads[:, ::-1].copy()
    image, labels = scene.image[:, ::-1].copy(), scene.labels[:, ::-1].copy()
    return replace(scene, image=image, labels=labels, points_xy=points, heads=heads)


# The fit


@given(
    st.integers(0, 10**6),
    st.lists(st.floats(-2, 2), min_size=5, max_size=5),
    st.floats(0.5, 20),
    st.floats(-50, 50),
)
@settings(max_examples=30, deadline=None)
def test_a_known_curve_is_found(
    seed: int, weights: list[float], spread: float, mean: float
) -> None:
    """Of any position and spread of the features: IoUs on a curve give that curve."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(300, 4))
    evidence = mean + spread * normal
    iou = 1 / (1 + np.exp(-(weights[0] + normal @ np.array(weights[1:]))))
    curve = fit_curve(evidence, iou)
    fitted = Calibration("", FEATURES, {NNEC: curve}).expected_iou(evidence, NNEC)
    # The penalty draws a steep curve a little to the flat one.
    assert np.abs(fitted - iou).max() < 0.03
    assert np.array(curve[1:]) * spread == pytest.approx(weights[1:], abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_a_curve_through_noise(seed: int) -> None:
    """What is fitted are expectations: IoUs of 0 and 1 that follow a curve give it, too."""
    rng = np.random.default_rng(seed)
    evidence = rng.normal(size=(20_000, 2))
    share = 1 / (1 + np.exp(-(0.4 + evidence @ np.array([1.0, -0.5]))))
    iou = (rng.random(len(share)) < share).astype(np.float64)
    assert fit_curve(evidence, iou) == pytest.approx((0.4, 1.0, -0.5), abs=0.06)


@pytest.mark.parametrize("constant", [0.0, np.log(99), -0.1, 3.3])
@pytest.mark.parametrize("count", [5, 30, 1003])
def test_a_feature_that_never_changes_tells_nothing(constant: float, count: int) -> None:
    """Its mean may differ by a rounding: nothing is to be learnt of that."""
    evidence = np.random.default_rng(0).normal(size=(count, 2))
    evidence[:, 1] = constant
    iou = 1 / (1 + np.exp(-(1 + evidence[:, 0])))
    assert fit_curve(evidence, iou) == pytest.approx((1, 1, 0), abs=0.01)


@pytest.mark.parametrize("iou", [0.0, 1.0])
def test_all_bad_or_all_perfect(iou: float) -> None:
    evidence = np.random.default_rng(0).normal(0, 30, size=(50, 4))
    curve = fit_curve(evidence, np.full(50, iou))
    found = Calibration("", FEATURES, {NNEC: curve}).expected_iou(evidence, NNEC)
    assert np.abs(found - iou).max() < 0.02


# All of it


@pytest.fixture(scope="module")
def sets() -> Sets:
    """Two sets, one of them without heads."""
    return {
        "persons": [small_scene(0), mirrored(small_scene(1)), small_scene(2, heads=False)],
        "nuclei": [small_scene(seed, heads=False) for seed in (3, 4)],
    }


def test_calibrated_on_small_scenes(nano: SamEngine, sets: Sets, tmp_path: Path) -> None:
    lines: list[str] = []
    found, checks = calibrate(nano, NANO, "abc", sets, lines.append)
    assert (found.weights_sha256, found.features) == ("abc", FEATURES)
    assert tuple(found.curves) == EXTENTS
    assert all(len(curve) == 1 + len(FEATURES) for curve in found.curves.values())
    assert [(check.extent, check.truth_set) for check in checks] == [
        (NNEC, "persons"),
        (NNEC, "nuclei"),
        (NNEC, "all"),
        # Heads are known in two scenes alone.
        (HEAD, "persons"),
        (HEAD, "all"),
        (VISIBLE, "persons"),
        (VISIBLE, "nuclei"),
        (VISIBLE, "all"),
    ]
    points = [check.raw.points for check in checks]
    assert points == [12, 8, 20, 8, 8, 12, 8, 20]
    for check in checks:
        assert check.raw.bad == check.calibrated.bad
        assert 0 <= check.mean_iou <= 1
        assert 0 < check.mean_score < 1
    assert lines[:2] == ["nnec: 3 scenes of persons", "nnec: 2 scenes of nuclei"]
    path = tmp_path / "a.json"
    path.write_text(as_json(found))
    assert load_calibration(path, "abc") == found


def test_a_scene_is_tested_by_curves_of_others(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = RoughEngine()
    learnt: list[set[bytes]] = []

    def fit(evidence: np.ndarray, iou: np.ndarray) -> tuple[float, ...]:
        assert evidence.shape == (len(iou), len(FEATURES))
        learnt.append({row.tobytes() for row in evidence})
        return fit_curve(evidence, iou)

    monkeypatch.setattr(calibration, "fit_curve", fit)
    calibrate(engine, Method(), "abc", sets)
    *folds, whole = learnt
    assert len(folds) == FOLDS
    scenes = []
    for scene in itertools.chain(*sets.values()):
        evidence = run_method(engine, Method(), scene).evidence
        assert evidence is not None
        scenes.append({row.tobytes() for row in evidence if not np.isnan(row).any()})
    assert all(scenes)
    assert whole == set.union(*scenes)
    for scene in scenes:
        assert sum(scene <= fold for fold in folds) == FOLDS - 1
        assert sum(not scene & fold for fold in folds) == 1


def test_the_engines_own_calibration_is_not_asked(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Calibration | None] = []

    def run(engine: SamEngine, method: Method, scene: TruthScene) -> PointMasks:
        asked.append(engine.calibration)
        return run_method(engine, method, scene)

    monkeypatch.setattr(calibration, "run_method", run)
    old = Calibration("abc", FEATURES, {NNEC: (0.0,) * 5})
    engine = RoughEngine(calibration=old)
    calibrate(engine, Method(), "abc", sets)
    assert asked == [None] * 5
    assert engine.calibration is old


def test_any_sam_gets_a_curve_for_the_methods_extent(sets: Sets) -> None:
    engine = RoughEngine()
    found, checks = calibrate(engine, Method(extent=VISIBLE), "abc", sets)
    assert tuple(found.curves) == (VISIBLE,)
    assert {check.extent for check in checks} == {VISIBLE}


def test_an_extent_without_truth_gets_no_curve(nano: SamEngine, sets: Sets) -> None:
    found, checks = calibrate(nano, NANO, "abc", {"nuclei": sets["nuclei"]})
    assert tuple(found.curves) == (NNEC, VISIBLE)
    assert {check.extent for check in checks} == {NNEC, VISIBLE}
    # An engine with these curves still draws heads, with their raw score.
    scene = small_scene(5)
    heads = replace(NANO, extent=HEAD)
    scores = run_method(replace(nano, calibration=found), heads, scene).scores
    np.testing.assert_array_equal(scores, run_method(nano, heads, scene).scores)


@pytest.mark.parametrize(
    "scenes",
    [
        pytest.param({"persons": [0]}, id="one scene"),
        pytest.param({"persons": [0], "nuclei": [1]}, id="one scene of each set"),
    ],
)
def test_too_few_scenes(scenes: dict[str, list[int]]) -> None:
    few = {name: [small_scene(seed) for seed in seeds] for name, seeds in scenes.items()}
    with pytest.raises(UsageError, match=r"^nnec: no two scenes .*\(--scenes\)$"):
        calibrate(AskedEngine(), Method(), "abc", few)


def test_points_without_a_mask_count(sets: Sets) -> None:
    """They are bad, come first in a review, and have no part in the curve."""
    engine = RoughEngine()
    _, checks = calibrate(engine, Method(), "abc", sets)
    without = sum(
        mask is None
        for scene in itertools.chain(*sets.values())
        for mask in run_method(engine, Method(), scene).masks
    )
    assert without > 0
    every = checks[-1]
    assert every.truth_set == "all"
    assert every.raw.points == 20
    assert every.calibrated.found == min(2, without)
