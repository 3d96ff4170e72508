"""The truth of rendered scenes: exact, consistent, the same for the same seed."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from examples.backdrop import PLACES, draw_backdrop
from examples.camera import Camera
from examples.crowd import WEATHERS, NoRoomError, place_people, random_place, random_setting
from examples.people import draw_person
from examples.scene import (
    CLEAR_SHARE,
    DEFAULT_PEOPLE,
    HIDDEN,
    PARTLY,
    SEEN_PX,
    VISIBLE,
    Scene,
    is_head,
    paint_crowd,
    render_scene,
)

SIZE_HW = (180, 240)


@pytest.fixture(scope="module", params=PLACES)
def scene(request) -> Scene:
    return render_scene(3, SIZE_HW, 50, request.param)


def same(a: Scene, b: Scene) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Scene))


def test_the_same_arguments_give_the_same_scene(scene) -> None:
    assert same(scene, render_scene(3, SIZE_HW, 50, scene.place))


def test_another_seed_gives_another_scene(scene) -> None:
    other = render_scene(4, SIZE_HW, 50, scene.place)
    assert (scene.image != other.image).mean() > 0.3
    assert not np.array_equal(scene.labels, other.labels)


def test_shapes_and_types(scene) -> None:
    assert scene.image.shape == (*SIZE_HW, 3)
    assert scene.image.dtype == np.uint8
    assert scene.labels.shape == scene.head_labels.shape == SIZE_HW
    assert scene.labels.dtype == scene.head_labels.dtype == np.int32
    assert scene.points_xy.shape == (50, 2)
    assert scene.points_xy.dtype == scene.head_boxes_xyxy.dtype == np.float64
    assert scene.occlusion.dtype == np.int8


def test_every_asked_head_is_there_and_some_are_hidden_by_others(scene) -> None:
    assert len(scene) == 50
    assert set(np.unique(scene.occlusion)) <= {VISIBLE, PARTLY, HIDDEN}
    assert 25 < len(scene.seen()) <= 50


def test_every_visible_point_is_on_a_pixel_of_its_own_head(scene) -> None:
    seen = scene.occlusion != HIDDEN
    columns, rows = np.rint(scene.points_xy[seen]).astype(int).T
    own = np.flatnonzero(seen) + 1
    assert np.array_equal(scene.labels[rows, columns], own)
    assert np.array_equal(scene.head_labels[rows, columns], own)


def test_heads_are_parts_of_persons(scene) -> None:
    heads = scene.head_labels > 0
    assert np.array_equal(scene.head_labels[heads], scene.labels[heads])
    assert scene.labels.max() <= len(scene)


def test_boxes_hold_the_visible_heads_and_the_points(scene) -> None:
    for label in np.unique(scene.head_labels[scene.head_labels > 0]):
        rows, columns = np.nonzero(scene.head_labels == label)
        x0, y0, x1, y1 = scene.head_boxes_xyxy[label - 1]
        assert x0 <= columns.min()
        assert columns.max() < x1
        assert y0 <= rows.min()
        assert rows.max() < y1
    seen = scene.occlusion != HIDDEN
    points, boxes = scene.points_xy[seen], scene.head_boxes_xyxy[seen]
    assert (points >= boxes[:, :2] - 0.5).all()
    assert (points < boxes[:, 2:]).all()


def test_all_points_and_boxes_are_in_the_image(scene) -> None:
    limits = np.array(SIZE_HW[::-1])
    assert (scene.points_xy >= -0.5).all()
    assert (np.rint(scene.points_xy) < limits).all()
    assert (scene.head_boxes_xyxy >= 0).all()
    assert (scene.head_boxes_xyxy <= np.tile(limits, 2)).all()
    assert (np.diff(scene.head_boxes_xyxy.reshape(-1, 2, 2), axis=1) > 0).all()


def test_seen_renumbers_and_drops_the_hidden(scene) -> None:
    seen = scene.seen()
    kept = np.flatnonzero(scene.occlusion != HIDDEN)
    assert not (seen.occlusion == HIDDEN).any()
    assert np.array_equal(seen.points_xy, scene.points_xy[kept])
    for new, old in enumerate(kept):
        assert np.array_equal(seen.labels == new + 1, scene.labels == old + 1)
    assert same(seen, seen.seen())


@pytest.mark.parametrize("place", PLACES)
def test_labels_are_those_of_a_plain_painter(place) -> None:
    """Everybody drawn whole and alone, pasted from the back; the renderer takes short cuts."""
    setting = random_setting(8, SIZE_HW, 30, place)
    persons = place_people(setting, 30, 8)
    painting, heads = paint_crowd(setting, persons, 8)
    distance = setting.camera.project(np.array([p.head_m for p in persons]))[:, 2]
    labels, head_labels = np.zeros(SIZE_HW, int), np.zeros(SIZE_HW, int)
    whole = np.zeros(30)
    for i in np.argsort(-distance, kind="stable"):
        sprite = draw_person(persons[i], setting.camera, setting.light)
        assert sprite is not None
        x, y = sprite.origin_xy
        rows, columns = np.nonzero(sprite.coverage >= 0.5)
        labels[rows + y, columns + x] = i + 1
        head_labels[rows + y, columns + x] = np.where(is_head(sprite)[rows, columns], i + 1, 0)
        whole[i] = is_head(sprite).sum()
    assert np.array_equal(painting.labels, labels)
    assert np.array_equal(painting.head_labels, head_labels)
    seen = np.bincount(head_labels.ravel(), minlength=31)[1:]
    assert np.array_equal(
        heads["occlusion"] == VISIBLE, (seen >= CLEAR_SHARE * whole) & (seen >= SEEN_PX)
    )


@pytest.mark.parametrize("place", PLACES)
def test_heads_shrink_with_the_distance(place) -> None:
    setting = random_setting(2, (240, 320), 60, place)
    persons = place_people(setting, 60, 2)
    _, heads = paint_crowd(setting, persons, 2)
    distance = setting.camera.project(np.array([p.head_m for p in persons]))[:, 2]
    heights = np.diff(heads["head_boxes_xyxy"][:, 1::2], axis=1)[:, 0]
    order = np.argsort(distance)
    assert np.mean(heights[order[:20]]) > 1.1 * np.mean(heights[order[-20:]])


@pytest.mark.parametrize("weather", WEATHERS)
def test_every_weather_can_be_rendered(weather) -> None:
    scene = render_scene(1, (90, 120), 12, "plaza", weather)
    assert scene.weather == weather
    assert 15 < scene.image.mean() < 240
    assert scene.image.std() > 8


@pytest.mark.parametrize("people", [0, 1], ids=["nobody", "one person"])
def test_few_people(people) -> None:
    scene = render_scene(1, SIZE_HW, people, "street")
    assert len(scene) == len(scene.seen()) == people
    assert set(np.unique(scene.labels)) == set(range(people + 1))


def test_a_place_that_is_not_given_is_left_to_chance() -> None:
    assert {random_place(seed) for seed in range(40)} == set(PLACES)
    assert render_scene(5, (48, 64), 3).place == random_place(5)


def test_people_that_are_not_given_suit_the_place() -> None:
    assert len(render_scene(1, (60, 80), place="plaza")) == DEFAULT_PEOPLE["plaza"]


def test_no_room_is_an_error() -> None:
    setting = random_setting(1, SIZE_HW, 5, "plaza")
    skyward = Camera(SIZE_HW, setting.camera.height_m, -1.4, setting.camera.focal_px)
    with pytest.raises(NoRoomError, match="no room for 5 people"):
        place_people(type(setting)(setting.site, skyward, setting.light, "sun"), 5, 1)


@pytest.mark.parametrize("place", PLACES)
def test_the_backdrop_is_whole(place) -> None:
    setting = random_setting(5, SIZE_HW, 50, place)
    light, distance = draw_backdrop(setting.site, setting.camera, setting.light, False)
    assert np.isfinite(light).all()
    assert (light >= 0).all()
    assert (distance > 0).all()
    assert np.isfinite(distance[-1]).all()
