"""What the commands that print figures share: options, and figures as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from dpmo_cli.evaluation.summary import Figure

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Samples = Annotated[
    int,
    typer.Option(
        min=0, max=100_000, help="Resamples of the images for the 95 % intervals; 0: none."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the resampling.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


class Resampled(Protocol):
    """A summary whose intervals come from `samples` resamples."""

    @property
    def samples(self) -> int:
        """How many."""

    @property
    def seed(self) -> int:
        """Of the drawing."""


def resampled(found: Resampled) -> str:
    """Say where the intervals come from."""
    if not found.samples:
        return "no intervals"
    return f"95 % intervals from {found.samples} resamples of the images, seed {found.seed}"


def shown(figure: Figure, digits: int = 3) -> str:
    """A figure with its interval, where it has one."""
    if math.isnan(figure.low):
        return number(figure.value, digits)
    low, high = number(figure.low, digits), number(figure.high, digits)
    return f"{number(figure.value, digits)} [{low}, {high}]"


def number(value: float, digits: int = 3) -> str:
    """A number, or a dash where it is undefined."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def range_of(low: float, high: float) -> str:
    """A bin by its edges."""
    if not low:
        return f"below {high:.0f}"
    return f"{low:.0f} and more" if math.isinf(high) else f"{low:.0f} to {high:.0f}"
