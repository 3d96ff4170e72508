"""A crop's image as SAM's mask decoder sees it, as far as it is the same for all prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling.transformer import Attention
from torch import Tensor


@dataclass(frozen=True)
class Look:
    """What of a crop's image an attention from the prompts' tokens to it needs.

    Attributes:
        keys: (H, d, P) of the basis; in the first block of the image itself, places included.
        values: (H, d, P) of the basis.
    """

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Norm:
    """What of a crop's image the last norm of a block needs.

    Attributes:
        squares: (P,) squared lengths of the centred basis.
        mixed: (P,) its products with the centred constant.
        rows: for this block and each before it (H, d, P), products of the centred basis with
            what a value of that block becomes behind its output projection and the norms since.
    """

    squares: Tensor
    mixed: Tensor
    rows: list[Tensor]


@dataclass(frozen=True)
class SharedImage:
    """What all prompts of a crop have in common.

    Attributes:
        across: tokens of the crop from left to right.
        looks: of each block's attention to the image, and of the final one.
        queries: (H, d, P) of each block's attention of the image to the tokens, as of `Look`.
        norms: of each block.
        basis: (P, C) behind the last block.
    """

    across: int
    looks: list[Look]
    queries: list[Tensor]
    norms: list[Norm]
    basis: Tensor


class Stage:
    """The image as a block, or the final attention, finds it: what is the same for all crops.

    Attributes:
        keys, queries: (H, d, P) projections of the places and the constant.
        values: (H, 1, d) projections of the constant.
    """

    def __init__(
        self, looking: Attention, answering: Attention | None, constant: Tensor, place: Tensor
    ) -> None:
        self.heads = looking.num_heads
        self.keys = looking.k_proj(place + constant).T.unflatten(0, (self.heads, -1))
        self.values = looking.v_proj(constant).view(self.heads, 1, -1)
        projects = [looking.k_proj, looking.v_proj]
        if answering is not None:
            self.queries = answering.q_proj(place + constant).T.unflatten(0, (self.heads, -1))
            projects.append(answering.q_proj)
        self._kernel = torch.cat([project.weight for project in projects])

    def see(self, basis: Tensor, *, first: bool) -> tuple[Look, Tensor | None]:
        """Project the basis of a crop, (P, C), at once; the first one is the image itself."""
        seen = of_heads(basis, self._kernel, self.heads * (len(self._kernel) // self.width))
        keys, values, *rest = seen.chunk(len(seen) // self.heads)
        if first:
            keys = keys + self.keys
            rest = [queries + self.queries for queries in rest]
        return Look(keys, values), rest[0] if rest else None

    @property
    def width(self) -> int:
        """Of a projection."""
        return int(self.keys.shape[0] * self.keys.shape[1])


def of_heads(tokens: Tensor, kernel: Tensor, heads: int) -> Tensor:
    """Tokens (P, C) behind a projection (D, C): (H, d, P)."""
    # In this order nothing has to be turned afterwards.
    return torch.unflatten(kernel @ tokens.T, 0, (heads, -1))


def centred(tokens: Tensor) -> Tensor:
    """Tokens (..., C) less the mean of their channels."""
    return tokens - tokens.mean(dim=-1, keepdim=True)
