"""The catalogue of weights: where they lie, what is found, and what state they are in."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from dpmo_cli.errors import UsageError
from dpmo_cli.sam import weights
from tests.sam.conftest import (
    BODY,
    ENTRY,
    NANO,
    SHIPPED,
    SHIPPED_PATH,
    Server,
    one_line,
)

pytestmark = pytest.mark.usefixtures("folder")


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
