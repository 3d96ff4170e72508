"""The plan of a run, before it is started."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dpmo_cli.geometry.tiles import Tile
from dpmo_cli.masks.prompting import TILES_AT_ONCE
from dpmo_cli.pipeline import estimate
from tests.conftest import Crowd, Dpmo, FakeEngine, tree
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
        "images", "converted", "points", "tiles", "prompts", "unreadable", "time", "memory"
    }  # fmt: skip
    assert table["time"].endswith(" s")
    assert table["memory"].endswith(" MB")


def test_what_is_there_already_costs_nothing(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", crowd.root, "--out", "out")
    assert dpmo(*command, "--limit", "2").code == 0
    before = tree(tmp_path / "out", without=())
    plan = dpmo(*command, "--dry-run", "--json").json
    assert (plan["images"], plan["converted"], plan["changes"]) == (7, 4, [])
    assert plan["points"] == 5 + 6 + 7
    done = dpmo(*command, "--dry-run", "--json", "--limit", "2").json
    assert (done["images"], done["converted"], done["tiles"]) == (4, 4, 0)
    forced = dpmo(*command, "--dry-run", "--json", "--limit", "2", "--force").json
    assert (forced["converted"], forced["points"]) == (0, 3 + 4 + 4 + 4)
    assert tree(tmp_path / "out", without=()) == before


def test_other_settings_convert_all_again(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd
) -> None:
    command = ("convert", "--root", crowd.root, "--out", "out")
    assert dpmo(*command).code == 0
    outcome = dpmo(*command, "--nnec-scale", "0.5", "--dry-run", "--json")
    assert "dpmo: out: other settings (nnec_scale 1.0, now 0.5); what is there is" in outcome.stderr
    plan = outcome.json
    assert (plan["images"], plan["converted"]) == (7, 0)
    assert plan["changes"] == ["nnec_scale 1.0, now 0.5"]
    assert plan["points"] == crowd.total


@pytest.mark.parametrize(
    ("options", "at_least"),
    [
        pytest.param([], 0, id="one process"),
        pytest.param(["--workers", "2"], 4, id="two have to start"),
    ],
)
def test_workers_take_memory_and_time_to_start(
    options: list[str], at_least: float, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd
) -> None:
    command = ("convert", "--root", crowd.root, "--out", "out", "--dry-run", "--json")
    alone, plan = dpmo(*command).json, dpmo(*command, *options).json
    assert plan["seconds"] >= at_least
    assert (plan["memory_bytes"] > 1.5 * alone["memory_bytes"]) == bool(options)


@pytest.mark.parametrize(
    ("most_s", "largest"),
    [pytest.param(60.0, TILES_AT_ONCE, id="a light network"), pytest.param(0.0, 1, id="heavy")],
)
def test_dear_tiles_are_timed_one_by_one(
    most_s: float,
    largest: int,
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    empty_crowd: Crowd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimate, "PROBE_S", (0.0, most_s))
    sizes: list[int] = []
    claim = estimate.claim_tiles

    def noted(image: Any, tiles: list[Tile], *rest: Any) -> None:
        sizes.append(len(tiles))
        claim(image, tiles, *rest)

    monkeypatch.setattr(estimate, "claim_tiles", noted)
    # Far more pixels than a frame: many tiles.
    empty_crowd.add("a.png", count=400, size_hw=(1200, 1600))
    plan = dpmo("convert", "--root", empty_crowd.root, "--out", "out", "--dry-run", "--json").json
    assert plan["tiles"] > TILES_AT_ONCE
    assert sizes[0] == 1
    assert max(sizes) == largest


def test_parts_that_nobody_waits_for_leave_nothing_behind(
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    empty_crowd: Crowd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Timing is over while another stream still writes its part."""
    monkeypatch.setattr(estimate, "PROBE_S", (0.0, 60.0))
    write = estimate.write_record

    def slowly(path: Path, record: Any) -> None:
        time.sleep(0.1 * int(path.stem))
        write(path, record)

    monkeypatch.setattr(estimate, "write_record", slowly)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    empty_crowd.add("a.png", count=400, size_hw=(1200, 1600))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        outcome = dpmo("convert", "--root", empty_crowd.root, "--out", "out", "--dry-run")
    finally:
        torch.set_num_threads(threads)
    assert outcome.code == 0, outcome.stderr
    assert not list(temporary.iterdir())


@pytest.mark.usefixtures("nano", "one_thread")
def test_time_is_that_of_the_stages(
    dpmo: Dpmo, empty_crowd: Crowd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the processor's time of this thread, which other programs do not disturb."""
    for room in ("masks.prompting", "pipeline.converter", "pipeline.estimate"):
        monkeypatch.setattr(f"dpmo_cli.{room}.perf_counter", time.thread_time)
    for number, count in enumerate((90, 30, 60)):
        empty_crowd.add(f"{number}.png", count=count, size_hw=(240, 320))
    command = ("convert", "--root", empty_crowd.root, "--out", "out", "--json")
    plan = dpmo(*command, "--dry-run").json
    assert dpmo(*command).code == 0
    document = json.loads((tmp_path / "out/run.json").read_text())
    assert plan["tiles"] == document["tiles"]
    assert plan["seconds"] == pytest.approx(sum(document["seconds"].values()), rel=0.25)


def test_heads_that_cant_be_seen_need_no_prompt(
    dpmo: Dpmo, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    Builder(tmp_path).jhu()
    command = ("convert", "--dataset", "jhu", "--root", tmp_path, "--json")
    done = dpmo(*command, "--out", "out")
    assert done.json["counts"]["by_status"]["occluded"] > 0
    prompted = fake_engine.prompted
    assert dpmo(*command, "--out", "other", "--dry-run").json["prompts"] == prompted
