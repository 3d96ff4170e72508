"""The score of a mask once ownership is settled: the IoU to expect of it, where that is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.points import FloatArray

FEATURES = ("predicted IoU", "stability", "part of disc", "part kept")
"""Logits of the first two; the logarithms to base 2 of the mask's area in parts of its disc's, and
of what ownership left of it. Beside these, the radius, the spacing of the crowd and the agreement
of the network's outputs told next to nothing on the validation scenes."""
CLOSE_TO_CERTAIN = 0.01
PART_LIMITS = (2.0**-8, 2.0**4)


def features(
    predicted_iou: NDArray[np.float32],
    stability: NDArray[np.float32],
    areas_px: FloatArray,
    claimed_px: FloatArray,
    radii_px: FloatArray,
) -> FloatArray:
    """What the score of n masks is made of: (n, 4) float64, as FEATURES says.

    Args:
        predicted_iou, stability: (n,) of the chosen candidates.
        areas_px: (n,) pixels of the masks, above zero.
        claimed_px: (n,) pixels before ownership was settled, above zero.
        radii_px: (n,) discs.
    """
    columns = [
        logit_of(predicted_iou.astype(np.float64)),
        logit_of(stability.astype(np.float64)),
        np.log2(np.clip(areas_px / (np.pi * radii_px**2), *PART_LIMITS)),
        np.log2(np.clip(areas_px / claimed_px, PART_LIMITS[0], 1)),
    ]
    return np.stack(columns, axis=1)


def logit_of(share: FloatArray) -> FloatArray:
    """The logit of shares from 0 to 1, which are held off both ends by a hundredth."""
    inside = np.clip(share, CLOSE_TO_CERTAIN, 1 - CLOSE_TO_CERTAIN)
    return np.asarray(np.log(inside / (1 - inside)))
