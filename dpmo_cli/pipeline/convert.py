"""One run: from a native dataset to masks, a row for every point, and a review queue."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpmo_cli.datasets.base import Dataset, Heads
from dpmo_cli.datasets.images import read_image
from dpmo_cli.errors import DpmoError, InputError, UsageError
from dpmo_cli.masks.claims import Seconds
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.outputs.atomic import sha256_file
from dpmo_cli.outputs.findings import DECISIONS_FILE
from dpmo_cli.outputs.records import ImageInfo, ImageRecord
from dpmo_cli.outputs.schema import ADDED_FROM, RECORD_SCHEMA
from dpmo_cli.pipeline.finish import Finished, finish, peak_memory_bytes
from dpmo_cli.pipeline.plan import Selection, Task, listing_sha256, tasks_of
from dpmo_cli.pipeline.progress import RunProgress
from dpmo_cli.pipeline.rows import failed_rows, hidden_points, segmented_rows
from dpmo_cli.pipeline.settings import Settings, image_fingerprint
from dpmo_cli.pipeline.store import Manifest, Store
from dpmo_cli.sam.cache import EmbeddingCache
from dpmo_cli.sam.engine import PromptEngine, RunEngine

FindPoints = Callable[[NDArray[np.uint8], Heads, PromptEngine], Heads]
"""From an image, (H, W, 3) uint8 RGB, and what is known of its heads."""


@dataclass(frozen=True)
class Job:
    """A run as it was asked for.

    Attributes:
        dataset: opened, at its root.
        out: the output folder.
        settings: what decides the masks.
        method: the part of the settings that the method takes.
        selection: which images.
        load_engine: loads the network; called only when an image has to be converted.
        find_points: turns what is known of an image's heads into the points to prompt; None
            prompts them as they are.
        cache: of embeddings, which the engine uses; for the run record.
        config: the resolved options, for the run record.
        discard_corrections: make the outputs automatic again; the decisions stay in their log.
        force: convert again what is there, and replace other runs in the folder.
        strict: end the run at the first image that fails.
        max_failure_rate: part of failed images above which the run has failed.
        quiet: no progress.
    """

    dataset: Dataset
    out: Path
    settings: Settings
    method: Method
    selection: Selection
    load_engine: Callable[[], RunEngine]
    find_points: FindPoints | None = None
    cache: EmbeddingCache | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    discard_corrections: bool = False
    force: bool = False
    strict: bool = False
    max_failure_rate: float = 1.0
    quiet: bool = False


@dataclass(frozen=True)
class Summary:
    """How a run ended: `changed` is false when there was nothing to do."""

    finished: Finished
    converted: int
    changed: bool
    seconds: float
    exit_code: int


class _Run:
    """The state of one run inside its locked folder."""

    def __init__(self, job: Job, store: Store) -> None:
        self.job = job
        self.store = store
        self.seconds = Seconds()
        self.read_seconds = 0.0
        self.find_seconds = 0.0
        self.write_seconds = 0.0
        self.tiles = 0
        self.converted = 0
        self._engine: RunEngine | None = None

    @property
    def engine(self) -> RunEngine:
        if self._engine is None:
            self._engine = self.job.load_engine()
        return self._engine

    def convert(self, task: Task, progress: RunProgress) -> str:
        """Bring the record of one image up to date and return its fingerprint."""
        begin = perf_counter()
        entry, image_id, settings = task.entry, task.image_id, self.job.settings
        heads: Heads | None = None
        try:
            heads = self.job.dataset.read_heads(entry)
            if len(heads) > ADDED_FROM:
                problem = f"has {len(heads)} points, more than {ADDED_FROM}"
                raise InputError(entry.image_path, problem, "cut the image into parts")
            image_sha256 = _sha256(entry.image_path)
            fingerprint = image_fingerprint(settings, entry, image_id, image_sha256, heads)
            if not self.job.force and self.store.has(entry.split, image_id, fingerprint):
                progress.advance(len(heads), reused=True)
                return fingerprint
            image = read_image(entry.image_path)
        except InputError as error:
            return self._fail(task, heads, error, progress)
        self.read_seconds += perf_counter() - begin
        if self.job.find_points is not None:
            begin = perf_counter()
            heads = self.job.find_points(image, heads, self.engine)
            self.find_seconds += perf_counter() - begin
        for warning in heads.warnings:
            progress.say(f"dpmo: warning: {entry.file_name}: {warning}")
        points_xy = heads.points_xy
        segmented = segment_image(
            image,
            points_xy if heads.rejected is None else points_xy[~heads.rejected],
            self.engine,
            self.job.method,
            hidden=hidden_points(heads),
            seconds=self.seconds,
        )
        self.tiles += segmented.tiles
        begin = perf_counter()
        rows = segmented_rows(entry.file_name, image_id, heads, segmented)
        info = ImageInfo(
            image_id, entry.split, entry.file_name, image.shape[1], image.shape[0], entry.labels
        )
        self.store.write_record(ImageRecord(info, rows, heads.warnings, None, fingerprint))
        self.write_seconds += perf_counter() - begin
        self.converted += 1
        progress.advance(len(heads), reused=False)
        return fingerprint

    def _fail(
        self, task: Task, heads: Heads | None, error: InputError, progress: RunProgress
    ) -> str:
        """Record that an image failed; it is tried again by the next run."""
        if self.job.strict:
            raise DpmoError(str(error)) from error
        progress.say(f"dpmo: error: {error}")
        entry = task.entry
        if heads is None:
            with suppress(InputError):
                heads = self.job.dataset.heads_of_refused(entry)
        if heads is None:
            rows = pa.Table.from_pylist([], schema=RECORD_SCHEMA)
        else:
            rows = failed_rows(entry.file_name, task.image_id, heads)
        fingerprint = image_fingerprint(
            self.job.settings, entry, task.image_id, f"failed: {error}", heads
        )
        info = ImageInfo(task.image_id, entry.split, entry.file_name, None, None, entry.labels)
        warnings = heads.warnings if heads is not None else ()
        if not self.store.has(entry.split, task.image_id, fingerprint):
            self.store.write_record(ImageRecord(info, rows, warnings, str(error), fingerprint))
        progress.advance(len(rows), reused=True)
        return fingerprint

    def measured(self, elapsed: float, writing: float) -> dict[str, object]:
        """What the run record says of time and memory; `writing` is that of the final files."""
        write = self.write_seconds + writing
        finding = {} if self.job.find_points is None else {"find": self.find_seconds}
        stages = {"read": self.read_seconds, **finding, **vars(self.seconds), "write": write}
        engine = self._engine
        return {
            "seconds": {name: round(value, 3) for name, value in stages.items()},
            "seconds_total": round(elapsed, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "converted_images": self.converted,
            "tiles": self.tiles,
            "prompt_batch": None if engine is None else engine.batch,
            "out_of_memory_halvings": 0 if engine is None else engine.halvings,
            "cache": None if self.job.cache is None else self.job.cache.usage.as_json(),
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
        run = _Run(job, store)
        tasks = {
            split: tasks_of(job.dataset, split, job.selection) for split in job.selection.splits
        }
        total = sum(len(part) for part in tasks.values())
        with RunProgress(total, quiet=job.quiet) as progress:
            if changes := _changes(job, store):
                progress.say(
                    f"dpmo: {job.out}: other settings ({', '.join(changes)}); "
                    "what is there is converted again"
                )
            for split, part in tasks.items():
                records = {task.image_id: run.convert(task, progress) for task in part}
                listing = listing_sha256(job.dataset, split)
                manifest = Manifest(
                    job.settings, job.selection.limit, job.selection.shard, listing, records
                )
                store.write_manifest(split, manifest)
        finished, changed = finish(
            store,
            job.settings,
            root=os.path.abspath(job.dataset.root),
            config=job.config,
            measured=lambda writing: run.measured(perf_counter() - begin, writing),
        )
        return Summary(
            finished,
            run.converted,
            changed,
            perf_counter() - begin,
            finished.exit_code(job.max_failure_rate),
        )


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


def _changes(job: Job, store: Store) -> list[str]:
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


def _sha256(path: Path) -> str:
    """Hash of a file's content; what is no file to open is left to the image reader to name."""
    try:
        # The type comes first: opening a pipe would wait for ever.
        return sha256_file(path) if path.is_file() else "unreadable"
    except OSError:
        return "unreadable"
