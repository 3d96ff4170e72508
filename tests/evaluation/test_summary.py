"""Figures of many images: COCO's own evaluation, figures by hand, intervals."""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
import warnings
from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dpmo_cli.evaluation.bootstrap import draw_weights, interval, pooled_precision
from dpmo_cli.evaluation.instances import ImageMasks
from dpmo_cli.evaluation.measures import ImageMeasures, measure
from dpmo_cli.evaluation.summary import FIGURE_NAMES, Summary, compare, summarise
from tests.evaluation.crowds import box, grid_image, image_of, random_image

SIZE = (40, 60)


def by_coco(images: Sequence[ImageMasks]) -> tuple[float, float]:
    """AP at 0.5 and AP of pycocotools, without its limit of 100 detections."""
    truth, detections = [], []
    for image_id, image in enumerate(images, start=1):
        for rle in image.truth:
            truth.append(_annotation(image_id, rle, len(truth) + 1))
        for rle, score in zip(image.predicted, image.scores.tolist(), strict=True):
            if rle is not None:
                detections.append(_annotation(image_id, rle, len(detections) + 1, score))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gt, dt = COCO(), COCO()
        listed = [
            {"id": number, "height": image.size_hw[0], "width": image.size_hw[1]}
            for number, image in enumerate(images, start=1)
        ]
        for api, annotations in ((gt, truth), (dt, detections)):
            api.dataset = {
                "images": listed,
                "annotations": annotations,
                "categories": [{"id": 1, "name": "person"}],
            }
            api.createIndex()
        evaluation = COCOeval(gt, dt, "segm")
        evaluation.params.maxDets = [1, 10, 10**6]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    return float(precision[0].mean()), float(precision.mean())


def _annotation(image_id: int, rle: object, number: int, score: float = 1.0) -> dict[str, object]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "segmentation": rle,
        "area": int(coco_mask.area(rle)),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "score": score,
    }


@pytest.mark.parametrize("ties", [False, True], ids=["distinct scores", "equal scores"])
@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_cocos(seed: int, ties: bool) -> None:
    """To 1e-9, equal scores included: both take them in the order of images and points."""
    images = [random_image(seed * 10 + index, ties=ties) for index in range(6)]
    figures = summarise([measure(image) for image in images], samples=0).uncut.figures
    assert (figures.ap50.value, figures.ap.value) == pytest.approx(by_coco(images), abs=1e-9)


def test_more_than_a_hundred_detections() -> None:
    image = grid_image(17, 9)
    assert by_coco([image]) == pytest.approx((1.0, 1.0), abs=1e-9)


def test_two_thousand_in_one_image() -> None:
    found = summarise([measure(grid_image())])
    for name in FIGURE_NAMES:
        expected = 0.0 if name == "area_bias" else 1.0
        assert getattr(found.uncut.figures, name).value == pytest.approx(expected, abs=1e-9)
    assert found.instances == found.detections == found.points_with_truth == 2000


@pytest.fixture(scope="module")
def crowd() -> list[ImageMeasures]:
    return [measure(random_image(seed)) for seed in range(100, 112)]


def test_figures_by_hand() -> None:
    # Found with 0.8, found with 0.4 (below 0.5), missed, and one prediction beside all truth.
    truth = [box(SIZE, 0, 0, 10, 10), box(SIZE, 20, 0, 30, 10), box(SIZE, 40, 0, 50, 10)]
    predicted = [box(SIZE, 0, 0, 8, 10), box(SIZE, 20, 0, 24, 10), None, box(SIZE, 0, 30, 5, 35)]
    points = [(5.0, 5.0), (25.0, 5.0), (45.0, 5.0), (2.0, 32.0)]
    found = summarise([measure(image_of(list(predicted), truth, points))], samples=10)
    figures = {name: getattr(found.uncut.figures, name).value for name in FIGURE_NAMES}
    assert figures == pytest.approx(
        {
            "iou_per_point": 1.2 / 3,
            "boundary_f": figures["boundary_f"],
            "area_bias": 120 / 300 - 1,
            "mean_iou_c": 1.2 / 3,
            "pq": 0.8 / (1 + 1 + 1),
            "sq": 0.8,
            "rq": 1 / 3,
            "precision": 1 / 3,
            "recall": 1 / 3,
            "ap50": 34 / 101,
            "ap": 34 * 7 / 1010,
        }
    )
    assert (found.points, found.points_with_truth, found.points_without_mask) == (4, 3, 1)
    assert [one.points for one in found.uncut.by_distance] == [0, 0, 3, 0, 0]
    assert [one.points for one in found.uncut.by_area] == [0, 3, 0, 0, 0]
    assert found.uncut.by_distance[2].iou == pytest.approx(0.4)
    # One image says nothing of the spread between images.
    assert math.isnan(found.uncut.figures.pq.low)
    assert found.samples == 0


