"""What is tried: the method step by step, its alternatives, and rougher points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dpmo_cli.evaluation.baselines import BASELINES, slic_superpixel
from dpmo_cli.evaluation.instances import mask_centres
from dpmo_cli.evaluation.truth import TruthScene, discs_at_points, snap_into
from dpmo_cli.geometry.extents import HEAD, NNEC, VISIBLE
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.geometry.rle import Rle, frame_rle, rle_window
from dpmo_cli.masks.method import (
    NEAREST,
    PREDICTED,
    RATIO,
    RETAINED,
    ROBUST,
    STABILITY,
    Method,
)
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.sam.engine import SamEngine

STEPS, ALTERNATIVES, POINTS, TRIVIAL, OF_EXTENT = (
    "steps",
    "alternatives",
    "points",
    "baselines",
    "extents",
)
GROUPS = (STEPS, ALTERNATIVES, POINTS, TRIVIAL, OF_EXTENT)
CUT, UNCUT, HEADS = "cut", "uncut", "heads"
"""What a variant is measured on: the truth in its disc, the whole person, or the heads."""
SCALES = (0.5, 0.75, 1.25)
TARGETS_PX = (24.0, 28.0, 36.0, 42.0)
NEIGHBOURS = (0, 1, 2, 4)
NOISES = (0.15, 0.3)
"""How far points are moved: standard deviation of the distance, in radii."""


@dataclass(frozen=True)
class PointMasks:
    """What a variant makes of a scene.

    Attributes:
        masks: a mask or none for each of N points.
        scores: (N,) float64, NaN without a mask.
        evidence: (N, k) float64, what the score is made of; None where a variant has no such.
    """

    masks: list[Rle | None]
    scores: FloatArray
    evidence: FloatArray | None = None


Attempt = Callable[[TruthScene], PointMasks]


@dataclass(frozen=True)
class Variant:
    """Something to measure.

    Attributes:
        group: one of GROUPS.
        name: as the table says it, unique.
        attempt: from a scene to masks; it may look at image and points alone.
        truth: what its table shows, CUT, UNCUT or HEADS.
    """

    group: str
    name: str
    attempt: Attempt
    truth: str = CUT


def variants_of(engine: SamEngine, method: Method) -> list[Variant]:
    """All variants of a method that is the default for an engine."""
    return [
        *_steps(engine, method),
        *_alternatives(engine, method),
        *_rougher(engine, method),
        *(Variant(TRIVIAL, name, _trivial(name)) for name in BASELINES),
        *_extents(engine, method),
    ]


def run_method(engine: SamEngine, method: Method, scene: TruthScene) -> PointMasks:
    """The method on a scene with its true points."""
    return masks_at(engine, method, scene, scene.points_xy)


def masks_at(
    engine: SamEngine,
    method: Method,
    scene: TruthScene,
    points_xy: FloatArray,
    hints_xy: FloatArray | None = None,
) -> PointMasks:
    """The method on a scene with (N, 2) points of the caller's, px."""
    found = segment_image(scene.image, points_xy, engine, method, hints_xy=hints_xy)
    # Every point of a scene lies inside it, and so has a site.
    return PointMasks(*found.masks_of_points(), found.evidence[found.sites.site_of_point])


def _steps(engine: SamEngine, method: Method) -> list[Variant]:
    """From SAM alone to the method, one part more with each line."""
    # Without extents the engine answers with all candidates, as any SAM.
    plain = replace(engine, extents=())
    raw = Method(extent=VISIBLE, tiles=False, ownership=None, terms=(PREDICTED,), connected=False)
    steps = [("SAM's argmax, whole image", plain, raw)]

    def step(name: str, engine: SamEngine, **changes: Any) -> None:
        steps.append((name, engine, replace(steps[-1][2], **changes)))

    step("+ tiles", plain, tiles=True)
    step("+ NNEC", plain, extent=NNEC)
    step("+ choice: stability", plain, terms=(PREDICTED, STABILITY))
    step("+ choice: retained", plain, terms=(PREDICTED, STABILITY, RETAINED))
    step("+ choice: holds its point", plain, terms=method.terms)
    step("+ connected part", plain, connected=True)
    step("+ ownership", plain, ownership=method.ownership)
    if engine.extents:
        step("+ the output made for the extent", engine)
    if method.negatives:
        step("+ negatives: the method", engine, negatives=method.negatives)
    return [Variant(STEPS, name, _method(engine, method)) for name, engine, method in steps]


