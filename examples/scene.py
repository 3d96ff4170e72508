"""A rendered crowd: the picture, whose every pixel is whose, and the heads as a person would click.

`render_scene(seed, size_hw, people)` paints from the back to the front. A pixel belongs to the
foremost person that covers at least half of it; the same rule gives the heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.spatial import cKDTree

from examples.backdrop import CONCERT, STAND, draw_backdrop
from examples.camera import Array, Camera, Light
from examples.crowd import NIGHT, Setting, place_people, random_place, random_setting
from examples.people import draw_person
from examples.photo import photograph
from examples.poses import Person
from examples.solids import Sprite

VISIBLE, PARTLY, HIDDEN = 1, 2, 3
CLEAR_SHARE = 0.7
"""A head is visible when at least this share of it is, partly visible below."""
SEEN_SHARE, SEEN_PX = 0.1, 3
"""A head is hidden when less than this share of it, or fewer pixels, can be seen."""
BLURRED_PX = 7.0
REACH_M = 1.3
DEFAULT_PEOPLE = {"plaza": 180, "street": 200, "stand": 450, "concert": 380}


@dataclass(frozen=True)
class Scene:
    """A picture of a crowd with its exact truth; person i has label i + 1.

    Attributes:
        image: (H, W, 3) uint8.
        labels: (H, W) int32, the visible person of each pixel, 0 for none.
        head_labels: (H, W) int32, the same for heads alone.
        points_xy: (N, 2) float64 px. Its rounded pixel is a visible pixel of that head, unless
            the head is hidden: then it is the place where the head would be.
        head_boxes_xyxy: (N, 4) float64 px, the whole head's box, half open, cut to the image.
        occlusion: (N,) int8, VISIBLE, PARTLY or HIDDEN.
        blurred: (N,) bool, too small or too hazy to be sharp.
        place, weather: what the setting was.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    head_labels: NDArray[np.int32]
    points_xy: NDArray[np.float64]
    head_boxes_xyxy: NDArray[np.float64]
    occlusion: NDArray[np.int8]
    blurred: NDArray[np.bool_]
    place: str
    weather: str

    def __len__(self) -> int:
        return len(self.points_xy)

    def seen(self) -> Scene:
        """The scene without the people whose heads are hidden, renumbered."""
        keep = self.occlusion != HIDDEN
        ids = np.zeros(len(self) + 1, np.int32)
        ids[1:][keep] = np.arange(1, keep.sum() + 1)
        return replace(
            self,
            labels=ids[self.labels],
            head_labels=ids[self.head_labels],
            points_xy=self.points_xy[keep],
            head_boxes_xyxy=self.head_boxes_xyxy[keep],
            occlusion=self.occlusion[keep],
            blurred=self.blurred[keep],
        )


class Painting:
    """Light, distance and labels of a picture that is painted from the back to the front."""

    def __init__(self, light: Array, distance_m: Array) -> None:
        self.light = light
        self.distance_m = distance_m
        self.labels = np.zeros(distance_m.shape, np.int32)
        self.head_labels = np.zeros(distance_m.shape, np.int32)

    def add(self, sprite: Sprite, label: int, distance_m: float, shadow_px: float) -> None:
        """Paint a sprite over what is there, with a soft shadow on what is close behind it."""
        x, y = sprite.origin_xy
        h, w = sprite.coverage.shape
        window = np.s_[y : y + h, x : x + w]
        light, distance = self.light[window], self.distance_m[window]
        mask = Image.fromarray((sprite.coverage * 255).astype(np.uint8))
        blur = ImageFilter.BoxBlur(min(max(shadow_px, 0.5), 14))
        soft = np.asarray(mask.filter(blur), np.float32) / 255
        behind = np.clip(distance - distance_m, 0, 30)
        light *= (1 - 0.5 * soft * np.exp(behind * -0.9))[..., None]
        light *= (1 - sprite.coverage)[..., None]
        light += sprite.colour
        owned = sprite.coverage >= 0.5
        self.labels[window][owned] = label
        self.head_labels[window][owned] = np.where(is_head(sprite)[owned], label, 0)
        distance[owned] = distance_m


