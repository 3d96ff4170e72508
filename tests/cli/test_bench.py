"""`dpmo bench`: what it prints in each of its forms, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpmo_cli.outputs.schema import SCHEMA_VERSION
from dpmo_cli.trials import agreement, memory, race
from dpmo_cli.trials.memory import Load, Need
from tests.conftest import Dpmo

RACE = ["bench", "--sam", "nano", "--device", "cpu", "--points", "12", "--size", "160x120"]
RATIOS = {"total", "prompt", "upsample", "rle", "encode", "image"}
OURS = {"prompt", "choose", "clip", "own", "rle", "rest", "total"}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Load]:
    """What other processes would be asked to do; none is started."""
    asked: list[Load] = []

    def measure(load: Load) -> Need:
        asked.append(load)
        return Need(load.path, load.points, 1000 * len(asked), 0.001, load.points)

    monkeypatch.setattr(race, "measure", measure)
    monkeypatch.setattr(memory, "measure", measure)
    return asked


def test_one_object(dpmo: Dpmo) -> None:
    found = dpmo("bench", "--sam", "nano", "--device", "cpu", "--json")
    assert found.code == 0
    (nano,) = found.json["networks"]
    assert (nano["sam"], nano["frame_px"]) == ("nano", 256)
    assert nano["parameters"] * 4 / 1e6 == pytest.approx(nano["weights_mb"])
    assert 3e6 < nano["parameters"] < 5e6
    assert nano["encode_s"] > 0
    assert nano["prompt_ms"] > 0
    assert found.lines == ["dpmo: timing nano on cpu"]


def test_a_table(dpmo: Dpmo) -> None:
    found = dpmo("bench", "--sam", "nano", "--device", "cpu", "-q")
    heading, rule, nano = found.stdout.splitlines()
    assert heading.count("|") == rule.count("|") == nano.count("|")
    assert nano.startswith("| nano | 3.")
    assert not found.stderr


def test_the_stock_path_and_ours(dpmo: Dpmo, loads: list[Load]) -> None:
    found = dpmo(*RACE, "--repeats", "1", "--stock-points", "6", "--json")
    assert found.code == 0
    case, ratio, stock, ours = (found.json[name] for name in ("case", "ratio", "stock", "ours"))
    assert (case["sam"], case["weights"], case["dtype"]) == ("nano", "embedded", "fp32")
    assert (case["width"], case["height"], case["prompts"], case["tiles"]) == (160, 120, 12, 1)
    assert (case["stock_prompts"], case["stock_extrapolated"]) == (6, True)
    assert set(ratio) == RATIOS
    assert set(stock["seconds"]) == {"prompt", "upsample", "rle", "rest", "total"}
    assert set(ours["seconds"]) >= OURS
    for side in (stock, ours):
        seconds = dict(side["seconds"])
        assert min(seconds.values()) >= 0
        total = seconds.pop("total")
        assert sum(seconds.values()) == pytest.approx(total)
        assert side["prompts_per_s"] == pytest.approx(12 / total)
        assert side["seconds_per_image"] == pytest.approx(total + side["encode_s_per_tile"])
        assert side["share_of_matmul_peak"] > 0
    assert ratio["total"] == pytest.approx(stock["seconds"]["total"] / ours["seconds"]["total"])
    assert ratio["rle"] == pytest.approx(stock["seconds"]["rle"] / ours["seconds"]["rle"])
    # What the prompts share is computed once.
    assert 0.3 * stock["flop_per_prompt"] < ours["flop_per_prompt"] < stock["flop_per_prompt"]
    assert found.json["masks"]["masks"] == 6
    assert found.json["masks"]["equal"] is True
    assert found.json["bf16"] is None
    chunk = case["stock_chunk"]
    assert str(chunk) in case["stock_seconds_by_chunk"]
    assert [(load.path, load.points) for load in loads] == [("stock", chunk), ("ours", 12)]
    assert (stock["memory_bytes"], ours["memory_bytes"]) == (1000, 2000)


def test_tiles_and_bf16_for_a_person(dpmo: Dpmo, loads: list[Load]) -> None:
    found = dpmo(*RACE, "--repeats", "1", "--tiles", "auto", "--stock-points", "0",
                 "--dtype", "bf16", "-q")  # fmt: skip
    assert found.code == 0
    assert not found.stderr
    about, rounds = found.stdout.splitlines()[1:3]
    assert about.startswith("image of 160 x 120 px: prompts 12, tiles ")
    assert "tiles 1," not in about
    assert rounds == "medians over rounds in turn: 1"
    table = [line for line in found.stdout.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {5}
    equal, half = found.stdout.splitlines()[-2:]
    assert "12 with" in equal
    assert equal.endswith("flip 0.0e+00: equal to the stock path's")
    assert half.startswith("bf16 against fp32: ")


def test_masks_that_are_not_the_stock_path_s(
    dpmo: Dpmo, loads: list[Load], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if our logits were all too high.
    part_of = agreement._part_of
    monkeypatch.setattr(agreement, "_part_of", lambda *given: part_of(*given) + 0.5)
    found = dpmo(*RACE, "--repeats", "1", "--stock-points", "4", "-q")
    assert found.code == 1
    assert found.stdout.splitlines()[-1].endswith("NOT equal to the stock path's")


def test_memory_by_points(dpmo: Dpmo, loads: list[Load], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpmo_cli.trials.stock.CHUNKS", (2,))
    found = dpmo("bench", "--sam", "nano", "--device", "cpu", "--memory", "--size", "60x40",
                 "--json", "-q")  # fmt: skip
    assert found.code == 0
    assert [load.points for load in loads] == [*memory.LADDER, 2, 2]
    assert {load.size_hw for load in loads} == {(40, 60)}
    needs = found.json["needs"]
    assert [need["path"] for need in needs] == ["ours"] * 5 + ["stock", "predict_torch"]
    assert [need["bytes"] for need in needs] == [1000 * n for n in range(1, 8)]


def test_operations(dpmo: Dpmo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpmo_cli.trials.flops.PROMPTS", 24)
    found = dpmo("bench", "--sam", "nano", "--flops", "--json")
    (nano,) = found.json["networks"]
    assert nano["tile"] == 1_275_490_304
    assert 0.2e9 < nano["stock_prompt"] < 0.3e9
    assert nano["our_prompt"] < nano["stock_prompt"]
    assert (
        dpmo("bench", "--sam", "nano", "--flops", "-q")
        .stdout.splitlines()[2]
        .startswith("| nano | 1.3 | 0.24 | 0.")
    )


def test_a_finished_run(dpmo: Dpmo, tmp_path: Path) -> None:
    stages = ("choose", "clip", "own", "rle", "write")
    record = {
        "version": SCHEMA_VERSION,
        "dataset": "csv",
        "extent": "nnec",
        "counts": {"images": 1, "failed_images": 0, "points": 1000},
        "splits": {},
        "converted_images": 1,
        "seconds": dict.fromkeys(stages, 0.5),
    }
    (tmp_path / "run.json").write_text(json.dumps(record))
    found = dpmo("bench", "--run", tmp_path, "--json")
    assert found.json["ms_per_point"] == {**dict.fromkeys(stages, 0.5), "total": 2.5}
    lines = dpmo("bench", "--run", tmp_path).stdout.splitlines()
    assert lines[-1] == "total   2.500 ms per point"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sam", "vit_z"],
        ["--device", "gpu"],
        ["--memory", "--flops"],
        ["--size", "100x100"],
        ["--checkpoint", "file"],
        ["--points", "20", "--size", "100"],
        ["--points", "20", "--size", "0x10"],
        ["--points", "20", "--tiles", "on"],
        ["--points", "20", "--dtype", "fp16"],
        ["--points", "20", "--sam", "nano", "--sam", "vit_b"],
        ["--points", "1"],
        ["--points", "20", "--flops"],
        ["--run", "missing"],
    ],
    ids="_".join,
)
def test_wrong_use(dpmo: Dpmo, arguments: list[str]) -> None:
    found = dpmo("bench", *arguments)
    assert found.code == 2
    assert len(found.errors) == 1
