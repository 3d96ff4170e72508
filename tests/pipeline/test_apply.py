"""Decisions brought into the outputs of a run: repeatable, interruptible, and reversible."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.geometry.rle import frame_rle
from dpmo_cli.outputs.corrected import Unfit
from dpmo_cli.outputs.corrections import Correction, CorrectionsError, Person
from dpmo_cli.outputs.records import read_record
from dpmo_cli.outputs.schema import ADDED_FROM
from dpmo_cli.outputs.validate import validate_run
from dpmo_cli.outputs.yielding import DrawnOverlapError
from dpmo_cli.pipeline import apply
from dpmo_cli.pipeline.apply import apply_corrections
from dpmo_cli.pipeline.finish import finish, is_finished, tally, write_outputs, write_run_record
from dpmo_cli.pipeline.store import Manifest, Store
from tests.outputs.samples import sample_records
from tests.pipeline.test_settings import SETTINGS

NAME = "images/a b.jpg"
MASK = frame_rle(np.ones((9, 8), np.bool_), (4, 2, 12, 11), (40, 56))
SECOND = frame_rle(np.ones((9, 8), np.bool_), (11, 2, 19, 11), (40, 56))


def one(point: int, verdict: str, *, split: str = "train", image: str = NAME) -> Correction:
    seen = [(9.4, 8.0), (14.2, 9.5), (20.0, 30.0)][point] if point < 3 else None
    rle = {0: MASK, 1: SECOND}.get(point) if verdict == "corrected" else None
    person = Person(split, 1, point)
    if verdict == "added":
        rle = frame_rle(np.ones((4, 4), np.bool_), (50, 30, 54, 34), (40, 56))
        return Correction(person, verdict, rle, (51.5, 31.0), "ada", image, None)
    return Correction(person, verdict, rle, None, "ada", image, seen)


MADE = [one(0, "corrected"), one(2, "deleted"), one(ADDED_FROM, "added")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run of sample records in two splits."""
    folder = tmp_path / "out"
    with Store(folder) as store:
        records = sample_records()
        for split in ("train", "test"):
            of_split = [record for record in records if record.info.split == split]
            for record in of_split:
                store.write_record(record)
            fingerprints = {record.info.image_id: record.fingerprint for record in of_split}
            store.write_manifest(split, Manifest(SETTINGS, None, None, "", fingerprints))
        write_outputs(store, SETTINGS)
        config = {"sam": "nano"}
        write_run_record(
            store, SETTINGS, tally(store), root="data", config=config, measured={"tiles": 3}
        )
    return folder


def contents(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "lock"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(files)}


def run_of(out: Path) -> dict[str, object]:
    document = json.loads((out / "run.json").read_text())
    assert isinstance(document, dict)
    return document


def test_corrections_reach_every_output_and_the_records_stay(out: Path) -> None:
    before = contents(out)
    applied = apply_corrections(out, MADE)
    assert applied.changed
    assert applied.finished.corrections == {"added": 1, "corrected": 1, "deleted": 1}
    assert applied.finished.unfit == []
    assert validate_run(out) == []
    after = contents(out)
    assert {name for name in after if after[name] != before.get(name)} == {
        "annotations/train.json",
        "points/train.parquet",
        "review/queue.parquet",
        "review/corrections.parquet",
        "run.json",
    }
    coco = json.loads(after["annotations/train.json"])
    by_id = {one["id"]: one for one in coco["annotations"]}
    assert by_id[1_000_000]["segmentation"] == MASK
    attributes = by_id[1_000_000]["attributes"]
    assert (attributes["source"], attributes["reviewer"]) == ("corrected", "ada")
    assert by_id[1_000_000 + ADDED_FROM]["attributes"]["source"] == "added"
    run = run_of(out)
    assert run["corrections"] == {
        "applied": {"added": 1, "corrected": 1, "deleted": 1},
        "not_applied": {},
    }
    assert (run["tiles"], run["root"], run["config"]) == (3, "data", {"sam": "nano"})
    assert next(iter(run)) == "version"
    assert (
        read_record(out / ".dpmo/records/train/00000001.parquet").rows == sample_records()[0].rows
    )


def test_applied_twice_nothing_moves(out: Path) -> None:
    apply_corrections(out, MADE)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "lock"}
    assert not apply_corrections(out, iter(MADE)).changed
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "lock"}
    # The new snapshot is compared inside this folder.
    assert before.keys() == times.keys()
    assert {p for p in times if times[p] != before[p]} <= {out / ".dpmo"}


def test_applied_twice_the_records_are_not_read_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = apply_corrections(out, MADE)

    def fail(*_: object) -> None:
        raise AssertionError("counted again")

    monkeypatch.setattr(apply, "tally", fail)
    again = apply_corrections(out, MADE)
    assert (again.changed, again.finished) == (False, first.finished)


def test_the_automatic_masks_come_back(out: Path) -> None:
    before = contents(out)
    assert not apply_corrections(out, []).changed
    apply_corrections(out, MADE)
    assert apply_corrections(out, []).changed
    assert contents(out) == before
    apply_corrections(out, MADE)
    with Store(out) as store:
        store.discard_corrections()
        finish(
            store, SETTINGS, root="data", config={"sam": "nano"}, measured=lambda _: {"tiles": 3}
        )
    assert contents(out) == before


