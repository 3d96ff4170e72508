"""Finds out which dataset lies at a root, and says why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpmo_cli.datasets.paths import checked_root
from dpmo_cli.datasets.reader import POSSIBLE, Evidence
from dpmo_cli.datasets.registry import READERS
from dpmo_cli.errors import InputError, UsageError


@dataclass(frozen=True)
class Detection:
    """A dataset that may lie at a root.

    Attributes:
        name: one of `DATASET_NAMES`.
        confidence: 0 to 1; 1 where nothing speaks against it.
        why: what was found, one line.
    """

    name: str
    confidence: float
    why: str


def detect(root: Path) -> list[Detection]:
    """All datasets that may lie at a root, the surest first; empty when none does.

    A dataset is detected when its reader can open the root; nothing is decoded. A table or list
    that is there but broken counts as possible, so that its fault is shown and not passed over.

    Raises:
        UsageError: the root is missing or no folder.
    """
    checked_root(root)
    found: list[Detection] = []
    for name, reader in READERS.items():
        try:
            evidence = reader(root).evidence()
        except UsageError:
            continue
        except InputError as error:
            evidence = Evidence(POSSIBLE, str(error))
        found.append(Detection(name, evidence.confidence, evidence.why))
    return sorted(found, key=lambda one: -one.confidence)
