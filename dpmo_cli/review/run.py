"""The automatic masks of a finished run, image by image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpmo_cli.errors import InputError
from dpmo_cli.outputs.findings import points_file
from dpmo_cli.outputs.records import ImageRecord, read_record, record_path
from dpmo_cli.outputs.run_file import Run

_MEND = "run `dpmo convert` again"


def automatic_records(out: Path) -> Iterator[ImageRecord]:
    """Yield the record of each image that has points, split after split, one in memory at a time.

    Raises:
        UsageError: `out` holds no finished run.
        InputError: the run record or a table can't be read.
        DamagedRecordError: a record can't be read.
    """
    for split in sorted(Run.of(out).split_counts):
        path = out / points_file(split)
        try:
            with path.open("rb") as file:
                column = pq.read_table(file, columns=["image_id"], partitioning=None)["image_id"]
        except (pa.ArrowException, OSError) as error:
            raise InputError(path, "can't be read", _MEND) from error
        for image_id in sorted(pc.unique(column).to_pylist()):
            yield read_record(record_path(out, split, image_id))
