"""The download: one file brought from an address or a path, hashed as it streams, then moved."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, BinaryIO, TypeAlias, cast
from urllib.parse import urlsplit

from dpmo_cli.errors import UsageError

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that have come and, where it is known, how many are to come in all."""

TIMEOUT_S = 30.0
"""How long a server may be silent before the download is given up."""

_CHUNK_BYTES = 1 << 20
_ELSEWHERE = "or get the file in another way and name it with `--from FILE`"


def download(
    source: str,
    target: Path,
    *,
    sha256: str,
    size_bytes: int | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Bring `source` to `target`; afterwards `target` is whole and right, or as it was before.

    The bytes go to a temporary sibling with a name of its own, so downloads of the same target
    do not meet; it is removed on every way out. What a killed process left behind is removed by
    the next download of the same target.

    Args:
        source: an `http://`, `https://` or `file://` address, or a path.
        target: the file to make; its folder is made when it is missing.
        sha256: what the bytes must hash to, 64 hexadecimal digits.
        size_bytes: how many bytes there must be; None where nobody knows.
        on_progress: told of every piece that comes.

    Raises:
        UsageError: the source can't be read, is short or other than expected, or the target's
            folder can't be written.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        try:
            with temporary.open("xb") as out:
                _try_lock(out)
                got = _copy(source, out, size_bytes, on_progress)
                if got != sha256:
                    raise UsageError(
                        f"{source}: is not {target.name}: SHA-256 expected {sha256}, got {got}; "
                        f"download it again from its official address, {_ELSEWHERE}"
                    )
                out.flush()
                os.fsync(out.fileno())
                # Moved while the lock is held, so that no other process can sweep it away.
                os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:  # the source's own errors are UsageErrors by now
        raise _unwritable(target, error) from error


def _copy(source: str, out: IO[bytes], size_bytes: int | None, on_progress: Progress | None) -> str:
    """Copy the source's bytes to `out`; return their SHA-256."""
    digest = hashlib.sha256()
    done = 0
    with _reading(source):
        stream, total = _open(source)
    with closing(stream):
        _check_size(source, total, size_bytes)
        while True:
            with _reading(source):
                chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                break
            done += len(chunk)
            if size_bytes is not None and done > size_bytes:
                _check_size(source, done, size_bytes)
            out.write(chunk)
            digest.update(chunk)
            if on_progress is not None:
                on_progress(done, total if total is not None else size_bytes)
    if total is not None and done < total:
        raise UsageError(
            f"{source}: ended after {done:,} of {total:,} bytes; try again, {_ELSEWHERE}"
        )
    return digest.hexdigest()


def _check_size(source: str, got: int | None, expected: int | None) -> None:
    """Refuse early what can't be right, such as the page of a login wall."""
    if got is not None and expected is not None and got != expected:
        raise UsageError(
            f"{source}: has {'more than ' if got > expected else ''}"
            f"{min(got, expected):,} bytes, expected {expected:,}; "
            f"check the address, {_ELSEWHERE}"
        )


def _open(source: str) -> tuple[BinaryIO, int | None]:
    """Open an address or a path: a readable stream and, where it is known, its bytes."""
    from urllib.request import Request, url2pathname, urlopen

    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        response = urlopen(Request(source, headers={"User-Agent": "dpmo"}), timeout=TIMEOUT_S)
        return cast(BinaryIO, response), response.length
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        path = Path(url2pathname(parts.path))
    elif "://" in source:
        raise UsageError(
            f"{source}: can't be fetched; give an http, https or file address, or a path"
        )
    else:
        path = Path(source)
    stream = path.open("rb")
    status = os.fstat(stream.fileno())
    return stream, status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Turn whatever goes wrong while reading `source` into one line."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    try:
        yield
    except HTTPError as error:
        error.close()
        raise UsageError(
            f"{source}: the server answered {error.code} {error.reason}; "
            f"check the address, {_ELSEWHERE}"
        ) from error
    # ValueError: urllib's answer to addresses that are none.
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            problem = f"no answer for {TIMEOUT_S:g} s"
        else:
            problem = f"can't be read ({_words(reason)})"
        mend = f"check the address and the network, {_ELSEWHERE}"
        if not source.startswith(("http:", "https:")):
            mend = "check the name, and that you may read it"
        raise UsageError(f"{source}: {problem}; {mend}") from error


def _unwritable(target: Path, error: OSError) -> UsageError:
    folder = target.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UsageError(
            f"{folder}: the disk is full; make room, or set DPMO_HOME to a folder on another disk"
        )
    return UsageError(
        f"{folder}: can't be written ({_words(error)}); set DPMO_HOME to a folder that can"
    )


def _words(reason: object) -> str:
    """Say in one line, without a path, what an exception or its reason says."""
    text = (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
    return " ".join(text.split()) or type(reason).__name__


def _sweep(target: Path) -> None:
    """Remove what downloads of `target` that were killed left behind."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        try:
            with leftover.open("rb") as file:
                if _try_lock(file):
                    leftover.unlink()
        except OSError:
            continue  # gone already, or not ours to remove: neither matters here


def _try_lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; False where another has it, or none can be had."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
