from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpmo_cli.outputs.records import (
    DamagedRecordError,
    ImageRecord,
    read_corrected,
    read_fingerprint,
    read_info,
    read_record,
    write_corrected,
    write_record,
)
from dpmo_cli.outputs.schema import POINT_SCHEMA, RECORD_SCHEMA
from tests.outputs.samples import make_info, make_record, make_rows, sample_records


@pytest.mark.parametrize("index", range(5), ids=["usual", "nan", "empty", "failed", "test"])
def test_round_trip(tmp_path: Path, index: int) -> None:
    record = sample_records()[index]
    write_record(tmp_path / "r.parquet", record)
    again = read_record(tmp_path / "r.parquet")
    assert again.rows.schema.equals(RECORD_SCHEMA, check_metadata=True)
    # As text, because NaN is not equal to itself.
    assert repr(again.rows.to_pylist()) == repr(record.rows.to_pylist())
    assert again.info == record.info
    assert (again.warnings, again.error) == (record.warnings, record.error)
    assert read_fingerprint(tmp_path / "r.parquet") == again.fingerprint == record.fingerprint


def test_what_the_dataset_knows_of_a_head_is_kept(tmp_path: Path) -> None:
    info = make_info()
    rows = make_rows(info, [(5, 5), (20, 20)])
    rows[1].update(head_box_xyxy=[1.5, 2, 3, 4], occlusion=2, blurred=True, external_id="ä,7")
    write_record(tmp_path / "r.parquet", make_record(info, rows))
    assert (
        read_record(tmp_path / "r.parquet").rows.to_pylist()
        == make_record(info, rows).rows.to_pylist()
    )


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    for record in sample_records():
        write_record(tmp_path / "a.parquet", record)
        # Other chunks and another order of labels are the same record.
        chunks = pa.concat_tables([record.rows.slice(0, 2), record.rows.slice(2)])
        other = ImageRecord(record.info, chunks, record.warnings, record.error, record.fingerprint)
        write_record(tmp_path / "b.parquet", other)
        assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_rows_of_another_schema_are_refused() -> None:
    with pytest.raises(ValueError, match="RECORD_SCHEMA"):
        ImageRecord(make_info(), POINT_SCHEMA.empty_table())


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:100], id="cut"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"no parquet", id="other"),
    ],
)
def test_a_damaged_record(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "r.parquet"
    write_record(path, sample_records()[0])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedRecordError, match=r"r\.parquet"):
        read_record(path)
    assert read_fingerprint(path) is None


def test_a_flipped_byte_in_a_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write_record(path, sample_records()[0])
    group = pq.ParquetFile(path).metadata.row_group(0)
    column = group.column(RECORD_SCHEMA.names.index("x"))
    last = column.dictionary_page_offset + column.total_compressed_size - 1
    path.write_bytes(_flipped(path.read_bytes(), last))
    assert read_fingerprint(path) is not None
    with pytest.raises(DamagedRecordError):
        read_record(path)


def test_no_flipped_byte_gives_another_exception(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write_record(path, sample_records()[4])
    whole = path.read_bytes()
    damaged = 0
    for at in range(0, len(whole), 61):
        path.write_bytes(_flipped(whole, at))
        read_fingerprint(path)
        try:
            read_record(path)
        except DamagedRecordError:
            damaged += 1
    assert damaged > len(whole) / 61 / 4


def test_a_record_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write_record(path, sample_records()[0])
    table = pq.read_table(path)
    about = {**json.loads(table.schema.metadata[b"dpmo.record"]), "version": 0}
    table = table.replace_schema_metadata({b"dpmo.record": json.dumps(about)})
    pq.write_table(table, path)
    assert read_fingerprint(path) is None
    with pytest.raises(DamagedRecordError):
        read_record(path)


def test_a_missing_record_or_a_foreign_table(tmp_path: Path) -> None:
    assert read_fingerprint(tmp_path / "none.parquet") is None
    with pytest.raises(DamagedRecordError):
        read_record(tmp_path / "none.parquet")
    pq.write_table(RECORD_SCHEMA.empty_table(), tmp_path / "foreign.parquet")
    assert read_fingerprint(tmp_path / "foreign.parquet") is None
    with pytest.raises(DamagedRecordError):
        read_record(tmp_path / "foreign.parquet")


@pytest.mark.parametrize("record", sample_records(), ids=lambda record: record.info.file_name)
def test_corrected_records_are_read_as_they_were_written(
    record: ImageRecord, tmp_path: Path
) -> None:
    rows = record.rows.to_pylist()
    for row in rows:
        row["reviewer"] = "ada"
    corrected = replace(record, rows=pa.Table.from_pylist(rows, schema=RECORD_SCHEMA))
    path = tmp_path / "c.parquet"
    with pytest.raises(ValueError, match="automatic") if rows else nullcontext():
        write_record(path, corrected)
    write_corrected(path, corrected)
    again = read_corrected(path)
    assert again.rows.schema.equals(RECORD_SCHEMA, check_metadata=True)
    assert repr(again.rows.to_pylist()) == repr(rows)
    for name in ("info", "warnings", "error", "fingerprint"):
        assert getattr(again, name) == getattr(record, name)
    assert read_info(path) == record.info


def test_a_missing_record_is_not_to_be_deleted(tmp_path: Path) -> None:
    for read in (read_record, read_corrected, read_info):
        with pytest.raises(DamagedRecordError, match="is missing; see that its folder"):
            read(tmp_path / "none.parquet")
