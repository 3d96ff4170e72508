"""From a segmented image to the rows that account for every one of its points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from dpmo_cli.datasets.base import FULLY_OCCLUDED, Heads
from dpmo_cli.evaluation.boxes import box_windows
from dpmo_cli.geometry.extents import HEAD, IN_DISC
from dpmo_cli.geometry.rle import rle_window
from dpmo_cli.masks import reasons
from dpmo_cli.masks.settle import SegmentedImage
from dpmo_cli.masks.site_mask import SiteMask
from dpmo_cli.outputs import schema


def hidden_points(heads: Heads) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """(N,) bool, the heads that can't be seen; None where the dataset does not tell."""
    return None if heads.occlusion is None else heads.occlusion == FULLY_OCCLUDED


def failed_rows(file_name: str, image_id: int, heads: Heads, *, died: bool = False) -> pa.Table:
    """Rows of an image that could not be read, or over which its workers died."""
    why = reasons.WORKER_DIED if died else reasons.UNREADABLE
    states = [(schema.FAILED, [why])] * len(heads)
    empty: list[dict[str, object]] = [{} for _ in range(len(heads))]
    return _table(file_name, image_id, heads, states, empty)


def segmented_rows(
    file_name: str, image_id: int, heads: Heads, segmented: SegmentedImage
) -> pa.Table:
    """Rows of a segmented image, one per point in the order of the annotation.

    Points that were rejected have not been segmented.
    """
    if heads.rejected is not None:
        segmented = _with_rejected(segmented, heads.rejected)
    sites = segmented.sites
    hidden = hidden_points(heads)
    representative = _representatives(segmented, heads, hidden)
    boxes = None if heads.boxes_xyxy is None else box_windows(heads.boxes_xyxy, segmented.size_hw)
    states: list[tuple[str, list[str]]] = []
    masks: list[dict[str, object]] = []
    for point_id, site in enumerate(sites.site_of_point.tolist()):
        values: dict[str, object] = {}
        why: list[str] = []
        if site >= 0:
            values["radius_px"] = float(segmented.radii_px[site])
            why = list(segmented.reasons[site])
        status = _status(segmented, heads, hidden, representative, point_id, site, why)
        if status in (schema.OK, schema.SHARED):
            mask = segmented.masks[site]
            assert mask is not None
            values |= {
                "annotation_id": schema.annotation_id(image_id, int(representative[site])),
                "bbox": [float(value) for value in mask.bbox_xywh],
                "area": mask.area_px,
                "rle": dict(mask.rle),
            }
            radius = float(segmented.radii_px[site])
            if boxes is not None and _box_disagrees(
                mask, boxes[point_id].tolist(), radius, segmented.extent
            ):
                why.append(reasons.BOX_DISAGREES)
        if status in (schema.OK, schema.SHARED, schema.EMPTY):
            scores = segmented.scores
            for name in ("predicted_iou", "stability", "retained"):
                values[name] = _finite(getattr(scores, name)[site])
        if status in (schema.OK, schema.SHARED):
            values["score"] = _finite(segmented.scores.score[site])
        states.append((status, why))
        masks.append(values)
    return _table(file_name, image_id, heads, states, masks)


