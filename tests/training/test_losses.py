"""Losses: what is perfect costs little, what is cut off costs less, and gradients stay finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpmo_cli.training.losses import MaskLosses, mask_losses

SIDE = 12


def disc() -> Tensor:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return ((x - 5) ** 2 + (y - 6) ** 2 <= 16).float()[None]


def person() -> Tensor:
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 4:9, 4:7] = 1
    return mask * disc()


def logits_of(*masks: Tensor, sure: float = 20) -> Tensor:
    """Sure logits of the four outputs from masks (1, h, w); the last one fills the rest."""
    outputs = [*masks, *[masks[-1]] * (4 - len(masks))]
    return torch.stack([sure * (2 * mask[0] - 1) for mask in outputs])[None]


def losses(*masks: Tensor, iou: float = 1.0) -> MaskLosses:
    return mask_losses(logits_of(*masks), torch.full((1, 4), iou), person(), disc())


def test_perfect() -> None:
    found = losses(person())
    assert found.ious.tolist() == [[1, 1, 1, 1]]
    assert 0 <= float(found.total) < 0.01


def test_wrong_is_dear() -> None:
    found = losses(1 - person(), iou=0.0)
    assert found.ious.tolist() == [[0, 0, 0, 0]]
    assert float(found.total) > 1


def test_one_good_candidate_is_nearly_enough() -> None:
    wrong = 1 - person()
    one = float(losses(wrong, wrong, person(), wrong, iou=0).total)
    none = float(losses(wrong, wrong, wrong, wrong, iou=0).total)
    assert one < 0.5 * none
    # The single-mask output is no candidate.
    single = float(losses(person(), wrong, wrong, wrong, iou=0).total)
    assert one < single < none


def test_outside_the_disc_costs_less() -> None:
    inside, outside = person(), person()
    inside[0, 6, 8] = 1
    outside[0, 0, 0] = 1
    assert disc()[0, 6, 8] == 1
    assert disc()[0, 0, 0] == 0
    exact, leak, wrong = (float(losses(mask).total) for mask in (person(), outside, inside))
    assert exact < leak < exact + 0.5 * (wrong - exact)
    # A run cuts the disc's outside off, so it is no part of the IoU.
    assert losses(outside).ious.tolist() == [[1, 1, 1, 1]]
    assert (losses(inside).ious < 1).all()


def test_the_estimate_is_held_to_the_true_iou() -> None:
    right, wrong = losses(person(), iou=1.0), losses(person(), iou=0.4)
    assert float(wrong.total - right.total) == pytest.approx(0.36, rel=1e-4)


def test_no_person_at_all() -> None:
    nothing = torch.zeros(1, SIDE, SIDE)
    empty = mask_losses(logits_of(nothing), torch.zeros(1, 4), nothing, disc())
    full = mask_losses(logits_of(disc()), torch.zeros(1, 4), nothing, disc())
    assert torch.isfinite(empty.total)
    assert empty.ious.tolist() == full.ious.tolist() == [[0, 0, 0, 0]]
    assert float(empty.total) < float(full.total)


@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("truth", [person(), torch.zeros(1, SIDE, SIDE), disc()])
def test_gradients_are_finite(size: float, truth: Tensor) -> None:
    chance = torch.Generator().manual_seed(0)
    logits = (size * torch.randn(1, 4, SIDE, SIDE, generator=chance)).requires_grad_()
    scores = torch.rand(1, 4, generator=chance).requires_grad_()
    found = mask_losses(logits, scores, truth, disc())
    assert not found.ious.requires_grad
    found.total.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert scores.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad.abs().max() > 0


def test_a_step_against_the_gradient_is_better() -> None:
    logits = torch.zeros(1, 4, SIDE, SIDE, requires_grad=True)
    # The estimates are the true IoUs, before and after: only the masks count.
    before = mask_losses(logits, torch.zeros(1, 4), person(), disc())
    before.total.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    moved = logits.detach() - 5 * logits.grad
    after = mask_losses(moved, torch.ones(1, 4), person(), disc())
    assert before.ious.tolist() == [[0, 0, 0, 0]]
    assert after.ious.tolist() == [[1, 1, 1, 1]]
    assert float(after.total) < float(before.total.detach())
    # Up inside the person, down beside it.
    assert (moved[0, 1][person()[0] > 0] > 0).all()
    assert (moved[0, 1][(disc() - person())[0] > 0] < 0).all()


@given(st.integers(0, 2**32 - 1))
def test_ious_are_those_inside_the_disc(seed: int) -> None:
    rng = np.random.default_rng(seed)
    within = rng.random((3, 6, 6)) < 0.7
    truth = (rng.random((3, 6, 6)) < 0.5) & within
    found = rng.random((3, 4, 6, 6)) < 0.5
    logits = torch.from_numpy(np.where(found, 1.5, -1.5)).float()
    ious = mask_losses(
        logits, torch.zeros(3, 4), torch.from_numpy(truth).float(), torch.from_numpy(within).float()
    ).ious.numpy()
    for prompt in range(3):
        for output in range(4):
            cut = found[prompt, output] & within[prompt]
            either = (cut | truth[prompt]).sum()
            expected = (cut & truth[prompt]).sum() / either if either else 0
            assert ious[prompt, output] == pytest.approx(expected, abs=1e-6)


def test_half_precision_is_taken() -> None:
    found = mask_losses(
        logits_of(person()).bfloat16(), torch.ones(1, 4).bfloat16(), person(), disc()
    )
    assert found.total.dtype == torch.float32
    assert found.ious.tolist() == [[1, 1, 1, 1]]
