"""Extents: what of a person a mask holds."""

from __future__ import annotations

NNEC = "nnec"
"""The person's visible pixels inside the person's disc; the paper's."""
HEAD = "head"
"""The head's visible pixels, inside the disc."""
VISIBLE = "visible"
"""The whole visible person, bounded by ownership alone."""
EXTENTS = (NNEC, HEAD, VISIBLE)
IN_DISC = (NNEC, HEAD)
"""The extents whose masks no disc lets out."""
