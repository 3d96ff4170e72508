"""Why a person should look at a mask first: the reasons in the review queue."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.outputs.schema import DUPLICATE, YIELDED

LOW_SCORE = "low_score"
LEAKS = "leaks_out_of_disc"
MISSES_POINT = "misses_point"
AMBIGUOUS = "ambiguous"
TINY = "tiny"
SUB_RESOLUTION = "sub_resolution"
CLOSE_PAIR = "close_pair"
RADIUS_CLAMPED = "radius_clamped"
LONE = "lone_point"
BOX_DISAGREES = "box_disagrees"
NO_PIXELS = "no_pixels"
OUTSIDE_IMAGE = "outside_image"
NOT_FINITE = "not_finite"
FULLY_OCCLUDED = "fully_occluded"
REJECTED = "rejected"
UNREADABLE = "unreadable_image"
WORKER_DIED = "worker_died"

REASONS: Mapping[str, str] = {
    LOW_SCORE: "the score is below 0.5",
    LEAKS: "much of the mask that the network drew lies outside the disc",
    MISSES_POINT: "no candidate mask holds the point",
    AMBIGUOUS: "another candidate of almost the same score is a different mask",
    TINY: "the mask fills less than 2 % of its disc, or fewer than 6 pixels",
    SUB_RESOLUTION: "the disc is smaller than four cells of the network's mask grid",
    CLOSE_PAIR: "a neighbour is nearer than 0.15 of the local spacing: a double click?",
    RADIUS_CLAMPED: "the disc was clamped to 3 px or to half the image",
    LONE: "the only point of its image: nothing tells how large the person is",
    BOX_DISAGREES: "the mask fills under a quarter of the dataset's head box, or leaves it by half",
    DUPLICATE: "rounds to the pixel of an earlier point, whose mask it shares",
    NO_PIXELS: "neighbours own all pixels that the network gave",
    YIELDED: "masks that reviewers drew or accepted took its pixels",
    OUTSIDE_IMAGE: "the point lies outside the image",
    NOT_FINITE: "a coordinate is NaN or infinite",
    FULLY_OCCLUDED: "the dataset says that the head is fully occluded",
    REJECTED: "the policy takes the located point for nobody's",
    UNREADABLE: "the image could not be read",
    WORKER_DIED: "the processes that converted the image died over it",
}
"""All reasons with what they mean."""

SCORE_LIMIT = 0.5
RETAINED_LIMIT = 0.7
TINY_OF_DISC = 0.02
TINY_PX = 6
SUB_RESOLUTION_CELLS = 4.0
BOX_COVER = 0.25
"""A mask that fills less of what the disc leaves of the box has missed the head."""
BOX_CONTAINMENT = 0.5
"""A head that lies outside its box by more than the other half is more than a head."""
CLOSE_OF_SPACING = 0.15
"""Where people walk in pairs, as in ShanghaiTech B, 0.35 would flag a third of them."""

Flags = NDArray[np.bool_]


def collect(count: int, flags: Mapping[str, Flags]) -> list[list[str]]:
    """Names of the reasons that hold for each of `count` items, in the order of REASONS.

    Args:
        count: number of items.
        flags: (count,) bool for each reason.
    """
    reasons: list[list[str]] = [[] for _ in range(count)]
    for name in REASONS:
        if name in flags:
            for index in np.flatnonzero(flags[name]):
                reasons[index].append(name)
    return reasons
