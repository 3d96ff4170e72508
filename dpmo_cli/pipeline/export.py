"""The export of a finished run: checked as a whole first, then written image by image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import pyarrow.compute as pc

from dpmo_cli.datasets.images import find_photo, is_upright, read_image
from dpmo_cli.datasets.paths import resolve_inside
from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.atomic import sweep_temporaries, write_text
from dpmo_cli.outputs.exports.plan import NONE, Options, Photo, Plan, name_images
from dpmo_cli.outputs.exports.registry import Format
from dpmo_cli.outputs.findings import one_line
from dpmo_cli.outputs.finished import (
    FinishedImage,
    RunImage,
    iter_rows,
    list_images,
    read_images,
)
from dpmo_cli.outputs.json_values import as_object, as_text
from dpmo_cli.outputs.locking import hold
from dpmo_cli.outputs.run_file import RUN_FILE, Run, photos_of
from dpmo_cli.outputs.schema import NOBODY, OK
from dpmo_cli.pipeline.progress import RunProgress

EXPORT_FILE = "export.json"
_LOCK_FILE = ".export.lock"
_VERSION = 1
_READABLE = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Photos of these suffixes are read by all trainers."""


@dataclass
class SplitCounts:
    """What of a split is exported: images, people in them, and masks."""

    images: int = 0
    people: int = 0
    masks: int = 0

    def add(self, found: FinishedImage) -> None:
        """Count one image."""
        self.images += 1
        self.people += sum(status not in NOBODY for status in found.rows["status"].to_pylist())
        self.masks += len(found.annotations)


@dataclass(frozen=True)
class Exported:
    """What an export has written: counts by split, how many files, and what to warn of."""

    splits: dict[str, SplitCounts]
    files: int
    warnings: list[str]


def export_run(
    out: Path,
    to: Path,
    form: Format,
    options: Options,
    *,
    splits: Sequence[str] = (),
    root: Path | None = None,
    quiet: bool = False,
) -> Exported:
    """Write a finished run in another format.

    Everything is read from the run's annotations and points. Nothing is written before all names
    and photos have been checked. `export.json` lists the files; those that an earlier export of
    the same format wrote, and this one does not, are removed.

    Args:
        out: the folder of the run.
        to: the folder to write; empty, new, or of an earlier export of the same format.
        form: the format.
        options: that it takes.
        splits: to export; all by default.
        root: where the photos lie; by default the root that the run was made from.
        quiet: show no progress.

    Raises:
        UsageError: no finished run, no such split, or a folder that can't be written to.
        InputError: a file of the run or a photo can't be used.
    """
    run = Run.of(out)
    chosen = _choose_splits(run, splits)
    images = {split: list_images(out, split) for split in chosen}
    everything = [image for split in chosen for image in images[split]]
    if not everything:
        raise UsageError(f"{out}: has no image that could be read; see its {RUN_FILE}")
    root = root or photos_of(out)
    _check_folder(to, out, root)
    for image in everything:
        resolve_inside(root, image.file_name)
    with_photos = options.images != NONE
    plan = Plan(
        to=to,
        dataset=run.dataset,
        extent=run.extent,
        images=images,
        names=name_images(everything, flat=form.flat, by_split=form.by_split),
        photos={image: _find_photo(root, image) for image in everything} if with_photos else {},
        largest_point_id=lambda: _largest_point_id(out, run),
        options=options,
    )
    writer = form.writer(plan)
    counts = {split: SplitCounts() for split in chosen}
    with _locked(to), RunProgress(len(everything), quiet=quiet, verb="exporting") as progress:
        before = _read_list(to, form)
        files = sorted(writer.files())
        if not before.issuperset(files):
            # Until all is written it lists old and new files, so that a kill leaves none behind.
            _write_list(to, form, plan, {}, sorted(before.union(files)))
        for split in chosen:
            found = read_images(out, split, images[split])
            writer.write_split(split, _counted(found, counts[split], progress))
        writer.write_rest()
        _remove(to, before.difference(files))
        files = [file for file in files if os.path.lexists(to / file)]
        _write_list(to, form, plan, counts, files)
    warnings = [*writer.warnings(), *_failed(run, chosen)]
    return Exported(counts, len(files), warnings)


