"""NWPU-Crowd's lists of heads, one image a line: submissions, and the truth with sigmas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.paths import read_text
from dpmo_cli.errors import InputError, UsageError

LEVELS = ("1 to 10", "10 to 100", "100 to 1,000", "1,000 to 10,000", "10,000 to 100,000", "more")
"""The area levels of heads, px: each holds its upper end."""
LEVEL_EDGES_PX = (1e1, 1e2, 1e3, 1e4, 1e5)

_MEND = "correct the line"
_LOC_COLUMNS = 5
_ID_DIGITS = 4


@dataclass(frozen=True)
class SizedHeads:
    """The heads of one image as NWPU-Crowd's localisation truth gives them.

    Attributes:
        points_xy: (N, 2) float64 px.
        sigma_small_px, sigma_large_px: (N,) float64, half the shorter side of each head's box,
            and half its diagonal.
        levels: (N,) int64, index of each head's area in LEVELS.
    """

    points_xy: NDArray[np.float64]
    sigma_small_px: NDArray[np.float64]
    sigma_large_px: NDArray[np.float64]
    levels: NDArray[np.int64]


def read_sized_heads(path: Path) -> dict[str, SizedHeads]:
    """Read `val_gt_loc.txt`: `id count`, then `x y sigma_s sigma_l level` of each head.

    Returns:
        The heads by the name of their image, without suffix.

    Raises:
        UsageError: there is no such file.
        InputError: a line is wrong, or an image has two.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give NWPU's val_gt_loc.txt with --gt-loc")
    heads = {}
    for name, table in read_lines(path, read_text(path, _MEND), _LOC_COLUMNS).items():
        sigmas, levels = table[:, 2:4], table[:, 4]
        if (sigmas < 0).any() or not np.isin(levels, np.arange(len(LEVELS))).all():
            problem = f"image {name}: a sigma is below 0, or a level is none of 0 to 5"
            raise InputError(path, problem, _MEND)
        heads[name] = SizedHeads(table[:, :2], sigmas[:, 0], sigmas[:, 1], levels.astype(np.int64))
    return heads


def read_lines(path: Path, text: str, columns: int) -> dict[str, NDArray[np.float64]]:
    """Read lines of `id count`, followed by `columns` numbers for each head.

    Args:
        path: where the text is from, for messages.
        text: the whole file; empty lines are passed over.
        columns: 2 for submissions, 5 for the truth.

    Returns:
        (N, columns) float64, finite, by the name of the image: the id without `.jpg`, with
        leading zeros as NWPU's files have them.

    Raises:
        InputError: a line is wrong, or an image has two.
    """
    tables: dict[str, NDArray[np.float64]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        tokens = line.split()
        if not tokens:
            continue
        try:
            name, table = _parse(tokens, columns)
            if name in tables:
                raise ValueError(f"a second line of image {name}")
        except ValueError as error:
            raise InputError(path, f"line {number}: {error}", _MEND) from error
        tables[name] = table
    return tables


def _parse(tokens: list[str], columns: int) -> tuple[str, NDArray[np.float64]]:
    """The image and the heads of a line; ValueError says what is wrong with it."""
    name, *rest = tokens
    if not rest or not rest[0].isascii() or not rest[0].isdigit():
        found = repr(rest[0]) if rest else "nothing"
        raise ValueError(f"expected a count behind the image's id, found {found}")
    count, numbers = int(rest[0]), rest[1:]
    if len(numbers) != count * columns:
        like_truth = columns != _LOC_COLUMNS and count and len(numbers) == count * _LOC_COLUMNS
        hint = "; this is a truth with sigmas, for --gt-loc" if like_truth else ""
        raise ValueError(
            f"{count} heads have {count * columns} numbers, found {len(numbers)}{hint}"
        )
    table = _numbers(numbers)
    bare = name[:-4] if name.lower().endswith(".jpg") else name
    if bare.isascii() and bare.isdigit():
        bare = bare.zfill(_ID_DIGITS)
    return bare, table.reshape(count, columns)


def _numbers(texts: list[str]) -> NDArray[np.float64]:
    try:
        numbers = np.array(texts, dtype=np.float64)
        if np.isfinite(numbers).all():
            return numbers
    except ValueError:
        pass
    raise ValueError(
        f"expected numbers, found {next(text for text in texts if not _is_number(text))!r}"
    )


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
