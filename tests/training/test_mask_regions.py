"""Whose the cells are: masks in any form, divided cells, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dpmo_cli.geometry.rle import frame_rle
from dpmo_cli.training.mask_losses import background, foreground, people_of_masks
from dpmo_cli.training.mask_regions import (
    labels_of_masks,
    labels_of_rles,
    regions_of,
    regions_of_parts,
)
from tests.training.mask_scenes import crowd, regions_of_crowd, row


@pytest.mark.parametrize("cell_px", [1, 2, 4, 8])
@pytest.mark.parametrize("people", [1, 7, 200])
def test_each_person_spread_over_the_mask_has_no_error(people: int, cell_px: int) -> None:
    """At any resolution, however many share a cell."""
    points, labels = crowd(people, (40, 56))
    area = torch.bincount(labels.flatten(), minlength=people + 1).float()
    density = torch.where(labels > 0, 1 / area[labels], 0.0)
    mass = torch.nn.functional.avg_pool2d(density[None], cell_px) * cell_px**2
    regions = regions_of_crowd(points, labels, cell_px)
    seen = int((area[1:] > 0).sum())
    assert torch.allclose(
        people_of_masks(mass, regions)[regions.weight > 0], torch.ones(seen), atol=1e-4
    )
    assert float(foreground(mass, regions)) == pytest.approx(0, abs=1e-4)
    assert float(background(mass, regions)) == 0


def test_gaussians_divide_a_cell_as_posteriors() -> None:
    """Two soft masks of one cell have it in the proportion of their own density there."""
    cell, mask = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1])
    value = torch.tensor([3.0, 1.0, 2.0, 2.0])
    regions = regions_of_parts(cell, mask, value, (1, 1, 3), [2])
    # In the middle cell the first has a quarter of itself, the second half.
    assert regions.part.tolist() == pytest.approx([1, 1 / 3, 2 / 3, 1])


def test_masks_in_any_form() -> None:
    _, labels = crowd(12, (20, 31))
    masks = labels == torch.arange(1, 13)[:, None, None]
    assert torch.equal(labels_of_masks(masks), labels)
    packed = [frame_rle(mask.numpy(), (0, 0, 31, 20), (20, 31)) for mask in masks]
    assert torch.equal(labels_of_rles(packed, (20, 31)), labels)
    plain = [{"size": [20, 31], "counts": runs(mask)} for mask in masks.numpy()]
    assert torch.equal(labels_of_rles(plain, (20, 31)), labels)
    assert labels_of_rles([], (3, 4)).tolist() == [[0] * 4] * 3
    assert labels_of_masks(masks[:0]).tolist() == [[0] * 31] * 20


def runs(mask: np.ndarray) -> list[int]:
    """Plain run lengths, column by column, zeros first."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [2]])
    edges = np.flatnonzero(np.diff(flat))
    lengths = np.diff(np.concatenate([[0], edges])).tolist()
    return [int(length) for length in lengths]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        pytest.param(lambda: regions_of(row(1, 5), counts=[2]), "a label is larger", id="label"),
        pytest.param(lambda: regions_of(row(1), counts=[1, 1]), "2 counts for 1", id="counts"),
        pytest.param(
            lambda: regions_of(row(1, 2), weight=torch.ones(3)), "weight of shape", id="weight"
        ),
        pytest.param(
            lambda: regions_of(row(1, 2), nearest=torch.ones(1, 2, 2)), "nearest of", id="nearest"
        ),
        pytest.param(
            lambda: foreground(torch.ones(1, 2, 2), regions_of(row(1))), "a map of shape", id="map"
        ),
        pytest.param(
            lambda: background(torch.ones(1, 2, 2), regions_of(row(1))), "a map of shape", id="bg"
        ),
        pytest.param(
            lambda: labels_of_rles([{"size": [2, 2], "counts": [1, 1]}], (2, 2)), "mask 0", id="rle"
        ),
    ],
)
def test_what_does_not_go_together(call: Callable[[], object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        call()
