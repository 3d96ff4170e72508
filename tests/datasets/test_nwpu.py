import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.datasets.base import Heads
from dpmo_cli.datasets.nwpu import Nwpu
from dpmo_cli.errors import InputError, UsageError

from .conftest import Builder

POINTS = [[10, 5], [20.5, 6]]
BOXES = [[8, 3, 12, 8], [18, 4, 22, 9]]


@pytest.mark.parametrize("home", ["NWPU-Crowd", "nwpu"])
def test_heads_and_labels_are_read(build: Builder, home: str) -> None:
    build.nwpu(f"{home}/")
    for root, prefix in ((build.root, f"{home}/"), (build.root / home, "")):
        dataset = Nwpu(root)
        assert dataset.splits() == ("train", "val")
        crowd, empty = dataset.entries("train")
        assert crowd.file_name == f"{prefix}images/0001.jpg"
        assert crowd.labels == {"illumination": "1", "density": "1"}
        heads = dataset.read_heads(crowd)
        assert heads.points_xy.tolist() == POINTS
        assert heads.boxes_xyxy is not None
        assert heads.boxes_xyxy.tolist() == BOXES
        assert heads.warnings == ()
        nobody = dataset.read_heads(empty)
        assert nobody.points_xy.shape == (0, 2)
        assert nobody.boxes_xyxy is not None
        assert nobody.boxes_xyxy.shape == (0, 4)


def test_images_may_lie_in_the_parts_as_downloaded(build: Builder) -> None:
    build.text("train.txt", "0001 1 1\n0002 1 1\n0003 1 1\n")
    build.image("images_part1/0001.jpg")
    build.image("Images_Part5/0002.jpg")
    build.json("jsons/0001.json", {"points": []})
    names = [entry.file_name for entry in Nwpu(build.root).entries("train")]
    assert names == ["Images_Part5/0002.jpg", "images/0003.jpg", "images_part1/0001.jpg"]


def test_withheld_labels_are_said_to_be_withheld(build: Builder) -> None:
    build.nwpu("")
    dataset = Nwpu(build.root)
    with pytest.raises(UsageError, match="'test' are withheld by its authors") as caught:
        dataset.entries("test")
    assert caught.value.exit_code == 2
    build.json("jsons/0004.json", {"points": POINTS})
    assert dataset.splits() == ("train", "val", "test")
    (entry,) = dataset.entries("test")
    assert entry.labels == {}
    assert len(dataset.read_heads(entry)) == 2


def test_splits_without_any_annotation_are_not_labelled(build: Builder) -> None:
    build.text("train.txt", "0001 1 1\n")
    dataset = Nwpu(build.root)
    assert dataset.splits() == ()
    with pytest.raises(UsageError, match=r"no annotation of nwpu's split 'train' .*jsons or mats"):
        dataset.entries("train")
    with pytest.raises(UsageError, match=r"no labelled split 'val' .*there: none"):
        dataset.entries("val")


def _read(build: Builder) -> Heads:
    build.text("train.txt", "0001 1 1\n")
    dataset = Nwpu(build.root)
    return dataset.read_heads(dataset.entries("train")[0])


def test_mats_alone_will_do_and_jsons_go_first(build: Builder) -> None:
    build.mat("mats/0001.mat", annPoints=np.array(POINTS), annBoxes=np.array(BOXES, np.uint16))
    heads = _read(build)
    assert heads.points_xy.tolist() == POINTS
    assert heads.boxes_xyxy is not None
    assert heads.boxes_xyxy.dtype == np.float64
    assert heads.boxes_xyxy.tolist() == BOXES
    build.json("jsons/0001.json", {"points": [[1, 2]]})
    heads = _read(build)
    assert heads.points_xy.tolist() == [[1, 2]]
    assert heads.boxes_xyxy is None


@pytest.mark.parametrize("shape", [(0, 0), (0, 2)])
def test_an_empty_mat_is_fine(build: Builder, shape: tuple[int, int]) -> None:
    build.mat("mats/0001.mat", annPoints=np.empty(shape), annBoxes=np.empty((0, 0)))
    heads = _read(build)
    assert heads.points_xy.shape == (0, 2)
    assert heads.warnings == ()


