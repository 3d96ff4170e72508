"""Masks of crowds: what stands for them, how they are drawn, and what crops leave of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from dpmo_cli.geometry.nnec import disc_radii, neighbour_distances
from dpmo_cli.geometry.points import group_points
from dpmo_cli.training import crowds
from dpmo_cli.training.crop_masks import crop_regions, cut_masks
from dpmo_cli.training.crowd_masks import (
    adaptive_sigmas,
    gaussian_parts,
    shapes_of_points,
)
from dpmo_cli.training.crowds import Crowd, draw_crop, locator_batch, make_crowd

SIZE_HW = (60, 80)


def points_of(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform((0, 0), (SIZE_HW[1], SIZE_HW[0]), (count, 2))


def slow_discs(points_xy: np.ndarray, scale: float) -> np.ndarray:
    """The words of the method, pixel by pixel."""
    sites = group_points(points_xy, SIZE_HW)
    radii = scale * disc_radii(neighbour_distances(sites), SIZE_HW, 1.0)
    labels = np.zeros(SIZE_HW, dtype=int)
    for y in range(SIZE_HW[0]):
        for x in range(SIZE_HW[1]):
            away = np.hypot(*(sites.xy - (x, y)).T)
            claims = np.flatnonzero(away <= radii)
            if len(claims):
                labels[y, x] = sites.point_of_site[claims[np.argmin(away[claims])]] + 1
    x, y = sites.pixel_xy.T
    labels[y, x] = sites.point_of_site + 1
    return labels


@pytest.mark.parametrize(("shape", "scale"), [("disc", 1.0), ("half-disc", 0.5)])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_discs(shape: str, scale: float, count: int) -> None:
    points = points_of(count)
    masks = shapes_of_points(points, SIZE_HW, shape)
    drawn = masks.draw()
    assert drawn.tolist() == slow_discs(points, scale).tolist()
    assert masks.area_px.tolist() == np.bincount(drawn.ravel(), minlength=count + 1)[1:].tolist()
    assert masks.people.tolist() == [1.0] * count


def test_points_of_one_pixel_share_a_disc() -> None:
    masks = shapes_of_points(np.array([[5.0, 5.0], [5.2, 5.1], [30, 30]]), SIZE_HW, "disc")
    assert masks.people.tolist() == [2, 0, 1]
    assert masks.mask_of_point.tolist() == [0, 0, 2]
    assert masks.weight.tolist() == [1, 0, 1]


@pytest.mark.parametrize("window", [(0, 0, 80, 60), (10, 5, 40, 60), (79, 59, 80, 60)])
def test_a_part_is_the_part_of_the_whole(window: tuple[int, int, int, int]) -> None:
    masks = shapes_of_points(points_of(40), SIZE_HW, "disc")
    x0, y0, x1, y1 = window
    assert masks.draw(window).tolist() == masks.draw()[y0:y1, x0:x1].tolist()


def test_gaussians() -> None:
    points, sigma = np.array([[19.5, 23.5]]), np.array([4.0])
    cell, point, value = gaussian_parts(points, sigma, (12, 12), 4)
    assert set(point.tolist()) == {0}
    assert value.sum() == pytest.approx(1, abs=0.03)
    # Cells 4 and 5 meet at 19.5 px: the point is in the middle between them.
    assert sorted(cell[value > 0.98 * value.max()].tolist()) == [64, 65, 76, 77]
    far = gaussian_parts(np.array([[-20.0, 5.0]]), np.array([8.0]), (4, 4), 4)
    assert set((far[0] % 4).tolist()) <= {0}


def test_sigmas_follow_the_neighbours() -> None:
    row = np.stack([np.arange(5) * 20.0, np.zeros(5)], axis=1)
    # In the middle the nearest three are 20, 20 and 40 px away.
    assert adaptive_sigmas(row)[2] == pytest.approx(0.3 * 80 / 3)
    assert adaptive_sigmas(row * 100).tolist() == [15.0] * 5
    assert adaptive_sigmas(row[:1]).tolist() == [15.0]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "PHOTOMETRIC_SHARE", 0.0)


def painted(shape: str) -> Crowd:
    """Each pixel of the picture shows whose disc it is in: red is the label."""
    points = points_of(30)
    masks = shapes_of_points(points, SIZE_HW, shape)
    image = np.zeros((*SIZE_HW, 3), dtype=np.uint8)
    image[..., 0] = 8 * np.maximum(0, masks.draw())
    crowd = make_crowd("a", "a/1", image, points)
    return Crowd(crowd.dataset, crowd.name, crowd.image, crowd.points_xy, 1.0, masks)


@pytest.mark.usefixtures("plain")
def test_masks_go_with_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever place, scale and side: inside each mask the picture shows one colour."""
    monkeypatch.setattr(crowds, "SCALES", (0.5, 2.0))
    crowd = painted("disc")
    rng = np.random.default_rng(0)
    seen = cut = 0
    for _ in range(40):
        found = draw_crop(crowd, 64, rng)
        assert found.masks is not None
        height, width = found.valid_hw
        red = found.frame[:height, :width, 0].astype(int)
        for number, (x, y) in enumerate(np.rint(found.points_xy).astype(int), start=1):
            inside = found.masks.labels == number
            if not inside.any():
                cut += 1
                assert found.masks.weight[number - 1] == 0 or found.masks.people[number - 1] == 0
                continue
            # Where nothing is blurred, deep inside.
            deep = binary_erosion(inside, np.ones((5, 5)))
            if deep.any():
                seen += 1
                assert np.ptp(red[deep]) <= 1
                at = red[min(y, height - 1), min(x, width - 1)]
                assert abs(at - np.median(red[deep])) <= 40
    assert seen > 100
    assert cut > 10


