"""Masks of an image from what the network answered: pixels shared out, scores, review reasons."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.components import component_at
from dpmo_cli.geometry.extents import IN_DISC
from dpmo_cli.geometry.points import FloatArray, Sites
from dpmo_cli.geometry.rle import Rle, WindowXYXY, frame_rle, tighten
from dpmo_cli.masks import reasons
from dpmo_cli.masks.choice import RAMP
from dpmo_cli.masks.claims import Claims, Scores, Seconds, own_pixel
from dpmo_cli.masks.method import NEAREST, RATIO, Method
from dpmo_cli.masks.ownership import Cost, distance_cost, logit_cost, own_pixels
from dpmo_cli.masks.score import FEATURES, features
from dpmo_cli.sam.engine import PromptEngine

LEAST_COUNT = 1e-6
"""What a pixel of a mask counts at least, so that every mask has an area."""


@dataclass(frozen=True)
class Discs:
    """The discs of S sites.

    Attributes:
        distances_px: (S,) float64 to the nearest other site, inf for a lone one.
        spacing_px: (S,) float64, the local spacing.
        radii_px: (S,) float64.
        natural_px: (S,) float64, the radii at scale 1, by which tiles are cut.
        clamped: (S,) bool, whether a radius is not simply the method's factor of a distance.
    """

    distances_px: FloatArray
    spacing_px: FloatArray
    radii_px: FloatArray
    natural_px: FloatArray
    clamped: NDArray[np.bool_]


@dataclass(frozen=True)
class Asked:
    """What an image needs of the network, and what was answered so far.

    Attributes:
        size_hw: height and width of the image, px.
        sites, discs: of its points.
        prompted: (S,) bool, which sites the network is asked about.
        claims: of the sites; whole when all of `pending` are done.
        tiles: how many tiles are encoded.
        pending: the parts that other threads ask, each with the time that it took.
    """

    size_hw: tuple[int, int]
    sites: Sites
    discs: Discs
    prompted: NDArray[np.bool_]
    claims: Claims
    tiles: int
    pending: list[Future[Seconds]]


@dataclass(frozen=True)
class SiteMask:
    """The mask of one site.

    Attributes:
        rle: COCO run lengths of the full frame.
        bbox_xywh: box of the mask's pixels, px.
        area_px: number of its pixels.
    """

    rle: Rle
    bbox_xywh: tuple[int, int, int, int]
    area_px: int


@dataclass(frozen=True)
class SegmentedImage:
    """All sites of an image after the method.

    Attributes:
        size_hw: height and width of the image, px.
        sites: the sites, in the order of their coordinates.
        radii_px: (S,) float64 discs.
        prompted: (S,) bool, which sites the network was asked about.
        masks: the mask of each site, or None.
        scores: of the chosen candidates.
        evidence: (S, k) float64, what the score of a mask is made of; NaN without a mask.
        reasons: for each site, why a person should look at it.
        extent: what of a person the masks hold.
        tiles: how many tiles were encoded.
    """

    size_hw: tuple[int, int]
    sites: Sites
    radii_px: FloatArray
    prompted: NDArray[np.bool_]
    masks: list[SiteMask | None]
    scores: Scores
    evidence: FloatArray
    reasons: list[list[str]]
    extent: str
    tiles: int

    def masks_of_points(self) -> tuple[list[Rle | None], FloatArray]:
        """The mask and (N,) float64 score of each point, none and NaN where it has none."""
        of_point = self.sites.site_of_point.tolist()
        found = [self.masks[site] if site >= 0 else None for site in of_point]
        scores = [
            math.nan if mask is None else float(self.scores.score[site])
            for mask, site in zip(found, of_point, strict=True)
        ]
        return [None if mask is None else mask.rle for mask in found], np.array(scores, np.float64)


def settle(asked: Asked, engine: PromptEngine, method: Method) -> SegmentedImage:
    """Wait for what other threads ask, and share the pixels out."""
    sites, discs, claims = asked.sites, asked.discs, asked.claims
    for part in asked.pending:
        claims.seconds.add(part.result())
    masks, areas = _own(sites, claims, asked.size_hw, method)
    evidence = _evidence(claims, areas)
    if engine.calibration is not None and method.extent in engine.calibration.curves:
        masked = ~np.isnan(evidence[:, 0])
        expected = engine.calibration.expected_iou(evidence[masked], method.extent)
        claims.scores.score[masked] = expected
    # What leaves the disc is a fault of masks that are to stay inside it, unless the network
    # was taught to leave the cutting to the disc.
    leaking = method.extent in IN_DISC and method.extent not in engine.extents
    return SegmentedImage(
        size_hw=asked.size_hw,
        sites=sites,
        radii_px=discs.radii_px,
        prompted=asked.prompted,
        masks=masks,
        scores=claims.scores,
        evidence=evidence,
        reasons=_reasons(discs, asked.prompted, masks, claims, leaking=leaking),
        extent=method.extent,
        tiles=asked.tiles,
    )


def _own(
    sites: Sites, claims: Claims, size_hw: tuple[int, int], method: Method
) -> tuple[list[SiteMask | None], FloatArray]:
    """Share the pixels out and write what each site owns as run lengths.

    Returns:
        The masks, and (S, 2) float64, the pixels that each owns and that it had claimed, as they
        count in a score; zero without a mask.
    """
    begin = perf_counter()
    owner = None
    if method.ownership is not None:
        owner = own_pixels(
            claims.masks,
            claims.windows,
            _cost(sites, claims, method.ownership),
            np.flatnonzero(sites.inside),
            sites.pixel_xy,
            size_hw,
        )
    claims.seconds.own += perf_counter() - begin
    begin = perf_counter()
    masks: list[SiteMask | None] = []
    areas = np.zeros((len(sites), 2))
    for index, (claim, window) in enumerate(zip(claims.masks, claims.windows, strict=True)):
        owned = claim
        if claim is not None and owner is not None:
            x0, y0, x1, y1 = window
            owned = owner[y0:y1, x0:x1] == index
            # A claim that nobody contested is connected already.
            if method.connected and not np.array_equal(owned, claim):
                owned = component_at(owned, own_pixel(sites, index, window))
        if owned is None or not owned.any():
            masks.append(None)
        else:
            masks.append(_site_mask(owned, window, size_hw))
            areas[index] = _counting_px(owned, claim, claims.logits[index])
    claims.seconds.rle += perf_counter() - begin
    return masks, areas


def _counting_px(
    owned: NDArray[np.bool_],
    claim: NDArray[np.bool_] | None,
    logits: NDArray[np.float32] | None,
) -> tuple[float, float]:
    """Pixels owned and claimed; those whose logit is hardly above zero count for less.

    So rounding moves a score by as little as it moves the logits.
    """
    assert claim is not None
    if logits is None:
        return float(owned.sum()), float(claim.sum())
    counts = np.clip(logits.astype(np.float64) / RAMP, LEAST_COUNT, 1)
    return float(counts[owned].sum()), float(counts[claim].sum())


def _evidence(claims: Claims, areas: FloatArray) -> FloatArray:
    """What the score of each site's mask is made of: (S, k) float64, NaN without a mask."""
    masked = areas[:, 0] > 0
    evidence = np.full((len(areas), len(FEATURES)), np.nan)
    evidence[masked] = features(
        claims.scores.predicted_iou[masked],
        claims.scores.stability[masked],
        areas[masked, 0],
        areas[masked, 1],
        claims.radii[masked],
    )
    return evidence


