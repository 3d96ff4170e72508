"""One writer at a time: the lock of a folder."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.atomic import OutputError


def in_use(out: Path) -> str:
    """What to say where a run is writing into a folder, whatever command asks for it."""
    return f"{out}: another run is writing there; wait until it has ended"


def hold(path: Path, out: Path, busy: str) -> FileLock:
    """Take a lock, or say at once who has it; the holder's death gives it back.

    Args:
        path: of the lock's file; its folder is made where it is missing.
        out: the folder that was asked for, in or below which it lies.
        busy: what to say where another process holds it.

    Returns:
        The lock, to be released.

    Raises:
        UsageError: another process holds it.
        OutputError: `out` can't be written.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(busy) from None
    except OSError as error:
        raise OutputError(out, error) from error
    return lock
