"""The method on one image: points to discs, tiles, prompts, and what the network answers."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.nnec import (
    clamped,
    disc_radii,
    local_spacing,
    neighbour_distances,
    robust_distances,
)
from dpmo_cli.geometry.points import FloatArray, Sites, group_points
from dpmo_cli.geometry.tiles import Tile, adaptive_tiles, whole_image
from dpmo_cli.masks.claims import Seconds, start_claims
from dpmo_cli.masks.method import NEAREST, ROBUST, Method
from dpmo_cli.masks.prompting import TILES_AT_ONCE, claim_tiles
from dpmo_cli.masks.settle import Asked, Discs, SegmentedImage, settle
from dpmo_cli.sam.engine import PromptEngine

TARGET_RADIUS_PX = {256: 32.0, 1024: 64.0}
"""Radius that the tiles give to discs in the frame of nano (256 px) and of SAM's ViTs."""


def discs_of(sites: Sites, size_hw: tuple[int, int], method: Method) -> Discs:
    """The discs that bound the masks of sites."""
    distances, spacing = neighbour_distances(sites), local_spacing(sites)
    measured = robust_distances(distances, spacing) if method.radii == ROBUST else distances
    return Discs(
        distances,
        spacing,
        disc_radii(measured, size_hw, method.nnec_scale),
        disc_radii(measured, size_hw, 1.0),
        clamped(measured, size_hw, method.nnec_scale),
    )


def plan_tiles(
    sites: Sites,
    discs: Discs,
    prompted: NDArray[np.int64],
    size_hw: tuple[int, int],
    frame_px: int,
    method: Method,
) -> list[Tile]:
    """Tiles for the sites that are to be prompted; each of them is in exactly one tile."""
    if not method.tiles:
        return whole_image(prompted, size_hw)
    # The scale of the tiles follows the crowd, not the scale of the discs.
    unit = discs.distances_px if method.tile_unit == NEAREST else discs.spacing_px
    target = method.tile_target_px or TARGET_RADIUS_PX.get(frame_px, frame_px / 16)
    return adaptive_tiles(
        sites.xy,
        discs.radii_px,
        discs.natural_px,
        disc_radii(unit, size_hw, 1.0),
        prompted,
        size_hw,
        frame_px=frame_px,
        target_px=target,
    )


def sites_to_prompt(sites: Sites, hidden: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Sites inside the image with a point that can be seen: (S,) bool.

    Args:
        sites: of N points.
        hidden: (N,) bool, points that are fully occluded; None where nobody knows.
    """
    shown = sites.site_of_point >= 0
    if hidden is not None:
        shown &= ~hidden
    visible = np.zeros(len(sites), dtype=np.bool_)
    visible[sites.site_of_point[shown]] = True
    return visible & sites.inside


def segment_image(
    image: NDArray[np.uint8],
    points_xy: FloatArray,
    engine: PromptEngine,
    method: Method,
    *,
    hidden: NDArray[np.bool_] | None = None,
    hints_xy: FloatArray | None = None,
    seconds: Seconds | None = None,
) -> SegmentedImage:
    """Turn the points of one image into disjoint masks, each inside its disc.

    Args:
        image: (H, W, 3) uint8 RGB.
        points_xy: (N, 2) float64 px, any values; pixel centres are integers.
        engine: the network.
        method: the choices of the method.
        hidden: (N,) bool, points that get no mask but count as neighbours (fully occluded).
        hints_xy: (N, h, 2) float64 px, further points of each person, NaN for none.
        seconds: where to add the time spent by stage.

    Returns:
        The same for the same points in any order.
    """
    asked = ask_network(
        image, points_xy, engine, method, hidden=hidden, hints_xy=hints_xy, seconds=seconds
    )
    return settle(asked, engine, method)


def ask_network(
    image: NDArray[np.uint8],
    points_xy: FloatArray,
    engine: PromptEngine,
    method: Method,
    *,
    hidden: NDArray[np.bool_] | None = None,
    hints_xy: FloatArray | None = None,
    seconds: Seconds | None = None,
    pool: Executor | None = None,
) -> Asked:
    """Ask the network about the points of an image, as `segment_image` does.

    Args:
        image, points_xy, engine, method, hidden, hints_xy, seconds: as of `segment_image`.
        pool: threads that ask; returns before they have. None asks at once. The answers are
            the same: each site is in one tile, and the tiles of a call are the same ones.
    """
    size_hw = (image.shape[0], image.shape[1])
    sites = group_points(points_xy, size_hw)
    discs = discs_of(sites, size_hw, method)
    prompted = sites_to_prompt(sites, hidden)
    chosen = np.flatnonzero(prompted)
    claims = start_claims(sites, discs.radii_px, size_hw, method, hints_xy, seconds)
    tiles = plan_tiles(sites, discs, chosen, size_hw, engine.frame_px, method)

    def ask(part: list[Tile]) -> Seconds:
        # The same arrays and lists, in which the sites of each tile have their own places.
        own = replace(claims, seconds=Seconds())
        claim_tiles(image, part, sites, engine, method, own)
        return own.seconds

    pending: list[Future[Seconds]] = []
    for start in range(0, len(tiles), TILES_AT_ONCE):
        part = tiles[start : start + TILES_AT_ONCE]
        if pool is None:
            claim_tiles(image, part, sites, engine, method, claims)
        else:
            pending.append(pool.submit(ask, part))
    return Asked(sites, discs, prompted, claims, len(tiles), pending)
