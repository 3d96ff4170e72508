"""The file of the log: damaged, held by others, taken away; one clear line, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review import log_file
from dpmo_cli.review.decisions import DECISIONS_FILE, Decisions, DecisionsError
from tests.review.test_decisions import PERSON, corrected, decision


def torn(path: Path) -> None:
    with Decisions(path.parents[1]) as decisions:
        for point in range(200):
            decisions.decide(corrected(Person("train", point, 1)), expected=None)
    data = bytearray(path.read_bytes())
    data[2000:] = os.urandom(len(data) - 2000)
    path.write_bytes(data)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def newer(path: Path) -> None:
    Decisions(path.parents[1]).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()


UNUSABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no database": (lambda path: path.write_text("decisions, decisions, decisions " * 99), "damag"),
    "torn": (torn, "is damaged"),
    "another program's": (foreign, "another program"),
    "a newer version's": (newer, "version 9"),
    "a folder": (lambda path: path.mkdir(), "can't be used"),
}


@pytest.mark.parametrize(("spoil", "why"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_that_can_not_be_used_is_one_clear_line(
    spoil: Callable[[Path], Any], why: str, tmp_path: Path
) -> None:
    path = tmp_path / DECISIONS_FILE
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(DecisionsError, match=why) as caught, Decisions(tmp_path) as decisions:
        decisions.latest()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message
    if why != "is damaged":
        assert before == (path.read_bytes() if path.is_file() else b"")


def test_damage_that_no_command_has_met_yet_is_found(tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        for point in range(200):
            decisions.decide(corrected(Person("train", point, 1)), expected=None)
        decisions.require_whole()
        path = decisions.path
    with sqlite3.connect(path) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'one_after_another'"
        (page,) = connection.execute(query).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = os.urandom(size)
    path.write_bytes(data)
    with Decisions(tmp_path) as decisions:
        # To read needs no page of this index; the next decision would.
        assert len(decisions.latest()) == 200
        with pytest.raises(DecisionsError, match="is damaged") as caught:
            decisions.require_whole()
    assert "\n" not in str(caught.value)


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    os.replace(copy, path)


TAKEN: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: path.unlink(),
    "replaced": replace_by_a_copy,
    "its folder moved": lambda path: path.parent.rename(path.parents[1] / "elsewhere"),
    "its WAL removed": lambda path: path.with_name(f"{path.name}-wal").unlink(),
}


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("written", [0, 1], ids=["before the first decision", "later"])
def test_nothing_is_acknowledged_that_nobody_finds_again(
    written: int, take: Callable[[Path], object], tmp_path: Path
) -> None:
    """SQLite goes on with a file that has lost its name; its decisions would be gone."""
    with Decisions(tmp_path) as decisions:
        last = decisions.decide(corrected(), expected=None) if written else None
        path = decisions.path
        if not (written or path.with_name(f"{path.name}-wal").exists()):
            decisions.decide(corrected(Person("train", 3, 1)), expected=None)
        take(path)
        with pytest.raises(DecisionsError, match="moved, removed or replaced while it was open"):
            decisions.decide(decision(verdict="rejected"), expected=last and last.id)


def test_a_log_that_comes_back_is_gone_on_with(tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        first = decisions.decide(corrected(), expected=None)
        decisions.path.parent.rename(tmp_path / "elsewhere")
        with pytest.raises(DecisionsError):
            decisions.decide(decision(verdict="rejected"), expected=first.id)
        (tmp_path / "elsewhere").rename(decisions.path.parent)
        decisions.decide(decision(verdict="rejected"), expected=first.id)
    with Decisions(tmp_path) as decisions:
        assert [one.verdict for one in decisions.history(PERSON)] == ["corrected", "rejected"]


def test_a_log_that_others_hold_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "WAIT_S", 0.05)
    with Decisions(tmp_path) as decisions:
        other = sqlite3.connect(decisions.path, isolation_level=None)
        try:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(DecisionsError, match=r"locked.*; end the program that holds it"):
                decisions.decide(corrected(), expected=None)
            # Who only reads waits for nobody.
            assert decisions.latest() == {}
        finally:
            other.close()
        decisions.decide(corrected(), expected=None)
