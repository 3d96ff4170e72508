"""Tiles hold few persons, each whole and in one of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpmo_cli.review.exchange.tiling import LEAST_SIDE_PX, cut


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 60), st.integers(0, 9))
def test_each_person_whole_in_one_tile(count: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, (999, 599), (count, 2)).round(seed % 3)
    boxes = np.concatenate([points - rng.uniform(0, 20, (count, 2)), points + 9], axis=1)
    boxes = np.clip(np.floor(boxes), 0, [1000, 600, 1000, 600])
    tiles = cut(points, boxes, (600, 1000), most)
    together = np.concatenate([indices for indices, _ in tiles])
    assert sorted(together.tolist()) == list(range(count))
    for indices, (x0, y0, x1, y1) in tiles:
        assert len(indices) <= most
        assert (np.diff(indices) > 0).all()
        assert (0 <= x0 < x1 <= 1000, 0 <= y0 < y1 <= 600) == (True, True)
        assert min(x1 - x0, y1 - y0) >= LEAST_SIDE_PX - 256 // 2
        inside = boxes[indices]
        assert (inside[:, :2] >= (x0, y0)).all()
        assert (inside[:, 2:] <= (x1, y1)).all()


@pytest.mark.parametrize(("count", "most"), [(5, 0), (5, 5), (0, 3)])
def test_few_persons_are_one_whole_image(count: int, most: int) -> None:
    points = np.arange(2.0 * count).reshape(-1, 2)
    ((indices, window),) = cut(points, np.tile(points, 2), (600, 1000), most)
    assert (len(indices), window) == (count, (0, 0, 1000, 600))


def test_people_on_one_spot_are_divided_too() -> None:
    points = np.full((50, 2), 7.0)
    tiles = cut(points, np.tile(points, 2), (600, 1000), 10)
    assert [len(indices) for indices, _ in tiles] == [6, 6, 6, 7, 6, 6, 6, 7]
