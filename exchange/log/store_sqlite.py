"""The log in an SQLite file.

Rules:
1. WAL with synchronous=FULL: a commit returns when the bytes are on disk.
2. Calls block. They run in the log writer's own process, where nothing else waits; what arrives meanwhile is the next
   batch.
3. Several writers take turns by a lock on a file beside the database: SQLite itself makes them poll, which starves
   some.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from exchange.log.store import (
    ANNEXES,
    Batch,
    CorruptLogError,
    DuplicateRecordError,
    Sign,
    SignedSize,
    StoreError,
    caught_up,
    check_removals,
    edge_of,
    edge_ranges,
    first_hash,
    tiles_since,
)
from exchange.transparency.tiles import WIDTH, Edge, Wanted

_T = TypeVar("_T")

_BUSY_MS = 2000
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "cache_size=-65536",
    # 8 MB: pages that change with every batch are copied to the database once for many batches; no copy takes long.
    "wal_autocheckpoint=1000",
    "journal_size_limit=67108864",
    f"busy_timeout={_BUSY_MS}",
)
_INSERT_ENTRY = (
    "INSERT INTO log_entries (seq, leaf_hash, exchange_id, at_ms, client, service, outcome, rule, salt, leaf)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_INTENT = (
    "INSERT INTO log_intents (gateway, boot, exchange_id, at_ms, deadline_ms, salt, record)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_INSERT_CERTIFICATE = (
    "INSERT INTO log_certificates (fingerprint, der, first_seen_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
)
_INSERT_EVIDENCE = "INSERT INTO log_evidence (exchange_id, evidence) VALUES (?, ?) ON CONFLICT DO NOTHING"

_INSERT_ANNEX = {
    kind: f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) ON CONFLICT DO NOTHING"
    for kind, (table, columns) in ANNEXES.items()
}


def create_file(path: Path) -> None:
    """Make an empty database with pages that hold three records, not one and a gap; nothing happens if there is one."""
    if not path.exists():
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA page_size=8192")
            db.execute("PRAGMA journal_mode=WAL")


class SqliteStore:
    """`LogStore` on SQLite.

    Args:
        erases: What is deleted is overwritten in the file.
    """

    def __init__(self, path: str | Path, *, erases: bool = False) -> None:
        self._path = Path(path)
        self._erases = erases
        self._connection: sqlite3.Connection | None = None
        self._lock = -1

    async def load(self) -> Edge:
        with self._failing() as db:
            db.execute("BEGIN")
            size, root = self._state(db)
            (last,) = db.execute("SELECT max(seq) FROM log_entries").fetchone()
            leaves, *above = edge_ranges(size)
            rows = db.execute(
                "SELECT leaf_hash, CAST(leaf AS BLOB) FROM log_entries WHERE seq >= ? AND seq < ? ORDER BY seq",
                (leaves.start, leaves.stop),
            ).fetchall()
            roots = [self._tile_roots(db, level, numbers) for level, numbers in enumerate(above)]
            db.execute("COMMIT")
        return edge_of(size, root, last, rows, roots)

    async def append(self, edge: Edge, batch: Batch) -> Edge:
        hashes = batch.leaf_hashes()
        return self._written(lambda db: self._append(db, edge, batch, hashes))

    async def checkpoint(self, edge: Edge, sign: Sign) -> tuple[Edge, str]:
        return self._written(lambda db: self._sign(db, edge, sign))

    async def newest_checkpoint(self) -> SignedSize | None:
        with self._failing() as db:
            return self._newest_checkpoint(db)

    async def tiles(self, wanted: Sequence[Wanted]) -> list[bytes]:
        with self._failing() as db:
            return [self._tile(db, tile) for tile in wanted]

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            # "rw": a log that is not there is an error, never a fresh one.
            connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            if self._erases:
                connection.execute("PRAGMA secure_delete=ON")
            self._connection = connection
            self._lock = os.open(f"{self._path}-writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._connection

    @contextlib.contextmanager
    def _failing(self) -> Iterator[sqlite3.Connection]:
        """The connection; when the database fails it is given up, because what it believes to know may be wrong."""
        try:
            yield self._open()
        except (sqlite3.Error, OSError) as error:
            self._give_up()
            raise StoreError(str(error)) from error

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        except sqlite3.Error:
            pass  # it is gone either way, and the first error is the one to tell
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def _written(self, write: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `write` returns, when what it wrote is committed; nothing is if it raises."""
        # One caller alone waits for every line of this: no context manager, which costs more than the statements' calls.
        try:
            db = self._open()
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            try:
                db.execute("BEGIN IMMEDIATE")
                written = write(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        except (sqlite3.Error, OSError) as error:
            self._give_up()
            raise StoreError(str(error)) from error
        return written

    def _append(self, db: sqlite3.Connection, edge: Edge, batch: Batch, hashes: list[bytes]) -> Edge:
        grown, tiles = edge.extended(hashes)
        if not self._grow(db, edge, grown):
            edge = self._catch_up(db, edge)
            grown, tiles = edge.extended(hashes)
            self._grow(db, edge, grown)
        rows = [
            (seq, hashed, *entry)
            for seq, hashed, entry in zip(range(edge.size, grown.size), hashes, batch.entries, strict=True)
        ]
        try:
            db.executemany(_INSERT_ENTRY, rows)
        except sqlite3.IntegrityError as error:
            raise DuplicateRecordError(self._duplicates(db, batch)) from error
        if tiles:
            db.executemany("INSERT INTO log_tiles (level, number, root, hashes) VALUES (?, ?, ?, ?)", tiles)
        if batch.settled:
            db.executemany("DELETE FROM log_intents WHERE exchange_id = ?", [(one,) for one in batch.settled])
        if batch.intents:
            who = (batch.gateway, batch.boot)
            db.executemany(_INSERT_INTENT, [(*who, *intent) for intent in batch.intents])
        if batch.certificates:
            db.executemany(_INSERT_CERTIFICATE, [(*one, batch.at_ms) for one in batch.certificates])
        if batch.evidence:
            db.executemany(_INSERT_EVIDENCE, batch.evidence)
        for kind, row in batch.annexes:
            db.execute(_INSERT_ANNEX[kind], row)
        if batch.removals:
            self._remove(db, batch, edge, grown.size - 1)
        return grown

    def _sign(self, db: sqlite3.Connection, edge: Edge, sign: Sign) -> tuple[Edge, str]:
        edge = self._catch_up(db, edge)
        newest = self._newest_checkpoint(db)
        if newest and newest.size == edge.size and newest.root == edge.root:
            return edge, newest.note
        note = sign(edge.size, edge.root)
        db.execute("INSERT INTO log_checkpoints (size, root, note) VALUES (?, ?, ?)", (edge.size, edge.root, note))
        db.execute("DELETE FROM log_edge")
        db.execute("INSERT INTO log_edge (size, hashes) VALUES (?, ?)", (edge.size, b"".join(edge.levels[0])))
        return edge, note

    def _state(self, db: sqlite3.Connection) -> tuple[int, bytes]:
        row = db.execute("SELECT size, root FROM log_state").fetchone()
        if row is None:
            raise CorruptLogError("the row that holds the size of the log is missing")
        size, root = row
        return size, root

    def _grow(self, db: sqlite3.Connection, edge: Edge, grown: Edge) -> bool:
        """Compare and swap: whether the log still had the size of `edge`, and now has that of `grown`."""
        query = "UPDATE log_state SET size = ?, root = ? WHERE size = ?"
        return db.execute(query, (grown.size, grown.root, edge.size)).rowcount == 1

    def _catch_up(self, db: sqlite3.Connection, edge: Edge) -> Edge:
        size, root = self._state(db)
        if size == edge.size:
            return edge
        complete, first = tiles_since(edge, size)
        query = "SELECT hashes FROM log_tiles WHERE level = 0 AND number >= ? AND number < ? ORDER BY number"
        tiles = db.execute(query, (complete.start, complete.stop)).fetchall() if complete else []
        rows = db.execute("SELECT leaf_hash FROM log_entries WHERE seq >= ? ORDER BY seq", (first,)).fetchall()
        return caught_up(edge, size, root, [hashes for (hashes,) in tiles], [leaf_hash for (leaf_hash,) in rows])

    def _remove(self, db: sqlite3.Connection, batch: Batch, edge: Edge, seq: int) -> None:
        check_removals(batch, edge)
        for removal in batch.removals:
            bounds = (removal.first, removal.end)
            if (
                db.execute("DELETE FROM log_entries WHERE seq >= ? AND seq < ?", bounds).rowcount
                != bounds[1] - bounds[0]
            ):
                raise StoreError("some of the entries that were to be removed are not there")
            db.execute(
                'INSERT INTO log_removed (first, "end", seq, segment) VALUES (?, ?, ?, ?)',
                (*bounds, seq, removal.segment),
            )

    def _duplicates(self, db: sqlite3.Connection, batch: Batch) -> set[str]:
        db.execute("ROLLBACK")
        ids = [entry[0] for entry in batch.entries]
        query = "SELECT 1 FROM log_entries WHERE exchange_id = ?"
        known = {one for one in ids if db.execute(query, (one,)).fetchone()}
        if not known and len(set(ids)) == len(ids):
            raise CorruptLogError("there are entries beyond the size that the log says it has")
        return known

    def _newest_checkpoint(self, db: sqlite3.Connection) -> SignedSize | None:
        row = db.execute("SELECT size, root, note FROM log_checkpoints ORDER BY size DESC LIMIT 1").fetchone()
        return SignedSize(*row) if row else None

    def _tile(self, db: sqlite3.Connection, tile: Wanted) -> bytes:
        if tile.width == WIDTH:
            query = "SELECT hashes FROM log_tiles WHERE level = ? AND number = ?"
            row = db.execute(query, (tile.level, tile.number)).fetchone()
            return row[0] if row else b""
        numbers = range(first_hash(tile), first_hash(tile) + tile.width)
        if tile.level:
            return b"".join(self._tile_roots(db, tile.level - 1, numbers))
        if complete := self._tile(db, tile._replace(width=WIDTH)):
            return complete  # entries may have been removed; tiles stay
        query = "SELECT leaf_hash FROM log_entries WHERE seq >= ? AND seq < ? ORDER BY seq"
        return b"".join([leaf_hash for (leaf_hash,) in db.execute(query, (numbers.start, numbers.stop))])

    def _tile_roots(self, db: sqlite3.Connection, level: int, numbers: range) -> list[bytes]:
        query = "SELECT root FROM log_tiles WHERE level = ? AND number >= ? AND number < ? ORDER BY number"
        return [root for (root,) in db.execute(query, (level, numbers.start, numbers.stop))]
