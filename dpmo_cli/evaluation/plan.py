"""A run measured against its truth: which images are which, then image after image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpmo_cli.datasets.names import AmbiguousNameError, match_names, without_suffix
from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.evaluation.boxes import (
    BoxMeasures,
    BoxSummary,
    find_boxes,
    measure_boxes,
    summarise_boxes,
)
from dpmo_cli.evaluation.instances import NO_TRUTH, ImageMasks, find_truths
from dpmo_cli.evaluation.measures import ImageMeasures, measure
from dpmo_cli.evaluation.run_masks import FinishedRun, Prediction, open_run
from dpmo_cli.evaluation.summary import Summary, summarise
from dpmo_cli.evaluation.truth_coco import CocoTruth
from dpmo_cli.evaluation.truth_files import Truth, open_truth
from dpmo_cli.geometry.extents import NNEC
from dpmo_cli.outputs.finished import RunImage

OWN_BOXES = "boxes"
"""In the place of a truth: the head boxes that the dataset gave."""


@dataclass(frozen=True)
class Plan:
    """What will be compared.

    Attributes:
        run: the predictions.
        truth: where the truth lies; None for the run's own boxes.
        names: the images to compare -> their names in the truth, empty for the run's own boxes.
        with_boxes: the truth holds boxes, no masks.
        images_left_out: images of the run that the truth does not have.
        truth_images_left_out: images of the truth beyond the run's limit or in other splits.
    """

    run: FinishedRun
    truth: Truth | None
    names: dict[RunImage, str]
    with_boxes: bool
    images_left_out: int
    truth_images_left_out: int

    @property
    def headline(self) -> str:
        """Which version of the truth the run's masks are meant to be: cut or uncut."""
        return "cut" if self.run.extent == NNEC else "uncut"

    def measure(self, advance: Callable[[int], None]) -> Measured:
        """Measure image after image.

        Args:
            advance: called after each image with the number of its points.

        Raises:
            InputError: a file of the run or of the truth can't be used.
            UsageError: no point of the run has a box.
        """
        masks: list[ImageMeasures] = []
        boxes: list[BoxMeasures] = []
        occluded = 0
        for prediction in self.run.predictions(set(self.names)):
            occluded += int(np.count_nonzero(prediction.occluded))
            if self.with_boxes:
                boxes.append(self._measure_boxes(prediction))
            else:
                masks.append(measure(self._masks(prediction)))
            advance(len(prediction.points_xy))
        if self.truth is None and not any(len(one.box_area_px) for one in boxes):
            problem = "none of its points has a head box in its image"
            raise UsageError(f"--pred {self.run.out}: {problem}; give true masks with --truth")
        left_out = self.truth.left_out if isinstance(self.truth, CocoTruth) else Counter()
        return Measured(tuple(masks), tuple(boxes), occluded, dict(sorted(left_out.items())))

    def _masks(self, prediction: Prediction) -> ImageMasks:
        image = prediction.image
        assert self.truth is not None
        truth = self.truth.instances(self.names[image], image.size_hw)
        true_of_point = find_truths(prediction.points_xy, image.size_hw, truth)
        # What lies at a head that can't be seen is somebody else.
        true_of_point[prediction.occluded] = NO_TRUTH
        return ImageMasks(
            name=f"{image.split}/{image.file_name}",
            size_hw=image.size_hw,
            points_xy=prediction.points_xy,
            predicted=prediction.masks,
            scores=prediction.scores,
            truth=truth,
            true_of_point=true_of_point,
        )

    def _measure_boxes(self, prediction: Prediction) -> BoxMeasures:
        image = prediction.image
        boxes_xyxy = prediction.boxes_xyxy.copy()
        if isinstance(self.truth, CocoTruth):
            of_image = self.truth.boxes_xyxy(self.names[image], image.size_hw)
            boxes_xyxy = find_boxes(prediction.points_xy, image.size_hw, of_image)
        boxes_xyxy[prediction.occluded] = np.nan
        name = f"{image.split}/{image.file_name}"
        return measure_boxes(name, image.size_hw, prediction.masks, boxes_xyxy)


@dataclass(frozen=True)
class Measured:
    """What was measured, image by image; one of `masks` and `boxes` is empty.

    Attributes:
        masks, boxes: against true masks, or boxes.
        points_occluded: that the dataset says can't be seen; left out of the figures per point.
        annotations_left_out: why annotations of the truth do not count -> how many.
    """

    masks: tuple[ImageMeasures, ...]
    boxes: tuple[BoxMeasures, ...]
    points_occluded: int
    annotations_left_out: dict[str, int]

    @property
    def points(self) -> int:
        """Points of all images."""
        return sum(one.points for one in self.masks) + sum(one.points for one in self.boxes)

    def summarise(self, samples: int, seed: int) -> Summary | BoxSummary:
        """The figures with their intervals."""
        if self.boxes:
            return summarise_boxes(self.boxes, samples, seed)
        return summarise(self.masks, samples, seed)


def plan_masks(out: Path, truth: str, split: str | None) -> Plan:
    """Open a run and its truth, and find out which images are which.

    Args:
        out: folder of a finished run.
        truth: path of a COCO JSON or of a folder of masks, or "boxes".
        split: look at this split of the run only.

    Raises:
        UsageError: there is no finished run, no truth, or no image in both.
        InputError: a file can't be read, an image of the truth fits several of the run, or none
            though the run was not limited.
    """
    run = open_run(out, split)
    if truth == OWN_BOXES:
        return Plan(run, None, dict.fromkeys(run.images, ""), True, len(run.failed), 0)
    run_names = [without_suffix(image.file_name) for image in run.images]
    opened = open_truth(Path(truth), run_names)
    try:
        matches = match_names(run_names, opened.names)
    except AmbiguousNameError as error:
        mend = "name the images in the truth as in the run, with their folders, or give --split"
        raise InputError(opened.place(error.name), str(error), mend) from error
    for index in matches.missing:
        _check_missing(run, opened, opened.names[index])
    if not matches.pairs:
        shown = [f"{name!r}" for name in (*run_names[:1], *opened.names[:1])]
        hint = f", as {' there and '.join(shown)} here" if len(shown) == 2 else ""
        raise UsageError(f"--truth {truth}: none of its images is in the run{hint}; check both")
    pairs = sorted(matches.pairs.items())
    names = {run.images[index]: opened.names[of_truth] for index, of_truth in pairs}
    return Plan(
        run=run,
        truth=opened,
        names=names,
        with_boxes=isinstance(opened, CocoTruth) and opened.boxes_only,
        images_left_out=len(run.images) - len(names),
        truth_images_left_out=len(matches.missing),
    )


def _check_missing(run: FinishedRun, truth: Truth, name: str) -> None:
    """Raise InputError for an image of the truth that the run should have."""
    if _is_among(name, run.failed):
        mend = "mend it and convert again, or take it out of the truth"
        raise InputError(truth.place(name), "the run could not read the image", mend)
    if not run.limited and not _is_among(name, run.others):
        mend = "convert it too, or take it out of the truth"
        raise InputError(truth.place(name), "the run has no such image", mend)


def _is_among(name: str, file_names: tuple[str, ...]) -> bool:
    stem = name.rpartition("/")[2]
    known = {without_suffix(one) for one in file_names}
    return name in known or stem in {one.rpartition("/")[2] for one in known}
