"""Training examples for nano: crops scaled by the neighbour distance, with several prompts each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage

from dpmo_cli.evaluation.truth import TruthScene, discs_at_points
from dpmo_cli.geometry.nnec import (
    disc_mask,
    disc_windows,
    nearest_others,
)
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.geometry.resize import fitted_size
from dpmo_cli.geometry.tiles import MAX_MAGNIFICATION

RADIUS_IN_FRAME_PX = (12.0, 76.0)
"""Discs of the prompt that a crop is made for, in the network's frame, log-uniform."""
PROMPT_RADIUS_PX = (6.0, 100.0)
"""Discs of the other prompts that a crop may hold."""
POINT_NOISE = 0.06
"""Standard deviation of the clicks round the true point, in parts of the radius."""
NEGATIVES = 4
"""Neighbours that may be given beside a prompt, as points that are not the person's."""
KnownExtents = tuple[bool, bool, bool]
"""In the order of EXTENTS."""
_NOWHERE = (slice(0, 0), slice(0, 0))


@dataclass(frozen=True)
class PreparedScene:
    """A scene with what every point needs.

    Attributes:
        scene: the truth.
        radii_px: (N,) float64 discs.
        nearest: (N, k) int64, the nearest other points, nearest first; k is at most NEGATIVES.
        boxes: the rows and columns of each point's instance.
        asked: (M,) int64, the points that have an instance in the label map: they alone are
            prompted.
        chosen: (K,) int64, those of them that crops are made for; the others come along.
        known: which of EXTENTS the label map tells.
    """

    scene: TruthScene
    radii_px: FloatArray
    nearest: NDArray[np.int64]
    boxes: list[tuple[slice, slice]]
    asked: NDArray[np.int64]
    chosen: NDArray[np.int64]
    known: KnownExtents


@dataclass(frozen=True)
class Crop:
    """One training example, in the network's frame. Shares of cells are uint8, 255 is all of it.

    Attributes:
        image: (F, F, 3) uint8 RGB, padded with zeros at the right and at the bottom.
        valid_hw: the part of the frame that the image fills, px.
        points_xy: (P, 1 + k, 2) float32 prompts, frame px: the person, then k neighbours.
        labels: (P, 1 + k) int64: 1 the person, 0 a neighbour, -1 no point.
        visible: (P, F/2, F/2) share of each cell that the instance fills.
        head: (P, F/2, F/2) the same for its head.
        disc: (P, F/2, F/2) share of each cell inside the disc.
        known: which of EXTENTS its grids tell.
    """

    image: NDArray[np.uint8]
    valid_hw: tuple[int, int]
    points_xy: NDArray[np.float32]
    labels: NDArray[np.int64]
    visible: NDArray[np.uint8]
    head: NDArray[np.uint8]
    disc: NDArray[np.uint8]
    known: KnownExtents


def prepare(
    scene: TruthScene,
    known: KnownExtents | None = None,
    chosen: NDArray[np.int64] | None = None,
) -> PreparedScene:
    """Compute the disc of every point of a scene, as a run would.

    Args:
        scene: the scene; points may be without an instance in its label map.
        known: which of EXTENTS the label map tells; None where it holds whole persons.
        chosen: the points that crops are made for; None for all that can be asked about.
    """
    sites, radii = discs_at_points(scene)
    nearest = nearest_others(scene.points_xy, NEGATIVES)
    found = ndimage.find_objects(scene.labels, int(scene.instance_ids.max(initial=0)))
    boxes = [found[int(label) - 1] or _NOWHERE for label in scene.instance_ids]
    asked = np.array([at for at, box in enumerate(boxes) if box is not _NOWHERE], dtype=np.int64)
    known = known or (True, scene.heads is not None, True)
    chosen = asked if chosen is None else np.intersect1d(asked, chosen)
    return PreparedScene(scene, radii[sites.site_of_point], nearest, boxes, asked, chosen, known)


