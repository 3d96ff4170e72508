"""Checks of one split's annotations, image by image, beside the rows of its points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpmo_cli.outputs.coco import PERSON, iter_coco
from dpmo_cli.outputs.findings import Problem, few, one_line
from dpmo_cli.outputs.json_values import as_int, as_object, as_text
from dpmo_cli.outputs.mask_checks import Annotation, check_masks
from dpmo_cli.outputs.schema import EMPTY, OK, OUTSIDE, SHARED
from dpmo_cli.outputs.table_checks import MASK_NAMES, Points

NEED_THE_IMAGE = (OK, SHARED, OUTSIDE, EMPTY)
"""Statuses that can be told only where the image could be read."""


@dataclass
class Content:
    """What an annotation file holds.

    Attributes:
        images: image id -> file name and (H, W) px.
        masks: number of annotations.
        extents: all extents that annotations state.
        problems: what is wrong with the file by itself.
        joined: where it and the rows disagree.
        whole: all of it is well-formed, so that comparisons and counts mean something.
    """

    images: dict[int, tuple[str, tuple[int, int]]] = field(default_factory=dict)
    masks: int = 0
    extents: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    joined: list[Problem] = field(default_factory=list)
    whole: bool = True


def check_coco(path: Path, points: Points | None, queue_masks: pa.Table | None) -> Content:
    """Read a split's annotations and check them, one image in memory at a time.

    Args:
        path: the COCO file.
        points: the split's rows, None where they can't be read.
        queue_masks: the queue's masks in the order of `points`, None likewise.

    Raises:
        ValueError, RecursionError: the file is no JSON; OSError passes.
    """
    content = Content()
    visited: set[int] = set()
    for image_id, group in groupby(_annotations(path, content), lambda one: one.image_id):
        annotations = list(group)
        if image_id in visited:
            content.problems.append(("DPMO-V016", f"image {image_id}"))
        visited.add(image_id)
        if image_id in content.images:
            problems = check_masks(annotations, content.images[image_id][1])
            content.problems += ((code, f"image {image_id}, {text}") for code, text in problems)
        else:
            content.problems.append(("DPMO-V015", f"image {image_id}"))
        if points is not None:
            content.joined += _join(points, queue_masks, image_id, annotations)
    if points is not None:
        for image_id in sorted(points.places.keys() - visited):
            content.joined += _join(points, queue_masks, image_id, [])
        content.joined += _check_names(points, content)
    return content


def _annotations(path: Path, content: Content) -> Iterator[Annotation]:
    """Yield the well-formed annotations in order; images come before them in the file."""
    seen: set[int] = set()
    for member, value in iter_coco(path):
        try:
            if member == "images":
                _add_image(as_object(value, "the image"), content)
            elif member == "annotations":
                one = Annotation.from_json(value)
                _add_annotation(one, content)
                if one.id in seen:
                    content.problems.append(("DPMO-V014", f"annotation {one.id}"))
                seen.add(one.id)
                yield one
        except ValueError as error:
            content.whole = False
            code = "DPMO-V011" if member == "images" else "DPMO-V012"
            content.problems.append((code, one_line(error)))


def _add_image(value: Mapping[str, object], content: Content) -> None:
    image_id = as_int(value.get("id"), "the image's id")
    height, width = (as_int(value.get(side), side) for side in ("height", "width"))
    if min(height, width) < 1:
        raise ValueError(f"image {image_id} has no pixels")
    if image_id in content.images:
        content.problems.append(("DPMO-V013", f"image {image_id}"))
    content.images[image_id] = (as_text(value.get("file_name"), "file_name"), (height, width))


def _add_annotation(one: Annotation, content: Content) -> None:
    content.masks += 1
    content.extents.add(one.extent)
    if (one.category_id, one.iscrowd) != (PERSON, 0):
        what = f"category {one.category_id}, iscrowd {one.iscrowd}"
        content.problems.append(("DPMO-V017", f"annotation {one.id}: {what}"))


def _join(
    points: Points, queue_masks: pa.Table | None, image_id: int, annotations: Sequence[Annotation]
) -> Iterator[Problem]:
    """Yield where the annotations, the rows and the queue's masks of one image disagree."""
    place = points.places.get(image_id, slice(0, 0))
    named = points.annotation_ids[place].tolist()
    by_id = {one.id: one for one in annotations}
    strays = {one for one in named if one >= 0} - by_id.keys()
    if strays:
        yield "DPMO-V034", f"image {image_id}, annotation {few(sorted(strays))}"
    lost = by_id.keys() - set(named)
    if lost:
        yield "DPMO-V037", f"image {image_id}, annotation {few(sorted(lost))}"
    wrong = [o.id for o in annotations if o.id not in lost and not _agrees(points, place, o)]
    if wrong:
        yield "DPMO-V036", f"image {image_id}, annotation {few(wrong)}"
    if queue_masks is not None:
        masks = queue_masks.slice(place.start, place.stop - place.start).to_pylist()
        differing = [
            row
            for row, (mask, one) in enumerate(zip(masks, named, strict=True))
            if one not in strays and mask != _mask_row(by_id.get(one))
        ]
        if differing:
            yield "DPMO-V044", f"image {image_id}, point {few(differing)}"


def _agrees(points: Points, place: slice, one: Annotation) -> bool:
    row = place.start + int(np.searchsorted(points.point_ids[place], one.point_id))
    return (
        row < place.stop
        and points.point_ids[row] == one.point_id
        and points.statuses[row] == OK
        and points.annotation_ids[row] == one.id
        and tuple(points.points_xy[row].tolist()) == one.point_xy
        and np.array_equal(points.radii_px[row], one.radius_px, equal_nan=True)
        and (points.sources[row], points.reviewers[row]) == (one.source, one.reviewer)
    )


def _mask_row(one: Annotation | None) -> dict[str, object]:
    """Return an annotation's mask as the queue has it."""
    if one is None:
        return dict.fromkeys(MASK_NAMES)
    rle = {"size": list(one.size_hw), "counts": one.counts}
    return {"bbox": list(one.bbox), "area": one.area, "rle": rle}


def _check_names(points: Points, content: Content) -> Iterator[Problem]:
    for image_id, place in points.places.items():
        name = points.table["image"][place.start].as_py()
        listed, _ = content.images.get(image_id, (None, None))
        if listed is not None and listed != name:
            yield "DPMO-V038", f"image {image_id} is {name} here and {listed} there"
        if listed is None and np.isin(points.statuses[place], NEED_THE_IMAGE).any():
            yield "DPMO-V038", f"image {image_id} ({name}) was read, but is not listed there"
