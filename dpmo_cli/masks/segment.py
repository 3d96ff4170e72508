"""The method on one image: points to discs, tiles, prompts, chosen, clipped and owned masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.extents import IN_DISC, NNEC
from dpmo_cli.geometry.nnec import (
    clamped,
    disc_mask,
    disc_radii,
    disc_windows,
    local_spacing,
    nearest_others,
    neighbour_distances,
)
from dpmo_cli.geometry.points import FloatArray, IntArray, Sites, group_points
from dpmo_cli.geometry.rle import Rle, WindowXYXY, frame_rle
from dpmo_cli.geometry.tiles import Tile, adaptive_tiles, whole_image
from dpmo_cli.masks import reasons
from dpmo_cli.masks.choice import choose
from dpmo_cli.masks.ownership import component_at, own_pixels
from dpmo_cli.sam.engine import Encoded, PromptEngine

TARGET_RADIUS_PX = {256: 32.0, 1024: 64.0}
"""Radius that the tiles give to discs in the frame of nano (256 px) and of SAM's ViTs."""
TILES_AT_ONCE = 8
FAR_OF_CROP = 2.0
"""Neighbours further off than this many sides of the crop are not named."""
NEGATIVES = {"nano": 1}
"""Neighbours that a prompt names, by network; none for the others, which they confuse."""


@dataclass(frozen=True)
class Method:
    """The choices of the method that a run can change.

    Attributes:
        nnec_scale: factor on the neighbour's distance that gives the radius.
        tiles: whether dense parts are magnified; otherwise the image is one tile.
        extent: what of a person a mask holds, one of `EXTENTS`.
        negatives: nearest other sites that each prompt names as not the person's.
    """

    nnec_scale: float = 1.0
    tiles: bool = True
    extent: str = NNEC
    negatives: int = 0


@dataclass
class Seconds:
    """Time spent by stage, s."""

    encode: float = 0.0
    prompt: float = 0.0
    choose: float = 0.0
    clip: float = 0.0
    own: float = 0.0
    rle: float = 0.0


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
class Scores:
    """What is known of the chosen candidates: (S,) float32 each, NaN for sites not prompted."""

    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    retained: NDArray[np.float32]
    score: NDArray[np.float32]


@dataclass(frozen=True)
class SegmentedImage:
    """All sites of an image after the method.

    Attributes:
        sites: the sites, in the order of their coordinates.
        radii_px: (S,) float64 discs.
        prompted: (S,) bool, which sites the network was asked about.
        masks: the mask of each site, or None.
        scores: of the chosen candidates.
        reasons: for each site, why a person should look at it.
        tiles: how many tiles were encoded.
    """

    sites: Sites
    radii_px: FloatArray
    prompted: NDArray[np.bool_]
    masks: list[SiteMask | None]
    scores: Scores
    reasons: list[list[str]]
    tiles: int


@dataclass
class _Work:
    """What the tiles of an image need, and fill in, site by site."""

    radii: FloatArray
    neighbours: IntArray
    windows: list[WindowXYXY]
    claims: list[NDArray[np.bool_] | None]
    scores: Scores
    holds_point: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]
    sub_resolution: NDArray[np.bool_]
    seconds: Seconds = field(default_factory=Seconds)


