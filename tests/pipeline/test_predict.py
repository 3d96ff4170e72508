"""Runs over photos that nobody annotated: what they write, resume, merge and leave alone."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from dpmo_cli.outputs import atomic
from dpmo_cli.outputs.validate import validate_run
from dpmo_cli.rps.locator import load_locator, locate
from dpmo_cli.rps.policy import OFFERED_LOGIT, Policy
from dpmo_cli.sam.models import EngineSpec
from dpmo_cli.training.rps import write_policy
from tests.conftest import Dpmo, FakeEngine, Outcome, draw_people, moments, tree
from tests.outputs.samples import Row
from tests.rps.knowing import knows_logits

pytestmark = pytest.mark.usefixtures("one_thread")

PREDICT = Callable[..., Outcome]
OUTPUTS = {
    "annotations/predictions.json",
    "counts.csv",
    "points/predictions.parquet",
    "review/queue.parquet",
    "run.json",
}
WRITES = 7
"""Files of a run over one photo: its record, the manifest, 4 outputs, the run record."""


@pytest.fixture
def predict(dpmo: Dpmo, fake_engine: FakeEngine, album: Path, locator_file: Path) -> PREDICT:
    """Predicts the album into a folder."""

    def run(out: str, *options: str | Path, selector: str = "first") -> Outcome:
        command = ("predict", album, "--out", out, "--selector", selector, *options)
        given = () if "--points" in options else ("--locator", locator_file)
        return dpmo(*command, *given, "--json")

    return run


def policy_file(
    path: Path, network: str, reject: float = -4.0, people: float | None = None
) -> Path:
    """A policy of chance for the fake engine's embedding; fitted where `people` are given."""
    torch.manual_seed(0)
    policy = Policy(2)
    last = policy.reject[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.constant_(last.bias, reject)
    if people is not None:
        knows_logits(policy, people)
    write_policy(policy, path, network)
    return path


def rows_of(out: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(out / "points/predictions.parquet").to_pylist()
    return rows


def counts_of(out: Path) -> dict[str, tuple[int, int]]:
    with (out / "counts.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return {name: (int(people), int(masks)) for name, people, masks in rows}


def record_of(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return record


@pytest.mark.parametrize("selector", ["first", "score"])
def test_a_whole_run(
    selector: str, predict: PREDICT, album: Path, locator_file: Path, tmp_path: Path
) -> None:
    outcome = predict("out", selector=selector)
    out = tmp_path / "out"
    assert (outcome.code, outcome.errors) == (0, [])
    assert {name for name in tree(out, without=()) if not name.startswith(".dpmo/")} == OUTPUTS
    assert validate_run(out) == []
    rows = rows_of(out)
    model = load_locator(locator_file)
    names = ["a.png", "b.png", "sub/c.png"]
    moved = 0
    for number, name in enumerate(names):
        peaks = locate(draw_people(number), model)
        mine = [row for row in rows if row["image"] == name]
        assert len(mine) == len(peaks) > 0, "a row for every located point"
        np.testing.assert_allclose([row["locator_score"] for row in mine], peaks.scores, rtol=1e-6)
        found = np.array([[row["x"], row["y"]] for row in mine])
        moved += int((found != peaks.points_xy).any(axis=1).sum())
    assert bool(moved) == (selector == "score")
    counts = counts_of(out)
    assert list(counts) == names
    for name, (people, masks) in counts.items():
        statuses = Counter(row["status"] for row in rows if row["image"] == name)
        assert people == statuses.total()
        assert masks == statuses["ok"] > 0
    assert outcome.json["kind"] == "predict"
    assert outcome.json["counts"]["points"] == len(rows)
    assert outcome.json["exit_code"] == 0


def test_run_record(predict: PREDICT, locator_file: Path, tmp_path: Path) -> None:
    predict("out", "--min-score", "0.4")
    record = record_of(tmp_path / "out")
    assert (record["dataset"], record["root"]) == ("photos", str(tmp_path / "album"))
    config = record["config"]
    assert (config["photos"], config["selector"], config["min_score"]) == (3, "first", 0.4)
    assert config["locator"] == str(locator_file)
    assert len(config["locator_sha256"]) == 64
    assert config["locator_sha256"][:12] in record["settings"]["points"]
    assert {"read", "find", "encode", "write"} <= set(record["seconds"])
    assert set(record["files"]) == OUTPUTS - {"run.json"}


@pytest.mark.usefixtures("nano")
def test_the_real_network(dpmo: Dpmo, album: Path, locator_file: Path, tmp_path: Path) -> None:
    command = ("predict", album / "a.png", "--out", "out", "--locator", locator_file)
    outcome = dpmo(*command, "--selector", "score", "--json")
    assert outcome.code == 0
    assert validate_run(tmp_path / "out") == []
    assert outcome.json["counts"]["masks"] > 0


@pytest.mark.parametrize("selector", ["rps", "rank"])
def test_the_embedded_weights(
    selector: str, dpmo: Dpmo, nano: None, album: Path, tmp_path: Path
) -> None:
    command = ("predict", album, "--out", "out", "--selector", selector, "--reject")
    assert dpmo(*command, "--min-score", "0.05").code == 0
    assert validate_run(tmp_path / "out") == []


def test_a_second_run_does_nothing(predict: PREDICT, fake_engine: FakeEngine) -> None:
    predict("out")
    before, loads = moments(Path("out")), fake_engine.loads
    again = predict("out")
    assert again.json["changed"] is False
    assert "dpmo: out: up to date, nothing to do" in again.lines
    assert moments(Path("out")) == before
    assert fake_engine.loads == loads == 1


@pytest.mark.parametrize(
    ("options", "selector"),
    [
        pytest.param([], "score", id="selector"),
        pytest.param(["--min-score", "0.4"], "first", id="min-score"),
        pytest.param(["--min-score", "0.50000001"], "first", id="min-score, a little"),
        pytest.param(["--nnec-scale", "0.5"], "first", id="nnec-scale"),
        pytest.param(["--extent", "head"], "first", id="extent"),
    ],
)
def test_a_changed_option(
    options: list[str], selector: str, predict: PREDICT, tmp_path: Path
) -> None:
    predict("out")
    changed = predict("out", *options, selector=selector)
    assert (changed.json["changed"], changed.json["converted_images"]) == (True, 3)
    assert any("other settings" in line for line in changed.lines)
    predict("fresh", *options, selector=selector)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_other_weights_are_other_settings(
    dpmo: Dpmo, predict: PREDICT, album: Path, locator_file: Path, tmp_path: Path
) -> None:
    predict("out")
    other = load_locator(locator_file)
    with torch.no_grad():
        assert other.logit.bias is not None
        other.logit.bias += 0.01
    torch.save(other.state_dict(), tmp_path / "other.pt")
    command = ("predict", album, "--out", "out", "--selector", "first", "--json")
    assert dpmo(*command, "--locator", tmp_path / "other.pt").json["converted_images"] == 3


def test_a_changed_photo(predict: PREDICT, album: Path, tmp_path: Path) -> None:
    predict("out")
    (album / "b.png").write_bytes((album / "a.png").read_bytes())
    assert predict("out").json["converted_images"] == 1
    rows = rows_of(tmp_path / "out")
    places = [[(r["x"], r["y"]) for r in rows if r["image"] == name] for name in ("a.png", "b.png")]
    assert places[0] == places[1]


class Killed(BaseException):
    """The process is gone: nothing tidies up behind it."""


def test_killed_at_every_file(predict: PREDICT, tmp_path: Path) -> None:
    predict("undisturbed", "--limit", "1")
    undisturbed = tree(tmp_path / "undisturbed")
    replace = os.replace
    count = 0

    def replace_or_die(source: Path, target: Path) -> None:
        nonlocal count
        if count == at:
            raise Killed
        count += 1
        replace(source, target)

    for at in range(WRITES + 1):
        count = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", replace_or_die)
            patch.setattr(atomic, "_remove", lambda path: None)
            patch.setattr(atomic, "_sync", lambda path: None)
            if at == WRITES:
                predict(f"out{at}", "--limit", "1")
            else:
                with pytest.raises(Killed):
                    predict(f"out{at}", "--limit", "1")
        again = predict(f"out{at}", "--limit", "1")
        assert again.code == 0
        assert again.json["changed"] is (at < WRITES)
        assert tree(tmp_path / f"out{at}") == undisturbed


def test_merged_shards_equal_the_undivided_run(
    dpmo: Dpmo, predict: PREDICT, tmp_path: Path
) -> None:
    predict("whole")
    for shard in (1, 2):
        assert predict(str(shard), "--shard", f"{shard}/2").code == 0
        assert validate_run(tmp_path / str(shard)) == []
    assert [len(counts_of(tmp_path / shard)) for shard in ("1", "2")] == [2, 1]
    assert dpmo("merge", "2", "1", "--out", "merged").code == 0
    assert tree(tmp_path / "merged") == tree(tmp_path / "whole")
    assert (tmp_path / "merged/counts.csv").read_bytes() == (
        tmp_path / "whole/counts.csv"
    ).read_bytes()


def test_nobody_found(predict: PREDICT, dpmo: Dpmo, tmp_path: Path) -> None:
    outcome = predict("out", "--min-score", "0.9999", selector="score")
    assert (outcome.code, outcome.errors) == (0, [])
    assert outcome.json["counts"]["points"] == 0
    assert rows_of(tmp_path / "out") == []
    assert dpmo("validate", "out").code == 0
    assert counts_of(tmp_path / "out") == dict.fromkeys(("a.png", "b.png", "sub/c.png"), (0, 0))
    assert predict("out", "--min-score", "0.9999", selector="score").json["changed"] is False


@pytest.mark.parametrize("reject", [True, False])
def test_a_policy_of_the_user(
    reject: bool, predict: PREDICT, spec: EngineSpec, dpmo: Dpmo, tmp_path: Path
) -> None:
    """One that rejects everybody, where it may."""
    policy = policy_file(tmp_path / "p.safetensors", spec.weights_sha256, reject=99.0)
    options = ["--policy", policy, "--reject" if reject else "--keep-all"]
    outcome = predict("out", *options, selector="rps")
    assert outcome.code == 0
    assert dpmo("validate", "out").code == 0
    rows = rows_of(tmp_path / "out")
    predict("first")
    assert len(rows) == len(rows_of(tmp_path / "first"))
    assert ({row["status"] for row in rows} == {"rejected"}) is reject
    assert ({tuple(row["reasons"]) for row in rows} == {("rejected",)}) is reject
    people = sum(people for people, _ in counts_of(tmp_path / "out").values())
    assert people == (0 if reject else len(rows))
    assert record_of(tmp_path / "out")["config"]["reject"] is reject


@pytest.mark.parametrize("people", [0.01, 0.97])
def test_a_fitted_policy_decides_on_doubtful_points(
    people: float, predict: PREDICT, spec: EngineSpec, locator_file: Path, tmp_path: Path
) -> None:
    """As many stay as the chances say; doubtful ones that go have no row."""
    policy = policy_file(tmp_path / "p.safetensors", spec.weights_sha256, people=people)
    assert predict("out", "--policy", policy, "--reject", selector="rps").code == 0
    rows = rows_of(tmp_path / "out")
    model = load_locator(locator_file)
    expected: list[tuple[float, bool]] = []
    for number in range(3):
        offered = locate(draw_people(number), model, threshold=OFFERED_LOGIT).scores
        stay = offered > np.sort(offered)[::-1][round(people * offered.sum())]
        shown = stay | (offered > 0.5)
        expected += zip(offered[shown], stay[shown], strict=True)
    scores, stays = (np.array(column) for column in zip(*expected, strict=True))
    assert (stays & (scores < 0.5)).sum() > 0 if people > 0.9 else 0 < stays.sum() < len(stays)
    np.testing.assert_allclose([row["locator_score"] for row in rows], scores, rtol=1e-6)
    assert [row["status"] != "rejected" for row in rows] == stays.tolist()
    assert record_of(tmp_path / "out")["config"]["min_score"] == 0.5
    assert sum(count for count, _ in counts_of(tmp_path / "out").values()) == stays.sum()


def test_counts_agree_with_evaluate(
    predict: PREDICT, dpmo: Dpmo, album: Path, tmp_path: Path
) -> None:
    predict("out")
    (album / "points.csv").write_text("image,x,y\na.png,1,1\nb.png,,\nsub/c.png,2,2\n")
    command = ("evaluate", "counts", "--root", album, "--json", "--samples", "0", "--pred")
    people = sum(people for people, _ in counts_of(tmp_path / "out").values())
    for pred in ("out", "out/counts.csv"):
        found = dpmo(*command, pred).json
        assert (found["images"], found["predicted_people"]) == (3, people)


def test_a_folder_taken_over_by_another_dataset(
    predict: PREDICT, dpmo: Dpmo, album: Path, tmp_path: Path
) -> None:
    """Nothing of the photos stays behind, counts.csv neither."""
    predict("out")
    (album / "points.csv").write_text("image,x,y\na.png,1,1\n")
    assert dpmo("convert", "--root", album, "--out", "out", "--force").code == 0
    assert dpmo("validate", "out").code == 0
    assert not (tmp_path / "out/counts.csv").exists()
