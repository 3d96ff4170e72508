"""Predicted points matched to true ones: as many pairs as can be had within a distance."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

from dpmo_cli.geometry.points import FloatArray


def count_matches(predicted_xy: FloatArray, true_xy: FloatArray, radius_px: float) -> int:
    """Size of a maximum matching of pairs that stand at most `radius_px` apart.

    Args:
        predicted_xy: (P, 2) float64, px.
        true_xy: (N, 2) float64, px.
        radius_px: largest distance of a pair, inclusive.
    """
    if not len(predicted_xy) or not len(true_xy):
        return 0
    near = cKDTree(true_xy).query_ball_point(predicted_xy, radius_px)
    counts = np.array([len(row) for row in near])
    if not counts.any():
        return 0
    columns = np.concatenate([np.asarray(row, dtype=np.int32) for row in near])
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    pairs = csr_array(
        (np.ones(len(columns), dtype=np.int8), columns, starts),
        shape=(len(predicted_xy), len(true_xy)),
    )
    return int((maximum_bipartite_matching(pairs, perm_type="column") >= 0).sum())
