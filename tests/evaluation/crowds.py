"""Crowds with truth: true instances, points and masks as a run would have them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.evaluation.instances import ImageMasks, find_truths, rles_of_labels
from dpmo_cli.geometry.rle import Rle

Bools = NDArray[np.bool_]


def rle_of(mask: Bools) -> Rle:
    """Encode an (H, W) mask by pycocotools."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    height, width = mask.shape
    return {"size": [height, width], "counts": rle["counts"].decode()}


def ellipse(
    size_hw: tuple[int, int], centre_xy: tuple[float, float], axes_px: tuple[float, float]
) -> Bools:
    """A filled ellipse, (H, W)."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    part_x, part_y = (x - centre_xy[0]) / axes_px[0], (y - centre_xy[1]) / axes_px[1]
    return np.asarray(part_x**2 + part_y**2 <= 1)


def box(size_hw: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> Bools:
    """A filled box, half open, (H, W)."""
    mask = np.zeros(size_hw, dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def image_of(
    predicted: list[Bools | None],
    truth: list[Bools],
    points_xy: list[tuple[float, float]],
    scores: list[float] | None = None,
    name: str = "a",
    size_hw: tuple[int, int] | None = None,
) -> ImageMasks:
    """Masks of one image, its truths found under the points."""
    size = size_hw or (truth or [mask for mask in predicted if mask is not None])[0].shape
    height, width = size
    points = np.array(points_xy, dtype=np.float64).reshape(-1, 2)
    true = [rle_of(mask) for mask in truth]
    return ImageMasks(
        name=name,
        size_hw=(height, width),
        points_xy=points,
        predicted=[None if mask is None else rle_of(mask) for mask in predicted],
        scores=np.array(scores if scores is not None else [0.5] * len(predicted)),
        truth=true,
        true_of_point=find_truths(points, (height, width), true),
    )


def random_image(
    seed: int, size_hw: tuple[int, int] = (60, 80), people: int = 14, *, ties: bool = False
) -> ImageMasks:
    """Overlapping ellipses, masks that are more or less like them, misses and wrong ones."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform((0, 0), (size_hw[1] - 1, size_hw[0] - 1), (people, 2))
    axes = rng.uniform(2, 9, (people, 2))
    truth, predicted = [], []
    for centre, axis in zip(centres, axes, strict=True):
        mask = ellipse(size_hw, tuple(centre.tolist()), tuple(axis.tolist()))
        x, y = np.rint(centre).astype(int)
        mask[y, x] = True
        if rng.random() < 0.9:
            truth.append(mask)
        moved = centre + rng.normal(0, rng.choice([0.3, 2]), 2)
        other = ellipse(
            size_hw, tuple(moved.tolist()), tuple((axis * rng.uniform(0.8, 1.3, 2)).tolist())
        )
        exact = rng.random() < 0.2
        predicted.append(mask if exact else other if rng.random() < 0.9 and other.any() else None)
    scores = rng.choice([0.1, 0.5, 0.9], people) if ties else rng.random(people)
    return image_of(
        predicted,
        truth,
        [tuple(point) for point in centres.tolist()],
        scores.tolist(),
        name=str(seed),
        size_hw=size_hw,
    )


def grid_image(columns: int = 50, rows: int = 40) -> ImageMasks:
    """A crowd of disjoint people whose masks are the truth: 2,000 by default."""
    size_hw = (rows * 12, columns * 10)
    labels = np.zeros(size_hw, dtype=np.int32)
    person = ellipse((12, 10), (5, 6), (3.6, 5.2))
    points = []
    for row in range(rows):
        for column in range(columns):
            part = labels[row * 12 : row * 12 + 12, column * 10 : column * 10 + 10]
            part[person] = row * columns + column + 1
            points.append((column * 10 + 5.2, row * 12 + 5.7))
    truth = rles_of_labels(labels)
    points_xy = np.array(points)
    scores = np.random.default_rng(0).random(len(points))
    true_of_point = find_truths(points_xy, size_hw, truth)
    return ImageMasks("grid", size_hw, points_xy, list(truth), scores, truth, true_of_point)
