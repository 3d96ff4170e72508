"""Composed crowds: reproducible, with exact masks and points where heads can be seen."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dpmo_cli.training.compose import Cutout, compose_crowd, cut_out_persons
from dpmo_cli.training.truth import TruthScene
from tests.training.worlds import block_scene

SIZE_HW = (120, 160)
GROUND = [np.full((90, 70, 3), 60, dtype=np.uint8)]


def standing() -> list[Cutout]:
    """Two persons: a bright one with a head narrower than the body, and a plain block."""
    alpha = np.full((100, 40), 255, dtype=np.uint8)
    alpha[:15, :12] = alpha[:15, 28:] = 0
    rng = np.random.default_rng(0)
    return [
        Cutout(rng.integers(120, 255, (100, 40, 3), dtype=np.uint8), alpha),
        Cutout(np.full((80, 30, 3), 200, np.uint8), np.full((80, 30), 255, np.uint8)),
    ]


def crowd(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> TruthScene:
    return compose_crowd("c", standing(), GROUND, size_hw, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(6))
def test_points_lie_on_their_own_visible_pixels(seed: int) -> None:
    scene = crowd(seed)
    assert len(scene.points_xy) > 0
    columns, rows = np.rint(scene.points_xy).astype(int).T
    assert (scene.labels[rows, columns] == scene.instance_ids).all()
    assert len(set(scene.instance_ids.tolist())) == len(scene.instance_ids)


def test_shapes_and_types() -> None:
    scene = crowd(1, (97, 131))
    assert scene.name == "c"
    assert (scene.image.shape, scene.image.dtype) == ((97, 131, 3), np.dtype(np.uint8))
    assert (scene.labels.shape, scene.labels.dtype) == ((97, 131), np.dtype(np.int32))
    assert (scene.points_xy.dtype.name, scene.instance_ids.dtype.name) == ("float64", "int32")


def test_the_same_chance_gives_the_same_scene() -> None:
    one, same, other = crowd(3), crowd(3), crowd(4)
    for name in ("image", "labels", "points_xy", "instance_ids"):
        assert np.array_equal(getattr(one, name), getattr(same, name)), name
    assert not np.array_equal(one.image, other.image)


def test_those_in_front_hide_those_behind() -> None:
    """Later persons stand nearer: what shows of an earlier one is what they leave."""
    scene = crowd(2)
    shown, places = np.unique(scene.labels, return_counts=True)
    sizes = dict(zip(shown.tolist(), places.tolist(), strict=True))
    sizes.pop(0, None)
    # Somebody has lost most of a body, somebody is whole, and somebody has no point.
    assert min(sizes.values()) < 0.3 * max(sizes.values())
    assert len(scene.instance_ids) < len(sizes)


def test_the_ground_is_not_a_person() -> None:
    scene = crowd(5)
    assert (scene.labels == 0).any()
    # Persons are brighter than the ground, wherever they are not its edge.
    brightness = scene.image.mean(axis=2)
    assert brightness[scene.labels == 0].mean() < brightness[scene.labels > 0].mean() - 30


def people(*boxes: tuple[int, int, int, int]) -> TruthScene:
    return block_scene((200, 200), boxes)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        pytest.param((10, 10, 50, 110), True, id="standing"),
        pytest.param((10, 10, 50, 60), False, id="too small"),
        pytest.param((10, 10, 110, 110), False, id="as broad as high"),
        pytest.param((10, 10, 160, 80), False, id="lying"),
    ],
)
def test_cuts_out_upright_persons(box: tuple[int, int, int, int], kept: bool) -> None:
    assert len(cut_out_persons([people(box)])) == kept


def test_cut_outs_are_the_person_alone() -> None:
    scene = people((10, 10, 50, 110), (30, 60, 60, 200))
    first, second = cut_out_persons([scene])
    assert first.rgb.shape == (100, 40, 3)
    visible: NDArray[np.bool_] = scene.labels[10:110, 10:50] == 1
    assert (first.alpha == np.where(visible, 255, 0)).all()
    assert not visible.all()
    assert (second.alpha == 255).all()


def test_what_is_mostly_hidden_is_not_cut_out() -> None:
    stripes = [(10, y, 50, y + 18) for y in range(12, 110, 20)]
    scene = people((10, 10, 50, 112), *stripes)
    assert (scene.labels == 1).any()
    assert cut_out_persons([scene]) == []
