"""Composed crowds: cut-out persons pasted over photos with perspective and heavy occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from dpmo_cli.training.truth import HEAD_PART, TruthScene, snap_into

MIN_CUTOUT_HEIGHT_PX = 60
MIN_VISIBLE_HEAD = 0.25
"""A head that is hidden further than this gets no point, as an annotator would leave it out."""


@dataclass(frozen=True)
class Cutout:
    """A person cut out of a photo: (h, w, 3) uint8 RGB and (h, w) uint8 alpha, 0 or 255."""

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8]


def cut_out_persons(scenes: Sequence[TruthScene]) -> list[Cutout]:
    """Cut upright, sufficiently large persons out of scenes of persons."""
    cutouts: list[Cutout] = []
    for scene in scenes:
        for index, box in enumerate(ndimage.find_objects(scene.labels), start=1):
            if box is None:
                continue
            mask = scene.labels[box] == index
            height, width = mask.shape
            upright = height > 1.4 * width
            if height >= MIN_CUTOUT_HEIGHT_PX and upright and mask.mean() > 0.25:
                cutouts.append(Cutout(scene.image[box], (mask * 255).astype(np.uint8)))
    return cutouts


def _background(
    photos: Sequence[NDArray[np.uint8]], size_hw: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    photo = Image.fromarray(photos[int(rng.integers(len(photos)))])
    height, width = size_hw
    scale = max(width / photo.width, height / photo.height) * rng.uniform(1.0, 1.6)
    photo = photo.resize((round(photo.width * scale) + 1, round(photo.height * scale) + 1))
    left = int(rng.integers(photo.width - width + 1))
    top = int(rng.integers(photo.height - height + 1))
    photo = photo.crop((left, top, left + width, top + height))
    return photo.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))


def _places(size_hw: tuple[int, int], rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Head positions and head heights (x, y, px), from the farthest row to the nearest."""
    height, width = size_hw
    near = float(np.exp(rng.uniform(np.log(10), np.log(70))))
    far = max(5.0, near * rng.uniform(0.25, 1.0))
    row_gap, column_gap = rng.uniform(0.55, 2.2), rng.uniform(0.9, 2.6)
    y = float(height) * rng.uniform(0.0, 0.45)
    top = y
    places: list[tuple[float, float, float]] = []
    while y < height + near:
        head = far + (near - far) * min(1.0, (y - top) / max(1.0, height - top))
        x = -rng.uniform(0, column_gap) * head
        while x < width + head:
            jitter = rng.normal(0, 0.25, size=2) * head
            size = head * float(np.clip(rng.normal(1, 0.12), 0.7, 1.4))
            places.append((x + float(jitter[0]), y + float(jitter[1]), size))
            x += column_gap * head * rng.uniform(0.7, 1.5)
        y += row_gap * head
    places.sort(key=lambda place: place[1] + 0.2 * place[2])
    return places


def _sprite(
    cutout: Cutout, head_px: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Resize, mirror and tint a cut-out: (h, w, 3) values and (h, w) alpha from 0 to 1."""
    height = max(8, round(head_px / HEAD_PART))
    stretch = rng.uniform(0.85, 1.2)
    width = max(4, round(cutout.rgb.shape[1] * height / cutout.rgb.shape[0] * stretch))
    rgb = np.asarray(
        Image.fromarray(cutout.rgb).resize((width, height), Image.Resampling.BILINEAR), np.float32
    )
    alpha = np.asarray(
        Image.fromarray(cutout.alpha).resize((width, height), Image.Resampling.BILINEAR), np.float32
    )
    if rng.random() < 0.5:
        rgb, alpha = rgb[:, ::-1], alpha[:, ::-1]
    gain = rng.normal(1, 0.12) * rng.normal(1, 0.06, size=3)
    rgb = np.clip(rgb * gain + rng.normal(0, 10), 0, 255).astype(np.float32)
    return rgb, (alpha / 255).astype(np.float32)


def compose_crowd(
    name: str,
    cutouts: Sequence[Cutout],
    photos: Sequence[NDArray[np.uint8]],
    size_hw: tuple[int, int],
    rng: np.random.Generator,
) -> TruthScene:
    """Compose one crowd.

    Args:
        name: name of the scene.
        cutouts: persons to paste, at least one.
        photos: (h, w, 3) uint8 photos for the ground behind them, at least one.
        size_hw: size of the scene, px.
        rng: source of all chance; the same state gives the same scene.

    Returns:
        The scene with exact visible masks; only persons whose head can be seen have a point.
    """
    height, width = size_hw
    canvas = np.asarray(_background(photos, size_hw, rng), dtype=np.float32).copy()
    labels = np.zeros(size_hw, dtype=np.int32)
    heads: list[tuple[int, slice, slice, NDArray[np.bool_], int]] = []
    for index, (x, y, head_px) in enumerate(_places(size_hw, rng), start=1):
        rgb, alpha = _sprite(cutouts[int(rng.integers(len(cutouts)))], head_px, rng)
        head_rows = max(2, round(HEAD_PART * len(alpha)))
        left = round(x - alpha.shape[1] / 2)
        top = round(y - head_rows / 2)
        y0, y1 = max(0, top), min(height, top + len(alpha))
        x0, x1 = max(0, left), min(width, left + alpha.shape[1])
        if y0 >= y1 or x0 >= x1:
            continue
        rows, columns = slice(y0, y1), slice(x0, x1)
        part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        opacity = alpha[part][..., None]
        canvas[rows, columns] += opacity * (rgb[part] - canvas[rows, columns])
        solid = alpha[part] > 0.5
        labels[rows, columns][solid] = index
        head_end = min(y1, top + head_rows)
        if head_end > y0:
            head = solid[: head_end - y0]
            whole = int((alpha[:head_rows] > 0.5).sum())
            heads.append((index, slice(y0, head_end), columns, head, whole))

    ids: list[int] = []
    points: list[tuple[float, float]] = []
    for index, rows, columns, head, whole in heads:
        visible = head & (labels[rows, columns] == index)
        if visible.sum() < max(4, MIN_VISIBLE_HEAD * whole):
            continue
        ys, xs = np.nonzero(visible)
        px, py = snap_into(visible, (float(xs.mean()), float(ys.mean())))
        ids.append(index)
        points.append((px + columns.start, py + rows.start))
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    return TruthScene(
        name,
        image,
        labels,
        np.array(ids, dtype=np.int32),
        np.array(points, dtype=np.float64).reshape(-1, 2),
    )
