"""Crops of annotated crowds for models that count, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree
from torch import Tensor
from torch.utils.data import Dataset

from dpmo_cli.datasets.images import read_image
from dpmo_cli.datasets.registry import open_dataset
from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.truth import is_validation
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.outputs.run_file import Run
from dpmo_cli.rps.locator import PADDING_VALUE, STRIDE
from dpmo_cli.training.crop_masks import CropMasks, crop_regions, cut_masks
from dpmo_cli.training.crops import photometric
from dpmo_cli.training.crowd_masks import (
    DOUBTFUL_WEIGHT,
    MASK,
    CrowdMasks,
    shapes_of_points,
)
from dpmo_cli.training.mask_regions import Regions
from dpmo_cli.training.masked_crowds import MaskedCrowds
from dpmo_cli.training.p2r import assign_cells, stack_owners

TRAIN_SPLIT = "train"
SCALES = (0.5, 2.0)
"""Least and greatest magnification of a crop, log-uniform."""
LEAST_SPACING_PX = 5.0
"""Nothing is made so small that its median neighbours stand closer: cells are 4 px."""
PHOTOMETRIC_SHARE = 0.6
"""Part of the crops whose light, sharpness or compression is changed; the rest is as in use."""
BASE_COUNT = 20.0
"""An image is drawn with a weight that is the root of its points and this many more."""


@dataclass(frozen=True)
class Crowd:
    """An annotated image in memory.

    Attributes:
        dataset: name of its dataset.
        name: dataset and file name, which decide on its split.
        image: (H, W, 3) uint8 RGB.
        points_xy: (N, 2) float64 px, inside the image.
        least_scale: the least magnification that crops of it have.
        masks: of the points; None where they are not asked for.
    """

    dataset: str
    name: str
    image: NDArray[np.uint8]
    points_xy: FloatArray
    least_scale: float
    masks: CrowdMasks | None = None


@dataclass(frozen=True)
class Crop:
    """A part of a crowd as a network sees it.

    Attributes:
        frame: (C, C, 3) uint8 RGB, padded at the right and at the bottom.
        valid_hw: height and width of the part that the image fills, px.
        points_xy: (N, 2) float64 px of the frame.
        masks: of the points; None where the crowd has none.
    """

    frame: NDArray[np.uint8]
    valid_hw: tuple[int, int]
    points_xy: FloatArray
    masks: CropMasks | None = None


class Batch(NamedTuple):
    """One step's crops and the part of the localiser's loss that needs no network.

    Attributes:
        frames: (B, C, C, 3) uint8 RGB.
        owner: (B, C/4, C/4) int32; cost, weight: float32; see `p2r.Assignment`.
        points: number of points in the batch.
        regions: whose the cells are; None without masks.
    """

    frames: Tensor
    owner: Tensor
    cost: Tensor
    weight: Tensor
    points: int
    regions: Regions | None


def load_crowds(
    root: Path, datasets: Sequence[str], say: Callable[[str], None]
) -> tuple[list[Crowd], list[Crowd]]:
    """Read the train splits of some datasets into memory: (training, validation).

    Args:
        root: folder that holds each of the datasets, as their readers know them.
        datasets: their names.
        say: called with a line of progress.

    Raises:
        UsageError: a dataset or its train split is not there, or there is nothing to train on.
        InputError: an image or an annotation can't be read.
    """
    crowds: list[Crowd] = []
    for name in dict.fromkeys(datasets):
        dataset = open_dataset(name, root)
        entries = dataset.entries(TRAIN_SPLIT)
        say(f"reading {len(entries)} images of {dataset.name}")
        for entry in entries:
            full = f"{dataset.name}/{Path(entry.file_name).name}"
            points_xy = dataset.read_heads(entry).points_xy
            crowds.append(make_crowd(dataset.name, full, read_image(entry.image_path), points_xy))
    return _parted(crowds, root)


def load_masked_crowds(
    runs: Sequence[Path],
    shape: str,
    say: Callable[[str], None],
    *,
    root: Path | None = None,
    doubtful: float = DOUBTFUL_WEIGHT,
) -> tuple[list[Crowd], list[Crowd]]:
    """Read the train splits of converted folders into memory: (training, validation).

    Args:
        runs: folders that `dpmo convert` wrote; the points are theirs, reviewed ones included.
        shape: one of `crowd_masks.SHAPES`.
        say: called with a line of progress.
        root: where the photos lie; by default where each run says.
        doubtful: see `masks_of_rows`.

    Raises:
        UsageError: a folder holds no finished run, or there is nothing to train on.
        InputError: a file of a run or a photo can't be read.
    """
    crowds: list[Crowd] = []
    for out in dict.fromkeys(runs):
        found = MaskedCrowds(out, TRAIN_SPLIT, root=root, doubtful=doubtful)
        say(f"reading {len(found)} images of {found.dataset} and their masks")
        for index, image in enumerate(found.images):
            points_xy, masks = found.people(index)
            if shape != MASK:
                masks = shapes_of_points(points_xy, image.size_hw, shape)
            full = f"{found.dataset}/{Path(image.file_name).name}"
            crowd = make_crowd(found.dataset, full, found.photo(index), points_xy)
            crowds.append(replace(crowd, masks=masks))
    return _parted(crowds, *runs)


def masks_fingerprint(runs: Sequence[Path]) -> dict[str, str]:
    """For the dataset of each converted folder what its files are, hashed.

    Raises:
        UsageError: a folder holds no finished run, or two are of one dataset.
        InputError: its record can't be read.
    """
    found: dict[str, str] = {}
    for out in dict.fromkeys(runs):
        run = Run.of(out)
        if run.dataset in found:
            raise UsageError(f"--masks {out}: is a second run of {run.dataset}; give one of each")
        files = json.dumps(run.document.get("files"), sort_keys=True)
        found[run.dataset] = sha256(files.encode()).hexdigest()
    return found


def _parted(crowds: Sequence[Crowd], *places: Path) -> tuple[list[Crowd], list[Crowd]]:
    """Part crowds by our rule: (training, validation)."""
    training = [crowd for crowd in crowds if not is_validation(crowd.name)]
    validation = [crowd for crowd in crowds if is_validation(crowd.name)]
    if not any(len(crowd.points_xy) for crowd in training):
        where = ", ".join(map(str, places))
        raise UsageError(f"{where}: holds no points to train on; give a root with more images")
    return training, validation


def make_crowd(dataset: str, name: str, image: NDArray[np.uint8], points_xy: FloatArray) -> Crowd:
    """Keep the points inside the image, and find how small its crops may be."""
    limit = (image.shape[1], image.shape[0])
    # NaN and infinite values compare false.
    points_xy = points_xy[((points_xy >= 0) & (points_xy < limit)).all(axis=1)]
    least = SCALES[0]
    if len(points_xy) > 1:
        distance, _ = cKDTree(points_xy).query(points_xy, k=2)
        spacing = max(1e-6, float(np.median(distance[:, 1])))
        least = float(np.clip(LEAST_SPACING_PX / spacing, SCALES[0], 1.0))
    return Crowd(dataset, name, image, points_xy, least)


def draw_crop(crowd: Crowd, crop_px: int, rng: np.random.Generator) -> Crop:
    """Cut one crop out of a crowd: any place, scale, light, and side."""
    height, width = crowd.image.shape[:2]
    wanted = np.exp(rng.uniform(np.log(crowd.least_scale), np.log(SCALES[1])))
    side = max(1, round(crop_px / float(wanted)))
    scale = crop_px / side
    x0 = int(rng.integers(max(0, width - side) + 1))
    y0 = int(rng.integers(max(0, height - side) + 1))
    part = crowd.image[y0 : y0 + side, x0 : x0 + side]
    valid_hw = tuple(min(crop_px, max(1, round(length * scale))) for length in part.shape[:2])
    picture = Image.fromarray(np.ascontiguousarray(part)).resize(
        (valid_hw[1], valid_hw[0]), Image.Resampling.BILINEAR
    )
    if rng.random() < PHOTOMETRIC_SHARE:
        picture = photometric(picture, rng)
    pixels = np.asarray(picture)
    points = (crowd.points_xy - (x0, y0) + 0.5) * scale - 0.5
    flipped = rng.random() < 0.5
    if flipped:
        pixels = pixels[:, ::-1]
        points[:, 0] = valid_hw[1] - 1 - points[:, 0]
    # Between the outer edges of the pixels, so that a flip keeps the same points.
    low, high = -0.5, (valid_hw[1] - 0.5, valid_hw[0] - 0.5)
    inside = np.asarray(((points >= low) & (points < high)).all(axis=1))
    frame = np.full((crop_px, crop_px, 3), PADDING_VALUE, dtype=np.uint8)
    frame[: valid_hw[0], : valid_hw[1]] = pixels
    masks = None
    if crowd.masks is not None:
        window = (x0, y0, x0 + part.shape[1], y0 + part.shape[0])
        masks = cut_masks(
            crowd.masks, window, (valid_hw[0], valid_hw[1]), scale, points, inside, flipped=flipped
        )
    return Crop(frame, (valid_hw[0], valid_hw[1]), points[inside], masks)


def locator_batch(crops: Sequence[Crop]) -> Batch:
    """Prepare the localiser's step: cells given to points, and to masks where there are some."""
    cells = crops[0].frame.shape[0] // STRIDE
    assignments = [assign_cells(crop.points_xy, (cells, cells), crop.valid_hw) for crop in crops]
    return Batch(
        torch.from_numpy(np.stack([crop.frame for crop in crops])),
        torch.from_numpy(stack_owners(assignments)),
        torch.from_numpy(np.stack([one.cost for one in assignments])),
        torch.from_numpy(np.stack([one.weight for one in assignments])),
        sum(one.count for one in assignments),
        stack_regions(crops, STRIDE),
    )


