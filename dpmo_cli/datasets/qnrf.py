"""UCF-QNRF (`Train`, `Test`) and UCF_CC_50 (flat): `img_0001.jpg` beside `img_0001_ann.mat`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dpmo_cli.datasets.base import Heads, ImageEntry
from dpmo_cli.datasets.reader import (
    CERTAIN,
    LIKELY,
    POSSIBLE,
    Evidence,
    PairedReader,
    Pairing,
    SplitFolders,
    existing_splits,
)
from dpmo_cli.datasets.tables import mat_variable, number_table

_SPLIT_NAMES = {"train": ("Train",), "test": ("Test",)}


class _AnnPoints(PairedReader):
    """Annotations with one variable, `annPoints` (N, 2), beside the image."""

    pairing = Pairing(prefix="", suffix="_ann.mat")

    def _read_file(self, path: Path, entry: ImageEntry) -> Heads:
        return Heads(number_table(path, "annPoints", mat_variable(path, "annPoints"), 2))


class Qnrf(_AnnPoints):
    """UCF-QNRF."""

    name = "qnrf"
    folder_names = ("UCF-QNRF_ECCV18", "UCF-QNRF", "UCF_QNRF")

    @classmethod
    def split_folders(cls, home: Path) -> Mapping[str, SplitFolders]:
        """Train and test, as far as they are there."""
        return existing_splits(home, _SPLIT_NAMES, lambda split: SplitFolders(split, split))

    @classmethod
    def expected(cls) -> str:
        """The dataset's folder or the one above it."""
        return "the folder UCF-QNRF_ECCV18 (with Train/img_0001_ann.mat)"

    def evidence(self) -> Evidence:
        """Certain where the images are called as in the release."""
        splits = self.splits()
        why = f"{self.home} holds *_ann.mat in {' and '.join(splits)}"
        as_released = any(
            s.startswith("img_") for split in splits for s in self._annotations(split)
        )
        return Evidence(CERTAIN if as_released else LIKELY, why)


class UcfCc50(_AnnPoints):
    """UCF_CC_50: a flat folder without splits."""

    name = "ucf-cc-50"
    folder_names = ("UCF_CC_50", "UCF-CC-50")

    @classmethod
    def split_folders(cls, home: Path) -> Mapping[str, SplitFolders]:
        """The folder itself is the one split, `all`."""
        return {"all": SplitFolders(home, home)}

    @classmethod
    def expected(cls) -> str:
        """The dataset's folder or the one above it."""
        return "the folder UCF_CC_50 (with 1_ann.mat)"

    def evidence(self) -> Evidence:
        """Certain where the images are numbered as in the release."""
        why = f"{self.home} holds *_ann.mat side by side"
        if all(stem.isdecimal() for stem in self._annotations("all")):
            return Evidence(CERTAIN, why)
        return Evidence(POSSIBLE, f"{why}, but not numbered 1 to 50")
