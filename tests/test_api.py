"""The Python interface: one image and its points in, one mask or its reason out for each."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

import dpmo_cli
from dpmo_cli import api
from dpmo_cli.api import PointMask, masks_from_points
from dpmo_cli.errors import DpmoError, UsageError
from tests.masks.fakes import DiscEngine

POINTS = [(20.0, 20.0), (40.0, 22.0), (20.4, 20.3), (-5.0, 8.0), (np.nan, 3.0), (70.0, 50.0)]
STATUSES = ["ok", "ok", "shared", "outside", "invalid", "ok"]


def photo(height: int = 64, width: int = 80) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def discs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that finds a disc at every point."""
    monkeypatch.setattr(api, "_engine", lambda *_: DiscEngine())


def test_is_offered_by_the_package() -> None:
    assert dpmo_cli.masks_from_points is masks_from_points
    assert dpmo_cli.PointMask is PointMask
    assert {"masks_from_points", "PointMask"} <= set(dpmo_cli.__all__)
    with pytest.raises(AttributeError, match="no attribute 'mask_from_point'"):
        dpmo_cli.mask_from_point  # noqa: B018


def test_the_example_of_its_documentation() -> None:
    tests = doctest.DocTestFinder().find(masks_from_points, "masks_from_points")
    examples = [example for test in tests for example in test.examples]
    assert examples
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.summarize().failed == 0


@pytest.mark.usefixtures("discs")
def test_one_answer_for_each_point() -> None:
    found = masks_from_points(photo(), POINTS)
    assert [one.status for one in found] == STATUSES
    for one, (x, y) in zip(found, POINTS, strict=True):
        if one.status in ("ok", "shared"):
            mask = one.mask()
            assert (mask.shape, mask.dtype) == ((64, 80), np.dtype(np.bool_))
            assert mask[round(y), round(x)]
            assert one.radius_px is not None
            assert one.score is not None
            assert 0 <= one.score <= 1
            ys, xs = np.nonzero(mask)
            assert (np.hypot(xs - x, ys - y) <= one.radius_px + 1).all()
            assert one.bbox_xywh == (
                xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1
            )  # fmt: skip
        else:
            assert (one.score, one.bbox_xywh, one.rle) == (None, None, None)
            assert one.reasons
            with pytest.raises(ValueError, match=f"the point has no mask: {one.status}"):
                one.mask()
    assert found[0].rle == found[2].rle
    assert found[2].reasons[-1] == "duplicate"
    assert (found[3].reasons, found[4].reasons) == (("outside_image",), ("not_finite",))
    assert found[4].radius_px is None
    whole = sum(found[index].mask().astype(int) for index in (0, 1, 5))
    assert np.max(whole) == 1


@pytest.mark.usefixtures("discs")
def test_points_may_come_in_any_order() -> None:
    found = masks_from_points(photo(), POINTS)
    order = [4, 5, 1, 3, 0, 2]
    again = masks_from_points(photo(), np.array(POINTS)[order])
    assert again == [found[index] for index in order]


@pytest.mark.usefixtures("discs")
@pytest.mark.parametrize("points", [[], (), np.zeros((0, 2))], ids=["list", "tuple", "array"])
def test_no_points(points: ArrayLike) -> None:
    assert masks_from_points(photo(), points) == []


@pytest.mark.usefixtures("discs")
def test_whole_numbers_are_points() -> None:
    assert masks_from_points(photo(), np.array([[20, 20]])) == masks_from_points(
        photo(), [(20.0, 20.0)]
    )


@pytest.mark.usefixtures("discs")
def test_the_scale_bounds_the_discs() -> None:
    radii = [
        [
            one.radius_px
            for one in masks_from_points(photo(), [(20, 20), (32, 20)], nnec_scale=scale)
        ]
        for scale in (0.5, 1.0)
    ]
    assert radii == [[6, 6], [12, 12]]


