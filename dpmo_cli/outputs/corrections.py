"""What people decided about the persons of a run."""

from __future__ import annotations

from dataclasses import dataclass

ACCEPTED = "accepted"
"""The mask is right."""
REJECTED = "rejected"
"""The mask is wrong and there is none better: the person stays, without a mask."""
CORRECTED = "corrected"
"""This mask instead, maybe with the point moved."""
DELETED = "deleted"
"""The point is nobody."""
ADDED = "added"
"""A person whom nobody had marked."""
OPEN = "open"
"""Nothing is decided: an earlier decision was withdrawn."""
VERDICTS = (ACCEPTED, REJECTED, CORRECTED, DELETED, ADDED, OPEN)

ADDED_FROM = 500_000
"""The first point id of added persons; those of the dataset lie below."""


@dataclass(frozen=True, order=True)
class Person:
    """One point of a run, or a person added to it: point ids from ADDED_FROM on."""

    split: str
    image_id: int
    point_id: int

    @property
    def is_added(self) -> bool:
        """Whether a reviewer added the person."""
        return self.point_id >= ADDED_FROM

    def __str__(self) -> str:
        return f"{self.split}, image {self.image_id}, point {self.point_id}"
