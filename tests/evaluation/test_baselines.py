from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.baselines import BASELINES, WindowMask, scaled_disc
from dpmo_cli.geometry.nnec import disc_radii, neighbour_distances
from dpmo_cli.geometry.points import FloatArray, Sites, group_points

SIZE_HW = (70, 90)
NAMES = sorted(BASELINES)
BY_COLOUR = ["slic", "watershed", "grabcut"]
DISJOINT = ["voronoi", "slic", "watershed", "grabcut"]

POINTS = {
    "crowd": [(20, 20), (31.5, 22), (40, 40), (44.2, 44.9), (60, 20), (75, 60), (20.3, 55)],
    "none": [],
    "lone": [(45, 35)],
    "one pixel apart": [(30, 30), (31, 30), (60, 40)],
    "duplicates of a pixel": [(30, 30), (30.2, 29.9), (30, 30), (50, 44)],
    "at the borders": [(0, 0), (89.4, 69.4), (0, 69), (89.9, 0.2), (45, 0)],
    "some outside": [(-4, 30), (30, 30), (90, 35), (50, 1e9), (np.nan, 3)],
    "all outside": [(-4, 30), (30, 100)],
}


def noise(size_hw: tuple[int, int] = SIZE_HW, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def sites_of(
    points: Any, size_hw: tuple[int, int] = SIZE_HW, scale: float = 1.0
) -> tuple[Sites, FloatArray]:
    sites = group_points(np.array(points, dtype=np.float64).reshape(-1, 2), size_hw)
    return sites, disc_radii(neighbour_distances(sites), size_hw, scale)


def frames(masks: list[WindowMask], size_hw: tuple[int, int] = SIZE_HW) -> NDArray[np.bool_]:
    full = np.zeros((len(masks), *size_hw), dtype=np.bool_)
    for frame, (mask, (x0, y0, x1, y1)) in zip(full, masks, strict=True):
        assert mask.dtype == np.bool_
        assert mask.shape == (y1 - y0, x1 - x0)
        assert 0 <= x0 <= x1 <= size_hw[1]
        assert 0 <= y0 <= y1 <= size_hw[0]
        frame[y0:y1, x0:x1] = mask
    return full


def squares(sites: Sites, size_hw: tuple[int, int] = SIZE_HW) -> FloatArray:
    """Squared distance of every pixel to every site: (S, H, W)."""
    rows, columns = np.indices(size_hw)
    x, y = sites.xy.T[:, :, None, None]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2)


def discs(sites: Sites, radii: FloatArray) -> NDArray[np.bool_]:
    full = squares(sites) <= radii[:, None, None] ** 2
    for index in np.flatnonzero(sites.inside):
        x, y = sites.pixel_xy[index]
        full[index, y, x] = True
    full[~sites.inside] = False
    return np.asarray(full)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("points", POINTS.values(), ids=list(POINTS))
def test_masks_lie_in_the_disc_and_hold_the_site(name: str, points: Any) -> None:
    sites, radii = sites_of(points)
    masks = BASELINES[name](noise(), sites, radii)
    full = frames(masks)
    assert not (full & ~discs(sites, radii)).any()
    for index, inside in enumerate(sites.inside):
        if inside:
            x, y = sites.pixel_xy[index]
            assert full[index, y, x]
        else:
            assert not full[index].any()
    if name in DISJOINT:
        assert full.sum(axis=0).max(initial=0) <= 1


@pytest.mark.parametrize(("name", "factor"), [("disc", 1.0), ("half disc", 0.5), ("", 1.3)])
@pytest.mark.parametrize("points", POINTS.values(), ids=list(POINTS))
def test_discs_by_brute_force(name: str, factor: float, points: Any) -> None:
    sites, radii = sites_of(points)
    baseline = BASELINES[name] if name else scaled_disc(factor)
    found = frames(baseline(noise(), sites, radii))
    assert (found == discs(sites, factor * radii)).all()


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("points", POINTS.values(), ids=list(POINTS))
def test_cells_by_brute_force(points: Any, scale: float) -> None:
    sites, radii = sites_of(points, scale=scale)
    found = frames(BASELINES["voronoi"](noise(), sites, radii))
    away = squares(sites)
    away[~sites.inside] = np.inf
    nearest = away <= away.min(axis=0, initial=np.inf)
    held = np.zeros(SIZE_HW, dtype=np.bool_)
    for index in np.flatnonzero(sites.inside):
        x, y = sites.pixel_xy[index]
        nearest[:, y, x] = False
        nearest[index, y, x] = held[y, x] = True
    cells = nearest & discs(sites, radii)
    tied = nearest.sum(axis=0) > 1
    assert (found == cells)[:, ~tied].all()
    # Of sites equally near one gets the pixel, if its disc holds it.
    assert not (found & ~cells).any()
    assert found.sum(axis=0).max(initial=0) <= 1


