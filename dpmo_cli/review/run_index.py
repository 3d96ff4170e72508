"""The rows of a run's review queue as arrays, and the filters that choose among them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dpmo_cli.errors import GIVE_ROOT, InputError, UsageError
from dpmo_cli.masks.reasons import REASONS
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.findings import QUEUE_FILE
from dpmo_cli.outputs.finished import RunImage, list_images
from dpmo_cli.outputs.run_file import Run, photos_of
from dpmo_cli.outputs.schema import ADDED_FROM, FAILED, INVALID

Ranks = NDArray[np.int32]
"""Rows of the queue, 0 for the worst."""
Flags = NDArray[np.bool_]

_COLUMNS = [
    "split",
    "image",
    "image_id",
    "point_id",
    "x",
    "y",
    "radius_px",
    "status",
    "reasons",
    "score",
    "bbox",
    "flagged",
]
_UNSEEN = (FAILED, INVALID)
"""Statuses of points that no picture can show."""
_REASONS = tuple(REASONS)


@dataclass(frozen=True)
class RunInfo:
    """What run.json says that a review needs.

    Attributes:
        out: the run's folder.
        root: the folder of the photos.
        dataset: its name.
        extent: what of a person the masks hold.
        settings: what decided the masks.
        checkpoint: the weights that the run was given, wherever they are now.
    """

    out: Path
    root: Path
    dataset: str
    extent: str
    settings: Mapping[str, Any]
    checkpoint: Path | None


@dataclass(frozen=True)
class ShownPhoto:
    """An image of the run: its file name is relative to the root."""

    split: str
    image_id: int
    file_name: str


@dataclass(frozen=True)
class QueueFilter:
    """Which rows are wanted; what is left at its default does not limit them.

    Attributes:
        reasons: at least one of these.
        flagged: only rows with any reason to look.
        splits: of these splits.
        image: part of the file name, in any case.
        score: lowest and highest score; a row without one has the score 0.
        crowd: least and largest number of points of the image.
        verdicts: latest verdicts, "open" for none.
        with_mask: only rows that have a mask, or only those without.
        persons: only these, in this order: the audit's sample.
    """

    reasons: tuple[str, ...] = ()
    flagged: bool = False
    splits: tuple[str, ...] = ()
    image: str = ""
    score: tuple[float, float] = (0.0, 1.0)
    crowd: tuple[int, int] = (0, 2**31)
    verdicts: tuple[str, ...] = ()
    with_mask: bool | None = None
    persons: tuple[Person, ...] | None = field(default=None, repr=False)


class RunIndex:
    """Every point of a run that can be shown, worst first, held as arrays of about 80 bytes a row.

    Args:
        table: the rows.
        images: of the run; those without a row come after the others.

    Attributes:
        images: the images, those with rows in the order of split and id.
        unmarked: those without rows.
        splits: names of the splits.
        image: (N,) int32, index of the row's image.
        point_id: (N,) int32.
        xy: (N, 2) float64 points, px.
        radius_px: (N,) float32, NaN without a disc.
        score: (N,) float32, NaN without one.
        box_xywh: (N, 4) float32 box of the mask, px, NaN without one.
        status: (N,) str of a few distinct values.
        reasons: (N,) int64, bit k for the k-th of REASONS.
        flagged: (N,) bool.
        crowd: (images,) int64 points of each image.
    """

    def __init__(self, table: pa.Table, images: Iterable[RunImage] = ()) -> None:
        split = _codes(table["split"])
        image_id = table["image_id"].to_numpy()
        self.splits: tuple[str, ...] = tuple(split.names)
        key = np.stack([split.codes, image_id], axis=1)
        found, first, self.image = _unique_rows(key)
        names = table["image"].take(first).to_pylist()
        self.images = [
            ShownPhoto(self.splits[code], number, name)
            for (code, number), name in zip(found.tolist(), names, strict=True)
        ]
        marked = {(one.split, one.image_id) for one in self.images}
        self.unmarked = tuple(one for one in images if (one.split, one.image_id) not in marked)
        self.images += [ShownPhoto(one.split, one.image_id, one.file_name) for one in self.unmarked]
        self._split = split.codes
        self.point_id: NDArray[np.int32] = table["point_id"].to_numpy()
        self.xy = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
        self.radius_px = _floats(table["radius_px"])
        self.score = _floats(table["score"])
        self.box_xywh = _boxes(table["bbox"])
        status = _codes(table["status"])
        self.status = np.array(status.names, dtype=object)[status.codes]
        self.reasons = _reason_bits(table["reasons"])
        self.flagged: Flags = table["flagged"].to_numpy(zero_copy_only=False)
        self.crowd = np.bincount(self.image, minlength=len(self.images))
        self._number = {(one.split, one.image_id): at for at, one in enumerate(self.images)}
        self._key = self.image.astype(np.int64) << 32 | self.point_id
        self._by_key = np.argsort(self._key)

    def __len__(self) -> int:
        return len(self.point_id)

    def person(self, rank: int) -> Person:
        """Whom a row is about."""
        image = self.images[self.image[rank]]
        return Person(image.split, image.image_id, int(self.point_id[rank]))

    def photo(self, split: str, image_id: int) -> ShownPhoto | None:
        """The image of an id, None where the run has none."""
        number = self._number.get((split, image_id))
        return None if number is None else self.images[number]

    def rank(self, person: Person) -> int | None:
        """The row of a person, None for one whom the queue does not hold (an added one)."""
        number = self._number.get((person.split, person.image_id))
        if number is None:
            return None
        key = number << 32 | person.point_id
        at = int(np.searchsorted(self._key, key, sorter=self._by_key))
        if at == len(self._key) or self._key[self._by_key[at]] != key:
            return None
        return int(self._by_key[at])

    def choose(self, wanted: QueueFilter, verdicts: NDArray[Any]) -> Ranks:
        """The rows that a filter lets through, worst first, or in the order of its persons.

        Args:
            wanted: the filter.
            verdicts: (N,) object, the latest verdict about each row.
        """
        keep = np.ones(len(self), dtype=np.bool_)
        if wanted.reasons:
            bits = sum(1 << _REASONS.index(name) for name in wanted.reasons)
            keep &= (self.reasons & bits) != 0
        if wanted.flagged:
            keep &= self.flagged
        if wanted.splits:
            keep &= np.isin(self._split, [self.splits.index(name) for name in wanted.splits])
        if wanted.image:
            part = wanted.image.casefold()
            fits = np.array([part in image.file_name.casefold() for image in self.images], bool)
            keep &= fits[self.image]
        score = np.nan_to_num(self.score)
        keep &= (score >= wanted.score[0]) & (score <= wanted.score[1])
        crowd = self.crowd[self.image]
        keep &= (crowd >= wanted.crowd[0]) & (crowd <= wanted.crowd[1])
        if wanted.verdicts:
            keep &= np.isin(verdicts, wanted.verdicts)
        if wanted.with_mask is not None:
            keep &= np.isnan(self.box_xywh[:, 0]) != wanted.with_mask
        if wanted.persons is not None:
            ranks = [rank for one in wanted.persons if (rank := self.rank(one)) is not None]
            return np.array([rank for rank in ranks if keep[rank]], dtype=np.int32)
        return np.flatnonzero(keep).astype(np.int32)

    def reason_names(self, rank: int) -> list[str]:
        """Why a person should look at a row."""
        bits = int(self.reasons[rank])
        return [name for bit, name in enumerate(_REASONS) if bits >> bit & 1]

    def reason_counts(self) -> dict[str, int]:
        """How many rows have each reason; reasons of none are left out."""
        counts = {name: int(((self.reasons >> bit) & 1).sum()) for bit, name in enumerate(_REASONS)}
        return {name: count for name, count in counts.items() if count}


def open_run(out: Path, root: Path | None = None) -> tuple[RunInfo, RunIndex]:
    """Read what a review needs of a finished run.

    Args:
        out: the folder of the run.
        root: the folder of the photos; None for the one that the run names.

    Raises:
        UsageError: `out` holds no finished run, or there is no such root.
        InputError: its record or its queue can't be read.
    """
    run = Run.of(out)
    photos = root or photos_of(out)
    if not photos.is_dir():
        raise UsageError(f"{photos}: no such folder; give that of the photos with --root")
    config = run.document.get("config")
    checkpoint = config.get("checkpoint") if isinstance(config, dict) else None
    info = RunInfo(
        out=out,
        root=photos,
        dataset=run.dataset,
        extent=run.extent,
        settings=run.settings(out),
        checkpoint=Path(checkpoint) if isinstance(checkpoint, str) else None,
    )
    images = (one for split in run.split_counts for one in list_images(out, split))
    return info, read_index(out / QUEUE_FILE, images)


def missing_photos(info: RunInfo, index: RunIndex) -> str | None:
    """What to say where photos of a run are not below its root, on one line; None for all there.

    They are looked for and not opened: a run may have many.
    """
    missing = [one for one in index.images if not os.path.exists(info.root / one.file_name)]
    if not missing:
        return None
    count = f"{len(missing):,} of {len(index.images):,} photos"
    first = f"{count} of the run are missing, first {info.root / missing[0].file_name}"
    return f"{first}; {GIVE_ROOT}"


def read_index(path: Path, images: Iterable[RunImage] = ()) -> RunIndex:
    """Read the queue without its masks.

    Args:
        path: of the queue.
        images: of the run.

    Raises:
        InputError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            # Added persons are known from the decisions, failed points can't be seen.
            table = pq.read_table(
                file,
                columns=_COLUMNS,
                filters=~pc.field("status").isin(list(_UNSEEN))
                & (pc.field("point_id") < ADDED_FROM),
                partitioning=None,
            )
        return RunIndex(table, images)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        mend = "see `dpmo validate`, and convert again"
        raise InputError(path, f"can't be read ({error})", mend) from error


