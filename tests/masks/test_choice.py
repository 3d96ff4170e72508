"""The choice among candidate masks: under the constraint of the disc, and of the point."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from dpmo_cli.masks.choice import MISSES_POINT, Choice, choose
from tests.masks.fakes import as_tensor

CELLS = 20
POINT = np.array([[9.0, 10.0]])
RADIUS = np.array([6.0])

Mask = NDArray[np.bool_]


def disc(radius: float, x: float = 9, y: float = 10) -> Mask:
    rows, columns = np.mgrid[:CELLS, :CELLS]
    inside: Mask = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return inside


def box(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros((CELLS, CELLS), dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


EMPTY = box(0, 0, 0, 0)
WHOLE = box(0, 0, CELLS, CELLS)


def pick(
    *masks: Mask, ious: tuple[float, ...] = (0.9, 0.9, 0.9), logits: Tensor | None = None
) -> Choice:
    given_logits = as_tensor(*masks) if logits is None else logits
    return choose(given_logits, torch.tensor([ious[: given_logits.shape[1]]]), POINT, RADIUS)


def chosen_mask(choice: Choice) -> Mask:
    mask: Mask = choice.logits[0] > 0
    return mask


@pytest.mark.parametrize(
    ("masks", "ious", "expected"),
    [
        pytest.param((WHOLE, disc(5), WHOLE), (0.9, 0.9, 0.9), 1, id="inside the disc"),
        pytest.param((WHOLE, disc(5), WHOLE), (1.0, 0.5, 1.0), 1, id="inside, at a lower estimate"),
        pytest.param((disc(5), disc(4), disc(3)), (0.5, 0.6, 0.9), 2, id="best estimate"),
        pytest.param(
            (disc(2, 13, 10), disc(4), EMPTY), (0.9, 0.3, 0.9), 1, id="holds the point, not beside"
        ),
        pytest.param((EMPTY, EMPTY, disc(2)), (0.9, 0.9, 0.2), 2, id="not the empty ones"),
        pytest.param((disc(4), disc(4), disc(4)), (0.9, 0.9, 0.9), 0, id="first of equals"),
        pytest.param((disc(3), disc(5)), (0.4, 0.6), 1, id="two candidates"),
        pytest.param((disc(3),), (0.4,), 0, id="one candidate"),
    ],
)
def test_chooses(masks: tuple[Mask, ...], ious: tuple[float, ...], expected: int) -> None:
    choice = pick(*masks, ious=ious)
    assert (chosen_mask(choice) == masks[expected]).all()
    assert choice.predicted_iou[0] == pytest.approx(ious[expected])


def test_an_unsteady_mask_loses() -> None:
    steady, unsteady = disc(4), disc(4.5)
    logits = as_tensor(steady, unsteady)
    logits[0, 1] /= 10
    choice = pick(logits=logits, ious=(0.7, 0.9))
    assert (chosen_mask(choice) == steady).all()
    assert choice.stability[0] == 1


def test_a_mask_made_for_its_extent_may_leave_the_disc() -> None:
    assert pick(box(9, 10, CELLS, 11), ious=(0.8,)).score[0] == pytest.approx(0.8)


def test_scores_are_a_product() -> None:
    leaking = box(9, 10, CELLS, 11)
    choice = pick(leaking, leaking, ious=(0.8, 0.7))
    # Cells 9 to 15 of the row lie inside the disc, 16 to 18 near it, 19 too far off to tell.
    assert choice.retained[0] == pytest.approx(7 / 10)
    assert choice.stability[0] == 1
    assert choice.score[0] == pytest.approx(0.8 * 7 / 10)
    assert choice.holds_point[0]
    assert {values.dtype for values in (choice.logits, choice.score, choice.retained)} == {
        np.dtype(np.float32)
    }


def test_stability_is_measured_inside_the_disc() -> None:
    logits = as_tensor(disc(4))
    logits[0, 0][torch.from_numpy(disc(5) & ~disc(4))] = -0.5
    expected = disc(4).sum() / disc(5).sum()
    assert pick(logits=logits).stability[0] == pytest.approx(expected)
    # What lies outside the disc is cut off, steady or not.
    logits[0, 0][torch.from_numpy(~disc(7))] = 0.5
    assert pick(logits=logits).stability[0] == pytest.approx(expected)


@pytest.mark.parametrize(("said", "taken"), [(1.7, 1.0), (-0.3, 0.0)])
def test_estimates_beyond_an_iou_are_cut(said: float, taken: float) -> None:
    choice = pick(disc(4), ious=(said,))
    assert choice.predicted_iou[0] == choice.score[0] == taken


def test_a_mask_beside_its_point() -> None:
    beside = disc(2, 13, 10)
    choice = pick(beside, ious=(0.9,))
    assert not choice.holds_point[0]
    # Only the rank suffers: the score says what the mask is worth.
    assert choice.score[0] == pytest.approx(0.9)
    rival = pick(beside, disc(4), ious=(0.9, 0.9 * MISSES_POINT * 0.99))
    assert (chosen_mask(rival) == beside).all()


@pytest.mark.parametrize(
    ("masks", "ious", "ambiguous"),
    [
        pytest.param((disc(5), disc(2)), (0.90, 0.88), True, id="another mask, nearly as good"),
        pytest.param((disc(5), disc(2)), (0.90, 0.70), False, id="another mask, worse"),
        pytest.param((disc(5), disc(4.5)), (0.90, 0.88), False, id="nearly the same mask"),
        pytest.param((disc(5), disc(5)), (0.90, 0.90), False, id="the same mask"),
        pytest.param((disc(5),), (0.90,), False, id="alone"),
        pytest.param((disc(5), EMPTY), (0.9, 0.9), False, id="beside nothing"),
        pytest.param((EMPTY, EMPTY), (0.9, 0.9), False, id="nothing twice"),
    ],
)
def test_ambiguous(masks: tuple[Mask, ...], ious: tuple[float, ...], ambiguous: bool) -> None:
    assert pick(*masks, ious=ious).ambiguous[0] == ambiguous


def test_rivals_are_compared_inside_the_disc() -> None:
    # Both fill the disc; what they do outside is cut off.
    both = (WHOLE, box(0, 0, CELLS - 3, CELLS))
    assert not pick(*both).ambiguous[0]


def test_a_disc_smaller_than_a_cell_has_the_cell_of_its_site() -> None:
    point, radius = np.array([[9.4, 10.4]]), np.array([0.1])
    choice = choose(as_tensor(disc(1, 9, 10)), torch.tensor([[0.9]]), point, radius)
    assert choice.holds_point[0]
    # Of the five cells two are further off than a cell.
    assert choice.retained[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("point", [(-0.5, -0.5), (CELLS - 0.5, CELLS - 0.5), (-0.5, CELLS - 0.5)])
def test_points_at_the_grid_s_border(point: tuple[float, float]) -> None:
    choice = choose(as_tensor(WHOLE), torch.tensor([[0.9]]), np.array([point]), np.array([3.0]))
    assert choice.holds_point[0]
    assert 0.3 < choice.retained[0] < 0.4, "a quarter of a disc in a quarter of its square"


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_prompts_do_not_touch_each_other(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (count, 3, 8, 8))).float()
    ious = torch.from_numpy(rng.uniform(0, 1, (count, 3))).float()
    points, radii = rng.uniform(0, 7, (count, 2)), rng.uniform(0.1, 6, count)
    together = choose(logits, ious, points, radii)
    for index in range(count):
        part = slice(index, index + 1)
        alone = choose(logits[part], ious[part], points[part], radii[part])
        for name in vars(together):
            assert np.array_equal(getattr(together, name)[part], getattr(alone, name)), name
        for name in ("predicted_iou", "stability", "retained", "score"):
            assert 0 <= getattr(alone, name)[0] <= 1


def test_no_prompts() -> None:
    choice = choose(torch.zeros(0, 3, 8, 8), torch.zeros(0, 3), np.zeros((0, 2)), np.zeros(0))
    assert choice.logits.shape == (0, 8, 8)
    assert len(choice.score) == len(choice.ambiguous) == 0
