"""Calibration: from what a run knows of a mask to the IoU to expect of it, for given weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from dpmo_cli.errors import InputError
from dpmo_cli.geometry.points import FloatArray

PENALTY = 1e-4
LEAST_SPREAD = 1e-3
"""A feature that varies no more than this tells nothing, and gets next to no weight."""


@dataclass(frozen=True)
class Calibration:
    """A logistic curve for each extent, fitted on true masks of the validation split.

    Attributes:
        weights_sha256: of the network that it was fitted for.
        features: names of the features, in order.
        curves: extent -> intercept, then the weight of each feature.
    """

    weights_sha256: str
    features: tuple[str, ...]
    curves: Mapping[str, tuple[float, ...]]

    def expected_iou(self, features: FloatArray, extent: str) -> FloatArray:
        """IoU to expect, (n,) from 0 to 1, of (n, k) features."""
        intercept, *weights = self.curves[extent]
        return np.asarray(expit(intercept + features @ np.array(weights)))


def as_json(calibration: Calibration) -> str:
    """As it is kept beside the weights."""
    plain = {
        "weights_sha256": calibration.weights_sha256,
        "features": list(calibration.features),
        "curves": {extent: list(curve) for extent, curve in calibration.curves.items()},
    }
    return json.dumps(plain, indent=2) + "\n"


def load_calibration(
    path: Path, weights_sha256: str, mend: str = "install dpmo-cli again"
) -> Calibration | None:
    """The calibration of some weights; None where there is none, or it is for other weights.

    Raises:
        InputError: the file is no calibration; `mend` says what to do.
    """
    if not path.is_file():
        return None
    try:
        plain = json.loads(path.read_bytes())
        curves = {str(k): tuple(float(v) for v in curve) for k, curve in plain["curves"].items()}
        found = Calibration(
            str(plain["weights_sha256"]), tuple(str(name) for name in plain["features"]), curves
        )
        for curve in found.curves.values():
            if len(curve) != 1 + len(found.features) or not all(map(math.isfinite, curve)):
                raise ValueError("a curve does not fit the features")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, "is no calibration", mend) from error
    return found if found.weights_sha256 == weights_sha256 else None


def fit_curve(evidence: FloatArray, iou: FloatArray) -> tuple[float, ...]:
    """Fit a logistic curve to shares: intercept, then the weight of each of k features.

    Args:
        evidence: (N, k) float64.
        iou: (N,) float64, from 0 to 1.

    Source: fractional logistic regression (Papke and Wooldridge, 1996).
    """
    mean, spread = evidence.mean(axis=0), np.maximum(evidence.std(axis=0), LEAST_SPREAD)
    known = np.column_stack([np.ones(len(evidence)), (evidence - mean) / spread])

    def loss(curve: FloatArray) -> tuple[float, FloatArray]:
        values = known @ curve
        penalty = PENALTY * float((curve[1:] ** 2).sum())
        total = float((np.logaddexp(0, values) - iou * values).mean()) + penalty
        slope = known.T @ (expit(values) - iou) / len(iou)
        slope[1:] += 2 * PENALTY * curve[1:]
        return total, slope

    found = minimize(loss, np.zeros(known.shape[1]), jac=True, method="L-BFGS-B").x
    weights = found[1:] / spread
    return (float(found[0] - weights @ mean), *(float(weight) for weight in weights))
