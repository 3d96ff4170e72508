"""Fine-tuning of nano on corrections: it learns, stops, resumes, and refuses what is too little."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpmo_cli.errors import UsageError
from dpmo_cli.sam.models import load_engine, resolve_engine
from dpmo_cli.sam.weights import find
from dpmo_cli.training import checkpoint, nano, tuning
from dpmo_cli.training.judged import JudgedImage, JudgedScenes, read_judged
from dpmo_cli.training.nano import NanoTraining, losses_of, start_model
from dpmo_cli.training.scenes import CORRECTIONS, SOURCE_WEIGHTS, collate, validation_crops
from dpmo_cli.training.tuning import Best, NanoTuning, tune_nano
from tests.training.judged_runs import HELD_OUT, judged_run
from tests.training.worlds import TRAINING_NAMES, VALIDATION_NAMES, write_penn_fudan

EMBEDDED = find("nano")
SHORT = NanoTuning(NanoTraining(steps=4, crops=1, prompts=4), validate_every=2)


def silent(_line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[JudgedImage]:
    return list(read_judged(judged_run(tmp_path_factory.mktemp("run") / "out")))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nano, "VALIDATION_CROPS", 2)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What the validations say, one after the other, instead of what they would."""
    told: list[float] = []

    def validate(*_: object) -> dict[str, float]:
        return {"corrections/nnec": told.pop(0), "unjudged/nnec": 0.8, "photos/nnec": 1.0}

    monkeypatch.setattr(tuning, "validate", validate)
    yield told
    assert told == []


def test_a_short_training_lowers_the_loss_of_the_corrected_masks(
    images: Sequence[JudgedImage], figures: list[float], tmp_path: Path
) -> None:
    figures += [0.1, 0.2]
    training = NanoTraining(steps=12, crops=2, rate_trunk=2e-4, rate_rest=4e-4)
    tuned = tune_nano(images, tmp_path, NanoTuning(training, 12), init=EMBEDDED, say=silent)
    assert tuned.step == 12
    learnt = [one for one in images if not one.is_held_out]
    batch = collate(validation_crops(JudgedScenes(learnt), 6, 8, seed=1))
    losses = []
    for weights in (EMBEDDED, tuned.weights):
        with torch.inference_mode():
            losses.append(float(losses_of(start_model(weights, 0), batch, bf16=False).total))
    assert losses[1] < 0.98 * losses[0]
    assert load_engine(resolve_engine("nano", checkpoint=tuned.weights, device="cpu"))


def test_the_log_holds_a_line_for_each_validation(
    images: Sequence[JudgedImage], tmp_path: Path
) -> None:
    tuned = tune_nano(images, tmp_path, SHORT, init=EMBEDDED, say=silent)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4]
    names = [f"{name}/nnec{given}" for name in ("corrections", "unjudged") for given in ("", "-2")]
    assert lines[0].keys() == {"step", *names}
    means = [sum(line[name] for name in names) / 4 for line in lines]
    best = lines[means.index(max(means))]
    assert tuned.step == best["step"]
    for told, name in ((tuned.corrected, "corrections"), (tuned.unjudged, "unjudged")):
        for value, line in zip(told, (lines[0], best), strict=True):
            assert value == pytest.approx((line[f"{name}/nnec"] + line[f"{name}/nnec-2"]) / 2)


def test_the_best_weights_are_kept_and_patience_ends_it(
    images: Sequence[JudgedImage], figures: list[float], tmp_path: Path
) -> None:
    figures += [0.5, 0.7, 0.6, 0.7]
    settings = NanoTuning(NanoTraining(steps=40, crops=1, prompts=2), 1, patience=2)
    tuned = tune_nano(images, tmp_path, settings, init=EMBEDDED, say=silent)
    assert (tuned.step, tuned.corrected, tuned.unjudged) == (1, (0.5, 0.7), (0.8, 0.8))
    # A finished one says the same again, without a step; its weights can be had again.
    content = tuned.weights.read_bytes()
    tuned.weights.unlink()
    assert tune_nano(images, tmp_path, settings, init=EMBEDDED, say=silent) == tuned
    assert tuned.weights.read_bytes() == content


