from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dpmo_cli.outputs.sheet import PAPER, add_key, contact_sheet


def plain(height: int, width: int, value: int = 200) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def ink(part: NDArray[np.uint8]) -> int:
    return int((part != PAPER).any(axis=2).sum())


@pytest.mark.parametrize("size_hw", [(600, 900), (1, 1), (50, 2400), (900, 200)])
def test_the_key_stands_below_the_picture(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    picture = add_key(plain(height, width), "a.jpg", "3 people")
    assert picture.shape[1] == max(width, 480)
    left = (picture.shape[1] - width) // 2
    assert (picture[:height, left : left + width] == 200).all()
    assert ink(picture[height:]) > 500


@pytest.mark.parametrize(
    "title",
    ["", "a" * 4000, "ä 群衆 ,.jpg", "two\nlines"],
    ids=["none", "too long", "letters", "lines"],
)
def test_any_title_fits(title: str) -> None:
    assert add_key(plain(20, 700), title, "3 people").shape[1] == 700


def test_a_long_title_leaves_the_counts_alone() -> None:
    short = add_key(plain(20, 700), "a", "3 people")
    long = add_key(plain(20, 700), "a" * 4000, "3 people")
    assert (short[:, -80:] == long[:, -80:]).all()


def test_the_key_names_only_what_is_drawn() -> None:
    inks = [
        ink(add_key(plain(20, 900), "", "", discs=discs, points=points)[20:])
        for discs, points in [(True, True), (False, True), (True, False), (False, False)]
    ]
    assert inks[0] > inks[1] > inks[3]
    assert inks[0] > inks[2] > inks[3]


@pytest.mark.parametrize(
    "sizes_hw",
    [[(60, 80)], [(60, 80)] * 2, [(60, 80)] * 9, [(10, 900), (900, 10), (1, 1), (300, 400)]],
    ids=["one", "two", "nine", "odd"],
)
def test_all_pictures_are_on_the_sheet(sizes_hw: list[tuple[int, int]]) -> None:
    values = [40 + 20 * index for index in range(len(sizes_hw))]
    pictures = [plain(*size, value) for size, value in zip(sizes_hw, values, strict=True)]
    sheet = contact_sheet(pictures, [(f"{v}.jpg", "3 people") for v in values], width=1200)
    assert sheet.shape[1] == 1200
    seen = [(sheet == value).all(axis=2) for value in values]
    assert all(mask.any() for mask in seen)
    # In the order given: by rows, then from the left.
    corners = [tuple(np.argwhere(mask)[0]) for mask in seen]
    assert corners == sorted(corners)


def test_equal_pictures_make_an_even_sheet() -> None:
    sheet = contact_sheet([plain(60, 80)] * 6, [("a.jpg", "")] * 6, width=1200)
    assert 1.2 < sheet.shape[1] / sheet.shape[0] < 2
