"""What every dataset reader gives: lazily listed images and the heads annotated in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FULLY_OCCLUDED = 3
"""JHU-CROWD++'s code for a head that is annotated but can't be seen."""


@dataclass(frozen=True)
class ImageEntry:
    """One image of a split, as listed: nothing has been read yet.

    Attributes:
        split: lower-case split name, e.g. "train".
        file_name: path of the image relative to the dataset's root, with "/" (COCO `file_name`).
        image_path: where the image lies (it may be missing: reading it then raises InputError).
        annotation_path: where its annotation lies; None where one table annotates all images.
        labels: what the dataset says of the whole image (scene, weather, illumination, ...).
    """

    split: str
    file_name: str
    image_path: Path
    annotation_path: Path | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Heads:
    """The annotated heads of one image, in the order of its annotation, in stored pixels.

    Attributes:
        points_xy: (N, 2) float64, x then y, px; NaN, infinite and outside values are kept.
        boxes_xyxy: (N, 4) float64 head boxes in px, or None where the dataset has none.
        occlusion: (N,) int8, 1 visible, 2 partly, 3 fully occluded (JHU), or None.
        blurred: (N,) bool (JHU), or None.
        external_ids: N ids given by the dataset (csv), or None.
        locator_scores: (N,) float64, how sure the localiser is that found them, 0 to 1, or None.
        rejected: (N,) bool, points that a policy takes for nobody's: they get no mask and count
            as nobody's neighbour; None where nobody looked.
        warnings: oddities that do not stop the run, each one line without the file's name.
    """

    points_xy: NDArray[np.float64]
    boxes_xyxy: NDArray[np.float64] | None = None
    occlusion: NDArray[np.int8] | None = None
    blurred: NDArray[np.bool_] | None = None
    external_ids: tuple[str, ...] | None = None
    locator_scores: NDArray[np.float64] | None = None
    rejected: NDArray[np.bool_] | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points_xy)


class Dataset(Protocol):
    """A dataset in its native layout. Opening it checks the root; reading is one image at a time.

    Raises (all methods): UsageError for what ends the run, InputError for one bad file.
    """

    name: str
    root: Path

    def splits(self) -> tuple[str, ...]:
        """Names of the labelled splits that are there, lower-case, in the dataset's usual order."""

    def entries(self, split: str) -> Sequence[ImageEntry]:
        """The images of a split in lexicographic order of `file_name`."""

    def read_heads(self, entry: ImageEntry) -> Heads:
        """Read the annotation of one image."""

    def heads_of_refused(self, entry: ImageEntry) -> Heads | None:
        """The annotation of an image whose name was refused, where it can be read all the same."""