def test_nothing_better_gives_the_first_weights_back(
    images: Sequence[JudgedImage], figures: list[float], tmp_path: Path
) -> None:
    figures += [0.5, 0.4, 0.5]
    tuned = tune_nano(images, tmp_path, SHORT, init=EMBEDDED, say=silent)
    assert tuned.step == 0
    first, written = load_file(EMBEDDED), load_file(tuned.weights)
    for name, value in first.items():
        half = value.half() if value.is_floating_point() else value
        assert torch.equal(written[name], half), name


@pytest.mark.parametrize("killed_at", [0, 1, 2])
def test_killed_and_resumed(
    killed_at: int,
    images: Sequence[JudgedImage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the first validation, between two, and after a later one: the same bytes."""
    whole = tune_nano(images, tmp_path / "whole", SHORT, init=EMBEDDED, say=silent)
    save = checkpoint.save_checkpoint

    def save_and_end(path: Path, done: int, *arguments: Any) -> None:
        save(path, done, *arguments)
        if done == killed_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "CHECKPOINT_EVERY_S", -1.0)
    monkeypatch.setattr(tuning, "save_checkpoint", save_and_end)
    with suppress(KeyboardInterrupt):
        tune_nano(images, tmp_path / "cut", SHORT, init=EMBEDDED, say=silent)
    assert not (tmp_path / "cut" / "nano.safetensors").exists()
    monkeypatch.undo()
    monkeypatch.setattr(nano, "VALIDATION_CROPS", 2)
    lines: list[str] = []
    again = tune_nano(images, tmp_path / "cut", SHORT, init=EMBEDDED, say=lines.append)
    assert f"resuming at step {killed_at}" in lines
    assert again == replace(whole, weights=again.weights)
    for name in ("nano.safetensors", "log.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == whole.weights.with_name(name).read_bytes()


def test_other_corrections_are_another_training(
    images: Sequence[JudgedImage], tmp_path: Path
) -> None:
    tune_nano(images, tmp_path, SHORT, init=EMBEDDED, say=silent)
    with pytest.raises(UsageError, match=r"other settings \(corrections\); use another --out"):
        tune_nano(images[:-1], tmp_path, SHORT, init=EMBEDDED, say=silent)


def test_beside_other_scenes_every_other_crop_is_of_corrections(
    images: Sequence[JudgedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And forgetting shows: the other scenes are validated too."""
    assert SOURCE_WEIGHTS[CORRECTIONS] == pytest.approx(
        sum(weight for name, weight in SOURCE_WEIGHTS.items() if name != CORRECTIONS)
    )
    monkeypatch.setattr("dpmo_cli.training.scenes.RECIPES", ())
    write_penn_fudan(tmp_path, [*TRAINING_NAMES, *VALIDATION_NAMES])
    out = tmp_path / "out"
    settings = NanoTuning(replace(SHORT.training, steps=1), 1)
    tune_nano(images, out, settings, init=EMBEDDED, data=tmp_path, say=silent)
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert {"corrections/nnec", "photos/nnec", "photos/head", "photos/visible"} <= last.keys()


@pytest.mark.parametrize("held_out", [True, False])
def test_too_little_is_one_line_that_says_where_to_review(held_out: bool, tmp_path: Path) -> None:
    scenes = (HELD_OUT, 2)
    untouched = [HELD_OUT if held_out else 2]
    images = list(read_judged(judged_run(tmp_path / "run", scenes, untouched=untouched)))
    with pytest.raises(UsageError) as caught:
        tune_nano(images, tmp_path / "out", SHORT, init=EMBEDDED, say=silent)
    said = str(caught.value)
    what = "validate on" if held_out else "learn from"
    assert f"review more to {what}, those of images/scene_000{untouched[0]}.jpg, and" in said
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


def test_best_comes_back_from_a_checkpoint() -> None:
    best, again = Best(), Best()
    model = torch.nn.Linear(2, 2)
    first = {"corrections/nnec": 0.5, "unjudged/nnec": 0.9, "photos/nnec": 0.1}
    assert best.take(model, first, 0)
    # What is lost of the one for the other is no gain, and other scenes do not count.
    assert not best.take(model, {**first, "corrections/nnec": 0.6, "unjudged/nnec": 0.8}, 1)
    assert not best.take(model, {**first, "photos/nnec": 0.9}, 2)
    again.load_state_dict(best.state_dict())
    assert (again.figures, again.step, again.worse, again.first) == (first, 0, 2, first)
    assert again.take(model, {**first, "corrections/nnec": 0.6, "unjudged/nnec": 0.85}, 3)
    assert torch.equal(again.weights["weight"], model.weight)
