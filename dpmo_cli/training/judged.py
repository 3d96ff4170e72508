"""Masks that people corrected or accepted in finished runs, as scenes to learn from.

Reviewers look at the worst masks. A network that learnt from these alone would take everybody for
as small or hidden as they are; so the other masks of the same images, where nothing speaks against
them, are learnt beside as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.images import find_photo, read_photo
from dpmo_cli.errors import InputError
from dpmo_cli.evaluation.instances import checked_rle
from dpmo_cli.evaluation.truth import TruthScene, held_out
from dpmo_cli.geometry.extents import EXTENTS, HEAD
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.geometry.rle import Rle, rle_window
from dpmo_cli.outputs.findings import annotations_file, one_line
from dpmo_cli.outputs.finished import MEND, FinishedImage, list_images, read_images
from dpmo_cli.outputs.run_file import RUN_AGAIN, RUN_FILE, Run, photos_of
from dpmo_cli.outputs.schema import ACCEPTED, ADDED, CORRECTED, NOBODY, OK
from dpmo_cli.training.crops import KnownExtents, PreparedScene, prepare
from dpmo_cli.training.scenes import CORRECTIONS, UNJUDGED

JUDGED = (CORRECTED, ADDED, ACCEPTED)
"""The sources of masks that are learnt from."""
HELD = 16
"""Scenes that are kept decoded."""
_COLUMNS = ["x", "y", "status", "source", "reasons", "annotation_id"]


@dataclass(frozen=True)
class JudgedImage:
    """An image of a finished run with the masks that people judged.

    Attributes:
        dataset: the run's.
        root: folder of its photos.
        file_name: of the photo, relative to the root.
        size_hw: of the photo, px.
        extent: what the masks hold.
        points_xy: (N, 2) float64 px, of everybody in the image.
        masks: of those who were judged, by their place in `points_xy`; where there are none,
            nothing else is held of the image either.
        others: automatic masks without a reason to look, by their place.
    """

    dataset: str
    root: Path
    file_name: str
    size_hw: tuple[int, int]
    extent: str
    points_xy: FloatArray
    masks: dict[int, Rle]
    others: dict[int, Rle]

    @property
    def is_held_out(self) -> bool:
        """Whether the image belongs to the validation split, by the project's rule."""
        return held_out(self.dataset, self.file_name)

    def scene(self, name: str | None = None) -> PreparedScene:
        """The image with its masks; crops are made for the judged ones.

        Args:
            name: CORRECTIONS or UNJUDGED for these masks alone.

        Raises:
            InputError: the photo can't be read, or has another size than the masks.
        """
        image = read_photo(self.root, self.file_name, self.size_hw)
        masks = {
            CORRECTIONS: self.masks, UNJUDGED: self.others, None: {**self.masks, **self.others}
        }[name]  # fmt: skip
        labels = np.zeros(self.size_hw, dtype=np.int32)
        for at, rle in masks.items():
            mask, (x0, y0, x1, y1) = rle_window(rle)
            labels[y0:y1, x0:x1][mask] = at + 1
        ids = np.arange(1, len(self.points_xy) + 1, dtype=np.int32)
        heads: NDArray[np.bool_] | None = labels > 0 if self.extent == HEAD else None
        scene = TruthScene(
            f"{self.dataset}/{self.file_name}", image, labels, ids, self.points_xy, heads
        )
        chosen = np.array(list(self.masks), dtype=np.int64)
        return prepare(scene, self._known(), None if name == UNJUDGED else chosen)

    def _known(self) -> KnownExtents:
        # A whole person cut by its disc is the person in the disc; the others tell themselves.
        nnec, head, visible = (self.extent == extent for extent in EXTENTS)
        return nnec or visible, head, visible


def read_judged(out: Path, root: Path | None = None) -> Iterator[JudgedImage]:
    """Yield the images of a run with the masks that people corrected, added or accepted.

    Args:
        out: folder of a finished run to which corrections have been applied.
        root: of its photos; None for the one that the run names.

    Raises:
        UsageError: it holds no finished run, or names no root.
        InputError: its files or a photo of judged masks can't be read.
    """
    run = Run.of(out)
    if run.extent not in EXTENTS:
        problem = f"is no run record of this dpmo (extent {run.extent!r:.40})"
        raise InputError(out / RUN_FILE, problem, RUN_AGAIN)
    photos = root or photos_of(out)
    for split in run.split_counts:
        for found in read_images(out, split, list_images(out, split)):
            image = found.image
            points_xy, masks, others = _masks(out, found)
            if masks:
                # Before hours of training, not in them.
                find_photo(photos, image.file_name, image.size_hw)
            else:
                points_xy, others = np.zeros((0, 2)), {}
            yield JudgedImage(
                run.dataset, photos, image.file_name, image.size_hw, run.extent,
                points_xy, masks, others,
            )  # fmt: skip


def _masks(out: Path, found: FinishedImage) -> tuple[FloatArray, dict[int, Rle], dict[int, Rle]]:
    """The points of an image's people, and by their places the judged masks and the others."""
    rows = found.rows.select(_COLUMNS).to_pylist()
    people = [row for row in rows if row["status"] not in NOBODY]
    points_xy = np.array([(row["x"], row["y"]) for row in people], np.float64).reshape(-1, 2)
    masks: dict[int, Rle] = {}
    others: dict[int, Rle] = {}
    for at, row in enumerate(people):
        judged = row["source"] in JUDGED
        if row["status"] != OK or (row["reasons"] and not judged):
            continue
        try:
            segmentation = found.annotations[row["annotation_id"]]["segmentation"]
            (masks if judged else others)[at] = checked_rle(segmentation, found.image.size_hw)
        except (ValueError, LookupError) as error:
            path = out / annotations_file(found.image.split)
            raise InputError(path, f"can't be read ({one_line(error)})", MEND) from error
    return points_xy, masks, others


def digest(images: Sequence[JudgedImage]) -> str:
    """SHA-256 of what is learnt: which masks of which images, wherever they lie."""
    content = [
        [
            one.dataset,
            one.file_name,
            one.extent,
            one.points_xy.tolist(),
            sorted(one.masks.items()),
            sorted(one.others.items()),
        ]
        for one in images
        if one.masks
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass
class JudgedScenes(Sequence[PreparedScene]):
    """The scenes of images, decoded when they are asked for; a few are held.

    Attributes:
        images: each with a mask to ask about.
        name: which masks are asked about, as of `JudgedImage.scene`.
    """

    images: Sequence[JudgedImage]
    name: str | None = None
    _held: dict[int, PreparedScene] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> PreparedScene:  # type: ignore[override]
        """A scene."""
        scene = self._held.pop(at, None) or self.images[at].scene(self.name)
        self._held[at] = scene
        if len(self._held) > HELD:
            del self._held[next(iter(self._held))]
        return scene
