"""States of a drawn scene: who is meant, what is true, and what each candidate earns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dpmo_cli.evaluation.truth import TruthScene, discs_at_points
from dpmo_cli.masks.method import Method
from dpmo_cli.rps.candidates import COUNT
from dpmo_cli.sam.engine import Encoded
from dpmo_cli.training.states import (
    COVERS_OTHER,
    FALSE_KEPT,
    States,
    join_states,
    match_persons,
    states_of,
    true_labels,
)
from tests.masks.fakes import DiscEngine, FakeEngine, NothingEngine
from tests.training.worlds import block_scene

Points = Sequence[tuple[float, float]]

SIZE_HW = (64, 64)
BOXES = [(10, 10, 21, 31), (40, 20, 51, 41)]
"""Two persons, whose points are (15, 20) and (45, 30): 31.6 px apart."""
RADIUS = float(np.hypot(30, 10))


def array(points: Points) -> NDArray[np.float64]:
    return np.array(points, dtype=np.float64).reshape(-1, 2)


@pytest.fixture
def scene() -> TruthScene:
    return block_scene(SIZE_HW, BOXES, heads=True)


class BoxEngine(FakeEngine):
    """Answers every prompt in a 64 x 64 image with the same boxes of it, as one mask."""

    frame_px = 64
    boxes: Sequence[tuple[int, int, int, int]] = ()

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        logits = np.full((3, 64, 64), -9.0)
        for x0, y0, x1, y1 in self.boxes:
            logits[:, y0:y1, x0:x1] = 9.0
        return logits


def boxes_engine(*boxes: tuple[int, int, int, int]) -> BoxEngine:
    engine = BoxEngine()
    engine.boxes = boxes
    return engine


PLAIN = Method(extent="visible", tiles=False)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param([(15, 20), (45, 30)], [0, 1], id="at the points"),
        pytest.param([(45, 30), (15, 20)], [1, 0], id="in another order"),
        pytest.param([(17, 22), (44, 28)], [0, 1], id="nearby"),
        pytest.param([(15, 20), (16, 20)], [0, 1], id="as many pairs as can be had"),
        pytest.param([(15, 20), (15, -13)], [0, -1], id="only one in reach"),
        pytest.param([(15, 51.7)], [-1], id="out of reach of both"),
        pytest.param([(15, 51.6)], [0], id="just in reach of one"),
        pytest.param([(14, 20), (15, 20), (16, 20)], [-1, 0, 1], id="more points than persons"),
        pytest.param([(29, 25), (46, 30)], [0, 1], id="the nearest together"),
        pytest.param([], [], id="no points"),
    ],
)
def test_who_is_meant(points: Points, expected: list[int], scene: TruthScene) -> None:
    found = match_persons(array(points), scene)
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_nobody_is_there() -> None:
    scene = block_scene(SIZE_HW, [])
    assert match_persons(array([(3, 3), (9, 9)]), scene).tolist() == [-1, -1]
    assert not true_labels(scene, "nnec").any()


def test_pairs_are_one_to_one() -> None:
    rng = np.random.default_rng(0)
    boxes = [(x, y, x + 5, y + 9) for x in range(0, 60, 12) for y in range(0, 60, 15)]
    scene = block_scene(SIZE_HW, boxes)
    points = rng.uniform(0, 64, (30, 2))
    found = match_persons(points, scene)
    paired = found[found >= 0]
    assert len(set(paired.tolist())) == len(paired) > 10
    sites, radii = discs_at_points(scene)
    away = np.hypot(*(points[found >= 0] - scene.points_xy[paired]).T)
    assert (away <= radii[sites.site_of_point[paired]]).all()


def test_the_truth_of_each_extent() -> None:
    """Two persons as tall as the image, 12 px apart: their discs hold the middle parts."""
    scene = block_scene((64, 40), [(8, 0, 19, 63), (20, 0, 31, 63)], heads=True)
    assert scene.points_xy.tolist() == [[13, 31], [25, 31]]
    whole = true_labels(scene, "visible")
    np.testing.assert_array_equal(whole, scene.labels)
    y, x = np.mgrid[:64, :40]
    disc = np.stack([np.hypot(x - px, y - 31) <= 12 for px in (13, 25)])
    cut = true_labels(scene, "nnec")
    for person in (1, 2):
        np.testing.assert_array_equal(cut == person, (whole == person) & disc[person - 1])
    head = true_labels(scene, "head")
    assert scene.heads is not None
    np.testing.assert_array_equal(head, np.where(scene.heads, cut, 0))
    assert 0 < (head > 0).sum() < (cut > 0).sum() < (whole > 0).sum()
    nobody_knows = replace(scene, heads=None)
    np.testing.assert_array_equal(true_labels(nobody_knows, "head"), cut)


def test_labels_count_from_the_points() -> None:
    """Instances may bear any numbers; those without a point are nobody's truth."""
    scene = block_scene(SIZE_HW, BOXES)
    labels = np.where(scene.labels == 1, 7, np.where(scene.labels == 2, 3, 0)).astype(np.int32)
    labels[60:, 60:] = 5
    other = replace(scene, labels=labels, instance_ids=np.array([7, 3], dtype=np.int32))
    np.testing.assert_array_equal(true_labels(other, "visible"), scene.labels)


