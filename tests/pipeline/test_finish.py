"""Counting what a folder holds, and telling a finished run from one that is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dpmo_cli.outputs.run_file import root_of
from dpmo_cli.outputs.validate import validate_run
from dpmo_cli.pipeline.finish import (
    Counts,
    Finished,
    is_finished,
    output_files,
    peak_memory_bytes,
    tally,
    write_outputs,
    write_run_record,
)
from dpmo_cli.pipeline.store import Manifest, Store
from tests.outputs.samples import sample_records
from tests.pipeline.test_settings import SETTINGS


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run of sample records in two splits, one of them failed."""
    folder = tmp_path / "out"
    with Store(folder) as store:
        records = sample_records()
        for split in ("train", "test"):
            of_split = [record for record in records if record.info.split == split]
            for record in of_split:
                store.write_record(record)
            fingerprints = {record.info.image_id: record.fingerprint for record in of_split}
            store.write_manifest(split, Manifest(SETTINGS, None, None, "", fingerprints))
        write_outputs(store, SETTINGS)
        write_run_record(
            store,
            SETTINGS,
            tally(store),
            root="data",
            config={"sam": "nano"},
            measured={"tiles": 3},
        )
    return folder


def test_tally_counts_every_point(out: Path) -> None:
    with Store(out) as store:
        finished = tally(store)
    records = sample_records()
    assert finished.counts.images == len(records)
    assert finished.counts.points == sum(len(record.rows) for record in records)
    assert finished.counts.points == sum(finished.counts.by_status.values())
    assert finished.counts.failed_images == 1
    assert finished.failures == ["torn"]
    assert finished.warnings == [
        f"{record.info.file_name}: {warning}"
        for split in ("test", "train")
        for record in records
        if record.info.split == split
        for warning in record.warnings
    ]
    assert list(finished.splits) == ["test", "train"]
    assert finished.splits["test"].images + finished.splits["train"].images == len(records)


def test_counts_are_written_in_a_steady_order() -> None:
    counts = Counts(images=1, points=3)
    counts.by_status.update(["outside", "empty", "ok"])
    assert counts.as_json() == {
        "images": 1,
        "failed_images": 0,
        "points": 3,
        "masks": 0,
        "flagged": 0,
        "by_status": {"empty": 1, "ok": 1, "outside": 1},
    }
    assert list(counts.as_json()["by_status"]) == ["empty", "ok", "outside"]


@pytest.mark.parametrize(
    ("images", "failed", "rate", "code"),
    [
        pytest.param(0, 0, 0.0, 0, id="no images"),
        pytest.param(5, 0, 0.0, 0, id="all went well"),
        pytest.param(5, 1, 1.0, 3, id="one failed"),
        pytest.param(5, 5, 1.0, 1, id="all failed"),
        pytest.param(5, 1, 0.2, 3, id="as many as allowed"),
        pytest.param(5, 2, 0.2, 1, id="more than allowed"),
        pytest.param(5, 1, 0.0, 1, id="none allowed"),
    ],
)
def test_exit_code(images: int, failed: int, rate: float, code: int) -> None:
    counts = Counts(images=images, failed_images=failed)
    assert Finished(counts, {}, [], []).exit_code(rate) == code


def test_outputs_are_valid_and_finished(out: Path) -> None:
    assert validate_run(out) == []
    with Store(out) as store:
        assert is_finished(store, SETTINGS)
        assert not is_finished(store, replace(SETTINGS, tiles="off"))
        assert all(path.is_file() for path in output_files(store))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda out: (out / "run.json").unlink(), id="no run record"),
        pytest.param(lambda out: (out / "run.json").write_text("{"), id="torn run record"),
        pytest.param(lambda out: (out / "run.json").write_text("[]"), id="another run record"),
        pytest.param(lambda out: (out / "run.json").write_bytes(b"\xff"), id="binary run record"),
        pytest.param(lambda out: (out / "points/train.parquet").unlink(), id="lost file"),
        pytest.param(lambda out: (out / "points/test.parquet").write_bytes(b""), id="other bytes"),
    ],
)
def test_damaged_folder_is_not_finished(damage: Callable[[Path], object], out: Path) -> None:
    damage(out)
    with Store(out) as store:
        assert not is_finished(store, SETTINGS)


def test_run_record_says_how_the_run_was_made_and_what_was_odd(out: Path) -> None:
    record = json.loads((out / "run.json").read_text())
    assert root_of(out) == record["root"] == "data"
    assert (record["config"], record["tiles"]) == ({"sam": "nano"}, 3)
    assert record["failures"] == ["torn"]
    assert "images/a b.jpg: a warning" in record["warnings"]


def test_peak_memory_is_in_bytes() -> None:
    assert 10**7 < peak_memory_bytes() < 10**12
