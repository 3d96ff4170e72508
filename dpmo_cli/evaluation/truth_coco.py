"""True instances, or boxes, read from a COCO JSON."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from dpmo_cli.datasets.names import without_suffix
from dpmo_cli.errors import InputError
from dpmo_cli.evaluation.instances import checked_rle
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.geometry.rle import Rle
from dpmo_cli.outputs.coco import iter_coco
from dpmo_cli.outputs.findings import one_line
from dpmo_cli.outputs.json_values import as_int, as_numbers, as_object, as_text

PERSON_NAME = "person"
_MEND = "correct the file, or give another truth"
_MANY = 3
"""A polygon may reach so many image sides beyond the image; what reaches farther is an error."""


class CocoTruth:
    """The instances of a COCO JSON, whose masks are made one image at a time.

    Annotations with `iscrowd` are left out, and where the file has the category "person" beside
    others, so are the others. The text of the masks stays in memory.

    Attributes:
        path: the file.
        names: of its images, without suffix, in its order.
        boxes_only: no annotation has a mask, only boxes.
        left_out: why annotations do not count -> how many; grows while images are read.

    Raises:
        InputError: the file is no COCO JSON, or some of its annotations have no mask.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out: Counter[str] = Counter()
        self._images: dict[int, tuple[str, tuple[int, int]]] = {}
        self._annotations: dict[int, list[bytes]] = defaultdict(list)
        self._categories: dict[int, str] = {}
        self._kinds: Counter[str] = Counter()
        try:
            for member, value in iter_coco(path):
                self._take(member, value)
        except (OSError, ValueError, RecursionError) as error:
            problem = f"is no COCO JSON of instances ({one_line(error)})"
            raise InputError(path, problem, _MEND) from error
        if not self._images:
            raise InputError(path, "is no COCO JSON of instances (it lists no images)", _MEND)
        strays = self._annotations.keys() - self._images.keys()
        if strays:
            problem = f"has annotations of image {min(strays)}, which it does not list"
            raise InputError(path, problem, _MEND)
        if self._kinds["mask"] and self._kinds["box"]:
            problem = f"{self._kinds['box']} of its annotations have a box but no mask"
            raise InputError(path, problem, "give all of them a segmentation, or none")
        self._ids = {without_suffix(name): key for key, (name, _) in self._images.items()}
        if len(self._ids) < len(self._images):
            twice = Counter(without_suffix(name) for name, _ in self._images.values())
            name = twice.most_common(1)[0][0]
            raise InputError(path, f"lists the image {name} twice", _MEND)
        self.names = tuple(self._ids)
        self.boxes_only = bool(self._kinds["box"])

    def place(self, name: str) -> str:
        """Where the truth of an image lies, for messages."""
        return f"{self.path}, image {self._images[self._ids[name]][0]}"

    def instances(self, name: str, size_hw: tuple[int, int]) -> list[Rle]:
        """The masks of one image of (H, W) px; those without any pixel are left out.

        Raises:
            InputError: the image has another size, or an annotation is no mask of it.
        """
        masks = []
        for number, fields in self._of_image(name, size_hw):
            try:
                mask = mask_of_segmentation(fields["segmentation"], size_hw)
            except ValueError as error:
                raise self._broken(name, number, error) from error
            if coco_mask.area(mask):
                masks.append(mask)
            else:
                self.left_out["without a pixel"] += 1
        return masks

    def boxes_xyxy(self, name: str, size_hw: tuple[int, int]) -> FloatArray:
        """The boxes of one image: (T, 4) float64 px with pixel centres at integers.

        COCO counts from the corner of the first pixel, half a pixel before its centre.

        Raises:
            InputError: as `instances`.
        """
        boxes = []
        for number, fields in self._of_image(name, size_hw):
            try:
                x, y, width, height = as_numbers(fields["bbox"], 4, "bbox")
            except ValueError as error:
                raise self._broken(name, number, error) from error
            boxes.append((x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5))
        return np.array(boxes, dtype=np.float64).reshape(-1, 4)

    def _take(self, member: str, value: object) -> None:
        if member == "images":
            fields = as_object(value, "an image")
            image_id = as_int(fields.get("id"), "an image's id")
            sides = [as_int(fields.get(side), f"image {image_id}: {side}") for side in _SIDES]
            if image_id in self._images:
                raise ValueError(f"the image id {image_id} is used twice")
            self._images[image_id] = (as_text(fields.get("file_name"), "file_name"), _pair(sides))
        elif member == "categories":
            fields = as_object(value, "a category")
            self._categories[as_int(fields.get("id"), "a category's id")] = str(fields.get("name"))
        elif member == "annotations":
            self._take_annotation(as_object(value, "an annotation"))

    def _take_annotation(self, fields: Mapping[str, Any]) -> None:
        image_id = as_int(fields.get("image_id"), "an annotation's image_id")
        if fields.get("iscrowd"):
            self.left_out["with iscrowd"] += 1
            return
        kept = {key: fields.get(key) for key in ("id", "category_id")}
        if kept["category_id"] is not None:
            as_int(kept["category_id"], f"annotation {kept['id']}: category_id")
        # An empty list is no mask: files of boxes alone have it.
        if fields.get("segmentation"):
            self._kinds["mask"] += 1
            kept["segmentation"] = fields["segmentation"]
        elif fields.get("bbox"):
            self._kinds["box"] += 1
            kept["bbox"] = fields["bbox"]
        else:
            raise ValueError(f"annotation {fields.get('id')} has neither a mask nor a box")
        # As text it takes a tenth of the memory of lists of numbers.
        self._annotations[image_id].append(json.dumps(kept).encode())

    def _of_image(self, name: str, size_hw: tuple[int, int]) -> list[tuple[object, dict[str, Any]]]:
        """The id and the fields of the annotations that count."""
        image_id = self._ids[name]
        stated = self._images[image_id][1]
        if stated != size_hw:
            raise wrong_size(self.place(name), stated, size_hw)
        with_persons = PERSON_NAME in self._categories.values()
        chosen = []
        for text in self._annotations.get(image_id, []):
            fields = json.loads(text)
            category = self._categories.get(fields["category_id"], PERSON_NAME)
            if with_persons and category != PERSON_NAME:
                self.left_out[f"of another category than {PERSON_NAME}"] += 1
            else:
                chosen.append((fields["id"], fields))
        return chosen

    def _broken(self, name: str, number: object, error: ValueError) -> InputError:
        return InputError(self.place(name), f"annotation {number}: {one_line(error)}", _MEND)