def _alternatives(engine: SamEngine, method: Method) -> list[Variant]:
    """The method with one choice changed at a time."""

    def other(name: str, **changes: Any) -> Variant:
        return Variant(
            ALTERNATIVES,
            name,
            _method(engine, replace(method, **changes)),
        )

    return [
        Variant(ALTERNATIVES, "the method", _method(engine, method)),
        *(other(f"disc x {scale}", nnec_scale=scale) for scale in SCALES),
        other("robust radii", radii=ROBUST),
        other("masks may overlap", ownership=None),
        other("ownership: nearest", ownership=NEAREST),
        other("ownership: least share of radius", ownership=RATIO),
        other("no tiles", tiles=False),
        *(other(f"tiles: radius {px:.0f} px", tile_target_px=px) for px in TARGETS_PX),
        other("tiles: by local spacing", tile_unit=ROBUST),
        *(
            other(f"{count} neighbours named", negatives=count)
            for count in NEIGHBOURS
            if count != method.negatives
        ),
        Variant(ALTERNATIVES, "superpixel as a second prompt", _with_superpixels(engine, method)),
        other("all connected parts", connected=False),
        Variant(ALTERNATIVES, "holes filled", _tidied(engine, method, ndimage.binary_fill_holes)),
        Variant(ALTERNATIVES, "smoothed, 3 x 3 median", _tidied(engine, method, _smoothed)),
        Variant(ALTERNATIVES, "prompted again at the centre", _recentred(engine, method, 0.0)),
    ]


def _extents(engine: SamEngine, method: Method) -> list[Variant]:
    """Each extent on the truth that it means."""
    return [
        Variant(OF_EXTENT, name, _method(engine, replace(method, extent=extent)), truth)
        for name, extent, truth in (
            ("nnec, person in the disc", NNEC, CUT),
            ("nnec, whole person", NNEC, UNCUT),
            ("visible, whole person", VISIBLE, UNCUT),
            ("head, head", HEAD, HEADS),
        )
    ]


def _rougher(engine: SamEngine, method: Method) -> list[Variant]:
    """Points moved at random, and prompted again at the centre of their masks."""
    variants = []
    for noise in NOISES:
        name = f"points moved by {noise} radius"
        variants.append(Variant(POINTS, name, _moved_points(engine, method, noise)))
        variants.append(Variant(POINTS, f"{name}, recentred", _recentred(engine, method, noise)))
    return variants


def _method(engine: SamEngine, method: Method) -> Attempt:
    return lambda scene: run_method(engine, method, scene)


def _moved_points(engine: SamEngine, method: Method, noise: float) -> Attempt:
    return lambda scene: masks_at(engine, method, scene, moved(scene, noise))


def _recentred(engine: SamEngine, method: Method, noise: float) -> Attempt:
    def attempt(scene: TruthScene) -> PointMasks:
        points_xy = moved(scene, noise)
        first = masks_at(engine, method, scene, points_xy)
        return masks_at(engine, method, scene, mask_centres(first.masks, points_xy))

    return attempt


def moved(scene: TruthScene, noise: float) -> FloatArray:
    """The points of a scene, each moved by normal noise in parts of its radius: (N, 2) px."""
    sites, radii = discs_at_points(scene)
    radii = radii[sites.site_of_point]
    rng = np.random.default_rng(len(scene.points_xy))
    # Along each axis, so that the mean square of the distance is that of the noise.
    away = rng.normal(0, noise / np.sqrt(2), size=scene.points_xy.shape) * radii[:, None]
    limit = np.array(scene.size_hw[::-1]) - 1
    return np.asarray(np.clip(scene.points_xy + away, 0, limit))


def _with_superpixels(engine: SamEngine, method: Method) -> Attempt:
    """The head point, and the middle of the superpixel that holds it, as EDP-SAM pairs them."""

    def attempt(scene: TruthScene) -> PointMasks:
        sites, radii = discs_at_points(scene)
        middles = np.full((len(sites), 2), np.nan)
        for site, (mask, (x0, y0, _, _)) in enumerate(slic_superpixel(scene.image, sites, radii)):
            rows, columns = np.nonzero(mask)
            if len(rows):
                x, y = snap_into(mask, (float(columns.mean()), float(rows.mean())))
                middles[site] = x + x0, y + y0
        hints = middles[sites.site_of_point][:, None]
        return masks_at(engine, method, scene, scene.points_xy, hints)

    return attempt


def _tidied(
    engine: SamEngine, method: Method, tidy: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]
) -> Attempt:
    """The method with something done to each mask afterwards."""

    def attempt(scene: TruthScene) -> PointMasks:
        found = run_method(engine, method, scene)
        masks: list[Rle | None] = []
        for rle in found.masks:
            if rle is None:
                masks.append(None)
                continue
            window, box = rle_window(rle)
            tidied = tidy(window)
            masks.append(frame_rle(tidied, box, scene.size_hw) if tidied.any() else rle)
        return PointMasks(masks, found.scores)

    return attempt


def _smoothed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # Around the window, which is tight, there is nothing of the mask.
    found = ndimage.median_filter(mask.astype(np.uint8), size=3, mode="constant")
    smoothed: NDArray[np.bool_] = found > 0
    return smoothed


def _trivial(name: str) -> Attempt:
    def attempt(scene: TruthScene) -> PointMasks:
        sites, radii = discs_at_points(scene)
        of_sites = [
            frame_rle(mask, window, scene.size_hw) if mask.any() else None
            for mask, window in BASELINES[name](scene.image, sites, radii)
        ]
        masks = [of_sites[site] for site in sites.site_of_point.tolist()]
        return PointMasks(masks, np.zeros(len(masks)))

    return attempt