def test_a_pixel_belongs_to_the_site_that_holds_it() -> None:
    # The first rounds to (11, 10), but the second lies nearer to that pixel.
    sites, radii = sites_of([(10.5001, 10.49), (11.501, 10)])
    assert sites.pixel_xy.tolist() == [[11, 10], [12, 10]]
    found = frames(BASELINES["voronoi"](noise(), sites, radii))
    assert found[0, 10, 11]
    assert not found[1, 10, 11]


@pytest.mark.parametrize("name", BY_COLOUR)
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize("scale", [1, 4])
def test_blobs_on_a_plain_ground(name: str, grey: bool, scale: int) -> None:
    size_hw = (100 * scale, 110 * scale)
    points = scale * np.array([(30, 30), (66, 30), (30, 64), (74, 70)])
    image = np.full((*size_hw, 3), (60, 110, 60), dtype=np.uint8)
    rows, columns = np.indices(size_hw)
    blobs = [np.hypot(columns - x, rows - y) <= 11 * scale for x, y in points]
    for blob in blobs:
        image[blob] = (230, 40, 50)
    if grey:
        image = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    sites, radii = sites_of(points, size_hw)
    found = frames(BASELINES[name](image, sites, radii), size_hw)
    for mask, point in zip(found, sites.point_of_site, strict=True):
        iou = (mask & blobs[point]).sum() / (mask | blobs[point]).sum()
        assert iou > (0.8 if name == "grabcut" else 0.9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (9, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("points", [[(0, 0)], [(0, 0), (0.4, 0.3)], [(0, 0), (5, 5)]], ids=str)
def test_tiny_images(name: str, size_hw: tuple[int, int], points: Any) -> None:
    sites, radii = sites_of(points, size_hw)
    full = frames(BASELINES[name](noise(size_hw), sites, radii), size_hw)
    assert full[0, 0, 0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_image_of_one_colour(name: str, value: int) -> None:
    sites, radii = sites_of(POINTS["crowd"])
    image = np.full((*SIZE_HW, 3), value, dtype=np.uint8)
    full = frames(BASELINES[name](image, sites, radii))
    assert full.any(axis=(1, 2)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_points_changes_nothing(name: str) -> None:
    rng = np.random.default_rng(5)
    points = rng.uniform(-5, 90, size=(25, 2))
    image = noise()
    untouched = image.copy()
    first = frames(BASELINES[name](image, *sites_of(points)))
    again = frames(BASELINES[name](image, *sites_of(points)))
    shuffled = frames(BASELINES[name](image, *sites_of(rng.permutation(points))))
    assert (first == again).all()
    assert (first == shuffled).all()
    assert (image == untouched).all()


@pytest.mark.parametrize("name", BY_COLOUR)
def test_regions_are_connected(name: str) -> None:
    sites, radii = sites_of(POINTS["crowd"])
    for mask, _ in BASELINES[name](noise(), sites, radii):
        assert ndimage.label(mask)[1] == 1


def test_grabcut_falls_back_to_the_core() -> None:
    # The disc holds all of its window, so nothing is left to be background.
    sites = group_points(np.array([[2.0, 2.0]]), (5, 5))
    full = frames(BASELINES["grabcut"](noise((5, 5)), sites, np.array([8.0])), (5, 5))
    rows, columns = np.indices((5, 5))
    assert (full[0] == ((columns - 2) ** 2 + (rows - 2) ** 2 <= 4)).all()


@pytest.mark.parametrize(
    ("name", "package"), [("slic", "skimage"), ("watershed", "skimage"), ("grabcut", "cv2")]
)
def test_a_missing_package_is_named(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def without(wanted: str, *rest: Any) -> Any:
        if wanted.startswith(package):
            raise ModuleNotFoundError(wanted)
        return real(wanted, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(UsageError, match=rf"{package}.*pip install 'dpmo-cli\[trials\]'"):
        BASELINES[name](noise(), *sites_of(POINTS["crowd"]))


def test_names() -> None:
    assert list(BASELINES) == ["disc", "half disc", "voronoi", "slic", "watershed", "grabcut"]
