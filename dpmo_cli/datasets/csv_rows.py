"""Rows of small CSV tables: columns by name, in any order and case, others ignored."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dpmo_cli.datasets.paths import read_text
from dpmo_cli.errors import InputError

MEND = "correct the table"


def checked_header(
    path: Path, header: Sequence[str], required: Sequence[str], known: Sequence[str]
) -> list[str]:
    """The names of the columns, in small letters.

    Raises:
        InputError: a required column is missing, or a known one is there twice.
    """
    names = [name.strip().lower() for name in header]
    for column in known:
        if names.count(column) > 1:
            raise InputError(path, f"has two columns {column}", MEND)
    missing = [column for column in required if column not in names]
    if missing:
        problem = f"expected the columns {', '.join(required)}, {', '.join(missing)} missing"
        raise InputError(path, problem, "name the columns in the first line")
    return names


def read_rows(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table that are not empty, each with the number of its line.

    Args:
        path: the table, UTF-8, its first line the names of the columns.
        required, optional: the columns that are used; `image` must be filled where it is one.

    Raises:
        InputError: the table can't be read, lacks a column, or a row names no image.
    """
    used = (*required, *optional)
    rows = csv.reader(io.StringIO(read_text(path, MEND), newline=""))
    line = 1
    try:
        names = checked_header(path, next(rows, []), required, used)
        places = {name: names.index(name) for name in used if name in names}
        line = rows.line_num + 1
        for row in rows:
            if row:
                found = {
                    name: row[place] if place < len(row) else "" for name, place in places.items()
                }
                if not found.get("image", "-").strip():
                    raise InputError(path, f"line {line} names no image", MEND)
                yield line, found
            line = rows.line_num + 1
    except csv.Error as error:
        raise InputError(path, f"line {line}: can't be read ({error})", MEND) from error


def number_in(path: Path, line: int, row: dict[str, str], column: str) -> float:
    """The finite number that a row has in a column.

    Raises:
        InputError: there is none.
    """
    text = row.get(column, "").strip()
    try:
        number = float(text)
        if np.isfinite(number):
            return number
    except ValueError:
        pass
    problem = f"line {line}: expected {column} to be a number, found {text!r}"
    raise InputError(path, problem, MEND)