def _lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light as of lamps or a low sun: dark, coloured, and falling off to one side."""
    towards = rng.uniform(-0.8, 0.8, size=2)
    y, x = (np.linspace(-0.5, 0.5, length) for length in (image.height, image.width))
    fall = 1 + towards[0] * y[:, None] + towards[1] * x[None]
    colour = rng.uniform(0.25, 1.1) * rng.normal(1, 0.1, size=3)
    values = np.clip(np.asarray(image) / 255 * fall[..., None] * colour, 0, 1)
    return Image.fromarray((255 * values ** rng.uniform(0.6, 1.5)).astype(np.uint8))


def photometric(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change light, colour, sharpness, noise and compression of a frame, as cameras do."""
    if rng.random() < 0.3:
        image = _lit(image, rng)
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
    negatives: int = 0,
    augment: bool = True,
) -> Crop:
    """Cut one crop with `prompts` prompts out of a scene with at least one chosen point.

    Args:
        prepared: the scene; when it has too few points, some are prompted twice.
        frame_px: side of the network's frame.
        prompts: number of prompts.
        rng: source of all chance.
        negatives: neighbours given beside each prompt, at most NEGATIVES.
        augment: whether to change scale, light and clicks; otherwise the crop is centred on a
            random point at the scale that a run uses.
    """
    scene = prepared.scene
    chosen = int(prepared.chosen[rng.integers(len(prepared.chosen))])
    x0, y0, x1, y1 = window = _window(prepared, chosen, frame_px, rng, augment)
    scale = frame_px / max(x1 - x0, y1 - y0)
    height, width = fitted_size((y1 - y0, x1 - x0), frame_px)
    picture = Image.fromarray(scene.image[y0:y1, x0:x1])
    # What the camera did happened at the photo's own resolution, before tiles magnify it.
    early = augment and rng.random() < 0.7
    if early:
        picture = photometric(picture, rng)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    if augment and not early:
        picture = photometric(picture, rng)
    frame = np.zeros((frame_px, frame_px, 3), dtype=np.uint8)
    frame[:height, :width] = np.asarray(picture)

    picks = _picks(prepared, chosen, window, scale, prompts, rng)
    members = np.concatenate([picks[:, None], prepared.nearest[picks][:, :negatives]], axis=1)
    points_xy = np.zeros((prompts, 1 + negatives, 2), dtype=np.float32)
    labels = np.full((prompts, 1 + negatives), -1, dtype=np.int64)
    clicks = scene.points_xy[members]
    if augment:
        noise = POINT_NOISE * rng.choice([0.5, 1.0, 2.0]) * prepared.radii_px[members]
        clicks = clicks + rng.normal(size=clicks.shape) * noise[..., None]
    points_xy[:, : members.shape[1]] = (clicks - (x0, y0) + 0.5) * scale - 0.5
    labels[:, : members.shape[1]] = 0
    labels[:, 0] = 1

    cells = frame_px // 2
    grids = np.stack([_cells(prepared, int(pick), window, scale, cells) for pick in picks], axis=1)
    if augment and rng.random() < 0.5 and width == frame_px:
        frame = frame[:, ::-1].copy()
        points_xy[..., 0] = frame_px - 1 - points_xy[..., 0]
        grids = grids[..., ::-1].copy()
    visible, head, disc = np.rint(255 * grids).astype(np.uint8)
    return Crop(frame, (height, width), points_xy, labels, visible, head, disc, prepared.known)


def _picks(
    prepared: PreparedScene,
    chosen: int,
    window_xyxy: tuple[int, int, int, int],
    scale: float,
    prompts: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The point that the crop was made for and others near it, (prompts,) indices."""
    x0, y0, x1, y1 = window_xyxy
    xy = prepared.scene.points_xy
    radii = prepared.radii_px * scale
    fits = np.zeros(len(xy), dtype=np.bool_)
    fits[prepared.asked] = True
    fits &= (xy >= (x0, y0)).all(axis=1) & (xy < (x1, y1)).all(axis=1)
    fits &= (radii >= PROMPT_RADIUS_PX[0]) & (radii <= PROMPT_RADIUS_PX[1])
    fits[chosen] = False
    # Neighbours teach most: two points in one crop must give two masks.
    others = np.flatnonzero(fits)
    order = np.argsort(((xy[others] - xy[chosen]) ** 2).sum(axis=1))
    others = rng.permutation(others[order][: 2 * (prompts - 1)])
    picks = np.concatenate([[chosen], others[: prompts - 1]]).astype(np.int64)
    return np.resize(picks, prompts)


def _cells(
    prepared: PreparedScene,
    index: int,
    window_xyxy: tuple[int, int, int, int],
    scale: float,
    cells: int,
) -> NDArray[np.float32]:
    """Instance, head and disc as shares of the cells of the network's mask grid: (3, c, c)."""
    scene, radius = prepared.scene, prepared.radii_px
    one = slice(index, index + 1)
    own = disc_windows(scene.points_xy[one], radius[one], scene.size_hw)[0]
    x0, y0, x1, y1 = (int(edge) for edge in own)
    disc = disc_mask(scene.points_xy[index], float(radius[index]), (x0, y0, x1, y1))
    rows, columns = prepared.boxes[index]
    visible = scene.labels[rows, columns] == scene.instance_ids[index]
    head = np.zeros((1, 1), dtype=np.bool_)
    if scene.heads is not None:
        head = visible & scene.heads[rows, columns]

    def grid(mask: NDArray[np.bool_], left: int, top: int) -> NDArray[np.float32]:
        corner_xy = (float(window_xyxy[0] - left), float(window_xyxy[1] - top))
        return _resample(mask, corner_xy, 2.0 / scale, cells)

    corner = (columns.start, rows.start)
    return np.stack([grid(visible, *corner), grid(head, *corner), grid(disc, x0, y0)])


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
    # A mask's integral is linear between pixel borders, so interpolation loses nothing; of it the
    # cells are small differences.
    integral = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    integral[1:, 1:] = mask.cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
    for axis, offset in enumerate(offset_xy[::-1]):
        length = mask.shape[axis]
        edges = np.clip(offset + step_px * np.arange(cells + 1), 0, length)
        below = np.minimum(edges.astype(np.int64), max(0, length - 1))
        part = edges - below
        part = part[:, None] if axis == 0 else part[None]
        integral = (1 - part) * integral.take(below, axis) + part * integral.take(below + 1, axis)
    filled = np.diff(np.diff(integral, axis=0), axis=1) / step_px**2
    return np.clip(filled, 0, 1).astype(np.float32)


def usable(scenes: Sequence[TruthScene]) -> list[PreparedScene]:
    """Prepare the scenes that have a point to ask about."""
    prepared = (prepare(scene) for scene in scenes if len(scene.points_xy))
    return [one for one in prepared if len(one.asked)]
