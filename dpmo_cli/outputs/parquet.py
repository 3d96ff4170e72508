"""The tables of a run: `points/<split>.parquet` and `review/queue.parquet`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dpmo_cli.outputs.atomic import OutputError, atomic_path
from dpmo_cli.outputs.records import Records
from dpmo_cli.outputs.schema import POINT_SCHEMA, QUEUE_SCHEMA

ROW_GROUP_ROWS = 1 << 14
QUEUE_WINDOW_ROWS = 1 << 14
"""Rows of the queue that are sorted at once, and so held in memory."""
_RANK = "rank"


def write_points(path: Path, records: Records) -> None:
    """Write one row per point of POINT_SCHEMA, in the order of the records, streaming."""
    write_table(
        path, (record.rows.select(POINT_SCHEMA.names) for record in records()), POINT_SCHEMA
    )


def write_queue(
    path: Path, records: Records, dataset: str, *, window_rows: int = QUEUE_WINDOW_ROWS
) -> None:
    """Write every point of all splits, worst first, as QUEUE_SCHEMA.

    Only the sort keys of all points are held, some 40 bytes each; the rows wait in a nameless
    file beside `path` and are sorted `window_rows` at a time, so that memory does not grow with
    the masks. The bytes depend neither on `window_rows` nor on the order of the records.
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
    del scores, splits, image_ids, point_ids, order
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent) as spool:
            write_table(path, _sorted(records, ranks, dataset, window_rows, spool), QUEUE_SCHEMA)
    except OSError as error:
        raise OutputError(path, error) from error


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


def _sorted(
    records: Records, ranks: NDArray[np.int64], dataset: str, window_rows: int, spool: IO[bytes]
) -> Iterator[pa.Table]:
    """Yield the queue's rows by rank, `window_rows` at a time; the others wait in `spool`."""
    pieces: list[list[int]] = [[] for _ in range(-(-len(ranks) // window_rows))]
    for part in _joined(_ranked(records, ranks, dataset), window_rows):
        table = part.take(np.argsort(part[_RANK].to_numpy()))
        window = table[_RANK].to_numpy() // window_rows
        edges = [0, *(np.flatnonzero(np.diff(window)) + 1).tolist(), len(window)]
        for first, stop in itertools.pairwise(edges):
            pieces[window[first]].append(spool.tell())
            with pa.ipc.new_stream(spool, table.schema) as stream:
                stream.write_table(table.slice(first, stop - first))
    for starts in pieces:
        tables = []
        for start in starts:
            spool.seek(start)
            with pa.ipc.open_stream(spool) as stream:
                tables.append(stream.read_all())
        table = pa.concat_tables(tables)
        yield table.take(np.argsort(table[_RANK].to_numpy())).drop_columns(_RANK)


def _ranked(records: Records, ranks: NDArray[np.int64], dataset: str) -> Iterator[pa.Table]:
    """Yield the queue's rows of each record, with their ranks as the last column."""
    at = 0
    for record in records():
        rows = len(record.rows)
        names = [pa.repeat(dataset, rows), pa.repeat(record.info.split, rows)]
        columns = [*names, *record.rows.columns, pa.array(ranks[at : at + rows])]
        at += rows
        schema = QUEUE_SCHEMA.append(pa.field(_RANK, pa.int64()))
        yield pa.Table.from_arrays(columns, schema=schema)


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables and cut them at fixed rows: the bytes depend on the rows alone."""
    return _joined(tables, ROW_GROUP_ROWS)


def _joined(tables: Iterable[pa.Table], step: int) -> Iterator[pa.Table]:
    """Join small tables to multiples of `step` rows; the last may have any number."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        if rows >= step:
            joined = pa.concat_tables(waiting)
            whole = rows - rows % step
            yield joined.slice(0, whole).combine_chunks()
            waiting, rows = [joined.slice(whole)], rows - whole
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()
