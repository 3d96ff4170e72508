"""Predicted points matched to true ones: as many pairs as can be had within a distance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order
from scipy.spatial import cKDTree

from dpmo_cli.geometry.points import FloatArray, IntArray

NOBODY = -1


def count_matches(predicted_xy: FloatArray, true_xy: FloatArray, radius_px: float) -> int:
    """Size of a maximum matching of pairs that stand at most `radius_px` apart.

    Args:
        predicted_xy: (P, 2) float64, px.
        true_xy: (N, 2) float64, px.
        radius_px: largest distance of a pair, inclusive.
    """
    radii_px = np.full(len(true_xy), radius_px, dtype=np.float64)
    return int((match_points(predicted_xy, true_xy, radii_px) != NOBODY).sum())


def match_points(predicted_xy: FloatArray, true_xy: FloatArray, radii_px: FloatArray) -> IntArray:
    """Match as many true points as can be, each within its own distance.

    Where several matchings are largest, the points decide which is taken, always the same.

    Args:
        predicted_xy: (P, 2) float64, px.
        true_xy: (N, 2) float64, px.
        radii_px: (N,) float64, how far away the partner of each true point may be, inclusive.

    Returns:
        (N,) int64, the predicted point of each true one, or NOBODY.
    """
    partners = np.full(len(true_xy), NOBODY, dtype=np.int64)
    if not len(predicted_xy) or not len(true_xy):
        return partners
    near = cKDTree(predicted_xy).query_ball_point(true_xy, radii_px)
    starts = np.cumsum([0, *map(len, near)])
    columns = np.fromiter(chain.from_iterable(near), np.int64, count=int(starts[-1]))
    _grow(partners, np.full(len(predicted_xy), NOBODY, dtype=np.int64), columns, starts)
    return partners


def count_matches_at(
    predicted_xy: FloatArray, true_xy: FloatArray, radii_px: Sequence[float]
) -> IntArray:
    """Size of a maximum matching at each of several distances.

    A matching grows from one distance to the next, so many of them cost little more than one.

    Args:
        predicted_xy: (P, 2) float64, px.
        true_xy: (N, 2) float64, px.
        radii_px: R distances in ascending order, inclusive.

    Returns:
        (R,) int64.
    """
    sizes = np.zeros(len(radii_px), dtype=np.int64)
    # Searches begin at the free points of one side: the smaller one has none left sooner.
    few, many = sorted((predicted_xy, true_xy), key=len)
    if not len(few) or not len(radii_px):
        return sizes
    pairs = cKDTree(few).sparse_distance_matrix(
        cKDTree(many), radii_px[-1], output_type="coo_matrix"
    )
    pairs = pairs.tocsr()
    of_few, of_many = (np.full(len(side), NOBODY, dtype=np.int64) for side in (few, many))
    for index, radius in enumerate(radii_px):
        allowed = pairs.data <= radius
        starts = np.concatenate([[0], np.cumsum(allowed)])[pairs.indptr]
        _grow(of_few, of_many, pairs.indices[allowed], starts)
        sizes[index] = np.count_nonzero(of_few != NOBODY)
        if sizes[index] == len(few):
            sizes[index:] = len(few)
            break
    return sizes


def _grow(of_row: IntArray, of_column: IntArray, columns: IntArray, starts: IntArray) -> None:
    """Enlarge a matching in place until it is a maximum one.

    A matching is a maximum one where no path leads from a free row to a free column by pairs that
    are not matched and back by pairs that are (Berge). One search from all free rows at once makes
    a forest, whose trees share nothing, so every tree that comes upon a free column gives one more
    pair.

    Args:
        of_row: (R,) int64, the column of each row, or NOBODY.
        of_column: (C,) int64, the row of each column, or NOBODY.
        columns: (E,) int, the columns that go with each row, row after row.
        starts: (R + 1,) int, where those of each row begin, and E.
    """
    rows, source = len(of_row), len(of_row) + len(of_column)
    while len(free := np.flatnonzero(of_row == NOBODY)):
        # A step goes from a row by one of its columns on to that column's row. Nodes are the
        # rows, then the columns, of which only free ones are reached, then one before all.
        beyond = of_column[columns]
        steps = np.concatenate([np.where(beyond == NOBODY, rows + columns, beyond), free])
        ends = np.concatenate([starts, np.full(len(of_column), starts[-1]), [len(steps)]])
        # csgraph's searches know 32 bits alone.
        parts = (np.ones(len(steps)), steps.astype(np.int32), ends.astype(np.int32))
        graph = csr_array(parts, shape=(source + 1, source + 1))
        order, before = breadth_first_order(graph, source, directed=True)
        reached = order[(order >= rows) & (order < source)]
        if not len(reached):
            return
        _, first = np.unique(_roots(before, source)[reached], return_index=True)
        _turn(reached[first] - rows, before[reached[first]], before, of_row, of_column)


def _roots(before: IntArray, source: int) -> IntArray:
    """The node next to the source on the way to each node that was reached: (V,)."""
    nodes = np.arange(len(before))
    above = np.where((before == source) | (before < 0), nodes, before)
    while (above != (further := above[above])).any():
        above = further
    return above


def _turn(
    column: IntArray, row: IntArray, before: IntArray, of_row: IntArray, of_column: IntArray
) -> None:
    """Match the rows and columns of disjoint paths anew, from the free columns back.

    Args:
        column, row: (K,) the last column and row of each path.
        before: the row before each row.
        of_row, of_column: the matching, changed in place.
    """
    while len(column):
        freed = of_row[row]
        of_row[row], of_column[column] = column, row
        goes_on = freed != NOBODY
        column, row = freed[goes_on], before[row[goes_on]].astype(np.int64)
