"""Points that any localiser predicted, read from one file or from a folder of text files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.csv_rows import number_in, read_rows
from dpmo_cli.datasets.names import Matched, image_key, match_entries
from dpmo_cli.datasets.nwpu_lines import read_lines
from dpmo_cli.datasets.paths import listed, read_text
from dpmo_cli.errors import InputError, UsageError

CSV, NWPU, TEXT = "csv", "nwpu", "text"
FORMATS = "a CSV of image,x,y[,score], NWPU's lines `id count x y ...`, or lines `x y` of one image"

_SUFFIX = ".txt"
_REQUIRED = ("image", "x", "y")
_FEW_NUMBERS = 3
"""A line of one point has at most x, y and a score; NWPU's lines are longer, save empty ones."""


@dataclass(frozen=True)
class FoundPoints:
    """The points predicted in one image.

    Attributes:
        points_xy: (N, 2) float64 px, finite; nothing says that they lie in the image.
        scores: (N,) float64, or None where the file has none.
    """

    points_xy: NDArray[np.float64]
    scores: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.points_xy)


@dataclass(frozen=True)
class PointFile:
    """Predicted points by image.

    Attributes:
        path: the file or folder.
        format: CSV, NWPU or TEXT.
        entries: the path of each image without suffix -> its points. An image may have none.
    """

    path: Path
    format: str
    entries: Mapping[str, FoundPoints]

    def match(self, file_names: Sequence[str]) -> Matched[FoundPoints]:
        """Give the points to images: by path without suffix, else by name where only one bears it.

        Args:
            file_names: of all the images that there are, relative, with "/".

        Raises:
            InputError: an image fits several entries, or an entry several images.
        """
        return match_entries(self.path, self.entries, file_names)


def read_point_file(path: Path) -> PointFile:
    """Read predicted points; what the file holds says in which format.

    - CSV: a header with the columns image, x, y and maybe score, in any order and case, others
      ignored. A row whose x and y are empty lists an image without points.
    - NWPU-Crowd's submission: `id count x y x y ...`, one image a line; ids with or without `.jpg`.
    - Text, as P2PNet's users write it: one point a line, `x y` or `x,y` and maybe a score, the file
      named as the image. A folder of such `.txt` files, also in sub-folders, is many images.

    Raises:
        UsageError: there is no such file or folder, or a folder without text files.
        InputError: what is wrong with a file, and in which line.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; give {FORMATS}")
    text = read_text(path, f"give {FORMATS}")
    format_name = _detect(path, text)
    if format_name == CSV:
        return PointFile(path, CSV, _read_csv(path))
    if format_name == NWPU:
        tables = read_lines(path, text, columns=2)
        return PointFile(path, NWPU, {name: FoundPoints(xy) for name, xy in tables.items()})
    return PointFile(path, TEXT, {image_key(path.stem): _read_points(path, text)})


def has_text_files(folder: Path) -> bool:
    """Whether a folder, or one in it, holds a `.txt` file."""
    return bool(_text_files(folder))


def _detect(path: Path, text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(path, "is empty", f"give {FORMATS}")
    first = {name.strip().lower() for name in lines[0].split(",")}
    if first & set(_REQUIRED):
        return CSV
    rows = [_split(line) for line in lines]
    is_long = [len(row) > _FEW_NUMBERS for row in rows]
    of_nobody = [len(row) == 2 and row[1] == "0" for row in rows]
    if is_long[0] or (of_nobody[0] and (any(is_long) or all(of_nobody))):
        if "," not in lines[0]:
            return NWPU
    elif len(rows[0]) > 1 and all(_is_number(token) for token in rows[0]):
        return TEXT
    shown = lines[0].strip()[:40]
    mend = f"give {FORMATS}" if "," not in shown else "name the columns in the first line"
    raise InputError(path, f"line 1: {shown!r} begins no known format", mend)


def _split(line: str) -> list[str]:
    return line.replace(",", " ").split()


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _read_csv(path: Path) -> dict[str, FoundPoints]:
    points: dict[str, list[tuple[float, float]]] = {}
    scores: dict[str, list[float]] = {}
    spelled: dict[str, PurePosixPath] = {}
    with_scores = False
    for line, row in read_rows(path, _REQUIRED, ("score",)):
        name = image_key(row["image"])
        image = PurePosixPath(row["image"].strip().replace("\\", "/"))
        if spelled.setdefault(name, image) != image:
            problem = f"line {line}: {image} and {spelled[name]} differ in their suffix alone"
            raise InputError(path, problem, "give each image one name")
        of_image, of_scores = points.setdefault(name, []), scores.setdefault(name, [])
        if not row["x"].strip() and not row["y"].strip():
            continue
        of_image.append((number_in(path, line, row, "x"), number_in(path, line, row, "y")))
        if "score" in row:
            with_scores = True
            of_scores.append(number_in(path, line, row, "score"))
    return {
        name: FoundPoints(
            np.array(xy, dtype=np.float64).reshape(-1, 2),
            np.array(scores[name], dtype=np.float64) if with_scores else None,
        )
        for name, xy in points.items()
    }


def _read_folder(folder: Path) -> PointFile:
    entries: dict[str, FoundPoints] = {}
    files = _text_files(folder)
    if not files:
        raise UsageError(f"{folder}: holds no {_SUFFIX} file of points; give {FORMATS}")
    for path in files:
        name = image_key(path.relative_to(folder).with_suffix("").as_posix())
        if name in entries:
            raise InputError(path, f"is a second file of image {name}", "leave one of them out")
        entries[name] = _read_points(path, read_text(path, "write it again"))
    with_scores = any(found.scores is not None for found in entries.values())
    if with_scores:
        empty = np.zeros(0)
        entries = {
            name: replace(found, scores=empty) if not len(found) else found
            for name, found in entries.items()
        }
    return PointFile(folder, TEXT, entries)


def _text_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in listed(folder):
        if path.is_dir() and not path.is_symlink():
            found += _text_files(path)
        elif path.suffix.lower() == _SUFFIX:
            found.append(path)
    return found


def _read_points(path: Path, text: str) -> FoundPoints:
    """The points of one image, one a line."""
    rows: list[list[float]] = []
    for line, content in enumerate(text.splitlines(), start=1):
        tokens = _split(content)
        if not tokens:
            continue
        try:
            row = [float(token) for token in tokens]
        except ValueError:
            row = []
        if not 2 <= len(row) <= _FEW_NUMBERS or not np.isfinite(row).all():
            problem = f"line {line}: expected `x y` or `x y score`, found {content.strip()[:40]!r}"
            raise InputError(path, problem, "write one point a line, numbers alone")
        if rows and len(row) != len(rows[0]):
            problem = f"line {line}: {len(row)} numbers, {len(rows[0])} in the lines before"
            raise InputError(path, problem, "give all points a score, or none")
        rows.append(row)
    if not rows:
        return FoundPoints(np.zeros((0, 2)))
    table = np.array(rows, dtype=np.float64)
    return FoundPoints(table[:, :2], table[:, 2] if table.shape[1] > 2 else None)
