"""The training of the selection as a whole, on one small scene: files, curves and the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.summary import Figure
from dpmo_cli.rps.policy import load_policy
from dpmo_cli.training.policies import PolicyTraining
from dpmo_cli.training.rivals import FIRST, ORACLE, RECENTRED, Standing
from dpmo_cli.training.rps import NAMES, recovered, rivals_lines, train_rps
from dpmo_cli.training.sources import Located, Measured, kept_states
from tests.masks.fakes import DiscEngine, FakeEngine
from tests.training.test_rivals import METHOD, measured

NETWORK = "c" * 64


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of few cells, which answer sooner."""
    monkeypatch.setattr(FakeEngine, "cells", 32)


def train(out: Path, sets: dict[str, list[Measured]]) -> list[list[Standing]]:
    engine: Any = DiscEngine()
    settings = PolicyTraining(rounds=3, batch=8)
    return train_rps(
        [one.located for one in sets["true"]], sets, out, engine, METHOD, NETWORK, settings,
        seeds=2, say=lambda line: None,
    )  # fmt: skip


def test_a_whole_training(tmp_path: Path) -> None:
    sets = {"true": [measured()], "photos": [measured()]}
    table = train(tmp_path / "one", sets)
    names = [standings[0].name for standings in table]
    assert names[0] == FIRST
    assert {RECENTRED, ORACLE} < set(names)
    for name in NAMES.values():
        assert {f"{name}, seed 0", f"{name}, seed 1"} < set(names)
    assert [name for name in names if "reject" in name] == [
        "RPS (GRPO), seed 0, may reject", "RPS (GRPO), seed 1, may reject"
    ]  # fmt: skip
    assert all([one.truth_set for one in standings] == ["true", "photos"] for standings in table)
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "rps.safetensors", "rank.safetensors", "curves.parquet", "curves.png"
    }  # fmt: skip
    for name in ("rps", "rank"):
        policy = load_policy(tmp_path / f"one/{name}.safetensors", NETWORK)
        assert policy.channels == 2
    curves = pq.read_table(tmp_path / "one/curves.parquet").to_pylist()
    # Three ways, two seeds, three looks, two sets.
    assert len(curves) == 36
    assert all(0 <= curve["chosen_iou"] <= 1 for curve in curves)

    again = train(tmp_path / "two", sets)
    assert str(again) == str(table)
    for name in ("rps.safetensors", "rank.safetensors", "curves.parquet"):
        first, second = tmp_path / "one" / name, tmp_path / "two" / name
        assert first.read_bytes() == second.read_bytes()
    lines = rivals_lines(table)
    assert lines[0] == "true: 4 points located, 3 persons"
    assert sum(line.startswith("| first point | ") for line in lines) == 2
    (line,) = [line for line in lines[: len(lines) // 2] if line.startswith(f"| {ORACLE} ")]
    assert "| 100 % |" in line


def standing(name: str, iou: float) -> list[Standing]:
    figure = Figure(0.5, 0.4, 0.6)
    return [Standing(name, "true", iou, figure, figure, 9, 10, 8, 1.0)]


@pytest.mark.parametrize(("iou", "part"), [(0.5, 0), (0.6, 0.5), (0.7, 1), (0.4, -0.5)])
def test_part_of_the_gap(iou: float, part: float) -> None:
    table = [standing(FIRST, 0.5), standing("mine", iou), standing(ORACLE, 0.7)]
    assert recovered(table, "mine", "true") == pytest.approx(part)
    assert f"| mine | {iou:.4f} | {100 * part:.0f} % | 0.5000 [0.400, 0.600] |" in "".join(
        rivals_lines(table)
    )


def test_no_gap_to_recover() -> None:
    """Where no candidate beats the first point."""
    table = [standing(FIRST, 0.5), standing(ORACLE, 0.5), standing(RECENTRED, float("nan"))]
    assert np.isnan(recovered(table, FIRST, "true"))
    lines = "".join(rivals_lines(table))
    assert f"| {FIRST} | 0.5000 |  | 0.5000 [" in lines
    assert f"| {RECENTRED} |  |  | 0.5000 [" in lines


def test_states_are_kept(tmp_path: Path) -> None:
    located = measured().located
    made = []

    def make() -> Located:
        made.append(1)
        return located

    path = tmp_path / "states/a.npz"
    for _ in range(2):
        found = kept_states(path, make)
        np.testing.assert_array_equal(found.positions_xy, located.positions_xy)
        for name, value in vars(located.states).items():
            np.testing.assert_array_equal(getattr(found.states, name), value)
    assert len(made) == 1


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("text"), id="text"),
        pytest.param(lambda path: path.write_bytes(b"PK\x03\x04"), id="the head of a zip"),
        pytest.param(_torn, id="torn"),
        pytest.param(_changed, id="changed"),
        pytest.param(lambda path: torch.save({}, path), id="another zip"),
    ],
)
def test_damaged_states(damage: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    kept_states(path, lambda: measured().located)
    damage(path)
    with pytest.raises(UsageError, match=r"a\.npz: is damaged; delete it") as caught:
        kept_states(path, lambda: measured().located)
    assert len(str(caught.value).splitlines()) == 1


def test_the_best_seed_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dpmo_cli.training import rps

    seen: list[tuple[str, float]] = []
    plain = rps.train_policy

    def noted(states: Any, way: str, settings: Any, seed: int, look: Any) -> Any:
        policy = plain(states, way, settings, seed, look)
        seen.append((way, rps.chosen_ious(policy, {"true": [one]})["true"]))
        return policy

    one = measured()
    monkeypatch.setattr(rps, "train_policy", noted)
    train(tmp_path, {"true": [one], "photos": [replace(one)]})
    for way, name in (("grpo", "rps"), ("rank", "rank")):
        best = max(iou for its, iou in seen if its == way)
        policy = load_policy(tmp_path / f"{name}.safetensors", NETWORK)
        assert rps.chosen_ious(policy, {"true": [one]})["true"] == pytest.approx(best)
