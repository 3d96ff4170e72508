"""Density maps for counting: each person is one, spread over the pixels of the person's mask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.outputs.atomic import atomic_path
from dpmo_cli.outputs.exports.plan import Plan
from dpmo_cli.outputs.finished import FinishedImage, RunImage
from dpmo_cli.outputs.schema import NOBODY

SIGMA_PX = 4.0
"""Of the Gaussian of a person without a mask, as in crowd counting usual."""
_LEAST_SIGMA_PX = 1.0
_SIGMAS_IN_A_RADIUS = 3.0
_REACH_SIGMAS = 4.0


@dataclass(frozen=True)
class DensityWriter:
    """Writes `density/<name>.npy`, (H, W) float32, whose sum is the number of people."""

    plan: Plan

    def files(self) -> Iterator[str]:
        """One per image."""
        for images in self.plan.images.values():
            yield from map(self._file, images)

    def write_split(self, split: str, images: Iterator[FinishedImage]) -> None:
        """Write the maps of a split."""
        for found in images:
            path = self.plan.to / self._file(found.image)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, density_map(found), allow_pickle=False)

    def write_rest(self) -> None:
        """Nothing else."""

    def warnings(self) -> Iterator[str]:
        """None: everybody can be drawn."""
        yield from ()

    def _file(self, image: RunImage) -> str:
        return f"density/{self.plan.names[image]}.npy"


def density_map(found: FinishedImage) -> NDArray[np.float32]:
    """Draw the people of an image: (H, W) float32, one person's pixels sum to one.

    A person with a mask is spread evenly over it. The others (no pixels, hidden, on the pixel of
    another) are a Gaussian around the point: sigma is a third of the disc's radius, from 1 to 4
    px, and 4 px without a disc; what would fall outside the image is given to the inside.
    """
    density = np.zeros(found.image.size_hw, np.float64)
    masked = set()
    for one in found.instances():
        x0, y0, x1, y1 = one.window_xyxy
        density[y0:y1, x0:x1] += one.mask / np.count_nonzero(one.mask)
        masked.add(one.point_id)
    columns = ["point_id", "status", "x", "y", "radius_px"]
    for row in found.rows.select(columns).to_pylist():
        if row["status"] not in NOBODY and row["point_id"] not in masked:
            _add_gaussian(density, (row["x"], row["y"]), _sigma_px(row["radius_px"]))
    return density.astype(np.float32)


def _sigma_px(radius_px: float | None) -> float:
    if radius_px is None or not math.isfinite(radius_px):
        return SIGMA_PX
    return min(max(radius_px / _SIGMAS_IN_A_RADIUS, _LEAST_SIGMA_PX), SIGMA_PX)


def _add_gaussian(
    density: NDArray[np.float64], point_xy: tuple[float, float], sigma_px: float
) -> None:
    """Add a Gaussian that sums to one in place, cut at the border and at four sigmas."""
    along = []
    for centre, side in zip(point_xy, (density.shape[1], density.shape[0]), strict=True):
        first = max(math.floor(centre - _REACH_SIGMAS * sigma_px), 0)
        last = min(math.ceil(centre + _REACH_SIGMAS * sigma_px), side - 1)
        at = np.arange(first, last + 1)
        weights = np.exp(-0.5 * ((at - centre) / sigma_px) ** 2)
        along.append((at, weights / weights.sum()))
    (x, across), (y, down) = along
    density[np.ix_(y, x)] += np.outer(down, across)
