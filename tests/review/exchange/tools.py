"""Stand-ins for annotation tools: they load an export, let shapes be edited, and save their way.

What each does to a file that nobody touched was looked up in its sources: CVAT's exporter
(datumaro's `coco_instances`), Label Studio's JSON export, labelme's `write_label_file`.
"""

from __future__ import annotations

import base64
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.geometry.rle import run_lengths
from dpmo_cli.review.exchange.brush import decode_brush
from tests.outputs.samples import pixels_of

Json = dict[str, Any]
Corners = list[tuple[float, float]]


class Tool(ABC):
    """What a team does to the shapes of one tile after the other.

    Args:
        folder: of the export.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.load()

    @abstractmethod
    def load(self) -> None:
        """Read the tasks as the tool does."""

    @abstractmethod
    def shapes(self, tile: str) -> list[Json]:
        """The shapes of a tile, to be changed in place."""

    @abstractmethod
    def tiles(self) -> list[str]:
        """The names of all tiles."""

    @abstractmethod
    def key(self, shape: Json) -> str | None:
        """Our id of a shape."""

    @abstractmethod
    def forget(self, shape: Json) -> None:
        """Lose our id of a shape."""

    @abstractmethod
    def redraw(self, shape: Json, corners: Corners) -> None:
        """Give a shape other corners."""

    @abstractmethod
    def draw(self, tile: str, corners: Corners) -> Json:
        """Add a polygon that a person has drawn."""

    @abstractmethod
    def save(self, to: Path) -> Path:
        """Export as the tool does, and return what to import."""

    def find(self, key: str) -> tuple[str, Json]:
        """The tile and the shape of one of our ids."""
        found = [
            (tile, shape) for tile in self.tiles() for shape in self.shapes(tile)
            if self.key(shape) == key
        ]  # fmt: skip
        assert len(found) == 1, key
        return found[0]

    def delete(self, key: str) -> None:
        """Remove a shape."""
        tile, shape = self.find(key)
        self.shapes(tile).remove(shape)


class Cvat(Tool):
    """COCO 1.0: ids anew, masks as crowds with lists of counts, two decimals, a ZIP."""

    def load(self) -> None:
        self.document = json.loads(
            (self.folder / "annotations" / "instances_default.json").read_text()
        )
        names = {image["id"]: image["file_name"] for image in self.document["images"]}
        self.of_tile: dict[str, list[Json]] = {name: [] for name in names.values()}
        for annotation in self.document["annotations"]:
            self.of_tile[names[annotation["image_id"]]].append(annotation)

    def tiles(self) -> list[str]:
        return list(self.of_tile)

    def shapes(self, tile: str) -> list[Json]:
        return self.of_tile[tile]

    def key(self, shape: Json) -> str | None:
        return shape.get("attributes", {}).get("dpmo")

    def forget(self, shape: Json) -> None:
        shape["attributes"] = {}

    def redraw(self, shape: Json, corners: Corners) -> None:
        if isinstance(shape["segmentation"], list):
            shape["segmentation"] = [[v for corner in corners for v in corner]]
        else:
            size = shape["segmentation"]["size"]
            shape["segmentation"] = filled(corners, size)

    def draw(self, tile: str, corners: Corners) -> Json:
        flat = [v for corner in corners for v in corner]
        shape = {"segmentation": [flat], "attributes": {"dpmo": ""}}
        self.of_tile[tile].append(shape)
        return shape

    def save(self, to: Path) -> Path:
        images, annotations = [], []
        sizes = {image["file_name"]: image for image in self.document["images"]}
        for number, tile in enumerate(sorted(self.of_tile, reverse=True), 1):
            size = {"width": sizes[tile]["width"], "height": sizes[tile]["height"]}
            images.append(
                {"id": number, **size, "file_name": tile, "license": 0, "flickr_url": "",
                 "coco_url": "", "date_captured": 0}
            )  # fmt: skip
            for shape in reversed(self.of_tile[tile]):
                annotations.append(self._saved(shape, len(annotations) + 1, number))
        document = {
            "licenses": [{"name": "", "id": 0, "url": ""}],
            "info": {"contributor": "", "date_created": "", "description": "", "url": "",
                     "version": "", "year": ""},
            "categories": [{"id": 1, "name": "person", "supercategory": ""}],
            "images": images,
            "annotations": annotations,
        }  # fmt: skip
        path = to / "task_3_annotations.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("annotations/instances_default.json", json.dumps(document))
        return path

    def _saved(self, shape: Json, number: int, image: int) -> Json:
        segmentation = shape["segmentation"]
        crowd = not isinstance(segmentation, list)
        if crowd:
            counts = run_lengths(segmentation["counts"]).tolist()
            segmentation = {"counts": counts, "size": segmentation["size"]}
        else:
            segmentation = [[round(float(v), 2) for v in one] for one in segmentation]
        attributes = {"occluded": False, **shape["attributes"]}
        return {
            "id": number, "image_id": image, "category_id": 1, "segmentation": segmentation,
            "area": 1.0, "bbox": [0.0, 0.0, 1.0, 1.0], "iscrowd": int(crowd),
            "attributes": attributes,
        }  # fmt: skip


class LabelStudio(Tool):
    """JSON: a task's own ids and times, percent that went through pixels, colours in masks."""

    def load(self) -> None:
        self.tasks = json.loads((self.folder / "tasks.json").read_text())
        self.of_tile = {task["data"]["dpmo_tile"]: task for task in self.tasks}

    def tiles(self) -> list[str]:
        return list(self.of_tile)

    def shapes(self, tile: str) -> list[Json]:
        regions: list[Json] = self.of_tile[tile]["annotations"][0]["result"]
        return regions

    def key(self, shape: Json) -> str | None:
        return shape["id"]

    def forget(self, shape: Json) -> None:
        shape["id"] = "aB3_x9KqLm"

    def redraw(self, shape: Json, corners: Corners) -> None:
        height, width = shape["original_height"], shape["original_width"]
        if shape["type"] == "polygonlabels":
            shape["value"]["points"] = [[100 * x / width, 100 * y / height] for x, y in corners]
        else:
            rle = filled(corners, [height, width])
            shape["value"]["rle"] = painted(pixels_of({"rle": rle}))

    def draw(self, tile: str, corners: Corners) -> Json:
        other = next(region for name in self.tiles() for region in self.shapes(name))
        height, width = self._size(tile) or (other["original_height"], other["original_width"])
        points = [[100 * x / width, 100 * y / height] for x, y in corners]
        region = {
            "original_width": width, "original_height": height, "image_rotation": 0,
            "value": {"points": points, "closed": True, "polygonlabels": ["person"]},
            "id": "dR4wn_by_h", "from_name": "polygon", "to_name": "image",
            "type": "polygonlabels", "origin": "manual",
        }  # fmt: skip
        self.shapes(tile).append(region)
        return region

    def save(self, to: Path) -> Path:
        exported = []
        for number, task in enumerate(self.tasks, 101):
            for region in task["annotations"][0]["result"]:
                self._touch(region)
            annotation = {
                "id": number + 7, "completed_by": 1, "result": task["annotations"][0]["result"],
                "was_cancelled": False, "ground_truth": False, "lead_time": 12.3,
                "created_at": "2026-11-01T10:00:00Z", "updated_at": "2026-11-02T10:00:00Z",
                "draft_created_at": None, "prediction": {}, "result_count": 0,
                "unique_id": "f0", "parent_prediction": None,
            }  # fmt: skip
            exported.append(
                {"id": number, "annotations": [annotation], "file_upload": "x", "drafts": [],
                 "predictions": [], "data": task["data"], "meta": {}, "inner_id": 1}
            )  # fmt: skip
        path = to / "project-1-at-2026-11-02-10-00-0f.json"
        path.write_text(json.dumps(list(reversed(exported))))
        return path

    def _size(self, tile: str) -> tuple[int, int] | None:
        regions = self.shapes(tile)
        return (regions[0]["original_height"], regions[0]["original_width"]) if regions else None

    def _touch(self, region: Json) -> None:
        value = region["value"]
        width, height = region["original_width"], region["original_height"]
        if "points" in value:
            # Through the pixels of a zoomed canvas and back.
            for point in value["points"]:
                point[0] = (point[0] / 100 * width * 1.37) / 1.37 / width * 100
                point[1] = (point[1] / 100 * height * 1.37) / 1.37 / height * 100
        elif region["origin"] != "prediction-changed":
            rle = decode_brush(value["rle"], (height, width))
            value["rle"] = painted(pixels_of({"rle": rle}))


