"""`dpmo train nano`: wrong folders end it before anything is trained or written."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from dpmo_cli.training import nano
from tests.conftest import Dpmo


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            ["--data", "nowhere", "--out", "out"],
            "--data nowhere: no such folder",
            id="missing data",
        ),
        pytest.param(
            ["--data", "file", "--out", "out"], "--data file: no such folder", id="data is a file"
        ),
        pytest.param(
            ["--data", "empty", "--out", "out"],
            "empty: no scenes of persons; give the folder that holds PennFudanPed",
            id="data without scenes",
        ),
        pytest.param(
            ["--data", "empty", "--out", "file"], "--out file: is a file", id="out is a file"
        ),
        pytest.param(
            ["--data", "empty", "--out", "out", "--init", "nowhere.safetensors"],
            "--init nowhere.safetensors: no such file",
            id="missing weights to go on from",
        ),
        pytest.param(
            ["--data", "empty", "--out", "out", "--rendered", "nowhere"],
            "--rendered nowhere: no such folder",
            id="missing rendered scenes",
        ),
        pytest.param(
            ["--data", "empty", "--out", "out", "--device", "tpu"],
            "--device tpu: unknown",
            id="unknown device",
        ),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], says: str, dpmo: Dpmo, folders: Path) -> None:
    outcome = dpmo("train", "nano", *arguments, "--quiet")
    assert outcome.code == 2
    assert outcome.stdout == ""
    (line,) = outcome.lines
    assert line.startswith(f"dpmo: error: {says}")


def test_options_reach_the_training(
    dpmo: Dpmo, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def train(data: Path, out: Path, settings: nano.NanoTraining, **options: Any) -> Path:
        seen.update(options, data=data, out=out, settings=settings)
        options["say"]("a line of progress")
        return out / "nano.safetensors"

    monkeypatch.setattr(nano, "train_nano", train)
    outcome = dpmo(
        *("train", "nano", "--data", "empty", "--out", "out", "--steps", "7", "--crops", "2"),
        *("--prompts", "3", "--seed", "9", "--rate", "0.5", "--device", "cpu"),
        *("--workers", "4", "--validate-every", "5"),
        *("--rendered", "empty", "--rendered", "."),
    )
    assert outcome.code == 0
    assert outcome.stdout == "out/nano.safetensors\n"
    assert outcome.lines == ["a line of progress"]
    plain = nano.NanoTraining()
    assert seen["settings"] == nano.NanoTraining(
        steps=7,
        crops=2,
        prompts=3,
        rate_trunk=plain.rate_trunk / 2,
        rate_rest=plain.rate_rest / 2,
        seed=9,
    )
    assert (seen["data"], seen["out"], seen["device"]) == (Path("empty"), Path("out"), "cpu")
    assert list(seen["rendered"]) == [Path("empty"), Path()]
    assert (seen["workers"], seen["validate_every"]) == (4, 5)
    assert seen["init"] is None


def test_defaults_are_those_of_the_library(
    dpmo: Dpmo, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def train(data: Path, out: Path, settings: nano.NanoTraining, **options: Any) -> Path:
        seen.update(options, settings=settings)
        return out / "nano.safetensors"

    library = inspect.signature(nano.train_nano).parameters
    monkeypatch.setattr(nano, "train_nano", train)
    assert dpmo("train", "nano", "--data", "empty", "--out", "out", "--quiet").code == 0
    assert seen["settings"] == nano.NanoTraining()
    for name in ("rendered", "init", "workers", "validate_every"):
        assert seen[name] == library[name].default, name
