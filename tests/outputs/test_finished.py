from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dpmo_cli.errors import InputError
from dpmo_cli.outputs.finished import iter_rows, list_images, read_images
from dpmo_cli.outputs.parquet import write_points
from tests.outputs.samples import Row, make_info, make_record, make_rows, sample_records, write_run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_run(tmp_path / "out", sample_records())


def test_images_are_listed_with_their_labels(out: Path) -> None:
    images = list_images(out, "train")
    assert [(one.image_id, one.file_name, one.size_hw) for one in images] == [
        (1, "images/a b.jpg", (40, 56)),
        (2, "images/c,ä.jpg", (33, 47)),
        (3, "images/d.jpg", (5, 4)),
    ]
    assert [one.labels for one in images] == [{"weather": "fog"}, {}, {}]


def test_each_image_comes_with_its_rows_and_masks(out: Path) -> None:
    found = list(read_images(out, "train", list_images(out, "train")))
    records = sample_records()[:3]
    assert [one.image.file_name for one in found] == [r.info.file_name for r in records]
    for one, record in zip(found, records, strict=True):
        expected = record.rows.select(one.rows.schema.names).to_pylist()
        assert str(one.rows.to_pylist()) == str(expected)  # NaN equals itself as text
        masks = [row for row in record.rows.to_pylist() if row["status"] == "ok"]
        assert [i.point_id for i in one.instances()] == [row["point_id"] for row in masks]
        for instance, row in zip(one.instances(), masks, strict=True):
            x0, y0, x1, y1 = instance.window_xyxy
            assert [x0, y0, x1 - x0, y1 - y0] == row["bbox"]
            assert instance.mask.sum() == row["area"]


def test_rows_of_an_image_are_whole_across_pieces(tmp_path: Path) -> None:
    """Parquet is read in pieces of 65,536 rows; the second image lies in two of them."""
    infos = [make_info(number, "train", f"{number}.jpg") for number in (1, 2, 3)]
    counts = (40_000, 40_000, 3)
    row = make_rows(infos[0], [(-1, 0)], statuses={0: "outside"})[0]
    records = [
        make_record(info, [{**row, "image_id": info.image_id}] * count)
        for info, count in zip(infos, counts, strict=True)
    ]
    write_points(tmp_path / "points" / "train.parquet", lambda: iter(records))
    found = [(number, len(rows)) for number, rows in iter_rows(tmp_path, "train")]
    assert found == list(zip((1, 2, 3), counts, strict=True))


def test_no_rows_at_all(tmp_path: Path) -> None:
    write_points(tmp_path / "points" / "train.parquet", lambda: iter(()))
    assert list(iter_rows(tmp_path, "train")) == []


def decode_all(out: Path) -> None:
    for found in read_images(out, "train", list_images(out, "train")):
        list(found.instances())


def _coco(change: Callable[[Row], object]) -> Callable[[Path], None]:
    def apply(out: Path) -> None:
        path = out / "annotations" / "train.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return apply


def _first(**changes: object) -> Callable[[Path], None]:
    return _coco(lambda document: document["annotations"][0].update(changes))


def _lose_a_column(out: Path) -> None:
    path = out / "points" / "train.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["x"]), path)


def _rows_of_another(out: Path) -> None:
    write_points(out / "points" / "train.parquet", lambda: iter(sample_records()[1::-1]))


@pytest.mark.parametrize(
    ("break_it", "file", "problem"),
    [
        pytest.param(
            _coco(lambda d: d["annotations"].pop(0)),
            "train.json",
            "names, is missing",
            id="a mask is lost",
        ),
        pytest.param(
            _coco(lambda d: d["annotations"].append({**d["annotations"][-1], "id": 5})),
            "train.json",
            "annotation 5 is of no point",
            id="a stray mask",
        ),
        pytest.param(
            _coco(lambda d: d["annotations"].insert(0, d["annotations"].pop())),
            "train.json",
            "",
            id="out of order",
        ),
        pytest.param(_first(id="x"), "train.json", "id is no whole number", id="odd id"),
        pytest.param(_first(image_id=99), "train.json", "", id="of no image"),
        pytest.param(
            _coco(lambda d: d["annotations"].insert(0, 3)), "train.json", "", id="no object"
        ),
        pytest.param(
            _first(segmentation=[[1, 2, 3, 4, 5, 6]]), "train.json", "is no object", id="polygons"
        ),
        pytest.param(
            _first(segmentation={"size": [40, 57], "counts": "0"}),
            "train.json",
            "size (H, W) is [40, 57]",
            id="another size",
        ),
        pytest.param(
            _first(segmentation={"size": [40, 56], "counts": "0"}),
            "train.json",
            "do not add up",
            id="short runs",
        ),
        pytest.param(
            _first(segmentation={"size": [40, 56], "counts": "é\x00"}),
            "train.json",
            "run lengths",
            id="no runs",
        ),
        pytest.param(
            _first(segmentation={"size": [40, 56], "counts": "PV2"}),
            "train.json",
            "no pixel",
            id="an empty mask",
        ),
        pytest.param(_first(attributes={"point_id": -2}), "train.json", "negative", id="odd point"),
        pytest.param(
            _coco(lambda d: d["images"][0].pop("width")), "train.json", "width", id="width"
        ),
        pytest.param(
            lambda out: (out / "annotations/train.json").write_text("{"),
            "train.json",
            "",
            id="torn",
        ),
        pytest.param(
            lambda out: (out / "annotations/train.json").unlink(),
            "train.json",
            "",
            id="no annotations",
        ),
        pytest.param(
            lambda out: (out / "points/train.parquet").write_text("{"),
            "train.parquet",
            "",
            id="torn rows",
        ),
        pytest.param(
            lambda out: (out / "points/train.parquet").unlink(), "train.parquet", "", id="no rows"
        ),
        pytest.param(_lose_a_column, "train.parquet", "columns x", id="a column is lost"),
        pytest.param(_rows_of_another, "train.json", "", id="rows out of order"),
    ],
)
def test_what_is_wrong_is_named(
    out: Path, break_it: Callable[[Path], None], file: str, problem: str
) -> None:
    break_it(out)
    with pytest.raises(InputError) as caught:
        decode_all(out)
    assert file in str(caught.value)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
