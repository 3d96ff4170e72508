"""What a run says of its images and of its worst masks, read back to be drawn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.geometry.rle import rle_window
from dpmo_cli.outputs.findings import QUEUE_FILE, annotations_file
from dpmo_cli.outputs.finished import MEND, RunImage, list_images
from dpmo_cli.outputs.overlay import Person
from dpmo_cli.outputs.run_file import no_run
from dpmo_cli.outputs.schema import NOBODY, OK, SHARED

_COLUMNS = ["x", "y", "radius_px", "status", "flagged", "rle"]
_WORST_COLUMNS = [
    "split", "image", "image_id", "point_id", "x", "y", "radius_px", "status", "reasons", "score",
    "bbox", "rle",
]  # fmt: skip
_FAR_PX = 2.0**31
"""Points beyond this can't be drawn, NaN neither."""
_WORST_ROWS = 256
"""Rows of the queue that are read at once: the worst masks stand at its head."""


@dataclass(frozen=True)
class People:
    """The points of an image, and how many of them are somebody's in it, as in `counts.csv`."""

    persons: tuple[Person, ...]
    people: int
    masks: int
    flagged: int

    @property
    def counts(self) -> str:
        """The numbers as one phrase."""
        return f"{self.people:,} people, {self.masks:,} masks, {self.flagged:,} to review"


@dataclass(frozen=True)
class WorstMask:
    """A mask at the head of the queue.

    Attributes:
        image: where it lies.
        point_id: of its point.
        point_xy: px.
        radius_px: of its disc, None where there is none.
        bbox_xywh: of its pixels, px.
        score: None where there is none.
        reasons: why a person should look at it.
    """

    image: RunImage
    point_id: int
    point_xy: tuple[float, float]
    radius_px: float | None
    bbox_xywh: tuple[float, float, float, float]
    score: float | None
    reasons: tuple[str, ...]


def images_of(out: Path, split: str | None = None) -> list[RunImage]:
    """Return the images of a run that could be read, of all splits or one, in order.

    Raises:
        UsageError: `out` holds no run, or none with this split.
        InputError: its annotations can't be read.
    """
    paths = sorted((out / "annotations").glob("[!.]*.json"))
    if not paths:
        raise no_run(out)
    if split is not None:
        splits = [path.stem for path in paths]
        if split not in splits:
            raise UsageError(f"{out} has no split {split}; it has {', '.join(splits)}")
        paths = [out / annotations_file(split)]
    return [image for path in paths for image in list_images(out, path.stem)]


def find_image(images: Sequence[RunImage], name: str) -> RunImage:
    """Return the image of a name: its whole file name, or the last part with or without suffix.

    Raises:
        UsageError: there is none, with the names that are near, or there are several.
    """
    last = [PurePosixPath(image.file_name) for image in images]
    for names in ([i.file_name for i in images], [p.name for p in last], [p.stem for p in last]):
        found = [image for image, its in zip(images, names, strict=True) if its == name]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(f"{image.file_name} ({image.split})" for image in found[:5])
            raise UsageError(f"{name} fits {len(found)} images: {listed}; give more of the name")
    near = get_close_matches(
        PurePosixPath(name).name, [path.name for path in last], n=3, cutoff=0.5
    )
    hint = f"; near it are {', '.join(dict.fromkeys(near))}" if near else ""
    raise UsageError(f"no image of the run is named {name}{hint}")


def sample_images(images: Sequence[RunImage], count: int, seed: int) -> list[RunImage]:
    """Return `count` images, or all where there are fewer, the same for the same seed."""
    chosen = random.Random(seed).sample(range(len(images)), min(count, len(images)))
    return [images[index] for index in sorted(chosen)]


def read_people(out: Path, image: RunImage) -> People:
    """Return the points of an image with their masks.

    Raises:
        InputError: the queue can't be read, or holds a mask that is none.
    """
    path = out / QUEUE_FILE
    of_image = (pc.field("split") == image.split) & (pc.field("image") == image.file_name)
    try:
        with path.open("rb") as file:
            table = pq.read_table(file, columns=_COLUMNS, filters=of_image, partitioning=None)
        rows = table.to_pylist()
        persons = [_person(row) for row in rows if abs(row["x"]) + abs(row["y"]) < _FAR_PX]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(path, f"can't be read ({error})", MEND) from error
    return People(
        persons=tuple(persons),
        people=sum(row["status"] not in NOBODY for row in rows),
        masks=sum(row["status"] == OK for row in rows),
        flagged=sum(bool(row["flagged"]) for row in rows),
    )


def worst_masks(out: Path, count: int) -> list[WorstMask]:
    """Return the first `count` masks of the queue, which is ordered worst first.

    Points without a mask of their own are passed over; little more than the queue's head is read.

    Raises:
        InputError: the queue can't be read.
    """
    path = out / QUEUE_FILE
    found: list[WorstMask] = []
    try:
        with path.open("rb") as file:
            batches = pq.ParquetFile(file).iter_batches(_WORST_ROWS, columns=_WORST_COLUMNS)
            for batch in batches:
                rows = batch.filter(pc.equal(batch["status"], OK)).slice(0, count - len(found))
                found += map(_worst, rows.to_pylist())
                if len(found) == count:
                    break
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(path, f"can't be read ({error})", MEND) from error
    return found


def _worst(row: dict[str, Any]) -> WorstMask:
    height, width = row["rle"]["size"]
    x, y, w, h = row["bbox"]
    return WorstMask(
        image=RunImage(row["split"], row["image_id"], row["image"], (height, width)),
        point_id=row["point_id"],
        point_xy=(row["x"], row["y"]),
        radius_px=row["radius_px"],
        bbox_xywh=(x, y, w, h),
        score=row["score"],
        reasons=tuple(row["reasons"]),
    )


def _person(row: dict[str, Any]) -> Person:
    # The mask of a shared point is drawn with its site.
    mask, window_xyxy = rle_window(row["rle"]) if row["status"] == OK else (None, None)
    return Person(
        point_xy=(row["x"], row["y"]),
        radius_px=row["radius_px"],
        flagged=bool(row["flagged"]),
        has_mask=row["status"] in (OK, SHARED),
        mask=mask,
        window_xyxy=window_xyxy,
    )
