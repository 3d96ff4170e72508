"""What a score is made of, by hand, and which scores of an image it replaces."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from dpmo_cli.geometry.extents import EXTENTS, HEAD, NNEC, VISIBLE
from dpmo_cli.masks import reasons
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.score import FEATURES, features
from dpmo_cli.masks.settle import SegmentedImage
from dpmo_cli.sam.calibration import Calibration
from dpmo_cli.sam.engine import Encoded
from tests.masks.fakes import DiscEngine, FakeEngine, NoiseEngine, NothingEngine
from tests.masks.promises import Points, segment


def one(
    predicted: float = 0.5,
    stability: float = 0.5,
    area: float = math.pi,
    claimed: float | None = None,
    radius: float = 1.0,
) -> list[float]:
    """The features of one mask; by default all of them are zero."""
    (found,) = features(
        np.array([predicted], dtype=np.float32),
        np.array([stability], dtype=np.float32),
        np.array([area]),
        np.array([area if claimed is None else claimed]),
        np.array([radius]),
    ).tolist()
    assert len(found) == len(FEATURES)
    return found


LOG_99 = math.log(99)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        pytest.param({}, [0, 0, 0, 0], id="all in the middle"),
        pytest.param({"predicted": 0.75}, [math.log(3), 0, 0, 0], id="predicted IoU"),
        pytest.param({"stability": 0.2}, [0, -math.log(4), 0, 0], id="stability"),
        pytest.param({"predicted": 1.0}, [LOG_99, 0, 0, 0], id="certain"),
        pytest.param({"predicted": 0.0, "stability": 1.0}, [-LOG_99, LOG_99, 0, 0], id="certainly"),
        pytest.param({"area": 4 * math.pi}, [0, 0, 2, 0], id="four discs"),
        pytest.param({"area": math.pi, "radius": 4.0}, [0, 0, -4, 0], id="a 16th of its disc"),
        pytest.param({"area": 1e6}, [0, 0, 4, 0], id="at most 16 discs"),
        pytest.param({"area": 1.0, "radius": 1e4}, [0, 0, -8, 0], id="at least a 256th"),
        pytest.param({"claimed": 4 * math.pi}, [0, 0, 0, -2], id="a quarter kept"),
        pytest.param({"claimed": 1e9}, [0, 0, 0, -8], id="next to nothing kept"),
    ],
)
def test_features_by_hand(given_: dict[str, float], expected: list[float]) -> None:
    # Networks answer in float32.
    assert one(**given_) == pytest.approx(expected, abs=1e-6)


@given(
    st.floats(0, 1, width=32),
    st.floats(0, 1, width=32),
    st.integers(1, 10**8),
    st.integers(0, 10**8),
    st.floats(0.1, 1e5),
)
def test_features_are_within_their_limits(
    predicted: float, stability: float, area: int, lost: int, radius: float
) -> None:
    first, second, third, fourth = one(predicted, stability, area, area + lost, radius)
    assert max(abs(first), abs(second)) <= LOG_99 + 1e-9
    assert -8 <= third <= 4
    assert -8 <= fourth <= 0


def test_no_masks() -> None:
    none = np.zeros(0, dtype=np.float32)
    assert features(none, none, *[np.zeros(0)] * 3).shape == (0, 4)


# In an image

CURVES = {NNEC: (-0.5, 0.3, 0.2, 0.1, 0.4), HEAD: (1.0,) * 5, VISIBLE: (0.0,) * 5}
CALIBRATION = Calibration("", FEATURES, CURVES)
# The last is outside.
POINTS = [(20.0, 20.0), (28.0, 20.0), (45.0, 40.0), (10.0, 50.0), (-5.0, 9.0)]


class PartlyEngine(DiscEngine):
    """Finds nothing at the left."""

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        found = super().candidates(encoded, cell_xy)
        return found if cell_xy[0] > 15 else np.full_like(found, -0.5)


def segmented(
    engine: FakeEngine,
    calibration: Calibration | None,
    points: Points = POINTS,
    extent: str = NNEC,
) -> SegmentedImage:
    engine.calibration = calibration
    return segment((64, 64), points, engine, Method(tiles=False, extent=extent))


@pytest.mark.parametrize("extent", EXTENTS)
@pytest.mark.parametrize("engine", [PartlyEngine, NoiseEngine])
def test_masks_get_the_iou_to_expect(engine: type[FakeEngine], extent: str) -> None:
    raw = segmented(engine(), None, extent=extent)
    found = segmented(engine(), CALIBRATION, extent=extent)
    assert found.masks == raw.masks
    np.testing.assert_array_equal(found.evidence, raw.evidence)
    masked = np.array([mask is not None for mask in found.masks])
    assert masked.any()
    if engine is PartlyEngine:
        assert (found.prompted & ~masked).sum() == 1
    expected = CALIBRATION.expected_iou(found.evidence[masked], extent)
    np.testing.assert_allclose(found.scores.score[masked], expected, rtol=1e-6)
    # Elsewhere the score is that of the choice, or NaN where nobody was asked.
    np.testing.assert_array_equal(found.scores.score[~masked], raw.scores.score[~masked])
    assert (found.scores.score[masked] != raw.scores.score[masked]).all()
    for name in ("predicted_iou", "stability", "retained"):
        np.testing.assert_array_equal(getattr(found.scores, name), getattr(raw.scores, name))


def test_the_evidence_by_hand() -> None:
    found = segmented(DiscEngine(), None)
    claims = segment((64, 64), POINTS, DiscEngine(), Method(tiles=False, ownership=None))
    lost = 0
    for site, mask in enumerate(found.masks):
        row = found.evidence[site]
        assert np.isnan(row).all() == np.isnan(row).any() == (mask is None)
        if mask is None:
            continue
        radius = float(found.radii_px[site])
        expected = [
            math.log(p / (1 - p))
            for p in np.clip(
                [found.scores.predicted_iou[site], found.scores.stability[site]], 0.01, 0.99
            ).tolist()
        ]
        expected.append(math.log2(mask.area_px / (math.pi * radius**2)))
        claim = claims.masks[site]
        assert claim is not None
        expected.append(math.log2(mask.area_px / claim.area_px))
        assert row.tolist() == pytest.approx(expected, abs=1e-6)
        lost += mask.area_px < claim.area_px
    assert lost > 0


class FaintEngine(FakeEngine):
    """Finds everything, and is hardly sure of it."""

    def candidates(self, encoded: Encoded, cell_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full((3, self.cells, self.cells), 0.01)


def test_a_faint_mask_that_lost_a_pixel() -> None:
    """Each claims five pixels; four count a tenth, the own one, which nobody doubts, counts one."""
    found = segment((1, 9), [(1.0, 0.0), (7.0, 0.0)], FaintEngine(), Method(tiles=False))
    assert [mask and mask.area_px for mask in found.masks] == [5, 4]
    kept = found.evidence[:, FEATURES.index("part kept")]
    assert kept.tolist() == pytest.approx([0, math.log2(1.3 / 1.4)], abs=1e-5)


def test_nothing_was_found() -> None:
    found = segmented(NothingEngine(), CALIBRATION)
    assert np.isnan(found.evidence).all()
    assert found.evidence.shape == (5, len(FEATURES))
    none = segmented(DiscEngine(), CALIBRATION, points=[])
    assert none.evidence.shape == (0, len(FEATURES))


def test_an_extent_without_a_curve_keeps_its_score() -> None:
    some = Calibration("", FEATURES, {NNEC: CURVES[NNEC]})
    raw, found = (segmented(DiscEngine(), one, extent=VISIBLE) for one in (None, some))
    np.testing.assert_array_equal(found.scores.score, raw.scores.score)


@pytest.mark.parametrize(("intercept", "low"), [(5.0, False), (-5.0, True)])
def test_a_review_goes_by_the_calibrated_score(intercept: float, low: bool) -> None:
    sure = Calibration("", FEATURES, {NNEC: (intercept, 0, 0, 0, 0)})
    found = segmented(DiscEngine(), sure)
    for mask, why in zip(found.masks, found.reasons, strict=True):
        assert (reasons.LOW_SCORE in why) == (low and mask is not None)
