"""The layout that Ultralytics trains on: a text per image, polygons or boxes, and `data.yaml`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dpmo_cli.geometry.contours import joined_ring, trace_parts
from dpmo_cli.outputs.atomic import write_text
from dpmo_cli.outputs.exports.plan import NONE, Plan
from dpmo_cli.outputs.finished import FinishedImage, Instance, RunImage

PERSON_CLASS = 0
_DATA = "data.yaml"
_TEST = "test"
_DECIMALS = 6
"""Of a part of the image's side: a fiftieth of a pixel even in one of 20,000 px."""


@dataclass(frozen=True)
class YoloWriter:
    """Writes `labels/<split>/<name>.txt`, photos beside them, and `data.yaml`.

    Attributes:
        plan: its names are without folders, since Ultralytics finds a text by the last folder
            `images` in the path of its photo.
        polygons: one polygon per person; else the mask's tight box.
    """

    plan: Plan
    polygons: bool

    def files(self) -> Iterator[str]:
        """A text, and maybe a photo, for each image."""
        for images in self.plan.images.values():
            for image in images:
                yield self._labels(image)
                if self.plan.options.images != NONE:
                    yield self._photo(image)
        yield _DATA

    def write_split(self, split: str, images: Iterator[FinishedImage]) -> None:
        """Write the texts of a split; an image without masks has an empty one."""
        for found in images:
            lines = [self._line(one, found.image.size_hw) for one in found.instances()]
            write_text(self.plan.to / self._labels(found.image), "".join(lines))
            how = self.plan.options.images
            if how != NONE:
                self.plan.photos[found.image].place(self.plan.to / self._photo(found.image), how)

    def write_rest(self) -> None:
        """Write `data.yaml`."""
        write_text(self.plan.to / _DATA, data_yaml(list(self.plan.images)))

    def warnings(self) -> Iterator[str]:
        """Yield what `data.yaml` calls train or val though it is the test split."""
        for role, split in _roles(list(self.plan.images)).items():
            if split == _TEST != role:
                yield (
                    f"{_DATA}: there is no split {role}, so {role} is the test split; "
                    "scores on it are no scores of unseen images"
                )

    def _labels(self, image: RunImage) -> str:
        return f"labels/{image.split}/{self.plan.names[image]}.txt"

    def _photo(self, image: RunImage) -> str:
        suffix = self.plan.photos[image].suffix
        return f"images/{image.split}/{self.plan.names[image]}{suffix}"

    def _line(self, one: Instance, size_hw: tuple[int, int]) -> str:
        side_xy = np.array([size_hw[1], size_hw[0]])
        if self.polygons:
            # One line is one person, so that all parts are one polygon, as Ultralytics joins them.
            ring = joined_ring(trace_parts(one.mask, one.window_xyxy[:2]))
            numbers = (ring / side_xy).reshape(-1)
        else:
            box = np.array(one.window_xyxy, np.float64).reshape(2, 2) / side_xy
            numbers = np.concatenate([box.mean(axis=0), box[1] - box[0]])
        return f"{PERSON_CLASS} {' '.join(f'{v:.{_DECIMALS}f}' for v in numbers.tolist())}\n"


def data_yaml(splits: list[str]) -> str:
    """Return `data.yaml` of some splits: paths are relative to it, so that the folder can move.

    Ultralytics wants `train` and `val`; where a split is missing another one stands in, which a
    comment says.
    """
    lines = [
        f"{role}: {json.dumps(f'images/{split}')}"
        + (f"  # there is no split {role}" if role != split else "")
        for role, split in _roles(splits).items()
    ]
    return "\n".join([*lines, "names:", f"  {PERSON_CLASS}: person", ""])


def _roles(splits: list[str]) -> dict[str, str]:
    """The split that stands for each of Ultralytics' own."""
    train = "train" if "train" in splits else splits[0]
    val = next((split for split in ("val", _TEST) if split in splits), train)
    return {"train": train, "val": val} | ({_TEST: _TEST} if _TEST in splits else {})
