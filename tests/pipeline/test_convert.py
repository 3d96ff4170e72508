"""Runs over whole datasets: what they write, and what the masks do not depend on."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from dpmo_cli.outputs.schema import POINT_SCHEMA, QUEUE_SCHEMA
from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Crowd, Dpmo, FakeEngine, tree
from tests.outputs.samples import Row

OUTPUTS = {
    "annotations/test.json",
    "annotations/train.json",
    "points/test.parquet",
    "points/train.parquet",
    "review/queue.parquet",
    "run.json",
}


def public_files(out: Path) -> set[str]:
    return {name for name in tree(out, without=()) if not name.startswith(".dpmo/")}


def _rows(path: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(path).to_pylist()
    return rows


def _run_record(out: Path) -> Row:
    record: Row = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return record


def _masks(out: Path, split: str = "train") -> dict[tuple[int, float, float], Row]:
    """Annotations by image and point."""
    document = json.loads((out / "annotations" / f"{split}.json").read_text())
    return {(one["image_id"], *one["attributes"]["point"]): one for one in document["annotations"]}


def _pixels(annotation: Row) -> NDArray[np.bool_]:
    with warnings.catch_warnings():
        # pycocotools 2.0.11 does not know the `copy` of NumPy 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        mask: NDArray[np.bool_] = coco_mask.decode(annotation["segmentation"]).astype(bool)
    return mask


@pytest.mark.usefixtures("nano")
def test_whole_run_with_the_real_network(dpmo: Dpmo, crowd: Crowd, tmp_path: Path) -> None:
    """Every file that the documentation promises, read by others' readers."""
    out = tmp_path / "out"
    crowd.points["train", "train/2.png"] += [(-5.0, 3.0), crowd.points["train", "train/2.png"][0]]
    crowd.write()
    outcome = dpmo("convert", "--root", crowd.root, "--out", out)
    assert outcome.code == 0
    assert public_files(out) == OUTPUTS
    assert validate_run(out) == []
    assert dpmo("validate", out).code == 0

    points = {split: _rows(out / "points" / f"{split}.parquet") for split in ("train", "test")}
    for (split, image), expected in crowd.points.items():
        rows = [row for row in points[split] if row["image"] == image]
        assert [(row["x"], row["y"]) for row in rows] == expected
    assert sum(map(len, points.values())) == crowd.total
    schema = pq.read_schema(out / "points" / "train.parquet")
    assert schema.names == POINT_SCHEMA.names
    assert schema.types == POINT_SCHEMA.types

    coco = COCO(out / "annotations" / "train.json")
    assert coco.getCatIds(catNms=["person"]) == [1]
    assert sorted(coco.getImgIds()) == [1, 2, 3, 4, 5]
    assert [image["file_name"] for image in coco.loadImgs([1, 5])] == ["train/0.png", "train/4.png"]
    for image_id in coco.getImgIds():
        owned = np.zeros((48, 64), dtype=int)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image_id])):
            mask = _pixels(annotation)
            owned += mask
            about = annotation["attributes"]
            x, y = about["point"]
            assert mask[min(47, round(y)), min(63, round(x))], "the mask holds its point"
            rows, columns = np.nonzero(mask)
            assert (np.hypot(columns - x, rows - y) <= about["radius_px"] + 1e-9).all()
            assert annotation["area"] == mask.sum()
            assert annotation["iscrowd"] == 0
            assert about["extent"] == "nnec"
        assert owned.max() <= 1, "masks are disjoint"

    queue = _rows(out / "review" / "queue.parquet")
    assert pq.read_schema(out / "review" / "queue.parquet").names == QUEUE_SCHEMA.names
    assert len(queue) == crowd.total
    scores = [-1.0 if row["score"] is None else row["score"] for row in queue]
    assert scores == sorted(scores), "worst first, missing masks included"
    assert {(row["dataset"], row["split"]) for row in queue} == {("csv", "train"), ("csv", "test")}


def test_run_record(dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path) -> None:
    out = tmp_path / "out"
    dpmo("convert", "--root", crowd.root, "--out", out, "--nnec-scale", "0.5")
    record = _run_record(out)
    assert (record["version"], record["dataset"], record["extent"]) == (2, "csv", "nnec")
    assert record["root"] == str(crowd.root)
    config = record["config"]
    assert config["nnec_scale"] == 0.5
    assert config["split"] == ["train", "test"]
    assert {"sam", "checkpoint", "device", "dtype", "tiles", "limit", "shard"} <= set(config)
    settings = record["settings"]
    assert len(settings["weights_sha256"]) == 64
    assert (settings["device"], settings["dtype"]) == ("cpu", "fp32")
    assert {"torch", "numpy", "pillow", "segment-anything"} <= set(record["versions"])
    assert record["counts"]["points"] == crowd.total
    assert sum(record["counts"]["by_status"].values()) == crowd.total
    stages = {"read", "encode", "prompt", "choose", "clip", "own", "rle", "write"}
    assert set(record["seconds"]) == stages
    # Stages run side by side: together they may take longer than the whole.
    assert 0 < max(record["seconds"].values()) <= record["seconds_total"]
    assert record["peak_memory_bytes"] > 10**7
    assert record["converted_images"] == 7
    assert set(record["files"]) == OUTPUTS - {"run.json"}


