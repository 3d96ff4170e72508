"""`dpmo weights`: what it prints where, and how it exits."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpmo_cli.cli import weights as command
from dpmo_cli.errors import EXIT_INTERRUPTED, UsageError
from dpmo_cli.sam import weights

BODY = b"weights" * 1000
ENTRIES = tuple(
    weights.Weights(
        name=name,
        file_name=f"{name}.pth",
        url="http://127.0.0.1:9/never-asked",
        sha256=hashlib.sha256(BODY).hexdigest(),
        size_bytes=len(BODY),
        licence="Apache-2.0",
        summary="a small file for the tests",
    )
    for name in ("one", "two")
)

runner = CliRunner()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPMO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weights, "CATALOGUE", ENTRIES)
    folder = tmp_path / "home" / "weights"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.pth"
    path.write_bytes(BODY)
    return path


def test_list(folder: Path) -> None:
    (folder / "one.pth").write_bytes(BODY)
    result = runner.invoke(command.app, ["list"])
    assert result.exit_code == 0
    one, two = result.stdout.splitlines()
    assert one.split()[:2] == ["one", "present"]
    assert one.endswith(str(folder / "one.pth"))
    assert two.split()[:2] == ["two", "missing"]
    assert two.endswith("http://127.0.0.1:9/never-asked")


def test_list_json(folder: Path) -> None:
    (folder / "two.pth").write_bytes(BODY[1:])
    result = runner.invoke(command.app, ["list", "--json"])
    document = json.loads(result.stdout)
    assert (document["version"], document["kind"]) == (1, "weights")
    assert [(entry["name"], entry["state"]) for entry in document["weights"]] == [
        ("one", "missing"),
        ("two", "corrupt"),
    ]
    assert document["weights"][0]["size_bytes"] == len(BODY)
    assert document["weights"][0]["licence"] == "Apache-2.0"


def test_list_does_not_import_torch() -> None:
    script = (
        "import sys; from dpmo_cli.cli.weights import app;"
        "app(['list'], standalone_mode=False);"
        "assert not {'torch', 'urllib.request'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"vit_h" in done.stdout


def test_fetch_prints_the_path(folder: Path, source: Path) -> None:
    result = runner.invoke(command.app, ["fetch", "one", "--from", str(source)])
    assert result.exit_code == 0
    assert result.stdout == f"{folder / 'one.pth'}\n"
    assert result.stderr == "one is fetched and verified\n"
    again = runner.invoke(command.app, ["fetch", "one", "--from", str(source)])
    assert again.stderr == "one is here already\n"
    forced = runner.invoke(command.app, ["fetch", "one", "--from", str(source), "--force"])
    assert forced.stderr == "one is fetched and verified\n"


def test_fetch_quietly(source: Path) -> None:
    result = runner.invoke(command.app, ["fetch", "one", "--from", str(source), "--quiet"])
    assert result.exit_code == 0
    assert result.stderr == ""


def test_fetch_failure_is_left_to_the_main_command(source: Path) -> None:
    source.write_bytes(BODY[::-1])
    result = runner.invoke(command.app, ["fetch", "one", "--from", str(source)])
    assert isinstance(result.exception, UsageError)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "files", "exit_code"),
    [
        pytest.param([], {"one": BODY}, 0, id="missing, not named"),
        pytest.param(["one"], {"one": BODY}, 0, id="named, ok"),
        pytest.param(["one", "two"], {"one": BODY}, 1, id="named, missing"),
        pytest.param([], {"two": BODY[::-1]}, 1, id="corrupt"),
        pytest.param(["one"], {"one": BODY, "two": b""}, 0, id="corrupt, not named"),
    ],
)
def test_verify(
    arguments: list[str], files: dict[str, bytes], exit_code: int, folder: Path
) -> None:
    for name, content in files.items():
        (folder / f"{name}.pth").write_bytes(content)
    text = runner.invoke(command.app, ["verify", *arguments])
    assert text.exit_code == exit_code
    as_json = runner.invoke(command.app, ["verify", *arguments, "--json"])
    assert as_json.exit_code == exit_code
    entries = json.loads(as_json.stdout)["weights"]
    assert [entry["name"] for entry in entries] == (arguments or ["one", "two"])
    assert [tuple(line.split()) for line in text.stdout.splitlines()] == [
        (entry["name"], entry["state"]) for entry in entries
    ]


def test_verify_unknown_name() -> None:
    result = runner.invoke(command.app, ["verify", "three"])
    assert isinstance(result.exception, UsageError)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "shown"),
    [
        pytest.param(Terminal(), False, True, id="terminal"),
        pytest.param(Terminal(), True, False, id="quiet"),
        pytest.param(io.StringIO(), False, False, id="no terminal"),
    ],
)
def test_progress(
    stream: io.StringIO, quiet: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with command._progress("vit_x", quiet) as on_progress:
        assert (on_progress is not None) == shown
        if on_progress is not None:
            on_progress(1, 2)
    assert ("vit_x" in stream.getvalue()) == shown


def test_sigterm_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    script = "from dpmo_cli.cli.app import main; main()"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        with subprocess.Popen(
            [sys.executable, "-c", script, "weights", "fetch", "vit_l", "--from", address],
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf")
                    assert [path.suffix for path in folder.iterdir()] == [".part"]
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(10) == EXIT_INTERRUPTED
            finally:
                process.kill()
    assert list(folder.iterdir()) == []
