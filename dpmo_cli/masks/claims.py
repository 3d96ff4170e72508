"""What each site claims before pixels are shared out: prompted, chosen and clipped masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.components import component_at
from dpmo_cli.geometry.extents import IN_DISC
from dpmo_cli.geometry.nnec import disc_mask, disc_windows, nearest_others
from dpmo_cli.geometry.points import FloatArray, IntArray, Sites
from dpmo_cli.geometry.resize import Frame
from dpmo_cli.geometry.rle import WindowXYXY, tighten
from dpmo_cli.geometry.tiles import Tile
from dpmo_cli.masks import reasons
from dpmo_cli.masks.choice import choose, half_sides
from dpmo_cli.masks.method import LOGIT, Method
from dpmo_cli.sam.engine import Encoded, PromptEngine

TILES_AT_ONCE = 8
FAR_OF_CROP = 2.0
"""Neighbours further off than this many sides of the crop are not named."""


@dataclass
class Seconds:
    """Time spent by stage, s."""

    encode: float = 0.0
    prompt: float = 0.0
    choose: float = 0.0
    clip: float = 0.0
    own: float = 0.0
    rle: float = 0.0

    def add(self, other: Seconds) -> None:
        """Add the time of another part."""
        for stage, value in vars(other).items():
            setattr(self, stage, getattr(self, stage) + value)


@dataclass(frozen=True)
class Scores:
    """What is known of the chosen candidates: (S,) float32 each, NaN for sites not prompted.

    `score` is that of the choice, until `segment_image` puts the IoU to expect of a mask there.
    """

    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    retained: NDArray[np.float32]
    score: NDArray[np.float32]


@dataclass
class Claims:
    """What the tiles of an image need, and fill in, for each of S sites.

    Attributes:
        radii: (S,) float64 discs, px.
        neighbours: (S, k) int64, sites that the prompt names as not the person's.
        hints_xy: (S, h, 2) float64 px, further points of the person, NaN for none.
        windows: what of the image `masks` and `logits` hold, px, half open.
        masks: (h, w) bool of the window, None while nothing is claimed.
        logits: (h, w) float32 of the window, where ownership asks for them.
        scores, holds_point, ambiguous: as of `Choice`.
        sub_resolution: (S,) bool, discs of few cells of the mask grid.
        seconds: where the time is added.
    """

    radii: FloatArray
    neighbours: IntArray
    hints_xy: FloatArray
    windows: list[WindowXYXY]
    masks: list[NDArray[np.bool_] | None]
    logits: list[NDArray[np.float32] | None]
    scores: Scores
    holds_point: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]
    sub_resolution: NDArray[np.bool_]
    seconds: Seconds = field(default_factory=Seconds)


def start_claims(
    sites: Sites,
    radii: FloatArray,
    size_hw: tuple[int, int],
    method: Method,
    hints_xy: FloatArray | None,
    seconds: Seconds | None,
) -> Claims:
    """Nothing claimed yet. `hints_xy` are of the (N,) points, of which a site's first counts."""
    windows = disc_windows(sites.xy, radii, size_hw).tolist()
    count = len(sites)
    return Claims(
        radii=radii,
        neighbours=nearest_others(sites.xy, method.negatives),
        hints_xy=np.zeros((count, 0, 2)) if hints_xy is None else hints_xy[sites.point_of_site],
        windows=[(x0, y0, x1, y1) for x0, y0, x1, y1 in windows],
        masks=[None] * count,
        logits=[None] * count,
        scores=Scores(*(np.full(count, np.nan, dtype=np.float32) for _ in range(4))),
        holds_point=np.zeros(count, dtype=np.bool_),
        ambiguous=np.zeros(count, dtype=np.bool_),
        sub_resolution=np.zeros(count, dtype=np.bool_),
        seconds=seconds if seconds is not None else Seconds(),
    )


def claim_tiles(
    image: NDArray[np.uint8],
    tiles: list[Tile],
    sites: Sites,
    engine: PromptEngine,
    method: Method,
    claims: Claims,
) -> None:
    """Encode some tiles together and prompt each with its sites."""
    begin = perf_counter()
    crops = []
    for tile in tiles:
        x0, y0, x1, y1 = tile.window_xyxy
        crops.append(image[y0:y1, x0:x1])
    encoded = engine.encode(crops)
    claims.seconds.encode += perf_counter() - begin
    for tile, embedding in zip(tiles, encoded, strict=True):
        _decode_tile(tile, embedding, sites, engine, method, claims)


