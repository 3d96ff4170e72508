"""Intervals by resampling the images: the persons of one image are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpmo_cli.evaluation.overlaps import AP_IOUS
from dpmo_cli.geometry.points import FloatArray, IntArray

LEVEL = 0.95
SAMPLES = 2000
"""Draws of the images where nobody says how many."""
FEWEST_IMAGES = 2
"""One image says nothing of the spread between images."""

_RECALLS = np.linspace(0.0, 1.0, 101)
"""The recalls at which COCO's evaluation reads the precision."""


def draw_weights(images: int, samples: int, seed: int) -> FloatArray:
    """Draw how often each image is taken in each sample.

    The same numbers give the same weights: figures of two methods on the same images, computed
    with the same weights, are paired.

    Returns:
        (samples, images) float64 whole numbers, each row adding up to `images`; no row for
        fewer than two images.
    """
    if images < FEWEST_IMAGES:
        return np.zeros((0, images))
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=samples).astype(np.float64)


def interval(values: FloatArray) -> tuple[float, float]:
    """The middle 95 % of a figure's values in the samples; NaN where there is none.

    Samples in which the figure is undefined (NaN) are left out.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def sums(values: ArrayLike, weights: FloatArray) -> FloatArray:
    """Sum over the images: all of them once, then as each sample weighs them.

    Args:
        values: (I,) or (I, K), of each image.
        weights: (S, I), of `draw_weights`.

    Returns:
        (1 + S,) or (1 + S, K) float64.
    """
    of_image = np.asarray(values, dtype=np.float64)
    return np.concatenate([of_image.sum(axis=0, keepdims=True), weights @ of_image])


def ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Divide; NaN where there is nothing below."""
    above, below = np.broadcast_arrays(above, below)
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0))


def pooled_precision(
    scores: Sequence[FloatArray],
    hits: Sequence[NDArray[np.bool_]],
    instances: IntArray,
) -> Callable[[FloatArray], FloatArray]:
    """Pool the detections of I images, sorted once, for average precision at any weights.

    Precision rises along found detections that follow each other and falls along missed ones, so
    the interpolated one, the largest at any higher recall, is read at the ends of rows of found
    detections alone.

    Args:
        scores: per image (D,) float64; of equal ones the first comes first.
        hits: per image (10, D) bool, found by threshold.
        instances: (I,) int64, true instances per image.

    Returns:
        A function from (S, I) weights, each image counting so many times, to (S, 10) float64,
        average precision by threshold as COCO defines it; NaN without a true instance.
    """
    order = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
    counts = [len(one) for one in scores]
    image = np.repeat(np.arange(len(counts)), counts)[order]
    empty = np.zeros((len(AP_IOUS), 0), dtype=np.bool_)
    rows = [_rows_of(of) for of in np.concatenate([empty, *hits], axis=1)[:, order]]

    def average(weights: FloatArray) -> FloatArray:
        # One sample at a time: its arrays stay in the processor's cache.
        result = np.full((len(weights), len(AP_IOUS)), np.nan)
        ranks = np.zeros(len(image) + 1)
        for of_sample, of_image in zip(result, weights, strict=True):
            np.cumsum(of_image.take(image), out=ranks[1:])
            total = float(of_image @ instances)
            if total:
                of_sample[:] = [
                    _average(ranks.take(begins), ranks.take(ends), total) for begins, ends in rows
                ]
        return result

    return average


def _rows_of(found: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Rows of found detections that follow each other: where they begin and end, exclusive."""
    steps = np.diff(np.concatenate([[False], found, [False]]).astype(np.int8))
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)


def _average(before: FloatArray, at: FloatArray, instances: float) -> float:
    """Average precision of one sample.

    Args:
        before, at: (R,) detections before each row of found ones, and up to its end.
        instances: true ones.
    """
    true = np.cumsum(at - before)
    # Where the sample holds no detection so far, there is no precision.
    best = np.maximum.accumulate((true / np.maximum(at, 1.0))[::-1])[::-1]
    places = np.searchsorted(true / instances, _RECALLS)
    return float(best[places[places < len(best)]].sum() / len(_RECALLS))
