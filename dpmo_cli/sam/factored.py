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
        return of_heads(basis @ attention.out_proj.weight, attention.num_heads)

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
        state = _State(shared, tokens, self._stages, self._constants, self._blocks[-1].norm4.bias)
        queries = tokens
        for index, block in enumerate(self._blocks):
            queries = _ask(block, queries, tokens)
            queries = block.norm2(
                queries + state.look(index, block.cross_attn_token_to_image, queries + tokens)
            )
            queries = block.norm3(queries + block.mlp(queries))
            state.change(index, block, queries, tokens)
        queries = queries + state.look(len(self._blocks), self._final, queries + tokens)
        queries = self._norm_final(queries)

        weights = torch.stack(
            [decoder.output_hypernetworks_mlps[i](queries[:, 1 + i]) for i in outputs], dim=2
        )
        logits = self._upscaling(state.window(corners, side), weights, side)
        # Token 0 estimates IoUs; the masks' tokens follow.
        return logits, decoder.iou_prediction_head(queries[:, 0])[:, list(outputs)]


def _ask(block: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor) -> Tensor:
    """The tokens' attention to each other, (N, T, C)."""
    if block.skip_first_layer_pe:
        asked: Tensor = block.norm1(attend(block.self_attn, queries, queries, queries))
    else:
        placed = queries + tokens
        asked = block.norm1(queries + attend(block.self_attn, placed, placed, queries))
    return asked


