from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools import mask as coco_mask

from dpmo_cli.outputs.exports.yolo import data_yaml
from dpmo_cli.outputs.records import ImageRecord
from tests.outputs.exports.runs import draw_photos, export, odd_records, read_back
from tests.outputs.samples import make_info, make_record, make_rows, sample_records

RUNS = pytest.mark.parametrize("records", [sample_records(), odd_records()], ids=["samples", "odd"])


def numbers_of(path: Path) -> list[list[float]]:
    """The lines of a text without their class, which is 0."""
    lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    assert {line[0] for line in lines} <= {"0"}
    return [[float(number) for number in line[1:]] for line in lines]


@RUNS
def test_polygons_give_back_the_masks(tmp_path: Path, records: list[ImageRecord]) -> None:
    to, _ = export(tmp_path, records, "yolo-seg")
    seen = 0
    for found in read_back(tmp_path, "train"):
        height, width = found.image.size_hw
        name = found.image.file_name.replace("/", "__").removesuffix(".jpg")
        lines = numbers_of(to / "labels" / "train" / f"{name}.txt")
        for one, line in zip(found.instances(), lines, strict=True):
            ring = np.array(line).reshape(-1, 2)
            # Ultralytics takes no polygon of fewer corners, nor one that leaves the image.
            assert len(ring) >= 3
            assert 0 <= ring.min() <= ring.max() <= 1
            corners = ring * [width, height]
            assert np.abs(corners - corners.round()).max() < 1e-3
            filled = coco_mask.frPyObjects([corners.round().reshape(-1).tolist()], height, width)
            assert filled[0]["counts"].decode() == one.fields["segmentation"]["counts"]
            seen += 1
    assert seen >= 4


@RUNS
def test_boxes_are_tight(tmp_path: Path, records: list[ImageRecord]) -> None:
    to, _ = export(tmp_path, records, "boxes")
    for found in read_back(tmp_path, "train"):
        height, width = found.image.size_hw
        name = found.image.file_name.replace("/", "__").removesuffix(".jpg")
        lines = numbers_of(to / "labels" / "train" / f"{name}.txt")
        boxes = [one["bbox"] for one in found.annotations.values()]
        centres = np.array(lines).reshape(-1, 4) * [width, height, width, height]
        centres[:, :2] -= centres[:, 2:] / 2
        assert centres == pytest.approx(np.array(boxes).reshape(-1, 4), abs=1e-3)


def test_nobody_is_an_empty_file(tmp_path: Path) -> None:
    to, _ = export(tmp_path, odd_records(), "yolo-seg")
    assert (to / "labels/train/3.txt").read_bytes() == b""


@pytest.mark.parametrize("how", ["link", "copy"])
def test_photos_lie_where_ultralytics_looks(tmp_path: Path, how: str) -> None:
    records = [one for one in sample_records() if one.error is None]
    draw_photos(tmp_path / "data", records)
    to, _ = export(tmp_path, records, "yolo-seg", images=how)
    photos = sorted(path for path in (to / "images").rglob("*") if not path.is_dir())
    assert len(photos) == 4
    for photo in photos:
        # As its img2label_paths does.
        labels = "/labels/".join(str(photo).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
        assert Path(labels).is_file()
        assert photo.is_symlink() is (how == "link")
        name = photo.name.replace("images__", "images/")
        assert photo.read_bytes() == (tmp_path / "data" / name).read_bytes()


def test_equal_stems_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "x/images/a.jpg"]
    infos = [make_info(number, "train", name) for number, name in enumerate(names)]
    records = [
        make_record(info, make_rows(info, [(5, 5), (30, 30)][: info.image_id])) for info in infos
    ]
    to, _ = export(tmp_path, records, "yolo-seg")
    lines = {path.name: len(numbers_of(path)) for path in (to / "labels/train").iterdir()}
    assert lines == {"a_jpg.txt": 0, "a_png.txt": 1, "x__images__a.txt": 2}


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        pytest.param(
            ["train", "val", "test"], ["images/train", "images/val", "images/test"], id="all"
        ),
        pytest.param(
            ["test", "train"], ["images/train", "images/test", "images/test"], id="no val"
        ),
        pytest.param(["train"], ["images/train", "images/train"], id="train"),
        pytest.param(["predictions"], ["images/predictions", "images/predictions"], id="photos"),
        pytest.param(["a: #b"], ["images/a: #b", "images/a: #b"], id="odd name"),
    ],
)
def test_data_yaml(splits: list[str], expected: list[str]) -> None:
    text = data_yaml(splits)
    document = yaml.safe_load(text)
    assert document.pop("names") == {0: "person"}
    assert list(document.values()) == expected
    assert list(document) == ["train", "val", "test"][: len(expected)]
    assert text.count("there is no split") == len(set(document) - set(splits))


@pytest.mark.parametrize(
    ("split", "roles"),
    [
        pytest.param("test", ["train", "val"], id="test alone"),
        pytest.param("train", [], id="train alone"),
    ],
)
def test_the_test_split_in_another_role_is_told(
    tmp_path: Path, split: str, roles: list[str]
) -> None:
    info = make_info(1, split, "1.jpg", (40, 40))
    _, writer = export(tmp_path, [make_record(info, make_rows(info, [(20, 20)]))], "yolo-seg")
    warnings = list(writer.warnings())
    assert [one.partition(", so ")[2].split(" is the test split")[0] for one in warnings] == roles
