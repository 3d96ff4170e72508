"""What people judged in finished runs, as scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.sam.nano import FRAME_PX
from dpmo_cli.training import judged
from dpmo_cli.training.crops import sample_crop
from dpmo_cli.training.judged import JudgedScenes, digest, read_judged
from dpmo_cli.training.scenes import CORRECTIONS, UNJUDGED
from tests.training.judged_runs import (
    HELD_OUT,
    OTHERS,
    corrections_of,
    judged_run,
    points_of,
    truth_of,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged_run(tmp_path_factory.mktemp("run") / "out")


def test_the_scenes_hold_what_was_judged_and_all_points(run: Path) -> None:
    images = list(read_judged(run))
    assert [one.is_held_out for one in images] == [True, False, False, False]
    points = points_of()
    for number, image in zip((HELD_OUT, *OTHERS), images, strict=True):
        decided = {one.person.point_id for one in corrections_of(number, points[number])}
        assert image.masks.keys() == decided
        scene = image.scene(CORRECTIONS)
        assert scene.asked.tolist() == scene.chosen.tolist() == sorted(decided)
        # Neighbours whom nobody judged still limit the discs.
        np.testing.assert_allclose(scene.scene.points_xy, points[number])
        truth = truth_of(number)
        chosen = np.isin(truth, [at + 1 for at in decided])
        np.testing.assert_array_equal(scene.scene.labels, np.where(chosen, truth, 0))
        assert scene.scene.image.shape == (*truth.shape, 3)


def test_crops_are_made_for_who_was_judged_and_others_come_along(run: Path) -> None:
    """Those against whom nothing speaks: every third row of the samples has no reason to look."""
    image = next(read_judged(run))
    assert image.others
    assert not image.others.keys() & image.masks.keys()
    assert {at % 3 for at in image.others} == {0}
    both, judged, others = (image.scene(name) for name in (None, CORRECTIONS, UNJUDGED))
    assert both.chosen.tolist() == judged.asked.tolist() == sorted(image.masks)
    assert others.chosen.tolist() == others.asked.tolist() == sorted(image.others)
    assert both.asked.tolist() == sorted({*image.masks, *image.others})
    for scene in (both, judged, others):
        for seed in range(5):
            crop = sample_crop(scene, FRAME_PX, 8, np.random.default_rng(seed), augment=False)
            assert crop.visible.reshape(8, -1).any(axis=1).all()


@pytest.mark.parametrize(
    ("extent", "known"),
    [
        ("nnec", (True, False, False)),
        ("head", (False, True, False)),
        ("visible", (True, False, True)),
    ],
)
def test_masks_teach_their_own_extent(
    extent: str, known: tuple[bool, bool, bool], tmp_path: Path
) -> None:
    (image,) = read_judged(judged_run(tmp_path / "out", [HELD_OUT], extent))
    scene = image.scene()
    crop = sample_crop(scene, FRAME_PX, 2, np.random.default_rng(0), augment=False)
    assert crop.known == known
    assert crop.head.any() == (extent == "head")


def test_images_that_nobody_looked_at_have_nothing_to_learn(tmp_path: Path) -> None:
    found = list(read_judged(judged_run(tmp_path / "out", [HELD_OUT, 2], untouched=[2])))
    assert [bool(one.masks) for one in found] == [True, False]
    assert len(found[1].points_xy) == 0
    assert digest(found) == digest(found[:1])


def test_a_few_scenes_are_held(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "HELD", 2)
    scenes = JudgedScenes(list(read_judged(run)))
    assert len(scenes) == 4
    first = scenes[0]
    assert scenes[1] is scenes[1]
    assert scenes[0] is first
    scenes[2]
    assert scenes[0] is first
    assert scenes[1] is not scenes[3]
    assert scenes[0] is not first


def test_the_digest_is_of_what_is_learnt(run: Path, tmp_path: Path) -> None:
    images = list(read_judged(run))
    again = list(read_judged(judged_run(tmp_path / "elsewhere")))
    assert digest(images) == digest(again)
    assert digest(images) != digest(images[1:])


def test_a_photo_that_is_gone_is_told_before_the_training(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scene_0001\.jpg"):
        list(read_judged(run, tmp_path))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("no run", "holds no finished run"),
        ("extent", "is no run record of this dpmo"),
        ("a mask", "can't be read"),
    ],
)
def test_damaged_runs(damage: str, says: str, tmp_path: Path) -> None:
    out = judged_run(tmp_path / "out", [HELD_OUT])
    path = out / ("annotations/train.json" if damage == "a mask" else "run.json")
    if damage == "no run":
        path.unlink()
    else:
        document = json.loads(path.read_text(encoding="utf-8"))
        if damage == "extent":
            document["extent"] = "shadow"
        else:
            document["annotations"][0]["segmentation"]["counts"] = "~"
        path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises((UsageError, InputError), match=says):
        list(read_judged(out))