@pytest.mark.usefixtures("discs")
@pytest.mark.parametrize(
    "image",
    [
        pytest.param(photo().astype(np.float32), id="float"),
        pytest.param(photo().astype(np.uint16), id="16 bits"),
        pytest.param(photo() > 99, id="bool"),
        pytest.param(np.zeros((8, 8, 4), dtype=np.uint8), id="RGBA"),
        pytest.param(np.zeros((8, 8, 1), dtype=np.uint8), id="one channel"),
        pytest.param(np.zeros((2, 8, 8, 3), dtype=np.uint8), id="two images"),
        pytest.param(np.zeros(8, dtype=np.uint8), id="one axis"),
        pytest.param(np.zeros((0, 8, 3), dtype=np.uint8), id="no pixels"),
        pytest.param(np.zeros((0, 8), dtype=np.uint8), id="gray, no pixels"),
    ],
)
def test_images_of_another_kind(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8, not"):
        masks_from_points(image, [(1, 1)])


@pytest.mark.usefixtures("discs")
@pytest.mark.parametrize(
    "points",
    [
        pytest.param([1, 2], id="one point, not in a list"),
        pytest.param([(1, 2, 3)], id="three coordinates"),
        pytest.param([[(1, 2)]], id="nested"),
        pytest.param([[]], id="no coordinates"),
        pytest.param(np.zeros((0, 3)), id="none, of three coordinates"),
        pytest.param([(1, 2), (3,)], id="ragged"),
        pytest.param([("a", "b")], id="letters"),
        pytest.param(7, id="a number"),
    ],
)
def test_points_of_another_kind(points: ArrayLike) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        masks_from_points(photo(), points)


@pytest.mark.usefixtures("discs")
@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_scales_that_are_none(scale: float) -> None:
    with pytest.raises(ValueError, match="nnec_scale must be positive"):
        masks_from_points(photo(), [(1, 1)], nnec_scale=scale)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        pytest.param({"sam": "sam"}, UsageError, "unknown weights", id="sam"),
        pytest.param({"device": "tpu"}, UsageError, "--device tpu", id="device"),
        pytest.param({"dtype": "fp8"}, UsageError, "--dtype fp8", id="dtype"),
        pytest.param({"prompt_batch": 0}, UsageError, "--prompt-batch 0", id="prompt batch"),
        pytest.param({"checkpoint": "no/file"}, DpmoError, "no such file", id="checkpoint"),
    ],
)
def test_what_is_missing_is_said(
    options: dict[str, object], error: type[DpmoError], words: str
) -> None:
    with pytest.raises(error, match=words):
        masks_from_points(photo(), [(1, 1)], **options)


def test_nano_takes_gray_images_and_is_loaded_once() -> None:
    api._engine.cache_clear()
    gray = photo()[..., 0]
    points = [(20, 20), (50, 30), (40, 50)]
    found = masks_from_points(gray, points, device="cpu")
    assert found == masks_from_points(np.stack([gray] * 3, axis=2), points, device="cpu")
    assert api._engine.cache_info().misses == 1
    assert [one.status for one in found if one.status not in ("ok", "empty")] == []


def test_a_checkpoint_by_its_name_or_path(tmp_path: Path) -> None:
    from dpmo_cli.sam.weights import find

    points = [(20, 20), (50, 30)]
    own = tmp_path / "own weights.safetensors"
    own.write_bytes(find("nano").read_bytes())
    expected = masks_from_points(photo(), points, device="cpu")
    assert masks_from_points(photo(), points, checkpoint=own, device="cpu") == expected
    assert masks_from_points(photo(), points, checkpoint=str(own), device="cpu") == expected


@pytest.mark.usefixtures("discs")
@pytest.mark.parametrize(
    "options",
    [
        {"negatives": -1}, {"negatives": 9}, {"negatives": 2.5}, {"negatives": True},
        {"tiles": "off"}, {"prompt_batch": 1.5}, {"extent": "body"},
        {"radii": "mean"}, {"ownership": "none"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_options(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name} must be "):
        masks_from_points(photo(), POINTS, **options)
