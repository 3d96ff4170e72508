"""The datasets that dpmo reads, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from dpmo_cli.datasets.base import Dataset
from dpmo_cli.datasets.csv import CsvPoints
from dpmo_cli.datasets.jhu import Jhu
from dpmo_cli.datasets.nwpu import Nwpu
from dpmo_cli.datasets.paths import listed
from dpmo_cli.datasets.qnrf import Qnrf, UcfCc50
from dpmo_cli.datasets.reader import Reader
from dpmo_cli.datasets.shanghaitech import ShanghaiTechA, ShanghaiTechB
from dpmo_cli.errors import InputError, UsageError

AUTO = "auto"

READERS: Mapping[str, type[Reader]] = {
    reader.name: reader
    for reader in (ShanghaiTechA, ShanghaiTechB, Qnrf, Jhu, Nwpu, UcfCc50, CsvPoints)
}
DATASET_NAMES = tuple(READERS)
ALIASES: Mapping[str, str] = {"sha": ShanghaiTechA.name, "shb": ShanghaiTechB.name}


def open_dataset(name: str, root: Path) -> Dataset:
    """Open a dataset at a root.

    Args:
        name: one of `DATASET_NAMES` or `ALIASES` in any case, or "auto" to find out which it is.
        root: the dataset's folder, or the folder that holds it under its usual name.

    Raises:
        UsageError: the name is unknown, the root is missing or does not hold the dataset, or
            "auto" finds none or more than one.
        InputError: the one table of a csv dataset can't be used.
    """
    wanted = name.strip().lower().replace("_", "-")
    if wanted == AUTO:
        wanted = _only_detected(root)
    reader = READERS.get(ALIASES.get(wanted, wanted))
    if reader is None:
        known = (*DATASET_NAMES, *ALIASES, AUTO)
        close = difflib.get_close_matches(wanted, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise UsageError(f"unknown dataset {name!r}{hint} Known: {', '.join(known)}")
    try:
        return reader(root)
    except UsageError as error:
        below = _below(root, reader)
        if below is None:
            raise
        raise UsageError(
            f"{root} holds no {reader.name} itself, but {below} looks like it; "
            f"give that one with --root"
        ) from error


def _below(root: Path, reader: type[Reader]) -> Path | None:
    """The first folder in a root that a reader can open; None where there is none."""
    for child in listed(root):
        try:
            reader(child)
        except (UsageError, InputError):
            continue
        return child
    return None


def _only_detected(root: Path) -> str:
    # Here because detection in turn tries the readers of this table.
    from dpmo_cli.datasets.detect import detect

    found = detect(root)
    if not found:
        for reader in READERS.values():
            if (below := _below(root, reader)) is not None:
                raise UsageError(
                    f"no known dataset found in {root}, but {below} looks like {reader.name}; "
                    "give that one with --root"
                )
        raise UsageError(f"no known dataset found in {root}; name it with --dataset")
    best = [one for one in found if one.confidence == found[0].confidence]
    if len(best) > 1:
        names = " and ".join(one.name for one in best)
        raise UsageError(f"{root} may be {names}; say which with --dataset")
    return best[0].name
