"""What a finished run holds, in numbers: counts, statuses, reasons, histograms, crowds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dpmo_cli.errors import InputError
from dpmo_cli.outputs.findings import QUEUE_FILE, few
from dpmo_cli.outputs.json_values import as_int
from dpmo_cli.outputs.run_file import RUN_FILE, Run
from dpmo_cli.outputs.schema import NOBODY, OK, QUEUE_SCHEMA

_COLUMNS = ("split", "image_id", "status", "reasons", "score", "radius_px", "area", "flagged",
            "source", "reviewer")  # fmt: skip
_MEND = "see `dpmo validate`, and convert again"
_SCORE_BINS = 20
_AREA_BINS_PER_DECADE = 6
_RADIUS_BINS_PER_DECADE = 12

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PartCounts:
    """What the run or one of its splits holds; images with the failed ones."""

    images: int
    failed_images: int
    points: int
    masks: int
    flagged: int


@dataclass(frozen=True)
class Histogram:
    """How often values lie in each bin.

    Attributes:
        edges: B + 1 rising values; a bin is half open, [low, high), the last one closed.
        counts: B numbers of values.
        median: of the values, None where there are none.
        missing: values that are null or not finite, which no bin counts.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    median: float | None
    missing: int

    @property
    def total(self) -> int:
        """Number of values in bins."""
        return sum(self.counts)


@dataclass(frozen=True)
class Crowds:
    """The images that could be read, one element each, those without people at the end.

    Attributes:
        people: (I,) int64, points that count as a person.
        flagged: (I,) int64, how many of them wait for review.
    """

    people: Ints
    flagged: Ints

    def as_json(self) -> dict[str, float | int | None]:
        """The spread of the numbers of people; null without images."""
        some = len(self.people) > 0
        return {
            "images": len(self.people),
            "min": int(self.people.min()) if some else None,
            "median": float(np.median(self.people)) if some else None,
            "mean": float(self.people.mean()) if some else None,
            "max": int(self.people.max()) if some else None,
        }


@dataclass(frozen=True)
class Statistics:
    """All numbers of a report.

    Attributes:
        total, splits: counts of the run and of each split.
        by_status: status -> points, most first.
        by_reason: reason -> flagged points that have it, most first; a point may have several.
        score, area_px, radius_px: of the masks (points with a mask of their own).
        crowds: people by image.
        by_source, by_reviewer: masks by whose they are, and by who decided about them.
    """

    total: PartCounts
    splits: Mapping[str, PartCounts]
    by_status: Mapping[str, int]
    by_reason: Mapping[str, int]
    score: Histogram
    area_px: Histogram
    radius_px: Histogram
    crowds: Crowds
    by_source: Mapping[str, int]
    by_reviewer: Mapping[str, int]

    def as_json(self) -> dict[str, object]:
        """As a plain object."""
        return {
            "counts": asdict(self.total),
            "splits": {name: asdict(part) for name, part in self.splits.items()},
            "by_status": dict(self.by_status),
            "by_reason": dict(self.by_reason),
            "score": asdict(self.score),
            "area_px": asdict(self.area_px),
            "radius_px": asdict(self.radius_px),
            "people_per_image": self.crowds.as_json(),
            "by_source": dict(self.by_source),
            "by_reviewer": dict(self.by_reviewer),
        }


def read_statistics(out: Path, run: Run) -> Statistics:
    """Count what the tables of a finished run hold.

    Some columns of the queue are in memory, a few dozen bytes a point; no mask is.

    Args:
        out: the run's folder.
        run: its record, which alone knows of images without points.

    Raises:
        InputError: the queue can't be read or lacks a column, or the record's counts are none.
    """
    rows = _read_rows(out / QUEUE_FILE)
    masks = rows.filter(pc.equal(rows["status"], OK))
    total, splits = _counts(out / RUN_FILE, run, rows)
    return Statistics(
        total=total,
        splits=splits,
        by_status=_frequencies(rows["status"]),
        by_reason=_frequencies(pc.list_flatten(rows.filter(rows["flagged"])["reasons"])),
        score=_histogram(masks["score"], np.linspace(0, 1, _SCORE_BINS + 1).round(6)),
        area_px=_log_histogram(masks["area"], _AREA_BINS_PER_DECADE),
        radius_px=_log_histogram(masks["radius_px"], _RADIUS_BINS_PER_DECADE),
        crowds=_crowds(rows, total.images - total.failed_images),
        by_source=_frequencies(masks["source"]),
        by_reviewer=_frequencies(masks["reviewer"]),
    )


