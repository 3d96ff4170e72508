"""Checks of the Parquet files: schemas, rows, their order, and the queue against the points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dpmo_cli.outputs.findings import Problem, few
from dpmo_cli.outputs.parquet import score_key, worst_first
from dpmo_cli.outputs.schema import (
    ADDED,
    ADDED_FROM,
    AUTO,
    DELETED,
    MASK_FIELDS,
    OK,
    POINT_SCHEMA,
    SHARED,
    SOURCES,
    STATUSES,
    UNMASKED,
)

MASK_NAMES = [field.name for field in MASK_FIELDS]


@dataclass(frozen=True)
class Points:
    """The rows of one split, and where those of each image lie.

    Attributes:
        table: N rows of POINT_SCHEMA.
        places: image id -> its rows.
        image_ids, point_ids, annotation_ids: (N,) int64; annotation -1 where there is none.
        statuses: (N,) str.
        points_xy: (N, 2) float64 px.
        radii_px: (N,) float64, NaN where unknown.
        sources, reviewers: N, None where there is none.
    """

    table: pa.Table
    places: dict[int, slice]
    image_ids: NDArray[np.int64]
    point_ids: NDArray[np.int64]
    annotation_ids: NDArray[np.int64]
    statuses: NDArray[np.str_]
    points_xy: NDArray[np.float64]
    radii_px: NDArray[np.float64]
    sources: list[str | None]
    reviewers: list[str | None]

    @classmethod
    def of(cls, table: pa.Table) -> Points:
        """Take apart a table of POINT_SCHEMA."""
        image_ids = table["image_id"].to_numpy()
        starts = _starts(image_ids)
        return cls(
            table=table,
            places={
                int(image_ids[start]): slice(int(start), int(stop))
                for start, stop in zip(starts, _stops(starts, image_ids), strict=True)
            },
            image_ids=image_ids,
            point_ids=table["point_id"].to_numpy().astype(np.int64),
            annotation_ids=pc.fill_null(table["annotation_id"], -1).to_numpy(),
            statuses=np.array(table["status"].to_pylist(), dtype=np.str_),
            points_xy=np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1),
            radii_px=table["radius_px"].to_numpy(),
            sources=table["source"].to_pylist(),
            reviewers=table["reviewer"].to_pylist(),
        )


def read_table(
    path: Path, schema: pa.Schema, columns: list[str] | None = None, split: str | None = None
) -> pa.Table:
    """Read a Parquet file, or some of its columns or the rows of a split, following `schema`.

    Raises:
        ValueError: one line, where the schema is another.
        pa.ArrowException or OSError: where the file can't be read.
    """
    with path.open("rb") as file:
        check_schema(pq.read_schema(file), schema)
    rows = None if split is None else pc.field("split") == split
    with path.open("rb") as file:
        table = pq.read_table(file, columns=columns, filters=rows, partitioning=None)
        return table.combine_chunks()


def check_schema(there: pa.Schema, schema: pa.Schema) -> None:
    """Raise ValueError, one line, where the schema of a file is not the one that it should be."""
    if not there.equals(schema):
        wrong = [name for name in schema.names if name not in there.names]
        wrong += [f.name for f in there if f.name not in schema.names or f != schema.field(f.name)]
        raise ValueError(f"columns {few(wrong)}" if wrong else "the columns' order")


def check_points(points: Points) -> Iterator[Problem]:
    """Yield what is wrong with the rows of one split, taken by themselves."""
    starts = _starts(points.image_ids)
    first = np.repeat(starts, _stops(starts, points.image_ids) - starts)
    # Those of the dataset count up from 0, then come the added ones, with gaps.
    ragged = points.point_ids != np.arange(len(first)) - first
    ragged &= points.point_ids < ADDED_FROM
    ragged[1:] |= (np.diff(points.point_ids) <= 0) & (first[1:] == first[:-1])
    names = points.table["image"].combine_chunks().dictionary_encode().indices.to_numpy()
    renamed = names != names[first]
    if len(points.places) < len(starts) or ragged.any() or renamed.any():
        ids, counts = np.unique(points.image_ids[starts], return_counts=True)
        wrong = {*ids[counts > 1].tolist(), *points.image_ids[ragged | renamed].tolist()}
        yield "DPMO-V032", f"image {few(sorted(wrong))}"
    unknown = np.setdiff1d(points.statuses, STATUSES)
    if len(unknown):
        yield "DPMO-V033", few(unknown.tolist())
    masked = np.isin(points.statuses, [OK, SHARED])
    named = points.annotation_ids >= 0
    known = np.isin(points.statuses, STATUSES)
    if (bad := np.flatnonzero(masked & ~named)).size:
        yield "DPMO-V034", f"{_rows(points, bad)}: no annotation at all"
    if (bad := np.flatnonzero(known & ~masked & named)).size:
        yield "DPMO-V035", _rows(points, bad)
    odd = [not _can_be(points, row) for row in range(len(points.sources))]
    if (bad := np.flatnonzero(odd)).size:
        yield "DPMO-V039", _rows(points, bad)


def _can_be(points: Points, row: int) -> bool:
    """Whether a row's source and reviewer go with each other, its mask and its point id."""
    source, reviewer, status = points.sources[row], points.reviewers[row], points.statuses[row]
    if (source is not None) != (status in (OK, SHARED)):
        return False
    if source is None:
        return reviewer is not None or status not in (DELETED, UNMASKED)
    added = points.point_ids[row] >= ADDED_FROM
    return (
        source in SOURCES
        and (source == AUTO) == (reviewer is None)
        and ((source == ADDED) == bool(added))
    )


