"""Which images a run is about: splits, limit and shard, always in the same order."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dpmo_cli.datasets.base import Dataset, ImageEntry
from dpmo_cli.datasets.paths import resolve_inside
from dpmo_cli.errors import InputError, UsageError

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)
"""Who hands the images out: this process, or Ray Data."""


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "i/n".

        Raises:
            UsageError: not of that form, or i is not one of 1 to n.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"--shard {text}: give i/n with i from 1 to n, e.g. 1/3")
        return cls(int(match[1]), int(match[2]))

    def holds(self, image_id: int) -> bool:
        """Whether an image belongs to this shard."""
        return (image_id - 1) % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class Task:
    """One image to convert; `image_id` is its rank in the whole split, from 1."""

    entry: ImageEntry
    image_id: int


@dataclass(frozen=True)
class Selection:
    """Which part of a dataset a run is about; it is written down beside the results.

    Attributes:
        splits: lower-case names, in the dataset's order.
        limit: how many images of each split, from the first; None for all.
        shard: which of them; None for all.
    """

    splits: tuple[str, ...]
    limit: int | None
    shard: Shard | None


def choose_splits(dataset: Dataset, wanted: Sequence[str]) -> tuple[str, ...]:
    """The splits to convert, lower-case: the wanted ones, or all labelled ones that are there.

    Raises:
        UsageError: there is none, or a wanted one is not there (raised by the dataset).
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in wanted if name.strip()))
    if names:
        for name in names:
            dataset.entries(name)
        return names
    there = dataset.splits()
    if not there:
        raise UsageError(f"{dataset.root}: holds no labelled split of {dataset.name}; check --root")
    return there


def listing_sha256(dataset: Dataset, split: str) -> str:
    """SHA-256 of names and sizes of a split's images and annotations, hexadecimal.

    Tells shards of one dataset from those of others, wherever the dataset lies, without reading
    more of it than its folders.
    """
    digest = hashlib.sha256()
    for entry in dataset.entries(split):
        sizes = [_size(dataset.root, path) for path in (entry.image_path, entry.annotation_path)]
        digest.update(json.dumps([entry.file_name, *sizes]).encode())
    return digest.hexdigest()


def _size(root: Path, path: Path | None) -> int | None:
    """Bytes of a file inside the root; None where there is none that can be looked at."""
    if path is None:
        return None
    try:
        return resolve_inside(root, path.relative_to(root).as_posix()).stat().st_size
    except (OSError, ValueError, InputError):
        return None


def tasks_of(dataset: Dataset, split: str, selection: Selection) -> list[Task]:
    """The images of a split that a run converts, in lexicographic order of their names."""
    tasks = [
        Task(entry, image_id) for image_id, entry in enumerate(dataset.entries(split), start=1)
    ]
    if selection.limit is not None:
        tasks = tasks[: selection.limit]
    if selection.shard is not None:
        tasks = [task for task in tasks if selection.shard.holds(task.image_id)]
    return tasks
