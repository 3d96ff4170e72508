"""A finished run read back image by image: what stands in its annotations and its points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dpmo_cli.errors import InputError
from dpmo_cli.geometry.rle import WindowXYXY, rle_window
from dpmo_cli.outputs.coco import iter_coco
from dpmo_cli.outputs.findings import annotations_file, one_line, points_file
from dpmo_cli.outputs.json_values import as_int, as_list, as_object, as_text
from dpmo_cli.outputs.schema import OK, POINT_SCHEMA, SHARED
from dpmo_cli.outputs.table_checks import check_schema

MEND = "see `dpmo validate`, and convert again"


@dataclass(frozen=True)
class RunImage:
    """An image of a run: file name relative to the dataset's root, (H, W) in px."""

    split: str
    image_id: int
    file_name: str
    size_hw: tuple[int, int]
    labels: Mapping[str, object] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Instance:
    """One mask of an image, decoded.

    Attributes:
        point_id: the point that it belongs to.
        mask: (h, w) bool, its window's pixels, at least one in every border row and column.
        window_xyxy: where the window lies in the image, px, half open: the mask's tight box.
        fields: the annotation, as it is.
    """

    point_id: int
    mask: NDArray[np.bool_]
    window_xyxy: WindowXYXY
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class FinishedImage:
    """What a run says of one image.

    Attributes:
        path: of the annotations, for messages.
        image: the image.
        rows: one row per point in the order of its annotation, of POINT_SCHEMA.
        annotations: the image's COCO annotations by id, in the order of the file, as they are.
    """

    path: Path
    image: RunImage
    rows: pa.Table
    annotations: Mapping[int, Mapping[str, Any]]

    def instances(self) -> Iterator[Instance]:
        """Decode the masks one by one.

        Raises:
            InputError: an annotation holds no mask of this image.
        """
        for number, fields in self.annotations.items():
            try:
                yield _instance(fields, self.image.size_hw)
            except (ValueError, LookupError, OverflowError) as error:
                problem = f"annotation {number} can't be used ({one_line(error)})"
                raise InputError(self.path, problem, MEND) from error


def list_images(out: Path, split: str) -> list[RunImage]:
    """The images of a split that could be read, whether they hold a mask or not.

    Raises:
        InputError: the split's annotations can't be read.
    """
    path = out / annotations_file(split)
    images = []
    try:
        for member, value in iter_coco(path):
            if member == "annotations":
                break
            if member == "images":
                images.append(_image(as_object(value, "an image"), split))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"can't be read ({one_line(error)})", MEND) from error
    return images


def read_images(out: Path, split: str, images: Iterable[RunImage]) -> Iterator[FinishedImage]:
    """Yield what a run says of the images of a split, one in memory at a time.

    Args:
        out: the folder of the run.
        split: one of its splits.
        images: all of the split, as `list_images` gives them.

    Raises:
        InputError: a file of the run can't be read, or they do not belong together.
    """
    path = out / annotations_file(split)
    listed = list(images)
    known = {image.image_id for image in listed}
    # Images that could not be read have rows, but are not listed.
    tables = (one for one in iter_rows(out, split) if one[0] in known)
    try:
        annotations = (value for member, value in iter_coco(path) if member == "annotations")
        groups = groupby(annotations, lambda value: as_int(value["image_id"], "image_id"))
        group, table = next(groups, None), next(tables, None)
        for image in listed:
            found: dict[int, Mapping[str, Any]] = {}
            if group is not None and group[0] == image.image_id:
                found = dict(map(_numbered, group[1]))
                group = next(groups, None)
            rows = POINT_SCHEMA.empty_table()
            if table is not None and table[0] == image.image_id:
                rows, table = table[1], next(tables, None)
            _check_joined(image, rows, found)
            yield FinishedImage(path, image, rows, found)
        if group is not None:
            raise ValueError(f"annotations of image {group[0]} out of place")
        if table is not None:
            raise ValueError(f"{points_file(split)}: rows of image {table[0]} out of place")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(path, f"can't be read ({one_line(error)})", MEND) from error


def iter_rows(out: Path, split: str) -> Iterator[tuple[int, pa.Table]]:
    """Yield image id and rows of each image of a split that has points, in the file's order.

    Raises:
        InputError: the file can't be read.
    """
    path = out / points_file(split)
    waiting: list[pa.Table] = []
    try:
        with path.open("rb") as file:
            table = pq.ParquetFile(file)
            check_schema(table.schema_arrow, POINT_SCHEMA)
            for batch in table.iter_batches():
                if not len(batch):
                    continue
                piece = pa.Table.from_batches([batch], POINT_SCHEMA)
                ids = piece["image_id"].to_numpy()
                begins = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
                for begin, end in pairwise(begins):
                    part = piece.slice(begin, end - begin)
                    if waiting and waiting[0]["image_id"][0] != part["image_id"][0]:
                        yield _whole(waiting)
                        waiting = []
                    waiting.append(part)
        if waiting:
            yield _whole(waiting)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(path, f"can't be read ({one_line(error)})", MEND) from error


def _whole(pieces: list[pa.Table]) -> tuple[int, pa.Table]:
    table = pa.concat_tables(pieces).combine_chunks()
    return table["image_id"][0].as_py(), table


def _image(fields: Mapping[str, object], split: str) -> RunImage:
    height, width = (as_int(fields.get(side), side) for side in ("height", "width"))
    return RunImage(
        split=split,
        image_id=as_int(fields.get("id"), "id"),
        file_name=as_text(fields.get("file_name"), "file_name"),
        size_hw=(height, width),
        labels=as_object(fields.get("attributes", {}), "attributes"),
    )


def _instance(fields: Mapping[str, Any], size_hw: tuple[int, int]) -> Instance:
    segmentation = as_object(fields.get("segmentation"), "segmentation")
    attributes = as_object(fields.get("attributes"), "attributes")
    point_id = as_int(attributes.get("point_id"), "point_id")
    size = as_list(segmentation.get("size"), 2, "size")
    if size != list(size_hw):
        raise ValueError(f"the mask's size (H, W) is {size}, the image's {list(size_hw)}")
    counts = as_text(segmentation.get("counts"), "counts")
    mask, window_xyxy = rle_window({"size": list(size_hw), "counts": counts})
    if not mask.size or point_id < 0:
        raise ValueError("the mask has no pixel" if not mask.size else "point_id is negative")
    return Instance(point_id, mask, window_xyxy, fields)


def _numbered(value: object) -> tuple[int, Mapping[str, object]]:
    fields = as_object(value, "an annotation")
    return as_int(fields.get("id"), "an annotation's id"), fields


def _check_joined(
    image: RunImage, rows: pa.Table, annotations: Mapping[int, Mapping[str, Any]]
) -> None:
    """See that the rows of an image and its annotations name the same masks."""
    masked = pc.is_in(rows["status"], pa.array([OK, SHARED]))
    named = set(rows["annotation_id"].filter(masked).to_pylist())
    lost = sorted(named - annotations.keys())
    if lost:
        raise ValueError(
            f"annotation {lost[0]}, which {points_file(image.split)} names, is missing"
        )
    strays = sorted(annotations.keys() - named)
    if strays:
        raise ValueError(f"annotation {strays[0]} is of no point in {points_file(image.split)}")
