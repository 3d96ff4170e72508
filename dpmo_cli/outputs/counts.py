"""`counts.csv`: for each photo the people located in it and the masks that were kept."""

from __future__ import annotations

import csv
from pathlib import Path

from dpmo_cli.outputs.atomic import atomic_path
from dpmo_cli.outputs.records import Records
from dpmo_cli.outputs.schema import NOBODY, OK

COUNT_COLUMNS = ("image", "count", "masks")


def write_counts(path: Path, records: Records) -> None:
    """Write a line per image in the order of the records; empty counts where it can't be read."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COUNT_COLUMNS)
        for record in records():
            name = record.info.file_name
            if record.error is not None:
                table.writerow([name, "", ""])
                continue
            statuses = record.rows["status"].to_pylist()
            people = sum(status not in NOBODY for status in statuses)
            table.writerow([name, people, statuses.count(OK)])
