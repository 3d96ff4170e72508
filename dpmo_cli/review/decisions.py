"""The log of decisions, `OUT/review/decisions.sqlite`: on disk before it is acknowledged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.rle import WindowXYXY, share_pixels
from dpmo_cli.outputs.corrections import OPEN, Correction, Person
from dpmo_cli.outputs.findings import DECISIONS_FILE
from dpmo_cli.outputs.schema import ADDED_FROM
from dpmo_cli.review.decision import (
    COLUMNS,
    ConflictError,
    Decision,
    OverlapError,
    RefusedError,
    check,
    decision_of,
    person_key,
    values_of,
)
from dpmo_cli.review.log_file import RESTORE, DecisionsError, LogFile

__all__ = [
    "DECISIONS_FILE",
    "ConflictError",
    "Decision",
    "Decisions",
    "DecisionsError",
    "OverlapError",
    "RefusedError",
]

_UNDO = "undo"
_WITH_BOX = f"{COLUMNS}, x0, y0, x1, y1"
_OF_PERSON = "split = ? AND image_id = ? AND point_id = ?"


class Decisions:
    """The decisions on the run in a folder. Use it as a context; it is made where it is missing.

    What `decide`, `decide_many` and `undo` have returned is on disk: SQLite, WAL,
    synchronous=FULL. Threads may share one object, and processes the file.

    Args:
        out: the run's folder.

    Raises:
        DecisionsError: the file is damaged, another program's, or can't be written; so may every
            call.
    """

    def __init__(self, out: Path) -> None:
        self._file = LogFile(out / DECISIONS_FILE)

    @property
    def path(self) -> Path:
        """Of the file."""
        return self._file.path

    def __enter__(self) -> Decisions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; nothing is written later than its call returned."""
        self._file.close()

    def require_whole(self) -> None:
        """See that all of the file can be read, beyond what a command happens to need of it."""
        self._file.require_whole()

    def decide(self, decision: Decision, *, expected: int | None) -> Decision:
        """Write a decision.

        Args:
            decision: without id, time, replaces and restores.
            expected: id of the person's latest decision that the caller has seen; None for none.

        Returns:
            The decision as it was written, which it is when this returns.

        Raises:
            ConflictError: the person's latest decision is another.
            OverlapError: the mask takes pixels of a mask that somebody drew.
            ValueError: the decision can't be meant: see `check`.
        """
        (written,) = self.decide_many([(decision, expected)])
        if isinstance(written, RefusedError):
            raise written
        return written

    def decide_many(
        self, decisions: Sequence[tuple[Decision, int | None]]
    ) -> list[Decision | RefusedError]:
        """Write several decisions, each with what `decide` expects, in one transaction.

        Returns:
            For each, in order, the decision as written, or why it alone was not.

        Raises:
            ValueError: one of them can't be meant; none is written.
        """
        boxes = [check(decision) for decision, _ in decisions]
        with self._file.transaction():
            return [
                self._write(decision, expected, box)
                for (decision, expected), box in zip(decisions, boxes, strict=True)
            ]

    def undo(self, person: Person, *, expected: int, reviewer: str) -> Decision:
        """Go back to the state before a person's latest decision; again, to the one before that.

        Args:
            person: the person.
            expected: id of the latest decision that the caller has seen.
            reviewer: who goes back.

        Raises:
            ConflictError: the latest decision is another.
            OverlapError: the mask of the state before takes pixels of one drawn since.
            DpmoError: nothing is left to undo.
        """
        with self._file.transaction():
            latest = self._latest_of(person)
            if latest is None or latest.id != expected:
                raise ConflictError(person, latest)
            undone = self._effective(latest)
            if undone is None:
                raise DpmoError(f"{person}: nothing is left to undo")
            before = None if undone.replaces is None else self._by_id(undone.replaces)
            before = None if before is None else self._effective(before)
            if before is None:
                state = replace(latest, verdict=OPEN, rle=None, point_xy=None, restores=0)
            else:
                state = replace(before, restores=before.id)
            state = replace(state, reviewer=reviewer, source=_UNDO, seconds=None)
            written = self._write(state, expected, check(state))
            if isinstance(written, RefusedError):
                raise written
            return written

    def latest(
        self, split: str | None = None, image_id: int | None = None
    ) -> dict[Person, Decision]:
        """The latest decision about each person, open ones too, ordered by person.

        Args:
            split: only its persons.
            image_id: only this image's; needs `split`.
        """
        where, values = "TRUE", list[object]()
        if split is not None:
            where, values = "split = ?", [split]
            if image_id is not None:
                where, values = "split = ? AND image_id = ?", [split, image_id]
        found = self._select(
            f"id IN (SELECT max(id) FROM decisions WHERE {where}"
            " GROUP BY split, image_id, point_id) ORDER BY split, image_id, point_id",
            values,
        )
        return {decision.person: decision for decision in found}

    def corrections(self) -> Iterator[Correction]:
        """What stands about each person, open decisions left out, ordered by person.

        One batch is in memory at a time; decide nothing while going through them.
        """
        with self._file.reading():
            cursor = self._file.connection.execute(
                f"SELECT {COLUMNS} FROM decisions WHERE id IN (SELECT max(id) FROM decisions"
                " GROUP BY split, image_id, point_id) AND verdict != ?"
                " ORDER BY split, image_id, point_id",
                [OPEN],
            )
            for row in cursor:
                yield self._decision(row).as_correction()

    def lacks(self, persons: Iterable[Person]) -> Person | None:
        """The first of some persons whom no decision is about; None where there is none."""
        with self._file.reading():
            for person in persons:
                found = self._file.connection.execute(
                    f"SELECT 1 FROM decisions WHERE {_OF_PERSON} LIMIT 1", person_key(person)
                )
                if found.fetchone() is None:
                    return person
        return None

    def history(self, person: Person) -> list[Decision]:
        """All decisions about a person, the first one first."""
        return self._select(f"{_OF_PERSON} ORDER BY id", person_key(person))

    def since(self, number: int) -> list[Decision]:
        """All decisions with a larger id, in order; 0 gives all."""
        return self._select("id > ? ORDER BY id", [number])

    def take_over(self, other: Decisions) -> list[Person]:
        """Append what another log knows beyond this one, with its times and reviewers.

        Returns:
            Persons about whom both logs went on differently; theirs is left out.
        """
        different: list[Person] = []
        with self._file.transaction():
            for person, theirs in other._histories():
                mine = self.history(person)
                # Ids are the logs' own; a decision is known by who made it when.
                signs = [[(d.time, d.reviewer, d.verdict) for d in log] for log in (mine, theirs)]
                shared = min(map(len, signs))
                if signs[0][:shared] != signs[1][:shared]:
                    different.append(person)
                    continue
                ids = dict(zip((d.id for d in theirs), (d.id for d in mine), strict=False))
                last = mine[-1].id if mine else None
                for one in theirs[shared:]:
                    restores = ids.get(one.restores, 0) if one.restores is not None else None
                    new = replace(one, replaces=last, restores=restores)
                    last = ids[one.id] = self._append(new, check(new))
        return different

    def _histories(self) -> Iterator[tuple[Person, list[Decision]]]:
        """Yield the persons in order, each with all decisions about it, the first one first."""
        with self._file.reading():
            cursor = self._file.connection.execute(
                f"SELECT {COLUMNS} FROM decisions ORDER BY split, image_id, point_id, id"
            )
            for person, group in groupby(map(self._decision, cursor), lambda one: one.person):
                yield person, list(group)

    def next_point_id(self, split: str, image_id: int) -> int:
        """The point id for the next person added to an image; ids are never used again.

        Two callers may be told the same: the second to decide gets a ConflictError and asks again.
        """
        with self._file.reading():
            (largest,) = self._file.connection.execute(
                "SELECT max(point_id) FROM decisions WHERE split = ? AND image_id = ?",
                (split, image_id),
            ).fetchone()
        return max(ADDED_FROM, 0 if largest is None else largest + 1)

    def _write(
        self, decision: Decision, expected: int | None, box: WindowXYXY | None
    ) -> Decision | RefusedError:
        """Append a decision inside a transaction."""
        latest = self._latest_of(decision.person)
        if (None if latest is None else latest.id) != expected:
            return ConflictError(decision.person, latest)
        if (
            box is not None
            and decision.as_correction().is_drawn
            and (others := self._overlapped(decision, box))
        ):
            return OverlapError(decision.person, others)
        time = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        written = replace(decision, time=time, replaces=expected)
        return replace(written, id=self._append(written, box))

    def _append(self, decision: Decision, box: WindowXYXY | None) -> int:
        """Write a row inside a transaction, and return its id."""
        values = [*values_of(decision), *(box or [None] * 4)]
        names = _WITH_BOX.removeprefix("id, ")
        marks = ", ".join("?" * len(values))
        cursor = self._file.connection.execute(
            f"INSERT INTO decisions ({names}) VALUES ({marks})", values
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _overlapped(self, decision: Decision, box: WindowXYXY) -> list[Person]:
        """The other persons of the image whose drawn mask shares a pixel with this one's."""
        person = decision.person
        near = self._select(
            "id IN (SELECT max(id) FROM decisions WHERE split = ? AND image_id = ?"
            " AND point_id != ? GROUP BY point_id) AND x0 < ? AND x1 > ? AND y0 < ? AND y1 > ?"
            " ORDER BY point_id",
            [*person_key(person), box[2], box[0], box[3], box[1]],
        )
        assert decision.rle is not None
        return [
            other.person
            for other in near
            if other.as_correction().is_drawn
            and other.rle is not None
            and share_pixels(decision.rle, other.rle)
        ]

    def _latest_of(self, person: Person) -> Decision | None:
        found = self._select(f"{_OF_PERSON} ORDER BY id DESC LIMIT 1", person_key(person))
        return found[0] if found else None

    def _by_id(self, number: int) -> Decision:
        found = self._select("id = ?", [number])
        if not found:
            raise DecisionsError(self.path, f"decision {number} is missing", RESTORE)
        return found[0]

    def _effective(self, decision: Decision) -> Decision | None:
        """The decision that an undo went back to, None for none; any other decision itself."""
        if decision.restores is None:
            return decision
        return self._by_id(decision.restores) if decision.restores else None

    def _select(self, condition: str, values: Sequence[object]) -> list[Decision]:
        with self._file.reading():
            rows = self._file.connection.execute(
                f"SELECT {COLUMNS} FROM decisions WHERE {condition}", values
            ).fetchall()
        return [self._decision(row) for row in rows]

    def _decision(self, row: sqlite3.Row) -> Decision:
        try:
            return decision_of(row)
        except (ValueError, TypeError, OverflowError) as error:
            problem = f"decision {row['id']} is damaged ({error})"
            raise DecisionsError(self.path, problem, RESTORE) from error
