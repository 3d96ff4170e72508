"""A converted folder as a torch dataset: photo, points, masks, and how much each mask counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dpmo_cli.datasets.images import read_photo
from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.outputs.corrected import corrected
from dpmo_cli.outputs.corrections import Correction, corrections_of
from dpmo_cli.outputs.findings import CORRECTIONS_FILE, one_line
from dpmo_cli.outputs.finished import MEND, list_images
from dpmo_cli.outputs.records import read_record, record_path
from dpmo_cli.outputs.run_file import Run, photos_of
from dpmo_cli.training.crowd_masks import DOUBTFUL_WEIGHT, CrowdMasks, masks_of_rows
from dpmo_cli.training.mask_regions import NOT_COUNTED, Regions, nearest_labels, regions_of


class MaskedCrowd(NamedTuple):
    """An image of N people.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        points_xy: (N, 2) float32 px, pixel centres at integers.
        labels: (H, W) int32: 0 nobody, i + 1 the mask of the person at position i, -1 where
            nothing is known.
        people: (N,) float32, people on the own mask: 1, more where points share it, 0 without one.
        weight: (N,) float32, how much the own mask counts; 0 without one.
    """

    image: Tensor
    points_xy: Tensor
    labels: Tensor
    people: Tensor
    weight: Tensor


class CrowdBatch(NamedTuple):
    """Images of B crowds, padded at the right and at the bottom; K people in all.

    Attributes:
        images: (B, H, W, 3) uint8; padding is 0.
        points_xy: of each image (N, 2).
        labels: (B, H, W) int32; padding is -1.
        counts: N of each image.
        people, weight: (K,), the images' in a row, as `regions_of` takes them.
    """

    images: Tensor
    points_xy: tuple[Tensor, ...]
    labels: Tensor
    counts: tuple[int, ...]
    people: Tensor
    weight: Tensor

    def regions(self, cell_px: int) -> Regions:
        """Whose the cells are of a map with a cell for every so many px, for the mask losses."""
        size_hw = (self.labels.shape[1], self.labels.shape[2])
        return regions_of(
            self.labels,
            cell_px,
            counts=self.counts,
            nearest=nearest_labels(self.points_xy, size_hw, cell_px),
            people=self.people,
            weight=self.weight,
        )


Transform = Callable[[MaskedCrowd], MaskedCrowd]


class MaskedCrowds(Dataset[MaskedCrowd]):
    """The images of one split of a folder that `dpmo convert` or `merge` wrote.

    Each access reads one photo and one small record, whatever the size of the run; what reviewers
    decided and `dpmo review apply` took over is included. Nothing is kept open, so that worker
    processes may be forked or spawned.

    Args:
        out: the folder.
        split: one of its splits.
        root: where the photos lie; by default where the run says.
        doubtful: how much masks count that wait in the review queue, 0 to 1.
        transform: applied to each item, as `RandomCrop`.

    Raises:
        UsageError: no finished run, no such split.
        InputError: a file of the run can't be read.
    """

    def __init__(
        self,
        out: Path | str,
        split: str = "train",
        *,
        root: Path | str | None = None,
        doubtful: float = DOUBTFUL_WEIGHT,
        transform: Transform | None = None,
    ) -> None:
        self._out = Path(out)
        run = Run.of(self._out)
        if split not in run.split_counts:
            known = ", ".join(run.split_counts)
            raise UsageError(f"{out}: has no split {split}; it has {known}")
        self.dataset = run.dataset
        self.images = list_images(self._out, split)
        self._split = split
        self._root = photos_of(self._out) if root is None else Path(root)
        self._doubtful = doubtful
        self._transform = transform
        snapshot = self._out / CORRECTIONS_FILE
        self._corrections: dict[int, list[Correction]] = dict(corrections_of(snapshot, split))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> MaskedCrowd:
        """Read one image and its masks."""
        points_xy, masks = self.people(index)
        item = MaskedCrowd(
            torch.from_numpy(self.photo(index)),
            torch.from_numpy(points_xy.astype(np.float32)),
            torch.from_numpy(masks.draw()),
            torch.from_numpy(masks.people),
            torch.from_numpy(masks.weight),
        )
        return item if self._transform is None else self._transform(item)

    def photo(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB.

        Raises:
            InputError: the photo can't be read, or is another than that of the run.
        """
        image = self.images[index]
        return read_photo(self._root, image.file_name, image.size_hw)

    def people(self, index: int) -> tuple[FloatArray, CrowdMasks]:
        """(N, 2) float64 points, px, and their masks, from the record of an image.

        Raises:
            DamagedRecordError: the record can't be read.
            InputError: a mask in it can't.
        """
        image = self.images[index]
        path = record_path(self._out, self._split, image.image_id)
        record = corrected(read_record(path), self._corrections.get(image.image_id, []))
        try:
            return masks_of_rows(record.rows, image.size_hw, self._doubtful)
        except (ValueError, OverflowError) as error:
            raise InputError(path, f"a mask can't be read ({one_line(error)})", MEND) from error


