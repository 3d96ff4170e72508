"""`dpmo review`: decisions brought into the outputs, and through convert and merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from dpmo_cli.geometry.rle import Rle, frame_rle
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.schema import ADDED_FROM
from dpmo_cli.review.audit import LEAST_JUDGED
from dpmo_cli.review.decisions import Decision, Decisions
from tests.conftest import Crowd, Dpmo, FakeEngine, tree

SIZE_HW = (48, 64)
LOGS = ("run.json", "review/decisions.sqlite", "review/decisions.sqlite-wal")


def rows_of(out: Path) -> dict[tuple[int, int], dict[str, Any]]:
    rows = pq.read_table(out / "review/queue.parquet").to_pylist()
    return {(row["image_id"], row["point_id"]): row for row in rows if row["split"] == "train"}


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Rle:
    return frame_rle(np.ones((y1 - y0, x1 - x0), np.bool_), (x0, y0, x1, y1), SIZE_HW)


def decision(row: dict[str, Any], verdict: str, rle: Rle | None = None) -> Decision:
    person = Person(row["split"], row["image_id"], row["point_id"])
    seen = (row["x"], row["y"])
    return Decision(person, verdict, rle, None, "ada", "page", 1.0, row["image"], seen)


def added(row: dict[str, Any], rle: Rle) -> Decision:
    person = Person(row["split"], row["image_id"], ADDED_FROM)
    return Decision(person, "added", rle, (40.5, 30.0), "bob", "page", None, row["image"])


@pytest.fixture
def out(dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path) -> Path:
    assert dpmo("convert", "--root", crowd.root, "--out", "out").code == 0
    return tmp_path / "out"


def decide(out: Path, image_id: int = 1) -> dict[str, Decision]:
    """One decision of each kind about an image."""
    rows = rows_of(out)
    made = {
        "corrected": decision(rows[image_id, 0], "corrected", rectangle(0, 0, 9, 9)),
        "accepted": decision(rows[image_id, 1], "accepted", rows[image_id, 1]["rle"]),
        "deleted": decision(rows[image_id, 2], "deleted"),
        "added": added(rows[image_id, 0], rectangle(39, 28, 45, 33)),
    }
    with Decisions(out) as decisions:
        for one in made.values():
            decisions.decide(one, expected=None)
    return made


def test_apply_brings_the_decisions_home(out: Path, dpmo: Dpmo) -> None:
    made = decide(out)
    outcome = dpmo("review", "apply", "out", "--json")
    assert outcome.code == 0
    assert "1 accepted, 1 added, 1 corrected, 1 deleted" in outcome.lines[-1]
    document = outcome.json
    assert (document["version"], document["kind"], document["changed"]) == (1, "review-apply", True)
    assert document["applied"] == {"accepted": 1, "added": 1, "corrected": 1, "deleted": 1}
    assert (document["not_applied"], document["left"]) == ({}, [])
    assert dpmo("validate", "out").code == 0
    rows = rows_of(out)
    assert rows[1, 0]["rle"] == made["corrected"].rle
    assert rows[1, 2]["status"] == "deleted"
    assert rows[1, ADDED_FROM]["reviewer"] == "bob"
    before = tree(out, without=[])
    again = dpmo("review", "apply", "out")
    assert (again.code, again.stdout) == (0, "")
    (line,) = again.lines
    assert line.startswith("dpmo: out: up to date; 1 accepted, 1 added, 1 corrected, 1 deleted; ")
    assert tree(out, without=[]) == before


def test_nothing_decided_is_one_line(out: Path, dpmo: Dpmo) -> None:
    outcome = dpmo("review", "apply", "out")
    (line,) = outcome.lines
    assert line.startswith("dpmo: out: up to date; nothing decided; ")


def test_apply_waits_for_nobody_and_names_the_folder(out: Path, dpmo: Dpmo) -> None:
    with FileLock(out / ".dpmo" / "lock"):
        outcome = dpmo("review", "apply", "out")
    assert (outcome.code, outcome.lines) == (
        2,
        ["dpmo: error: out: another run is writing there; wait until it has ended"],
    )


def test_a_withdrawn_decision_leaves_the_outputs(out: Path, dpmo: Dpmo) -> None:
    before = tree(out)
    decide(out)
    dpmo("review", "apply", "out")
    with Decisions(out) as decisions:
        for person, latest in decisions.latest().items():
            decisions.undo(person, expected=latest.id, reviewer="ada")
    assert dpmo("review", "apply", "out").code == 0
    assert tree(out, without=LOGS) == {n: d for n, d in before.items() if n not in LOGS}


def test_corrections_outlast_other_settings_until_discarded(
    out: Path, dpmo: Dpmo, crowd: Crowd
) -> None:
    made = decide(out)
    dpmo("review", "apply", "out")
    convert = ("convert", "--root", crowd.root, "--out", "out", "--nnec-scale", 0.8)
    outcome = dpmo(*convert, "--json")
    assert outcome.json["corrections"]["applied"] == {
        "accepted": 1,
        "added": 1,
        "corrected": 1,
        "deleted": 1,
    }
    rows = rows_of(out)
    assert rows[1, 0]["rle"] == made["corrected"].rle
    assert rows[1, 1]["rle"] == made["accepted"].rle
    assert dpmo("validate", "out").code == 0
    assert dpmo(*convert, "--json").json["changed"] is False
    assert dpmo(*convert, "--discard-corrections").code == 0
    assert {row["source"] for row in rows_of(out).values()} <= {"auto", None}
    assert dpmo("validate", "out").code == 0
    # The log is still there.
    assert dpmo("review", "apply", "out").code == 0
    assert rows_of(out)[1, 0]["rle"] == made["corrected"].rle


@pytest.mark.parametrize("applied", [True, False])
def test_decisions_about_one_extent_keep_others_out(
    applied: bool, out: Path, dpmo: Dpmo, crowd: Crowd
) -> None:
    decide(out)
    if applied:
        assert dpmo("review", "apply", "out").code == 0
    before = (out / "annotations" / "train.json").read_bytes()
    for more in ((), ("--discard-corrections",), ("--force",)):
        outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--extent", "head", *more)
        assert outcome.code == 2
        assert outcome.lines[-1] == (
            "dpmo: error: --out out: holds decisions of a review about masks of the extent nnec; "
            "use another folder for head"
        )
    assert (out / "annotations" / "train.json").read_bytes() == before
    again = dpmo("convert", "--root", crowd.root, "--out", "out", "--json")
    assert (again.code, again.json["changed"]) == (0, False)


def test_decisions_about_a_changed_dataset_are_said_and_kept(
    out: Path, dpmo: Dpmo, crowd: Crowd
) -> None:
    decide(out)
    (split, name), points = next(iter(crowd.points.items()))
    crowd.points[split, name] = [(x + 5, y) for x, y in points]
    crowd.write()
    dpmo("convert", "--root", crowd.root, "--out", "out")
    outcome = dpmo("review", "apply", "out", "--json")
    assert outcome.code == 3
    assert outcome.json["applied"] == {"added": 1}
    assert outcome.json["not_applied"] == {"its point moved": 3}
    assert any("its point moved: train, image 1, point 0" in line for line in outcome.lines)
    assert [one["point_id"] for one in outcome.json["left"]] == [0, 1, 2]
    assert dpmo("validate", "out").code == 0
    crowd.points[split, name] = points
    crowd.write()
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--json")
    assert outcome.json["corrections"]["applied"]["corrected"] == 1


def test_applied_decisions_without_their_log_are_refused(out: Path, dpmo: Dpmo) -> None:
    decide(out)
    dpmo("review", "apply", "out")
    (out / "review/decisions.sqlite").unlink()
    before = tree(out, without=[])
    outcome = dpmo("review", "apply", "out")
    assert outcome.code == 2
    assert "is missing, but decisions of it have been applied" in outcome.lines[0]
    assert tree(out, without=[]) == before


@pytest.mark.parametrize("kept", [0, 2], ids=["all", "some"])
def test_applied_decisions_that_the_log_has_lost_are_refused(
    kept: int, out: Path, dpmo: Dpmo, crowd: Crowd
) -> None:
    made = list(decide(out).values())
    dpmo("review", "apply", "out")
    (out / "review/decisions.sqlite").unlink()
    with Decisions(out) as decisions:
        for one in made[:kept]:
            decisions.decide(one, expected=None)
    before = tree(out, without=LOGS)
    outcome = dpmo("review", "apply", "out")
    assert outcome.code == 2
    assert "decisions.sqlite: lacks train, image 1, point" in outcome.lines[0]
    assert tree(out, without=LOGS) == before
    assert dpmo("convert", "--root", crowd.root, "--out", "out", "--discard-corrections").code == 0
    assert dpmo("review", "apply", "out").code == 0


@pytest.mark.parametrize("folder", ["nowhere", "empty", "file"])
def test_a_folder_that_holds_no_run(folder: str, dpmo: Dpmo, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    outcome = dpmo("review", "apply", folder)
    assert outcome.code == 2
    assert outcome.lines == [
        f"dpmo: error: {folder}: holds no finished run; give the folder that `dpmo convert` or "
        "`predict` wrote (its --out), or finish its run"
    ]


def test_merge_brings_the_decisions_of_the_shards(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    for n in (1, 2):
        dpmo("convert", "--root", crowd.root, "--out", f"part{n}", "--shard", f"{n}/2")
    made = decide(tmp_path / "part1")
    dpmo("review", "apply", "part1")
    (first, *_) = [row for row in rows_of(tmp_path / "part2").values() if row["rle"]]
    with Decisions(tmp_path / "part2") as decisions:
        one = decisions.decide(decision(first, "deleted"), expected=None)
        one = decisions.undo(one.person, expected=one.id, reviewer="ada")
        decisions.decide(decision(first, "rejected"), expected=one.id)
    outcome = dpmo("merge", "part1", "part2", "--out", "merged", "--json")
    assert outcome.json["counts"]["by_status"]["unmasked"] == 1
    merged = tmp_path / "merged"
    assert rows_of(merged)[1, 0]["rle"] == made["corrected"].rle
    assert dpmo("validate", "merged").code == 0
    with Decisions(merged) as decisions, Decisions(tmp_path / "part2") as part:
        history = decisions.history(one.person)
        theirs = part.history(one.person)
        assert [d.verdict for d in history] == ["deleted", "open", "rejected"]
        assert [d.time for d in history] == [d.time for d in theirs]
        back = decisions.undo(one.person, expected=history[-1].id, reviewer="ada")
        assert back.verdict == "open"
    assert dpmo("review", "apply", "merged", "--json").json["changed"]
    before = tree(merged, without=LOGS)
    again = dpmo("merge", "part1", "part2", "--out", "merged", "--json")
    assert again.json["changed"] is False
    assert tree(merged, without=LOGS) == before
    # What went on in both is said.
    with Decisions(tmp_path / "part2") as decisions:
        decisions.undo(one.person, expected=theirs[-1].id, reviewer="bob")
    outcome = dpmo("merge", "part1", "part2", "--out", "merged")
    assert "was decided otherwise in merged, which is kept" in outcome.lines[0]
    (tmp_path / "part1/review/decisions.sqlite").unlink()
    outcome = dpmo("merge", "part1", "part2", "--out", "merged")
    assert (outcome.code, "is missing" in outcome.lines[0]) == (2, True)
    with Decisions(tmp_path / "part1"):
        pass
    outcome = dpmo("merge", "part1", "part2", "--out", "new")
    assert outcome.code == 2
    assert "lacks train, image 1, point 0, which has been applied" in outcome.lines[0]
    assert not (tmp_path / "new").exists()


def test_the_record_of_the_run_names_what_was_applied(out: Path, dpmo: Dpmo) -> None:
    decide(out)
    dpmo("review", "apply", "out")
    run = json.loads((out / "run.json").read_text())
    assert run["corrections"]["applied"]["corrected"] == 1
    assert "review/corrections.parquet" in run["files"]


def test_audit(out: Path, dpmo: Dpmo) -> None:
    outcome = dpmo("review", "audit", "out", "--sample", 20, "--json")
    document = outcome.json
    assert (document["kind"], document["judged"], document["acceptance"]) == (
        "review-audit",
        0,
        None,
    )
    assert document["drawn"] == sum(
        1 for _ in json.loads((out / "review/audit.json").read_text())["persons"]
    )
    rows = rows_of(out)
    wanted = json.loads((out / "review/audit.json").read_text())["persons"]
    of_train = [rows[p["image_id"], p["point_id"]] for p in wanted if p["split"] == "train"]
    with Decisions(out) as decisions:
        for row in of_train[1:]:
            decisions.decide(decision(row, "accepted", row["rle"]), expected=None)
        decisions.decide(decision(of_train[0], "rejected"), expected=None)
    document = dpmo("review", "audit", "out", "--json").json
    assert (document["judged"], document["right"]) == (len(of_train), len(of_train) - 1)
    assert 0 < document["low"] < document["acceptance"] < document["high"] <= 1
    outcome = dpmo("review", "audit", "out")
    assert outcome.code == 0
    assert outcome.stdout.splitlines()[-1].startswith("acceptance rate ")
    assert "low score, small disc" in outcome.stdout
    assert dpmo("validate", "out").code == 0
    assert dpmo("review", "audit", "out", "--sample", 7).code == 2
    # What was drawn and judged is about the automatic masks: applying changes nothing of it.
    dpmo("review", "apply", "out")
    assert dpmo("review", "audit", "out", "--json").json == document


def test_too_few_judged_tell_no_rate(out: Path, dpmo: Dpmo) -> None:
    dpmo("review", "audit", "out", "--sample", 20)
    wanted = json.loads((out / "review/audit.json").read_text())["persons"]
    rows = rows_of(out)
    of_train = [rows[p["image_id"], p["point_id"]] for p in wanted if p["split"] == "train"]
    assert len(of_train) > LEAST_JUDGED
    for judged, row in enumerate(of_train[:LEAST_JUDGED], start=1):
        with Decisions(out) as decisions:
            decisions.decide(decision(row, "accepted", row["rle"]), expected=None)
        if judged < LEAST_JUDGED - 1:
            continue
        document = dpmo("review", "audit", "out", "--json").json
        told = dpmo("review", "audit", "out").stdout.splitlines()
        assert f", {judged} of them judged" in told[0]
        names = ("acceptance", "low", "high")
        if judged < LEAST_JUDGED:
            assert told[-1] == "too few judged for a rate: 9 of the 10 that it needs"
            assert {document[name] for name in names} == {None}
        else:
            assert told[-1].startswith("acceptance rate ")
            assert None not in {document[name] for name in names}


def test_calibrate_writes_what_convert_takes(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    for number in range(5):
        crowd.add(f"train/more{number}.png", count=40)
    convert = ("convert", "--root", crowd.root, "--out", "out", "--split", "train")
    dpmo(*convert)
    outcome = dpmo("review", "calibrate", "out")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "0 masks are judged" in outcome.lines[0]
    rows = [row for row in rows_of(tmp_path / "out").values() if row["status"] == "ok"]
    with Decisions(tmp_path / "out") as decisions:
        for row in rows:
            good = row["area"] > 60
            rle = row["rle"] if good else None
            one = decision(row, "accepted" if good else "rejected", rle)
            decisions.decide(one, expected=None)
    document = dpmo("review", "calibrate", "out", "--json").json
    assert (document["kind"], document["judged"]) == ("review-calibrate", len(rows))
    assert document["fitted"]["error"] < document["raw"]["error"]
    assert dpmo("validate", "out").code == 0
    assert dpmo("review", "calibrate", "out", "--to", "mine.json").code == 0
    assert (tmp_path / "mine.json").read_bytes() == (
        tmp_path / "out/review/calibration.json"
    ).read_bytes()
    outcome = dpmo(*convert, "--calibration", "mine.json", "--json")
    assert outcome.json["changed"]
    assert any("calibration_sha256 None, now " in line for line in outcome.lines)
    assert dpmo(*convert, "--calibration", "mine.json", "--json").json["changed"] is False
    assert any("now None" in line for line in dpmo(*convert).lines if "calibration_sha256" in line)
    outcome = dpmo(*convert, "--calibration", "mine.json", "--extent", "head")
    assert (outcome.code, "has no curve for --extent head" in outcome.lines[0]) == (2, True)
    text = (tmp_path / "mine.json").read_text()
    other = text.replace('"weights_sha256": "', '"weights_sha256": "0')
    for content, code, why in (
        ("{", 1, "is no calibration; give the file of `dpmo review calibrate`"),
        (other, 2, "fitted for other weights"),
        (text.replace("stability", "steadiness"), 2, "has no curve"),
        (None, 2, "no such file"),
    ):
        path = tmp_path / "wrong.json"
        path.unlink() if content is None else path.write_text(content)
        outcome = dpmo(*convert, "--calibration", path)
        assert outcome.code == code
        assert why in outcome.lines[0]
