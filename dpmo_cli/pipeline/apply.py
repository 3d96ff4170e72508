"""Decisions brought home: the outputs of a finished run written again with its corrections."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dpmo_cli.outputs.atomic import OutputError
from dpmo_cli.outputs.corrections import Correction, write_corrections
from dpmo_cli.outputs.run_file import no_run
from dpmo_cli.pipeline.finish import (
    COMPUTED,
    Finished,
    is_finished,
    tally,
    write_outputs,
    write_run_document,
)
from dpmo_cli.pipeline.settings import Settings
from dpmo_cli.pipeline.store import FOLDER, Store

_NEW = "corrections.new"


@dataclass(frozen=True)
class Applied:
    """What stands in the folder, and whether anything had to be written."""

    finished: Finished
    changed: bool


def apply_corrections(out: Path, corrections: Iterable[Correction]) -> Applied:
    """Take a snapshot of decisions, and write the outputs of a run as they say.

    The records stay automatic. Interrupted at any moment, the same call leads to the same bytes;
    with the same corrections a second one changes none.

    Args:
        out: the folder of a finished run.
        corrections: ordered by person, open ones left out.

    Raises:
        UsageError: the folder holds no finished run, or somebody is writing there.
        DrawnOverlapError: two masks that people drew overlap; nothing was written.
    """
    if not (out / FOLDER).is_dir():
        raise no_run(out)
    with Store(out) as store:
        document = store.run_document()
        settings = Settings.of_json(document["settings"])
        new = store.folder / _NEW
        count = write_corrections(new, corrections)
        if _stands(store, new, count) and is_finished(store, settings):
            finished = Finished.of_document(document) or tally(store, new)
            new.unlink()
            store.end_again()
            return Applied(finished, False)
        finished = tally(store, new)
        store.begin_again()
        try:
            if count:
                os.replace(new, store.corrections)
            else:
                new.unlink()
                store.corrections.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(store.corrections, error) from error
        write_outputs(store, settings)
        about = {name: value for name, value in document.items() if name not in COMPUTED}
        write_run_document(store, finished, about)
        store.end_again()
        return Applied(finished, True)


def _stands(store: Store, new: Path, count: int) -> bool:
    """Whether the outputs are to be made with the snapshot that is there."""
    if not store.corrections.exists():
        return not count
    return filecmp.cmp(new, store.corrections, shallow=False)
