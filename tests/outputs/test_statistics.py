"""The numbers of a report against tables made by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpmo_cli.errors import InputError
from dpmo_cli.outputs.run_file import Run
from dpmo_cli.outputs.schema import QUEUE_SCHEMA
from dpmo_cli.outputs.statistics import PartCounts, Statistics, read_statistics
from tests.outputs.samples import counts_of, sample_records, write_run

Row = dict[str, Any]
DEFAULTS: Row = {
    "dataset": "x",
    "split": "train",
    "image": "a.jpg",
    "image_id": 1,
    "point_id": 0,
    "x": 0.0,
    "y": 0.0,
    "status": "ok",
    "reasons": [],
    "flagged": False,
}


def run_of(images: int = 1, failed: int = 0, splits: Sequence[str] = ("train",)) -> Run:
    counts = {"images": images, "failed_images": failed}
    return Run("x", "nnec", counts, dict.fromkeys(splits, counts), {})


def statistics_of(
    out: Path, rows: Sequence[Row], run: Run | None = None, schema: pa.Schema = QUEUE_SCHEMA
) -> Statistics:
    (out / "review").mkdir()
    table = pa.Table.from_pylist([DEFAULTS | row for row in rows], schema=schema)
    pq.write_table(table, out / "review" / "queue.parquet")
    return read_statistics(out, run or run_of())


def test_counts_of_a_run(tmp_path: Path) -> None:
    records = sample_records()
    out = write_run(tmp_path, records)
    statistics = read_statistics(out, Run.read(out / "run.json"))
    expected = counts_of(records)
    assert statistics.total == PartCounts(5, 1, expected["points"], expected["masks"], 9)
    assert statistics.splits == {
        "train": PartCounts(4, 1, 13, 7, 7),
        "test": PartCounts(1, 0, 3, 2, 2),
    }
    assert statistics.by_status == expected["by_status"]
    assert list(statistics.by_status.values()) == sorted(statistics.by_status.values())[::-1]
    people = statistics.crowds.people.tolist()
    assert people == [3, 6, 3, 0]  # test, then train, then the image without points
    assert statistics.crowds.as_json() == {
        "images": 4, "min": 0, "median": 3.0, "mean": 3.0, "max": 6
    }  # fmt: skip


def test_reasons_are_of_flagged_points_most_first(tmp_path: Path) -> None:
    statistics = statistics_of(
        tmp_path,
        [
            {"flagged": True, "reasons": ["tiny", "low_score"]},
            {"flagged": True, "reasons": ["low_score"]},
            {"flagged": False, "reasons": ["ambiguous"]},
            {"flagged": True, "reasons": ["ambiguous"]},
        ],
    )
    assert list(statistics.by_reason.items()) == [("low_score", 2), ("ambiguous", 1), ("tiny", 1)]


@pytest.mark.parametrize(
    ("scores", "bins", "missing"),
    [
        pytest.param([0.0, 0.049, 0.05], {0: 2, 1: 1}, 0, id="bins are half open"),
        pytest.param([1.0, 0.999], {19: 2}, 0, id="the last one is closed"),
        pytest.param([None, float("nan"), 0.5], {10: 1}, 2, id="none and NaN"),
        pytest.param([1.5, -0.1], {}, 2, id="out of range"),
        pytest.param([], {}, 0, id="no masks"),
    ],
)
def test_score(
    tmp_path: Path, scores: list[float | None], bins: dict[int, int], missing: int
) -> None:
    rows = [{"score": score} for score in scores] + [{"status": "shared", "score": 0.9}]
    score = statistics_of(tmp_path, rows).score
    assert {index: count for index, count in enumerate(score.counts) if count} == bins
    assert (score.missing, score.total, len(score.edges)) == (missing, sum(bins.values()), 21)


@pytest.mark.parametrize(
    ("areas", "first", "last", "counts"),
    [
        pytest.param([10], 10.0, 14.677993, [1], id="one value, on an edge"),
        pytest.param([1, 9, 10], 1.0, 14.677993, [1, 0, 0, 0, 0, 1, 1], id="a power of ten"),
        pytest.param([100, 1000], 100.0, 1467.799268, [1, 0, 0, 0, 0, 0, 1], id="larger ones"),
        pytest.param([], 1.0, 10.0, [0] * 6, id="none"),
        pytest.param([None, 0], 1.0, 10.0, [0] * 6, id="none that a log shows"),
    ],
)
def test_area(
    tmp_path: Path, areas: list[int | None], first: float, last: float, counts: list[int]
) -> None:
    area = statistics_of(tmp_path, [{"area": area} for area in areas]).area_px
    assert (area.edges[0], area.edges[-1], list(area.counts)) == (first, last, counts)
    assert area.missing == len(areas) - sum(counts)


def test_median_is_of_the_masks_alone(tmp_path: Path) -> None:
    rows = [{"radius_px": radius} for radius in (3.0, 8.0, 40.0)]
    rows.append({"status": "empty", "radius_px": 900.0})
    radius = statistics_of(tmp_path, rows).radius_px
    assert (radius.median, radius.total) == (8.0, 3)


def test_crowds_leave_out_nobodies_and_know_images_of_one_id(tmp_path: Path) -> None:
    rows = [
        {"flagged": True},
        {"status": "outside", "flagged": True},
        {"status": "empty", "flagged": True},
        {"split": "val"},
        {"split": "val", "image_id": 2, "status": "failed", "flagged": True},
    ]
    crowds = statistics_of(tmp_path, rows, run_of(4, 1, ("train", "val"))).crowds
    assert (crowds.people.tolist(), crowds.flagged.tolist()) == ([2, 1, 0], [2, 0, 0])


def test_sources_and_reviewers_are_counted(tmp_path: Path) -> None:
    rows = [
        {"source": "auto"},
        {"source": "corrected", "reviewer": "ann"},
        {"source": "auto"},
        {"status": "empty"},
    ]
    statistics = statistics_of(tmp_path, rows)
    assert statistics.by_source == {"auto": 2, "corrected": 1}
    assert statistics.by_reviewer == {"ann": 1}


def test_no_points_at_all(tmp_path: Path) -> None:
    statistics = statistics_of(tmp_path, [], run_of(0, splits=()))
    assert statistics.total == PartCounts(0, 0, 0, 0, 0)
    assert statistics.crowds.as_json() == {
        "images": 0, "min": None, "median": None, "mean": None, "max": None
    }  # fmt: skip
    assert (statistics.by_status, statistics.by_reason, statistics.by_source) == ({}, {}, {})


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        pytest.param(pa.schema([]), "columns split, image_id", id="no columns"),
        pytest.param(
            pa.schema([f if f.name != "status" else f.with_type(pa.int8()) for f in QUEUE_SCHEMA]),
            "columns status",
            id="another type",
        ),
        pytest.param(None, "No such file", id="no file"),
    ],
)
def test_a_queue_that_is_none(tmp_path: Path, schema: pa.Schema | None, problem: str) -> None:
    if schema is not None:
        (tmp_path / "review").mkdir()
        pq.write_table(schema.empty_table(), tmp_path / "review" / "queue.parquet")
    with pytest.raises(InputError, match=problem) as caught:
        read_statistics(tmp_path, run_of())
    assert "queue.parquet" in str(caught.value)


def test_counts_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json: images is no whole number"):
        statistics_of(tmp_path, [], Run("x", "nnec", {}, {}, {}))


@pytest.mark.slow
def test_a_million_points_in_seconds(tmp_path: Path) -> None:
    count = 1_000_000
    rng = np.random.default_rng(0)
    columns: Row = {
        **{name: pa.repeat(pa.scalar(value), count) for name, value in DEFAULTS.items()},
        "image_id": pa.array(rng.integers(1, 5001, count)),
        "reasons": pa.repeat(pa.scalar(["low_score"], pa.list_(pa.string())), count),
        "flagged": pa.repeat(pa.scalar(True), count),
        "score": pa.array(rng.random(count)),
        "radius_px": pa.array(rng.lognormal(2, 1, count)),
        "area": pa.array(rng.integers(1, 10**5, count)),
    }
    arrays = [
        columns[f.name].cast(f.type) if f.name in columns else pa.nulls(count, f.type)
        for f in QUEUE_SCHEMA
    ]
    (tmp_path / "review").mkdir()
    table = pa.Table.from_arrays(arrays, schema=QUEUE_SCHEMA)
    pq.write_table(table, tmp_path / "review" / "queue.parquet")
    begin = time.process_time()
    statistics = read_statistics(tmp_path, run_of(5000))
    assert time.process_time() - begin < 10
    assert statistics.score.total == statistics.by_reason["low_score"] == count
    assert int(statistics.crowds.people.sum()) == count


def test_sizes_near_nothing_are_left_out_of_the_figures(tmp_path: Path) -> None:
    rows: list[Row] = [{"radius_px": 1e-300}, {"radius_px": 4.0}, {"radius_px": 5.0}]
    radius = statistics_of(tmp_path, rows).radius_px
    assert radius.edges[0] > 0
    assert (radius.missing, radius.median) == (1, 4.5)
