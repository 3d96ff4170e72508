"""Native layouts, read back with plain SciPy, JSON and text."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from examples.layouts import WRITERS, write_dataset
from examples.scene import HIDDEN, Scene, render_scene

SIZE_HW = (90, 120)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[str, Scene]]:
    """Two crowds, one of them dense enough to hide heads, and an empty one last."""
    crowds = [render_scene(2, SIZE_HW, 50, "concert"), render_scene(1, SIZE_HW, 20, "plaza", "fog")]
    assert (crowds[0].occlusion == HIDDEN).any()
    nobody = render_scene(3, SIZE_HW, 0, "street", "sun")
    return [("train", crowds[0]), ("train", crowds[1]), ("test", nobody)]


@pytest.fixture(scope="module")
def written(scenes, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("layouts")
    for dataset in WRITERS:
        write_dataset(dataset, root / dataset, scenes)
    return root


def check_truth(root: Path, stem: str, scene: Scene) -> None:
    for folder, labels in (("truth", scene.labels), ("truth/heads", scene.head_labels)):
        with Image.open(root / folder / f"{stem}.png") as image:
            assert image.mode.startswith("I")
            assert np.array_equal(np.asarray(image), labels)


def check_image(path: Path, scene: Scene) -> None:
    pixels = np.asarray(Image.open(path).convert("RGB"), int)
    assert pixels.shape == scene.image.shape
    assert np.abs(pixels - scene.image).mean() < 6


@pytest.mark.parametrize("part", ["a", "b"])
def test_shanghaitech(written, scenes, part) -> None:
    root = written / f"shanghaitech-{part}"
    for number, (split, everyone) in enumerate(scenes, start=1):
        scene = everyone.seen()
        folder = root / f"part_{part.upper()}_final" / f"{split}_data"
        info = loadmat(folder / "ground-truth" / f"GT_IMG_{number}.mat")["image_info"][0, 0][0, 0]
        assert info["location"].shape == (len(scene), 2)
        assert np.array_equal(info["location"], scene.points_xy)
        assert info["number"].item() == len(scene)
        check_image(folder / "images" / f"IMG_{number}.jpg", scene)
        check_truth(root, f"IMG_{number}", scene)


def test_some_images_of_part_a_are_grey(tmp_path, scenes) -> None:
    write_dataset("shanghaitech-a", tmp_path, [scenes[1]] * 4)
    folder = tmp_path / "part_A_final" / "train_data" / "images"
    modes = []
    for number in (1, 2, 3, 4):
        with Image.open(folder / f"IMG_{number}.jpg") as image:
            modes.append(image.mode)
    assert modes == ["RGB", "RGB", "RGB", "L"]


def test_qnrf(written, scenes) -> None:
    root = written / "qnrf"
    for number, (split, everyone) in enumerate(scenes, start=1):
        scene, stem = everyone.seen(), f"img_{number:04d}"
        folder = root / "UCF-QNRF_ECCV18" / split.capitalize()
        points = loadmat(folder / f"{stem}_ann.mat")["annPoints"]
        assert points.shape == (len(scene), 2)
        assert np.array_equal(points, scene.points_xy)
        check_image(folder / f"{stem}.jpg", scene)
        check_truth(root, stem, scene)


def test_jhu_keeps_the_hidden_heads(written, scenes) -> None:
    root = written / "jhu"
    for number, (split, scene) in enumerate(scenes, start=1):
        stem, folder = f"{3 * number - 2:04d}", root / "jhu_crowd_v2.0" / split
        lines = (folder / "gt" / f"{stem}.txt").read_text().splitlines()
        rows = np.array([line.split(" ") for line in lines], dtype=int).reshape(-1, 6)
        assert len(rows) == len(scene)
        assert np.array_equal(rows[:, :2], np.rint(scene.points_xy))
        assert (rows[:, 2:4] > 0).all()
        assert np.array_equal(rows[:, 4], scene.occlusion)
        assert np.array_equal(rows[:, 5], scene.blurred)
        seen = rows[:, 4] != HIDDEN
        assert np.array_equal(scene.labels[rows[seen, 1], rows[seen, 0]], np.flatnonzero(seen) + 1)
        check_image(folder / "images" / f"{stem}.jpg", scene)
        check_truth(root, stem, scene)
    labels = (root / "jhu_crowd_v2.0" / "train" / "image_labels.txt").read_text().splitlines()
    assert labels == ["0001,50,concert,0,0", "0004,20,plaza,1,0"]
    labels = (root / "jhu_crowd_v2.0" / "test" / "image_labels.txt").read_text().splitlines()
    assert labels == ["0007,0,street,0,1"]


def test_nwpu(written, scenes) -> None:
    root = written / "nwpu"
    for number, (_, everyone) in enumerate(scenes[:2], start=1):
        scene, stem = everyone.seen(), f"{number:04d}"
        record = json.loads((root / "jsons" / f"{stem}.json").read_text())
        assert record["img_id"] == f"{stem}.jpg"
        assert record["human_num"] == len(scene)
        assert np.array_equal(record["points"], scene.points_xy)
        mat = loadmat(root / "mats" / f"{stem}.mat")
        assert np.array_equal(mat["annPoints"], scene.points_xy)
        assert np.array_equal(mat["annBoxes"], record["boxes"])
        assert np.array_equal(mat["annBoxes"], np.rint(scene.head_boxes_xyxy))
        check_image(root / "images" / f"{stem}.jpg", scene)
        check_truth(root, stem, scene)
    lines = [line.split(" ") for line in (root / "train.txt").read_text().splitlines()]
    assert [(line[0], line[2]) for line in lines] == [("0001", "1"), ("0002", "1")]


def test_nwpu_withholds_the_labels_of_test(written) -> None:
    root = written / "nwpu"
    assert (root / "test.txt").read_text() == "0003\n"
    assert (root / "images" / "0003.jpg").is_file()
    assert not (root / "jsons" / "0003.json").exists()
    assert not (root / "mats" / "0003.mat").exists()


def test_csv(written, scenes) -> None:
    root = written / "csv"
    with (root / "points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, (split, everyone) in enumerate(scenes, start=1):
        scene, name = everyone.seen(), f"images/scene_{number:04d}.jpg"
        own = [row for row in rows if row["image"] == name]
        points = np.array([[float(row["x"]), float(row["y"])] for row in own]).reshape(-1, 2)
        assert np.array_equal(points, scene.points_xy)
        assert {row["split"] for row in own} <= {split}
        check_image(root / name, scene)
        check_truth(root, f"scene_{number:04d}", scene)
    assert len({row["id"] for row in rows}) == len(rows)
