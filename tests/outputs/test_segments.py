from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.geometry.rle import run_lengths
from dpmo_cli.outputs.segments import areas_of, boxes_of, ones_of, segments_of
from tests.outputs.samples import rle_of


@st.composite
def mask_stacks(draw: st.DrawFn) -> NDArray[np.bool_]:
    """(N, H, W) masks: empty, full, full columns and noise."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]))
    masks = rng.random((draw(st.integers(0, 5)), height, width)) < density
    if draw(st.booleans()):
        masks[:, :, rng.integers(width)] = True
    return masks


@given(mask_stacks())
def test_areas_and_boxes_are_those_of_pycocotools(masks: NDArray[np.bool_]) -> None:
    rles = [rle_of(mask) for mask in masks]
    runs = ones_of([run_lengths(rle["counts"]) for rle in rles])
    assert areas_of(runs, len(masks)).tolist() == [coco_mask.area(rle) for rle in rles]
    boxes = boxes_of(segments_of(runs, masks.shape[1]), len(masks))
    boxes[:, 2:] -= boxes[:, :2]
    expected = [[int(side) for side in coco_mask.toBbox(rle)] for rle in rles]
    assert boxes.tolist() == [box if any(box[2:]) else [0] * 4 for box in expected]


@given(mask_stacks())
def test_segments_are_the_pixels(masks: NDArray[np.bool_]) -> None:
    runs = ones_of([run_lengths(rle_of(mask)["counts"]) for mask in masks])
    segments = segments_of(runs, masks.shape[1])
    drawn = np.zeros(masks.shape, int)
    for owner, x, top, bottom in zip(
        segments.owner, segments.x, segments.top, segments.bottom, strict=True
    ):
        drawn[owner, top : bottom + 1, x] += 1
    assert (drawn == masks).all()


def test_empty_runs_of_ones_are_left_out() -> None:
    runs = ones_of([np.array([2, 0, 1, 3]), np.array([0, 0, 6]), np.array([], np.int64)])
    assert (runs.owner.tolist(), runs.begin.tolist(), runs.end.tolist()) == ([0], [3], [6])
