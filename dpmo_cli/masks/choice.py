"""Choice among the candidate masks of a prompt, at low resolution, under the disc's constraint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpmo_cli.geometry.extents import HEAD, IN_DISC, NNEC
from dpmo_cli.masks.method import HEAD_AREA, POINT, PREDICTED, RETAINED, STABILITY, TERMS

STABILITY_OFFSET = 1.0
"""Logits by which the threshold is moved up and down; segment-anything's own value."""
RAMP = 0.1
"""Logits over which a cell comes to count in a score: rounding, which differs between batches of
other sizes, would tip cells that lie on a threshold, and the scores with them."""
RIVAL_SCORE = 0.9
"""A candidate with this part of the best score rivals it."""
RIVAL_IOU = 0.5
"""Rivals that overlap less than this disagree."""
HEAD_OF_DISC = 0.21
"""Median part of its disc that a head fills: an ellipse in a box a 3.8th as large (NWPU val)."""
HEAD_SPREAD = 0.8
"""How far heads stray from it, as a standard deviation of the logarithm."""
NEAR = 1.5
"""How far a mask is looked at, in radii of its disc."""
ABSENT = -1e9
"""Logits of cells that are not there, beyond smaller candidates beside larger ones."""
MISSES_POINT = 0.1
"""What is left of the score of a candidate that does not hold its own point."""


@dataclass(frozen=True)
class Choice:
    """The chosen candidate of each of n prompts.

    Attributes:
        logits: (n, h, w) float32.
        predicted_iou: (n,) float32, the network's estimate for the chosen mask, 0 to 1.
        stability: (n,) float32, IoU of the mask with itself at a higher and a lower threshold.
        retained: (n,) float32, part of the mask, as far as it is near, that its disc holds.
        score: (n,) float32, predicted IoU x stability; with several candidates also x retained.
        holds_point: (n,) bool.
        ambiguous: (n,) bool, whether a rival of almost the same score is another mask.
    """

    logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    retained: NDArray[np.float32]
    score: NDArray[np.float32]
    holds_point: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]


def choose(
    logits: Tensor,
    predicted_ious: Tensor,
    points_cells: NDArray[np.float64],
    radii_cells: NDArray[np.float64],
    extent: str = NNEC,
    terms: Sequence[str] = TERMS,
    sizes: NDArray[np.int64] | None = None,
) -> Choice:
    """Choose one candidate for each prompt.

    Args:
        logits: (n, c, h, w) float32 candidates on the mask grid, or on a window of it that holds
            the square of `half_sides` round each site, as far as the grid has it.
        predicted_ious: (n, c) float32.
        points_cells: (n, 2) float64 sites, x then y, in cells from the logits' corner; cell
            centres are integers.
        radii_cells: (n,) float64 discs, in cells.
        extent: what of a person a mask is to hold.
        terms: what to weigh, some of TERMS.
        sizes: (n, 2) int64, how many columns and rows each has, and is ABSENT beyond; None where
            all fill the array.
    """
    count, several, height, width = logits.shape
    device = logits.device
    points = torch.as_tensor(points_cells, dtype=torch.float32, device=device)
    radii = torch.as_tensor(radii_cells, dtype=torch.float32, device=device)[:, None, None]
    halves = torch.as_tensor(half_sides(radii_cells), dtype=torch.float32, device=device)
    x = (torch.arange(width, device=device) - points[:, :1])[:, None]
    y = (torch.arange(height, device=device) - points[:, 1:])[:, :, None]
    if sizes is None:
        sizes = np.tile([width, height], (count, 1))
    last = torch.as_tensor(sizes - 1, device=device)
    # Halves go up, wherever the logits' corner lies.
    nearest = (points + 0.5).floor().long()
    column, row = torch.minimum(nearest.clamp(min=0), last).unbind(dim=1)
    rows = torch.arange(count, device=device)
    disc = y**2 + x**2 <= radii**2
    # A disc smaller than a cell still has the cell of its site.
    disc[rows, row, column] = True
    bound = disc if extent in IN_DISC else torch.ones_like(disc)

    across, down = (line.abs() <= halves[:, None, None] for line in (x, y))
    retained, stability = _shares(logits, disc, across, down, bound)
    holds = logits[rows, :, row, column] > 0
    predicted = predicted_ious.clamp(0, 1)
    scores = torch.ones_like(predicted)
    if PREDICTED in terms:
        scores = scores * predicted
    if STABILITY in terms:
        scores = scores * stability
    best = torch.zeros_like(rows)
    ambiguous = torch.zeros_like(rows, dtype=torch.bool)
    # Masks that were made for no extent are better the less the disc cuts off; a mask that was
    # made for it, the only one then, loses what lies outside by intention.
    if several > 1:
        kept = (logits > 0) & bound[:, None]
        if extent in IN_DISC and RETAINED in terms:
            scores = scores * retained
        if extent == HEAD and HEAD_AREA in terms:
            # A head has a usual size.
            there = disc & (logits[:, 0] > ABSENT)
            area = kept.sum(dim=(2, 3)) / there.sum(dim=(1, 2)).clamp(min=1)[:, None]
            off = (area.clamp(min=1e-6).log() - math.log(HEAD_OF_DISC)) / HEAD_SPREAD
            scores = scores * torch.exp(-0.5 * off**2)
        ranked = scores * torch.where(holds, 1.0, MISSES_POINT) if POINT in terms else scores
        best = ranked.argmax(dim=1)
        chosen = kept[rows, best][:, None]
        overlap = _share(kept & chosen, kept | chosen)
        rivals = (ranked >= RIVAL_SCORE * ranked[rows, best][:, None]) & (overlap < RIVAL_IOU)
        ambiguous = (rivals & (ranked > 0)).any(dim=1)

    def pick(values: Tensor) -> NDArray[np.float32]:
        picked: NDArray[np.float32] = values[rows, best].float().cpu().numpy()
        return picked

    return Choice(
        logits=pick(logits),
        predicted_iou=pick(predicted),
        stability=pick(stability),
        retained=pick(retained),
        score=pick(scores),
        holds_point=holds[rows, best].cpu().numpy(),
        ambiguous=ambiguous.cpu().numpy(),
    )


