"""Checkpoints: tensors come out of good files, one line out of all others, code out of none."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dpmo_cli.errors import UsageError
from dpmo_cli.sam.checkpoint import (
    identify_architecture,
    load_state_dict,
    require_architecture,
)

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.trace), "w")


def sam_like(width: int, depth: int) -> dict[str, torch.Tensor]:
    tensors = {"image_encoder.patch_embed.proj.weight": torch.zeros(width, 1, 1, 1)}
    for block in range(depth):
        for part in ("norm1.weight", "norm1.bias"):
            tensors[f"image_encoder.blocks.{block}.{part}"] = torch.zeros(1)
    return tensors


def write_torchscript(path: Path) -> None:
    from zipfile import ZipFile

    with ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/constants.pkl", pickle.dumps(()))


@pytest.mark.parametrize(
    ("file_name", "write"),
    [
        pytest.param("x.safetensors", safetensors.torch.save_file, id="safetensors"),
        pytest.param("x.pth", safetensors.torch.save_file, id="safetensors, other suffix"),
        pytest.param("x.pth", torch.save, id="torch"),
        pytest.param("x", torch.save, id="torch, no suffix"),
        pytest.param(
            "x.pth", lambda tensors, path: torch.save(OrderedDict(tensors), path), id="ordered"
        ),
    ],
)
def test_reads(
    file_name: str, write: Callable[[dict[str, torch.Tensor], Path], None], tmp_path: Path
) -> None:
    path = tmp_path / file_name
    write(TENSORS, path)
    loaded = load_state_dict(path)
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].device.type == "cpu"
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(torch.save, id="torch"),
        pytest.param(
            lambda bomb, path: torch.save(bomb, path, _use_new_zipfile_serialization=False),
            id="old torch",
        ),
        pytest.param(lambda bomb, path: path.write_bytes(pickle.dumps(bomb)), id="pickle"),
        pytest.param(
            lambda bomb, path: path.write_bytes(pickle.dumps(bomb, protocol=0)), id="text pickle"
        ),
    ],
)
@pytest.mark.parametrize("file_name", ["x.pth", "x.safetensors"])
def test_pickled_code_is_never_executed(
    write: Callable[[object, Path], None], file_name: str, tmp_path: Path
) -> None:
    path, trace = tmp_path / file_name, tmp_path / "trace"
    write({"a": torch.zeros(1), "bomb": Bomb(trace)}, path)
    with pytest.raises(UsageError) as caught:
        load_state_dict(path)
    assert not trace.exists()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_bomb_is_live(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "trace"))).close()
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        pytest.param(lambda path: None, "can't be read", id="missing"),
        pytest.param(lambda path: path.mkdir(), "can't be read", id="folder"),
        pytest.param(lambda path: path.write_bytes(b""), "no checkpoint", id="empty"),
        pytest.param(lambda path: path.write_bytes(b"\x00" * 5000), "no checkpoint", id="zeros"),
        pytest.param(lambda path: path.write_bytes(b"<html>"), "no checkpoint", id="page"),
        pytest.param(
            lambda path: path.write_bytes(b"PK\x03\x04" + b"\x07" * 999), "damaged", id="no zip"
        ),
        pytest.param(
            lambda path: path.write_bytes(b"\xff" * 8 + b"{" * 99), "damaged", id="huge header"
        ),
        pytest.param(write_torchscript, "TorchScript", id="torchscript"),
        pytest.param(lambda path: torch.save([torch.zeros(1)], path), "no dict", id="list"),
        pytest.param(lambda path: torch.save(torch.zeros(1), path), "no dict", id="tensor"),
        pytest.param(lambda path: torch.save({}, path), "no dict", id="empty dict"),
        pytest.param(lambda path: torch.save({1: torch.zeros(1)}, path), "no dict", id="keys"),
        pytest.param(lambda path: torch.save({"model": TENSORS}, path), "no dict", id="nested"),
    ],
)
def test_bad_file(write: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    write(path)
    with pytest.raises(UsageError) as caught:
        load_state_dict(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize("write", [torch.save, safetensors.torch.save_file])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file(
    write: Callable[[dict[str, torch.Tensor], Path], None], kept: float, tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    write(TENSORS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UsageError, match="copy or fetch it again"):
        load_state_dict(path)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        pytest.param(sam_like(768, 12), "vit_b", id="vit_b"),
        pytest.param(sam_like(1024, 24), "vit_l", id="vit_l"),
        pytest.param(sam_like(1280, 32), "vit_h", id="vit_h"),
        pytest.param(sam_like(768, 24), None, id="other depth"),
        pytest.param(TENSORS, None, id="something else"),
    ],
)
def test_identify_architecture(tensors: dict[str, torch.Tensor], expected: str | None) -> None:
    assert identify_architecture(tensors) == expected


@pytest.mark.parametrize(
    ("tensors", "name", "words"),
    [
        pytest.param(sam_like(768, 12), "vit_b", None, id="right"),
        pytest.param(TENSORS, "nano", None, id="nano knows its own keys"),
        pytest.param(sam_like(1280, 32), "vit_b", "holds vit_h weights; use --sam vit_h", id="h"),
        pytest.param(sam_like(768, 12), "nano", "use --sam vit_b", id="b as nano"),
        pytest.param(TENSORS, "vit_l", "does not hold vit_l weights", id="unknown"),
    ],
)
def test_require_architecture(
    tensors: dict[str, torch.Tensor], name: str, words: str | None
) -> None:
    path = Path("some.pth")
    if words is None:
        require_architecture(tensors, name, path)
        return
    with pytest.raises(UsageError) as caught:
        require_architecture(tensors, name, path)
    assert str(caught.value).startswith("some.pth: ")
    assert words in str(caught.value)
