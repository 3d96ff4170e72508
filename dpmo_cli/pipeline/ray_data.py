"""The images of a run converted by Ray Data, on this machine or in a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from dpmo_cli.pipeline.converter import Converter
from dpmo_cli.pipeline.job import Done, Job
from dpmo_cli.pipeline.plan import Task
from dpmo_cli.pipeline.store import Store
from dpmo_cli.pipeline.streams import network_streams
from dpmo_cli.pipeline.workers import TRIES, Trouble, failed, in_order

_COLUMN = "image"


class RayConverter:
    """A `Converter` as an actor of Ray: rows with the index of a task in, what became of it out.

    Records go into the folder of the run, which all machines must see under the same path.
    """

    def __init__(self, job: Job, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        # Held for the life of the actor.
        self._held = network_streams(job.settings.device)
        self.converter = Converter(job, Store(job.out), self._held.__enter__())

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Convert one image; what goes wrong is an answer too, so that no other image is lost."""
        try:
            answer: Done | Trouble = self.converter.convert(self.tasks[row[_COLUMN]])
        except Exception as error:
            answer = Trouble.of(error)
        return {_COLUMN: row[_COLUMN], "answer": [answer]}


@contextmanager
def ray_workers(job: Job, store: Store, tasks: Sequence[Task]) -> Iterator[Iterator[Done]]:
    """Convert images with `job.workers` actors of Ray; results come in the order of the tasks.

    A cluster is joined where RAY_ADDRESS names one; otherwise Ray is started for this run. An
    image whose actor is lost is tried once more.
    """
    job = replace(job, out=Path(os.path.abspath(job.out)))
    begun = not ray.is_initialized()
    # What Ray says of itself is for those who run a cluster; its log files hold it.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.disable(logging.WARNING)
    if begun:
        local = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        with closing(in_order(_results(job, store, tasks), tasks)) as results:
            yield results
    finally:
        logging.disable(logging.NOTSET)
        if begun:
            ray.shutdown()


def _results(job: Job, store: Store, tasks: Sequence[Task]) -> Iterator[Done]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Blocks of lost actors are left out of the results instead of ending them all.
    context.max_errored_blocks = -1
    missing = list(range(len(tasks)))
    for _ in range(TRIES):
        if not missing:
            return
        rows = [{_COLUMN: index} for index in missing]
        images = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            RayConverter,
            fn_constructor_args=(job, tasks),
            compute=ray.data.ActorPoolStrategy(size=min(job.workers, len(rows))),
            num_gpus=1 if job.settings.device == "cuda" else None,
        )
        left = set(missing)
        for row in images.iter_rows():
            (answer,) = row["answer"]
            if isinstance(answer, Trouble):
                answer.raise_again()
            left.discard(row[_COLUMN])
            yield answer
        missing = sorted(left)
    for index in missing:
        yield failed(job, store, tasks[index], "was lost to Ray")
