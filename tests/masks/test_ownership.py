"""Ownership: each claimed pixel goes to the nearest claimant, in any order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpmo_cli.geometry.components import component_at, components_at
from dpmo_cli.geometry.rle import WindowXYXY
from dpmo_cli.geometry.windows import Windows
from dpmo_cli.masks.method import LOGIT, NEAREST, RATIO
from dpmo_cli.masks.ownership import DISTANCE_PRICE, Owners, costs_of

NOBODY = -1


def owner_of_pixels(owners: Owners, count: int, size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """(H, W) sites, as told site by site; NOBODY where there is none."""
    found = np.full(size_hw, NOBODY)
    whole = Windows(np.array([[0, 0, size_hw[1], size_hw[0]]]))
    for site in range(count):
        (owned,) = owners.owned(np.array([site]), whole)
        assert (found[owned] == NOBODY).all()
        found[owned] = site
    return found


@dataclass(frozen=True)
class Case:
    """Sites with their claims; `claims` are masks of the whole image."""

    sites_xy: NDArray[np.float64]
    claims: list[NDArray[np.bool_] | None]
    windows: list[WindowXYXY]
    holders: NDArray[np.int64]
    size_hw: tuple[int, int]

    def owner(self) -> NDArray[np.int64]:
        """The owners of all pixels, NOBODY where there is none."""
        pixels = np.rint(self.sites_xy).astype(np.int64)
        owners = Owners(self.size_hw, self.holders, pixels[self.holders])
        for index, (claim, box) in enumerate(zip(self.claims, self.windows, strict=True)):
            if claim is None or box[0] == box[2] or box[1] == box[3]:
                continue
            x0, y0, x1, y1 = box
            windows = Windows(np.array([box]))
            squares = windows.squared_distances(self.sites_xy[[index]])
            owners.claim(
                np.array([index]), claim[None, y0:y1, x0:x1], squares.astype(np.float32), windows
            )
        return owner_of_pixels(owners, len(self.sites_xy), self.size_hw)

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
    assert (owner == case.expected()).all()


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_the_order_does_not_matter(case: Case, chance: object) -> None:
    order = list(range(len(case.sites_xy)))
    chance.shuffle(order)
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
    owners = Owners((2, 3), np.zeros(0, np.int64), np.zeros((0, 2), np.int64))
    assert (owner_of_pixels(owners, 1, (2, 3)) == NOBODY).all()


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


@pytest.mark.parametrize("pixels", [[(0, 0), (4, 1), (2, 2), (2, 0)]])
def test_components_of_several_masks(pixels: list[tuple[int, int]]) -> None:
    masks = np.stack([MASK] * len(pixels))
    found = components_at(masks, np.array(pixels))
    for component, pixel in zip(found, pixels, strict=True):
        alone = component_at(MASK, pixel)
        assert (component == (np.zeros_like(MASK) if alone is None else alone)).all()


ROW = np.array([[1.0, 0.0], [7.0, 0.0]])


def two_claims(
    rule: str, radii: tuple[float, float] = (6.0, 6.0), logits: tuple[float, float] = (0.0, 0.0)
) -> list[int]:
    """Owners of a row of nine pixels that the sites at 1 and 7 both claim."""
    windows = Windows(np.array([[0, 0, 9, 1]] * 2))
    values = np.broadcast_to(np.array(logits, np.float32)[:, None, None], (2, 1, 9))
    costs = costs_of(rule, windows.squared_distances(ROW), np.array(radii), values)
    pixels = ROW.astype(np.int64)
    owners = Owners((1, 9), np.arange(2), pixels)
    owners.claim(np.arange(2), np.ones((2, 1, 9), np.bool_), costs, windows)
    return owner_of_pixels(owners, 2, (1, 9))[0].tolist()


def test_the_least_share_of_the_radius() -> None:
    # Radii 2 and 4: the border lies at a third of the way, where 2 / 2 equals 4 / 4.
    assert two_claims(RATIO, radii=(2.0, 4.0)) == [0] * 4 + [1] * 5


def test_the_highest_logit_less_the_distance() -> None:
    assert two_claims(LOGIT) == two_claims(NEAREST) == [0] * 5 + [1] * 4
    # A step of one pixel costs a sixth of the price; the second is surer by two and a half steps.
    assert two_claims(LOGIT, logits=(0.0, 2.5 * DISTANCE_PRICE / 6)) == [0] * 3 + [1] * 6


def test_claims_lie_where_their_windows_do() -> None:
    """Windows of two sizes, side by side: what pads the smaller one claims nothing."""
    windows = Windows(np.array([[0, 2, 5, 3], [3, 1, 8, 3]]))
    logits = np.zeros((2, 2, 5), np.float32)
    logits[1, 1, :2] = 9, -9
    masks = np.ones((2, 2, 5), np.bool_)
    sites = np.array([[0.0, 2.0], [7.0, 2.0]])
    radii = np.array([7.0, 7.0])
    squares = windows.squared_distances(sites)
    owners = Owners((4, 8), np.arange(2), sites.astype(np.int64))
    owners.claim(np.arange(2), masks, costs_of(LOGIT, squares, radii, logits), windows)
    found = owner_of_pixels(owners, 2, (4, 8))
    assert found.tolist() == [
        [-1] * 8,
        [-1, -1, -1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 0, 1, 1, 1],
        [-1] * 8,
    ]
    # Of what they won, owners know their logits again; what is held is beyond doubt.
    (_, told), (_, owned) = (
        owners.logits(windows, squares, radii),
        owners.owned(np.arange(2), windows),
    )
    assert owned[1].tolist() == [True, False, True, True, True]
    assert told[1][owned[1]].tolist() == pytest.approx([9, 0, 0, np.inf], abs=1e-6)


def test_order_of_ties() -> None:
    """The first site gets what costs the same, though it claims last."""
    windows = Windows(np.array([[0, 0, 2, 1]]))
    owners = Owners((1, 2), np.zeros(0, np.int64), np.zeros((0, 2), np.int64))
    for site in (4, 2, 3):
        owners.claim(
            np.array([site]), np.ones((1, 1, 2), np.bool_), np.ones((1, 1, 2), np.float32), windows
        )
    assert owner_of_pixels(owners, 5, (1, 2)).tolist() == [[2, 2]]
