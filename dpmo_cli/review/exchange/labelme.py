"""labelme and X-AnyLabeling: a JSON beside each photo, with polygons in pixels.

Both keep a shape's `description` and `group_id`. The description carries our id; the group id is
the point's, so that parts drawn with the same group id are of one person.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from dpmo_cli.geometry.rle import Rle, frame_rle
from dpmo_cli.outputs.atomic import write_text
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.findings import one_line
from dpmo_cli.outputs.json_values import as_numbers, as_object, as_text
from dpmo_cli.review.exchange.files import Document
from dpmo_cli.review.exchange.manifest import Manifest, Tile, parse_key, person_key
from dpmo_cli.review.exchange.outlines import joined, polygon_rle
from dpmo_cli.review.exchange.shapes import LABEL, Answers, Found, Task, check_label

NAME = "labelme"
IMAGES = "images"
_VERSION = "5.5.0"
_MEND = "mend the shape in the tool and save again"


@dataclass(frozen=True)
class _Piece:
    """A shape before those of one group id are joined."""

    place: str
    person: Person | None
    group: int | None
    rle: Rle
    is_polygon: bool


def write(folder: Path, tasks: Iterable[Task]) -> None:
    """Write a JSON beside each photo."""
    for task in tasks:
        height, width = task.tile.size_hw
        document: dict[str, object] = {
            "version": _VERSION,
            "flags": {},
            "shapes": [
                {
                    "label": LABEL,
                    "points": shape.polygon,
                    "group_id": shape.person.point_id,
                    "description": person_key(shape.person),
                    "shape_type": "polygon",
                    "flags": {},
                }
                for shape in task.shapes
            ],
            "imagePath": task.tile.name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        path = (folder / IMAGES / task.tile.name).with_suffix(".json")
        write_text(path, json.dumps(document, indent=1) + "\n")


def fits(document: object) -> bool:
    """Whether a document is labelme's."""
    return isinstance(document, dict) and "shapes" in document and "imagePath" in document


def read(documents: Iterable[Document], manifest: Manifest) -> Answers:
    """Read labelme documents; each is of the tile that its `imagePath` names."""
    answers = Answers()
    for place, document in documents:
        if not fits(document):
            mend = "give the files that labelme saves"
            answers.refuse_document(place, document, "labelme JSON", mend)
            continue
        fields = as_object(document, "the document")
        try:
            # Windows writes the path its own way.
            path = PureWindowsPath(as_text(fields.get("imagePath"), "imagePath")).as_posix()
            tile = manifest.tiles.get(PurePosixPath(path).name)
            shapes = fields.get("shapes")
            if tile is None:
                raise ValueError(f"its photo is no tile of {manifest.path}")
            if not isinstance(shapes, list):
                raise ValueError("shapes is no list")
            stated = (fields.get("imageHeight"), fields.get("imageWidth"))
            if None not in stated and stated != tile.size_hw:
                was = f"{tile.size_hw[1]} x {tile.size_hw[0]}"
                raise ValueError(f"its photo is not of {was} px")
        except ValueError as error:
            answers.refuse(place, one_line(error), "use the photos that were exported")
            continue
        if answers.add_tile(tile.name, place):
            _read_shapes(place, shapes, tile, answers)
    return answers


def _read_shapes(place: str, shapes: list[object], tile: Tile, answers: Answers) -> None:
    groups: dict[object, list[_Piece]] = {}
    for number, value in enumerate(shapes, 1):
        at = f"{place}, shape {number}"
        person = None
        try:
            fields = as_object(value, "the shape")
            person = parse_key(fields.get("description"))
            check_label(fields.get("label"))
            group = fields.get("group_id")
            group = group if isinstance(group, int) and not isinstance(group, bool) else None
            kind = fields.get("shape_type", "polygon")
            piece = _Piece(at, person, group, _rle(fields, kind, tile.size_hw), kind == "polygon")
        except ValueError as error:
            answers.refuse(at, one_line(error), _MEND, person)
            continue
        groups.setdefault(at if group is None else group, []).append(piece)
    for pieces in groups.values():
        answers.tiles[tile.name] += _joined(pieces, tile)


def _joined(pieces: list[_Piece], tile: Tile) -> list[Found]:
    """The persons of pieces that share a group id: one, unless several have ids of their own."""
    named = [piece for piece in pieces if piece.person is not None]
    if len(named) > 1:
        return [Found(one.place, one.person, one.rle, one.is_polygon) for one in pieces]
    first = (named or pieces)[0]
    person = first.person
    if person is None and first.group in {one.point_id for one in tile.persons}:
        person = tile.person(first.group)
    rle = joined([piece.rle for piece in pieces])
    return [Found(first.place, person, rle, all(piece.is_polygon for piece in pieces))]


def _rle(fields: Mapping[str, object], kind: object, size_hw: tuple[int, int]) -> Rle:
    """The pixels of a shape. ValueError says what is wrong with it."""
    points = fields.get("points")
    if not isinstance(points, list):
        raise ValueError("points is no list")
    corners = [list(as_numbers(one, 2, "a point")) for one in points]
    if kind == "polygon":
        return polygon_rle([corners], size_hw)
    if kind == "mask":
        return _mask_rle(corners, fields.get("mask"), size_hw)
    raise ValueError(f"it is a {str(kind)[:40]}, not a polygon or a mask")


def _mask_rle(corners: list[list[float]], packed: object, size_hw: tuple[int, int]) -> Rle:
    """The pixels of a mask: a PNG in base64 whose first pixel lies at the first corner."""
    from PIL import Image

    if not corners or not isinstance(packed, str):
        raise ValueError("the mask lacks its place or its pixels")
    try:
        with Image.open(io.BytesIO(base64.b64decode(packed)), formats=("PNG",)) as image:
            if image.width > size_hw[1] or image.height > size_hw[0]:
                raise ValueError("the mask is larger than its picture")
            pixels = np.asarray(image.convert("L")) > 0
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the mask is no PNG ({one_line(error)})") from error
    x0, y0 = (round(value) for value in corners[0])
    x1, y1 = x0 + pixels.shape[1], y0 + pixels.shape[0]
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, size_hw[1]), min(y1, size_hw[0])
    inside = pixels[top - y0 : bottom - y0, left - x0 : right - x0]
    if left >= right or top >= bottom or not inside.any():
        raise ValueError("the shape has no pixel inside its picture")
    return frame_rle(inside, (left, top, right, bottom), size_hw)
