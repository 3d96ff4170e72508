"""A crowd to time networks on, of any size and number, and its tiles and prompts as in a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dpmo_cli.geometry.points import FloatArray, Sites, group_points
from dpmo_cli.geometry.tiles import Tile
from dpmo_cli.masks.claims import Claims, start_claims
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.prompting import prompts_of
from dpmo_cli.masks.segment import discs_of, plan_tiles, sites_to_prompt
from dpmo_cli.masks.settle import Discs
from dpmo_cli.sam.engine import PromptEngine
from dpmo_cli.trials.selftest import load_scenes
from dpmo_cli.trials.stock import Prompts


@dataclass(frozen=True)
class Crowd:
    """An image and the tiles and sites that a method makes of its points.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        points_xy: (N, 2) float64 px.
        method: the choices of the method.
        sites: of the points.
        discs: of the sites.
        tiles: that hold the sites.
    """

    image: NDArray[np.uint8]
    points_xy: FloatArray
    method: Method
    sites: Sites
    discs: Discs
    tiles: Sequence[Tile]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image, px."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def prompts(self) -> int:
        """How many sites are prompted."""
        return sum(len(tile.sites) for tile in self.tiles)

    def crop(self, tile: Tile) -> NDArray[np.uint8]:
        """A tile's pixels."""
        x0, y0, x1, y1 = tile.window_xyxy
        return self.image[y0:y1, x0:x1]

    def claims(self, method: Method) -> Claims:
        """Nothing claimed yet."""
        return start_claims(self.sites, self.discs.radii_px, self.size_hw, method, None, None)


def drawn_crowd(
    points: int, size_hw: tuple[int, int], method: Method, frame_px: int, seed: int = 0
) -> Crowd:
    """A drawn scene of any size with points anywhere in it, the same for the same seed.

    Args:
        points: how many.
        size_hw: height and width of the image, px.
        method: the choices of the method; without tiles, the image is one.
        frame_px: side of the network's input, which tiles are made for.
        seed: of the points.
    """
    height, width = size_hw
    scene = Image.fromarray(load_scenes()[0].image).resize((width, height))
    limit = np.array([width, height])
    points_xy = np.random.default_rng(seed).uniform(0, limit, (points, 2))
    sites = group_points(points_xy, size_hw)
    discs = discs_of(sites, size_hw, method)
    prompted = np.flatnonzero(sites_to_prompt(sites, None))
    tiles = plan_tiles(sites, discs, prompted, size_hw, frame_px, method)
    return Crowd(np.asarray(scene), points_xy, method, sites, discs, tiles)


def some_of(tiles: Sequence[Tile], count: int, seed: int = 0) -> list[Tile]:
    """Whole tiles, drawn at random, until they hold `count` sites; the last one only in part."""
    chosen: list[Tile] = []
    for index in np.random.default_rng(seed).permutation(len(tiles)):
        if not count:
            break
        tile = tiles[index]
        taken = min(count, len(tile.sites))
        spread = np.linspace(0, len(tile.sites) - 1, taken).round().astype(np.int64)
        chosen.append(replace(tile, sites=tile.sites[spread]))
        count -= taken
    return chosen


def prompts_of_tiles(crowd: Crowd, tiles: Sequence[Tile], engine: PromptEngine) -> list[Prompts]:
    """What a run asks a network about some tiles, and their embeddings."""
    claims = crowd.claims(crowd.method)
    found: list[Prompts] = []
    for tile in tiles:
        (encoded,) = engine.encode([crowd.crop(tile)])
        origin = np.array(tile.window_xyxy[:2])
        own_xy = crowd.sites.xy[tile.sites][:, None] - origin
        neighbours_xy = crowd.sites.xy[claims.neighbours[tile.sites]] - origin
        points_xy, labels = prompts_of(own_xy, neighbours_xy, encoded.frame)
        frame_xy = encoded.frame.to_frame(points_xy)
        found.append(Prompts(tile.window_xyxy, encoded, tile.sites, frame_xy, labels))
    return found
