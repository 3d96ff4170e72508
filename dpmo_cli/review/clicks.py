"""A reviewer's clicks as a question to the network, and where in the photo it is put."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.geometry.rle import WindowXYXY
from dpmo_cli.review.people import People
from dpmo_cli.review.photos import Photo

PointXY = tuple[float, float]
"""px of the photo."""
Click = tuple[float, float, bool]
"""x, y in px of the photo; whether it lies on the person."""


@dataclass(frozen=True)
class Asked:
    """A question to the network.

    Attributes:
        photo: the whole photo.
        people: who stands where in it.
        point_id: whose mask it is; None for a new person.
        xy: the person's point, px.
        clicks: further points on the person, and points on others.
    """

    photo: Photo
    people: People
    point_id: int | None
    xy: PointXY
    clicks: Sequence[Click] = ()


@dataclass(frozen=True)
class Place:
    """Where a person lies for the network.

    Attributes:
        window_xyxy: the crop that it sees, px.
        radius_px: of the person's disc.
        others_xy: (k, 2) neighbours that the method names as somebody else, px.
    """

    window_xyxy: WindowXYXY
    radius_px: float
    others_xy: FloatArray
