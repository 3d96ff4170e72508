"""Training examples for nano: crops scaled by the neighbour distance, with several prompts each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from dpmo_cli.geometry.nnec import disc_mask, disc_radii, disc_windows, neighbour_distances
from dpmo_cli.geometry.points import FloatArray, group_points
from dpmo_cli.geometry.resize import fitted_size
from dpmo_cli.geometry.tiles import MAX_MAGNIFICATION
from dpmo_cli.training.truth import TruthScene

RADIUS_IN_FRAME_PX = (12.0, 76.0)
"""Discs of the prompt that a crop is made for, in the network's frame, log-uniform."""
PROMPT_RADIUS_PX = (6.0, 100.0)
"""Discs of the other prompts that a crop may hold."""
POINT_NOISE = 0.06
"""Standard deviation of the clicks round the true point, in parts of the radius."""


@dataclass(frozen=True)
class PreparedScene:
    """A scene with the disc of each point: `radii_px` is (N,) float64 px."""

    scene: TruthScene
    radii_px: FloatArray


@dataclass(frozen=True)
class Crop:
    """One training example, in the network's frame.

    Attributes:
        image: (F, F, 3) uint8 RGB, padded with zeros at the right and at the bottom.
        valid_hw: the part of the frame that the image fills, px.
        points_xy: (P, 2) float32 prompts, frame px.
        truth: (P, F/2, F/2) float32, share of each cell that the instance fills inside its disc.
        disc: (P, F/2, F/2) float32, share of each cell inside the disc.
    """

    image: NDArray[np.uint8]
    valid_hw: tuple[int, int]
    points_xy: NDArray[np.float32]
    truth: NDArray[np.float32]
    disc: NDArray[np.float32]


def prepare(scene: TruthScene) -> PreparedScene:
    """Compute the disc of every point of a scene, as a run would."""
    size_hw = scene.labels.shape
    sites = group_points(scene.points_xy, (size_hw[0], size_hw[1]))
    radii = disc_radii(neighbour_distances(sites), (size_hw[0], size_hw[1]), 1.0)
    return PreparedScene(scene, radii[sites.site_of_point])


