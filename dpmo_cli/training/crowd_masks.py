"""The masks of an annotated image as training needs them: compact, and drawn crop by crop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dpmo_cli.geometry.nnec import disc_radii, disc_windows, neighbour_distances
from dpmo_cli.geometry.points import FloatArray, IntArray, group_points
from dpmo_cli.geometry.rle import WindowXYXY, run_lengths
from dpmo_cli.outputs.schema import AUTO, NOBODY, OK, SHARED
from dpmo_cli.outputs.segments import Segments, areas_of, ones_of, segments_of
from dpmo_cli.training.mask_regions import NOT_COUNTED

DOUBTFUL_WEIGHT = 0.5
"""How much a mask in the review queue counts, until somebody has looked at it."""
MASK, DISC, HALF_DISC, GAUSSIAN = SHAPES = ("mask", "disc", "half-disc", "gaussian")
"""What can stand for a person's mask; the Gaussians follow the distance of the neighbours."""
GAUSSIAN_NEIGHBOURS = 3
GAUSSIAN_OF_DISTANCE = 0.3
"""Sigma in parts of the mean distance to the nearest three, as in MCNN (CVPR 2016)."""
SIGMA_PX = (1.0, 15.0)
REACH_SIGMAS = 3.0


@dataclass(frozen=True)
class CrowdMasks:
    """The masks of the N people of one image.

    Attributes:
        size_hw: height and width of the image, px.
        segments: vertical pieces of the masks; of pieces that share a pixel the last has it.
        label_of_owner: (M,) int32, what the pieces of each of their owners are labelled: the index
            of a person plus one, or NOT_COUNTED.
        mask_of_point: (N,) int64, the person on whose mask each stands: oneself, the first of
            those who share one, -1 without a mask.
        area_px: (N,) int64 of the own mask, 0 without one.
        weight: (N,) float32, how much the own mask counts, 0 without one.
        sigma_px: (N,) float64, where Gaussians stand for the masks, else None: no segments then.
    """

    size_hw: tuple[int, int]
    segments: Segments
    label_of_owner: NDArray[np.int32]
    mask_of_point: IntArray
    area_px: IntArray
    weight: NDArray[np.float32]
    sigma_px: FloatArray | None = None

    @property
    def people(self) -> NDArray[np.float32]:
        """(N,) float32, the people on the mask of each."""
        known = self.mask_of_point[self.mask_of_point >= 0]
        return np.bincount(known, minlength=len(self.weight)).astype(np.float32)

    def draw(self, window_xyxy: WindowXYXY | None = None) -> NDArray[np.int32]:
        """Label map of a part of the image, of all of it without a window.

        Returns:
            (h, w) int32: 0 nobody, 1 to N the people, NOT_COUNTED where nothing is known.
        """
        x0, y0, x1, y1 = window_xyxy or (0, 0, self.size_hw[1], self.size_hw[0])
        found = self.segments
        kept = (found.x >= x0) & (found.x < x1) & (found.bottom >= y0) & (found.top < y1)
        top = np.maximum(found.top[kept], y0) - y0
        length = np.minimum(found.bottom[kept], y1 - 1) - y0 - top + 1
        begin = (found.x[kept] - x0) * (y1 - y0) + top
        labels = np.zeros((x1 - x0) * (y1 - y0), dtype=np.int32)
        place = np.repeat(begin - np.cumsum(length) + length, length) + np.arange(length.sum())
        labels[place] = np.repeat(self.label_of_owner[found.owner[kept]], length)
        return np.ascontiguousarray(labels.reshape(x1 - x0, y1 - y0).T)


