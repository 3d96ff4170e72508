"""The queue as arrays, and its filters against the rows themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review.run_index import QueueFilter, RunIndex, open_run, read_index
from tests.outputs.samples import sample_records, write_run

Row = dict[str, Any]


@pytest.fixture(scope="module")
def index(drawn: Path) -> RunIndex:
    return open_run(drawn / "out")[1]


@pytest.fixture(scope="module")
def rows(drawn: Path) -> list[Row]:
    return list(pq.read_table(drawn / "out" / "review" / "queue.parquet").to_pylist())


def test_rows_keep_the_order_of_the_queue(index: RunIndex, rows: list[Row]) -> None:
    persons = [Person(row["split"], row["image_id"], row["point_id"]) for row in rows]
    assert [index.person(rank) for rank in range(len(index))] == persons
    assert [index.rank(person) for person in persons] == list(range(len(index)))
    assert [index.reason_names(rank) for rank in range(len(index))] == [
        row["reasons"] for row in rows
    ]


@pytest.mark.parametrize(
    "stranger",
    [Person("train", 1, 999), Person("train", 9, 0), Person("val", 1, 0), Person("test", 2, -1)],
)
def test_a_stranger_has_no_rank(index: RunIndex, stranger: Person) -> None:
    assert index.rank(stranger) is None


FILTERS: dict[str, tuple[QueueFilter, Callable[[Row], bool]]] = {
    "none": (QueueFilter(), lambda row: True),
    "reason": (QueueFilter(reasons=("low_score", "tiny")), lambda row: bool(row["reasons"])),
    "other reason": (QueueFilter(reasons=("tiny",)), lambda row: False),
    "flagged": (QueueFilter(flagged=True), lambda row: row["flagged"]),
    "split": (QueueFilter(splits=("test",)), lambda row: row["split"] == "test"),
    "image": (QueueFilter(image="PHOTO 1"), lambda row: row["image_id"] == 1),
    "score": (
        QueueFilter(score=(0.25, 0.75)),
        lambda row: 0.25 <= (row["score"] or 0) <= 0.75,
    ),
    "with mask": (QueueFilter(with_mask=True), lambda row: row["rle"] is not None),
    "without mask": (QueueFilter(with_mask=False), lambda row: row["rle"] is None),
    "small crowd": (QueueFilter(crowd=(0, 20)), lambda row: False),
    "its crowd": (QueueFilter(crowd=(21, 21)), lambda row: True),
    "persons": (
        QueueFilter(persons=(Person("train", 1, 3), Person("train", 1, 99))),
        lambda row: (row["split"], row["point_id"]) == ("train", 3),
    ),
    "accepted": (QueueFilter(verdicts=("accepted",)), lambda row: row["point_id"] == 2),
    "two": (
        QueueFilter(splits=("train",), with_mask=False),
        lambda row: row["split"] == "train" and row["rle"] is None,
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_choose_what_they_say(name: str, index: RunIndex, rows: list[Row]) -> None:
    wanted, fits = FILTERS[name]
    verdicts = np.array(["accepted" if row["point_id"] == 2 else "open" for row in rows], object)
    expected = [rank for rank, row in enumerate(rows) if fits(row)]
    assert index.choose(wanted, verdicts).tolist() == expected


def test_points_that_nobody_can_see_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, sample_records())
    index = read_index(tmp_path / "review" / "queue.parquet")
    assert set(index.status) == {"ok", "shared", "outside", "empty", "occluded"}


def test_an_empty_queue_is_no_error(tmp_path: Path) -> None:
    write_run(tmp_path, sample_records()[2:3])
    assert len(read_index(tmp_path / "review" / "queue.parquet")) == 0


def test_reasons_are_counted(index: RunIndex, rows: list[Row]) -> None:
    low = sum("low_score" in row["reasons"] for row in rows)
    assert index.reason_counts() == {"low_score": low}


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no finished run"):
        open_run(tmp_path)


def test_a_root_that_is_gone_is_refused(out: Path) -> None:
    with pytest.raises(UsageError, match="--root"):
        open_run(out, out / "nowhere")


def test_a_torn_queue_is_refused(out: Path) -> None:
    (out / "review" / "queue.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"queue\.parquet"):
        open_run(out)
