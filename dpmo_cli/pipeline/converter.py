"""From an image of a dataset to its record in the folder, in stages that may overlap."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpmo_cli.datasets.base import Heads
from dpmo_cli.datasets.images import read_image
from dpmo_cli.errors import DpmoError, InputError
from dpmo_cli.masks.claims import Seconds
from dpmo_cli.masks.segment import ask_network
from dpmo_cli.masks.settle import Asked, settle
from dpmo_cli.outputs.atomic import sha256_file
from dpmo_cli.outputs.records import ImageInfo, ImageRecord
from dpmo_cli.outputs.schema import ADDED_FROM, RECORD_SCHEMA
from dpmo_cli.pipeline.finish import peak_memory_bytes
from dpmo_cli.pipeline.job import Done, Job, WorkerState
from dpmo_cli.pipeline.plan import Task
from dpmo_cli.pipeline.rows import failed_rows, hidden_points, segmented_rows
from dpmo_cli.pipeline.settings import image_fingerprint
from dpmo_cli.pipeline.store import Store
from dpmo_cli.pipeline.streams import Streams, ahead
from dpmo_cli.sam.engine import RunEngine

AHEAD = 1
"""Images that are read, and images that are settled, beside the one that is asked about."""


@dataclass
class _Image:
    """One image on its way through the stages.

    Attributes:
        task: which.
        heads: None where the annotation can't be read.
        fingerprint: of its record; empty where it failed.
        pixels: (H, W, 3) uint8 RGB while the network has to see them.
        error: why it failed.
        asked: of the network; None where it is not asked.
        size_hw: height and width, px.
        seconds: by stage, s.
        of_method: seconds of the method's stages.
    """

    task: Task
    heads: Heads | None = None
    fingerprint: str = ""
    pixels: NDArray[np.uint8] | None = None
    error: InputError | None = None
    asked: Asked | None = None
    size_hw: tuple[int, int] = (0, 0)
    seconds: dict[str, float] = field(default_factory=dict)
    of_method: Seconds = field(default_factory=Seconds)


class Converter:
    """Converts images of a job, in this process.

    Args:
        job: the run.
        store: its folder; somebody holds the lock.
        streams: the threads to ask the network from.
    """

    def __init__(self, job: Job, store: Store, streams: Streams) -> None:
        self.job = job
        self.store = store
        self.streams = streams
        self._engine: RunEngine | None = None
        self._asked: deque[Asked] = deque(maxlen=AHEAD + 2)

    @property
    def engine(self) -> RunEngine:
        """Loaded when the first image needs it."""
        if self._engine is None:
            self._engine = self.job.load_engine()
        return self._engine

    def convert(self, task: Task) -> Done:
        """Bring the record of one image up to date.

        Raises:
            DpmoError: a file can't be written, or with `strict` the image failed.
        """
        return self._settle(self._ask(self._find(self._read(task))))

    def convert_all(self, tasks: Iterable[Task]) -> Generator[Done, None, None]:
        """Bring the records of images up to date, in order, while others are read and settled.

        When it is ended between two results, images that the network has answered about are
        still written.
        """
        with ExitStack() as ends:
            # The threads that write end last.
            settling = ends.enter_context(ThreadPoolExecutor(1, "dpmo-settle"))
            ends.callback(self._give_up)
            reading = ThreadPoolExecutor(1, "dpmo-read")
            ends.callback(reading.shutdown, cancel_futures=True)
            images = ahead(reading, self._read, tasks, AHEAD)
            asked = (self._ask(self._find(image)) for image in images)
            yield from ahead(settling, self._settle, asked, AHEAD)

    def _give_up(self) -> None:
        """Let nothing more be asked for images that the network has not wholly answered about."""
        for asked in self._asked:
            for part in asked.pending:
                part.cancel()

    def _read(self, task: Task) -> _Image:
        """Read what the record is made from, and the pixels unless it is there already."""
        begin = perf_counter()
        entry, image = task.entry, _Image(task)
        try:
            image.heads = self.job.dataset.read_heads(entry)
            if len(image.heads) > ADDED_FROM:
                problem = f"has {len(image.heads)} points, more than {ADDED_FROM}"
                raise InputError(entry.image_path, problem, "cut the image into parts")
            image.fingerprint = fingerprint_of(self.job, task, image.heads)
            if not self.job.force and self.store.has(entry.split, task.image_id, image.fingerprint):
                return image
            image.pixels = read_image(entry.image_path)
            image.size_hw = (image.pixels.shape[0], image.pixels.shape[1])
        except InputError as error:
            image.error = error
        image.seconds["read"] = perf_counter() - begin
        return image

    def _find(self, image: _Image) -> _Image:
        if image.pixels is not None and self.job.find_points is not None:
            begin = perf_counter()
            assert image.heads is not None
            image.heads = self.job.find_points(
                image.pixels, image.heads, self.engine, self.streams.pool
            )
            image.seconds["find"] = perf_counter() - begin
        return image

    def _ask(self, image: _Image) -> _Image:
        if image.pixels is None:
            return image
        heads = image.heads
        assert heads is not None
        points_xy = heads.points_xy
        image.asked = ask_network(
            image.pixels,
            points_xy if heads.rejected is None else points_xy[~heads.rejected],
            self.engine,
            self.job.method,
            hidden=hidden_points(heads),
            seconds=image.of_method,
            pool=self.streams.pool,
        )
        self._asked.append(image.asked)
        image.pixels = None
        return image

    def _settle(self, image: _Image) -> Done:
        if image.error is not None:
            return self._fail(image, image.error)
        heads, task = image.heads, image.task
        assert heads is not None
        if image.asked is None:
            return self._done(image, len(heads))
        entry = task.entry
        segmented = settle(image.asked, self.engine, self.job.method)
        begin = perf_counter()
        rows = segmented_rows(entry.file_name, task.image_id, heads, segmented)
        height, width = image.size_hw
        info = ImageInfo(task.image_id, entry.split, entry.file_name, width, height, entry.labels)
        self.store.write_record(ImageRecord(info, rows, heads.warnings, None, image.fingerprint))
        image.seconds["write"] = perf_counter() - begin
        said = tuple(f"dpmo: warning: {entry.file_name}: {text}" for text in heads.warnings)
        done = self._done(image, len(heads), said)
        return replace(done, tiles=segmented.tiles, converted=True)

    def _fail(self, image: _Image, error: InputError) -> Done:
        if self.job.strict:
            raise DpmoError(str(error)) from error
        return self.fail(image.task, image.heads, str(error))

    def fail(self, task: Task, heads: Heads | None, error: str, *, died: bool = False) -> Done:
        """Record that an image failed, in one line; it is tried again by the next run.

        Args:
            task: the image.
            heads: of it, where they are known.
            error: the line.
            died: the image may be readable: whoever converted it did not survive.
        """
        entry = task.entry
        if heads is None:
            with suppress(InputError):
                heads = self.job.dataset.heads_of_refused(entry)
        if heads is None:
            rows = pa.Table.from_pylist([], schema=RECORD_SCHEMA)
        else:
            rows = failed_rows(entry.file_name, task.image_id, heads, died=died)
        fingerprint = image_fingerprint(
            self.job.settings, entry, task.image_id, f"failed: {error}", heads
        )
        info = ImageInfo(task.image_id, entry.split, entry.file_name, None, None, entry.labels)
        warnings = heads.warnings if heads is not None else ()
        if not self.store.has(entry.split, task.image_id, fingerprint):
            self.store.write_record(ImageRecord(info, rows, warnings, error, fingerprint))
        failed = _Image(task, fingerprint=fingerprint)
        return self._done(failed, len(rows), (f"dpmo: error: {error}",))

    def _done(self, image: _Image, points: int, said: tuple[str, ...] = ()) -> Done:
        seconds = image.seconds | (vars(image.of_method) if image.asked is not None else {})
        return Done(image.task, image.fingerprint, points, 0, False, said, seconds, self.state())

    def state(self) -> WorkerState:
        """What this process says of itself."""
        engine = self._engine
        return WorkerState(
            pid=os.getpid(),
            streams=self.streams.count,
            peak_memory_bytes=peak_memory_bytes(),
            prompt_batch=None if engine is None else engine.batch,
            halvings=0 if engine is None else engine.halvings,
            cache=None if self.job.cache is None else replace(self.job.cache.usage),
        )


def fingerprint_of(job: Job, task: Task, heads: Heads) -> str:
    """Fingerprint of the record that a job makes of an image; reads the image's file."""
    sha256 = _sha256(task.entry.image_path)
    return image_fingerprint(job.settings, task.entry, task.image_id, sha256, heads)


def _sha256(path: Path) -> str:
    """Hash of a file's content; what is no file to open is left to the image reader to name."""
    try:
        # The type comes first: opening a pipe would wait for ever.
        return sha256_file(path) if path.is_file() else "unreadable"
    except OSError:
        return "unreadable"
