"""The README says only what is true: its commands parse, its example runs, its tables are whole."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from dpmo_cli.cli.app import app
from dpmo_cli.datasets.registry import ALIASES, DATASET_NAMES
from dpmo_cli.masks.reasons import REASONS
from dpmo_cli.outputs.schema import POINT_SCHEMA, STATUSES
from tests.conftest import Crowd, Dpmo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    inline = re.findall(r"`(dpmo [^`]+)`", README)
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("dpmo ")]
    return sorted({command for command in inline + lines if "|" not in command})


@pytest.mark.parametrize("line", commands())
def test_commands_exist_with_their_options(line: str) -> None:
    command = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]
    while hasattr(command, "commands"):
        assert words, f"{line}: names no command"
        if words[0] not in command.commands:
            pytest.fail(f"{line}: no command {words[0]}")
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_some_commands_were_found() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z][a-z0-9-]+)", README))))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def example_with(word: str) -> str:
    (found,) = (
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if word in block
    )
    return str(found)


def test_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = example_with("masks_from_points")
    pixels = np.random.default_rng(0).integers(0, 255, (160, 480, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "crowd.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})


@pytest.mark.usefixtures("fake_engine")
def test_the_queue_is_read_as_shown(
    crowd: Crowd, dpmo: Dpmo, capsys: pytest.CaptureFixture[str]
) -> None:
    example = example_with("queue.parquet")
    assert dpmo("convert", "--root", crowd.root, "--out", "masks", "--quiet").code == 0
    exec(compile(example, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == min(20, crowd.total)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param((*DATASET_NAMES, *ALIASES), id="datasets"),
        pytest.param(STATUSES, id="statuses"),
        pytest.param(tuple(REASONS), id="reasons"),
        pytest.param(tuple(POINT_SCHEMA.names), id="columns"),
    ],
)
def test_tables_name_all(names: tuple[str, ...]) -> None:
    assert [name for name in names if f"`{name}`" not in README] == []


def test_convert_options_are_all_named() -> None:
    convert = typer.main.get_command(app).commands["convert"]
    options = {name for p in convert.params for name in p.opts if name.startswith("--")}
    assert sorted(name for name in options - {"--help"} if f"`{name}" not in README) == []


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [target for target in targets if not (ROOT / target).exists()] == []