A, B = BOXES
PART = (10, 10, 21, 25)
AREA_A = 11 * 21


@pytest.mark.parametrize(
    ("engine", "point", "iou", "reward"),
    [
        pytest.param(boxes_engine(A), (15, 20), 1.0, 1.0, id="the person"),
        pytest.param(boxes_engine(PART), (15, 20), 15 / 21, 15 / 21, id="a part of the person"),
        pytest.param(
            boxes_engine((10, 10, 21, 52)), (15, 20), 0.5, 0.5, id="twice as much as the person"
        ),
        pytest.param(
            boxes_engine((10, 10, 51, 41)),
            (15, 20),
            AREA_A / (41 * 31),
            AREA_A / (41 * 31) - COVERS_OTHER,
            id="covers the other's point",
        ),
        pytest.param(
            boxes_engine(A, (42, 28, 48, 33)), (15, 20), 1.0, 1.0, id="only what is connected"
        ),
        pytest.param(boxes_engine(B), (15, 20), 0.0, 0.0, id="the other person: not its point"),
        pytest.param(NothingEngine(), (15, 20), 0.0, 0.0, id="no mask"),
        pytest.param(boxes_engine(A), (5, 60), 0.0, -FALSE_KEPT, id="for nobody"),
        pytest.param(NothingEngine(), (5, 60), 0.0, -FALSE_KEPT, id="for nobody, no mask"),
    ],
)
def test_rewards_by_hand(
    engine: FakeEngine, point: tuple[float, float], iou: float, reward: float, scene: TruthScene
) -> None:
    # A second located point, far off, keeps the disc small: candidates stay in their person.
    points = array([point, (point[0], point[1] + 3)])
    states, candidates = states_of(scene, points, engine, PLAIN)
    assert len(states) == len(candidates.sites) == 2
    np.testing.assert_allclose(states.ious[0], iou, atol=1e-6)
    np.testing.assert_allclose(states.rewards[0], reward, atol=1e-6)
    assert states.meant[0] == (reward != -FALSE_KEPT)
    for name in ("features", "embedding", "scores"):
        assert getattr(states, name) is getattr(candidates, name)


def test_masks_are_cut_by_the_disc_of_the_candidate(scene: TruthScene) -> None:
    """Everything is mask: what is left is the disc, moved along with the candidate."""
    points = array([(15, 20), (15, 26)])
    everything = boxes_engine((0, 0, 64, 64))
    method = Method(extent="nnec", tiles=False)
    states, candidates = states_of(scene, points, everything, method)
    assert candidates.discs.radii_px.tolist() == [6, 6]
    truth = true_labels(scene, "nnec") == 1
    y, x = np.mgrid[:64, :64]
    for index, (px, py) in enumerate(candidates.positions_xy[0]):
        disc = np.hypot(x - px, y - py) <= 6
        expected = (disc & truth).sum() / (disc | truth).sum()
        assert states.ious[0, index] == pytest.approx(expected, abs=1e-6)
    assert states.ious[0].std() > 0