def test_a_run_finished_again_keeps_the_corrections(out: Path) -> None:
    apply_corrections(out, MADE)
    with Store(out) as store:
        assert is_finished(store, SETTINGS)
        store.unfinish()
        finished, changed = finish(store, SETTINGS, root="data", config={}, measured=lambda _: {})
    assert changed
    assert finished.corrections["corrected"] == 1
    assert validate_run(out) == []
    assert b'"source":"corrected"' in (out / "annotations/train.json").read_bytes()


def test_a_snapshot_that_was_changed_makes_a_run_unfinished(out: Path) -> None:
    apply_corrections(out, MADE)
    (out / "review/corrections.parquet").unlink()
    with Store(out) as store:
        assert not is_finished(store, SETTINGS)
    assert apply_corrections(out, MADE).changed


def test_what_does_not_fit_is_counted_and_kept(out: Path) -> None:
    lost = [one(0, "corrected"), one(1, "deleted", image="images/z.jpg")]
    gone = one(0, "deleted", split="validation")
    applied = apply_corrections(out, [*lost, gone])
    assert applied.finished.corrections == {"corrected": 1}
    assert applied.finished.unfit == [
        Unfit(lost[1].person, "its image is another now"),
        Unfit(gone.person, "no such image"),
    ]
    assert run_of(out)["corrections"] == {
        "applied": {"corrected": 1},
        "not_applied": {"its image is another now": 1, "no such image": 1},
    }
    assert validate_run(out) == []
    assert sorted(run_of(out)["splits"]) == ["test", "train"]
    again = apply_corrections(out, [*lost, gone])
    assert (again.changed, again.finished) == (False, applied.finished)


def test_drawn_masks_that_overlap_change_nothing(out: Path) -> None:
    apply_corrections(out, MADE)
    before = contents(out)
    with pytest.raises(DrawnOverlapError, match="points 0 and 1"):
        apply_corrections(out, [one(0, "corrected"), one(1, "corrected")])
    left = contents(out)
    left.pop(".dpmo/corrections.new", None)
    assert left == before


def spoil_record(out: Path) -> None:
    (out / ".dpmo/records/train/00000001.parquet").unlink()


def other_settings(out: Path) -> None:
    path = out / "run.json"
    path.write_text(path.read_text().replace('"sam": "nano"', '"sam": "vit_b"'))


def older_version(out: Path) -> None:
    path = out / "run.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 1', 1))


UNREADY = {
    "no run": (shutil.rmtree, "holds no finished run; give the folder"),
    "never finished": (lambda out: (out / "run.json").unlink(), "holds no finished run"),
    "a record is gone": (spoil_record, "its records can't be read"),
    "begun with other settings": (other_settings, "other settings"),
    "a broken run record": (lambda out: (out / "run.json").write_text("{"), "is no run record"),
    "a record nested too deep": (
        lambda out: (out / "run.json").write_text("[" * 100_000),
        "is no run record",
    ),
    "an older dpmo's run": (older_version, "version 1, not 2"),
}


@pytest.mark.parametrize(("spoil", "why"), UNREADY.values(), ids=UNREADY)
def test_a_folder_without_a_finished_run_is_refused(spoil: object, why: str, out: Path) -> None:
    assert callable(spoil)
    spoil(out)
    with pytest.raises((UsageError, InputError), match=why) as caught:
        apply_corrections(out, MADE)
    assert "`dpmo convert`" in str(caught.value)


def test_a_damaged_snapshot_is_replaced(out: Path) -> None:
    apply_corrections(out, MADE)
    good = contents(out)
    (out / "review/corrections.parquet").write_bytes(b"x")
    with Store(out) as store, pytest.raises(CorrectionsError):
        tally(store)
    apply_corrections(out, MADE)
    assert contents(out) == good


_KILLED = """
import os, signal, sys
from pathlib import Path
from dpmo_cli.pipeline import apply
from dpmo_cli.pipeline.apply import apply_corrections
from tests.pipeline.test_apply import MADE

def killed(out, steps):
    left = [steps]
    def counted(call):
        def change(*arguments, **named):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*arguments, **named)
        return change
    for name in ("replace", "unlink", "rename"):
        setattr(os, name, counted(getattr(os, name)))
    apply_corrections(out, MADE)
    os._exit(0)

for steps, out in enumerate(sys.argv[1:]):
    child = os.fork()
    if not child:
        killed(Path(out), steps)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_killed_at_any_moment_it_ends_in_the_same_bytes(out: Path, tmp_path: Path) -> None:
    """Killed before each of the steps that change a name in the folder."""
    folders = [str(shutil.copytree(out, tmp_path / f"killed{step}")) for step in range(14)]
    apply_corrections(out, MADE)
    expected = contents(out)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, *folders],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    codes = [int(code) for code in done.stdout.split()]
    kills = codes.count(-signal.SIGKILL)
    assert kills >= 6
    assert codes == [-signal.SIGKILL] * kills + [0] * (len(folders) - kills)
    assert codes[-1] == 0
    for folder in folders:
        apply_corrections(Path(folder), MADE)
        assert contents(Path(folder)) == expected
