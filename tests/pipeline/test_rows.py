"""The rows that account for every point: one each, in order, with the right status."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dpmo_cli.datasets.base import Heads
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.outputs.schema import RECORD_SCHEMA, annotation_id
from dpmo_cli.pipeline.rows import failed_rows, hidden_points, segmented_rows
from tests.conftest import FakeEngine
from tests.outputs.samples import Row, pixels_of

NAN, INF = float("nan"), float("inf")
IMAGE_ID = 7


def _heads(points: list[tuple[float, float]], **known: Any) -> Heads:
    return Heads(np.array(points, dtype=np.float64).reshape(-1, 2), **known)


def _rows(heads: Heads, method: Method | None = None) -> list[Row]:
    gray = np.full((48, 64, 3), 128, dtype=np.uint8)
    segmented = segment_image(
        gray, heads.points_xy, FakeEngine(), method or Method(), hidden=hidden_points(heads)
    )
    table = segmented_rows("a.jpg", IMAGE_ID, heads, segmented)
    assert table.schema.equals(RECORD_SCHEMA)
    rows: list[Row] = table.to_pylist()
    assert [row["point_id"] for row in rows] == list(range(len(heads)))
    kept_xy = np.array([[row["x"], row["y"]] for row in rows]).reshape(-1, 2)
    np.testing.assert_array_equal(kept_xy, heads.points_xy)
    assert {row["image"] for row in rows} <= {"a.jpg"}
    assert {row["image_id"] for row in rows} <= {IMAGE_ID}
    return rows


@pytest.mark.parametrize(
    ("points", "known", "statuses", "own_reasons"),
    [
        pytest.param([], {}, [], [], id="no points"),
        pytest.param([(10, 10)], {}, ["ok"], [{"lone_point"}], id="one point"),
        pytest.param(
            [(10, 10), (40, 30)], {}, ["ok", "ok"], [{"radius_clamped"}] * 2, id="two points"
        ),
        pytest.param(
            [(10.2, 10), (9.8, 10.3), (40, 30)],
            {},
            ["shared", "ok", "ok"],
            [{"duplicate"}, set(), set()],
            id="one pixel: the first by coordinates owns the mask",
        ),
        pytest.param(
            [(10, 10)] * 3,
            {},
            ["ok", "shared", "shared"],
            [set(), {"duplicate"}, {"duplicate"}],
            id="equal points: the first owns the mask",
        ),
        pytest.param(
            [(-1, 5), (64, 5), (5, 48), (10, 10)],
            {},
            ["outside", "outside", "outside", "ok"],
            [{"outside_image"}, {"outside_image"}, {"outside_image"}, set()],
            id="outside",
        ),
        pytest.param(
            [(NAN, 5), (5, INF), (-INF, NAN), (10, 10)],
            {},
            ["invalid", "invalid", "invalid", "ok"],
            [{"not_finite"}, {"not_finite"}, {"not_finite"}, {"lone_point"}],
            id="not finite",
        ),
        pytest.param(
            [(10, 10), (40, 30), (50, 5)],
            {"occlusion": np.array([1, 3, 2], np.int8)},
            ["ok", "occluded", "ok"],
            [set(), {"fully_occluded"}, set()],
            id="occluded",
        ),
        pytest.param(
            [(10, 10), (10.1, 10), (10.2, 10), (40, 30)],
            {"occlusion": np.array([3, 1, 1, 1], np.int8)},
            ["occluded", "ok", "shared", "ok"],
            [{"fully_occluded"}, set(), {"duplicate"}, set()],
            id="an occluded point owns no mask of a visible one",
        ),
    ],
)
def test_statuses(
    points: list[tuple[float, float]],
    known: dict[str, Any],
    statuses: list[str],
    own_reasons: list[set[str]],
) -> None:
    rows = _rows(_heads(points, **known))
    assert [row["status"] for row in rows] == statuses
    for row, expected in zip(rows, own_reasons, strict=True):
        assert expected <= set(row["reasons"])
        assert row["flagged"] == bool(row["reasons"])
        has_mask = row["status"] in ("ok", "shared")
        for name in ("annotation_id", "bbox", "area", "rle", "score"):
            assert (row[name] is not None) == has_mask, name


def test_points_of_one_site_share_the_mask_of_its_owner() -> None:
    rows = _rows(_heads([(10.2, 10), (40, 30), (9.8, 10.3)]))
    assert [row["annotation_id"] for row in rows] == [
        annotation_id(IMAGE_ID, 2),
        annotation_id(IMAGE_ID, 1),
        annotation_id(IMAGE_ID, 2),
    ]
    shared = {name: rows[0][name] for name in ("bbox", "area", "rle", "score", "radius_px")}
    assert shared == {name: rows[2][name] for name in shared}
    assert pixels_of(rows[0])[10, 10]


def test_the_first_seen_point_in_the_order_of_coordinates_owns_the_mask() -> None:
    """The one further left, in whichever order the annotation names the two."""
    hidden, right, left = (9.8, 10.0), (10.3, 10.0), (10.1, 10.0)
    for points, owner in (([hidden, right, left], 2), ([left, hidden, right], 0)):
        occlusion = np.array([3 if point == hidden else 1 for point in points], np.int8)
        rows = _rows(_heads(points, occlusion=occlusion))
        assert rows[points.index(hidden)]["status"] == "occluded"
        assert rows[points.index(left)]["status"] == "ok"
        assert rows[points.index(right)]["annotation_id"] == annotation_id(IMAGE_ID, owner)


def test_ids_of_masks_do_not_depend_on_other_points() -> None:
    assert annotation_id(3, 14) == 3_000_014
    rows = _rows(_heads([(10, 10), (NAN, 0), (40, 30)]))
    assert rows[2]["annotation_id"] == annotation_id(IMAGE_ID, 2)


def test_a_mask_that_neighbours_own_is_empty_but_keeps_its_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "dpmo_cli.masks.ownership.Owners.owned",
        lambda self, sites, windows: np.zeros_like(windows.inside),
    )
    (row,) = _rows(_heads([(10, 10)]))
    assert row["status"] == "empty"
    assert "no_pixels" in row["reasons"]
    assert row["score"] is None
    assert all(row[name] is not None for name in ("predicted_iou", "stability", "radius_px"))


def test_what_the_dataset_knows_is_kept() -> None:
    heads = _heads(
        [(10, 10), (40, 30)],
        boxes_xyxy=np.array([[8.0, 8, 12, 12], [38, 28, 42, 32]]),
        occlusion=np.array([1, 2], np.int8),
        blurred=np.array([False, True]),
        external_ids=("p1", "p2"),
    )
    for rows in (_rows(heads), failed_rows("a.jpg", IMAGE_ID, heads).to_pylist()):
        assert [row["head_box_xyxy"] for row in rows] == [[8, 8, 12, 12], [38, 28, 42, 32]]
        assert [row["occlusion"] for row in rows] == [1, 2]
        assert [row["blurred"] for row in rows] == [False, True]
        assert [row["external_id"] for row in rows] == ["p1", "p2"]
    unknown = _rows(_heads([(10, 10)]))[0]
    for name in ("head_box_xyxy", "occlusion", "blurred", "external_id"):
        assert unknown[name] is None


def test_rows_of_an_image_that_cant_be_read() -> None:
    rows = failed_rows("a.jpg", IMAGE_ID, _heads([(1, 2), (NAN, 4)])).to_pylist()
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert [row["reasons"] for row in rows] == [["unreadable_image"]] * 2
    assert all(row["annotation_id"] is None and row["flagged"] for row in rows)
    assert failed_rows("a.jpg", IMAGE_ID, _heads([])).num_rows == 0


@pytest.mark.parametrize(
    ("occlusion", "hidden"), [(None, None), ([1, 2, 3], [False, False, True]), ([], [])]
)
def test_hidden_points(occlusion: list[int] | None, hidden: list[bool] | None) -> None:
    known = {} if occlusion is None else {"occlusion": np.array(occlusion, np.int8)}
    found = hidden_points(_heads([(0, 0)] * len(occlusion or []), **known))
    assert (None if found is None else found.tolist()) == hidden


@pytest.mark.parametrize(
    ("method", "box", "disagrees"),
    [
        pytest.param(Method(), (6, 6, 14, 14), False, id="round the point"),
        pytest.param(Method(), (30, 20, 38, 28), True, id="elsewhere"),
        pytest.param(Method(), (0, 0, 19, 19), True, id="much larger than the mask"),
        pytest.param(Method(), (10, 10, 11, 11), False, id="smaller than the mask"),
        pytest.param(Method(extent="head"), (10, 10, 11, 11), True, id="a head leaves it"),
        pytest.param(Method(extent="head"), (80, 80, 90, 90), False, id="outside says nothing"),
        pytest.param(Method(extent="head"), (0, 0, 63, 47), True, id="a head in a huge box"),
        pytest.param(
            Method(nnec_scale=0.3, extent="head"),
            (0, 0, 63, 47),
            False,
            id="no more than the disc can be filled",
        ),
    ],
)
def test_boxes_are_a_check(method: Method, box: tuple[int, int, int, int], disagrees: bool) -> None:
    # The engine draws 25 pixels round a point, or for heads 109; the discs have radius 14.
    points = [(10.0, 10.0), (24.0, 10.0)]
    boxes = np.array([box, (20, 6, 28, 14)], dtype=np.float64)
    first, second = _rows(_heads(points, boxes_xyxy=boxes), method)
    assert first["status"] == "ok"
    assert ("box_disagrees" in first["reasons"]) == disagrees
    assert "box_disagrees" not in second["reasons"]


@pytest.mark.parametrize(
    ("points", "rejected", "statuses"),
    [
        pytest.param([(10, 10), (40, 30)], [0, 0], ["ok", "ok"], id="nobody"),
        pytest.param([(10, 10), (40, 30)], [1, 0], ["rejected", "ok"], id="the first"),
        pytest.param([(10, 10), (40, 30)], [1, 1], ["rejected"] * 2, id="all"),
        pytest.param(
            [(40, 30), (10, 10), (40, 30)],
            [0, 1, 0],
            ["ok", "rejected", "shared"],
            id="before one that shares",
        ),
        pytest.param(
            [(-1, 5), (NAN, 5), (30, 20), (10, 10), (10, 10)],
            [0, 0, 1, 0, 0],
            ["outside", "invalid", "rejected", "ok", "shared"],
            id="amid all others",
        ),
    ],
)
def test_rejected_points(
    points: list[tuple[float, float]], rejected: list[int], statuses: list[str]
) -> None:
    """They are not segmented; the others have the rows that they would have alone."""
    heads = _heads(
        points,
        rejected=np.array(rejected, dtype=np.bool_),
        locator_scores=np.linspace(0.1, 0.9, len(points)),
    )
    assert heads.rejected is not None
    kept = ~heads.rejected
    gray = np.full((48, 64, 3), 128, dtype=np.uint8)
    segmented = segment_image(gray, heads.points_xy[kept], FakeEngine(), Method())
    rows: list[Row] = segmented_rows("a.jpg", IMAGE_ID, heads, segmented).to_pylist()
    assert [row["status"] for row in rows] == statuses
    assert [row["point_id"] for row in rows] == list(range(len(points)))
    np.testing.assert_allclose([row["locator_score"] for row in rows], heads.locator_scores)
    for row, gone in zip(rows, rejected, strict=True):
        if gone:
            assert row["reasons"] == ["rejected"]
            assert row["annotation_id"] is row["radius_px"] is row["rle"] is row["score"] is None
    others = _rows(_heads([point for point, one in zip(points, kept, strict=True) if one]))
    for row, other in zip((rows[i] for i in np.flatnonzero(kept)), others, strict=True):
        same = ("x", "y", "status", "reasons", "radius_px", "rle", "score", "area")
        assert str([row[name] for name in same]) == str([other[name] for name in same])
    owners = {row["annotation_id"] for row in rows if row["status"] in ("ok", "shared")}
    assert owners == {
        annotation_id(IMAGE_ID, row["point_id"]) for row in rows if row["status"] == "ok"
    }
