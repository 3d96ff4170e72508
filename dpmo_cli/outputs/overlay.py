"""Masks, discs and points drawn over a photo, each within its own window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from dpmo_cli.outputs.colours import BLACK, MISSING, REVIEW, RGB, WHITE, colours_of

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""
WindowXYXY = tuple[int, int, int, int]
PointXY = tuple[float, float]

MAX_MAGNIFICATION = 4
MAX_SIDE = 2400
_FILL = 0.45
_DISC = 0.5
_HALO = 0.9
_MARK_REACH = 3.5
"""How far a mark reaches from its point, in widths of a line."""


@dataclass(frozen=True)
class Person:
    """One point to draw.

    Attributes:
        point_xy: px of the photo, pixel centres at integers, finite.
        radius_px: of its disc; None draws none.
        flagged: the point waits for review.
        has_mask: its own, or one shared with another point; a point without one gets a cross.
        mask: (h, w) bool, the mask to draw, or None.
        window_xyxy: where the mask lies, px; None likewise.
    """

    point_xy: PointXY
    radius_px: float | None
    flagged: bool
    has_mask: bool
    mask: NDArray[np.bool_] | None = None
    window_xyxy: WindowXYXY | None = None


def draw_overlay(
    image: Picture,
    people: Sequence[Person],
    *,
    discs: bool = True,
    points: bool = True,
    crop_xyxy: WindowXYXY | None = None,
    max_side: int = MAX_SIDE,
) -> Picture:
    """Draw people over a photo.

    Masks are translucent with an outline, red and white where flagged; discs are thin circles,
    points dots, points without a mask crosses. Small pictures are magnified by a whole factor of
    at most 4, large ones shrunk, to fit `max_side`.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        people: in px of the photo.
        discs, points: whether to draw them.
        crop_xyxy: the part to draw, px, inside the photo; all of it by default.
        max_side: longest side of the result, px.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    frame = _Frame.fitting(crop_xyxy or (0, 0, width, height), max_side)
    canvas = frame.photo(image)
    line = max(1.0, 0.75 * frame.scale)
    masked = [person for person in people if person.mask is not None]
    colours = colours_of(np.array([person.point_xy for person in masked]).reshape(-1, 2))
    # Flagged ones last: their halo lies on the neighbours' pixels.
    for person, colour in sorted(zip(masked, colours, strict=True), key=lambda one: one[0].flagged):
        mask, corner_xy = frame.mask(person)
        draw_mask(canvas, mask, corner_xy, colour, line, flagged=person.flagged)
    for person in people:
        if discs and person.radius_px is not None:
            draw_ring(canvas, frame.place(person.point_xy), person.radius_px * frame.scale, line)
    for person in people:
        if points:
            draw = draw_dot if person.has_mask else draw_cross
            draw(canvas, frame.place(person.point_xy), line)
    return canvas


def draw_mask(
    canvas: Picture,
    mask: NDArray[np.bool_],
    corner_xy: tuple[int, int],
    colour: RGB | NDArray[np.uint8],
    line: float,
    *,
    flagged: bool,
) -> None:
    """Draw one (h, w) mask with an empty border in place, its corner at a pixel of the canvas."""
    inner = binary_erosion(mask, iterations=max(1, round(line)))
    _paint(canvas, corner_xy, inner * _FILL, colour)
    _paint(canvas, corner_xy, mask & ~inner, REVIEW if flagged else colour)
    if flagged:
        _paint(canvas, corner_xy, (binary_dilation(mask) & ~mask) * _HALO, WHITE)


def draw_ring(canvas: Picture, at_xy: PointXY, radius: float, line: float) -> None:
    """Draw a thin translucent circle in place."""
    corner_xy, x, y = _around(canvas, at_xy, radius + line)
    off = np.abs(np.hypot(x, y) - radius)
    _paint(canvas, corner_xy, np.clip(line / 3 + 0.5 - off, 0, 1) * _DISC, WHITE)


def draw_dot(canvas: Picture, at_xy: PointXY, line: float) -> None:
    """Draw a white dot with a dark border in place."""
    corner_xy, x, y = _around(canvas, at_xy, _MARK_REACH * line)
    for radius, colour in ((1.4 * line, BLACK), (0.8 * line, WHITE)):
        _paint(canvas, corner_xy, np.clip(radius + 0.5 - np.hypot(x, y), 0, 1), colour)


