"""What is measured on one image, on its truth as it is and on its truth cut by the discs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.evaluation.instances import ImageMasks
from dpmo_cli.evaluation.overlaps import assigned_iou, find_hits, matched_ious, overlaps_of
from dpmo_cli.evaluation.windows import WindowMask, agreement
from dpmo_cli.geometry.nnec import disc_radii, neighbour_distances
from dpmo_cli.geometry.points import FloatArray, IntArray, Sites, group_points
from dpmo_cli.geometry.rle import Rle

DISC_SCALE = 1.0
"""The discs that cut the truth are the paper's, whatever discs the run used."""


@dataclass(frozen=True)
class VersionMeasures:
    """What is measured against one version of an image's truth.

    Attributes:
        iou, boundary_f: (P,) float64, of each point with a truth; 0 without a mask.
        true_area_px: (P,) int64, of its instance.
        assigned_iou: sum of IoUs of the best one-to-one assignment.
        matches, matched_iou: pairs with an IoU above 0.5, and the sum of their IoUs.
        hits: (10, D) bool, the detections that count as found by threshold of AP.
    """

    iou: FloatArray
    boundary_f: FloatArray
    true_area_px: IntArray
    assigned_iou: float
    matches: int
    matched_iou: float
    hits: NDArray[np.bool_]


@dataclass(frozen=True)
class ImageMeasures:
    """What is measured on one image; holds no mask.

    Attributes:
        name: of the image.
        points: N, all of them.
        points_outside: outside the image, or with a coordinate that is no number.
        points_off_truth: inside, but of no true instance; left out below, like those outside.
        points_without_mask: with a truth, but without a mask.
        instances: T, how many are true.
        instances_without_point: how many of them no point means; no disc cuts these.
        scores: (D,) float64 of the detections, one per site with a mask; -inf for NaN.
        nearest_px: (P,) float64, from a point with a truth to the nearest other site.
        predicted_area_px: (P,) int64, of its mask, 0 without one.
        inside_disc: (P,) float64, the part of its instance that its disc holds.
        cut: against instances cut by the scale-1.0 disc of their own point.
        uncut: against whole instances.
    """

    name: str
    points: int
    points_outside: int
    points_off_truth: int
    points_without_mask: int
    instances: int
    instances_without_point: int
    scores: FloatArray
    nearest_px: FloatArray
    predicted_area_px: IntArray
    inside_disc: FloatArray
    cut: VersionMeasures
    uncut: VersionMeasures

    @property
    def detections(self) -> int:
        """D."""
        return len(self.scores)


@dataclass(frozen=True)
class _Pairs:
    """The distinct pairs of a site and the instance that it means.

    Attributes:
        site, instance: (K,) int64.
        of_point: (P,) int64, the pair of each point with a truth.
        values: (K, 7) float64, columns as `_COLUMNS`.
        cut: K instances cut by the site's disc.
    """

    site: IntArray
    instance: IntArray
    of_point: IntArray
    values: FloatArray
    cut: list[Rle]

    def of_points(self, column: str) -> FloatArray:
        """A column of `values` for each point with a truth, (P,)."""
        return np.asarray(self.values[self.of_point, _COLUMNS.index(column)])

    def areas_px(self, column: str) -> IntArray:
        """Likewise, as whole numbers."""
        return self.of_points(column).astype(np.int64)


_COLUMNS = ("predicted_area", "uncut_area", "uncut_iou", "uncut_f", "cut_area", "cut_iou", "cut_f")


def measure(masks: ImageMasks) -> ImageMeasures:
    """Compare the masks of one image with its truth, whole and cut by the discs.

    An instance's own point, whose disc cuts it where instances are counted (Mean IoU C, PQ, AP),
    is of several that mean it the one whose disc holds most of it.

    Raises:
        ValueError: the lists do not fit the points, or a mask does not fit the image.
    """
    _check(masks)
    sites = group_points(masks.points_xy, masks.size_hw)
    nearest_px = neighbour_distances(sites)
    radii_px = disc_radii(nearest_px, masks.size_hw, DISC_SCALE)
    owners = _mask_owners(masks, sites)
    site_of_point = sites.site_of_point
    # Site -1, of a coordinate that is no number, is the last entry.
    inside = np.append(sites.inside, False)[site_of_point]
    with_truth = np.flatnonzero(inside & (masks.true_of_point >= 0))
    pairs = _compare(masks, sites, radii_px, owners, with_truth)
    detected = np.sort(owners[owners >= 0])
    predictions = [mask for point in detected if (mask := masks.predicted[point]) is not None]
    scores = masks.scores[detected].astype(np.float64)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    sites_with_truth = site_of_point[with_truth]
    return ImageMeasures(
        name=masks.name,
        points=len(masks.points_xy),
        points_outside=int(np.count_nonzero(~inside)),
        points_off_truth=int(np.count_nonzero(inside)) - len(with_truth),
        points_without_mask=int(np.count_nonzero(owners[sites_with_truth] < 0)),
        instances=len(masks.truth),
        instances_without_point=len(masks.truth) - len(np.unique(pairs.instance)),
        scores=scores,
        nearest_px=nearest_px[sites_with_truth],
        predicted_area_px=pairs.areas_px("predicted_area"),
        inside_disc=pairs.of_points("cut_area") / pairs.of_points("uncut_area"),
        cut=_version("cut", pairs, predictions, scores, _cut_truth(masks.truth, pairs)),
        uncut=_version("uncut", pairs, predictions, scores, masks.truth),
    )


