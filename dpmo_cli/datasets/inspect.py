"""Counts what is in a dataset and what is wrong with it, before anything is converted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.base import Dataset, ImageEntry
from dpmo_cli.datasets.images import read_image
from dpmo_cli.datasets.paths import resolve_inside
from dpmo_cli.datasets.reader import COUNT_MISMATCH
from dpmo_cli.errors import InputError, UsageError

TOTAL = "total"


@dataclass(frozen=True)
class Finding:
    """Something about one image, in words."""

    file_name: str
    what: str


@dataclass(frozen=True)
class SplitInspection:
    """What is in a split (or, as `total`, in all that were looked at).

    Attributes:
        split: name of the split.
        images: number of images listed.
        points: number of points in all annotations that can be read.
        duplicates: points with exactly the coordinates of an earlier one of the same image.
        outside: finite points with x < 0, x >= W, y < 0 or y >= H, of images that can be read.
        invalid: points with a NaN or infinite coordinate.
        unreadable: images and annotations that can't be used, with the reason.
        count_mismatches: counts of the dataset that disagree with its points.
        warnings: all other oddities.
    """

    split: str
    images: int = 0
    points: int = 0
    duplicates: int = 0
    outside: int = 0
    invalid: int = 0
    unreadable: tuple[Finding, ...] = ()
    count_mismatches: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What is in a dataset, split by split."""

    dataset: str
    root: str
    splits: tuple[SplitInspection, ...]

    @property
    def total(self) -> SplitInspection:
        """The sums over the splits."""
        return _sum(TOTAL, self.splits)


def inspect(dataset: Dataset, split: str | None = None) -> Inspection:
    """Read every annotation and decode every image of a dataset, one at a time.

    Args:
        dataset: an open dataset.
        split: only this split; None for all labelled ones.

    Raises:
        UsageError: the split is not there, or there is no labelled one.
    """
    names = dataset.splits() if split is None else (split.lower(),)
    if not names:
        raise UsageError(f"{dataset.name} has no labelled split in {dataset.root}")
    splits = tuple(
        _sum(name, (_inspect_image(dataset, entry) for entry in dataset.entries(name)))
        for name in names
    )
    return Inspection(dataset.name, str(dataset.root), splits)


def duplicate_count(points_xy: NDArray[np.float64]) -> int:
    """How many finite points of (N, 2) have exactly the coordinates of an earlier one."""
    finite = points_xy[np.isfinite(points_xy).all(axis=1)]
    return len(finite) - len(np.unique(finite, axis=0))


def outside_count(points_xy: NDArray[np.float64], size_hw: tuple[int, int]) -> int:
    """How many finite points of (N, 2) lie outside an image of (H, W) px."""
    finite = points_xy[np.isfinite(points_xy).all(axis=1)]
    height, width = size_hw
    inside = (finite >= 0).all(axis=1) & (finite < (width, height)).all(axis=1)
    return int((~inside).sum())


def _inspect_image(dataset: Dataset, entry: ImageEntry) -> SplitInspection:
    """One image, as a split of one; the image and the annotation may each be unreadable."""
    unreadable: list[Finding] = []
    heads, size_hw = None, None
    try:
        heads = dataset.read_heads(entry)
    except InputError as error:
        unreadable.append(Finding(entry.file_name, str(error)))
    try:
        image = read_image(resolve_inside(dataset.root, entry.file_name))
        size_hw = (image.shape[0], image.shape[1])
    except InputError as error:
        finding = Finding(entry.file_name, str(error))
        if finding not in unreadable:  # a name that leads outside fails both
            unreadable.append(finding)
    if heads is None:
        return SplitInspection(entry.split, images=1, unreadable=tuple(unreadable))
    findings = [Finding(entry.file_name, warning) for warning in heads.warnings]
    points_xy = heads.points_xy
    return SplitInspection(
        entry.split,
        images=1,
        points=len(points_xy),
        duplicates=duplicate_count(points_xy),
        outside=0 if size_hw is None else outside_count(points_xy, size_hw),
        invalid=int((~np.isfinite(points_xy)).any(axis=1).sum()),
        unreadable=tuple(unreadable),
        count_mismatches=tuple(f for f in findings if f.what.startswith(COUNT_MISMATCH)),
        warnings=tuple(f for f in findings if not f.what.startswith(COUNT_MISMATCH)),
    )


def _sum(name: str, parts: Iterable[SplitInspection]) -> SplitInspection:
    all_parts = tuple(parts)
    return SplitInspection(
        name,
        images=sum(part.images for part in all_parts),
        points=sum(part.points for part in all_parts),
        duplicates=sum(part.duplicates for part in all_parts),
        outside=sum(part.outside for part in all_parts),
        invalid=sum(part.invalid for part in all_parts),
        unreadable=tuple(found for part in all_parts for found in part.unreadable),
        count_mismatches=tuple(found for part in all_parts for found in part.count_mismatches),
        warnings=tuple(found for part in all_parts for found in part.warnings),
    )
