"""The method with the embedded network: batches and the order of points change no mask."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dpmo_cli.masks.method import Method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.sam.models import load_engine, resolve_engine
from tests.masks.promises import by_coordinates, check, decoded


@pytest.fixture(scope="module")
def nano() -> SamEngine:
    return load_engine(resolve_engine("nano", device="cpu"))


def people(count: int, size_hw: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Bright discs on a dark ground, and their centres."""
    height, width = size_hw
    rng = np.random.default_rng(count)
    image = np.full((height, width, 3), 60.0)
    points = rng.uniform(0.05, 0.95, (count, 2)) * (width, height)
    rows, columns = np.mgrid[:height, :width]
    for x, y in points:
        image[(columns - x) ** 2 + (rows - y) ** 2 < 25] = rng.uniform(120, 255, 3)
    return np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8), points


def test_nano_with_other_batches(nano: SamEngine) -> None:
    """The same masks and rows, scores equal to 1e-5, whatever the batches."""
    image, points = people(30, (120, 160))
    found = [
        segment_image(image, points, SamEngine(nano.model, prompt_batch=batch), Method())
        for batch in (1, 3, 8)
    ]
    check(found[0], (120, 160))
    assert sum(mask is not None for mask in found[0].masks) >= 15
    for other in found[1:]:
        assert other.reasons == found[0].reasons
        for name in vars(other.scores):
            ours, theirs = getattr(other.scores, name), getattr(found[0].scores, name)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
        flipped = 0
        for mask, same in zip(other.masks, found[0].masks, strict=True):
            assert (mask is None) == (same is None)
            if mask is not None and same is not None:
                flipped += int((decoded(mask) ^ decoded(same)).sum())
        # Below one in a million: none in an image of this size.
        assert flipped == 0


def test_nano_with_shuffled_points(nano: SamEngine) -> None:
    image, points = people(20, (100, 130))
    before = segment_image(image, points, nano, Method())
    after = segment_image(image, points[::-1].copy(), nano, Method())
    assert by_coordinates(before) == by_coordinates(after)
