"""The localiser: cells and points, tiles without double counts, weights that load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from dpmo_cli.errors import UsageError
from dpmo_cli.rps.locator import (
    PADDING_VALUE,
    Locator,
    find_peaks,
    load_locator,
    locate,
    logit_map,
    pad_frame,
)


class Bright(nn.Module):
    """In the place of the network: the logit of a cell is its mean red minus 100."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Conv2d(1, 1, 1)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, frames: Tensor) -> Tensor:
        self.shapes.append(tuple(frames.shape))
        red = frames[..., 0].float()
        return nn.functional.avg_pool2d(red[:, None], 4)[:, 0] - 100


def dotted(size_hw: tuple[int, int], cells: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A black image with white cells, given as row and column."""
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    for row, column in cells:
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
    return image


@pytest.fixture(scope="module")
def model() -> Locator:
    torch.manual_seed(0)
    return Locator().eval()


@pytest.mark.parametrize("size_hw", [(32, 32), (64, 96)])
def test_a_cell_for_every_four_pixels(model: Locator, size_hw: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits = model(torch.zeros(2, *size_hw, 3, dtype=torch.uint8))
    assert logits.shape == (2, size_hw[0] // 4, size_hw[1] // 4)
    assert logits.dtype == torch.float32


def test_untrained_it_finds_few(model: Locator) -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert len(locate(image, model)) < 50


def test_where_a_cell_stands() -> None:
    logits = np.full((3, 4), -1.0, dtype=np.float32)
    logits[1, 2] = 2.0
    peaks = find_peaks(logits, (12, 16))
    assert peaks.points_xy.tolist() == [[9.5, 5.5]]
    assert peaks.logits.tolist() == [2.0]
    assert peaks.scores.tolist() == pytest.approx([0.880797])
    assert len(find_peaks(logits, (12, 16), threshold=2.0)) == 0
    assert len(find_peaks(logits, (12, 16), threshold=-2.0)) == 12


@pytest.mark.parametrize(("size_hw", "count"), [((8, 8), 4), ((5, 8), 2), ((6, 6), 4), ((1, 1), 0)])
def test_nothing_in_the_padding(size_hw: tuple[int, int], count: int) -> None:
    peaks = find_peaks(np.ones((2, 2), dtype=np.float32), size_hw)
    assert len(peaks) == count
    assert (peaks.points_xy < size_hw[::-1]).all()


def test_two_peaks_on_one_head_are_one_person() -> None:
    logits = np.full((40, 40), -5.0, dtype=np.float32)
    logits[5::10, 5::10] = 1.0
    logits[15, 16] = 2.0
    logits[25, 24] = 1.0
    both = find_peaks(logits, (160, 160), apart=0)
    peaks = find_peaks(logits, (160, 160))
    assert (len(both), len(peaks)) == (18, 16)
    cells = {(int(x) // 4, int(y) // 4) for x, y in peaks.points_xy}
    assert (16, 15) in cells
    assert (15, 15) not in cells
    assert (24, 25) in cells
    assert (25, 25) not in cells
    assert len(find_peaks(logits, (160, 160), apart=2.0)) < 9


def test_few_people_have_no_spacing() -> None:
    logits = np.full((40, 40), -5.0, dtype=np.float32)
    logits[5, [5, 6, 30]] = 1.0
    assert len(find_peaks(logits, (160, 160))) == 3


def test_suppression_keeps_the_highest_of_each_square() -> None:
    logits = np.full((6, 9), -1.0, dtype=np.float32)
    logits[1, 1:4] = (1, 3, 2)
    logits[4, 6:8] = 5  # equal: the first stays
    logits[1, 6] = 1
    peaks = find_peaks(logits, (24, 36), suppression_cells=1)
    assert ((peaks.points_xy - 1.5) / 4).tolist() == [[2, 1], [6, 1], [6, 4]]
    assert len(find_peaks(logits, (24, 36), suppression_cells=4)) == 1


@pytest.mark.parametrize("size_hw", [(60, 50), (130, 64), (300, 421), (97, 1000), (3, 2)])
def test_tiles_give_the_map_of_the_whole(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    tiled, whole = Bright(), Bright()
    found = logit_map(image, tiled, tile_px=128, halo_px=32)
    expected = logit_map(image, whole, tile_px=1024)
    assert found.shape == (-(-size_hw[0] // 4), -(-size_hw[1] // 4))
    np.testing.assert_array_equal(found, expected)
    assert len(whole.shapes) == 1
    assert all(max(shape[1:3]) <= 128 for shape in tiled.shapes)
    assert all(side % 32 == 0 for shape in tiled.shapes for side in shape[1:3])


def test_each_person_is_found_once() -> None:
    rng = np.random.default_rng(2)
    size_hw = (400, 700)
    cells = np.unique(rng.integers(0, (100, 175), (300, 2)), axis=0)
    network = Bright()
    peaks = locate(dotted(size_hw, cells), network, apart=0, tile_px=448)
    assert len(network.shapes) > 1
    assert ((peaks.points_xy[:, ::-1] - 1.5) / 4).tolist() == cells.tolist()


def test_tiles_of_the_real_network_agree(model: Locator) -> None:
    image = np.random.default_rng(3).integers(0, 256, (96, 640, 3), dtype=np.uint8)
    tiled = logit_map(image, model, tile_px=512, halo_px=160)
    whole = logit_map(image, model)
    # What lies beyond the halo reaches a cell hardly.
    assert np.abs(tiled - whole).max() < 0.05


@pytest.mark.parametrize(("tile_px", "halo_px"), [(100, 32), (128, 20), (128, 64)])
def test_tiles_that_do_not_fit(tile_px: int, halo_px: int, model: Locator) -> None:
    with pytest.raises(ValueError, match="a tile of"):
        logit_map(np.zeros((9, 9, 3), dtype=np.uint8), model, tile_px=tile_px, halo_px=halo_px)


def test_padding_is_right_and_below() -> None:
    image = np.full((33, 64, 3), 7, dtype=np.uint8)
    frame = pad_frame(image)
    assert frame.shape == (64, 64, 3)
    assert (frame[:33] == 7).all()
    assert (frame[33:] == PADDING_VALUE).all()


@pytest.mark.parametrize("trunk", ["lite0", "lite1", "lite2"])
def test_the_trunk_is_seen_from_the_weights(trunk: str, tmp_path: Path) -> None:
    path = tmp_path / "locator.safetensors"
    before = Locator(trunk)
    save_file(before.state_dict(), path)
    after = load_locator(path)
    assert not after.training
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value)


def test_other_weights(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(UsageError, match=r"other\.safetensors: does not hold a localiser"):
        load_locator(path)
