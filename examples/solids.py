"""A small depth-buffered canvas on which one person's rounded solids are ray-cast and lit.

Every solid is drawn by closed formulas on its own window only: ellipsoids exactly for parallel
rays, limbs and trunks as swept circles and ellipses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.camera import Array, Light, unit

BODY, HEAD = 1, 2
PROFILE_STEPS = 64

Paint = Callable[[Array], Array]
"""Surface coordinates of n pixels to their (n, 3) linear colours.

Ellipsoids give (n, 3) coordinates on the unit sphere; limbs and trunks (n, 2): radians round the
axis (0 in front) and the share of the way along it."""

Keep = Callable[[Array], NDArray[np.bool_]]
"""Which of an ellipsoid's pixels, by (n, 3) coordinates on the unit sphere, are really there."""


@dataclass(frozen=True)
class Place:
    """A joint as it is seen: image position in px, distance in m, px per metre there."""

    x: float
    y: float
    z: float
    scale: float


@dataclass(frozen=True)
class Sprite:
    """A lit person, cut to the image.

    Attributes:
        origin_xy: image pixel of the first element.
        colour: (h, w, 3) linear light, multiplied by the coverage.
        coverage: (h, w) share of each pixel that the person covers.
        head: (h, w) share of each pixel that the person's head covers.
    """

    origin_xy: tuple[int, int]
    colour: Array
    coverage: Array
    head: Array


