"""Removing records whose time is over: only what a verified archive holds, and never without a record of it.

Rules:
1. A batch goes in one transaction with the record of it, which stands in the tree like any other, and with the rows of
   `log_removed` that name it. Whatever happens to the program, the log has both or neither.
2. Tiles and checkpoints stay: every proof and every receipt that was ever given out is good as before, and can be made again for
   what is still there.
3. An entry is removed if its own bytes are those in the archive, its own time is over, and the segment verifies. What differs is
   damage: it is named, and nothing more is done.
4. Batches are small, and take turns with the writers of running gateways.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from exchange.archive.manifest import ArchiveError
from exchange.archive.retention import Retention
from exchange.archive.segment import Segment
from exchange.archive.segment_checks import check_segment
from exchange.archive.segment_tree import SegmentTiles
from exchange.archive.writing import ArchivedSegment
from exchange.audit.log_damage import DamagedLogError
from exchange.log.columns import columns_of
from exchange.log.frames import Entry
from exchange.log.log_event import LogEvent
from exchange.log.reader import CLOCKS_APART_MS, LogReader, StoredEntry
from exchange.log.store import Batch, LogStore, Removal
from exchange.log.stores import log_store
from exchange.log.writer import LastSigned, LogWriter
from exchange.moments import Entropy, Rfc3339, parse_rfc3339, uuid7
from exchange.receipts.receipt_checks import Keys
from exchange.storage.database import create_engine, database_url, sqlite_path, upgrade
from exchange.transparency.checkpoint import NoteSigner
from exchange.transparency.merkle import HASH_SIZE, hash_leaf
from exchange.transparency.tiles import WIDTH

ACT: Final = "segment.pruned"
"""Of the records of removals."""
COMMAND: Final = "datong log prune"

_MOST_ENTRIES: Final = 2048
_MOST_RANGES: Final = 400
"""In one transaction; so many fit into the record of it."""
_SIGN_EVERY_MS: Final = 1000

Progress = Callable[[int, int], None]
"""(entries looked at, entries in the archive)."""
_Range = tuple[int, int]


@dataclass(slots=True)
class Pruned:
    """What was removed, or would be."""

    removed: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    """Class -> entries removed."""
    records: int = 0
    """Records of removals that were appended."""
    kept: int = 0
    """Entries of the archive that are still in the log, because their time is not over."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What goes in one transaction."""

    ranges: list[_Range]
    classes: Counter[str]


