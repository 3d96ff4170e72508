"""Tiles and crops of photos, and the bounded store."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dpmo_cli.errors import InputError
from dpmo_cli.review.photos import TILE_PX, Photos, Recent, crop, tile


def decoded(jpeg: bytes | None) -> NDArray[np.uint8]:
    assert jpeg is not None
    return np.asarray(Image.open(io.BytesIO(jpeg)))


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    y, x = np.mgrid[0:700, 0:1100]
    return np.stack([x / 1100 * 255, y / 700 * 255, x * 0 + 99], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("level", "column", "row", "size_wh"),
    [
        (0, 0, 0, (512, 512)),
        (0, 2, 1, (1100 - 1024, 700 - 512)),
        (1, 0, 0, (512, 350)),
        (1, 1, 0, (38, 350)),
        (3, 0, 0, (138, 88)),
    ],
)
def test_tiles_cover_the_photo(
    photo: NDArray[np.uint8], level: int, column: int, row: int, size_wh: tuple[int, int]
) -> None:
    picture = decoded(tile(photo, level, column, row))
    assert picture.shape[1::-1] == size_wh
    side = TILE_PX << level
    part = photo[row * side : (row + 1) * side, column * side : (column + 1) * side]
    assert np.abs(picture.mean(axis=(0, 1)) - part.mean(axis=(0, 1))).max() < 2


@pytest.mark.parametrize(("column", "row"), [(3, 0), (0, 2), (-1, 0), (0, -1)])
def test_outside_the_photo_is_no_tile(photo: NDArray[np.uint8], column: int, row: int) -> None:
    assert tile(photo, 0, column, row) is None


def test_crops_reach_over_the_border_in_black(photo: NDArray[np.uint8]) -> None:
    picture = decoded(crop(photo, (-100, -100, 100, 100), (100, 100))).astype(int)
    assert picture.shape == (100, 100, 3)
    assert picture[:45, :45].max() < 12
    assert abs(picture[75, 75, 2] - 99) < 8


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png"])
def test_nothing_outside_the_root_is_read(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(InputError):
        Photos(root).read(name, (4, 4))


def test_photos_are_decoded_once(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    photos = Photos(tmp_path)
    first = photos.read("a.png", (4, 4))
    (tmp_path / "a.png").unlink()
    assert photos.read("a.png", (4, 4)) is first
    assert not first.flags.writeable


def test_a_photo_of_another_size_than_its_masks_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (4, 5)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: has 4 x 5 px, its masks 5 x 4; .*--root"):
        Photos(tmp_path).read("a.png", (4, 5))


def test_the_store_lets_go_of_the_oldest() -> None:
    held: Recent[str, int] = Recent(10, lambda value: value)
    held.put("a", 4)
    held.put("b", 4)
    assert held.get("a") == 4
    held.put("c", 4)
    assert [held.get(name) for name in "abc"] == [4, None, 4]
    held.put("huge", 99)
    assert [held.get(name) for name in ("a", "c", "huge")] == [None, None, 99]
    held.put("huge", 1)
    held.put("d", 9)
    assert held.get("huge") == 1