def _cost(sites: Sites, claims: Claims, ownership: str) -> Cost:
    if ownership == NEAREST:
        return distance_cost(sites.xy)
    if ownership == RATIO:
        return distance_cost(sites.xy, claims.radii)
    return logit_cost(claims.logits, claims.windows, sites.xy, claims.radii)


def _site_mask(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY, size_hw: tuple[int, int]
) -> SiteMask:
    tight, window = tighten(mask, window_xyxy)
    x0, y0, x1, y1 = window
    rle = frame_rle(tight, window, size_hw)
    return SiteMask(rle, (x0, y0, x1 - x0, y1 - y0), int(tight.sum()))


def _reasons(
    discs: Discs,
    prompted: NDArray[np.bool_],
    masks: list[SiteMask | None],
    claims: Claims,
    *,
    leaking: bool,
) -> list[list[str]]:
    """Collect the review reasons of all sites; those of single points are added by the rows."""
    areas = np.array([mask.area_px if mask else 0 for mask in masks], dtype=np.float64)
    masked = areas > 0
    tiny = np.maximum(reasons.TINY_PX, reasons.TINY_OF_DISC * np.pi * discs.radii_px**2)
    close = discs.distances_px < reasons.CLOSE_OF_SPACING * discs.spacing_px
    with np.errstate(invalid="ignore"):
        flags = {
            reasons.LOW_SCORE: masked & (claims.scores.score < reasons.SCORE_LIMIT),
            reasons.LEAKS: masked & leaking & (claims.scores.retained < reasons.RETAINED_LIMIT),
        }
    flags |= {
        reasons.CLOSE_PAIR: close,
        reasons.MISSES_POINT: prompted & ~claims.holds_point,
        reasons.AMBIGUOUS: masked & claims.ambiguous,
        reasons.TINY: masked & (areas < tiny),
        reasons.SUB_RESOLUTION: prompted & claims.sub_resolution,
        reasons.RADIUS_CLAMPED: discs.clamped,
        reasons.LONE: np.isinf(discs.distances_px),
        reasons.NO_PIXELS: prompted & claims.holds_point & ~masked,
    }
    return reasons.collect(len(masks), flags)
