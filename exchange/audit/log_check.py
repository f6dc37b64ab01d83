"""Deriving a whole stored log again, and naming the first thing in it that was changed.

Rules:
1. Nothing stored is believed because something else stored beside it agrees: the only anchor is the log's public key.
   Records lead to leaf hashes, these to tiles and roots, and every signed checkpoint must be the root at its size.
2. What stands beside a record or a checkpoint must say what these say (`exchange.audit.entry_checks`,
   `exchange.audit.annex_checks`).
3. Of an entry that was removed on record its tile tells the leaf hash, and checkpoints prove the tile. The record of the
   removal must be there, and speak of that entry. A gap without one is damage.
4. Whoever changed a record together with all hashes above it is found at the next checkpoint. Then the damage lies
   between two checkpoints, and cannot be placed better than that, unless a tile, or the edge kept with the newest checkpoint,
   tells a hash that leads to the signed root.
5. The log may grow, and be pruned, while it is checked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from sqlalchemy.exc import DBAPIError

from exchange.audit.annex_checks import (
    Trusted,
    Vouched,
    check_certificate,
    check_checkpoint,
    check_intent,
    check_revocation,
)
from exchange.audit.entry_checks import check_entry
from exchange.audit.log_damage import DamagedLogError
from exchange.audit.rows import LogRows, StoredCheckpoint
from exchange.log.log_event import LogEvent, is_event, read_event
from exchange.log.reader import LogReader, Removed, StoredEntry
from exchange.transparency.checkpoint import Checkpoint, NoteVerifier
from exchange.transparency.merkle import HASH_SIZE, root_of
from exchange.transparency.tiles import WIDTH, Edge, Tile, Wanted, tree_root
from exchange.transparency.trust_policy import TrustPolicy

_ENTRIES = 1000
_CHECKPOINTS = 512
_TILES_AHEAD = 64
_LONGEST_SEARCH = 1 << 20
"""Entries between two checkpoints among which the one that was changed is looked for."""
_CHANGED_TOGETHER = (
    "it is not the one that was signed over: record and hash were changed together, or the entry of another place put here",
    "与签署时的记录不符：记录及其哈希被一并改动，或此处换成了别处的记录",
)
_MISSING = "the entry is missing", "该条记录缺失"
_TILE_MISSING = "the tile is missing", "该数据块缺失"
_TILE_DIFFERS = "the tile is not that of the entries", "数据块与记录不符"

_T = TypeVar("_T")

Progress = Callable[[int, int], None]
"""(entries checked, entries in all)."""


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What a check found in order."""

    size: int
    root: bytes
    tiles: int
    checkpoints: int
    signed_size: int
    """Entries under a signed checkpoint; those beyond are only as old as the checkpoint interval."""
    removed: int = 0
    """Entries that were removed on record."""
    cosignatures: int = 0
    """Verified."""
    stamps: int = 0
    """Verified."""
    unverified: int = 0
    """Cosignatures and stamps of which only the form was checked, since nobody said who may make them."""


async def check_log(
    reader: LogReader,
    verifiers: Sequence[NoteVerifier],
    *,
    held: Sequence[Checkpoint] = (),
    policy: TrustPolicy | None = None,
    anchors: Sequence[x509.Certificate] = (),
    progress: Progress | None = None,
) -> LogSummary:
    """Check everything that a log holds; it may grow meanwhile.

    Args:
        verifiers: Public keys of the log.
        held: Checkpoints kept elsewhere, opened with these keys: from a receipt, or from the file beside the log's key.
        policy: Names the witnesses whose cosignatures are verified.
        anchors: Of the authorities whose time stamps are verified; then there may be stamps of no other.

    Raises:
        DamagedLogError: Names the first damage.
        DBAPIError: The database does not answer.
    """
    witnesses = [one.verifier for one in policy.witnesses] if policy else []
    check = _Check(reader, Trusted(verifiers, witnesses, anchors))
    try:
        return await check.run(held, progress)
    finally:
        await check.close()


