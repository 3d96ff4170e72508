"""True instances from every kind of file, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dpmo_cli.errors import DpmoError, InputError, UsageError
from dpmo_cli.evaluation.instances import rles_of_labels
from dpmo_cli.evaluation.truth_coco import CocoTruth
from dpmo_cli.evaluation.truth_files import InstanceFolders, LabelMaps, _read_labels, open_truth
from dpmo_cli.geometry.rle import run_lengths
from tests.evaluation.crowds import box, rle_of

SIZE = (20, 30)
FIRST, SECOND = box(SIZE, 2, 3, 8, 9), box(SIZE, 12, 4, 29, 18)
LABELS = (FIRST + 300 * SECOND).astype(np.int64)
MASKS = [rle_of(FIRST), rle_of(SECOND)]
NAMES = ["images/1", "images/2"]

Write = Callable[[Path], object]


def save(mode: str, labels: NDArray[Any], name: str = "1.png") -> Write:
    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if mode == "P":
            image = Image.fromarray(labels.astype(np.uint8))
            image.putpalette([7] * 768)
        elif mode == "I;16":
            image = Image.fromarray(labels.astype(np.uint16))
        else:
            image = Image.fromarray(labels.astype(np.uint8)).convert(mode)
        assert image.mode == mode
        image.save(root / name)

    return write


def save_array(labels: NDArray[Any], name: str = "1.npy") -> Write:
    def write(root: Path) -> None:
        np.save(root / name, labels)

    return write


SMALL = np.minimum(LABELS, 2)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(save("L", SMALL), id="8 bit"),
        pytest.param(save("P", SMALL), id="palette"),
        pytest.param(save("I;16", LABELS), id="16 bit"),
        pytest.param(save_array(LABELS), id="npy"),
        pytest.param(save_array(-SMALL[::1]), id="negative npy"),
        pytest.param(save("L", SMALL, "images/1.png"), id="in the folder of the images"),
    ],
)
def test_label_maps(tmp_path: Path, write: Write) -> None:
    write(tmp_path)
    truth = open_truth(tmp_path, NAMES)
    assert isinstance(truth, LabelMaps)
    (name,) = truth.names
    assert name.rpartition("/")[2] == "1"
    assert Path(truth.place(name)).is_file()
    assert sorted(map(str, truth.instances(name, SIZE))) == sorted(map(str, MASKS))


@pytest.mark.parametrize("labels", [np.zeros(SIZE, np.uint8), FIRST], ids=["nothing", "one bit"])
def test_odd_label_maps(tmp_path: Path, labels: NDArray[Any]) -> None:
    Image.fromarray(labels).save(tmp_path / "1.png")
    assert open_truth(tmp_path, NAMES).instances("1", SIZE) == rles_of_labels(labels)


def test_folders_below_label_maps_are_not_looked_at(tmp_path: Path) -> None:
    save("L", SMALL)(tmp_path)
    save("L", SMALL, "heads/1.png")(tmp_path)
    (tmp_path / "._1.png").write_bytes(b"scattered by an archive")
    assert open_truth(tmp_path, NAMES).names == ("1",)


@pytest.mark.parametrize("parent", ["", "images/", "other/"])
def test_a_folder_per_image(tmp_path: Path, parent: str) -> None:
    # The names of instances may be those of images.
    save("L", 255 * FIRST, f"{parent}1/1.png")(tmp_path)
    save("RGBA", 9 * SECOND, f"{parent}1/2.png")(tmp_path)
    (tmp_path / f"{parent}1/notes.txt").touch()
    (tmp_path / f"{parent}2").mkdir()
    truth = open_truth(tmp_path, NAMES)
    assert isinstance(truth, InstanceFolders)
    assert truth.names == (f"{parent}1", f"{parent}2")
    assert truth.instances(f"{parent}1", SIZE) == MASKS
    assert truth.instances(f"{parent}2", SIZE) == []


def coco(annotations: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    image = {"id": 4, "file_name": "images/1.jpg", "height": SIZE[0], "width": SIZE[1]}
    defaults = {"image_id": 4, "category_id": 1, "iscrowd": 0}
    listed = [defaults | {"id": n} | one for n, one in enumerate(annotations, start=1)]
    return {"images": [image], "annotations": listed} | more


def write_coco(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


POLYGON = [2, 3, 8, 3, 8, 9, 2, 9]
LIST = {"size": list(SIZE), "counts": run_lengths(MASKS[1]["counts"]).tolist()}


def test_coco_masks_of_all_kinds(tmp_path: Path) -> None:
    annotations = [
        {"segmentation": [POLYGON]},
        {"segmentation": LIST},
        {"segmentation": MASKS[0]},
        {"segmentation": [[2, 3, 5, 3, 5, 9, 2, 9], [5, 3, 8, 3, 8, 9, 5, 9]]},
        {"segmentation": LIST, "iscrowd": 1},
        {"segmentation": {"size": list(SIZE), "counts": [600]}},
        {"segmentation": MASKS[1], "category_id": 2},
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "horse"}]
    path = write_coco(tmp_path / "t.json", coco(annotations, categories=categories))
    truth = open_truth(path, NAMES)
    assert isinstance(truth, CocoTruth)
    assert (truth.names, truth.boxes_only) == (("images/1",), False)
    assert truth.place("images/1") == f"{path}, image images/1.jpg"
    assert truth.instances("images/1", SIZE) == [MASKS[0], MASKS[1], MASKS[0], MASKS[0]]
    assert truth.left_out == {
        "with iscrowd": 1,
        "without a pixel": 1,
        "of another category than person": 1,
    }


def test_coco_of_other_things(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "nucleus"}, {"id": 2, "name": "cell"}]
    annotations = [{"segmentation": MASKS[0]}, {"segmentation": MASKS[1], "category_id": 2}]
    path = write_coco(tmp_path / "t.json", coco(annotations, categories=categories))
    assert open_truth(path, NAMES).instances("images/1", SIZE) == MASKS


def test_coco_boxes(tmp_path: Path) -> None:
    annotations = [{"bbox": [2, 3, 6, 6]}, {"bbox": [0.5, 1, 2, 3], "segmentation": []}]
    truth = CocoTruth(write_coco(tmp_path / "t.json", coco(annotations)))
    assert truth.boxes_only
    # The first pixel's centre is half a pixel behind the corner from which COCO counts.
    expected = [[1.5, 2.5, 7.5, 8.5], [0.0, 0.5, 2.0, 3.5]]
    assert truth.boxes_xyxy("images/1", SIZE).tolist() == expected


def wrong_coco(annotation: dict[str, Any], **more: Any) -> Write:
    return lambda root: write_coco(root / "t.json", coco([annotation], **more))


def text(name: str, content: str) -> Write:
    return lambda root: (root / name).write_text(content)


def cut_short(root: Path) -> None:
    save("L", SMALL)(root)
    (root / "1.png").write_bytes((root / "1.png").read_bytes()[:50])


def two_files(root: Path) -> None:
    save("L", SMALL)(root)
    save_array(SMALL)(root)


IMAGE = {"id": 1, "file_name": "1.jpg", "height": 20, "width": 30}


@pytest.mark.parametrize(
    ("write", "names", "says"),
    [
        pytest.param(text("t.json", "{"), "t.json", "is no COCO JSON", id="no JSON"),
        pytest.param(text("t.json", "[]"), "t.json", "is no COCO JSON", id="a list"),
        pytest.param(text("t.json", "[" * 10**5), "t.json", "is no COCO JSON", id="deep"),
        pytest.param(text("t.json", "{}"), "t.json", "lists no images", id="empty"),
        pytest.param(text("t.json", '{"images": [{"id": 1}]}'), "t.json", "height", id="no height"),
        pytest.param(
            text("t.json", json.dumps({"images": [IMAGE, IMAGE]})), "t.json", "twice", id="id twice"
        ),
        pytest.param(
            text("t.json", json.dumps({"images": [IMAGE, IMAGE | {"id": 2}]})),
            "t.json",
            "lists the image 1 twice",
            id="name twice",
        ),
        pytest.param(
            wrong_coco({"image_id": 9, "bbox": [1, 1, 2, 2]}), "t.json", "image 9", id="stray"
        ),
        pytest.param(wrong_coco({}), "t.json", "annotation 1 has neither", id="no mask"),
        pytest.param(
            lambda root: write_coco(
                root / "t.json", coco([{"segmentation": LIST}, {"bbox": [1, 1, 2, 2]}])
            ),
            "t.json",
            "1 of its annotations have a box but no mask",
            id="some masks",
        ),
        pytest.param(
            wrong_coco({"segmentation": [[1, 2, 3, 4]]}), "1.jpg", "annotation 1", id="two corners"
        ),
        pytest.param(
            wrong_coco({"segmentation": [[1, 2, 3, 4, 1e9, 3]]}), "1.jpg", "far outside", id="far"
        ),
        pytest.param(
            wrong_coco({"segmentation": [[1, 2, 3, 4, "x", 3]]}), "1.jpg", "no number", id="text"
        ),
        pytest.param(
            wrong_coco({"segmentation": {"size": [9, 9], "counts": [81]}}),
            "1.jpg",
            "size (H, W) is [9, 9]",
            id="size of a mask",
        ),
        pytest.param(wrong_coco({"bbox": [1, 2]}), "1.jpg", "bbox is no list of 4", id="box"),
        pytest.param(
            wrong_coco({"bbox": [1, 2, 3, 4], "category_id": "p"}),
            "t.json",
            "category",
            id="category",
        ),
        pytest.param(save("L", SMALL[:-1]), "1.png", "has 30 x 19 px", id="size"),
        pytest.param(save("RGB", SMALL), "1.png", "has colours", id="colours"),
        pytest.param(cut_short, "1.png", "is no PNG, or cut short", id="cut short"),
        pytest.param(text("1.png", "text"), "1.png", "is no PNG", id="no PNG"),
        pytest.param(text("1.npy", "text"), "1.npy", "can't be read as an array", id="no array"),
        pytest.param(save_array(SMALL[:-1]), "1.npy", "has 30 x 19 px", id="size of an array"),
        pytest.param(save_array(SMALL * 0.5), "1.npy", "whole numbers", id="floats"),
        pytest.param(save_array(SMALL[None]), "1.npy", "(H, W) array", id="three axes"),
        pytest.param(
            save_array(np.array([{}]), "1.npy"), "1.npy", "can't be read", id="pickled objects"
        ),
        pytest.param(two_files, "1.png", "label maps of one image", id="two files"),
        pytest.param(save("L", 0 * SMALL, "1/a.png"), "a.png", "no pixel", id="empty instance"),
        pytest.param(save("L", SMALL[:-1], "1/a.png"), "a.png", "30 x 19", id="instance's size"),
    ],
)
def test_what_is_wrong(tmp_path: Path, write: Write, names: str, says: str) -> None:
    write(tmp_path)
    path = tmp_path / "t.json"
    with pytest.raises(InputError) as caught:
        read_all(path if path.exists() else tmp_path)
    line = str(caught.value)
    assert names in line.partition(": ")[0]
    assert says in line
    assert "\n" not in line


def read_all(path: Path) -> None:
    truth = open_truth(path, NAMES)
    for name in truth.names:
        if isinstance(truth, CocoTruth) and truth.boxes_only:
            truth.boxes_xyxy(name, SIZE)
        else:
            truth.instances(name, SIZE)


@pytest.mark.parametrize("content", ["nothing there", "empty", "other files", "other folders"])
def test_no_truth(tmp_path: Path, content: str) -> None:
    path = tmp_path / "truth"
    if content != "nothing there":
        path.mkdir()
    if content == "other files":
        (path / "readme.txt").touch()
    if content == "other folders":
        (path / "deep" / "er").mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        open_truth(path, NAMES)
    assert isinstance(caught.value, DpmoError)
    assert str(path) in str(caught.value)


def test_a_flipped_byte_is_no_truth(tmp_path: Path) -> None:
    """Pillow decodes it without a word: only the checksum tells."""
    labels = np.random.default_rng(0).integers(0, 9, (40, 50)).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(labels).save(path)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"IDAT") + 40] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"a\.png: is no PNG, or cut short"):
        _read_labels(path, (40, 50))


def test_a_damaged_array(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'shape': ((((  \n")
    with pytest.raises(InputError, match="can't be read as an array"):
        _read_labels(path, (4, 5))
