"""What was predicted, points or counts: from the folder of a run, or from a file of any method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from dpmo_cli.datasets.count_files import COUNTS_FILE, is_count_file, read_count_file
from dpmo_cli.datasets.names import image_key
from dpmo_cli.datasets.paths import listed
from dpmo_cli.datasets.point_files import FoundPoints, PointFile, has_text_files, read_point_file
from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.evaluation.run_masks import read_points
from dpmo_cli.outputs.findings import annotations_file, points_file
from dpmo_cli.outputs.finished import list_images
from dpmo_cli.outputs.schema import FAILED, NOBODY

RUN = "run"
"""The format of points that a run has written."""


def open_points(pred: Path, split: str | None) -> PointFile:
    """Read predicted points.

    Args:
        pred: folder of a run of `dpmo`, or whatever `read_point_file` takes.
        split: of a run that has several the one to take; one that it does not have is no error,
            as the predictions of other methods have no splits.

    Raises:
        UsageError: there is nothing of the kind.
        InputError: a file can't be used.
    """
    splits = _splits(pred)
    if splits:
        return _run_points(pred, [split] if split in splits else splits)
    if pred.is_dir() and not has_text_files(pred):
        raise UsageError(
            f"--pred {pred}: holds no finished run and no .txt file; give the folder that "
            "`dpmo convert` wrote, or a file or folder of points"
        )
    return read_point_file(pred)


def open_counts(pred: Path, split: str | None) -> dict[str, float]:
    """Read predicted counts: a table of them, or as many as there are points.

    Args:
        pred: a CSV with the columns image and count, a folder with such a `counts.csv`, or what
            `open_points` takes.
        split: as there.

    Returns:
        Counts by the path of the image without suffix.

    Raises:
        UsageError: there is nothing of the kind.
        InputError: a file can't be used.
    """
    table = pred / COUNTS_FILE if pred.is_dir() and not _splits(pred) else pred
    if is_count_file(table):
        return read_count_file(table)
    return {name: float(len(one)) for name, one in open_points(pred, split).entries.items()}


def _splits(pred: Path) -> list[str]:
    """The splits whose points a run has written; none where it is no folder of a run."""
    return [path.stem for path in listed(pred / "points") if path.suffix == ".parquet"]


def _run_points(out: Path, splits: list[str]) -> PointFile:
    """The points of a run, and the images that it found nobody in."""
    entries: dict[str, FoundPoints] = {}
    failed: set[str] = set()
    for split in splits:
        table = read_points(out, split).select(["image", "x", "y", "status"])
        failed_rows = table.filter(pc.field("status") == FAILED)
        failed |= {image_key(name) for name in pc.unique(failed_rows["image"]).to_pylist()}
        table = table.filter(~pc.field("status").isin(NOBODY))
        points_xy = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
        images = table["image"].combine_chunks().dictionary_encode()
        codes = images.indices.to_numpy()
        order = np.argsort(codes, kind="stable")
        names = images.dictionary.to_pylist()
        parts = np.split(order, np.searchsorted(codes[order], np.arange(1, len(names))))
        found = {image_key(name): points_xy[rows] for name, rows in zip(names, parts, strict=False)}
        if len(found) < len(names):
            problem = "has two images whose names differ in their suffix alone"
            raise InputError(out / points_file(split), problem, "rename one and convert again")
        for name in _listed_images(out, split):
            found.setdefault(name, np.zeros((0, 2)))
        twice = sorted(entries.keys() & found.keys())
        if twice:
            path = out / points_file(split)
            raise InputError(path, f"image {twice[0]} is in two splits", "give one with --split")
        entries |= {name: FoundPoints(xy) for name, xy in found.items()}
    if (out / COUNTS_FILE).is_file():
        of_run = {
            name: FoundPoints(np.zeros((0, 2))) for name in read_count_file(out / COUNTS_FILE)
        }
        entries = of_run | entries
    return PointFile(out, RUN, {name: xy for name, xy in entries.items() if name not in failed})


def _listed_images(out: Path, split: str) -> list[str]:
    if not (out / annotations_file(split)).is_file():
        return []
    return [image_key(image.file_name) for image in list_images(out, split)]
