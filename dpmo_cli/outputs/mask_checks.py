"""Checks of the masks of one image: sizes, runs, areas, boxes, disjointness, discs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.extents import IN_DISC
from dpmo_cli.geometry.rle import run_lengths
from dpmo_cli.outputs.findings import Problem, few
from dpmo_cli.outputs.json_values import (
    as_int,
    as_list,
    as_number,
    as_numbers,
    as_object,
    as_text,
)
from dpmo_cli.outputs.schema import AUTO
from dpmo_cli.outputs.segments import Runs, Segments, areas_of, boxes_of, ones_of, segments_of

DISC_TOLERANCE_PX = 1e-6


@dataclass(frozen=True, slots=True)
class Annotation:
    """What the checks need of one COCO annotation; sizes are (H, W), boxes xywh, all in px.

    A person whom a reviewer added has no disc: its radius is NaN.
    """

    id: int
    image_id: int
    category_id: int
    iscrowd: int
    size_hw: tuple[int, int]
    counts: str
    area: int
    bbox: tuple[float, ...]
    point_id: int
    point_xy: tuple[float, float]
    radius_px: float
    extent: str
    source: str = AUTO
    reviewer: str | None = None

    @property
    def is_automatic(self) -> bool:
        """Whether nobody has drawn the mask or found it right: it keeps to its disc and point."""
        return self.source == AUTO

    @classmethod
    def from_json(cls, value: object) -> Annotation:
        """Take an annotation from parsed JSON.

        Raises:
            ValueError: one line that says what is missing or of the wrong type.
        """
        fields = as_object(value, "the annotation")
        rle = as_object(fields.get("segmentation"), "segmentation")
        attributes = as_object(fields.get("attributes"), "attributes")
        height, width = as_list(rle.get("size"), 2, "size")
        x, y = as_numbers(attributes.get("point"), 2, "point")
        source = as_text(attributes.get("source", AUTO), "source")
        reviewer = attributes.get("reviewer")
        radius = attributes.get("radius_px")
        no_disc = radius is None and source != AUTO
        return cls(
            id=as_int(fields.get("id"), "id"),
            image_id=as_int(fields.get("image_id"), "image_id"),
            category_id=as_int(fields.get("category_id"), "category_id"),
            iscrowd=as_int(fields.get("iscrowd"), "iscrowd"),
            size_hw=(as_int(height, "size"), as_int(width, "size")),
            counts=as_text(rle.get("counts"), "counts"),
            area=as_int(fields.get("area"), "area"),
            bbox=as_numbers(fields.get("bbox"), 4, "bbox"),
            point_id=as_int(attributes.get("point_id"), "point_id"),
            point_xy=(x, y),
            radius_px=math.nan if no_disc else as_number(radius, "radius_px"),
            extent=as_text(attributes.get("extent"), "extent"),
            source=source,
            reviewer=None if reviewer is None else as_text(reviewer, "reviewer"),
        )


def check_masks(annotations: Sequence[Annotation], size_hw: tuple[int, int]) -> Iterator[Problem]:
    """Yield what is wrong with the masks of one image of `size_hw` (H, W) px."""
    sized = [one for one in annotations if one.size_hw == size_hw]
    if len(sized) < len(annotations):
        odd = [one for one in annotations if one.size_hw != size_hw]
        yield "DPMO-V020", f"{_named(odd)}: {odd[0].size_hw} (H, W), the image has {size_hw}"
    lengths = [_checked_lengths(one.counts, size_hw) for one in sized]
    broken = [one for one, runs in zip(sized, lengths, strict=True) if runs is None]
    if broken:
        yield "DPMO-V021", f"{_named(broken)}: the runs do not sum to {size_hw[0] * size_hw[1]}"
    whole = [one for one, runs in zip(sized, lengths, strict=True) if runs is not None]
    runs = ones_of([runs for runs in lengths if runs is not None])
    segments = segments_of(runs, size_hw[0])
    yield from _check_sums(whole, runs, segments)
    yield from _check_overlap(whole, runs)
    yield from _check_discs(whole, segments, size_hw)


def _check_sums(masks: Sequence[Annotation], runs: Runs, segments: Segments) -> Iterator[Problem]:
    areas = areas_of(runs, len(masks))
    stated_areas = np.array([one.area for one in masks], np.int64)
    wrong = np.flatnonzero(areas != stated_areas)
    if len(wrong):
        example = f"{stated_areas[wrong[0]]} instead of {areas[wrong[0]]}"
        yield "DPMO-V022", f"{_named(masks, wrong)}: {example}"
    boxes = boxes_of(segments, len(masks)).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    stated_boxes = np.array([one.bbox for one in masks], np.float64).reshape(-1, 4)
    # An empty mask has no box; that it is empty shows in its missing site pixel.
    wrong = np.flatnonzero((boxes != stated_boxes).any(axis=1) & (areas > 0))
    if len(wrong):
        example = f"{stated_boxes[wrong[0]].tolist()} instead of {boxes[wrong[0]].tolist()}"
        yield "DPMO-V023", f"{_named(masks, wrong)}: {example}"


def _check_overlap(masks: Sequence[Annotation], runs: Runs) -> Iterator[Problem]:
    order = np.argsort(runs.begin, kind="stable")
    owner, begin, end = runs.owner[order], runs.begin[order], runs.end[order]
    reach = np.maximum.accumulate(end)
    reached_by = owner[np.maximum.accumulate(np.where(end == reach, np.arange(len(end)), 0))]
    clash = np.flatnonzero(begin[1:] < reach[:-1])
    if len(clash):
        pairs = {(masks[reached_by[at]].id, masks[owner[at + 1]].id) for at in clash}
        yield "DPMO-V024", f"annotations {few(f'{a} and {b}' for a, b in sorted(pairs))}"


def _check_discs(
    masks: Sequence[Annotation], segments: Segments, size_hw: tuple[int, int]
) -> Iterator[Problem]:
    height, width = size_hw
    points_xy = np.array([one.point_xy for one in masks], np.float64).reshape(-1, 2)
    sites_xy = np.clip(np.rint(points_xy), 0, [width - 1, height - 1])
    site_x, site_y = sites_xy[segments.owner].T
    holds = (segments.x == site_x) & (segments.top <= site_y) & (site_y <= segments.bottom)
    automatic = np.array([one.is_automatic for one in masks], bool)
    without = np.setdiff1d(np.flatnonzero(automatic), segments.owner[holds])
    if len(without):
        yield "DPMO-V026", _named(masks, without)

    # A segment's farthest pixel is one of its ends. The site's own pixel is always allowed; no
    # pixel of the image is nearer to the point, so a segment that ends there hides no other.
    in_disc = np.array([one.extent in IN_DISC for one in masks], bool)
    in_disc = (in_disc & automatic)[segments.owner]
    radii_px = np.array([one.radius_px for one in masks], np.float64)[segments.owner]
    x, y = points_xy[segments.owner].T
    outside = np.zeros(len(segments.x), bool)
    for rows in (segments.top, segments.bottom):
        beyond = np.hypot(segments.x - x, rows - y) > radii_px + DISC_TOLERANCE_PX
        outside |= beyond & ~((segments.x == site_x) & (rows == site_y))
    wrong = np.unique(segments.owner[outside & in_disc])
    if len(wrong):
        yield "DPMO-V025", _named(masks, wrong)


def _checked_lengths(counts: str, size_hw: tuple[int, int]) -> NDArray[np.int64] | None:
    """Return the run lengths, or None where they are not those of a mask of this size."""
    try:
        lengths = run_lengths(counts)
    except (ValueError, IndexError, OverflowError):
        return None
    # Summed as Python integers: a made-up run could overflow to the right sum.
    whole = bool((lengths >= 0).all()) and sum(lengths.tolist()) == size_hw[0] * size_hw[1]
    return lengths if whole else None


def _named(masks: Sequence[Annotation], chosen: NDArray[np.intp] | None = None) -> str:
    indices = range(len(masks)) if chosen is None else chosen
    return f"annotation {few(masks[i].id for i in indices)}"
