"""The policies beside their rivals on the same located points: masks of validation scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.evaluation.instances import ImageMasks, rles_of_labels
from dpmo_cli.evaluation.measures import ImageMeasures, measure
from dpmo_cli.evaluation.summary import Figure, summarise
from dpmo_cli.geometry.points import FloatArray, IntArray
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.rps.candidates import RECENTRED as AT_HEAD
from dpmo_cli.rps.policy import Policy
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.training.sources import Measured
from dpmo_cli.training.states import States, true_labels

Choose = Callable[[States], tuple[IntArray, NDArray[np.bool_]]]
"""The chosen candidate of each of n states, and which points are dropped instead."""

FIRST, SCORE, RANDOM, ORACLE, RECENTRED = (
    "first point",
    "argmax of SAM's score",
    "random",
    "oracle best",
    "recentred on the head",
)


@dataclass(frozen=True)
class Standing:
    """How a rival does on a set.

    Attributes:
        name: of the rival.
        truth_set: name of the set.
        chosen_iou: mean IoU of the chosen candidate's mask with the person that the point means,
            before pixels are shared out.
        mean_iou_c, pq: of the whole method, prompted at the chosen points.
        kept, located, people: points that were not dropped, all of them, and true persons.
        count_mae: mean absolute difference of kept points and persons of an image.
    """

    name: str
    truth_set: str
    chosen_iou: float
    mean_iou_c: Figure
    pq: Figure
    kept: int
    located: int
    people: int
    count_mae: float


def plain_rivals(seed: int) -> dict[str, Choose]:
    """Ways to choose that need no training."""

    def keep(chosen: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        return chosen, np.zeros(len(chosen), dtype=np.bool_)

    def at_random(states: States) -> tuple[IntArray, NDArray[np.bool_]]:
        rng = np.random.default_rng((seed, len(states)))
        return keep(rng.integers(states.ious.shape[1], size=len(states)))

    return {
        FIRST: lambda states: keep(np.zeros(len(states), dtype=np.int64)),
        SCORE: lambda states: keep(states.scores.argmax(axis=1)),
        RANDOM: at_random,
        RECENTRED: lambda states: keep(np.full(len(states), AT_HEAD, dtype=np.int64)),
        ORACLE: lambda states: keep(states.ious.argmax(axis=1)),
    }


def chosen_by(policy: Policy, *, reject: bool) -> Choose:
    """The policy's likeliest candidate; with `reject` it drops points."""

    def choose(states: States) -> tuple[IntArray, NDArray[np.bool_]]:
        return policy.act(states.features, states.embedding, states.located, reject=reject)

    return choose


def stand(
    name: str,
    choose: Choose,
    sets: Mapping[str, Sequence[Measured]],
    engine: SamEngine,
    method: Method,
    *,
    samples: int = 1000,
) -> list[Standing]:
    """Measure a rival on every set, through the whole method.

    Args:
        name: of the rival.
        choose: its choice.
        sets: scenes by the name of their set.
        engine: the network.
        method: that masks are made with.
        samples: of the bootstrap over images.
    """
    standings = []
    for truth_set, scenes in sets.items():
        measures, ious, errors = [], [], []
        kept = located = people = 0
        for one in scenes:
            states = one.located.states
            chosen, dropped = choose(states)
            ious.append(np.take_along_axis(states.ious, chosen[:, None], axis=1)[states.meant, 0])
            points_xy = one.located.positions_xy[np.arange(len(chosen)), chosen][~dropped]
            measures.append(_measure(one, points_xy, engine, method))
            kept += len(points_xy)
            located += len(states)
            people += measures[-1].instances
            errors.append(abs(len(points_xy) - measures[-1].instances))
        figures = summarise(measures, samples).uncut.figures
        standings.append(
            Standing(
                name=name,
                truth_set=truth_set,
                chosen_iou=float(np.concatenate(ious).mean()),
                mean_iou_c=figures.mean_iou_c,
                pq=figures.pq,
                kept=kept,
                located=located,
                people=people,
                count_mae=float(np.mean(errors)),
            )
        )
    return standings


def _measure(
    one: Measured, points_xy: FloatArray, engine: SamEngine, method: Method
) -> ImageMeasures:
    """What the method makes of points, against the truth that the extent means."""
    scene = one.scene
    masks, scores = segment_image(scene.image, points_xy, engine, method).masks_of_points()
    return measure(
        ImageMasks(
            scene.name,
            scene.size_hw,
            points_xy,
            masks,
            scores,
            rles_of_labels(true_labels(scene, method.extent)),
            np.full(len(points_xy), -1, dtype=np.int64),
        )
    )