def plan_tiles(
    sites: Sites,
    distances_px: FloatArray,
    radii_px: FloatArray,
    prompted: NDArray[np.int64],
    size_hw: tuple[int, int],
    frame_px: int,
    method: Method,
) -> list[Tile]:
    """Tiles for the sites that are to be prompted; each of them is in exactly one tile."""
    if not method.tiles:
        return whole_image(prompted, size_hw)
    # The scale of the tiles follows the crowd, not the scale of the discs.
    units = disc_radii(distances_px, size_hw, 1.0)
    target = TARGET_RADIUS_PX.get(frame_px, frame_px / 16)
    return adaptive_tiles(
        sites.xy, radii_px, units, prompted, size_hw, frame_px=frame_px, target_px=target
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
    seconds: Seconds | None = None,
) -> SegmentedImage:
    """Turn the points of one image into disjoint masks, each inside its disc.

    Args:
        image: (H, W, 3) uint8 RGB.
        points_xy: (N, 2) float64 px, any values; pixel centres are integers.
        engine: the network.
        method: the choices of the method.
        hidden: (N,) bool, points that get no mask but count as neighbours (fully occluded).
        seconds: where to add the time spent by stage.

    Returns:
        The same for the same points in any order.
    """
    size_hw = (image.shape[0], image.shape[1])
    sites = group_points(points_xy, size_hw)
    distances = neighbour_distances(sites)
    radii = disc_radii(distances, size_hw, method.nnec_scale)
    prompted = sites_to_prompt(sites, hidden)
    chosen = np.flatnonzero(prompted)

    work = _start(sites, radii, size_hw, method, seconds)
    tiles = plan_tiles(sites, distances, radii, chosen, size_hw, engine.frame_px, method)
    for start in range(0, len(tiles), TILES_AT_ONCE):
        _decode_tiles(image, tiles[start : start + TILES_AT_ONCE], sites, engine, method, work)
    masks = _settle(sites, work, size_hw)
    # What leaves the disc is a fault of masks that are to stay inside it, unless the network
    # was taught to leave the cutting to the disc.
    leaking = method.extent in IN_DISC and method.extent not in engine.extents
    return SegmentedImage(
        sites=sites,
        radii_px=radii,
        prompted=prompted,
        masks=masks,
        scores=work.scores,
        reasons=_reasons(
            sites, distances, radii, prompted, masks, work, size_hw, method, leaking=leaking
        ),
        tiles=len(tiles),
    )


def _start(
    sites: Sites,
    radii: FloatArray,
    size_hw: tuple[int, int],
    method: Method,
    seconds: Seconds | None,
) -> _Work:
    windows = disc_windows(sites.xy, radii, size_hw).tolist()
    count = len(sites)
    return _Work(
        radii=radii,
        neighbours=nearest_others(sites.xy, method.negatives),
        windows=[(x0, y0, x1, y1) for x0, y0, x1, y1 in windows],
        claims=[None] * count,
        scores=Scores(*(np.full(count, np.nan, dtype=np.float32) for _ in range(4))),
        holds_point=np.zeros(count, dtype=np.bool_),
        ambiguous=np.zeros(count, dtype=np.bool_),
        sub_resolution=np.zeros(count, dtype=np.bool_),
        seconds=seconds if seconds is not None else Seconds(),
    )


def _decode_tiles(
    image: NDArray[np.uint8],
    tiles: list[Tile],
    sites: Sites,
    engine: PromptEngine,
    method: Method,
    work: _Work,
) -> None:
    """Encode some tiles together and prompt each with its sites."""
    begin = perf_counter()
    crops = []
    for tile in tiles:
        x0, y0, x1, y1 = tile.window_xyxy
        crops.append(image[y0:y1, x0:x1])
    encoded = engine.encode(crops)
    work.seconds.encode += perf_counter() - begin
    for tile, embedding in zip(tiles, encoded, strict=True):
        _decode_tile(tile, embedding, sites, engine, method, work)


def _decode_tile(
    tile: Tile,
    encoded: Encoded,
    sites: Sites,
    engine: PromptEngine,
    method: Method,
    work: _Work,
) -> None:
    origin = np.array(tile.window_xyxy[:2])
    clicked = np.concatenate([tile.sites[:, None], work.neighbours[tile.sites]], axis=1)
    points_xy = sites.xy[clicked] - origin
    frame = encoded.frame
    # Neighbours far from the crop say nothing about it, and may be too far to compute with.
    near = (np.abs(points_xy) <= FAR_OF_CROP * max(frame.size_hw)).all(axis=2)
    points_xy[~near] = 0
    labels = np.where(near, 0, -1)
    labels[:, 0] = 1
    cells_xy = frame.to_cells(points_xy[:, 0])
    radii_cells = work.radii[tile.sites] * frame.cells_per_px()
    work.sub_resolution[tile.sites] = radii_cells < reasons.SUB_RESOLUTION_CELLS
    answers = engine.prompt(encoded, points_xy, labels, method.extent)
    while True:
        begin = perf_counter()
        answer = next(answers, None)
        work.seconds.prompt += perf_counter() - begin
        if answer is None:
            return
        begin = perf_counter()
        members = tile.sites[answer.chunk]
        choice = choose(
            answer.logits,
            answer.predicted_ious,
            cells_xy[answer.chunk],
            radii_cells[answer.chunk],
            method.extent,
        )
        work.scores.predicted_iou[members] = choice.predicted_iou
        work.scores.stability[members] = choice.stability
        work.scores.retained[members] = choice.retained
        work.scores.score[members] = choice.score
        work.holds_point[members] = choice.holds_point
        work.ambiguous[members] = choice.ambiguous
        work.seconds.choose += perf_counter() - begin

        begin = perf_counter()
        for index, logits in zip(members.tolist(), choice.logits, strict=True):
            window = work.windows[index] if method.extent in IN_DISC else tile.window_xyxy
            x0, y0, x1, y1 = window
            inside = (x0 - origin[0], y0 - origin[1], x1 - origin[0], y1 - origin[1])
            mask = frame.window_logits(logits, inside) > 0
            own = _own_pixel(sites, index, window)
            if method.extent in IN_DISC:
                disc = disc_mask(sites.xy[index], float(work.radii[index]), window)
                # A disc smaller than a pixel still has the pixel of its site.
                disc[own[1], own[0]] = True
                mask &= disc
            claim = component_at(mask, own)
            if claim is not None:
                claim, work.windows[index] = _tight(claim, window)
            work.claims[index] = claim
        work.seconds.clip += perf_counter() - begin


