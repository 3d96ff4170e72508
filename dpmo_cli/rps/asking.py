"""What the network says to prompts at several places of each of a few sites."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dpmo_cli.geometry.extents import IN_DISC
from dpmo_cli.geometry.points import FloatArray, IntArray, Sites
from dpmo_cli.geometry.resize import Frame
from dpmo_cli.geometry.tiles import Tile
from dpmo_cli.masks.choice import choose
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.prompting import prompts_of, squares_round
from dpmo_cli.masks.settle import Discs
from dpmo_cli.sam.engine import Encoded, PromptEngine


@dataclass(frozen=True)
class Asked:
    """What the network said to the candidates of a few sites, before features are made of it.

    Attributes:
        sites: (g,) int64 indices of the sites.
        radii_px: (g,) float64 of their discs.
        positions_xy: (g, K, 2) float64 px of the image.
        logits: (g, K, side, side) float32 masks on a window of the network's grid.
        corners: (g, 2) int64, column and row at which each site's window begins.
        tile: where they were asked.
        frame: how the tile lies in the network's input.
    """

    sites: IntArray
    radii_px: FloatArray
    positions_xy: FloatArray
    logits: NDArray[np.float32]
    corners: IntArray
    tile: Tile
    frame: Frame


@dataclass(frozen=True)
class Located:
    """The sites of located points and what they are prompted with."""

    sites: Sites
    discs: Discs
    prompted: NDArray[np.bool_]
    neighbours: IntArray
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class Said:
    """(g, K) float32 each, as of `masks.choice.Choice`."""

    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    retained: NDArray[np.float32]
    score: NDArray[np.float32]
    holds_point: NDArray[np.float32]


def ask_at(
    tile: Tile,
    encoded: Encoded,
    members: IntArray,
    positions_xy: FloatArray,
    located: Located,
    engine: PromptEngine,
    method: Method,
) -> tuple[Asked, Said]:
    """Prompt at (g, k, 2) px for a few sites of one tile."""
    frame, sites = encoded.frame, located.sites
    origin = np.array(tile.window_xyxy[:2])
    radii_px = located.discs.radii_px[members]
    shape = positions_xy.shape[:2]
    own_xy = positions_xy.reshape(-1, 1, 2)
    neighbours = located.neighbours[members, : method.negatives]
    others_xy = np.repeat(sites.xy[neighbours], shape[1], axis=0)
    prompts_xy, labels = prompts_of(own_xy - origin, others_xy - origin, frame)
    cells_xy = frame.to_cells(prompts_xy[:, 0])
    centres = frame.to_cells(sites.xy[members] - origin)
    radii_cells = radii_px * frame.cells_per_px()
    corners, side = _window(cells_xy.reshape(*shape, 2), centres, radii_cells, frame, method)
    middles = np.repeat(corners + (side - 1) / 2, shape[1], axis=0)
    squares = np.column_stack([middles, np.full(len(middles), (side - 1) / 2)])
    corner_of = np.repeat(corners, shape[1], axis=0)
    radius_of = np.repeat(radii_cells, shape[1])
    masks = np.zeros((len(cells_xy), side, side), dtype=np.float32)
    said = np.zeros((5, len(cells_xy)), dtype=np.float32)
    for answer in engine.prompt(encoded, prompts_xy, labels, method.extent, squares):
        chunk = answer.chunk
        cut = [
            one[:, row : row + side, column : column + side]
            for one, (column, row) in zip(
                answer.logits, (corner_of[chunk] - answer.corners).tolist(), strict=True
            )
        ]
        choice = choose(
            torch.stack(cut),
            answer.predicted_ious,
            cells_xy[chunk] - corner_of[chunk],
            radius_of[chunk],
            method.extent,
            method.terms,
        )
        masks[chunk] = choice.logits
        said[:, chunk] = (
            choice.predicted_iou, choice.stability, choice.retained, choice.score,
            choice.holds_point,
        )  # fmt: skip
    grids = masks.reshape(*shape, side, side)
    asked = Asked(members, radii_px, positions_xy, grids, corners, tile, frame)
    return asked, Said(*said.reshape(5, *shape))


def _window(
    cells_xy: FloatArray,
    centres_cells: FloatArray,
    radii_cells: FloatArray,
    frame: Frame,
    method: Method,
) -> tuple[IntArray, int]:
    """Windows of the mask grid, all of one side, that hold the discs of each site's candidates.

    Args:
        cells_xy: (g, k, 2) candidates, cells.
        centres_cells: (g, 2) sites, cells.
        radii_cells: (g,) discs.
        frame: how the tile lies in the network's input.
        method: whether discs bound masks.

    Returns:
        (g, 2) corners, column and row, and the side.
    """
    if method.extent not in IN_DISC:
        return np.zeros((len(cells_xy), 2), dtype=np.int64), frame.cells
    away = np.abs(cells_xy - centres_cells[:, None]).max(axis=(1, 2))
    half = math.ceil(squares_round(centres_cells, radii_cells, frame, away)[:, 2].max())
    side = min(2 * half + 1, frame.cells)
    low = np.rint(centres_cells).astype(np.int64) - half
    return np.clip(low, 0, frame.cells - side), side


def in_discs(
    asked: Asked, located: Located, method: Method
) -> tuple[FloatArray, FloatArray, NDArray[np.float32]]:
    """Masks on the network's grid, cut by the discs of the sites where discs bound them.

    Returns:
        (n, 2) float64, the n cells of a window, from its corner; (g, n) float64, squares of their
        distances to the sites, in cells; (g, k, n) float32, 1 in the mask.
    """
    frame, origin = asked.frame, np.array(asked.tile.window_xyxy[:2])
    centres = frame.to_cells(located.sites.xy[asked.sites] - origin) - asked.corners
    y, x = np.indices(asked.logits.shape[2:])
    grid = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
    away = ((grid[None] - centres[:, None]) ** 2).sum(axis=2)
    masks = asked.logits.reshape(*asked.logits.shape[:2], -1) > 0
    if method.extent in IN_DISC:
        radii = asked.radii_px * frame.cells_per_px()
        masks &= (away <= radii[:, None] ** 2)[:, None]
    return grid, away, masks.astype(np.float32)
