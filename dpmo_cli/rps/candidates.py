"""Candidates round each located point, and what the network says to a prompt at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from dpmo_cli.geometry.extents import HEAD
from dpmo_cli.geometry.nnec import FAR_PX, nearest_others
from dpmo_cli.geometry.points import FloatArray, IntArray, Sites, group_points
from dpmo_cli.geometry.tiles import Tile
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.prompting import TILES_AT_ONCE
from dpmo_cli.masks.score import PART_LIMITS, logit_of
from dpmo_cli.masks.segment import discs_of, plan_tiles, sites_to_prompt
from dpmo_cli.masks.settle import Discs
from dpmo_cli.rps.asking import Asked, Located, Said, ask_at, in_discs
from dpmo_cli.sam.engine import Encoded, PromptEngine

RECENTRED = 2
"""The candidate that is the middle of the head, found by two prompts for the head alone."""
NEAR_RING, FAR_RING = (0.18, 4, 0.0), (0.4, 5, 0.25)
"""Radius in parts of the disc's, number of candidates, and turn in parts of a step; the near one
lies round the head's middle, the far one round the located point."""
COUNT = 1 + RECENTRED + NEAR_RING[1] + FAR_RING[1]
SITES_AT_ONCE = 8
"""Masks of this many sites' candidates are in memory at a time."""
SPACING_LIMIT = 8.0
NEIGHBOURS = 3
"""How many of the nearest other sites are looked at to see whether a mask strays to them."""

FEATURES = (
    "x", "y", "offset",
    "predicted IoU", "stability", "retained", "part of disc", "holds its point",
    "agreement", "mask's x", "mask's y", "part nearer to others",
    "radius", "spacing", "x from the head", "y from the head", "away from the head",
)  # fmt: skip
"""Offsets from the located point in radii; logits of predicted IoU and stability; logarithms to
base 2 of the mask's area in parts of its disc's, of the radius in px and of the local spacing in
radii; agreement is the mean IoU with the masks of the other candidates; the mask's centre from the
candidate, and the candidate from the head's middle, in radii."""


@dataclass(frozen=True)
class Candidates:
    """Where each of S sites may be prompted, and what is known of a prompt there.

    Attributes:
        sites: of the located points.
        discs: of the sites.
        prompted: (S,) bool, the sites that were asked about; the rest of the rows below is zero.
        positions_xy: (S, K, 2) float64 px; the first is the site itself.
        features: (S, K, F) float32, as FEATURES says.
        embedding: (S, K, C) float32, the network's image embedding there.
        scores: (S, K) float32, the score by which `masks.choice` ranks.
    """

    sites: Sites
    discs: Discs
    prompted: NDArray[np.bool_]
    positions_xy: FloatArray
    features: NDArray[np.float32]
    embedding: NDArray[np.float32] = field(repr=False)
    scores: NDArray[np.float32]


def positions_in_discs(
    xy: FloatArray, heads_xy: FloatArray, radii_px: FloatArray, size_hw: tuple[int, int]
) -> FloatArray:
    """The located point, the head's middle twice found, and two rings: (S, K, 2) float64 px.

    All but the located point lie inside the image.

    Args:
        xy: (S, 2) float64 sites, px.
        heads_xy: (S, 2, 2) float64 px, the head's middle as seen from the site, and from there.
        radii_px: (S,) float64 discs.
        size_hw: height and width of the image, px.
    """
    limit = np.maximum(np.array([size_hw[1], size_hw[0]]) - 1.0, 0)

    def ring(centres_xy: FloatArray, shape: tuple[float, int, float]) -> FloatArray:
        part, count, turn = shape
        angles = 2 * np.pi * (np.arange(count) + turn) / count
        offsets = part * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return np.asarray(centres_xy[:, None] + offsets * radii_px[:, None, None])

    around = [heads_xy, ring(heads_xy[:, -1], NEAR_RING), ring(xy, FAR_RING)]
    return np.concatenate([xy[:, None], np.clip(np.concatenate(around, axis=1), 0, limit)], axis=1)


def _located(points_xy: FloatArray, size_hw: tuple[int, int], method: Method) -> Located:
    sites = group_points(points_xy, size_hw)
    return Located(
        sites,
        discs_of(sites, size_hw, method),
        sites_to_prompt(sites, None),
        nearest_others(sites.xy, max(NEIGHBOURS, method.negatives)),
        size_hw,
    )


Answer = TypeVar("Answer")