class _Check:
    def __init__(self, reader: LogReader, trusted: Trusted) -> None:
        self._reader = reader
        self._rows = LogRows(reader.engine)
        self._trusted = trusted
        self._size = 0
        self._edge = Edge.empty()
        self._hashes: list[bytes] = []
        """Leaf hashes after the edge."""
        self._tiles = 0
        self._stored: dict[int, dict[int, Tile]] = {}
        """Level -> number -> tile: read ahead."""
        self._removed: list[Removed] = []
        self._gone = 0
        self._checkpoints: AsyncGenerator[_Checked] | None = None
        self._next: _Checked | None = None
        self._count = 0
        self._vouched = Vouched()
        self._good = Edge.empty()
        """Of the last good checkpoint."""
        self._suspect: tuple[str, int] | None = None
        """A tile that is not that of the entries, and the first one where they differ: the next checkpoint tells which is wrong."""
        self._last_id = ""

    async def run(self, held: Sequence[Checkpoint], progress: Progress | None) -> LogSummary:
        self._size, root = await self._state()
        self._checkpoints = self._checked()
        await self._advance()
        while self._next is not None and self._next.stored.signed.size <= 0:
            await self._check_checkpoint(self._next)
        await self._entries(progress)
        await self._end(root)
        for checkpoint in held:
            await self._held(checkpoint)
        await self._kept_edge()
        await self._removals()
        await self._beside()
        if progress:
            progress(self._size, self._size)
        edge, vouched = self._edge, self._vouched
        return LogSummary(
            edge.size,
            edge.root,
            self._tiles,
            self._count,
            self._good.size,
            self._gone,
            vouched.cosignatures,
            vouched.stamps,
            vouched.unverified,
        )

    async def close(self) -> None:
        """Let go of what was read ahead."""
        if self._checkpoints is not None:
            await self._checkpoints.aclose()

    async def _state(self) -> tuple[int, bytes]:
        rows = await self._read("state", self._rows.state)
        if len(rows) != 1 or rows[0][0] != 1 or not isinstance(rows[0][1], int) or rows[0][1] < 0:
            raise DamagedLogError("state", "the row that holds the size of the log was changed", "日志状态行被改动")
        return rows[0][1:]

    async def _entries(self, progress: Progress | None) -> None:
        """Walk through all entries in order."""
        first = 0
        while first < self._size:
            rows, evidence = await self._entries_from(first)
            for entry in rows:
                if entry.seq != first:
                    await self._fill(first, entry)
                try:
                    check_entry(entry, evidence.get(entry.exchange_id))
                except DamagedLogError:
                    await self._settle_suspicion()
                    raise
                self._last_id = entry.exchange_id
                first = entry.seq + 1
                await self._take(entry.leaf_hash)
            if not rows:
                await self._fill(first, None)
                first = self._size
            if progress:
                progress(min(first, self._size), self._size)
        await self._extend()

    async def _entries_from(self, first: int) -> tuple[list[StoredEntry], dict[str, bytes]]:
        try:
            rows, evidence = await self._rows.entries(first, self._size, _ENTRIES)
        except DBAPIError:
            # The pages of the database may be damaged: which entry cannot be read?
            for seq in range(first, min(first + _ENTRIES, self._size)):
                await self._read(f"entry {seq}", lambda seq=seq: self._rows.entries(seq, seq + 1, 1))  # type: ignore[misc]
            raise
        return rows, dict(evidence)

    async def _fill(self, first: int, found: StoredEntry | None) -> None:
        """Take the leaf hashes of entries from `first` on that are not there from their tiles, if they were removed on record."""
        end = self._size if found is None else found.seq
        if end < first:
            assert found is not None
            raise DamagedLogError(f"entry {end}", "it stands there twice", "重复出现", found.exchange_id)
        self._removed = await self._read("removed", self._reader.removed)  # it may have been pruned meanwhile
        ranges = iter(self._removed)
        current = next(ranges, None)
        for seq in range(first, end):
            while current is not None and current.end <= seq:
                current = next(ranges, None)
            if current is None or seq < current.first:
                raise DamagedLogError(f"entry {seq}", *_MISSING)
            number, slot = divmod(seq, WIDTH)
            tile = await self._stored_tile(0, number, keep=True)
            if tile is None:
                raise DamagedLogError(f"tile 0/{number}", *_TILE_MISSING)
            if (slot == 0 or seq == first) and _own_root(tile) != tile.root:
                raise DamagedLogError(f"tile 0/{number}", *_TILE_DIFFERS)
            self._gone += 1
            await self._take(tile.hashes[slot * HASH_SIZE : (slot + 1) * HASH_SIZE])

    async def _take(self, leaf_hash: bytes) -> None:
        self._hashes.append(leaf_hash)
        done = self._edge.size + len(self._hashes)
        if not done % WIDTH or (self._next is not None and done >= self._next.stored.signed.size):
            await self._extend()

    async def _extend(self) -> None:
        """Append the hashes that were taken, and compare the tiles and the checkpoint that they complete."""
        self._edge, tiles = self._edge.extended(self._hashes)
        self._hashes = []
        for tile in tiles:
            await self._check_tile(tile)
        while self._next is not None and self._next.stored.signed.size <= self._edge.size:
            await self._check_checkpoint(self._next)

    async def _advance(self) -> None:
        assert self._checkpoints is not None
        self._next = await anext(self._checkpoints, None)

    async def _check_checkpoint(self, checked: _Checked) -> None:
        size = checked.stored.signed.size
        if checked.damage is not None:
            raise checked.damage
        if size < self._edge.size or (self._count and size <= self._good.size):
            raise DamagedLogError(f"checkpoint {size}", "it stands there twice", "重复出现")
        if checked.stored.signed.root != self._edge.root:
            if (seq := await self._changed_between(size, checked.stored.signed.root)) is not None:
                raise await self._changed_entry(seq)
            raise self._between(
                size,
                f"the entries are not those of the checkpoint signed at {size}",
                f"记录与在 {size} 条处签署的检查点不符",
            )
        if self._suspect is not None:
            raise DamagedLogError(self._suspect[0], *_TILE_DIFFERS)
        self._count += 1
        self._vouched += checked.vouched
        self._good = self._edge
        await self._advance()

    async def _changed_between(self, size: int, root: bytes) -> int | None:
        """The first entry since the last good checkpoint whose tile tells another hash, if that one leads to the signed root."""
        first = self._good.size
        if size - first > _LONGEST_SEARCH:
            return None
        own = await self._rows.leaf_hashes(first, size)
        told = dict(own)
        for end, hashes, _ in await self._read("edge", self._rows.edges):
            told |= _in_edge(end, hashes)  # what no tile tells yet
        for number in range(first // WIDTH, -(-size // WIDTH)):
            tile = (await self._reader.stored_tiles(0, number, 1)).get(number)
            if tile is not None and _own_root(tile) == tile.root:
                told |= dict(enumerate(_hashes_in(tile), number * WIDTH))
        if any(seq not in told for seq in range(first, size)):
            return None
        edge, _ = self._good.extended([told[seq] for seq in range(first, size)])
        if edge.root != root:
            return None
        return next((seq for seq in range(first, size) if own.get(seq, told[seq]) != told[seq]), None)

    async def _changed_entry(self, seq: int) -> DamagedLogError:
        entry = await self._reader.entry_at(seq)
        return DamagedLogError(f"entry {seq}", *_CHANGED_TOGETHER, entry.exchange_id if entry else "")

    def _between(self, size: int, problem: str, problem_zh: str) -> DamagedLogError:
        first, last = self._good.size, size - 1
        where = f"entry {first}" if first == last else f"entries {first} to {last}"
        return DamagedLogError(where, problem, problem_zh, self._last_id if first == last else "")

    async def _check_tile(self, tile: Tile) -> None:
        stored = await self._stored_tile(tile.level, tile.number)
        where = f"tile {tile.level}/{tile.number}"
        self._tiles += 1
        if stored is None:
            raise DamagedLogError(where, *_TILE_MISSING)
        if (stored.hashes == tile.hashes and stored.root == tile.root) or self._suspect is not None:
            return
        if tile.level or _own_root(stored) != stored.root:
            raise DamagedLogError(where, *_TILE_DIFFERS)
        ours, theirs = _hashes_in(tile), _hashes_in(stored)
        seq = tile.number * WIDTH + next(slot for slot in range(WIDTH) if ours[slot] != theirs[slot])
        if seq < self._good.size:
            raise DamagedLogError(where, *_TILE_DIFFERS)  # a checkpoint has proven the entry
        self._suspect = where, seq

    async def _settle_suspicion(self) -> None:
        """Without a checkpoint that could tell: a tile that is good in itself is rather believed than an entry."""
        if self._suspect is not None:
            raise await self._changed_entry(self._suspect[1])

    async def _stored_tile(self, level: int, number: int, *, keep: bool = False) -> Tile | None:
        ahead = self._stored.setdefault(level, {})
        if number not in ahead:
            ahead.clear()
            where = f"tile {level}/{number}"
            ahead.update(await self._read(where, lambda: self._reader.stored_tiles(level, number, _TILES_AHEAD)))
        return ahead.get(number) if keep else ahead.pop(number, None)

    async def _end(self, root: bytes) -> None:
        """After the last entry: what is there and should not be, and the root of all."""
        await self._settle_suspicion()
        stray = await self._read("rows", self._rows.stray)
        if stray is not None:
            raise DamagedLogError(stray.where, stray.problem, stray.problem_zh, stray.exchange_id)
        if self._edge.root != root:
            if self._good.size == self._edge.size:
                raise DamagedLogError("state", "the stored root is not that of the entries", "存储的根哈希与记录不符")
            raise self._between(self._edge.size, "the entries do not lead to the stored root", "记录与存储的根哈希不符")

    async def _held(self, checkpoint: Checkpoint) -> None:
        """After the end: a checkpoint that was kept elsewhere."""
        if checkpoint.size > self._size:
            raise DamagedLogError(
                f"entry {self._size}",
                f"a checkpoint of {checkpoint.size} entries is held elsewhere, the log ends here: entries were removed",
                f"另有已签署 {checkpoint.size} 条记录的检查点，而日志到此为止：记录被删除",
            )
        if await tree_root(self._reader, checkpoint.size) != checkpoint.root:
            raise DamagedLogError(
                f"entries 0 to {checkpoint.size - 1}",
                f"they are not those of the checkpoint of {checkpoint.size} entries that is held elsewhere",
                f"与另存的 {checkpoint.size} 条记录的检查点不符",
            )

    async def _kept_edge(self) -> None:
        """What was kept of the unfinished tile is what the entries say."""
        rows = await self._read("edge", self._rows.edges)
        if len(rows) > 1:
            raise DamagedLogError(f"edge {rows[0][0]}", "there is another one", "重复出现")
        for size, hashes, signed in rows:
            where = f"edge {size}"
            if not signed:
                raise DamagedLogError(where, "the checkpoint that it was kept with is missing", "与其同存的检查点缺失")
            if size > self._size:
                continue  # the log grew meanwhile
            wanted = Wanted(0, size // WIDTH, size % WIDTH)
            own = (await self._reader.tiles([wanted]))[0] if wanted.width else b""
            if hashes != own[: wanted.width * HASH_SIZE]:
                raise DamagedLogError(where, "it is not that of the entries", "与记录不符")

    async def _removals(self) -> None:
        """What is said of removed entries is what the records of their removal say."""
        for removed in await self._read("removed", self._reader.removed):
            where = f"removed {removed.first}"
            entry = await self._reader.entry_at(removed.seq)
            if entry is not None:
                check_entry(entry, None)
            if entry is None or not _speaks_of(entry, removed):
                raise DamagedLogError(
                    where,
                    f"entry {removed.seq} is not the record that entries {removed.first} to {removed.end - 1} were removed",
                    f"第 {removed.seq} 条并非删除第 {removed.first} 至 {removed.end - 1} 条的记录",
                )

    async def _beside(self) -> None:
        """Tables that no checkpoint proves."""
        try:
            async for fingerprint, der in self._rows.certificates():
                check_certificate(fingerprint, der)
            async for news in self._rows.revocations():
                check_revocation(news)
            async for intent in self._rows.intents():
                check_intent(intent)
        except DBAPIError as error:
            raise await self._unreadable("a table beside the log", error) from error

    async def _read(self, where: str, work: Callable[[], Awaitable[_T]]) -> _T:
        """What `work` reads.

        Raises:
            DamagedLogError: The database answers, but not this: what it holds there cannot be read.
        """
        try:
            return await work()
        except DBAPIError:
            pass  # it may have been away for a moment
        try:
            return await work()
        except DBAPIError as error:
            raise await self._unreadable(where, error) from error

    async def _unreadable(self, where: str, error: DBAPIError) -> DamagedLogError:
        """What to raise when something could not be read; raises DBAPIError if the database does not answer at all."""
        await self._rows.state()
        problem = f"it cannot be read, the database is damaged there: {error.orig}"
        return DamagedLogError(where, problem, "无法读取，数据库已损坏")

    async def _checked(self) -> AsyncGenerator[_Checked]:
        """All checkpoints in order, read and verified ahead in threads: verifying a signature leaves this thread free."""
        threads = os.cpu_count() or 1

        async def page(after: int | None) -> tuple[list[StoredCheckpoint], list[_Checked]]:
            where = "the first checkpoints" if after is None else f"checkpoints after {after}"
            found = await self._read(where, lambda: self._rows.checkpoints(after, self._size, _CHECKPOINTS))
            step = max(16, -(-len(found) // threads))
            parts = [found[at : at + step] for at in range(0, len(found), step)]
            checked = await asyncio.gather(*[asyncio.to_thread(_verified, part, self._trusted) for part in parts])
            return found, [each for part in checked for each in part]

        task = asyncio.create_task(page(None))
        try:
            while True:
                found, checked = await task
                last = len(found) < _CHECKPOINTS
                if not last:
                    task = asyncio.create_task(page(found[-1].signed.size))
                for each in checked:
                    yield each
                if last:
                    return
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Checked:
    """A checkpoint and what was found of it, its place in the tree apart."""

    stored: StoredCheckpoint
    vouched: Vouched
    damage: DamagedLogError | None


def _verified(stored: Sequence[StoredCheckpoint], trusted: Trusted) -> list[_Checked]:
    found = []
    for each in stored:
        try:
            found.append(_Checked(each, check_checkpoint(each, trusted), None))
        except DamagedLogError as damage:
            found.append(_Checked(each, Vouched(), damage))
    return found


def _hashes_in(tile: Tile) -> list[bytes]:
    return [tile.hashes[at : at + HASH_SIZE] for at in range(0, len(tile.hashes), HASH_SIZE)]


def _in_edge(size: int, hashes: bytes) -> dict[int, bytes]:
    """Number -> leaf hash of the entries in the unfinished tile of a tree; nothing if they are not as many as they should be."""
    if size < 0 or len(hashes) != size % WIDTH * HASH_SIZE:
        return {}
    first = size - size % WIDTH
    return {first + at // HASH_SIZE: hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)}


def _own_root(tile: Tile) -> bytes:
    """The root of the hashes in a tile; nothing if they are not as many as they should be."""
    return root_of(_hashes_in(tile)) if len(tile.hashes) == WIDTH * HASH_SIZE else b""


def _speaks_of(entry: StoredEntry, removed: Removed) -> bool:
    """Whether an entry is the record that says of a removal what the row beside it says."""
    if not is_event(entry.leaf) or not 0 <= removed.first < removed.end <= removed.seq:
        return False
    event: LogEvent = read_event(entry.leaf)
    ranges = event.details.get("ranges")
    return (
        (event.kind, event.act, event.details.get("segment")) == ("retention", "segment.pruned", removed.segment)
        and isinstance(ranges, list)
        and [removed.first, removed.end] in ranges
    )