@dataclass(frozen=True)
class _Coded:
    """A column of few distinct words: (N,) int64 indices into sorted names."""

    codes: NDArray[np.int64]
    names: Sequence[str]


def _codes(column: pa.ChunkedArray) -> _Coded:
    names = sorted(pc.unique(column).to_pylist())
    codes = pc.index_in(column, pa.array(names, column.type)).to_numpy().astype(np.int64)
    return _Coded(codes, names)


def _unique_rows(key: NDArray[np.int64]) -> tuple[NDArray[np.int64], Any, NDArray[np.int32]]:
    found, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return found, first, inverse.reshape(-1).astype(np.int32)


def _floats(column: pa.ChunkedArray) -> NDArray[np.float32]:
    values: NDArray[np.float32] = pc.fill_null(column.cast(pa.float32()), np.nan).to_numpy()
    return values


def _boxes(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """(N, 4) float32, NaN for null."""
    boxes = np.full((len(column), 4), np.nan, dtype=np.float32)
    filled = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    values = pc.list_flatten(column.drop_null()).to_numpy()
    boxes[filled] = values.reshape(-1, 4)
    return boxes


def _reason_bits(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """(N,) int64, bit k for the k-th of REASONS; words that are not known are left out."""
    bits = np.zeros(len(column), dtype=np.int64)
    rows = pc.list_parent_indices(column).to_numpy()
    words = pc.index_in(pc.list_flatten(column), pa.array(_REASONS, pa.string()))
    codes = pc.fill_null(words, -1).to_numpy()
    known = codes >= 0
    np.bitwise_or.at(bits, rows[known], np.int64(1) << codes[known].astype(np.int64))
    return bits