def _groups(
    image: NDArray[np.uint8],
    located: Located,
    engine: PromptEngine,
    method: Method,
    ask: Callable[[Tile, Encoded, IntArray], Answer],
    pool: Executor | None,
) -> Iterator[tuple[IntArray, Answer]]:
    """Ask about a few sites at a time, in their encoded tile: the sites and what `ask` returned.

    The order and the answers do not depend on the threads of `pool`.
    """
    tiles = plan_tiles(
        located.sites,
        located.discs,
        np.flatnonzero(located.prompted),
        located.size_hw,
        engine.frame_px,
        method,
    )

    def ask_part(part: list[Tile]) -> list[tuple[IntArray, Answer]]:
        crops = []
        for tile in part:
            x0, y0, x1, y1 = tile.window_xyxy
            crops.append(image[y0:y1, x0:x1])
        found = []
        for tile, encoded in zip(part, engine.encode(crops), strict=True):
            for begin in range(0, len(tile.sites), SITES_AT_ONCE):
                members = tile.sites[begin : begin + SITES_AT_ONCE]
                found.append((members, ask(tile, encoded, members)))
        return found

    parts = [tiles[at : at + TILES_AT_ONCE] for at in range(0, len(tiles), TILES_AT_ONCE)]
    if pool is None:
        for part in parts:
            yield from ask_part(part)
        return
    pending = [pool.submit(ask_part, part) for part in parts]
    try:
        for answers in pending:
            yield from answers.result()
    finally:
        for answers in pending:
            answers.cancel()


def recentre(
    image: NDArray[np.uint8],
    points_xy: FloatArray,
    engine: PromptEngine,
    method: Method,
    pool: Executor | None = None,
) -> tuple[Sites, NDArray[np.bool_], FloatArray]:
    """The middle of each person's head, found by two prompts for the head alone.

    Args:
        image, points_xy, engine, method, pool: as of `ask_candidates`.

    Returns:
        The S sites of the points, (S,) bool, which of them were asked about, and (S, 2) float64 px,
        the middle of the head; of the others the site itself.
    """
    located = _located(points_xy, (image.shape[0], image.shape[1]), method)
    found = located.sites.xy.copy()

    def ask(tile: Tile, encoded: Encoded, members: IntArray) -> FloatArray:
        return _heads(tile, encoded, members, located, engine, method)

    for members, heads_xy in _groups(image, located, engine, method, ask, pool):
        found[members] = heads_xy[:, -1]
    return located.sites, located.prompted, found


