"""What a run will cost, before it is started: images, tiles, prompts, time and memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from dpmo_cli.datasets.base import Heads
from dpmo_cli.datasets.images import image_size_hw, read_image
from dpmo_cli.errors import InputError
from dpmo_cli.geometry.points import Sites, group_points
from dpmo_cli.geometry.tiles import Tile
from dpmo_cli.masks.claims import Seconds, start_claims
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.prompting import TILES_AT_ONCE, claim_tiles
from dpmo_cli.masks.segment import discs_of, plan_tiles, sites_to_prompt
from dpmo_cli.masks.settle import Asked, Discs, settle
from dpmo_cli.outputs.records import ImageInfo, ImageRecord, write_record
from dpmo_cli.pipeline.convert import changes_of
from dpmo_cli.pipeline.converter import AHEAD, fingerprint_of
from dpmo_cli.pipeline.finish import peak_memory_bytes
from dpmo_cli.pipeline.job import Job
from dpmo_cli.pipeline.plan import RAY, Task, tasks_of
from dpmo_cli.pipeline.rows import hidden_points, segmented_rows
from dpmo_cli.pipeline.store import Store
from dpmo_cli.pipeline.streams import ahead, network_streams
from dpmo_cli.sam.engine import PromptEngine

PROBE_PART = 0.03
"""The part of the run that timing some of its tiles may take."""
PROBE_S = (3.0, 60.0)
"""Seconds that it may take in any case, and at most, if FEWEST_PARTS of one tile allow it."""
FEWEST_PARTS = 4
GOLDEN = (5**0.5 - 1) / 2
"""Its multiples without their whole part spread evenly, however many are taken."""
BYTES_PER_PIXEL = 3 * (AHEAD + 1) + 8
"""Images on their way beside the one that was timed, and what is claimed of two."""
OUTPUT_BYTES = 60_000_000
"""What writing the final files takes at most beside the rest."""
OUTPUT_S_PER_POINT = 1.2e-4
"""Final files: COCO, points, queue and their hashes, as measured; not much beside the network."""
WORKERS_START_S = 4.0
"""Until processes have loaded torch and their network."""
PARENT_BYTES = 450_000_000
"""Of the process that hands the images out."""


@dataclass(frozen=True)
class Estimate:
    """Costs of a run. Seconds are extrapolated from some tiles of the dataset, timed here.

    Attributes:
        images: that the run looks at.
        converted: of these, images whose record is there already; the rest counts what is left.
        points, tiles, prompts: of the images that have to be converted.
        unreadable: images that can't be read.
        seconds: of the run.
        memory_bytes: largest resident memory of all its processes.
        changes: settings that differ from what the folder holds, which is converted again.
    """

    images: int
    converted: int
    points: int
    tiles: int
    prompts: int
    unreadable: int
    seconds: float
    memory_bytes: int
    changes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """As a plain object."""
        return asdict(self) | {"changes": list(self.changes)}

    def lines(self) -> list[str]:
        """For a person."""
        return [
            f"images      {self.images}",
            f"converted   {self.converted}",
            f"points      {self.points}",
            f"tiles       {self.tiles}",
            f"prompts     {self.prompts}",
            f"unreadable  {self.unreadable}",
            f"time        about {self.seconds:.0f} s",
            f"memory      about {self.memory_bytes / 1e6:.0f} MB",
        ]


@dataclass(frozen=True)
class _Planned:
    """What one image asks for."""

    task: Task
    size_hw: tuple[int, int]
    points: int
    tiles: int
    prompts: int


@dataclass
class _Timed:
    """What some tiles of the run took: seconds by stage, and how many of what they were."""

    seconds: Counter[str] = field(default_factory=Counter)
    images: int = 0
    pixels: int = 0
    tiles: int = 0
    prompts: int = 0

    def add(self, other: _Timed) -> None:
        """Add another part."""
        self.seconds.update(other.seconds)
        self.images += other.images
        self.pixels += other.pixels
        self.tiles += other.tiles
        self.prompts += other.prompts

    def network_seconds(self, planned: Sequence[_Planned]) -> float:
        """Thread-seconds in which the network is asked about all of the planned images."""
        tiles, prompts = sum(one.tiles for one in planned), sum(one.prompts for one in planned)
        asked = sum(self.seconds[stage] for stage in ("prompt", "choose", "clip"))
        return tiles * self.seconds["encode"] / max(1, self.tiles) + prompts * asked / max(
            1, self.prompts
        )

    def other_seconds(self, planned: Sequence[_Planned]) -> float:
        """Seconds of reading, settling and writing all of the planned images."""
        pixels = sum(one.size_hw[0] * one.size_hw[1] for one in planned)
        prompts = sum(one.prompts for one in planned)
        of_pixels = self.seconds["read"] / max(1, self.pixels)
        of_prompts = (self.seconds["own"] + self.seconds["rle"]) / max(1, self.prompts)
        of_images = self.seconds["write"] / max(1, self.images)
        return pixels * of_pixels + prompts * of_prompts + len(planned) * of_images


def estimate(job: Job) -> Estimate:
    """Plan a run without writing into its folder.

    Annotations, image headers and the records that are there are read, then some tiles of the
    dataset are converted as the run would, for a few seconds.
    """
    engine = job.load_engine()
    store = Store(job.out)
    planned: list[_Planned] = []
    images = converted = unreadable = 0
    for split in job.selection.splits:
        for task in tasks_of(job.dataset, split, job.selection):
            images += 1
            try:
                heads = job.dataset.read_heads(task.entry)
                if _is_converted(job, store, task, heads):
                    converted += 1
                    continue
                size_hw = image_size_hw(task.entry.image_path)
            except InputError:
                unreadable += 1
                continue
            plan = _plan(heads, size_hw, engine, job.method)
            prompts = sum(len(tile.sites) for tile in plan.tiles)
            planned.append(_Planned(task, size_hw, len(heads), len(plan.tiles), prompts))
    if not planned:
        changed = tuple(changes_of(job, store))
        return Estimate(images, converted, 0, 0, 0, unreadable, 0.0, peak_memory_bytes(), changed)
    timed = _probe(engine, job, planned)
    largest = max((one.size_hw[0] * one.size_hw[1] for one in planned), default=0)
    memory = peak_memory_bytes() + BYTES_PER_PIXEL * largest
    if job.workers > 1 or job.engine == RAY:
        memory = memory * job.workers + PARENT_BYTES
    return Estimate(
        images=images,
        converted=converted,
        points=sum(one.points for one in planned),
        tiles=sum(one.tiles for one in planned),
        prompts=sum(one.prompts for one in planned),
        unreadable=unreadable,
        seconds=round(_seconds(job, planned, timed), 1),
        memory_bytes=memory + OUTPUT_BYTES,
        changes=tuple(changes_of(job, store)),
    )


def _seconds(job: Job, planned: Sequence[_Planned], timed: _Timed) -> float:
    """Seconds of a run: the network, and beside it reading, settling and writing."""
    network, other = timed.network_seconds(planned), timed.other_seconds(planned)
    ending = OUTPUT_S_PER_POINT * sum(one.points for one in planned)
    shared = job.workers > 1 or job.engine == RAY
    if shared:
        # A worker does one thing after the other.
        ending += WORKERS_START_S + (other / job.workers)
    if job.settings.device != "cpu":
        streams = min(job.workers, max(1, torch.cuda.device_count()))
        return network / streams + ending
    threads = torch.get_num_threads()
    streams = job.workers * max(1, threads // job.workers)
    cores = max(threads, os.cpu_count() or 1)
    asking = network / min(streams, cores)
    if shared:
        return asking + ending
    return max(asking, other, (network + other) / cores) + ending


def _is_converted(job: Job, store: Store, task: Task, heads: Heads) -> bool:
    """Whether the run will find the record of an image as it would write it."""
    split = task.entry.split
    if job.force or not store.record_path(split, task.image_id).exists():
        return False
    return store.has(split, task.image_id, fingerprint_of(job, task, heads))


@dataclass(frozen=True)
class _Plan:
    """The sites of an image's points, their discs and tiles."""

    sites: Sites
    discs: Discs
    prompted: NDArray[np.bool_]
    tiles: list[Tile]


