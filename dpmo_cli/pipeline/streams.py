"""Threads side by side: those that ask the network, and work that is done ahead of its turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Streams:
    """The threads that ask the network.

    Attributes:
        count: of them.
        pool: None where the calling thread asks itself.
    """

    count: int
    pool: Executor | None


@contextmanager
def network_streams(device: str) -> Iterator[Streams]:
    """Threads to ask a network on a device from.

    On a CPU every call computes with one thread, and as many calls as torch may use threads
    (OMP_NUM_THREADS, else the cores) run side by side. The last bits of a sum depend on how many
    threads share it: so masks and scores are the same on any number of cores and in any number
    of processes. It is also no slower (two threads in each of nano's calls took 1.5 times the
    processor's time of two calls with one each), and does not stall where other programs want
    the cores too.

    An accelerator is asked from one thread: its calls return before it is done.
    """
    if device != "cpu":
        yield Streams(1, None)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if threads == 1:
            yield Streams(1, None)
            return
        pool = ThreadPoolExecutor(threads, "dpmo-ask", torch.set_num_threads, (1,))
        try:
            yield Streams(threads, pool)
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(threads)


def ahead(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[Result]:
    """Results of `work` in the order of the items, begun for `count` items before their turn.

    An exception comes at its item's turn. Items that have been begun when the iteration is given
    up are left to the pool.
    """
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
