"""Checkpoints: what comes back, and what is refused."""

from __future__ import annotations

from errno import ENOSPC
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.atomic import OutputError
from dpmo_cli.training.checkpoint import (
    export_weights,
    load_checkpoint,
    make_folder,
    save_checkpoint,
    warm_cosine,
)

SETTINGS = {"steps": 7, "datasets": ("a", "b"), "rate": 0.1}


def saved(path: Path) -> nn.Linear:
    model = nn.Linear(2, 3)
    save_checkpoint(path, 5, SETTINGS, {"model": model})
    return model


def test_it_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    before, after = saved(path), nn.Linear(2, 3)
    assert load_checkpoint(path, SETTINGS, {"model": after}, "cpu") == 5
    assert torch.equal(before.weight, after.weight)
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_weights_are_for_all_who_may_read(tmp_path: Path) -> None:
    """Files of safetensors itself are for their owner alone."""
    plain = tmp_path / "plain"
    plain.touch()
    path = export_weights(nn.Linear(2, 3), tmp_path / "weights.safetensors")
    assert path.stat().st_mode == plain.stat().st_mode


def test_without_one_it_begins(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "checkpoint.pt", SETTINGS, {}, "cpu") == 0


def test_other_settings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    saved(path)
    other = {**SETTINGS, "rate": 0.2}
    with pytest.raises(UsageError, match=r"other settings \(rate\); use another --out"):
        load_checkpoint(path, other, {}, "cpu")


@pytest.mark.parametrize("kind", ["cut", "text", "empty", "another network", "another part"])
def test_damaged(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    saved(path)
    whole = path.read_bytes()
    content = {"cut": whole[: len(whole) // 2], "text": b"hello", "empty": b""}
    path.write_bytes(content.get(kind, whole))
    part = nn.Linear(3, 3) if kind == "another network" else nn.Linear(2, 3)
    name = "other" if kind == "another part" else "model"
    with pytest.raises(UsageError, match=r"checkpoint\.pt: is damaged; delete it to begin again"):
        load_checkpoint(path, SETTINGS, {name: part}, "cpu")


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(ENOSPC, "No space left"), OutputError)],
)
def test_a_kill_or_a_full_disk_leaves_the_last_one(
    stop: BaseException,
    expected: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "checkpoint.pt"
    saved(path)
    before = path.read_bytes()

    def torn(partial: Path, _data: bytes) -> int:
        with partial.open("wb") as file:
            file.write(b"half")
        raise stop

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(expected):
        saved(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_exported_weights_are_half(tmp_path: Path) -> None:
    model = nn.BatchNorm2d(4)
    state = load_file(export_weights(model, tmp_path / "weights.safetensors"))
    assert state["weight"].dtype == torch.float16
    assert state["num_batches_tracked"].dtype == torch.int64
    assert [one.name for one in tmp_path.iterdir()] == ["weights.safetensors"]


def test_rates_rise_and_fall() -> None:
    rates = [warm_cosine(step, 1000, 100) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert 90 <= rates.index(max(rates)) <= 100
    assert max(rates) > 0.95
    assert rates[-1] < 1e-4


def test_out_can_not_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be made a folder"):
        make_folder(tmp_path / "file" / "out")
