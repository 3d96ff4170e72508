"""Runs that are ended at any moment: the next one goes on, and ends with the same bytes."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dpmo_cli.outputs import atomic
from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Crowd, Dpmo, FakeEngine, tree

WRITES = 11
"""Files of a run over the small crowd: 3 records, 2 manifests, 5 outputs, the run record."""


class Killed(BaseException):
    """The process is gone: nothing tidies up behind it."""


@pytest.fixture
def small(empty_crowd: Crowd) -> Crowd:
    """Two images of train, one of test."""
    for number in range(2):
        empty_crowd.add(f"{number}.png", count=3)
    empty_crowd.add("test.png", split="test")
    return empty_crowd


@pytest.fixture
def undisturbed(
    dpmo: Dpmo, fake_engine: FakeEngine, small: Crowd, tmp_path: Path
) -> dict[str, bytes]:
    """The files of a run that nothing disturbs."""
    assert dpmo("convert", "--root", small.root, "--out", "undisturbed").code == 0
    assert validate_run(tmp_path / "undisturbed") == []
    return tree(tmp_path / "undisturbed")


@contextmanager
def _kill_at(write: int, *, after: bool) -> Iterator[list[int]]:
    """End the process at its `write`-th file (from 0), before or after it takes its place."""
    count = [0]
    replace = os.replace

    def replace_or_die(source: Path, target: Path) -> None:
        mine = count[0]
        count[0] += 1
        if mine == write and not after:
            raise Killed
        replace(source, target)
        if mine == write:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace_or_die)
        patch.setattr(atomic, "_remove", lambda path: None)
        patch.setattr(atomic, "_sync", lambda path: None)
        yield count


@pytest.mark.parametrize(
    ("older", "after", "files"),
    [
        pytest.param(None, False, WRITES, id="first run"),
        # A record, two manifests (they name the limit), the files of train, queue, run record.
        pytest.param(["--limit", "1"], False, 7, id="over fewer images"),
        pytest.param(["--limit", "1"], True, 7, id="over fewer images, after the file"),
        pytest.param(["--nnec-scale", "0.5"], True, WRITES, id="over other settings"),
    ],
)
def test_killed_at_every_file(
    older: list[str] | None,
    after: bool,
    files: int,
    dpmo: Dpmo,
    undisturbed: dict[str, bytes],
    small: Crowd,
    tmp_path: Path,
) -> None:
    """Also over an older run, whose outputs must never pass for those of this one."""
    writes = 0
    while True:
        out = tmp_path / f"out{writes}"
        command = ("convert", "--root", small.root, "--out", out)
        if older is not None:
            assert dpmo(*command, *older).code == 0
        with _kill_at(writes, after=after) as count:
            try:
                dpmo(*command)
            except Killed:
                ended = False
            else:
                ended = True
        if ended:
            break
        assert after or list(out.rglob(f"*{atomic.TEMPORARY_SUFFIX}")), "nothing tidied up"
        assert dpmo(*command).code == 0
        assert tree(out) == undisturbed
        assert dpmo(*command, "--json").json["changed"] is False
        writes += 1
    assert count[0] == writes == files


@pytest.mark.usefixtures("heard", "one_thread")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("calls", [1, 3])
def test_signals_end_the_run_and_it_goes_on(
    number: signal.Signals,
    calls: int,
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    undisturbed: dict[str, bytes],
    small: Crowd,
    tmp_path: Path,
) -> None:
    left = [calls]

    def signal_at_last() -> None:
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(number)

    fake_engine.on_encode = signal_at_last
    command = ("convert", "--root", small.root, "--out", tmp_path / "out", "--json")
    outcome = dpmo(*command)
    assert outcome.code == 130
    assert outcome.stdout == ""
    assert outcome.lines[-1] == "dpmo: interrupted; the same command goes on from here"
    assert not (tmp_path / "out" / "run.json").exists()
    assert not list((tmp_path / "out").rglob(f"*{atomic.TEMPORARY_SUFFIX}"))
    resumed = dpmo(*command)
    assert resumed.code == 0
    assert resumed.json["converted_images"] == 3 - (calls - 1)
    assert tree(tmp_path / "out") == undisturbed


def test_ignored_interrupts_stay_ignored(dpmo: Dpmo, fake_engine: FakeEngine, small: Crowd) -> None:
    """A shell lets jobs in the background ignore SIGINT."""
    fake_engine.on_encode = lambda: signal.raise_signal(signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert dpmo("convert", "--root", small.root, "--out", "out").code == 0
    finally:
        signal.signal(signal.SIGINT, before)


def _no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_at_every_file(
    dpmo: Dpmo, undisturbed: dict[str, bytes], small: Crowd, tmp_path: Path
) -> None:
    written = [0]
    replace = os.replace

    def replace_while_there_is_space(source: Path, target: Path) -> None:
        if written[0] == space:
            _no_space()
        written[0] += 1
        replace(source, target)

    for space in range(WRITES):
        out = tmp_path / f"out{space}"
        command = ("convert", "--root", small.root, "--out", out)
        written[0] = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", replace_while_there_is_space)
            outcome = dpmo(*command)
        assert outcome.code == 1
        assert outcome.stdout == ""
        (line,) = outcome.errors
        assert line == outcome.lines[-1]
        assert "can't be written (No space left on device); free space there" in line
        assert str(out) in line
        assert not list(out.rglob(f"*{atomic.TEMPORARY_SUFFIX}"))
        assert dpmo(*command).code == 0
        assert tree(out) == undisturbed


@pytest.mark.parametrize("limit_bytes", [100, 2_000, 5_500])
def test_writes_that_the_system_cuts_short(
    limit_bytes: int, dpmo: Dpmo, undisturbed: dict[str, bytes], small: Crowd, tmp_path: Path
) -> None:
    """The kernel refuses bytes in the midst of a file, as a full disk does."""
    out = tmp_path / "out"
    command = ("convert", "--root", small.root, "--out", out)
    assert min(map(len, undisturbed.values())) > 100
    assert max(map(len, undisturbed.values())) > 5_500
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        outcome = dpmo(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcome.code == 1
    (line,) = outcome.errors
    assert "can't be written" in line
    assert not list(out.rglob(f"*{atomic.TEMPORARY_SUFFIX}"))
    assert not (out / "run.json").exists()
    assert dpmo(*command).code == 0
    assert tree(out) == undisturbed


def test_full_disk_spares_the_run_that_is_there(
    dpmo: Dpmo, undisturbed: dict[str, bytes], small: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", small.root, "--out", "undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", _no_space)
        assert dpmo(*command).code == 0, "nothing to do needs no space"
        assert dpmo(*command, "--nnec-scale", "0.5").code == 1
    assert tree(tmp_path / "undisturbed") == undisturbed
    assert dpmo(*command).code == 0
    assert validate_run(tmp_path / "undisturbed") == []


def _start(root: Path, out: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dpmo_cli.cli.app", "convert"]
    return subprocess.Popen(
        [*command, "--root", str(root), "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def _wait_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> bool:
    """Wait until something happened; false when the process ended before."""
    deadline = time.monotonic() + 600
    while not happened():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return True


@pytest.fixture
def photos(empty_crowd: Crowd) -> Crowd:
    """Six small images for the real network."""
    for number in range(6):
        empty_crowd.add(f"{number}.png", count=2, size_hw=(32, 40))
    return empty_crowd


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("nano")
def test_kill_9_and_a_second_run_at_the_same_time(
    dpmo: Dpmo, photos: Crowd, tmp_path: Path
) -> None:
    """The real thing: three processes are killed, the fourth run ends as if nothing had been."""
    out = tmp_path / "out"
    records = out / ".dpmo/records/train"
    command = ("convert", "--root", photos.root, "--out")
    assert dpmo(*command, "undisturbed").code == 0
    for moment, wanted in enumerate((1, 3, 6)):
        process = _start(photos.root, out)
        try:
            assert _wait_for(process, lambda n=wanted: len(list(records.glob("*.parquet"))) >= n)
            if moment == 0:
                process.send_signal(signal.SIGSTOP)
                second = dpmo(*command, out)
                assert second.code == 2
                (line,) = second.errors
                assert (
                    f"error: {out}: another run is writing there; wait until it has ended" in line
                )
        finally:
            process.kill()
            stderr = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL
        assert "Traceback" not in stderr
        assert not (out / "run.json").exists()
    resumed = dpmo(*command, out, "--json")
    assert resumed.code == 0
    assert resumed.json["converted_images"] == 0, "all records were there"
    assert tree(out) == tree(tmp_path / "undisturbed")
    assert validate_run(out) == []


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.usefixtures("nano")
def test_kill_9_at_ten_random_moments(dpmo: Dpmo, photos: Crowd, tmp_path: Path) -> None:
    command = ("convert", "--root", photos.root, "--out")
    assert dpmo(*command, "undisturbed").code == 0
    begin = time.monotonic()
    process = _start(photos.root, tmp_path / "timed")
    assert process.communicate()[1].count("dpmo:") == 2
    whole_s = time.monotonic() - begin
    chance = random.Random(0)
    for number in range(10):
        out = tmp_path / str(number)
        process = _start(photos.root, out)
        # From the moment it has the lock: before, there is nothing to disturb.
        assert _wait_for(process, (out / ".dpmo/lock").exists)
        time.sleep(chance.uniform(0, whole_s / 2))
        process.kill()
        process.communicate()
        assert dpmo(*command, out).code == 0
        assert tree(out) == tree(tmp_path / "undisturbed")
        assert validate_run(out) == []


@pytest.mark.slow
@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_from_outside(number: signal.Signals, photos: Crowd, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = _start(photos.root, out)
    assert _wait_for(process, (out / ".dpmo/records").exists)
    process.send_signal(number)
    stderr = process.communicate()[1]
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "dpmo: interrupted; the same command goes on from here"
    assert "Traceback" not in stderr