def half_sides(radii_cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the side of the square round a disc in which a mask is looked at, (n,) in cells.

    What lies further off tells nothing more: a mask that fills the square has a third in its disc.
    """
    return np.maximum(NEAR * radii_cells, radii_cells + 1)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Pixels of a mask in parts of another's, (n, c) float32; zero where the other is empty."""
    return _part(part.sum(dim=(2, 3)), whole.sum(dim=(2, 3)))


def _part(part: Tensor, whole: Tensor) -> Tensor:
    """At most one, whatever the order of the sums; zero of nothing."""
    return (part / whole.clamp(min=1)).clamp(max=1)


def _shares(
    logits: Tensor, disc: Tensor, across: Tensor, down: Tensor, bound: Tensor
) -> tuple[Tensor, Tensor]:
    """How much of what a mask has near its site is in its disc, and how stable it is.

    Args:
        logits: (n, c, h, w) float32.
        disc: (n, h, w) bool.
        across, down: (n, 1, w) and (n, h, 1) bool, whose product is the square round the site.
        bound: (n, h, w) bool where a mask may lie, or `disc` itself.

    Returns:
        (n, c) float32 each, 0 to 1.
    """
    of_disc = disc.float()
    of_bound = of_disc if bound is disc else bound.float()
    cells = _cells(logits, 0.0)
    # Cells are lost in the sum over the disc: this one comes first.
    is_near = _inside((cells * across[:, None]).sum(dim=3, keepdim=True), down)
    retained = _part(_inside(cells, of_disc), is_near)
    surely, maybe = (
        _inside(_cells(logits, offset), of_bound)
        for offset in (-STABILITY_OFFSET, STABILITY_OFFSET)
    )
    return retained, _part(surely, maybe)


def _cells(logits: Tensor, offset: float) -> Tensor:
    """How cells count as mask when `offset` is added to the logits, float32 of their shape.

    A cell counts a half at the threshold, as one and nothing half a RAMP from it.
    """
    return (logits + (offset + RAMP / 2)).div_(RAMP).clamp_(0, 1)


def _inside(cells: Tensor, region: Tensor) -> Tensor:
    """Sums over regions (n, h, w) 0 or 1 of cells (n, c, h, w), which are lost: (n, c) float32."""
    return cells.mul_(region[:, None]).sum(dim=(2, 3))
