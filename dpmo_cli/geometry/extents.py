"""Extents: what of a person a mask holds."""

from __future__ import annotations

from collections.abc import Mapping

NNEC = "nnec"
"""The person's visible pixels inside the person's disc; the paper's."""
HEAD = "head"
"""The head's visible pixels, inside the disc."""
VISIBLE = "visible"
"""The whole visible person, bounded by ownership alone."""
EXTENTS = (NNEC, HEAD, VISIBLE)
EXTENT_MEANINGS: Mapping[str, str] = {
    NNEC: "the person's visible pixels inside the person's disc",
    HEAD: "the head's visible pixels, inside the disc",
    VISIBLE: "the whole visible person",
}
"""What a mask of each extent holds, in words."""
IN_DISC = (NNEC, HEAD)
"""The extents whose masks no disc lets out."""
