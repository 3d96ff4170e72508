"""dpmo: turn the head points of crowd datasets into instance masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpmo_cli.version import VERSION

if TYPE_CHECKING:
    from dpmo_cli.api import PointMask as PointMask
    from dpmo_cli.api import masks_from_points as masks_from_points

__version__ = VERSION
__all__ = ["PointMask", "__version__", "masks_from_points"]


def __getattr__(name: str) -> object:
    """Load the Python interface when it is first used: it brings torch with it."""
    if name in ("PointMask", "masks_from_points"):
        from dpmo_cli import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
