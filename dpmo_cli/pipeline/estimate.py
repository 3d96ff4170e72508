"""What a run will cost, before it is started: images, tiles, prompts, time and memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np

from dpmo_cli.datasets.images import image_size_hw
from dpmo_cli.errors import InputError
from dpmo_cli.geometry.points import group_points
from dpmo_cli.masks.segment import discs_of, plan_tiles, segment_image, sites_to_prompt
from dpmo_cli.pipeline.finish import peak_memory_bytes
from dpmo_cli.pipeline.job import Job
from dpmo_cli.pipeline.plan import tasks_of
from dpmo_cli.pipeline.rows import hidden_points
from dpmo_cli.sam.engine import PromptEngine

PROBE_PROMPTS = 16
PROBE_SIDE_PX = 256
BYTES_PER_PIXEL = 8
"""The image, its owners, and what decoding it takes."""


@dataclass(frozen=True)
class Estimate:
    """Costs of a run. Seconds are extrapolated from a few prompts timed on this machine."""

    images: int
    points: int
    tiles: int
    prompts: int
    unreadable: int
    seconds: float
    memory_bytes: int

    def as_json(self) -> dict[str, object]:
        """As a plain object."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a person."""
        return [
            f"images      {self.images}",
            f"points      {self.points}",
            f"tiles       {self.tiles}",
            f"prompts     {self.prompts}",
            f"unreadable  {self.unreadable}",
            f"time        about {self.seconds:.0f} s",
            f"memory      about {self.memory_bytes / 1e6:.0f} MB",
        ]


def estimate(job: Job) -> Estimate:
    """Plan a run without writing anything; image headers and annotations are read."""
    engine = job.load_engine()
    images = points = tiles = prompts = unreadable = largest = 0
    for split in job.selection.splits:
        for task in tasks_of(job.dataset, split, job.selection):
            images += 1
            try:
                heads = job.dataset.read_heads(task.entry)
                size_hw = image_size_hw(task.entry.image_path)
            except InputError:
                unreadable += 1
                continue
            sites = group_points(heads.points_xy, size_hw)
            discs = discs_of(sites, size_hw, job.method)
            chosen = np.flatnonzero(sites_to_prompt(sites, hidden_points(heads)))
            planned = plan_tiles(sites, discs, chosen, size_hw, engine.frame_px, job.method)
            points += len(heads)
            tiles += len(planned)
            prompts += len(chosen)
            largest = max(largest, size_hw[0] * size_hw[1])
    per_tile, per_prompt = _probe(engine, job)
    return Estimate(
        images=images,
        points=points,
        tiles=tiles,
        prompts=prompts,
        unreadable=unreadable,
        seconds=round(tiles * per_tile + prompts * per_prompt, 1),
        memory_bytes=peak_memory_bytes() + BYTES_PER_PIXEL * largest,
    )


def _probe(engine: PromptEngine, job: Job) -> tuple[float, float]:
    """Seconds per tile and per prompt, measured on one made-up tile."""
    image = np.zeros((PROBE_SIDE_PX, PROBE_SIDE_PX, 3), dtype=np.uint8)
    steps = np.linspace(PROBE_SIDE_PX * 0.2, PROBE_SIDE_PX * 0.8, int(PROBE_PROMPTS**0.5))
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    timings = []
    for points_xy in (grid[:1], grid[:1], grid):
        begin = perf_counter()
        segment_image(image, points_xy, engine, job.method)
        timings.append(perf_counter() - begin)
    # The first call pays for what torch sets up once.
    _, single, many = timings
    per_prompt = max(0.0, many - single) / (len(grid) - 1)
    return max(0.0, single - per_prompt), per_prompt
