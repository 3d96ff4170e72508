"""`dpmo train nano`: wrong use ends it before anything is trained; fine-tuning on corrections."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review.decisions import Decision, Decisions
from dpmo_cli.training import nano, tuning
from tests.conftest import Dpmo
from tests.training.judged_runs import HELD_OUT, judged_run


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            ["--data", "nowhere", "--out", "out"],
            "--data nowhere: no such folder",
            id="missing data",
        ),
        pytest.param(
            ["--data", "file", "--out", "out"], "--data file: no such folder", id="data is a file"
        ),
        pytest.param(
            ["--data", "empty", "--out", "out"],
            "empty: no scenes of persons; give the folder that holds PennFudanPed",
            id="data without scenes",
        ),
        pytest.param(
            ["--data", "empty", "--out", "file"], "--out file: is a file", id="out is a file"
        ),
        pytest.param(
            ["--data", "empty", "--out", "out", "--init", "nowhere.safetensors"],
            "--init nowhere.safetensors: no such file",
            id="missing weights to go on from",
        ),
        pytest.param(
            ["--data", "empty", "--out", "out", "--rendered", "nowhere"],
            "--rendered nowhere: no such folder",
            id="missing rendered scenes",
        ),
        pytest.param(["--out", "out"], "nothing to learn from; give --data", id="no data"),
        pytest.param(
            ["--rendered", "empty", "--from-corrections", "empty", "--out", "out"],
            "--rendered goes with --data",
            id="rendered scenes alone",
        ),
        pytest.param(
            ["--data", "empty", "--root", "empty", "--out", "out"],
            "--root goes with --from-corrections",
            id="photos of no corrections",
        ),
        pytest.param(
            ["--from-corrections", "empty", "--out", "out"],
            "empty: holds no finished run; give the folder",
            id="corrections of no run",
        ),
        pytest.param(
            ["--data", "empty", "--out", "out", "--device", "tpu"],
            "--device tpu: unknown",
            id="unknown device",
        ),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], says: str, dpmo: Dpmo, folders: Path) -> None:
    outcome = dpmo("train", "nano", *arguments, "--quiet")
    assert outcome.code == 2
    assert outcome.stdout == ""
    (line,) = outcome.lines
    assert line.startswith(f"dpmo: error: {says}")


def test_options_reach_the_training(
    dpmo: Dpmo, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def train(data: Path, out: Path, settings: nano.NanoTraining, **options: Any) -> Path:
        seen.update(options, data=data, out=out, settings=settings)
        options["say"]("a line of progress")
        return out / "nano.safetensors"

    monkeypatch.setattr(nano, "train_nano", train)
    outcome = dpmo(
        *("train", "nano", "--data", "empty", "--out", "out", "--steps", "7", "--crops", "2"),
        *("--prompts", "3", "--seed", "9", "--rate", "0.5", "--device", "cpu"),
        *("--workers", "4", "--validate-every", "5"),
        *("--rendered", "empty", "--rendered", "."),
    )
    assert outcome.code == 0
    assert outcome.stdout == "out/nano.safetensors\n"
    assert outcome.lines == ["a line of progress"]
    plain = nano.NanoTraining()
    assert seen["settings"] == nano.NanoTraining(
        steps=7,
        crops=2,
        prompts=3,
        rate_trunk=plain.rate_trunk / 2,
        rate_rest=plain.rate_rest / 2,
        seed=9,
    )
    assert (seen["data"], seen["out"], seen["device"]) == (Path("empty"), Path("out"), "cpu")
    assert list(seen["rendered"]) == [Path("empty"), Path()]
    assert (seen["workers"], seen["validate_every"]) == (4, 5)
    assert seen["init"] is None


def test_defaults_are_those_of_the_library(
    dpmo: Dpmo, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def train(data: Path, out: Path, settings: nano.NanoTraining, **options: Any) -> Path:
        seen.update(options, settings=settings)
        return out / "nano.safetensors"

    library = inspect.signature(nano.train_nano).parameters
    monkeypatch.setattr(nano, "train_nano", train)
    assert dpmo("train", "nano", "--data", "empty", "--out", "out", "--quiet").code == 0
    assert seen["settings"] == nano.NanoTraining()
    for name in ("rendered", "init", "workers", "validate_every"):
        assert seen[name] == library[name].default, name


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two scenes, one of them held out, with corrections applied."""
    return judged_run(tmp_path_factory.mktemp("judged") / "run", (HELD_OUT, 2))


