"""Crops of crowds: where points and pixels land, and what a batch is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.rps.locator import PADDING_VALUE
from dpmo_cli.training import crowds
from dpmo_cli.training.crowds import (
    Batch,
    CropBatches,
    Crowd,
    draw_crop,
    load_crowds,
    locator_batch,
    make_crowd,
)
from dpmo_cli.training.p2r import Assignment, assign_cells
from tests.conftest import Crowd as CsvCrowd
from tests.training.worlds import shared


def silent(_line: str) -> None:
    """Say nothing."""


def white_dots(size_hw: tuple[int, int], count: int, seed: int = 0) -> Crowd:
    """Black, with a white block of 12 px round each point."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    xy = rng.integers(8, (size_hw[1] - 8, size_hw[0] - 8), (count, 2))
    for x, y in xy:
        image[y - 6 : y + 7, x - 6 : x + 7] = 255
    return make_crowd("dots", "dots/1.png", image, xy.astype(np.float64))


def draw(crowd: Crowd, crop_px: int, rng: np.random.Generator) -> tuple[np.ndarray, Assignment]:
    """A crop's frame, and what its cells belong to."""
    found = draw_crop(crowd, crop_px, rng)
    cells = (crop_px // 4, crop_px // 4)
    return found.frame, assign_cells(found.points_xy, cells, found.valid_hw)


def batches(images: list[Crowd], seed: int) -> CropBatches[Batch]:
    return CropBatches(images, 4, 64, seed, locator_batch)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No photometric changes."""
    monkeypatch.setattr(crowds, "PHOTOMETRIC_SHARE", 0.0)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("size_hw", [(300, 400), (60, 400), (50, 40)])
def test_cells_that_stand_on_a_point_are_bright(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    crowd = white_dots(size_hw, 6)
    seen = 0
    for _ in range(60):
        frame, found = draw(crowd, 128, rng)
        assert frame.shape == (128, 128, 3)
        near = (found.owner >= 0) & (found.cost < 8 * 1.5 / 96)
        rows, columns = np.nonzero(near)
        for row, column in zip(rows, columns, strict=True):
            block = frame[4 * row + 1 : 4 * row + 3, 4 * column + 1 : 4 * column + 3]
            assert block.min() > 200
            seen += 1
    assert seen > 0


@pytest.mark.usefixtures("plain")
def test_padding_is_known() -> None:
    crowd = white_dots((50, 40), 3)
    crowd.image[:] = 10
    frame, found = draw(crowd, 256, np.random.default_rng(0))
    padded = (frame == PADDING_VALUE).all(axis=2)
    assert padded.any()
    # The middle of a cell is between its second and its third pixel.
    assert (padded[2::4, 2::4] == (found.weight == 0)).mean() > 0.95
    assert found.owner[found.weight == 0].tolist() == [-1] * int((found.weight == 0).sum())


def test_points_outside_are_left_out() -> None:
    xy = np.array([[3.0, 3.0], [np.nan, 1], [np.inf, 1], [-0.1, 3], [20, 3], [19.9, 9.9], [3, 10]])
    crowd = make_crowd("a", "a/1", np.zeros((10, 20, 3), dtype=np.uint8), xy)
    assert crowd.points_xy.tolist() == [[3, 3], [19.9, 9.9]]


@pytest.mark.parametrize(("spacing", "least"), [(3.0, 1.0), (8.0, 0.625), (40.0, 0.5), (0.0, 1.0)])
def test_dense_crowds_are_not_made_small(spacing: float, least: float) -> None:
    xy = np.stack([np.arange(5) * spacing, np.zeros(5)], axis=1)
    crowd = make_crowd("a", "a/1", np.zeros((10, 300, 3), dtype=np.uint8), xy)
    assert crowd.least_scale == pytest.approx(least)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    images = [white_dots((90, 120), 5, seed) for seed in range(3)]
    one, two = batches(images, 1), batches(images, 1)
    one[3]
    first, again, other = one[7], two[7], one[8]
    for left, right in zip(first[:4], again[:4], strict=True):
        assert torch.equal(left, right)
    assert first.points == again.points
    assert not torch.equal(first.frames, other.frames)
    assert not torch.equal(batches(images, 2)[7].frames, first.frames)
    assert first.frames.shape == (4, 64, 64, 3)
    assert first.owner.shape == first.cost.shape == first.weight.shape == (4, 16, 16)
    assert int(first.owner.max()) < first.points


def test_dense_images_are_drawn_more_often() -> None:
    images = [white_dots((90, 120), count) for count in (1, 400)]
    share = batches(images, 1)._share
    assert 0.75 < share[1] < 0.9


def test_the_split_is_by_name(crowd: CsvCrowd) -> None:
    training, validation = load_crowds(crowd.root, ["csv"], silent)
    names = [{one.name for one in part} for part in (training, validation)]
    assert names[0] | names[1] == {f"csv/{number}.png" for number in range(5)}
    assert not names[0] & names[1]


def test_nothing_to_train_on(empty_crowd: CsvCrowd) -> None:
    empty_crowd.add("train/0.png", count=0)
    with pytest.raises(UsageError, match="holds no points to train on"):
        load_crowds(empty_crowd.root, ["csv"], silent)


def test_a_torn_image(crowd: CsvCrowd) -> None:
    (crowd.root / "train/2.png").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"2\.png: is no image"):
        load_crowds(crowd.root, ["csv"], silent)


@pytest.mark.slow
def test_shanghaitech() -> None:
    training, validation = load_crowds(
        shared("ShanghaiTech") / "ShanghaiTech", ["shanghaitech-a"], silent
    )
    assert len(training) + len(validation) == 300
    people = sum(len(one.points_xy) for one in [*training, *validation])
    assert 162_000 < people <= 162_413