def is_head(sprite: Sprite) -> NDArray[np.bool_]:
    """Pixels of a sprite that belong to the head: (h, w)."""
    return np.asarray((sprite.coverage >= 0.5) & (sprite.head >= 0.5 * sprite.coverage))


def _ground_shadows(light: Array, persons: list[Person], camera: Camera, sun: Light) -> None:
    """Darken the ground where people keep the sun from it, and under their feet."""
    h, w = camera.size_hw
    veil = Image.new("L", (w // 2 + 1, h // 2 + 1), 0)
    draw = ImageDraw.Draw(veil)
    direct = float(sun.sun.sum() / (sun.sun + sun.sky).sum())
    away = -sun.towards[[0, 2]] / max(float(sun.towards[1]), 0.2)
    across = np.array([-away[1], away[0]]) / max(float(np.hypot(*away)), 1e-3)
    shape = np.array([(0, 0.16), (0.5, 0.17), (0.85, 0.2), (1.4, 0.24), (1.5, 0.09), (1.72, 0.08)])
    for person in persons:
        feet = person.feet_m
        grown = shape * person.unit_m
        middle = feet[[0, 2]] + grown[:, :1] * away
        edge = grown[:, 1:] * across
        rim = np.concatenate([middle + edge, (middle - edge)[::-1]])
        world = np.stack([rim[:, 0], np.full(len(rim), feet[1]), rim[:, 1]], axis=1)
        outline = camera.project(world)[:, :2] / 2
        if direct > 0.3:
            draw.polygon([(float(x), float(y)) for x, y in outline], fill=int(255 * direct))
        x, y, z = camera.project(feet[None])[0]
        r = 0.15 * camera.focal_px / float(z)
        tilt = min(1.0, camera.height_m / float(z))
        draw.ellipse((x / 2 - r, y / 2 - r * tilt, x / 2 + r, y / 2 + r * tilt), fill=190)
    veil = veil.filter(ImageFilter.GaussianBlur(1.2)).resize((w, h), Image.Resampling.BILINEAR)
    light *= (1 - np.asarray(veil, np.float32) / 255 * 0.85)[..., None]


def _click(
    rng: np.random.Generator, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[float, float]:
    """A person's click on a head, given its visible pixels: near their middle, always on one."""
    spread = 0.12 * np.sqrt(len(rows))
    y, x = rows.mean() + rng.normal(0, spread), columns.mean() + rng.normal(0, spread)
    nearest = int(np.argmin((rows - y) ** 2 + (columns - x) ** 2))
    dx, dy = rng.uniform(-0.45, 0.45, 2)
    return float(columns[nearest] + dx), float(rows[nearest] + dy)


def count_near(ground_m: Array) -> NDArray[np.int64]:
    """How many others stand within arm's reach of each of (N, 2) places, (N,)."""
    if not len(ground_m):
        return np.zeros(0, np.int64)
    tree = cKDTree(ground_m)
    return np.asarray(tree.query_ball_point(ground_m, REACH_M, return_length=True) - 1)


def paint_crowd(
    setting: Setting, persons: list[Person], seed: int
) -> tuple[Painting, dict[str, NDArray[np.generic]]]:
    """Paint the people of a setting; give the painting and the columns that describe the heads."""
    camera, light = setting.camera, setting.light
    painting = Painting(*draw_backdrop(setting.site, camera, light, setting.weather == NIGHT))
    if setting.site.place != STAND:
        _ground_shadows(painting.light, persons, camera, light)
    n = len(persons)
    heads = np.array([p.head_m for p in persons]).reshape(n, 3)
    where = camera.project(heads)
    boxes = np.zeros((n, 4))
    whole = np.zeros(n, np.int64)
    near = count_near(heads[:, [0, 2]])
    order = np.argsort(where[:, 2], kind="stable")
    h, w = camera.size_hw
    # From the front, so that nobody is drawn where others will hide them.
    covered = np.zeros((h, w), np.bool_)
    sprites: dict[int, Sprite] = {}
    for i in map(int, order):
        crowding = min(0.9, 0.15 + 0.13 * int(near[i]))
        sprite = draw_person(persons[i], camera, light, crowding, covered)
        r = 0.12 * camera.focal_px / float(where[i, 2])
        x, y = where[i, :2]
        boxes[i] = x - r, y - r, x + r, y + r
        if sprite is None:
            continue
        sprites[i] = sprite
        x0, y0 = sprite.origin_xy
        rows, columns = sprite.coverage.shape
        covered[y0 : y0 + rows, x0 : x0 + columns] |= sprite.coverage > 0.999
        ys, xs = np.nonzero(is_head(sprite))
        if ys.size:
            boxes[i, 0::2] = xs.min() + x0, xs.max() + x0 + 1
            boxes[i, 1::2] = ys.min() + y0, ys.max() + y0 + 1
            whole[i] = ys.size
    # And from the back, as a painter would.
    for i in map(int, order[::-1]):
        if i in sprites:
            depth_m = float(where[i, 2])
            painting.add(sprites[i], i + 1, depth_m, 0.07 * camera.focal_px / depth_m)
    rng = np.random.default_rng([seed, 3])
    points = np.clip(where[:, :2], 0, np.array(camera.size_hw)[::-1] - 1).astype(np.float64)
    occlusion = np.full(n, HIDDEN, np.int8)
    rows, columns = np.nonzero(painting.head_labels)
    owners = painting.head_labels[rows, columns] - 1
    by_owner = np.argsort(owners, kind="stable")
    cuts = np.searchsorted(owners[by_owner], np.arange(n + 1))
    for i in range(n):
        mine = by_owner[cuts[i] : cuts[i + 1]]
        if mine.size >= max(SEEN_PX, SEEN_SHARE * whole[i]):
            occlusion[i] = VISIBLE if mine.size >= CLEAR_SHARE * whole[i] else PARTLY
            points[i] = _click(rng, rows[mine], columns[mine])
    boxes = np.clip(boxes, 0, [w, h, w, h])
    dim = np.exp(-light.haze_per_m * where[:, 2]) < 0.4
    blurred = (boxes[:, 2] - boxes[:, 0] < BLURRED_PX) | dim
    return painting, {
        "points_xy": points,
        "head_boxes_xyxy": boxes,
        "occlusion": occlusion,
        "blurred": np.asarray(blurred, np.bool_),
    }


def render_scene(
    seed: int,
    size_hw: tuple[int, int],
    people: int | None = None,
    place: str | None = None,
    weather: str | None = None,
) -> Scene:
    """Render a crowd; the same arguments always give the same scene.

    Args:
        seed: chooses everything that is not given.
        size_hw: height and width, px.
        people: how many heads are in the image, hidden ones included; by default what suits
            the place.
        place: "plaza", "street", "stand" or "concert".
        weather: "sun", "overcast", "fog", "rain", "snow" or "night".

    Raises:
        NoRoomError: if there is no room for so many people.
    """
    place = place or random_place(seed)
    if people is None:
        people = DEFAULT_PEOPLE[place]
    setting = random_setting(seed, size_hw, people, place, weather)
    persons = place_people(setting, people, seed)
    painting, heads = paint_crowd(setting, persons, seed)
    rng = np.random.default_rng([seed, 4])
    dim = setting.site.place == CONCERT or setting.weather == NIGHT
    gain = float(rng.uniform(0.55, 0.85) if dim else rng.uniform(0.9, 1.3))
    image = photograph(painting.light, rng, setting.weather, gain)
    return Scene(
        image=image,
        labels=painting.labels,
        head_labels=painting.head_labels,
        place=setting.site.place,
        weather=setting.weather,
        **heads,  # type: ignore[arg-type]
    )
