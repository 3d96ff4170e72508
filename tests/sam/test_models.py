"""Models: from a name to an engine, or to one line that says what is missing or wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpmo_cli.errors import UsageError
from dpmo_cli.sam.models import build_model, load_engine, resolve_device, resolve_engine
from dpmo_cli.sam.weights import find, sha256_of

NANO_PATH = find("nano")


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.trace), "w")


def sam_like(width: int, depth: int) -> dict[str, torch.Tensor]:
    """Just what tells an official architecture from the others."""
    tensors = {"image_encoder.patch_embed.proj.weight": torch.zeros(width, 1, 1, 1)}
    tensors |= {f"image_encoder.blocks.{block}.x": torch.zeros(1) for block in range(depth)}
    return tensors


def line_of(call: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_the_default_is_there_and_answers() -> None:
    spec = resolve_engine("nano", device="cpu", prompt_batch=3)
    assert (spec.name, spec.device, spec.dtype, spec.prompt_batch) == ("nano", "cpu", "fp32", 3)
    assert spec.weights_sha256 == sha256_of(spec.weights_path)
    engine = load_engine(spec)
    assert not engine.model.training
    assert {value.dtype for value in engine.model.parameters()} == {torch.float32}
    assert (engine.device.type, engine.batch, engine.bf16) == ("cpu", 3, False)
    assert load_engine(replace(spec, dtype="bf16")).bf16


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_checkpoint_of_the_user_s_own(tmp_path: Path, suffix: str) -> None:
    state = load_file(NANO_PATH)
    changed = "mask_decoder.iou_token.weight"
    state[changed] = state[changed] + 1
    path = tmp_path / f"own{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    spec = resolve_engine("nano", checkpoint=path, device="cpu")
    assert (spec.weights_path, spec.weights_sha256) == (path, sha256_of(path))
    loaded = load_engine(spec).model.state_dict()
    assert torch.equal(loaded[changed], state[changed].float())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"name": "nanno"}, "did you mean nano?", id="sam, nearly"),
        pytest.param({"name": "xyz"}, "choose one of nano, vit_b, vit_l, vit_h", id="sam"),
        pytest.param({"dtype": "fp16"}, "use one of fp32, bf16", id="dtype"),
        pytest.param({"device": "tpu"}, "use auto, cpu, cuda, cuda:N or mps", id="device"),
        pytest.param({"prompt_batch": 0}, "must be 1 or more", id="no prompts at once"),
        pytest.param({"checkpoint": Path("no/such.pth")}, "no/such.pth: no such file", id="file"),
    ],
)
def test_wrong_options(options: dict[str, object], expected: str) -> None:
    given = {"name": "nano", "device": "cpu"} | options
    assert expected in line_of(lambda: resolve_engine(**given))


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize(
    ("device", "expected"),
    [
        pytest.param("cuda", "has 0 CUDA devices", id="cuda"),
        pytest.param("cuda:1", "has 0 CUDA devices", id="numbered"),
        pytest.param("mps", "this machine has none", id="mps"),
        pytest.param("cpu:x", "unknown", id="cpu with a name"),
        pytest.param("cuda:x", "unknown", id="cuda with a name"),
        pytest.param("cuda:", "unknown", id="cuda without its number"),
        pytest.param("cuda:-1", "unknown", id="cuda, negative"),
        pytest.param("", "unknown", id="empty"),
    ],
)
def test_devices_that_are_not_there(device: str, expected: str) -> None:
    line = line_of(lambda: resolve_device(device))
    assert line.startswith(f"--device {device}:")
    assert expected in line


@pytest.mark.usefixtures("no_accelerator")
def test_the_cpu_is_always_there() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"


@pytest.mark.usefixtures("two_gpus")
def test_gpus_by_number() -> None:
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    assert "has 2 CUDA devices" in line_of(lambda: resolve_device("cuda:2"))


@pytest.mark.usefixtures("no_accelerator")
def test_mps_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("mps") == "mps"


def test_missing_weights_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPMO_HOME", str(tmp_path))
    assert "dpmo weights fetch vit_b" in line_of(lambda: resolve_engine("vit_b", device="cpu"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "state", "expected"),
    [
        pytest.param("nano", sam_like(768, 12), "use --sam vit_b", id="vit_b as nano"),
        pytest.param("vit_b", sam_like(1280, 32), "use --sam vit_h", id="vit_h as vit_b"),
        pytest.param("vit_b", {"x": torch.zeros(1)}, "does not hold vit_b", id="other as vit_b"),
        pytest.param("vit_b", sam_like(768, 12), "does not hold vit_b", id="vit_b in part"),
        pytest.param("nano", {"x": torch.zeros(1)}, "does not hold nano", id="other as nano"),
    ],
)
def test_weights_of_another_kind(
    tmp_path: Path, asked: str, state: dict[str, torch.Tensor], expected: str
) -> None:
    path = tmp_path / "own.safetensors"
    save_file(state, path)
    line = line_of(lambda: load_engine(resolve_engine(asked, checkpoint=path, device="cpu")))
    assert line.startswith(str(path))
    assert expected in line


def test_nano_in_part(tmp_path: Path) -> None:
    state = load_file(NANO_PATH)
    state.popitem()
    path = tmp_path / "own.safetensors"
    save_file(state, path)
    line = line_of(lambda: load_engine(resolve_engine("nano", checkpoint=path, device="cpu")))
    assert "does not hold nano weights" in line


def test_damaged_weights(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    shutil.copy(NANO_PATH, path)
    path.write_bytes(path.read_bytes()[:-100])
    line = line_of(lambda: load_engine(resolve_engine("nano", checkpoint=path, device="cpu")))
    assert line.startswith(str(path))


def test_pickled_code_is_refused_and_never_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "ran", tmp_path / "own.pth"
    torch.save({"model": Bomb(trace)}, path)
    spec = resolve_engine("nano", checkpoint=path, device="cpu")
    assert "not executed" in line_of(lambda: load_engine(spec))
    assert not trace.exists()


@pytest.mark.parametrize(("name", "frame_px"), [("nano", 256), ("vit_b", 1024)])
def test_models_are_built_without_weights(name: str, frame_px: int) -> None:
    with torch.device("meta"):
        model = build_model(name)
    assert model.image_encoder.img_size == frame_px