@pytest.mark.parametrize("shape", ["disc", "half-disc", "gaussian"])
def test_a_batch_has_its_regions(shape: str) -> None:
    crowd = painted(shape) if shape != "gaussian" else gaussian_crowd()
    rng = np.random.default_rng(0)
    batch = locator_batch([draw_crop(crowd, 64, rng) for _ in range(3)])
    assert batch.regions is not None
    regions = batch.regions
    assert regions.ground.shape == batch.owner.shape
    assert len(regions.people) == batch.points
    assert 0 < int((regions.weight > 0).sum()) <= batch.points
    held = np.zeros(regions.ground.numel())
    np.add.at(held, regions.cell.numpy(), regions.part.numpy())
    assert np.isclose(held[held > 0], 1, atol=1e-5).all()
    assert (regions.ground.numpy().ravel()[held > 0] == 0).all()


def gaussian_crowd() -> Crowd:
    points = points_of(30)
    crowd = make_crowd("a", "a/1", np.zeros((*SIZE_HW, 3), dtype=np.uint8), points)
    masks = shapes_of_points(points, SIZE_HW, "gaussian")
    return Crowd(crowd.dataset, crowd.name, crowd.image, crowd.points_xy, 1.0, masks)


def test_padding_and_what_reaches_in_are_not_counted() -> None:
    """A Gaussian whose point lies outside the crop; a frame that the crop does not fill."""
    points = np.array([[41.0, 30.0], [61.0, 30.0]])
    masks = shapes_of_points(points, SIZE_HW, "gaussian")
    window, valid_hw = (0, 10, 60, 50), (40, 60)
    moved = points - window[:2]
    inside = np.array([True, False])
    cut = cut_masks(masks, window, valid_hw, 1.0, moved, inside, flipped=False)
    regions = crop_regions([cut], [(moved[inside], valid_hw)], 64, 8)
    ground = regions.ground[0].numpy()
    assert (ground[5:] == 0).all()
    assert ground[0, 7] == 0, "the neighbour reaches in"
    assert ground[0, 0] == 1
    assert regions.weight.tolist() == [1.0]
