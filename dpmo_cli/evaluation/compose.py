"""Composed crowds: cut-out persons pasted over photos with perspective and heavy occlusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.truth import HEAD_PART, TruthScene, snap_into
from dpmo_cli.geometry.nnec import neighbour_distances
from dpmo_cli.geometry.points import group_points

MIN_CUTOUT_HEIGHT_PX = 60
MIN_VISIBLE_HEAD = 0.25
"""A head that is hidden further than this gets no point, as an annotator would leave it out."""
ATTEMPTS = 200
"""Crowds composed before giving up on one that is dense enough."""

Place = tuple[float, float, float]
"""Where a head stands and how high it is: x, y, height, px."""
Layout = Callable[[tuple[int, int], float, np.random.Generator], list[Place]]


@dataclass(frozen=True)
class Cutout:
    """A person cut out of a photo: (h, w, 3) uint8 RGB and (h, w) uint8 alpha, 0 or 255."""

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8]


@dataclass(frozen=True)
class Ingredients:
    """What crowds are composed of: cut-out persons, and (h, w, 3) uint8 photos without persons."""

    cutouts: list[Cutout]
    photos: list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Recipe:
    """How crowds are composed; two recipes share nothing but the cut-outs and the photos.

    Attributes:
        layout: where the heads stand.
        near_px: least and greatest height of the nearest heads, log-uniform.
        tint: strength of the chance in each person's brightness and colour.
        relight: whether persons take the light of the ground, and the scene a light of its own.
        soften: greatest blur of the persons' edges and pixels, in parts of the head's height.
        distractors: greatest share of the places that hold a plain board instead of a person.
    """

    layout: Layout
    near_px: tuple[float, float]
    tint: float
    relight: bool
    soften: float
    distractors: float


@dataclass(frozen=True)
class _Pasted:
    """A person on the canvas: label, box of the head, its pixels there, and whole sizes, px."""

    label: int
    rows: slice
    columns: slice
    head: NDArray[np.bool_]
    head_px: int
    person_px: int


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
            # Who touches the upper border of the photo may have no head in it.
            whole = box[0].start > 0
            if height >= MIN_CUTOUT_HEIGHT_PX and upright and whole and mask.mean() > 0.25:
                cutouts.append(Cutout(scene.image[box], (mask * 255).astype(np.uint8)))
    return cutouts


def ingredients_of(persons: Sequence[TruthScene]) -> Ingredients:
    """Cut persons out of scenes, and keep the photos that have none, or else a gray wall."""
    photos = [scene.image for scene in persons if not len(scene.instance_ids)]
    plain = np.full((480, 640, 3), 110, dtype=np.uint8)
    return Ingredients(cut_out_persons(persons), photos or [plain])


def rows_of_people(
    size_hw: tuple[int, int], near_px: float, rng: np.random.Generator
) -> list[Place]:
    """Uneven rows behind each other, as before a stage: from the farthest to the nearest."""
    height, width = size_hw
    far = max(5.0, near_px * rng.uniform(0.25, 1.0))
    row_gap, column_gap = rng.uniform(0.55, 2.2), rng.uniform(0.9, 2.6)
    y = float(height) * rng.uniform(0.0, 0.45)
    top = y
    places: list[Place] = []
    while y < height + near_px:
        head = far + (near_px - far) * min(1.0, (y - top) / max(1.0, height - top))
        x = -rng.uniform(0, column_gap) * head
        while x < width + head:
            jitter = rng.normal(0, 0.25, size=2) * head
            size = head * float(np.clip(rng.normal(1, 0.12), 0.7, 1.4))
            places.append((x + float(jitter[0]), y + float(jitter[1]), size))
            x += column_gap * head * rng.uniform(0.7, 1.5)
        y += row_gap * head
    places.sort(key=lambda place: place[1] + 0.2 * place[2])
    return places


def groups_of_people(
    size_hw: tuple[int, int], near_px: float, rng: np.random.Generator
) -> list[Place]:
    """Groups of two to nine on a plane below a horizon, as in a street: farthest first."""
    height, width = size_hw
    horizon = height * rng.uniform(-0.6, 0.15)
    closeness = rng.uniform(0.8, 1.7)
    # A head's area on the ground shrinks with the square of its height in the picture.
    wanted = rng.uniform(0.25, 0.9) * height * width / near_px**2
    places: list[Place] = []
    while len(places) < wanted:
        y = height * float(np.sqrt(rng.uniform(0.0, 1.1)))
        head = near_px * (y - horizon) / (height - horizon)
        if head < 5 or y < horizon:
            continue
        x = rng.uniform(-0.05, 1.05) * width
        for _ in range(int(rng.integers(2, 10))):
            turn, away = rng.uniform(0, 2 * np.pi), closeness * head * np.sqrt(rng.uniform(0, 4))
            member = y + 0.45 * away * np.sin(turn)
            size = near_px * max(0.05, (member - horizon) / (height - horizon))
            tall = float(np.clip(rng.normal(1, 0.1), 0.75, 1.3))
            places.append((x + away * np.cos(turn), member - 0.3 * size * tall, size * tall))
    places.sort(key=lambda place: place[1] + 0.3 * place[2])
    return places


ROWS = Recipe(rows_of_people, (10.0, 70.0), tint=1.0, relight=False, soften=0.0, distractors=0.05)
"""The layout and light to train on, as it is measured."""
SOFT_ROWS = replace(ROWS, soften=0.05)
"""As it is trained on: with edges as soft as lenses make them, lest hard ones be all it knows."""
GROUPS = Recipe(
    groups_of_people, (12.0, 60.0), tint=0.3, relight=True, soften=0.08, distractors=0.0
)
"""Another layout, light and blending, only ever used to measure."""


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


def _sprite(
    cutout: Cutout, head_px: float, recipe: Recipe, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Resize, mirror and tint a cut-out: (h, w, 3) values and (h, w) alpha from 0 to 1."""
    height = max(8, round(head_px / HEAD_PART))
    stretch = rng.uniform(0.85, 1.2)
    width = max(4, round(cutout.rgb.shape[1] * height / cutout.rgb.shape[0] * stretch))
    picture, cover = (
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        for pixels in (cutout.rgb, cutout.alpha)
    )
    if recipe.soften:
        blurs = rng.uniform(0, recipe.soften * head_px / 2, size=2).tolist()
        picture = picture.filter(ImageFilter.GaussianBlur(blurs[0]))
        cover = cover.filter(ImageFilter.GaussianBlur(blurs[1]))
    rgb, alpha = np.asarray(picture, np.float32), np.asarray(cover, np.float32)
    if rng.random() < 0.5:
        rgb, alpha = rgb[:, ::-1], alpha[:, ::-1]
    gain = rng.normal(1, 0.12 * recipe.tint) * rng.normal(1, 0.06 * recipe.tint, size=3)
    rgb = np.clip(rgb * gain + rng.normal(0, 10 * recipe.tint), 0, 255).astype(np.float32)
    return rgb, (alpha / 255).astype(np.float32)


