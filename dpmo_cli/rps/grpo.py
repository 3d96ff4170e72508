"""GRPO for a choice of one step: groups of sampled actions, their advantages and the loss.

Source: "DeepSeekMath" (arXiv 2402.03300), section 4.1. One point is one action, so an answer has
one token.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-6
CLIP = 0.2
BETA = 0.02


def sample_actions(logits: Tensor, group: int, generator: torch.Generator) -> Tensor:
    """Draw a group of actions for each of n states from a policy's (n, A) logits: (n, G) int64."""
    return torch.multinomial(logits.softmax(dim=1), group, replacement=True, generator=generator)


def group_advantages(rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards relative to their group.

    Args:
        rewards: (n, G) float32.

    Returns:
        (n, G) advantages, (reward - mean) / (standard deviation + epsilon), and (n,) bool, the
        groups whose rewards differ: the others carry no signal and are skipped (ours).
    """
    spread = rewards.std(dim=1, correction=0, keepdim=True)
    advantages = (rewards - rewards.mean(dim=1, keepdim=True)) / (spread + EPSILON)
    return advantages, spread[:, 0] > EPSILON


def grpo_loss(
    log_new: Tensor,
    log_old: Tensor,
    log_reference: Tensor,
    advantages: Tensor,
    *,
    clip: float = CLIP,
    beta: float = BETA,
) -> Tensor:
    """The negative of GRPO's objective, a scalar.

    Args:
        log_new: (n, G) log-probabilities of the actions under the policy, with gradient.
        log_old: (n, G) likewise, under the policy that drew them.
        log_reference: (n, G) likewise, under the reference.
        advantages: (n, G).
        clip: how far the ratio of new to old may count.
        beta: weight of the divergence from the reference, estimated by q - log q - 1 with
            q = reference / new.
    """
    ratio = (log_new - log_old).exp()
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    difference = log_reference - log_new
    divergence = difference.exp() - difference - 1
    return (beta * divergence - gain).mean()
