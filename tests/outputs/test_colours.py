from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from dpmo_cli.outputs.colours import REVIEW, colours_of, palette_oklab, to_rgb


@pytest.mark.parametrize(
    ("oklab", "rgb"),
    [
        ((0.0, 0.0, 0.0), (0, 0, 0)),
        ((1.0, 0.0, 0.0), (255, 255, 255)),
        # sRGB red, green and blue in Oklab, as Ottosson's page lists them.
        ((0.62796, 0.22486, 0.12585), (255, 0, 0)),
        ((0.86644, -0.23389, 0.1795), (0, 255, 0)),
        ((0.45201, -0.03246, -0.31153), (0, 0, 255)),
    ],
    ids=["black", "white", "red", "green", "blue"],
)
def test_oklab(oklab: tuple[float, ...], rgb: tuple[int, ...]) -> None:
    assert np.abs(to_rgb(np.array([oklab]))[0].astype(int) - rgb).max() <= 1


def test_no_colour_of_the_palette_looks_like_the_review_flag() -> None:
    difference = to_rgb(palette_oklab()).astype(int) - REVIEW
    assert np.abs(difference).sum(axis=1).min() > 100


@pytest.mark.parametrize("kind", ["random", "grid", "line", "equal"])
def test_neighbours_differ_and_many_colours_are_used(kind: str) -> None:
    points = {
        "random": np.random.default_rng(0).random((500, 2)) * 100,
        "grid": np.stack(np.meshgrid(np.arange(20), np.arange(25)), -1).reshape(-1, 2) * 1.0,
        "line": np.arange(500)[:, None] * [1.0, 0.0],
        "equal": np.ones((500, 2)),
    }[kind]
    colours = colours_of(points).astype(int)
    assert len(np.unique(colours, axis=0)) >= 12
    if kind != "equal":
        near = cKDTree(points).query(points, k=5)[1][:, 1:]
        assert np.abs(colours[near] - colours[:, None]).sum(axis=2).min() >= 50
    assert (colours_of(points) == colours).all()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points(count: int) -> None:
    assert colours_of(np.zeros((count, 2))).shape == (count, 3)