def _board(
    head_px: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A striped board, as a banner or a sign, that hides people and is none."""
    height, width = (max(4, round(head_px * rng.uniform(0.8, 4))) for _ in range(2))
    colours = rng.uniform(0, 255, size=(2, 3))
    stripe = max(2, round(head_px * rng.uniform(0.15, 0.6)))
    bands = (np.arange(height)[:, None] // stripe + np.arange(width)[None] // (2 * stripe)) % 2
    rgb = colours[bands] + rng.normal(0, 6, size=(height, width, 1))
    return np.clip(rgb, 0, 255).astype(np.float32), np.ones((height, width), dtype=np.float32)


def _in_light_of(
    ground: NDArray[np.float32], rgb: NDArray[np.float32], solid: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Move a person's mean colour half the way to that of the ground behind."""
    if not solid.any():
        return rgb
    shift = ground[solid].mean(axis=0) - rgb[solid].mean(axis=0)
    lit: NDArray[np.float32] = np.clip(rgb + 0.5 * shift, 0, 255)
    return lit


def _scene_light(canvas: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Light that falls off across the picture, a gamma and a colour cast."""
    height, width = canvas.shape[:2]
    slope = rng.uniform(-0.4, 0.4, size=2)
    fall = (
        1
        + slope[0] * (np.arange(height) / height - 0.5)[:, None]
        + slope[1] * (np.arange(width) / width - 0.5)[None]
    )
    cast = rng.normal(1, 0.06, size=3)
    lit = np.clip(canvas / 255 * fall[..., None] * cast, 0, 1) ** rng.uniform(0.7, 1.5)
    values: NDArray[np.float32] = (lit * 255).astype(np.float32)
    return values


def compose_crowd(
    name: str,
    ingredients: Ingredients,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    recipe: Recipe = ROWS,
) -> TruthScene:
    """Compose one crowd.

    Args:
        name: name of the scene.
        ingredients: at least one person and one photo.
        size_hw: size of the scene, px.
        rng: source of all chance; the same state gives the same scene.
        recipe: layout, light and blending.

    Returns:
        The scene with exact visible masks; only persons whose head can be seen have a point.
    """
    scene, _ = _compose(name, ingredients, size_hw, rng, recipe)
    return scene


def compose_dense_crowd(
    name: str,
    ingredients: Ingredients,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    recipe: Recipe,
    *,
    fewest: int = 300,
    widest_px: float = 20.0,
    most_visible: float = 0.6,
) -> TruthScene:
    """Compose crowds until one is as dense as a measurement wants it.

    Args:
        name, ingredients, size_hw, rng, recipe: as of `compose_crowd`; heads are small.
        fewest: points, at least.
        widest_px: median distance to the nearest other point, at most.
        most_visible: median share of a person that can be seen, at most.

    Raises:
        UsageError: none of ATTEMPTS crowds was dense enough.
    """
    dense = replace(recipe, near_px=(9.0, 26.0))
    for _ in range(ATTEMPTS):
        scene, visible = _compose(name, ingredients, size_hw, rng, dense)
        if len(visible) < fewest or np.median(visible) > most_visible:
            continue
        if np.median(neighbour_distances(group_points(scene.points_xy, size_hw))) <= widest_px:
            return scene
    raise UsageError(
        f"{name}: no crowd of {fewest} people in {ATTEMPTS} attempts; "
        "give more persons to cut out, or a larger picture"
    )


def _compose(
    name: str,
    ingredients: Ingredients,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    recipe: Recipe,
) -> tuple[TruthScene, NDArray[np.float64]]:
    """A scene, and the visible share of each person that has a point."""
    canvas = np.asarray(_background(ingredients.photos, size_hw, rng), dtype=np.float32).copy()
    ground = canvas.copy() if recipe.relight else None
    labels = np.zeros(size_hw, dtype=np.int32)
    near_px = float(np.exp(rng.uniform(*np.log(recipe.near_px))))
    boards = rng.uniform(0, recipe.distractors) if rng.random() < 0.5 else 0.0
    pasted: list[_Pasted] = []
    for label, (x, y, head_px) in enumerate(recipe.layout(size_hw, near_px, rng), start=1):
        if rng.random() < boards:
            _paste(canvas, labels, ground, *_board(head_px, rng), (x, y), 0)
            continue
        cutout = ingredients.cutouts[int(rng.integers(len(ingredients.cutouts)))]
        sprite = _sprite(cutout, head_px, recipe, rng)
        person = _paste(canvas, labels, ground, *sprite, (x, y), label)
        if person is not None:
            pasted.append(person)
    if recipe.relight:
        canvas = _scene_light(canvas, rng)
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    return _annotate(name, image, labels, pasted)


def _paste(
    canvas: NDArray[np.float32],
    labels: NDArray[np.int32],
    ground: NDArray[np.float32] | None,
    rgb: NDArray[np.float32],
    alpha: NDArray[np.float32],
    head_xy: tuple[float, float],
    label: int,
) -> _Pasted | None:
    """Paste a sprite in front of all others, in place.

    Args:
        canvas: (H, W, 3) values, changed.
        labels: (H, W), changed.
        ground: (H, W, 3) values whose light the sprite takes; None where it keeps its own.
        rgb: (h, w, 3) values of the sprite.
        alpha: (h, w), 0 to 1.
        head_xy: where the middle of its head comes to lie, px.
        label: of the sprite's pixels, 0 for a board.

    Returns:
        What was pasted; None where no part of the head is in the picture.
    """
    head_rows = max(2, round(HEAD_PART * len(alpha)))
    left = round(head_xy[0] - alpha.shape[1] / 2)
    top = round(head_xy[1] - head_rows / 2)
    y0, y1 = max(0, top), min(labels.shape[0], top + len(alpha))
    x0, x1 = max(0, left), min(labels.shape[1], left + alpha.shape[1])
    if y0 >= y1 or x0 >= x1:
        return None
    rows, columns = slice(y0, y1), slice(x0, x1)
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    colours, opacity = rgb[part], alpha[part][..., None]
    solid = alpha[part] > 0.5
    if ground is not None:
        colours = _in_light_of(ground[rows, columns], colours, solid)
    canvas[rows, columns] += opacity * (colours - canvas[rows, columns])
    labels[rows, columns][solid] = label
    head_end = min(y1, top + head_rows)
    if head_end <= y0:
        return None
    return _Pasted(
        label,
        slice(y0, head_end),
        columns,
        solid[: head_end - y0],
        head_px=int((alpha[:head_rows] > 0.5).sum()),
        person_px=int((alpha > 0.5).sum()),
    )


def _annotate(
    name: str, image: NDArray[np.uint8], labels: NDArray[np.int32], pasted: Sequence[_Pasted]
) -> tuple[TruthScene, NDArray[np.float64]]:
    """A scene with the points that annotators would give, and the visible shares of those."""
    sizes = np.bincount(labels.ravel(), minlength=max((p.label for p in pasted), default=0) + 1)
    heads = np.zeros(labels.shape, dtype=np.bool_)
    ids: list[int] = []
    points: list[tuple[float, float]] = []
    shares: list[float] = []
    for person in pasted:
        visible = person.head & (labels[person.rows, person.columns] == person.label)
        heads[person.rows, person.columns] |= visible
        if visible.sum() < max(4, MIN_VISIBLE_HEAD * person.head_px):
            continue
        ys, xs = np.nonzero(visible)
        x, y = snap_into(visible, (float(xs.mean()), float(ys.mean())))
        ids.append(person.label)
        points.append((x + person.columns.start, y + person.rows.start))
        shares.append(sizes[person.label] / person.person_px)
    scene = TruthScene(
        name,
        image,
        labels,
        np.array(ids, dtype=np.int32),
        np.array(points, dtype=np.float64).reshape(-1, 2),
        heads,
    )
    return scene, np.array(shares)
