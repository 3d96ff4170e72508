"""The file of the log: an SQLite database of ours that a power cut does not hurt."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from dpmo_cli.errors import DpmoError

WAIT_S = 30.0
"""How long a decision waits for that of another process."""
RESTORE = "restore it from a copy, or move it away to begin anew"
_APPLICATION_ID = 0x64706D6F  # "dpmo": tells our files from those of other programs
_VERSION = 1

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


class DecisionsError(DpmoError):
    """The file can't be used."""

    def __init__(self, path: Path, problem: str, mend: str) -> None:
        super().__init__(f"{path}: {problem}; {mend}")


class LogFile:
    """The open file. Threads may share it, and processes the file.

    What a `transaction` has written is on disk when it ends: WAL, synchronous=FULL.

    Args:
        path: of the file, which is made where it is missing.

    Attributes:
        connection: to be used inside `reading` or `transaction`.

    Raises:
        DecisionsError: the file is damaged, another program's, or can't be written; so may every
            use of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = RLock()
        self._known: dict[Path, tuple[int, int]] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DecisionsError(self.path, str(error.strerror), "check the folder") from error
        with self.reading():
            self.connection = sqlite3.connect(
                self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False
            )
            self.connection.row_factory = sqlite3.Row
            try:
                self._open()
            except BaseException:
                self.connection.close()
                raise

    def _open(self) -> None:
        """Make a new file ours, and refuse what is not."""
        (owner,) = self.connection.execute("PRAGMA application_id").fetchone()
        if not owner:
            # Only what is empty is made ours.
            with self.transaction():
                if self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    (owner,) = self.connection.execute("PRAGMA application_id").fetchone()
                else:
                    for statement in _SCHEMA:
                        self.connection.execute(statement)
                    self.connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    self.connection.execute(f"PRAGMA user_version = {_VERSION}")
                    owner = _APPLICATION_ID
        if owner != _APPLICATION_ID:
            raise DecisionsError(self.path, "is a file of another program", "move it away")
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            mend = "use the dpmo that wrote it"
            raise DecisionsError(self.path, f"is of version {version}, not {_VERSION}", mend)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self._require_place()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written inside is on disk at the end, or not at all."""
        with self.reading():
            # Locked from the start: what is read inside is the latest until the end.
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._require_place()
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One thread at a time; what SQLite finds wrong becomes one line."""
        try:
            with self._lock:
                yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.OperationalError as error:
            mend = "check space and permissions, and that the folder is on a local disk"
            if "locked" in str(error):
                mend = "end the program that holds it, or try again"
            raise DecisionsError(self.path, f"can't be used ({error})", mend) from error
        except sqlite3.DatabaseError as error:
            raise DecisionsError(self.path, f"is damaged ({error})", RESTORE) from error

    def require_whole(self) -> None:
        """Look through all of the file: what is damaged is told before anybody relies on it."""
        with self.reading():
            (found,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise DecisionsError(self.path, f"is damaged ({' '.join(found.split())})", RESTORE)

    def _require_place(self) -> None:
        """See that what is written goes where the names say.

        Of a file that was moved, removed or replaced SQLite would go on with the old one, which
        nobody finds again.
        """
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            try:
                stat = path.stat()
            except FileNotFoundError:
                now = None
            else:
                now = (stat.st_dev, stat.st_ino)
            if now is not None and path not in self._known:
                self._known[path] = now
            if self._known.get(path) != now:
                problem = "was moved, removed or replaced while it was open"
                raise DecisionsError(self.path, problem, "put it back, then start again")
