"""Polygons with few corners that are still exactly the mask's pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dpmo_cli.geometry.contours import joined_ring, trace_parts
from dpmo_cli.geometry.rle import frame_rle
from dpmo_cli.review.exchange.outlines import joined, outline, polygon_rle, segmentation_rle


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.booleans())
def test_exactly_the_pixels(mask: NDArray[np.bool_], at_border: bool) -> None:
    if not mask.any():
        return
    height, width = mask.shape
    x0, y0 = (0, 0) if at_border else (3, 2)
    size_hw = (y0 + height, x0 + width)
    window = (x0, y0, x0 + width, y0 + height)
    polygon = outline(mask, window, size_hw)
    assert polygon_rle([polygon], size_hw) == frame_rle(mask, window, size_hw)
    # What tools do to the last digits is undone.
    shaken = [[x + 1e-4, y - 1e-4] for x, y in polygon]
    assert polygon_rle([shaken], size_hw) == frame_rle(mask, window, size_hw)


def test_a_disc_has_few_corners() -> None:
    y, x = np.mgrid[:40, :40]
    disc = np.hypot(x - 20, y - 20) < 15.3
    polygon = outline(disc, (0, 0, 40, 40), (40, 40))
    along_edges = joined_ring(trace_parts(disc))
    assert len(polygon) < 0.6 * len(along_edges)


def test_parts_are_joined() -> None:
    one = frame_rle(np.ones((2, 2), np.bool_), (0, 0, 2, 2), (6, 8))
    other = frame_rle(np.ones((2, 2), np.bool_), (1, 1, 3, 3), (6, 8))
    both = np.zeros((3, 3), np.bool_)
    both[:2, :2] = both[1:, 1:] = True
    assert joined([one, other]) == frame_rle(both, (0, 0, 3, 3), (6, 8))
    parts = [[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 1, 3, 3, 1, 3]]
    assert segmentation_rle(parts, (6, 8)) == frame_rle(both, (0, 0, 3, 3), (6, 8))


def test_one_spelling_of_an_rle() -> None:
    mask = frame_rle(np.ones((2, 2), np.bool_), (0, 0, 2, 2), (3, 2))
    runs = {"size": [3, 2], "counts": [0, 2, 1, 1, 0, 1, 1]}
    assert segmentation_rle(runs, (3, 2)) == mask
    assert segmentation_rle({"size": [3, 2], "counts": mask["counts"]}, (3, 2)) == mask


@pytest.mark.parametrize(
    ("polygon", "problem"),
    [
        pytest.param([[1, 1], [2, 2]], "three or more", id="two corners"),
        pytest.param([[1, 1], [2, float("nan")], [3, 1]], "no number", id="NaN"),
        pytest.param([[10, 10], [12, 10], [12, 12]], "no pixel inside", id="outside"),
        pytest.param([[1e9, 1], [1, 1], [1, 3]], "far outside", id="far away"),
    ],
)
def test_what_is_no_polygon(polygon: list[list[float]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        polygon_rle([polygon], (6, 8))
