"""The queue's score fitted to what reviewers decided: for any network, on the user's own images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.evaluation.ranking import BAD_IOU, Ranking, rank
from dpmo_cli.evaluation.windows import WindowMask, agreement
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.masks.score import FEATURES, features
from dpmo_cli.outputs.corrected import fit
from dpmo_cli.outputs.corrections import Correction, Person
from dpmo_cli.outputs.json_values import as_text
from dpmo_cli.outputs.records import ImageRecord
from dpmo_cli.outputs.run_file import RUN_AGAIN, RUN_FILE, Run
from dpmo_cli.outputs.schema import OK
from dpmo_cli.review.run import automatic_records
from dpmo_cli.sam.calibration import Calibration, fit_curve

LEAST_JUDGED = 100
LEAST_OF_A_KIND = 20
"""So many good and so many bad masks: three weights are fitted, and tested on others."""
FOLDS = 5


@dataclass(frozen=True)
class Points:
    """The masks of a run that were judged.

    Attributes:
        image: (N,) int64, rank of the image of each.
        evidence: (N, k) float64, as FEATURES; the part that neighbours took is not known from
            records, and taken for none.
        score: (N,) float64, as the run has it.
        iou: (N,) float64, of the automatic mask with what the reviewer left of it: 1 where it was
            accepted, 0 where it was rejected or deleted.
    """

    image: NDArray[np.int64]
    evidence: FloatArray
    score: FloatArray
    iou: FloatArray


@dataclass(frozen=True)
class Fit:
    """A calibration, and how a score does on masks that its curve was not fitted on.

    Attributes:
        calibration: fitted on all judged masks.
        judged: how many.
        mean_iou: over them.
        raw, fitted: what the worst tenth by the run's score and by the new one holds.
        raw_error, fitted_error: root mean square difference of score and IoU.
    """

    calibration: Calibration
    judged: int
    mean_iou: float
    raw: Ranking
    fitted: Ranking
    raw_error: float
    fitted_error: float


def calibrate(out: Path, decided: Mapping[Person, Correction]) -> Fit:
    """Fit the score of a run's masks to the decisions about them.

    The decisions may be those of a review from the worst on: what was looked at depends on what
    the score is made of, which a regression on it allows for, not on how good the mask was.

    Args:
        out: folder of a finished run.
        decided: what stands about each person.

    Raises:
        UsageError: too few masks were judged, or too few of them found good or bad.
        InputError: the run record can't be read.
    """
    run = Run.of(out)
    weights_sha256, extent = _weights_of(out, run), run.extent
    points = _collect(out, decided)
    bad = int((points.iou < BAD_IOU).sum())
    good = len(points.iou) - bad
    if len(points.iou) < LEAST_JUDGED or min(good, bad) < LEAST_OF_A_KIND:
        raise UsageError(
            f"{out}: {len(points.iou)} masks are judged, {good} good and {bad} bad; a calibration "
            f"needs {LEAST_JUDGED}, {LEAST_OF_A_KIND} of them good and as many bad: review more"
        )
    expected = np.full(len(points.iou), np.nan)
    fold = _folds(points.image)
    for part in range(FOLDS):
        learnt, asked = fold != part, fold == part
        curve = fit_curve(points.evidence[learnt], points.iou[learnt])
        one = Calibration(weights_sha256, FEATURES, {extent: curve})
        expected[asked] = one.expected_iou(points.evidence[asked], extent)
    curve = fit_curve(points.evidence, points.iou)
    return Fit(
        Calibration(weights_sha256, FEATURES, {extent: curve}),
        len(points.iou),
        float(points.iou.mean()),
        rank(points.score, points.iou),
        rank(expected, points.iou),
        _error(points.score, points.iou),
        _error(expected, points.iou),
    )


def _weights_of(out: Path, run: Run) -> str:
    """The hash of the network's weights that a run was made with."""
    try:
        return as_text(run.settings(out).get("weights_sha256"), "weights_sha256")
    except ValueError as error:
        problem = f"is no run record of this dpmo ({error})"
        raise InputError(out / RUN_FILE, problem, RUN_AGAIN) from error


def _collect(out: Path, decided: Mapping[Person, Correction]) -> Points:
    of_image: dict[tuple[str, int], list[Correction]] = {}
    for person, one in decided.items():
        of_image.setdefault((person.split, person.image_id), []).append(one)
    parts: list[NDArray[np.float64]] = [np.zeros((0, 7))]
    for number, record in enumerate(automatic_records(out)):
        corrections = of_image.get((record.info.split, record.info.image_id))
        if corrections:
            parts.append(_judged(record, corrections, number))
    image, score, iou, *known = np.concatenate(parts).T
    predicted_iou, stability, area_px, radius_px = known
    evidence = features(
        predicted_iou.astype(np.float32),
        stability.astype(np.float32),
        area_px,
        area_px,
        radius_px,
    )
    return Points(image.astype(np.int64), evidence, score, iou)


def _judged(record: ImageRecord, corrections: list[Correction], number: int) -> NDArray[np.float64]:
    """What is known of the judged masks of an image: (n, 7), the image's number first."""
    fitting, _ = fit(record, corrections)
    rows = {row["point_id"]: row for row in record.rows.to_pylist() if row["status"] == OK}
    found = []
    for one in fitting:
        row = rows.get(one.person.point_id)
        if row is None or any(
            row[name] is None for name in ("score", "predicted_iou", "stability")
        ):
            continue
        iou = 0.0
        if one.rle is not None:
            same = one.rle == row["rle"]
            iou = 1.0 if same else agreement(WindowMask.of(row["rle"]), WindowMask.of(one.rle))[0]
        known = (row[name] for name in ("predicted_iou", "stability", "area", "radius_px"))
        found.append((number, row["score"], iou, *known))
    return np.array(found, np.float64).reshape(-1, 7)


def _folds(image: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fold of each mask: those of an image are in one, unless there are too few images."""
    images, rank_of = np.unique(image, return_inverse=True)
    if len(images) < FOLDS:
        return np.arange(len(image)) % FOLDS
    return np.asarray(rank_of.reshape(-1) % FOLDS)


def _error(score: FloatArray, iou: FloatArray) -> float:
    return float(np.sqrt(np.mean((score - iou) ** 2)))