def _choose_splits(run: Run, wanted: Sequence[str]) -> list[str]:
    for split in wanted:
        if split not in run.split_counts:
            known = ", ".join(run.split_counts) or "none"
            raise UsageError(f"--split {split}: the run has {known}")
    return [split for split in run.split_counts if not wanted or split in wanted]


def _check_folder(to: Path, out: Path, root: Path) -> None:
    """See that neither the run nor the dataset would be written to."""
    where = to.resolve()
    if where.is_relative_to(out.resolve()):
        raise UsageError(f"--to {to}: lies in the run's own folder; name another one")
    if where == root.resolve():
        raise UsageError(f"--to {to}: is the dataset's root; name another folder")
    if to.exists() and not to.is_dir():
        raise UsageError(f"--to {to}: is a file; name a folder")


def _find_photo(root: Path, image: RunImage) -> Photo:
    """How the photo of an image is written."""
    path = find_photo(root, image.file_name, image.size_hw)
    if is_upright(path) and path.suffix.lower() in _READABLE:
        return Photo(path)
    return Photo(path, redraw=lambda: read_image(path))


def _largest_point_id(out: Path, run: Run) -> int:
    """Of the points that have a mask, in all splits; -1 where there is none."""
    largest = -1
    for split in run.split_counts:
        for _, rows in iter_rows(out, split):
            of_masks = rows.filter(pc.field("status") == OK)["point_id"]
            largest = max([largest, *of_masks.to_pylist()])
    return largest


def _counted(
    images: Iterator[FinishedImage], counts: SplitCounts, progress: RunProgress
) -> Iterator[FinishedImage]:
    for found in images:
        yield found
        counts.add(found)
        progress.advance(len(found.rows), reused=False)


def _failed(run: Run, splits: Sequence[str]) -> Iterator[str]:
    for split in splits:
        failed = run.split_counts[split].get("failed_images")
        if failed:
            yield f"split {split}: {failed} images failed in the run and are not exported"


@contextmanager
def _locked(to: Path) -> Iterator[None]:
    """Keep other exports out of a folder, and sweep what a killed one left there."""
    busy = f"--to {to}: another export is writing there; wait for it or name another folder"
    lock = hold(to / _LOCK_FILE, to, busy)
    try:
        if (to / EXPORT_FILE).is_file():
            sweep_temporaries(to, deep=True)
        yield
    finally:
        lock.release()


def _read_list(to: Path, form: Format) -> set[str]:
    """The files that an earlier export of this format has written.

    Raises:
        UsageError: the folder holds something else.
        InputError: its list can't be read.
    """
    path = to / EXPORT_FILE
    if not path.exists():
        if any(not one.name.startswith(".") for one in to.iterdir()):
            raise UsageError(f"--to {to}: holds files that are no export; name an empty folder")
        return set()
    try:
        document = as_object(json.loads(path.read_text(encoding="utf-8")), "it")
        name, files = as_text(document.get("format"), "format"), document.get("files")
        if document.get("version") != _VERSION or not isinstance(files, list):
            raise ValueError("another version")
        listed = {as_text(one, "a file") for one in files}
    except (OSError, ValueError, RecursionError) as error:
        problem = f"can't be read ({one_line(error)})"
        raise InputError(path, problem, "name an empty folder with --to") from error
    if name != form.name:
        raise UsageError(f"--to {to}: holds an export of format {name}; name another folder")
    return listed


def _write_list(
    to: Path, form: Format, plan: Plan, counts: Mapping[str, SplitCounts], files: Sequence[str]
) -> None:
    document = {
        "version": _VERSION,
        "format": form.name,
        "dataset": plan.dataset,
        "extent": plan.extent,
        "options": asdict(plan.options),
        "splits": {split: asdict(one) for split, one in counts.items()},
        "files": list(files),
    }
    write_text(to / EXPORT_FILE, json.dumps(document, indent=1, allow_nan=False) + "\n")


def _remove(to: Path, files: Iterable[str]) -> None:
    """Remove files of an earlier export, and the folders that are empty then."""
    for name in sorted(files):
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/"):
            continue
        path = to / name
        try:
            path.unlink(missing_ok=True)
            for folder in list(path.parents)[: len(parts) - 1]:
                folder.rmdir()
        except OSError:
            continue  # a folder that holds more, as most do
