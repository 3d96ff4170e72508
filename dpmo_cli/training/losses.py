"""Losses of nano: masks inside their discs, and the network's own estimate of their IoU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

OUTSIDE_WEIGHT = 0.1
"""Weight of the cells outside the disc: a run cuts them off anyway."""
MEAN_WEIGHT = 0.1
"""Weight of the mean over the three candidates beside the best of them."""
SINGLE_WEIGHT = 0.2
"""Weight of SAM's single-mask output, which a run does not use."""


@dataclass(frozen=True)
class MaskLosses:
    """`total` is a scalar; `ious` (P, 4) are the true IoUs inside the discs, without gradient."""

    total: Tensor
    ious: Tensor


def mask_losses(logits: Tensor, predicted_ious: Tensor, truth: Tensor, disc: Tensor) -> MaskLosses:
    """Loss of the four outputs of a SAM mask decoder.

    Args:
        logits: (P, 4, h, w); the first is the single-mask output, the others the candidates.
        predicted_ious: (P, 4).
        truth: (P, h, w) share of each cell that the instance fills inside its disc, 0 to 1.
        disc: (P, h, w) share of each cell inside the disc, 0 to 1.
    """
    logits = logits.float()
    target = truth[:, None].expand_as(logits)
    inside = disc[:, None]
    weight = inside + OUTSIDE_WEIGHT * (1 - inside)
    area = inside.sum(dim=(2, 3)).clamp(min=1)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * weight).sum(dim=(2, 3)) / area
    probability = logits.sigmoid() * inside
    overlap = (probability * target).sum(dim=(2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum(dim=(2, 3)) + target.sum(dim=(2, 3)) + 1)
    masks = entropy + dice

    with torch.no_grad():
        found = (logits > 0).float() * inside
        both = torch.minimum(found, target).sum(dim=(2, 3))
        either = torch.maximum(found, target).sum(dim=(2, 3)).clamp(min=1e-6)
        ious = both / either
    best = masks[:, 1:].min(dim=1).values
    total = (
        best.mean()
        + MEAN_WEIGHT * masks[:, 1:].mean()
        + SINGLE_WEIGHT * masks[:, 0].mean()
        + functional.mse_loss(predicted_ious.float(), ious)
    )
    return MaskLosses(total, ious)
