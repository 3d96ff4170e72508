"""How masks fit the head boxes that datasets give, where true masks are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.evaluation.bootstrap import draw_weights
from dpmo_cli.evaluation.summary import (
    AREA_EDGES_PX,
    Figure,
    bin_means,
    mean_figure,
    without_nan,
)
from dpmo_cli.geometry.points import FloatArray, IntArray, group_points
from dpmo_cli.geometry.rle import Rle, WindowXYXY, rle_window


@dataclass(frozen=True)
class BoxMeasures:
    """What is measured on one image.

    Attributes:
        name: of the image.
        points: N, all of them.
        points_without_box: no box, or one without a pixel in the image; left out below.
        points_without_mask: with a box, but without a mask: 0 in all three.
        containment: (P,) float64, the part of a mask's pixels that lie in the box.
        fit: (P,) float64, IoU of the box with the box of the mask's pixels.
        cover: (P,) float64, the part of the box that the mask fills.
        box_area_px: (P,) int64, pixels of the box in the image.
    """

    name: str
    points: int
    points_without_box: int
    points_without_mask: int
    containment: FloatArray
    fit: FloatArray
    cover: FloatArray
    box_area_px: IntArray


@dataclass(frozen=True)
class BoxFigures:
    """Means over the points with a box."""

    containment: Figure
    fit: Figure
    cover: Figure


@dataclass(frozen=True)
class BoxBin:
    """The points whose box has from `low_px` up to below `high_px` pixels, and their means."""

    low_px: float
    high_px: float
    points: int
    containment: float
    fit: float
    cover: float


@dataclass(frozen=True)
class BoxSummary:
    """The figures of a run against boxes; counts are sums of those of BoxMeasures."""

    images: int
    points: int
    points_with_box: int
    points_without_box: int
    points_without_mask: int
    figures: BoxFigures
    by_area: tuple[BoxBin, ...]
    samples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """As plain objects; what is NaN or infinite becomes None."""
        return without_nan(asdict(self))


FIGURE_NAMES = tuple(field.name for field in fields(BoxFigures))


def box_windows(boxes_xyxy: FloatArray, size_hw: tuple[int, int]) -> IntArray:
    """The pixels whose centres lie in each box: (N, 4) int64 x0, y0, x1, y1, half open.

    Args:
        boxes_xyxy: (N, 4) float64 px, pixel centres at integers; NaN where there is none.
        size_hw: height and width of the image, px, which cuts them.

    Returns:
        Windows; all 0 where there is no box, or no pixel of the image in it.
    """
    limit = np.array(size_hw[::-1], dtype=np.float64)
    low = np.clip(np.ceil(boxes_xyxy[:, :2]), 0, limit)
    high = np.clip(np.floor(boxes_xyxy[:, 2:]) + 1, 0, limit)
    windows = np.concatenate([low, high], axis=1)
    # NaN compares as false.
    windows[~(low < high).all(axis=1)] = 0
    return windows.astype(np.int64)


def find_boxes(
    points_xy: FloatArray, size_hw: tuple[int, int], boxes_xyxy: FloatArray
) -> FloatArray:
    """Give each point the smallest box that holds its rounded pixel.

    Args:
        points_xy: (N, 2) float64 px.
        size_hw: height and width of the image, px.
        boxes_xyxy: (T, 4) float64 px, pixel centres at integers.

    Returns:
        (N, 4) float64, NaN for points in no box or outside the image.
    """
    sites = group_points(points_xy, size_hw)
    windows = box_windows(boxes_xyxy, size_hw)
    found = np.full((len(sites) + 1, 4), np.nan)
    x, y = sites.pixel_xy.T
    # Of boxes of one size the first stays.
    for box in reversed(np.argsort(_areas(windows), kind="stable").tolist()):
        x0, y0, x1, y1 = windows[box].tolist()
        held = sites.inside & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        found[np.flatnonzero(held)] = boxes_xyxy[box]
    return found[sites.site_of_point]


def measure_boxes(
    name: str,
    size_hw: tuple[int, int],
    predicted: Sequence[Rle | None],
    boxes_xyxy: FloatArray,
) -> BoxMeasures:
    """Compare the masks of one image with the boxes of their points.

    A box stands for the pixels whose centres lie in it, so that a mask of just these pixels
    scores 1 in all three.

    Args:
        name: of the image.
        size_hw: its height and width, px.
        predicted: N masks, None where a point has none.
        boxes_xyxy: (N, 4) float64 px, pixel centres at integers; NaN for a point without one.

    Raises:
        ValueError: a mask does not fill the image.
    """
    windows = box_windows(boxes_xyxy, size_hw)
    areas = _areas(windows)
    kept = np.flatnonzero(areas)
    values = np.zeros((len(kept), len(FIGURE_NAMES)))
    without_mask = 0
    for row, point in zip(values, kept.tolist(), strict=True):
        mask = predicted[point]
        if mask is None:
            without_mask += 1
        else:
            row[:] = _compare(*rle_window(mask), tuple(windows[point].tolist()))
    containment, fit, cover = values.T
    return BoxMeasures(
        name=name,
        points=len(predicted),
        points_without_box=len(predicted) - len(kept),
        points_without_mask=without_mask,
        containment=containment,
        fit=fit,
        cover=cover,
        box_area_px=areas[kept],
    )


def summarise_boxes(
    measures: Sequence[BoxMeasures], samples: int = 1000, seed: int = 0
) -> BoxSummary:
    """Pool the images and resample them; as `summary.summarise`."""
    weights = draw_weights(len(measures), samples, seed)
    values = {name: [getattr(one, name) for one in measures] for name in FIGURE_NAMES}
    area = np.concatenate([np.zeros(0), *(one.box_area_px for one in measures)])
    of_bins = [
        bin_means(area, np.concatenate([np.zeros(0), *values[name]]), AREA_EDGES_PX)
        for name in FIGURE_NAMES
    ]
    return BoxSummary(
        images=len(measures),
        points=sum(one.points for one in measures),
        points_with_box=len(area),
        points_without_box=sum(one.points_without_box for one in measures),
        points_without_mask=sum(one.points_without_mask for one in measures),
        figures=BoxFigures(*(mean_figure(values[name], weights) for name in FIGURE_NAMES)),
        by_area=tuple(
            BoxBin(low, high, points, mean, fit[-1], cover[-1])
            for (low, high, points, mean), fit, cover in zip(*of_bins, strict=True)
        ),
        samples=len(weights),
        seed=seed,
    )


def _areas(windows: IntArray) -> IntArray:
    sides = windows[:, 2:] - windows[:, :2]
    return np.asarray(sides[:, 0] * sides[:, 1])


def _compare(
    mask: NDArray[np.bool_], mask_xyxy: WindowXYXY, box_xyxy: WindowXYXY
) -> tuple[float, float, float]:
    """Containment, fit and cover of a mask, given in its smallest window, and a box."""
    x0, y0 = (max(mask_xyxy[axis], box_xyxy[axis]) for axis in (0, 1))
    x1, y1 = (min(mask_xyxy[axis], box_xyxy[axis]) for axis in (2, 3))
    if x0 >= x1 or y0 >= y1:
        return 0.0, 0.0, 0.0
    left, top = mask_xyxy[:2]
    inside = np.count_nonzero(mask[y0 - top : y1 - top, x0 - left : x1 - left])
    box_area = (box_xyxy[2] - box_xyxy[0]) * (box_xyxy[3] - box_xyxy[1])
    common = (x1 - x0) * (y1 - y0)
    return (
        inside / np.count_nonzero(mask),
        common / (mask.size + box_area - common),
        inside / box_area,
    )
