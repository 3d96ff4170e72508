from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpmo_cli.errors import EXIT_FAILED
from dpmo_cli.outputs.atomic import (
    OutputError,
    atomic_path,
    copy_file,
    link_file,
    new_folder,
    sha256_file,
    sweep_temporaries,
    write_bytes,
    write_text,
)


def write_half(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "ä\n\r\nb")
    assert path.read_bytes() == "ä\n\r\nb".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_the_temporary_lies_hidden_beside_its_place(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.bin") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"1")
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("data", "moves"), [(b"same", False), (b"diff", True), (b"longer than it", True)]
)
def test_the_timestamp_moves_only_with_the_content(
    tmp_path: Path, data: bytes, moves: bool
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"same")
    os.utime(path, (1, 1))
    write_bytes(path, data)
    assert path.read_bytes() == data
    assert (path.stat().st_mtime != 1) is moves
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_exception_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(OutputError) as caught:
        write_half(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert str(path) in str(caught.value)
    assert "No space left" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == EXIT_FAILED
    assert not list(tmp_path.iterdir())


def test_a_real_full_device(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is not there")
    with pytest.raises(OutputError, match="No space"), atomic_path(tmp_path / "a"):
        Path("/dev/full").write_bytes(b"x")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    (tmp_path / "a.json" / "inside").touch()
    with pytest.raises(OutputError, match=r"a\.json"):
        write_text(tmp_path / "a.json", "{}")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError):
        write_text(tmp_path / "out" / "a.json", "{}")


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_text(path, "x")
    assert path.read_text() == "x"


def test_sweep_takes_what_a_killed_writer_left(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from dpmo_cli.outputs.atomic import *\n"
        "with atomic_path(Path(sys.argv[1])) as t:\n"
        "    t.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    path = tmp_path / "deep" / "a.txt"
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    assert not path.exists()
    keep = tmp_path / "deep" / ".mine.tmp"
    keep.touch()
    assert sweep_temporaries(tmp_path, deep=True) == 1
    assert list((tmp_path / "deep").iterdir()) == [keep]
    assert sweep_temporaries(tmp_path) == 0


def test_sha256_of_a_file_larger_than_a_chunk(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_writing_leaves_no_time_of_its_own(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x")
    first = (tmp_path / "a").stat().st_mtime_ns
    time.sleep(0.02)
    write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").stat().st_mtime_ns == first


def test_a_link_is_made_and_left_alone(tmp_path: Path) -> None:
    target, other = tmp_path / "t.jpg", tmp_path / "o.jpg"
    target.write_bytes(b"photo")
    other.write_bytes(b"photo")
    link = tmp_path / "new" / "a.jpg"
    link_file(link, target)
    assert link.is_symlink()
    assert link.read_bytes() == b"photo"
    stamp = link.lstat().st_mtime_ns, link.lstat().st_ino
    link_file(link, target)
    assert (link.lstat().st_mtime_ns, link.lstat().st_ino) == stamp
    link_file(link, other)
    assert link.resolve() == other
    assert [path.name for path in link.parent.iterdir()] == ["a.jpg"]


def test_a_link_takes_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"photo")
    (tmp_path / "a").write_bytes(b"photo")
    link_file(tmp_path / "a", tmp_path / "t")
    assert (tmp_path / "a").is_symlink()


def test_a_link_that_cant_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        link_file(tmp_path / "file" / "a", tmp_path / "t")


def test_a_copy_replaces_a_link_and_never_writes_through_it(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(b"photo")
    link_file(copy, source)
    copy_file(copy, source)
    assert not copy.is_symlink()
    stamp = copy.stat().st_mtime_ns
    copy_file(copy, source)
    assert (copy.read_bytes(), copy.stat().st_mtime_ns) == (b"photo", stamp)
    copy.write_bytes(b"mine")
    assert source.read_bytes() == b"photo"


def leave_half(path: Path) -> None:
    with new_folder(path) as folder:
        (folder / "a.txt").write_text("half")
        raise KeyboardInterrupt


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tasks"
    with pytest.raises(KeyboardInterrupt):
        leave_half(path)
    assert list(path.parent.iterdir()) == []
    path.mkdir()
    with new_folder(path) as folder:
        (folder / "a.txt").write_text("whole")
        assert list(path.iterdir()) == []
    assert [one.name for one in path.parent.iterdir()] == ["tasks"]
    assert (path / "a.txt").read_text() == "whole"


def test_a_folder_with_content_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "tasks"
    write_text(path / "a.txt", "work")
    with pytest.raises(OutputError, match="can't be written"), new_folder(path) as folder:
        (folder / "b.txt").touch()
    assert [one.name for one in path.iterdir()] == ["a.txt"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_need_not_last_is_not_forced_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    with atomic_path(tmp_path / "kept", durable=False) as temporary:
        temporary.write_bytes(b"whole")
    assert (tmp_path / "kept").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert synced == []
    write_bytes(tmp_path / "forced", b"whole")
    assert synced
