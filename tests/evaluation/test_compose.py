"""Composed crowds: reproducible, with exact masks and points where heads can be seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation import compose
from dpmo_cli.evaluation.compose import (
    GROUPS,
    ROWS,
    Cutout,
    Ingredients,
    Recipe,
    compose_crowd,
    compose_dense_crowd,
    cut_out_persons,
)
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.geometry.nnec import neighbour_distances
from dpmo_cli.geometry.points import group_points
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


def parts() -> Ingredients:
    return Ingredients(standing(), GROUND)


def crowd(seed: int, size_hw: tuple[int, int] = SIZE_HW, recipe: Recipe = ROWS) -> TruthScene:
    return compose_crowd("c", parts(), size_hw, np.random.default_rng(seed), recipe)


def heads_of(scene: TruthScene) -> NDArray[np.bool_]:
    assert scene.heads is not None
    return scene.heads


@pytest.mark.parametrize("recipe", [ROWS, GROUPS], ids=["rows", "groups"])
@pytest.mark.parametrize("seed", range(6))
def test_points_lie_on_their_own_visible_heads(seed: int, recipe: Recipe) -> None:
    scene = crowd(seed, recipe=recipe)
    assert len(scene.points_xy) > 0
    columns, rows = np.rint(scene.points_xy).astype(int).T
    assert (scene.labels[rows, columns] == scene.instance_ids).all()
    assert heads_of(scene)[rows, columns].all()
    assert len(set(scene.instance_ids.tolist())) == len(scene.instance_ids)


def test_shapes_and_types() -> None:
    scene = crowd(1, (97, 131))
    assert scene.name == "c"
    assert (scene.image.shape, scene.image.dtype) == ((97, 131, 3), np.dtype(np.uint8))
    assert (scene.labels.shape, scene.labels.dtype) == ((97, 131), np.dtype(np.int32))
    assert (heads_of(scene).shape, heads_of(scene).dtype.name) == ((97, 131), "bool")
    assert (scene.points_xy.dtype.name, scene.instance_ids.dtype.name) == ("float64", "int32")


@pytest.mark.parametrize("recipe", [ROWS, GROUPS], ids=["rows", "groups"])
def test_the_same_chance_gives_the_same_scene(recipe: Recipe) -> None:
    one, same, other = (crowd(seed, recipe=recipe) for seed in (3, 3, 4))
    for name in ("image", "labels", "points_xy", "instance_ids", "heads"):
        assert np.array_equal(getattr(one, name), getattr(same, name)), name
    assert not np.array_equal(one.image, other.image)


def test_the_recipes_differ() -> None:
    """In where people stand, and in light: the same ground is lit by the second alone."""
    rows, groups = crowd(3), crowd(3, recipe=GROUPS)
    assert rows.points_xy.shape != groups.points_xy.shape
    bare = [replace(one, layout=nobody) for one in (ROWS, GROUPS)]
    plain, lit = (crowd(3, recipe=one).image for one in bare)
    assert (plain == 60).all()
    assert lit.std() > 1


def nobody(
    size_hw: tuple[int, int], near_px: float, rng: np.random.Generator
) -> list[compose.Place]:
    """A layout without anyone."""
    return []


def test_a_scene_without_anyone() -> None:
    scene = crowd(0, recipe=replace(ROWS, layout=nobody))
    assert scene.points_xy.shape == (0, 2)
    assert not scene.labels.any()
    assert not heads_of(scene).any()


@pytest.mark.parametrize("recipe", [ROWS, GROUPS], ids=["rows", "groups"])
def test_layouts_go_from_the_far_to_the_near(recipe: Recipe) -> None:
    """Heads lower in the picture are nearer: they are pasted later, and are larger."""
    places = np.array(recipe.layout((240, 320), 40.0, np.random.default_rng(0)))
    assert len(places) > 10
    y, size = places[:, 1], places[:, 2]
    assert np.corrcoef(np.arange(len(y)), y)[0, 1] > 0.9
    assert np.corrcoef(y, size)[0, 1] > 0.3
    assert (size > 0).all()


def test_heads_are_the_upper_parts_of_persons() -> None:
    """One person in the open: 13 of its 100 rows."""

    def one(
        size_hw: tuple[int, int], near_px: float, rng: np.random.Generator
    ) -> list[compose.Place]:
        return [(80.0, 20.0, 13.0)]

    scene = crowd(0, recipe=replace(ROWS, layout=one, distractors=0.0))
    rows = np.flatnonzero((scene.labels == 1).any(axis=1))
    tops = np.flatnonzero(heads_of(scene).any(axis=1))
    assert (rows[0], len(rows)) == (tops[0], 100)
    assert len(tops) == 13
    assert (heads_of(scene)[tops] == (scene.labels[tops] == 1)).all()
    assert abs(scene.points_xy[0] - (80, 20)).max() < 8


@pytest.mark.parametrize("recipe", [ROWS, GROUPS], ids=["rows", "groups"])
def test_heads_belong_to_persons(recipe: Recipe) -> None:
    scene = crowd(2, recipe=recipe)
    assert heads_of(scene).any()
    assert (scene.labels[heads_of(scene)] > 0).all()


def test_boards_are_no_persons() -> None:
    """They hide people, but nothing of them is anybody's: with boards alone nobody is there."""
    boards = replace(ROWS, distractors=1e9)
    for seed in range(20):
        scene = crowd(seed, recipe=boards)
        if scene.labels.any():
            continue  # half of the scenes have no boards
        assert not len(scene.points_xy)
        assert not heads_of(scene).any()
        assert (scene.image != 60).any(axis=2).mean() > 0.3
        return
    raise AssertionError("no scene has boards")


