from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dpmo_cli.cli.validate import validate
from dpmo_cli.errors import UsageError
from tests.outputs.samples import sample_records, write_run

app = typer.Typer()
app.command()(validate)
runner = CliRunner()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_run(tmp_path / "out", sample_records())


def test_a_clean_run(out: Path) -> None:
    result = runner.invoke(app, [str(out)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"dpmo: {out}: no findings\n"


def test_findings_are_lines(out: Path) -> None:
    (out / "points" / "old.parquet").touch()
    (out / "run.json").unlink()
    (out / "points" / "test.parquet").unlink()
    result = runner.invoke(app, [str(out)])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "DPMO-V001 run.json: is missing: the run has not ended; run it again",
        "DPMO-V002 points/test.parquet: is missing",
    ]
    assert result.stderr == f"dpmo: {out}: 2 findings\n"


@pytest.mark.parametrize("damaged", [True, False])
def test_json(out: Path, damaged: bool) -> None:
    if damaged:
        (out / "run.json").unlink()
    result = runner.invoke(app, [str(out), "--json"])
    assert result.exit_code == int(damaged)
    message = "is missing: the run has not ended; run it again"
    finding = {"code": "DPMO-V001", "file": "run.json", "message": message}
    assert json.loads(result.stdout) == {
        "version": 1,
        "kind": "validate",
        "out": str(out),
        "findings": [finding] if damaged else [],
    }


@pytest.mark.parametrize("kind", ["nothing", "a file", "a dataset"])
def test_what_is_no_run(tmp_path: Path, kind: str) -> None:
    if kind == "a file":
        (tmp_path / "out").touch()
    if kind == "a dataset":
        (tmp_path / "out" / "annotations").mkdir(parents=True)
        (tmp_path / "out" / "annotations" / "train.json").write_text("{}")
    result = runner.invoke(app, [str(tmp_path / "out")])
    assert isinstance(result.exception, UsageError)
    assert "out: holds no finished run; give the folder that `dpmo" in str(result.exception)
