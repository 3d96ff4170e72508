"""What a review is worth: the worst masks of a queue corrected by the truth, in a copy of a run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.instances import NO_TRUTH, find_truths
from dpmo_cli.evaluation.measures import DISC_SCALE
from dpmo_cli.evaluation.plan import Plan, plan_masks
from dpmo_cli.evaluation.run_masks import Prediction
from dpmo_cli.evaluation.windows import WindowMask, agreement
from dpmo_cli.geometry.nnec import disc_radii, neighbour_distances
from dpmo_cli.geometry.points import FloatArray, group_points
from dpmo_cli.geometry.rle import Rle
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.findings import CORRECTIONS_FILE
from dpmo_cli.outputs.schema import CORRECTED
from dpmo_cli.review.decisions import Decision, Decisions, RefusedError

QUEUE = "queue"
WORST = "truly worst"
RANDOM = "random"
ARMS = (QUEUE, WORST, RANDOM)
_BATCH = 500


@dataclass(frozen=True)
class Subject:
    """A person whose mask the truth can correct: its image's name, its mask's score and IoU."""

    person: Person
    image: str
    point_xy: tuple[float, float]
    truth: Rle
    score: float
    iou: float


@dataclass(frozen=True)
class Arm:
    """What correcting some masks leads to.

    Attributes:
        chosen: how they were chosen, one of ARMS.
        corrected: how many were.
        refused: how many overlapped another corrected one and were left.
        mean_iou: over all subjects, after.
    """

    chosen: str
    corrected: int
    refused: int
    mean_iou: float


@dataclass(frozen=True)
class Simulation:
    """The arms of one part, and the mean IoU of all subjects before."""

    subjects: int
    mean_iou: float
    arms: tuple[Arm, ...]

    def gain(self, chosen: str) -> float:
        """By how much an arm raises the mean IoU."""
        (arm,) = (arm for arm in self.arms if arm.chosen == chosen)
        return arm.mean_iou - self.mean_iou

    @property
    def of_worst(self) -> float:
        """The queue's gain in parts of that of the truly worst; NaN where there is none."""
        return self._part(WORST)

    @property
    def of_random(self) -> float:
        """The queue's gain in multiples of that of as many at random; NaN where there is none."""
        return self._part(RANDOM)

    def _part(self, chosen: str) -> float:
        gain = self.gain(chosen)
        return self.gain(QUEUE) / gain if gain > 0 else math.nan


def simulate(
    out: Path,
    truth: str,
    *,
    part: float,
    seed: int,
    apply: Callable[[Path], object],
    say: Callable[[str], None] = lambda line: None,
) -> Simulation:
    """Correct a part of a run's masks by the truth, chosen in three ways, each in a copy.

    The decisions go into a log and are applied as a reviewer's are, so that neighbours yield. The
    truth is that which the run's masks are meant to be: cut by the discs for the extent nnec.

    Args:
        out: folder of a finished run without corrections; left as it is.
        truth: COCO JSON or folder of masks.
        part: of the subjects to correct, above 0 to 1.
        seed: of the random choice.
        apply: brings the decisions of a folder into its outputs.
        say: called with lines of progress.

    Raises:
        UsageError: corrections have been applied to the run, or no point has a truth.
        InputError: a file can't be used.
    """
    if (out / CORRECTIONS_FILE).exists():
        raise UsageError(f"{out}: holds corrections; convert it to another folder for this")
    before = subjects_of(plan_masks(out, truth, None))
    if not before:
        raise UsageError(f"--truth {truth}: no point of {out} lies on a true instance")
    count = max(1, round(part * len(before)))
    scores = np.array([one.score for one in before])
    orders: dict[str, NDArray[np.int64]] = {
        QUEUE: np.argsort(np.nan_to_num(scores, nan=-np.inf), kind="stable"),
        WORST: np.argsort([one.iou for one in before], kind="stable"),
        RANDOM: np.random.default_rng(seed).permutation(len(before)),
    }
    arms = []
    for chosen in ARMS:
        say(f"correcting {count} of {len(before)} masks: {chosen}")
        with TemporaryDirectory(prefix="dpmo-review-") as folder:
            copy = Path(folder) / "out"
            shutil.copytree(out, copy, ignore=shutil.ignore_patterns("decisions.sqlite*"))
            refused = _decide(copy, [before[index] for index in orders[chosen][:count]])
            apply(copy)
            after = {one.person: one.iou for one in subjects_of(plan_masks(copy, truth, None))}
        mean = float(np.mean([after[one.person] for one in before]))
        arms.append(Arm(chosen, count - refused, refused, mean))
    return Simulation(len(before), float(np.mean([one.iou for one in before])), tuple(arms))


def subjects_of(plan: Plan) -> list[Subject]:
    """The persons whose point lies on a true instance, one for each site, image after image."""
    return [
        subject
        for prediction in plan.run.predictions(set(plan.names))
        for subject in _in_image(plan, prediction)
    ]


def _in_image(plan: Plan, prediction: Prediction) -> list[Subject]:
    image = prediction.image
    assert plan.truth is not None
    truth = plan.truth.instances(plan.names[image], image.size_hw)
    sites = group_points(prediction.points_xy, image.size_hw)
    radii_px = disc_radii(neighbour_distances(sites), image.size_hw, DISC_SCALE)
    of_point = find_truths(prediction.points_xy, image.size_hw, truth)
    of_point[prediction.occluded] = NO_TRUTH
    found = []
    for site, point in enumerate(sites.point_of_site.tolist()):
        if of_point[point] == NO_TRUTH:
            continue
        whole = WindowMask.of(truth[of_point[point]])
        meant = _meant(whole, plan, sites.xy[site], float(radii_px[site]))
        mask = prediction.masks[point]
        x, y = prediction.points_xy[point].tolist()
        found.append(
            Subject(
                person=Person(image.split, image.image_id, point),
                image=image.file_name,
                point_xy=(x, y),
                truth=meant.rle(image.size_hw),
                score=float(prediction.scores[point]),
                iou=0.0 if mask is None else agreement(WindowMask.of(mask), meant)[0],
            )
        )
    return found


def _meant(whole: WindowMask, plan: Plan, centre_xy: FloatArray, radius_px: float) -> WindowMask:
    return whole.within_disc(centre_xy, radius_px) if plan.headline == "cut" else whole


def _decide(out: Path, chosen: Sequence[Subject]) -> int:
    """Correct masks by the truth, and return how many were refused."""
    made = [
        Decision(one.person, CORRECTED, one.truth, None, "the truth", "simulate", None, one.image,
                 one.point_xy)
        for one in chosen
    ]  # fmt: skip
    refused = 0
    with Decisions(out) as decisions:
        for start in range(0, len(made), _BATCH):
            batch = [(one, None) for one in made[start : start + _BATCH]]
            refused += sum(isinstance(one, RefusedError) for one in decisions.decide_many(batch))
    return refused
