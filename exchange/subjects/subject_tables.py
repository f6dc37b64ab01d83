"""Where subjects' own keys are kept: SQLite for the gateways of one machine, PostgreSQL for those of several.

Rules:
1. A subject has one key: of several processes that make one at once, the first to be on disk wins and the others use it.
2. An erasure, the count of erasures and the event that is to be recorded are one transaction.
3. The count is read before the keys are: who keeps a key in memory together with a count keeps no key that was erased by then.
4. On SQLite what is erased is overwritten with zeros (`secure_delete`, by whoever writes: pages move rows about), and the
   write-ahead log is cut. PostgreSQL keeps what was deleted until VACUUM, and its own write-ahead log as long as it is archived.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import sqlalchemy as sa

from exchange.storage.database_writers import DatabaseFailedError, PostgresqlWriter, SqliteWriter

metadata = sa.MetaData()

subject_keys = sa.Table(
    "subject_keys",
    metadata,
    sa.Column("pseudonym", sa.LargeBinary, primary_key=True),
    sa.Column("key", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Integer, nullable=False),
    sa.Column("last_used", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Days are counted in China, since 1970."""

subject_state = sa.Table(
    "subject_state",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("erasures", sa.BigInteger, nullable=False),
)

subject_erasures = sa.Table(
    "subject_erasures",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("event", sa.LargeBinary, nullable=False),
)
"""What was erased and is not known to be on the log yet: leaves as they will stand there."""

SQLITE_PRAGMAS: Final = ("secure_delete=ON",)
KEY_BYTES: Final = 32
ANY_DAY: Final = 2**31 - 1
_TRIES: Final = 3

_ROWS: Final = "SELECT pseudonym, key, last_used FROM subject_keys"
_ERASURES: Final = "SELECT erasures FROM subject_state WHERE id = 1"
_WAITING: Final = "SELECT count(*) FROM subject_erasures"
_COUNT_ERASURE: Final = "UPDATE subject_state SET erasures = erasures + 1 WHERE id = 1"
_EVENTS: Final = "SELECT id, event FROM subject_erasures ORDER BY id"

_INSERT: Final = (
    "INSERT INTO subject_keys (pseudonym, key, created, last_used)"
    " SELECT pseudonym, key, $3, $3 FROM unnest($1::bytea[], $2::bytea[]) AS new (pseudonym, key) ON CONFLICT DO NOTHING"
)
# Rows that another gateway is just marking are marked by it: waiting for them out of order could deadlock.
_USED: Final = (
    "UPDATE subject_keys SET last_used = $2 WHERE pseudonym IN (SELECT pseudonym FROM subject_keys"
    " WHERE pseudonym = ANY($1::bytea[]) AND last_used < $2 ORDER BY pseudonym FOR UPDATE SKIP LOCKED)"
)
_DELETE: Final = (
    "DELETE FROM subject_keys WHERE pseudonym = ANY($1::bytea[]) AND last_used < $2 RETURNING pseudonym, key"
)

Describe = Callable[[Mapping[bytes, bytes]], tuple[str, bytes]]
"""Gets the pseudonyms that are being erased, with their keys; returns the id and the leaf of the event to record."""


@dataclass(frozen=True, slots=True)
class Row:
    """A subject's own key, and the day it was last used as far as the table knows."""

    key: bytes
    last_used: int


@dataclass(frozen=True, slots=True)
class Sight:
    """How often keys were erased so far, and how many erasures are not known to be on the log."""

    erasures: int
    waiting: int


