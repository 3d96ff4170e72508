from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from dpmo_cli.outputs import coco
from dpmo_cli.outputs.coco import iter_coco, write_coco
from dpmo_cli.outputs.records import ImageRecord
from tests.outputs.samples import DATASET, Row, make_info, make_record, make_rows, sample_records


def write(path: Path, records: list[ImageRecord], extent: str = "nnec") -> Row:
    images = (record.info for record in records)
    write_coco(path, lambda: iter(records), images, dataset=DATASET, split="train", extent=extent)
    document: Row = json.loads(path.read_text(encoding="ascii"))
    return document


def test_what_the_file_says(tmp_path: Path) -> None:
    records = [r for r in sample_records() if r.info.split == "train"]
    document = write(tmp_path / "a.json", records)
    assert list(document) == ["info", "licenses", "categories", "images", "annotations"]
    assert document["info"]["dataset"] == DATASET
    assert document["info"]["split"] == "train"
    assert document["info"]["extent"] == "nnec"
    assert document["categories"] == [{"id": 1, "name": "person", "supercategory": "person"}]
    assert document["images"] == [
        {
            "id": 1,
            "width": 56,
            "height": 40,
            "file_name": "images/a b.jpg",
            "attributes": {"weather": "fog"},
        },
        {"id": 2, "width": 47, "height": 33, "file_name": "images/c,ä.jpg"},
        {"id": 3, "width": 4, "height": 5, "file_name": "images/d.jpg"},
    ]
    points = [(a["image_id"], a["attributes"]["point_id"]) for a in document["annotations"]]
    assert points == [(1, 0), (1, 1), (1, 2), (1, 5), (2, 0), (2, 1), (2, 2)]


def test_what_an_annotation_says(tmp_path: Path) -> None:
    record = sample_records()[0]
    one = write(tmp_path / "a.json", [record], "head")["annotations"][0]
    row = record.rows.to_pylist()[0]
    assert one == {
        "id": row["annotation_id"],
        "image_id": 1,
        "category_id": 1,
        "segmentation": row["rle"],
        "area": row["area"],
        "bbox": row["bbox"],
        "iscrowd": 0,
        "score": pytest.approx(row["score"], abs=5e-7),
        "attributes": {
            "point_id": 0,
            "point": [9.4, 8.0],
            "radius_px": 6.0,
            "extent": "head",
            "predicted_iou": pytest.approx(row["predicted_iou"], abs=5e-7),
            "stability": pytest.approx(row["stability"], abs=5e-7),
            "retained": pytest.approx(row["retained"], abs=5e-7),
            "score": one["score"],
            "status": "ok",
            "reasons": [],
            "shared_point_ids": [3],
        },
    }
    assert len(str(one["score"])) <= len("0.123456")


def test_what_the_dataset_knows_of_a_head(tmp_path: Path) -> None:
    info = make_info()
    rows = make_rows(info, [(5, 5), (20, 20), (30, 30)])
    rows[1].update(head_box_xyxy=[1.5, 2, 3, 4], occlusion=2, blurred=False, external_id="ä,7")
    rows[2].update(head_box_xyxy=[1.5, 2, float("nan"), 4], score=float("nan"), stability=None)
    without, known, odd = (
        a["attributes"]
        for a in write(tmp_path / "a.json", [make_record(info, rows)])["annotations"]
    )
    names = ("head_box_xyxy", "occlusion", "blurred", "external_id")
    assert not set(names) & set(without)
    assert [known[name] for name in names] == [[1.5, 2.0, 3.0, 4.0], 2, False, "ä,7"]
    assert "head_box_xyxy" not in odd
    assert (odd["score"], odd["stability"]) == (None, None)


# pycocotools 2.0.11 does not know the `copy` of NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.json", sample_records())
    read = COCO(str(tmp_path / "a.json"))
    capsys.readouterr()
    owners = np.zeros((40, 56), int)
    for one in read.loadAnns(read.getAnnIds(imgIds=[1])):
        mask = read.annToMask(one)
        assert mask.sum() == one["area"]
        assert coco_mask.toBbox(one["segmentation"]).tolist() == one["bbox"]
        owners += mask
    assert owners.max() == 1