def _plan(heads: Heads, size_hw: tuple[int, int], engine: PromptEngine, method: Method) -> _Plan:
    sites = group_points(heads.points_xy, size_hw)
    discs = discs_of(sites, size_hw, method)
    prompted = sites_to_prompt(sites, hidden_points(heads))
    chosen = np.flatnonzero(prompted)
    tiles = plan_tiles(sites, discs, chosen, size_hw, engine.frame_px, method)
    return _Plan(sites, discs, prompted, tiles)


def _probe(engine: PromptEngine, job: Job, planned: Sequence[_Planned]) -> _Timed:
    """Convert some parts of images as the run would, spread evenly over all tiles."""
    ends = np.cumsum([one.tiles for one in planned])
    timed = _Timed()
    if not len(ends) or not ends[-1]:
        return timed
    begin = perf_counter()
    # Left last: parts that nobody waits for any more still write into it.
    with TemporaryDirectory() as folder, network_streams(job.settings.device) as streams:

        def convert(number: int, together: int) -> _Timed:
            place = int(number * GOLDEN % 1 * ends[-1])
            index = int(np.searchsorted(ends, place, side="right"))
            first = (place - int(ends[index])) % planned[index].tiles
            path = Path(folder) / f"{number}.parquet"
            return _convert_part(engine, job, planned[index], first, together, path)

        # The first tile pays for what torch sets up once. Where tiles are dear a run saves little
        # by encoding some together, and the plan much by timing few.
        first = convert(0, 1).seconds
        dear_s = (first["encode"] + first["prompt"]) * FEWEST_PARTS
        together = max(1, min(TILES_AT_ONCE, int(PROBE_S[1] / max(dear_s, 1e-9))))
        parts = range(1, -(-int(ends[-1]) // together) + 1)
        work = partial(convert, together=together)
        results: Iterator[_Timed] = map(work, parts)
        if streams.pool is not None:
            results = ahead(streams.pool, work, parts, streams.count)
        for part, result in enumerate(results, start=1):
            timed.add(result)
            budget = min(max(PROBE_S[0], PROBE_PART * _seconds(job, planned, timed)), PROBE_S[1])
            if part >= FEWEST_PARTS and perf_counter() - begin > budget:
                break
    return timed


def _convert_part(
    engine: PromptEngine, job: Job, planned: _Planned, tile: int, together: int, path: Path
) -> _Timed:
    """Convert a tile of an image and those that are asked together with it; write their record."""
    task, method = planned.task, job.method
    begin = perf_counter()
    try:
        heads = job.dataset.read_heads(task.entry)
        fingerprint_of(job, task, heads)
        image = read_image(task.entry.image_path)
    except InputError:
        return _Timed()
    read = perf_counter() - begin
    size_hw = (image.shape[0], image.shape[1])
    plan = _plan(heads, size_hw, engine, method)
    first = tile // together * together
    tiles = plan.tiles[first : first + together]
    claims = start_claims(plan.sites, plan.discs.radii_px, size_hw, method, None, Seconds())
    claim_tiles(image, tiles, plan.sites, engine, method, claims)
    asked = Asked(plan.sites, plan.discs, plan.prompted, claims, len(tiles), [])
    segmented = settle(asked, engine, method)
    begin = perf_counter()
    rows = segmented_rows(task.entry.file_name, task.image_id, heads, segmented)
    info = ImageInfo(task.image_id, task.entry.split, task.entry.file_name, size_hw[1], size_hw[0])
    write_record(path, ImageRecord(info, rows))
    seconds = Counter(vars(claims.seconds) | {"read": read, "write": perf_counter() - begin})
    prompts = sum(len(tile.sites) for tile in tiles)
    return _Timed(seconds, 1, size_hw[0] * size_hw[1], len(tiles), prompts)
