"""What run records say of the time beside the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.schema import SCHEMA_VERSION
from dpmo_cli.trials.overhead import overhead_ms

SECONDS = {"read": 9, "encode": 9, "prompt": 9, "choose": 1, "clip": 2, "own": 3, "rle": 4}


def record(out: Path, **changes: Any) -> Path:
    document = {
        "version": SCHEMA_VERSION,
        "dataset": "csv",
        "extent": "nnec",
        "counts": {"images": 3, "failed_images": 1, "points": 2000},
        "splits": {},
        "converted_images": 2,
        "seconds": {**SECONDS, "write": 5.5},
        **changes,
    }
    (out / "run.json").write_text(json.dumps(document))
    return out


def test_by_stage_and_in_total(tmp_path) -> None:
    found = overhead_ms(record(tmp_path))
    stages = {"choose": 0.5, "clip": 1.0, "own": 1.5, "rle": 2.0, "write": 2.75}
    assert found == {**stages, "total": sum(stages.values())}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"converted_images": 1}, "only some of the images", id="resumed"),
        pytest.param({"seconds": SECONDS}, "seconds.write is no number", id="no stage"),
        pytest.param({"seconds": None}, "seconds is no object", id="no seconds"),
        pytest.param(
            {"counts": {"images": 2, "failed_images": 0, "points": 0}}, "some", id="no points"
        ),
    ],
)
def test_records_that_do_not_say_it(tmp_path, changes, problem) -> None:
    with pytest.raises(InputError, match=rf"run\.json.*{problem}.*--force"):
        overhead_ms(record(tmp_path, **changes))


def test_merged_shards(tmp_path) -> None:
    path = record(tmp_path) / "run.json"
    document = json.loads(path.read_text())
    del document["seconds"], document["converted_images"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"run\.json: is of merged shards.*one of the shards"):
        overhead_ms(tmp_path)


def test_no_run(tmp_path) -> None:
    with pytest.raises(UsageError, match="no finished run"):
        overhead_ms(tmp_path)
