"""Shapes of a tile: as they are written for a tool, and as they are read back from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.errors import InputError
from dpmo_cli.geometry.rle import Rle, WindowXYXY
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review.exchange.manifest import Tile

LABEL = "person"
"""The only label of a task."""


@dataclass(frozen=True)
class Shape:
    """A mask to be written.

    Attributes:
        person: whose.
        mask, window_xyxy: the pixels, and where they lie in the tile, px.
        polygon: [[x, y], ...] in the tile, px, where polygons are written; else None.
    """

    person: Person
    mask: NDArray[np.bool_]
    window_xyxy: WindowXYXY
    polygon: list[list[float]] | None


@dataclass(frozen=True)
class Task:
    """A tile and the shapes in it."""

    tile: Tile
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Found:
    """A shape as a tool wrote it.

    Attributes:
        place: where it stands, for messages.
        person: whose it is, by the id that came back with it; None without one.
        rle: its pixels in the tile's frame.
        is_polygon: it was written as polygons, not as pixels.
    """

    place: str
    person: Person | None
    rle: Rle
    is_polygon: bool


@dataclass(frozen=True)
class Fault:
    """A shape, or a whole tile, that can't be used: what is wrong, and the mend."""

    place: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}; {self.mend}"


@dataclass
class Answers:
    """What a tool wrote back.

    Attributes:
        tiles: the shapes of each tile that the tool knows of, by the tile's name.
        tile_places: where the tool's file has each of these tiles, for messages.
        faults: what could not be read.
        notes: what the reader should know of it.
        broken: persons, by their id, of shapes that could not be read: they are not gone.
    """

    tiles: dict[str, list[Found]] = field(default_factory=dict)
    tile_places: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken: set[Person] = field(default_factory=set)

    def add_tile(self, name: str, place: str) -> bool:
        """Note a tile; false, with a fault, where it has been seen before."""
        if name in self.tiles:
            mend = "leave one of them out"
            self.faults.append(Fault(place, f"tile {name} comes a second time", mend))
            return False
        self.tiles[name], self.tile_places[name] = [], place
        return True

    def refuse_document(self, place: str, document: object, what: str, mend: str) -> None:
        """Note a document that is not of the tool, or none at all."""
        if isinstance(document, InputError):
            self.faults.append(Fault(document.path, document.problem, document.mend))
        else:
            self.faults.append(Fault(place, f"is no {what}", mend))

    def refuse(self, place: str, problem: str, mend: str, person: Person | None = None) -> None:
        """Note what can't be read."""
        self.faults.append(Fault(place, problem, mend))
        if person is not None:
            self.broken.add(person)


def check_label(label: object) -> None:
    """See that a shape is one of a person; one without a label is.

    Raises:
        ValueError: it has another label.
    """
    if label is not None and (not isinstance(label, str) or label.strip().casefold() != LABEL):
        raise ValueError(f"its label is {str(label)[:40]!r}, not {LABEL}")
