"""Runs variants on truth sets and keeps what was measured, image by image."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from time import perf_counter

import numpy as np
import torch

from dpmo_cli.evaluation.instances import ImageMasks, rles_of_labels
from dpmo_cli.evaluation.measures import ImageMeasures, measure
from dpmo_cli.evaluation.summary import DISTANCE_EDGES_PX, Figures, Summary, summarise
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.geometry.nnec import neighbour_distances
from dpmo_cli.geometry.points import group_points
from dpmo_cli.trials.variants import CUT, HEADS, PointMasks, Variant


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
    samples: int = 1000,
    workers: int = 1,
    done: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Measure every variant on every set that knows its truth.

    Args:
        sets: scenes by the name of their set.
        variants: what to try.
        samples: of the bootstrap.
        workers: processes that share the work; on CPUs only.
        done: called with each result.

    Returns:
        Results by set, then in the order of the variants.
    """
    jobs = [
        _Job(name, scenes, variant, samples)
        for name, all_scenes in sets.items()
        for variant in variants
        if (scenes := _known(all_scenes, variant))
    ]
    results: list[Result] = []
    with _answers(jobs, workers) as answers:
        for job, (summary, parts, seconds) in zip(jobs, answers, strict=True):
            results.append(Result(job.variant, job.truth_set, summary, parts, seconds))
            done(results[-1])
    return results


def _known(scenes: Sequence[TruthScene], variant: Variant) -> list[TruthScene]:
    """The scenes that know what a variant is measured on."""
    return [scene for scene in scenes if variant.truth != HEADS or scene.heads is not None]


@dataclass(frozen=True)
class _Job:
    truth_set: str
    scenes: list[TruthScene]
    variant: Variant
    samples: int

    def run(self) -> tuple[Summary, list[Summary | None], float]:
        """Summary of all points, of those of each distance, and seconds per point."""
        measured = _Measured()
        seconds, points = 0.0, 0
        for scene in self.scenes:
            begin = perf_counter()
            found = self.variant.attempt(scene)
            seconds += perf_counter() - begin
            points += len(scene.points_xy)
            _measure(image_masks(scene, found, heads=self.variant.truth == HEADS), measured)
        parts = [summarise(part, 0) if part else None for part in measured.parts]
        return summarise(measured.whole, self.samples), parts, seconds / max(1, points)


_jobs: list[_Job] = []
"""What forked workers are to do: networks and scenes are shared with them, not sent."""


def _start_worker() -> None:
    # The command's own handler would print a traceback when the pool ends.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(index: int) -> tuple[Summary, list[Summary | None], float]:
    return _jobs[index].run()


@contextmanager
def _answers(
    jobs: list[_Job], workers: int
) -> Iterator[Iterable[tuple[Summary, list[Summary | None], float]]]:
    """What comes of the jobs, in their order."""
    if workers == 1:
        yield (job.run() for job in jobs)
        return
    _jobs[:] = jobs
    # Forked processes with threads of their own would wait for each other.
    torch.set_num_threads(1)
    with get_context("fork").Pool(workers, _start_worker) as pool:
        yield pool.imap(_run, range(len(jobs)))
    _jobs.clear()


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
    return ImageMasks(
        scene.name, scene.size_hw, scene.points_xy, found.masks, found.scores, truth, true_of_point
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