@pytest.mark.parametrize("records", [[], sample_records()[2:4]], ids=["none", "no masks"])
def test_nothing_to_write(tmp_path: Path, records: list[ImageRecord]) -> None:
    document = write(tmp_path / "a.json", records)
    assert document["annotations"] == []
    assert len(document["images"]) == len(records) // 2


def test_equal_records_give_equal_bytes_one_object_a_line(tmp_path: Path) -> None:
    records = sample_records()
    write(tmp_path / "a.json", records)
    write(tmp_path / "b.json", sample_records())
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    lines = (tmp_path / "a.json").read_text().splitlines()
    assert sum(line.startswith('{"id":') for line in lines) == 4 + 9


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    document = write(tmp_path / "a.json", sample_records())
    members: Row = {"images": [], "annotations": []}
    for member, value in iter_coco(tmp_path / "a.json"):
        if member in ("images", "annotations", "categories"):
            members.setdefault(member, []).append(value)
        elif member != "licenses":
            members[member] = value
    assert members | {"licenses": []} == document


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
json_values = st.recursive(
    scalars.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    document=st.dictionaries(st.text(), json_values, max_size=4),
    indent=st.sampled_from([None, 0, 2]),
    piece=st.sampled_from([1, 2, 3, 7, 1 << 20]),
)
def test_any_object_is_read_as_json_reads_it(
    tmp_path_factory: pytest.TempPathFactory, document: Row, indent: int | None, piece: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(f" {json.dumps(document, indent=indent)}\n", encoding="utf-8")
    expected = [
        pair
        for name, value in document.items()
        for pair in ([(name, e) for e in value] if isinstance(value, list) else [(name, value)])
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco, "_PIECE_CHARACTERS", piece)
        assert list(iter_coco(path)) == expected


@pytest.mark.parametrize("number", ["1", "-1", "12.5", "1e5", "1E+5", "-2.5e-13", "0"])
@pytest.mark.parametrize("piece", range(1, 8))
def test_a_number_cut_in_two_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, piece: int
) -> None:
    monkeypatch.setattr(coco, "_PIECE_CHARACTERS", piece)
    (tmp_path / "a.json").write_text(f'{{"a":[{number},{number}] ,"b":{number}}}')
    expected = json.loads(number)
    assert list(iter_coco(tmp_path / "a.json")) == [("a", expected)] * 2 + [("b", expected)]


def test_only_a_piece_of_the_text_is_held(tmp_path: Path) -> None:
    element = json.dumps({"id": 1, "text": "x" * 1000})
    path = tmp_path / "a.json"
    path.write_text('{"annotations":[' + ",".join([element] * 20_000) + "]}")
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_coco(path)) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 2


def test_an_error_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "_PIECE_CHARACTERS", 2)
    (tmp_path / "a.json").write_text('{"a": [1, 2, 3, x]}')
    with pytest.raises(ValueError, match=r"Expecting value \(char 16\)"):
        list(iter_coco(tmp_path / "a.json"))


@given(
    text=st.text(alphabet='{}[]",:1e.-n \ntrue', max_size=30),
    piece=st.sampled_from([1, 3, 1 << 20]),
)
def test_what_is_no_json_object_raises_as_json_does(
    tmp_path_factory: pytest.TempPathFactory, text: str, piece: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "text.json"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        is_object = isinstance(json.loads(text), dict)
    except ValueError:
        is_object = False
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(coco, "_PIECE_CHARACTERS", piece)
            list(iter_coco(path))
        was_read = True
    except ValueError:
        was_read = False
    assert was_read is is_object


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"a":1', '{"a":1}x', '{"a" 1}', "{1:2}", '{"a":[1,]}', '{"a":NaN}', "\x00"],
)
def test_broken_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        list(iter_coco(tmp_path / "a.json"))


def test_the_images_are_read_without_the_annotations(tmp_path: Path) -> None:
    """They come first: what follows, here no UTF-8, is not even decoded."""
    head = b'{"images":[{"id":1},{"id":2}],"annotations":['
    (tmp_path / "a.json").write_bytes(head + b" " * (1 << 21) + b"\xff")
    found = []
    for member, value in iter_coco(tmp_path / "a.json"):
        found.append((member, value))
        if len(found) == 2:
            break
    assert found == [("images", {"id": 1}), ("images", {"id": 2})]
