"""The figures of many images: pooled, by distance and area, with intervals over images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from dpmo_cli.evaluation.bootstrap import (
    draw_weights,
    interval,
    pooled_precision,
    ratio,
    sums,
)
from dpmo_cli.evaluation.measures import ImageMeasures, VersionMeasures
from dpmo_cli.geometry.points import FloatArray, IntArray

DISTANCE_EDGES_PX = (0.0, 8.0, 16.0, 32.0, 64.0, math.inf)
AREA_EDGES_PX = (0.0, 64.0, 256.0, 1024.0, 4096.0, math.inf)
VERSIONS = ("cut", "uncut")

Samples = dict[str, FloatArray]
"""Name of a figure -> its value in each sample."""


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval; NaN where it is undefined or without samples."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(cls, value: float, samples: FloatArray) -> Figure:
        """A value beside its (S,) values in the samples."""
        return cls(float(value), *interval(samples))


@dataclass(frozen=True)
class Figures:
    """The figures against one version of the truth.

    Attributes:
        iou_per_point: mean IoU of a point's mask with its instance; 0 without a mask.
        boundary_f: mean boundary F-score at 1 px, likewise.
        area_bias: predicted areas over true areas of the points, less 1.
        mean_iou_c: sum of IoUs of the best assignment over the number of true instances.
        pq, sq, rq: panoptic, segmentation and recognition quality.
        precision, recall: of pairs with an IoU above 0.5.
        ap50, ap: average precision at 0.5 and over 0.5 to 0.95, no limit on detections.
    """

    iou_per_point: Figure
    boundary_f: Figure
    area_bias: Figure
    mean_iou_c: Figure
    pq: Figure
    sq: Figure
    rq: Figure
    precision: Figure
    recall: Figure
    ap50: Figure
    ap: Figure


FIGURE_NAMES = tuple(field.name for field in fields(Figures))


@dataclass(frozen=True)
class Bin:
    """The points from `low_px` up to below `high_px`: how many, and their mean figure."""

    low_px: float
    high_px: float
    points: int
    iou: float


@dataclass(frozen=True)
class VersionSummary:
    """The figures against one version of the truth, and IoU per point by place and size.

    Attributes:
        figures: with intervals.
        by_distance: by the distance to the nearest other site.
        by_area: by the area of this version's instance.
    """

    figures: Figures
    by_distance: tuple[Bin, ...]
    by_area: tuple[Bin, ...]


@dataclass(frozen=True)
class Summary:
    """The figures of a run; counts are sums of those of ImageMeasures.

    Attributes:
        images: how many were compared.
        points_with_truth: the points that the figures per point are about.
        inside_disc: mean part of an instance that its point's disc holds.
        cut, uncut: against cut and whole truth.
        samples, seed: of the intervals.
    """

    images: int
    points: int
    points_with_truth: int
    points_off_truth: int
    points_outside: int
    points_without_mask: int
    instances: int
    instances_without_point: int
    detections: int
    inside_disc: Figure
    cut: VersionSummary
    uncut: VersionSummary
    samples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """As plain objects; what is NaN or infinite becomes None."""
        return without_nan(asdict(self))


@dataclass(frozen=True)
class Comparison:
    """Second method less first, with paired intervals."""

    cut: Figures
    uncut: Figures

    def as_json(self) -> dict[str, object]:
        """As plain objects; what is NaN becomes None."""
        return without_nan(asdict(self))


def summarise(measures: Sequence[ImageMeasures], samples: int = 1000, seed: int = 0) -> Summary:
    """Pool the images and resample them.

    Args:
        measures: of each image once.
        samples: how many resamples the intervals come from; 0 for none. Fewer than two images
            have no interval.
        seed: the same seed gives the same intervals.
    """
    weights = draw_weights(len(measures), samples, seed)
    nearest = _joined([one.nearest_px for one in measures])
    versions = {}
    for name in VERSIONS:
        of_version = _of_version(measures, name)
        iou = _joined([one.iou for one in of_version])
        area = _joined([one.true_area_px for one in of_version])
        versions[name] = VersionSummary(
            figures=_figures(measures, of_version, weights),
            by_distance=_bins(nearest, iou, DISTANCE_EDGES_PX),
            by_area=_bins(area, iou, AREA_EDGES_PX),
        )
    return Summary(
        images=len(measures),
        points=sum(one.points for one in measures),
        points_with_truth=len(nearest),
        points_off_truth=sum(one.points_off_truth for one in measures),
        points_outside=sum(one.points_outside for one in measures),
        points_without_mask=sum(one.points_without_mask for one in measures),
        instances=sum(one.instances for one in measures),
        instances_without_point=sum(one.instances_without_point for one in measures),
        detections=sum(one.detections for one in measures),
        inside_disc=mean_figure([one.inside_disc for one in measures], weights),
        **versions,
        samples=len(weights),
        seed=seed,
    )


def compare(
    first: Sequence[ImageMeasures],
    second: Sequence[ImageMeasures],
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Difference of two methods on the same images: second less first.

    Raises:
        ValueError: the images are not the same in the same order.
    """
    if [one.name for one in first] != [one.name for one in second]:
        raise ValueError("two methods are compared on the same images in the same order")
    weights = draw_weights(len(first), samples, seed)
    differences = {}
    for name in VERSIONS:
        of_first, of_second = (
            _all_values(some, _of_version(some, name), weights) for some in (first, second)
        )
        change = {key: of_second[key] - of_first[key] for key in FIGURE_NAMES}
        differences[name] = _with_intervals(change)
    return Comparison(**differences)


