"""The overlaps of predicted masks and true instances of one image, and matchings of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from dpmo_cli.geometry.points import FloatArray, IntArray
from dpmo_cli.geometry.rle import Rle

MATCH_IOU = 0.5
"""A pair counts as found above this IoU (panoptic quality, precision, recall)."""
AP_IOUS = np.linspace(0.5, 0.95, 10)
"""The thresholds of AP, as COCO has them."""

_CELLS_AT_ONCE = 1 << 20
"""Pairs of a prediction and an instance whose IoU is held at once."""
_NEARLY_ONE = 1 - 1e-10
"""COCO's evaluation asks for no more than this IoU."""


@dataclass(frozen=True)
class Overlaps:
    """The pairs with an IoU above 0, by prediction, then by instance.

    Attributes:
        prediction, instance: (K,) int64, indices.
        iou: (K,) float64.
        predictions, instances: how many there are, D and T.
    """

    prediction: IntArray
    instance: IntArray
    iou: FloatArray
    predictions: int
    instances: int


def overlaps_of(predicted: Sequence[Rle], truth: Sequence[Rle]) -> Overlaps:
    """Compute the IoU of all pairs, a band of predictions at a time; only pairs > 0 are kept."""
    rows, columns, ious = [], [], []
    band = max(1, _CELLS_AT_ONCE // max(1, len(truth)))
    for first in range(0, len(predicted) if truth else 0, band):
        some = list(predicted[first : first + band])
        dense = np.asarray(coco_mask.iou(some, list(truth), [0] * len(truth)))
        row, column = np.nonzero(dense > 0)
        rows.append(row + first)
        columns.append(column)
        ious.append(dense[row, column])
    empty = np.zeros(0, dtype=np.int64)
    return Overlaps(
        prediction=np.concatenate([empty, *rows]),
        instance=np.concatenate([empty, *columns]),
        iou=np.concatenate([np.zeros(0), *ious]),
        predictions=len(predicted),
        instances=len(truth),
    )


def assigned_iou(overlaps: Overlaps) -> float:
    """Largest sum of IoUs of one-to-one pairs (the Hungarian assignment).

    Solved on the sparse pairs: each prediction may also take a place of its own that is worth
    nothing, so that a full assignment always exists.
    """
    count = overlaps.predictions
    if not len(overlaps.iou):
        return 0.0
    own = np.arange(count)
    rows = np.concatenate([overlaps.prediction, own])
    columns = np.concatenate([overlaps.instance, overlaps.instances + own])
    # The solver drops weights of 0; adding 1 to all of them changes no choice.
    weights = np.concatenate([overlaps.iou + 1, np.ones(count)])
    shape = (count, overlaps.instances + count)
    pairs = csr_array((weights, (rows, columns)), shape=shape)
    chosen_rows, chosen_columns = min_weight_full_bipartite_matching(pairs, maximize=True)
    keys = overlaps.prediction * overlaps.instances + overlaps.instance
    real = chosen_columns < overlaps.instances
    chosen = chosen_rows[real].astype(np.int64) * overlaps.instances + chosen_columns[real]
    return float(overlaps.iou[np.isin(keys, chosen)].sum())


def matched_ious(overlaps: Overlaps) -> FloatArray:
    """IoUs of the pairs above 0.5, (M,) float64: the best first, each mask and instance once."""
    good = np.flatnonzero(overlaps.iou > MATCH_IOU)
    good = good[np.argsort(-overlaps.iou[good], kind="stable")]
    taken_predictions: set[int] = set()
    taken_instances: set[int] = set()
    matched = []
    for pair in good.tolist():
        prediction, instance = int(overlaps.prediction[pair]), int(overlaps.instance[pair])
        if prediction not in taken_predictions and instance not in taken_instances:
            taken_predictions.add(prediction)
            taken_instances.add(instance)
            matched.append(overlaps.iou[pair])
    return np.array(matched, dtype=np.float64)


def find_hits(overlaps: Overlaps, scores: FloatArray) -> NDArray[np.bool_]:
    """Tell which predictions COCO's evaluation counts as found, (10, D) bool by threshold.

    By descending score, each prediction takes the free instance of the largest IoU that reaches
    the threshold; of equal ones the last, as COCO's does.

    Args:
        overlaps: of D predictions.
        scores: (D,) float64 without NaN; of equal ones the first comes first.
    """
    hits = np.zeros((len(AP_IOUS), overlaps.predictions), dtype=np.bool_)
    rank = np.empty(overlaps.predictions, dtype=np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(overlaps.predictions)
    order = np.lexsort((-overlaps.instance, -overlaps.iou, rank[overlaps.prediction]))
    for of_threshold, threshold in zip(hits, AP_IOUS.tolist(), strict=True):
        pairs = order[overlaps.iou[order] >= min(threshold, _NEARLY_ONE)]
        predictions, instances = overlaps.prediction[pairs], overlaps.instance[pairs]
        if len(np.unique(instances)) == len(pairs) == len(np.unique(predictions)):
            of_threshold[predictions] = True
            continue
        taken: set[int] = set()
        for prediction, instance in zip(predictions.tolist(), instances.tolist(), strict=True):
            if not of_threshold[prediction] and instance not in taken:
                of_threshold[prediction] = True
                taken.add(instance)
    return hits
