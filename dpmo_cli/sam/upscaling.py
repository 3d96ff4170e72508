"""The last step of SAM's mask decoder, for tokens in any window: from tokens to cells of masks."""

from __future__ import annotations

from typing import cast

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional


class Upscaling:
    """SAM's upscaling of tokens to cells, four by four, as products of matrices.

    Both transposed convolutions have a kernel as large as their stride, and the norm between
    them is of each cell: nothing passes between tokens.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        self._first = cast(nn.ConvTranspose2d, layers[0])
        self._norm = cast(LayerNorm2d, layers[1])
        self._gelu = layers[2]
        self._second = cast(nn.ConvTranspose2d, layers[3])

    def __call__(self, tokens: Tensor, weights: Tensor, side: int) -> Tensor:
        """Logits (N, K, 4 * side, 4 * side) of tokens (N, side * side, C), weights (N, c, K)."""
        cells = _grown(self._first, tokens)
        # segment-anything's LayerNorm2d, of the last axis.
        cells = functional.layer_norm(
            cells, cells.shape[-1:], self._norm.weight, self._norm.bias, self._norm.eps
        )
        cells = self._gelu(_grown(self._second, self._gelu(cells)))
        logits: Tensor = cells.flatten(1, 3) @ weights
        count, wanted = weights.shape[0], weights.shape[2]
        # Window row and column, then row and column in the token, then in its quarter.
        grid = logits.view(count, side, side, 2, 2, 2, 2, wanted)
        return grid.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(count, wanted, 4 * side, 4 * side)


def _grown(layer: nn.ConvTranspose2d, cells: Tensor) -> Tensor:
    """A transposed convolution, kernel 2 and stride 2, of (..., C) cells: (..., 4, c)."""
    # (C, c, 2, 2) to (C, 2 * 2 * c): the places in the new square, then the channels.
    kernel = layer.weight.permute(0, 2, 3, 1).flatten(1)
    assert layer.bias is not None
    grown: Tensor = torch.unflatten(cells @ kernel, -1, (4, -1)) + layer.bias
    return grown
