"""The plan of a run, before it is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Crowd, Dpmo, FakeEngine
from tests.datasets.conftest import Builder


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="whole"),
        pytest.param(["--split", "train"], id="split"),
        pytest.param(["--limit", "2"], id="limit"),
        pytest.param(["--shard", "2/3"], id="shard"),
        pytest.param(["--tiles", "off"], id="one tile an image"),
    ],
)
def test_plan_says_what_the_run_does(
    options: list[str], dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", crowd.root, "--out", tmp_path / "out", *options)
    plan = dpmo(*command, "--dry-run", "--json")
    assert plan.code == 0
    assert not (tmp_path / "out").exists()
    before = (fake_engine.encoded, fake_engine.prompted)
    done = dpmo(*command, "--json")
    assert (plan.json["images"], plan.json["points"]) == (
        done.json["counts"]["images"],
        done.json["counts"]["points"],
    )
    assert plan.json["tiles"] == fake_engine.encoded - before[0]
    assert plan.json["prompts"] == fake_engine.prompted - before[1]
    assert plan.json["unreadable"] == 0
    assert plan.json["seconds"] >= 0
    assert plan.json["memory_bytes"] > 10**7


def test_duplicates_and_points_outside_need_no_prompt(
    dpmo: Dpmo, fake_engine: FakeEngine, empty_crowd: Crowd
) -> None:
    empty_crowd.add("a.png", count=2)
    points = empty_crowd.points["train", "a.png"]
    points += [points[0], (-9, -9), (float("nan"), 0)]
    empty_crowd.write()
    plan = dpmo("convert", "--root", empty_crowd.root, "--out", "out", "--dry-run", "--json").json
    assert (plan["points"], plan["prompts"]) == (5, 2)


def test_what_cant_be_read_is_counted(dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd) -> None:
    (crowd.root / "train/1.png").write_bytes(b"torn")
    plan = dpmo("convert", "--root", crowd.root, "--out", "out", "--dry-run")
    assert plan.code == 0
    table = dict(line.split(maxsplit=1) for line in plan.stdout.splitlines())
    assert (table["images"], table["unreadable"]) == ("7", "1")
    assert set(table) == {
        "images", "points", "tiles", "prompts", "unreadable", "time", "memory"
    }  # fmt: skip
    assert table["time"].endswith(" s")
    assert table["memory"].endswith(" MB")


def test_heads_that_cant_be_seen_need_no_prompt(
    dpmo: Dpmo, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    Builder(tmp_path).jhu()
    command = ("convert", "--dataset", "jhu", "--root", tmp_path, "--json")
    done = dpmo(*command, "--out", "out")
    assert done.json["counts"]["by_status"]["occluded"] > 0
    prompted = fake_engine.prompted
    assert dpmo(*command, "--out", "other", "--dry-run").json["prompts"] == prompted
