"""The factored decoder: segment-anything's own answers, in windows, for any weights."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor

from dpmo_cli.sam.factored import FactoredDecoder

WIDTH, GRID = 32, (6, 9)


def build(depth: int = 2) -> MaskDecoder:
    """A small decoder whose norms and biases are not those that modules begin with."""
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=depth, embedding_dim=WIDTH, mlp_dim=64, num_heads=4),
        transformer_dim=WIDTH,
        iou_head_depth=2,
        iou_head_hidden_dim=32,
    )
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return decoder.double().eval()


def prompt_side() -> PromptEncoder:
    encoder = PromptEncoder(
        embed_dim=WIDTH, image_embedding_size=GRID, input_image_size=(48, 72), mask_in_chans=8
    )
    return encoder.eval()


class Crop:
    """A crop of chance with some prompts."""

    def __init__(self, count: int, points: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.decoder, encoder = build(), prompt_side()
        self.embedding = 2 * torch.randn(1, WIDTH, *GRID, dtype=torch.float64)
        xy = torch.rand(count, points, 2) * torch.tensor([72.0, 48.0])
        labels = torch.randint(-1, 2, (count, points))
        with torch.inference_mode():
            self.position = encoder.get_dense_pe().double()
            sparse, dense = encoder((xy, labels), boxes=None, masks=None)
            self.sparse, self.dense = sparse.double(), dense.double()
            self.factored = FactoredDecoder(self.decoder, self.position)

    def stock(self) -> tuple[Tensor, Tensor]:
        logits, ious = self.decoder(
            image_embeddings=self.embedding,
            image_pe=self.position,
            sparse_prompt_embeddings=self.sparse,
            dense_prompt_embeddings=self.dense,
            multimask_output=True,
        )
        return logits, ious


@pytest.mark.parametrize(
    ("count", "points"),
    [(1, 1), (3, 1), (5, 2), (2, 9)],
    ids=["one", "few", "pairs", "many points"],
)
@pytest.mark.parametrize("side", [1, 3, 6])
def test_windows_are_those_of_the_stock_decoder(count: int, points: int, side: int) -> None:
    crop = Crop(count, points, seed=count)
    corners = torch.stack([torch.randint(0, size - side + 1, (count,)) for size in GRID], dim=1)
    with torch.inference_mode():
        expected, expected_ious = crop.stock()
        shared = crop.factored.prepare(crop.embedding, crop.dense)
        logits, ious = crop.factored.decode(shared, crop.sparse, corners, side)
    torch.testing.assert_close(ious, expected_ious, rtol=1e-9, atol=1e-9)
    assert logits.shape == (count, 3, 4 * side, 4 * side)
    for one, whole, (row, column) in zip(logits, expected, corners.tolist(), strict=True):
        window = whole[:, 4 * row : 4 * (row + side), 4 * column : 4 * (column + side)]
        torch.testing.assert_close(one, window, rtol=1e-9, atol=1e-9)


def test_some_outputs_alone() -> None:
    crop = Crop(4, 2, seed=0)
    corners = torch.zeros(4, 2, dtype=torch.int64)
    with torch.inference_mode():
        shared = crop.factored.prepare(crop.embedding, crop.dense)
        all_logits, all_ious = crop.factored.decode(shared, crop.sparse, corners, 2, (0, 1, 2, 3))
        logits, ious = crop.factored.decode(shared, crop.sparse, corners, 2, (2,))
    torch.testing.assert_close(logits, all_logits[:, 2:3])
    torch.testing.assert_close(ious, all_ious[:, 2:3])


def test_prompts_do_not_see_each_other() -> None:
    crop = Crop(5, 2, seed=1)
    corners = torch.tensor([[0, 1], [2, 2], [3, 5], [1, 0], [0, 0]])
    with torch.inference_mode():
        shared = crop.factored.prepare(crop.embedding, crop.dense)
        together, _ = crop.factored.decode(shared, crop.sparse, corners, 3)
        for at in range(5):
            one = slice(at, at + 1)
            alone, _ = crop.factored.decode(shared, crop.sparse[one], corners[one], 3)
            torch.testing.assert_close(alone, together[one], rtol=1e-10, atol=1e-10)


def test_tokens_without_spread_stay_finite() -> None:
    """A norm of tokens that are all one number divides by its epsilon, not by less than nothing."""
    crop = Crop(2, 1, seed=2)
    with torch.inference_mode():
        flat = torch.full_like(crop.embedding, 3.0)
        crop.embedding = flat
        expected, _ = crop.stock()
        shared = crop.factored.prepare(flat, crop.dense)
        logits, _ = crop.factored.decode(shared, crop.sparse, torch.zeros(2, 2).long(), 6)
    torch.testing.assert_close(logits, expected[:, :, :, :24], rtol=1e-6, atol=1e-6)


def test_other_depths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 blocks"):
        FactoredDecoder(build(depth=3), torch.zeros(1, WIDTH, *GRID, dtype=torch.float64))


def test_modes_types_and_copies_of_a_decoder() -> None:
    """What one call held does not hinder the next, in another mode or precision, nor a copy."""
    crop = Crop(3, 2, seed=3)
    corners = torch.zeros(3, 2, dtype=torch.int64)

    def decode(decoder: FactoredDecoder, dtype: torch.dtype) -> Tensor:
        shared = decoder.prepare(crop.embedding.to(dtype), crop.dense.to(dtype))
        return decoder.decode(shared, crop.sparse.to(dtype), corners, 2)[0]

    with torch.inference_mode():
        expected = decode(crop.factored, torch.float64).clone()
    with torch.no_grad():
        # Prompts that the encoder made under inference mode are copied out of it.
        crop.sparse, crop.dense = crop.sparse.clone(), crop.dense.clone()
        outside = FactoredDecoder(crop.decoder, crop.position.clone())
        torch.testing.assert_close(decode(outside, torch.float64), expected)
    with torch.inference_mode():
        torch.testing.assert_close(decode(outside, torch.float64), expected)
    with torch.no_grad():
        torch.testing.assert_close(decode(outside, torch.float64), expected)
        torch.testing.assert_close(decode(copy.deepcopy(outside), torch.float64), expected)
        copied = pickle.loads(pickle.dumps(outside))
        torch.testing.assert_close(decode(copied, torch.float64), expected)