@pytest.mark.parametrize(
    ("content", "warnings", "has_boxes"),
    [
        pytest.param({"points": POINTS}, (), False, id="no boxes, no count"),
        pytest.param({"points": [10, 5], "boxes": BOXES[0]}, (), True, id="one bare point"),
        pytest.param(
            {"points": POINTS, "boxes": BOXES, "human_num": 5},
            ("count mismatch: human_num says 5, 2 points are listed",),
            True,
            id="other count",
        ),
        pytest.param(
            {"points": POINTS, "boxes": BOXES[:1], "human_num": 2},
            ("count mismatch: boxes (not used) says 1, 2 points are listed",),
            False,
            id="a box is missing",
        ),
        pytest.param(
            {"points": [[None, 1], [2, 3]], "boxes": BOXES},
            ("1 points are NaN or infinite",),
            True,
            id="null",
        ),
    ],
)
def test_oddities_are_warnings(
    build: Builder, content: object, warnings: tuple[str, ...], has_boxes: bool
) -> None:
    build.json("jsons/0001.json", content)
    heads = _read(build)
    assert heads.warnings == warnings
    assert (heads.boxes_xyxy is not None) == has_boxes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('{"points": [[1, 2]', "not valid JSON", id="cut short"),
        pytest.param("", "not valid JSON", id="empty"),
        pytest.param("[" * 100_000, "not valid JSON", id="nested too deep"),
        pytest.param("[[1, 2]]", "object with points, found no object", id="a list"),
        pytest.param('{"boxes": []}', "with points, found the keys boxes", id="no points"),
        pytest.param('{"points": "a"}', "expected points .*found str", id="text for points"),
        pytest.param('{"points": [[1, 2, 3]]}', "expected points .*shape", id="three columns"),
        pytest.param('{"points": [], "boxes": [[1]]}', "expected boxes .*shape", id="wrong boxes"),
        pytest.param('{"points": [[1e999999, "1"]]}', "expected points", id="mixed"),
    ],
)
def test_a_wrong_json_is_named(build: Builder, text: str, says: str) -> None:
    build.text("jsons/0001.json", text)
    with pytest.raises(InputError, match=rf"0001\.json: .*{says}"):
        _read(build)


def test_a_wrong_mat_is_named(build: Builder) -> None:
    build.mat("mats/0001.mat", points=np.array(POINTS))
    with pytest.raises(InputError, match="expected the variable annPoints, found points"):
        _read(build)


@pytest.mark.parametrize("image", ["../../secret", "/etc/secret", "a\0b"])
def test_a_list_can_not_lead_out_of_the_root(build: Builder, image: str) -> None:
    build.text("train.txt", f"0001 1 1\n{image} 1 1\n")
    build.json("jsons/0001.json", {"points": []})
    dataset = Nwpu(build.root)
    entries = {entry.file_name: entry for entry in dataset.entries("train")}
    assert len(entries) == 2
    del entries["images/0001.jpg"]
    with pytest.raises(InputError):
        dataset.read_heads(*entries.values())


def test_an_image_that_is_listed_twice_is_one(build: Builder) -> None:
    build.text("train.txt", "0001 1 1\n\n0001 1 1\n")
    build.json("jsons/0001.json", {"points": []})
    assert len(Nwpu(build.root).entries("train")) == 1


def test_lists_of_other_datasets_are_not_taken(build: Builder) -> None:
    build.text("train.txt", "images/a.jpg\n")
    with pytest.raises(UsageError, match="holds no nwpu"):
        Nwpu(build.root)


def test_the_real_lists(shared_data: Path, build: Builder) -> None:
    for name in ("train.txt", "val.txt", "test.txt"):
        shutil.copy(shared_data / "NWPU-Crowd" / name, build.root)
    for image in ("3098", "3169"):  # splits are no ranges of ids
        build.text(f"jsons/{image}.json", json.dumps({"points": [[1, 2]]}))
    dataset = Nwpu(build.root)
    assert dataset.splits() == ("train", "val")
    train, val = dataset.entries("train"), dataset.entries("val")
    assert (len(train), len(val)) == (3_109, 500)
    assert all(set(entry.labels) == {"illumination", "density"} for entry in (*train, *val))
    by_name = {entry.file_name: entry for entry in (*train, *val)}
    assert by_name["images/3098.jpg"].split == "val"
    assert by_name["images/3169.jpg"].split == "train"
    assert len(dataset.read_heads(by_name["images/3098.jpg"])) == 1
    with pytest.raises(InputError, match=r"0001\.json: is missing"):
        dataset.read_heads(by_name["images/0001.jpg"])
    with pytest.raises(UsageError, match="withheld"):
        dataset.entries("test")
