"""What stands round the crowd: ground, buildings, grandstand, stage, trees and sky, by ray casting.

The world behind the crowd is a few planes. Every pixel's ray meets the nearest of them, and a
pattern in that plane's own metres gives its colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples import surfaces
from examples.camera import Array, Camera, Light, noise_at
from examples.surfaces import RISE_M, STEP_M

PLAZA, STREET, STAND, CONCERT = "plaza", "street", "stand", "concert"
PLACES = (PLAZA, STREET, STAND, CONCERT)


@dataclass(frozen=True)
class Site:
    """Where the crowd is.

    Attributes:
        place: one of PLACES.
        near_m: where a grandstand's first step begins.
        far_m: distance of the wall behind the crowd.
        half_width_m: from the middle to the walls at both sides.
        seed: chooses the patterns.
    """

    place: str
    near_m: float
    far_m: float
    half_width_m: float
    seed: int

    @property
    def slope(self) -> float:
        """Rise of the ground per metre of distance."""
        return RISE_M / STEP_M if self.place == STAND else 0.0

    def ground_m(self, z_m: Array) -> Array:
        """Height of the ground at a distance."""
        steps = np.maximum(np.floor((z_m - self.near_m) / STEP_M) + 1, 0)
        return np.asarray(steps * RISE_M if self.place == STAND else z_m * 0, np.float32)


def _sky(rng: np.random.Generator, rays: Array, light: Light) -> Array:
    """Sky with clouds, (n, 3)."""
    up = np.clip(rays[:, 1] / np.linalg.norm(rays, axis=1), 0, 1)
    zenith = light.sky * np.array([0.55, 0.75, 1.05], np.float32)
    colour = light.haze + (zenith - light.haze) * np.sqrt(up)[:, None]
    flat = 1 / (up + 0.12)
    u, v = rays[:, 0] * flat * 60 + rng.uniform(0, 256), flat * 60
    cloud = noise_at(u, v) + 0.5 * noise_at(u * 3, v * 3)
    cover = np.clip(cloud * 0.5 + rng.uniform(-0.3, 0.4), 0, 0.9)
    return np.asarray(colour + (light.haze * 1.15 - colour) * cover[:, None], np.float32)


class _Canvas:
    """The picture while its planes are laid, nearest last; all pixels in one row."""

    def __init__(self, camera: Camera, light: Light, rng: np.random.Generator) -> None:
        self.light, self.camera = light, camera
        self.rays = camera.rays().reshape(-1, 3)
        self.colour = _sky(rng, self.rays, light)
        self.distance = np.full(len(self.rays), np.inf, np.float32)

    def meet(self, distance: Array, limit: Array) -> tuple[NDArray[np.intp], Array, Array]:
        """Pixels that see a plane before anything else: which, their distances, world points."""
        seen = (distance > 0.3) & (distance < np.minimum(self.distance, limit))
        where = np.flatnonzero(seen)
        d = distance[where].astype(np.float32)
        eye = np.array([0, self.camera.height_m, 0], np.float32)
        return where, d, self.rays[where] * d[:, None] + eye

    def lay(self, where: NDArray[np.intp], colour: Array, distance: Array) -> None:
        """Put lit colours at a distance."""
        self.colour[where] = self.light.through_air(colour, distance)
        self.distance[where] = distance


def _ground_distance(site: Site, camera: Camera, rays: Array) -> Array:
    """How far each ray goes to the ground or to the steps of a stand; infinite if it misses."""
    climb = rays[:, 1] - site.slope * rays[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = (-camera.height_m - site.slope * site.near_m) / climb
        flat = -camera.height_m / rays[:, 1]
    floor = np.where((climb < 0) & (floor > 0), floor, np.inf)
    if site.place == STAND:
        floor = np.where(floor < site.far_m / rays[:, 2], floor, np.inf)
        floor = np.where((rays[:, 1] < 0) & (flat * rays[:, 2] < site.near_m), flat, floor)
    return np.asarray(floor, np.float32)


def _draw_wall(
    canvas: _Canvas,
    site: Site,
    rng: np.random.Generator,
    distance: Array,
    floor: Array,
    side: bool,
    night: bool,
) -> None:
    light = canvas.light
    where, d, at = canvas.meet(distance, floor)
    up = at[:, 1] - site.ground_m(at[:, 2])
    # The two sides of a street are parts of one long row of houses.
    along = at[:, 2] + 200 * (at[:, 0] > 0) if side else at[:, 0]
    grain = d / canvas.camera.focal_px
    sunward = 0.5 if side else max(0.0, float(-light.towards[2]))
    glow = (light.sky + light.bounce) * 0.6 + light.sun * sunward
    if site.place == CONCERT:
        canvas.colour[where] = surfaces.stage(rng, along, up)
        canvas.distance[where] = d
        return
    if site.place == STAND:
        colour, there = surfaces.concrete(along, up, grain), up < 3.2
    else:
        colour, there = surfaces.facade(rng, along, up, grain, night)
    canvas.lay(where[there], (colour if night else colour * glow)[there], d[there])
    if site.place != STAND and not side and rng.random() < 0.75:
        leaves, there = surfaces.hedge(along, up, float(rng.uniform(5, 9)))
        leaves = leaves * (light.sky + light.bounce + light.sun * 0.5)
        canvas.lay(where[there], leaves[there], d[there] * 0.97)


def _draw_ground(canvas: _Canvas, site: Site, rng: np.random.Generator, floor: Array) -> None:
    camera, light = canvas.camera, canvas.light
    where, d, at = canvas.meet(floor, canvas.distance)
    x, z = at[:, 0], at[:, 2]
    grain = d * d / (camera.focal_px * camera.height_m) + d / camera.focal_px
    if site.place == STAND:
        steps = surfaces.steps(rng, x, z - site.near_m, d / camera.focal_px)
        on_steps = (z > site.near_m)[:, None]
        colour: Array = np.where(on_steps, steps, surfaces.grass(x, z, grain))
    elif site.place == CONCERT:
        colour = surfaces.concrete(x, z, grain) * np.float32(0.7)
    elif site.place == STREET and rng.random() < 0.7:
        colour = surfaces.asphalt(rng, x, z, grain)
    else:
        colour = surfaces.paving(rng, x, z, grain)
    sunward = max(0.0, float(light.towards[1]))
    canvas.lay(where, colour * ((light.sky + light.bounce) * 0.85 + light.sun * sunward), d)


def draw_backdrop(site: Site, camera: Camera, light: Light, night: bool) -> tuple[Array, Array]:
    """Draw everything but the people.

    Returns:
        (H, W, 3) float32 linear light, haze included, and (H, W) float32 distance along the
        camera's axis in m, infinite in the sky.
    """
    rng = np.random.default_rng([site.seed, 5])
    canvas = _Canvas(camera, light, rng)
    rays = canvas.rays
    floor = _ground_distance(site, camera, rays)
    _draw_wall(canvas, site, rng, site.far_m / rays[:, 2], floor, False, night)
    if site.place == STREET:
        sideways = np.maximum(np.abs(rays[:, 0]), 1e-6)
        _draw_wall(canvas, site, rng, site.half_width_m / sideways, floor, True, night)
    _draw_ground(canvas, site, rng, floor)
    shape = camera.size_hw
    return canvas.colour.reshape(*shape, 3), canvas.distance.reshape(shape)
