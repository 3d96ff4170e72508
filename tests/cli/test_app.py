"""The `dpmo` command: how it ends, what it says where, and how little it loads to say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpmo_cli.datasets import registry
from dpmo_cli.errors import DpmoError, InputError, UsageError
from dpmo_cli.version import VERSION
from tests.conftest import Crowd, Dpmo

COMMANDS = ("convert", "merge", "validate", "visualize", "datasets", "weights", "train")


def test_version(dpmo: Dpmo) -> None:
    outcome = dpmo("--version")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, f"dpmo {VERSION}\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_the_commands(flag: str, dpmo: Dpmo) -> None:
    outcome = dpmo(flag)
    assert outcome.code == 0
    assert outcome.stderr == ""
    assert all(name in outcome.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, dpmo: Dpmo) -> None:
    outcome = dpmo(command, "--help")
    assert outcome.code == 0
    assert "Usage:" in outcome.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["bogus"], id="unknown command"),
        pytest.param(["--bogus"], id="unknown option"),
        pytest.param(["convert", "--bogus"], id="unknown option of a command"),
        pytest.param(["convert", "--out", "o"], id="no root"),
        pytest.param(["convert", "--root", "r"], id="no out"),
        pytest.param(["convert", "--root", "r", "--out", "o", "--limit", "0"], id="limit 0"),
        pytest.param(["convert", "--root", "r", "--out", "o", "--limit", "x"], id="limit x"),
        pytest.param(["convert", "--root", "r", "--out", "o", "--prompt-batch", "0"], id="batch 0"),
        pytest.param(
            ["convert", "--root", "r", "--out", "o", "--max-failure-rate", "2"], id="rate 2"
        ),
        pytest.param(["merge", "--out", "o"], id="nothing to merge"),
        pytest.param(["train"], id="nothing to train"),
    ],
)
def test_wrong_use_exits_2(arguments: list[str], dpmo: Dpmo) -> None:
    outcome = dpmo(*arguments)
    assert outcome.code == 2
    if arguments != ["train"]:
        (line,) = outcome.lines
        assert line.startswith("dpmo: error: ")
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        pytest.param(UsageError("say which"), 2, "dpmo: error: say which", id="usage"),
        pytest.param(DpmoError("it broke"), 1, "dpmo: error: it broke", id="failure"),
        pytest.param(
            InputError("a\nb.mat", "is\ntorn", "copy it"),
            1,
            "dpmo: error: a b.mat: is torn; copy it",
            id="input, in one line",
        ),
        pytest.param(
            RuntimeError("odd\n  thing"),
            1,
            "dpmo: error: unexpected RuntimeError: odd thing; "
            "set DPMO_DEBUG=1 to see where, and report it",
            id="unexpected",
        ),
        pytest.param(
            KeyboardInterrupt(),
            130,
            "dpmo: interrupted; the same command goes on from here",
            id="interrupted",
        ),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    line: str,
    dpmo: Dpmo,
    crowd: Crowd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(registry, "open_dataset", fail)
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--json")
    assert outcome.code == code
    assert outcome.lines[-1:] == [line] or code == 130
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("truth", "composed", "--data", "{long}", "--out", "crowds"),
        ("validate", "{long}"),
        ("train", "nano", "--out", "run", "--data", "{long}"),
    ],
)
def test_a_name_that_no_file_can_have_is_named(arguments: tuple[str, ...], dpmo: Dpmo) -> None:
    outcome = dpmo(*(word.format(long="x" * 300) for word in arguments))
    assert outcome.code in (1, 2)
    assert len(outcome.stderr.splitlines()) == 1
    assert "x" * 300 in outcome.stderr
    assert "unexpected" not in outcome.stderr


def test_debug_shows_where_it_broke(
    dpmo: Dpmo, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(registry, "open_dataset", fail)
    monkeypatch.setenv("DPMO_DEBUG", "1")
    with pytest.raises(RuntimeError, match="odd"):
        dpmo("convert", "--root", crowd.root, "--out", "out")


def _process(arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dpmo_cli.cli.app", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["--version"], 0, "", id="done"),
        pytest.param(["validate", "nothing"], 2, "dpmo: error: ", id="usage"),
        pytest.param(["convert", "--root", "nothing", "--out", "o"], 2, "nothing", id="root"),
    ],
)
def test_processes_exit_as_the_function_does(
    arguments: list[str], code: int, says: str, tmp_path: Path
) -> None:
    done = _process(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert done.returncode == code
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == (1 if says else 0)


def test_reader_that_went_away_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    done = _process(["weights", "list"], stdout=write)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


def test_help_loads_nothing_heavy() -> None:
    """A listing of modules is steadier than the half second that it must stay below."""
    code = (
        "import sys; sys.argv[1:] = ['convert', '--help']\n"
        "from dpmo_cli.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'PIL', 'pyarrow', 'pycocotools', 'timm'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