def _own_pixel(sites: Sites, index: int, window_xyxy: WindowXYXY) -> tuple[int, int]:
    """The pixel that a site holds, in its window."""
    x, y = sites.pixel_xy[index].tolist()
    return x - window_xyxy[0], y - window_xyxy[1]


def _settle(sites: Sites, work: _Work, size_hw: tuple[int, int]) -> list[SiteMask | None]:
    """Share the pixels out and write what each site owns as run lengths."""
    begin = perf_counter()
    holders = np.flatnonzero(sites.inside)
    owner = own_pixels(work.claims, work.windows, sites.xy, holders, sites.pixel_xy, size_hw)
    work.seconds.own += perf_counter() - begin
    begin = perf_counter()
    masks: list[SiteMask | None] = []
    for index, (claim, window) in enumerate(zip(work.claims, work.windows, strict=True)):
        if claim is None:
            masks.append(None)
            continue
        x0, y0, x1, y1 = window
        owned = component_at(owner[y0:y1, x0:x1] == index, _own_pixel(sites, index, window))
        masks.append(None if owned is None else _site_mask(owned, window, size_hw))
    work.seconds.rle += perf_counter() - begin
    return masks


def _tight(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY
) -> tuple[NDArray[np.bool_], WindowXYXY]:
    """The part of a mask, which has pixels, that its box holds, and the box as a window."""
    x0, y0 = window_xyxy[:2]
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    right, bottom = int(columns[-1]) + 1, int(rows[-1]) + 1
    return mask[top:bottom, left:right], (x0 + left, y0 + top, x0 + right, y0 + bottom)


def _site_mask(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY, size_hw: tuple[int, int]
) -> SiteMask:
    tight, window = _tight(mask, window_xyxy)
    x0, y0, x1, y1 = window
    rle = frame_rle(tight, window, size_hw)
    return SiteMask(rle, (x0, y0, x1 - x0, y1 - y0), int(tight.sum()))


def _reasons(
    sites: Sites,
    distances: FloatArray,
    radii: FloatArray,
    prompted: NDArray[np.bool_],
    masks: list[SiteMask | None],
    work: _Work,
    size_hw: tuple[int, int],
    method: Method,
    *,
    leaking: bool,
) -> list[list[str]]:
    """Collect the review reasons of all sites; those of single points are added by the rows."""
    areas = np.array([mask.area_px if mask else 0 for mask in masks], dtype=np.float64)
    masked = areas > 0
    tiny = np.maximum(reasons.TINY_PX, reasons.TINY_OF_DISC * np.pi * radii**2)
    with np.errstate(invalid="ignore"):
        flags = {
            reasons.LOW_SCORE: masked & (work.scores.score < reasons.SCORE_LIMIT),
            reasons.LEAKS: masked & leaking & (work.scores.retained < reasons.RETAINED_LIMIT),
            reasons.CLOSE_PAIR: distances < reasons.CLOSE_OF_SPACING * local_spacing(sites),
        }
    flags |= {
        reasons.MISSES_POINT: prompted & ~work.holds_point,
        reasons.AMBIGUOUS: masked & work.ambiguous,
        reasons.TINY: masked & (areas < tiny),
        reasons.SUB_RESOLUTION: prompted & work.sub_resolution,
        reasons.RADIUS_CLAMPED: clamped(distances, size_hw, method.nnec_scale),
        reasons.LONE: np.isinf(distances),
        reasons.NO_PIXELS: prompted & work.holds_point & ~masked,
    }
    return reasons.collect(len(sites), flags)
