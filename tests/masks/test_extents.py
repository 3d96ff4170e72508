"""Extents and neighbours in prompts: what the network is asked, and what bounds a mask."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dpmo_cli.geometry.extents import EXTENTS, HEAD, NNEC, VISIBLE
from dpmo_cli.masks import reasons
from dpmo_cli.masks.choice import choose
from dpmo_cli.masks.method import NEGATIVES, Method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.sam.decoder import CANDIDATES
from dpmo_cli.sam.engine import Answer, Encoded, SamEngine
from dpmo_cli.sam.models import load_engine, resolve_engine
from tests.masks.fakes import DiscEngine, as_tensor
from tests.masks.promises import check, decoded, noise, segment


class Listening(DiscEngine):
    """Notes every prompt whole, and the extent that was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[tuple[NDArray[np.float64], NDArray[np.int64], str | None]] = []

    def prompt(
        self,
        encoded: Encoded,
        points_xy: NDArray[np.float64],
        labels: NDArray[np.int64],
        extent: str | None = None,
        squares: NDArray[np.float64] | None = None,
    ) -> Iterator[Answer]:
        self.prompts.append((points_xy, labels, extent))
        return super().prompt(encoded, points_xy, labels, extent, squares)


@pytest.fixture(scope="module")
def nano() -> SamEngine:
    return load_engine(resolve_engine("nano", device="cpu"))


def test_neighbours_are_named_nearest_first() -> None:
    engine = Listening()
    points = [(10.0, 30.0), (14.0, 30.0), (25.0, 30.0), (50.0, 30.0)]
    segment((60, 60), points, engine, Method(tiles=False, negatives=2))
    ((asked, labels, extent),) = engine.prompts
    assert extent == NNEC
    assert asked[:, :, 0].tolist() == [[10, 14, 25], [14, 10, 25], [25, 14, 10], [50, 25, 14]]
    assert labels.tolist() == [[1, 0, 0]] * 4


def test_hints_are_further_points_of_the_person() -> None:
    engine = Listening()
    points = np.array([(10.0, 30.0), (40.0, 30.0)])
    hints = np.array([[(12.0, 33.0)], [(np.nan, np.nan)]])
    method = Method(tiles=False, negatives=1)
    segment_image(noise(60, 60), points, engine, method, hints_xy=hints)
    ((asked, labels, _),) = engine.prompts
    assert asked[0].tolist() == [[10, 30], [12, 33], [40, 30]]
    assert labels.tolist() == [[1, 1, 0], [1, -1, 0]]


@pytest.mark.parametrize(
    ("points", "named"),
    [
        pytest.param([(10, 10)], 0, id="nobody there"),
        pytest.param([(10, 10), (20, 20)], 1, id="fewer than wanted"),
        pytest.param([(10, 10), (10.2, 10.1), (20, 20)], 1, id="one site is named once"),
        pytest.param([(10, 10), (-5, 10)], 1, id="outside the image"),
    ],
)
def test_how_many_neighbours(points: list[tuple[float, float]], named: int) -> None:
    engine = Listening()
    segment((40, 40), points, engine, Method(tiles=False, negatives=3))
    assert {labels.shape[1] for _, labels, _ in engine.prompts} == {1 + named}


def test_a_neighbour_too_far_to_compute_with_is_not_named(nano: SamEngine) -> None:
    engine = Listening()
    points = [(10.0, 10.0), (1e300, 5.0)]
    segment((40, 40), points, engine, Method(negatives=1))
    ((asked, labels, _),) = engine.prompts
    assert np.isfinite(asked).all()
    assert labels.tolist() == [[1, -1]]
    found = segment((40, 40), points, nano, Method(negatives=1))
    assert np.isfinite(found.scores.score[found.prompted]).all()


def test_masks_do_not_depend_on_the_order_of_points(nano: SamEngine) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 90, (25, 2))
    method = Method(negatives=NEGATIVES["nano"])
    one = segment((90, 90), points, nano, method)
    other = segment((90, 90), points[rng.permutation(25)], nano, method)
    assert one.masks == other.masks


@pytest.mark.parametrize("extent", EXTENTS)
def test_nano_answers_with_the_mask_of_the_extent(nano: SamEngine, extent: str) -> None:
    (encoded,) = nano.encode([noise(80, 90)])
    points = np.array([[[30.0, 30.0]], [[50.0, 60.0]]])
    labels = np.ones((2, 1), dtype=np.int64)
    (all_three,) = nano.prompt(encoded, points, labels)
    (one,) = nano.prompt(encoded, points, labels, extent)
    assert all_three.logits.shape[1] == len(CANDIDATES)
    which = EXTENTS.index(extent)
    torch.testing.assert_close(one.logits, all_three.logits[:, which : which + 1])
    torch.testing.assert_close(one.predicted_ious, all_three.predicted_ious[:, which : which + 1])


def test_networks_without_extents_offer_all_candidates(nano: SamEngine) -> None:
    plain = SamEngine(nano.model)
    (encoded,) = plain.encode([noise(40, 40)])
    (reply,) = plain.prompt(encoded, np.array([[[9.0, 9.0]]]), np.array([[1]]), HEAD)
    assert reply.logits.shape[1] == len(CANDIDATES)


def test_the_whole_person_may_leave_the_disc() -> None:
    class Large(DiscEngine):
        radii_cells = (14.0, 14.0, 14.0)

    points = [(32.0, 30.0), (38.0, 30.0)]
    cut = segment((64, 64), points, Large(), Method(tiles=False))
    whole = segment((64, 64), points, Large(), Method(tiles=False, extent=VISIBLE))
    check(cut, (64, 64))
    check(whole, (64, 64), in_disc=False)
    for small, large in zip(cut.masks, whole.masks, strict=True):
        assert small is not None
        assert large is not None
        assert not (decoded(small) & ~decoded(large)).any()
        assert large.area_px > 2 * small.area_px
    # The disc bounds the one and says nothing of the other.
    assert all(reasons.LEAKS in found for found in cut.reasons)
    assert not any(reasons.LEAKS in found for found in whole.reasons)


def test_a_head_has_the_size_of_one() -> None:
    """Among masks of equal estimates the one nearest to a fifth of the disc."""
    y, x = np.mgrid[:64, :64]
    away = np.hypot(x - 30, y - 30)
    logits = as_tensor(*(away < radius for radius in (3, 9, 19)))
    arguments = (logits, torch.full((1, 3), 0.8), np.array([[30.0, 30.0]]), np.array([20.0]))
    for extent, radius in ((HEAD, 9), (NNEC, 3)):
        choice = choose(*arguments, extent)
        assert ((choice.logits[0] > 0) == (away < radius)).all()
