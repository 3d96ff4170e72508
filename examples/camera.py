"""The pinhole camera above the crowd and the light that falls on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
"""Pictures and geometry; float32 wherever it is many numbers."""

TILE_PX, CELL_PX = 1024, 4


def unit(vector: Array) -> Array:
    """Scale (..., 3) vectors to length 1."""
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.asarray(vector / length, np.float32)


def linear(srgb: Array | tuple[float, ...]) -> Array:
    """Turn display colours in 0..1 into linear light."""
    return np.asarray(np.power(np.asarray(srgb, np.float32), np.float32(2.2)))


@lru_cache(maxsize=4)
def noise_tile(seed: int = 0) -> Array:
    """Smooth periodic noise, mean 0, deviation 1, features of some cells, square float32."""
    white = np.random.default_rng(seed).standard_normal((TILE_PX, TILE_PX))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TILE_PX), np.fft.fftfreq(TILE_PX)))
    waves = frequency * CELL_PX  # per cell
    band = np.exp(-((waves * 9) ** 2)) / (waves + 0.02)
    smooth = np.fft.ifft2(np.fft.fft2(white) * band).real
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def noise_at(u: Array, v: Array, seed: int = 0) -> Array:
    """Look the noise up at (u, v) in cells; it repeats after TILE_PX / CELL_PX of them."""
    mask = TILE_PX - 1
    tile: Array = noise_tile(seed)
    rows, columns = (v * CELL_PX).astype(np.int32), (u * CELL_PX).astype(np.int32)
    return np.asarray(tile.ravel()[(rows & mask) * TILE_PX + (columns & mask)])


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at (0, height, 0) that looks along +Z, tilted down.

    World: X right, Y up, Z away, metres. View: x right, y down, z away from the camera.

    Attributes:
        size_hw: height and width of the image, px.
        height_m: height above the ground.
        pitch: angle below the horizontal, radians.
        focal_px: focal length.
    """

    size_hw: tuple[int, int]
    height_m: float
    pitch: float
    focal_px: float

    @property
    def axes(self) -> Array:
        """Rows right, down and forward in world coordinates, (3, 3)."""
        s, c = np.sin(self.pitch), np.cos(self.pitch)
        return np.array([[1, 0, 0], [0, -c, -s], [0, -s, c]], np.float32)

    @property
    def centre_xy(self) -> tuple[float, float]:
        """The principal point, px; pixel centres are integers."""
        return (self.size_hw[1] - 1) / 2, (self.size_hw[0] - 1) / 2

    def project(self, world: Array) -> Array:
        """Project (N, 3) world points to (N, 3): x px, y px, distance along the axis in m."""
        view = (world - np.array([0, self.height_m, 0])) @ self.axes.T
        z = np.maximum(view[:, 2], 0.05)
        cx, cy = self.centre_xy
        columns = (cx + self.focal_px * view[:, 0] / z, cy + self.focal_px * view[:, 1] / z, z)
        return np.stack(columns, axis=1).astype(np.float32)

    def facing(self, world: Array) -> Array:
        """Rows right, down and forward of the ray through one world point, (3, 3)."""
        forward = unit(world - np.array([0, self.height_m, 0]))
        right = unit(np.cross(forward, np.array([0, 1, 0])) * -1)
        return np.stack([right, unit(np.cross(right, forward)), forward]).astype(np.float32)

    def rays(self) -> Array:
        """Directions of all pixels in world coordinates, (H, W, 3), forward part 1."""
        h, w = self.size_hw
        cx, cy = self.centre_xy
        x = (np.arange(w, dtype=np.float32) - cx) / self.focal_px
        y = (np.arange(h, dtype=np.float32) - cy) / self.focal_px
        right, down, forward = self.axes
        rays = x[None, :, None] * right + y[:, None, None] * down + forward
        return np.asarray(rays, np.float32)


@dataclass(frozen=True)
class Light:
    """One sun or lamp, the sky above and the ground below, in linear light.

    Attributes:
        towards: unit vector to the sun, world.
        sun, sky, bounce: (3,) colours of the sun, of the sky and of the light from below.
        haze: (3,) colour of far air.
        haze_per_m: share of the colour lost to the air in a metre.
    """

    towards: Array
    sun: Array
    sky: Array
    bounce: Array
    haze: Array
    haze_per_m: float

    def through_air(self, colour: Array, distance_m: Array | float) -> Array:
        """Mix the haze into colours (..., 3) seen over a distance (...)."""
        clear = np.exp(-self.haze_per_m * np.asarray(distance_m, np.float32))[..., None]
        return np.asarray(self.haze + (colour - self.haze) * clear, np.float32)