def crop(item: MaskedCrowd, window_xyxy: tuple[int, int, int, int]) -> MaskedCrowd:
    """Cut a part out of an image, with the people whose points lie in it.

    What is left of masks that the window cuts, or whose points lie outside, is not counted.

    Args:
        item: the image.
        window_xyxy: px, half open, inside the image.
    """
    x0, y0, x1, y1 = window_xyxy
    x, y = item.points_xy.T
    # A pixel reaches half a pixel to each side of its centre.
    inside = (x >= x0 - 0.5) & (x < x1 - 0.5) & (y >= y0 - 0.5) & (y < y1 - 0.5)
    labels = item.labels[y0:y1, x0:x1]
    count = len(inside)
    here, all_of_it = (
        torch.bincount(part[part > 0].long(), minlength=count + 1)[1:]
        for part in (labels, item.labels)
    )
    whole = inside & (here == all_of_it) & (here > 0)
    # The last entry is for the labels that are negative already.
    new = labels.new_full((count + 2,), NOT_COUNTED)
    new[0] = 0
    position = inside.long().cumsum(0).to(labels.dtype)
    new[1:-1] = torch.where(whole, position, NOT_COUNTED)
    zero = item.people.new_zeros(())
    return MaskedCrowd(
        item.image[y0:y1, x0:x1].contiguous(),
        item.points_xy[inside] - item.points_xy.new_tensor([x0, y0]),
        new[labels.long()],
        torch.where(whole, item.people, zero)[inside],
        torch.where(whole, item.weight, zero)[inside],
    )


def flip(item: MaskedCrowd) -> MaskedCrowd:
    """Exchange left and right."""
    points_xy = item.points_xy.clone()
    points_xy[:, 0] = item.image.shape[1] - 1 - points_xy[:, 0]
    return item._replace(image=item.image.flip(1), points_xy=points_xy, labels=item.labels.flip(1))


class RandomCrop:
    """Cuts squares of at most `side_px` out of images, and flips every second one.

    Chance is torch's own, which a `DataLoader` seeds in each of its workers.
    """

    def __init__(self, side_px: int) -> None:
        self._side_px = side_px

    def __call__(self, item: MaskedCrowd) -> MaskedCrowd:
        """Cut one."""
        sides = [min(self._side_px, length) for length in item.labels.shape]
        y0, x0 = (
            int(torch.randint(length - side + 1, ()))
            for length, side in zip(item.labels.shape, sides, strict=True)
        )
        found = crop(item, (x0, y0, x0 + sides[1], y0 + sides[0]))
        return flip(found) if torch.rand(()) < 0.5 else found


def collate(items: Sequence[MaskedCrowd], multiple: int = 1) -> CrowdBatch:
    """Pad images of any size to one batch whose sides are multiples of some px."""
    height, width = (
        -(-max(item.labels.shape[axis] for item in items) // multiple) * multiple for axis in (0, 1)
    )
    images = items[0].image.new_zeros((len(items), height, width, 3))
    labels = items[0].labels.new_full((len(items), height, width), NOT_COUNTED)
    for number, item in enumerate(items):
        rows, columns = item.labels.shape
        images[number, :rows, :columns] = item.image
        labels[number, :rows, :columns] = item.labels
    return CrowdBatch(
        images,
        tuple(item.points_xy for item in items),
        labels,
        tuple(len(item.weight) for item in items),
        torch.cat([item.people for item in items]),
        torch.cat([item.weight for item in items]),
    )
