from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpmo_cli.evaluation.instances import rles_of_labels
from dpmo_cli.outputs.exports.label_maps import label_type
from dpmo_cli.outputs.records import ImageRecord
from tests.outputs.exports.runs import export, odd_records, read_back
from tests.outputs.samples import make_info, make_record, make_rows, sample_records


def with_point_id(point_id: int) -> ImageRecord:
    """An image of one point of that number."""
    info = make_info(5, "train", "big.jpg", (9, 9))
    rows = make_rows(info, [(4, 4)])
    rows[0]["point_id"] = point_id
    return make_record(info, rows)


@pytest.mark.parametrize("records", [sample_records(), odd_records()], ids=["samples", "odd"])
def test_the_maps_give_back_the_masks(tmp_path: Path, records: list[ImageRecord]) -> None:
    to, _ = export(tmp_path, records, "label-maps")
    for found in read_back(tmp_path, "train"):
        path = to / "masks" / Path(found.image.file_name).with_suffix(".npy")
        labels = np.load(path)
        assert labels.shape == found.image.size_hw
        assert labels.dtype == np.uint8
        ids = [one["attributes"]["point_id"] for one in found.annotations.values()]
        assert np.unique(labels[labels > 0]).tolist() == sorted(one + 1 for one in ids)
        masks = [one["segmentation"] for one in found.annotations.values()]
        assert rles_of_labels(labels) == [mask for _, mask in sorted(zip(ids, masks, strict=True))]


@pytest.mark.parametrize(
    ("point_id", "dtype"),
    [
        pytest.param(-1, np.uint8, id="none"),
        pytest.param(254, np.uint8, id="the last of 8 bits"),
        pytest.param(255, np.uint16, id="the first of 16"),
        pytest.param(65_534, np.uint16, id="the last of 16"),
        pytest.param(65_535, np.uint32, id="the first of 32"),
        pytest.param(999_999, np.uint32, id="the largest"),
    ],
)
def test_the_smallest_type_that_holds_all(point_id: int, dtype: type[np.unsignedinteger]) -> None:
    assert label_type(point_id) == dtype


def test_all_images_have_the_type_of_the_largest(tmp_path: Path) -> None:
    to, _ = export(tmp_path, [*sample_records()[:3], with_point_id(300)], "label-maps")
    assert {np.load(path).dtype for path in to.rglob("*.npy")} == {np.dtype(np.uint16)}
    assert np.load(to / "masks/big.npy").max() == 301


def test_png_holds_the_same(tmp_path: Path) -> None:
    to, writer = export(tmp_path, [*sample_records(), with_point_id(300)], "label-maps", png=True)
    assert list(writer.warnings()) == []
    paths = sorted((to / "masks_png").rglob("*.png"))
    assert len(paths) == 5
    for path in paths:
        with Image.open(path) as image:
            assert image.mode == "I;16"
            labels = np.load(to / "masks" / path.relative_to(to / "masks_png").with_suffix(".npy"))
            assert (np.asarray(image) == labels).all()


def test_what_fits_no_png_is_named(tmp_path: Path) -> None:
    stale = tmp_path / "to" / "masks_png" / "big.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier export")
    records = [*sample_records()[:2], with_point_id(500_000)]
    to, writer = export(tmp_path, records, "label-maps", png=True)
    (warning,) = writer.warnings()
    assert "1 image has" in warning
    assert "big.jpg" in warning
    assert not stale.exists()
    assert np.load(to / "masks/big.npy").max() == 500_001