def draw_cross(canvas: Picture, at_xy: PointXY, line: float) -> None:
    """Draw an amber cross with a dark border in place."""
    corner_xy, x, y = _around(canvas, at_xy, (_MARK_REACH + 1) * line)
    across = np.minimum(np.abs(x - y), np.abs(x + y)) / math.sqrt(2)
    along = np.maximum(np.abs(x), np.abs(y))
    for border, colour in ((0.7 * line, BLACK), (0.0, MISSING)):
        off = np.maximum(across - 0.5 * line, along - (_MARK_REACH - 1) * line) - border
        _paint(canvas, corner_xy, np.clip(0.5 - off, 0, 1), colour)


@dataclass(frozen=True)
class _Frame:
    """The part of the photo that is drawn, and its magnification."""

    crop_xyxy: WindowXYXY
    scale: float

    @classmethod
    def fitting(cls, crop_xyxy: WindowXYXY, max_side: int) -> _Frame:
        x0, y0, x1, y1 = crop_xyxy
        fit = max_side / max(x1 - x0, y1 - y0)
        return cls(crop_xyxy, min(math.floor(fit), MAX_MAGNIFICATION) if fit >= 1 else fit)

    def photo(self, image: Picture) -> Picture:
        """Return the part of the photo at the frame's scale, an array of its own."""
        from PIL import Image

        x0, y0, x1, y1 = self.crop_xyxy
        size = (max(1, round((x1 - x0) * self.scale)), max(1, round((y1 - y0) * self.scale)))
        part = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1]))
        return np.array(part.resize(size, Image.Resampling.LANCZOS))

    def place(self, point_xy: PointXY) -> PointXY:
        """Return where a point of the photo lies in the picture, pixel centres at integers."""
        (x, y), (x0, y0, _, _) = point_xy, self.crop_xyxy
        return (x + 0.5 - x0) * self.scale - 0.5, (y + 0.5 - y0) * self.scale - 0.5

    def mask(self, person: Person) -> tuple[NDArray[np.bool_], tuple[int, int]]:
        """Return a person's mask at the frame's scale, with an empty border, and its corner.

        Each pixel of the picture takes the pixel of the photo that holds its centre.
        """
        assert person.mask is not None
        assert person.window_xyxy is not None
        corner, picked = [], []
        for axis in (0, 1):
            low, high = person.window_xyxy[axis], person.window_xyxy[axis + 2]
            origin = self.crop_xyxy[axis]
            first = math.floor((low - origin) * self.scale) - 1
            last = math.ceil((high - origin) * self.scale) + 1
            source = np.floor((np.arange(first, last) + 0.5) / self.scale).astype(int) + origin
            corner.append(first)
            # All that lies beyond the window takes the empty pixel behind it.
            picked.append(np.where((source >= low) & (source < high), source - low, high - low))
        padded = np.pad(person.mask, ((0, 1), (0, 1)))
        return padded[np.ix_(picked[1], picked[0])], (corner[0], corner[1])


def _around(
    canvas: Picture, at_xy: PointXY, reach: float
) -> tuple[tuple[int, int], NDArray[np.float64], NDArray[np.float64]]:
    """Return the corner of the canvas's part within `reach`, and (1, w) and (h, 1) offsets."""
    spans = []
    for centre, side in zip(at_xy, (canvas.shape[1], canvas.shape[0]), strict=True):
        first = min(max(math.floor(centre - reach) - 1, 0), side)
        spans.append(np.arange(first, max(first, min(math.ceil(centre + reach) + 2, side))))
    x, y = spans
    corner_xy = (int(x[0]) if len(x) else 0, int(y[0]) if len(y) else 0)
    return corner_xy, (x - at_xy[0])[None, :], (y - at_xy[1])[:, None]


def _paint(
    canvas: Picture,
    corner_xy: tuple[int, int],
    alpha: NDArray[np.float64] | NDArray[np.bool_],
    colour: RGB | NDArray[np.uint8],
) -> None:
    """Blend a colour into the canvas by an (h, w) alpha from 0 to 1, cut at the canvas's border."""
    x, y = corner_xy
    top, left = max(-y, 0), max(-x, 0)
    alpha = alpha[top:, left:]
    part = canvas[y + top : y + top + alpha.shape[0], x + left : x + left + alpha.shape[1]]
    alpha = alpha[: part.shape[0], : part.shape[1]]
    rows, columns = np.nonzero(alpha)
    strength = np.asarray(alpha, np.float64)[rows, columns, None]
    pixels = part[rows, columns]
    part[rows, columns] = np.rint(pixels + strength * (np.asarray(colour, np.float64) - pixels))
