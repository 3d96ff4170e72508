"""Masks against head boxes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from dpmo_cli.evaluation.boxes import box_windows, find_boxes, measure_boxes, summarise_boxes
from dpmo_cli.geometry.points import FloatArray
from tests.evaluation.crowds import box, ellipse, rle_of

SIZE = (40, 60)
NAN = math.nan


@pytest.mark.parametrize(
    ("box_xyxy", "window"),
    [
        ((2, 3, 7, 8), [2, 3, 8, 9]),
        ((1.5, 2.5, 7.5, 8.5), [2, 3, 8, 9]),
        ((-5, -5, 2, 2.9), [0, 0, 3, 3]),
        ((50, 30, 99, 99), [50, 30, 60, 40]),
        ((2.1, 3, 2.9, 8), [0, 0, 0, 0]),
        ((70, 3, 80, 8), [0, 0, 0, 0]),
        ((7, 8, 2, 3), [0, 0, 0, 0]),
        ((NAN, NAN, NAN, NAN), [0, 0, 0, 0]),
        ((2, 3, math.inf, 8), [2, 3, 60, 9]),
    ],
)
def test_pixels_of_a_box(box_xyxy: tuple[float, ...], window: list[int]) -> None:
    assert box_windows(np.array([box_xyxy], np.float64), SIZE).tolist() == [window]


def boxes(*rows: tuple[float, ...]) -> FloatArray:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def test_by_hand() -> None:
    head = (10.0, 10.0, 19.0, 19.0)
    predicted = [
        rle_of(box(SIZE, 10, 10, 20, 20)),
        rle_of(box(SIZE, 10, 10, 20, 15)),
        rle_of(box(SIZE, 10, 5, 20, 15)),
        rle_of(box(SIZE, 40, 5, 50, 15)),
        None,
        rle_of(box(SIZE, 10, 10, 20, 20)),
        rle_of(ellipse(SIZE, (14.5, 14.5), (5, 5))),
    ]
    of_points = [head] * 5 + [(NAN,) * 4, head]
    found = measure_boxes("a", SIZE, predicted, boxes(*of_points))
    assert (found.points, found.points_without_box, found.points_without_mask) == (7, 1, 1)
    round_part = ellipse(SIZE, (14.5, 14.5), (5, 5)).sum() / 100
    assert found.containment.tolist() == [1, 1, 0.5, 0, 0, 1]
    assert found.fit.tolist() == pytest.approx([1, 0.5, 1 / 3, 0, 0, 1])
    assert found.cover.tolist() == pytest.approx([1, 0.5, 0.5, 0, 0, round_part])
    assert found.box_area_px.tolist() == [100] * 6


def test_the_smallest_box_at_a_point() -> None:
    rows = boxes((0, 0, 30, 30), (5, 5, 12, 12), (6, 6, 13, 13), (NAN,) * 4)
    points = np.array([[8.0, 8.0], [20, 20], [50, 9], [-3, 2], [NAN, 2], [5.4, 6.0], [12.6, 9]])
    found = find_boxes(points, SIZE, rows)
    expected = [rows[1], rows[0], rows[3], rows[3], rows[3], rows[1], rows[2]]
    np.testing.assert_array_equal(found, np.array(expected))
    assert np.isnan(find_boxes(points, SIZE, boxes())).all()


def test_summary() -> None:
    rng = np.random.default_rng(0)
    measures = []
    for name in "abcdef":
        corners = rng.uniform(0, 25, (5, 2))
        rows = np.concatenate([corners, corners + rng.uniform(3, 30, (5, 2))], axis=1)
        masks = [rle_of(ellipse(SIZE, (x + 5, y + 5), (4, 5))) for x, y in corners.tolist()]
        measures.append(measure_boxes(name, SIZE, [None, *masks[1:]], rows))
    found, again = (summarise_boxes(measures, 100, 1) for _ in range(2))
    assert found.as_json() == again.as_json()
    assert (found.images, found.points, found.points_with_box) == (6, 30, 30)
    assert found.points_without_mask == 6
    assert sum(one.points for one in found.by_area) == 30
    for name in ("containment", "fit", "cover"):
        figure = getattr(found.figures, name)
        values = np.concatenate([getattr(one, name) for one in measures])
        assert figure.value == pytest.approx(values.mean())
        assert figure.low < figure.value < figure.high
        total = sum(one.points * getattr(one, name) for one in found.by_area if one.points)
        assert total == pytest.approx(values.sum())
    assert json.dumps(found.as_json(), allow_nan=False)
    assert math.isnan(summarise_boxes([]).figures.fit.value)
