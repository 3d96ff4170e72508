"""Losses: each output learns its extent, what is cut off costs less, gradients stay finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpmo_cli.training.losses import EXTENT_WEIGHTS, SINGLE_WEIGHT, MaskLosses, mask_losses

SIDE = 12


def disc() -> Tensor:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return ((x - 5) ** 2 + (y - 6) ** 2 <= 16).float()[None]


def whole() -> Tensor:
    """The person as far as it can be seen: some of it outside the disc."""
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 4:, 4:7] = 1
    return mask


def person() -> Tensor:
    return whole() * disc()


def head() -> Tensor:
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 4:6, 4:7] = 1
    return mask


def right() -> list[Tensor]:
    """What costs least: outside the disc the first two are asked, a little, for the person."""
    return [whole(), whole(), head(), whole()]


def logits_of(masks: Sequence[Tensor], sure: float = 20) -> Tensor:
    """Sure logits of the four outputs from masks (1, h, w)."""
    return torch.stack([sure * (2 * mask[0] - 1) for mask in masks])[None]


def losses(masks: Sequence[Tensor], iou: float = 1.0, *, heads: bool = True) -> MaskLosses:
    return mask_losses(
        logits_of(masks),
        torch.full((1, 4), iou),
        whole(),
        head(),
        disc(),
        torch.tensor([[True, heads, True]]),
    )


def plain(logits: Tensor, scores: Tensor, truth: Tensor, within: Tensor) -> MaskLosses:
    """Losses where all that can be seen of a person is its head."""
    known = torch.ones(len(logits), 3, dtype=torch.bool)
    return mask_losses(logits, scores, truth, truth, within, known)


def with_output(index: int, mask: Tensor) -> list[Tensor]:
    """The right masks but for one output."""
    masks = right()
    masks[index] = mask
    return masks


def test_perfect() -> None:
    found = losses(right())
    assert found.ious.tolist() == [[1, 1, 1, 1]]
    assert 0 <= float(found.total) < 0.01


def test_wrong_is_dear() -> None:
    found = losses([1 - mask for mask in right()], iou=0.0)
    assert found.ious.tolist() == [[0, 0, 0, 0]]
    assert float(found.total) > 1


@pytest.mark.parametrize("output", range(4))
def test_each_output_has_an_extent_of_its_own(output: int) -> None:
    """With the mask of another extent the output's loss is greater, and its IoU is below 1."""
    least = float(losses(right()).total)
    for other in (person(), head(), whole()):
        if torch.equal(other, right()[output]):
            continue
        found = losses(with_output(output, other))
        assert float(found.total) > least
        assert (found.ious[0] == 1).sum() >= 3
        # Only inside the disc are the first two measured.
        same = output < 2 and torch.equal(other, person())
        assert (found.ious[0, output] == 1) == same


@pytest.mark.parametrize("output", range(4))
def test_the_weights_of_the_outputs(output: int) -> None:
    """The estimates alone: each counts by the weight of its extent."""
    scores = torch.ones(1, 4)
    scores[0, output] = 0.5
    masks = logits_of(right())
    known = torch.ones(1, 3, dtype=torch.bool)
    right_, wrong = (
        float(mask_losses(masks, each, whole(), head(), disc(), known).total)
        for each in (torch.ones(1, 4), scores)
    )
    weight = [SINGLE_WEIGHT, *EXTENT_WEIGHTS][output]
    assert wrong - right_ == pytest.approx(0.25 * weight, rel=1e-3)


def test_unknown_heads_carry_no_loss() -> None:
    wrong = with_output(2, 1 - head())
    assert float(losses(wrong, heads=False).total) == float(losses(right(), heads=False).total)
    assert float(losses(wrong, heads=True).total) > float(losses(right(), heads=True).total) + 0.1
    # Of two prompts only the one with a head teaches the head's output.
    logits = torch.zeros(2, 4, SIDE, SIDE, requires_grad=True)
    scores = torch.zeros(2, 4, requires_grad=True)
    visible, top, within = (torch.cat([part, part]) for part in (whole(), head(), disc()))
    found = mask_losses(
        logits, scores, visible, top, within, torch.tensor([[True, False, True], [True] * 3])
    )
    found.total.backward()
    assert logits.grad is not None
    moved = (logits.grad != 0).flatten(2).any(dim=2)
    assert moved.tolist() == [[True, True, False, True], [True, True, True, True]]


