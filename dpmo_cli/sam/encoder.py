"""The image encoders re-expressed for a CPU: the same numbers up to rounding, in less time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.image_encoder import Attention, Block, get_rel_pos
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dpmo_cli.sam.nano import NanoImageEncoder

Encoder: TypeAlias = Callable[[Tensor], Tensor]
"""From (B, 3, S, S) normalised frames to (B, C, s, s) embeddings."""

ONEDNN_CONVOLUTION = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
"""Convolution, bias and what follows in one; None where torch was built without oneDNN."""
ATTENTION_AT_ONCE = 2**20
"""Weights of attention that are in memory at a time, per head: 4 MB, which a cache holds."""


def cpu_encoder(encoder: nn.Module) -> Encoder:
    """The fastest known form of an encoder in float32 on a CPU; the encoder itself stays.

    Args:
        encoder: in evaluation mode; weights that change later are not followed.
    """
    if isinstance(encoder, NanoImageEncoder) and ONEDNN_CONVOLUTION is not None:
        return _fused(encoder)
    if isinstance(encoder, ImageEncoderViT):
        return lambda frames: _vit(encoder, frames)
    return encoder


class _Convolution(nn.Module):
    """A convolution with what follows it in one kernel of oneDNN.

    So the layers between are never written to memory (17 against 32 ms a tile), and unlike
    torch's own choice among kernels the bits do not depend on the number of threads.
    """

    def __init__(self, convolution: nn.Conv2d, norm: BatchNormAct2d | None = None) -> None:
        super().__init__()
        folded = convolution if norm is None else fuse_conv_bn_eval(convolution, norm)
        kernel, stride = folded.kernel_size[0], folded.stride[0]
        weight, pad = folded.weight.detach(), cast(int, folded.padding[0])
        if isinstance(convolution, Conv2dSame):
            # Tensorflow pads an even side by one more behind it. A row and a column of zeros
            # before the kernel stand for that; padding by itself would copy the whole layer.
            pad = (kernel - stride + 1) // 2
            weight = functional.pad(weight, 2 * ((kernel - stride) % 2, 0))
        self.weight = nn.Buffer(weight.contiguous(memory_format=torch.channels_last))
        self.bias = None if folded.bias is None else nn.Buffer(folded.bias.detach())
        self.geometry = ((pad, pad), (stride, stride), (1, 1), folded.groups)
        clipped = norm is not None and isinstance(norm.act, nn.ReLU6)
        self.then: tuple[str, list[float], str] = (
            ("hardtanh", [0.0, 6.0], "") if clipped else ("none", [], "")
        )

    def forward(self, features: Tensor) -> Tensor:
        """Convolve (B, C, h, w)."""
        assert ONEDNN_CONVOLUTION is not None
        answer: Tensor = ONEDNN_CONVOLUTION(
            features, self.weight, self.bias, *self.geometry, *self.then
        )
        return answer


class _Norm(nn.Module):
    """`LayerNorm2d` as one kernel, over channels that lie last in memory."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, h, w) over C."""
        last = features.permute(0, 2, 3, 1)
        normal = functional.layer_norm(last, last.shape[3:], self.weight, self.bias, self.eps)
        return normal.permute(0, 3, 1, 2)


def _fused(encoder: NanoImageEncoder) -> Encoder:
    """A copy of nano's encoder, its norms folded into the convolutions before them."""
    fused = copy.deepcopy(encoder).requires_grad_(False)
    _fuse(fused)
    # The fused clipping makes numbers of NaN, and damaged weights would not be noticed.
    whole = all(torch.isfinite(weight).all() for weight in fused.state_dict().values())
    return fused if whole else encoder


def _fuse(module: nn.Module) -> None:
    """Replace the layers of a module, in the order in which they are called."""
    before = ""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(module, name, _Convolution(child))
            before, convolution = name, child
        elif isinstance(child, BatchNormAct2d):
            setattr(module, before, _Convolution(convolution, child))
            setattr(module, name, nn.Identity())
        elif isinstance(child, LayerNorm2d):
            setattr(module, name, _Norm(child))
        else:
            _fuse(child)


def _vit(encoder: ImageEncoderViT, frames: Tensor) -> Tensor:
    """`ImageEncoderViT.forward`, attention over the whole frame a part at a time."""
    tokens = encoder.patch_embed(frames)
    if encoder.pos_embed is not None:
        tokens = tokens + encoder.pos_embed
    for layer in encoder.blocks:
        block = cast(Block, layer)
        if block.window_size or not block.attn.use_rel_pos:
            tokens = block(tokens)
        else:
            tokens = tokens + _attend(block.attn, block.norm1(tokens))
            tokens = tokens + block.mlp(block.norm2(tokens))
    return cast(Tensor, encoder.neck(tokens.permute(0, 3, 1, 2)))


def _attend(attention: Attention, tokens: Tensor) -> Tensor:
    """`Attention.forward` of (B, h, w, C) with relative positions, one head and some rows at once.

    There weights and biases of all pairs of tokens are in memory three times, 2.4 GB for ViT-B.
    """
    batch, height, width, _ = tokens.shape
    heads = attention.num_heads
    split = attention.qkv(tokens).reshape(batch, height * width, 3, heads, -1)
    q, k, v = split.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
    placed = q.reshape(batch * heads, height, width, -1)
    down = get_rel_pos(height, height, attention.rel_pos_h)
    across = get_rel_pos(width, width, attention.rel_pos_w)
    # Biases of each token by the row and by the column of the other.
    by_row = torch.einsum("nhwc,hkc->nhwk", placed, down)[..., None]
    by_column = torch.einsum("nhwc,wkc->nhwk", placed, across)[..., None, :]
    mixed = torch.empty_like(q)
    rows = max(1, ATTENTION_AT_ONCE // (width * height * width))
    for head, query in enumerate(q * attention.scale):
        for first in range(0, height, rows):
            part = slice(first, first + rows)
            some = slice(first * width, (first + rows) * width)
            bias = (by_row[head, part] + by_column[head, part]).reshape(-1, height * width)
            weights = torch.addmm(bias, query[some], k[head].T).softmax(dim=1)
            torch.mm(weights, v[head], out=mixed[head, some])
    joined = mixed.reshape(batch, heads, height, width, -1).permute(0, 2, 3, 1, 4)
    return cast(Tensor, attention.proj(joined.flatten(3)))