class Labelme(Tool):
    """A JSON per photo, in place: floats, another order, the photo inside or not at all."""

    def load(self) -> None:
        self.paths = sorted((self.folder / "images").glob("*.json"))
        self.documents = {}
        for path in self.paths:
            document = json.loads(path.read_text())
            self.documents[document["imagePath"]] = document

    def tiles(self) -> list[str]:
        return list(self.documents)

    def shapes(self, tile: str) -> list[Json]:
        found: list[Json] = self.documents[tile]["shapes"]
        return found

    def key(self, shape: Json) -> str | None:
        return shape.get("description")

    def forget(self, shape: Json) -> None:
        shape["description"], shape["group_id"] = "", None

    def redraw(self, shape: Json, corners: Corners) -> None:
        shape["points"] = [list(corner) for corner in corners]

    def draw(self, tile: str, corners: Corners) -> Json:
        shape = {
            "label": "person", "points": [list(corner) for corner in corners], "group_id": None,
            "description": "", "shape_type": "polygon", "flags": {}, "mask": None,
        }  # fmt: skip
        self.shapes(tile).append(shape)
        return shape

    def save(self, to: Path) -> Path:
        for number, path in enumerate(self.paths):
            name = path.with_suffix(".jpg").name
            document = self.documents[name]
            document["shapes"].reverse()
            for shape in document["shapes"]:
                shape["mask"] = shape.get("mask")
                shape["points"] = [[x * 1.37 / 1.37, y * 1.37 / 1.37] for x, y in shape["points"]]
            if number % 2:
                photo = path.with_suffix(".jpg").read_bytes()
                document["imageData"] = base64.b64encode(photo).decode()
                document["imagePath"] = f"..\\images\\{name}"
            else:
                document.pop("imageData", None)
            (to / path.name).write_text(json.dumps(document, indent=2))
        return to