def _representatives(
    segmented: SegmentedImage, heads: Heads, hidden: np.ndarray[Any, np.dtype[np.bool_]] | None
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The point that owns each site's mask: its first in the order of coordinates that is seen."""
    sites = segmented.sites
    owners = sites.point_of_site.copy()
    if hidden is None:
        return owners
    for site in np.flatnonzero(hidden[owners] & segmented.prompted):
        seen = np.flatnonzero((sites.site_of_point == site) & ~hidden)
        x, y = heads.points_xy[seen].T
        owners[site] = seen[np.lexsort((seen, y, x))[0]]
    return owners


def _with_rejected(
    segmented: SegmentedImage, rejected: np.ndarray[Any, np.dtype[np.bool_]]
) -> SegmentedImage:
    """The same, with the indices of all points; rejected ones have no site."""
    kept = np.flatnonzero(~rejected)
    sites = segmented.sites
    site_of_point = np.full(len(rejected), -1, dtype=np.int64)
    site_of_point[kept] = sites.site_of_point
    point_of_site = kept[sites.point_of_site]
    return replace(
        segmented, sites=replace(sites, site_of_point=site_of_point, point_of_site=point_of_site)
    )


def _status(
    segmented: SegmentedImage,
    heads: Heads,
    hidden: np.ndarray[Any, np.dtype[np.bool_]] | None,
    representative: np.ndarray[Any, np.dtype[np.int64]],
    point_id: int,
    site: int,
    why: list[str],
) -> str:
    """Status of a point; the reason that belongs to the point alone is added to `why`."""
    if heads.rejected is not None and heads.rejected[point_id]:
        why.append(reasons.REJECTED)
        return schema.REJECTED
    if site < 0:
        why.append(reasons.NOT_FINITE)
        return schema.INVALID
    if not segmented.sites.inside[site]:
        why.append(reasons.OUTSIDE_IMAGE)
        return schema.OUTSIDE
    if hidden is not None and hidden[point_id]:
        why.append(reasons.FULLY_OCCLUDED)
        return schema.OCCLUDED
    first = int(representative[site]) == point_id
    if not first:
        why.append(schema.DUPLICATE)
    if segmented.masks[site] is None:
        return schema.EMPTY
    return schema.OK if first else schema.SHARED


def _box_disagrees(
    mask: SiteMask, box_xyxy: tuple[int, int, int, int], radius_px: float, extent: str
) -> bool:
    """Whether a mask and the head box of its point, (x0, y0, x1, y1) half open, do not fit."""
    left, top, right, bottom = box_xyxy
    box_px = (right - left) * (bottom - top)
    if not box_px:
        return False
    window, (x0, y0, _, _) = rle_window(mask.rle)
    rows = slice(max(0, top - y0), max(0, bottom - y0))
    columns = slice(max(0, left - x0), max(0, right - x0))
    inside = int(window[rows, columns].sum())
    # A disc that is smaller than the head lets no mask fill its box.
    possible = min(box_px, math.pi * radius_px**2) if extent in IN_DISC else box_px
    if inside < reasons.BOX_COVER * possible:
        return True
    return extent == HEAD and inside < reasons.BOX_CONTAINMENT * mask.area_px


def _finite(value: np.float32) -> float | None:
    return float(value) if math.isfinite(value) else None


def _table(
    file_name: str,
    image_id: int,
    heads: Heads,
    states: Sequence[tuple[str, list[str]]],
    masks: Sequence[dict[str, object]],
) -> pa.Table:
    """Columns of RECORD_SCHEMA from what is known of each point."""
    count = len(heads)
    columns: dict[str, Sequence[object]] = {
        "image": [file_name] * count,
        "image_id": [image_id] * count,
        "point_id": range(count),
        "x": heads.points_xy[:, 0].tolist(),
        "y": heads.points_xy[:, 1].tolist(),
        "status": [status for status, _ in states],
        "reasons": [why for _, why in states],
        "flagged": [bool(why) for _, why in states],
        "source": [schema.AUTO if "rle" in mask else None for mask in masks],
    }
    if heads.boxes_xyxy is not None:
        columns["head_box_xyxy"] = heads.boxes_xyxy.tolist()
    if heads.occlusion is not None:
        columns["occlusion"] = heads.occlusion.tolist()
    if heads.blurred is not None:
        columns["blurred"] = heads.blurred.tolist()
    if heads.external_ids is not None:
        columns["external_id"] = heads.external_ids
    if heads.locator_scores is not None:
        columns["locator_score"] = heads.locator_scores.tolist()
    arrays = []
    for column in schema.RECORD_SCHEMA:
        values = columns.get(column.name)
        if values is None:
            values = [mask.get(column.name) for mask in masks]
        arrays.append(pa.array(list(values), type=column.type))
    return pa.Table.from_arrays(arrays, schema=schema.RECORD_SCHEMA)
