"""Rejection: how much a policy's doubt counts beside the localiser's logit, as counts tell."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dpmo_cli.evaluation.summary import Figure
from dpmo_cli.geometry.points import FloatArray, IntArray
from dpmo_cli.masks.method import Method
from dpmo_cli.rps.policy import Policy
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.training.rivals import Choose, chosen_by, stand
from dpmo_cli.training.sources import Measured
from dpmo_cli.training.states import States

TRUSTS = 2.0 ** np.arange(0, 8.01, 0.5)
"""How much a logit of the localiser may weigh beside one of the policy."""
LEVELS = np.arange(-800, 801) / 100
"""Levels that are tried, in logits of the localiser."""


@dataclass(frozen=True)
class Counted:
    """The points offered in a scene: (n,) the policy's doubts and the localiser's logits."""

    doubts: FloatArray
    logits: FloatArray
    people: int


def count_scenes(policy: Policy, scenes: Sequence[Measured]) -> list[Counted]:
    """What rejection is decided by, scene by scene."""
    counted = []
    for one in scenes:
        states = one.located.states
        _, doubts = policy.decide(states.features, states.embedding)
        counted.append(Counted(doubts, states.located, people_of(one)))
    return counted


def people_of(one: Measured) -> int:
    """Persons to find where points were asked about."""
    return len(one.scene.points_xy)


def fit_rejection(
    policy: Policy, sets: Mapping[str, Sequence[Counted]], photos: Collection[str]
) -> Policy:
    """A copy of a policy that drops points by the localiser's logit too, as the counts tell.

    At each trust the level is that which leaves as many points as the localiser takes for people
    in the photos. The errors of the counts there can't set it: the localiser has learnt from these
    photos, and is surer of their people than it will be of others. Of the trusts it is that with
    which the set that gains least over the localiser alone gains most. Candidates are not looked
    at again: which is best stays.

    Args:
        policy: as trained.
        sets: scenes with all points down to OFFERED_LOGIT, none of which the policy learnt from.
        photos: names of the sets of real photos; all sets where there is none.
    """
    best = (math.inf, 0.0, 0.0)
    for trust in TRUSTS.tolist():
        moved = np.zeros(len(LEVELS))
        errors: dict[str, NDArray[np.float64]] = {}
        for name, scenes in sets.items():
            kept = np.array([_kept(one, trust) for one in scenes])
            located = np.array([int((one.logits > 0).sum()) for one in scenes])
            people = np.array([one.people for one in scenes])
            if name in photos or not photos:
                moved += np.abs(kept.sum(axis=0) - located.sum()) / max(1, located.sum())
            plain = np.abs(located - people).sum()
            errors[name] = np.abs(kept - people[:, None]).sum(axis=0) / max(1, plain)
        level = int(moved.argmin())
        worst = max(float(of_set[level]) for of_set in errors.values())
        best = min(best, (worst, trust, float(LEVELS[level])))
    _, trust, level_logit = best
    fitted = copy.deepcopy(policy)
    with torch.no_grad():
        fitted.get_buffer("trust").fill_(trust)
        fitted.get_buffer("level").fill_(trust * level_logit)
    return fitted


@dataclass(frozen=True)
class RejectionRow:
    """What rejection changes in a set.

    Attributes:
        name: of the set.
        scenes, people: how many.
        mae: mean absolute error of the counts: points above zero, and points that are not dropped.
        pq: of the whole method with the one and the other; None where the truth is nano's own.
    """

    name: str
    scenes: int
    people: int
    mae: tuple[float, float]
    pq: tuple[Figure, Figure] | None


def compare_rejection(
    policy: Policy,
    name: str,
    scenes: Sequence[Measured],
    engine: SamEngine,
    method: Method,
    *,
    true_masks: bool,
) -> RejectionRow:
    """Measure a fitted policy on a set, beside the localiser's own decision."""
    ways = (located_alone(policy), chosen_by(policy, reject=True))
    mae = []
    for choose in ways:
        kept = np.array([(~choose(one.located.states)[1]).sum() for one in scenes])
        mae.append(float(np.abs(kept - [people_of(one) for one in scenes]).mean()))
    pq = None
    if true_masks:
        first, second = (stand("", way, {name: scenes}, engine, method)[0].pq for way in ways)
        pq = first, second
    people = sum(map(people_of, scenes))
    return RejectionRow(name, len(scenes), people, (mae[0], mae[1]), pq)


def located_alone(policy: Policy) -> Choose:
    """The policy's candidates, of the points that the localiser takes for people."""

    def choose(states: States) -> tuple[IntArray, NDArray[np.bool_]]:
        chosen, _ = chosen_by(policy, reject=False)(states)
        return chosen, states.located <= 0

    return choose


def rejection_lines(rows: Sequence[RejectionRow]) -> list[str]:
    """The table in Markdown."""
    lines = [
        "| set | scenes | people | count MAE, all kept | with rejection | PQ, all kept | with |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        pq = (
            "| "
            if row.pq is None
            else "| ".join(f"{one.value:.4f} [{one.low:.3f}, {one.high:.3f}] " for one in row.pq)
        )
        before, after = row.mae
        lines.append(
            f"| {row.name} | {row.scenes} | {row.people} | {before:.1f} | {after:.1f} | {pq}|"
        )
    return lines


def _kept(one: Counted, trust: float) -> IntArray:
    """Points that stay at each of LEVELS."""
    sureness = np.sort(one.logits - one.doubts / trust)
    return len(sureness) - np.searchsorted(sureness, LEVELS, side="right")
