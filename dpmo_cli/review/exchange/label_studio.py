"""Label Studio: tasks with polygons or brush masks, and its JSON export.

A region keeps its `id` through edits, also where an annotation is made of a prediction; copies
get another. Our id goes there. Coordinates are percent of the photo's sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from dpmo_cli.geometry.rle import Rle, rle_window
from dpmo_cli.outputs.atomic import write_text
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.findings import one_line
from dpmo_cli.outputs.json_values import as_numbers, as_object
from dpmo_cli.review.exchange.brush import decode_brush, encode_brush
from dpmo_cli.review.exchange.files import Document
from dpmo_cli.review.exchange.manifest import Manifest, Tile, parse_key, person_key
from dpmo_cli.review.exchange.outlines import polygon_rle
from dpmo_cli.review.exchange.shapes import LABEL, Answers, Found, Shape, Task, check_label

NAME = "label-studio"
IMAGES = "images"
TASKS_FILE = "tasks.json"
CONFIG_FILE = "label-config.xml"
TILE = "dpmo_tile"
"""The member of a task's data that names its tile."""

_CONFIG = f"""<View>
  <Image name="image" value="$image" zoom="true" zoomControl="true" brightnessControl="true"/>
  <PolygonLabels name="polygon" toName="image" strokeWidth="1" opacity="0.3">
    <Label value="{LABEL}" background="#1f9d55"/>
  </PolygonLabels>
  <BrushLabels name="brush" toName="image">
    <Label value="{LABEL}" background="#1f9d55"/>
  </BrushLabels>
</View>
"""
_MEND = "mend the region in the tool and export again"
_PLAIN = ("labels", "relation", "choices", "textarea", "rating", "number", "taxonomy")
"""Types of results that have no shape of their own."""

_LACKS = dict.fromkeys(("polygonlabels", "polygon"), "points") | dict.fromkeys(
    ("brushlabels", "brush"), "brush mask"
)
"""What a region of each type must have."""


def local_files(folder: Path) -> str:
    """The address under which Label Studio finds the photos of a folder below its document root."""
    return f"/data/local-files/?d={folder.name}/{IMAGES}/"


def write(folder: Path, tasks: Iterable[Task], prefix: str) -> None:
    """Write all tasks as they come, and the labelling configuration.

    Args:
        folder: where to.
        tasks: the tasks.
        prefix: what stands before a photo's name in its address.
    """
    with (folder / TASKS_FILE).open("w", encoding="ascii", newline="") as file:
        separator = "[\n"
        for task in tasks:
            result = [_region(shape, task.tile.size_hw) for shape in task.shapes]
            document = {
                "data": {"image": prefix + task.tile.name, TILE: task.tile.name},
                "annotations": [{"result": result}],
            }
            file.write(separator + json.dumps(document, separators=(",", ":")))
            separator = ",\n"
        file.write("\n]\n" if separator == ",\n" else "[]\n")
    write_text(folder / CONFIG_FILE, _CONFIG)


def fits(document: object) -> bool:
    """Whether a document holds tasks."""
    tasks = document if isinstance(document, list) else [document]
    return bool(tasks) and all(isinstance(one, dict) and "data" in one for one in tasks)


def read(documents: Iterable[Document], manifest: Manifest) -> Answers:
    """Read the tasks of JSON exports; of several annotations the latest counts."""
    answers = Answers()
    for place, document in documents:
        if not fits(document):
            mend = "export as JSON, not JSON-MIN"
            answers.refuse_document(place, document, "JSON export of Label Studio", mend)
            continue
        tasks = document if isinstance(document, list) else [document]
        for number, task in enumerate(tasks, 1):
            _read_task(f"{place}, task {number}", task, manifest, answers)
    return answers


def _region(shape: Shape, size_hw: tuple[int, int]) -> dict[str, object]:
    height, width = size_hw
    region: dict[str, object] = {
        "id": person_key(shape.person),
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "origin": "prediction",
    }
    if shape.polygon is None:
        packed = encode_brush(shape.mask, shape.window_xyxy, size_hw)
        value: dict[str, object] = {"format": "rle", "rle": packed, "brushlabels": [LABEL]}
        return {**region, "from_name": "brush", "type": "brushlabels", "value": value}
    points = [[100 * x / width, 100 * y / height] for x, y in shape.polygon]
    value = {"points": points, "closed": True, "polygonlabels": [LABEL]}
    return {**region, "from_name": "polygon", "type": "polygonlabels", "value": value}


