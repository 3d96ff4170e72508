"""Process-wide settings held while a file is decoded, safely from several threads."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType


class SharedContext:
    """A context that the first thread in opens and the last thread out closes.

    Python's warning filters and Pillow's pixel limit belong to the process: threads that each
    changed and restored them would restore each other's values.

    Args:
        make: makes the context manager that changes the setting and restores it.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0
        self._open: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._open is None:
                self._open = self._make()
                self._open.__enter__()
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._open is not None:
                self._open.__exit__(None, None, None)
                self._open = None


@contextmanager
def _all_ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


LIBRARY_WARNINGS_IGNORED = SharedContext(_all_ignored)
"""Hold it around calls of Pillow and SciPy: what they warn of, the readers report as errors."""
