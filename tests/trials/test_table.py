"""Tables of results made by hand, to the letter."""

from __future__ import annotations

import json
import math

import pytest

from dpmo_cli.evaluation.ranking import Ranking
from dpmo_cli.evaluation.summary import FIGURE_NAMES, Figure, Figures, Summary, VersionSummary
from dpmo_cli.trials.calibration import Check
from dpmo_cli.trials.run import Result
from dpmo_cli.trials.table import (
    as_json,
    calibration_lines,
    report,
    rows_by_distance,
    rows_by_sets,
)
from dpmo_cli.trials.variants import (
    ALTERNATIVES,
    CUT,
    HEADS,
    OF_EXTENT,
    STEPS,
    TRIVIAL,
    UNCUT,
    PointMasks,
    Variant,
)

NONE = Figure(math.nan)


def never(scene: object) -> PointMasks:
    raise AssertionError("a table runs nothing")


def version(iou: Figure, pq: Figure) -> VersionSummary:
    figures = dict.fromkeys(FIGURE_NAMES, NONE) | {"iou_per_point": iou, "pq": pq}
    return VersionSummary(Figures(**figures), (), ())


def summary(
    iou: Figure, pq: Figure = NONE, uncut: Figure = NONE, points: int = 3, uncut_pq: Figure = NONE
) -> Summary:
    counts = dict.fromkeys(
        (
            "points_off_truth",
            "points_outside",
            "points_without_mask",
            "instances",
            "instances_without_point",
            "detections",
            "samples",
            "seed",
        ),
        0,
    )
    return Summary(
        images=1,
        points=points,
        points_with_truth=points,
        inside_disc=NONE,
        cut=version(iou, pq),
        uncut=version(uncut, uncut_pq),
        **counts,
    )


def result(
    group: str,
    name: str,
    truth_set: str,
    whole: Summary,
    truth: str = CUT,
    by_distance: tuple[Summary | None, ...] = (None,) * 5,
) -> Result:
    return Result(Variant(group, name, never, truth), truth_set, whole, list(by_distance), 0.25)


def test_rows_by_sets() -> None:
    results = [
        result(TRIVIAL, "disc", "nuclei", summary(Figure(0.5, 0.4, 0.7))),
        result(TRIVIAL, "disc", "composed", summary(Figure(0.25))),
        result(TRIVIAL, "slic", "composed", summary(Figure(1.0, 1.0, 1.0))),
        result(ALTERNATIVES, "other", "groups", summary(Figure(0.1))),
    ]
    lines = rows_by_sets(results, TRIVIAL, lambda one: one.summary.cut.figures.iou_per_point)
    assert lines == [
        "| baselines | nuclei | composed |",
        "| --- | ---: | ---: |",
        "| disc | 0.500 ± 0.150 | 0.250 |",
        "| slic |  | 1.000 ± 0.000 |",
    ]


def test_rows_by_distance() -> None:
    near = summary(Figure(0.25), Figure(0.125), points=7)
    nearer = summary(Figure(0.5), Figure(0.0625), points=7)
    far, further = summary(Figure(0.9), Figure(0.8)), summary(Figure(0.9), Figure(0.9))
    first = result(STEPS, "a", "s", near, by_distance=(near, None, None, None, far))
    last = result(STEPS, "b", "s", nearer, by_distance=(nearer, None, None, None, further))
    assert rows_by_distance(first, last) == [
        "| distance | points | IoU, a | IoU, b | gain | PQ, a | PQ, b | gain |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 0 - 8 | 7 | 0.250 | 0.500 | +0.250 | 0.125 | 0.062 | -0.062 |",
        "| 64 px and more | 3 | 0.900 | 0.900 | +0.000 | 0.800 | 0.900 | +0.100 |",
    ]


def test_a_report() -> None:
    cut, whole = Figure(0.5), Figure(0.75)
    first = summary(cut, Figure(0.125), whole)
    last = summary(Figure(0.625), Figure(0.25), whole)
    results = [
        result(OF_EXTENT, "nnec", "s", summary(cut, uncut=whole), CUT),
        result(OF_EXTENT, "visible", "s", summary(cut, uncut=whole), UNCUT),
        result(OF_EXTENT, "head", "s", summary(cut, uncut=whole), HEADS),
        result(STEPS, "sam", "s", first, by_distance=(None, first, None, None, None)),
        result(STEPS, "between", "s", first, by_distance=(None, first, None, None, None)),
        result(STEPS, "method", "s", last, by_distance=(None, last, None, None, None)),
    ]
    assert list(report(results)) == [
        "\nsteps: IoU per point ± half of its 95 % interval",
        "| steps | s |",
        "| --- | ---: |",
        "| sam | 0.500 |",
        "| between | 0.500 |",
        "| method | 0.625 |",
        "\nsteps: PQ",
        "| steps | s |",
        "| --- | ---: |",
        "| sam | 0.125 |",
        "| between | 0.125 |",
        "| method | 0.250 |",
        "\ns: by the distance to the nearest neighbour, px",
        "| distance | points | IoU, sam | IoU, method | gain | PQ, sam | PQ, method | gain |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 8 - 16 | 3 | 0.500 | 0.625 | +0.125 | 0.125 | 0.250 | +0.125 |",
        "\nextents: IoU per point ± half of its 95 % interval",
        "| extents | s |",
        "| --- | ---: |",
        "| nnec | 0.500 |",
        "| visible | 0.750 |",
        "| head | 0.750 |",
    ]


def test_no_results() -> None:
    assert list(report([])) == []
    assert as_json([]) == []
    assert len(list(calibration_lines([]))) == 2


@pytest.mark.parametrize(
    ("raw", "calibrated", "cells"),
    [
        pytest.param(
            Ranking(40, 8, 2, 0.5, 2.5), Ranking(40, 8, 3, 0.75, 3.75), "8 | 50 % | 75 % | 3.8"
        ),
        pytest.param(
            Ranking(40, 0, 0, math.nan, math.nan),
            Ranking(40, 0, 0, math.nan, math.nan),
            "0 | - | - | -",
            id="nothing bad",
        ),
    ],
)
def test_calibration_lines(raw: Ranking, calibrated: Ranking, cells: str) -> None:
    check = Check("head", "pennfudan", 0.7, 0.6625, raw, calibrated)
    assert list(calibration_lines([check])) == [
        "| extent | truth set | points | mean IoU | mean score | IoU below 0.5 | found, raw score "
        "| found, calibrated | times a random order |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| head | pennfudan | 40 | 0.700 | 0.662 | {cells} |",
    ]


def test_as_json() -> None:
    whole, part = summary(Figure(0.5, 0.4, 0.7)), summary(Figure(0.25))
    one = result(STEPS, "a", "s", whole, by_distance=(None, part, None, None, None))
    (found,) = as_json([one])
    assert found == {
        "group": "steps",
        "variant": "a",
        "truth_set": "s",
        "seconds_per_point": 0.25,
        "summary": whole.as_json(),
        "by_distance": [None, part.as_json(), None, None, None],
    }
    assert "NaN" not in json.dumps(found, allow_nan=False)
