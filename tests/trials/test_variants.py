"""Variants: one mask or none per point, what each one changes, and points moved and recentred."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from dpmo_cli.evaluation.baselines import BASELINES, slic_superpixel
from dpmo_cli.evaluation.instances import mask_centres
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.geometry.extents import EXTENTS
from dpmo_cli.geometry.nnec import disc_radii, neighbour_distances
from dpmo_cli.geometry.points import group_points
from dpmo_cli.geometry.rle import frame_rle
from dpmo_cli.masks.method import Method
from dpmo_cli.sam.calibration import Calibration
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.trials.variants import (
    ALTERNATIVES,
    CUT,
    GROUPS,
    HEADS,
    NOISES,
    OF_EXTENT,
    STEPS,
    TRIVIAL,
    UNCUT,
    PointMasks,
    Variant,
    moved,
    run_method,
    variants_of,
)
from tests.trials.scenes import (
    SIZE_HW,
    AskedEngine,
    RoughEngine,
    frame,
    small_scene,
    without_truth,
)

NANO = Method(negatives=1)
WHOLE_IMAGE = Method(tiles=False)
MADE_FOR_THE_EXTENT = "+ the output made for the extent"
NEIGHBOURS_NAMED = "+ negatives: the method"


def named(variants: list[Variant], name: str) -> Variant:
    (found,) = [variant for variant in variants if variant.name == name]
    return found


def assert_fits(scene: TruthScene, found: PointMasks) -> None:
    """One mask or none per point, and a score exactly where there is a mask."""
    count = len(scene.points_xy)
    assert len(found.masks) == count
    assert found.scores.shape == (count,)
    missing = [mask is None for mask in found.masks]
    assert np.isnan(found.scores).tolist() == missing
    for mask in found.masks:
        if mask is not None:
            assert tuple(mask["size"]) == scene.labels.shape
            assert frame(mask).any()
    if found.evidence is not None:
        assert np.isnan(found.evidence).all(axis=1).tolist() == missing
        assert np.isfinite(found.evidence[~np.array(missing)]).all()


@pytest.mark.parametrize("group", GROUPS)
def test_every_variant_gives_a_mask_or_none_per_point(nano: SamEngine, group: str) -> None:
    scene = small_scene()
    variants = [one for one in variants_of(nano, NANO) if one.group == group]
    assert variants
    for variant in variants:
        found = variant.attempt(scene)
        assert_fits(scene, found)
        assert any(found.masks), variant.name
        assert len({str(mask) for mask in found.masks}) > 1, variant.name


@pytest.mark.parametrize("group", [STEPS, TRIVIAL, OF_EXTENT])
def test_no_variant_looks_at_the_truth(group: str) -> None:
    scene = small_scene(boxes=((6, 8, 22, 40), (30, 12, 44, 44)))
    for variant in variants_of(RoughEngine(), NANO):
        if variant.group == group:
            seen, blind = variant.attempt(scene), variant.attempt(without_truth(scene))
            assert seen.masks == blind.masks, variant.name


@pytest.mark.parametrize(
    ("extents", "method", "last"),
    [
        pytest.param(EXTENTS, NANO, [MADE_FOR_THE_EXTENT, NEIGHBOURS_NAMED], id="nano"),
        pytest.param(EXTENTS, Method(), [MADE_FOR_THE_EXTENT], id="no neighbours named"),
        pytest.param((), Method(), [], id="any SAM"),
        pytest.param((), NANO, [NEIGHBOURS_NAMED], id="any SAM, neighbours named"),
    ],
)
def test_names_of_the_steps(extents: tuple[str, ...], method: Method, last: list[str]) -> None:
    variants = variants_of(AskedEngine(extents=extents), method)
    steps = [one for one in variants if one.group == STEPS]
    assert [step.name for step in steps] == [
        "SAM's argmax, whole image",
        "+ tiles",
        "+ NNEC",
        "+ choice: stability",
        "+ choice: retained",
        "+ choice: holds its point",
        "+ connected part",
        "+ ownership",
        *last,
    ]


@pytest.mark.parametrize(
    ("extents", "method"),
    [pytest.param(EXTENTS, NANO, id="nano"), pytest.param((), Method(), id="any SAM")],
)
def test_the_steps_lead_to_the_method(
    nano: SamEngine, extents: tuple[str, ...], method: Method
) -> None:
    engine = replace(nano, extents=extents)
    steps = [one for one in variants_of(engine, method) if one.group == STEPS]
    scene = small_scene(1)
    found = [step.attempt(scene) for step in steps]
    for one in found:
        assert_fits(scene, one)
    expected = run_method(engine, method, scene)
    assert found[-1].masks == expected.masks
    np.testing.assert_array_equal(found[-1].scores, expected.scores)
    # A step that changes nothing here can't be told from one that was left out.
    assert found[0].masks != found[2].masks
    assert found[0].masks != found[-1].masks


@pytest.mark.parametrize("seed", range(3))
def test_the_first_step_is_sams_own_argmax(nano: SamEngine, seed: int) -> None:
    scene = small_scene(seed)
    first = variants_of(nano, NANO)[0].attempt(scene)
    plain = replace(nano, extents=())
    (encoded,) = plain.encode([scene.image])
    count = len(scene.points_xy)
    answers = plain.prompt(encoded, scene.points_xy[:, None], np.ones((count, 1), dtype=np.int64))
    chosen: list[torch.Tensor] = []
    for answer in answers:
        rows = torch.arange(len(answer.logits))
        chosen += answer.logits[rows, answer.predicted_ious.argmax(dim=1)]
    logits = plain.model.postprocess_masks(
        torch.stack(chosen)[:, None], encoded.frame.valid_hw, SIZE_HW
    )[:, 0].numpy()
    assert len(logits) == count
    for mask, expected in zip(first.masks, logits, strict=True):
        found = frame(mask) if mask is not None else np.zeros(SIZE_HW, dtype=np.bool_)
        sure = np.abs(expected) > 1e-3
        assert sure.mean() > 0.99
        assert (found == (expected > 0))[sure].all()


def test_names_and_truths() -> None:
    variants = variants_of(AskedEngine(), Method())
    assert list(dict.fromkeys(variant.group for variant in variants)) == list(GROUPS)
    for group in GROUPS:
        names = [variant.name for variant in variants if variant.group == group]
        assert len(names) == len(set(names))
    assert [v.name for v in variants if v.group == TRIVIAL] == list(BASELINES)
    truths = [variant.truth for variant in variants if variant.group == OF_EXTENT]
    assert truths == [CUT, UNCUT, UNCUT, HEADS]
    assert {variant.truth for variant in variants if variant.group != OF_EXTENT} == {CUT}


@pytest.mark.parametrize(
    ("negatives", "others"), [(0, [1, 2, 4]), (1, [0, 2, 4]), (3, [0, 1, 2, 4])]
)
def test_other_numbers_of_neighbours(negatives: int, others: list[int]) -> None:
    variants = variants_of(AskedEngine(), Method(negatives=negatives))
    names = [variant.name for variant in variants if variant.group == ALTERNATIVES]
    assert [name for name in names if "neighbours" in name] == [
        f"{count} neighbours named" for count in others
    ]


def test_the_scores_are_those_of_the_engine(nano: SamEngine) -> None:
    """With a calibration the score is the IoU to expect, and so is a variant's."""
    scene = small_scene(2)
    flat = Calibration("", ("a", "b", "c", "d"), dict.fromkeys(EXTENTS, (0.0,) * 5))
    raw = run_method(nano, NANO, scene)
    found = run_method(replace(nano, calibration=flat), NANO, scene)
    assert found.masks == raw.masks
    masked = ~np.isnan(raw.scores)
    assert found.scores[masked].tolist() == [0.5] * masked.sum()
    assert (raw.scores[masked] != 0.5).any()


