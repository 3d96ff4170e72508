"""What an import found and did, line by line and in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dpmo_cli.outputs.corrections import DELETED, REJECTED, Person
from dpmo_cli.outputs.schema import ADDED, CORRECTED
from dpmo_cli.review.exchange.manifest import person_key

CHANGES = (CORRECTED, ADDED, DELETED, REJECTED)
"""Kinds of lines that are decisions."""
GONE = "gone"
"""An exported shape that did not come back, and nothing was said about what that means."""
CONFLICT = "conflict"
"""Somebody decided, or the dataset changed, since the export."""
OVERLAP = "overlap"
"""Two drawn masks would own one pixel."""
UNMATCHED = "unmatched"
"""It can't be said whose a shape is."""
BROKEN = "broken"
"""A shape or a file that can't be used."""
NOTE = "note"
"""What the reader should know; nothing is wrong."""
REFUSED = (CONFLICT, OVERLAP, UNMATCHED, BROKEN)
"""Kinds of lines about shapes that were left."""


@dataclass(frozen=True)
class Line:
    """One thing to report.

    Attributes:
        kind: one of the above.
        person: whom it is about; None for nobody known.
        text: what it is, with file and mend, on one line.
    """

    kind: str
    person: Person | None
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"

    def as_json(self) -> dict[str, object]:
        """As a plain object."""
        person = None if self.person is None else person_key(self.person)
        return {"kind": self.kind, "person": person, "text": self.text}


@dataclass
class Report:
    """An import.

    Attributes:
        lines: files and shapes that are broken first, then image by image.
        unchanged: shapes that came back as they were exported.
        already: changes that stand in the decisions already.
    """

    lines: list[Line] = field(default_factory=list)
    unchanged: int = 0
    already: int = 0

    def add(self, kind: str, text: str, person: Person | None = None) -> None:
        """Add a line."""
        # Names and ids come from files: nothing in them may move the cursor or end the line.
        plain = "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))
        self.lines.append(Line(kind, person, plain))

    @property
    def counts(self) -> Counter[str]:
        """The number of lines of each kind."""
        return Counter(line.kind for line in self.lines)

    @property
    def changes(self) -> int:
        """The number of decisions."""
        return sum(self.counts[kind] for kind in CHANGES)

    @property
    def refused(self) -> int:
        """The number of lines about what was left."""
        return sum(self.counts[kind] for kind in REFUSED)
