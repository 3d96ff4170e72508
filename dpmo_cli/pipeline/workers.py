"""Processes on one machine that convert the images of a run; the parent hands them out."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import Thread

import torch

from dpmo_cli.errors import EXIT_FAILED, DpmoError, InputError, UsageError
from dpmo_cli.outputs.atomic import sweep_temporaries
from dpmo_cli.pipeline.converter import Converter
from dpmo_cli.pipeline.job import Done, Job
from dpmo_cli.pipeline.plan import Task
from dpmo_cli.pipeline.store import Store
from dpmo_cli.pipeline.streams import Streams, network_streams

TRIES = 2
"""How often a worker is given an image before it passes for one that no worker survives."""
PATIENCE_S = 5.0
"""How long an ended worker may take to be gone before it is killed."""


@dataclass(frozen=True)
class Trouble:
    """What ends a run, sent by a worker: an exception itself may not survive the sending.

    Attributes:
        message: one line.
        exit_code: of a DpmoError; None for what nobody expected.
    """

    message: str
    exit_code: int | None

    @classmethod
    def of(cls, error: Exception) -> Trouble:
        """What to send of an exception."""
        if isinstance(error, DpmoError):
            return cls(str(error), error.exit_code)
        if os.environ.get("DPMO_DEBUG"):
            traceback.print_exception(error, file=sys.stderr)
        return cls(f"{type(error).__name__}: {error}", None)

    def raise_again(self) -> None:
        """Raise it where it can be told to the user."""
        if self.exit_code is None:
            raise RuntimeError(self.message)
        raise (DpmoError if self.exit_code == EXIT_FAILED else UsageError)(self.message)


@dataclass
class _Worker:
    """A process, the pipe to it, and the image that it has in hand."""

    process: SpawnProcess
    pipe: Connection
    task: Task | None = None


@dataclass
class _Crew:
    """The workers of a run.

    Attributes:
        job: the run.
        store: its folder, which the parent has locked.
        waiting: images that nobody has in hand yet.
        size: how many workers there are at most.
        lost: how often a worker died over an image, by split and image id.
        workers: those that live.
        started: how many were ever started.
    """

    job: Job
    store: Store
    waiting: deque[Task]
    size: int
    lost: dict[tuple[str, int], int] = field(default_factory=dict)
    workers: list[_Worker] = field(default_factory=list)
    started: int = 0

    def results(self) -> Iterator[Done]:
        """Hand the images out one by one, and yield what becomes of them as it comes.

        Raises:
            DpmoError: what ended a worker's image, or with `strict` an image failed.
        """
        while True:
            while len(self.workers) < min(self.size, len(self.waiting) + self._busy()):
                self._start()
            for worker in self.workers:
                if worker.task is None and self.waiting:
                    worker.task = self.waiting.popleft()
                    with suppress(OSError):  # it has died: the pipe says so below
                        worker.pipe.send(worker.task)
            if not self._busy():
                return
            pipes = [worker.pipe for worker in self.workers]
            for ready in connection.wait(pipes):
                worker = self.workers[pipes.index(ready)]  # type: ignore[arg-type]
                try:
                    answer = worker.pipe.recv()
                except (EOFError, OSError):
                    yield from self._bury(worker)
                    continue
                worker.task = None
                if isinstance(answer, Trouble):
                    answer.raise_again()
                yield answer
            self.workers = [worker for worker in self.workers if not worker.pipe.closed]

    def _busy(self) -> int:
        return sum(worker.task is not None for worker in self.workers)

    def _start(self) -> None:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(self.job, theirs), name=f"dpmo-worker-{self.started}"
        )
        with _surroundings(self._environment(self.started)):
            process.start()
        theirs.close()
        self.started += 1
        self.workers.append(_Worker(process, ours))

    def _environment(self, number: int) -> dict[str, str]:
        """What a worker finds set: its share of the threads, and its accelerator."""
        threads = str(max(1, torch.get_num_threads() // self.size))
        shares = {"OMP_NUM_THREADS": threads}
        if self.job.config.get("device") == "cuda":
            seen = os.environ.get("CUDA_VISIBLE_DEVICES")
            names = seen.split(",") if seen else [*map(str, range(torch.cuda.device_count()))]
            shares["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]
        return shares

    def _bury(self, worker: _Worker) -> Iterator[Done]:
        """Give the image of a worker that has died to another one, or report it."""
        worker.pipe.close()
        worker.process.join(PATIENCE_S)
        task = worker.task
        if task is None:
            return
        worker.task = None
        key = task.entry.split, task.image_id
        self.lost[key] = self.lost.get(key, 0) + 1
        if self.lost[key] < TRIES:
            self.waiting.append(task)
            return
        yield failed(self.job, self.store, task, _ending(worker.process.exitcode))

    def end(self) -> None:
        """End all workers, whatever they are doing, and clear up behind them."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(PATIENCE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        sweep_temporaries(self.store.folder, deep=True)


@contextmanager
def local_workers(job: Job, store: Store, tasks: Sequence[Task]) -> Iterator[Iterator[Done]]:
    """Convert images in `job.workers` processes; results come in the order of the tasks.

    An image whose worker dies is given to another one, once. No worker outlives the context, nor
    the parent, even if that is killed.
    """
    crew = _Crew(job, store, deque(tasks), min(job.workers, max(1, len(tasks))))
    try:
        yield in_order(crew.results(), tasks)
    finally:
        crew.end()


def in_order(results: Iterable[Done], tasks: Sequence[Task]) -> Generator[Done, None, None]:
    """Results in the order of the tasks; those that come before their turn are kept."""
    early: dict[tuple[str, int], Done] = {}
    keys = iter([(task.entry.split, task.image_id) for task in tasks])
    key = next(keys, None)
    for done in results:
        early[done.task.entry.split, done.task.image_id] = done
        while key in early:
            yield early.pop(key)
            key = next(keys, None)


def failed(job: Job, store: Store, task: Task, why: str) -> Done:
    """Record that an image failed since no worker survived it.

    Raises:
        DpmoError: with `strict`.
    """
    error = (
        f"{task.entry.image_path}: its worker {why}, {TRIES} times; free memory, or use fewer "
        "--workers"
    )
    if job.strict:
        raise DpmoError(error)
    heads = None
    with suppress(InputError):
        heads = job.dataset.read_heads(task.entry)
    return Converter(job, store, Streams(1, None)).fail(task, heads, error, died=True)


def _ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was ended by {name}" + " (memory may have run out)" * (name == "SIGKILL")


def _work(job: Job, pipe: Connection) -> None:
    """Convert the images that come through the pipe, one at a time, until it is closed."""
    Thread(target=_end_with_parent, name="dpmo-parent", daemon=True).start()
    with network_streams(job.settings.device) as streams:
        converter = Converter(job, Store(job.out), streams)
        while True:
            try:
                task = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(converter.convert(task))
            except Exception as error:
                pipe.send(Trouble.of(error))


def _end_with_parent() -> None:
    """End this process when its parent has: a killed one can't tell it to."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(EXIT_FAILED)


@contextmanager
def _surroundings(environment: Mapping[str, str]) -> Iterator[None]:
    """What a process that is started inside finds: variables, and no ear for Ctrl-C.

    A terminal sends it to the whole group; the parent ends the workers.
    """
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    deaf = hasattr(signal, "pthread_sigmask")
    if deaf:
        # Where it is started with the first process, it gives that one its ears back.
        resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if deaf else set()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if deaf:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
