"""What training loops share: averaged weights, processes that make batches, the optimiser."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from dpmo_cli.training.checkpoint import warm_cosine

EMA_DECAY = 0.999
CLIP_NORM = 1.0

Batch = TypeVar("Batch")
Network = TypeVar("Network", bound=nn.Module)


class Average:
    """Exponential moving average of a network's weights, shorter at the beginning."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights after a step (from 0 on)."""
        part = 1 - min(EMA_DECAY, (1 + step) / (10 + step))
        own, new = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in own.items() if value.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([own[n] for n in floats], [new[n] for n in floats], part)
            for name in own.keys() - set(floats):
                own[name].copy_(new[name])

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights."""
        return self.model.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Take the averaged weights back."""
        return self.model.load_state_dict(state_dict)


def make_loader(
    batches: Dataset[Batch], steps: range, workers: int, *, pin: bool
) -> Iterable[Batch]:
    """Batches of the steps in their order, made by some processes beside this one.

    Args:
        batches: gives the whole batch of a step.
        steps: the steps that are left.
        workers: processes; 0 makes the batches in this one.
        pin: whether to put them where a CUDA device copies fastest.
    """
    # Forked workers share the images; elsewhere than on Linux a fork is not safe.
    fork = "fork" if workers and sys.platform == "linux" else None
    return DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        multiprocessing_context=fork,
        prefetch_factor=3 if workers else None,
        pin_memory=pin,
    )


def make_optimiser(
    model: nn.Module,
    trunk: nn.Module,
    rates: tuple[float, float],
    steps: int,
    weight_decay: float = 0.01,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with rates for the trunk and for the rest, a warm-up and a cosine."""
    # Lists, not sets: a resumed optimiser finds its state by position.
    first = list(trunk.parameters())
    in_trunk = {id(parameter) for parameter in first}
    rest = [p for p in model.parameters() if id(p) not in in_trunk]
    optimiser = torch.optim.AdamW(
        [{"params": first, "lr": rates[0]}, {"params": rest, "lr": rates[1]}],
        weight_decay=weight_decay,
    )
    warm_up = max(1, min(500, steps // 20))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: warm_cosine(step, steps, warm_up)
    )
    return optimiser, schedule
