"""The run record `run.json`, written last of all: what a finished run says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.findings import one_line
from dpmo_cli.outputs.json_values import as_object, as_text
from dpmo_cli.outputs.schema import SCHEMA_VERSION

RUN_FILE = "run.json"


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
            raise ValueError(
                f"version is {document.get('version')}, not {SCHEMA_VERSION}; run its command again"
            )
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
            raise UsageError(
                f"{out}: holds no finished run (no {RUN_FILE}); give a folder that dpmo wrote, or "
                "finish its run"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            problem = f"is no run record ({one_line(error)})"
            raise InputError(path, problem, "convert again") from error


def root_of(out: Path) -> str | None:
    """Return the dataset's root that a run names; None where no readable run record does."""
    try:
        root = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))["root"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return root if isinstance(root, str) else None