_SIDES = ("height", "width")


def wrong_size(place: str, truth_hw: tuple[int, int], run_hw: tuple[int, int]) -> InputError:
    """The error of a truth whose size (H, W) is not that of the run's image."""
    (height, width), (run_height, run_width) = truth_hw, run_hw
    problem = f"has {width} x {height} px, the run's image {run_width} x {run_height}"
    return InputError(place, problem, "give the truth of the images that were converted")


def _pair(sides: list[int]) -> tuple[int, int]:
    return sides[0], sides[1]


def mask_of_segmentation(segmentation: object, size_hw: tuple[int, int]) -> Rle:
    """A mask from RLE, compressed or not, or from polygons. ValueError says what is wrong."""
    if not isinstance(segmentation, list):
        return checked_rle(segmentation, size_hw)
    height, width = size_hw
    polygons = [_polygon(one, size_hw) for one in segmentation]
    parts = coco_mask.frPyObjects(polygons, height, width)
    merged = coco_mask.merge(parts)
    return {"size": [height, width], "counts": merged["counts"].decode("ascii")}


def _polygon(value: object, size_hw: tuple[int, int]) -> list[float]:
    """Check a polygon [x0, y0, x1, y1, ...] of at least three corners."""
    if not isinstance(value, list) or len(value) < 6 or len(value) % 2:
        raise ValueError("a polygon is no list of three or more pairs x, y")
    numbers = list(as_numbers(value, len(value), "a polygon"))
    # pycocotools walks along the edges in steps of a fifth of a pixel.
    reach = _MANY * max(size_hw)
    if not all(math.isfinite(number) and abs(number) <= reach for number in numbers):
        raise ValueError("a polygon reaches far outside the image")
    return numbers