class SubjectTable(Protocol):
    """Keeps subjects' keys. Other processes may change the same table. Every method raises DatabaseFailedError."""

    async def keys(self, pseudonyms: Sequence[bytes], today: int) -> tuple[dict[bytes, Row], int]:
        """The keys of all these, made for those that have none, and the count of erasures; durable on return."""

    async def find(self, pseudonyms: Sequence[bytes]) -> dict[bytes, bytes]:
        """The keys of those that have one."""

    async def look(self, used: Sequence[bytes], today: int) -> Sight:
        """Note that these were used today, and say how things stand."""

    async def scan(self, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        """Pseudonyms beyond `after`, in order, each with the day it was last used."""

    async def erase(self, pseudonyms: Sequence[bytes], unused_before: int, describe: Describe) -> int:
        """Erase the keys of those of them that were not used on or after a day, with the event that tells it.

        Returns how many there were; if there were none, nothing is written and nothing is described.
        """

    async def events(self) -> list[tuple[str, bytes]]:
        """Erasures that are not known to be on the log: id and leaf, oldest first."""

    async def forget_event(self, event_id: str) -> None:
        """An erasure is on the log."""

    async def forget_traces(self) -> bool:
        """Whether nothing that was erased is left in files of the database, having done what can be done about it."""

    async def close(self) -> None:
        """Let go of the database."""


class SqliteSubjectTable:
    """`SubjectTable` in an SQLite file."""

    def __init__(self, writer: SqliteWriter) -> None:
        self._writer = writer

    async def keys(self, pseudonyms: Sequence[bytes], today: int) -> tuple[dict[bytes, Row], int]:
        def work(db: sqlite3.Connection) -> tuple[dict[bytes, Row], int]:
            (erasures,) = db.execute(_ERASURES).fetchone()
            found = {each: self._row(db, each) or self._make(db, each, today) for each in pseudonyms}
            return found, erasures

        return await self._writer.run(work)

    async def find(self, pseudonyms: Sequence[bytes]) -> dict[bytes, bytes]:
        def work(db: sqlite3.Connection) -> dict[bytes, bytes]:
            rows = ((each, self._row(db, each)) for each in pseudonyms)
            return {each: row.key for each, row in rows if row is not None}

        return await self._writer.run(work)

    async def look(self, used: Sequence[bytes], today: int) -> Sight:
        def work(db: sqlite3.Connection) -> Sight:
            mark = "UPDATE subject_keys SET last_used = ? WHERE pseudonym = ? AND last_used < ?"
            db.executemany(mark, [(today, each, today) for each in used])
            return Sight(*db.execute(_ERASURES).fetchone(), *db.execute(_WAITING).fetchone())

        return await self._writer.run(work)

    async def scan(self, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        select = "SELECT pseudonym, last_used FROM subject_keys WHERE pseudonym > ? ORDER BY pseudonym LIMIT ?"
        return await self._writer.run(lambda db: db.execute(select, (after, limit)).fetchall())

    async def erase(self, pseudonyms: Sequence[bytes], unused_before: int, describe: Describe) -> int:
        def work(db: sqlite3.Connection) -> int:
            rows = {each: self._row(db, each) for each in pseudonyms}
            erased = {each: row.key for each, row in rows.items() if row and row.last_used < unused_before}
            if erased:
                db.executemany("DELETE FROM subject_keys WHERE pseudonym = ?", [(each,) for each in erased])
                db.execute("INSERT INTO subject_erasures (id, event) VALUES (?, ?)", describe(erased))
                db.execute(_COUNT_ERASURE)
            return len(erased)

        return await self._writer.run(work)

    async def events(self) -> list[tuple[str, bytes]]:
        return await self._writer.run(lambda db: db.execute(_EVENTS).fetchall())

    async def forget_event(self, event_id: str) -> None:
        await self._writer.run(lambda db: db.execute("DELETE FROM subject_erasures WHERE id = ?", (event_id,)))

    async def forget_traces(self) -> bool:
        return await self._writer.truncate_wal()

    async def close(self) -> None:
        await self._writer.close()

    @staticmethod
    def _row(db: sqlite3.Connection, pseudonym: bytes) -> Row | None:
        found = db.execute(f"{_ROWS} WHERE pseudonym = ?", (pseudonym,)).fetchone()
        return Row(*found[1:]) if found else None

    @staticmethod
    def _make(db: sqlite3.Connection, pseudonym: bytes, today: int) -> Row:
        made = Row(secrets.token_bytes(KEY_BYTES), today)
        db.execute("INSERT INTO subject_keys VALUES (?, ?, ?, ?)", (pseudonym, made.key, today, today))
        return made


class PostgresqlSubjectTable:
    """`SubjectTable` in PostgreSQL."""

    def __init__(self, writer: PostgresqlWriter) -> None:
        self._writer = writer

    async def keys(self, pseudonyms: Sequence[bytes], today: int) -> tuple[dict[bytes, Row], int]:
        async with self._writer.connection() as db:
            erasures: int = await db.fetchval(_ERASURES)
            found = await self._rows(db, pseudonyms)
            for _ in range(_TRIES):
                missing = sorted(set(pseudonyms) - found.keys())
                if not missing:
                    return found, erasures
                # Sorted: two gateways that make the same ones cannot deadlock. Read again: another's may have won.
                await db.execute(_INSERT, missing, [secrets.token_bytes(KEY_BYTES) for _ in missing], today)
                found |= await self._rows(db, missing)
            raise DatabaseFailedError("keys of subjects vanish as fast as they are made")

    async def find(self, pseudonyms: Sequence[bytes]) -> dict[bytes, bytes]:
        async with self._writer.connection() as db:
            return {each: row.key for each, row in (await self._rows(db, pseudonyms)).items()}

    async def look(self, used: Sequence[bytes], today: int) -> Sight:
        async with self._writer.connection() as db:
            if used:
                await db.execute(_USED, list(used), today)
            return Sight(await db.fetchval(_ERASURES), await db.fetchval(_WAITING))

    async def scan(self, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        select = "SELECT pseudonym, last_used FROM subject_keys WHERE pseudonym > $1 ORDER BY pseudonym LIMIT $2"
        async with self._writer.connection() as db:
            return [(row[0], row[1]) for row in await db.fetch(select, after, limit)]

    async def erase(self, pseudonyms: Sequence[bytes], unused_before: int, describe: Describe) -> int:
        async with self._writer.connection() as db:
            transaction = db.transaction()
            await transaction.start()
            # First, so that of two erasures at once the other waits here.
            await db.execute(_COUNT_ERASURE)
            erased = {row[0]: row[1] for row in await db.fetch(_DELETE, list(pseudonyms), unused_before)}
            if not erased:
                await transaction.rollback()
                return 0
            await db.execute("INSERT INTO subject_erasures (id, event) VALUES ($1, $2)", *describe(erased))
            await transaction.commit()
        return len(erased)

    async def events(self) -> list[tuple[str, bytes]]:
        async with self._writer.connection() as db:
            return [(row[0], row[1]) for row in await db.fetch(_EVENTS)]

    async def forget_event(self, event_id: str) -> None:
        async with self._writer.connection() as db:
            await db.execute("DELETE FROM subject_erasures WHERE id = $1", event_id)

    async def forget_traces(self) -> bool:
        return False

    async def close(self) -> None:
        await self._writer.close()

    @staticmethod
    async def _rows(db: Any, pseudonyms: Sequence[bytes]) -> dict[bytes, Row]:
        rows = await db.fetch(f"{_ROWS} WHERE pseudonym = ANY($1::bytea[])", list(pseudonyms))
        return {row[0]: Row(row[1], row[2]) for row in rows}
