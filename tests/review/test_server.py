"""The server as a process: how it starts, what it prints, and that its death loses nothing."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from dpmo_cli.review.decisions import Decisions
from dpmo_cli.review.server import _bound
from tests.conftest import Dpmo
from tests.review.runs import draw_run

DECISIONS = 100


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    host: str

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=20)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def token(self) -> str:
        page = self.request("GET", "/")[1].decode()
        found = re.search(r'dpmo-token" content="([^"]+)"', page)
        assert found
        return found[1]


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "dpmo_cli.cli.app", "review", "serve", *arguments]


@contextmanager
def serving(out: Path, *arguments: str) -> Iterator[Server]:
    process = subprocess.Popen(
        command([str(out), "--port", "0", *arguments]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline()
        found = re.fullmatch(r"http://(127\.0\.0\.1:\d+)/\n", address)
        assert found, process.stderr.read() if process.stderr else address
        yield Server(process, found[1])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.usefixtures("heard")
def test_ctrl_c_ends_it_at_once(out: Path) -> None:
    with serving(out, "--reviewer", "Ann") as server:
        status, body = server.request("GET", "/api/run")
        assert (status, json.loads(body)["reviewer"]) == (200, "Ann")
        # A connection that stays open does not hold it up.
        kept = http.client.HTTPConnection(server.host)
        kept.request("GET", "/api/run")
        kept.getresponse().read()
        server.process.send_signal(signal.SIGINT)
        _, errors = server.process.communicate(timeout=5)
        kept.close()
    assert server.process.returncode == 130
    assert errors == "dpmo: interrupted\n"


@pytest.mark.parametrize(
    ("move", "said"),
    [
        pytest.param("all", "2 of 2 photos of the run are missing, first ", id="another root"),
        pytest.param("one", "1 of 2 photos of the run are missing, first ", id="one moved away"),
        pytest.param("none", None, id="all there"),
    ],
)
def test_photos_that_are_not_there_are_told(
    out: Path, drawn: Path, tmp_path: Path, move: str, said: str | None
) -> None:
    root = tmp_path / "photos"
    shutil.copytree(drawn / "root", root)
    photos = sorted(root.rglob("*.jpg"))
    for photo in {"all": photos, "one": photos[1:], "none": []}[move]:
        photo.unlink()
    with serving(out, "--root", str(root)) as server:
        assert server.request("GET", "/api/run")[0] == 200
        server.process.kill()
        _, errors = server.process.communicate(timeout=5)
    if said is None:
        assert errors == ""
    else:
        (line,) = errors.splitlines()
        assert line.startswith(f"dpmo: warning: {said}{root}")
        assert line.endswith(".jpg; give the folder of the photos with --root")


def test_a_refusal_is_one_line_on_stderr(out: Path) -> None:
    with serving(out) as server:
        assert server.request("GET", "/", headers={"Host": "evil.example"})[0] == 421
        # What is no HTTP at all is refused too.
        address, port = server.host.split(":")
        with socket.create_connection((address, int(port)), timeout=5) as raw:
            raw.sendall(b"\x00\x01 nonsense\r\n\r\n")
            assert raw.recv(99).startswith(b"HTTP/1.1 400")
        assert server.request("GET", "/")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        _, errors = server.process.communicate(timeout=5)
    lines = errors.splitlines()
    assert lines[0].startswith("dpmo: GET /: refused: the Host is evil.example")
    assert len(lines) == 3
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "after",
    [3, 61, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 11, 23, 37, 49, 77, 98))],
)
def test_a_killed_server_loses_no_decision(tmp_path: Path, after: int) -> None:
    out, _ = draw_run(tmp_path, people=77, columns=11)
    acknowledged: list[int] = []
    with serving(out) as server:
        headers = {"Content-Type": "application/json", "X-Dpmo-Token": server.token()}

        def decide() -> None:
            connection = http.client.HTTPConnection(server.host, timeout=20)
            for number in range(DECISIONS):
                body = {
                    "split": ("train", "test")[number % 2],
                    "image_id": 1 + number % 2,
                    "point_id": number // 2,
                    "verdict": "rejected",
                    "expected": None,
                }
                try:
                    connection.request("POST", "/api/decide", json.dumps(body), headers)
                    answer = json.loads(connection.getresponse().read())
                except (OSError, http.client.HTTPException, ValueError):
                    return
                acknowledged.append(answer["decision"]["id"])
                if len(acknowledged) > after:
                    reached.set()

        reached = threading.Event()
        worker = threading.Thread(target=decide)
        worker.start()
        assert reached.wait(60)
        os.kill(server.process.pid, signal.SIGKILL)
        worker.join()
    with Decisions(out) as decisions:
        kept = {one.id for one in decisions.since(0)}
    assert set(acknowledged) <= kept
    # One more may have been written before its answer was sent.
    assert len(kept) <= len(acknowledged) + 1


def test_small_packets_are_not_held_back() -> None:
    """Of sockets that are not said to be TCP asyncio leaves Nagle's delay on: 40 ms an answer."""
    with _bound("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_two_servers_share_a_run(out: Path) -> None:
    with serving(out) as one, serving(out) as other:
        headers = {"Content-Type": "application/json", "X-Dpmo-Token": one.token()}
        body = {"split": "train", "image_id": 1, "point_id": 0, "expected": None}
        assert one.request("POST", "/api/decide", body | {"verdict": "rejected"}, headers)[0] == 200
        headers["X-Dpmo-Token"] = other.token()
        status, told = other.request("POST", "/api/decide", body | {"verdict": "deleted"}, headers)
        assert (status, json.loads(told)["kind"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: holds no finished run; give the folder that `dpmo"),
        (["{out}", "--root", "nowhere"], "no such folder"),
        (["{out}", "--host", "0.0.0.0"], "name one address"),
        (["{out}", "--host", "not-here.invalid"], "can't be bound"),
        (["{out}", "--reviewer", " "], "--reviewer is empty"),
        (["{out}", "--port", "70000"], "--port"),
        (["{out}", "--port", "{taken}"], "can't be bound"),
    ],
)
def test_wrong_use_is_one_line(out: Path, dpmo: Dpmo, arguments: list[str], words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = dpmo("review", "serve", *(one.format(out=out, taken=port) for one in arguments))
    assert (done.code, done.stdout) == (2, "")
    (line,) = done.errors
    assert words in line


def test_a_run_that_is_being_written_is_not_reviewed(out: Path, dpmo: Dpmo) -> None:
    with FileLock(out / ".dpmo" / "lock"):
        done = dpmo("review", "serve", out, "--port", "0")
    assert done.code == 2
    assert done.errors[0].endswith("out: another run is writing there; wait until it has ended")


def test_a_damaged_log_of_decisions_is_one_line(out: Path, dpmo: Dpmo) -> None:
    (out / "review" / "decisions.sqlite").write_bytes(b"no database" * 99)
    done = dpmo("review", "serve", out, "--port", "0")
    assert done.code == 1
    assert "decisions.sqlite" in done.errors[0]
