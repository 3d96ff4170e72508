"""The choices of the method, their defaults, and the names of the alternatives."""

from __future__ import annotations

from dataclasses import dataclass

from dpmo_cli.geometry.extents import NNEC

NEAREST = "nearest"
"""Radii: the distance to the nearest other site. Ownership: the nearest site."""
ROBUST = "robust"
"""Radii: the nearest distance, held near the local spacing."""
RATIO = "ratio"
"""Ownership: the least distance in parts of the site's radius."""
LOGIT = "logit"
"""Ownership: the network's highest logit, less a price for the distance."""
RADII = (NEAREST, ROBUST)
OWNERSHIPS = (NEAREST, RATIO, LOGIT)

PREDICTED, STABILITY, RETAINED, HEAD_AREA, POINT = (
    "predicted",
    "stability",
    "retained",
    "head area",
    "point",
)
TERMS = (PREDICTED, STABILITY, RETAINED, HEAD_AREA, POINT)
"""What the choice among candidate masks may weigh; those that do not apply are left out."""

NEGATIVES = {"nano": 1}
"""Neighbours that a prompt names, by network; none for the others, which they confuse."""


@dataclass(frozen=True)
class Method:
    """The choices of the method.

    Attributes:
        nnec_scale: factor on the neighbour's distance that gives the radius.
        tiles: whether dense parts are magnified; otherwise the image is one tile.
        extent: what of a person a mask holds, one of `EXTENTS`.
        negatives: nearest other sites that each prompt names as not the person's.
        radii: one of RADII.
        ownership: one of OWNERSHIPS; None lets masks overlap, to measure what ownership does.
        terms: what the choice among candidates weighs.
        connected: whether a mask is only the part that is connected to its point.
        tile_target_px: length of the tiles' unit in the network's frame; None takes the network's.
        tile_unit: what tiles are scaled by: NEAREST, or ROBUST for the local spacing.
    """

    nnec_scale: float = 1.0
    tiles: bool = True
    extent: str = NNEC
    negatives: int = 0
    radii: str = NEAREST
    ownership: str | None = LOGIT
    terms: tuple[str, ...] = TERMS
    connected: bool = True
    tile_target_px: float | None = None
    tile_unit: str = NEAREST


def default_method(sam: str) -> Method:
    """The defaults for a network of the catalogue."""
    return Method(negatives=NEGATIVES.get(sam, 0))
