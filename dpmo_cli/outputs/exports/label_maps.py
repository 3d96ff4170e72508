"""Label maps: an integer per pixel that tells whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.outputs.atomic import atomic_path
from dpmo_cli.outputs.exports.plan import Plan
from dpmo_cli.outputs.finished import FinishedImage, RunImage

_PNG_LARGEST = 2**16 - 1


@dataclass(frozen=True)
class LabelMapWriter:
    """Writes `masks/<name>.npy`, and `masks_png/<name>.png` of 16 bits where that is asked for.

    0 is nobody; the pixels of the mask of a point are point_id + 1. The type is the smallest
    unsigned one that holds every label of the run, the same for all its images.
    """

    plan: Plan
    too_large: list[str] = field(default_factory=list)

    def files(self) -> Iterator[str]:
        """One per image, or two."""
        for images in self.plan.images.values():
            for image in images:
                yield self._npy(image)
                if self.plan.options.png:
                    yield self._png(image)

    def write_split(self, split: str, images: Iterator[FinishedImage]) -> None:
        """Write the maps of a split."""
        dtype = label_type(self.plan.largest_point_id())
        for found in images:
            labels = label_map(found, dtype)
            path = self.plan.to / self._npy(found.image)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, labels, allow_pickle=False)
            if self.plan.options.png:
                self._write_png(found.image, labels)

    def write_rest(self) -> None:
        """Nothing else."""

    def warnings(self) -> Iterator[str]:
        """Name the images that have no PNG."""
        if self.too_large:
            many = len(self.too_large)
            yield (
                f"{many} image{'s have' if many > 1 else ' has'} labels above {_PNG_LARGEST} and "
                f"no PNG, the first is {self.too_large[0]}; take the .npy"
            )

    def _write_png(self, image: RunImage, labels: NDArray[np.unsignedinteger]) -> None:
        from PIL import Image

        path = self.plan.to / self._png(image)
        if labels.max(initial=0) > _PNG_LARGEST:
            path.unlink(missing_ok=True)
            self.too_large.append(image.file_name)
            return
        with atomic_path(path) as temporary:
            Image.fromarray(labels.astype(np.uint16)).save(temporary, format="PNG")

    def _npy(self, image: RunImage) -> str:
        return f"masks/{self.plan.names[image]}.npy"

    def _png(self, image: RunImage) -> str:
        return f"masks_png/{self.plan.names[image]}.png"


def label_type(largest_point_id: int) -> np.dtype[np.unsignedinteger]:
    """The smallest unsigned type that holds the label of a point."""
    return np.dtype(np.min_scalar_type(largest_point_id + 1))


def label_map(
    found: FinishedImage, dtype: np.dtype[np.unsignedinteger]
) -> NDArray[np.unsignedinteger]:
    """Draw the masks of an image: (H, W), 0 or point_id + 1."""
    labels = np.zeros(found.image.size_hw, dtype)
    for one in found.instances():
        x0, y0, x1, y1 = one.window_xyxy
        labels[y0:y1, x0:x1][one.mask] = one.point_id + 1
    return labels
