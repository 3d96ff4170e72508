"""CVAT's "COCO 1.0": a dataset that it imports, and what it (or any COCO tool) writes back.

CVAT keeps attributes that its label declares, so our id goes there; `cvat-labels.json` is the
declaration. It numbers annotations and images anew, marks every mask as a crowd, and adds
attributes of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from dpmo_cli.geometry.rle import frame_rle
from dpmo_cli.outputs.atomic import write_text
from dpmo_cli.outputs.coco import PERSON
from dpmo_cli.outputs.findings import one_line
from dpmo_cli.outputs.json_values import as_int, as_object, as_text
from dpmo_cli.review.exchange.files import Document
from dpmo_cli.review.exchange.manifest import Manifest, Tile, parse_key, person_key
from dpmo_cli.review.exchange.outlines import segmentation_rle
from dpmo_cli.review.exchange.shapes import LABEL, Answers, Found, Shape, Task, check_label

NAME = "cvat"
IMAGES = "images/default"
KEY = "dpmo"
"""The attribute that carries our id."""
LABELS_FILE = "cvat-labels.json"
_ANNOTATIONS = "annotations/instances_default.json"
_MEND = "mend the shape in the tool and export again"


def write(folder: Path, tasks: Iterable[Task]) -> None:
    """Write one COCO JSON of all tasks as they come, and the labels that CVAT asks for."""
    path = folder / _ANNOTATIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, object]] = []
    number = 0
    with path.open("w", encoding="ascii", newline="") as file:
        file.write('{"info":{},"licenses":[],"categories":')
        file.write(json.dumps([{"id": PERSON, "name": LABEL, "supercategory": ""}]))
        file.write(',\n"annotations":[')
        for task in tasks:
            height, width = task.tile.size_hw
            image = {"id": len(images) + 1, "width": width, "height": height}
            images.append({**image, "file_name": task.tile.name})
            for shape in task.shapes:
                file.write(",\n" if number else "\n")
                number += 1
                annotation = _annotation(shape, number, len(images), task.tile.size_hw)
                file.write(json.dumps(annotation, separators=(",", ":")))
        file.write('\n],\n"images":')
        file.write(json.dumps(images))
        file.write("}\n")
    attribute = {"name": KEY, "input_type": "text", "mutable": False, "values": [""]}
    labels = [{"name": LABEL, "type": "any", "attributes": [{**attribute, "default_value": ""}]}]
    write_text(folder / LABELS_FILE, json.dumps(labels, indent=2) + "\n")


def fits(document: object) -> bool:
    """Whether a document is COCO."""
    return isinstance(document, dict) and "annotations" in document and "images" in document


def read(documents: Iterable[Document], manifest: Manifest) -> Answers:
    """Read COCO documents; images are those of the manifest by the last part of their name."""
    answers = Answers()
    for place, document in documents:
        if fits(document):
            _read_document(place, as_object(document, "COCO"), manifest, answers)
        else:
            mend = "give the tool's COCO export, or another file"
            answers.refuse_document(place, document, "COCO JSON", mend)
    return answers


def _read_document(
    place: str, document: Mapping[str, object], manifest: Manifest, answers: Answers
) -> None:
    tiles: dict[int, Tile | None] = {}
    for number, value in _elements(document, "images", place, answers):
        try:
            image = as_object(value, "the image")
            image_id = as_int(image.get("id"), "its id")
            name = PurePosixPath(as_text(image.get("file_name"), "file_name")).name
            height, width = (as_int(image.get(side), side) for side in ("height", "width"))
        except ValueError as error:
            answers.refuse(f"{place}, image {number}", one_line(error), "export again")
            continue
        at = f"{place}, image {image_id}"
        tile = manifest.tiles.get(name)
        if tile is None:
            tiles.setdefault(image_id, None)
            answers.refuse(at, f"{name} is no tile of {manifest.path}", "give its own export")
        elif (height, width) != tile.size_hw:
            was = f"{tile.size_hw[1]} x {tile.size_hw[0]}"
            tiles.setdefault(image_id, None)
            answers.refuse(at, f"{name} has {width} x {height} px, not {was}", "use our photos")
        elif image_id in tiles:
            answers.refuse(at, "its id is used twice", "give each image its own id")
        elif answers.add_tile(name, at):
            tiles[image_id] = tile
    labels = _labels(document)
    for number, value in _elements(document, "annotations", place, answers):
        _read_annotation(f"{place}, annotation {number}", value, tiles, labels, answers)


def _labels(document: Mapping[str, object]) -> dict[object, str]:
    """The names of the categories by id, as far as they are stated."""
    listed = document.get("categories")
    categories = (
        [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    )
    return {
        one["id"]: one["name"]
        for one in categories
        if isinstance(one.get("name"), str) and isinstance(one.get("id"), int)
    }


def _elements(
    document: Mapping[str, object], name: str, place: str, answers: Answers
) -> Iterator[tuple[int, object]]:
    """Yield the elements of an array with their rank from 1."""
    values = document.get(name)
    if isinstance(values, list):
        yield from enumerate(values, 1)
    else:
        answers.refuse(place, f"{name} is no list", "export again")


def _read_annotation(
    place: str,
    value: object,
    tiles: Mapping[int, Tile | None],
    labels: Mapping[object, str],
    answers: Answers,
) -> None:
    person = None
    try:
        annotation = as_object(value, "the annotation")
        if "id" in annotation:
            place += f" (id {one_line(ValueError(annotation['id']))[:40]})"
        attributes = annotation.get("attributes")
        person = parse_key(attributes.get(KEY)) if isinstance(attributes, dict) else None
        image_id = as_int(annotation.get("image_id"), "image_id")
        if image_id not in tiles:
            raise ValueError(f"image {image_id} is not listed")
        tile = tiles[image_id]
        if tile is None:
            # The image's own line says why.
            return
        category = annotation.get("category_id")
        check_label(labels.get(category) if isinstance(category, int) else None)
        segmentation = annotation.get("segmentation")
        if not segmentation:
            raise ValueError("it has no mask and no polygon")
        rle = segmentation_rle(segmentation, tile.size_hw)
    except ValueError as error:
        answers.refuse(place, one_line(error), _MEND, person)
        return
    answers.tiles[tile.name].append(Found(place, person, rle, isinstance(segmentation, list)))


def _annotation(
    shape: Shape, number: int, image_id: int, size_hw: tuple[int, int]
) -> dict[str, object]:
    x0, y0, x1, y1 = shape.window_xyxy
    segmentation: object = frame_rle(shape.mask, shape.window_xyxy, size_hw)
    if shape.polygon is not None:
        segmentation = [[value for corner in shape.polygon for value in corner]]
    annotation: dict[str, object] = {
        "id": number,
        "image_id": image_id,
        "category_id": PERSON,
        "segmentation": segmentation,
        "area": int(shape.mask.sum()),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        # As CVAT writes it: datumaro makes polygons of masks that are no crowds.
        "iscrowd": int(shape.polygon is None),
        "attributes": {KEY: person_key(shape.person)},
    }
    return annotation
