"""True heads, image after image: from a dataset's reader, or from NWPU's localisation truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dpmo_cli.datasets.base import Dataset, Heads, ImageEntry
from dpmo_cli.datasets.nwpu_lines import LEVEL_EDGES_PX, SizedHeads, read_sized_heads
from dpmo_cli.datasets.registry import open_dataset
from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.geometry.points import FloatArray

_MEND = "mend the annotation, or leave the image out"


@dataclass(frozen=True)
class TrueImage:
    """An image of the truth; its split is empty where the truth has none."""

    split: str
    file_name: str


@dataclass(frozen=True)
class TrueHeads:
    """The heads of one image whose coordinates are finite, in the image or not.

    Attributes:
        points_xy: (N, 2) float64 px.
        left_out: heads with a coordinate that is NaN or infinite.
        sized: the same heads with their sizes, where the truth knows them.
    """

    points_xy: FloatArray
    left_out: int = 0
    sized: SizedHeads | None = None


class Truth(Protocol):
    """The true heads of a set of images.

    Attributes:
        name: what it is called: of the dataset, or the file.
        images: in order.
    """

    name: str
    images: Sequence[TrueImage]

    def heads(self, index: int) -> TrueHeads:
        """The heads of an image. InputError: its annotation can't be used."""


class DatasetTruth:
    """The heads that a dataset's reader gives, fully occluded ones among them.

    Args:
        dataset: it.
        split: this one; None for all that are labelled.

    Raises:
        UsageError: the split is not there, or there is none.
    """

    def __init__(self, dataset: Dataset, split: str | None) -> None:
        self.name = dataset.name
        self._dataset = dataset
        splits = dataset.splits() if split is None else (split,)
        self._entries: list[ImageEntry] = [one for name in splits for one in dataset.entries(name)]
        if not self._entries:
            raise UsageError(f"{dataset.name} has no labelled image in {dataset.root}")
        self.images: Sequence[TrueImage] = [
            TrueImage(one.split, one.file_name) for one in self._entries
        ]

    def heads(self, index: int) -> TrueHeads:
        """The heads of an image."""
        entry = self._entries[index]
        found = self._dataset.read_heads(entry)
        finite = np.isfinite(found.points_xy).all(axis=1)
        points_xy = found.points_xy[finite]
        sized = None
        if found.boxes_xyxy is not None:
            sized = size_heads(points_xy, self._checked(found, entry)[finite])
        return TrueHeads(points_xy, int((~finite).sum()), sized)

    def _checked(self, heads: Heads, entry: ImageEntry) -> FloatArray:
        assert heads.boxes_xyxy is not None
        bad = np.flatnonzero(~np.isfinite(heads.boxes_xyxy).all(axis=1))
        if len(bad):
            path = entry.annotation_path or entry.image_path
            raise InputError(path, f"the box of head {bad[0]} is not finite", _MEND)
        return heads.boxes_xyxy


class FileTruth:
    """The heads of NWPU's `val_gt_loc.txt`.

    Raises:
        UsageError: there is no such file.
        InputError: a line of it is wrong.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._heads = read_sized_heads(path)
        self.images: Sequence[TrueImage] = [TrueImage("", name) for name in self._heads]
        if not self.images:
            raise InputError(path, "is empty", "copy it again from the release")

    def heads(self, index: int) -> TrueHeads:
        """The heads of an image."""
        found = self._heads[self.images[index].file_name]
        return TrueHeads(found.points_xy, sized=found)


def open_truth(dataset: str, root: Path | None, gt_loc: Path | None, split: str | None) -> Truth:
    """Open a dataset, or NWPU's localisation truth.

    Args:
        dataset, root: as `open_dataset`.
        gt_loc: NWPU's file, in the place of a root.
        split: of the dataset; None for all labelled ones.

    Raises:
        UsageError: neither is given, or both, or what is given is not there.
        InputError: the file can't be used.
    """
    if (root is None) == (gt_loc is None):
        raise UsageError("give the truth: a dataset with --root, or NWPU's file with --gt-loc")
    if gt_loc is not None:
        if split is not None:
            raise UsageError("--split: the truth of --gt-loc has no splits; leave it out")
        return FileTruth(gt_loc)
    assert root is not None
    return DatasetTruth(open_dataset(dataset, root), split)


def size_heads(points_xy: FloatArray, boxes_xyxy: FloatArray) -> SizedHeads:
    """Sizes of heads as NWPU-Crowd defines them, from their boxes, not rounded.

    Args:
        points_xy: (N, 2) float64 px.
        boxes_xyxy: (N, 4) float64 px.
    """
    sides = np.abs(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])
    return SizedHeads(
        points_xy=points_xy,
        sigma_small_px=sides.min(axis=1) / 2,
        sigma_large_px=np.hypot(sides[:, 0], sides[:, 1]) / 2,
        levels=np.searchsorted(LEVEL_EDGES_PX, sides.prod(axis=1)).astype(np.int64),
    )
