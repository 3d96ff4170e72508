"""Whose each shape of a tile is: by our id, else by its pixels, by the point in it, by overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as coco_mask

from dpmo_cli.geometry.rle import Rle
from dpmo_cli.outputs.corrections import DELETED
from dpmo_cli.outputs.schema import AUTO, OUTSIDE, SHARED
from dpmo_cli.review.exchange.manifest import Tile
from dpmo_cli.review.exchange.shapes import Found
from dpmo_cli.review.people import People, ShownPerson, pixel_of
from dpmo_cli.review.placed import PlacedMask

LEAST_IOU = 0.5
"""From this overlap on a shape without an id is taken for an exported one."""


@dataclass
class Matched:
    """The shapes of a tile told apart.

    Attributes:
        of_point: the shape of each person, by point id.
        free: shapes that hold nobody's point and cover nobody's mask: persons to be added.
        contested: points whose id several changed shapes carry.
        unclear: shapes of which it can't be said whose they are, and why.
    """

    of_point: dict[int, Found] = field(default_factory=dict)
    free: list[Found] = field(default_factory=list)
    contested: set[int] = field(default_factory=set)
    unclear: list[tuple[Found, str]] = field(default_factory=list)

    def has_shape(self, point_id: int) -> bool:
        """Whether a person's shape has come back, be it unclear which."""
        return point_id in self.of_point or point_id in self.contested


def match(tile: Tile, found: Iterable[Found], people: People) -> Matched:
    """Tell whose the shapes of a tile are.

    An id counts where it is of the tile's own image and only one shape has it; of several, that
    counts which is as it was exported: the others are copies. Shapes without an id are matched by
    their very pixels, then by the only point in them, if no other shape holds it, then by overlap
    with an exported mask.
    """
    matched = Matched()
    exported = {one.point_id: one.counts for one in tile.persons if one.counts is not None}
    nameless = _by_id(tile, found, exported, matched)
    of_counts = {counts: point_id for point_id, counts in exported.items()}
    left = []
    for one in nameless:
        point_id = of_counts.get(one.rle["counts"])
        if point_id is None or matched.has_shape(point_id):
            left.append(one)
        else:
            matched.of_point[point_id] = one
    left = _by_point(tile, left, people, matched)
    left = _by_overlap(tile, left, exported, matched)
    for one in left:
        why = _covered(in_image(tile, one.rle), people)
        if why is None:
            matched.free.append(one)
        else:
            matched.unclear.append((one, why))
    return matched


def in_image(tile: Tile, rle: Rle) -> PlacedMask:
    """A shape of a tile in the frame of its image; it has pixels."""
    mask = PlacedMask.of_rle(rle)
    assert mask is not None
    (x, y), (x0, y0, x1, y1) = tile.origin_xy, mask.window_xyxy
    return PlacedMask(mask.pixels, (x0 + x, y0 + y, x1 + x, y1 + y))


def _by_id(
    tile: Tile, found: Iterable[Found], exported: Mapping[int, str], matched: Matched
) -> list[Found]:
    """Match the shapes that carry an id of this tile; return the others."""
    own = {tile.person(one.point_id) for one in tile.persons}
    claims: dict[int, list[Found]] = {}
    nameless = []
    for one in found:
        if one.person in own:
            claims.setdefault(one.person.point_id, []).append(one)
        else:
            nameless.append(one)
    for point_id, shapes in claims.items():
        same = [one for one in shapes if one.rle["counts"] == exported.get(point_id)]
        if len(shapes) == 1 or same:
            original = same[0] if same else shapes[0]
            matched.of_point[point_id] = original
            nameless += [one for one in shapes if one is not original]
        else:
            why = f"{len(shapes)} shapes carry the id of point {point_id}, and all were changed"
            matched.unclear += [(one, why) for one in shapes]
            matched.contested.add(point_id)
    return nameless


def _by_point(tile: Tile, shapes: list[Found], people: People, matched: Matched) -> list[Found]:
    """Match shapes that hold one person's point, who has no other shape; return the rest."""
    holding: list[list[int]] = []
    for one in shapes:
        inside = points_in(in_image(tile, one.rle), people)
        holding.append([person.person.point_id for person in inside])
    times: dict[int, int] = {}
    for points in holding:
        for point_id in points:
            times[point_id] = times.get(point_id, 0) + 1
    left = []
    for one, points in zip(shapes, holding, strict=True):
        if len(points) == 1 and not matched.has_shape(points[0]) and times[points[0]] == 1:
            matched.of_point[points[0]] = one
        else:
            left.append(one)
    return left


def _by_overlap(
    tile: Tile, shapes: list[Found], exported: Mapping[int, str], matched: Matched
) -> list[Found]:
    """Match shapes to exported masks that overlap them most, the best pair first."""
    open_points = [point_id for point_id in exported if not matched.has_shape(point_id)]
    if not shapes or not open_points:
        return shapes
    ious = coco_mask.iou(
        [_packed(one.rle) for one in shapes],
        [_packed(tile.rle(exported[point_id])) for point_id in open_points],
        [False] * len(open_points),
    )
    taken: set[int] = set()
    pairs = np.argwhere(ious >= LEAST_IOU)
    best_first = np.argsort(-ious[tuple(pairs.T)], kind="stable")
    for row, column in pairs[best_first].tolist():
        if row not in taken and open_points[column] not in matched.of_point:
            taken.add(row)
            matched.of_point[open_points[column]] = shapes[row]
    return [one for row, one in enumerate(shapes) if row not in taken]


def points_in(mask: PlacedMask, people: People) -> list[ShownPerson]:
    """The persons of an image whose point a mask holds, but deleted, shared and outside ones."""
    near = (people.show(point_id) for point_id in people.meeting(mask.window_xyxy))
    return [
        one
        for one in near
        if one is not None
        and one.verdict != DELETED
        and not (one.status in (SHARED, OUTSIDE) and one.origin in (AUTO, None))
        and mask.holds(*pixel_of(one.xy, people.size_hw))
    ]


def _covered(mask: PlacedMask, people: People) -> str | None:
    """Why a shape is nobody new: the points in it, or a mask that it covers; None for neither."""
    inside = points_in(mask, people)
    if inside:
        named = ", ".join(str(one.person.point_id) for one in inside[:5])
        return f"it holds the point of {named}, who can't be told from it"
    for point_id in people.meeting(mask.window_xyxy):
        one = people.show(point_id)
        if one is not None and one.mask is not None:
            shared = mask.within(one.mask)
            common = 0 if shared is None else int(shared.sum())
            if common >= LEAST_IOU * (int(mask.pixels.sum() + one.mask.pixels.sum()) - common):
                return f"it covers the mask of point {point_id}; a copy?"
    return None


def _packed(rle: Rle) -> dict[str, object]:
    return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}
