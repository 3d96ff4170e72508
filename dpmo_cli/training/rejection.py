"""Rejection: which located points mean somebody, as a policy's presence learns it; its gain."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.bootstrap import SAMPLES, draw_weights, sums
from dpmo_cli.evaluation.summary import Figure
from dpmo_cli.geometry.points import IntArray
from dpmo_cli.masks.method import Method
from dpmo_cli.rps.policy import Policy
from dpmo_cli.rps.presence import Presence
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.training.policies import rougher, with_gaps
from dpmo_cli.training.rivals import Choose, chosen_by, stand
from dpmo_cli.training.sources import Measured
from dpmo_cli.training.states import States, join_states


@dataclass(frozen=True)
class RejectionTraining:
    """Settings of a fit.

    Attributes:
        steps, batch: how many, and of how many points, drawn evenly from the sets.
        rate, decay: of AdamW; the rate falls to zero as a cosine.
        noise: standard deviation of the noise on normalised features.
        blind: part of the embedding that is left out, so that no place is known by heart.
    """

    steps: int = 1000
    batch: int = 256
    rate: float = 1e-3
    decay: float = 0.05
    noise: float = 0.2
    blind: float = 0.5


def people_of(one: Measured) -> int:
    """Persons to find where points were asked about."""
    return len(one.scene.points_xy)


def fit_rejection(
    policy: Policy,
    sets: Mapping[str, Sequence[Measured]],
    photos: Collection[str],
    settings: RejectionTraining,
    seed: int = 0,
) -> Policy:
    """A copy of a policy that knows how likely a point is somebody's: its `presence` is trained.

    So that the chances of a photo add up to its people, of whom some have no point, they are
    counted with what the photos' people are to their chances, each set of them alike. Candidates
    are not looked at again: which is best stays.

    Args:
        policy: as trained.
        sets: scenes with all points down to OFFERED_LOGIT.
        photos: names of the sets of real photos; all sets where there is none.
        settings: of the fit.
        seed: of the first weights and of all chance.
    """
    fitted = copy.deepcopy(policy)
    parts = {
        name: join_states(one.located.states for one in of_set)
        for name, of_set in sets.items()
        if any(len(one.located.states) for one in of_set)
    }
    if not parts:
        raise UsageError("nobody is located in any scene; nothing can be fitted")
    _train(fitted, parts, settings, seed)
    shares = []
    for name in photos or sets:
        if name in parts:
            part = parts[name]
            told = fitted.chances(part.features, part.embedding, part.located).sum()
            shares.append(sum(map(people_of, sets[name])) / told)
    fitted.presence.get_buffer("people").fill_(float(np.mean(shares or [1.0])))
    return fitted


def _train(
    policy: Policy, parts: Mapping[str, States], settings: RejectionTraining, seed: int
) -> None:
    """Teach a policy's presence which located points mean somebody."""
    states = join_states(parts.values())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        presence = policy.presence = Presence(states.features.shape[2], states.embedding.shape[2])
        features, embedding = policy.normalised(
            torch.from_numpy(states.features), torch.from_numpy(states.embedding)
        )
        located = torch.from_numpy(states.located).float()
        meant = torch.from_numpy(states.meant).float()
        share = torch.cat([torch.full((len(one),), 1 / len(one)) for one in parts.values()])
        optimiser = torch.optim.AdamW(
            presence.parameters(), lr=settings.rate, weight_decay=settings.decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
        generator = torch.Generator().manual_seed(seed)
        spread = torch.full((features.shape[2],), settings.noise)
        for _ in range(settings.steps):
            rows = torch.multinomial(share, settings.batch, replacement=True, generator=generator)
            seen = with_gaps(embedding[rows], settings.blind, generator) / (1 - settings.blind)
            logits = presence(rougher(features[rows], spread, generator), seen, located[rows])
            loss = functional.binary_cross_entropy_with_logits(logits, meant[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
        presence.eval()


@dataclass(frozen=True)
class RejectionRow:
    """What rejection changes in a set.

    Attributes:
        name: of the set.
        scenes, people: how many.
        mae: mean absolute error of the counts: points above zero, and points that are not dropped.
        change: of the one to the other.
        pq: of the whole method with the one and the other; None where the truth is nano's own.
    """

    name: str
    scenes: int
    people: int
    mae: tuple[float, float]
    change: Figure
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
    people = np.array([people_of(one) for one in scenes])
    before, after = (
        np.abs([(~choose(one.located.states)[1]).sum() for one in scenes] - people)
        for choose in ways
    )
    weights = draw_weights(len(scenes), SAMPLES, seed=0)
    changes = sums(after - before, weights) / max(1, len(scenes))
    pq = None
    if true_masks:
        first, second = (stand("", way, {name: scenes}, engine, method)[0].pq for way in ways)
        pq = first, second
    return RejectionRow(
        name, len(scenes), int(people.sum()), (float(before.mean()), float(after.mean())),
        Figure.of(changes[0], changes[1:]), pq,
    )  # fmt: skip


def located_alone(policy: Policy) -> Choose:
    """The policy's candidates, of the points that the localiser takes for people."""

    def choose(states: States) -> tuple[IntArray, NDArray[np.bool_]]:
        chosen, _ = chosen_by(policy, reject=False)(states)
        return chosen, states.located <= 0

    return choose


def rejection_lines(rows: Sequence[RejectionRow]) -> list[str]:
    """The table in Markdown."""
    lines = [
        "| set | scenes | people | count MAE, all kept | with rejection | change | PQ, all kept "
        "| with |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        pq = (
            "| "
            if row.pq is None
            else "| ".join(f"{one.value:.4f} [{one.low:.3f}, {one.high:.3f}] " for one in row.pq)
        )
        (before, after), change = row.mae, row.change
        lines.append(
            f"| {row.name} | {row.scenes} | {row.people} | {before:.1f} | {after:.1f} | "
            f"{change.value:+.1f} [{change.low:.1f}, {change.high:.1f}] | {pq}|"
        )
    return lines
