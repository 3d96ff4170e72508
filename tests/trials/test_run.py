"""Running variants: what is found beside what is true, and the parts by distance."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpmo_cli.evaluation.summary import DISTANCE_EDGES_PX
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.geometry.rle import Rle
from dpmo_cli.trials.run import Result, image_masks, run_variants
from dpmo_cli.trials.variants import CUT, HEADS, UNCUT, PointMasks, Variant
from tests.evaluation.crowds import box, rle_of
from tests.trials.scenes import frame, small_scene

SIZE = (40, 60)


def true_masks(scene: TruthScene) -> PointMasks:
    masks: list[Rle | None] = [rle_of(scene.labels == index) for index in scene.instance_ids]
    return PointMasks(masks, np.ones(len(masks)))


def half_masks(scene: TruthScene) -> PointMasks:
    """The upper half of each; nothing for every third point."""
    masks: list[Rle | None] = []
    for number, index in enumerate(scene.instance_ids):
        mask = scene.labels == index
        rows = np.flatnonzero(mask.any(axis=1))
        mask[rows[len(rows) // 2] + 1 :] = False
        masks.append(rle_of(mask) if number % 3 else None)
    scores = np.array([np.nan if mask is None else 0.5 for mask in masks])
    return PointMasks(masks, scores)


def no_masks(scene: TruthScene) -> PointMasks:
    count = len(scene.points_xy)
    return PointMasks([None] * count, np.full(count, np.nan))


def scattered(seed: int, count: int, size_hw: tuple[int, int] = SIZE) -> TruthScene:
    """Squares of chance with a point in each; any two points are on different pixels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size_hw, dtype=np.int32)
    columns, rows = rng.integers(0, (size_hw[1], size_hw[0]), (count, 2)).T
    pixels = sorted(set(zip(columns.tolist(), rows.tolist(), strict=True)))
    for number, (x, y) in enumerate(pixels, start=1):
        labels[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = number
    for number, (x, y) in enumerate(pixels, start=1):
        labels[y, x] = number
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    ids = np.arange(1, len(pixels) + 1, dtype=np.int32)
    points = np.array(pixels, dtype=np.float64).reshape(-1, 2)
    return TruthScene(f"scattered/{seed}", image, labels, ids, points)


# What is found beside what is true


def oddly_numbered(heads: np.ndarray | None = None) -> TruthScene:
    """Three instances; the points come in another order than their numbers, one has none."""
    labels = np.zeros(SIZE, dtype=np.int32)
    labels[2:12, 2:12], labels[20:30, 2:12], labels[2:12, 30:40] = 9, 4, 2
    points = np.array([[6.0, 6.0], [35.0, 6.0]])
    ids = np.array([9, 2], dtype=np.int32)
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    return TruthScene("odd", image, labels, ids, points, heads)


def test_truths_are_those_of_the_points() -> None:
    scene = oddly_numbered()
    found = no_masks(scene)
    masks = image_masks(scene, found, heads=False)
    assert (masks.name, masks.size_hw) == ("odd", SIZE)
    assert masks.predicted is found.masks
    assert masks.scores is found.scores
    # Nobody asked for the instance without a point.
    assert len(masks.truth) == 2
    for index, number in zip(masks.true_of_point.tolist(), (9, 2), strict=True):
        assert (frame(masks.truth[index]) == (scene.labels == number)).all()


@pytest.mark.parametrize(
    ("head_box", "expected"),
    [
        pytest.param((0, 0, 60, 5), [0, 1], id="both"),
        pytest.param((20, 0, 60, 5), [-1, 0], id="the first is hidden"),
        pytest.param((0, 0, 20, 5), [0, -1], id="the last is hidden"),
        pytest.param((0, 35, 60, 40), [-1, -1], id="none to be seen"),
    ],
)
def test_heads(head_box: tuple[int, int, int, int], expected: list[int]) -> None:
    heads = box(SIZE, *head_box)
    scene = oddly_numbered(heads)
    masks = image_masks(scene, no_masks(scene), heads=True)
    assert masks.true_of_point.tolist() == expected
    assert len(masks.truth) == max(expected) + 1
    for index, number in zip(expected, (9, 2), strict=True):
        if index >= 0:
            assert (frame(masks.truth[index]) == ((scene.labels == number) & heads)).all()
    # Where persons are asked for, heads don't matter.
    assert image_masks(scene, no_masks(scene), heads=False).true_of_point.tolist() == [0, 1]


# Runs


def test_results_by_hand() -> None:
    scene = small_scene()
    seen: list[Result] = []
    variants = [Variant("g", "true", true_masks, UNCUT), Variant("g", "none", no_masks)]
    sets = {"one": [scene], "two": [scene, replace(scene, name="other")]}
    results = run_variants(sets, variants, samples=20, done=seen.append)
    assert [(r.truth_set, r.variant.name) for r in results] == [
        ("one", "true"),
        ("one", "none"),
        ("two", "true"),
        ("two", "none"),
    ]
    assert seen == results
    for result in results:
        right = float(result.variant.name == "true")
        assert result.summary.uncut.figures.iou_per_point.value == right
        assert result.summary.uncut.figures.pq.value == right
        assert result.figures.iou_per_point.value == right
        assert result.summary.images == len(sets[result.truth_set])
        assert result.summary.points_with_truth == 4 * result.summary.images
        assert result.seconds_per_point > 0
    # The discs cut off what the true masks have and the cut truth has not.
    assert results[0].summary.cut.figures.iou_per_point.value < 1
    assert [result.summary.samples for result in results] == [0, 0, 20, 20]


def test_heads_are_measured_where_they_are_known() -> None:
    with_heads, without = small_scene(1), small_scene(2, heads=False)
    variants = [Variant("g", "p", half_masks), Variant("g", "h", half_masks, HEADS)]
    sets = {"none": [without], "some": [without, with_heads], "empty": []}
    results = run_variants(sets, variants, samples=0)
    found = [(one.truth_set, one.variant.name, one.summary.images) for one in results]
    assert found == [("none", "p", 1), ("some", "p", 2), ("some", "h", 1)]
    # The upper half of each block is its head; the first and the last have no mask.
    figures = results[-1].summary.uncut.figures
    assert 0.4 < figures.iou_per_point.value <= 0.5
    assert figures.recall.value == 0.5


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
def test_workers_find_the_same() -> None:
    sets = {"a": [scattered(1, 9), scattered(2, 9)], "b": [scattered(3, 9)]}
    attempts = {"true": true_masks, "halves": half_masks, "none": no_masks}
    variants = [Variant("g", name, attempt) for name, attempt in attempts.items()]
    seen: list[Result] = []
    together = run_variants(sets, variants, samples=9, workers=2, done=seen.append)
    alone = run_variants(sets, variants, samples=9)
    assert seen == together
    assert len(alone) == 6
    for one, other in zip(together, alone, strict=True):
        assert (one.truth_set, one.variant) == (other.truth_set, other.variant)
        assert one.summary.as_json() == other.summary.as_json()
        assert one.seconds_per_point > 0


def test_lone_points_are_far_from_others() -> None:
    lone = small_scene(boxes=((30, 20, 50, 44),))
    (found,) = run_variants({"a": [lone]}, [Variant("g", "true", true_masks)], samples=0)
    assert [None if one is None else one.points_with_truth for one in found.by_distance] == [
        *[None] * 4,
        1,
    ]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 25)), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_the_parts_by_distance_pool_to_the_whole(crowds: list[tuple[int, int]]) -> None:
    scenes = [scattered(seed, count) for seed, count in crowds]
    (found,) = run_variants({"a": scenes}, [Variant("g", "halves", half_masks, CUT)], samples=0)
    parts = [part for part in found.by_distance if part is not None]
    whole = found.summary
    for name in ("points_with_truth", "points_without_mask", "instances", "detections"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name), name
    assert whole.points_with_truth == sum(len(scene.points_xy) for scene in scenes)
    for version in ("cut", "uncut"):
        for figure in ("iou_per_point", "boundary_f"):
            total = sum(
                part.points_with_truth * getattr(getattr(part, version).figures, figure).value
                for part in parts
            )
            expected = getattr(getattr(whole, version).figures, figure).value
            assert total / whole.points_with_truth == pytest.approx(expected)
        # The summary bins the points themselves.
        bins = [one.points for one in getattr(whole, version).by_distance]
        counts = [0 if one is None else one.points_with_truth for one in found.by_distance]
        assert counts == bins


def test_distances_by_hand() -> None:
    """Pairs whose points are 8, 16 and 15 px apart: a part holds its lower edge."""
    labels = np.zeros((200, 300), dtype=np.int32)
    points = [(20, 20), (28, 20), (120, 20), (136, 20), (20, 150), (35, 150)]
    for number, (x, y) in enumerate(points, start=1):
        labels[y - 2 : y + 3, x - 2 : x + 3] = number
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    ids = np.arange(1, 7, dtype=np.int32)
    scene = TruthScene("pairs", image, labels, ids, np.array(points, dtype=np.float64))
    (found,) = run_variants({"a": [scene]}, [Variant("g", "true", true_masks)], samples=0)
    assert list(DISTANCE_EDGES_PX) == [0, 8, 16, 32, 64, np.inf]
    counts = [None if one is None else one.points_with_truth for one in found.by_distance]
    assert counts == [None, 4, 2, None, None]