def _read_rows(path: Path) -> pa.Table:
    try:
        with path.open("rb") as file:
            there = {column.name: column.type for column in pq.read_schema(file)}
            if wrong := [n for n in _COLUMNS if there.get(n) != QUEUE_SCHEMA.field(n).type]:
                raise ValueError(f"columns {few(wrong)}")
            return pq.read_table(file, columns=list(_COLUMNS), partitioning=None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(path, f"can't be read ({error})", _MEND) from error


def _counts(path: Path, run: Run, rows: pa.Table) -> tuple[PartCounts, dict[str, PartCounts]]:
    """Return the counts of all and of each split: images by the record, the rest by the rows."""
    splits = {}
    for split, stated in run.split_counts.items():
        splits[split] = _part(path, stated, rows.filter(pc.equal(rows["split"], split)))
    return _part(path, run.counts, rows), splits


def _part(path: Path, stated: Mapping[str, object], rows: pa.Table) -> PartCounts:
    try:
        images, failed = (as_int(stated.get(name), name) for name in ("images", "failed_images"))
    except ValueError as error:
        raise InputError(path, str(error), _MEND) from error
    return PartCounts(
        images=images,
        failed_images=failed,
        points=len(rows),
        masks=_true(pc.equal(rows["status"], OK)),
        flagged=_true(rows["flagged"]),
    )


def _true(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)


def _frequencies(values: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value occurs, most first, equals by name; nulls are left out."""
    pairs = [(one["values"], one["counts"]) for one in pc.value_counts(values).to_pylist()]
    known = [(str(name), count) for name, count in pairs if name is not None]
    return dict(sorted(known, key=lambda pair: (-pair[1], pair[0])))


def _finite(column: pa.ChunkedArray) -> Floats:
    values: Floats = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()
    return values[np.isfinite(values)]


def _log_histogram(column: pa.ChunkedArray, per_decade: int) -> Histogram:
    """Bins of equal ratio from the least value above 0.001 to the largest; 1 to 10 without any."""
    values = _finite(column)
    values = values[values > 1e-3]
    low, high = (values.min(), values.max()) if len(values) else (1.0, 9.0)
    # The margin keeps a value that is an edge, like 10, on its side of it.
    first = np.floor(np.log10(low) * per_decade + 1e-9)
    last = np.floor(np.log10(high) * per_decade + 1e-9) + 1
    # Rounded, so that 10 is 10 whatever the machine's power function says.
    edges = np.round(10 ** (np.arange(first, last + 1) / per_decade), 6)
    return _histogram(column, edges)


def _histogram(column: pa.ChunkedArray, edges: Floats) -> Histogram:
    values = _finite(column)
    values = values[(values >= edges[0]) & (values <= edges[-1])]
    counts = np.histogram(values, edges)[0]
    return Histogram(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        median=float(np.median(values)) if len(values) else None,
        missing=len(column) - len(values),
    )


def _crowds(rows: pa.Table, readable_images: int) -> Crowds:
    nobody = pc.is_in(rows["status"], pa.array(NOBODY, rows["status"].type))
    table = pa.table(
        {
            "split": rows["split"],
            "image_id": rows["image_id"],
            "person": pc.invert(nobody).cast(pa.int64()),
            "flagged": pc.and_(pc.invert(nobody), rows["flagged"]).cast(pa.int64()),
        }
    )
    groups = table.group_by(["split", "image_id"]).aggregate(
        [("person", "sum"), ("flagged", "sum")]
    )
    groups = groups.sort_by([("split", "ascending"), ("image_id", "ascending")])
    people, flagged = groups["person_sum"].to_numpy(), groups["flagged_sum"].to_numpy()
    some = people > 0
    empty = np.zeros(max(0, readable_images - int(some.sum())), np.int64)
    return Crowds(np.append(people[some], empty), np.append(flagged[some], empty))
