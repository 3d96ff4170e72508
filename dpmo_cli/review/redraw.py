"""From clicks to a mask: one person prompted anew, its pixels settled with those around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.extents import IN_DISC
from dpmo_cli.geometry.nnec import disc_mask, disc_windows, nearest_others
from dpmo_cli.geometry.points import FloatArray, group_points
from dpmo_cli.geometry.rle import WindowXYXY
from dpmo_cli.geometry.windows import Windows
from dpmo_cli.masks.choice import Choice, choose
from dpmo_cli.masks.method import LOGIT, RATIO, Method
from dpmo_cli.masks.ownership import costs_of
from dpmo_cli.masks.prompting import prompts_of
from dpmo_cli.masks.segment import discs_of, plan_tiles
from dpmo_cli.outputs.schema import INVALID, REJECTED
from dpmo_cli.review.clicks import Asked, Place, PointXY
from dpmo_cli.review.people import pixel_of
from dpmo_cli.review.placed import PlacedMask
from dpmo_cli.sam.engine import Answer, Encoded, PromptEngine

RIVALS = 12
"""Neighbours that are asked too, so that each keeps what the network says is its own."""
REACH = 1.25
"""A click outside the disc widens it to so many times its distance from the point."""


def place_of(asked: Asked, frame_px: int, method: Method) -> Place:
    """The crop that the run took for a person, or would take for one at this point."""
    people = asked.people
    # Nobody's points are nobody's neighbours; the person's own counts where it is now.
    counted = np.array([one not in (INVALID, REJECTED) for one in people.status], dtype=bool)
    stays = False
    if asked.point_id is not None and asked.point_id < len(people.status):
        stays = people.seen_xy(asked.point_id) == asked.xy
        counted[asked.point_id] = False
    sites = group_points(np.concatenate([people.xy[counted], [asked.xy]]), people.size_hw)
    own = int(sites.site_of_point[-1])
    discs = discs_of(sites, people.size_hw, method)
    prompted = np.flatnonzero(sites.inside) if stays else np.array([own])
    tiles = plan_tiles(sites, discs, prompted, people.size_hw, frame_px, method)
    window = next(tile.window_xyxy for tile in tiles if own in tile.sites)
    others = sites.xy[nearest_others(sites.xy, method.negatives)[own]]
    return Place(window, float(discs.radii_px[own]), others)


@dataclass(frozen=True)
class Redraw:
    """One question to the network, and all that its answer depends on."""

    engine: PromptEngine
    encoded: Encoded
    place: Place
    asked: Asked
    method: Method

    def mask(self) -> PlacedMask | None:
        """The person's mask by the method; None where the network draws nothing.

        It keeps off the masks that people drew; a positive click outside the disc widens it.
        """
        people = self.asked.people
        in_disc = self.method.extent in IN_DISC
        crop = self.place.window_xyxy
        disc = _disc_window(self.asked.xy, self._radius, people.size_hw) if in_disc else crop
        window = _common(disc, crop)
        if window is None:
            return None
        logits = self._own_logits(window)
        pixels = logits > 0
        if in_disc:
            pixels &= disc_mask(np.array(self.asked.xy), self._radius, window)
        mask = PlacedMask.of_pixels(pixels, window)
        if mask is None:
            return None
        for drawn in people.drawn_near(mask.window_xyxy, self.asked.point_id).values():
            mask = mask.without(drawn)
            if mask is None:
                return None
        mask = self._settled(mask, logits, window)
        points = [self.asked.xy, *self._positive]
        return None if mask is None else _connected(mask, points, people.size_hw)

    @property
    def _positive(self) -> list[PointXY]:
        return [(x, y) for x, y, on in self.asked.clicks if on]

    @property
    def _radius(self) -> float:
        """Of the disc, px, with room for the clicks outside it."""
        radius = self.place.radius_px
        away = [math.dist(click, self.asked.xy) for click in self._positive]
        return max([radius, *(REACH * one for one in away if one > radius)])

    @property
    def _origin(self) -> FloatArray:
        return np.array(self.place.window_xyxy[:2], dtype=np.float64)

    def _own_logits(self, window: WindowXYXY) -> NDArray[np.float32]:
        """What the network says of each pixel of a window, given all clicks."""
        negative = [(x, y) for x, y, on in self.asked.clicks if not on]
        own_xy = np.array([self.asked.xy, *self._positive]) - self._origin
        others_xy = np.concatenate([self.place.others_xy, np.array(negative).reshape(-1, 2)])
        prompt, labels = prompts_of(
            own_xy[None], (others_xy - self._origin)[None], self.encoded.frame
        )
        (answer,) = self.engine.prompt(self.encoded, prompt, labels, self.method.extent)
        choice = self._choice(answer, own_xy[:1], np.array([self._radius]))
        return self._upsampled(choice.logits[0], window)

    def _settled(
        self, mask: PlacedMask, logits: NDArray[np.float32], window: WindowXYXY
    ) -> PlacedMask | None:
        """What is left of a mask when automatic neighbours keep the pixels that are rather theirs.

        A neighbour on whose mask a positive click lies keeps none: the reviewer says so.
        """
        rivals = self._rivals(mask)
        if not rivals:
            return mask
        mine, *costs = self._costs([point_id for point_id, _ in rivals], logits, window)
        lost = np.zeros_like(mask.pixels)
        x0, y0, x1, y1 = mask.window_xyxy
        left, top = window[:2]
        here = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        for (_, theirs), cost in zip(rivals, costs, strict=True):
            shared = mask.within(theirs)
            if shared is not None:
                lost |= shared & (mine[here] >= cost[here])
        return PlacedMask.of_pixels(mask.pixels & ~lost, mask.window_xyxy)

    def _rivals(self, mask: PlacedMask) -> list[tuple[int, PlacedMask]]:
        """Automatic neighbours of whose masks this one takes pixels, the nearest ones."""
        people = self.asked.people
        clicked = [pixel_of(click, people.size_hw) for click in self._positive]
        rivals = []
        for point_id in people.meeting(mask.window_xyxy):
            theirs = people.mask(point_id) if point_id < len(people.status) else None
            if point_id == self.asked.point_id or theirs is None or mask.within(theirs) is None:
                continue
            if not any(theirs.holds(x, y) for x, y in clicked):
                rivals.append((point_id, theirs))
        rivals.sort(key=lambda one: math.dist(people.seen_xy(one[0]), self.asked.xy))
        return rivals[:RIVALS]

    def _costs(
        self, rivals: Sequence[int], logits: NDArray[np.float32], window: WindowXYXY
    ) -> NDArray[np.float32]:
        """What the pixels of a window cost this person and its rivals, by the run's rule."""
        people = self.asked.people
        rivals_xy = people.xy[list(rivals)]
        sites_xy = np.concatenate([[self.asked.xy], rivals_xy])
        radii = np.array([self._radius, *(people.radius_px(one) for one in rivals)])
        rule = self.method.ownership or RATIO
        values = [logits]
        if rule == LOGIT:
            # Of each rival the network is told that this person is somebody else.
            own = np.broadcast_to(np.array(self.asked.xy), rivals_xy.shape)
            prompt, labels = prompts_of(
                rivals_xy[:, None] - self._origin, own[:, None] - self._origin, self.encoded.frame
            )
            for answer in self.engine.prompt(self.encoded, prompt, labels, self.method.extent):
                choice = self._choice(answer, prompt[answer.chunk, 0], radii[1:][answer.chunk])
                values += [self._upsampled(one, window) for one in choice.logits]
        squares = Windows(np.array([window] * len(sites_xy))).squared_distances(sites_xy)
        return costs_of(rule, squares, radii, np.stack(values))

    def _choice(self, answer: Answer, points_xy: FloatArray, radii_px: FloatArray) -> Choice:
        """The candidates that the method chooses for points of the crop."""
        frame = self.encoded.frame
        return choose(
            answer.logits,
            answer.predicted_ious,
            frame.to_cells(points_xy),
            radii_px * frame.cells_per_px(),
            self.method.extent,
            self.method.terms,
        )

    def _upsampled(self, logits: NDArray[np.float32], window: WindowXYXY) -> NDArray[np.float32]:
        x0, y0, x1, y1 = window
        left, top = self.place.window_xyxy[:2]
        return self.encoded.frame.window_logits(logits, (x0 - left, y0 - top, x1 - left, y1 - top))


def _disc_window(xy: PointXY, radius_px: float, size_hw: tuple[int, int]) -> WindowXYXY:
    ((x0, y0, x1, y1),) = disc_windows(np.array([xy]), np.array([radius_px]), size_hw).tolist()
    return x0, y0, x1, y1


def _common(one: WindowXYXY, other: WindowXYXY) -> WindowXYXY | None:
    x0, y0 = max(one[0], other[0]), max(one[1], other[1])
    x1, y1 = min(one[2], other[2]), min(one[3], other[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _connected(
    mask: PlacedMask, points: Sequence[PointXY], size_hw: tuple[int, int]
) -> PlacedMask | None:
    """The parts of a mask that hold one of the points; the whole of it where none does."""
    x0, y0, x1, y1 = mask.window_xyxy
    kept = np.zeros_like(mask.pixels)
    for point in points:
        part = mask.part_at(*pixel_of(point, size_hw))
        if part is not None:
            left, top, right, bottom = part.window_xyxy
            kept[top - y0 : bottom - y0, left - x0 : right - x0] |= part.pixels
    return PlacedMask.of_pixels(kept, (x0, y0, x1, y1)) or mask
