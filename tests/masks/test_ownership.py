"""Ownership: each claimed pixel goes to the nearest claimant, in any order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpmo_cli.geometry.components import component_at
from dpmo_cli.geometry.rle import WindowXYXY
from dpmo_cli.masks.ownership import (
    DISTANCE_PRICE,
    NOBODY,
    Cost,
    distance_cost,
    logit_cost,
    own_pixels,
)


@dataclass(frozen=True)
class Case:
    """Sites with their claims; `claims` are masks of the whole image."""

    sites_xy: NDArray[np.float64]
    claims: list[NDArray[np.bool_] | None]
    windows: list[WindowXYXY]
    holders: NDArray[np.int64]
    size_hw: tuple[int, int]

    def owner(self) -> NDArray[np.int32]:
        windowed = [
            None if claim is None else claim[y0:y1, x0:x1]
            for claim, (x0, y0, x1, y1) in zip(self.claims, self.windows, strict=True)
        ]
        return own_pixels(
            windowed,
            self.windows,
            distance_cost(self.sites_xy),
            self.holders,
            np.rint(self.sites_xy).astype(np.int64),
            self.size_hw,
        )

    def distances(self) -> NDArray[np.float64]:
        """Squared distance of each pixel to each claimant, infinite for others: (S, H, W)."""
        rows, columns = np.mgrid[: self.size_hw[0], : self.size_hw[1]]
        away = np.full((len(self.sites_xy), *self.size_hw), np.inf)
        for index, claim in enumerate(self.claims):
            if claim is not None:
                x, y = self.sites_xy[index]
                away[index] = np.where(claim, (columns - x) ** 2 + (rows - y) ** 2, np.inf)
        return away

    def expected(self) -> NDArray[np.int64]:
        """Pixel by pixel: the nearest claimant, the first of equals; held pixels are fixed."""
        owner = np.full(self.size_hw, NOBODY)
        away = self.distances()
        for y in range(self.size_hw[0]):
            for x in range(self.size_hw[1]):
                if np.isfinite(away[:, y, x]).any():
                    owner[y, x] = away[:, y, x].argmin()
        for index in self.holders:
            x, y = np.rint(self.sites_xy[index]).astype(int)
            owner[y, x] = index
        return owner

    def reordered(self, order: list[int]) -> Case:
        back = {old: new for new, old in enumerate(order)}
        return Case(
            self.sites_xy[order],
            [self.claims[index] for index in order],
            [self.windows[index] for index in order],
            np.array([back[index] for index in self.holders.tolist()], dtype=np.int64),
            self.size_hw,
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    pixels = draw(
        st.lists(
            st.tuples(st.integers(0, width - 1), st.integers(0, height - 1)),
            unique=True,
            max_size=6,
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = len(pixels)
    sites = np.array(pixels, dtype=np.float64).reshape(-1, 2)
    if draw(st.booleans()):
        sites += rng.uniform(-0.49, 0.49, sites.shape)
    claims: list[NDArray[np.bool_] | None] = []
    windows: list[WindowXYXY] = []
    for _ in range(count):
        x0, x1 = np.sort(rng.integers(0, width + 1, 2)).tolist()
        y0, y1 = np.sort(rng.integers(0, height + 1, 2)).tolist()
        claim = np.zeros((height, width), dtype=np.bool_)
        claim[y0:y1, x0:x1] = rng.random((y1 - y0, x1 - x0)) < 0.7
        windows.append((x0, y0, x1, y1))
        claims.append(None if rng.random() < 0.15 else claim)
    holders = np.flatnonzero(rng.random(count) < 0.8)
    return Case(sites, claims, windows, holders, (height, width))


@given(cases())
@settings(max_examples=150)
def test_equals_the_definition(case: Case) -> None:
    owner = case.owner()
    assert owner.dtype == np.int32
    assert (owner == case.expected()).all()


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_the_order_does_not_matter(case: Case, chance: object) -> None:
    order = list(range(len(case.sites_xy)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    before, after = case.owner(), case.reordered(order).owner()
    translated = np.where(after == NOBODY, NOBODY, np.array([*order, NOBODY])[after])
    # Equal distances go to the first; a run has its sites in the order of their coordinates.
    away = np.sort(case.distances(), axis=0)
    tied = np.zeros(case.size_hw, dtype=np.bool_)
    if len(away) > 1:
        tied = np.isfinite(away[0]) & (away[0] == away[1])
    assert (before == translated)[~tied].all()


def everything(size_hw: tuple[int, int], *sites_xy: tuple[float, float]) -> Case:
    """All sites claim the whole image and hold their pixels."""
    height, width = size_hw
    return Case(
        np.array(sites_xy, dtype=np.float64),
        [np.ones(size_hw, dtype=np.bool_) for _ in sites_xy],
        [(0, 0, width, height)] * len(sites_xy),
        np.arange(len(sites_xy)),
        size_hw,
    )


def test_equal_distances_go_to_the_first() -> None:
    assert everything((1, 5), (0, 0), (4, 0)).owner().tolist() == [[0, 0, 0, 1, 1]]


# The second site holds pixel 2, though the first lies nearer to that pixel's centre.
OFF_CENTRE = everything((1, 4), (1.49, 0.0), (2.45, 0.45))


def test_a_site_keeps_its_pixel_from_a_nearer_one() -> None:
    assert OFF_CENTRE.owner().tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("holders", "expected"),
    [
        pytest.param([0, 1], [[0, 0, 1, 0]], id="it holds its pixel"),
        pytest.param([0], [[0, 0, 0, 0]], id="it holds nothing"),
    ],
)
def test_a_site_that_claims_nothing(holders: list[int], expected: list[list[int]]) -> None:
    claims = [OFF_CENTRE.claims[0], None]
    assert replace(OFF_CENTRE, claims=claims, holders=np.array(holders)).owner().tolist() == (
        expected
    )


def test_no_sites() -> None:
    owner = own_pixels(
        [],
        [],
        distance_cost(np.zeros((0, 2))),
        np.zeros(0, np.int64),
        np.zeros((0, 2), np.int64),
        (2, 3),
    )
    assert owner.tolist() == [[NOBODY] * 3] * 2


MASK = np.array(
    [
        [1, 1, 0, 0, 1],
        [0, 1, 0, 1, 1],
        [0, 0, 1, 0, 0],
    ],
    dtype=np.bool_,
)


@pytest.mark.parametrize(
    ("pixel", "expected"),
    [
        pytest.param((0, 0), [(0, 0), (0, 1), (1, 1)], id="left part"),
        pytest.param((4, 1), [(0, 4), (1, 3), (1, 4)], id="right part"),
        pytest.param((2, 2), [(2, 2)], id="corners do not connect"),
        pytest.param((2, 0), None, id="not in the mask"),
    ],
)
def test_component(pixel: tuple[int, int], expected: list[tuple[int, int]] | None) -> None:
    found = component_at(MASK, pixel)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert [tuple(place) for place in np.argwhere(found).tolist()] == expected


@pytest.mark.parametrize("mask", [np.ones((3, 4), dtype=np.bool_), MASK[:, :2]])
def test_a_mask_in_one_piece_is_its_component(mask: NDArray[np.bool_]) -> None:
    found = component_at(mask, (1, 0))
    assert found is not None
    assert (found == mask).all()


def two_claims(cost: Cost) -> list[int]:
    """Owners of a row of nine pixels that the sites at 1 and 7 both claim."""
    claim = np.ones((1, 9), dtype=np.bool_)
    windows: list[WindowXYXY] = [(0, 0, 9, 1)] * 2
    pixels = np.array([[1, 0], [7, 0]])
    owner = own_pixels([claim, claim], windows, cost, np.arange(2), pixels, (1, 9))
    return owner[0].tolist()


ROW = np.array([[1.0, 0.0], [7.0, 0.0]])


def test_the_least_share_of_the_radius() -> None:
    # Radii 2 and 4: the border lies at a third of the way, where 2 / 2 equals 4 / 4.
    assert two_claims(distance_cost(ROW, np.array([2.0, 4.0]))) == [0] * 4 + [1] * 5


def test_the_highest_logit_less_the_distance() -> None:
    flat = np.zeros((1, 9), dtype=np.float32)
    windows: list[WindowXYXY] = [(0, 0, 9, 1)] * 2
    radii = np.array([6.0, 6.0])
    even = two_claims(logit_cost([flat, flat], windows, ROW, radii))
    assert even == two_claims(distance_cost(ROW)) == [0] * 5 + [1] * 4
    # A step of one pixel costs a sixth of the price; the second is surer by two and a half steps.
    surer = flat + np.float32(2.5 * DISTANCE_PRICE / 6)
    assert two_claims(logit_cost([flat, surer], windows, ROW, radii)) == [0] * 3 + [1] * 6


def test_a_window_of_logits_lies_where_its_claim_does() -> None:
    claims = [np.ones((1, 5), dtype=np.bool_), np.ones((1, 5), dtype=np.bool_)]
    windows: list[WindowXYXY] = [(0, 2, 5, 3), (3, 2, 8, 3)]
    logits = [np.zeros((1, 5), np.float32), np.array([[9, -9, 0, 0, 0]], np.float32)]
    sites = np.array([[0.0, 2.0], [7.0, 2.0]])
    cost = logit_cost(logits, windows, sites, np.array([7.0, 7.0]))
    owner = own_pixels(claims, windows, cost, np.arange(2), sites.astype(np.int64), (4, 8))
    assert owner[2].tolist() == [0, 0, 0, 1, 0, 1, 1, 1]
