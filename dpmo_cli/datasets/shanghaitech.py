"""ShanghaiTech parts A and B: `part_A_final/train_data/{images, ground-truth}`, MAT v5."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from dpmo_cli.datasets.base import Heads, ImageEntry
from dpmo_cli.datasets.reader import (
    CERTAIN,
    POSSIBLE,
    Evidence,
    PairedReader,
    Pairing,
    SplitFolders,
    count_warning,
    existing_splits,
    sub_folder,
)
from dpmo_cli.datasets.tables import COPY_AGAIN, mat_variable, number_table
from dpmo_cli.errors import InputError, UsageError

_SPLIT_NAMES = {"train": ("train_data", "train"), "test": ("test_data", "test")}
_MAX_NESTING = 8


class _ShanghaiTech(PairedReader):
    """One part; `number` in the annotation is compared with the points."""

    pairing = Pairing(prefix="GT_", suffix=".mat")
    part: ClassVar[str]
    other_part: ClassVar[type[_ShanghaiTech]]

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        if self.home == self.root and self._bears(self.other_part.folder_names):
            raise UsageError(
                f"{self.root} is part {self.other_part.part} by its name; "
                f"use --dataset {self.other_part.name}"
            )

    @classmethod
    def split_folders(cls, home: Path) -> Mapping[str, SplitFolders]:
        """Train and test, as far as they are there."""
        return existing_splits(
            home,
            _SPLIT_NAMES,
            lambda split: SplitFolders(
                images=sub_folder(split, "images"),
                annotations=sub_folder(split, "ground-truth", "ground_truth"),
            ),
        )

    @classmethod
    def expected(cls) -> str:
        """The part or the folder above it."""
        return (
            f"the folder that holds part_{cls.part}_final, "
            "or the part itself (with train_data/ground-truth/GT_IMG_1.mat)"
        )

    def evidence(self) -> Evidence:
        """Certain where the folder's name says which part it is."""
        why = f"{self.home} holds GT_*.mat in {' and '.join(self.splits())}"
        if self.home != self.root or self._bears(self.folder_names):
            return Evidence(CERTAIN, why)
        return Evidence(POSSIBLE, f"{why}, but its name does not say which part it is")

    def _bears(self, names: tuple[str, ...]) -> bool:
        return self.root.resolve().name.casefold() in {name.casefold() for name in names}

    def _read_file(self, path: Path, entry: ImageEntry) -> Heads:
        info = _unwrapped(mat_variable(path, "image_info"))
        fields = info.dtype.names if isinstance(info, np.ndarray) else None
        if not isinstance(info, np.ndarray) or fields is None or "location" not in fields:
            found = f"the fields {', '.join(fields)}" if fields else "no struct"
            problem = f"expected image_info to be a struct with location, found {found}"
            raise InputError(path, problem, COPY_AGAIN)
        location = _unwrapped(info["location"])
        points_xy = number_table(path, "image_info.location", location, 2)
        if "number" not in fields:
            return Heads(points_xy)
        said = _unwrapped(info["number"])
        if isinstance(said, np.ndarray):
            said = said.item() if said.size == 1 else f"an array of shape {said.shape}"
        return Heads(points_xy, warnings=count_warning("number", said, len(points_xy)))


def _unwrapped(value: object) -> object:
    """Take a value out of the cells of one element that MATLAB wraps it in."""
    for _ in range(_MAX_NESTING):
        if not (isinstance(value, np.ndarray) and value.dtype == object and value.size == 1):
            break
        value = value.item()
    return value


class ShanghaiTechA(_ShanghaiTech):
    """Part A: crowds from the web, photos of many sizes."""

    name = "shanghaitech-a"
    part = "A"
    folder_names = ("part_A_final", "part_A", "A")


class ShanghaiTechB(_ShanghaiTech):
    """Part B: streets of Shanghai, all photos 1024 x 768."""

    name = "shanghaitech-b"
    part = "B"
    folder_names = ("part_B_final", "part_B", "B")


ShanghaiTechA.other_part = ShanghaiTechB
ShanghaiTechB.other_part = ShanghaiTechA