def check_order(queue: pa.Table) -> Iterator[Problem]:
    """Yield a problem where the queue (score, split, image_id, point_id) is not worst first."""
    _, codes = np.unique(np.array(queue["split"].to_pylist(), np.str_), return_inverse=True)
    order = worst_first(
        score_key(queue["score"]),
        codes.reshape(-1),
        queue["image_id"].to_numpy(),
        queue["point_id"].to_numpy(),
    )
    moved = np.flatnonzero(order != np.arange(len(order)))
    if len(moved):
        yield "DPMO-V043", f"from row {moved[0]}"


def align_queue(points: Points, queue: pa.Table) -> tuple[pa.Table | None, list[Problem]]:
    """Return the queue's masks of one split in the order of its points, and what differs.

    The masks are None where the queue does not hold the same points.
    """
    queue_keys = (queue["point_id"].to_numpy().astype(np.int64), queue["image_id"].to_numpy())
    of_queue = np.lexsort(queue_keys)
    of_points = np.lexsort((points.point_ids, points.image_ids))
    same = len(of_queue) == len(of_points)
    same = same and np.array_equal(queue_keys[0][of_queue], points.point_ids[of_points])
    if not same or not np.array_equal(queue_keys[1][of_queue], points.image_ids[of_points]):
        message = f"{len(of_queue)} rows and {len(of_points)} points, not the same"
        return None, [("DPMO-V042", message)]
    order = np.empty_like(of_queue)
    order[of_points] = of_queue
    aligned = queue.take(order)
    different = [n for n in POINT_SCHEMA.names if not _equal(aligned[n], points.table[n])]
    problems = [("DPMO-V042", f"different values in {few(different)}")] if different else []
    return aligned.select(MASK_NAMES), problems


def _equal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    """Say whether two columns hold the same values; the slow way lets NaN equal NaN."""
    return one.equals(other) or repr(one.to_pylist()) == repr(other.to_pylist())


def _starts(image_ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return where each run of equal ids begins."""
    if not len(image_ids):
        return np.zeros(0, np.intp)
    return np.concatenate([[0], np.flatnonzero(np.diff(image_ids)) + 1])


def _stops(starts: NDArray[np.intp], image_ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return where each of those runs ends."""
    return np.append(starts, len(image_ids))[1:]


def _rows(points: Points, rows: NDArray[np.intp]) -> str:
    pairs = zip(points.image_ids[rows].tolist(), points.point_ids[rows].tolist(), strict=True)
    return f"rows (image id, point id) {few(pairs)}"
