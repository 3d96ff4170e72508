"""Measures of one image, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dpmo_cli.evaluation.instances import find_truths
from dpmo_cli.evaluation.measures import measure
from dpmo_cli.geometry.nnec import disc_mask, disc_radii, neighbour_distances
from dpmo_cli.geometry.points import group_points
from tests.evaluation.crowds import box, grid_image, image_of, random_image, rle_of
from tests.outputs.samples import pixels_of

SIZE = (40, 60)


def test_truth_against_itself() -> None:
    found = measure(grid_image())
    assert (found.points, found.instances, found.detections) == (2000, 2000, 2000)
    for version in (found.uncut, found.cut):
        assert version.matches == 2000
    assert found.uncut.iou.tolist() == found.uncut.boundary_f.tolist() == [1.0] * 2000
    assert found.uncut.assigned_iou == found.uncut.matched_iou == 2000
    assert found.uncut.hits.all()
    np.testing.assert_array_equal(found.predicted_area_px, found.uncut.true_area_px)
    assert (found.inside_disc > 0.95).all()


def test_points_are_accounted_for() -> None:
    person, other = box(SIZE, 5, 5, 15, 15), box(SIZE, 30, 5, 40, 15)
    points = [(10.0, 10.0), (10.2, 9.9), (35, 8), (50, 30), (-4, 3), (np.nan, 3), (34, 12)]
    image = image_of([person, person, None, person, None, None, other], [person, other], points)
    found = measure(image)
    assert found.points == 7
    assert (found.points_outside, found.points_off_truth) == (2, 1)
    # The two that share a pixel count twice per point, but are one detection.
    assert found.uncut.iou.tolist() == [1, 1, 0, 1]
    assert found.detections == 3
    assert (found.points_without_mask, found.instances_without_point) == (1, 0)
    assert found.predicted_area_px.tolist() == [100, 100, 0, 100]
    # A site's distance counts points outside, and not those of its own pixel.
    assert found.nearest_px.tolist() == pytest.approx([245**0.5] * 2 + [17**0.5] * 2)


def test_a_shared_point_takes_the_mask_of_its_site() -> None:
    person = box(SIZE, 5, 5, 15, 15)
    image = image_of([None, person], [person], [(10, 10), (10.1, 10)], [0.3, 0.8])
    found = measure(image)
    assert (found.uncut.iou.tolist(), found.scores.tolist()) == ([1.0, 1.0], [0.8])


def test_discs_cut_the_truth() -> None:
    # Two people, 20 px apart: the disc of each reaches to the other's point.
    truth = [box(SIZE, 0, 0, 16, 40), box(SIZE, 25, 0, 45, 40)]
    points = [(10.0, 10.0), (30.0, 10.0)]
    image = image_of([truth[0], None], truth, points)
    found = measure(image)
    frame_xyxy = (0, 0, 60, 40)
    cut = [
        mask & disc_mask(np.array(at), 20.0, frame_xyxy)
        for mask, at in zip(truth, points, strict=True)
    ]
    assert found.uncut.true_area_px.tolist() == [640, 800]
    assert found.cut.true_area_px.tolist() == [mask.sum() for mask in cut]
    assert found.inside_disc.tolist() == [cut[0].sum() / 640, cut[1].sum() / 800]
    assert found.uncut.iou.tolist() == [1, 0]
    assert found.cut.iou.tolist() == [cut[0].sum() / 640, 0]
    assert found.cut.assigned_iou == cut[0].sum() / 640
    # The masks cut in the same way are all there is to find.
    exact = measure(replace(image, predicted=[rle_of(mask) for mask in cut]))
    assert exact.cut.iou.tolist() == exact.cut.boundary_f.tolist() == [1, 1]
    assert exact.cut.hits.all()
    assert exact.uncut.iou[0] < 1


def test_discs_are_those_of_scale_one_from_all_points() -> None:
    image = random_image(4)
    found = measure(image)
    sites = group_points(image.points_xy, image.size_hw)
    nearest_px = neighbour_distances(sites)
    radii_px = disc_radii(nearest_px, image.size_hw, 1.0)
    height, width = image.size_hw
    of_points = []
    for point in np.flatnonzero(image.true_of_point >= 0):
        site = sites.site_of_point[point]
        disc = disc_mask(sites.xy[site], float(radii_px[site]), (0, 0, width, height))
        truth = pixels_of({"rle": image.truth[image.true_of_point[point]]})
        of_points.append((truth & disc).sum())
    assert found.cut.true_area_px.tolist() == of_points


def test_the_own_point_is_the_one_whose_disc_holds_most() -> None:
    person = box(SIZE, 0, 0, 30, 30)
    for points in ([(2.0, 2.0), (20.0, 15.0)], [(20.0, 15.0), (2.0, 2.0)]):
        image = image_of([None, None], [person], points)
        found = measure(image)
        central = points.index((20.0, 15.0))
        largest = found.cut.true_area_px[central]
        assert largest == found.cut.true_area_px.max()
        # Half the shorter side, less than the distance.
        cut = person & disc_mask(np.array([20.0, 15.0]), 20.0, (0, 0, 60, 40))
        predicted = [rle_of(cut) if index == central else None for index in range(2)]
        assert measure(replace(image, predicted=predicted)).cut.assigned_iou == 1


def test_instances_without_a_point_stay_whole() -> None:
    truth = [box(SIZE, 0, 0, 10, 10), box(SIZE, 20, 0, 60, 40)]
    found = measure(image_of([truth[1]], truth, [(5, 5)]))
    assert found.instances_without_point == 1
    # Its mask is whole beside a point whose own truth it does not touch.
    assert found.cut.assigned_iou == found.uncut.assigned_iou == 1
    assert found.uncut.iou.tolist() == [0]


def test_a_point_may_mean_another_instance_than_the_one_below_it() -> None:
    truth = [box(SIZE, 0, 0, 10, 10), box(SIZE, 20, 0, 30, 10)]
    image = image_of([truth[1]], truth, [(5.0, 5.0)])
    found = measure(replace(image, true_of_point=np.array([1])))
    assert found.uncut.iou.tolist() == [1]


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_order_of_the_points_does_not_matter(order: int) -> None:
    image = random_image(6)
    turn = np.random.default_rng(order).permutation(len(image.points_xy))
    turned = replace(
        image,
        points_xy=image.points_xy[turn],
        predicted=[image.predicted[index] for index in turn],
        scores=image.scores[turn],
        true_of_point=image.true_of_point[turn],
    )
    one, other = measure(image), measure(turned)
    with_truth = image.true_of_point[turn] >= 0
    rank = np.cumsum(image.true_of_point >= 0) - 1
    for version in ("cut", "uncut"):
        here, there = getattr(one, version), getattr(other, version)
        np.testing.assert_array_equal(here.iou[rank[turn[with_truth]]], there.iou)
        assert here.assigned_iou == pytest.approx(there.assigned_iou)
        assert here.matches == there.matches
        assert here.hits.sum() == there.hits.sum()


def test_an_image_of_nothing() -> None:
    found = measure(image_of([], [], [], size_hw=SIZE))
    assert (found.points, found.instances, found.detections) == (0, 0, 0)
    assert found.uncut.hits.shape == (10, 0)


def test_unknown_scores_are_the_worst() -> None:
    person = box(SIZE, 5, 5, 15, 15)
    found = measure(image_of([person, person], [person], [(9, 9), (30, 9)], [np.nan, 0.1]))
    assert found.scores.tolist() == [-np.inf, 0.1]
    assert found.uncut.hits[0].tolist() == [False, True]


@pytest.mark.parametrize("what", ["scores", "true_of_point", "truth", "size_hw"])
def test_what_does_not_fit(what: str) -> None:
    person = box(SIZE, 5, 5, 15, 15)
    image = image_of([person], [person], [(9, 9)])
    changed = {
        "scores": np.zeros(2),
        "true_of_point": np.zeros(3, np.int64),
        "truth": [],
        "size_hw": (60, 40),
    }
    with pytest.raises(ValueError, match=r"^a: "):
        measure(replace(image, **{what: changed[what]}))


def test_the_truth_of_points_is_found_once() -> None:
    image = random_image(2)
    again = find_truths(image.points_xy, image.size_hw, image.truth)
    np.testing.assert_array_equal(again, image.true_of_point)
