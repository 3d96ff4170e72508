"""COCO instances, one file per split, written and read one object at a time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import pyarrow.compute as pc

from dpmo_cli.outputs.atomic import atomic_path
from dpmo_cli.outputs.records import ImageInfo, ImageRecord, Records
from dpmo_cli.outputs.schema import AUTO, OK, SCHEMA_VERSION

PERSON = 1
_SCORE_DECIMALS = 6
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_SPACE = re.compile(r"[ \t\r\n]*")
_PIECE_CHARACTERS = 1 << 20
_LONGEST_TAIL = 3
"""So many characters after a number tell that it has ended: "e+" before a digit is the longest."""


def write_coco(
    path: Path,
    records: Records,
    images: Iterable[ImageInfo],
    *,
    dataset: str,
    split: str,
    extent: str,
) -> None:
    """Write the masks of one split as COCO JSON: images, then their annotations, one a line.

    One record is in memory at a time. Images that could not be read are left out.

    Args:
        path: of the file.
        records: of the split.
        images: of the records, in their order.
        dataset, split, extent: what the file says of itself.
    """
    write_instances(
        path,
        (_image(info) for info in images if info.width is not None),
        (one for r in records() for one in _annotations(r, extent)),
        dataset=dataset,
        split=split,
        extent=extent,
    )


def write_instances(
    path: Path,
    images: Iterable[Mapping[str, object]],
    annotations: Iterable[Mapping[str, object]],
    *,
    dataset: str,
    split: str,
    extent: str,
) -> None:
    """Write a COCO JSON of ready images and annotations, each one a line, as they come.

    The file is pure ASCII (readers that open it in any locale agree), holds no NaN and no time
    of day.
    """
    head = {
        "info": {
            "description": "Instance masks made from head points by dpmo",
            "version": str(SCHEMA_VERSION),
            "dataset": dataset,
            "split": split,
            "extent": extent,
        },
        "licenses": [],
        "categories": [{"id": PERSON, "name": "person", "supercategory": "person"}],
    }
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="") as file:
        file.write(_ENCODER.encode(head)[:-1])
        _write_array(file, "images", images)
        _write_array(file, "annotations", annotations)
        file.write("}\n")


def iter_coco(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (member, value) in the order of the file: arrays one element at a time.

    Reads any JSON object; one element and a piece of the text are in memory. Stop early for the
    images alone.

    Raises:
        ValueError: where the file is no JSON object, or holds NaN; OSError passes.
        RecursionError: for values nested too deeply.
    """
    with path.open(encoding="utf-8") as file:
        cursor = _Cursor(file)
        cursor.need("{")
        if not cursor.take("}"):
            while True:
                name = cursor.value()
                if not isinstance(name, str):
                    raise ValueError("the name of a member is no string")
                cursor.need(":")
                if cursor.take("["):
                    yield from ((name, element) for element in cursor.elements())
                else:
                    yield name, cursor.value()
                if not cursor.take(","):
                    break
            cursor.need("}")
        cursor.end()


class _Cursor:
    """A place in a JSON text that is read piece by piece."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._dropped = 0
        self._decoder = json.JSONDecoder(parse_constant=_no_constant)
        self._skip()

    def take(self, character: str) -> bool:
        """Step over `character` if it comes next."""
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        self._skip()
        return True

    def need(self, character: str) -> None:
        if not self.take(character):
            raise self._error(f"Expecting {character!r}", self._at)

    def value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._read():
                    raise self._error(error.msg, error.pos) from error
            else:
                # A number may go on: "1" may be the begin of "1e+5".
                if len(self._text) - end >= _LONGEST_TAIL or not self._read():
                    self._at = end
                    break
        self._skip()
        return value

    def elements(self) -> Iterator[Any]:
        """Yield the elements of an array whose bracket has been taken, and take the other."""
        if self.take("]"):
            return
        while True:
            yield self.value()
            if not self.take(","):
                break
        self.need("]")

    def end(self) -> None:
        if self._at != len(self._text):
            raise self._error("Extra data", self._at)

    def _skip(self) -> None:
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or not self._read():
                return

    def _read(self) -> bool:
        """Read on, the more the longer a value is, and drop what lies behind; false at the end."""
        piece = self._file.read(max(_PIECE_CHARACTERS, len(self._text) - self._at))
        if not piece:
            return False
        self._text, self._dropped = self._text[self._at :] + piece, self._dropped + self._at
        self._at = 0
        return True

    def _error(self, problem: str, at: int) -> ValueError:
        return ValueError(f"{problem} (char {self._dropped + at})")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _write_array(file: IO[str], name: str, items: Iterable[Mapping[str, object]]) -> None:
    file.write(f',\n"{name}":[')
    separator = "\n"
    for item in items:
        file.write(separator + _ENCODER.encode(item))
        separator = ",\n"
    file.write("\n]" if separator == ",\n" else "]")


def _image(info: ImageInfo) -> dict[str, object]:
    image: dict[str, object] = {
        "id": info.image_id,
        "width": info.width,
        "height": info.height,
        "file_name": info.file_name,
    }
    if info.labels:
        image["attributes"] = dict(sorted(info.labels.items()))
    return image


def _annotations(record: ImageRecord, extent: str) -> Iterator[dict[str, object]]:
    of_mask: dict[int, list[int]] = {}
    pairs = record.rows.select(["annotation_id", "point_id"]).to_pydict()
    for annotation_id, point_id in zip(pairs["annotation_id"], pairs["point_id"], strict=True):
        of_mask.setdefault(annotation_id, []).append(point_id)
    for row in record.rows.filter(pc.field("status") == OK).to_pylist():
        shared = [i for i in of_mask[row["annotation_id"]] if i != row["point_id"]]
        yield _annotation(row, shared, extent)


def _annotation(row: Mapping[str, Any], shared: list[int], extent: str) -> dict[str, object]:
    attributes: dict[str, object] = {
        "point_id": row["point_id"],
        "point": [row["x"], row["y"]],
        "radius_px": row["radius_px"],
        "extent": extent,
        "predicted_iou": _score(row["predicted_iou"]),
        "stability": _score(row["stability"]),
        "retained": _score(row["retained"]),
        "score": _score(row["score"]),
        "status": row["status"],
        "reasons": row["reasons"],
        "shared_point_ids": shared,
    }
    box = row["head_box_xyxy"]
    if box is not None and all(map(math.isfinite, box)):
        attributes["head_box_xyxy"] = box
    for known in ("occlusion", "blurred", "external_id"):
        if row[known] is not None:
            attributes[known] = row[known]
    if row["source"] != AUTO:
        attributes |= {"source": row["source"], "reviewer": row["reviewer"]}
    return {
        "id": row["annotation_id"],
        "image_id": row["image_id"],
        "category_id": PERSON,
        "segmentation": row["rle"],
        "area": row["area"],
        "bbox": row["bbox"],
        "iscrowd": 0,
        "score": attributes["score"],
        "attributes": attributes,
    }


def _score(value: float | None) -> float | None:
    """Return a float32 score without the digits that float64 would make up; NaN is null."""
    return None if value is None or not math.isfinite(value) else round(value, _SCORE_DECIMALS)
