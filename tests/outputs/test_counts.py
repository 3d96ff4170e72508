"""`counts.csv`: people and masks of each photo."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dpmo_cli.datasets.count_files import is_count_file, read_count_file
from dpmo_cli.outputs.counts import COUNT_COLUMNS, write_counts
from dpmo_cli.outputs.records import ImageRecord
from dpmo_cli.outputs.schema import STATUSES
from tests.outputs.samples import make_info, make_record, make_rows, sample_records


def lines_of(records: list[ImageRecord], folder: Path) -> list[list[str]]:
    path = folder / "counts.csv"
    write_counts(path, lambda: iter(records))
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COUNT_COLUMNS
    return rows


def test_people_and_masks(tmp_path: Path) -> None:
    """Outside and invalid points are nobody; empty and shared ones have been located. What could
    not be read has no counts."""
    assert lines_of(sample_records(), tmp_path) == [
        ["images/a b.jpg", "6", "4"],
        ["images/c,ä.jpg", "3", "3"],
        ["images/d.jpg", "0", "0"],
        ["images/e.jpg", "", ""],
        ["images/f.jpg", "3", "2"],
    ]


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("ok", True), ("shared", True), ("empty", True), ("occluded", True),
        ("outside", False), ("invalid", False), ("rejected", False), ("failed", False),
    ],
)  # fmt: skip
def test_each_status(status: str, counts: bool, tmp_path: Path) -> None:
    assert status in STATUSES
    info = make_info()
    statuses = {} if status in ("ok", "shared") else {1: status}
    shares = {1: 0} if status == "shared" else None
    rows = make_rows(info, [(9, 9), (30, 20)], statuses=statuses, shares=shares)
    ((_, people, masks),) = lines_of([make_record(info, rows)], tmp_path)
    assert (people, masks) == ("2" if counts else "1", "2" if status == "ok" else "1")


def test_it_reads_back(tmp_path: Path) -> None:
    lines_of(sample_records(), tmp_path)
    path = tmp_path / "counts.csv"
    assert is_count_file(path)
    assert read_count_file(path) == {
        "images/a b": 6, "images/c,ä": 3, "images/d": 0, "images/f": 3,
    }  # fmt: skip


def test_nothing(tmp_path: Path) -> None:
    assert lines_of([], tmp_path) == []
