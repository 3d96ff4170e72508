"""Shapes that tools wrote broken: each is named and left, and nothing else is."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpmo_cli.review.exchange.report import BROKEN
from tests.review.exchange.conftest import MakeWorld
from tests.review.exchange.test_imports import redraw
from tests.review.exchange.test_round_trips import kinds
from tests.review.exchange.tools import Json

Edit = Callable[[Json], Any]


def labelme_points(points: object) -> Edit:
    return lambda shape: shape.update(points=points)


BROKEN_LABELME = {
    "two points": (labelme_points([[1, 1], [5, 5]]), "three or more"),
    "no points": (labelme_points([]), "three or more"),
    "outside": (labelme_points([[200, 10], [210, 10], [210, 20]]), "no pixel inside"),
    "far outside": (labelme_points([[9e9, 9e9], [1, 1], [5, 1]]), "far outside"),
    "NaN": (labelme_points([[float("nan"), 1], [5, 5], [9, 1]]), "is no number"),
    "infinite": (labelme_points([[float("inf"), 1], [5, 5], [9, 1]]), "is no number"),
    "text": (labelme_points([["1", 1], [5, 5], [9, 1]]), "is no number"),
    "a number": (labelme_points(7), "points is no list"),
    "three numbers": (labelme_points([[1, 2, 3], [5, 5], [9, 1]]), "no list of 2"),
    "a line": (labelme_points([[1, 1], [2, 2], [3, 3]]), "no pixel inside"),
    "rectangle": (lambda s: s.update(shape_type="rectangle"), "it is a rectangle"),
    "label": (lambda s: s.update(label="hat"), "its label is 'hat', not person"),
    "label of no text": (lambda s: s.update(label=["person"]), "not person"),
    "mask without pixels": (lambda s: s.update(shape_type="mask"), "lacks its place"),
    "mask is no PNG": (lambda s: s.update(shape_type="mask", mask="AAAA"), "is no PNG"),
}


@pytest.mark.parametrize("case", BROKEN_LABELME)
def test_broken_shapes_of_labelme(world: MakeWorld, back: Path, case: str) -> None:
    edit, problem = BROKEN_LABELME[case]
    run = world().export(split="train")
    tool = redraw(run, 6, 6.0)
    path = tool.save(back)
    document = json.loads((back / "train_000001.json").read_text())
    number = [one["description"] for one in document["shapes"]].index("train-1-5")
    edit(document["shapes"][number])
    (back / "train_000001.json").write_text(json.dumps(document))
    report = run.take(path, deleted="deleted", dry_run=True)
    # Nor is the person gone.
    assert kinds(report) == {BROKEN: [-1], "corrected": [6]}
    line = str(report.lines[0])
    assert f"train_000001.json, shape {number + 1}: " in line
    assert problem in line
    assert line.endswith("; mend the shape in the tool and save again")


BROKEN_COCO: dict[str, tuple[Edit, str]] = {
    "two points": (lambda a: a.update(segmentation=[[1, 1, 5, 5]]), "three or more"),
    "odd": (lambda a: a.update(segmentation=[[1, 1, 5, 5, 6, 6, 7]]), "three or more"),
    "null": (lambda a: a.update(segmentation=[[None, 1, 5, 5, 6, 6]]), "is no number"),
    "NaN": (lambda a: a.update(segmentation=[[float("nan"), 1, 5, 5, 6, 6]]), "is no number"),
    "nested": (lambda a: a.update(segmentation=[[[1, 1, 5, 5, 6, 6]]]), "three or more"),
    "nothing": (lambda a: a.update(segmentation=[]), "no mask and no polygon"),
    "missing": (lambda a: a.pop("segmentation"), "no mask and no polygon"),
    "sum": (lambda a: a.update(segmentation={"size": [120, 160], "counts": [7]}), "add up"),
    "size": (lambda a: a.update(segmentation={"size": [7, 1], "counts": [7]}), "7"),
    "negative": (
        lambda a: a.update(segmentation={"size": [120, 160], "counts": [-5, 19205]}), "add up"
    ),
    "text": (lambda a: a.update(segmentation={"size": [120, 160], "counts": "?!"}), "counts"),
    "empty": (
        lambda a: a.update(segmentation={"size": [120, 160], "counts": [19200]}), "no pixel"
    ),
    "image": (lambda a: a.update(image_id=99), "image 99 is not listed"),
    "image of text": (lambda a: a.update(image_id="1"), "image_id is no whole number"),
    "a word": (lambda a: a.update(segmentation="hello"), "is no"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_COCO)
def test_broken_shapes_of_coco(world: MakeWorld, back: Path, case: str) -> None:
    edit, problem = BROKEN_COCO[case]
    run = world("cvat").export(split="train")
    with zipfile.ZipFile(redraw(run, 6, 6.0).save(back)) as archive:
        document = json.loads(archive.read("annotations/instances_default.json"))
    number = [one["attributes"]["dpmo"] for one in document["annotations"]].index("train-1-5")
    edit(document["annotations"][number])
    (back / "x.json").write_text(json.dumps(document))
    report = run.take(back / "x.json", deleted="deleted", dry_run=True)
    assert kinds(report) == {BROKEN: [-1], "corrected": [6]}
    line = str(report.lines[0])
    assert f"x.json, annotation {number + 1} (id {number + 1}): " in line
    assert problem in line


BROKEN_LABEL_STUDIO: dict[str, tuple[Edit, str]] = {
    "two points": (lambda r: r["value"].update(points=[[1, 1], [2, 2]]), "three or more"),
    "beyond": (lambda r: r["value"].update(points=[[150, 9], [160, 9], [160, 19]]), "no pixel"),
    "turned": (lambda r: r.update(image_rotation=90), "turned"),
    "another size": (lambda r: r.update(original_width=99), "another size"),
    "label": (lambda r: r["value"].update(polygonlabels=["hat"]), "'hat'"),
    "rectangle": (
        lambda r: r.update(type="rectanglelabels", value={"x": 1, "y": 1}), "a rectanglelabels"
    ),
    "brush of bytes": (lambda r: r.update(value={"rle": [1, 300]}), "no list of bytes"),
    "brush cut short": (lambda r: r.update(value={"rle": [0, 0, 1]}), "cut short"),
    "brush of another size": (lambda r: r.update(value={"rle": [0, 0, 1, 0] * 5}), "has 256 bytes"),
    "no value": (lambda r: r.pop("value"), "it has no points"),
    "no points": (lambda r: r["value"].pop("points"), "it has no points"),
    "no brush": (lambda r: r.update(type="brushlabels", value={}), "it has no brush mask"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_LABEL_STUDIO)
def test_broken_regions_of_label_studio(world: MakeWorld, back: Path, case: str) -> None:
    edit, problem = BROKEN_LABEL_STUDIO[case]
    run = world("label-studio").export(split="train")
    tool = redraw(run, 6, 6.0)
    path = tool.save(back)
    tasks = json.loads(path.read_text())
    regions = tasks[0]["annotations"][0]["result"]
    number = [one["id"] for one in regions].index("train-1-5")
    edit(regions[number])
    path.write_text(json.dumps(tasks))
    report = run.take(path, deleted="deleted", dry_run=True)
    assert kinds(report) == {BROKEN: [-1], "corrected": [6]}
    assert f"task 1, region {number + 1}: " in str(report.lines[0])
    assert problem in str(report.lines[0])
