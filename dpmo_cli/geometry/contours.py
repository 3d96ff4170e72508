"""The outlines of a mask along the edges of its pixels, exact: no pixel is lost or won."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.spatial import KDTree

Ring = NDArray[np.int64]
"""(V, 2) int64 corners x, y of pixels, px: the pixel (x, y) lies between (x, y) and (x + 1, y + 1).
The last corner is joined to the first."""


@dataclass(frozen=True)
class Part:
    """A part of a mask whose pixels hang together by their sides.

    Attributes:
        outer: its outline, clockwise as seen on the screen.
        holes: outlines of the holes in it, the other way round.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()


def trace_parts(mask: NDArray[np.bool_], corner_xy: tuple[int, int] = (0, 0)) -> list[Part]:
    """Trace the outlines of a mask's parts.

    Pixels that touch at a corner alone are of different parts; holes that do are one.

    Args:
        mask: (h, w) bool.
        corner_xy: where the mask's first pixel lies in the frame, px.

    Returns:
        The parts in the order of their topmost, then leftmost corner.
    """
    rings = _rings(mask)
    parts, _ = label(mask)
    outers: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for ring in rings:
        # A ring begins with its topmost edge, to the right: below it lies the part, or the hole.
        x, y = ring[0]
        placed = ring + corner_xy
        if mask[y, x]:
            outers[int(parts[y, x])] = placed
        else:
            holes.setdefault(int(parts[y - 1, x]), []).append(placed[::-1])
    return [Part(outer, tuple(holes.get(number, ()))) for number, outer in outers.items()]


def joined_ring(parts: Sequence[Part]) -> Ring:
    """Return one ring of all parts and holes: the longest outline, the others hung onto it.

    Each other ring is reached over a line to it and back, from the corners that are nearest to
    each other. Walked twice, the line holds no pixel: the ring is filled as its rings are, by the
    even-odd rule and by the non-zero one.
    """
    main = max((part.outer for part in parts), key=len)
    hung = [ring for part in parts for ring in (part.outer, *part.holes) if ring is not main]
    if not hung:
        return main
    tree = KDTree(main)
    at: dict[int, list[Ring]] = {}
    for ring in hung:
        distances, corners = tree.query(ring)
        begin = int(np.argmin(distances))
        at.setdefault(int(corners[begin]), []).append(np.roll(ring, -begin, axis=0))
    pieces: list[Ring] = []
    done = 0
    for corner in sorted(at):
        pieces.append(main[done : corner + 1])
        for ring in at[corner]:
            pieces += [ring, ring[:1], main[corner : corner + 1]]
        done = corner + 1
    pieces.append(main[done:])
    return np.concatenate(pieces)


def _rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """Return all outlines, each from its topmost, then leftmost corner, to the right first.

    Along a row of the grid the corners of outlines come in pairs, joined by a horizontal edge;
    along a column by a vertical one. Where two pixels touch at a corner, it counts twice, once
    for each pixel.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    filled = above_left + above_right + below_left + below_right
    falling = (filled == 2) & (above_left == below_right)
    rising = falling & (above_right == 1)
    copies = (filled % 2 == 1).astype(np.int64) + 2 * falling
    y, x = np.nonzero(copies)
    times = copies[y, x]
    second = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    y, x = np.repeat(y, times), np.repeat(x, times)
    # The entry of the left pixel comes first along a row; along a column that of the upper one.
    lower = np.where(rising[y, x], 1 - second, second)
    across = _partners(np.lexsort((second, x, y)))
    down = _partners(np.lexsort((lower, y, x)))
    corners = np.stack([x, y], axis=1)
    rings = []
    visited = bytearray(len(corners))
    for start in range(len(corners)):
        if visited[start]:
            continue
        ring = []
        at = start
        while not visited[at]:
            to = across[at]
            visited[at] = visited[to] = 1
            ring += [at, to]
            at = down[to]
        rings.append(corners[ring])
    return rings


def _partners(order: NDArray[np.intp]) -> list[int]:
    """Return for each entry the other one of its pair, where pairs are neighbours in an order."""
    partners = np.empty(len(order), np.intp)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    found: list[int] = partners.tolist()
    return found
