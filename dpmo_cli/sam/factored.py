"""SAM's mask decoder for many prompts of one crop, without a copy of the image for each of them.

In segment-anything every prompt gets its own image tokens, which each two-way block changes. Here
the tokens X (P, C) of a prompt are never written out. They stay what they are made of,

    X = s * B + M^T L + c

with B (P, C) and c (C,) the same for all prompts, s (P,) a factor of each token, and K rows of
M (K, P), L (K, C). Attention from the image to T prompt tokens adds heads * T rows, the softmax
weights and the values behind the output projection; a layer norm is a centring of B, L and c and
a new s. So all projections of the image are made once for a crop, and a prompt costs a tenth of
the operations. It is the same function up to rounding, with segment-anything's weights as they are.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import cast

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer
from torch import Tensor, nn

from dpmo_cli.sam.decoder import CANDIDATES, attend
from dpmo_cli.sam.shared_image import Look, Norm, SharedImage, Stage, centred, of_heads
from dpmo_cli.sam.upscaling import Upscaling


class FactoredDecoder:
    """A `MaskDecoder`, re-expressed for many prompts of one crop.

    Args:
        decoder: segment-anything's own module of two blocks. Its weights are used as they are, and
            must not change afterwards.
        position: (1, C, h, w) positional encoding of the image.
    """

    def __init__(self, decoder: MaskDecoder, position: Tensor) -> None:
        self._decoder = decoder
        transformer = cast(TwoWayTransformer, decoder.transformer)
        self._blocks = [cast(TwoWayAttentionBlock, layer) for layer in transformer.layers]
        self._final = cast(Attention, transformer.final_attn_token_to_image)
        self._norm_final = transformer.norm_final_attn
        self._upscaling = Upscaling(decoder.output_upscaling)
        self._rooms = _Rooms()
        if len(self._blocks) != 2:
            raise ValueError(f"a decoder of {len(self._blocks)} blocks; SAM's have two")
        place = position[0].flatten(1).T
        first, second = self._blocks
        # The first block's output bias is with the basis: all tokens have the factor one there.
        behind = first.norm4.bias + second.cross_attn_image_to_token.out_proj.bias
        self._stages = [
            Stage(first.cross_attn_token_to_image, first.cross_attn_image_to_token,
                   torch.zeros_like(place[0]), place),
            Stage(second.cross_attn_token_to_image, second.cross_attn_image_to_token,
                   first.norm4.bias, place),
            Stage(self._final, None, second.norm4.bias, place),
        ]  # fmt: skip
        self._constants = [torch.zeros_like(place[0]), centred(behind)]

    def prepare(self, embedding: Tensor, dense: Tensor) -> SharedImage:
        """Project the image tokens of a crop for all of its prompts.

        Args:
            embedding: (1, C, h, w).
            dense: (1 or N, C, h, w) embedded mask prompts, the same for all prompts.
        """
        basis = (embedding + dense[:1])[0].flatten(1).T
        looks: list[Look] = []
        queries: list[Tensor] = []
        norms: list[Norm] = []
        for index, (stage, block) in enumerate(zip(self._stages[:-1], self._blocks, strict=True)):
            look, asking = stage.see(basis, first=index == 0)
            assert asking is not None
            looks.append(look)
            queries.append(asking)
            if index == 0:
                basis = basis + block.cross_attn_image_to_token.out_proj.bias
            basis = centred(basis)
            rows = [self._rows_seen(earlier, index, basis) for earlier in range(index + 1)]
            norms.append(Norm(basis.square().sum(dim=1), basis @ self._constants[index], rows))
            basis = basis * block.norm4.weight
        looks.append(self._stages[-1].see(basis, first=False)[0])
        return SharedImage(embedding.shape[3], looks, queries, norms, basis)

    def _rows_seen(self, index: int, last: int, basis: Tensor) -> Tensor:
        """Products of a centred basis with a block's values behind the norms that followed."""
        for at in reversed(range(index, last)):
            basis = centred(basis * self._blocks[at].norm4.weight)
        attention = self._blocks[index].cross_attn_image_to_token
        return of_heads(basis, attention.out_proj.weight.T, attention.num_heads)

    def decode(
        self,
        shared: SharedImage,
        sparse: Tensor,
        corners: Tensor,
        side: int,
        outputs: Sequence[int] = CANDIDATES,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts with some masks each, in a window of the tokens' grid.

        Args:
            shared: of the crop.
            sparse: (N, T, C) embedded points.
            corners: (N, 2) int64, row and column of the windows' first tokens.
            side: of the windows, tokens; the grid's own where they are as large as the grid.
            outputs: which of the decoder's K masks are wanted.

        Returns:
            (N, K, 4 * side, 4 * side) logits and (N, K) predicted IoUs. The logits are those of
            the whole grid up to rounding: neither the upscaling's kernels nor its norm mix tokens.
        """
        decoder = self._decoder
        learned = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([learned.expand(len(sparse), -1, -1), sparse], dim=1)
        behind = self._blocks[-1].norm4.bias
        state = _State(shared, tokens, self._stages, self._constants, behind, self._rooms)
        queries = tokens
        for index, block in enumerate(self._blocks):
            queries = _ask(block, queries, tokens)
            queries = block.norm2(
                queries + state.look(index, block.cross_attn_token_to_image, queries + tokens)
            )
            queries = block.norm3(queries + block.mlp(queries))
            state.change(index, block, queries, tokens)
        # Token 0 estimates IoUs, the masks' tokens follow; nobody asks for the others any more.
        wanted = [0, *(1 + index for index in outputs)]
        queries, tokens = queries[:, wanted], tokens[:, wanted]
        queries = queries + state.look(len(self._blocks), self._final, queries + tokens)
        queries = self._norm_final(queries)

        weights = torch.stack(
            [
                decoder.output_hypernetworks_mlps[index](queries[:, 1 + at])
                for at, index in enumerate(outputs)
            ],
            dim=2,
        )
        logits = self._upscaling(state.window(corners, side), weights, side)
        return logits, decoder.iou_prediction_head(queries[:, 0])[:, list(outputs)]


def _ask(block: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor) -> Tensor:
    """The tokens' attention to each other, (N, T, C)."""
    if block.skip_first_layer_pe:
        asked: Tensor = block.norm1(attend(block.self_attn, queries, queries, queries))
    else:
        placed = queries + tokens
        asked = block.norm1(queries + attend(block.self_attn, placed, placed, queries))
    return asked


class _Rooms(threading.local):
    """Arrays that the calls of a thread use one after the other.

    Made anew for each call, such large ones leave holes in a processor's memory between which
    others no longer fit, so that it grows. An accelerator's allocator keeps them by itself.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Room of a shape, whatever it holds, until the next call."""
        if not like.is_cpu:
            return like.new_empty(shape)
        needed = math.prod(shape)
        held = self._held.get(name)
        if (
            held is None
            or held.dtype != like.dtype
            or held.numel() < needed
            # What was made under inference mode can't be written to outside of it.
            or (held.is_inference() and not torch.is_inference_mode_enabled())
        ):
            held = self._held[name] = like.new_empty(needed)
        return held[:needed].view(shape)

    def __reduce__(self) -> tuple[type[_Rooms], tuple[()]]:
        """A copy begins with none."""
        return _Rooms, ()


class _State:
    """The image tokens of N prompts, as factors.

    Rows lie first in memory, prompts second: the rows of a head, for a product with what all
    prompts share, and those of a prompt, for one with its own, are views of the same array.
    """

    def __init__(
        self,
        shared: SharedImage,
        tokens: Tensor,
        stages: Sequence[Stage],
        constants: Sequence[Tensor],
        behind: Tensor,
        rooms: _Rooms,
    ) -> None:
        count, length, width = tokens.shape
        self._shared = shared
        self._stages = stages
        self._constants = constants
        self._behind = behind
        self._heads = stages[0].heads
        self._step = self._heads * length
        # Of two blocks, and the constant of the second.
        rows = 2 * self._step + 1
        weights = (rows, count, len(shared.basis))
        self._weights = rooms.take("weights", weights, tokens)
        self._vectors = rooms.take("vectors", (count, rows, width), tokens)
        # Used over and over, they stay in the processor's cache.
        self._rooms = rooms.take("steps", (2, self._weights[: self._step].numel()), tokens)
        self._rows = 0
        self._factor: Tensor | None = None
        self._told: list[Tensor] = []

    def look(self, index: int, attention: Attention, asked: Tensor) -> Tensor:
        """Attention of tokens (N, T, C) to the image, behind its output projection."""
        q = self._split(attention, attention.q_proj(asked))
        stage, seen = self._stages[index], self._shared.looks[index]
        scores, room = self._score(seen.keys, stage.keys, q, attention.k_proj)
        weights = torch.softmax(scores, dim=3, out=room)
        found = stage.values[:, None]
        if self._factor is not None:
            of_prompts = _of_prompts(weights.view(-1, *self._factor.shape))
            # In this order, of which the transposed is twice as slow on a CPU.
            mixed = (_of_prompts(self._told_rows()) @ of_prompts.mT).mT
            vectors = self._by_head(attention.v_proj).transpose(2, 3)
            mixed = torch.unflatten(mixed, 1, (self._heads, -1)) @ vectors
            found = found + mixed.permute(1, 2, 0, 3)
            weights.mul_(self._factor)
        found = found + torch.bmm(weights.flatten(1, 2), seen.values.mT).view_as(q)
        return cast(Tensor, attention.out_proj(found.permute(2, 1, 0, 3).flatten(2)))

    def change(
        self, index: int, block: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor
    ) -> None:
        """Let the image attend to the tokens (N, T, C), and norm it."""
        attention = block.cross_attn_image_to_token
        k = self._split(attention, attention.k_proj(queries + tokens))
        stage, seen = self._stages[index], self._shared.queries[index]
        scores, _ = self._score(seen, stage.queries, k, attention.q_proj)
        new = slice(self._rows, self._rows + self._step)
        torch.softmax(scores, dim=1, out=self._weights[new].view_as(scores))
        told = torch.unflatten(attention.v_proj(queries), 2, (self._heads, -1))
        # The values behind the output projection, whose bias is with the basis or the constant.
        behind = torch.unflatten(attention.out_proj.weight.T, 0, (self._heads, -1))
        self._vectors[:, new] = (told.transpose(1, 2) @ behind).flatten(1, 2)
        self._told.append(told.permute(2, 1, 0, 3).flatten(1, 2))
        self._rows += self._step
        self._normed(index, block.norm4)

    def _normed(self, index: int, norm: nn.LayerNorm) -> None:
        """The layer norm of tokens whose factors are known: lengths from products of factors."""
        known, constant = self._shared.norms[index], self._constants[index]
        rows = self._rows
        weights, vectors = self._told_rows(), self._vectors[:, :rows]
        vectors.sub_(vectors.mean(dim=2, keepdim=True))
        gram = vectors @ vectors.mT
        squares = known.squares
        if self._factor is not None:
            squares = (squares * self._factor + 2 * known.mixed) * self._factor
            squares = squares + constant.square().sum()
        with_constant = 2 * (vectors @ constant).T[:, :, None]
        for at, (told, seen) in enumerate(zip(self._told, known.rows, strict=True)):
            part = slice(at * self._step, (at + 1) * self._step)
            # Each pair of blocks is looked at once.
            pairs = gram[:, part, : part.stop].clone()
            pairs[:, :, : part.start] *= 2
            products = self._rooms[0].view(self._heads, -1, seen.shape[2])
            products = torch.bmm(2 * told, seen, out=products).view_as(weights[part])
            if self._factor is not None:
                torch.addcmul(with_constant[part], products, self._factor, out=products)
            _of_prompts(products).baddbmm_(pairs, _of_prompts(weights[: part.stop]))
            squares = squares + products.mul_(weights[part]).sum(dim=0)
        inverse = torch.rsqrt(squares.clamp_(min=0) / vectors.shape[2] + norm.eps)
        weights.mul_(inverse)
        vectors.mul_(norm.weight)
        if self._factor is not None:
            self._weights[rows] = inverse
            self._vectors[:, rows] = constant * norm.weight
            self._rows += 1
        self._factor = inverse if self._factor is None else self._factor * inverse

    def _score(
        self, seen: Tensor, fixed: Tensor, asked: Tensor, project: nn.Linear
    ) -> tuple[Tensor, Tensor]:
        """Products of (H, T, N, d) with a projection of the image, and room for as many numbers.

        Returns:
            (H, T, N, P) each.
        """
        by_head = asked.flatten(1, 2)
        size = by_head.shape[0] * by_head.shape[1] * seen.shape[2]
        own, placed = (room[:size].view(len(by_head), -1, seen.shape[2]) for room in self._rooms)
        shape = (*asked.shape[:3], -1)
        torch.bmm(by_head, seen, out=own)
        if self._factor is None:
            return own.view(shape), placed.view(shape)
        torch.bmm(by_head, fixed, out=placed)
        scores = placed.view(shape).addcmul_(own.view(shape), self._factor)
        pairs = asked.permute(2, 0, 1, 3) @ self._by_head(project)
        of_prompts = _of_prompts(scores.view(-1, *self._factor.shape))
        of_prompts.baddbmm_(pairs.flatten(1, 2), _of_prompts(self._told_rows()))
        return scores, own.view(shape)

    def _told_rows(self) -> Tensor:
        return self._weights[: self._rows]

    def _by_head(self, project: nn.Linear) -> Tensor:
        """The rows behind a projection, (N, H, d, K)."""
        rows = self._vectors[:, : self._rows] @ project.weight.T
        return torch.unflatten(rows, 2, (self._heads, -1)).permute(0, 2, 3, 1)

    def _split(self, attention: Attention, projected: Tensor) -> Tensor:
        """(N, T, D) as (H, T, N, d), scaled for the softmax."""
        by_head = torch.unflatten(projected, 2, (attention.num_heads, -1)).permute(2, 1, 0, 3)
        scaled: Tensor = by_head * by_head.shape[3] ** -0.5
        return scaled

    def window(self, corners: Tensor, side: int) -> Tensor:
        """The tokens of a window of each prompt, row by row, (N, side * side, C)."""
        shared = self._shared
        steps = torch.arange(side, device=corners.device)
        tokens = ((corners[:, :1, None] + steps[:, None]) * shared.across
                  + corners[:, 1:, None] + steps).flatten(1)  # fmt: skip
        weights = self._told_rows().gather(2, tokens.expand(self._rows, -1, -1))
        found = weights.permute(1, 2, 0) @ self._vectors[:, : self._rows]
        assert self._factor is not None
        factor = self._factor.gather(1, tokens)[:, :, None]
        return found.addcmul_(shared.basis[tokens], factor) + self._behind


def _of_prompts(rows: Tensor) -> Tensor:
    """(K, N, P) as (N, K, P)."""
    return rows.transpose(0, 1)
