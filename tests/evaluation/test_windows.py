"""Masks in windows: discs, IoU and boundaries against full frames."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.ndimage import binary_dilation, binary_erosion, generate_binary_structure

from dpmo_cli.evaluation.windows import WindowMask, agreement
from tests.evaluation.crowds import Bools, box, rle_of

CROSS = generate_binary_structure(2, 1)


def boundary_f(one: Bools, other: Bools) -> float:
    """The boundary F-score on whole frames, by scipy."""
    edges = [np.pad(mask, 2) & ~binary_erosion(np.pad(mask, 2), CROSS) for mask in (one, other)]
    parts = []
    for edge, near in (edges, edges[::-1]):
        parts.append((edge & binary_dilation(near, CROSS)).sum() / max(edge.sum(), 1))
    return 2 * parts[0] * parts[1] / sum(parts) if sum(parts) else 0.0


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_agreement_is_that_of_whole_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 14, 2)
    frames = []
    for _ in range(2):
        frame = np.zeros(size, dtype=np.bool_)
        low, high = np.sort(rng.integers(0, size + 1, (2, 2)), axis=0)
        part = frame[low[0] : high[0], low[1] : high[1]]
        part[:] = rng.random(part.shape) < 0.8
        frames.append(frame)
    one, other = frames
    union = (one | other).sum()
    expected = (one & other).sum() / union if union else 0.0
    iou, score = agreement(*(WindowMask.of(rle_of(frame)) for frame in frames))
    assert iou == expected
    assert score == pytest.approx(boundary_f(one, other))


def test_one_pixel_beside_is_still_found() -> None:
    size = (20, 30)
    masks = [WindowMask.of(rle_of(box(size, 5 + step, 5, 15 + step, 15))) for step in (0, 1, 2, 9)]
    scores = [agreement(masks[0], mask)[1] for mask in masks]
    assert scores[:2] == [1.0, 1.0]
    assert 0 < scores[3] < scores[2] < 1


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-5, 25, width=32),
    st.floats(-5, 25, width=32),
    st.floats(0, 20, width=32),
)
def test_what_a_disc_holds(seed: int, x: float, y: float, radius_px: float) -> None:
    frame = np.random.default_rng(seed).random((18, 21)) < 0.5
    rows, columns = np.mgrid[:18, :21]
    expected = frame & ((columns - x) ** 2 + (rows - y) ** 2 <= radius_px**2)
    cut = WindowMask.of(rle_of(frame)).within_disc(np.array([x, y]), radius_px)
    assert cut.rle((18, 21)) == rle_of(expected)
    assert cut.area_px == expected.sum()
