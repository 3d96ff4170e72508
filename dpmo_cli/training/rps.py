"""Training of the selection: states, policies of several seeds, and their table of rivals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save

from dpmo_cli.evaluation.summary import Figure
from dpmo_cli.masks.method import Method
from dpmo_cli.outputs.atomic import atomic_path, write_bytes
from dpmo_cli.rps.policy import Policy
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.training.policies import EXACT, GRPO, RANK, PolicyTraining, train_policy
from dpmo_cli.training.rivals import (
    FIRST,
    ORACLE,
    Standing,
    chosen_by,
    plain_rivals,
    stand,
)
from dpmo_cli.training.sources import PHOTOS, Located, Measured
from dpmo_cli.training.states import join_states

NAMES = {GRPO: "RPS (GRPO)", EXACT: "exact policy gradient", RANK: "ranker, supervised"}
FILES = {GRPO: "rps.safetensors", RANK: "rank.safetensors"}


@dataclass(frozen=True)
class Curve:
    """How a policy does on a validation set in the course of its training."""

    way: str
    seed: int
    step: int
    truth_set: str
    chosen_iou: float


def train_rps(
    training: Sequence[Located],
    sets: Mapping[str, Sequence[Measured]],
    out: Path,
    engine: SamEngine,
    method: Method,
    weights_sha256: str,
    settings: PolicyTraining,
    seeds: int,
    say: Callable[[str], None] = print,
) -> list[list[Standing]]:
    """Train every way with every seed, measure them beside their rivals, and write the best.

    Writes `out/rps.safetensors` and `out/rank.safetensors`, of each the seed that does best on the
    validation sets with true masks, `out/curves.parquet` and `out/curves.png`.

    Args:
        training: what to train on.
        sets: validation scenes by the name of their set.
        out: folder of the run.
        engine: the network.
        method: that masks are made with.
        weights_sha256: of the network, which the policies are for.
        settings: of the training.
        seeds: how many, from 0.
        say: called with lines of progress.

    Returns:
        Of each rival its standing on every set.
    """
    states = join_states(located.states for located in training)
    say(f"{len(states)} points to train on")
    curves: list[Curve] = []
    table = []
    for name, choose in plain_rivals(0).items():
        table.append(stand(name, choose, sets, engine, method))
        say(name)
    for way, name in NAMES.items():
        best, best_iou = None, -math.inf
        for seed in range(seeds):

            def look(step: int, policy: Policy, way: str = way, seed: int = seed) -> None:
                for truth_set, iou in chosen_ious(policy, sets).items():
                    curves.append(Curve(way, seed, step, truth_set, iou))

            policy = train_policy(states, way, settings, seed, look)
            table.append(
                stand(f"{name}, seed {seed}", chosen_by(policy, reject=False), sets, engine, method)
            )
            if way == GRPO:
                choose = chosen_by(policy, reject=True)
                table.append(
                    stand(f"{name}, seed {seed}, may reject", choose, sets, engine, method)
                )
            ious = chosen_ious(policy, sets)
            mean = float(np.mean([iou for truth_set, iou in ious.items() if truth_set != PHOTOS]))
            say(f"{name}, seed {seed}: {mean:.4f}")
            if mean > best_iou:
                best, best_iou = policy, mean
        if way in FILES and best is not None:
            write_policy(best, out / FILES[way], weights_sha256)
    write_curves(curves, out)
    return table


def chosen_ious(policy: Policy, sets: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    """Mean IoU of the chosen candidates, by set."""
    choose = chosen_by(policy, reject=False)
    found = {}
    for truth_set, scenes in sets.items():
        ious = []
        for one in scenes:
            states = one.located.states
            chosen, _ = choose(states)
            ious.append(np.take_along_axis(states.ious, chosen[:, None], axis=1)[states.meant, 0])
        found[truth_set] = float(np.concatenate(ious).mean())
    return found


def write_policy(policy: Policy, path: Path, weights_sha256: str) -> None:
    """Write a policy as safetensors, with the hash of the network that it is for."""
    state = {
        name: value.detach().float().contiguous() for name, value in policy.state_dict().items()
    }
    write_bytes(path, save(state, metadata={"network": weights_sha256}))


def write_curves(curves: Sequence[Curve], out: Path) -> None:
    """Write `curves.parquet`, a row per look, and `curves.png`, a panel per set."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure as Canvas

    with atomic_path(out / "curves.parquet") as partial:
        pq.write_table(pa.Table.from_pylist([vars(curve) for curve in curves]), partial)
    names = list(dict.fromkeys(curve.truth_set for curve in curves))
    figure = Canvas(figsize=(4 * len(names), 3.2), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for panel, truth_set in zip(panels, names, strict=True):
        panel.set_title(truth_set)
        panel.set_xlabel("step")
        panel.set_ylabel("IoU of the chosen candidate")
        for colour, way in enumerate(NAMES):
            for seed in sorted({curve.seed for curve in curves}):
                mine = [c for c in curves if (c.truth_set, c.way, c.seed) == (truth_set, way, seed)]
                panel.plot(
                    [c.step for c in mine],
                    [c.chosen_iou for c in mine],
                    color=f"C{colour}",
                    linewidth=1,
                    label=NAMES[way] if seed == 0 else None,
                )
        panel.legend(fontsize=7)
    with atomic_path(out / "curves.png") as partial:
        figure.savefig(partial, format="png", dpi=120)


def recovered(table: Sequence[Sequence[Standing]], name: str, truth_set: str) -> float:
    """Part of the gap from the first point to the oracle that a rival recovers, by chosen IoU.

    NaN where there is no gap.
    """
    of = {
        standing.name: standing.chosen_iou
        for standings in table
        for standing in standings
        if standing.truth_set == truth_set
    }
    gap = of[ORACLE] - of[FIRST]
    return (of[name] - of[FIRST]) / gap if gap else math.nan


def rivals_lines(table: Sequence[Sequence[Standing]]) -> list[str]:
    """The table in Markdown: a part per set, a row per rival."""
    lines = []
    for column, truth_set in enumerate(standing.truth_set for standing in table[0]):
        part = [standings[column] for standings in table]
        lines += [
            f"{truth_set}: {part[0].located} points located, {part[0].people} persons",
            "",
            "| rival | IoU of the choice | of the gap | Mean IoU C | PQ | kept | count MAE |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for one in part:
            known = not math.isnan(one.chosen_iou)
            part_of_gap = recovered(table, one.name, truth_set)
            gap = "" if math.isnan(part_of_gap) else f"{100 * part_of_gap:.0f} %"
            iou = f"{one.chosen_iou:.4f}" if known else ""
            lines.append(
                f"| {one.name} | {iou} | {gap} | {_shown(one.mean_iou_c)} | {_shown(one.pq)} | "
                f"{one.kept} | {one.count_mae:.1f} |"
            )
        lines.append("")
    return lines


def _shown(figure: Figure) -> str:
    return f"{figure.value:.4f} [{figure.low:.3f}, {figure.high:.3f}]"
