"""Masks of an image from what the network answered: pixels shared out, scores, review reasons."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass
from time import thread_time

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.components import components_at
from dpmo_cli.geometry.extents import IN_DISC
from dpmo_cli.geometry.points import FloatArray, Sites
from dpmo_cli.geometry.rle import Rle
from dpmo_cli.geometry.windows import Windows, batches
from dpmo_cli.masks import reasons
from dpmo_cli.masks.claims import Claims, Scores, Seconds, counting_px
from dpmo_cli.masks.method import LOGIT, Method
from dpmo_cli.masks.score import FEATURES, features
from dpmo_cli.masks.site_mask import SiteMask, site_masks
from dpmo_cli.sam.engine import PromptEngine


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
        sites, discs: of its points.
        prompted: (S,) bool, which sites the network is asked about.
        claims: of the sites; whole when all of `pending` are done.
        tiles: how many tiles are encoded.
        pending: the parts that other threads ask, each with the time that it took.
    """

    sites: Sites
    discs: Discs
    prompted: NDArray[np.bool_]
    claims: Claims
    tiles: int
    pending: list[Future[Seconds]]


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
    masks, counted_px = _own(sites, claims, method)
    evidence = _evidence(claims, counted_px)
    if engine.calibration is not None and method.extent in engine.calibration.curves:
        masked = ~np.isnan(evidence[:, 0])
        expected = engine.calibration.expected_iou(evidence[masked], method.extent)
        claims.scores.score[masked] = expected
    # What leaves the disc is a fault of masks that are to stay inside it, unless the network
    # was taught to leave the cutting to the disc.
    leaking = method.extent in IN_DISC and method.extent not in engine.extents
    return SegmentedImage(
        size_hw=claims.size_hw,
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


def _own(sites: Sites, claims: Claims, method: Method) -> tuple[list[SiteMask | None], FloatArray]:
    """Write what each site owns as run lengths.

    Returns:
        The masks, and (S,) float64, the pixels that each owns as they count in a score; zero
        without a mask.
    """
    if claims.owners is None:
        return claims.masks, claims.counted_px
    masks: list[SiteMask | None] = [None] * len(sites)
    counted = np.zeros(len(sites))
    claimants = np.flatnonzero(claims.claimed_px)
    for part in batches(claims.windows[claimants]):
        begin = thread_time()
        members = claimants[part]
        windows = Windows(claims.windows[members])
        owned = claims.owners.owned(members, windows)
        # A claim that nobody contested is connected already.
        contested = owned.sum(axis=(1, 2)) != claims.claimed_px[members]
        if method.connected and contested.any():
            own_xy = sites.pixel_xy[members] - windows.boxes_xyxy[:, :2]
            owned[contested] = components_at(owned[contested], own_xy[contested])
        logits = None
        if method.ownership == LOGIT:
            squares = windows.squared_distances(sites.xy[members])
            logits = claims.owners.logits(windows, squares, claims.radii[members])
        counted[members] = counting_px(owned, logits)
        claims.seconds.own += thread_time() - begin
        begin = thread_time()
        found = site_masks(owned, windows, claims.size_hw)
        for member, mask in zip(members.tolist(), found, strict=True):
            masks[member] = mask
        claims.seconds.rle += thread_time() - begin
    return masks, counted


def _evidence(claims: Claims, counted_px: FloatArray) -> FloatArray:
    """What the score of each site's mask is made of: (S, k) float64, NaN without a mask."""
    masked = counted_px > 0
    evidence = np.full((len(counted_px), len(FEATURES)), np.nan)
    evidence[masked] = features(
        claims.scores.predicted_iou[masked],
        claims.scores.stability[masked],
        counted_px[masked],
        claims.counted_px[masked],
        claims.radii[masked],
    )
    return evidence


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
