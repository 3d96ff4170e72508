"""Masks in windows: the way to the page and back, and set operations against whole frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from dpmo_cli.review.placed import PlacedMask, parse_mask

SIZE_HW = (9, 12)
frames = arrays.arrays(np.bool_, SIZE_HW).filter(np.any)


def placed(frame: NDArray[np.bool_]) -> PlacedMask:
    mask = PlacedMask.of_pixels(frame, (0, 0, SIZE_HW[1], SIZE_HW[0]))
    assert mask is not None
    return mask


def framed(mask: PlacedMask | None) -> NDArray[np.bool_]:
    frame = np.zeros(SIZE_HW, dtype=np.bool_)
    if mask is not None:
        x0, y0, x1, y1 = mask.window_xyxy
        frame[y0:y1, x0:x1] = mask.pixels
    return frame


@given(frames)
def test_a_mask_goes_to_the_page_and_back(frame: NDArray[np.bool_]) -> None:
    again = parse_mask(placed(frame).as_json(), SIZE_HW)
    assert np.array_equal(framed(again), frame)
    assert again.window_xyxy == placed(frame).window_xyxy


@given(frames)
def test_a_mask_goes_to_rle_and_back(frame: NDArray[np.bool_]) -> None:
    assert np.array_equal(framed(PlacedMask.of_rle(placed(frame).rle(SIZE_HW))), frame)


@given(frames, frames)
def test_set_operations_are_those_of_frames(
    one: NDArray[np.bool_], other: NDArray[np.bool_]
) -> None:
    left = placed(one).without(placed(other))
    assert np.array_equal(framed(left), one & ~other)
    assert (placed(one).within(placed(other)) is None) == (not (one & other).any())


@given(frames, st.integers(0, SIZE_HW[1] - 1), st.integers(0, SIZE_HW[0] - 1))
def test_the_part_at_a_pixel_holds_it(frame: NDArray[np.bool_], x: int, y: int) -> None:
    part = placed(frame).part_at(x, y)
    assert (part is not None) == bool(frame[y, x])
    if part is not None:
        assert framed(part)[y, x]
        assert not (framed(part) & ~frame).any()


WHOLE = {"x": 2, "y": 1, "w": 2, "h": 3, "runs": [0, 6]}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"x": -1}, "outside"),
        ({"x": 11}, "outside"),
        ({"h": 9}, "outside"),
        ({"w": 0, "runs": [0, 0]}, "outside"),
        ({"w": "2"}, "whole number"),
        ({"runs": [0, 7]}, "add up"),
        ({"runs": [-1, 7]}, "add up"),
        ({"runs": [2**62, 2**62, 2**62, 2**62, 6]}, "add up"),
        ({"runs": [6, 0]}, "no pixels"),
        ({"runs": "06"}, "list"),
        ({"runs": [0, 1.5]}, "whole number"),
        ({"runs": [0, True]}, "whole number"),
    ],
)
def test_what_is_no_mask_is_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_mask(WHOLE | changes, SIZE_HW)
    assert parse_mask(WHOLE, SIZE_HW).pixels.all()
