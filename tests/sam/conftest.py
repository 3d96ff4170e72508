"""What the tests share: engines; of weights, a catalogue of small files and a server nearby."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from dpmo_cli.errors import UsageError
from dpmo_cli.sam import weights
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.sam.models import load_engine, resolve_engine

BODY = bytes(range(256)) * 512
SHA256 = hashlib.sha256(BODY).hexdigest()
ENTRY = weights.Weights(
    name="vit_b",
    file_name="small.pth",
    url="http://127.0.0.1:9/never-asked",
    sha256=SHA256,
    size_bytes=len(BODY),
    licence="Apache-2.0",
    summary="a small file for the tests",
)
SHIPPED = weights.lookup("nano")
SHIPPED_PATH = SHIPPED.path
NANO = replace(ENTRY, name="nano", file_name="nano.safetensors", url=None)


@dataclass
class Server:
    """A server whose `/stalled` sends half of the body and the rest when it is released."""

    url: str
    asked: list[str] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            if self.path == "/missing":
                self.send_error(404)
                return
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/good")
                self.end_headers()
                return
            if self.path == "/silent":
                state.released.wait(10)
                return
            self.send_response(200)
            body = b"x" + BODY[1:] if self.path == "/wrong" else BODY
            if self.path == "/page":
                body = b"<html>please log in</html>"
            if self.path != "/unsized":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(body[:half])
            if self.path == "/short":
                return
            if self.path == "/stalled":
                state.stalled.set()
                state.released.wait(10)
            self.wfile.write(body[half:])
            if self.path == "/unsized":
                self.wfile.write(b"more" * 1000)

        def handle(self) -> None:
            # The client may go away: some of the tests are about that.
            with contextlib.suppress(OSError):
                super().handle()

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.released.set()
    http.shutdown()
    thread.join(10)
    http.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder's place for weights, empty, with a catalogue of small files."""
    monkeypatch.setenv("DPMO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(weights, "CATALOGUE", (NANO, ENTRY))
    monkeypatch.setattr(weights, "EMBEDDED_FOLDER", tmp_path / "embedded")
    return tmp_path / "home" / "weights"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def one_line(caught: pytest.ExceptionInfo[UsageError]) -> str:
    line = str(caught.value)
    assert "\n" not in line
    return line


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def nano() -> SamEngine:
    return load_engine(resolve_engine("nano", device="cpu"))


@pytest.fixture
def engine(nano: SamEngine) -> SamEngine:
    """An engine of its own for each test over the same model."""
    return SamEngine(nano.model)


@pytest.fixture(scope="module")
def vit_b() -> Sam:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return sam_model_registry["vit_b"](checkpoint=None).eval()
