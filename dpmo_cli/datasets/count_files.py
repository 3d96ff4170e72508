"""How many people were counted in each image: a CSV with the columns image and count."""

from __future__ import annotations

import csv
from pathlib import Path

from dpmo_cli.datasets.csv_rows import MEND, number_in, read_rows
from dpmo_cli.datasets.names import image_key
from dpmo_cli.errors import InputError

COUNTS_FILE = "counts.csv"

_FIRST_BYTES = 4096


def is_count_file(path: Path) -> bool:
    """Whether a file is a table with the columns image and count."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader([file.readline(_FIRST_BYTES)]), [])
    except (OSError, ValueError, csv.Error):
        return False
    return {"image", "count"} <= {name.strip().lower() for name in header}


def read_count_file(path: Path) -> dict[str, float]:
    """Read the count of each image; other columns are ignored.

    Returns:
        Counts, whole or not, at or above 0, by the path of the image without suffix. An image
        whose count is empty is left out: it could not be read.

    Raises:
        InputError: a row is wrong, or an image has two.
    """
    counts: dict[str, float] = {}
    for line, row in read_rows(path, ("image", "count")):
        if row["count"] == "":
            continue
        count = number_in(path, line, row, "count")
        name = image_key(row["image"])
        if count < 0:
            raise InputError(path, f"line {line}: the count {count:g} is below 0", MEND)
        if name in counts:
            raise InputError(path, f"line {line}: a second row of image {name}", MEND)
        counts[name] = count
    return counts
