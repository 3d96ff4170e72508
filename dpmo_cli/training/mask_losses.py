"""Counting losses supervised by masks: plain functions on tensors that need nothing but torch.

A counting model gives a map of *mass*, non-negative, whose sum is the count: a density map, or
`mass_of_logits` of a map of logits, one cell a person. `mask_regions` turns a label map into the
parts of the cells that each mask holds; three terms then say, in people per person, what is wrong:

- `foreground`: a mask holds more or less than one person;
- `background`: mass lies on no mask;
- `ownership`: mass that is nearest to one person's point lies on another's mask.

Where a network is unsure, the three terms pull it to what is more likely, so that it counts less
than there is. Two others, each alone in the place of the three, leave it at the probability:
`poisson_deviance` of a map of mass; `likelihood` of a map of logits, how unlikely it is that on
each mask just one cell is a person, and none elsewhere.

The formulas are ours: those of the paper are not public.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dpmo_cli.training.mask_regions import Regions, precise

_LEAST = 1e-4
"""People that a mask holds at least, where their logarithm is taken: gradients stay numbers."""


class MaskTerms(NamedTuple):
    """The three terms, scalars, in people per person."""

    foreground: Tensor
    background: Tensor
    ownership: Tensor


def mass_of_logits(logits: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Expected people of each cell of a map of logits: their probabilities, in single precision.

    ReLU, which the sister paper's code takes, has no gradient where a person is missed.

    Args:
        logits: of any shape.
        positive_weight: how much more people weigh than other cells in the entropy that the logits
            learn by. So many times too large are the odds that they tell.
    """
    return torch.sigmoid(logits.to(precise(logits)) - math.log(positive_weight))


def mask_terms(mass: Tensor, regions: Regions) -> MaskTerms:
    """The three terms of a batch of maps.

    Args:
        mass: (B, h, w), non-negative, of any precision; sums are taken in float32 at least.
        regions: of the same batch.

    Raises:
        ValueError: the map has another shape than the regions.
    """
    return MaskTerms(foreground(mass, regions), background(mass, regions), ownership(mass, regions))


def people_of_masks(mass: Tensor, regions: Regions) -> Tensor:
    """People that a (B, h, w) map counts on each mask: (K,), float32 at least."""
    on_masks = _on_masks(mass, regions)
    return on_masks.new_zeros(len(regions.people)).index_add(0, regions.mask, on_masks)


def foreground(mass: Tensor, regions: Regions) -> Tensor:
    """Mean over the masks of |people counted on it - people that are|; a scalar.

    Every cell on a mask has a gradient, until its mask holds exactly its people.
    """
    error = (people_of_masks(mass, regions) - regions.people).abs()
    return (error * regions.weight).sum() / _masks(regions)


def background(mass: Tensor, regions: Regions) -> Tensor:
    """People counted on no mask, per mask; a scalar. Every cell there has the same gradient."""
    return (_checked(mass, regions) * regions.ground).sum() / _masks(regions)


def ownership(mass: Tensor, regions: Regions) -> Tensor:
    """People counted on a mask where the point of another is nearer, per mask; a scalar.

    For the other terms such mass is as good as any on that mask; but a localiser that learns by
    nearest points, or whoever reads the map, gives it to the wrong person.
    """
    weight = regions.foreign * regions.weight[regions.mask]
    return (_on_masks(mass, regions) * weight).sum() / _masks(regions)


def poisson_deviance(mass: Tensor, regions: Regions) -> Tensor:
    """Mean over the masks of the deviance of the people on each, and of nobody elsewhere; a scalar.

    Counts are Poisson's, with the sums of the map as their means: n people where it tells m cost
    m - n + n log(n / m), zero where both are one. The least is where the map tells the mean of what
    may be there, so that the sum stays the count however unsure the network is.

    Args:
        mass: (B, h, w), non-negative, of any precision; sums are taken in float32 at least.
        regions: of the same batch.
    """
    told = people_of_masks(mass, regions)
    error = told - regions.people + torch.xlogy(regions.people, regions.people / (told + _LEAST))
    return (error * regions.weight).sum() / _masks(regions) + background(mass, regions)


def likelihood(logits: Tensor, regions: Regions) -> Tensor:
    """Mean over the masks of -log P(one cell on it is a person, and nobody is elsewhere); a scalar.

    Cells are people independently of each other, with the probabilities of their logits. Who is in
    a cell that masks divide is on each with the chance of its part. Masks of several people say
    nothing here, nor does what lies nearer to others.

    Args:
        logits: (B, h, w) of any precision; sums are taken in float32 at least.
        regions: of the same batch.
    """
    cells = _checked(logits, regions).flatten()
    weight = regions.weight * (regions.people == 1)
    # The odds of somebody there who is on this mask: no more than those of the part.
    here = cells[regions.cell]
    odds = here + regions.part.log() - functional.softplus(here + (-regions.part).log1p())
    nobody = functional.softplus(odds) * weight[regions.mask]
    # The sum of the odds of each mask; its largest is taken out, so that none overflows.
    most = odds.detach().new_full((len(weight),), -torch.inf)
    most = most.scatter_reduce(0, regions.mask, odds.detach(), "amax")
    scaled = torch.zeros_like(most).index_add(0, regions.mask, (odds - most[regions.mask]).exp())
    held = weight > 0
    somebody = (most[held] + scaled[held].log()) * weight[held]
    elsewhere = (functional.softplus(cells) * regions.ground.flatten()).sum()
    return (elsewhere + nobody.sum() - somebody.sum()) / _masks(regions)


def _checked(mass: Tensor, regions: Regions) -> Tensor:
    if mass.shape != regions.ground.shape:
        raise ValueError(
            f"a map of shape {tuple(mass.shape)} for regions of {tuple(regions.ground.shape)}"
        )
    return mass.to(precise(mass))


def _on_masks(mass: Tensor, regions: Regions) -> Tensor:
    return _checked(mass, regions).flatten()[regions.cell] * regions.part


def _masks(regions: Regions) -> Tensor:
    """Masks that count, one at least."""
    return (regions.weight > 0).sum().clamp(min=1)
