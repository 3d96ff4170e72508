"""The sites of tiles prompted; of the answers one is chosen for each, cut, and claimed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter, thread_time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpmo_cli.geometry.components import components_at
from dpmo_cli.geometry.extents import IN_DISC
from dpmo_cli.geometry.points import FloatArray, IntArray, Sites
from dpmo_cli.geometry.resize import Frame, upsampling
from dpmo_cli.geometry.tiles import Tile
from dpmo_cli.geometry.windows import Windows, batches
from dpmo_cli.masks import reasons
from dpmo_cli.masks.choice import ABSENT, choose, half_sides
from dpmo_cli.masks.claims import Claims, take
from dpmo_cli.masks.method import Method
from dpmo_cli.sam.engine import Answer, Encoded, PromptEngine

TILES_AT_ONCE = 8
FAR_OF_CROP = 2.0
"""Neighbours further off than this many sides of the crop are not named."""
CELLS_AT_ONCE = 2**18
"""Cells of answers that are chosen from together: a step takes as long for few of them."""


@dataclass(frozen=True)
class _Told:
    """Answers about n prompts of a tile, and what is needed to choose among them.

    Attributes:
        tile: which.
        frame: how its crop lies in the network's input.
        sites: (n,) int64.
        answer: of the engine.
        cells_xy: (n, 2) float64 sites, cells from the answer's corners.
        radii_cells: (n,) float64.
    """

    tile: Tile
    frame: Frame
    sites: IntArray
    answer: Answer
    cells_xy: FloatArray
    radii_cells: FloatArray


def claim_tiles(
    image: NDArray[np.uint8],
    tiles: list[Tile],
    sites: Sites,
    engine: PromptEngine,
    method: Method,
    claims: Claims,
) -> None:
    """Encode some tiles together, prompt each with its sites, and claim what is answered."""
    begin = perf_counter()
    crops = []
    for tile in tiles:
        x0, y0, x1, y1 = tile.window_xyxy
        crops.append(image[y0:y1, x0:x1])
    encoded = engine.encode(crops)
    claims.seconds.encode += perf_counter() - begin
    waiting: list[_Told] = []
    answers, largest = 0, np.zeros(2, dtype=np.int64)
    for tile, embedding in zip(tiles, encoded, strict=True):
        for told in _ask_tile(tile, embedding, sites, engine, method, claims):
            count, several, *size = told.answer.logits.shape
            largest = np.maximum(largest, size)
            if waiting and (answers + count) * several * largest.prod() > CELLS_AT_ONCE:
                _claim(waiting, sites, method, claims)
                waiting.clear()
                answers, largest = 0, np.array(size)
            waiting.append(told)
            answers += count
    if waiting:
        _claim(waiting, sites, method, claims)


def _ask_tile(
    tile: Tile,
    encoded: Encoded,
    sites: Sites,
    engine: PromptEngine,
    method: Method,
    claims: Claims,
) -> Iterator[_Told]:
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
        chunk = answer.chunk
        yield _Told(
            tile,
            frame,
            tile.sites[chunk],
            answer,
            cells_xy[chunk] - answer.corners,
            radii_cells[chunk],
        )


def _side_by_side(logits: Sequence[Tensor]) -> tuple[Tensor, IntArray]:
    """Candidates (n, c, h, w) in one array, and the columns and rows (n, 2) that each has."""
    high, wide = (max(one.shape[axis] for one in logits) for axis in (2, 3))
    sizes = np.array([one.shape[:1:-1] for one in logits for _ in one])
    whole = logits[0].new_full((len(sizes), logits[0].shape[1], high, wide), ABSENT)
    for one, rows in zip(logits, torch.split(whole, [len(one) for one in logits]), strict=True):
        rows[:, :, : one.shape[2], : one.shape[3]] = one
    return whole, sizes


def _claim(waiting: Sequence[_Told], sites: Sites, method: Method, claims: Claims) -> None:
    """Choose among what the network answered, clip it, and claim it."""
    # An accelerator's answers are waited for here, which takes no processor time.
    clock = thread_time if waiting[0].answer.logits.is_cpu else perf_counter
    begin = clock()
    members = np.concatenate([told.sites for told in waiting])
    logits, sizes = _side_by_side([told.answer.logits for told in waiting])
    choice = choose(
        logits,
        torch.cat([told.answer.predicted_ious for told in waiting]),
        np.concatenate([told.cells_xy for told in waiting]),
        np.concatenate([told.radii_cells for told in waiting]),
        method.extent,
        method.terms,
        sizes,
    )
    for name, values in vars(claims.scores).items():
        values[members] = getattr(choice, name)
    claims.holds_point[members] = choice.holds_point
    claims.ambiguous[members] = choice.ambiguous
    claims.seconds.choose += clock() - begin

    begin = thread_time()
    axes = [axes for told in waiting for axes in [told.frame.axes()] * len(told.sites)]
    corners = np.concatenate([told.answer.corners for told in waiting])
    tiles = np.array([told.tile.window_xyxy for told in waiting for _ in told.sites])
    boxes = claims.windows[members] if method.extent in IN_DISC else tiles
    origins = np.tile(tiles[:, :2], 2)
    claims.seconds.clip += thread_time() - begin
    for part in batches(boxes):
        begin = thread_time()
        windows, chosen = Windows(boxes[part]), members[part]
        down, across = upsampling(
            [axes[index] for index in part],
            sizes[part],
            boxes[part] - origins[part],
            corners[part],
        )
        values = _product(down, choice.logits[part], across)
        squares = windows.squared_distances(sites.xy[chosen])
        own_xy = sites.pixel_xy[chosen] - boxes[part, :2]
        masks = clipped(values, squares, claims.radii[chosen], own_xy, windows, method)
        # As for owners, a site's own pixel is beyond doubt: it counts alike before and after.
        values[np.arange(len(values)), own_xy[:, 1], own_xy[:, 0]] = np.inf
        claims.seconds.clip += thread_time() - begin
        take(claims, chosen, masks, values, squares, windows, method)


def _product(
    down: NDArray[np.float32], logits: NDArray[np.float32], across: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Logits (n, r, c) upsampled by matrices (n, h, r) and (n, w, c): (n, h, w).

    By torch, in as many threads as it is told: numpy's own library takes all there are, and calls
    from several threads wait for each other.
    """
    cells = torch.from_numpy(logits[:, : down.shape[2], : across.shape[2]])
    found = torch.from_numpy(down) @ cells @ torch.from_numpy(across).mT
    return np.asarray(found.numpy())


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
    squares: FloatArray,
    radii_px: FloatArray,
    own_xy: IntArray,
    windows: Windows,
    method: Method,
) -> NDArray[np.bool_]:
    """The parts of n masks that their discs hold and that are connected to their points.

    Args:
        logits: (n, h, w) float32 of the windows; above zero is mask.
        squares: (n, h, w) float64, squared distances of the pixels to the discs' centres.
        radii_px: (n,) of the discs.
        own_xy: (n, 2) int64, columns and rows of the points' pixels in the windows.
        windows: in the image.
        method: whether discs bound masks, and whether only the connected part counts.

    Returns:
        (n, h, w) bool; where nothing is connected to the point, nothing.
    """
    masks = (logits > 0) & windows.inside
    if method.extent in IN_DISC:
        discs = squares <= radii_px[:, None, None] ** 2
        # A disc smaller than a pixel still has the pixel of its site.
        discs[np.arange(len(discs)), own_xy[:, 1], own_xy[:, 0]] = True
        masks &= discs
    return components_at(masks, own_xy) if method.connected else masks
