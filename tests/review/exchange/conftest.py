"""A small run to exchange, and tools that write back what they were given, each in its own way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.records import ImageRecord, record_path, write_record
from dpmo_cli.review.decisions import Decision, Decisions
from dpmo_cli.review.exchange.exports import MOST, Wanted, export_tasks
from dpmo_cli.review.exchange.files import MANIFEST_FILE
from dpmo_cli.review.exchange.imports import Import, import_tasks
from dpmo_cli.review.exchange.manifest import Manifest, read_manifest
from dpmo_cli.review.exchange.report import Report
from dpmo_cli.review.people import People, load_people
from tests.outputs.samples import make_info, make_record, make_rows, mask_columns, write_run
from tests.review.exchange.tools import TOOLS, Tool

Pixels = NDArray[np.bool_]


def crowd_record(size_hw: tuple[int, int] = (120, 160)) -> ImageRecord:
    """Twelve heads on a grid with gaps, and after them a point without mask and a shared one."""
    info = make_info(1, "train", "images/a b.jpg", size_hw)
    points = [(20.0 + 35 * (k % 4), 20.4 + 38 * (k // 4)) for k in range(12)]
    statuses, shares = {12: "empty"}, {13: 0}
    rows = make_rows(info, [*points, (150.0, 60.0), points[0]], statuses=statuses, shares=shares)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    for row in rows:
        if row["status"] in ("ok", "shared"):
            radius_px = 7.3 + row["point_id"] % 3
            row.update(mask_columns(np.hypot(x - row["x"], y - row["y"]) < radius_px))
    return make_record(info, rows)


def ragged_record() -> ImageRecord:
    """Masks of many parts with holes, at the border of the image too."""
    info = make_info(2, "test", "images/b.png", (47, 63))
    points = [(1.0, 1.0), (20.0, 10.0), (30.0, 12.0), (62.0, 46.0), (25.0, 30.0), (40.0, 30.0)]
    return make_record(info, make_rows(info, points, radius_px=8.0, seed=3))


@dataclass
class World:
    """A run, and what is done with it.

    Attributes:
        out: its folder.
        root: of the photos.
        to: where tasks are exported to.
        format, shapes: of the export.
    """

    out: Path
    root: Path
    to: Path
    format: str
    shapes: str

    @property
    def tool(self) -> Tool:
        """Writes back what was exported."""
        return TOOLS[self.format](self.to)

    @property
    def manifest(self) -> Manifest:
        """Of the export."""
        return read_manifest(self.to / MANIFEST_FILE)

    def export(self, most: int = MOST, **wanted: Any) -> World:
        """Export everybody."""
        asked = Wanted(self.format, self.shapes, most=most, **wanted)
        export_tasks(self.out, self.to, asked)
        return self

    def take(self, path: Path, **wanted: Any) -> Report:
        """Import a tool's file."""
        usual = {"reviewer": "ada", "manifest": self.to / MANIFEST_FILE}
        return import_tasks(self.out, Import(path, **{**usual, **wanted}))[1]

    def latest(self) -> dict[Person, Decision]:
        """The latest decisions, by person."""
        with Decisions(self.out) as decisions:
            return decisions.latest()

    def people(self, split: str = "train", image_id: int = 1) -> People:
        """An image as it stands."""
        return load_people(self.out, split, image_id, self.latest().values())

    def decide(self, person: Person, verdict: str, reviewer: str = "eve", **values: Any) -> int:
        """Decide on the page, in between."""
        people = self.people(person.split, person.image_id)
        decision = Decision(
            person=person,
            verdict=verdict,
            rle=values.get("rle"),
            point_xy=values.get("point_xy"),
            reviewer=reviewer,
            source="page",
            image=people.info.file_name,
            seen_xy=None if person.is_added else people.seen_xy(person.point_id),
        )
        before = self.latest().get(person)
        with Decisions(self.out) as decisions:
            return decisions.decide(decision, expected=before.id if before else None).id


MakeWorld = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path) -> MakeWorld:
    """Builds a run of two images."""

    def build(format_: str = "labelme", shapes: str = "polygons") -> World:
        out, root = tmp_path / "out", tmp_path / "root"
        records = [crowd_record(), ragged_record()]
        out.mkdir()
        write_run(out, records)
        rng = np.random.default_rng(0)
        for record in records:
            info = record.info
            write_record(record_path(out, info.split, info.image_id), record)
            assert info.height is not None
            assert info.width is not None
            path = root / info.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 256, (info.height, info.width, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
        run = json.loads((out / "run.json").read_text())
        run |= {"root": str(root), "settings": {}, "config": {}}
        (out / "run.json").write_text(json.dumps(run))
        return World(out, root, tmp_path / "tasks", format_, shapes)

    return build


@pytest.fixture
def back(tmp_path: Path) -> Path:
    """A folder for what a tool writes."""
    (tmp_path / "back").mkdir()
    return tmp_path / "back"


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files of a folder by their path in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}
