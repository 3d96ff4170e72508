from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dpmo_cli.outputs.colours import MISSING, REVIEW
from dpmo_cli.outputs.overlay import Person, draw_overlay

GRAY = 90


def photo(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    return np.full((height, width, 3), GRAY, np.uint8)


def person(
    x: float = 20, y: float = 15, half: int = 4, flagged: bool = False, radius: float | None = None
) -> Person:
    window = (int(x) - half, int(y) - half, int(x) + half + 1, int(y) + half + 1)
    side = 2 * half + 1
    return Person((x, y), radius, flagged, True, np.ones((side, side), bool), window)


def changed(picture: NDArray[np.uint8], background: int = GRAY) -> NDArray[np.bool_]:
    different: NDArray[np.bool_] = (picture != background).any(axis=2)
    return different


@pytest.mark.parametrize(
    ("size_hw", "max_side", "expected_hw"),
    [
        ((40, 60), 2400, (160, 240)),
        ((40, 60), 180, (120, 180)),
        ((40, 60), 179, (80, 120)),
        ((40, 60), 60, (40, 60)),
        ((40, 60), 30, (20, 30)),
        ((1, 1), 2400, (4, 4)),
        ((1, 5000), 100, (1, 100)),
    ],
)
def test_the_size_of_the_picture(
    size_hw: tuple[int, int], max_side: int, expected_hw: tuple[int, int]
) -> None:
    assert draw_overlay(photo(*size_hw), [], max_side=max_side).shape == (*expected_hw, 3)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_mask_covers_exactly_its_pixels(scale: int) -> None:
    picture = draw_overlay(photo(), [person()], points=False, max_side=60 * scale)
    expected = np.zeros((40, 60), bool)
    expected[11:20, 16:25] = True
    assert (changed(picture) == expected.repeat(scale, 0).repeat(scale, 1)).all()


def test_a_shrunken_mask_keeps_its_place() -> None:
    picture = draw_overlay(photo(400, 600), [person(200, 150, 40)], points=False, max_side=60)
    rows, columns = np.nonzero(changed(picture))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 18, 16, 23)


def test_a_crop_shows_the_same_as_the_whole() -> None:
    people = [person(), person(31, 20, 6, flagged=True), Person((40.5, 30), 5.0, False, False)]
    whole = draw_overlay(photo(), people, max_side=120)
    part = draw_overlay(photo(), people, crop_xyxy=(18, 12, 48, 33), max_side=60)
    assert (part == whole[24:66, 36:96]).all()


def test_people_beyond_the_picture_are_cut() -> None:
    people = [person(0, 0), person(59, 39), Person((-30, 500), 20.0, True, False)]
    picture = draw_overlay(photo(), people, max_side=60)
    assert changed(picture)[:5, :5].all()
    assert changed(picture)[-5:, -5:].all()
    assert not changed(picture)[10:30].any()


def test_the_photo_is_left_as_it_was() -> None:
    image = photo()
    draw_overlay(image, [person()], max_side=60)
    assert (image == GRAY).all()


def test_a_flagged_mask_has_a_red_outline_in_white() -> None:
    picture = draw_overlay(photo(), [person(flagged=True)], points=False, max_side=60)
    assert picture[11, 16:25].tolist() == [list(REVIEW)] * 9
    assert (picture[10, 17:24] > 200).all()
    assert not (draw_overlay(photo(), [person()], max_side=60)[11] == REVIEW).all(axis=1).any()


def test_neighbouring_masks_differ() -> None:
    people = [person(10, 10), person(19, 10), person(28, 10)]
    picture = draw_overlay(photo(), people, points=False, max_side=60).astype(int)
    first, second, third = picture[10, 8], picture[10, 17], picture[10, 26]
    for one, other in ((first, second), (second, third), (first, third)):
        assert np.abs(one - other).sum() > 40


@pytest.mark.parametrize(("discs", "expected"), [(True, True), (False, False)])
def test_discs_can_be_left_out(discs: bool, expected: bool) -> None:
    picture = draw_overlay(
        photo(), [person(radius=10.0, half=2)], discs=discs, points=False, max_side=60
    )
    on_circle = changed(picture)[[5, 25, 15, 15], [20, 20, 10, 30]]
    assert on_circle.all() == on_circle.any() == expected


@pytest.mark.parametrize("has_mask", [True, False])
def test_points_are_dots_or_crosses(has_mask: bool) -> None:
    people = [Person((20, 15), None, False, has_mask)]
    picture = draw_overlay(photo(), people, max_side=240)
    # The point's pixel is magnified to 4 x 4 pixels.
    centre = picture[61:63, 81:83].reshape(-1, 3)
    expected = (255, 255, 255) if has_mask else MISSING
    assert np.abs(centre.astype(int) - expected).max() < 40
    assert not changed(draw_overlay(photo(), people, points=False, max_side=240)).any()


def test_a_picture_of_nobody_is_the_photo() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    assert (draw_overlay(image, [], max_side=40) == image).all()
