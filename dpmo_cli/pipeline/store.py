"""The folder `OUT/.dpmo`: one record per image, and for each split what its outputs hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dpmo_cli.datasets.count_files import COUNTS_FILE
from dpmo_cli.datasets.photos import PREDICTIONS
from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.atomic import OutputError, sweep_temporaries, write_bytes, write_text
from dpmo_cli.outputs.corrected import overlay
from dpmo_cli.outputs.findings import CORRECTIONS_FILE, one_line
from dpmo_cli.outputs.locking import hold, in_use
from dpmo_cli.outputs.records import (
    ImageInfo,
    ImageRecord,
    Records,
    read_fingerprint,
    read_info,
    read_record,
    record_path,
    write_record,
)
from dpmo_cli.outputs.run_file import RUN_AGAIN, RUN_FILE, Run, no_run
from dpmo_cli.pipeline.kept import KeptRecords
from dpmo_cli.pipeline.plan import Shard
from dpmo_cli.pipeline.settings import Settings

FOLDER = ".dpmo"
_MEND = "run `dpmo convert` again"


@dataclass(frozen=True)
class Manifest:
    """What the outputs of one split are made of.

    Attributes:
        settings: of the run.
        limit: how many images of the split were asked for; None for all.
        shard: which part of them; None for all.
        listing_sha256: of the whole split as `plan.listing_sha256` sees it; shards of one run
            have one.
        records: fingerprint of the record of each image, by image id.
    """

    settings: Settings
    limit: int | None
    shard: Shard | None
    listing_sha256: str
    records: dict[int, str]

    def dumps(self) -> str:
        """As JSON; equal manifests give equal text."""
        document = asdict(self) | {"records": {str(k): v for k, v in sorted(self.records.items())}}
        return json.dumps(document, indent=1, sort_keys=True) + "\n"

    @classmethod
    def loads(cls, text: str) -> Manifest:
        """Read what `dumps` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        document = json.loads(text)
        shard = document["shard"]
        return cls(
            Settings.of_json(document["settings"]),
            document["limit"],
            None if shard is None else Shard(**shard),
            str(document["listing_sha256"]),
            {int(key): str(value) for key, value in document["records"].items()},
        )


