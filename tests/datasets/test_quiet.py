import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dpmo_cli.datasets.quiet import LIBRARY_WARNINGS_IGNORED, SharedContext


def test_warnings_are_ignored_inside_and_back_outside() -> None:
    before = list(warnings.filters)
    with LIBRARY_WARNINGS_IGNORED:
        warnings.warn("inside", stacklevel=1)
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning, match="outside"):
        warnings.warn("outside", stacklevel=1)


def test_the_first_thread_in_opens_and_the_last_one_out_closes() -> None:
    events: list[str] = []

    @contextmanager
    def make() -> Iterator[None]:
        events.append("open")
        yield
        events.append("close")

    shared = SharedContext(make)
    both_inside = threading.Barrier(2)
    first_left = threading.Event()

    def first() -> None:
        with shared:
            both_inside.wait(timeout=10)
        events.append("first left")
        first_left.set()

    def second() -> None:
        with shared:
            both_inside.wait(timeout=10)
            first_left.wait(timeout=10)
        events.append("second left")

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert events == ["open", "first left", "close", "second left"]


def test_it_closes_after_an_error_and_can_be_held_again() -> None:
    before = list(warnings.filters)
    for _ in range(2):
        with pytest.raises(RuntimeError), LIBRARY_WARNINGS_IGNORED:
            raise RuntimeError
        assert list(warnings.filters) == before
