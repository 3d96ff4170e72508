"""Runs variants on truth sets and keeps what was measured, image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from dpmo_cli.evaluation.instances import ImageMasks, rles_of_labels
from dpmo_cli.evaluation.measures import ImageMeasures, measure
from dpmo_cli.evaluation.summary import DISTANCE_EDGES_PX, Figures, Summary, summarise
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.geometry.nnec import neighbour_distances
from dpmo_cli.geometry.points import group_points
from dpmo_cli.trials.variants import CUT, PointMasks, Variant


@dataclass(frozen=True)
class Result:
    """What a variant did on a truth set.

    Attributes:
        variant: what was tried.
        truth_set: name of the set.
        summary: over all points.
        by_distance: over the points of each part between DISTANCE_EDGES_PX; None without any.
        seconds_per_point: of the attempt alone.
    """

    variant: Variant
    truth_set: str
    summary: Summary
    by_distance: list[Summary | None]
    seconds_per_point: float

    @property
    def figures(self) -> Figures:
        """Those of the truth that the variant is measured on."""
        part = self.summary.cut if self.variant.truth == CUT else self.summary.uncut
        return part.figures


@dataclass
class _Measured:
    """Measures of the scenes of a set, over all points and by distance."""

    whole: list[ImageMeasures] = field(default_factory=list)
    parts: list[list[ImageMeasures]] = field(
        default_factory=lambda: [[] for _ in DISTANCE_EDGES_PX[1:]]
    )


def run_variants(
    sets: Mapping[str, Sequence[TruthScene]],
    variants: Sequence[Variant],
    *,
    heads: bool = False,
    samples: int = 1000,
    done: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Measure every variant on every set.

    Args:
        sets: scenes by the name of their set.
        variants: what to try.
        heads: whether the truth is the heads; scenes that know none are left out.
        samples: of the bootstrap.
        done: called with each result.
    """
    results: list[Result] = []
    for name, scenes in sets.items():
        known = [scene for scene in scenes if not heads or scene.heads is not None]
        if not known:
            continue
        for variant in variants:
            measured = _Measured()
            seconds, points = 0.0, 0
            for scene in known:
                begin = perf_counter()
                found = variant.attempt(scene)
                seconds += perf_counter() - begin
                points += len(scene.points_xy)
                _measure(image_masks(scene, found, heads=heads), measured)
            results.append(
                Result(
                    variant,
                    name,
                    summarise(measured.whole, samples),
                    [summarise(part, 0) if part else None for part in measured.parts],
                    seconds / max(1, points),
                )
            )
            done(results[-1])
    return results


def image_masks(scene: TruthScene, found: PointMasks, *, heads: bool) -> ImageMasks:
    """What was found beside what is true: the persons, or their heads."""
    labels = scene.labels_of_points()
    if heads and scene.heads is not None:
        labels = np.where(scene.heads, labels, 0)
    present = np.unique(labels)
    truth = rles_of_labels(labels)
    # Labels are the points' own numbers; a head may have no pixel left.
    true_of_point = np.full(len(scene.points_xy), -1, dtype=np.int64)
    true_of_point[present[present > 0] - 1] = np.arange(len(truth))
    size_hw = labels.shape[0], labels.shape[1]
    return ImageMasks(
        scene.name, size_hw, scene.points_xy, found.masks, found.scores, truth, true_of_point
    )


def _measure(masks: ImageMasks, measured: _Measured) -> None:
    measured.whole.append(measure(masks))
    sites = group_points(masks.points_xy, masks.size_hw)
    away = neighbour_distances(sites)[sites.site_of_point]
    for part, low, high in zip(
        measured.parts, DISTANCE_EDGES_PX, DISTANCE_EDGES_PX[1:], strict=False
    ):
        # The last part also holds lone points, whose distance is infinite.
        inside = (away >= low) & ((away < high) | (high == DISTANCE_EDGES_PX[-1]))
        if inside.any():
            part.append(measure(_only(masks, inside)))


def _only(masks: ImageMasks, points: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> ImageMasks:
    """The masks and the truths of some points; the others still bound the discs."""
    wanted = np.flatnonzero(points & (masks.true_of_point >= 0))
    true_of_point = np.full(len(masks.points_xy), -1, dtype=np.int64)
    true_of_point[wanted] = np.arange(len(wanted))
    return ImageMasks(
        masks.name,
        masks.size_hw,
        masks.points_xy,
        [rle if own else None for rle, own in zip(masks.predicted, points.tolist(), strict=True)],
        masks.scores,
        [masks.truth[index] for index in masks.true_of_point[wanted].tolist()],
        true_of_point,
    )