def test_fine_tuning_on_corrections(
    dpmo: Dpmo, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nano, "VALIDATION_CROPS", 1)
    options = ("--steps", "2", "--crops", "1", "--prompts", "2", "--device", "cpu")
    command = ("train", "nano", "--from-corrections", judged, "--out", "tuned", *options)
    outcome = dpmo(*command)
    assert outcome.code == 0
    assert outcome.stdout == "tuned/nano.safetensors\n"
    assert outcome.lines[0].endswith("to validate on")
    assert "review calibrate" in outcome.lines[-1] or "nothing learnt" in outcome.lines[-1]
    weights = Path("tuned/nano.safetensors").read_bytes()
    again = dpmo(*command)
    assert (again.code, again.stdout) == (0, outcome.stdout)
    assert "resuming at step 2" in again.lines
    assert Path("tuned/nano.safetensors").read_bytes() == weights


def test_rates_of_a_fine_tuning_are_small(
    dpmo: Dpmo, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def tune(images: Any, out: Path, settings: tuning.NanoTuning, **options: Any) -> tuning.Tuned:
        seen.update(options, images=images, settings=settings)
        return tuning.Tuned(out / "nano.safetensors", 50, (0.6, 0.7), (0.9, 0.88))

    monkeypatch.setattr(tuning, "tune_nano", tune)
    corrections = ("--from-corrections", judged, "--from-corrections", judged)
    outcome = dpmo("train", "nano", *corrections, "--out", "tuned", "--rate", "2")
    assert outcome.code == 0
    plain, training = nano.NanoTraining(), seen["settings"].training
    assert training.rate_trunk == pytest.approx(0.2 * plain.rate_trunk)
    assert training.rate_rest == pytest.approx(0.2 * plain.rate_rest)
    assert (training.steps, seen["settings"].validate_every) == (600, 25)
    assert [one.file_name[-5] for one in seen["images"]] == ["1", "2"] * 2
    assert (seen["data"], seen["init"].name) == (None, "nano.safetensors")
    (line,) = outcome.lines
    assert "at step 50 mean IoU of the held-out corrections 0.600 to 0.700" in line
    assert "nobody judged 0.900 to 0.880" in line
    assert "--checkpoint tuned/nano.safetensors" in line
    assert "dpmo review calibrate" in line


def test_decisions_that_were_not_applied(dpmo: Dpmo, judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(judged, out)
    person = Person("train", HELD_OUT, 1)
    one = Decision(
        person, "rejected", None, None, "ada", "page", None, "images/scene_0001.jpg", (1.0, 1.0)
    )
    with Decisions(out) as decisions:
        decisions.decide(one, expected=None)
    (out / "review" / "corrections.parquet").unlink()
    outcome = dpmo("train", "nano", "--from-corrections", out, "--out", "tuned")
    assert outcome.code == 2
    (line,) = outcome.lines
    assert "no corrections have been applied; decide with `dpmo review serve`" in line


def test_what_was_decided_later_is_left_out_aloud(
    dpmo: Dpmo, judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tuning, "tune_nano", lambda *_, **__: tuning.Tuned(Path("w"), 0, (0.5, 0.5), (0.9, 0.9))
    )
    out = tmp_path / "run"
    shutil.copytree(judged, out)
    with Decisions(out):
        pass
    outcome = dpmo("train", "nano", "--from-corrections", out, "--out", "tuned")
    assert outcome.code == 0
    assert "what was decided since `dpmo review apply` is left out" in outcome.lines[0]
    assert "nothing learnt" in outcome.lines[1]