class Store:
    """The records of an output folder. Use it as a context: inside, the folder is locked.

    Whatever changes a record or a manifest first takes the run record away, so that a folder
    with one is finished: no interruption leaves new records under the outputs of an older run.

    Raises:
        UsageError: the folder is a file, or another run holds the lock.
        OutputError: the folder can't be written.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / FOLDER
        self.run_file = out / RUN_FILE
        # No split's manifest can have this name.
        self.set_aside = self.folder / "run.aside"
        self.corrections = out / CORRECTIONS_FILE
        self.kept = KeptRecords(self.folder / "reviewed")

    def __enter__(self) -> Store:
        try:
            if self.out.exists() and not self.out.is_dir():
                raise UsageError(f"--out {self.out}: is a file; name a folder")
        except OSError as error:
            raise OutputError(self.out, error) from error
        self._lock = hold(self.folder / "lock", self.out, in_use(self.out))
        self.kept.clear()
        sweep_temporaries(self.folder, deep=True)
        for name in (".", "annotations", "points", "review"):
            sweep_temporaries(self.out / name)
        return self

    def __exit__(self, *_: object) -> None:
        self.kept.clear()
        self._lock.release()

    def record_path(self, split: str, image_id: int) -> Path:
        """Where the record of an image lies."""
        return record_path(self.out, split, image_id)

    def has(self, split: str, image_id: int, fingerprint: str) -> bool:
        """Whether the record of an image is there and was made from the same things."""
        return read_fingerprint(self.record_path(split, image_id)) == fingerprint

    def splits(self) -> list[str]:
        """Splits that have a manifest, by name."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def manifest(self, split: str) -> Manifest | None:
        """The manifest of a split; None where there is none that can be read."""
        try:
            return Manifest.loads((self.folder / f"{split}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def holds(self, split: str, manifest: Manifest) -> bool:
        """Whether all records of a manifest are there as it says."""
        return all(
            self.has(split, image_id, fingerprint)
            for image_id, fingerprint in manifest.records.items()
        )

    def write_record(self, record: ImageRecord) -> None:
        """Write the record of an image."""
        self.unfinish()
        write_record(self.record_path(record.info.split, record.info.image_id), record)

    def copy_record(self, source: Store, split: str, image_id: int, fingerprint: str) -> None:
        """Copy a record from another folder, unless it is there already."""
        if not self.has(split, image_id, fingerprint):
            self.unfinish()
            content = source.record_path(split, image_id).read_bytes()
            write_bytes(self.record_path(split, image_id), content)

    def write_manifest(self, split: str, manifest: Manifest) -> bool:
        """Write the manifest of a split; false where it is there already."""
        if self.manifest(split) == manifest:
            return False
        self.unfinish()
        write_text(self.folder / f"{split}.json", manifest.dumps())
        return True

    def unfinish(self) -> None:
        """Take the run record away: from here on the folder holds no finished run."""
        _remove(self.set_aside)
        _remove(self.run_file)

    def begin_again(self) -> None:
        """Put the run record aside: as `unfinish`, but `run_document` still reads it."""
        try:
            if self.run_file.exists():
                os.replace(self.run_file, self.set_aside)
        except OSError as error:
            raise OutputError(self.run_file, error) from error

    def end_again(self) -> None:
        """Forget the run record that was put aside: there is a new one."""
        _remove(self.set_aside)

    def run_document(self) -> dict[str, object]:
        """The run record, or the one that was put aside when its outputs were begun again.

        Raises:
            UsageError: the folder holds no finished run.
            InputError: its record can't be read.
        """
        path = self.run_file if self.run_file.exists() else self.set_aside
        try:
            run = Run.read(path)
            settings = Settings.of_json(run.settings(self.out))
            for split in run.split_counts:
                manifest = self.manifest(split)
                if manifest is None or not self.holds(split, manifest):
                    raise UsageError(f"{self.out}: its records can't be read; {_MEND}")
                if manifest.settings != settings:
                    raise UsageError(f"{self.out}: was begun with other settings; {_MEND}")
        except FileNotFoundError:
            raise no_run(self.out) from None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            problem = f"is no run record of this dpmo ({one_line(error)})"
            raise InputError(path, problem, RUN_AGAIN) from error
        return dict(run.document)

    def discard_corrections(self) -> None:
        """Remove the snapshot of decisions: the outputs are to be automatic again."""
        if self.corrections.exists():
            self.unfinish()
            _remove(self.corrections)

    def forget(self, split: str) -> None:
        """Remove a split's manifest and outputs; its records stay until they are written again."""
        self.unfinish()
        paths = [
            self.folder / f"{split}.json",
            self.out / "annotations" / f"{split}.json",
            self.out / "points" / f"{split}.parquet",
        ]
        if split == PREDICTIONS:
            paths.append(self.out / COUNTS_FILE)
        for path in paths:
            _remove(path)

    def reviewed(self, split: str) -> Records:
        """The records of a split with the corrections that have been applied to the run.

        Going through them raises what `records` does, CorrectionsError, and DrawnOverlapError.
        """
        if not self.kept.are_of(self.corrections):
            return overlay(self.records(split), self.corrections, split)

        def walk() -> Iterator[ImageRecord]:
            for image_id in self._image_ids(split):
                kept = self.kept.get(split, image_id)
                yield kept or read_record(self.record_path(split, image_id))

        return walk

    def infos(self, split: str) -> Iterator[ImageInfo]:
        """The images of a split, in the order of their ids. Raises DamagedRecordError."""
        for image_id in self._image_ids(split):
            yield read_info(self.record_path(split, image_id))

    def records(self, split: str) -> Records:
        """The automatic records of a split, in the order of image ids, as often as wanted.

        Going through them raises DamagedRecordError.
        """
        ids = self._image_ids(split)

        def walk() -> Iterator[ImageRecord]:
            for image_id in ids:
                yield read_record(self.record_path(split, image_id))

        return walk

    def _image_ids(self, split: str) -> list[int]:
        manifest = self.manifest(split)
        return sorted(manifest.records) if manifest else []


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(path, error) from error
