"""Finished runs of the example scenes whose masks somebody has corrected by the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import dpmo_cli
from dpmo_cli.datasets.csv import CsvPoints
from dpmo_cli.outputs.corrections import Correction, Person
from dpmo_cli.outputs.schema import CORRECTED
from dpmo_cli.pipeline.apply import apply_corrections
from dpmo_cli.pipeline.finish import tally, write_outputs, write_run_record
from dpmo_cli.pipeline.store import Manifest, Store
from tests.outputs.samples import make_info, make_record, make_rows, rle_of
from tests.pipeline.test_settings import SETTINGS

SCENES = Path(dpmo_cli.__file__).parent / "trials" / "scenes"
HELD_OUT, OTHERS = 1, (2, 3, 4)
"""Numbers of the scenes, by the project's hash rule."""
EVERY = 3
"""Every third person is corrected; of the others every second one has a reason to look."""


def name_of(scene: int) -> str:
    return f"images/scene_{scene:04d}.jpg"


def truth_of(scene: int) -> NDArray[np.int32]:
    with Image.open(SCENES / "truth" / f"scene_{scene:04d}.png") as labels:
        return np.asarray(labels).astype(np.int32)


def corrections_of(scene: int, points: Sequence[tuple[float, float]]) -> list[Correction]:
    """Every third person, where they can be seen, corrected by the truth."""
    labels = truth_of(scene)
    return [
        Correction(
            Person("train", scene, at), CORRECTED, rle_of(labels == at + 1), None, "ada",
            name_of(scene), points[at],
        )
        for at in range(1, len(points), EVERY)
        if (labels == at + 1).any()
    ]  # fmt: skip


def judged_run(
    out: Path,
    scenes: Sequence[int] = (HELD_OUT, *OTHERS),
    extent: str = "nnec",
    untouched: Sequence[int] = (),
) -> Path:
    """Write a run whose automatic masks are of no use, and apply corrections to it.

    Args:
        out: its folder.
        scenes: what it holds.
        extent: what its masks hold.
        untouched: scenes that nobody has looked at.
    """
    points = points_of()
    settings = replace(SETTINGS, extent=extent)
    with Store(out) as store:
        prints = {}
        for number in scenes:
            info = make_info(number, "train", name_of(number), truth_of(number).shape)
            rows = make_rows(info, points[number], radius_px=3.0)
            for row in rows:
                if row["annotation_id"] is not None:
                    row["annotation_id"] = number * 10**6 + row["point_id"]
            record = replace(make_record(info, rows), fingerprint="f" * 8)
            store.write_record(record)
            prints[number] = record.fingerprint
        store.write_manifest("train", Manifest(settings, None, None, "", prints))
        write_outputs(store, settings)
        write_run_record(store, settings, tally(store), root=str(SCENES), config={}, measured={})
    decided = [one for number in scenes if number not in untouched
               for one in corrections_of(number, points[number])]  # fmt: skip
    assert not apply_corrections(out, decided).finished.unfit
    return out


def points_of() -> dict[int, list[tuple[float, float]]]:
    """The points of each scene."""
    dataset = CsvPoints(SCENES)
    found = {}
    for entry in (one for split in dataset.splits() for one in dataset.entries(split)):
        xy = dataset.read_heads(entry).points_xy
        found[int(Path(entry.file_name).stem[-4:])] = [(x, y) for x, y in xy.tolist()]
    return found
