from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dpmo_cli.outputs.exports import hugging_face
from dpmo_cli.outputs.exports.plan import Photo
from tests.outputs.exports.runs import draw_photos, export, read_back
from tests.outputs.samples import Row, pixels_of, sample_records


def export_samples(folder: Path, images: str) -> Path:
    draw_photos(folder / "data", sample_records())
    return export(folder, sample_records(), "parquet", images=images)[0]


@pytest.fixture
def load_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The function of the library, without a network and with folders of the test's own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    datasets.disable_progress_bars()

    def load(*arguments: object, **named: object) -> Any:
        return datasets.load_dataset(*arguments, cache_dir=str(tmp_path / "cache"), **named)

    return load


@pytest.mark.parametrize("images", ["copy", "link", "none"])
def test_the_library_loads_it(tmp_path: Path, load_dataset: Any, images: str) -> None:
    to = export_samples(tmp_path, images)
    loaded = load_dataset("parquet", data_files={"train": str(to / "data" / "train.parquet")})
    rows = list(loaded["train"])
    found = read_back(tmp_path, "train")
    assert [row["file_name"] for row in rows] == [one.image.file_name for one in found]
    assert [row["count"] for row in rows] == [6, 3, 0]
    for row, one in zip(rows, found, strict=True):
        size = [row["height"], row["width"]]
        assert tuple(size) == one.image.size_hw
        objects = row["objects"]
        assert objects["id"] == list(one.annotations)
        assert {len(values) for values in objects.values()} == {len(one.annotations)}
        for index, fields in enumerate(one.annotations.values()):
            assert objects["bbox"][index] == fields["bbox"]
            assert objects["score"][index] == fields["score"]
            assert objects["point"][index] == fields["attributes"]["point"]
            rle = {"size": size, "counts": objects["rle_counts"][index]}
            assert pixels_of({"rle": rle}).sum() == objects["area"][index] == fields["area"]
        assert row["points"]["status"] == one.rows["status"].to_pylist()
        if images != "none":
            with Image.open(tmp_path / "data" / one.image.file_name) as photo:
                assert (np.asarray(row["image"]) == np.asarray(photo)).all()
    assert loaded["train"].features["objects"]["category"].feature.names == ["person"]
    assert ("image" in loaded["train"].features) is (images != "none")


def test_the_card_tells_the_splits(tmp_path: Path, load_dataset: Any) -> None:
    loaded = load_dataset(str(export_samples(tmp_path, "copy")))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 3, "test": 1}


def table(to: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(to / "data" / "train.parquet").to_pylist()
    return rows


def test_photos_are_inside_or_named(tmp_path: Path) -> None:
    inside = table(export_samples(tmp_path / "a", "copy"))[0]["image"]
    photo = tmp_path / "a" / "data" / "images" / "a b.jpg"
    assert inside == {"bytes": photo.read_bytes(), "path": "images/a b.jpg"}
    named = table(export_samples(tmp_path / "b", "link"))[0]["image"]
    assert named == {"bytes": None, "path": str(tmp_path / "b" / "data" / "images" / "a b.jpg")}
    assert "image" not in table(export_samples(tmp_path / "c", "none"))[0]


def test_a_photo_that_would_be_turned_is_always_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 56, 3), dtype=np.uint8)

    def turned(path: Path) -> Photo:
        return Photo(path, redraw=lambda: pixels)

    monkeypatch.setattr("tests.outputs.exports.runs.Photo", turned)
    inside = table(export_samples(tmp_path, "link"))[0]["image"]
    with Image.open(io.BytesIO(inside["bytes"])) as image:
        assert (np.asarray(image) == pixels).all()


def test_rows_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging_face, "ROW_GROUP_BYTES", 1)
    to = export_samples(tmp_path, "copy")
    with (to / "data" / "train.parquet").open("rb") as file:
        assert pq.ParquetFile(file).num_row_groups == 3
