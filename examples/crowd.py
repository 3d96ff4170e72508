"""Where a crowd stands: the site, the camera above it, the light, and everybody's place in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from examples.backdrop import CONCERT, PLACES, PLAZA, STAND, STREET, Site
from examples.camera import Array, Camera, Light, linear, unit
from examples.poses import Person, random_person
from examples.surfaces import RISE_M, STEP_M
from examples.wardrobe import random_look

SUN, OVERCAST, FOG, RAIN, SNOW, NIGHT = "sun", "overcast", "fog", "rain", "snow", "night"
WEATHERS = (SUN, OVERCAST, FOG, RAIN, SNOW, NIGHT)
MARGIN_PX = 3.0
CLEARANCE_M = 0.44
PATIENCE = 400
"""Places tried in vain before people stand closer together."""
SMALLEST_M_PER_FOCAL_PX = 0.05
"""Nobody stands further away than this times the focal length: heads would be under 3 px wide."""
NEARBY_M = 12.0
"""But there is room this far beyond the nearest ground in view, however small the image."""


class NoRoomError(ValueError):
    """More people are asked for than the ground in view can hold."""


@dataclass(frozen=True)
class Setting:
    """All of a scene but its people."""

    site: Site
    camera: Camera
    light: Light
    weather: str


def _light(rng: np.random.Generator, weather: str) -> Light:
    height, turn = rng.uniform(0.6, 1.15), rng.uniform(-2.6, 2.6)
    level = np.cos(height)
    towards = np.array([level * np.sin(turn), np.sin(height), -level * np.cos(turn)])
    # Colours of sun, sky, bounce and haze; haze per metre.
    warm = rng.uniform(0.8, 0.98)
    table: dict[str, tuple[Array, Array, Array, Array, float]] = {
        SUN: (
            np.array([1.5, 1.36, 1.18 * warm]),
            np.array([0.42, 0.5, 0.62]),
            np.array([0.26, 0.23, 0.19]),
            linear((0.74, 0.81, 0.9)),
            0.0025,
        ),
        OVERCAST: (
            np.array([0.28, 0.28, 0.28]),
            np.array([0.84, 0.88, 0.95]),
            np.array([0.27, 0.26, 0.25]),
            linear((0.82, 0.85, 0.88)),
            0.004,
        ),
        FOG: (
            np.array([0.12, 0.12, 0.12]),
            np.array([0.8, 0.82, 0.85]),
            np.array([0.36, 0.36, 0.36]),
            linear((0.8, 0.82, 0.84)),
            float(rng.uniform(0.018, 0.035)),
        ),
        RAIN: (
            np.array([0.12, 0.12, 0.13]),
            np.array([0.56, 0.61, 0.7]),
            np.array([0.2, 0.2, 0.21]),
            linear((0.62, 0.66, 0.7)),
            0.009,
        ),
        SNOW: (
            np.array([0.15, 0.15, 0.16]),
            np.array([0.84, 0.88, 0.97]),
            np.array([0.5, 0.51, 0.54]),
            linear((0.85, 0.87, 0.9)),
            0.012,
        ),
        NIGHT: (
            linear(np.clip(rng.uniform(0.3, 1.0, 3) + 0.25, 0, 1)) * 1.3,
            linear(rng.uniform(0.4, 0.65, 3)) * 0.8 + 0.03,
            np.array([0.05, 0.05, 0.06]),
            linear((0.16, 0.15, 0.2)),
            0.012,
        ),
    }
    if weather == NIGHT:
        towards = np.array([rng.uniform(-0.6, 0.6), 0.62, rng.choice([0.7, -0.7, -0.7])])
    sun, sky, bounce, haze, share = table[weather]
    sun, sky, bounce, haze = (np.asarray(c, np.float32) for c in (sun, sky, bounce, haze))
    return Light(unit(towards), sun, sky, bounce, haze, share)


def random_place(seed: int) -> str:
    """Draw one of the places."""
    return str(np.random.default_rng([seed, 6]).choice(PLACES, p=[0.35, 0.3, 0.2, 0.15]))


def random_setting(
    seed: int, size_hw: tuple[int, int], people: int, place: str, weather: str | None = None
) -> Setting:
    """Draw a setting at a place that suits a number of people."""
    rng = np.random.default_rng([seed, 1])
    chance = str(rng.choice(WEATHERS, p=[0.45, 0.33, 0.07, 0.07, 0.05, 0.03]))
    weather = weather or (NIGHT if place == CONCERT else chance)
    h, w = size_hw
    focal = min(max(h, w), 2 * min(h, w)) * rng.uniform(0.82, 1.15)
    steep = 0.5 * h / focal
    if place == PLAZA:
        high = rng.random() < 0.3
        height = rng.uniform(8, 14) if high else rng.uniform(3.6, 6.5)
        horizon = rng.uniform(-0.5, -0.1) if high else rng.uniform(0.03, 0.22)
        near, far, half = 0.0, rng.uniform(32, 55), 200.0
    elif place == STREET:
        height, horizon = rng.uniform(3.2, 6.0), rng.uniform(0.08, 0.26)
        near, far, half = 0.0, rng.uniform(55, 90), rng.uniform(8, 14)
    elif place == STAND:
        height, horizon, near, half = rng.uniform(2.5, 6.0), 0.0, rng.uniform(5, 10), 200.0
        # Rows enough for three quarters of the seats in view to be taken, at least eight.
        rows = max(8, round((float(np.hypot(near, 1.15 * people**0.5)) - near) / STEP_M))
        far = near + STEP_M * rows
    else:
        height, horizon = rng.uniform(3.0, 5.0), rng.uniform(0.12, 0.3)
        near, half = 0.0, 200.0
        far = max(14.0, float(np.sqrt(people * rng.uniform(0.9, 1.5) + 16)))
    # The pitch that puts the horizon at that share of the image's height from its top.
    pitch = float(np.arctan((1 - 2 * horizon) * steep))
    if place == STAND:
        # The highest row's heads stand a little below the image's upper edge.
        top_m = RISE_M / STEP_M * (far - near) + 2 - height
        pitch = float(np.arctan((1 - 2 * rng.uniform(0.04, 0.2)) * steep) - np.arctan(top_m / far))
    site = Site(place, float(near), float(far), float(half), seed)
    camera = Camera(size_hw, float(height), pitch, float(focal))
    return Setting(site, camera, _light(rng, weather), weather)


class _Floor:
    """Places taken so far, looked up by cell, so that nobody stands in somebody else."""

    def __init__(self, clearance_m: float, persons: list[Person]) -> None:
        self.clearance_m = clearance_m
        self._cells: dict[tuple[int, int], list[tuple[float, float]]] = {}
        for person in persons:
            self.take(float(person.feet_m[0]), float(person.feet_m[2]))

    def free(self, x: float, z: float) -> bool:
        """Tell whether nobody is too close."""
        i, j = self._cell(x, z)
        limit = self.clearance_m**2
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                for ox, oz in self._cells.get((i + di, j + dj), ()):
                    if (ox - x) ** 2 + (oz - z) ** 2 < limit:
                        return False
        return True

    def take(self, x: float, z: float) -> None:
        """Take the place."""
        self._cells.setdefault(self._cell(x, z), []).append((x, z))

    def _cell(self, x: float, z: float) -> tuple[int, int]:
        return int(x // self.clearance_m), int(z // self.clearance_m)


def _head_in_image(camera: Camera, feet: Array, head_m: float) -> bool:
    x, y, z = camera.project((feet + np.array([0, head_m, 0], np.float32))[None])[0]
    h, w = camera.size_hw
    inside = MARGIN_PX <= x < w - MARGIN_PX and MARGIN_PX <= y < h - MARGIN_PX
    return bool(inside and z > 1.2)


def _half_view_m(setting: Setting, z: float) -> float:
    reach = z * 0.52 * setting.camera.size_hw[1] / setting.camera.focal_px
    return min(reach + 0.3, setting.site.half_width_m - 0.4)


def _sharp_m(setting: Setting) -> float:
    """How far away people may stand, to be more than specks."""
    camera, site = setting.camera, setting.site
    down = camera.pitch + float(np.arctan(0.5 * camera.size_hw[0] / camera.focal_px))
    nearest = camera.height_m / np.tan(down) if 0 < down < np.pi / 2 else 0.0
    nearest = max(site.near_m, nearest)
    return float(max(nearest + NEARBY_M, SMALLEST_M_PER_FOCAL_PX * camera.focal_px))


def place_people(setting: Setting, people: int, seed: int) -> list[Person]:
    """Place `people` persons whose heads are all in the image, in random order.

    Raises:
        NoRoomError: if they find no ground in view to stand on.
    """
    rng = np.random.default_rng([seed, 2])
    site, camera = setting.site, setting.camera
    cold = float(np.clip(rng.normal(0.8 if setting.weather == SNOW else 0.35, 0.3), 0, 1))
    dark = float(rng.uniform(0.25, 0.75))
    crowding, loud = float(rng.uniform(0.8, 1.7)), {STAND: 0.12, CONCERT: 0.4}.get(site.place, 0.02)
    sitting = float(rng.random() < 0.5) * 0.8 if site.place == STAND else 0.0
    flow = float(rng.uniform(0, 2 * np.pi))
    far_m = min(site.far_m - 0.8, _sharp_m(setting))
    floor, persons, misses = _Floor(CLEARANCE_M, []), list[Person](), 0
    while len(persons) < people:
        misses += 1
        if misses > PATIENCE:
            if floor.clearance_m < 0.05:
                raise NoRoomError(f"no room for {people} people in this scene")
            floor, misses = _Floor(floor.clearance_m * 0.8, persons), 0
        mate = persons[int(rng.integers(len(persons)))] if persons and rng.random() < 0.45 else None
        if mate is not None and site.place in (PLAZA, STREET):
            angle, apart = rng.uniform(0, 2 * np.pi), floor.clearance_m * rng.uniform(1.0, 2.0)
            x = float(mate.feet_m[0] + apart * np.cos(angle))
            z = float(mate.feet_m[2] + apart * np.sin(angle))
            yaw = mate.yaw + rng.normal(0, 0.5)
        else:
            z = site.near_m + (far_m - site.near_m) * float(rng.random()) ** crowding
            reach = _half_view_m(setting, z)
            x = float(rng.uniform(-reach, reach))
            yaw = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else flow + rng.normal(0, 0.4)
            yaw += np.pi * float(rng.random() < 0.4)
        if site.place == STAND:
            row = np.floor((z - site.near_m) / STEP_M)
            z = float(site.near_m + STEP_M * (row + rng.uniform(0.3, 0.5)))
            yaw = rng.normal(0, 0.25)
        elif site.place == CONCERT:
            yaw = np.pi + rng.normal(0, 0.3)
        if not (1.0 < z < far_m + 0.5 and abs(x) < site.half_width_m - 0.3):
            continue
        ground = float(site.ground_m(np.array([z], np.float32))[0])
        feet = np.array([x, ground, z], np.float32)
        if not floor.free(x, z) or not _head_in_image(camera, feet, 1.3):
            continue
        seated = bool(rng.random() < sitting)
        look = random_look(rng, cold, dark)
        person = random_person(rng, feet, float(yaw), look, loud, seated)
        head_m = float(person.head_m[1] - feet[1])
        if _head_in_image(camera, feet, head_m):
            floor.take(x, z)
            persons.append(person)
            misses = 0
    return persons
