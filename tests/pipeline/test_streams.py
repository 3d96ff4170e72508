"""Threads side by side: order, errors, and how many ask the network."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from dpmo_cli.outputs.atomic import TEMPORARY_SUFFIX
from dpmo_cli.pipeline.streams import ahead, network_streams
from tests.conftest import Crowd, Dpmo, FakeEngine, tree


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Two threads."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_ahead_keeps_the_order(count: int, pool: ThreadPoolExecutor) -> None:
    assert list(ahead(pool, lambda item: item * 2, range(10), count)) == list(range(0, 20, 2))


def test_ahead_takes_no_more_than_asked_for(pool: ThreadPoolExecutor) -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(10):
            taken.append(item)
            yield item

    results = ahead(pool, str, items(), 2)
    assert next(results) == "0"
    assert taken == [0, 1, 2]


def test_errors_come_at_their_turn(pool: ThreadPoolExecutor) -> None:
    results = ahead(pool, lambda item: 1 // item, [1, 0, 1], 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.fixture
def three_threads() -> Iterator[None]:
    """What torch may use."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_each_call_on_a_cpu_has_one_thread() -> None:
    with network_streams("cpu") as streams:
        assert (streams.count, torch.get_num_threads()) == (3, 1)
        assert streams.pool is not None
        meet = threading.Barrier(3, timeout=60)

        def threads_of_a_call(_: int) -> int:
            meet.wait()
            return torch.get_num_threads()

        assert list(streams.pool.map(threads_of_a_call, range(3))) == [1, 1, 1]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("one_thread")
def test_one_thread_asks_itself() -> None:
    with network_streams("cpu") as streams:
        assert (streams.count, streams.pool) == (1, None)


@pytest.mark.usefixtures("three_threads")
def test_an_accelerator_is_asked_from_one_thread() -> None:
    with network_streams("cuda") as streams:
        assert (streams.count, streams.pool, torch.get_num_threads()) == (1, None, 3)


@pytest.mark.usefixtures("nano")
@pytest.mark.parametrize("command", ["convert", "predict"])
def test_the_number_of_threads_changes_no_file(
    command: str, dpmo: Dpmo, empty_crowd: Crowd, album: Path, locator_file: Path, tmp_path: Path
) -> None:
    """Many tiles an image, whose sums would differ in their last bits."""
    for number in range(3):
        empty_crowd.add(f"{number}.png", count=40 * (number + 1), size_hw=(240, 320))
    arguments: list[str | Path] = ["--root", empty_crowd.root]
    if command == "predict":
        arguments = [album, "--locator", locator_file]
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert dpmo(command, *arguments, "--out", str(threads)).code == 0
    finally:
        torch.set_num_threads(before)
    assert tree(tmp_path / "3") == tree(tmp_path / "1")
    records = [json.loads((tmp_path / out / "run.json").read_text()) for out in ("1", "3")]
    assert [record["network_streams"] for record in records] == [1, 3]


@pytest.mark.usefixtures("three_threads", "heard")
@pytest.mark.parametrize("calls", [1, 4])
def test_an_interrupted_run_with_streams_goes_on(
    calls: int, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    left = [calls]

    def signal_at_last() -> None:
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    command = ("convert", "--root", crowd.root, "--out")
    assert dpmo(*command, "undisturbed").code == 0
    fake_engine.on_encode = signal_at_last
    outcome = dpmo(*command, "out")
    assert (outcome.code, outcome.stdout) == (130, "")
    assert outcome.lines[-1] == "dpmo: interrupted; the same command goes on from here"
    # As a process does before it ends: a pool that is interrupted just as it starts a thread
    # does not know that one, and can't wait for it.
    for thread in threading.enumerate():
        if thread.name.startswith("dpmo-"):
            thread.join(20)
    assert not list((tmp_path / "out").rglob(f"*{TEMPORARY_SUFFIX}"))
    assert dpmo(*command, "out").code == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
