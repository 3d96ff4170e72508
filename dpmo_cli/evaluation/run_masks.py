"""What a finished run predicts, read back one image at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.evaluation.instances import checked_rle
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.geometry.rle import Rle
from dpmo_cli.outputs.findings import annotations_file, one_line, points_file
from dpmo_cli.outputs.finished import MEND, FinishedImage, RunImage, list_images, read_images
from dpmo_cli.outputs.json_values import as_number, as_object
from dpmo_cli.outputs.run_file import RUN_FILE, Run
from dpmo_cli.outputs.schema import FAILED, OCCLUDED, POINT_SCHEMA
from dpmo_cli.outputs.table_checks import read_table


@dataclass(frozen=True)
class Prediction:
    """What a run says of the N points of one image, in the order of its annotation.

    Attributes:
        image: the image.
        points_xy: (N, 2) float64 px, as annotated.
        masks: N, None where a point has none; a shared point has its site's.
        scores: (N,) float64, NaN where there is none.
        occluded: (N,) bool, what the dataset says can't be seen.
        boxes_xyxy: (N, 4) float64 px, the dataset's head boxes, NaN where it gives none.
    """

    image: RunImage
    points_xy: FloatArray
    masks: list[Rle | None]
    scores: FloatArray
    occluded: NDArray[np.bool_]
    boxes_xyxy: FloatArray


@dataclass(frozen=True)
class FinishedRun:
    """The record of a run and its images.

    Attributes:
        out: its folder.
        extent: what its masks hold.
        images: that could be read, split after split.
        failed: file names of those that could not.
        others: file names in the splits that were not asked for.
        limited: it was told to convert only a part of its splits (limit or shard).
    """

    out: Path
    extent: str
    images: tuple[RunImage, ...]
    failed: tuple[str, ...]
    others: tuple[str, ...]
    limited: bool

    def predictions(self, wanted: set[RunImage]) -> Iterator[Prediction]:
        """Yield what the run predicts for some of its images, in order.

        Raises:
            InputError: a file of the run can't be read, or they do not belong together.
        """
        for split in dict.fromkeys(image.split for image in self.images if image in wanted):
            images = [one for one in self.images if one.split == split]
            for found in read_images(self.out, split, images):
                if found.image in wanted:
                    yield _prediction(self.out, found)


def open_run(out: Path, split: str | None = None) -> FinishedRun:
    """Read the record of a run, and list the images of all its splits or of one.

    Raises:
        UsageError: `out` holds no finished run, or none with this split.
        InputError: one of its files can't be read.
    """
    if not out.is_dir():
        raise UsageError(f"--pred {out}: no such folder; give the one that `dpmo convert` wrote")
    if not (out / RUN_FILE).is_file():
        raise UsageError(
            f"--pred {out}: holds no finished run (no {RUN_FILE}); run convert to its end"
        )
    run = Run.of(out)
    splits = as_object(run.document.get("splits"), "splits")
    parts = {name: as_object(splits[name], name) for name in run.split_counts}
    if split is not None and split not in parts:
        raise UsageError(f"--split {split}: the run has {', '.join(parts) or 'none'}")
    chosen = [name for name in parts if split in (None, name)]
    images = {name: list_images(out, name) for name in parts}
    return FinishedRun(
        out=out,
        extent=run.extent,
        images=tuple(image for name in chosen for image in images[name]),
        failed=tuple(file_name for name in chosen for file_name in _list_failed(out, name)),
        others=tuple(
            image.file_name for name in parts if name not in chosen for image in images[name]
        ),
        limited=any(_is_limited(parts[name]) for name in chosen),
    )


def _is_limited(part: Mapping[str, object]) -> bool:
    return part.get("limit") is not None or part.get("shard") is not None


def _list_failed(out: Path, split: str) -> list[str]:
    table = read_points(out, split)
    failed = table.filter(pc.field("status") == FAILED)
    return [str(name) for name in pc.unique(failed["image"]).to_pylist()]


def read_points(out: Path, split: str) -> pa.Table:
    """The rows of a split, as POINT_SCHEMA.

    Raises:
        InputError: they can't be read.
    """
    path = out / points_file(split)
    try:
        return read_table(path, POINT_SCHEMA)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(path, f"can't be read ({one_line(error)})", MEND) from error


def _mask_of(fields: Mapping[str, object], image: RunImage) -> tuple[Rle, float]:
    """The mask of an annotation and its score."""
    try:
        mask = checked_rle(fields.get("segmentation"), image.size_hw)
    except ValueError as error:
        raise ValueError(f"annotation {fields.get('id')}: {error}") from error
    score = fields.get("score")
    return mask, float("nan") if score is None else as_number(score, "score")


def _prediction(out: Path, found: FinishedImage) -> Prediction:
    image, rows = found.image, found.rows
    try:
        masks = {number: _mask_of(one, image) for number, one in found.annotations.items()}
    except ValueError as error:
        path = out / annotations_file(image.split)
        raise InputError(path, f"can't be read ({one_line(error)})", MEND) from error
    of_points = [masks.get(number) for number in rows["annotation_id"].to_pylist()]
    nan_box = [float("nan")] * 4
    boxes = rows["head_box_xyxy"].to_pylist()
    return Prediction(
        image=image,
        points_xy=np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1),
        masks=[None if one is None else one[0] for one in of_points],
        scores=np.array([float("nan") if one is None else one[1] for one in of_points]),
        occluded=np.array([status == OCCLUDED for status in rows["status"].to_pylist()], np.bool_),
        boxes_xyxy=np.array([box or nan_box for box in boxes], np.float64).reshape(-1, 4),
    )
