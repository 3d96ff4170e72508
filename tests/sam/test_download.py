"""Fetching of weights, against a server on this machine."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dpmo_cli.errors import UsageError
from dpmo_cli.sam import download, weights
from tests.sam.conftest import (
    BODY,
    ENTRY,
    SHA256,
    Server,
    files,
    one_line,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("folder")


def stopped(process: subprocess.Popen[bytes], how: signal.Signals) -> int:
    """Signal a process until it has ended, as a person would; its exit status.

    A signal that comes just before a read of the network begins does not end that read.
    """
    for _ in range(5):
        process.send_signal(how)
        try:
            return process.wait(5)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("five signals did not end it")


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
                assert stopped(process, how) != 0
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
