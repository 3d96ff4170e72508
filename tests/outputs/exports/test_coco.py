from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.outputs.exports.runs import export, odd_records, read_back
from tests.outputs.samples import Row, pixels_of, rle_of, sample_records


def load(path: Path) -> Row:
    document: Row = json.loads(path.read_text(encoding="ascii"))
    return document


def test_rle_says_what_the_run_says(tmp_path: Path) -> None:
    to, _ = export(tmp_path, sample_records(), "coco")
    for split in ("train", "test"):
        exported, own = (load(f / f"annotations/{split}.json") for f in (to, tmp_path / "out"))
        assert exported.pop("info") | {"dataset": "shanghaitech-a"} == own.pop("info")
        assert exported == own
    assert load(to / "annotations/train.json")["images"][0]["attributes"] == {"weather": "fog"}


@pytest.mark.parametrize("records", [sample_records(), odd_records()], ids=["samples", "odd"])
def test_polygons_are_the_masks_pixel_for_pixel(tmp_path: Path, records: list[Row]) -> None:
    to, _ = export(tmp_path, records, "coco-polygons")
    document, own = (load(f / "annotations/train.json") for f in (to, tmp_path / "out"))
    sizes = {one["id"]: (one["height"], one["width"]) for one in document["images"]}
    assert len(document["annotations"]) == len(own["annotations"]) > 0
    parts = 0
    for one, whole in zip(document["annotations"], own["annotations"], strict=True):
        polygons = one["segmentation"]
        assert min(map(len, polygons)) >= 8
        merged = coco_mask.merge(coco_mask.frPyObjects(polygons, *sizes[one["image_id"]]))
        assert {**merged, "counts": merged["counts"].decode()} == whole["segmentation"]
        assert {**one, "segmentation": None} == {**whole, "segmentation": None}
        parts = max(parts, len(polygons))
    assert parts > 1


@pytest.mark.parametrize("name", ["coco", "coco-polygons"])
def test_one_file_per_image(tmp_path: Path, name: str) -> None:
    whole, _ = export(tmp_path / "a", sample_records(), name)
    to, _ = export(tmp_path / "b", sample_records(), name, per_image=True)
    names = ["images/a b.json", "images/c,ä.json", "images/d.json"]
    single = [load(to / "annotations" / "train" / one) for one in names]
    document = load(whole / "annotations" / "train.json")
    for member in ("images", "annotations"):
        assert [value for one in single for value in one[member]] == document[member]
    assert {one["info"]["split"] for one in single} == {"train"}
    assert single[2]["annotations"] == []


def test_the_masks_of_the_run_are_decoded_alike(tmp_path: Path) -> None:
    """The same decoder as all formats use, against pycocotools."""
    export(tmp_path, odd_records(), "coco")
    for found in read_back(tmp_path, "train"):
        for one in found.instances():
            frame = np.zeros(found.image.size_hw, bool)
            x0, y0, x1, y1 = one.window_xyxy
            frame[y0:y1, x0:x1] = one.mask
            assert rle_of(frame) == one.fields["segmentation"]
            assert (pixels_of({"rle": one.fields["segmentation"]}) == frame).all()
