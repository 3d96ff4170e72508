"""One run: from a native dataset to masks, a row for every point, and a review queue."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from itertools import islice
from time import perf_counter

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.findings import DECISIONS_FILE
from dpmo_cli.pipeline.converter import Converter
from dpmo_cli.pipeline.finish import Summary, finish, peak_memory_bytes
from dpmo_cli.pipeline.job import Done, Job, WorkerState
from dpmo_cli.pipeline.plan import RAY, Task, listing_sha256, tasks_of
from dpmo_cli.pipeline.progress import RunProgress
from dpmo_cli.pipeline.store import Manifest, Store
from dpmo_cli.pipeline.streams import network_streams
from dpmo_cli.sam.cache import Usage

STAGES = ("read", "find", "encode", "prompt", "choose", "clip", "own", "rle", "write")
NETWORK = ("find", "encode", "prompt")
"""Stages in which the network computes."""


class _Run:
    """What the images of one run have cost so far."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.tiles = 0
        self.converted = 0
        self.workers: dict[int, WorkerState] = {}

    def add(self, done: Done, progress: RunProgress) -> None:
        """Count one image, and tell of it."""
        for line in done.said:
            progress.say(line)
        for stage, seconds in done.seconds.items():
            self.seconds[stage] += seconds
        self.tiles += done.tiles
        self.converted += done.converted
        self.workers[done.state.pid] = done.state
        progress.advance(done.points, reused=not done.converted)

    def _cache_usage(self) -> dict[str, int]:
        """What the cache did in all processes."""
        usage: Counter[str] = Counter({name.name: 0 for name in fields(Usage)})
        for state in self.workers.values():
            if state.cache is not None:
                usage.update(state.cache.as_json())
        return dict(usage)

    def measured(self, elapsed: float, converting: float, writing: float) -> dict[str, object]:
        """What the run record says of time and memory.

        Args:
            elapsed: of the whole run, s.
            converting: of that, while images were converted.
            writing: the final files.
        """
        stages = [name for name in STAGES if name != "find" or self.job.find_points is not None]
        seconds = {name: self.seconds[name] for name in stages}
        seconds["write"] += writing
        states = self.workers.values()
        streams = sum(state.streams for state in states)
        busy = sum(self.seconds[name] for name in NETWORK) / max(streams * converting, 1e-9)
        own = 0 if os.getpid() in self.workers else peak_memory_bytes()
        batches = [state.prompt_batch for state in states if state.prompt_batch is not None]
        return {
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "seconds_total": round(elapsed, 3),
            "network_streams": streams,
            "network_busy": round(min(busy, 1.0), 3),
            "peak_memory_bytes": own + sum(state.peak_memory_bytes for state in states),
            "converted_images": self.converted,
            "tiles": self.tiles,
            "prompt_batch": min(batches, default=None),
            "out_of_memory_halvings": sum(state.halvings for state in states),
            "cache": None if self.job.cache is None else self._cache_usage(),
        }


def run_job(job: Job) -> Summary:
    """Carry out a run, going on from whatever an earlier one left in the folder.

    Raises:
        UsageError: the folder is in use, or holds other splits made with other settings.
        DpmoError: a file can't be written, or with `strict` an image failed.
    """
    begin = perf_counter()
    with Store(job.out) as store:
        _make_room(job, store)
        _check_extent(job, store)
        if job.discard_corrections:
            store.discard_corrections()
        run = _Run(job)
        tasks = {
            split: tasks_of(job.dataset, split, job.selection) for split in job.selection.splits
        }
        every = [task for part in tasks.values() for task in part]
        records: dict[str, dict[int, str]] = {split: {} for split in tasks}
        began = perf_counter()
        with RunProgress(len(every), quiet=job.quiet) as progress:
            if changes := changes_of(job, store):
                progress.say(
                    f"dpmo: {job.out}: other settings ({', '.join(changes)}); "
                    "what is there is converted again"
                )
            with _converted(job, store, every) as results:
                for split, part in tasks.items():
                    for done in islice(results, len(part)):
                        records[split][done.task.image_id] = done.fingerprint
                        run.add(done, progress)
                    listing = listing_sha256(job.dataset, split)
                    manifest = Manifest(
                        job.settings,
                        job.selection.limit,
                        job.selection.shard,
                        listing,
                        records[split],
                    )
                    store.write_manifest(split, manifest)
        converting = perf_counter() - began
        finished, changed = finish(
            store,
            job.settings,
            root=os.path.abspath(job.dataset.root),
            config=job.config,
            measured=lambda writing: run.measured(perf_counter() - begin, converting, writing),
        )
        return Summary(
            finished,
            run.converted,
            changed,
            perf_counter() - begin,
            finished.exit_code(job.max_failure_rate),
        )


@contextmanager
def _converted(job: Job, store: Store, tasks: Sequence[Task]) -> Iterator[Iterator[Done]]:
    """The images as they are converted, in the order of the tasks, by whom the job asks for."""
    if job.engine == RAY:
        from dpmo_cli.pipeline.ray_data import ray_workers

        with ray_workers(job, store, tasks) as results:
            yield results
    elif job.workers > 1:
        from dpmo_cli.pipeline.workers import local_workers

        with local_workers(job, store, tasks) as results:
            yield results
    else:
        with (
            network_streams(job.settings.device) as streams,
            closing(Converter(job, store, streams).convert_all(tasks)) as results,
        ):
            yield results


def _check_extent(job: Job, store: Store) -> None:
    """See that what people decided about masks of one extent does not come to stand for another."""
    if not (job.out / DECISIONS_FILE).exists() and not store.corrections.exists():
        return
    for split in store.splits():
        manifest = store.manifest(split)
        if manifest is not None and manifest.settings.extent != job.settings.extent:
            raise UsageError(
                f"--out {job.out}: holds decisions of a review about masks of the extent "
                f"{manifest.settings.extent}; use another folder for {job.settings.extent}"
            )


def changes_of(job: Job, store: Store) -> list[str]:
    """What differs from the settings that the job's splits were converted with before."""
    after = job.settings.as_json()
    changes: dict[str, str] = {}
    for split in job.selection.splits:
        manifest = store.manifest(split)
        before = after if manifest is None else manifest.settings.as_json()
        for name in {**before, **after}:
            was, is_now = before.get(name), after.get(name)
            if was != is_now:
                changes[name] = f"{name} {was}, now {is_now}"
    return list(changes.values())


def _make_room(job: Job, store: Store) -> None:
    """See that the splits which stay in the folder are whole and of the same settings."""
    for split in store.splits():
        if split in job.selection.splits:
            continue
        manifest = store.manifest(split)
        alike = manifest is not None and manifest.settings == job.settings
        if manifest is not None and alike and store.holds(split, manifest):
            continue
        if not job.force:
            why = "of an interrupted run" if alike else "made with other settings"
            mend = "use another folder, or replace it with --force"
            if split in job.dataset.splits():
                mend = f"name it with --split too, {mend}"
            raise UsageError(f"--out {job.out}: also holds split {split!r} {why}; {mend}")
        store.forget(split)
