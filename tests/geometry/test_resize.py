from __future__ import annotations

import platform
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from dpmo_cli.geometry.resize import Frame, fitted_size
from dpmo_cli.geometry.rle import WindowXYXY

VIT, NANO, TINY = (1024, 256), (256, 128), (64, 16)
"""Frame and mask grid, px, of SAM's ViTs, of nano, and of nothing but these tests."""

FUSED = torch.backends.cpu.get_cpu_capability() != "DEFAULT" or platform.machine() != "x86_64"
"""Whether torch's kernels fuse multiply and add, as all but old processors do."""
FLIP_LIMIT = 1e-5 if FUSED else 5e-4
ERROR_LIMIT = 2e-5 if FUSED else 5e-4


def stock_logits(logits: NDArray[np.float32], frame: Frame) -> NDArray[np.float32]:
    """What segment_anything itself makes of logits (..., cells, cells): (..., H, W) of the crop."""
    sam = SimpleNamespace(image_encoder=SimpleNamespace(img_size=frame.frame_px))
    masks = torch.from_numpy(logits.reshape(1, -1, frame.cells, frame.cells))
    resized: torch.Tensor = Sam.postprocess_masks(sam, masks, frame.valid_hw, frame.size_hw)
    return resized.numpy().reshape(*logits.shape[:-2], *frame.size_hw)


def random_logits(cells: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 8, (cells, cells)).astype(np.float32)


def assert_same(found: NDArray[np.float32], stock: NDArray[np.float32]) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stock, rtol=0, atol=ERROR_LIMIT)
    flipped = (found > 0) != (stock > 0)
    assert (np.abs(stock[flipped]) < FLIP_LIMIT).all()


def some_windows(size_hw: tuple[int, int], seed: int) -> list[WindowXYXY]:
    """The whole crop, its corners and borders, no pixels, and some windows anywhere."""
    height, width = size_hw
    rng = np.random.default_rng(seed)
    right, low = int(rng.integers(width)), int(rng.integers(height))
    windows = [
        (0, 0, width, height),
        (0, 0, 1, 1),
        (width - 1, height - 1, width, height),
        (right, 0, width, low + 1),
        (0, low, right + 1, height),
        (right, 0, right + 1, height),
        (0, low, width, low + 1),
        (right, low, right, low),
    ]
    for _ in range(4):
        x0, y0 = int(rng.integers(width)), int(rng.integers(height))
        x1, y1 = int(rng.integers(x0, width)) + 1, int(rng.integers(y0, height)) + 1
        windows.append((x0, y0, x1, y1))
    return windows


@pytest.mark.parametrize("network", [VIT, NANO], ids=["vit", "nano"])
@pytest.mark.parametrize(
    "size_hw",
    [
        pytest.param((1, 1), id="one pixel"),
        pytest.param((1, 37), id="one row"),
        pytest.param((53, 1), id="one column"),
        pytest.param((1, 3001), id="one row, longer than the frame"),
        pytest.param((2, 2), id="two by two"),
        pytest.param((767, 1021), id="landscape"),
        pytest.param((1021, 767), id="portrait"),
        pytest.param((64, 64), id="smallest tile of nano"),
        pytest.param((181, 181), id="second tile of nano"),
        pytest.param((256, 256), id="frame of nano"),
        pytest.param((1024, 1024), id="frame of the ViTs"),
        pytest.param((97, 1531), id="wide"),
        pytest.param((1531, 97), id="tall"),
        pytest.param((1203, 1605), id="larger than the frame"),
    ],
)
def test_windows_equal_the_stock_path(size_hw: tuple[int, int], network: tuple[int, int]) -> None:
    frame = Frame(size_hw, *network)
    logits = random_logits(frame.cells, sum(size_hw))
    stock = stock_logits(logits, frame)
    for x0, y0, x1, y1 in some_windows(size_hw, sum(size_hw)):
        assert_same(frame.window_logits(logits, (x0, y0, x1, y1)), stock[y0:y1, x0:x1])


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32))
@example(1, 200, 0)
@example(200, 1, 0)
def test_windows_of_any_size_equal_the_stock_path(height: int, width: int, seed: int) -> None:
    frame = Frame((height, width), *TINY)
    logits = random_logits(frame.cells, seed)
    stock = stock_logits(logits, frame)
    for x0, y0, x1, y1 in some_windows((height, width), seed):
        assert_same(frame.window_logits(logits, (x0, y0, x1, y1)), stock[y0:y1, x0:x1])


