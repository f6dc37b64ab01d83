"""What a witness remembers, in one SQLite file: the last checkpoint it cosigned of each log, and evidence against logs.

Rules:
1. Comparing and replacing happen in one transaction that takes the write lock first: of two requests at once one sees what the
   other left (the race of c2sp.org/tlog-witness), also between processes.
2. A transaction is on disk when it returns (WAL, synchronous=FULL). The cosignature leaves after that.
3. Evidence is kept once for each tree and at most so often: who can replay a log's checkpoints cannot fill the disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exchange.transparency.checkpoint import Checkpoint
from exchange.witness.protocol import Misconduct

MOST_EVIDENCE = 10_000
"""Rows a log may have for each kind of misconduct."""

_VERSION = 1
_SCHEMA = """
    CREATE TABLE witness_logs (
        origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, at INTEGER NOT NULL, note TEXT NOT NULL
    );
    CREATE TABLE witness_evidence (
        id INTEGER PRIMARY KEY, origin TEXT NOT NULL, misconduct TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL,
        at INTEGER NOT NULL, request TEXT NOT NULL, cosigned TEXT NOT NULL, UNIQUE (origin, misconduct, size, root)
    );
"""


class StateError(Exception):
    """The file cannot be used now: full, locked, damaged. Nothing was cosigned."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The last checkpoint that was cosigned of a log."""

    checkpoint: Checkpoint
    at: int
    """POSIX time of the cosignature, seconds."""
    note: str
    """As given out: the log's signature and ours."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that a log signed and that does not go with what was cosigned of it."""

    origin: str
    misconduct: Misconduct
    size: int
    at: int
    """POSIX time, seconds."""
    request: str
    """The whole request: old size, proof and signed checkpoint."""
    cosigned: str
    """The checkpoint that it does not go with, signed by the same log and by us."""


class WitnessState:
    """The state of one witness. One thread at a time uses it; other processes may use the same file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def latest(self, origin: str) -> Cosigned | None:
        """The last checkpoint cosigned of a log; raises StateError."""
        with self._failing() as db:
            return _latest(db, origin)

    @contextlib.contextmanager
    def changing(self, origin: str) -> Iterator[Change]:
        """A transaction about one log that is on disk when the block is left without an error; raises StateError."""
        with self._failing() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield Change(db, origin)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def evidence(self) -> list[Evidence]:
        """All of it, in order of time; raises StateError."""
        with self._failing() as db:
            rows = db.execute(
                "SELECT origin, misconduct, size, at, request, cosigned FROM witness_evidence ORDER BY id"
            ).fetchall()
        return [Evidence(*row) for row in rows]

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._open()
        except sqlite3.Error as error:
            # What the connection believes may be wrong now.
            with contextlib.suppress(sqlite3.Error):
                self.close()
            raise StateError(f"{self._path.name}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            # The state is made by one thread and used by another.
            db = sqlite3.connect(self._path, isolation_level=None, timeout=2, check_same_thread=False)
            try:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
                self._make_tables(db)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _make_tables(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise StateError(f"{self._path.name} was written by a newer version of this program")
            if version < _VERSION:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={_VERSION}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


class Change:
    """One transaction about one log."""

    def __init__(self, db: sqlite3.Connection, origin: str) -> None:
        self._db = db
        self._origin = origin

    @property
    def latest(self) -> Cosigned | None:
        """The last checkpoint cosigned of the log: nobody changes it while this transaction lasts."""
        return _latest(self._db, self._origin)

    def replace(self, cosigned: Cosigned) -> None:
        """Remember what is about to be given out."""
        checkpoint = cosigned.checkpoint
        self._db.execute(
            "INSERT INTO witness_logs (origin, size, root, at, note) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (origin) DO UPDATE SET size = excluded.size, root = excluded.root, at = excluded.at,"
            " note = excluded.note",
            (self._origin, checkpoint.size, checkpoint.root, cosigned.at, cosigned.note),
        )

    def keep(self, misconduct: Misconduct, offered: Checkpoint, at: int, request: str, cosigned: str) -> bool:
        """Keep evidence; False if it was there before, or there is too much of it."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM witness_evidence WHERE origin = ? AND misconduct = ?", (self._origin, misconduct)
        ).fetchone()
        if count >= MOST_EVIDENCE:
            return False
        done = self._db.execute(
            "INSERT INTO witness_evidence (origin, misconduct, size, root, at, request, cosigned)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (self._origin, misconduct, offered.size, offered.root, at, request, cosigned),
        )
        return done.rowcount == 1


def _latest(db: sqlite3.Connection, origin: str) -> Cosigned | None:
    row = db.execute("SELECT size, root, at, note FROM witness_logs WHERE origin = ?", (origin,)).fetchone()
    return Cosigned(Checkpoint(origin, row[0], row[1]), row[2], row[3]) if row else None