class Sheet:
    """Depth, colour and normal of one person, several samples to a pixel's side.

    Args:
        box_xyxy: the pixels covered, half open.
        samples: samples along a pixel's side; with one, edges are softened by a blur instead.
    """

    def __init__(self, box_xyxy: tuple[int, int, int, int], samples: int) -> None:
        self.x0, self.y0, x1, y1 = box_xyxy
        self.samples = samples
        self.h, self.w = (y1 - self.y0) * samples, (x1 - self.x0) * samples
        self._depth = np.full((self.h, self.w), np.inf, np.float32)
        self._colour = np.zeros((self.h * self.w, 3), np.float32)
        self._normal = np.zeros((self.h * self.w, 3), np.float32)
        self._part = np.zeros(self.h * self.w, np.uint8)

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice] | None:
        n = self.samples
        left, right = max(0, int((x0 - self.x0) * n)), min(self.w, int((x1 - self.x0 + 1) * n) + 1)
        top, bottom = max(0, int((y0 - self.y0) * n)), min(self.h, int((y1 - self.y0 + 1) * n) + 1)
        if left >= right or top >= bottom:
            return None
        return slice(top, bottom), slice(left, right)

    def _grid(self, window: tuple[slice, slice]) -> tuple[Array, Array]:
        rows, columns = window
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5) / self.samples
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / self.samples
        return x[None] + (self.x0 - 0.5), y[:, None] + (self.y0 - 0.5)

    def _write(
        self,
        window: tuple[slice, slice],
        where: NDArray[np.intp],
        depth: Array,
        colour: Array,
        normal: Array,
        part: int,
    ) -> None:
        """Store samples, given by their flat index in the window."""
        rows, columns = window
        width = columns.stop - columns.start
        flat = where + (where // width) * (self.w - width) + rows.start * self.w + columns.start
        self._depth.reshape(-1)[flat] = depth
        self._colour[flat] = colour
        self._normal[flat] = normal
        self._part[flat] = part

    def ellipsoid(
        self,
        at: Place,
        axes: Array,
        radii_m: tuple[float, float, float],
        paint: Paint,
        part: int = BODY,
        keep: Keep | None = None,
    ) -> None:
        """Draw an ellipsoid; `axes` holds its three unit axes as rows, in the view's frame."""
        radii = np.asarray(radii_m, np.float32)[:, None]
        reach = np.sqrt(((radii * axes) ** 2).sum(axis=0)) * at.scale
        window = self._window(at.x - reach[0], at.y - reach[1], at.x + reach[0], at.y + reach[1])
        if window is None:
            return
        x, y = self._grid(window)
        to_unit = axes / radii
        gx, gy, gz = to_unit[:, 0], to_unit[:, 1], to_unit[:, 2]
        x, y = (x - at.x) / at.scale, (y - at.y) / at.scale
        a = float(gz @ gz)
        b = float(gz @ gx) * x + float(gz @ gy) * y
        c = float(gx @ gx) * x * x + (2 * float(gx @ gy)) * x * y + float(gy @ gy) * y * y - 1
        inside = b * b - a * c
        z = (-b - np.sqrt(np.maximum(inside, 0))) / a
        where = np.flatnonzero((inside > 0) & (z + at.z < self._depth[window]))
        z = z.take(where)
        row, column = np.divmod(where, x.shape[1])
        local = np.stack([x[0].take(column), y[:, 0].take(row), z], axis=1) @ to_unit.T
        if keep is not None:
            kept = keep(local)
            where, local, z = where[kept], local[kept], z[kept]
        if z.size:
            self._write(window, where, z + at.z, paint(local), unit(local @ to_unit), part)

    def limb(self, a: Place, b: Place, radii_m: tuple[float, float], paint: Paint) -> None:
        """Draw a round limb from a to b, with round ends."""
        ra, rb = radii_m[0] * a.scale, radii_m[1] * b.scale
        window = self._window(
            min(a.x - ra, b.x - rb),
            min(a.y - ra, b.y - rb),
            max(a.x + ra, b.x + rb),
            max(a.y + ra, b.y + rb),
        )
        if window is None:
            return
        x, y = self._grid(window)
        x, y = x - a.x, y - a.y
        dx, dy = b.x - a.x, b.y - a.y
        along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
        radius = ra + (rb - ra) * along
        u, v = (x - along * dx) / radius, (y - along * dy) / radius
        front = 1 - u * u - v * v
        scale = (a.scale + b.scale) / 2
        z = a.z + (b.z - a.z) * along - np.sqrt(np.maximum(front, 0)) * radius / scale
        where = np.flatnonzero((front > 0) & (z < self._depth[window]))
        if not where.size:
            return
        normal = np.stack([u.take(where), v.take(where), -np.sqrt(front.take(where))], axis=1)
        side = normal[:, 0] * dy - normal[:, 1] * dx
        turn = np.arctan2(side / max(float(np.hypot(dx, dy)), 1e-3), -normal[:, 2])
        surface = np.stack([turn, along.take(where)], axis=1)
        self._write(window, where, z.take(where), paint(surface), normal, BODY)

    def trunk(
        self,
        a: Place,
        b: Place,
        section: tuple[Array, Array],
        widths_m: tuple[float, ...],
        flatness: float,
        paint: Paint,
    ) -> None:
        """Draw a swept ellipse from a to b with open ends.

        Args:
            a, b: the ends of the axis.
            section: unit vectors of the ellipse in the view's frame: sideways and to the front.
            widths_m: half widths along the axis, evenly spaced from a to b.
            flatness: half depth over half width.
            paint: the surface's colours.
        """
        dx, dy, dz = b.x - a.x, b.y - a.y, b.z - a.z
        length = max(float(np.hypot(dx, dy)), 1e-3)
        ex, ey = -dy / length, dx / length
        side, front = section[0], section[1] * flatness
        across = float(side[0] * ex + side[1] * ey), float(front[0] * ex + front[1] * ey)
        span = float(np.hypot(*across))
        scale = (a.scale + b.scale) / 2
        widest = max(widths_m) * scale * max(1.0, flatness)
        pad = widest * 1.2
        window = self._window(
            min(a.x, b.x) - pad, min(a.y, b.y) - pad, max(a.x, b.x) + pad, max(a.y, b.y) + pad
        )
        if window is None:
            return
        x, y = self._grid(window)
        x, y = x - a.x, y - a.y
        raw = (x * dx + y * dy) / length**2
        stations = np.linspace(0, 1, len(widths_m))
        steps = np.linspace(0, 1, PROFILE_STEPS)
        profile = (np.interp(steps, stations, widths_m) * scale).astype(np.float32)
        half = profile.take((raw * (PROFILE_STEPS - 1)).astype(np.int32), mode="clip")
        u = (x * ex + y * ey) / (half * span)
        bulge = np.sqrt(np.maximum(1 - u * u, 0))
        # The near side of a tilted section is seen further down the axis than its middle.
        cross = float(side[2]) * across[0] + float(front[2]) * across[1]
        spare = abs(float(side[2]) * across[1] - float(front[2]) * across[0]) / span
        along = raw - bulge * spare * half * (dz * scale) / length**2
        z = a.z + dz * along + (u * cross / span - bulge * spare) * half / scale
        inside = (np.abs(u) < 1) & (along >= 0) & (along <= 1) & (z < self._depth[window])
        where = np.flatnonzero(inside)
        if not where.size:
            return
        # Position on the ellipse: the solution of (cos, sin) . across = u that faces the camera.
        turn0 = float(np.arctan2(across[1], across[0]))
        sign = 1.0 if float(front[2]) * across[0] - float(side[2]) * across[1] < 0 else -1.0
        turn = turn0 + sign * np.arccos(np.clip(u.take(where), -1, 1))
        cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
        # Where the trunk narrows, its surface looks along the axis.
        slopes = np.gradient(profile / scale, steps).astype(np.float32)
        axis = np.array([dx / scale, dy / scale, dz], np.float32)
        at_step = (along.take(where) * (PROFILE_STEPS - 1)).astype(np.int32)
        lean = slopes.take(at_step, mode="clip")[:, None] * (axis / -float(axis @ axis))
        normal = unit(cos * side + sin / flatness * section[1] + lean)
        surface = np.stack([turn - np.pi / 2, along.take(where)], axis=1)
        self._write(window, where, z.take(where), paint(surface), normal, BODY)

    def lit(self, light: Light, axes: Array, shade_rows: Array, scale: float) -> Sprite:
        """Light the solids and average the samples.

        Args:
            light: sun, sky and haze.
            axes: right, down and forward of the view in world coordinates, (3, 3).
            shade_rows: (h,) share of the open sky that reaches each row of samples.
            scale: px per metre.
        """
        where = np.flatnonzero(self._part)
        n = self._normal.take(where, axis=0)
        depth = self._depth.take(where)
        open_sky = shade_rows[where // self.w] * self._openness(where, depth, scale)
        sky = (0.5 + 0.5 * (n @ (axes @ np.array([0, 1, 0], np.float32))))[:, None]
        direct = np.maximum(n @ (axes @ light.towards) + 0.06, 0) * (0.25 + 0.75 * open_sky)
        soft = (open_sky * (0.72 + 0.28 * np.abs(n[:, 2])))[:, None]
        amount = (light.sky * sky + light.bounce * (1 - sky)) * soft + light.sun * direct[:, None]
        samples = np.empty((len(where), 5), np.float32)
        samples[:, :3] = light.through_air(self._colour.take(where, axis=0) * amount, depth)
        samples[:, 3] = 1
        samples[:, 4] = self._part.take(where) == HEAD
        layers = np.zeros((self.h * self.w, 5), np.float32)
        layers[where] = samples
        k = self.samples
        grid = layers.reshape(self.h, self.w, 5)
        if k == 1:
            mean: Array = _soften(grid)
        else:
            mean = np.zeros((self.h // k, self.w // k, 5), np.float32)
            for i in range(k):
                for j in range(k):
                    mean += grid[i::k, j::k]
            mean /= k**2
        return Sprite((self.x0, self.y0), mean[..., :3], mean[..., 3], mean[..., 4])

    def _openness(self, where: NDArray[np.intp], depth: Array, scale: float) -> Array:
        """Share of the light that nearer parts of the body leave to each covered sample."""
        flat, total = self._depth.ravel(), np.zeros(len(where), np.float32)
        for across_m, down_m in ((0.05, -0.03), (-0.05, -0.03), (0.0, -0.08), (0.0, -0.03)):
            step = round(down_m * scale * self.samples) * self.w
            step += round(across_m * scale * self.samples)
            before = flat.take(where + step, mode="clip")
            total += np.clip((depth - before - 0.015) / 0.12, 0, 1)
        return np.asarray(1 - 0.17 * total, np.float32)


def _soften(layers: Array) -> Array:
    """Average neighbouring pixels, 1 : 2 : 1 both ways: a lens, and soft edges."""
    padded = np.pad(layers, ((1, 1), (1, 1), (0, 0)), "edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return np.asarray((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16, np.float32)
