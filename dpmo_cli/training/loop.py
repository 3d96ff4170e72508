"""What training loops share: averaged weights, processes that make batches, the optimiser."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from dpmo_cli.training.checkpoint import warm_cosine

EMA_DECAY = 0.999
CLIP_NORM = 1.0
WEIGHT_DECAY = 0.01

Batch = TypeVar("Batch")
Network = TypeVar("Network", bound=nn.Module)


class Average(Generic[Network]):
    """Exponential moving average of a network's weights, shorter at the beginning.

    Attributes:
        model: a network of its own, ready to use, whose weights are the averaged ones.
    """

    def __init__(self, model: Network) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        # Listed once: they are changed in place. The norms' counters do nothing in use.
        own, new = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in own.items() if value.is_floating_point()]
        self._own = [own[name] for name in floats]
        self._new = [new[name] for name in floats]

    def update(self, step: int) -> None:
        """Move towards the network's weights after a step (from 0 on)."""
        part = 1 - min(EMA_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self._own, self._new, part)

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
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, and the schedule of its rates: a warm-up and a cosine.

    Args:
        model: the network.
        trunk: the part of it that comes from ImageNet.
        rates: of the trunk and of the rest, at their highest.
        steps: length of the run.
    """
    # Lists, not sets: a resumed optimiser finds its state by position.
    first = list(trunk.parameters())
    in_trunk = {id(parameter) for parameter in first}
    rest = [p for p in model.parameters() if id(p) not in in_trunk]
    optimiser = torch.optim.AdamW(
        [{"params": first, "lr": rates[0]}, {"params": rest, "lr": rates[1]}],
        weight_decay=WEIGHT_DECAY,
    )
    warm_up = max(1, min(500, steps // 20))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: warm_cosine(step, steps, warm_up)
    )
    return optimiser, schedule
