from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.geometry.rle import (
    Rle,
    WindowXYXY,
    frame_rle,
    rle_window,
    run_lengths,
    share_pixels,
    window_runs,
)

Windowed = tuple[NDArray[np.bool_], WindowXYXY, tuple[int, int]]


@st.composite
def windowed_masks(draw: st.DrawFn) -> Windowed:
    """A mask, its window and the frame: windows touch borders and take whole sides often."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    y0, y1 = draw(spans(height))
    x0, x1 = draw(spans(width))
    noise = draw(st.sampled_from(["bits", "empty", "full", "columns"]))
    shape = (y1 - y0, x1 - x0)
    if noise == "bits":
        mask = draw(hnp.arrays(np.bool_, shape))
    elif noise == "columns":
        mask = np.repeat(draw(hnp.arrays(np.bool_, (1, shape[1]))), shape[0], axis=0)
    else:
        mask = np.full(shape, noise == "full")
    return mask, (x0, y0, x1, y1), (height, width)


def spans(length: int) -> st.SearchStrategy[tuple[int, int]]:
    """Start and stop of a part of 0 .. length: anywhere, or all of it."""
    ends = st.tuples(st.integers(0, length), st.integers(0, length))
    anywhere = ends.map(lambda pair: (min(pair), max(pair)))
    return st.one_of(anywhere, st.just((0, length)))


def full_frame(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY, size_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = window_xyxy
    frame = np.zeros(size_hw, dtype=np.uint8, order="F")
    frame[y0:y1, x0:x1] = mask
    return frame


def stock_rle(frame: NDArray[np.uint8]) -> Rle:
    packed = coco_mask.encode(np.asfortranarray(frame))
    return {"size": list(packed["size"]), "counts": packed["counts"].decode("ascii")}


@settings(deadline=None, max_examples=200)
@given(windowed_masks())
def test_window_is_encoded_as_its_frame(windowed: Windowed) -> None:
    assert frame_rle(*windowed) == stock_rle(full_frame(*windowed))


@pytest.mark.parametrize(
    ("window_xyxy", "size_hw"),
    [
        pytest.param((0, 0, 1, 1), (1, 1), id="one pixel"),
        pytest.param((0, 0, 9, 7), (7, 9), id="whole frame"),
        pytest.param((3, 0, 8, 7), (7, 9), id="full height: runs join across columns"),
        pytest.param((0, 2, 9, 5), (7, 9), id="full width"),
        pytest.param((0, 0, 4, 3), (7, 9), id="first corner"),
        pytest.param((5, 3, 9, 7), (7, 9), id="last corner"),
        pytest.param((5, 0, 9, 3), (7, 9), id="top right"),
        pytest.param((0, 3, 4, 7), (7, 9), id="bottom left"),
        pytest.param((40, 0, 300, 1), (1, 333), id="one row"),
        pytest.param((0, 40, 1, 300), (333, 1), id="one column"),
        pytest.param((101, 53, 131, 91), (999, 1233), id="small window, large frame"),
        pytest.param((11_800, 3_900, 11_999, 4_001), (4_001, 12_000), id="runs of eight digits"),
    ],
)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_windows_by_place_and_density(
    window_xyxy: WindowXYXY, size_hw: tuple[int, int], density: float
) -> None:
    x0, y0, x1, y1 = window_xyxy
    mask = np.random.default_rng(7).random((y1 - y0, x1 - x0)) < density
    assert frame_rle(mask, window_xyxy, size_hw) == stock_rle(
        full_frame(mask, window_xyxy, size_hw)
    )


def test_two_thousand_masks_are_encoded_as_their_frames() -> None:
    rng = np.random.default_rng(0)
    size_hw = (233, 311)
    for _ in range(2000):
        x0, y0 = int(rng.integers(311)), int(rng.integers(233))
        x1, y1 = int(rng.integers(x0, 311)) + 1, int(rng.integers(y0, 233)) + 1
        if rng.random() < 0.2:
            y0, y1 = 0, 233
        mask = rng.random((y1 - y0, x1 - x0)) < rng.random()
        window = (x0, y0, x1, y1)
        assert frame_rle(mask, window, size_hw) == stock_rle(full_frame(mask, window, size_hw))


@settings(deadline=None, max_examples=100)
@given(windowed_masks())
def test_runs_alternate_and_fill_the_frame(windowed: Windowed) -> None:
    mask, _, (height, width) = windowed
    runs = window_runs(*windowed)
    assert runs.sum() == height * width
    assert runs[1::2].sum() == mask.sum()
    assert (runs[1:] > 0).all()


@pytest.mark.parametrize(
    ("window_xyxy", "shape"),
    [
        pytest.param((0, 0, 3, 2), (3, 2), id="sides swapped"),
        pytest.param((-1, 0, 1, 2), (2, 2), id="left of the frame"),
        pytest.param((0, -1, 2, 1), (2, 2), id="above the frame"),
        pytest.param((8, 0, 10, 2), (2, 2), id="right of the frame"),
        pytest.param((0, 6, 2, 8), (2, 2), id="below the frame"),
    ],
)
def test_window_that_does_not_fit(window_xyxy: WindowXYXY, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        window_runs(np.ones(shape, dtype=np.bool_), window_xyxy, (7, 9))


def packed_counts(runs: list[int]) -> bytes:
    """Run lengths below 2 ** 24 as pycocotools packs them; larger ones may overrun its buffer."""
    packed: dict[str, Any] = coco_mask.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, 1)
    counts: bytes = packed["counts"]
    return counts


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 2**24 - 1) | st.integers(0, 40), min_size=1, max_size=12))
def test_run_lengths_undo_the_packing(runs: list[int]) -> None:
    packed = packed_counts(runs)
    assert run_lengths(packed).tolist() == runs
    assert run_lengths(packed.decode("ascii")).tolist() == runs


@pytest.mark.parametrize(
    ("counts", "runs"),
    [
        pytest.param("", [], id="none"),
        pytest.param("PPPPPP4", [2**32], id="beyond 32 bits"),
        pytest.param("3PPPPPP43WPPPPPL", [3, 2**32, 3, 7], id="a large step down"),
        pytest.param("P" * 11 + "8", [2**58], id="twelve groups"),
    ],
)
def test_large_run_lengths(counts: str, runs: list[int]) -> None:
    assert run_lengths(counts).tolist() == runs


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param("1\n", id="a character below the code"),
        pytest.param("1p", id="a character above the code"),
        pytest.param("1\u20ac", id="a character beyond latin-1"),
        pytest.param("1Q", id="ends inside a value"),
        pytest.param("P" * 12 + "1", id="a value beyond 64 bits"),
    ],
)
def test_malformed_counts(counts: str) -> None:
    with pytest.raises(ValueError, match=r"run lengths|latin-1"):
        run_lengths(counts)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=12), st.integers(0, 5), st.integers(0, 5))
def test_any_counts_decode_or_are_refused(counts: bytes, height: int, width: int) -> None:
    text = "".join(chr(48 + byte % 64) for byte in counts)
    try:
        mask, (x0, y0, x1, y1) = rle_window({"size": [height, width], "counts": text})
    except ValueError:
        return
    assert mask.shape == (y1 - y0, x1 - x0)
    assert 0 <= x0 <= x1 <= width
    assert 0 <= y0 <= y1 <= height


# pycocotools reshapes an array in a way that NumPy 2.5 deprecates.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(deadline=None, max_examples=100)
@given(windowed_masks())
def test_window_comes_back_as_the_smallest(windowed: Windowed) -> None:
    frame = full_frame(*windowed)
    rle = stock_rle(frame)
    mask, window = rle_window(rle)
    np.testing.assert_array_equal(full_frame(mask, window, windowed[2]), coco_mask.decode(rle))
    if frame.any():
        assert mask[0].any()
        assert mask[-1].any()
        assert mask[:, 0].any()
        assert mask[:, -1].any()
        assert frame_rle(mask, window, windowed[2]) == rle
    else:
        assert mask.size == 0


@pytest.mark.parametrize(
    ("runs", "pixels"),
    [
        pytest.param([6, 0], [], id="ends in an empty run"),
        pytest.param([2, 0, 4], [], id="nothing but an empty run"),
        pytest.param([2, 0, 0, 3, 1], [2, 3, 4], id="empty runs before"),
        pytest.param([1, 2, 0, 2, 1], [1, 2, 3, 4], id="an empty gap"),
        pytest.param([1, 2, 3, 0], [1, 2], id="empty run after"),
    ],
)
def test_runs_of_no_pixels(runs: list[int], pixels: list[int]) -> None:
    mask, window = rle_window({"size": [3, 2], "counts": packed_counts(runs).decode("ascii")})
    frame = full_frame(mask, window, (3, 2))
    assert np.flatnonzero(frame.reshape(-1, order="F")).tolist() == pixels


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(packed_counts([5]).decode(), id="too few pixels"),
        pytest.param(packed_counts([3, 4]).decode(), id="too many pixels"),
        pytest.param("", id="none"),
        pytest.param("7O", id="a negative run"),
        pytest.param("6" + ("P" * 11 + "8") * 2 + "0" * 62, id="64 runs of 2 ** 58: 64 bits wrap"),
    ],
)
def test_runs_that_do_not_fill_the_frame(counts: str) -> None:
    with pytest.raises(ValueError, match="do not add up to a frame of 2 x 3"):
        rle_window({"size": [3, 2], "counts": counts})


@given(windowed_masks(), st.data())
def test_shared_pixels_are_those_of_the_full_frames(one: Windowed, data: st.DataObject) -> None:
    height, width = one[2]
    pixels = data.draw(hnp.arrays(np.bool_, (height, width), fill=st.just(False)))
    other = frame_rle(pixels, (0, 0, width, height), one[2])
    both = full_frame(*one).astype(bool) & pixels
    assert share_pixels(frame_rle(*one), other) == share_pixels(other, frame_rle(*one))
    assert share_pixels(frame_rle(*one), other) == both.any()


def test_masks_of_different_frames_are_not_compared() -> None:
    one, other = (frame_rle(np.ones((1, 1), np.bool_), (0, 0, 1, 1), (2, w)) for w in (2, 3))
    with pytest.raises(ValueError, match="frames"):
        share_pixels(one, other)
