"""Training crops: frame, masks, discs and points agree with the scene, mirrored or padded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.geometry.nnec import disc_radii, neighbour_distances
from dpmo_cli.geometry.points import group_points
from dpmo_cli.training import crops
from dpmo_cli.training.crops import (
    NEGATIVES,
    PROMPT_RADIUS_PX,
    RADIUS_IN_FRAME_PX,
    Crop,
    PreparedScene,
    _resample,
    photometric,
    prepare,
    sample_crop,
    usable,
)
from tests.training.worlds import block_scene

FRAME = 128


def scene(size_hw: tuple[int, int] = (150, 200), shift: int = 0) -> PreparedScene:
    """Six blocks of different sizes, each in its colour, none the mirror image of another."""
    boxes = [
        (5, 5, 25, 45),
        (40, 10, 55, 40),
        (70, 8, 100, 60),
        (20, 70, 48, 120),
        (90, 80, 105, 135),
        (125, 60, 190, 130),
    ]
    moved = [(x0 + shift, y0 + shift, x1 + shift, y1 + shift) for x0, y0, x1, y1 in boxes]
    return prepare(block_scene(size_hw, moved, heads=True))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Augmentation without a change of colours and without noise on the clicks."""
    monkeypatch.setattr(crops, "photometric", lambda image, rng: image)
    monkeypatch.setattr(crops, "POINT_NOISE", 0.0)


def instances(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The instances that a painted picture shows."""
    found: NDArray[np.int64] = (image >= 128) @ np.array([1, 2, 4])
    return found


def instance_of(crop: Crop, prompt: int, member: int = 0) -> int:
    """The instance that the frame shows at a prompt, or at a neighbour given with it."""
    x, y = np.rint(crop.points_xy[prompt, member]).astype(int)
    return int(instances(crop.image)[y, x])


def mean_over_cells(
    mask: NDArray[np.bool_], offset_xy: tuple[float, float], step: float, cells: int
) -> NDArray[np.float64]:
    """The definition: each pixel's part in each cell, one by one."""
    grid = np.zeros((cells, cells))
    for row, column in np.argwhere(mask):
        for y in range(cells):
            top, bottom = offset_xy[1] + y * step, offset_xy[1] + (y + 1) * step
            high = max(0.0, min(bottom, row + 1) - max(top, row))
            for x in range(cells):
                left, right = offset_xy[0] + x * step, offset_xy[0] + (x + 1) * step
                grid[y, x] += high * max(0.0, min(right, column + 1) - max(left, column))
    return grid / step**2


@given(
    st.integers(0, 2**32 - 1),
    st.floats(-6, 6),
    st.floats(-6, 6),
    st.floats(0.2, 5),
    st.integers(1, 5),
)
@settings(max_examples=60)
@example(0, 3.0, 1.0, 0.2, 4)
def test_resample_equals_the_definition(
    seed: int, x: float, y: float, step: float, cells: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 7), rng.integers(1, 7))) < 0.6
    found = _resample(mask, (x, y), step, cells)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, mean_over_cells(mask, (x, y), step, cells), atol=1e-5)


def test_resample_keeps_the_area() -> None:
    mask = np.random.default_rng(0).random((20, 30)) < 0.5
    grid = _resample(mask, (-3.3, -7.1), 1.7, 40)
    assert grid.sum() * 1.7**2 == pytest.approx(mask.sum(), rel=1e-5)


def test_discs_are_those_of_a_run() -> None:
    prepared = scene()
    points = prepared.scene.points_xy
    sites = group_points(points, (150, 200))
    radii = disc_radii(neighbour_distances(sites), (150, 200), 1.0)
    assert (prepared.radii_px == radii[sites.site_of_point]).all()
    # Another order of the points is another order of the radii.
    order = [3, 0, 5, 1, 4, 2]
    shuffled = replace(
        prepared.scene,
        points_xy=points[order],
        instance_ids=prepared.scene.instance_ids[order],
    )
    assert (prepare(shuffled).radii_px == prepared.radii_px[order]).all()


