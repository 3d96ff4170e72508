"""Corrected records on disk while outputs are made of them, so that each is made once."""

from __future__ import annotations

import shutil
from pathlib import Path

from dpmo_cli.outputs.atomic import OutputError, sha256_file
from dpmo_cli.outputs.records import ImageRecord, read_corrected, write_corrected


class KeptRecords:
    """The records that a snapshot of corrections changes, as it changes them.

    Args:
        folder: where they lie; it is removed by `clear`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._snapshot = ""

    def clear(self) -> None:
        """Forget all of them, and what a killed run left."""
        self._snapshot = ""
        shutil.rmtree(self._folder, ignore_errors=True)

    def put(self, record: ImageRecord) -> None:
        """Keep a record.

        Raises:
            OutputError: it can't be written.
        """
        write_corrected(self._path(record.info.split, record.info.image_id), record)

    def complete(self, snapshot: Path) -> None:
        """Say that all records that a snapshot changes are kept."""
        self._snapshot = _sign(snapshot)

    def are_of(self, snapshot: Path) -> bool:
        """Whether they are all that this snapshot changes."""
        return bool(self._snapshot) and self._snapshot == _sign(snapshot)

    def get(self, split: str, image_id: int) -> ImageRecord | None:
        """A record, None where the snapshot leaves it as it is.

        Raises:
            DamagedRecordError: the file is no longer whole.
        """
        path = self._path(split, image_id)
        return read_corrected(path) if path.exists() else None

    def _path(self, split: str, image_id: int) -> Path:
        return self._folder / split / f"{image_id:08d}.parquet"


def _sign(snapshot: Path) -> str:
    """The hash of a snapshot; a word where there is none."""
    try:
        return sha256_file(snapshot)
    except FileNotFoundError:
        return "none"
    except OSError as error:
        raise OutputError(snapshot, error) from error
