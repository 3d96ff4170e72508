"""The run record `run.json`, written last of all: what a finished run says of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpmo_cli.errors import GIVE_ROOT, InputError, UsageError
from dpmo_cli.outputs.findings import one_line
from dpmo_cli.outputs.json_values import as_object, as_text
from dpmo_cli.outputs.schema import SCHEMA_VERSION

RUN_FILE = "run.json"
RUN_AGAIN = "run its `dpmo convert`, `predict` or `merge` again; masks that still hold are kept"


@dataclass(frozen=True)
class Run:
    """What a run record must say, checked, beside all that it says.

    Attributes:
        dataset: name of the dataset.
        extent: what a mask is.
        counts: of the whole run.
        split_counts: of each split.
        document: all of it, as it was read.
    """

    dataset: str
    extent: str
    counts: Mapping[str, object]
    split_counts: Mapping[str, Mapping[str, object]]
    document: Mapping[str, object]

    @classmethod
    def read(cls, path: Path) -> Run:
        """Read run.json. ValueError and RecursionError say why it is none; OSError passes."""
        document = as_object(json.loads(path.read_text(encoding="utf-8")), "it")
        if document.get("version") != SCHEMA_VERSION:
            raise ValueError(f"version {document.get('version')}, not {SCHEMA_VERSION}")
        splits = as_object(document.get("splits"), "splits")
        if any(split.startswith(".") or set(split) & set("/\\\0") for split in splits):
            raise ValueError("the name of a split is no file name")
        return cls(
            dataset=as_text(document.get("dataset"), "dataset"),
            extent=as_text(document.get("extent"), "extent"),
            counts=as_object(document.get("counts"), "counts"),
            split_counts={
                split: as_object(as_object(value, split).get("counts"), f"splits.{split}.counts")
                for split, value in splits.items()
            },
            document=document,
        )

    @classmethod
    def of(cls, out: Path) -> Run:
        """Read the record of a run's folder.

        Raises:
            UsageError: it holds no finished run.
            InputError: its record can't be read.
        """
        path = out / RUN_FILE
        try:
            return cls.read(path)
        except (FileNotFoundError, NotADirectoryError):
            raise no_run(out) from None
        except (OSError, ValueError, RecursionError) as error:
            problem = f"is no run record of this dpmo ({one_line(error)})"
            raise InputError(path, problem, RUN_AGAIN) from error

    def settings(self, out: Path) -> Mapping[str, object]:
        """Return what decided the masks of the run in `out`.

        Raises:
            InputError: the record does not say it.
        """
        try:
            return as_object(self.document.get("settings"), "settings")
        except ValueError as error:
            problem = f"is no run record of this dpmo ({error})"
            raise InputError(out / RUN_FILE, problem, RUN_AGAIN) from error


def no_run(out: Path) -> UsageError:
    """The error of a folder that should be a run's and is none."""
    return UsageError(
        f"{out}: holds no finished run; give the folder that `dpmo convert` or `predict` wrote "
        "(its --out), or finish its run"
    )


def root_of(out: Path) -> str | None:
    """Return the dataset's root that a run names; None where no readable run record does.

    What no path can be, with a NUL or half a character, is no root.
    """
    try:
        root = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))["root"]
        if b"\0" in os.fsencode(root):
            return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return root if isinstance(root, str) else None


def photos_of(out: Path) -> Path:
    """Return the folder of a run's photos that its record names.

    Raises:
        UsageError: it names none.
    """
    root = root_of(out)
    if root is None:
        raise UsageError(f"{out}/{RUN_FILE} does not say where the photos are; {GIVE_ROOT}")
    return Path(root)
