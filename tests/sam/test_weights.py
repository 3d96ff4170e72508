"""The catalogue and the fetching of weights, against a server on this machine."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dpmo_cli.errors import UsageError
from dpmo_cli.sam import download, weights

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


@pytest.fixture(autouse=True)
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


def test_catalogue_is_what_the_package_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert weights.names() == ("nano", "vit_b", "vit_l", "vit_h")
    assert [entry.name for entry in weights.CATALOGUE if entry.embedded] == ["nano"]
    for entry in weights.CATALOGUE[1:]:
        assert entry.url is not None
        assert entry.url.startswith("https://")
        assert entry.url.endswith(entry.file_name)
        assert entry.sha256 is not None
        assert len(bytes.fromhex(entry.sha256)) == 32


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({"DPMO_HOME": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b", id="own variable"),
        pytest.param({"DPMO_HOME": "", "XDG_CACHE_HOME": "/c"}, "/c/dpmo", id="xdg"),
        pytest.param({"HOME": "/h", "XDG_CACHE_HOME": "c"}, "/h/.cache/dpmo", id="relative xdg"),
        pytest.param({"HOME": "/h"}, "/h/.cache/dpmo", id="home"),
    ],
)
def test_cache_folder(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DPMO_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert weights.cache_folder() == Path(expected)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("vit-b", "did you mean vit_b?", id="close"),
        pytest.param("sam9000", "choose one of nano, vit_b", id="far"),
    ],
)
def test_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        weights.find(name)
    assert hint in one_line(caught)


class TestFetch:
    @pytest.mark.parametrize("page", ["good", "moved"])
    def test_http(self, page: str, server: Server, folder: Path) -> None:
        seen: list[tuple[int, int | None]] = []
        fetched = weights.fetch(
            "vit_b", f"{server.url}/{page}", on_progress=lambda *step: seen.append(step)
        )
        assert fetched == weights.Fetched(folder / "small.pth", brought=True)
        assert fetched.path.read_bytes() == BODY
        assert files(folder) == ["small.pth"]
        assert seen[-1] == (len(BODY), len(BODY))
        assert weights.find("vit_b") == fetched.path

    def test_from_the_catalogue(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = replace(ENTRY, url=f"{server.url}/good", size_bytes=None)
        monkeypatch.setattr(weights, "CATALOGUE", (entry,))
        assert weights.fetch("vit_b").brought
        assert server.asked == ["/good"]

    @pytest.mark.parametrize("kind", ["path", "address"])
    def test_file(self, kind: str, folder: Path, tmp_path: Path) -> None:
        source = tmp_path / "a name, with Ünicode.pth"
        source.write_bytes(BODY)
        weights.fetch("vit_b", str(source) if kind == "path" else source.as_uri())
        assert (folder / "small.pth").read_bytes() == BODY
        assert source.exists()

    def test_pipe(self, folder: Path, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(BODY,))
        writer.start()
        weights.fetch("vit_b", str(pipe))
        writer.join(10)
        assert (folder / "small.pth").read_bytes() == BODY

    def test_not_again(self, server: Server, folder: Path) -> None:
        weights.fetch("vit_b", f"{server.url}/good")
        assert not weights.fetch("vit_b", f"{server.url}/good").brought
        assert server.asked == ["/good"]
        assert weights.fetch("vit_b", f"{server.url}/good", force=True).brought
        assert server.asked == ["/good", "/good"]

    @pytest.mark.parametrize("damaged", [BODY[:-1], b"x" + BODY[1:]], ids=["short", "changed"])
    def test_replaces_a_damaged_file(self, damaged: bytes, server: Server, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "small.pth").write_bytes(damaged)
        assert weights.fetch("vit_b", f"{server.url}/good").brought
        assert (folder / "small.pth").read_bytes() == BODY

    @pytest.mark.parametrize(
        ("page", "words"),
        [
            pytest.param("wrong", ("SHA-256", SHA256, "got"), id="wrong bytes"),
            pytest.param("page", ("has 26 bytes", f"expected {len(BODY):,}"), id="login page"),
            pytest.param("unsized", ("has more than",), id="endless"),
            pytest.param("short", (f"{len(BODY) // 2:,} of {len(BODY):,}",), id="truncated"),
            pytest.param("missing", ("404", "--from FILE"), id="404"),
            pytest.param("silent", ("no answer for 0.2 s", "--from FILE"), id="timeout"),
        ],
    )
    def test_bad_answer(
        self,
        page: str,
        words: tuple[str, ...],
        server: Server,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
        with pytest.raises(UsageError) as caught:
            weights.fetch("vit_b", f"{server.url}/{page}")
        line = one_line(caught)
        assert all(word in line for word in (f"{server.url}/{page}", *words))
        assert files(folder) == []

    def test_failure_leaves_what_was_there(self, server: Server, folder: Path) -> None:
        weights.fetch("vit_b", f"{server.url}/good")
        with pytest.raises(UsageError):
            weights.fetch("vit_b", f"{server.url}/wrong", force=True)
        assert weights.verify(["vit_b"]) == [("vit_b", "ok")]
        assert files(folder) == ["small.pth"]

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            pytest.param("http://127.0.0.1:1/x", "refused", id="nobody listens"),
            pytest.param("http://127.0.0.1:port/x", "can't be read", id="no port"),
            pytest.param("http://", "can't be read", id="no host"),
            pytest.param("http://[x/y", "can't be read", id="not an address"),
            pytest.param("ftp://127.0.0.1/x", "an http, https or file address", id="ftp"),
            pytest.param("file://elsewhere/x", "an http, https or file address", id="other host"),
            pytest.param("/no/such/file.pth", "check the name", id="no file"),
            pytest.param("/", "check the name", id="folder"),
        ],
    )
    def test_bad_source(self, source: str, words: str, folder: Path) -> None:
        with pytest.raises(UsageError) as caught:
            weights.fetch("vit_b", source)
        line = one_line(caught)
        assert line.startswith(f"{source}: ")
        assert words in line
        assert files(folder) == []

    def test_full_disk(self, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UsageError) as caught:
            weights.fetch("vit_b", f"{server.url}/good")
        assert "the disk is full" in one_line(caught)
        assert files(folder) == []

    def test_cache_is_a_file(self, server: Server, folder: Path) -> None:
        folder.parent.write_text("not a folder")
        with pytest.raises(UsageError) as caught:
            weights.fetch("vit_b", f"{server.url}/good")
        assert "set DPMO_HOME" in one_line(caught)

    def test_two_at_once(self, server: Server, folder: Path) -> None:
        results: list[weights.Fetched] = []

        def slow() -> None:
            results.append(weights.fetch("vit_b", f"{server.url}/stalled"))

        thread = threading.Thread(target=slow)
        thread.start()
        assert server.stalled.wait(10)
        results.append(weights.fetch("vit_b", f"{server.url}/good"))
        assert len(files(folder)) == 2  # the file, and what the slow one has so far
        server.released.set()
        thread.join(10)
        assert [result.brought for result in results] == [True, True]
        assert files(folder) == ["small.pth"]
        assert weights.verify(["vit_b"]) == [("vit_b", "ok")]

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
    def test_killed_midway(self, how: signal.Signals, server: Server, folder: Path) -> None:
        target = folder / "small.pth"
        script = (
            "import signal, sys; from pathlib import Path;"
            # A shell's background job would inherit an ignored SIGINT.
            "signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from dpmo_cli.sam.download import download;"
            "download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, f"{server.url}/stalled", str(target), SHA256],
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                assert server.stalled.wait(20)
                wait_until(lambda: files(folder))
                process.send_signal(how)
                assert process.wait(10) != 0
            finally:
                process.kill()
        if how == signal.SIGINT:
            assert files(folder) == []
        else:
            assert weights.verify(["vit_b"]) == [("vit_b", "missing")]
        weights.fetch("vit_b", f"{server.url}/good")
        assert files(folder) == ["small.pth"]

    @pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "nonsense://"])
    def test_broken_proxy(
        self, proxy: str, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setattr("urllib.request._opener", None)  # it remembers the proxies
        with pytest.raises(UsageError) as caught:
            weights.fetch("vit_b", f"{server.url}/good")
        assert "check the address and the network" in one_line(caught)
        assert server.asked == []


class TestFind:
    def test_missing_says_how_to_get_it(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entry = replace(ENTRY, url=f"{server.url}/good", size_bytes=375_042_383)
        monkeypatch.setattr(weights, "CATALOGUE", (entry,))
        with pytest.raises(UsageError) as caught:
            weights.find("vit_b")
        line = one_line(caught)
        for words in ("`dpmo weights fetch vit_b` (375 MB)", "--from FILE", "--checkpoint FILE"):
            assert words in line
        assert server.asked == []

    def test_changed_file(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "small.pth").write_bytes(b"x" + BODY[1:])
        with pytest.raises(UsageError) as caught:
            weights.find("vit_b")
        assert "`dpmo weights fetch vit_b`" in one_line(caught)

    def test_own_checkpoint(self, tmp_path: Path) -> None:
        own = tmp_path / "own.pth"
        own.write_bytes(b"anything")
        assert weights.find("vit_b", own) == own

    @pytest.mark.parametrize("name", ["nothing.pth", "."])
    def test_own_checkpoint_is_no_file(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as caught:
            weights.find("vit_b", tmp_path / name)
        assert "no such file" in one_line(caught)


class TestEmbedded:
    @pytest.fixture
    def nano(self, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(weights, "CATALOGUE", (NANO, ENTRY))
        path = weights.EMBEDDED_FOLDER / "nano.safetensors"
        path.parent.mkdir()
        path.write_bytes(BODY)
        return path

    def test_found(self, nano: Path) -> None:
        assert weights.find("nano") == nano
        assert weights.sha256_of(nano) == hashlib.sha256(nano.read_bytes()).hexdigest()

    def test_missing(self) -> None:
        with pytest.raises(UsageError) as caught:
            weights.find("nano")
        assert "install dpmo-cli again" in one_line(caught)

    def test_shipped_file_is_the_one_of_the_catalogue(self) -> None:
        assert weights.sha256_of(SHIPPED_PATH) == SHIPPED.sha256
        assert SHIPPED_PATH.stat().st_size == SHIPPED.size_bytes

    def test_truncated(self, nano: Path) -> None:
        nano.write_bytes(nano.read_bytes()[:-1])
        assert weights.verify(["nano"]) == [("nano", "corrupt")]
        with pytest.raises(UsageError) as caught:
            weights.find("nano")
        assert "install dpmo-cli again" in one_line(caught)

    def test_fetch_has_nothing_to_do(self, nano: Path) -> None:
        assert weights.fetch("nano") == weights.Fetched(nano, brought=False)

    def test_fetch_from_elsewhere(self, nano: Path) -> None:
        with pytest.raises(UsageError) as caught:
            weights.fetch("nano", str(nano))
        assert "--checkpoint FILE" in one_line(caught)


@pytest.mark.parametrize(
    ("content", "read", "glanced"),
    [
        pytest.param(None, "missing", "missing", id="missing"),
        pytest.param(BODY, "ok", "present", id="ok"),
        pytest.param(BODY[:-1], "corrupt", "corrupt", id="short"),
        pytest.param(b"x" + BODY[1:], "corrupt", "present", id="changed"),
    ],
)
def test_states(content: bytes | None, read: str, glanced: str, folder: Path) -> None:
    if content is not None:
        folder.mkdir(parents=True)
        (folder / "small.pth").write_bytes(content)
    assert weights.verify(["vit_b"]) == [("vit_b", read)]
    assert weights.glance("vit_b") == glanced
