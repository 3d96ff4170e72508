from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.geometry.contours import Part, Ring, joined_ring, trace_parts

Mask = NDArray[np.bool_]


def mask_of(*rows: str) -> Mask:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def rasterised(rings: list[Ring], size_hw: tuple[int, int]) -> Mask:
    """Fill each ring as COCO's tools do, and unite them."""
    polygons = [ring.reshape(-1).tolist() for ring in rings]
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, *size_hw))
    with warnings.catch_warnings():
        # pycocotools 2.0.11 does not know the `copy` of NumPy 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(coco_mask.decode(merged).astype(bool))


def signed_area(ring: Ring) -> float:
    """By the shoelace formula; above zero for clockwise on the screen."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


masks = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)), fill=st.nothing()).filter(
    lambda mask: bool(mask.any())
)


@pytest.mark.parametrize(
    ("mask", "parts"),
    [
        pytest.param(mask_of("#"), [(1, [])], id="one pixel"),
        pytest.param(mask_of("####"), [(4, [])], id="a row"),
        pytest.param(mask_of("#.", ".#"), [(1, []), (1, [])], id="falling diagonal"),
        pytest.param(mask_of(".#", "#."), [(1, []), (1, [])], id="rising diagonal"),
        pytest.param(mask_of("#.#"), [(1, []), (1, [])], id="two parts"),
        pytest.param(mask_of("###", "#.#", "###"), [(9, [1])], id="a hole"),
        pytest.param(
            mask_of("####", "#.##", "##.#", "####"), [(16, [2])], id="a hole through a corner"
        ),
        pytest.param(
            mask_of("#####", "#...#", "#.#.#", "#...#", "#####"),
            [(25, [9]), (1, [])],
            id="a part in a hole",
        ),
        pytest.param(mask_of("#.###", "..#.#", "..###"), [(1, []), (9, [1])], id="whose the hole"),
        pytest.param(np.zeros((3, 2), bool), [], id="nothing"),
    ],
)
def test_parts_and_their_holes(mask: Mask, parts: list[tuple[int, list[int]]]) -> None:
    found = trace_parts(mask)
    # Outlines turn one way and those of holes the other.
    assert [
        (signed_area(part.outer), [-signed_area(hole) for hole in part.holes]) for part in found
    ] == parts


@given(mask=masks, corner_xy=st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_polygons_give_back_every_pixel(mask: Mask, corner_xy: tuple[int, int]) -> None:
    height, width = mask.shape
    frame = np.zeros((height + corner_xy[1] + 2, width + corner_xy[0] + 3), bool)
    frame[corner_xy[1] :, corner_xy[0] :][:height, :width] = mask
    parts = trace_parts(mask, corner_xy)
    assert (rasterised([joined_ring([part]) for part in parts], frame.shape) == frame).all()
    assert (rasterised([joined_ring(parts)], frame.shape) == frame).all()


@given(mask=masks)
def test_areas_and_corners(mask: Mask) -> None:
    parts = trace_parts(mask)
    rings = [ring for part in parts for ring in (part.outer, *part.holes)]
    assert sum(map(signed_area, rings)) == mask.sum()
    assert signed_area(joined_ring(parts)) == mask.sum()
    for ring in rings:
        steps = np.roll(ring, -1, axis=0) - ring
        # Every corner turns: edges go along and across by turns, none is empty.
        assert ((steps == 0).sum(axis=1) == 1).all()
        assert ((steps[:, 0] == 0) != (np.roll(steps[:, 0], 1) == 0)).all()


def test_parts_come_in_the_order_of_their_first_corner() -> None:
    found = trace_parts(mask_of("..#", "#..", "..#"))
    assert [part.outer[0].tolist() for part in found] == [[2, 0], [0, 1], [2, 2]]


def test_a_single_ring_stays_as_it_is() -> None:
    part = trace_parts(mask_of("##"))[0]
    assert joined_ring([part]) is part.outer


def test_others_are_hung_onto_the_longest() -> None:
    long = np.array([[0, 0], [9, 0], [9, 3], [0, 3]])
    near = np.array([[11, 4], [12, 4], [12, 5], [11, 5]])
    ring = joined_ring([Part(near), Part(np.insert(long, 1, [5, 0], axis=0))])
    assert ring.tolist() == [
        [0, 0], [5, 0], [9, 0], [9, 3],
        [11, 4], [12, 4], [12, 5], [11, 5], [11, 4],
        [9, 3], [0, 3],
    ]  # fmt: skip