def bin_means(
    places: FloatArray, values: FloatArray, edges_px: Sequence[float]
) -> list[tuple[float, float, int, float]]:
    """Mean value by place: lower and upper edge, count and mean (NaN of none) of each bin.

    Args:
        places: (P,) float64, px; at or above the first edge.
        values: (P,) float64.
        edges_px: ascending; a bin holds its lower edge.
    """
    count = len(edges_px) - 1
    of_value = np.clip(np.searchsorted(edges_px, places, side="right") - 1, 0, count - 1)
    counts = np.bincount(of_value, minlength=count).tolist()
    sums = np.bincount(of_value, weights=values, minlength=count).tolist()
    return [
        (low, high, of_bin, total / of_bin if of_bin else math.nan)
        for low, high, of_bin, total in zip(edges_px, edges_px[1:], counts, sums, strict=False)
    ]


def _bins(places: FloatArray, iou: FloatArray, edges_px: Sequence[float]) -> tuple[Bin, ...]:
    return tuple(Bin(*one) for one in bin_means(places, iou, edges_px))


def mean_figure(values: Sequence[FloatArray], weights: FloatArray) -> Figure:
    """Mean over all points of all images: I arrays (P,), weights (S, I)."""
    totals = sums([one.sum() for one in values], weights)
    found = ratio(totals, sums([len(one) for one in values], weights))
    return Figure.of(found[0], found[1:])


def without_nan(value: Mapping[str, object]) -> dict[str, object]:
    """The same plain objects and lists, with None for every number that JSON does not have."""
    return {key: _plain(one) for key, one in value.items()}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return without_nan(value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _of_version(measures: Sequence[ImageMeasures], name: str) -> list[VersionMeasures]:
    return [one.cut if name == "cut" else one.uncut for one in measures]


def _figures(
    measures: Sequence[ImageMeasures], of_version: Sequence[VersionMeasures], weights: FloatArray
) -> Figures:
    return _with_intervals(_all_values(measures, of_version, weights))


def _with_intervals(values: Samples) -> Figures:
    return Figures(**{name: Figure.of(values[name][0], values[name][1:]) for name in FIGURE_NAMES})


def _all_values(
    measures: Sequence[ImageMeasures], of_version: Sequence[VersionMeasures], weights: FloatArray
) -> Samples:
    """Every figure on all images once, (1,), and in each sample behind it, (1 + S,)."""
    both = list(zip(measures, of_version, strict=True))

    def pooled(values: list[float]) -> FloatArray:
        return sums(values, weights)

    points = pooled([len(one.iou) for one in of_version])
    predicted_area = pooled([float(one.predicted_area_px.sum()) for one in measures])
    true_area = pooled([float(one.true_area_px.sum()) for one in of_version])
    instances = pooled([one.instances for one in measures])
    detections = pooled([one.detections for one in measures])
    matches = pooled([one.matches for one in of_version])
    matched_iou = pooled([one.matched_iou for one in of_version])
    average = pooled_precision(
        [one.scores for one in measures],
        [one.hits for one in of_version],
        np.array([one.instances for one in measures], dtype=np.int64),
    )
    precisions = average(np.concatenate([np.ones((1, len(both))), weights]))
    return {
        "iou_per_point": ratio(pooled([float(one.iou.sum()) for one in of_version]), points),
        "boundary_f": ratio(pooled([float(one.boundary_f.sum()) for one in of_version]), points),
        "area_bias": ratio(predicted_area, true_area) - 1,
        "mean_iou_c": ratio(pooled([one.assigned_iou for one in of_version]), instances),
        "pq": ratio(2 * matched_iou, detections + instances),
        "sq": ratio(matched_iou, matches),
        "rq": ratio(2 * matches, detections + instances),
        "precision": ratio(matches, detections),
        "recall": ratio(matches, instances),
        "ap50": precisions[:, 0],
        "ap": precisions.mean(axis=1),
    }


def _joined(values: Sequence[FloatArray] | Sequence[IntArray]) -> FloatArray:
    return np.concatenate([np.zeros(0), *values])
