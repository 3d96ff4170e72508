"""Label Studio's brush code: as its own converter writes and reads it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dpmo_cli.geometry.rle import frame_rle
from dpmo_cli.review.exchange.brush import decode_brush, encode_brush
from tests.review.exchange.tools import painted

# What `mask2rle` of label-studio-sdk 2.1.2 returns for masks of 255 and 0.
CONVERTED = {
    "all of 1 x 2": ([[1, 1]], [0, 0, 0, 8, 57, 27, 252, 255, 224]),
    "one of 2 x 2": ([[0, 1], [0, 0]], [0, 0, 0, 16, 57, 27, 252, 96, 17, 255, 206, 0]),
    "all of 5 x 7": ([[1] * 7] * 5, [0, 0, 0, 140, 57, 27, 254, 139, 255, 0]),
    "stripes": (
        [[1, 0, 1, 0]] * 3,
        [
            0,
            0,
            0,
            48,
            57,
            27,
            252,
            127,
            241,
            128,
            71,
            255,
            24,
            4,
            127,
            241,
            128,
            71,
            255,
            24,
            4,
            127,
            241,
            128,
            71,
            255,
            24,
            0,
        ],
    ),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_as_the_converter_writes_it(name: str) -> None:
    rows, packed = CONVERTED[name]
    mask = np.array(rows, np.bool_)
    height, width = mask.shape
    ours = encode_brush(mask, (0, 0, width, height), (height, width))
    # The converter adds a byte where none is missing.
    assert ours == packed or [*ours, 0] == packed
    assert decode_brush(packed, (height, width)) == frame_rle(
        mask, (0, 0, width, height), (height, width)
    )


@given(arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_round_trip(mask: np.typing.NDArray[np.bool_]) -> None:
    height, width = mask.shape
    size_hw = (height + 3, width + 5)
    window = (4, 2, 4 + width, 2 + height)
    rle = frame_rle(mask, window, size_hw)
    packed = encode_brush(mask, window, size_hw)
    assert decode_brush(packed, size_hw) == rle
    frame = np.zeros(size_hw, np.bool_)
    frame[2 : 2 + height, 4 : 4 + width] = mask
    # In colours, as the page packs it.
    assert decode_brush(painted(frame), size_hw) == rle


def test_long_runs_are_cut() -> None:
    mask = np.ones((300, 400), np.bool_)
    packed = encode_brush(mask, (0, 0, 400, 300), (300, 400))
    # Blocks of 65,536 bytes and a rest, of 27 bits each.
    assert len(packed) == -(-(53 + 8 * 27) // 8)
    assert decode_brush(packed, (300, 400)) == frame_rle(mask, (0, 0, 400, 300), (300, 400))


def test_soft_edges_count_from_half_on() -> None:
    alphas = [0, 127, 128, 255]
    words = [word for alpha in alphas for word in (9, 9, 9, alpha)]
    bits = f"{16:032b}{7:05b}0010001101111111" + "".join(f"000000{w:08b}" for w in words)
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]
    expected = frame_rle(np.array([[False, False, True, True]]), (0, 0, 4, 1), (1, 4))
    assert decode_brush(packed, (1, 4)) == expected


@pytest.mark.parametrize(
    ("packed", "problem"),
    [
        pytest.param([], "cut short", id="nothing"),
        pytest.param([0, 0, 0, 8, 57, 27, 252], "cut short", id="no blocks"),
        pytest.param([0, 0, 0, 12, 57, 27, 252, 255, 224], "has 12 bytes", id="another size"),
        pytest.param([0, 0, 0, 8, 57, 27, 253, 255, 255], "longer", id="too long"),
        pytest.param([256], "no list of bytes", id="no byte"),
        pytest.param([True], "no list of bytes", id="a word"),
        pytest.param(["0"], "no list of bytes", id="text"),
    ],
)
def test_what_is_none(packed: list[object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        decode_brush(packed, (1, 2))