def _read_task(place: str, value: object, manifest: Manifest, answers: Answers) -> None:
    try:
        task = as_object(value, "the task")
        data = as_object(task.get("data"), "data")
        tile = manifest.tiles.get(_tile_name(data))
        if tile is None:
            answers.refuse(place, f"its photo is no tile of {manifest.path}", "give its own export")
            return
        results = _latest_results(task, place, answers)
    except ValueError as error:
        answers.refuse(place, one_line(error), "export again")
        return
    if results is None or not answers.add_tile(tile.name, place):
        return
    for number, one in enumerate(results, 1):
        _read_region(f"{place}, region {number}", one, tile, answers)


def _tile_name(data: Mapping[str, object]) -> str:
    """The tile that a task's data names, else the last part of its photo's address."""
    name, address = data.get(TILE), data.get("image")
    if isinstance(name, str):
        return name
    return PurePosixPath(address).name if isinstance(address, str) else ""


def _latest_results(
    task: Mapping[str, object], place: str, answers: Answers
) -> list[object] | None:
    """The regions of a task's latest annotation; None, with a note, where nobody submitted one."""
    listed = task.get("annotations")
    if not isinstance(listed, list):
        raise ValueError("it has no annotations (JSON-MIN and drafts have none)")
    found = [as_object(one, "an annotation") for one in listed]
    submitted = [one for one in found if not one.get("was_cancelled")]
    if not submitted:
        answers.notes.append(f"{place}: was skipped or has no annotation; left as it is")
        return None
    if len(submitted) > 1:
        count = len(submitted)
        answers.notes.append(f"{place}: has {count} annotations; the latest is taken")
    latest = max(
        enumerate(submitted), key=lambda ranked: (str(ranked[1].get("updated_at", "")), ranked[0])
    )[1]
    results = latest.get("result")
    if not isinstance(results, list):
        raise ValueError("result is no list")
    return results


def _read_region(place: str, value: object, tile: Tile, answers: Answers) -> None:
    person: Person | None = None
    try:
        region = as_object(value, "the region")
        person = parse_key(region.get("id"))
        shape = as_object(region.get("value", {}), "value")
        kind = region.get("type")
        if kind in _PLAIN and not ("points" in shape or "rle" in shape):
            return
        sides = (region.get("original_height"), region.get("original_width"))
        if None not in sides and sides != tile.size_hw:
            raise ValueError(f"it was drawn on a photo of another size than {tile.name}")
        if region.get("image_rotation", 0) not in (0, None):
            raise ValueError("its photo was turned")
        for name in ("polygonlabels", "brushlabels", "labels"):
            labels = shape.get(name)
            check_label(labels[0] if isinstance(labels, list) and labels else None)
        rle, is_polygon = _rle(kind, shape, tile.size_hw)
    except ValueError as error:
        answers.refuse(place, one_line(error), _MEND, person)
        return
    found = answers.tiles[tile.name]
    # With separate tags for shape and label a region comes twice.
    if person is None or not any(one.person == person and one.rle == rle for one in found):
        found.append(Found(place, person, rle, is_polygon))


def _rle(kind: object, shape: Mapping[str, object], size_hw: tuple[int, int]) -> tuple[Rle, bool]:
    """The pixels of a region, and whether it is a polygon. ValueError says what is wrong."""
    height, width = size_hw
    points, packed = shape.get("points"), shape.get("rle")
    if isinstance(points, list):
        corners = [as_numbers(one, 2, "a point") for one in points]
        return polygon_rle(
            [[[x * width / 100, y * height / 100] for x, y in corners]], size_hw
        ), True
    if isinstance(packed, list):
        rle = decode_brush(packed, size_hw)
        if not rle_window(rle)[0].size:
            raise ValueError("the brush mask has no pixels")
        return rle, False
    lacks = _LACKS.get(kind) if isinstance(kind, str) else None
    if lacks is not None:
        raise ValueError(f"it has no {lacks}")
    raise ValueError(f"it is a {str(kind)[:40]}, not a polygon or a brush mask")
