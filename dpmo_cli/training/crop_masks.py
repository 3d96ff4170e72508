"""Masks of crops: cut, scaled and flipped with the picture, then given to cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dpmo_cli.geometry.points import FloatArray, IntArray
from dpmo_cli.geometry.rle import WindowXYXY
from dpmo_cli.training.crowd_masks import REACH_SIGMAS, CrowdMasks, gaussian_parts
from dpmo_cli.training.mask_regions import NOT_COUNTED, Regions, regions_of, regions_of_parts

Gaussians = tuple[FloatArray, FloatArray]
"""(M, 2) points and (M,) sigmas, px."""


@dataclass(frozen=True)
class CropMasks:
    """The masks of the N people of a crop.

    People whose masks the crop cuts, or who stand outside it, are not asked about.

    Attributes:
        labels: (h, w) int32, the part of the frame that the image fills: 0 nobody, 1 to N the
            people, NOT_COUNTED.
        mask_of_point: (N,) int64, on whose mask each stands, -1 for one that is not here.
        people: (N,) float32 on the own mask.
        weight: (N,) float32 of the own mask.
        sigma_px: (N,) float64 where Gaussians stand for the masks.
        others: the Gaussians that reach into the crop and are not asked about.
    """

    labels: NDArray[np.int32]
    mask_of_point: IntArray
    people: NDArray[np.float32]
    weight: NDArray[np.float32]
    sigma_px: FloatArray | None = None
    others: Gaussians | None = None


def cut_masks(
    masks: CrowdMasks,
    window_xyxy: WindowXYXY,
    valid_hw: tuple[int, int],
    scale: float,
    points_xy: FloatArray,
    inside: NDArray[np.bool_],
    *,
    flipped: bool,
) -> CropMasks:
    """Cut the masks of an image as its picture was.

    Args:
        masks: of the whole image.
        window_xyxy: what was cut out, px of the image.
        valid_hw: height and width to which that was scaled, px.
        scale: px of the frame in one of the image.
        points_xy: (P, 2) px of the frame, of all people of the image, flipped already.
        inside: (P,) bool, who stands in the crop.
        flipped: whether left and right are exchanged.
    """
    kept = np.flatnonzero(inside)
    number = np.full(len(inside) + 1, -1, dtype=np.int64)
    number[kept] = np.arange(len(kept))
    sigma = others = None
    if masks.sigma_px is None:
        drawn = masks.draw(window_xyxy)
        whole = np.bincount(drawn[drawn > 0], minlength=len(inside) + 1)[1:] == masks.area_px
        asked = inside & whole & (masks.weight > 0)
        new = np.full(len(inside) + 1, NOT_COUNTED, dtype=np.int32)
        new[np.flatnonzero(asked)] = number[np.flatnonzero(asked)] + 1
        rows, columns = (
            np.minimum(((np.arange(to) + 0.5) * (of / to)).astype(int), of - 1)
            for of, to in zip(drawn.shape, valid_hw, strict=True)
        )
        drawn = drawn[np.ix_(rows, columns)]
        labels = np.where(drawn > 0, new[drawn - 1], drawn)
        labels = labels[:, ::-1] if flipped else labels
    else:
        sigmas = masks.sigma_px * scale
        reach = REACH_SIGMAS * sigmas[:, None]
        low, high = points_xy - reach, points_xy + reach
        far = np.array([valid_hw[1], valid_hw[0]]) - 0.5
        asked = inside & ((low >= -0.5) & (high <= far)).all(axis=1) & (masks.weight > 0)
        near = ((high >= -0.5) & (low <= far)).all(axis=1) & ~asked & (masks.weight > 0)
        labels = np.zeros(valid_hw, dtype=np.int32)
        sigma, others = sigmas[kept], (points_xy[near], sigmas[near])
    standing = number[masks.mask_of_point[kept]]
    return CropMasks(
        np.ascontiguousarray(labels),
        standing,
        masks.people[kept],
        np.where(asked, masks.weight, 0.0)[kept].astype(np.float32),
        sigma,
        others,
    )


def crop_regions(
    masks: Sequence[CropMasks],
    places: Sequence[tuple[FloatArray, tuple[int, int]]],
    crop_px: int,
    cell_px: int,
) -> Regions:
    """Whose the cells of a batch of square frames are.

    Args:
        masks: of each crop.
        places: of each crop the (N, 2) points, px, and the height and width that are filled.
        crop_px: side of the frames.
        cell_px: side of a cell; a part of `crop_px`.
    """
    cells = crop_px // cell_px
    shape = (len(masks), cells, cells)
    counts = [len(one.weight) for one in masks]
    nearest = np.zeros(shape, dtype=np.int64)
    for one, (points_xy, _), out in zip(masks, places, nearest, strict=True):
        out[:] = _nearest(points_xy, one.mask_of_point, cells, cell_px)
    people = torch.from_numpy(np.concatenate([one.people for one in masks]))
    weight = torch.from_numpy(np.concatenate([one.weight for one in masks]))
    if masks[0].sigma_px is None:
        labels = np.full((len(masks), crop_px, crop_px), NOT_COUNTED, dtype=np.int32)
        for one, of_crop in zip(masks, labels, strict=True):
            of_crop[: one.labels.shape[0], : one.labels.shape[1]] = one.labels
        return regions_of(
            torch.from_numpy(labels),
            cell_px,
            counts=counts,
            nearest=torch.from_numpy(nearest),
            people=people,
            weight=weight,
        )
    parts = [
        _gaussians(one, *place, cells, cell_px) for one, place in zip(masks, places, strict=True)
    ]
    begin = np.arange(len(masks)) * cells * cells
    first = np.cumsum([0, *counts[:-1]])
    moved = [
        (cell + start, person + number, value, ignored + start)
        for (cell, person, value, ignored), start, number in zip(parts, begin, first, strict=True)
    ]
    cell, person, value, ignored = (
        torch.from_numpy(np.concatenate(column)) for column in zip(*moved, strict=True)
    )
    return regions_of_parts(
        cell,
        person,
        value,
        shape,
        counts,
        ignored=ignored,
        nearest=torch.from_numpy(nearest),
        people=people,
        weight=weight,
    )


def _gaussians(
    masks: CropMasks, points_xy: FloatArray, valid_hw: tuple[int, int], cells: int, cell_px: int
) -> tuple[IntArray, IntArray, FloatArray, IntArray]:
    """Cells, persons and parts of the Gaussians of a crop; the cells that are not counted."""
    assert masks.sigma_px is not None
    assert masks.others is not None
    asked = np.flatnonzero(masks.weight > 0)
    size = (cells, cells)
    cell, point, value = gaussian_parts(points_xy[asked], masks.sigma_px[asked], size, cell_px)
    elsewhere, _, _ = gaussian_parts(*masks.others, size, cell_px)
    empty = np.ones(size, dtype=np.bool_)
    empty[: -(-valid_hw[0] // cell_px), : -(-valid_hw[1] // cell_px)] = False
    return cell, asked[point], value, np.concatenate([elsewhere, np.flatnonzero(empty)])


def _nearest(
    points_xy: FloatArray, mask_of_point: IntArray, cells: int, cell_px: int
) -> NDArray[np.int64]:
    """(cells, cells) int64, the label of the mask of the nearest point, 0 where there is none."""
    if not len(points_xy):
        return np.zeros((cells, cells), dtype=np.int64)
    middle = (np.arange(cells) + 0.5) * cell_px - 0.5
    x, y = np.meshgrid(middle, middle)
    _, nearest = cKDTree(points_xy).query(np.stack([x, y], axis=-1))
    return np.asarray(mask_of_point[nearest] + 1)
