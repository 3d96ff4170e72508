"""How many crops and prompts go together: by the bytes, and fewer where memory runs out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from torch import Tensor

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.resize import Frame
from dpmo_cli.sam.engine import Encoded, SamEngine, out_of_memory
from tests.sam.asking import gather, photo, prompts


def test_batch_follows_the_bytes_unless_it_is_given(nano: SamEngine, vit_b: Sam) -> None:
    assert SamEngine(nano.model, prompt_batch=5).batch == 5
    for model in (nano.model, vit_b):
        assert 1 <= SamEngine(model).batch <= 8


@pytest.mark.parametrize("wanted", [None, 2])
def test_batch_of_crops_follows_the_bytes_unless_it_is_given(
    wanted: int | None, nano: SamEngine, vit_b: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def encode(self: SamEngine, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        asked.append(len(crops))
        frame = Frame((9, 9), self.frame_px, self.cells)
        return [Encoded(torch.zeros(1, 1, 1, 1), frame)] * len(crops)

    monkeypatch.setattr(SamEngine, "_encode", encode)
    for model in (nano.model, vit_b):
        assert len(SamEngine(model, tile_batch=wanted).encode([photo(9, 9)] * 6)) == 6
    assert asked == ([4, 2] + [1] * 6 if wanted is None else [2] * 6)


def limit_decoder(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """Let the decoder fail above a number of prompts; returns the sizes that were tried."""
    tried: list[int] = []
    decode = SamEngine._decode

    def limited(
        self: SamEngine, encoded: Encoded, xy: NDArray[np.float64], *rest: Any
    ) -> tuple[Tensor, Tensor]:
        tried.append(len(xy))
        if len(xy) > most:
            raise error
        return decode(self, encoded, xy, *rest)

    monkeypatch.setattr(SamEngine, "_decode", limited)
    return tried


def limit_encoder(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """The same for the encoder and its crops."""
    tried: list[int] = []
    encode = SamEngine._encode

    def limited(self: SamEngine, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        tried.append(len(crops))
        if len(crops) > most:
            raise error
        return encode(self, crops)

    monkeypatch.setattr(SamEngine, "_encode", limited)
    return tried


OUT_OF_MEMORY = [
    pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), id="cuda"),
    pytest.param(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), id="mps"),
    pytest.param(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), id="cpu"
    ),
    pytest.param(MemoryError(), id="python"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_prompts_are_halved_when_memory_runs_out(
    engine: SamEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (encoded,) = engine.encode([photo(60, 60)])
    points, labels = prompts(10, (60, 60))
    undisturbed = gather(engine, encoded, points, labels)
    tried = limit_decoder(monkeypatch, 2, error)
    halved = gather(engine, encoded, points, labels)
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    assert engine.halvings == 2
    torch.testing.assert_close(halved.logits, undisturbed.logits, rtol=1e-4, atol=1e-4)
    # What was learnt is kept for the next image.
    tried.clear()
    gather(engine, encoded, points, labels)
    assert tried == [2] * 5


def test_a_last_short_chunk_is_halved_by_its_own_size(
    engine: SamEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (encoded,) = engine.encode([photo(60, 60)])
    tried = limit_decoder(monkeypatch, 1, torch.OutOfMemoryError("out of memory"))
    gather(engine, encoded, *prompts(3, (60, 60)))
    assert tried == [3, 1, 1, 1]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_tiles_are_halved_when_memory_runs_out(
    engine: SamEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    crops = [photo(30 + 10 * number, 50) for number in range(5)]
    tried = limit_encoder(monkeypatch, 1, error)
    encoded = engine.encode(crops)
    assert tried == [4, 2, 1, 1, 1, 1, 1]
    assert engine.halvings == 2
    assert [one.frame.size_hw for one in encoded] == [crop.shape[:2] for crop in crops]


def test_no_memory_for_one(engine: SamEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    (encoded,) = engine.encode([photo(60, 60)])
    limit_decoder(monkeypatch, 0, torch.OutOfMemoryError("out of memory"))
    limit_encoder(monkeypatch, 0, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(DpmoError, match="not enough memory") as caught:
        gather(engine, encoded, *prompts(8, (60, 60)))
    assert "\n" not in str(caught.value)
    with pytest.raises(DpmoError, match="not enough memory"):
        engine.encode([photo(60, 60)])


def test_other_errors_pass(engine: SamEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    (encoded,) = engine.encode([photo(60, 60)])
    limit_decoder(monkeypatch, 0, RuntimeError("shapes do not match"))
    limit_encoder(monkeypatch, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        gather(engine, encoded, *prompts(8, (60, 60)))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.encode([photo(60, 60)])
    assert engine.halvings == 0
    assert not out_of_memory(ValueError("the memory of this is long"))