def test_two_thousand_masks_equal_the_stock_path() -> None:
    rng = np.random.default_rng(3)
    frame = Frame((61, 83), *TINY)
    logits = rng.normal(0, 8, (2000, frame.cells, frame.cells)).astype(np.float32)
    for one, stock in zip(logits, stock_logits(logits, frame), strict=True):
        x0, y0 = int(rng.integers(83)), int(rng.integers(61))
        x1, y1 = int(rng.integers(x0, 83)) + 1, int(rng.integers(y0, 61)) + 1
        assert_same(frame.window_logits(one, (x0, y0, x1, y1)), stock[y0:y1, x0:x1])


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 12_000), st.integers(1, 12_000), st.sampled_from([64, 256, 1024]))
def test_fitted_size_is_sams(height: int, width: int, frame_px: int) -> None:
    stock = ResizeLongestSide.get_preprocess_shape(height, width, frame_px)
    # segment_anything rounds a thin image to nothing.
    assert fitted_size((height, width), frame_px) == tuple(max(1, side) for side in stock)


@pytest.mark.parametrize(
    ("size_hw", "fitted"),
    [
        pytest.param((1, 12_000), (1, 256), id="one row"),
        pytest.param((12_000, 1), (256, 1), id="one column"),
        pytest.param((1, 1), (256, 256), id="one pixel"),
        pytest.param((768, 1024), (192, 256), id="landscape"),
        pytest.param((3, 512), (2, 256), id="halves round up"),
    ],
)
def test_fitted_size(size_hw: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fitted_size(size_hw, 256) == fitted


sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
networks = st.sampled_from([VIT, NANO, TINY])


@settings(deadline=None, max_examples=100)
@given(sizes, networks)
def test_corners_of_the_crop_are_corners_of_its_part_of_the_frame(
    size_hw: tuple[int, int], network: tuple[int, int]
) -> None:
    frame = Frame(size_hw, *network)
    (height, width), (valid_h, valid_w) = size_hw, frame.valid_hw
    corners = np.array([(-0.5, -0.5), (width - 0.5, height - 0.5)])
    np.testing.assert_allclose(
        frame.to_frame(corners), [(-0.5, -0.5), (valid_w - 0.5, valid_h - 0.5)], atol=1e-9
    )
    ratio = frame.cells / frame.frame_px
    np.testing.assert_allclose(
        frame.to_cells(corners),
        [(-0.5, -0.5), (valid_w * ratio - 0.5, valid_h * ratio - 0.5)],
        atol=1e-9,
    )


@settings(deadline=None, max_examples=100)
@given(sizes, networks, st.floats(0, 1), st.floats(0, 1))
def test_points_go_to_cells_by_the_frame(
    size_hw: tuple[int, int], network: tuple[int, int], across: float, down: float
) -> None:
    frame = Frame(size_hw, *network)
    point = np.array([across * size_hw[1], down * size_hw[0]])
    in_frame, in_cells = frame.to_frame(point), frame.to_cells(point)
    stride = frame.frame_px / frame.cells
    np.testing.assert_allclose((in_cells + 0.5) * stride - 0.5, in_frame, atol=1e-9)
    longer = 0 if size_hw[1] >= size_hw[0] else 1
    step = np.zeros(2)
    step[longer] = 1
    moved = frame.to_cells(point + step) - in_cells
    np.testing.assert_allclose(moved[longer], frame.cells_per_px(), rtol=1e-6)


def test_points_of_the_same_size_of_frame_stay() -> None:
    points = np.array([[[3.25, 7.5]], [[0.0, 255.0]]])
    np.testing.assert_array_equal(Frame((256, 256), *NANO).to_frame(points), points)


@pytest.mark.parametrize("cell_xy", [(3, 5), (0, 0), (15, 11), (8, 2)], ids=str)
def test_logits_of_a_cell_appear_where_points_map_to_it(cell_xy: tuple[int, int]) -> None:
    frame = Frame((90, 120), *TINY)
    logits = np.full((16, 16), -1.0, dtype=np.float32)
    logits[cell_xy[1], cell_xy[0]] = 1
    window = frame.window_logits(logits, (0, 0, 120, 90))
    y, x = np.unravel_index(int(window.argmax()), window.shape)
    cell = frame.to_cells(np.array([x, y], dtype=np.float64))
    np.testing.assert_allclose(cell, cell_xy, atol=0.6)


@pytest.mark.parametrize("size_hw", [(480, 640), (100, 37), (1, 1), (3000, 2000)])
def test_cells_go_back_to_points(size_hw: tuple[int, int]) -> None:
    frame = Frame(size_hw, *VIT)
    points = np.random.default_rng(0).uniform(-5, max(size_hw), (20, 2))
    np.testing.assert_allclose(frame.from_cells(frame.to_cells(points)), points, atol=1e-9)
