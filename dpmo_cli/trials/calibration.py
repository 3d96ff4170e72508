"""Fits the score to the IoU on true masks, and measures what a review by it would find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.measures import measure
from dpmo_cli.evaluation.ranking import Ranking, rank
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.geometry.extents import EXTENTS, HEAD, IN_DISC
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.score import FEATURES
from dpmo_cli.sam.calibration import Calibration, fit_curve
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.trials.run import image_masks
from dpmo_cli.trials.variants import run_method

FOLDS = 3


@dataclass(frozen=True)
class Points:
    """The points of some scenes that have a truth.

    Attributes:
        truth_set: (N,) name of the set of each.
        fold: (N,) int64; the points of a scene are in one fold.
        evidence: (N, k) float64, NaN without a mask.
        raw: (N,) float64, the score without calibration, NaN without a mask.
        iou: (N,) float64.
    """

    truth_set: NDArray[np.str_]
    fold: NDArray[np.int64]
    evidence: FloatArray
    raw: FloatArray
    iou: FloatArray


@dataclass(frozen=True)
class Check:
    """The calibrated score on points that its curve was not fitted on.

    Attributes:
        extent: what the masks hold.
        truth_set: name of the set, or `all`.
        mean_iou: over the points.
        mean_score: over the points, zero without a mask.
        raw, calibrated: how well the bad masks are found by either score.
    """

    extent: str
    truth_set: str
    mean_iou: float
    mean_score: float
    raw: Ranking
    calibrated: Ranking


def calibrate(
    engine: SamEngine,
    method: Method,
    weights_sha256: str,
    sets: Mapping[str, Sequence[TruthScene]],
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Calibration, list[Check]]:
    """Fit a curve for each extent that the engine knows, or for the method's.

    Args:
        engine: the network; a calibration that it has is not used.
        method: the method's default choices for it.
        weights_sha256: of its weights.
        sets: validation scenes by the name of their set.
        say: called with lines of progress.

    Returns:
        The calibration, fitted on all scenes, and for each extent what curves that were fitted
        on the other scenes, in FOLDS parts, say of each scene. An extent that no scene has the
        truth of, as heads, gets no curve.

    Raises:
        UsageError: the scenes are too few to test a curve on others.
    """
    plain = replace(engine, calibration=None)
    curves: dict[str, tuple[float, ...]] = {}
    checks: list[Check] = []
    for extent in engine.extents or (method.extent,):
        points = _collect(plain, replace(method, extent=extent), sets, say)
        if points is None:
            continue
        expected = np.full(len(points.iou), np.nan)
        masked = ~np.isnan(points.evidence[:, 0])
        if len(np.unique(points.fold[masked])) < 2:
            raise UsageError(
                f"{extent}: no two scenes of one set that have masks; give more scenes (--scenes)"
            )
        for fold in range(FOLDS):
            learnt, asked = masked & (points.fold != fold), masked & (points.fold == fold)
            curve = fit_curve(points.evidence[learnt], points.iou[learnt])
            one = Calibration(weights_sha256, FEATURES, {extent: curve})
            expected[asked] = one.expected_iou(points.evidence[asked], extent)
        curves[extent] = fit_curve(points.evidence[masked], points.iou[masked])
        for name in (*sets, "all"):
            own = np.full(len(masked), True) if name == "all" else points.truth_set == name
            if own.any():
                checks.append(
                    Check(
                        extent,
                        name,
                        float(points.iou[own].mean()),
                        float(np.nan_to_num(expected[own]).mean()),
                        rank(points.raw[own], points.iou[own]),
                        rank(expected[own], points.iou[own]),
                    )
                )
    ordered = {extent: curves[extent] for extent in EXTENTS if extent in curves}
    return Calibration(weights_sha256, FEATURES, ordered), checks


def _collect(
    engine: SamEngine,
    method: Method,
    sets: Mapping[str, Sequence[TruthScene]],
    say: Callable[[str], None],
) -> Points | None:
    """The points of all scenes that have the truth of the method's extent; None without any."""
    parts: list[Points] = []
    heads = method.extent == HEAD
    for name, scenes in sets.items():
        say(f"{method.extent}: {len(scenes)} scenes of {name}")
        for number, scene in enumerate(scenes):
            if heads and scene.heads is None:
                continue
            found = run_method(engine, method, scene)
            assert found.evidence is not None
            masks = image_masks(scene, found, heads=heads)
            measured = measure(masks)
            # A head is compared whole, as is a person that no disc bounds.
            cut = method.extent in IN_DISC and not heads
            iou = (measured.cut if cut else measured.uncut).iou
            known = masks.true_of_point >= 0
            parts.append(
                Points(
                    np.full(len(iou), name),
                    np.full(len(iou), number % FOLDS),
                    found.evidence[known],
                    found.scores[known],
                    iou,
                )
            )
    if not parts:
        return None
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Points(*(np.concatenate(column) for column in columns))