def photometric(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change light, colour, sharpness, noise and compression of a frame, as cameras do."""
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.4))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.6, 1.4))
    image = ImageEnhance.Color(image).enhance(0.0 if rng.random() < 0.2 else rng.uniform(0.4, 1.5))
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2.0)))
    if rng.random() < 0.4:
        noise = rng.normal(0, rng.uniform(2, 14), size=(image.height, image.width, 3))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=int(rng.integers(25, 90)))
        image = Image.open(packed).convert("RGB")
    return image


def _window(
    prepared: PreparedScene, index: int, frame_px: int, rng: np.random.Generator, jitter: bool
) -> tuple[int, int, int, int]:
    """A square window of the image, cut by its borders, round the point `index`."""
    height, width = prepared.scene.labels.shape
    radius = prepared.radii_px[index]
    low, high = np.log(RADIUS_IN_FRAME_PX)
    wanted = float(np.exp(rng.uniform(low, high))) if jitter else 36.0
    side = max(frame_px / MAX_MAGNIFICATION, frame_px * radius / wanted)
    free = max(0.0, side / 2 - radius) if jitter else 0.0
    centre = prepared.scene.points_xy[index] + rng.uniform(-free, free, size=2)
    size = np.minimum(np.ceil(side), (width, height))
    corner = np.clip(np.rint(centre - size / 2), 0, np.array([width, height]) - size)
    x0, y0 = int(corner[0]), int(corner[1])
    return x0, y0, x0 + int(size[0]), y0 + int(size[1])


def sample_crop(
    prepared: PreparedScene,
    frame_px: int,
    prompts: int,
    rng: np.random.Generator,
    *,
    augment: bool = True,
) -> Crop:
    """Cut one crop with up to `prompts` prompts out of a scene that has at least one point.

    Without `augment` the crop is centred on a random point at the scale that a run uses.
    """
    scene = prepared.scene
    chosen = int(rng.integers(len(scene.points_xy)))
    x0, y0, x1, y1 = window = _window(prepared, chosen, frame_px, rng, augment)
    scale = frame_px / max(x1 - x0, y1 - y0)
    height, width = fitted_size((y1 - y0, x1 - x0), frame_px)
    picture = Image.fromarray(scene.image[y0:y1, x0:x1]).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    if augment:
        picture = photometric(picture, rng)
    frame = np.zeros((frame_px, frame_px, 3), dtype=np.uint8)
    frame[:height, :width] = np.asarray(picture)

    xy = scene.points_xy
    radii = prepared.radii_px * scale
    fits = (xy >= (x0, y0)).all(axis=1) & (xy < (x1, y1)).all(axis=1)
    fits &= (radii >= PROMPT_RADIUS_PX[0]) & (radii <= PROMPT_RADIUS_PX[1])
    fits[chosen] = False
    # Neighbours teach most: two points in one crop must give two masks.
    others = np.flatnonzero(fits)
    order = np.argsort(((xy[others] - xy[chosen]) ** 2).sum(axis=1))
    others = others[order][: 2 * (prompts - 1)]
    picks = np.concatenate([[chosen], rng.permutation(others)[: prompts - 1]]).astype(np.int64)

    points, truths, discs = [], [], []
    cells = frame_px // 2
    for pick in picks:
        click = xy[pick]
        if augment:
            click = click + rng.normal(0, POINT_NOISE * prepared.radii_px[pick], size=2)
        points.append((click - (x0, y0) + 0.5) * scale - 0.5)
        truth, disc = _cells(prepared, int(pick), window, scale, cells)
        truths.append(truth)
        discs.append(disc)
    points_xy = np.array(points, dtype=np.float32)
    truth_cells, disc_cells = np.stack(truths), np.stack(discs)
    if augment and rng.random() < 0.5 and width == frame_px:
        frame = frame[:, ::-1].copy()
        points_xy[:, 0] = frame_px - 1 - points_xy[:, 0]
        truth_cells, disc_cells = truth_cells[..., ::-1].copy(), disc_cells[..., ::-1].copy()
    return Crop(frame, (height, width), points_xy, truth_cells, disc_cells)


def _cells(
    prepared: PreparedScene,
    index: int,
    window_xyxy: tuple[int, int, int, int],
    scale: float,
    cells: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Truth inside the disc, and the disc, as shares of the cells of the network's mask grid."""
    scene, radius = prepared.scene, prepared.radii_px
    size_hw = (scene.labels.shape[0], scene.labels.shape[1])
    own = disc_windows(scene.points_xy[index : index + 1], radius[index : index + 1], size_hw)[0]
    x0, y0 = int(own[0]), int(own[1])
    x1, y1 = int(own[2]), int(own[3])
    disc = disc_mask(scene.points_xy[index], float(radius[index]), (x0, y0, x1, y1))
    instance = scene.labels[y0:y1, x0:x1] == scene.instance_ids[index]
    corner_xy = (float(window_xyxy[0] - x0), float(window_xyxy[1] - y0))
    step_px = 2.0 / scale
    truth = _resample(instance & disc, corner_xy, step_px, cells)
    return truth, _resample(disc, corner_xy, step_px, cells)


def _resample(
    mask: NDArray[np.bool_], offset_xy: tuple[float, float], step_px: float, cells: int
) -> NDArray[np.float32]:
    """Mean of a mask over each cell of a grid: exact, by the integral along each axis.

    Args:
        mask: (h, w) bool; everything beyond it is empty.
        offset_xy: left and upper edge of the grid in the mask's pixels.
        step_px: side of a cell in the mask's pixels.
        cells: number of cells along each axis.
    """
    height, width = mask.shape

    def weights(length: int, offset: float) -> NDArray[np.float32]:
        edges = offset + step_px * np.arange(cells + 1)
        pixels = np.arange(length)
        covered = np.clip(edges[:, None] - pixels[None, :], 0, 1)
        share: NDArray[np.float32] = (np.diff(covered, axis=0) / step_px).astype(np.float32)
        return share

    grid: NDArray[np.float32] = (
        weights(height, offset_xy[1]) @ mask.astype(np.float32) @ weights(width, offset_xy[0]).T
    )
    return grid


def usable(scenes: Sequence[TruthScene]) -> list[PreparedScene]:
    """Prepare the scenes that have a point."""
    return [prepare(scene) for scene in scenes if len(scene.points_xy)]
