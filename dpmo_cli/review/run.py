"""The automatic masks of a finished run, image by image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.records import ImageRecord, read_record, record_path

_MEND = "run `dpmo convert` again"


def automatic_records(out: Path) -> Iterator[ImageRecord]:
    """Yield the record of each image that has points, split after split, one in memory at a time.

    Raises:
        UsageError: `out` holds no finished run.
        InputError: a table can't be read.
        DamagedRecordError: a record can't be read.
    """
    if not (out / "run.json").is_file():
        raise UsageError(f"{out}: holds no finished run; give the folder that `dpmo convert` wrote")
    for path in sorted((out / "points").glob("[!.]*.parquet")):
        try:
            with path.open("rb") as file:
                column = pq.read_table(file, columns=["image_id"], partitioning=None)["image_id"]
        except (pa.ArrowException, OSError) as error:
            raise InputError(path, "can't be read", _MEND) from error
        for image_id in sorted(pc.unique(column).to_pylist()):
            yield read_record(record_path(out, path.stem, image_id))