def test_scenes_without_points_are_left_out() -> None:
    empty = block_scene((40, 40), [])
    assert [one.scene.name for one in usable([empty, scene().scene])] == ["blocks"]


def shares(grid: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares of cells from 0 to 1."""
    return grid / 255


def check(prepared: PreparedScene, crop: Crop, prompts: int) -> None:
    """Hold a crop of a painted scene to its promises."""
    cells = FRAME // 2
    assert (crop.image.shape, crop.image.dtype) == ((FRAME, FRAME, 3), np.dtype(np.uint8))
    for grid in (crop.visible, crop.head, crop.disc):
        assert (grid.shape, grid.dtype) == ((prompts, cells, cells), np.dtype(np.uint8))
    assert (crop.points_xy.shape, crop.points_xy.dtype) == ((prompts, 1, 2), np.dtype(np.float32))
    assert (crop.labels == 1).all()
    assert crop.labels.dtype == np.int64
    assert crop.known == (True, prepared.scene.heads is not None, True)
    assert (crop.head <= crop.visible).all()

    height, width = crop.valid_hw
    assert max(height, width) == FRAME
    assert not crop.image[height:].any()
    assert not crop.image[:, width:].any()
    assert not crop.visible[:, (height + 1) // 2 + 1 :].any()
    assert not crop.visible[:, :, (width + 1) // 2 + 1 :].any()

    seen = [instance_of(crop, prompt) for prompt in range(prompts)]
    # With too few points in the crop the same ones are asked about again, in their order.
    distinct = len(set(seen))
    assert seen == (seen[:distinct] * prompts)[:prompts]
    shown = instances(crop.image.reshape(cells, 2, cells, 2, 3).mean(axis=(1, 3)))
    for prompt, instance in enumerate(seen):
        assert instance in prepared.scene.instance_ids
        x, y = crop.points_xy[prompt, 0]
        assert -0.5 <= x < width
        assert -0.5 <= y < height
        column, row = np.rint((crop.points_xy[prompt, 0] + 0.5) / 2 - 0.5).astype(int)
        assert crop.disc[prompt, row, column] > 230
        # Where the mask is, and only there, the frame shows the instance; edges are soft.
        visible = shares(crop.visible[prompt])
        inside = ndimage.binary_erosion(visible == 1)
        beside = ndimage.binary_erosion(visible == 0)
        assert (shown[inside] == instance).all()
        assert (shown[beside] != instance).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("plain")
def test_crops(seed: int) -> None:
    prepared = scene()
    crop = sample_crop(prepared, FRAME, 4, np.random.default_rng(seed))
    check(prepared, crop, 4)


@pytest.mark.usefixtures("plain")
def test_those_asked_about_are_different() -> None:
    """As long as there are enough of them in the crop; a lone one is asked about twice."""
    found = {
        len({instance_of(crop, prompt) for prompt in range(4)})
        for seed in range(30)
        for crop in [sample_crop(scene(), FRAME, 4, np.random.default_rng(seed))]
    }
    assert 4 in found
    lone = prepare(block_scene((90, 90), [(30, 30, 60, 60)]))
    check(lone, sample_crop(lone, FRAME, 3, np.random.default_rng(0)), 3)


@pytest.mark.usefixtures("plain")
def test_heads_are_the_upper_part_of_what_is_seen() -> None:
    """`block_scene` gives the upper half of each box as its head."""
    measured = 0
    for seed in range(10):
        crop = sample_crop(scene(), FRAME, 4, np.random.default_rng(seed))
        for visible, head in zip(shares(crop.visible), shares(crop.head), strict=True):
            if visible[[0, -1]].any() or visible[:, [0, -1]].any():
                continue  # cut by the frame
            assert head.sum() == pytest.approx(visible.sum() / 2, rel=0.02)
            rows = visible.any(axis=1).nonzero()[0]
            middle = (rows[0] + rows[-1]) // 2
            np.testing.assert_array_equal(head[: middle - 1], visible[: middle - 1])
            assert not head[middle + 3 :].any()
            measured += 1
    assert measured >= 10


def test_without_heads_there_are_none() -> None:
    unknown = prepare(block_scene((90, 90), [(30, 30, 60, 60)]))
    crop = sample_crop(unknown, FRAME, 2, np.random.default_rng(0))
    assert crop.known == (True, False, True)
    assert not crop.head.any()
    assert crop.visible.any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_nearest_are_the_nearest_other_points(seed: int, count: int) -> None:
    """Held to the definition, for points that share a place too."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 12, (count, 2)).astype(np.float64)
    # The nearest know nothing of masks: each instance has a pixel somewhere.
    labels = np.zeros((20, 20), dtype=np.int32)
    ids = np.arange(1, count + 1, dtype=np.int32)
    labels[0, :count] = ids
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    nearest = prepare(TruthScene("points", image, labels, ids, points)).nearest
    assert nearest.shape == (count, min(NEGATIVES, count - 1))
    for index in range(count):
        others = np.delete(np.arange(count), index)
        distances = np.hypot(*(points - points[index]).T)
        assert set(nearest[index]) <= set(others)
        assert len(set(nearest[index])) == nearest.shape[1]
        expected = np.sort(distances[others])[: nearest.shape[1]]
        np.testing.assert_allclose(distances[nearest[index]], expected)


@pytest.mark.parametrize("given_count", range(NEGATIVES + 1))
@pytest.mark.usefixtures("plain")
def test_neighbours_are_given_as_negative_prompts(given_count: int) -> None:
    prepared = scene()
    seen = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        crop = sample_crop(prepared, FRAME, 3, rng, negatives=given_count)
        assert crop.points_xy.shape == (3, 1 + given_count, 2)
        assert crop.labels.tolist() == [[1] + [0] * given_count] * 3
        for prompt in range(3):
            index = instance_of(crop, prompt) - 1
            for member, other in enumerate(prepared.nearest[index][:given_count], start=1):
                x, y = np.rint(crop.points_xy[prompt, member]).astype(int)
                # Neighbours outside the crop are given too, as a run gives them.
                if 0 <= x < FRAME and 0 <= y < FRAME:
                    assert instance_of(crop, prompt, member) == other + 1
                    seen += 1
    assert (seen > 0) == (given_count > 0)


def test_places_without_a_neighbour_are_no_points() -> None:
    """Two persons have one neighbour each; a lone one has none."""
    two = prepare(block_scene((60, 60), [(5, 5, 20, 30), (30, 20, 50, 50)]))
    lone = prepare(block_scene((60, 60), [(5, 5, 20, 30)]))
    for prepared, labels in ((two, [1, 0, -1, -1]), (lone, [1, -1, -1, -1])):
        crop = sample_crop(prepared, FRAME, 2, np.random.default_rng(0), negatives=3)
        assert crop.labels.tolist() == [labels] * 2


@pytest.mark.parametrize("seed", range(3))
def test_crops_without_augmentation(seed: int) -> None:
    prepared = scene()
    crop = sample_crop(prepared, FRAME, 4, np.random.default_rng(seed), augment=False)
    check(prepared, crop, 4)
    again = sample_crop(prepared, FRAME, 4, np.random.default_rng(seed), augment=False)
    assert np.array_equal(crop.image, again.image)
    assert np.array_equal(crop.points_xy, again.points_xy)


@pytest.mark.usefixtures("plain")
def test_discs_lie_round_their_points() -> None:
    """In a picture whose border is far, mirrored or not."""
    prepared = scene((400, 450), shift=120)
    measured = 0
    for seed in range(20):
        crop = sample_crop(prepared, FRAME, 6, np.random.default_rng(seed))
        for disc, point in zip(shares(crop.disc), crop.points_xy[:, 0], strict=True):
            if disc[[0, -1]].any() or disc[:, [0, -1]].any():
                continue  # cut by the frame
            row, column = ndimage.center_of_mass(disc)
            assert abs(2 * np.array([column, row]) + 0.5 - point).max() < 0.05
            measured += 1
    assert measured >= 20


@pytest.mark.usefixtures("plain")
def test_both_sides_are_seen() -> None:
    """Mirrored and not: the largest block is right of the others, or left of them."""
    prepared = scene()
    sides = set()
    for seed in range(40):
        crop = sample_crop(prepared, FRAME, 6, np.random.default_rng(seed))
        check(prepared, crop, 6)
        places = {
            instance_of(crop, prompt): float(xy[0, 0]) for prompt, xy in enumerate(crop.points_xy)
        }
        if {4, 5} <= places.keys():
            sides.add(places[4] < places[5])
    assert sides == {True, False}


@pytest.mark.parametrize("size_hw", [(150, 60), (60, 200), (33, 190)])
@pytest.mark.usefixtures("plain")
def test_padding(size_hw: tuple[int, int]) -> None:
    """Narrow pictures fill a part of the frame."""
    height, width = size_hw
    third = max(size_hw) // 3
    boxes = [
        (n * third + 4, 4, n * third + 26, 28) if width > height
        else (4, n * third + 4, 26, n * third + 28)
        for n in range(3)
    ]  # fmt: skip
    prepared = prepare(block_scene(size_hw, boxes))
    padded = 0
    for seed in range(8):
        crop = sample_crop(prepared, FRAME, 3, np.random.default_rng(seed))
        check(prepared, crop, 3)
        padded += min(crop.valid_hw) < FRAME
    assert padded > 0


@pytest.mark.usefixtures("plain")
def test_sizes_of_discs_in_the_frame() -> None:
    """Those asked about beside the first are neither specks nor larger than the frame."""
    prepared = scene((400, 500))
    first = []
    for seed in range(30):
        crop = sample_crop(prepared, FRAME, 4, np.random.default_rng(seed))
        radii = np.sqrt(shares(crop.disc).sum(axis=(1, 2)) * 4 / np.pi)
        first.append(radii[0])
        # A disc may be cut by the frame, never larger than its radius.
        assert (radii <= PROMPT_RADIUS_PX[1] + 1).all()
    assert max(first) <= RADIUS_IN_FRAME_PX[1] + 1
    assert max(first) > 2 * min(first)


def test_the_same_chance_gives_the_same_crop() -> None:
    one, same, other = (sample_crop(scene(), FRAME, 4, np.random.default_rng(s)) for s in (8, 8, 9))
    for name in vars(one):
        assert np.array_equal(getattr(one, name), getattr(same, name)), name
    assert not np.array_equal(one.image, other.image)


def test_clicks_are_noisy() -> None:
    prepared = scene()
    exact = sample_crop(prepared, FRAME, 1, np.random.default_rng(0), augment=False)
    other = sample_crop(prepared, FRAME, 1, np.random.default_rng(0))
    assert len(exact.points_xy) == len(other.points_xy) == 1
    disc = shares(other.disc[0])
    middle = ndimage.center_of_mass(disc)
    x, y = (other.points_xy[0, 0] + 0.5) / 2 - 0.5
    assert 0 < abs(np.array([y, x]) - middle).max() < 0.3 * np.sqrt(disc.sum() / np.pi)


@pytest.mark.parametrize("seed", range(12))
def test_photometric_keeps_size_and_kind(seed: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    changed = photometric(Image.fromarray(pixels), np.random.default_rng(seed))
    assert (changed.size, changed.mode) == ((33, 20), "RGB")
    assert not np.array_equal(np.asarray(changed), pixels)
