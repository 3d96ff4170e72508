"""The tables of a run: `points/<split>.parquet` and `review/queue.parquet`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dpmo_cli.outputs.atomic import atomic_path
from dpmo_cli.outputs.records import Records
from dpmo_cli.outputs.schema import POINT_SCHEMA, QUEUE_SCHEMA

ROW_GROUP_ROWS = 1 << 16
QUEUE_WINDOW_ROWS = 1 << 19
"""Rows of the queue that are held at once; each such window costs one pass over the records."""


def write_points(path: Path, records: Records) -> None:
    """Write one row per point of POINT_SCHEMA, in the order of the records, streaming."""
    write_table(
        path, (record.rows.select(POINT_SCHEMA.names) for record in records()), POINT_SCHEMA
    )


def write_queue(
    path: Path, records: Records, dataset: str, *, window_rows: int = QUEUE_WINDOW_ROWS
) -> None:
    """Write every point of all splits, worst first, as QUEUE_SCHEMA.

    Only the sort keys of all points are held; the rows are gathered `window_rows` at a time, so
    that memory does not grow with the masks. The bytes depend neither on `window_rows` nor on the
    order of the records.
    """
    scores, splits, image_ids, point_ids = [], [], [], []
    for record in records():
        rows = len(record.rows)
        scores.append(score_key(record.rows["score"]))
        splits.append(np.full(rows, record.info.split))
        image_ids.append(record.rows["image_id"].to_numpy())
        point_ids.append(record.rows["point_id"].to_numpy())
    if not scores:
        write_table(path, (), QUEUE_SCHEMA)
        return
    order = worst_first(*(np.concatenate(keys) for keys in (scores, splits, image_ids, point_ids)))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))

    def windows() -> Iterator[pa.Table]:
        for first in range(0, len(ranks), window_rows):
            yield _gather(records, ranks, first, min(first + window_rows, len(ranks)), dataset)

    write_table(path, windows(), QUEUE_SCHEMA)


def write_table(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Write tables of a schema as one file, atomically: the bytes depend on the rows alone.

    Returns:
        The number of rows.
    """
    rows = 0
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for table in _row_groups(tables):
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            rows += len(table)
    return rows


def score_key(scores: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return (N,) float64 scores to sort by: a missing score, null or NaN, is the worst."""
    values = pc.fill_null(scores.cast(pa.float64()), -np.inf).to_numpy()
    return np.where(np.isnan(values), -np.inf, values)


def worst_first(
    scores: NDArray[np.float64],
    splits: NDArray[Any],
    image_ids: NDArray[np.int64],
    point_ids: NDArray[np.int32],
) -> NDArray[np.intp]:
    """Return the (N,) order of the queue: by score, ties by split (or its rank), image, point."""
    return np.lexsort((point_ids, image_ids, splits, scores))


def _gather(
    records: Records, ranks: NDArray[np.int64], first: int, stop: int, dataset: str
) -> pa.Table:
    """Return the queue's rows of ranks first <= rank < stop, in order."""
    tables, wanted_ranks = [], []
    at = 0
    for record in records():
        of_image = ranks[at : at + len(record.rows)]
        at += len(record.rows)
        chosen = np.flatnonzero((of_image >= first) & (of_image < stop))
        names = pa.table(
            {
                "dataset": pa.repeat(dataset, len(chosen)),
                "split": pa.repeat(record.info.split, len(chosen)),
            }
        )
        columns = [*names.columns, *record.rows.take(chosen).columns]
        tables.append(pa.Table.from_arrays(columns, schema=QUEUE_SCHEMA))
        wanted_ranks.append(of_image[chosen])
    return pa.concat_tables(tables).take(np.argsort(np.concatenate(wanted_ranks)))


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables and cut them at fixed rows: the bytes depend on the rows alone."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        if rows >= ROW_GROUP_ROWS:
            joined = pa.concat_tables(waiting)
            whole = rows - rows % ROW_GROUP_ROWS
            yield joined.slice(0, whole).combine_chunks()
            waiting, rows = [joined.slice(whole)], rows - whole
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()