def test_images_go_in_the_order_of_their_names(
    dpmo: Dpmo, fake_engine: FakeEngine, empty_crowd: Crowd, tmp_path: Path
) -> None:
    names = ["b.png", "a/10.png", "a.png", "a/9.png", "B.png"]
    for name in names:
        empty_crowd.add(name)
    dpmo("convert", "--root", empty_crowd.root, "--out", tmp_path / "out")
    rows = _rows(tmp_path / "out" / "points" / "train.parquet")
    in_order = list(dict.fromkeys((row["image_id"], row["image"]) for row in rows))
    assert in_order == list(enumerate(sorted(names), start=1))


def test_limit_counts_images_of_each_split(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("convert", "--root", crowd.root, "--out", out, "--json")
    few = dpmo(*command, "--limit", "2")
    assert {name: split["images"] for name, split in few.json["splits"].items()} == {
        "train": 2,
        "test": 2,
    }
    assert _run_record(out)["splits"]["train"]["limit"] == 2
    two = _masks(out)
    more = dpmo(*command)
    assert more.json["converted_images"] == 3, "what was there is used again"
    assert two.items() <= _masks(out).items(), "ids and masks do not move with the limit"
    fewer = dpmo(*command, "--limit", "1")
    assert (fewer.json["changed"], fewer.json["converted_images"]) == (True, 0)
    assert fewer.json["counts"]["images"] == 2
    assert validate_run(out) == []


@pytest.mark.usefixtures("nano")
def test_masks_do_not_depend_on_the_order_of_points(
    dpmo: Dpmo, empty_crowd: Crowd, tmp_path: Path
) -> None:
    empty_crowd.add("a.png", count=12)
    dpmo("convert", "--root", empty_crowd.root, "--out", "first")
    empty_crowd.points["train", "a.png"] = empty_crowd.points["train", "a.png"][::-1]
    empty_crowd.write()
    dpmo("convert", "--root", empty_crowd.root, "--out", "second")
    first, second = _masks(tmp_path / "first"), _masks(tmp_path / "second")
    assert first
    assert {place: one["segmentation"] for place, one in first.items()} == {
        place: one["segmentation"] for place, one in second.items()
    }


@pytest.mark.usefixtures("nano")
def test_chunks_of_prompts_change_no_row(dpmo: Dpmo, empty_crowd: Crowd, tmp_path: Path) -> None:
    empty_crowd.add("a.png", count=12)
    command = ("convert", "--root", empty_crowd.root)
    for batch in ("1", "5"):
        dpmo(*command, "--out", batch, "--prompt-batch", batch)
    one, five = (_rows(tmp_path / batch / "points/train.parquet") for batch in ("1", "5"))
    assert len(one) == len(five) == 12
    scores = ("predicted_iou", "stability", "retained", "score")
    for left, right in zip(one, five, strict=True):
        for name in scores:
            assert left.pop(name) == pytest.approx(right.pop(name), abs=1e-5)
        assert left == right
    masks, others = _masks(tmp_path / "1"), _masks(tmp_path / "5")
    assert masks.keys() == others.keys()
    flipped = sum(int((_pixels(masks[at]) ^ _pixels(others[at])).sum()) for at in masks)
    assert flipped == 0


def test_rows_of_all_statuses_are_counted(
    dpmo: Dpmo, fake_engine: FakeEngine, empty_crowd: Crowd, tmp_path: Path
) -> None:
    empty_crowd.add("a.png", count=3)
    empty_crowd.points["train", "a.png"] += [(-3, 1), (float("nan"), 1)]
    empty_crowd.points["train", "a.png"] += empty_crowd.points["train", "a.png"][:1]
    empty_crowd.add("b.png", count=2).write_bytes(b"torn")
    outcome = dpmo("convert", "--root", empty_crowd.root, "--out", "out", "--json")
    assert outcome.code == 3
    expected = {"ok": 3, "outside": 1, "invalid": 1, "shared": 1, "failed": 2}
    assert outcome.json["counts"]["by_status"] == dict(sorted(expected.items()))
    rows = _rows(tmp_path / "out/points/train.parquet")
    assert Counter(row["status"] for row in rows) == Counter(expected)
    assert validate_run(tmp_path / "out") == []