TOOLS: dict[str, Callable[[Path], Tool]] = {
    "cvat": Cvat, "label-studio": LabelStudio, "labelme": Labelme,
}  # fmt: skip


def filled(corners: Corners, size: list[int]) -> Json:
    """The COCO RLE of a polygon."""
    flat = [v for corner in corners for v in corner]
    (rle,) = coco_mask.frPyObjects([flat], *size)
    return {"size": list(size), "counts": rle["counts"].decode()}


def painted(pixels: NDArray[np.bool_]) -> list[int]:
    """A brush mask as Label Studio packs it: the colour in RGB, 255 in alpha, runs and literals."""
    rgba = np.zeros((*pixels.shape, 4), np.uint8)
    rgba[pixels] = (31, 157, 85, 255)
    words = rgba.reshape(-1)
    bits = [f"{len(words):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    at = 0
    while at < len(words):
        run = 1
        while at + run < len(words) and run < 65536 and words[at + run] == words[at]:
            run += 1
        if run > 3:
            bits.append(f"111{run - 1:016b}{words[at]:08b}")
            at += run
        else:
            literal = words[at : at + 8]
            bits.append(f"000{len(literal) - 1:03b}" + "".join(f"{word:08b}" for word in literal))
            at += len(literal)
    text = "".join(bits)
    text += "0" * (8 - len(text) % 8)
    return [int(text[k : k + 8], 2) for k in range(0, len(text), 8)]
