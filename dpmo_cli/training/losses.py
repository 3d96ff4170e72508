"""Losses of nano: a mask for each extent, and the network's own estimate of their IoU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

OUTSIDE_WEIGHT = 0.05
"""Weight of the cells outside the disc where the extent is `nnec`: a run cuts them off anyway."""
EXTENT_WEIGHTS = (1.0, 0.4, 0.4)
"""Weights of the extents `nnec`, `head` and `visible`."""
SINGLE_WEIGHT = 0.1
"""Weight of SAM's single-mask output, which a run does not use."""


@dataclass(frozen=True)
class MaskLosses:
    """`total` is a scalar; `ious` (P, 4) are the outputs' true IoUs, without gradient."""

    total: Tensor
    ious: Tensor


def mask_losses(
    logits: Tensor,
    predicted_ious: Tensor,
    visible: Tensor,
    head: Tensor,
    disc: Tensor,
    known: Tensor,
) -> MaskLosses:
    """Loss of the four outputs of a SAM mask decoder.

    The single-mask output and the first candidate learn the person inside the disc, the second
    the head, the third the whole visible person. Outside the disc the first is still asked, a
    little, for the person: no edge of the picture says where a disc ends.

    Args:
        logits: (P, 4, h, w); the first is the single-mask output, the others the candidates.
        predicted_ious: (P, 4).
        visible: (P, h, w) share of each cell that the instance fills, 0 to 1.
        head: (P, h, w) share of each cell that its head fills.
        disc: (P, h, w) share of each cell inside the disc.
        known: (P, 3) bool, which of EXTENTS the shares tell; the others are not asked for.
    """
    logits = logits.float()
    target = torch.stack([visible, visible, head, visible], dim=1)
    whole = torch.ones_like(disc)
    # Where whole persons are not known, nobody knows what is outside.
    outside = OUTSIDE_WEIGHT * known[:, 2].float()
    near = disc + outside[:, None, None] * (1 - disc)
    weight = torch.stack([near, near, near, whole], dim=1)
    counted = torch.stack([disc, disc, whole, whole], dim=1)
    # Each mask counts alike, whatever its size; the whole person has no disc to be measured by.
    unit = torch.stack([disc, disc, disc, torch.maximum(disc, visible)], dim=1)
    area = unit.sum(dim=(2, 3)).clamp(min=1)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * weight).sum(dim=(2, 3)) / area
    probability = logits.sigmoid() * counted
    inside = target * counted
    overlap = (probability * inside).sum(dim=(2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum(dim=(2, 3)) + inside.sum(dim=(2, 3)) + 1)

    with torch.no_grad():
        found = (logits > 0).float() * counted
        both = torch.minimum(found, inside).sum(dim=(2, 3))
        either = torch.maximum(found, inside).sum(dim=(2, 3)).clamp(min=1e-6)
        ious = both / either
    asked = torch.cat([known[:, :1], known], dim=1).float()
    importance = asked * logits.new_tensor([SINGLE_WEIGHT, *EXTENT_WEIGHTS])
    errors = (predicted_ious.float() - ious) ** 2
    total = ((entropy + dice + errors) * importance).sum(dim=1).mean()
    return MaskLosses(total, ious)
