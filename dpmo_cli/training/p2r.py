"""P2R, the localiser's loss: every point gets the cell that is near and already promising.

The rule is that of "Point-to-Region Loss for Semi-Supervised Point-Based Crowd Counting".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.rps.locator import CELL_OFFSET_PX, STRIDE

REACH_PX = 96.0
"""A cell further than this from every point belongs to none."""
LEAST_RADIUS_PX = 8.0
DISTANCE_WEIGHT = 8.0
POSITIVE_WEIGHT = 2.0
EMPTY_WEIGHT = 0.5


@dataclass(frozen=True)
class Assignment:
    """Which point each cell of an image belongs to: all of the loss that needs no network.

    Attributes:
        owner: (h, w) int32, index of the nearest point, or -1 where none is in reach.
        cost: (h, w) float32, 8 * distance / radius of the owner; 0 without an owner.
        weight: (h, w) float32 weight of a negative cell; those of an image sum to 1, of an image
            without points to 0.5, and padding has none.
        count: number of points.
    """

    owner: NDArray[np.int32]
    cost: NDArray[np.float32]
    weight: NDArray[np.float32]
    count: int


def assign_cells(
    points_xy: FloatArray, cells_hw: tuple[int, int], valid_hw: tuple[int, int]
) -> Assignment:
    """Give each cell of a frame to its nearest point.

    Args:
        points_xy: (N, 2) float64, px of the frame.
        cells_hw: height and width of the map of logits.
        valid_hw: height and width of the part of the frame that the image fills, px.
    """
    y = np.arange(cells_hw[0]) * float(STRIDE) + CELL_OFFSET_PX
    x = np.arange(cells_hw[1]) * float(STRIDE) + CELL_OFFSET_PX
    valid = (y < valid_hw[0])[:, None] & (x < valid_hw[1])[None, :]
    total = max(1, int(valid.sum()))
    weight = valid.astype(np.float32) / np.float32(total)
    owner = np.full(cells_hw, -1, dtype=np.int32)
    cost = np.zeros(cells_hw, dtype=np.float32)
    if not len(points_xy):
        return Assignment(owner, cost, EMPTY_WEIGHT * weight, 0)
    rows, columns = np.nonzero(valid)
    distance, nearest = cKDTree(points_xy).query(
        np.stack([x[columns], y[rows]], axis=1), distance_upper_bound=np.nextafter(REACH_PX, 1e9)
    )
    reached = np.isfinite(distance)
    rows, columns = rows[reached], columns[reached]
    distance, nearest = distance[reached], nearest[reached]
    radius = np.zeros(len(points_xy))
    np.maximum.at(radius, nearest, distance)
    radius = np.clip(radius, LEAST_RADIUS_PX, REACH_PX)
    owner[rows, columns] = nearest
    cost[rows, columns] = DISTANCE_WEIGHT * distance / radius[nearest]
    return Assignment(owner, cost, weight, len(points_xy))


def stack_owners(assignments: Sequence[Assignment]) -> NDArray[np.int32]:
    """Owners of a batch, (B, h, w) int32, each point with a number of its own in the batch."""
    offsets = np.cumsum([0, *(one.count for one in assignments[:-1])], dtype=np.int64)
    owners = np.stack([one.owner for one in assignments])
    return np.where(owners < 0, -1, owners + offsets[:, None, None]).astype(np.int32)


def positive_cells(logits: Tensor, owner: Tensor, cost: Tensor, points: int) -> Tensor:
    """Choose the cell of each point: of those it owns the one with the least cost - logit.

    Of equal cells the first is taken. A point that owns no cell has none.

    Args:
        logits: (B, h, w).
        owner: (B, h, w) integers below `points`, or -1.
        cost: (B, h, w).
        points: number of points in the batch.

    Returns:
        (B, h, w) float32, 1 at the chosen cells, 0 elsewhere.
    """
    slots = owner.flatten().long() + 1
    value = (cost - logits.detach().float()).flatten()
    least = value.new_full((points + 1,), torch.inf).scatter_reduce(0, slots, value, "amin")
    place = torch.arange(len(value), device=value.device)
    nowhere = len(value)
    place = torch.where((value == least[slots]) & (slots > 0), place, nowhere)
    chosen = place.new_full((points + 1,), nowhere).scatter_reduce(0, slots, place, "amin")
    target = value.new_zeros(nowhere + 1)
    # The last element takes what points without a cell would write.
    target[chosen] = 1.0
    return target[:-1].reshape(logits.shape)


def p2r_loss(logits: Tensor, owner: Tensor, cost: Tensor, weight: Tensor, points: int) -> Tensor:
    """P2R loss of a batch, the mean over its images: a scalar.

    Args:
        logits: (B, h, w).
        owner: (B, h, w) integers from `stack_owners`.
        cost: (B, h, w) float32, weight: (B, h, w) float32, from `assign_cells`.
        points: number of points in the batch.
    """
    target = positive_cells(logits, owner, cost, points)
    entropy = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return (entropy * weight * (1 + (POSITIVE_WEIGHT - 1) * target)).sum() / len(logits)
