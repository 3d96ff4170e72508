"""What is known of one image after its conversion, and the small file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpmo_cli.errors import DpmoError
from dpmo_cli.outputs.atomic import atomic_path
from dpmo_cli.outputs.schema import AUTO, RECORD_SCHEMA, REVIEW_FIELDS, STORED_SCHEMA

RECORD_VERSION = 1
RECORDS_FOLDER = ".dpmo/records"
_KEY = b"dpmo.record"
_REVIEW_NAMES = [field.name for field in REVIEW_FIELDS]


class DamagedRecordError(DpmoError):
    """A record's file is missing, torn or from another version; the image is converted again."""

    def __init__(self, path: Path, error: Exception) -> None:
        if isinstance(error, FileNotFoundError):
            words = "is missing; see that its folder is there, or run its `dpmo convert` again"
        else:
            words = "is no whole record; delete it and run its `dpmo convert` again"
        super().__init__(f"{path}: {words}")


@dataclass(frozen=True)
class ImageInfo:
    """One image as the outputs name it.

    Attributes:
        image_id: stable across runs and shards.
        split: lower-case split name.
        file_name: path relative to the dataset's root, with "/".
        width, height: px in stored order; None where the image could not be read.
        labels: what the dataset says of the whole image.
    """

    image_id: int
    split: str
    file_name: str
    width: int | None
    height: int | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageRecord:
    """One converted image.

    Attributes:
        info: the image.
        rows: one row per point in the order of its annotation, of RECORD_SCHEMA.
        warnings: oddities that did not stop the run.
        error: why the image failed, or None.
        fingerprint: what the rows were made from (files, settings, weights, versions), hashed.
    """

    info: ImageInfo
    rows: pa.Table
    warnings: tuple[str, ...] = ()
    error: str | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.rows.schema.equals(RECORD_SCHEMA):
            raise ValueError("the rows of a record must follow RECORD_SCHEMA")


Records = Callable[[], Iterator[ImageRecord]]
"""Records that can be gone through more than once, one image in memory at a time."""


def record_path(out: Path, split: str, image_id: int) -> Path:
    """Where the automatic record of an image of the run in `out` lies."""
    return out / RECORDS_FOLDER / split / f"{image_id:08d}.parquet"


def write_record(path: Path, record: ImageRecord) -> None:
    """Write a record as a Parquet file of one image, atomically; equal records, equal bytes.

    Raises:
        ValueError: the record holds what a reviewer decided; those that are kept are automatic.
    """
    if not record.rows.select(_REVIEW_NAMES).equals(_automatic(record.rows)):
        raise ValueError("a record that is kept must be automatic")
    _write(path, record, STORED_SCHEMA)


def write_corrected(path: Path, record: ImageRecord) -> None:
    """Write a record with what reviewers decided: a file that outputs are made of, and no longer.

    It lies elsewhere than `record_path`.
    """
    _write(path, record, RECORD_SCHEMA)


def _write(path: Path, record: ImageRecord, schema: pa.Schema) -> None:
    about = {
        "version": RECORD_VERSION,
        "fingerprint": record.fingerprint,
        "info": asdict(record.info),
        "warnings": list(record.warnings),
        "error": record.error,
    }
    stored = record.rows.select(schema.names)
    table = stored.combine_chunks().replace_schema_metadata(
        {_KEY: json.dumps(about, sort_keys=True).encode()}
    )
    # Open files, here and elsewhere: of a path with a colon pyarrow would make an address.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def read_record(path: Path) -> ImageRecord:
    """Read a record; the pages' checksums are verified.

    Raises:
        DamagedRecordError: for anything that is not a whole record of this version.
    """
    return _read(path, STORED_SCHEMA)


def read_corrected(path: Path) -> ImageRecord:
    """Read what `write_corrected` wrote. Raises DamagedRecordError."""
    return _read(path, RECORD_SCHEMA)


def read_info(path: Path) -> ImageInfo:
    """Read which image a record is of, from the file's footer. Raises DamagedRecordError."""
    try:
        with path.open("rb") as file:
            return ImageInfo(**_about(pq.read_schema(file))["info"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedRecordError(path, error) from error


def _read(path: Path, schema: pa.Schema) -> ImageRecord:
    try:
        with path.open("rb") as file:
            # Small files: threads would take longer to begin than to read.
            table = pq.ParquetFile(file, page_checksum_verification=True).read(use_threads=False)
        about = _about(table.schema)
        # Parquet renames the elements of nested lists; the cast names them as we do.
        rows = table.cast(schema)
        return ImageRecord(
            info=ImageInfo(**about["info"]),
            rows=rows if schema is RECORD_SCHEMA else _with_review(rows),
            warnings=tuple(about["warnings"]),
            error=about["error"],
            fingerprint=about["fingerprint"],
        )
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedRecordError(path, error) from error


def read_fingerprint(path: Path) -> str | None:
    """Return a record's fingerprint from the file's footer, None where there is no such record."""
    try:
        with path.open("rb") as file:
            return str(_about(pq.read_schema(file))["fingerprint"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def _automatic(rows: pa.Table) -> pa.Table:
    """The review's columns of rows that nobody has decided about."""
    source = pc.if_else(pc.is_valid(rows["rle"]), AUTO, pa.scalar(None, pa.string()))
    reviewer = pa.chunked_array([pa.nulls(len(rows), pa.string())])
    return pa.Table.from_arrays([source, reviewer], schema=pa.schema(REVIEW_FIELDS))


def _with_review(rows: pa.Table) -> pa.Table:
    columns = [*rows.columns, *_automatic(rows).columns]
    return pa.Table.from_arrays(columns, schema=RECORD_SCHEMA)


def _about(schema: pa.Schema) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((schema.metadata or {})[_KEY])
    if about["version"] != RECORD_VERSION:
        raise ValueError("another version of record")
    return about
