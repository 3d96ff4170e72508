"""SAM's mask decoder, re-expressed so that all prompts of a crop share what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer
from torch import Tensor
from torch.nn import functional

SINGLE, CANDIDATES = 0, (1, 2, 3)
"""Outputs of the decoder: one mask alone; and part, object, group."""


def decode(
    decoder: MaskDecoder,
    embedding: Tensor,
    position: Tensor,
    sparse: Tensor,
    dense: Tensor,
    outputs: Sequence[int] = CANDIDATES,
) -> tuple[Tensor, Tensor]:
    """Answer the prompts of one crop, or of one crop each, with some masks each.

    The same numbers, up to rounding, as `MaskDecoder.forward` with `multimask_output`. There each
    prompt gets a copy of the image's tokens; here they are one until the first block updates them,
    and attention is fused.

    Args:
        decoder: segment-anything's own module; its weights are used as they are.
        embedding: (1, C, h, w) of the crop, or (N, C, h, w) of the crop of each prompt.
        position: (1, C, h, w) positional encoding.
        sparse: (N, T, C) embedded points.
        dense: (1 or N, C, h, w) embedded mask prompts, the same for all prompts.
        outputs: which of the decoder's K masks are wanted.

    Returns:
        (N, K, 4h, 4w) logits and (N, K) predicted IoUs.
    """
    count = len(sparse)
    _, channels, height, width = embedding.shape
    learned = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([learned.expand(count, -1, -1), sparse], dim=1)
    image = (embedding + dense[:1]).flatten(2).transpose(1, 2)
    queries, image = _transform(
        cast(TwoWayTransformer, decoder.transformer),
        tokens,
        image,
        position.flatten(2).transpose(1, 2),
    )
    pixels = decoder.output_upscaling(image.transpose(1, 2).view(count, channels, height, width))
    # Token 0 estimates IoUs; the masks' tokens follow.
    weights = torch.stack(
        [decoder.output_hypernetworks_mlps[i](queries[:, 1 + i]) for i in outputs], dim=1
    )
    logits = (weights @ pixels.flatten(2)).unflatten(2, (4 * height, 4 * width))
    return logits, decoder.iou_prediction_head(queries[:, 0])[:, list(outputs)]


def _transform(
    transformer: TwoWayTransformer, tokens: Tensor, image: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """Let tokens (N, T, C) and image (1 or N, P, C) attend to each other: (N, T, C), (N, P, C)."""
    queries = tokens
    for layer in transformer.layers:
        queries, image = _block(cast(TwoWayAttentionBlock, layer), queries, image, tokens, position)
    final = cast(Attention, transformer.final_attn_token_to_image)
    queries = queries + attend(final, queries + tokens, image + position, image)
    return transformer.norm_final_attn(queries), image


def _block(
    block: TwoWayAttentionBlock, queries: Tensor, image: Tensor, tokens: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """One two-way block; `image` may still be the one that all prompts share."""
    if block.skip_first_layer_pe:
        queries = attend(block.self_attn, queries, queries, queries)
    else:
        asked = queries + tokens
        queries = queries + attend(block.self_attn, asked, asked, queries)
    queries = block.norm1(queries)
    placed = image + position
    queries = queries + attend(block.cross_attn_token_to_image, queries + tokens, placed, image)
    queries = block.norm2(queries)
    queries = block.norm3(queries + block.mlp(queries))
    image = image + attend(block.cross_attn_image_to_token, placed, queries + tokens, queries)
    return queries, block.norm4(image)


def attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`Attention.forward`; q, k and v of batch 1 are broadcast to the others' batch."""
    heads = attention.num_heads
    q, k, v = (
        project(x).unflatten(2, (heads, -1)).transpose(1, 2)
        for project, x in ((attention.q_proj, q), (attention.k_proj, k), (attention.v_proj, v))
    )
    batch = max(len(q), len(k))
    q, k, v = (x.expand(batch, -1, -1, -1) for x in (q, k, v))
    mixed = functional.scaled_dot_product_attention(q, k, v)
    return cast(Tensor, attention.out_proj(mixed.transpose(1, 2).flatten(2)))