def test_outside_the_disc_costs_less() -> None:
    inside, outside = whole(), whole()
    inside[0, 6, 8] = 1
    outside[0, 0, 0] = 1
    assert disc()[0, 6, 8] == 1
    assert disc()[0, 0, 0] == 0
    exact, leak, wrong = (
        float(losses(with_output(1, mask)).total) for mask in (whole(), outside, inside)
    )
    assert exact < leak < exact + 0.5 * (wrong - exact)
    # A run cuts the disc's outside off, so it is no part of the IoU.
    assert losses(with_output(1, outside)).ious.tolist() == [[1, 1, 1, 1]]
    assert losses(with_output(1, inside)).ious[0, 1] < 1


def test_outside_the_disc_counts_for_the_whole_person() -> None:
    leak = whole()
    leak[0, 0, 0] = 1
    found = losses(with_output(3, leak))
    assert found.ious[0, 3] < 1
    assert float(found.total) > float(losses(right()).total)


def test_the_estimate_is_held_to_the_true_iou() -> None:
    exact, wrong = losses(right(), iou=1.0), losses(right(), iou=0.4)
    weights = SINGLE_WEIGHT + sum(EXTENT_WEIGHTS)
    assert float(wrong.total - exact.total) == pytest.approx(0.36 * weights, rel=1e-4)


def test_no_person_at_all() -> None:
    nothing = torch.zeros(1, SIDE, SIDE)
    empty = plain(logits_of([nothing] * 4), torch.zeros(1, 4), nothing, disc())
    full = plain(logits_of([disc()] * 4), torch.zeros(1, 4), nothing, disc())
    assert torch.isfinite(empty.total)
    assert empty.ious.tolist() == full.ious.tolist() == [[0, 0, 0, 0]]
    assert float(empty.total) < float(full.total)


@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("truth", [person(), whole(), torch.zeros(1, SIDE, SIDE), disc()])
def test_gradients_are_finite(size: float, truth: Tensor) -> None:
    chance = torch.Generator().manual_seed(0)
    logits = (size * torch.randn(1, 4, SIDE, SIDE, generator=chance)).requires_grad_()
    scores = torch.rand(1, 4, generator=chance).requires_grad_()
    found = plain(logits, scores, truth, disc())
    assert not found.ious.requires_grad
    found.total.backward()
    assert logits.grad is not None
    assert scores.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad.abs() > 0).all()


def test_a_step_against_the_gradient_is_better() -> None:
    logits = torch.zeros(1, 4, SIDE, SIDE, requires_grad=True)
    # The estimates are the true IoUs, before and after: only the masks count.
    known = torch.ones(1, 3, dtype=torch.bool)
    before = mask_losses(logits, torch.zeros(1, 4), whole(), head(), disc(), known)
    before.total.backward()
    assert logits.grad is not None
    moved = logits.detach() - 50 * logits.grad
    after = mask_losses(moved, torch.ones(1, 4), whole(), head(), disc(), known)
    assert before.ious.tolist() == [[0, 0, 0, 0]]
    assert after.ious.tolist() == [[1, 1, 1, 1]]
    assert float(after.total) < float(before.total.detach())
    # Up inside the extent, down beside it.
    for output, mask in enumerate(right()):
        assert (moved[0, output][mask[0] > 0] > 0).all(), output
        assert (moved[0, output][(disc() - mask)[0] > 0] < 0).all(), output


@given(st.integers(0, 2**32 - 1))
def test_ious_are_those_of_the_extents(seed: int) -> None:
    """Of the person inside the disc, of the head, and of all that can be seen."""
    rng = np.random.default_rng(seed)
    within = rng.random((3, 6, 6)) < 0.7
    visible = rng.random((3, 6, 6)) < 0.5
    top = visible & (rng.random((3, 6, 6)) < 0.5)
    found = rng.random((3, 4, 6, 6)) < 0.5
    everywhere = np.ones_like(within)
    truths = [(visible, within), (visible, within), (top, everywhere), (visible, everywhere)]
    logits = torch.from_numpy(np.where(found, 1.5, -1.5)).float()
    parts = [torch.from_numpy(part).float() for part in (visible, top, within)]
    known = torch.ones(3, 3, dtype=torch.bool)
    ious = mask_losses(logits, torch.zeros(3, 4), parts[0], parts[1], parts[2], known).ious.numpy()
    for output, (truth, counted) in enumerate(truths):
        for prompt in range(3):
            cut = found[prompt, output] & counted[prompt]
            own = truth[prompt] & counted[prompt]
            either = (cut | own).sum()
            expected = (cut & own).sum() / either if either else 0
            assert ious[prompt, output] == pytest.approx(expected, abs=1e-6)


def test_half_precision_is_taken() -> None:
    found = mask_losses(
        logits_of(right()).bfloat16(),
        torch.ones(1, 4).bfloat16(),
        whole(),
        head(),
        disc(),
        torch.ones(1, 3, dtype=torch.bool),
    )
    assert found.total.dtype == torch.float32
    assert found.ious.tolist() == [[1, 1, 1, 1]]
