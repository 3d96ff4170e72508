"""Patterns of the ground and of what stands behind a crowd, as functions of metres.

Every pattern fades where it gets finer than the pixels that show it (`grain_m`, metres a pixel).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from examples.camera import Array, linear, noise_at

STEP_M, RISE_M = 0.85, 0.42
"""Depth and height of a grandstand's step."""


def _fade(period_m: float, footprint_m: Array) -> Array:
    """Contrast left of a pattern, given how much of it a pixel covers."""
    return np.asarray(np.clip(1.4 - 2.2 * footprint_m / period_m, 0, 1), np.float32)


def line(position: Array, width: float) -> Array:
    """1 on lines at whole numbers, 0 between them, soft at the edge."""
    away = np.abs((position + 0.5) % 1 - 0.5)
    return np.asarray(np.clip(1.5 - away / width, 0, 1))


def layers(u: Array, v: Array, footprint_m: Array) -> Array:
    """Uneven brightness on all scales that pixels can show, about 0 with deviation 1."""
    total = np.zeros(np.broadcast(u, v).shape, np.float32)
    for per_m, weight in ((0.6, 0.5), (3.0, 0.55), (15.0, 0.45), (60.0, 0.4)):
        total += weight * _fade(4 / per_m, footprint_m) * noise_at(u * per_m, v * per_m)
    return total


def paving(rng: np.random.Generator, x: Array, z: Array, grain_m: Array) -> Array:
    """Slabs with joints, (n, 3)."""
    size = float(rng.uniform(0.45, 1.1))
    tint = linear(tuple(rng.uniform(0.5, 0.68) + rng.normal(0, 0.018, 3)))
    row = np.floor(z / size)
    column = np.floor(x / size + (0.5 * (row % 2) if rng.random() < 0.5 else 0))
    slab = noise_at(column * 37 + 5, row * 53 + 9, 1) * _fade(size, grain_m)
    joint = np.maximum(
        line(x / size + (column - np.floor(x / size)) * 0.5, 0.02), line(z / size, 0.02)
    ) * _fade(size, grain_m)
    value = 1 + 0.05 * slab + 0.075 * layers(x, z, grain_m) - 0.35 * joint
    if rng.random() < 0.5:
        band = (np.floor(x / (size * 6)) + np.floor(z / (size * 6))) % 2
        value = value * (1 - 0.16 * band * _fade(size * 6, grain_m))
    return np.asarray(tint * value[:, None], np.float32)


def asphalt(rng: np.random.Generator, x: Array, z: Array, grain_m: Array) -> Array:
    """A road with lanes and a crossing, (n, 3)."""
    value = 1 + 0.12 * layers(x, z, grain_m)
    colour = linear((0.37, 0.375, 0.385)) * value[:, None]
    lane = float(rng.uniform(3.0, 3.6))
    paint = (np.abs((x + 1.2) % lane - lane / 2) < 0.07) & (z % 6 < 3.5)
    start = float(rng.uniform(7, 12))
    paint |= (z > start) & (z < start + 3.5) & (x % 1.0 < 0.5)
    worn = np.clip(0.75 + 0.25 * noise_at(x * 18, z * 18), 0, 1) * paint
    return np.asarray(colour + (linear((0.82, 0.81, 0.78)) - colour) * worn[:, None], np.float32)


def steps(rng: np.random.Generator, x: Array, up_m: Array, grain_m: Array) -> Array:
    """Concrete steps of a stand with rows of seats and aisles, (n, 3)."""
    phase = (up_m / STEP_M) % 1
    fade = _fade(STEP_M, grain_m)
    riser = np.clip(1.6 - np.abs(phase - 0.94) / 0.07, 0, 1) * fade
    aisle = np.abs(x % 14 - 7) < 0.6
    value = 1 + 0.1 * layers(x, up_m, grain_m) - 0.45 * riser + 0.25 * aisle
    concrete = linear((0.43, 0.42, 0.41)) * value[:, None]
    seat = (np.abs(x % 0.55 - 0.275) < 0.21) & (np.abs(phase - 0.72) < 0.17) & ~aisle
    plastic = linear(tuple(rng.uniform(0.12, 0.6, 3))) * (0.55 + 1.2 * np.abs(phase - 0.5))[:, None]
    return np.asarray(concrete + (plastic - concrete) * (seat * fade)[:, None], np.float32)


