"""The check of a whole run: every file against itself and against the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dpmo_cli.outputs.coco_checks import check_coco
from dpmo_cli.outputs.corrections import CorrectionsError, read_corrections
from dpmo_cli.outputs.findings import (
    CORRECTIONS_FILE,
    QUEUE_FILE,
    REVIEW_FILES,
    Finding,
    Problem,
    annotations_file,
    few,
    in_split,
    one_line,
    points_file,
)
from dpmo_cli.outputs.json_values import as_int, as_object
from dpmo_cli.outputs.run_file import RUN_FILE, Run
from dpmo_cli.outputs.schema import POINT_SCHEMA, QUEUE_SCHEMA
from dpmo_cli.outputs.table_checks import (
    Points,
    align_queue,
    check_order,
    check_points,
    read_table,
)

_ORDER_COLUMNS = ["dataset", "split", "score", "image_id", "point_id"]


@dataclass
class Tally:
    """What files hold: images that could be read, masks, and points by status."""

    images: int = 0
    masks: int = 0
    by_status: Counter[str] = field(default_factory=Counter)


def holds_run_files(out: Path) -> bool:
    """Whether a folder has any file that a run alone writes: else there is nothing to check."""
    return any(os.path.lexists(out / name) for name in (RUN_FILE, ".dpmo", QUEUE_FILE))


def validate_run(out: Path) -> list[Finding]:
    """Check every file of the run in `out` and return what is wrong, nothing where all is well.

    The masks of one image and the tables of one split are in memory at a time. Where a file can't
    be read, comparisons with it are left out.
    """
    return _Check(out).findings


class _Check:
    """One check of one folder; `findings` grows while the files are gone through."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.findings: list[Finding] = []
        run = self._read_run()
        splits = self._list_files(run)
        self._check_corrections()
        with_queue = self._check_queue(run, splits)
        tallies = {split: self._check_split(split, run, with_queue) for split in splits}
        if run is not None:
            self._check_counts(run, tallies)

    def _add(self, code: str, file: str, message: str) -> None:
        self.findings.append(Finding(code, file, message))

    def _read_run(self) -> Run | None:
        try:
            return Run.read(self.out / RUN_FILE)
        except FileNotFoundError:
            self._add("DPMO-V001", RUN_FILE, "is missing: the run has not ended; run it again")
        except (OSError, ValueError, RecursionError) as error:
            self._add("DPMO-V001", RUN_FILE, one_line(error))
        return None

    def _list_files(self, run: Run | None) -> list[str]:
        """Return the splits; without a run record, those that have annotations."""
        folders = ("annotations", "points", "review")
        there = [path for name in folders for path in sorted((self.out / name).glob("[!.]*"))]
        if run is None:
            return [path.stem for path in there if path.parent.name == "annotations"]
        splits = list(run.split_counts)
        known = {*REVIEW_FILES, *map(annotations_file, splits), *map(points_file, splits)}
        for path in there:
            name = path.relative_to(self.out).as_posix()
            if name not in known:
                self._add("DPMO-V003", name, "no split in run.json has it")
        return splits

    def _check_corrections(self) -> None:
        try:
            for _ in read_corrections(self.out / CORRECTIONS_FILE):
                pass
        except CorrectionsError:
            message = "is no whole snapshot of decisions: run `dpmo review apply` again"
            self._add("DPMO-V050", CORRECTIONS_FILE, message)

    def _check_queue(self, run: Run | None, splits: list[str]) -> bool:
        """Check the queue's order and origin, and say whether it can be read."""
        queue = self._load(QUEUE_FILE, QUEUE_SCHEMA, "DPMO-V040", columns=_ORDER_COLUMNS)
        if queue is None:
            return False
        datasets, named = (set(pc.unique(queue[name]).to_pylist()) for name in _ORDER_COLUMNS[:2])
        if run is not None and datasets - {run.dataset}:
            others = few(sorted(map(str, datasets - {run.dataset})))
            self._add("DPMO-V045", QUEUE_FILE, f"{others}, the run's is {run.dataset}")
        if named - set(splits):
            others = few(sorted(map(str, named - set(splits))))
            self._add("DPMO-V042", QUEUE_FILE, f"rows of splits that are not there: {others}")
        for code, message in check_order(queue):
            self._add(code, QUEUE_FILE, message)
        return True

    def _check_split(self, split: str, run: Run | None, with_queue: bool) -> Tally | None:
        """Check the files of a split; None where one of them can't be read."""
        points, queue_masks = None, None
        table = self._load(points_file(split), POINT_SCHEMA, "DPMO-V030")
        if table is not None:
            points = Points.of(table)
            self._add_all(split, check_points(points))
        if points is not None and with_queue:
            queue = self._load(QUEUE_FILE, QUEUE_SCHEMA, "DPMO-V040", split=split)
            if queue is not None:
                queue_masks, problems = align_queue(points, queue)
                self._add_all(split, problems)
        try:
            content = check_coco(self.out / annotations_file(split), points, queue_masks)
        except FileNotFoundError:
            self._add("DPMO-V002", annotations_file(split), "is missing")
            return None
        except (OSError, ValueError, RecursionError) as error:
            self._add("DPMO-V010", annotations_file(split), one_line(error))
            return None
        self._add_all(split, content.problems)
        if run is not None and content.extents - {run.extent}:
            others = few(sorted(content.extents - {run.extent}))
            message = f"{others}, the run's is {run.extent}"
            self._add("DPMO-V018", annotations_file(split), message)
        if points is None or not content.whole:
            return None
        self._add_all(split, content.joined)
        statuses = Counter(points.statuses.tolist())
        return Tally(len(content.images), content.masks, statuses)

    def _check_counts(self, run: Run, tallies: Mapping[str, Tally | None]) -> None:
        total = Tally()
        for split, tally in tallies.items():
            if tally is None:
                return
            for message in _count_errors(run.split_counts[split], tally):
                self._add("DPMO-V004", RUN_FILE, f"splits.{split}.counts: {message}")
            total.images += tally.images
            total.masks += tally.masks
            total.by_status += tally.by_status
        for message in _count_errors(run.counts, total):
            self._add("DPMO-V004", RUN_FILE, f"counts: {message}")

    def _load(
        self,
        name: str,
        schema: pa.Schema,
        code: str,
        columns: list[str] | None = None,
        split: str | None = None,
    ) -> pa.Table | None:
        """Read a table, or name it: `code` where it can't be read, the next one for its schema."""
        try:
            return read_table(self.out / name, schema, columns, split)
        except FileNotFoundError:
            self._add("DPMO-V002", name, "is missing")
        except (pa.ArrowException, OSError) as error:
            self._add(code, name, one_line(error))
        except ValueError as error:
            self._add(f"{code[:-1]}1", name, one_line(error))
        return None

    def _add_all(self, split: str, problems: Iterable[Problem]) -> None:
        self.findings += in_split(split, problems)


def _count_errors(stated: Mapping[str, object], tally: Tally) -> Iterator[str]:
    """Yield where the counts of the run record are not those of the files."""
    try:
        images, failed, points, masks = (
            as_int(stated.get(name), name)
            for name in ("images", "failed_images", "points", "masks")
        )
        by_status = as_object(stated.get("by_status"), "by_status")
        statuses = Counter({name: as_int(count, name) for name, count in by_status.items()})
    except ValueError as error:
        yield one_line(error)
        return
    if images - failed != tally.images:
        yield f"images less failed_images is {images - failed}, not {tally.images}"
    if points != tally.by_status.total():
        yield f"points is {points}, not {tally.by_status.total()}"
    if masks != tally.masks:
        yield f"masks is {masks}, not {tally.masks}"
    for status in sorted(statuses.keys() | tally.by_status.keys()):
        if statuses[status] != tally.by_status[status]:
            yield f"by_status.{status} is {statuses[status]}, not {tally.by_status[status]}"
