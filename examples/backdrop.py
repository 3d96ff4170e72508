"""What stands round the crowd: ground, buildings, grandstand, stage, trees and sky, by ray casting.

The world behind the crowd is a few planes. Every pixel's ray meets the nearest of them, and a
pattern in that plane's own metres gives its colour; patterns fade where they get finer than pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.camera import Array, Camera, Light, linear, noise_at

PLAZA, STREET, STAND, CONCERT = "plaza", "street", "stand", "concert"
PLACES = (PLAZA, STREET, STAND, CONCERT)
STEP_M, RISE_M = 0.85, 0.42


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


def _fade(period_m: float, footprint_m: Array) -> Array:
    """Contrast left of a pattern, given how much of it a pixel covers."""
    return np.asarray(np.clip(1.4 - 2.2 * footprint_m / period_m, 0, 1), np.float32)


def _line(position: Array, width: float) -> Array:
    """1 on lines at whole numbers, 0 between them, soft at the edge."""
    away = np.abs((position + 0.5) % 1 - 0.5)
    return np.clip(1.5 - away / width, 0, 1)


def _layers(u: Array, v: Array, footprint_m: Array) -> Array:
    """Uneven brightness on all scales that pixels can show, about 0 with deviation 1."""
    total = np.zeros(np.broadcast(u, v).shape, np.float32)
    for per_m, weight in ((0.6, 0.5), (3.0, 0.55), (15.0, 0.45), (60.0, 0.4)):
        total += weight * _fade(4 / per_m, footprint_m) * noise_at(u * per_m, v * per_m)
    return total


def _paving(rng: np.random.Generator, x: Array, z: Array, grain_m: Array) -> Array:
    """Slabs with joints, (n, 3)."""
    size = float(rng.uniform(0.45, 1.1))
    tint = linear(tuple(rng.uniform(0.5, 0.68) + rng.normal(0, 0.018, 3)))
    row = np.floor(z / size)
    column = np.floor(x / size + (0.5 * (row % 2) if rng.random() < 0.5 else 0))
    slab = noise_at(column * 37 + 5, row * 53 + 9, 1) * _fade(size, grain_m)
    joint = np.maximum(
        _line(x / size + (column - np.floor(x / size)) * 0.5, 0.02), _line(z / size, 0.02)
    ) * _fade(size, grain_m)
    value = 1 + 0.05 * slab + 0.075 * _layers(x, z, grain_m) - 0.35 * joint
    if rng.random() < 0.5:
        band = (np.floor(x / (size * 6)) + np.floor(z / (size * 6))) % 2
        value = value * (1 - 0.16 * band * _fade(size * 6, grain_m))
    return np.asarray(tint * value[:, None], np.float32)


def _asphalt(rng: np.random.Generator, x: Array, z: Array, grain_m: Array) -> Array:
    """A road with lanes and a crossing, (n, 3)."""
    value = 1 + 0.12 * _layers(x, z, grain_m)
    colour = linear((0.37, 0.375, 0.385)) * value[:, None]
    lane = float(rng.uniform(3.0, 3.6))
    paint = (np.abs((x + 1.2) % lane - lane / 2) < 0.07) & (z % 6 < 3.5)
    start = float(rng.uniform(7, 12))
    paint |= (z > start) & (z < start + 3.5) & (x % 1.0 < 0.5)
    worn = np.clip(0.75 + 0.25 * noise_at(x * 18, z * 18), 0, 1) * paint
    return np.asarray(colour + (linear((0.82, 0.81, 0.78)) - colour) * worn[:, None], np.float32)


def _steps(x: Array, z: Array, near_m: float, grain_m: Array) -> Array:
    """Concrete steps of a stand with aisles, (n, 3)."""
    phase = ((z - near_m) / STEP_M) % 1
    riser = np.clip(1.6 - np.abs(phase - 0.94) / 0.07, 0, 1) * _fade(STEP_M, grain_m)
    aisle = np.abs(x % 14 - 7) < 0.6
    value = 1 + 0.1 * _layers(x, z, grain_m) - 0.45 * riser + 0.25 * aisle
    return np.asarray(linear((0.47, 0.46, 0.45)) * value[:, None], np.float32)


def _facade(
    rng: np.random.Generator, u: Array, v: Array, grain_m: Array, night: bool
) -> tuple[Array, NDArray[np.bool_]]:
    """A row of buildings: colours (n, 3) and where there is a building at all."""
    widths = rng.uniform(7, 20, 80)
    edges = np.cumsum(widths) - widths.sum() / 2
    which = np.searchsorted(edges, u).clip(0, 79)
    height = rng.uniform(9, 34, 80)[which]
    storey = rng.uniform(2.9, 3.8, 80)[which]
    pitch = rng.uniform(1.2, 2.6, 80)[which]
    share = rng.uniform(0.38, 0.66, (80, 2))[which]
    warmth = rng.normal(0.02, 0.035, (80, 1)) * np.array([1, 0.2, -1]) + rng.normal(0, 0.012, (80, 3))
    walls = linear(np.clip(rng.uniform(0.4, 0.78, (80, 1)) + warmth, 0.1, 1))
    local = u - edges[which]
    column, row = np.floor(local / pitch), np.floor(v / storey)
    fu, fv = local / pitch - column, v / storey - row
    fade = _fade(1.6, grain_m)
    glass = (np.abs(fu - 0.5) < share[:, 0] / 2) & (np.abs(fv - 0.55) < share[:, 1] / 2)
    frame = (np.abs(fu - 0.5) < share[:, 0] / 2 + 0.04) & (np.abs(fv - 0.55) < share[:, 1] / 2 + 0.05)
    wall = walls[which] * (1 + 0.06 * _layers(u, v, grain_m) - 0.25 * (fv < 0.06) * fade)[:, None]
    tint = noise_at(column * 71 + which * 13, row * 47 + which * 7, 1)
    pane = linear((0.2, 0.24, 0.29)) * (1 + 0.35 * tint + 0.5 * (fu - fv))[:, None]
    if night:
        pane = np.where((tint > 0.3)[:, None], linear((1.0, 0.82, 0.5)) * 1.6, pane * 0.3)
    shop = v < 3.4
    sign = shop & (v > 2.7)
    signs = linear(0.35 + 0.5 * (rng.uniform(0.0, 0.8, (80, 3)) - 0.3))[which]
    signs = signs + (0.75 - signs) * ((noise_at(u * 26, v * 40) > 0.9) & (np.abs(v - 3.05) < 0.2))[:, None]
    glass, frame = glass & ~shop, frame & ~shop
    door = shop & (v < 2.6) & (np.abs(fu - 0.5) < 0.42)
    clutter = 0.35 + 0.3 * np.clip(noise_at(u * 9, v * 9, 1), -1, 2)
    colour = wall + (wall * 0.55 - wall) * (frame & ~glass)[:, None] * fade[:, None]
    colour = colour + (pane - colour) * (glass * fade + 0.5 * (1 - fade) * ~shop)[:, None]
    balcony = (rng.random(80) < 0.35)[which] & (fv < 0.28) & ~shop & (v < height - 3)
    bars = np.where((u * 7 % 1 < 0.5) | (fv > 0.25), 0.45, 0.8)
    colour = np.where(balcony[:, None], colour * (1 - fade + fade * bars)[:, None], colour)
    colour = np.where(sign[:, None], signs, colour)
    colour = np.where(door[:, None], linear((0.5, 0.44, 0.38)) * clutter[:, None], colour)
    return np.asarray(colour, np.float32), np.asarray(v < height)


def _hedge(u: Array, v: Array, top_m: float) -> tuple[Array, NDArray[np.bool_]]:
    """A row of trees: colours (n, 3) and where leaves are."""
    lump = noise_at(u * 7, v * 7) * 0.9 + noise_at(u * 28, v * 28) * 0.35
    crown = top_m * (0.72 + 0.2 * noise_at(u * 2.4, u * 0 + 40)) + 0.5 * lump
    there = (v < crown) & (v > 1.6 + 0.4 * lump)
    trunk = (np.abs(u % 5.5 - 2.7) < 0.16) & (v <= 2.6)
    level = np.clip(v / top_m, 0, 1)
    speck = noise_at(u * 55, v * 55, 1)
    value = np.clip(0.3 + 0.75 * level + 0.32 * lump + 0.22 * speck, 0.08, 2)
    colour = linear((0.30, 0.38, 0.20)) * value[:, None]
    colour = np.where((trunk & ~there)[:, None], linear((0.25, 0.2, 0.16)), colour)
    return np.asarray(colour, np.float32), np.asarray(there | trunk)


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


def draw_backdrop(
    site: Site, camera: Camera, light: Light, night: bool
) -> tuple[Array, Array]:
    """Draw everything but the people.

    Returns:
        (H, W, 3) float32 linear light, haze included, and (H, W) float32 distance along the
        camera's axis in m, infinite in the sky.
    """
    h, w = camera.size_hw
    rays = camera.rays().reshape(-1, 3)
    rng = np.random.default_rng([site.seed, 5])
    image = _sky(rng, rays, light)
    top = np.array([0, camera.height_m, 0], np.float32)
    nearest = np.full(h * w, np.inf, np.float32)

    def meet(distance: Array, limit: Array) -> NDArray[np.intp]:
        return np.nonzero((distance > 0.3) & (distance < np.minimum(nearest, limit)))[0]

    def lay(where: NDArray[np.intp], colour: Array, distance: Array) -> None:
        image[where] = light.through_air(colour, distance)
        nearest[where] = distance

    ambient = light.sky + light.bounce
    with np.errstate(divide="ignore", invalid="ignore"):
        # Walls at the back and, in a street, at both sides: (distance, along, facing the sun).
        back = site.far_m / rays[:, 2]
        sides = site.half_width_m / np.abs(rays[:, 0])
        climb = rays[:, 1] - site.slope * rays[:, 2]
        floor = (-camera.height_m - site.slope * site.near_m) / climb
        flat = -camera.height_m / rays[:, 1]
    floor = np.where((climb < 0) & (floor > 0), floor, np.inf).astype(np.float32)
    if site.place == STAND:
        # The pitch in front of the first step.
        before = (rays[:, 1] < 0) & (flat * rays[:, 2] < site.near_m)
        floor = np.where(floor * rays[:, 2] < site.far_m, floor, np.inf)
        floor = np.where(before, flat, floor).astype(np.float32)
    walls = [(back, 0, float(-light.towards[2]))]
    if site.place == STREET:
        walls.append((sides, 2, 0.5))
    for distance, axis, sunward in walls:
        where = meet(distance.astype(np.float32), floor)
        d = distance[where].astype(np.float32)
        at = rays[where] * d[:, None] + top
        along, up = at[:, axis], at[:, 1] - site.ground_m(at[:, 2])
        if axis == 2:
            along = along + 200 * (at[:, 0] > 0)
        grain = d / camera.focal_px
        glow = ambient * 0.6 + light.sun * max(sunward, 0)
        if site.place == CONCERT:
            _stage(rng, image, where, along, up, d, nearest)
            continue
        if site.place == STAND:
            colour = linear((0.3, 0.31, 0.33)) * (1 + 0.1 * _layers(along, up, grain))[:, None]
            there = up < 3.2
        else:
            colour, there = _facade(rng, along, up, grain, night)
        lit = colour * (1 if night else glow)
        lay(where[there], lit[there], d[there])
        if site.place in (PLAZA, STREET) and axis == 0 and rng.random() < 0.75:
            leaves, there = _hedge(along, up, float(rng.uniform(5, 9)))
            lay(where[there], (leaves * (ambient + light.sun * 0.5))[there], d[there] * 0.97)
    where = meet(floor, nearest)
    d = floor[where]
    at = rays[where] * d[:, None] + top
    x, z = at[:, 0], at[:, 2]
    grain = d * d / (camera.focal_px * camera.height_m) + d / camera.focal_px
    if site.place == STAND:
        grass = linear((0.30, 0.42, 0.2)) * (1 + 0.15 * _layers(x, z, grain))[:, None]
        on_steps = (z > site.near_m)[:, None]
        colour = np.where(on_steps, _steps(x, z, site.near_m, d / camera.focal_px), grass)
    elif site.place == STREET and rng.random() < 0.7:
        colour = _asphalt(rng, x, z, grain)
    elif site.place == CONCERT:
        colour = linear((0.24, 0.23, 0.23)) * (1 + 0.2 * _layers(x, z, grain))[:, None]
    else:
        colour = _paving(rng, x, z, grain)
    lit = colour * (ambient * 0.85 + light.sun * max(float(light.towards[1]), 0))
    lay(where, lit.astype(np.float32), d)
    return image.reshape(h, w, 3), nearest.reshape(h, w)


def _stage(
    rng: np.random.Generator,
    image: Array,
    where: NDArray[np.intp],
    along: Array,
    up: Array,
    distance: Array,
    nearest: Array,
) -> None:
    """A dark hall with a stage: a bright screen, lamps, and the glow round them."""
    truss = (_line(along * 0.5 + up * 0.5, 0.06) + _line(along * 0.5 - up * 0.5, 0.06)) * (
        np.abs(up - 8.6) < 0.5
    )
    colour = linear((0.07, 0.07, 0.09)) * (1 + 3 * truss)[:, None]
    hue, other = rng.uniform(0.1, 1.0, (2, 3))
    screen = (np.abs(along) < 7) & (up > 2.2) & (up < 7.5)
    clouds = noise_at(along * 2 + 30, up * 2) + 0.4 * noise_at(along * 9, up * 9)
    mix = np.clip(0.5 + 0.4 * clouds, 0, 1)[:, None]
    panels = 1 - 0.4 * np.maximum(_line(along / 1.75, 0.02), _line((up - 2.2) / 1.325, 0.02))
    shown = (linear(tuple(hue)) * mix + linear(tuple(other)) * (1 - mix)) * panels[:, None]
    colour = np.where(screen[:, None], shown * 1.2 + 0.02, colour).astype(np.float32)
    for lamp in np.linspace(-11, 11, 12):
        apart = np.hypot(along - lamp, up - 8.6)
        tint = linear(tuple(np.clip(rng.uniform(0.4, 1.1, 3), 0, 1)))
        colour += (2.5 * np.exp(-((apart / 0.35) ** 2)) + 0.28 * np.exp(-apart / 1.6))[:, None] * tint
    image[where] = colour
    nearest[where] = distance
