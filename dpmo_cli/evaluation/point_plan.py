"""Predicted points or counts measured against true heads: which images are which, then each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from dpmo_cli.datasets.names import Matched, match_entries
from dpmo_cli.datasets.point_files import FoundPoints
from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.counting import CountSummary, summarise_counts
from dpmo_cli.evaluation.localisation import (
    NWPU,
    QNRF,
    QNRF_RADII_PX,
    PointMatches,
    PointSummary,
    match_at_radii,
    match_at_sigmas,
    summarise_points,
)
from dpmo_cli.evaluation.true_heads import TrueHeads, TrueImage, Truth, size_heads

Entry = TypeVar("Entry", FoundPoints, float)
Advance = Callable[[int], None]
"""Called after each image with the number of its true heads."""


@dataclass(frozen=True)
class Plan(Generic[Entry]):
    """What will be compared.

    Attributes:
        truth: all its images count, those without a prediction as if nobody had been found.
        matched: the predictions by image.
        predicted_only: leaves images without a prediction out instead.
    """

    truth: Truth
    matched: Matched[Entry]
    predicted_only: bool = False

    @property
    def images_without_prediction(self) -> int:
        """Images of the truth that have no prediction."""
        return len(self.matched.missing)

    @property
    def predictions_left_out(self) -> int:
        """Predictions of images that the truth does not have."""
        return len(self.matched.unclaimed)

    def pairs(self) -> Iterator[tuple[TrueImage, TrueHeads, Entry | None]]:
        """Yield image after image. InputError: an annotation can't be used."""
        for index, image in enumerate(self.truth.images):
            if self.predicted_only and self.matched.get(image.file_name) is None:
                continue
            yield image, self.truth.heads(index), self.matched.get(image.file_name)


@dataclass(frozen=True)
class Located:
    """What was measured of points, image by image.

    Attributes:
        protocol, radii_px: how.
        measures: of each image.
        heads_left_out: with a coordinate that is NaN or infinite.
    """

    protocol: str
    radii_px: tuple[float, ...]
    measures: tuple[PointMatches, ...]
    heads_left_out: int

    def summarise(self, samples: int, seed: int) -> PointSummary:
        """The figures with their intervals."""
        return summarise_points(self.measures, self.protocol, self.radii_px, samples, seed)


@dataclass(frozen=True)
class Counted:
    """What was counted, image by image; `heads_left_out` as above."""

    predicted: tuple[float, ...]
    true: tuple[int, ...]
    heads_left_out: int

    def summarise(self, samples: int, seed: int) -> CountSummary:
        """The figures with their intervals."""
        return summarise_counts(self.predicted, self.true, samples, seed)


def plan_pairs(
    pred: Path, entries: Mapping[str, Entry], truth: Truth, *, predicted_only: bool = False
) -> Plan[Entry]:
    """Find out which predictions belong to which images.

    Args:
        pred: where the predictions lie, for messages.
        entries: what is predicted, by the path of the image without suffix.
        truth: the images.
        predicted_only: leave images without a prediction out.

    Raises:
        UsageError: no image has a prediction.
        InputError: an image fits several predictions, or one several images.
    """
    names = [image.file_name for image in truth.images]
    matched = match_entries(pred, entries, names)
    if not matched.of_image:
        shown = [f"{name!r}" for name in (*list(entries)[:1], names[0])]
        hint = f", as {' here and '.join(shown)} there" if len(shown) == 2 else ""
        raise UsageError(f"--pred {pred}: none of its images is in {truth.name}{hint}; check both")
    return Plan(truth, matched, predicted_only)


def locate_all(
    plan: Plan[FoundPoints], protocol: str, radii_px: Sequence[float], advance: Advance
) -> Located:
    """Measure points image after image.

    Args:
        plan: of points.
        protocol: one of `localisation.PROTOCOLS`.
        radii_px: the distances of the protocol fixed.
        advance: see there.

    Raises:
        UsageError: the protocol is nwpu, and an image has heads without boxes.
        InputError: an annotation can't be used.
    """
    measures: list[PointMatches] = []
    left_out = 0
    nobody = np.zeros((0, 2))
    for image, heads, found in plan.pairs():
        predicted_xy = nobody if found is None else found.points_xy
        left_out += heads.left_out
        if protocol != NWPU:
            radii = QNRF_RADII_PX if protocol == QNRF else radii_px
            measures.append(match_at_radii(predicted_xy, heads.points_xy, radii))
        elif heads.sized is not None or not len(heads.points_xy):
            sized = heads.sized or size_heads(nobody, np.zeros((0, 4)))
            measures.append(match_at_sigmas(predicted_xy, sized))
        else:
            raise UsageError(
                f"--protocol nwpu: {image.file_name} of {plan.truth.name} has no head boxes; "
                "use --protocol fixed or qnrf"
            )
        advance(len(heads.points_xy))
    return Located(protocol, tuple(radii_px), tuple(measures), left_out)


def count_all(plan: Plan[float], advance: Advance) -> Counted:
    """Count the true heads image after image.

    Raises:
        InputError: an annotation can't be used.
    """
    predicted, true = [], []
    left_out = 0
    for _, heads, found in plan.pairs():
        predicted.append(found or 0.0)
        true.append(len(heads.points_xy))
        left_out += heads.left_out
        advance(true[-1])
    return Counted(tuple(predicted), tuple(true), left_out)
