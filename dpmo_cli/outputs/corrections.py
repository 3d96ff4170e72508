"""What people decided about the persons of a run, and the snapshot of it that outputs are made of.

The snapshot, `OUT/review/corrections.parquet`, is written by `dpmo review apply` and holds the
standing decision about each person, ordered by person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.rle import Rle
from dpmo_cli.outputs.parquet import write_table
from dpmo_cli.outputs.schema import ACCEPTED, ADDED, ADDED_FROM, CORRECTED, MASK_FIELDS

REJECTED = "rejected"
DELETED = "deleted"
OPEN = "open"
VERDICTS = (ACCEPTED, REJECTED, CORRECTED, DELETED, ADDED, OPEN)
"""Accepted: the mask is right. Rejected: it is wrong and there is none better; the person stays,
without a mask. Corrected: this mask instead, maybe with the point moved. Deleted: the point is
nobody. Added: a person whom nobody had marked. Open: an earlier decision is withdrawn."""

_RLE = next(field for field in MASK_FIELDS if field.name == "rle")
_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("point_id", pa.int32(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        _RLE,
        pa.field("point_xy", pa.list_(pa.float64(), 2)),
        pa.field("reviewer", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("seen_xy", pa.list_(pa.float64(), 2)),
    ]
)
_BATCH_ROWS = 1024


@dataclass(frozen=True, order=True)
class Person:
    """One point of a run, or a person added to it: point ids from ADDED_FROM on."""

    split: str
    image_id: int
    point_id: int

    @property
    def is_added(self) -> bool:
        """Whether a reviewer added the person."""
        return self.point_id >= ADDED_FROM

    def __str__(self) -> str:
        return f"{self.split}, image {self.image_id}, point {self.point_id}"


@dataclass(frozen=True)
class Correction:
    """The standing decision about a person.

    Attributes:
        person: whom it is about.
        verdict: one of VERDICTS but `open`.
        rle: the mask to take (corrected, added), or the one that was seen (accepted; None: it was
            right that there is none).
        point_xy: where the point is now, px; None where it stays.
        reviewer: who decided.
        image: file name of the image that the reviewer saw.
        seen_xy: where the automatic point lay, px; None for added persons.
    """

    person: Person
    verdict: str
    rle: Rle | None
    point_xy: tuple[float, float] | None
    reviewer: str
    image: str
    seen_xy: tuple[float, float] | None

    @property
    def is_drawn(self) -> bool:
        """Whether the mask is a person's work, which no other mask may take pixels of."""
        return self.rle is not None and (self.verdict != ACCEPTED or self.person.is_added)


class CorrectionsError(DpmoError):
    """The snapshot can't be read."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: is no whole snapshot of decisions; run `dpmo review apply` again"
        )


def write_corrections(path: Path, corrections: Iterable[Correction]) -> int:
    """Write a snapshot atomically, and return how many it holds; equal corrections, equal bytes.

    Args:
        path: of the snapshot.
        corrections: ordered by person, open ones left out.
    """
    return write_table(path, _tables(corrections), _SCHEMA)


def read_corrections(path: Path) -> Iterator[Correction]:
    """Yield all corrections of a snapshot, ordered by person. Raises CorrectionsError."""
    if not path.exists():
        return
    try:
        with path.open("rb") as file, pq.ParquetFile(file) as parquet:
            if parquet.schema_arrow.names != _SCHEMA.names:
                raise ValueError("other columns")
            for batch in parquet.iter_batches(_BATCH_ROWS):
                yield from map(_correction, batch.to_pylist())
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise CorrectionsError(path) from error


def corrections_of(path: Path, split: str) -> Iterator[tuple[int, list[Correction]]]:
    """Yield the image ids of a split in order, each with its corrections ordered by point.

    A snapshot that is not there holds none. One image's are in memory at a time, beside a batch.

    Raises:
        CorrectionsError: the file is no snapshot.
    """
    of_split = (one for one in read_corrections(path) if one.person.split == split)
    for image_id, group in groupby(of_split, lambda one: one.person.image_id):
        yield image_id, list(group)


def splits_of(path: Path) -> list[str]:
    """The splits that a snapshot has corrections of, by name."""
    return [split for split, _ in groupby(one.person.split for one in read_corrections(path))]


def persons_of(path: Path) -> Iterator[Person]:
    """Yield whom the decisions of a snapshot are about, in order. Raises CorrectionsError."""
    return (one.person for one in read_corrections(path))


def _tables(corrections: Iterable[Correction]) -> Iterator[pa.Table]:
    rest = iter(corrections)
    while batch := list(islice(rest, _BATCH_ROWS)):
        rows = [{**vars(one), **vars(one.person)} for one in batch]
        yield pa.Table.from_pylist(rows, schema=_SCHEMA)


def _correction(row: dict[str, Any]) -> Correction:
    seen, point = row["seen_xy"], row["point_xy"]
    return Correction(
        person=Person(row["split"], row["image_id"], row["point_id"]),
        verdict=row["verdict"],
        rle=row["rle"],
        point_xy=None if point is None else (point[0], point[1]),
        reviewer=row["reviewer"],
        image=row["image"],
        seen_xy=None if seen is None else (seen[0], seen[1]),
    )
