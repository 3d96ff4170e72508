"""Numbers out of annotations: tables of points and boxes, and MATLAB variables."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.paths import read_capped
from dpmo_cli.datasets.quiet import LIBRARY_WARNINGS_IGNORED
from dpmo_cli.errors import InputError

COPY_AGAIN = "copy the file again from the dataset's release"

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A MAT v7.3 file is HDF5 behind a MATLAB header of 512 bytes.
_HDF5_OFFSETS = (0, 512)


def number_table(path: Path, name: str, value: object, columns: int) -> NDArray[np.float64]:
    """Check a table of real numbers and convert it to float64 at once.

    Re-releases store unsigned integers, whose differences would wrap around.

    Args:
        path: the file it is from, for the message.
        name: what it is called there.
        value: a NumPy array, or nested lists of numbers as JSON gives them (null means NaN).
        columns: the number of columns C.

    Returns:
        (N, C) float64; an empty table of any shape gives (0, C), a bare row of C numbers (1, C).

    Raises:
        InputError: it is no table of numbers or has another number of columns.
    """
    expected = f"expected {name} to be an (N, {columns}) table of numbers"
    table = value if isinstance(value, np.ndarray) else _array_of_lists(value)
    if table is None or (table.size and table.dtype.kind not in "iuf"):
        found = type(value).__name__ if table is None else f"an array of {table.dtype}"
        raise InputError(path, f"{expected}, found {found}", COPY_AGAIN)
    if table.size == 0:
        return np.empty((0, columns), dtype=np.float64)
    if table.shape == (columns,):
        table = table[None]
    if table.ndim != 2 or table.shape[1] != columns:
        raise InputError(path, f"{expected}, found the shape {table.shape}", COPY_AGAIN)
    return np.asarray(table, dtype=np.float64)


def _array_of_lists(value: object) -> NDArray[np.float64] | None:
    """Rows of JSON numbers as an array; None when anything in them is no number."""
    if not isinstance(value, list):
        return None
    rows = value if all(isinstance(row, list) for row in value) else [value]
    for row in rows:
        for number in row:
            # float64 would also take "12", true and deeper lists of one number.
            if isinstance(number, bool) or not isinstance(number, (int, float, type(None))):
                return None
    try:
        table = np.asarray(rows, dtype=np.float64)
    except (ValueError, OverflowError):  # rows of unequal length, or an integer beyond float64
        return None
    return table if rows is value else table[0]


def mat_variable(path: Path, name: str, required: bool = True) -> object:
    """Read one variable of a MATLAB file (v4 to v7); None where an optional one is missing.

    SciPy's reader is not hardened, so it gets only the bytes of a file of bounded size, reads
    only the variable asked for, and whatever it raises becomes an InputError. Nothing in the
    file is executed: MATLAB objects arrive as data and fail the check of the table.

    Raises:
        InputError: the file is missing, no MAT file, of v7.3, damaged, or lacks the variable.
    """
    from scipy.io import loadmat, whosmat

    data = read_capped(path, COPY_AGAIN)
    if not data:
        raise InputError(path, "is empty", COPY_AGAIN)
    if any(data.startswith(_HDF5_SIGNATURE, offset) for offset in _HDF5_OFFSETS):
        raise InputError(
            path, "is a MAT file of version 7.3 (HDF5)", "save it in MATLAB with `save -v7`"
        )
    try:
        with LIBRARY_WARNINGS_IGNORED:
            content = loadmat(BytesIO(data), variable_names=[name])
            names = [name] if name in content else [row[0] for row in whosmat(BytesIO(data))]
    except Exception as error:  # any exception at all may come out of a damaged file
        problem = f"can't be read as a MAT file ({type(error).__name__}: {error})"
        raise InputError(path, problem, COPY_AGAIN) from error
    if name not in content and required:
        found = ", ".join(names) or "no variable"
        raise InputError(path, f"expected the variable {name}, found {found}", COPY_AGAIN)
    return content.get(name)