def masks_of_rows(
    rows: pa.Table, size_hw: tuple[int, int], doubtful: float = DOUBTFUL_WEIGHT
) -> tuple[FloatArray, CrowdMasks]:
    """The people of an image and their masks, from the rows of its record.

    Points that are nobody's are left out. Round people without a mask nothing is known: their
    discs are not counted, but for the pixels of others.

    Args:
        rows: of RECORD_SCHEMA, with what reviewers decided.
        size_hw: height and width of the image, px.
        doubtful: how much masks count that are in the review queue; those that a reviewer drew,
            corrected or accepted count one, as do the others.

    Returns:
        (N, 2) float64 points, px, inside the image, and their masks.

    Raises:
        ValueError: an RLE can't be read.
    """
    points_xy = np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1)
    status = np.array(rows["status"].to_pylist(), dtype=object)
    inside = ((points_xy >= 0) & (points_xy < size_hw[::-1])).all(axis=1)
    kept = inside & ~np.isin(status, NOBODY)
    rows, points_xy, status = rows.filter(pa.array(kept)), points_xy[kept], status[kept]
    own = np.flatnonzero(status == OK)
    ids = np.array(rows["annotation_id"].fill_null(-1).to_pylist(), dtype=np.int64)
    mask_of_point = np.full(len(status), -1, dtype=np.int64)
    mask_of_point[own] = own
    person_of_id = dict(zip(ids[own].tolist(), own.tolist(), strict=True))
    for point in np.flatnonzero(status == SHARED).tolist():
        mask_of_point[point] = person_of_id.get(int(ids[point]), -1)

    rles = rows["rle"].to_pylist()
    runs = ones_of([run_lengths(rles[person]["counts"]) for person in own.tolist()])
    area = np.zeros(len(status), dtype=np.int64)
    area[own] = areas_of(runs, len(own))
    sure = np.array(
        [
            source != AUTO or not flagged
            for source, flagged in zip(
                rows["source"].to_pylist(), rows["flagged"].to_pylist(), strict=True
            )
        ],
        dtype=np.bool_,
    )
    weight = np.where(area > 0, np.where(sure, 1.0, doubtful), 0.0).astype(np.float32)
    bare = np.flatnonzero(mask_of_point < 0)
    radii = np.array(rows["radius_px"].to_pylist(), dtype=np.float64)[bare]
    unknown = disc_segments(points_xy[bare], np.nan_to_num(radii), size_hw)
    masks = segments_of(runs, size_hw[0])
    return points_xy, CrowdMasks(
        size_hw,
        # The last piece has the pixel: what is known.
        Segments(
            np.concatenate([unknown.owner, masks.owner + len(bare)]),
            *(
                np.concatenate([getattr(unknown, name), getattr(masks, name)])
                for name in ("x", "top", "bottom")
            ),
        ),
        np.concatenate([np.full(len(bare), NOT_COUNTED), own + 1]).astype(np.int32),
        mask_of_point,
        area,
        weight,
    )


def shapes_of_points(points_xy: FloatArray, size_hw: tuple[int, int], shape: str) -> CrowdMasks:
    """What stands for the masks where there are only points.

    Args:
        points_xy: (N, 2) float64 px, inside the image; those of one pixel share a shape.
        size_hw: height and width of the image, px.
        shape: `disc`, the Nearest Neighbor Exclusive Circle at scale 1, each pixel the nearest
            point's of those whose circle holds it; `half-disc`, the same at half the radius; or
            `gaussian`.
    """
    sites = group_points(points_xy, size_hw)
    mask_of_point = sites.point_of_site[sites.site_of_point]
    weight = np.zeros(len(points_xy), dtype=np.float32)
    weight[sites.point_of_site] = 1.0
    empty = np.zeros(0, dtype=np.int64)
    nothing = Segments(empty, empty, empty, empty)
    labels = np.arange(1, len(points_xy) + 1, dtype=np.int32)
    area = np.zeros(len(points_xy), dtype=np.int64)
    if shape == GAUSSIAN:
        sigma = adaptive_sigmas(sites.xy)[sites.site_of_point]
        return CrowdMasks(size_hw, nothing, labels, mask_of_point, area, weight, sigma)
    radii = disc_radii(neighbour_distances(sites), size_hw, 1.0)
    if shape == HALF_DISC:
        radii = 0.5 * radii
    drawn = np.zeros(size_hw, dtype=np.int32)
    pieces = disc_segments(sites.xy, radii, size_hw)
    length = pieces.bottom - pieces.top + 1
    within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    x, y = np.repeat(pieces.x, length), np.repeat(pieces.top, length) + within
    site = np.repeat(pieces.owner, length)
    away = np.hypot(x - sites.xy[site, 0], y - sites.xy[site, 1])
    # The last one written has the pixel; a site's own pixel is its own.
    order = np.argsort(-away, kind="stable")
    drawn[y[order], x[order]] = labels[sites.point_of_site[site[order]]]
    held = sites.pixel_xy
    drawn[held[:, 1], held[:, 0]] = labels[sites.point_of_site]
    area = np.bincount(drawn.ravel(), minlength=len(points_xy) + 1)[1:].astype(np.int64)
    return CrowdMasks(size_hw, _segments_of_map(drawn), labels, mask_of_point, area, weight)


