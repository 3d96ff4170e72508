"""The pictures of a report: overlays of the worst masks and of whole images, ready to inline."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpmo_cli.errors import InputError
from dpmo_cli.outputs.finished import RunImage
from dpmo_cli.outputs.gallery import People, WorstMask, read_people
from dpmo_cli.outputs.overlay import Person, Picture, WindowXYXY, draw_overlay

if TYPE_CHECKING:
    from PIL.Image import Image

PhotoReader = Callable[[RunImage], Picture]
"""Gives the (H, W, 3) photo of an image of the run, or raises InputError."""

_CROP_SIDE = 320
_LEAST_CROP_SIDE = 64
"""Part of the photo round a worst mask, px, at least: enough to know the place."""
_MARK_PX = 8
"""The marks of points reach no further, px of the photo."""
_CROP_RADII = 4.4
_CROP_BOXES = 1.6
_SAMPLE_SIDE = 1200
_LEAST_SAMPLE_SIDE = 160
_SHRINK = 0.8
_SAMPLE_BYTES = 2 * 2**20
"""All whole images of a page together; with the crops and base64 it stays below 4 MB."""
_JPEG_QUALITY = 82


@dataclass(frozen=True)
class Plate:
    """A picture and what it shows.

    Attributes:
        source: a data URI.
        width, height: px.
        image: which image it is of, or lies in.
        counts: what a whole image holds, in words; empty for a crop.
        worst: the mask in the middle of a crop; None for a whole image.
    """

    source: str
    width: int
    height: int
    image: RunImage
    counts: str = ""
    worst: WorstMask | None = None


@dataclass
class Plates:
    """The pictures of a page.

    Attributes:
        worst, sample: in the order asked for, without those whose photo can't be read.
        problems: why photos can't be read, one line each.
    """

    worst: list[Plate] = field(default_factory=list)
    sample: list[Plate] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def draw_plates(
    out: Path, photo: PhotoReader, worst: Sequence[WorstMask], sample: Sequence[RunImage]
) -> Plates:
    """Draw crops round masks, and whole images; each photo is read once, one at a time.

    Raises:
        InputError: the queue can't be read. A photo that can't be is a problem of the result.
    """
    plates = Plates()
    crops: dict[int, Plate] = {}
    share_bytes = _SAMPLE_BYTES // max(1, len(sample))
    images = dict.fromkeys([*sample, *(one.image for one in worst)])
    for image in images:
        try:
            picture = photo(image)
        except InputError as error:
            plates.problems.append(str(error))
            continue
        people = read_people(out, image)
        if image in sample:
            plates.sample.append(_whole(picture, image, people, share_bytes))
        for index, one in enumerate(worst):
            if one.image == image:
                crops[index] = _crop(picture, one, people)
    plates.worst = [crops[index] for index in sorted(crops)]
    return plates


def crop_round(mask: WorstMask) -> WindowXYXY:
    """Return the square part of the photo that shows a mask and its neighbours, px.

    It is moved, and where it must be cut, to lie inside the photo.
    """
    height, width = mask.image.size_hw
    x, y, w, h = mask.bbox_xywh
    reach = max(_CROP_RADII * (mask.radius_px or 0.0), _CROP_BOXES * max(w, h), _LEAST_CROP_SIDE)
    side_x, side_y = min(round(reach), width), min(round(reach), height)
    x0 = min(max(round(x + w / 2 - side_x / 2), 0), width - side_x)
    y0 = min(max(round(y + h / 2 - side_y / 2), 0), height - side_y)
    return x0, y0, x0 + side_x, y0 + side_y


def _crop(picture: Picture, mask: WorstMask, people: People) -> Plate:
    from PIL import Image

    crop_xyxy = crop_round(mask)
    # One disc alone says which mask is meant, where several of a crop are flagged.
    persons = [
        one if one.point_xy == mask.point_xy else replace(one, radius_px=None)
        for one in people.persons
        if _reaches(one, crop_xyxy)
    ]
    drawn = draw_overlay(picture, persons, crop_xyxy=crop_xyxy, max_side=_CROP_SIDE)
    height, width = drawn.shape[:2]
    return Plate(_data_uri(_jpeg(Image.fromarray(drawn))), width, height, mask.image, worst=mask)


def _reaches(person: Person, crop_xyxy: WindowXYXY) -> bool:
    """Whether a person's mask or point lies in a crop, or so near that its mark does."""
    x, y = person.point_xy
    x0, y0, x1, y1 = person.window_xyxy or (x, y, x, y)
    left, top, right, bottom = crop_xyxy
    return (
        min(x0, x) <= right + _MARK_PX
        and max(x1, x) >= left - _MARK_PX
        and min(y0, y) <= bottom + _MARK_PX
        and max(y1, y) >= top - _MARK_PX
    )


def _whole(picture: Picture, image: RunImage, people: People, most_bytes: int) -> Plate:
    """Draw a whole image without discs, which would cover it, in at most about so many bytes."""
    from PIL import Image

    drawn = draw_overlay(picture, people.persons, discs=False, max_side=_SAMPLE_SIDE)
    smaller = Image.fromarray(drawn)
    while len(encoded := _jpeg(smaller)) > most_bytes and max(smaller.size) > _LEAST_SAMPLE_SIDE:
        width, height = (max(1, round(side * _SHRINK)) for side in smaller.size)
        smaller = Image.fromarray(drawn).resize((width, height), Image.Resampling.LANCZOS)
    return Plate(_data_uri(encoded), *smaller.size, image, counts=people.counts)


def _jpeg(picture: Image) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
        return file.getvalue()


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
