"""Where options come from: flags go before DPMO_*, these before dpmo.toml, that before defaults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Crowd, Dpmo, FakeEngine

FILE = "dpmo.toml"


@pytest.fixture
def resolved(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Converts with some flags and returns the configuration in the run record."""

    def convert(*flags: str) -> dict[str, Any]:
        outcome = dpmo("convert", "--root", crowd.root, "--out", "out", *flags)
        assert outcome.code == 0, outcome.stderr
        config: dict[str, Any] = json.loads((tmp_path / "out/run.json").read_text())["config"]
        return config

    return convert


@pytest.mark.parametrize(
    ("flags", "variable", "file", "expected"),
    [
        pytest.param([], None, None, 1.0, id="default"),
        pytest.param([], None, "0.4", 0.4, id="file"),
        pytest.param([], "0.6", "0.4", 0.6, id="variable before file"),
        pytest.param(["--nnec-scale", "0.8"], "0.6", "0.4", 0.8, id="flag before all"),
        pytest.param(["--nnec-scale", "0.8"], None, "0.4", 0.8, id="flag before file"),
        pytest.param([], "0.6", None, 0.6, id="variable alone"),
        pytest.param([], "", "0.4", 0.4, id="empty variable is none"),
    ],
)
def test_precedence(
    flags: list[str],
    variable: str | None,
    file: str | None,
    expected: float,
    resolved: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable is not None:
        monkeypatch.setenv("DPMO_NNEC_SCALE", variable)
    if file is not None:
        (tmp_path / FILE).write_text(f"[convert]\nnnec-scale = {file}\n")
    assert resolved(*flags)["nnec_scale"] == expected


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        pytest.param('split = "test"', "split", ["test"], id="one of several"),
        pytest.param('split = ["test", "train"]', "split", ["test", "train"], id="several"),
        pytest.param('split = "train, test"', "split", ["train", "test"], id="with commas"),
        pytest.param("prompt_batch = 3", "prompt_batch", 3, id="underscore"),
        pytest.param("prompt-batch = 3", "prompt_batch", 3, id="hyphen"),
        pytest.param('tiles = "off"', "tiles", "off", id="word"),
        pytest.param("strict = true", "strict", True, id="switch"),
        pytest.param("nnec-scale = 2", "nnec_scale", 2.0, id="whole number for a real one"),
        pytest.param('shard = "1/2"', "shard", "1/2", id="shard"),
    ],
)
def test_file_takes_what_the_command_line_takes(
    text: str,
    name: str,
    expected: object,
    resolved: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    (tmp_path / FILE).write_text(f"[convert]\n{text}\n")
    assert resolved()[name] == expected


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("DPMO_SPLIT", "test", "split", ["test"]),
        ("DPMO_SPLIT", "test train", "split", ["test", "train"]),
        ("DPMO_SPLIT", "test,train", "split", ["test", "train"]),
        ("DPMO_DATASET", "csv", "dataset", "csv"),
        ("DPMO_LIMIT", "2", "limit", 2),
        ("DPMO_SHARD", "2/2", "shard", "2/2"),
        ("DPMO_STRICT", "1", "strict", True),
        ("DPMO_MAX_FAILURE_RATE", "0.5", "max_failure_rate", 0.5),
        ("DPMO_TILES", "off", "tiles", "off"),
        ("DPMO_DTYPE", "bf16", "dtype", "bf16"),
        ("DPMO_DEVICE", "cpu", "device", "cpu"),
        ("DPMO_PROMPT_BATCH", "2", "prompt_batch", 2),
    ],
)
def test_variables(
    variable: str,
    value: str,
    name: str,
    expected: object,
    resolved: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    assert resolved()[name] == expected


def test_root_and_out_may_come_from_the_file(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_text('[convert]\nroot = "data"\nout = "here"\nquiet = true\n')
    outcome = dpmo("convert")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert (tmp_path / "here/run.json").is_file()


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_another_file(
    by: str,
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    crowd: Crowd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / FILE).write_text("no TOML, and not read")
    (tmp_path / "mine.toml").write_text('[convert]\nroot = "data"\nout = "here"\n')
    if by == "variable":
        monkeypatch.setenv("DPMO_CONFIG", "mine.toml")
    flags = ["--config", "mine.toml"] if by == "flag" else []
    assert dpmo(*flags, "convert").code == 0
    assert (tmp_path / "here/run.json").is_file()


def test_commands_of_commands_have_tables_too(dpmo: Dpmo, crowd: Crowd, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('[datasets.inspect]\nroot = "data"\ndataset = "csv"\njson = true')
    assert dpmo("datasets", "inspect").json["dataset"] == "csv"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("a = ", "is no valid TOML", id="broken"),
        pytest.param("\xff", "is no valid TOML", id="not UTF-8"),
        pytest.param("sam = 'nano'", "unknown sam; known here: convert, predict", id="no table"),
        pytest.param("[covert]", "unknown covert; known here: convert", id="unknown command"),
        pytest.param("convert = 3", "convert is a command; write [convert]", id="no table of it"),
        pytest.param("[convert]\nsum = 1", "unknown convert.sum; known", id="unknown option"),
        pytest.param("[convert]\nhelp = true", "unknown convert.help", id="no help"),
        pytest.param("[datasets.inspekt]", "unknown datasets.inspekt", id="unknown sub-command"),
        pytest.param("[convert]\nlimit = 'x'", "convert.limit = 'x': ", id="no number"),
        pytest.param("[convert]\nlimit = 0", "convert.limit = 0: ", id="out of range"),
        pytest.param("[convert]\nlimit = [1]", "convert.limit = [1]: ", id="a list"),
        pytest.param("[convert]\nroot = 5", "convert.root = 5: ", id="no path"),
        pytest.param("[convert]\nstrict = 'maybe'", "convert.strict = 'maybe': ", id="no switch"),
    ],
)
def test_wrong_file_is_named(
    text: str, says: str, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out")
    assert outcome.code == 2
    (line,) = outcome.lines
    assert line.startswith(f"dpmo: error: {FILE}: {says}")
    assert not (tmp_path / "out").exists()


def test_missing_file_is_named(dpmo: Dpmo) -> None:
    outcome = dpmo("--config", "mine.toml", "validate", "out")
    assert outcome.code == 2
    assert outcome.lines == [
        "dpmo: error: mine.toml: can't be read (No such file or directory); check --config"
    ]
