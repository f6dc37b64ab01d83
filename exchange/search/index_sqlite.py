"""The index in an SQLite file of its own: what is written to it never holds up the log."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from exchange.search.index_store import (
    FORMAT,
    FRESH,
    TABLES,
    IndexState,
    IndexUnavailableError,
    MovedError,
    Rows,
    Segment,
    pack_keys,
    unpack_keys,
)

_T = TypeVar("_T")
_READERS: Final = 3
_BUSY_MS: Final = 5000
_INSERT_SEGMENT: Final = "INSERT INTO search_segments VALUES (?, ?, ?, ?, ?, ?)"


class SqliteIndex:
    """`IndexStore` on SQLite."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="search-index")
        self._opened: dict[int, tuple[sqlite3.Connection, int]] = {}
        """The connection of each thread, and which file it was made to."""
        self._lock = -1
        self._broken = False
        """Whether SQLite said that the file is none of its own: whoever has the lock makes a new one."""
        self._file = 0
        """Counts the files that connections were made to; those to an earlier one are made anew."""
        self.turn = 0

    async def state(self) -> IndexState | None:
        return await self._reading(_state)

    async def segments(self) -> tuple[int, list[Segment]]:
        def read(db: sqlite3.Connection) -> tuple[int, list[Segment]]:
            state = _state(db)
            if state is None:
                return 0, []
            rows = db.execute("SELECT first, count, earliest_ms, latest_ms, about FROM search_segments ORDER BY first")
            return state.generation, [segment_of_row(*row) for row in rows]

        return await self._reading(read) or (0, [])

    async def fetch(self, generation: int, ranges: Sequence[tuple[int, int]]) -> Rows:
        def read(db: sqlite3.Connection) -> Rows:
            state = _state(db)
            if state is None or state.generation != generation:
                raise MovedError
            rows: Rows = []
            for bounds in ranges:
                rows += db.execute("SELECT key, data FROM search_rows WHERE key BETWEEN ? AND ?", bounds)
            return rows

        found = await self._reading(read)
        if found is None:
            raise MovedError
        return found

    async def row_count(self) -> int:
        return await self._reading(lambda db: int(db.execute("SELECT count(*) FROM search_rows").fetchone()[0])) or 0

    async def take(self) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._take)

    async def clear(self) -> None:
        def clear(db: sqlite3.Connection) -> None:
            state = _state(db)
            for table in ("search_rows", "search_segments", "search_state"):
                db.execute(f"DELETE FROM {table}")
            db.execute(FRESH.format(generation=state.generation + 1 if state else 0))

        await self._writing(clear)

    async def put(self, segment: Segment, rows: Rows, *, instead_of: Sequence[Segment] = ()) -> None:
        def put(db: sqlite3.Connection) -> None:
            for old in instead_of:
                found = db.execute("SELECT rows FROM search_segments WHERE first = ?", (old.first,)).fetchone()
                keys = [(key,) for key in unpack_keys(found[0], old.number)] if found else []
                db.executemany("DELETE FROM search_rows WHERE key = ?", keys)
                db.execute("DELETE FROM search_segments WHERE first = ?", (old.first,))
            db.executemany("INSERT INTO search_rows VALUES (?, ?)", sorted(rows))
            db.execute(_INSERT_SEGMENT, row_of_segment(segment, rows))
            if instead_of:
                db.execute("UPDATE search_state SET generation = generation + 1")

        await self._writing(put)

    async def set_removed(self, seq: int) -> None:
        await self._writing(lambda db: db.execute("UPDATE search_state SET removed_seq = ?", (seq,)))

    async def ask_rebuild(self) -> None:
        await self._writing(lambda db: db.execute("UPDATE search_state SET rebuild = 1"))

    async def close(self) -> None:
        def close() -> None:
            while self._opened:
                with contextlib.suppress(sqlite3.Error):
                    self._opened.popitem()[1][0].close()

        await asyncio.get_running_loop().run_in_executor(self._threads, close)
        self._threads.shutdown(wait=False)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _reading(self, read: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """What `read` returns in one transaction; None if there is no index."""

        def run() -> _T | None:
            if not self._path.exists():
                return None
            db = self._connection()
            db.execute("BEGIN")
            try:
                return read(db)
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

        return await self._run(run)

    async def _writing(self, write: Callable[[sqlite3.Connection], object]) -> None:
        def run() -> None:
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            try:
                write(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

        await self._run(run)

    async def _run(self, work: Callable[[], _T]) -> _T:
        def run() -> _T:
            try:
                return work()
            except sqlite3.Error as error:
                if type(error) is sqlite3.DatabaseError:
                    self._broken = True
                self._file += 1
                raise

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
            raise IndexUnavailableError(str(error)) from error

    def _connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        thread = threading.get_ident()
        connection, file = self._opened.get(thread, (None, -1))
        if connection is None or file != self._file:
            if connection is not None:
                connection.close()
            file = self._file
            uri = f"{self._path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            self._opened[thread] = (connection, file)
            # NORMAL: after a power cut the last segments are missing, and are made again.
            for pragma in (f"busy_timeout={_BUSY_MS}", "synchronous=NORMAL", "cache_size=-16384"):
                connection.execute(f"PRAGMA {pragma}")
        return connection

    def _take(self) -> bool:
        if self._lock >= 0 and not self._broken:
            return True
        try:
            if self._lock < 0:
                lock = os.open(f"{self._path}-indexer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(lock)
                    return False
                self._lock = lock
            self.turn += 1
            try:
                if not self._broken:
                    self._make_tables()
                    return True
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                pass
            # It is no database, or no longer one. Nothing is lost that cannot be made again.
            for end in ("", "-wal", "-shm"):
                Path(f"{self._path}{end}").unlink(missing_ok=True)
            self._make_tables()
            self._file += 1
            self._broken = False
        except (sqlite3.Error, OSError) as error:
            raise IndexUnavailableError(str(error)) from error
        return True

    def _make_tables(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as db:
            db.execute("PRAGMA page_size=16384")  # strings of many kB are chains of pages
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA journal_size_limit=67108864")
            db.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                db.execute(table.format(bytes="BLOB", key="key INTEGER"))
            db.execute("COMMIT")


def _state(db: sqlite3.Connection) -> IndexState | None:
    try:
        row = db.execute("SELECT format, generation, removed_seq, rebuild FROM search_state").fetchone()
    except sqlite3.OperationalError:
        return None  # the tables are not there yet
    return IndexState(row[1], row[2], bool(row[3])) if row and row[0] == FORMAT else None


def row_of_segment(segment: Segment, rows: Rows) -> tuple[int, int, int, int, bytes, bytes]:
    """A segment as it is stored."""
    about = msgspec.msgpack.encode((sorted(segment.kinds.items()), segment.last))
    keys = pack_keys(sorted([key for key, _ in rows]))
    return segment.first, segment.count, segment.earliest_ms, segment.latest_ms, about, keys


def segment_of_row(first: int, count: int, earliest_ms: int, latest_ms: int, about: bytes) -> Segment:
    """What `row_of_segment` stored; raises msgspec.MsgspecError."""
    kinds, last = msgspec.msgpack.decode(about, type=tuple[list[tuple[str, int]], tuple[int, bytes] | None])
    return Segment(first, count, earliest_ms, latest_ms, dict(kinds), last)