def test_a_board_hides_those_behind() -> None:
    """What is pasted as a board takes the pixels of a person and gives them to nobody."""
    labels = np.zeros((40, 40), dtype=np.int32)
    canvas = np.zeros((40, 40, 3), dtype=np.float32)
    solid, bright = np.ones((20, 10), np.float32), np.full((20, 10, 3), 9, np.float32)
    assert compose._paste(canvas, labels, None, bright, solid, (20, 10), 7) is not None
    assert (labels == 7).sum() == (canvas[..., 0] == 9).sum() == 200
    board = np.full((10, 10, 3), 5, np.float32)
    compose._paste(canvas, labels, None, board, np.ones((10, 10), np.float32), (20, 10), 0)
    assert (labels == 7).sum() == (canvas[..., 0] == 9).sum() == 100
    assert (canvas[labels == 7] == 9).all()


@pytest.mark.parametrize("recipe", [ROWS, GROUPS], ids=["rows", "groups"])
def test_dense_crowds_meet_their_conditions(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many, as close and as hidden as asked; those that are not are made again."""
    made: list[tuple[TruthScene, NDArray[np.float64]]] = []
    once = compose._compose

    def keep(*arguments: Any) -> tuple[TruthScene, NDArray[np.float64]]:
        made.append(once(*arguments))
        return made[-1]

    monkeypatch.setattr(compose, "_compose", keep)
    size_hw = (240, 320)
    scene = compose_dense_crowd("d", parts(), size_hw, np.random.default_rng(1), recipe, fewest=90)

    def meets(scene: TruthScene, visible: NDArray[np.float64]) -> bool:
        points = group_points(scene.points_xy, size_hw)
        return (
            len(scene.points_xy) >= 90
            and float(np.median(neighbour_distances(points))) <= 20
            and float(np.median(visible)) <= 0.6
        )

    assert [meets(*one) for one in made] == [False] * (len(made) - 1) + [True]
    assert scene is made[-1][0]
    # Shares of what can be seen, held to the label map: nobody is seen more than whole.
    visible = made[-1][1]
    assert len(visible) == len(scene.points_xy)
    assert (visible > 0).all()
    assert (visible <= 1).all()


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


def test_crowds_that_cant_be_dense_enough_end_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "ATTEMPTS", 2)
    with pytest.raises(UsageError, match="no crowd of 300 people in 2 attempts; give more"):
        compose_dense_crowd("c", parts(), (40, 50), np.random.default_rng(0), ROWS)
