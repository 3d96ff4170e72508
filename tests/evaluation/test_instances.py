"""True instances under points, label maps as masks, and what is refused as a mask."""

from __future__ import annotations

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.evaluation.instances import checked_rle, find_truths, rles_of_labels
from dpmo_cli.geometry.points import group_points
from dpmo_cli.geometry.rle import rle_window
from tests.evaluation.crowds import Bools, box, rle_of
from tests.geometry.crowds import Crowd, crowds

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)


@settings(deadline=None)
@given(hnp.arrays(np.int16, SHAPES, elements=st.sampled_from([0, 0, 0, 1, 2, 7, -3, 300])))
def test_label_maps_become_masks(labels: NDArray[np.int16]) -> None:
    values = [value for value in np.unique(labels) if value]
    assert rles_of_labels(labels) == [rle_of(labels == value) for value in values]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64])
@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0), (2, 3)])
def test_label_maps_without_instances(shape: tuple[int, int], dtype: type) -> None:
    assert rles_of_labels(np.zeros(shape, dtype)) == []


@settings(deadline=None)
@given(crowds(longest_px=16, most=12), st.integers(0, 2**32 - 1))
def test_the_smallest_instance_at_the_pixel(crowd: Crowd, seed: int) -> None:
    points_xy, size_hw = crowd
    rng = np.random.default_rng(seed)
    truth: list[Bools] = [rng.random(size_hw) < rng.random() for _ in range(6)]
    found = find_truths(points_xy, size_hw, [rle_of(mask) for mask in truth])
    sites = group_points(points_xy, size_hw)
    for index, site in zip(found.tolist(), sites.site_of_point.tolist(), strict=True):
        there = []
        if site >= 0 and sites.inside[site]:
            x, y = sites.pixel_xy[site]
            there = [(mask.sum(), number) for number, mask in enumerate(truth) if mask[y, x]]
        assert index == (min(there)[1] if there else -1)


def test_no_truth_and_no_points() -> None:
    assert find_truths(np.array([[1.0, 1.0]]), (4, 4), []).tolist() == [-1]
    assert find_truths(np.zeros((0, 2)), (4, 4), [rle_of(box((4, 4), 0, 0, 2, 2))]).shape == (0,)


SIZE = (4, 5)
MASK = box(SIZE, 1, 1, 4, 3)


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(rle_of(MASK)["counts"], id="compressed"),
        pytest.param(rle_of(MASK)["counts"].encode(), id="bytes"),
        pytest.param([5, 2, 2, 2, 2, 2, 5], id="a list"),
        pytest.param([5, 2, 2, 2, 2, 2, 5, 0, 0], id="empty runs"),
    ],
)
def test_masks_of_all_kinds(counts: object) -> None:
    rle = checked_rle({"size": [4, 5], "counts": counts}, SIZE)
    pixels, window_xyxy = rle_window(rle)
    assert (pixels.all(), window_xyxy) == (True, (1, 1, 4, 3))
    assert coco_mask.area(rle) == 6


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param([1, 2], "is no object", id="a list"),
        pytest.param({"counts": "x"}, "size is no list", id="no size"),
        pytest.param({"size": [5, 4], "counts": "d0"}, "size (H, W) is [5, 4]", id="turned"),
        pytest.param({"size": [4, 5]}, "neither text nor a list", id="no counts"),
        pytest.param({"size": [4, 5], "counts": "~~"}, "not compressed", id="no code"),
        pytest.param({"size": [4, 5], "counts": "ü"}, "not compressed", id="not ASCII"),
        pytest.param({"size": [4, 5], "counts": "\u20ac"}, "not compressed", id="not Latin"),
        pytest.param({"size": [4, 5], "counts": "01"}, "do not add up", id="too short"),
        pytest.param({"size": [4, 5], "counts": [30, -10]}, "do not add up", id="negative"),
        pytest.param({"size": [4, 5], "counts": [20.0]}, "whole numbers", id="floats"),
        pytest.param({"size": [4, 5], "counts": [2**70, -(2**70) + 20]}, "do not", id="huge"),
        pytest.param({"size": [4, 5], "counts": "o" * 40 + "0"}, "not compressed", id="long"),
    ],
)
def test_what_is_no_mask(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        checked_rle(value, SIZE)
