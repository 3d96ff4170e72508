from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpmo_cli.outputs import parquet
from dpmo_cli.outputs.parquet import write_points, write_queue
from dpmo_cli.outputs.records import ImageRecord, read_record, write_record
from dpmo_cli.outputs.schema import POINT_SCHEMA, QUEUE_SCHEMA, RECORD_SCHEMA
from tests.outputs.samples import Row, make_info, make_record, make_rows, sample_records


def text_of(rows: list[Row]) -> list[str]:
    """Rows as text: NaN is not equal to itself."""
    return [repr(row) for row in rows]


def many_records(images: int = 60, seed: int = 0) -> list[ImageRecord]:
    """Records with many equal, missing and NaN scores."""
    rng = random.Random(seed)
    records = []
    for image_id in rng.sample(range(1000), images):
        info = make_info(image_id, rng.choice(["train", "test", "val"]), f"{image_id}.jpg")
        rows = make_rows(info, [(i % 50, i % 40) for i in range(rng.randrange(8))], 0.0)
        for row in rows:
            row["score"] = rng.choice([None, 0.25, 0.5, 0.75, float("nan"), -1.0])
        records.append(make_record(info, rows))
    return records


def test_points_are_the_rows_in_order(tmp_path: Path) -> None:
    records = sample_records()
    write_points(tmp_path / "p.parquet", lambda: iter(records))
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.schema.equals(POINT_SCHEMA)
    expected = [row for r in records for row in r.rows.select(POINT_SCHEMA.names).to_pylist()]
    assert text_of(table.to_pylist()) == text_of(expected)


def brute_force_queue(records: list[ImageRecord]) -> list[Row]:
    rows = [
        {"dataset": "shb", "split": r.info.split, **row}
        for r in records
        for row in r.rows.to_pylist()
    ]

    def key(row: Row) -> tuple[float, str, int, int]:
        score = row["score"]
        missing = score is None or score != score
        return (float("-inf") if missing else score, row["split"], row["image_id"], row["point_id"])

    return sorted(rows, key=key)


@pytest.mark.parametrize("window_rows", [17, 64, 1 << 19])
def test_the_queue_is_worst_first_whatever_the_window(tmp_path: Path, window_rows: int) -> None:
    records = many_records() + sample_records()
    path = tmp_path / "q.parquet"
    write_queue(path, lambda: iter(records), "shb", window_rows=window_rows)
    table = pq.read_table(path)
    assert table.schema.equals(QUEUE_SCHEMA)
    assert text_of(table.to_pylist()) == text_of(brute_force_queue(records))


def test_bytes_depend_on_the_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 64)
    records = many_records()
    shuffled = random.Random(1).sample(records, len(records))
    for name, order, rows in [("a", records, 50), ("b", shuffled, 1 << 19), ("c", shuffled, 128)]:
        write_queue(tmp_path / name, lambda order=order: iter(order), "shb", window_rows=rows)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()
    assert pq.ParquetFile(tmp_path / "a").metadata.row_group(0).num_rows == 64


def test_points_bytes_do_not_depend_on_how_the_records_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 32)
    records = many_records()
    table = pa.concat_tables([r.rows for r in records])
    cuts = [ImageRecord(make_info(), table.slice(at, 50)) for at in range(0, len(table), 50)]
    write_points(tmp_path / "a", lambda: iter(records))
    write_points(tmp_path / "b", lambda: iter(cuts))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert [
        pq.ParquetFile(tmp_path / "a").metadata.row_group(group).num_rows for group in (0, 1)
    ] == [32, 32]


def test_records_from_files_give_the_same_bytes(tmp_path: Path) -> None:
    records = sample_records()
    again = []
    for index, record in enumerate(records):
        write_record(tmp_path / f"{index}.parquet", record)
        again.append(read_record(tmp_path / f"{index}.parquet"))
    for name, some in (("a", records), ("b", again)):
        write_points(tmp_path / f"{name}.points", lambda some=some: iter(some))
        write_queue(tmp_path / f"{name}.queue", lambda some=some: iter(some), "shb")
    for kind in ("points", "queue"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize(
    "records", [[], [make_record(make_info(), [])]], ids=["no images", "no points"]
)
def test_empty_tables(tmp_path: Path, records: list[ImageRecord]) -> None:
    write_points(tmp_path / "p.parquet", lambda: iter(records))
    write_queue(tmp_path / "q.parquet", lambda: iter(records), "shb")
    assert pq.read_table(tmp_path / "p.parquet").equals(POINT_SCHEMA.empty_table())
    assert pq.read_table(tmp_path / "q.parquet").equals(QUEUE_SCHEMA.empty_table())


def test_the_queue_holds_the_masks(tmp_path: Path) -> None:
    records = sample_records()
    write_queue(tmp_path / "q.parquet", lambda: iter(records), "shb")
    rows = {
        (row["image_id"], row["point_id"]): row
        for row in pq.read_table(tmp_path / "q.parquet").to_pylist()
    }
    for row in records[0].rows.select(["image_id", "point_id", "bbox", "area", "rle"]).to_pylist():
        assert row.items() <= rows[row["image_id"], row["point_id"]].items()
    assert set(RECORD_SCHEMA.names) < set(rows[1, 0])
