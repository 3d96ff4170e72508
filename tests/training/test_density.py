"""The density network: what its map should be, its loss, and how it counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpmo_cli.training import density
from dpmo_cli.training.counter import TERMS, CounterTraining
from dpmo_cli.training.crowds import Crop, make_crowd
from dpmo_cli.training.density import (
    DensityBatch,
    DensityNetwork,
    batch_loss,
    count_people,
    density_batch,
    measure,
    validate,
)
from dpmo_cli.training.mask_losses import foreground
from dpmo_cli.training.mask_regions import regions_of

PLAIN = CounterTraining()


def crop_of(*xy: tuple[float, float], valid_hw: tuple[int, int] = (64, 64)) -> Crop:
    points = np.array(xy, dtype=np.float64).reshape(-1, 2)
    return Crop(np.zeros((64, 64, 3), dtype=np.uint8), valid_hw, points)


def test_each_person_is_one() -> None:
    crops = [crop_of((3, 60), (30, 30), (30, 30)), crop_of(), crop_of((63.4, -0.4))]
    crops.append(crop_of((27.5, 30)))
    batch = density_batch(crops)
    assert batch.target.sum(dim=(1, 2)).tolist() == pytest.approx([3, 0, 1, 1])
    assert batch.points == 5
    # Cells are 8 px: 27.5 is the middle of the fourth column, 30 in the fourth row.
    assert int(batch.target[3].flatten().argmax()) == 3 * 8 + 3


def test_padding_is_not_asked_about() -> None:
    batch = density_batch([crop_of((3, 3), valid_hw=(20, 64))])
    # The middle of the third row of cells lies at 20 px, beyond the last one at 19.
    assert batch.valid[0].sum(dim=1).tolist() == [8, 8, 0, 0, 0, 0, 0, 0]


class Constant(DensityNetwork):
    """Says the same of every cell."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        cells = (len(frames), frames.shape[1] // 8, frames.shape[2] // 8)
        return torch.full(cells, 0.5) + 0 * self.density.weight.sum()


def test_the_loss_by_hand() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    labels[0, :8] = 1
    batch = DensityBatch(
        torch.zeros(1, 16, 16, 3, dtype=torch.uint8),
        torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]),
        torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]),
        1,
        regions_of(labels, 8),
    )
    model = Constant()
    assert float(batch_loss(model, batch, PLAIN).detach()) == pytest.approx(0.75)
    with_masks = CounterTraining(mask_losses=("background",), mask_weight=2.0)
    # Two cells of a half on the ground, of one person.
    assert float(batch_loss(model, batch, with_masks).detach()) == pytest.approx(0.75 + 2.0)
    every = CounterTraining(mask_losses=TERMS)
    assert float(batch_loss(model, batch, every).detach()) == pytest.approx(0.75 + 0.1)


@pytest.mark.parametrize("size_hw", [(40, 50), (64, 64), (200, 90)])
def test_a_count_leaves_padding_out(
    size_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    crowd = make_crowd("a", "a/1", image, np.array([[1.0, 1.0]]))
    cells = -(-size_hw[0] // 8) * -(-size_hw[1] // 8)
    model = Constant().eval()
    assert count_people(model, crowd, bf16=False) == 0.5 * cells
    counts = measure(model, crowd, bf16=False)["counts"]
    assert isinstance(counts, list)
    assert counts[len(counts) // 2] == 0.5 * cells
    assert counts == sorted(counts)
    answers = iter([3.0, 5.0])
    monkeypatch.setattr(density, "count_people", lambda *_, **__: next(answers))
    figures = validate(model, [crowd, crowd], bf16=False)
    assert figures == pytest.approx({"a/mae": 3.0, "a/rmse": np.sqrt(10)})


def test_its_map_is_positive_and_teaches() -> None:
    torch.manual_seed(0)
    model = DensityNetwork().train()
    frames = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    found = model(frames)
    assert found.shape == (2, 8, 12)
    assert (found > 0).all()
    labels = torch.zeros(2, 64, 96, dtype=torch.int64)
    labels[:, 10:30, 10:30] = 1
    torch.autograd.backward(foreground(found, regions_of(labels, 8)))
    assert model.trunk.get_submodule("conv_stem").weight.grad.abs().sum() > 0