@pytest.mark.parametrize(
    ("size_hw", "point"),
    [
        pytest.param((62, 62), (61.5, 30.0), id="right"),
        pytest.param((62, 62), (30.0, 61.5), id="below"),
        pytest.param((62, 62), (61.9, 61.9), id="corner"),
    ],
)
def test_points_of_the_last_half_pixel(
    size_hw: tuple[int, int], point: tuple[float, float]
) -> None:
    """They hold the last pixel, as in a run."""
    x, y = (int(min(61, value)) for value in point)
    scene = block_scene(size_hw, [(x - 12, y - 12, min(x + 13, 62), min(y + 13, 62))])
    labels_all = boxes_engine((0, 0, 64, 64))
    states, _ = states_of(scene, array([point]), labels_all, PLAIN)
    assert states.meant.all()
    assert states.ious[0, 0] > 0
    assert states.ious[0, 0] == pytest.approx((scene.labels > 0).mean())


def test_true_points_round_as_in_a_run(scene: TruthScene) -> None:
    """The pixel that another person's point holds counts, not a place between pixels."""
    moved = replace(scene, points_xy=array([(15, 20), (45.4, 29.6)]))
    covers = boxes_engine((10, 10, 46, 31))
    states, _ = states_of(moved, array([(15, 20)]), covers, PLAIN)
    np.testing.assert_allclose(states.ious[0, 0] - states.rewards[0, 0], COVERS_OTHER, atol=1e-6)
    beside = boxes_engine((10, 10, 45, 31))
    states, _ = states_of(moved, array([(15, 20)]), beside, PLAIN)
    np.testing.assert_allclose(states.ious[0, 0], states.rewards[0, 0], atol=1e-6)


@pytest.mark.parametrize("extent", ["nnec", "head", "visible"])
def test_tiles_of_a_larger_scene(extent: str) -> None:
    boxes = [(x, y, x + 9, y + 15) for x in (10, 22, 100, 112) for y in (10, 80)]
    scene = block_scene((120, 160), boxes, heads=True)
    rng = np.random.default_rng(0)
    points = scene.points_xy + rng.normal(0, 1, scene.points_xy.shape)
    engine = DiscEngine(chunk=64)
    states, _ = states_of(scene, points, engine, Method(extent=extent))
    assert len(engine.crops) > 1
    assert states.meant.all()
    assert ((states.ious >= 0) & (states.ious <= 1)).all()
    assert (states.ious.max(axis=1) > 0).all()
    losses = states.ious - states.rewards
    assert (np.isclose(losses, 0) | np.isclose(losses, COVERS_OTHER)).all()


def test_nobody_located(scene: TruthScene) -> None:
    states, candidates = states_of(scene, np.zeros((0, 2)), DiscEngine(), PLAIN)
    assert len(states) == len(candidates.sites) == 0
    assert states.rewards.shape == (0, COUNT)


def test_joined(scene: TruthScene) -> None:
    """Also with scenes where nobody was located, whose embedding nobody knows."""
    one, _ = states_of(scene, array([(15, 20), (5, 60)]), DiscEngine(), PLAIN)
    nobody, _ = states_of(scene, np.zeros((0, 2)), DiscEngine(), PLAIN)
    other, _ = states_of(scene, array([(45, 30)]), DiscEngine(), PLAIN)
    joined = join_states([one, nobody, other])
    assert len(joined) == 3
    for field in fields(States):
        expected = np.concatenate([getattr(one, field.name), getattr(other, field.name)])
        np.testing.assert_array_equal(getattr(joined, field.name), expected)
    assert joined.meant.tolist() == [False, True, True]
