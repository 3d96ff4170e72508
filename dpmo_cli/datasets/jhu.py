"""JHU-CROWD++: `jhu_crowd_v2.0/{train,val,test}/{images, gt, image_labels.txt}`, text files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.base import FULLY_OCCLUDED, Heads, ImageEntry
from dpmo_cli.datasets.paths import listed, read_text
from dpmo_cli.datasets.reader import (
    CERTAIN,
    LIKELY,
    Evidence,
    PairedReader,
    Pairing,
    SplitFolders,
    count_warning,
    existing_splits,
    sub_folder,
)
from dpmo_cli.datasets.tables import COPY_AGAIN
from dpmo_cli.errors import InputError

_LABELS_FILE = "image_labels.txt"
_SPLIT_NAMES = {split: (split,) for split in ("train", "val", "test")}
_WEATHER = {"0": "none", "1": "fog", "2": "rain", "3": "snow"}
_VISIBLE = 1


class Jhu(PairedReader):
    """JHU-CROWD++, with head boxes, occlusion, blur and the labels of the images."""

    name = "jhu"
    pairing = Pairing(prefix="", suffix=".txt")
    folder_names = ("jhu_crowd_v2.0", "jhu_crowd", "jhu_crowd++", "jhu-crowd++")

    @classmethod
    def split_folders(cls, home: Path) -> Mapping[str, SplitFolders]:
        """Train, val and test, as far as they are there."""
        return existing_splits(
            home,
            _SPLIT_NAMES,
            lambda split: SplitFolders(sub_folder(split, "images"), sub_folder(split, "gt")),
        )

    @classmethod
    def expected(cls) -> str:
        """The dataset's folder or the one above it."""
        return "the folder jhu_crowd_v2.0 (with train/gt/0001.txt)"

    def evidence(self) -> Evidence:
        """Certain where the labels of the images are there too."""
        splits = self.splits()
        why = f"{self.home} holds gt/*.txt in {' and '.join(splits)}"
        if any(self._labels_path(split) is not None for split in splits):
            return Evidence(CERTAIN, f"{why}, and {_LABELS_FILE}")
        return Evidence(LIKELY, why)

    def _list(self, split: str) -> Iterable[ImageEntry]:
        labels_path = self._labels_path(split)
        labels = {} if labels_path is None else _read_labels(labels_path)
        for entry in super()._list(split):
            yield replace(entry, labels=labels.get(_number(entry.image_path.stem), {}))

    def _labels_path(self, split: str) -> Path | None:
        folder = self._folders[split].annotations.parent
        return next((p for p in listed(folder) if p.name.casefold() == _LABELS_FILE), None)

    def _read_file(self, path: Path, entry: ImageEntry) -> Heads:
        table = _read_table(path)
        points_xy, size_wh = table[:, :2], table[:, 2:4]
        occlusion = table[:, 4].astype(np.int8)
        warnings: tuple[str, ...] = ()
        unknown = int(((occlusion < _VISIBLE) | (occlusion > FULLY_OCCLUDED)).sum())
        if unknown:
            warnings += (f"{unknown} heads have an occlusion other than 1, 2 or 3",)
        if entry.labels:
            count = entry.labels["count"]
            said = int(count) if count.isdecimal() else count
            warnings += count_warning(_LABELS_FILE, said, len(points_xy))
        elif self._labels_path(entry.split) is not None:
            warnings += (f"{_LABELS_FILE} has no usable line for the image",)
        return Heads(
            # The annotated point is the centre of the box.
            points_xy=points_xy.copy(),
            boxes_xyxy=np.hstack([points_xy - size_wh / 2, points_xy + size_wh / 2]),
            occlusion=occlusion,
            blurred=table[:, 5] != 0,
            warnings=warnings,
        )


def _read_table(path: Path) -> NDArray[np.float64]:
    """The lines `x y w h o b` of one image as (N, 6) float64; none in an empty file."""
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path, COPY_AGAIN).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError as error:
            raise InputError(path, f"line {number} holds no numbers", COPY_AGAIN) from error
        if len(row) != 6:
            problem = f"line {number} has {len(row)} numbers, expected the 6 of x y w h o b"
            raise InputError(path, problem, COPY_AGAIN)
        if not all(value in range(128) for value in row[4:]):
            problem = f"line {number} ends with no whole codes of occlusion and blur"
            raise InputError(path, problem, COPY_AGAIN)
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(len(rows), 6)


def _read_labels(path: Path) -> dict[str, Mapping[str, str]]:
    """What `image_labels.txt` says, by the number of the image; what can't be read is left out.

    An image without a usable line gets a warning when it is read: nothing is lost silently.
    """
    try:
        lines = read_text(path, COPY_AGAIN).splitlines()
    except InputError:
        return {}
    labels: dict[str, Mapping[str, str]] = {}
    for line in lines:
        fields = [field.strip() for field in line.split(",")]
        if len(fields) < 5:
            continue
        image, count, *scene, weather, distractor = fields
        labels[_number(image)] = {
            "count": count,
            "scene": ", ".join(scene),
            "weather": _WEATHER.get(weather, weather),
            "distractor": distractor,
        }
    return labels


def _number(image: str) -> str:
    """Image numbers are compared without leading zeros, which not all copies keep."""
    return image.casefold().lstrip("0")