def _check(masks: ImageMasks) -> None:
    count = len(masks.points_xy)
    lengths = {len(masks.predicted), len(masks.scores), len(masks.true_of_point)}
    if lengths != {count}:
        raise ValueError(f"{masks.name}: {count} points, but lists of {sorted(lengths)}")
    if count and masks.true_of_point.max() >= len(masks.truth):
        raise ValueError(f"{masks.name}: a point means an instance that is not there")
    for mask in (*masks.predicted, *masks.truth):
        if mask is not None and tuple(mask["size"]) != tuple(masks.size_hw):
            raise ValueError(f"{masks.name}: a mask of {mask['size']}, not {masks.size_hw}")


def _mask_owners(masks: ImageMasks, sites: Sites) -> IntArray:
    """The first point of each site that has a mask: (S,) int64, -1 for none."""
    owners = np.full(len(sites), -1, dtype=np.int64)
    for point in reversed(range(len(masks.predicted))):
        site = sites.site_of_point[point]
        if masks.predicted[point] is not None and site >= 0:
            owners[site] = point
    return owners


def _compare(
    masks: ImageMasks,
    sites: Sites,
    radii_px: FloatArray,
    owners: IntArray,
    with_truth: IntArray,
) -> _Pairs:
    """Compare the mask of each site with the instances that its points mean, in windows."""
    wanted = np.stack([sites.site_of_point, masks.true_of_point], axis=1)[with_truth]
    distinct, of_point = np.unique(wanted, axis=0, return_inverse=True)
    values = np.zeros((len(distinct), len(_COLUMNS)))
    cut_rles = []
    for row, (site, instance) in zip(values, distinct.tolist(), strict=True):
        whole = WindowMask.of(masks.truth[instance])
        cut = whole.within_disc(sites.xy[site], float(radii_px[site]))
        is_whole = cut.area_px == whole.area_px
        cut_rles.append(masks.truth[instance] if is_whole else cut.rle(masks.size_hw))
        row[1], row[4] = whole.area_px, cut.area_px
        predicted = masks.predicted[owners[site]] if owners[site] >= 0 else None
        if predicted is not None:
            mask = WindowMask.of(predicted)
            row[0] = mask.area_px
            row[2:4] = agreement(mask, whole)
            row[5:7] = row[2:4] if is_whole else agreement(mask, cut)
    return _Pairs(distinct[:, 0], distinct[:, 1], of_point.reshape(-1), values, cut_rles)


def _cut_truth(truth: Sequence[Rle], pairs: _Pairs) -> list[Rle]:
    """The instances cut by the disc of their own point; those without a point stay whole."""
    cut = list(truth)
    areas = pairs.values[:, _COLUMNS.index("cut_area")]
    # The largest part comes last and stays; of equal ones the first site in coordinates.
    for pair in np.lexsort((-pairs.site, areas)).tolist():
        cut[pairs.instance[pair]] = pairs.cut[pair]
    return cut


def _version(
    name: str, pairs: _Pairs, predictions: list[Rle], scores: FloatArray, truth: list[Rle]
) -> VersionMeasures:
    overlaps = overlaps_of(predictions, truth)
    matched = matched_ious(overlaps)
    return VersionMeasures(
        iou=pairs.of_points(f"{name}_iou"),
        boundary_f=pairs.of_points(f"{name}_f"),
        true_area_px=pairs.areas_px(f"{name}_area"),
        assigned_iou=assigned_iou(overlaps),
        matches=len(matched),
        matched_iou=float(matched.sum()),
        hits=find_hits(overlaps, scores),
    )
