"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import filecmp
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpmo_cli.errors import DpmoError

TEMPORARY_SUFFIX = ".dpmo-tmp"
_CHUNK_BYTES = 1 << 20


class OutputError(DpmoError):
    """A file can't be written: no space, no permission, a folder in its place."""

    def __init__(self, path: Path, error: OSError) -> None:
        problem = " ".join((error.strerror or str(error)).split())
        super().__init__(
            f"{path}: can't be written ({problem}); free space there or choose another folder"
        )


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there becomes `path` at the end.

    The temporary file is forced to disk and takes the place of `path` in one step. A file that
    already holds the same bytes is left alone, so that timestamps move only when content does.
    On any exception, KeyboardInterrupt included, the temporary file is removed and `path` stays
    as it was. Missing parent folders are made.

    Args:
        path: the file.
        durable: force it to disk; without, a power cut may leave a torn file.

    Raises:
        OutputError: for any OSError on the way, a full disk for example.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            temporary.unlink()
        elif durable:
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        else:
            os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise OutputError(path, error) from error
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which becomes it at the end.

    On any exception the temporary folder is removed with all in it.

    Raises:
        OutputError: `path` is there and is no empty folder; or any OSError on the way.
    """
    temporary = path.parent / f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        # On some systems a folder does not take the place of an empty one.
        if path.is_dir():
            path.rmdir()
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OutputError(path, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically, or leave it alone where it holds `data` already."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file atomically, UTF-8, with line ends as they are in `text`."""
    write_bytes(path, text.encode())


def copy_file(path: Path, source: Path) -> None:
    """Copy a file's content atomically; a link at `path` becomes a file of its own."""
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)
        if path.is_symlink():
            path.unlink()


def link_file(path: Path, target: Path) -> None:
    """Make `path` a symbolic link, atomically; one that leads to `target` is left alone.

    Raises:
        OutputError: for any OSError on the way, a file system without links for example.
    """
    temporary = _temporary(path)
    try:
        if path.is_symlink() and os.readlink(path) == str(target):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.symlink_to(target)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        _remove(temporary)
        raise OutputError(path, error) from error


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal. OSError passes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sweep_temporaries(folder: Path, *, deep: bool = False) -> int:
    """Remove what killed writers left in `folder`, and return how many files that were.

    The caller holds the lock on `folder`: a live writer's file looks the same. Only with `deep`
    the folders inside are swept too: they may be somebody else's.
    """
    pattern = f".*{TEMPORARY_SUFFIX}"
    stale = list(folder.rglob(pattern) if deep else folder.glob(pattern))
    for path in stale:
        _remove(path)
    return len(stale)


def _temporary(path: Path) -> Path:
    # The name is short, not built from the target's, which may be as long as names can be.
    return path.parent / f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"


def _remove(path: Path) -> None:
    """Remove a temporary file; where even that fails, the first error is the one to show."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _sync(path: Path) -> None:
    """Force a file, or (on POSIX, elsewhere impossible) a folder's list of names, to disk."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
