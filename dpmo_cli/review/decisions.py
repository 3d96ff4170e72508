"""The log of decisions, `OUT/review/decisions.sqlite`: on disk before it is acknowledged."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from threading import RLock

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.rle import Rle, WindowXYXY, rle_window, share_pixels
from dpmo_cli.outputs.corrections import (
    ACCEPTED,
    ADDED,
    ADDED_FROM,
    CORRECTED,
    OPEN,
    REJECTED,
    VERDICTS,
    Person,
)

DECISIONS_FILE = "review/decisions.sqlite"
WAIT_S = 30.0
"""How long a decision waits for that of another process."""
_APPLICATION_ID = 0x64706D6F  # "dpmo": tells our files from those of other programs
_VERSION = 1
_UNDO = "undo"

_SCHEMA = (
    """CREATE TABLE decisions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        split TEXT NOT NULL, image_id INTEGER NOT NULL, point_id INTEGER NOT NULL,
        verdict TEXT NOT NULL,
        mask TEXT, height INTEGER, width INTEGER,
        x0 INTEGER, y0 INTEGER, x1 INTEGER, y1 INTEGER,
        point_x REAL, point_y REAL,
        reviewer TEXT NOT NULL, source TEXT NOT NULL, seconds REAL,
        image TEXT NOT NULL, seen_x REAL, seen_y REAL,
        time TEXT NOT NULL, replaces INTEGER, restores INTEGER
    )""",
    # A decision is replaced at most once, whatever a program does.
    """CREATE UNIQUE INDEX one_after_another
        ON decisions (split, image_id, point_id, coalesce(replaces, 0))""",
    "CREATE INDEX by_person ON decisions (split, image_id, point_id, id)",
)
_COLUMNS = (
    "id, split, image_id, point_id, verdict, mask, height, width, point_x, point_y, reviewer,"
    " source, seconds, image, seen_x, seen_y, time, replaces, restores"
)
_WITH_BOX = f"{_COLUMNS}, x0, y0, x1, y1"
_OF_PERSON = "split = ? AND image_id = ? AND point_id = ?"


@dataclass(frozen=True)
class Decision:
    """What somebody decided about a person.

    Attributes:
        person: whom it is about.
        verdict: one of VERDICTS.
        rle: the person's mask: that to take (corrected, added), or that which was seen (accepted;
            without one the mask counts that stands when decisions are applied).
        point_xy: where the person's point is now, px; None where it stays.
        reviewer: who decided.
        source: with what: "page", "grid", "import:cvat", ...
        seconds: spent on it; None where nobody measured.
        image: file name of the image that the reviewer saw. Image ids are ranks: should the
            dataset change, one can come to mean another image.
        seen_xy: where the automatic point lay, px; None for added persons alone.
        id: rank of the decision; given when it is written, as are the following.
        time: UTC, ISO 8601 with microseconds.
        replaces: id of the person's decision before; None for the first.
        restores: id of the decision that an undo went back to, 0 for none; None for all others.
    """

    person: Person
    verdict: str
    rle: Rle | None
    point_xy: tuple[float, float] | None
    reviewer: str
    source: str
    seconds: float | None = None
    image: str = ""
    seen_xy: tuple[float, float] | None = None
    id: int = 0
    time: str = ""
    replaces: int | None = None
    restores: int | None = None


class RefusedError(DpmoError):
    """A decision that was not written."""


class ConflictError(RefusedError):
    """Somebody decided in between.

    Attributes:
        person: the person.
        current: the person's latest decision; None where there is none.
    """

    def __init__(self, person: Person, current: Decision | None) -> None:
        self.person = person
        self.current = current
        now = "is open" if current is None else f"was {current.verdict} by {current.reviewer}"
        super().__init__(f"{person}: {now} in the meantime; look again, then decide")


class OverlapError(RefusedError):
    """The mask takes pixels of masks that people drew.

    Attributes:
        person: whom the mask is for.
        others: whose pixels it takes.
    """

    def __init__(self, person: Person, others: Sequence[Person]) -> None:
        self.person = person
        self.others = tuple(others)
        points = ", ".join(str(other.point_id) for other in others)
        super().__init__(
            f"{person}: the mask overlaps the corrected one of point {points}; "
            "take the pixels from one of them"
        )


class DecisionsError(DpmoError):
    """The file can't be used."""

    def __init__(self, path: Path, problem: str, mend: str) -> None:
        super().__init__(f"{path}: {problem}; {mend}")


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
        self.path = out / DECISIONS_FILE
        self._lock = RLock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DecisionsError(self.path, str(error.strerror), "check the folder") from error
        with self._errors():
            self._connection = sqlite3.connect(
                self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            try:
                self._open()
            except BaseException:
                self._connection.close()
                raise

    def _open(self) -> None:
        """Make a new file ours, and refuse what is not."""
        (owner,) = self._connection.execute("PRAGMA application_id").fetchone()
        if not owner:
            # Only what is empty is made ours.
            with self._transaction():
                if self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    (owner,) = self._connection.execute("PRAGMA application_id").fetchone()
                else:
                    for statement in _SCHEMA:
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    self._connection.execute(f"PRAGMA user_version = {_VERSION}")
                    owner = _APPLICATION_ID
        if owner != _APPLICATION_ID:
            raise DecisionsError(self.path, "is a file of another program", "move it away")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            mend = "use the dpmo that wrote it"
            raise DecisionsError(self.path, f"is of version {version}, not {_VERSION}", mend)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")

    def __enter__(self) -> Decisions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; nothing is written later than its call returned."""
        with self._lock:
            self._connection.close()

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
        with self._transaction():
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
        with self._transaction():
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

    def history(self, person: Person) -> list[Decision]:
        """All decisions about a person, the first one first."""
        return self._select(f"{_OF_PERSON} ORDER BY id", _key(person))

    def since(self, number: int) -> list[Decision]:
        """All decisions with a larger id, in order; 0 gives all."""
        return self._select("id > ? ORDER BY id", [number])

    def next_point_id(self, split: str, image_id: int) -> int:
        """The point id for the next person added to an image; ids are never used again.

        Two callers may be told the same: the second to decide gets a ConflictError and asks again.
        """
        with self._errors():
            (largest,) = self._connection.execute(
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
        if box is not None and is_drawn(decision) and (others := self._overlapped(decision, box)):
            return OverlapError(decision.person, others)
        time = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        values = [*_values(replace(decision, time=time, replaces=expected)), *(box or [None] * 4)]
        names = _WITH_BOX.removeprefix("id, ")
        marks = ", ".join("?" * len(values))
        cursor = self._connection.execute(
            f"INSERT INTO decisions ({names}) VALUES ({marks})", values
        )
        assert cursor.lastrowid is not None
        return replace(decision, id=cursor.lastrowid, time=time, replaces=expected)

    def _overlapped(self, decision: Decision, box: WindowXYXY) -> list[Person]:
        """The other persons of the image whose drawn mask shares a pixel with this one's."""
        person = decision.person
        near = self._select(
            "id IN (SELECT max(id) FROM decisions WHERE split = ? AND image_id = ?"
            " AND point_id != ? GROUP BY point_id) AND x0 < ? AND x1 > ? AND y0 < ? AND y1 > ?"
            " ORDER BY point_id",
            [*_key(person), box[2], box[0], box[3], box[1]],
        )
        assert decision.rle is not None
        return [
            other.person
            for other in near
            if is_drawn(other) and other.rle is not None and share_pixels(decision.rle, other.rle)
        ]

    def _latest_of(self, person: Person) -> Decision | None:
        found = self._select(f"{_OF_PERSON} ORDER BY id DESC LIMIT 1", _key(person))
        return found[0] if found else None

    def _by_id(self, number: int) -> Decision:
        (found,) = self._select("id = ?", [number])
        return found

    def _effective(self, decision: Decision) -> Decision | None:
        """The decision that an undo went back to, None for none; any other decision itself."""
        if decision.restores is None:
            return decision
        return self._by_id(decision.restores) if decision.restores else None

    def _select(self, condition: str, values: Sequence[object]) -> list[Decision]:
        with self._errors():
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM decisions WHERE {condition}", values
            ).fetchall()
        return [_decision(row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """What is written inside is on disk at the end, or not at all."""
        with self._errors():
            # Locked from the start: what is read inside is the latest until the end.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """One thread at a time; what SQLite finds wrong becomes one line."""
        try:
            with self._lock:
                yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.OperationalError as error:
            mend = "check space and permissions, and that the folder is on a local disk"
            raise DecisionsError(self.path, f"can't be used ({error})", mend) from error
        except sqlite3.DatabaseError as error:
            mend = "restore it from a copy, or move it away to begin anew"
            raise DecisionsError(self.path, f"is damaged ({error})", mend) from error


def check(decision: Decision) -> WindowXYXY | None:
    """See that a decision can be meant, and return the window of its mask.

    Raises:
        ValueError: an unknown verdict; a mask or a point that the verdict needs is missing or does
            not go with it; a broken or empty mask; no reviewer, no image.
    """
    verdict, person = decision.verdict, decision.person
    if verdict not in VERDICTS:
        raise ValueError(f"{verdict!r} is no verdict; use one of {', '.join(VERDICTS)}")
    if not decision.reviewer or not decision.image:
        raise ValueError("a decision names its reviewer and its image")
    if verdict == ADDED and not person.is_added:
        raise ValueError(f"added persons have point ids from {ADDED_FROM} on")
    if (decision.seen_xy is None) != person.is_added:
        raise ValueError("seen_xy is the point of the dataset; added persons have none")
    with_mask = verdict in (ACCEPTED, CORRECTED, ADDED)
    if decision.rle is None and with_mask and (verdict != ACCEPTED or person.is_added):
        raise ValueError(f"{verdict} needs a mask")
    if decision.rle is not None and not with_mask:
        raise ValueError(f"{verdict} has no mask")
    if decision.point_xy is None and person.is_added and (with_mask or verdict == REJECTED):
        raise ValueError(f"{verdict} needs the point of an added person")
    if decision.point_xy is not None and not all(map(math.isfinite, decision.point_xy)):
        raise ValueError("the point is not finite")
    if decision.rle is None:
        return None
    _, window = rle_window(decision.rle)
    if window[0] == window[2]:
        raise ValueError("the mask has no pixels; reject it instead")
    return window


def is_drawn(decision: Decision) -> bool:
    """Whether the mask is a person's work, which no other mask may take pixels of."""
    return decision.rle is not None and (
        decision.verdict in (CORRECTED, ADDED) or decision.person.is_added
    )


def _key(person: Person) -> list[object]:
    return [person.split, person.image_id, person.point_id]


def _values(decision: Decision) -> list[object]:
    """The columns of _COLUMNS without the id."""
    rle = decision.rle
    return [
        *_key(decision.person),
        decision.verdict,
        *((None, None, None) if rle is None else (rle["counts"], *rle["size"])),
        *(decision.point_xy or (None, None)),
        decision.reviewer,
        decision.source,
        decision.seconds,
        decision.image,
        *(decision.seen_xy or (None, None)),
        decision.time,
        decision.replaces,
        decision.restores,
    ]


def _decision(row: sqlite3.Row) -> Decision:
    person = Person(row["split"], row["image_id"], row["point_id"])
    rle: Rle | None = None
    if row["mask"] is not None:
        rle = {"size": [row["height"], row["width"]], "counts": row["mask"]}
    return Decision(
        person=person,
        verdict=row["verdict"],
        rle=rle,
        point_xy=None if row["point_x"] is None else (row["point_x"], row["point_y"]),
        reviewer=row["reviewer"],
        source=row["source"],
        seconds=row["seconds"],
        image=row["image"],
        seen_xy=None if person.is_added else (_number(row["seen_x"]), _number(row["seen_y"])),
        id=row["id"],
        time=row["time"],
        replaces=row["replaces"],
        restores=row["restores"],
    )


def _number(value: float | None) -> float:
    """A coordinate as it was given: SQLite keeps no NaN."""
    return math.nan if value is None else value