def _decode_tile(
    tile: Tile,
    encoded: Encoded,
    sites: Sites,
    engine: PromptEngine,
    method: Method,
    claims: Claims,
) -> None:
    origin = np.array(tile.window_xyxy[:2])
    frame = encoded.frame
    own_xy = np.concatenate([sites.xy[tile.sites][:, None], claims.hints_xy[tile.sites]], axis=1)
    neighbours_xy = sites.xy[claims.neighbours[tile.sites]]
    points_xy, labels = prompts_of(own_xy - origin, neighbours_xy - origin, frame)
    cells_xy = frame.to_cells(points_xy[:, 0])
    radii_cells = claims.radii[tile.sites] * frame.cells_per_px()
    claims.sub_resolution[tile.sites] = radii_cells < reasons.SUB_RESOLUTION_CELLS
    squares = None
    if method.extent in IN_DISC:
        squares = squares_round(cells_xy, radii_cells, frame)
    answers = engine.prompt(encoded, points_xy, labels, method.extent, squares)
    while True:
        begin = perf_counter()
        answer = next(answers, None)
        claims.seconds.prompt += perf_counter() - begin
        if answer is None:
            return
        begin = perf_counter()
        members = tile.sites[answer.chunk]
        choice = choose(
            answer.logits,
            answer.predicted_ious,
            cells_xy[answer.chunk] - answer.corners,
            radii_cells[answer.chunk],
            method.extent,
            method.terms,
        )
        claims.scores.predicted_iou[members] = choice.predicted_iou
        claims.scores.stability[members] = choice.stability
        claims.scores.retained[members] = choice.retained
        claims.scores.score[members] = choice.score
        claims.holds_point[members] = choice.holds_point
        claims.ambiguous[members] = choice.ambiguous
        claims.seconds.choose += perf_counter() - begin

        begin = perf_counter()
        corners = answer.corners.tolist()
        for index, logits, (column, row) in zip(
            members.tolist(), choice.logits, corners, strict=True
        ):
            window = claims.windows[index] if method.extent in IN_DISC else tile.window_xyxy
            x0, y0, x1, y1 = window
            inside = (x0 - origin[0], y0 - origin[1], x1 - origin[0], y1 - origin[1])
            values = frame.window_logits(logits, inside, (column, row))
            own = own_pixel(sites, index, window)
            claim = clipped(
                values, sites.xy[index], float(claims.radii[index]), own, window, method
            )
            if claim is None or not claim.any():
                continue
            claims.masks[index], claims.windows[index] = tight, box = tighten(claim, window)
            if method.ownership == LOGIT:
                left, top = box[0] - x0, box[1] - y0
                rows, columns = tight.shape
                claims.logits[index] = values[top : top + rows, left : left + columns].copy()
        claims.seconds.clip += perf_counter() - begin


def squares_round(
    centres_cells: FloatArray,
    radii_cells: FloatArray,
    frame: Frame,
    away_cells: FloatArray | float = 0.0,
) -> FloatArray:
    """Where logits are wanted for masks that discs bound: (n, 3), as engines take it.

    Args:
        centres_cells: (n, 2) float64, cells of the mask grid.
        radii_cells: (n,) float64 of the discs.
        frame: how the crop lies in the network's input.
        away_cells: (n,) float64, how far from the centre the middle of a disc may lie.
    """
    # A disc's window has up to a pixel more on each side, and resizing looks at two cells more.
    needed = radii_cells + frame.cells_per_px() + 2
    halves = np.maximum(half_sides(radii_cells), needed) + away_cells
    return np.concatenate([centres_cells, halves[:, None]], axis=1)


def prompts_of(
    own_xy: FloatArray, others_xy: FloatArray, frame: Frame
) -> tuple[FloatArray, IntArray]:
    """Prompts that say which points are the person's and which are somebody else's.

    Args:
        own_xy: (n, h, 2) float64, px of the crop.
        others_xy: (n, k, 2) float64, px of the crop.
        frame: how the crop lies in the network's input.

    Returns:
        (n, h + k, 2) float64 px of the crop and (n, h + k) int64 labels, as engines take them.
    """
    points_xy = np.concatenate([own_xy, others_xy], axis=1)
    # Neighbours far from the crop say nothing about it, and may be too far to compute with.
    near = (np.abs(points_xy) <= FAR_OF_CROP * max(frame.size_hw)).all(axis=2)
    points_xy[~near] = 0
    labels = np.where(near, np.arange(near.shape[1]) < own_xy.shape[1], -1).astype(np.int64)
    return points_xy, labels


def clipped(
    logits: NDArray[np.float32],
    centre_xy: FloatArray,
    radius_px: float,
    own: tuple[int, int],
    window_xyxy: WindowXYXY,
    method: Method,
) -> NDArray[np.bool_] | None:
    """The part of a mask that its disc holds and that is connected to its point.

    Args:
        logits: (h, w) float32 of the window; above zero is mask.
        centre_xy: (2,) of the disc, px of the image.
        radius_px: of the disc.
        own: column and row of the point's pixel in the window.
        window_xyxy: the window in the image.
        method: whether discs bound masks, and whether only the connected part counts.

    Returns:
        (h, w) bool; None where nothing is connected to the point.
    """
    mask = logits > 0
    if method.extent in IN_DISC:
        disc = disc_mask(centre_xy, radius_px, window_xyxy)
        # A disc smaller than a pixel still has the pixel of its site.
        disc[own[1], own[0]] = True
        mask &= disc
    return component_at(mask, own) if method.connected else mask


def own_pixel(sites: Sites, index: int, window_xyxy: WindowXYXY) -> tuple[int, int]:
    """The pixel that a site holds, in its window."""
    x, y = sites.pixel_xy[index].tolist()
    return x - window_xyxy[0], y - window_xyxy[1]
