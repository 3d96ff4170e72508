"""Points of one's own: `ROOT/points.csv` with the columns image, x, y and optionally id, split."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from dpmo_cli.datasets.base import Heads, ImageEntry
from dpmo_cli.datasets.csv_rows import MEND, checked_header
from dpmo_cli.datasets.reader import CERTAIN, Evidence, Reader
from dpmo_cli.errors import InputError, UsageError

POINTS_FILE = "points.csv"

_COLUMNS = ("image", "x", "y", "id", "split")
_REQUIRED = _COLUMNS[:3]
_NO_SPLIT = "all"
_USUAL_ORDER = ("train", "val", "test", _NO_SPLIT)
# Splits become names of output files, so only plain words are taken.
_SPLIT_NAME = re.compile(r"[a-z0-9_][a-z0-9_-]{0,63}")


@dataclass
class _Run:
    """Neighbouring rows of one image: bytes `start` to `stop` of the table."""

    start: int
    stop: int
    first_line: int


class CsvPoints(Reader):
    """A table of points for photos that lie anywhere under the root.

    Only the places of each image's rows are kept: memory grows with the number of images, as
    long as the rows of an image stand together.
    """

    name = "csv"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.table_path = self.root / POINTS_FILE
        if not self.table_path.is_file():
            columns = ", ".join(_REQUIRED)
            raise UsageError(f"{self.root} holds no {POINTS_FILE} (columns {columns}, id, split)")
        self._header: list[str] = []
        self._runs = self._index()

    def splits(self) -> tuple[str, ...]:
        """The values of the split column, the usual ones first; `all` without that column."""
        found = {split for split, _ in self._runs}
        usual = [split for split in _USUAL_ORDER if split in found]
        return (*usual, *sorted(found.difference(usual)))

    def evidence(self) -> Evidence:
        """A table with the right columns leaves no doubt."""
        return Evidence(CERTAIN, f"{self.table_path} has the columns {', '.join(_REQUIRED)}")

    def _list(self, split: str) -> Iterable[ImageEntry]:
        for of_split, image in self._runs:
            if of_split == split:
                yield ImageEntry(split, image, self.root / image, annotation_path=None)

    def _read(self, entry: ImageEntry) -> Heads:
        points: list[tuple[float, float]] = []
        ids: list[str] = []
        for line, row in self._rows_of(entry):
            point = self._point(line, row)
            if point is not None:
                points.append(point)
                ids.append(row.get("id", ""))
        return Heads(
            np.array(points, dtype=np.float64).reshape(len(points), 2),
            external_ids=tuple(ids) if "id" in self._header else None,
        )

    def _point(self, line: int, row: dict[str, str]) -> tuple[float, float] | None:
        """The point of a row; None where x and y are empty (the image is listed, without one)."""
        texts = [row.get("x", "").strip(), row.get("y", "").strip()]
        if texts == ["", ""]:
            return None
        try:
            x, y = map(float, texts)
        except ValueError as error:
            found = " and ".join(repr(text) for text in texts)
            problem = f"line {line}: expected x and y to be numbers, found {found}"
            raise InputError(self.table_path, problem, MEND) from error
        return x, y

    def _rows_of(self, entry: ImageEntry) -> Iterator[tuple[int, dict[str, str]]]:
        """The rows of an image with the number of their line."""
        try:
            with self.table_path.open("rb") as file:
                for run in self._runs[entry.split, entry.file_name]:
                    file.seek(run.start)
                    text = file.read(run.stop - run.start).decode("utf-8")
                    rows = csv.reader(io.StringIO(text, newline=""))
                    line = run.first_line
                    for row in rows:
                        yield line, dict(zip(self._header, row, strict=False))
                        line = run.first_line + rows.line_num
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(self.table_path, f"can't be read ({error})", MEND) from error

    def _index(self) -> dict[tuple[str, str], list[_Run]]:
        """Go through the table once; gives the runs of rows by split and image."""
        runs: dict[tuple[str, str], list[_Run]] = {}
        line = 1
        try:
            with self.table_path.open("rb") as file:
                lines = _Lines(file)
                rows = csv.reader(lines)
                self._header = checked_header(self.table_path, next(rows, []), _REQUIRED, _COLUMNS)
                start, line = lines.position, rows.line_num + 1
                for row in rows:
                    if row:
                        key = self._key(line, dict(zip(self._header, row, strict=False)))
                        of_image = runs.setdefault(key, [])
                        if of_image and of_image[-1].stop == start:
                            of_image[-1].stop = lines.position
                        else:
                            of_image.append(_Run(start, lines.position, line))
                    start, line = lines.position, rows.line_num + 1
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            problem = f"line {line}: can't be read ({error})"
            raise InputError(self.table_path, problem, MEND) from error
        return runs

    def _key(self, line: int, row: dict[str, str]) -> tuple[str, str]:
        image = row.get("image", "")
        if not image.strip():
            raise InputError(self.table_path, f"line {line} names no image", MEND)
        split = row.get("split", "").strip().lower() or _NO_SPLIT
        if not _SPLIT_NAME.fullmatch(split):
            problem = f"line {line}: the split {split!r} is no plain word"
            raise InputError(self.table_path, problem, MEND)
        # "./a.jpg" and "a.jpg" are one image; names that lead outside are refused when read.
        return split, PurePosixPath(image).as_posix()


class _Lines:
    """Decoded lines of a table, and the byte at which the next one begins."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        encoding = "utf-8-sig" if self.position == 0 else "utf-8"
        self.position += len(line)
        return line.decode(encoding)
