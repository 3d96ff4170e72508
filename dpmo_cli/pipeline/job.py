"""What a run is asked to do, and what becomes of one of its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.base import Dataset, Heads
from dpmo_cli.masks.method import Method
from dpmo_cli.pipeline.plan import LOCAL, Selection, Task
from dpmo_cli.pipeline.settings import Settings
from dpmo_cli.sam.cache import EmbeddingCache, Usage
from dpmo_cli.sam.engine import PromptEngine, RunEngine

FindPoints = Callable[[NDArray[np.uint8], Heads, PromptEngine, Executor | None], Heads]
"""From an image, (H, W, 3) uint8 RGB, what is known of its heads, and threads to ask from."""


@dataclass(frozen=True)
class Job:
    """A run as it was asked for. It is sent to other processes, so all of it can be pickled.

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
        workers: processes that convert images.
        engine: one of `plan.ENGINES`.
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
    workers: int = 1
    engine: str = LOCAL


@dataclass(frozen=True)
class WorkerState:
    """What a process that converts images says of itself.

    Attributes:
        pid: of the process.
        streams: threads that ask the network.
        peak_memory_bytes: largest resident memory so far.
        prompt_batch: prompts per decoder call; None while the network is not loaded.
        halvings: how often memory ran out so far.
        cache: what it did so far; None without one.
    """

    pid: int
    streams: int
    peak_memory_bytes: int
    prompt_batch: int | None
    halvings: int
    cache: Usage | None


@dataclass(frozen=True)
class Done:
    """What became of one image, small enough to be sent between processes.

    Attributes:
        task: the image.
        fingerprint: of its record.
        points: annotated or found ones.
        tiles: that were encoded.
        converted: false where the record was there already, or the image failed.
        said: lines for a person.
        seconds: time by stage, s, added up over threads.
        state: of the process.
    """

    task: Task
    fingerprint: str
    points: int
    tiles: int
    converted: bool
    said: tuple[str, ...]
    seconds: Mapping[str, float]
    state: WorkerState
