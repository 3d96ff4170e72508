"""Many windows side by side: each is as it would be alone, whatever it is padded with."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage

from dpmo_cli.geometry.components import components_at
from dpmo_cli.geometry.resize import Frame, upsampling
from dpmo_cli.geometry.rle import frame_rles
from dpmo_cli.geometry.windows import Windows, batches


@dataclass(frozen=True)
class Framed:
    """Full frames (n, H, W) that are empty outside windows, and these as masks side by side."""

    frames: NDArray[np.bool_]
    windows: Windows
    masks: NDArray[np.bool_]


def framed(size_hw: tuple[int, int], count: int, seed: int) -> Framed:
    """Windows anywhere: some without pixels, some of a whole side, full, sparse or empty."""
    height, width = size_hw
    rng = np.random.default_rng(seed)
    boxes = np.zeros((count, 4), dtype=np.int64)
    for axis, length in enumerate((width, height)):
        boxes[:, axis::2] = np.sort(rng.integers(0, length + 1, (count, 2)), axis=1)
        boxes[rng.random(count) < 0.3, axis::2] = 0, length
    frames = np.zeros((count, height, width), dtype=np.bool_)
    most_w, most_h = (boxes[:, 2:] - boxes[:, :2]).max(axis=0)
    masks = np.zeros((count, most_h, most_w), dtype=np.bool_)
    for frame, mask, (x0, y0, x1, y1) in zip(frames, masks, boxes.tolist(), strict=True):
        pixels = rng.random((y1 - y0, x1 - x0)) < rng.choice([0, 0.1, 0.5, 0.9, 1])
        frame[y0:y1, x0:x1] = mask[: y1 - y0, : x1 - x0] = pixels
    return Framed(frames, Windows(boxes), masks)


some_frames = st.builds(
    framed,
    st.one_of(
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        st.sampled_from([(1, 1), (1, 90), (90, 1)]),
    ),
    st.integers(1, 9),
    st.integers(0, 2**32),
)


@settings(deadline=None, max_examples=150)
@given(some_frames)
def test_run_lengths_are_those_of_the_frames(case: Framed) -> None:
    size_hw = case.frames.shape[1:]
    found = frame_rles(case.masks, case.windows.boxes_xyxy, (size_hw[0], size_hw[1]))
    for frame, rle in zip(case.frames, found, strict=True):
        stock = coco_mask.encode(np.asfortranarray(frame.astype(np.uint8)))
        assert rle == {"size": list(size_hw), "counts": stock["counts"].decode("ascii")}


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([-1, 0, 1, 2], id="left of the frame"),
        pytest.param([0, 0, 9, 2], id="right of the frame"),
        pytest.param([2, 0, 1, 2], id="its end before its start"),
        pytest.param([0, 0, 3, 2], id="larger than the masks"),
    ],
)
def test_windows_that_do_not_fit(box: list[int]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        frame_rles(np.zeros((2, 2, 2), np.bool_), np.array([[0, 0, 2, 2], box]), (4, 8))


@settings(deadline=None, max_examples=100)
@given(some_frames, st.integers(0, 2**32))
def test_pixels_of_windows_lie_where_the_frames_say(case: Framed, seed: int) -> None:
    windows, (count, height, width) = case.windows, case.frames.shape
    flat = np.random.default_rng(seed).random((height, width))
    points = np.random.default_rng(seed).uniform(-5, 20, (count, 2))
    rows, columns = np.mgrid[:height, :width]
    taken, squares = windows.of(flat), windows.squared_distances(points)
    for index, (x0, y0, x1, y1) in enumerate(windows.boxes_xyxy.tolist()):
        here = windows.inside[index]
        assert here[: y1 - y0, : x1 - x0].all()
        assert here.sum() == (y1 - y0) * (x1 - x0)
        assert (taken[index][here] == flat[y0:y1, x0:x1].ravel()).all()
        x, y = points[index]
        away = ((columns - x) ** 2 + (rows - y) ** 2)[y0:y1, x0:x1]
        np.testing.assert_allclose(squares[index][here], away.ravel(), rtol=1e-12)


@settings(deadline=None, max_examples=100)
@given(some_frames)
def test_boxes_hold_the_masks_and_no_more(case: Framed) -> None:
    if not case.masks.size:
        return
    for frame, (x0, y0, x1, y1) in zip(
        case.frames, case.windows.around(case.masks).tolist(), strict=True
    ):
        if not frame.any():
            assert (x0, y0) == (x1, y1)
            continue
        rows, columns = np.nonzero(frame)
        assert (x0, y0) == (columns.min(), rows.min())
        assert (x1, y1) == (columns.max() + 1, rows.max() + 1)


@settings(deadline=None, max_examples=100)
@given(some_frames, st.integers(0, 2**32))
def test_parts_are_those_of_each_mask_alone(case: Framed, seed: int) -> None:
    count, height, width = case.masks.shape
    if not case.masks.size:
        return
    pixels = np.random.default_rng(seed).integers(0, [width, height], (count, 2))
    for mask, (x, y), found in zip(
        case.masks, pixels, components_at(case.masks, pixels), strict=True
    ):
        parts, _ = ndimage.label(mask)
        assert (found == ((parts == parts[y, x]) & mask[y, x])).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(0, 2**32))
def test_logits_of_several_crops_are_those_of_each_alone(count: int, seed: int) -> None:
    """Parts of mask grids of other crops, of other sizes, that begin at other cells."""
    rng = np.random.default_rng(seed)
    frames, boxes, corners, wholes = [], [], [], []
    side = 12
    logits = np.full((count, side, side), -1e9, dtype=np.float32)
    for part in logits:
        height, width = (int(one) for one in rng.choice([1, 2, 7, 60, 200], 2))
        frame = Frame((height, width), 64, 16)
        whole = rng.normal(0, 8, (16, 16)).astype(np.float32)
        left, top = rng.integers(0, 6, 2).tolist()
        there = whole[top : top + side, left : left + side]
        part[: len(there), : there.shape[1]] = there
        # Any pixel of the crop whose cells are there, and as many after it as have theirs.
        box = []
        for axis, first in zip(reversed(frame.axes()), (left, top), strict=True):
            held = np.flatnonzero((axis.first >= first) & (axis.last <= first + side))
            if not len(held):
                break
            start = int(rng.choice(held))
            box.append((start, int(rng.integers(start, held[-1] + 1)) + 1))
        if len(box) < 2:
            # No pixel needs only cells that are there; those of the first one always are.
            left = top = 0
            part[:] = whole[:side, :side]
            box = [(0, 1), (0, 1)]
        (x0, x1), (y0, y1) = box
        frames.append(frame)
        boxes.append((x0, y0, x1, y1))
        corners.append((left, top))
        wholes.append(whole)
    sizes = np.full((len(frames), 2), logits.shape[1])
    down, across = upsampling(
        [frame.axes() for frame in frames], sizes, np.array(boxes), np.array(corners)
    )
    found = down @ logits @ across.transpose(0, 2, 1)
    for frame, whole, box, one in zip(frames, wholes, boxes, found, strict=True):
        alone = frame.window_logits(whole, box)
        here = one[: alone.shape[0], : alone.shape[1]]
        np.testing.assert_allclose(here, alone, rtol=0, atol=1e-5)


def test_cells_that_are_missing() -> None:
    frame = Frame((64, 64), 64, 16)
    sizes, corners = np.array([[4, 4], [9, 9]]), np.array([[8, 8], [0, 0]])
    with pytest.raises(ValueError, match="do not hold"):
        upsampling([frame.axes()], sizes[:1], np.array([[30, 30, 34, 34]]), corners[:1])
    # Each has its own cells, whatever another has beside it.
    upsampling([frame.axes()] * 2, sizes, np.array([[40, 40, 44, 44], [8, 8, 12, 12]]), corners)
    with pytest.raises(ValueError, match="do not hold"):
        upsampling([frame.axes()] * 2, sizes, np.array([[52, 40, 56, 44], [8, 8, 12, 12]]), corners)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 60), st.integers(1, 3000), st.integers(0, 2**32))
@example(0, 1, 0)
def test_batches_hold_each_window_once_and_few_pixels(count: int, most_px: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([np.zeros((count, 2)), rng.integers(0, 60, (count, 2))], axis=1)
    parts = list(batches(boxes.astype(np.int64), most_px))
    assert sorted(np.concatenate([np.zeros(0, np.int64), *parts]).tolist()) == list(range(count))
    for part in parts:
        high, wide = boxes[part, 3].max(), boxes[part, 2].max()
        assert len(part) == 1 or len(part) * high * wide <= most_px
