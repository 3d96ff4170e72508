"""Pictures made ready to look at: a key below them, several on one sheet."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dpmo_cli.outputs.colours import RGB, palette_oklab, to_rgb
from dpmo_cli.outputs.overlay import (
    Picture,
    PointXY,
    draw_cross,
    draw_dot,
    draw_mask,
    draw_ring,
)

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

PAPER: RGB = (22, 25, 31)
INK: RGB = (236, 239, 244)
FAINT: RGB = (150, 158, 170)
_MIN_WIDTH = 480
_GAP = 16
_SHEET_ASPECT = 1.6


def add_key(
    picture: Picture, title: str, counts: str, *, discs: bool = True, points: bool = True
) -> Picture:
    """Return the picture with a strip below it: title, counts, and what the marks mean.

    Args:
        picture: (h, w, 3) uint8 RGB.
        title: usually the file's name; shortened where it does not fit.
        counts: e.g. "412 people, 398 masks, 41 to review".
        discs, points: whether the picture shows them.
    """
    width = max(picture.shape[1], _MIN_WIDTH)
    size = _text_size(width)
    key = _key(width, size, discs, points)
    return _stacked([picture, _caption(title, counts, width, size), key], width)


def contact_sheet(
    pictures: Sequence[Picture],
    titles: Sequence[tuple[str, str]],
    width: int = 2800,
    *,
    discs: bool = True,
    points: bool = True,
) -> Picture:
    """Return one picture of several, in rows of equal height, each above its title and counts.

    Args:
        pictures: (h, w, 3) uint8 RGB each, any sizes.
        titles: a title and counts for each.
        width: of the sheet, px.
        discs, points: whether the pictures show them.
    """
    size = _text_size(width) * 4 // 5
    rows = [
        _row([(pictures[i], *titles[i]) for i in indices], width, size)
        for indices in _rows_of([picture.shape[1] / picture.shape[0] for picture in pictures])
    ]
    return _stacked([*rows, _key(width, _text_size(width), discs, points)], width)


def _rows_of(aspects: Sequence[float]) -> list[list[int]]:
    """Cut pictures, given by width / height, into rows that keep their order, evenly."""
    # The sheet's own width / height is about the pictures' sum of them by the rows' square.
    count = max(1, round(math.sqrt(sum(aspects) / _SHEET_ASPECT)))
    ends = np.cumsum(aspects) / sum(aspects) * count
    rows: list[list[int]] = [[] for _ in range(count)]
    for index, end in enumerate(ends):
        middle = end - aspects[index] / sum(aspects) * count / 2
        rows[min(int(middle), count - 1)].append(index)
    return [row for row in rows if row]


def _row(items: Sequence[tuple[Picture, str, str]], width: int, size: int) -> Picture:
    aspects = [picture.shape[1] / picture.shape[0] for picture, _, _ in items]
    free = width - _GAP * (len(items) + 1)
    # A lone narrow picture is not blown up beyond the sheet's own proportion.
    height = min(free / sum(aspects), width * 0.6)
    row = _paper(round(height) + _GAP + _caption_height(size), width)
    left = round((width - height * sum(aspects) - _GAP * (len(items) - 1)) / 2)
    for (picture, title, counts), aspect in zip(items, aspects, strict=True):
        cell = _resized(picture, max(1, round(height * aspect)), max(1, round(height)))
        cell = np.concatenate([cell, _caption(title, counts, cell.shape[1], size, inset=0)])
        row[_GAP : _GAP + cell.shape[0], left : left + cell.shape[1]] = cell
        left += cell.shape[1] + _GAP
    return row


def _caption(title: str, counts: str, width: int, size: int, inset: int = _GAP) -> Picture:
    """Return a strip with the title at the left and the counts at the right."""
    from PIL import Image, ImageDraw

    strip = Image.fromarray(_paper(_caption_height(size), width))
    draw = ImageDraw.Draw(strip)
    font = _font(size)
    middle = strip.height / 2
    room = width - 2 * inset
    counts_width = draw.textlength(counts, font)
    if counts_width < room:
        draw.text((width - inset, middle), counts, fill=FAINT, font=font, anchor="rm")
        room -= math.ceil(counts_width) + _GAP
    title = _shortened(title.replace("\n", " "), lambda text: draw.textlength(text, font) <= room)
    draw.text((inset, middle), title, fill=INK, font=font, anchor="lm")
    return np.array(strip)


def _key(width: int, size: int, discs: bool, points: bool) -> Picture:
    """Return a strip that explains the marks, in as many lines as it needs."""
    from PIL import Image, ImageDraw

    line = max(1.0, size / 14)
    entries: list[tuple[str, Callable[[Picture, PointXY], None]]] = [
        ("mask", lambda canvas, at: _swatch(canvas, at, size, line, flagged=False)),
        ("mask to review", lambda canvas, at: _swatch(canvas, at, size, line, flagged=True)),
    ]
    if discs:
        entries += [("disc", lambda canvas, at: draw_ring(canvas, at, size * 0.45, line))]
    if points:
        entries += [
            ("point", lambda canvas, at: draw_dot(canvas, at, line * 1.5)),
            ("point without mask", lambda canvas, at: draw_cross(canvas, at, line * 1.5)),
        ]
    font = _font(size)
    height = round(size * 1.7)
    x, y = float(_GAP), height / 2
    places = []
    for text, _ in entries:
        room = size * 1.6 + font.getlength(text)
        if x + room > width - _GAP and x > _GAP:
            x, y = float(_GAP), y + height
        places.append((x, y))
        x += room + size * 1.2
    canvas = _paper(round(y + height / 2 + size * 0.4), width)
    for (_, mark), (x, y) in zip(entries, places, strict=True):
        mark(canvas, (x + size * 0.6, y))
    strip = Image.fromarray(canvas)
    draw = ImageDraw.Draw(strip)
    for (text, _), (x, y) in zip(entries, places, strict=True):
        draw.text((x + size * 1.6, y), text, fill=FAINT, font=font, anchor="lm")
    return np.array(strip)


def _swatch(canvas: Picture, at_xy: PointXY, size: int, line: float, *, flagged: bool) -> None:
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    disc = np.hypot(x, y) < half - 1
    corner_xy = (round(at_xy[0]) - half, round(at_xy[1]) - half)
    draw_mask(canvas, disc, corner_xy, to_rgb(palette_oklab())[1], line, flagged=flagged)


def _stacked(parts: Sequence[Picture], width: int) -> Picture:
    """Put pictures below each other on paper of a width, each in the middle."""
    wide = []
    for part in parts:
        paper = _paper(part.shape[0], width)
        left = (width - part.shape[1]) // 2
        paper[:, left : left + part.shape[1]] = part
        wide.append(paper)
    return np.concatenate(wide)


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    """Return the text, or as much of its end as fits: the end of a path tells most."""
    if fits(text):
        return text
    cut = bisect_left(range(len(text)), True, key=lambda start: fits(f"...{text[start:]}"))
    return f"...{text[cut:]}"


def _resized(picture: Picture, width: int, height: int) -> Picture:
    from PIL import Image

    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _paper(height: int, width: int) -> Picture:
    return np.full((height, width, 3), PAPER, np.uint8)


def _text_size(width: int) -> int:
    return min(max(width // 70, 15), 34)


def _caption_height(size: int) -> int:
    return round(size * 2.0)


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