@asynccontextmanager
async def open_pruner(database: str, log_key: Path, keys: Keys, *, by: str, why: str) -> AsyncIterator[Pruner]:
    """What removes from the log at a database; closed with the block. The log is brought up to date and checked at its end first.

    Args:
        database: URL as `exchange.storage.database.database_url` takes it.
        log_key: File with the log's key, and the last checkpoint it signed beside it.

    Raises:
        CorruptLogError, StoreError, NoteError, OSError: The log or its key cannot be used.
    """
    url = database_url(database)
    await upgrade(url, "exchange.migrations")
    signer = NoteSigner.from_skey(log_key.read_text(encoding="utf-8"))
    store, engine = log_store(url, erases=True), create_engine(url)
    try:
        writer = LogWriter(store, signer, LastSigned(log_key), "", "")
        await writer.check()
        yield Pruner(LogReader(engine), store, writer, keys, by=by, why=why)
    finally:
        await store.close()
        await engine.dispose()
    if (file := sqlite_path(url)) is not None:
        # Until then, what was removed stands in the write-ahead log.
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Pruner:
    """Removes from one log.

    Args:
        store: Of the log.
        writer: On the same store; it signs what was appended, so that records of removals wait for nobody.
        by: Who removes, for the record.
    """

    def __init__(self, reader: LogReader, store: LogStore, writer: LogWriter, keys: Keys, *, by: str, why: str) -> None:
        self._reader = reader
        self._store = store
        self._writer = writer
        self._keys = keys
        self._by = by
        self._why = why
        self._time_text = Rfc3339()
        self._entropy = Entropy()
        self._signed_ms = 0

    async def prune(
        self,
        segments: Sequence[ArchivedSegment],
        retention: Retention,
        clock: Callable[[], datetime],
        *,
        only_count: bool = False,
        progress: Progress | None = None,
    ) -> Pruned:
        """Remove every entry in these segments whose time is over.

        Args:
            segments: Of this log.
            only_count: Nothing is removed.

        Raises:
            ArchiveError: A segment does not verify. What was removed by then is on record.
            DamagedLogError: An entry of the log is not the one in the archive.
            StoreError, CorruptLogError: From the store.
        """
        pruned = Pruned()
        in_all, done = sum(one.end - one.first for one in segments), 0
        for segment in segments:
            now = clock().astimezone(UTC)
            over = await self._over(segment, retention, now, pruned)
            if over and not only_count:
                failed = next((check for check in check_segment(segment.path, self._keys) if not check.ok), None)
                if failed is not None:
                    raise ArchiveError(f"{segment.path.name}: {failed.en}", f"{segment.path.name}：{failed.zh}")
                for part in _parts(over):
                    await self._remove(segment, part, clock)
                    pruned.records += 1
            pruned.removed += len(over)
            pruned.classes.update(name for _, name in over)
            done += segment.end - segment.first
            if progress is not None:
                progress(done, in_all)
        if pruned.records:
            await self._writer.checkpoint()
        return pruned

    async def _over(
        self, segment: ArchivedSegment, retention: Retention, now: datetime, pruned: Pruned
    ) -> list[tuple[int, str]]:
        """(number, class) of the segment's entries that are still in the log and whose time is over."""
        newest_over = retention.newest_over(now)
        found: list[tuple[int, str]] = []
        with Segment(segment.path) as archived:
            if parse_rfc3339(archived.manifest.since) - CLOCKS_APART_MS >= newest_over:
                return found
            tiles = SegmentTiles(archived)
            async for entry in self._reader.iter_entries(segment.first, segment.end - segment.end % WIDTH):
                keeping = retention.class_of(entry)
                if entry.at_ms >= keeping.keep.over(now):
                    pruned.kept += 1
                    continue
                slot = entry.seq % WIDTH * HASH_SIZE
                _check_row(entry, tiles.hashes(0, entry.seq // WIDTH)[slot : slot + HASH_SIZE])
                found.append((entry.seq, keeping.name))
        return found

    async def _remove(self, segment: ArchivedSegment, part: _Part, clock: Callable[[], datetime]) -> None:
        at_ms = int(clock().timestamp() * 1000)
        event = LogEvent(
            id=uuid7(at_ms, self._entropy),
            kind="retention",
            act=ACT,
            at=self._time_text(at_ms),
            by=COMMAND,
            user=self._by,
            why=self._why,
            details={
                "classes": dict(part.classes),
                "count": sum(part.classes.values()),
                "ranges": [list(each) for each in part.ranges],
                "segment": segment.sha256,
            },
        )
        batch = Batch("", "", at_ms=at_ms)
        batch.entries.append(row_of(event))
        batch.removals += [Removal(first, end, segment.sha256) for first, end in part.ranges]
        await self._store.append(await self._store.load(), batch)
        if at_ms - self._signed_ms >= _SIGN_EVERY_MS:
            self._signed_ms = at_ms
            await self._writer.checkpoint()


def row_of(event: LogEvent) -> Entry:
    """The record of an act as a writer appends it."""
    return (event.id, parse_rfc3339(event.at), event.by, "", event.kind, event.act, None, event.leaf)


def _check_row(entry: StoredEntry, archived_hash: bytes) -> None:
    """Return if a row is that of the entry in the archive, and says what the entry says; raises DamagedLogError."""
    beside = (entry.exchange_id, entry.at_ms, entry.client, entry.service, entry.outcome, entry.rule)
    problem = None
    try:
        if not hash_leaf(entry.leaf) == entry.leaf_hash == archived_hash:
            problem = "it is not the one in the archive", "与归档中的记录不符"
        elif columns_of(entry.leaf) != beside:
            problem = "what is stored for searching differs from the record", "检索字段与记录内容不符"
    except ValueError as error:
        problem = str(error), "不是有效的记录"
    if problem is not None:
        raise DamagedLogError(f"entry {entry.seq}", *problem, entry.exchange_id)


def _parts(over: Sequence[tuple[int, str]]) -> Iterator[_Part]:
    """What goes in one transaction each."""
    ranges: list[_Range] = []
    classes: Counter[str] = Counter()
    for seq, name in over:
        follows = bool(ranges) and ranges[-1][1] == seq
        if classes.total() == _MOST_ENTRIES or (len(ranges) == _MOST_RANGES and not follows):
            yield _Part(ranges, classes)
            ranges, classes, follows = [], Counter(), False
        if follows:
            ranges[-1] = (ranges[-1][0], seq + 1)
        else:
            ranges.append((seq, seq + 1))
        classes[name] += 1
    if ranges:
        yield _Part(ranges, classes)
