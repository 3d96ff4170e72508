"""Calibration: from what a run knows of a mask to the IoU to expect of it, for given weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit

from dpmo_cli.errors import UsageError
from dpmo_cli.geometry.points import FloatArray


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


def load_calibration(path: Path, weights_sha256: str) -> Calibration | None:
    """The calibration of some weights; None where there is none, or it is for other weights.

    Raises:
        UsageError: the file is no calibration.
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
        raise UsageError(f"{path}: is no calibration; install dpmo-cli again") from error
    return found if found.weights_sha256 == weights_sha256 else None
