"""Silhouettes against the areas that geometry gives, and who hides whom."""

from __future__ import annotations

import numpy as np
import pytest

from examples.camera import Light
from examples.solids import BODY, HEAD, Place, Sheet, Sprite

UPRIGHT = np.eye(3, dtype=np.float32)
LIGHT = Light(
    towards=np.array([0, 1, 0], np.float32),
    sun=np.ones(3, np.float32),
    sky=np.ones(3, np.float32),
    bounce=np.ones(3, np.float32),
    haze=np.zeros(3, np.float32),
    haze_per_m=0.0,
)


def one_colour(value: float):
    return lambda surface: np.full((len(surface), 3), value, np.float32)


def lit(sheet: Sheet) -> Sprite:
    return sheet.lit(LIGHT, UPRIGHT, np.ones(sheet.h, np.float32), 10.0)


def turned(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)


@pytest.mark.parametrize(
    ("axes", "radii_m", "area_px"),
    [
        pytest.param(UPRIGHT, (1, 1, 1), np.pi * 100, id="sphere"),
        pytest.param(UPRIGHT, (2, 1, 5), np.pi * 200, id="ellipsoid"),
        pytest.param(turned(0.7), (2, 1, 1), np.pi * 200, id="turned in the image"),
        pytest.param(UPRIGHT[[2, 1, 0]], (1, 1, 2), np.pi * 200, id="turned away"),
    ],
)
def test_the_area_of_an_ellipsoid(axes, radii_m, area_px) -> None:
    sheet = Sheet((0, 0, 80, 60), 3)
    sheet.ellipsoid(Place(40, 30, 5, 10), axes, radii_m, one_colour(1))
    assert lit(sheet).coverage.sum() == pytest.approx(area_px, rel=0.01)


def test_the_area_of_a_limb_is_that_of_a_capsule() -> None:
    sheet = Sheet((0, 0, 80, 60), 3)
    sheet.limb(Place(20, 20, 5, 10), Place(56, 47, 5, 10), (0.6, 0.6), one_colour(1))
    assert lit(sheet).coverage.sum() == pytest.approx(45 * 12 + np.pi * 36, rel=0.01)


def test_the_area_of_a_trunk_is_that_of_its_profile() -> None:
    sheet = Sheet((0, 0, 80, 60), 3)
    ends = Place(40, 50, 5, 10), Place(40, 10, 5, 10)
    sheet.trunk(*ends, (UPRIGHT[0], -UPRIGHT[2]), (1.0, 2.0), 0.5, one_colour(1))
    assert lit(sheet).coverage.sum() == pytest.approx(40 * 30, rel=0.03)


def test_a_trunk_seen_from_the_side_is_as_wide_as_it_is_deep() -> None:
    sheet = Sheet((0, 0, 80, 60), 3)
    ends = Place(40, 50, 5, 10), Place(40, 10, 5, 10)
    sheet.trunk(*ends, (UPRIGHT[2], UPRIGHT[0]), (1.0, 1.0), 0.5, one_colour(1))
    assert lit(sheet).coverage.sum() == pytest.approx(40 * 10, rel=0.05)


@pytest.mark.parametrize("near_first", [True, False], ids=["near first", "far first"])
def test_the_nearer_solid_is_seen_in_any_order(near_first) -> None:
    sheet = Sheet((0, 0, 40, 40), 2)
    near = (Place(20, 20, 4, 10), one_colour(1.0), HEAD)
    far = (Place(20, 20, 8, 10), one_colour(0.1), BODY)
    for at, paint, part in (near, far) if near_first else (far, near):
        sheet.ellipsoid(at, UPRIGHT, (1, 1, 1), paint, part)
    sprite = lit(sheet)
    assert np.array_equal(sprite.head, sprite.coverage)
    assert sprite.colour[20, 20].min() > 0.5


def test_edges_are_softened_with_one_sample_a_pixel() -> None:
    sheet = Sheet((0, 0, 40, 40), 1)
    sheet.ellipsoid(Place(20, 20, 4, 10), UPRIGHT, (1, 1, 1), one_colour(1))
    coverage = lit(sheet).coverage
    assert coverage.sum() == pytest.approx(np.pi * 100, rel=0.04)
    assert ((coverage > 0) & (coverage < 1)).any()


def test_a_solid_outside_the_sheet_leaves_no_trace() -> None:
    sheet = Sheet((0, 0, 10, 10), 2)
    sheet.ellipsoid(Place(90, 5, 4, 10), UPRIGHT, (1, 1, 1), one_colour(1))
    sheet.limb(Place(-90, 5, 4, 10), Place(-50, 5, 4, 10), (1, 1), one_colour(1))
    assert not lit(sheet).coverage.any()