# Moved points


def grid_scene(columns: int, rows: int, gap: int) -> TruthScene:
    x, y = np.meshgrid(np.arange(columns) + 5, np.arange(rows) + 5)
    points = gap * np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
    size_hw = (gap * (rows + 10), gap * (columns + 10))
    labels = np.zeros(size_hw, dtype=np.int32)
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    ids = np.arange(1, len(points) + 1, dtype=np.int32)
    return TruthScene("grid", image, labels, ids, points)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("gap", [6, 20])
def test_moved_by_the_noise_in_radii(noise: float, gap: int) -> None:
    scene = grid_scene(40, 40, gap)
    away = moved(scene, noise) - scene.points_xy
    # A radius is the distance to the nearest other point, as the scale is 1.
    assert np.sqrt((away**2).sum(axis=1).mean()) == pytest.approx(noise * gap, rel=0.05)
    assert np.abs(away.mean(axis=0)).max() < 0.1 * noise * gap
    np.testing.assert_array_equal(moved(scene, noise), moved(scene, noise))


@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([0.0, 0.3, 5.0]))
@settings(max_examples=50, deadline=None)
def test_moved_points_stay_inside(seed: int, count: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(4, 40, 2).tolist()
    points = rng.uniform((0, 0), (width - 1, height - 1), (count, 2))
    labels = np.zeros((height, width), dtype=np.int32)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    scene = TruthScene("a", image, labels, np.arange(count, dtype=np.int32), points.copy())
    found = moved(scene, noise)
    assert found.shape == points.shape
    assert ((found >= 0) & (found <= (width - 1, height - 1))).all()
    assert (scene.points_xy == points).all()
    if noise == 0:
        assert (found == points).all()


@given(
    hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
@settings(max_examples=200, deadline=None)
def test_a_centre_is_on_its_mask(
    part: NDArray[np.bool_], origin: tuple[int, int], margin: tuple[int, int]
) -> None:
    part[0, 0] = True
    (x0, y0), (rows, columns) = origin, part.shape
    size_hw = (y0 + rows + margin[0], x0 + columns + margin[1])
    full = np.zeros(size_hw, dtype=np.bool_)
    full[y0 : y0 + rows, x0 : x0 + columns] = part
    points = np.array([[1.5, 2.5], [0.25, 0.75]])
    rle = frame_rle(part, (x0, y0, x0 + columns, y0 + rows), size_hw)
    found = mask_centres([rle, None], points)
    # Whichever way a half is rounded, by NumPy's or by anyone's rule.
    for x, y in (np.ceil(found[0] - 0.5), np.floor(found[0] + 0.5), np.rint(found[0])):
        assert full[int(y), int(x)]
    assert (found[1] == points[1]).all()
    assert points.tolist() == [[1.5, 2.5], [0.25, 0.75]]
    ys, xs = np.nonzero(full)
    middle = np.array([xs.mean(), ys.mean()])
    if part.all():
        assert found[0] == pytest.approx(middle)
    else:
        nearest = np.hypot(xs - middle[0], ys - middle[1]).min()
        assert np.hypot(*(found[0] - middle)) <= nearest + 1e-9


def test_recentred_points_are_asked_about_again() -> None:
    scene = small_scene()
    engine = AskedEngine(away_cells=2.0)
    variant = named(variants_of(engine, WHOLE_IMAGE), "prompted again at the centre")
    variant.attempt(scene)
    (first, _), (second, _) = engine.all_asked
    once = run_method(AskedEngine(away_cells=2.0), WHOLE_IMAGE, scene)
    order = np.lexsort((scene.points_xy[:, 1], scene.points_xy[:, 0]))
    assert (first[:, 0] == scene.points_xy[order]).all()
    expected = mask_centres(once.masks, scene.points_xy)
    assert second[:, 0].tolist() == sorted(expected.tolist())
    assert (second[:, 0, 0] > first[:, 0, 0]).all(), "the masks lie to the right of the prompts"


@pytest.mark.parametrize("noise", NOISES)
def test_rougher_points_are_prompted_where_they_were_moved(noise: float) -> None:
    scene = small_scene()
    for name, times in ((f"points moved by {noise} radius", 1), ("", 2)):
        engine = AskedEngine()
        variants = variants_of(engine, WHOLE_IMAGE)
        full_name = name or f"points moved by {noise} radius, recentred"
        named(variants, full_name).attempt(scene)
        assert len(engine.all_asked) == times
        assert engine.all_asked[0][0][:, 0].tolist() == sorted(moved(scene, noise).tolist())


# Superpixels and tidied masks


def test_superpixels_are_a_second_prompt() -> None:
    scene = small_scene()
    engine = AskedEngine()
    variants = variants_of(engine, Method(tiles=False, negatives=1))
    named(variants, "superpixel as a second prompt").attempt(scene)
    ((points, labels),) = engine.all_asked
    assert labels.tolist() == [[1, 1, 0]] * 4
    sites = group_points(scene.points_xy, SIZE_HW)
    radii = disc_radii(neighbour_distances(sites), SIZE_HW, 1.0)
    superpixels = slic_superpixel(scene.image, sites, radii)
    assert (points[:, 0] == sites.xy).all()
    for (x, y), (mask, (x0, y0, _, _)) in zip(points[:, 1], superpixels, strict=True):
        assert mask[round(y) - y0, round(x) - x0]
        rows, columns = np.nonzero(mask)
        assert np.hypot(columns.mean() + x0 - x, rows.mean() + y0 - y) < 3
    assert not (points[:, 1] == points[:, 0]).all()


@pytest.mark.parametrize(
    ("name", "tidy"),
    [
        ("holes filled", ndimage.binary_fill_holes),
        (
            "smoothed, 3 x 3 median",
            lambda full: ndimage.median_filter(full.astype(np.uint8), 3, mode="constant") > 0,
        ),
    ],
)
def test_tidied_as_whole_frames(name: str, tidy) -> None:
    changed = 0
    for seed in range(5):
        scene = small_scene(seed)
        engine = RoughEngine()
        plain = run_method(engine, Method(), scene)
        found = named(variants_of(engine, Method()), name).attempt(scene)
        assert_fits(scene, found)
        np.testing.assert_array_equal(found.scores, plain.scores)
        for before, after in zip(plain.masks, found.masks, strict=True):
            assert (before is None) == (after is None)
            if before is not None and after is not None:
                expected = tidy(frame(before))
                assert (frame(after) == (expected if expected.any() else frame(before))).all()
                changed += before != after
    assert changed > 5