def ask_candidates(
    image: NDArray[np.uint8],
    points_xy: FloatArray,
    engine: PromptEngine,
    method: Method,
    watch: Callable[[Asked], None] = lambda asked: None,
    pool: Executor | None = None,
) -> Candidates:
    """Prompt the network with every candidate of every point.

    Args:
        image: (H, W, 3) uint8 RGB.
        points_xy: (N, 2) float64 px, any values.
        engine: the network.
        method: the choices of the method.
        watch: told of the masks, which are not kept.
        pool: threads to ask from; None asks from this one.

    Returns:
        The same for the same points in any order.
    """
    located = _located(points_xy, (image.shape[0], image.shape[1]), method)
    sites, discs = located.sites, located.discs
    positions = np.repeat(sites.xy[:, None], COUNT, axis=1)
    features = np.zeros((len(sites), COUNT, len(FEATURES)), dtype=np.float32)
    scores = np.zeros((len(sites), COUNT), dtype=np.float32)
    embedding: NDArray[np.float32] | None = None

    def ask(
        tile: Tile, encoded: Encoded, members: IntArray
    ) -> tuple[FloatArray, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        heads = _heads(tile, encoded, members, located, engine, method)
        there = positions_in_discs(
            sites.xy[members], heads, discs.radii_px[members], located.size_hw
        )
        seen = _embedding_at(encoded, there - tile.window_xyxy[:2])
        asked, said = ask_at(tile, encoded, members, there, located, engine, method)
        watch(asked)
        return there, seen, said.score, _features(asked, said, located, method)

    for members, (there, seen, score, about) in _groups(image, located, engine, method, ask, pool):
        if embedding is None:
            embedding = np.zeros((len(sites), COUNT, seen.shape[2]), dtype=np.float32)
        positions[members], embedding[members] = there, seen
        scores[members], features[members] = score, about
    if embedding is None:
        embedding = np.zeros((len(sites), COUNT, 0), dtype=np.float32)
    return Candidates(sites, discs, located.prompted, positions, features, embedding, scores)


def _heads(
    tile: Tile,
    encoded: Encoded,
    members: IntArray,
    located: Located,
    engine: PromptEngine,
    method: Method,
) -> FloatArray:
    """The middle of the head as seen from each site, and as seen from there: (g, 2, 2) px."""
    for_heads = replace(method, extent=HEAD)
    frame, origin = encoded.frame, np.array(tile.window_xyxy[:2])
    limit = np.maximum(np.array(located.size_hw[::-1]) - 1.0, 0)
    at, found = located.sites.xy[members][:, None], []
    for _ in range(RECENTRED):
        asked, _ = ask_at(tile, encoded, members, at, located, engine, for_heads)
        grid, _, masks = in_discs(asked, located, for_heads)
        areas = masks.sum(axis=2)
        middle = (masks @ grid.astype(np.float32)) / np.maximum(areas, 1)[:, :, None]
        middle = middle + asked.corners[:, None]
        there = frame.from_cells(middle.astype(np.float64)) + origin
        at = np.where(areas[:, :, None] > 0, np.clip(there, 0, limit), at)
        found.append(at)
    return np.concatenate(found, axis=1)


def _features(asked: Asked, said: Said, located: Located, method: Method) -> NDArray[np.float32]:
    """What a policy sees of each candidate: (g, K, F), as FEATURES says."""
    frame, origin = asked.frame, np.array(asked.tile.window_xyxy[:2])
    sites, radii_px = located.sites, asked.radii_px
    radii = radii_px * frame.cells_per_px()
    centres = frame.to_cells(sites.xy[asked.sites] - origin) - asked.corners
    positions = frame.to_cells(asked.positions_xy - origin) - asked.corners[:, None]
    grid, away, flat = in_discs(asked, located, method)
    areas = flat.sum(axis=2)
    common = flat @ flat.transpose(0, 2, 1)
    union = areas[:, :, None] + areas[:, None] - common
    agreement = (np.divide(common, np.maximum(union, 1)).sum(axis=2) - (areas > 0)) / (COUNT - 1)
    filled = np.maximum(areas, 1)
    middle = (flat @ grid.astype(np.float32)) / filled[:, :, None]
    middle = np.where(areas[:, :, None] > 0, middle, positions)
    neighbours = located.neighbours[asked.sites, :NEIGHBOURS]
    others_xy = np.clip(sites.xy[neighbours], -FAR_PX, FAR_PX)
    others_cells = frame.to_cells(others_xy - origin) - asked.corners[:, None]
    others = _nearest_away(grid, others_cells)
    elsewhere = (flat * (others < away)[:, None]).sum(axis=2) / filled
    offset = (positions - centres[:, None]) / radii[:, None, None]
    from_head = (positions - positions[:, RECENTRED, None]) / radii[:, None, None]
    shape = areas.shape
    spacing = located.discs.spacing_px[asked.sites] / radii_px
    spacing = np.clip(spacing, 1 / SPACING_LIMIT**2, SPACING_LIMIT)
    columns = [
        offset[..., 0],
        offset[..., 1],
        np.hypot(offset[..., 0], offset[..., 1]),
        logit_of(said.predicted_iou.astype(np.float64)),
        logit_of(said.stability.astype(np.float64)),
        said.retained,
        np.log2(np.clip(areas / (np.pi * radii[:, None] ** 2), *PART_LIMITS)),
        said.holds_point,
        agreement,
        (middle[..., 0] - positions[..., 0]) / radii[:, None],
        (middle[..., 1] - positions[..., 1]) / radii[:, None],
        elsewhere,
        np.broadcast_to(np.log2(radii_px)[:, None], shape),
        np.broadcast_to(np.log2(spacing)[:, None], shape),
        from_head[..., 0],
        from_head[..., 1],
        np.hypot(from_head[..., 0], from_head[..., 1]),
    ]
    return np.stack(columns, axis=2).astype(np.float32)


def _nearest_away(grid: FloatArray, others_cells: FloatArray) -> FloatArray:
    """Squared distance of each of n cells to the nearest of (g, k, 2) points: (g, n)."""
    least = np.full((len(others_cells), len(grid)), np.inf)
    for there in others_cells.transpose(1, 0, 2):
        np.minimum(least, ((grid[None] - there[:, None]) ** 2).sum(axis=2), out=least)
    return least


def _embedding_at(encoded: Encoded, positions_xy: FloatArray) -> NDArray[np.float32]:
    """The embedding at points of the crop, between its cells: (n, K, C) float32."""
    frame = encoded.frame
    # -1 and 1 are the outer edges of the frame.
    places = (frame.to_frame(positions_xy) + 0.5) / frame.frame_px * 2 - 1
    grid = torch.as_tensor(places, dtype=torch.float32, device=encoded.embedding.device)
    with torch.inference_mode():
        found = functional.grid_sample(
            encoded.embedding, grid[None], padding_mode="border", align_corners=False
        )
    sampled: NDArray[np.float32] = found[0].permute(1, 2, 0).float().cpu().numpy()
    return sampled
