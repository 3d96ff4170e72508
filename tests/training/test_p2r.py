"""P2R: assignments and loss by hand, and what it does to logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dpmo_cli.training.p2r import (
    Assignment,
    assign_cells,
    p2r_loss,
    positive_cells,
    stack_owners,
)


def tensors(*assignments: Assignment) -> tuple[Tensor, Tensor, Tensor, int]:
    return (
        torch.from_numpy(stack_owners(assignments)),
        torch.from_numpy(np.stack([one.cost for one in assignments])),
        torch.from_numpy(np.stack([one.weight for one in assignments])),
        sum(one.count for one in assignments),
    )


def points(*xy: tuple[float, float]) -> np.ndarray:
    return np.array(xy, dtype=np.float64).reshape(-1, 2)


def slow_loss(logits: Tensor, per_image: list[np.ndarray]) -> float:
    """The words of the method, cell by cell."""
    losses = []
    for cells, xy in zip(logits.tolist(), per_image, strict=True):
        owned: list[list[tuple[float, int, int]]] = [[] for _ in xy]
        for i, row in enumerate(cells):
            for j, _ in enumerate(row):
                distances = [math.hypot(4 * j + 1.5 - x, 4 * i + 1.5 - y) for x, y in xy]
                if distances and min(distances) <= 96:
                    owned[distances.index(min(distances))].append((min(distances), i, j))
        positive = set()
        for own in owned:
            if own:
                reach = min(96.0, max(8.0, max(own)[0]))
                positive.add(min((8 * d / reach - cells[i][j], i, j) for d, i, j in own)[1:])
        total = 0.0
        for i, row in enumerate(cells):
            for j, logit in enumerate(row):
                if (i, j) in positive:
                    total += 2 * math.log1p(math.exp(-logit))
                else:
                    total += math.log1p(math.exp(logit))
        losses.append(total / logits[0].numel() * (1.0 if len(xy) else 0.5))
    return sum(losses) / len(losses)


def test_by_hand() -> None:
    """Two cells side by side, at x = 1.5 and 5.5; a point on the second."""
    found = assign_cells(points((5.5, 1.5)), (1, 2), (4, 8))
    assert found.owner.tolist() == [[0, 0]]
    # The largest distance is 4, the least radius 8: 8 * 4 / 8 and 0.
    assert found.cost.tolist() == [[4.0, 0.0]]
    assert found.weight.tolist() == [[0.5, 0.5]]
    logits = torch.tensor([[[1.0, -2.0]]])
    owner, cost, weight, count = tensors(found)
    # Costs 4 - 1 = 3 and 0 + 2 = 2: the second is the positive.
    assert positive_cells(logits, owner, cost, count).tolist() == [[[0.0, 1.0]]]
    expected = (math.log(1 + math.e) + 2 * math.log(1 + math.e**2)) / 2
    assert float(p2r_loss(logits, owner, cost, weight, count)) == pytest.approx(expected)
    # A cell that is promising enough wins against distance: 4 - 7 = -3 is less than 2.
    promising = torch.tensor([[[7.0, -2.0]]])
    assert positive_cells(promising, owner, cost, count).tolist() == [[[1.0, 0.0]]]


def test_empty_image_by_hand() -> None:
    found = assign_cells(points(), (1, 2), (4, 8))
    loss = p2r_loss(torch.tensor([[[1.0, -2.0]]]), *tensors(found))
    expected = 0.5 * (math.log(1 + math.e) + math.log(1 + math.e**-2)) / 2
    assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_against_the_words_of_the_method(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = (0, 1, 5, 60)
    crowds = [rng.uniform(0, (200, 120), (size, 2)) for size in sizes]
    found = [assign_cells(xy, (30, 50), (120, 200)) for xy in crowds]
    logits = torch.from_numpy(rng.normal(-1, 3, (4, 30, 50)))
    loss = p2r_loss(logits, *tensors(*found))
    assert float(loss) == pytest.approx(slow_loss(logits, crowds), rel=1e-5)


def test_cells_out_of_reach_belong_to_nobody() -> None:
    found = assign_cells(points((1.5, 1.5)), (1, 40), (4, 160))
    assert found.owner.tolist() == [[0] * 25 + [-1] * 15]
    assert found.cost.max() == 8.0


def test_padding_has_no_weight_and_no_owner() -> None:
    found = assign_cells(points((2.0, 2.0)), (3, 4), (6, 8))
    assert (found.weight > 0).tolist() == [[True, True, False, False]] * 2 + [[False] * 4]
    assert found.weight.sum() == pytest.approx(1)
    assert ((found.owner >= 0) == (found.weight > 0)).all()


@pytest.mark.parametrize("value", [0.0, -4.0])
def test_equal_cells_give_one_positive(value: float) -> None:
    found = assign_cells(points((3.5, 3.5), (27.5, 3.5)), (2, 8), (8, 32))
    owner, cost, _, count = tensors(found)
    logits = torch.full((1, 2, 8), value)
    target = positive_cells(logits, owner, cost, count)
    assert target[0].nonzero().tolist() == [[0, 0], [0, 6]]


def test_points_in_one_cell_share_it() -> None:
    found = assign_cells(points((1.4, 1.5), (1.5, 1.5), (1.5, 1.5)), (2, 2), (8, 8))
    owner, cost, _, count = tensors(found)
    assert count == 3
    chosen = positive_cells(torch.zeros(1, 2, 2), owner, cost, count)
    assert 1 <= int(chosen.sum()) <= 2


def test_the_gradient_raises_the_positive_and_lowers_the_rest() -> None:
    rng = np.random.default_rng(0)
    found = assign_cells(rng.uniform(0, 64, (4, 2)), (16, 16), (64, 64))
    owner, cost, weight, count = tensors(found)
    logits = torch.full((1, 16, 16), -4.0, requires_grad=True)
    torch.autograd.backward(p2r_loss(logits, owner, cost, weight, count))
    assert logits.grad is not None
    target = positive_cells(logits, owner, cost, count)
    assert int(target.sum()) == 4
    assert (logits.grad[target == 1] < 0).all()
    assert (logits.grad[target == 0] > 0).all()


def test_descent_finds_the_points() -> None:
    xy = points((9.5, 9.5), (33.5, 9.5), (21.5, 45.5))
    owner, cost, weight, count = tensors(assign_cells(xy, (16, 16), (64, 64)))
    logits = torch.full((1, 16, 16), -4.0, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.5)
    for _ in range(40):
        optimiser.zero_grad()
        torch.autograd.backward(p2r_loss(logits, owner, cost, weight, count))
        optimiser.step()
    assert (logits[0] > 0).nonzero().tolist() == [[2, 2], [2, 8], [11, 5]]