def stack_regions(crops: Sequence[Crop], cell_px: int) -> Regions | None:
    """Whose the cells of a batch are; None where its crops have no masks."""
    masks = [crop.masks for crop in crops if crop.masks is not None]
    if not masks:
        return None
    return crop_regions(masks, [(crop.points_xy, crop.valid_hw) for crop in crops],
                        crops[0].frame.shape[0], cell_px)  # fmt: skip


StepBatch = TypeVar("StepBatch")


class CropBatches(Dataset[StepBatch]):
    """The batch of each step, which depends on the seed and the step alone.

    `prepare` makes a batch of the crops, as `locator_batch` does.
    """

    def __init__(
        self,
        crowds: Sequence[Crowd],
        batch: int,
        crop_px: int,
        seed: int,
        prepare: Callable[[Sequence[Crop]], StepBatch],
    ) -> None:
        self._prepare = prepare
        self._crowds = crowds
        self._batch = batch
        self._crop_px = crop_px
        self._seed = seed
        weights = np.sqrt([len(crowd.points_xy) + BASE_COUNT for crowd in crowds])
        self._share = weights / weights.sum()

    def __getitem__(self, step: int) -> StepBatch:
        """Draw the crops of a step."""
        rng = np.random.default_rng((self._seed, step))
        picks = rng.choice(len(self._crowds), size=self._batch, p=self._share)
        return self._prepare([draw_crop(self._crowds[pick], self._crop_px, rng) for pick in picks])
