"""Whose the cells of counting maps are: masks as a sparse table. Needs nothing but torch.

A cell that masks touch belongs to them alone, divided as if each person were spread evenly over
the own mask. So that spread, which `dpmo export --format density` writes, has no foreground or
background error at any resolution, however many heads share a cell. With Gaussians for masks the
division is the posterior of the Bayesian loss (Ma et al., ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

NOT_COUNTED = -1
"""The label of pixels about which nothing is known: padding, people without a mask."""
_CHUNK = 1 << 22
"""Distances that `nearest_labels` holds at once."""
_EXACT = "donot_use_mm_for_euclid_dist"


class Regions(NamedTuple):
    """Whose the cells of a batch of maps are: E entries of a sparse table, K masks.

    Made by `regions_of` or `regions_of_parts`; masks of one image follow those of the image
    before.

    Attributes:
        cell: (E,) int64, index into the flattened (B, h, w) map.
        mask: (E,) int64, below K.
        part: (E,) float32, part of the cell's mass that is on the mask; those of a cell add up
            to one.
        foreign: (E,) float32, 1 where the cell is nearest to the point of another mask, and that
            mask counts and has no part in it.
        ground: (B, h, w) float32, 1 where mass is on no mask, 0 elsewhere.
        people: (K,) float32, people on each mask: 1, or more where points share a mask.
        weight: (K,) float32, how much each mask counts; 0 for one without a cell.
    """

    cell: Tensor
    mask: Tensor
    part: Tensor
    foreign: Tensor
    ground: Tensor
    people: Tensor
    weight: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Regions:
        """The same on another device."""
        return Regions(*(one.to(device, non_blocking=non_blocking) for one in self))


def regions_of(
    labels: Tensor,
    cell_px: int = 1,
    *,
    counts: Sequence[int] | None = None,
    nearest: Tensor | None = None,
    people: Tensor | None = None,
    weight: Tensor | None = None,
) -> Regions:
    """Find whose the cells of a map are, in one pass over a label map.

    Args:
        labels: (B, H, W) integers: 0 is nobody, 1 to N the masks of the image, negative is not
            counted (`NOT_COUNTED`).
        cell_px: pixels of the label map along a side of a cell of the model's map.
        counts: N of each image; the largest label by default. Masks without a pixel count nothing.
        nearest: (B, h, w) integers, as of `nearest_labels`; without them, no mass is foreign.
        people: (K,) people on each mask, all images' in a row; one by default.
        weight: (K,) how much each mask counts; one by default.

    Returns:
        For maps of (B, ceil(H / cell_px), ceil(W / cell_px)).

    Raises:
        ValueError: shapes or numbers that do not go together.
    """
    images, height, width = labels.shape
    rows, columns = -(-height // cell_px), -(-width // cell_px)
    if counts is None:
        counts = labels.reshape(images, -1).amax(dim=1).clamp(min=0).tolist() if images else []
    if len(counts) != images:
        raise ValueError(f"{len(counts)} counts for {images} label maps")
    offset = torch.tensor([0, *counts], device=labels.device).cumsum(0)
    image, y, x = (labels != 0).nonzero(as_tuple=True)
    label = labels[image, y, x].long()
    cell = (image * rows + y // cell_px) * columns + x // cell_px
    known = label > 0
    if (label > offset.diff()[image])[known].any():
        raise ValueError("a label is larger than the number of masks of its image")
    ignored = cell[~known]
    mask = (label - 1 + offset[image])[known]
    return regions_of_parts(
        cell[known],
        mask,
        torch.ones(len(mask), device=labels.device),
        (images, rows, columns),
        counts,
        ignored=ignored,
        nearest=nearest,
        people=people,
        weight=weight,
    )


def regions_of_parts(
    cell: Tensor,
    mask: Tensor,
    value: Tensor,
    shape: tuple[int, int, int],
    counts: Sequence[int],
    *,
    ignored: Tensor | None = None,
    nearest: Tensor | None = None,
    people: Tensor | None = None,
    weight: Tensor | None = None,
) -> Regions:
    """Find whose the cells of a map are from what each mask has in them: soft masks, overlaps.

    Args:
        cell: (P,) int64, index into the flattened map; a cell and a mask may meet several times.
        mask: (P,) int64, below K, the sum of `counts`.
        value: (P,) positive: pixels, or the integral of a Gaussian there, in any unit.
        shape: (B, h, w) of the map.
        counts: masks of each image.
        ignored: (I,) int64 cells that are no background, though they may lie on no mask.
        nearest, people, weight: as of `regions_of`.

    Raises:
        ValueError: shapes that do not go together.
    """
    total, device = sum(counts), cell.device
    for name, column in (("people", people), ("weight", weight)):
        if column is not None and column.shape != (total,):
            raise ValueError(f"{name} of shape {tuple(column.shape)} for {total} masks")
    if nearest is not None and nearest.shape != shape:
        raise ValueError(f"nearest of shape {tuple(nearest.shape)} for maps of {shape}")
    key, place = torch.unique(cell * max(1, total) + mask, return_inverse=True)
    cell, mask = key // max(1, total), key % max(1, total)
    value = torch.zeros(len(key), device=device).index_add(0, place, value.float())
    # Of each mask's own spread, then of each cell: fp32 is enough for sums of a few hundred.
    area = torch.zeros(total, device=device).index_add(0, mask, value)
    spread = value / area[mask]
    cells = shape[0] * shape[1] * shape[2]
    part = spread / torch.zeros(cells, device=device).index_add(0, cell, spread)[cell]

    ground = torch.ones(cells, device=device)
    ground[cell] = 0.0
    if ignored is not None:
        ground[ignored] = 0.0
    one = torch.ones(total, device=device)
    people = one if people is None else people.to(one)
    weight = (one if weight is None else weight.to(one)) * (area > 0)
    foreign = torch.zeros_like(part)
    if nearest is not None and total:
        offset = torch.tensor([0, *counts], device=device).cumsum(0)[:-1]
        label = nearest.long().flatten()[cell]
        own = label - 1 + offset[cell // (shape[1] * shape[2])]
        # A cell on which the nearest person is too can hold that person's mass.
        shared = torch.zeros(cells, device=device).index_add(0, cell, (own == mask).float())
        # Where a mask is not known, nobody can say on whose the mass should be.
        known = weight[own.clamp(min=0)] > 0
        foreign = ((label > 0) & known & (shared[cell] == 0)).float()
    return Regions(cell, mask, part, foreign, ground.reshape(shape), people, weight)


def nearest_labels(points: Sequence[Tensor], size_hw: tuple[int, int], cell_px: int = 1) -> Tensor:
    """The label of the point nearest to the middle of each cell, of equal ones the leftmost.

    Args:
        points: for each image (N, 2) x and y in px, pixel centres at integers; the point at
            position i is that of the mask of label i + 1.
        size_hw: height and width of the label maps, px.
        cell_px: pixels along a side of a cell.

    Returns:
        (B, ceil(H / cell_px), ceil(W / cell_px)) int64; 0 in an image without points.
    """
    rows, columns = (-(-side // cell_px) for side in size_hw)
    found = []
    for of_image in points:
        labels = torch.zeros(rows * columns, dtype=torch.int64, device=of_image.device)
        if len(of_image):
            xy = of_image.to(precise(of_image))
            # By x, then y: the order of the points decides nothing.
            order = xy[:, 1].argsort(stable=True)
            order = order[xy[order, 0].argsort(stable=True)]
            xy = xy[order]
            y, x = (
                (torch.arange(cells, device=xy.device, dtype=xy.dtype) + 0.5) * cell_px - 0.5
                for cells in (rows, columns)
            )
            middles = torch.cartesian_prod(y, x).flip(1)
            step = max(1, _CHUNK // len(xy))
            for begin in range(0, len(middles), step):
                away = torch.cdist(middles[begin : begin + step], xy, compute_mode=_EXACT)
                labels[begin : begin + step] = order[away.argmin(dim=1)] + 1
        found.append(labels.reshape(rows, columns))
    return torch.stack(found)


def labels_of_rles(rles: Sequence[Mapping[str, Any]], size_hw: tuple[int, int]) -> Tensor:
    """Draw COCO run lengths, compressed or plain, as the label map of one image.

    Args:
        rles: of masks that share no pixel; the one at position i gets the label i + 1.
        size_hw: height and width of the image, px.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: an RLE of another size, or runs that do not add up to the image.
    """
    lengths: list[Tensor] = []
    for rle in rles:
        counts = rle["counts"]
        if isinstance(counts, (str, bytes)):
            # Only here, so that nothing but torch is needed elsewhere.
            from dpmo_cli.geometry.rle import run_lengths

            counts = run_lengths(counts)
        runs = torch.as_tensor(counts, dtype=torch.int64)
        pixels = size_hw[0] * size_hw[1]
        if list(rle["size"]) != list(size_hw) or (runs < 0).any() or int(runs.sum()) != pixels:
            raise ValueError(f"the run lengths of mask {len(lengths)} do not fit {size_hw}")
        # An even number of runs, so that those of ones stay at odd places in the row of all.
        lengths.append(torch.cat([runs, runs.new_zeros(len(runs) % 2)]))
    height, width = size_hw
    if not lengths:
        return torch.zeros(size_hw, dtype=torch.int64)
    ones = torch.tensor([0, 1]).repeat(sum(len(one) for one in lengths) // 2)
    number = torch.arange(1, len(lengths) + 1).repeat_interleave(
        torch.tensor([len(one) for one in lengths])
    )
    runs = torch.cat(lengths)
    # Each mask's runs fill one frame: a pixel's place in the row of frames tells its column.
    begin = (runs.cumsum(0) - runs) % (height * width)
    length = runs * ones
    within = torch.arange(int(length.sum())) - (length.cumsum(0) - length).repeat_interleave(length)
    labels = torch.zeros(height * width, dtype=torch.int64)
    labels[begin.repeat_interleave(length) + within] = number.repeat_interleave(length)
    return labels.reshape(width, height).T.contiguous()


def labels_of_masks(masks: Tensor) -> Tensor:
    """The label map of one image, (H, W) int64, from (N, H, W) masks that share no pixel.

    Where masks do share a pixel the last has it; `regions_of_parts` knows how to divide it.
    """
    number = torch.arange(1, len(masks) + 1, device=masks.device)[:, None, None]
    if not len(masks):
        return masks.new_zeros(masks.shape[1:], dtype=torch.int64)
    return ((masks != 0) * number).amax(dim=0)


def precise(values: Tensor) -> torch.dtype:
    """Sums of bfloat16 lose whole people."""
    return torch.promote_types(values.dtype, torch.float32)
