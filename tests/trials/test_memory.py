"""What a fresh process says of the memory that prompts need."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from dpmo_cli.errors import DpmoError
from dpmo_cli.trials import memory
from dpmo_cli.trials.memory import OURS, PLAIN, STOCK, Load, Need, carry_out, measure, need_lines

CPU = torch.device("cpu")


def test_ours_and_the_stock_paths() -> None:
    needs = [carry_out(Load(path, "nano", 8, (600, 800), "cpu")) for path in (OURS, STOCK)]
    needs.append(measure(Load(PLAIN, "nano", 8, (600, 800), "cpu")))
    assert [(need.path, need.points) for need in needs] == [(OURS, 8), (STOCK, 8), (PLAIN, 8)]
    ours, lean, plain = (need.bytes for need in needs)
    # Three masks of the frame for each prompt, 4 bytes a pixel as logits.
    assert plain > 3 * 8 * 600 * 800 * 4
    assert 0 <= min(ours, lean) <= max(ours, lean) < plain
    assert all(need.seconds_per_point > 0 for need in needs)


def test_the_process_that_fails_says_why() -> None:
    with pytest.raises(DpmoError, match=r"ours with 3 points of 20x10: .*nowhere.*fewer points"):
        measure(Load(OURS, "nano", 3, (10, 20), "nowhere"))


@contextmanager
def pages(size: int) -> Iterator[None]:
    """Memory that is new to the process: an array may get what other tests gave back."""
    with mmap.mmap(-1, size) as held:
        for start in range(0, size, mmap.PAGESIZE):
            held[start] = 1
        yield


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="only Linux begins a peak anew")
def test_the_peak_begins_anew() -> None:
    with pages(100_000_000):
        pass
    before = memory._start(CPU)
    assert memory._peak(CPU) - before < 50_000_000
    with pages(100_000_000):
        assert memory._peak(CPU) - before > 90_000_000


def test_without_what_linux_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "missing")
    monkeypatch.setattr(memory, "CLEAR", tmp_path)
    assert 0 < memory._start(CPU) <= memory._peak(CPU)


def test_lines() -> None:
    needs = [
        Need(OURS, 100, 2_000_000, 0.002, 90),
        Need(OURS, 1000, 3_000_000, 0.003, 900),
        Need(PLAIN, 10, 50_000_000, 0.02, 10),
    ]
    assert need_lines(needs)[2:] == [
        "| ours | 100 | 2 | 2.00 | 90 |",
        "| ours | 1,000 | 3 | 3.00 | 900 |",
        "| predict_torch | 10 | 50 | 20.00 | 10 |",
        "time per point at 1,000 points: 1.50 times that at 100",
        "predict_torch with all 1,000 prompts in one call, extrapolated from the chunk: 5 GB",
    ]