def concrete(u: Array, v: Array, grain_m: Array) -> Array:
    """A plain dark wall or floor, (n, 3)."""
    return np.asarray(linear((0.3, 0.31, 0.32)) * (1 + 0.12 * layers(u, v, grain_m))[:, None])


def grass(x: Array, z: Array, grain_m: Array) -> Array:
    """A lawn, (n, 3)."""
    return np.asarray(linear((0.30, 0.42, 0.2)) * (1 + 0.15 * layers(x, z, grain_m))[:, None])


def facade(
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
    warmth = rng.normal(0.02, 0.035, (80, 1)) * np.array([1, 0.2, -1])
    warmth = warmth + rng.normal(0, 0.012, (80, 3))
    walls = linear(np.clip(rng.uniform(0.4, 0.78, (80, 1)) + warmth, 0.1, 1))
    local = u - edges[which]
    column, row = np.floor(local / pitch), np.floor(v / storey)
    fu, fv = local / pitch - column, v / storey - row
    fade = _fade(1.6, grain_m)
    glass = (np.abs(fu - 0.5) < share[:, 0] / 2) & (np.abs(fv - 0.55) < share[:, 1] / 2)
    rim = share / 2 + [0.04, 0.05]
    frame = (np.abs(fu - 0.5) < rim[:, 0]) & (np.abs(fv - 0.55) < rim[:, 1])
    worn = 1 + 0.06 * layers(u, v, grain_m) - 0.25 * (fv < 0.06) * fade
    wall = walls[which] * worn[:, None]
    tint = noise_at(column * 71 + which * 13, row * 47 + which * 7, 1)
    pane = linear((0.2, 0.24, 0.29)) * (1 + 0.35 * tint + 0.5 * (fu - fv))[:, None]
    if night:
        pane = np.where((tint > 0.3)[:, None], linear((1.0, 0.82, 0.5)) * 1.6, pane * 0.3)
    shop = v < 3.4
    sign = shop & (v > 2.7)
    signs = linear(0.35 + 0.5 * (rng.uniform(0.0, 0.8, (80, 3)) - 0.3))[which]
    letters = (noise_at(u * 26, v * 40) > 0.9) & (np.abs(v - 3.05) < 0.2)
    signs = signs + (0.75 - signs) * letters[:, None]
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


def hedge(u: Array, v: Array, top_m: float) -> tuple[Array, NDArray[np.bool_]]:
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


def stage(rng: np.random.Generator, along: Array, up: Array) -> Array:
    """A dark hall with a stage: a bright screen, a truss, lamps and the glow round them, (n, 3)."""
    truss = (line(along * 0.5 + up * 0.5, 0.06) + line(along * 0.5 - up * 0.5, 0.06)) * (
        np.abs(up - 8.6) < 0.5
    )
    colour = linear((0.07, 0.07, 0.09)) * (1 + 3 * truss)[:, None]
    hue, other = 0.25 + 0.75 * rng.random((2, 3)) ** 1.5
    screen = (np.abs(along) < 5.5) & (up > 2.4) & (up < 6.4)
    clouds = noise_at(along * 2 + 30, up * 2) + 0.4 * noise_at(along * 9, up * 9)
    mix = np.clip(0.5 + 0.4 * clouds, 0, 1)[:, None]
    panels = 1 - 0.4 * np.maximum(line(along / 1.1, 0.02), line((up - 2.4) / 1.0, 0.02))
    shown = (linear(tuple(hue)) * mix + linear(tuple(other)) * (1 - mix)) * panels[:, None]
    colour = np.where(screen[:, None], shown * 0.4 + 0.02, colour).astype(np.float32)
    for lamp in np.linspace(-11, 11, 12):
        apart = np.hypot(along - lamp, up - 8.6)
        tint = linear(tuple(np.clip(rng.uniform(0.4, 1.1, 3), 0, 1)))
        glow = 1.5 * np.exp(-((apart / 0.35) ** 2)) + 0.12 * np.exp(-apart / 1.6)
        colour += glow[:, None] * tint
    return np.asarray(colour, np.float32)
