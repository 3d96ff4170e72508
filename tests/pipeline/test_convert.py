"""Runs over whole datasets: what is written, what is done again, and what is left alone."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from dpmo_cli.outputs.schema import POINT_SCHEMA, QUEUE_SCHEMA
from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Crowd, Dpmo, FakeEngine, moments, tree
from tests.outputs.samples import Row

OUTPUTS = {
    "annotations/test.json",
    "annotations/train.json",
    "points/test.parquet",
    "points/train.parquet",
    "review/queue.parquet",
    "run.json",
}


def _public(out: Path) -> set[str]:
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
    assert _public(out) == OUTPUTS
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
    assert (record["version"], record["dataset"], record["extent"]) == (1, "csv", "nnec")
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
    assert 0 < sum(record["seconds"].values()) <= record["seconds_total"]
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


def test_second_run_does_nothing_and_says_so(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("convert", "--root", crowd.root, "--out", out)
    assert dpmo(*command).code == 0
    before, when = tree(out, without=()), moments(out)
    again = dpmo(*command, "--json")
    assert again.code == 0
    assert f"dpmo: {out}: up to date, nothing to do" in again.lines
    assert again.json["changed"] is False
    assert again.json["converted_images"] == 0
    assert again.json["counts"]["points"] == crowd.total
    assert moments(out) == when
    assert tree(out, without=()) == before
    assert fake_engine.loads == 1, "no network is loaded to do nothing"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--nnec-scale", "0.7"], id="scale"),
        pytest.param(["--tiles", "off"], id="tiles"),
        pytest.param(["--prompt-batch", "3"], id="batch"),
        pytest.param(["--dtype", "bf16"], id="dtype"),
        pytest.param(["--checkpoint", "mine.safetensors"], id="weights"),
    ],
)
def test_changed_settings_recompute_everything(
    options: list[str], dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"other weights")
    command = ("convert", "--root", crowd.root, "--json")
    dpmo(*command, "--out", "out")
    changed = dpmo(*command, "--out", "out", *options)
    assert changed.json["converted_images"] == 7
    assert validate_run(tmp_path / "out") == []
    dpmo(*command, "--out", "fresh", *options)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh"), "nothing of the first run is left"


def _recolour(crowd: Crowd) -> None:
    Image.new("RGB", (64, 48), (250, 250, 250)).save(crowd.root / "train/3.png")


def _move_a_point(crowd: Crowd) -> None:
    crowd.points["train", "train/3.png"][0] = (1.5, 2.5)
    crowd.write()


@pytest.mark.parametrize(
    "change", [pytest.param(_recolour, id="image"), pytest.param(_move_a_point, id="annotation")]
)
def test_changed_bytes_recompute_that_image_alone(
    change: Callable[[Crowd], None],
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    crowd: Crowd,
    tmp_path: Path,
) -> None:
    command = ("convert", "--root", crowd.root, "--json")
    dpmo(*command, "--out", "out")
    before, encoded = moments(tmp_path / "out"), fake_engine.encoded
    change(crowd)
    assert dpmo(*command, "--out", "out").json["converted_images"] == 1
    assert fake_engine.encoded == encoded + 1
    moved = {
        name
        for name, moment in moments(tmp_path / "out").items()
        if before.get(name) != moment and (tmp_path / "out" / name).is_file()
    }
    assert moved == {
        ".dpmo/records/train/00000004.parquet",
        ".dpmo/train.json",
        "annotations/train.json",
        "points/train.parquet",
        "review/queue.parquet",
        "run.json",
    }
    dpmo(*command, "--out", "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_same_bytes_saved_again_change_nothing(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", crowd.root, "--out", tmp_path / "out", "--json")
    dpmo(*command)
    image = crowd.root / "train/0.png"
    image.write_bytes(image.read_bytes())
    crowd.write()
    assert dpmo(*command).json["changed"] is False


def test_moved_dataset_changes_nothing(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    dpmo("convert", "--root", crowd.root, "--out", tmp_path / "out")
    elsewhere = crowd.root.rename(tmp_path / "elsewhere")
    again = dpmo("convert", "--root", elsewhere, "--out", tmp_path / "out", "--json")
    assert again.json["changed"] is False


def test_new_image_moves_the_ids_of_those_behind_it(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", crowd.root, "--json")
    dpmo(*command, "--out", "out")
    crowd.add("train/2b.png")
    assert dpmo(*command, "--out", "out").json["converted_images"] == 3
    dpmo(*command, "--out", "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_force_converts_again(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", crowd.root, "--out", tmp_path / "out", "--json")
    dpmo(*command)
    before = tree(tmp_path / "out")
    forced = dpmo(*command, "--force")
    assert (forced.json["changed"], forced.json["converted_images"]) == (True, 7)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("name", sorted(OUTPUTS))
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"{}")])
def test_lost_or_changed_outputs_are_made_again(
    name: str,
    damage: Callable[[Path], object],
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    crowd: Crowd,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    command = ("convert", "--root", crowd.root, "--out", out, "--json")
    dpmo(*command)
    before = tree(out)
    damage(out / name)
    again = dpmo(*command)
    assert (again.json["changed"], again.json["converted_images"]) == (True, 0)
    assert tree(out) == before
    assert validate_run(out) == []


def test_lost_record_is_computed_again(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("convert", "--root", crowd.root, "--out", out, "--json")
    dpmo(*command)
    before = tree(out)
    (out / ".dpmo/records/train/00000002.parquet").write_bytes(b"PAR1 torn")
    assert dpmo(*command).json["converted_images"] == 1
    assert tree(out) == before


def test_record_with_damaged_pages_is_named(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("convert", "--root", crowd.root, "--out", out)
    dpmo(*command)
    record = out / ".dpmo/records/train/00000002.parquet"
    content = bytearray(record.read_bytes())
    content[60] ^= 0xFF
    record.write_bytes(content)
    (line,) = (damaged := dpmo(*command)).errors
    assert damaged.code == 1
    assert f"{record}: is no whole record; delete it" in line
    assert dpmo(*command, "--force").code == 0
    assert validate_run(out) == []


class TestSplits:
    """Splits that share a folder."""

    def test_split_with_equal_settings_is_added(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        command = ("convert", "--root", crowd.root, "--json", "--out")
        dpmo(*command, "out", "--split", "train")
        assert not (tmp_path / "out/points/test.parquet").exists()
        added = dpmo(*command, "out", "--split", "TEST")
        assert added.json["converted_images"] == 2
        assert sorted(added.json["splits"]) == ["test", "train"]
        assert added.json["counts"]["images"] == 7
        dpmo(*command, "together")
        assert tree(tmp_path / "out") == tree(tmp_path / "together")
        assert validate_run(tmp_path / "out") == []

    def test_other_settings_are_refused_and_nothing_is_touched(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        dpmo("convert", "--root", crowd.root, "--out", out, "--split", "train")
        before, when = tree(out, without=()), moments(out)
        other = ("convert", "--root", crowd.root, "--out", out, "--tiles", "off")
        refused = dpmo(*other, "--split", "test")
        assert refused.code == 2
        (line,) = refused.errors
        assert f"--out {out}: also holds split 'train' made with other settings" in line
        assert "--force" in line
        assert tree(out, without=()) == before
        assert moments(out) == when

        assert dpmo(*other, "--split", "train", "--split", "test").code == 0
        assert validate_run(out) == []

    def test_force_replaces_what_has_other_settings(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        dpmo("convert", "--root", crowd.root, "--out", out, "--split", "train")
        forced = dpmo(
            *("convert", "--root", crowd.root, "--out", out, "--split", "test"),
            *("--tiles", "off", "--force", "--json"),
        )
        assert sorted(forced.json["splits"]) == ["test"]
        assert _public(out) == {name for name in OUTPUTS if "train" not in name}
        assert validate_run(out) == []

    def test_split_that_a_killed_run_left_half_replaced_is_refused(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        """Settings A, then B killed halfway: a run of A for another split must not mix them."""
        out = tmp_path / "out"
        command = ("convert", "--root", crowd.root, "--out", out)
        dpmo(*command)
        _stop_at(fake_engine, 3)
        assert dpmo(*command, "--tiles", "off").code == 130
        fake_engine.on_encode = lambda: None
        (line,) = (refused := dpmo(*command, "--split", "test", "--limit", "1")).errors
        assert refused.code == 2
        assert "also holds split 'train' of an interrupted run" in line
        assert dpmo(*command).code == 0
        dpmo("convert", "--root", crowd.root, "--out", "fresh")
        assert tree(out) == tree(tmp_path / "fresh")


def _stop_at(engine: FakeEngine, calls: int) -> None:
    """Interrupt the run before the engine encodes for the `calls`-th time from now."""
    left = [calls]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    engine.on_encode = count


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