def test_nothing_at_all() -> None:
    for measures in ([], [measure(image_of([], [], [], size_hw=SIZE)) for _ in range(3)]):
        found = summarise(measures, samples=20)
        assert all(math.isnan(getattr(found.cut.figures, name).value) for name in FIGURE_NAMES)
        assert "NaN" not in json.dumps(found.as_json(), allow_nan=False)


def test_misses_and_inventions() -> None:
    person = box(SIZE, 5, 5, 15, 15)
    empty = measure(image_of([None], [person], [(9, 9)]))
    invented = measure(image_of([person], [], [(9, 9)], size_hw=SIZE))
    figures = summarise([empty], 0).uncut.figures
    assert (figures.recall.value, figures.pq.value, figures.ap.value) == (0, 0, 0)
    assert math.isnan(figures.precision.value)
    figures = summarise([invented], 0).uncut.figures
    assert (figures.precision.value, figures.pq.value) == (0, 0)
    assert math.isnan(figures.ap.value)


def test_the_same_seed_gives_the_same(crowd: list[ImageMeasures]) -> None:
    one, again, other = (summarise(crowd, 200, seed) for seed in (3, 3, 4))
    assert one.as_json() == again.as_json() == pickle.loads(pickle.dumps(one)).as_json()
    assert one.uncut.figures.pq.value == other.uncut.figures.pq.value
    assert one.uncut.figures.pq.low != other.uncut.figures.pq.low
    for version in (one.cut, one.uncut):
        for name in FIGURE_NAMES:
            figure = getattr(version.figures, name)
            assert figure.low <= figure.value <= figure.high
            assert figure.low < figure.high
    assert one.inside_disc.low < one.inside_disc.value < one.inside_disc.high


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_weights_are_repetitions(crowd: list[ImageMeasures], counts: list[int]) -> None:
    """An image of weight 2 counts as two images would."""
    average = pooled_precision(
        [one.scores for one in crowd],
        [one.uncut.hits for one in crowd],
        np.array([one.instances for one in crowd]),
    )
    found = average(np.array([counts], dtype=np.float64))[0]
    many = [one for one, count in zip(crowd, counts, strict=True) for _ in range(count)]
    again = summarise(many, 0).uncut.figures
    if not many:
        assert np.isnan(found).all()
    else:
        assert (found[0], found.mean()) == pytest.approx((again.ap50.value, again.ap.value))


def test_intervals_are_those_of_resampled_images(crowd: list[ImageMeasures]) -> None:
    weights = draw_weights(len(crowd), 60, 5)
    assert (weights.sum(axis=1) == len(crowd)).all()
    values = []
    for counts in weights.astype(int):
        many = [one for one, count in zip(crowd, counts, strict=True) for _ in range(count)]
        values.append(summarise(many, 0).cut.figures)
    found = summarise(crowd, 60, 5).cut.figures
    for name in FIGURE_NAMES:
        expected = interval(np.array([getattr(one, name).value for one in values]))
        figure = getattr(found, name)
        assert (figure.low, figure.high) == pytest.approx(expected), name


def test_two_methods_are_paired(crowd: list[ImageMeasures]) -> None:
    same = compare(crowd, crowd, 100).uncut
    for name in FIGURE_NAMES:
        figure = getattr(same, name)
        assert (figure.value, figure.low, figure.high) == (0, 0, 0)
    other = [measure(random_image(seed, ties=True)) for seed in range(100, 112)]
    found = compare(crowd, other, 100, 7).cut.ap
    single = [summarise(some, 0).cut.figures.ap.value for some in (crowd, other)]
    assert found.value == pytest.approx(single[1] - single[0])
    assert found.low <= found.value <= found.high
    with pytest.raises(ValueError, match="same images"):
        compare(crowd, other[::-1])


def test_bins_hold_every_point(crowd: list[ImageMeasures]) -> None:
    found: Summary = summarise(crowd, 0)
    for version in (found.cut, found.uncut):
        for bins in (version.by_distance, version.by_area):
            assert sum(one.points for one in bins) == found.points_with_truth
            total = sum(one.points * one.iou for one in bins if one.points)
            assert total / found.points_with_truth == pytest.approx(
                version.figures.iou_per_point.value
            )


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_no_interval(values: list[float]) -> None:
    assert all(map(math.isnan, interval(np.array(values, dtype=np.float64))))