class _State:
    """The image tokens of N prompts, as factors."""

    def __init__(
        self,
        shared: SharedImage,
        tokens: Tensor,
        stages: Sequence[Stage],
        constants: Sequence[Tensor],
        behind: Tensor,
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
        self._weights = tokens.new_empty(count, rows, len(shared.basis))
        self._vectors = tokens.new_empty(count, rows, width)
        # By head and by prompt; used over and over, they stay in the processor's cache.
        self._by_heads = tokens.new_empty(2, self._heads, count * length, len(shared.basis))
        self._by_prompt = tokens.new_empty(count, self._step, len(shared.basis))
        self._rows = 0
        self._factor: Tensor | None = None
        self._told: list[Tensor] = []

    def look(self, index: int, attention: Attention, asked: Tensor) -> Tensor:
        """Attention of tokens (N, T, C) to the image, behind its output projection."""
        q = self._split(attention, attention.q_proj(asked))
        stage, seen = self._stages[index], self._shared.looks[index]
        scores = self._score(seen.keys, stage.keys, q, attention.k_proj)
        # By head first or by prompt first, as _score left them; found is by head first.
        if self._factor is None:
            found = torch.bmm(torch.softmax(scores, dim=2), seen.values)
            found = torch.unflatten(found, 1, (len(asked), -1)) + stage.values[:, None]
        else:
            weights = torch.softmax(scores, dim=2)
            # In this order, of which the transposed is twice as slow on a CPU.
            mixed = (self._weights[:, : self._rows] @ weights.transpose(1, 2)).transpose(1, 2)
            vectors = self._by_head(attention.v_proj).transpose(2, 3)
            mixed = torch.unflatten(mixed, 1, (self._heads, -1)) @ vectors
            told = self._by_heads[0]
            torch.mul(
                torch.unflatten(weights, 1, (self._heads, -1)).transpose(0, 1),
                self._factor,
                out=torch.unflatten(told, 1, (len(asked), -1)),
            )
            found = torch.unflatten(torch.bmm(told, seen.values), 1, (len(asked), -1))
            found = found + mixed.transpose(0, 1) + stage.values[:, None]
        return cast(Tensor, attention.out_proj(found.permute(1, 2, 0, 3).flatten(2)))

    def change(
        self, index: int, block: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor
    ) -> None:
        """Let the image attend to the tokens (N, T, C), and norm it."""
        attention = block.cross_attn_image_to_token
        k = self._split(attention, attention.k_proj(queries + tokens))
        stage, seen = self._stages[index], self._shared.queries[index]
        scores = self._score(seen, stage.queries, k, attention.q_proj)
        new = slice(self._rows, self._rows + self._step)
        weights = torch.unflatten(self._weights[:, new], 1, (self._heads, -1))
        if self._factor is None:
            by_prompt = torch.unflatten(scores, 1, (len(queries), -1)).transpose(0, 1)
        else:
            by_prompt = torch.unflatten(scores, 1, (self._heads, -1))
        weights.copy_(torch.softmax(by_prompt, dim=2))
        told = torch.unflatten(attention.v_proj(queries), 2, (self._heads, -1)).transpose(1, 2)
        # The values behind the output projection, whose bias is with the basis or the constant.
        behind = torch.unflatten(attention.out_proj.weight.T, 0, (self._heads, -1))
        self._vectors[:, new] = (told @ behind).flatten(1, 2)
        self._told.append(told.transpose(0, 1).flatten(1, 2))
        self._rows += self._step
        self._normed(index, block.norm4)

    def _normed(self, index: int, norm: nn.LayerNorm) -> None:
        """The layer norm of tokens whose factors are known: lengths from products of factors."""
        known, constant = self._shared.norms[index], self._constants[index]
        rows = self._rows
        weights, vectors = self._weights[:, :rows], self._vectors[:, :rows]
        vectors.sub_(vectors.mean(dim=2, keepdim=True))
        gram = vectors @ vectors.transpose(1, 2)
        squares = known.squares
        if self._factor is not None:
            squares = (squares * self._factor + 2 * known.mixed) * self._factor
            squares = squares + constant.square().sum()
        with_constant = 2 * (vectors @ constant)[:, :, None]
        for at, (told, seen) in enumerate(zip(self._told, known.rows, strict=True)):
            part = slice(at * self._step, (at + 1) * self._step)
            # Each pair of blocks is looked at once.
            pairs = gram[:, part, : part.stop].clone()
            pairs[:, :, : part.start] *= 2
            products = torch.baddbmm(
                with_constant[:, part], pairs, weights[:, : part.stop], out=self._by_prompt
            )
            with_basis = torch.bmm(told, seen, out=self._by_heads[0])
            with_basis = torch.unflatten(with_basis, 1, (len(weights), -1)).transpose(0, 1)
            by_head = torch.unflatten(products, 1, (self._heads, -1))
            if self._factor is None:
                by_head.add_(with_basis, alpha=2)
            else:
                by_head.addcmul_(with_basis, self._factor[:, None], value=2)
            squares = squares + products.mul_(weights[:, part]).sum(dim=1, keepdim=True)
        inverse = torch.rsqrt(squares.clamp_(min=0) / vectors.shape[2] + norm.eps)
        weights.mul_(inverse)
        vectors.mul_(norm.weight)
        if self._factor is not None:
            self._weights[:, rows] = inverse[:, 0]
            self._vectors[:, rows] = constant * norm.weight
            self._rows += 1
        self._factor = inverse if self._factor is None else self._factor * inverse

    def _score(self, seen: Tensor, fixed: Tensor, asked: Tensor, project: nn.Linear) -> Tensor:
        """Products of (N, H, T, d) with a projection of the image.

        Returns:
            (H, N * T, P) in the first block, (N, H * T, P) behind it.
        """
        by_head = asked.transpose(0, 1).flatten(1, 2)
        own = torch.bmm(by_head, seen, out=self._by_heads[0])
        if self._factor is None:
            return own
        placed = torch.bmm(by_head, fixed, out=self._by_heads[1])
        own, placed = (
            torch.unflatten(x, 1, (len(asked), -1)).transpose(0, 1) for x in (own, placed)
        )
        scores = self._by_prompt
        torch.addcmul(
            placed, own, self._factor[:, None], out=torch.unflatten(scores, 1, (self._heads, -1))
        )
        pairs = (asked @ self._by_head(project)).flatten(1, 2)
        return scores.baddbmm_(pairs, self._weights[:, : self._rows])

    def _by_head(self, project: nn.Linear) -> Tensor:
        """The rows behind a projection, (N, H, d, K)."""
        rows = self._vectors[:, : self._rows] @ project.weight.T
        return torch.unflatten(rows, 2, (self._heads, -1)).permute(0, 2, 3, 1)

    def _split(self, attention: Attention, projected: Tensor) -> Tensor:
        """(N, T, D) as (N, H, T, d), scaled for the softmax."""
        by_head = torch.unflatten(projected, 2, (attention.num_heads, -1)).transpose(1, 2)
        scaled: Tensor = by_head * by_head.shape[3] ** -0.5
        return scaled

    def window(self, corners: Tensor, side: int) -> Tensor:
        """The tokens of a window of each prompt, row by row, (N, side * side, C)."""
        shared = self._shared
        steps = torch.arange(side, device=corners.device)
        tokens = ((corners[:, :1, None] + steps[:, None]) * shared.across
                  + corners[:, 1:, None] + steps).flatten(1)  # fmt: skip
        weights = self._weights[:, : self._rows].gather(
            2, tokens[:, None].expand(-1, self._rows, -1)
        )
        found = weights.transpose(1, 2) @ self._vectors[:, : self._rows]
        assert self._factor is not None
        factor = self._factor[:, 0].gather(1, tokens)[:, :, None]
        return found.addcmul_(shared.basis[tokens], factor) + self._behind
