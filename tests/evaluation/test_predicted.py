"""Predictions out of the folder of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.evaluation.predicted import open_counts, open_points
from dpmo_cli.outputs.parquet import write_points
from tests.outputs.samples import make_info, make_record, make_rows, sample_records, write_run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_run(tmp_path / "out", sample_records())


def predicted_run(out: Path) -> Path:
    """The folder that a localiser's run writes: points and counts, no masks."""
    first, second = make_info(1, "predictions", "a/1.jpg"), make_info(2, "predictions", "2.jpg")
    statuses = dict.fromkeys(range(2), "empty")
    records = [
        make_record(first, make_rows(first, [(1, 2), (3, 4)], statuses=statuses)),
        make_record(second, make_rows(second, [(1, 2)], statuses={0: "failed"}), "torn"),
    ]
    (out / "points").mkdir(parents=True)
    write_points(out / "points" / "predictions.parquet", lambda: iter(records))
    (out / "counts.csv").write_text("image,count,masks\na/1.jpg,2,0\n2.jpg,0,0\n3.jpg,0,0\n")
    return out


def test_points_of_a_run(out: Path) -> None:
    found = open_points(out, "train")
    assert found.format == "run"
    # What is outside, invalid or failed is no prediction; an image without points is an entry.
    assert {name: len(one) for name, one in found.entries.items()} == {
        "images/a b": 6,
        "images/c,ä": 3,
        "images/d": 0,
    }
    assert found.entries["images/c,ä"].points_xy.tolist() == [[4, 4], [46.4, 32.2], [24, 0]]


@pytest.mark.parametrize("split", [None, "val"])
def test_all_splits(out: Path, split: str | None) -> None:
    assert open_counts(out, split) == {
        "images/a b": 6,
        "images/c,ä": 3,
        "images/d": 0,
        "images/f": 3,
    }


def test_the_run_of_a_localiser(tmp_path: Path) -> None:
    out = predicted_run(tmp_path / "out")
    assert open_points(out, "test").entries["a/1"].points_xy.tolist() == [[1, 2], [3, 4]]
    # The image that failed has no prediction.
    assert open_counts(out, None) == {"a/1": 2, "3": 0}


def test_counts_alone(tmp_path: Path) -> None:
    table = tmp_path / "counts.csv"
    table.write_text("image,count\na/1.jpg,2.5\n")
    assert open_counts(table, None) == open_counts(tmp_path, "train") == {"a/1": 2.5}
    points = tmp_path / "points.csv"
    points.write_text("image,x,y\na/1.jpg,1,2\na/2.jpg,,\n")
    assert open_counts(points, None) == {"a/1": 1, "a/2": 0}


def test_an_image_in_two_splits(tmp_path: Path) -> None:
    infos = [make_info(1, split, "a.jpg") for split in ("train", "test")]
    records = [make_record(info, make_rows(info, [(3, 4)])) for info in infos]
    out = write_run(tmp_path / "out", records)
    with pytest.raises(InputError, match="image a is in two splits; give one with --split"):
        open_points(out, None)
    assert list(open_points(out, "test").entries) == ["a"]


def test_images_that_differ_in_their_suffix(tmp_path: Path) -> None:
    infos = [make_info(n, "train", name) for n, name in enumerate(("a.jpg", "a.png"), start=1)]
    records = [make_record(info, make_rows(info, [(3, 4)])) for info in infos]
    out = write_run(tmp_path / "out", records)
    with pytest.raises(InputError, match="differ in their suffix alone"):
        open_points(out, None)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no finished run and no \.txt file"):
        open_points(tmp_path, None)
    with pytest.raises(UsageError, match="no such file or folder"):
        open_counts(tmp_path / "none", None)
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "train.parquet").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"train\.parquet: can't be read"):
        open_points(tmp_path, None)