def disc_segments(
    centres_xy: FloatArray, radii_px: FloatArray, size_hw: tuple[int, int]
) -> Segments:
    """The columns of discs, cut at the image's border; those of several may share pixels."""
    windows = disc_windows(centres_xy, radii_px, size_hw)
    columns = windows[:, 2] - windows[:, 0]
    owner = np.repeat(np.arange(len(columns)), columns)
    x = np.repeat(windows[:, 0], columns) + np.arange(len(owner))
    x -= np.repeat(np.cumsum(columns) - columns, columns)
    half = np.sqrt(np.maximum(0.0, radii_px[owner] ** 2 - (x - centres_xy[owner, 0]) ** 2))
    middle = centres_xy[owner, 1]
    top = np.maximum(np.ceil(middle - half), 0).astype(np.int64)
    bottom = np.minimum(np.floor(middle + half), size_hw[0] - 1).astype(np.int64)
    filled = bottom >= top
    return Segments(owner[filled], x[filled], top[filled], bottom[filled])


def adaptive_sigmas(points_xy: FloatArray) -> FloatArray:
    """Sigma of each of (N, 2) distinct points, by its nearest three: (N,) float64 px."""
    neighbours = min(GAUSSIAN_NEIGHBOURS, len(points_xy) - 1)
    if neighbours < 1:
        return np.full(len(points_xy), SIGMA_PX[1])
    away, _ = cKDTree(points_xy).query(points_xy, k=neighbours + 1)
    return np.asarray(np.clip(GAUSSIAN_OF_DISTANCE * away[:, 1:].mean(axis=1), *SIGMA_PX))


def gaussian_parts(
    points_xy: FloatArray, sigma_px: FloatArray, cells_hw: tuple[int, int], cell_px: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """What Gaussians have in the cells of a frame, up to three sigmas from their points.

    Args:
        points_xy: (N, 2) px of the frame.
        sigma_px: (N,); those of cells smaller than one are taken as half a cell wide.
        cells_hw: height and width of the map.
        cell_px: side of a cell.

    Returns:
        (P,) index into the flattened map, (P,) point, (P,) float64 integral over the cell, of
        which all those of a point inside the frame add up to less than one.
    """
    sigma = np.maximum(sigma_px, cell_px / 2) / cell_px
    centre = (points_xy + 0.5) / cell_px - 0.5
    windows = disc_windows(centre, REACH_SIGMAS * sigma, cells_hw)
    sides = windows[:, 2:] - windows[:, :2]
    count = sides.prod(axis=1)
    point = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(point)) - np.repeat(np.cumsum(count) - count, count)
    place = np.stack([within % sides[point, 0], within // sides[point, 0]], axis=1)
    place += windows[point, :2]
    away = (place - centre[point]) / sigma[point, None]
    height = 1 / (2 * math.pi * sigma[point] ** 2)
    return (
        place[:, 1] * cells_hw[1] + place[:, 0],
        point,
        height * np.exp(-0.5 * (away**2).sum(axis=1)),
    )


def _segments_of_map(labels: NDArray[np.int32]) -> Segments:
    """Vertical pieces of a label map, each owned by its label less one."""
    height, width = labels.shape
    padded = np.zeros((width, height + 2), dtype=np.int32)
    padded[:, 1:-1] = labels.T
    changes = padded[:, 1:] != padded[:, :-1]
    begin_x, begin_y = np.nonzero(changes & (padded[:, 1:] > 0))
    _, end_y = np.nonzero(changes & (padded[:, :-1] > 0))
    return Segments(labels[begin_y, begin_x].astype(np.int64) - 1, begin_x, begin_y, end_y - 1)
