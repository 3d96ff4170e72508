"""What a run record says of itself, and where the photos are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpmo_cli.errors import InputError
from dpmo_cli.outputs.run_file import RUN_FILE, Run, root_of
from tests.outputs.samples import DATASET, sample_records, write_run


def test_a_run_is_read(tmp_path: Path) -> None:
    out = write_run(tmp_path, sample_records(), extent="head")
    run = Run.read(out / RUN_FILE)
    assert (run.dataset, run.extent) == (DATASET, "head")
    assert list(run.split_counts) == ["train", "test"]
    assert run.counts["images"] == sum(part["images"] for part in run.split_counts.values()) == 5
    assert run.document["root"] == root_of(out) == "data"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="cut"),
        pytest.param("[]", id="a list"),
        pytest.param('{"version": 99}', id="another version"),
        pytest.param('{"version": 1}', id="an older version"),
        pytest.param('{"version": 2, "splits": []}', id="no splits"),
        pytest.param('{"version": 2, "splits": {"a/b": {}}}', id="a split that is a path"),
        pytest.param('{"version": 2, "splits": {}, "dataset": "x"}', id="no extent"),
        pytest.param("[" * 100_000, id="nested too deep"),
    ],
)
def test_what_is_no_run_record(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    with pytest.raises(InputError, match=r"run\.json: is no run record .*`dpmo convert`"):
        Run.of(tmp_path)


@pytest.mark.parametrize(
    ("text", "root"),
    [
        pytest.param(json.dumps({"root": "/photos/\udc80"}), "/photos/\udc80", id="no UTF-8"),
        pytest.param(json.dumps({"root": "/photos/\0"}), None, id="a NUL"),
        pytest.param(json.dumps({"root": "/photos/\ud800"}), None, id="half a character"),
        pytest.param('{"root": 3}', None, id="a number"),
        pytest.param("{}", None, id="none"),
        pytest.param("[]", None, id="a list"),
        pytest.param("{", None, id="cut"),
        pytest.param("[" * 100_000, None, id="nested too deep"),
        pytest.param(None, None, id="no file"),
    ],
)
def test_the_root(tmp_path: Path, text: str | None, root: str | None) -> None:
    if text is not None:
        (tmp_path / RUN_FILE).write_text(text)
    assert root_of(tmp_path) == root
