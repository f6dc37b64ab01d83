"""Putting a log back from its archive into an empty database, checked entirely on the way.

Rules:
1. All segments are verified before anything is written: each by itself, and that each continues the one before it.
2. What others hold of the log is compared before anything is written: checkpoints of witnesses, and the last one the log's key
   signed. A log that lacks what was signed is put back only when told so, and then under another key: to go on under the old
   one would be a fork.
3. Entries that records of removals speak of are not put back. The log comes back as it was, with its gaps on record.
4. It is written in order, in transactions that each leave the beginning of the same log. What was interrupted goes on where it
   ended; a database with anything else in it is refused.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from exchange.archive.archive_reader import read_private
from exchange.archive.manifest import ArchiveError
from exchange.archive.pruning import ACT, row_of
from exchange.archive.segment import Segment
from exchange.archive.segment_checks import StoredCheckpoint, check_segment, read_annexes, read_checkpoints
from exchange.archive.segment_tree import SegmentTiles
from exchange.archive.writing import ArchivedSegment
from exchange.log import tables
from exchange.log.columns import columns_of
from exchange.log.log_event import LogEvent, is_event, read_event
from exchange.log.reader import Removed
from exchange.log.store import Batch, LogStore
from exchange.log.writer import LastSigned
from exchange.moments import Entropy, Rfc3339, uuid7
from exchange.receipts.receipt_checks import Keys
from exchange.storage.database import writing
from exchange.transparency.checkpoint import Checkpoint, NoteSigner
from exchange.transparency.merkle import hash_leaf
from exchange.transparency.tile_paths import unpack_bundle
from exchange.transparency.tiles import Edge, Tile

_T = TypeVar("_T")
_BUNDLES: Final = 8
"""In one transaction."""
_MOST_LOSSES: Final = 64

Progress = Callable[[int, int], None]
"""(entries done, entries in all); first when they are verified, then when they are written."""


class RestoreError(Exception):
    """The log cannot be put back; why, in English and Chinese."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.zh = zh


@dataclass(frozen=True, slots=True)
class Held:
    """A checkpoint that somebody outside the archive holds."""

    by: str
    """Who, for people: `witness audit-office`, `log.key.signed`."""
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that was signed and is not in the archive."""

    by: str
    """Who has seen it; `the archive itself` if a checkpoint in it covers more than its entries."""
    size: int


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """A verified archive: one log from its beginning."""

    origin: str
    segments: tuple[ArchivedSegment, ...]
    size: int
    root: bytes
    removed: tuple[Removed, ...]
    losses: tuple[Loss, ...]
    """What was signed beyond `size`, the most first; empty if nothing is known to be missing."""


def chain_of(segments: Sequence[ArchivedSegment]) -> list[ArchivedSegment]:
    """Those that hold a log from its beginning, one after the other; of those that begin alike, the longest.

    Raises:
        RestoreError: They are of several logs, or some entries are in none.
    """
    if len({one.origin for one in segments}) != 1:
        names = ", ".join(sorted({one.origin for one in segments})) or "none"
        raise RestoreError(f"segments of one log are needed; found: {names}", f"需要同一日志的归档段；现有：{names}")
    chain: list[ArchivedSegment] = []
    end = 0
    while following := [one for one in segments if one.first == end]:
        chain.append(max(following, key=lambda one: one.end))
        end = chain[-1].end
    beyond = [one.first for one in segments if one.first > end]
    if beyond or not chain:
        last = (min(beyond) if beyond else 1) - 1
        raise RestoreError(f"entries {end} to {last} are in no segment", f"第 {end} 至 {last} 条记录不在任何归档段中")
    return chain


def plan_restore(
    segments: Sequence[ArchivedSegment], keys: Keys, held: Sequence[Held] = (), progress: Progress | None = None
) -> RestorePlan:
    """Verify an archive and compare it with what others hold.

    Args:
        segments: From `chain_of`.
        held: Checkpoints signed by this log.

    Raises:
        RestoreError: A segment does not verify or does not continue the one before, or the log is not the one that others saw.
        OSError: A file cannot be read.
    """
    verified = _Verified(sorted([each for each in held if each.checkpoint.size], key=lambda each: each.checkpoint.size))
    in_all = segments[-1].end
    covered = 0
    for one in segments:
        with Segment(one.path) as segment:
            if segment.sha256 != one.sha256:
                raise RestoreError(f"{one.path.name} was changed meanwhile", f"{one.path.name} 已被改动")
            try:
                if SegmentTiles(segment).edge(one.first).root != verified.edge.root:
                    raise RestoreError(
                        f"{one.path.name} does not continue the segment before it",
                        f"{one.path.name} 与前一归档段不衔接",
                    )
            except ArchiveError as error:
                raise RestoreError(f"{one.path.name}: {error}", f"{one.path.name}：{error.zh}") from error
            covered = max(covered, segment.manifest.covers[-1])
        checks = check_segment(one.path, keys, visit=verified.take)
        # Witnesses that had not cosigned yet when it was archived are asked themselves what they have seen.
        failed = [check for check in checks if check.state == "failed"]
        if failed:
            raise RestoreError(f"{one.path.name}: {failed[0].en}", f"{one.path.name}：{failed[0].zh}")
        if progress is not None:
            progress(one.end, in_all)
    losses = [Loss(each.by, each.checkpoint.size) for each in verified.held]
    if covered > verified.edge.size:
        losses.append(Loss("the archive itself", covered))
    losses.sort(key=lambda loss: -loss.size)
    removed = tuple(sorted(verified.removed, key=lambda one: one.first))
    return RestorePlan(
        segments[0].origin, tuple(segments), verified.edge.size, verified.edge.root, removed, tuple(losses)
    )


@dataclass(slots=True)
class _Verified:
    """What was learnt of the entries while they were verified."""

    held: list[Held]
    """Not yet reached, by size."""
    edge: Edge = field(default_factory=Edge.empty)
    removed: list[Removed] = field(default_factory=list)

    def take(self, first: int, leaves: Sequence[bytes]) -> None:
        """The next entries."""
        hashes = [hash_leaf(leaf) for leaf in leaves]
        while self.held and self.held[0].checkpoint.size <= first + len(hashes):
            held = self.held.pop(0)
            upto, _ = self.edge.extended(hashes[: held.checkpoint.size - first])
            if upto.root != held.checkpoint.root:
                raise RestoreError(
                    f"{held.by} holds a checkpoint of {held.checkpoint.size} entries, signed by this log, and the archive has"
                    " others: the log was forked",
                    f"{held.by} 持有本日志签署的 {held.checkpoint.size} 条记录的检查点，与归档不符：日志曾被分叉",
                )
        self.edge, _ = self.edge.extended(hashes)
        for seq, leaf in enumerate(leaves, first):
            self.removed += removed_by(seq, leaf)


def removed_by(seq: int, leaf: bytes) -> list[Removed]:
    """What a leaf of the log says was removed; nothing if it is of another kind."""
    if not is_event(leaf):
        return []
    try:
        event = read_event(leaf)
        if (event.kind, event.act) != ("retention", ACT):
            return []
        gaps = [Removed(first, end, seq, event.details["segment"]) for first, end in event.details["ranges"]]
        if not all(0 <= gap.first < gap.end <= seq for gap in gaps):
            raise ValueError("it speaks of entries that were not there")
    except (ValueError, TypeError, KeyError) as error:
        raise RestoreError(
            f"entry {seq} is not the record of a removal: {error}", f"第 {seq} 条记录不是有效的清除记录"
        ) from error
    return gaps


async def restore(engine: AsyncEngine, plan: RestorePlan, progress: Progress | None = None) -> int:
    """Write a verified log into a database that has the tables of one, and no entries or the first of these.

    Returns how many entries were there already.

    Raises:
        RestoreError: The database holds another log, or somebody else writes to it.
        ArchiveError: A segment was changed meanwhile.
        SQLAlchemyError: The database does not do it. To try again is to go on.
    """
    return await _Restoring(engine, plan, progress).run()


async def record_loss(
    store: LogStore, signer: NoteSigner, log_key: Path, plan: RestorePlan, *, by: str, why: str, at_ms: int
) -> None:
    """Append to a restored log what it lacks, and sign it with the key under which it goes on.

    Args:
        signer: Of the new key.
        log_key: Its file.

    Raises:
        StoreError, CorruptLogError, OSError: From the store, and from the file beside the key.
    """
    event = LogEvent(
        id=uuid7(at_ms, Entropy()),
        kind="retention",
        act="log.restored",
        at=Rfc3339()(at_ms),
        by="datong log restore",
        user=by,
        why=why,
        details={
            "entries": plan.size,
            "root": plan.root.hex(),
            "origin": plan.origin,
            "lost": [{"by": loss.by, "signed": loss.size} for loss in plan.losses[:_MOST_LOSSES]],
        },
    )
    batch = Batch("", "", at_ms=at_ms)
    batch.entries.append(row_of(event))
    edge = await store.append(await store.load(), batch)

    def sign(size: int, root: bytes) -> str:
        return Checkpoint(signer.verifier.name, size, root).signed(signer)

    edge, note = await store.checkpoint(edge, sign)
    LastSigned(log_key).write(edge.size, note)


class _Restoring:
    def __init__(self, engine: AsyncEngine, plan: RestorePlan, progress: Progress | None) -> None:
        self._engine = engine
        self._plan = plan
        self._progress = progress
        self._edge = Edge.empty()
        self._removed = iter(plan.removed)
        self._gap = next(self._removed, None)
        insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._insert: Callable[[sa.Table], Any] = lambda table: insert(table).on_conflict_do_nothing()

    async def run(self) -> int:
        state = sa.select(tables.state.c.size, tables.state.c.root)
        async with self._engine.connect() as connection:
            there, root = (await connection.execute(state)).one()
        if there > self._plan.size:
            raise _other_log(there)
        for one in self._plan.segments:
            with Segment(one.path) as segment:
                if segment.sha256 != one.sha256:
                    raise ArchiveError(f"{one.path.name} was changed meanwhile", f"{one.path.name} 已被改动")
                await self._segment(segment, there, bytes(root))
        if self._edge.root != self._plan.root:
            raise ArchiveError("the archive was changed meanwhile", "归档已被改动")
        return int(there)

    async def _segment(self, segment: Segment, there: int, root: bytes) -> None:
        if segment.manifest.end > there:
            await self._annexes(segment)
        checkpoints = _InOrder(read_checkpoints(segment), lambda one: one.size - 1)
        private = _InOrder(read_private(segment), lambda row: int(row["seq"]))
        bundles = segment.manifest.bundles
        for at in range(0, len(bundles), _BUNDLES):
            leaves = [leaf for name in bundles[at : at + _BUNDLES] for leaf in unpack_bundle(segment.read(name.path))]
            # What is there already may end anywhere: an earlier command may have had other segments.
            cut = min(max(0, there - self._edge.size), len(leaves))
            for part, stored in ((leaves[:cut], True), (leaves[cut:], False)):
                if not part:
                    continue
                first, hashes = self._edge.size, [hash_leaf(leaf) for leaf in part]
                self._edge, complete = self._edge.extended(hashes)
                said = {row["seq"]: row for row in private.before(self._edge.size)}
                signed = checkpoints.before(self._edge.size)
                if not stored:
                    async with writing(self._engine) as connection:
                        await self._write(connection, first, part, hashes, complete, said, signed)
                elif self._edge.size == there and self._edge.root != root:
                    raise _other_log(there)
            if self._progress is not None:
                self._progress(self._edge.size, self._plan.size)

    async def _write(
        self,
        connection: AsyncConnection,
        first: int,
        leaves: Sequence[bytes],
        hashes: Sequence[bytes],
        complete: Sequence[Tile],
        said: dict[int, dict[str, Any]],
        checkpoints: Sequence[StoredCheckpoint],
    ) -> None:
        grown = sa.update(tables.state).where(tables.state.c.size == first)
        done = await connection.execute(grown.values(size=self._edge.size, root=self._edge.root))
        if done.rowcount != 1:
            raise RestoreError("somebody else writes to the database", "另有程序正在写入该数据库")
        rows, gaps, evidence = [], [], []
        for seq, (leaf, leaf_hash) in enumerate(zip(leaves, hashes, strict=True), first):
            gaps += [_row(one) for one in removed_by(seq, leaf)]
            if self._is_removed(seq):
                continue
            columns = columns_of(leaf)
            beside = said.get(seq, {})
            salt = bytes.fromhex(beside["salt"]) if "salt" in beside else None
            rows.append({"seq": seq, **columns._asdict(), "leaf_hash": leaf_hash, "salt": salt, "leaf": leaf})
            if "evidence" in beside:
                evidence.append({"exchange_id": columns.exchange_id, "evidence": b64decode(beside["evidence"])})
        for table, values in (
            (tables.entries, rows),
            (tables.tiles, [tile._asdict() for tile in complete]),
            (tables.removed, gaps),
            (tables.evidence, evidence),
            (tables.checkpoints, [_checkpoint_row(one) for one in checkpoints]),
            (tables.cosignatures, list(_rows(checkpoints, "cosignatures", ("witness", "at_ms", "line")))),
            (tables.stamps, list(_rows(checkpoints, "stamps", ("authority", "at_ms", "token")))),
        ):
            if values:
                await connection.execute(sa.insert(table), values)

    async def _annexes(self, segment: Segment) -> None:
        annexes = read_annexes(segment)
        async with writing(self._engine) as connection:
            for fingerprint, at_ms in annexes.certificates.items():
                der = annexes.certificate(segment, fingerprint)
                row = {"fingerprint": fingerprint, "der": der, "first_seen_ms": at_ms}
                await connection.execute(self._insert(tables.certificates), row)
            for news in annexes.revocations:
                der = annexes.revocation(segment, news["digest"])
                row = {"next_update_ms": None, **news, "der": der}
                await connection.execute(self._insert(tables.revocations), row)

    def _is_removed(self, seq: int) -> bool:
        while self._gap is not None and self._gap.end <= seq:
            self._gap = next(self._removed, None)
        return self._gap is not None and self._gap.first <= seq


class _InOrder(Generic[_T]):
    """Takes what stands in order, up to a number at a time."""

    def __init__(self, items: Iterator[_T], number: Callable[[_T], int]) -> None:
        self._items = items
        self._number = number
        self._next = next(items, None)

    def before(self, end: int) -> list[_T]:
        """Those not yet taken with numbers below `end`."""
        found = []
        while self._next is not None and self._number(self._next) < end:
            found.append(self._next)
            self._next = next(self._items, None)
        return found


def _other_log(size: int) -> RestoreError:
    return RestoreError(
        f"the database holds {size} entries that are not the first of the archive; name an empty one",
        f"数据库中已有 {size} 条记录，且与归档不符；请指定空数据库",
    )


def _row(one: Removed) -> dict[str, Any]:
    return {"first": one.first, "end": one.end, "seq": one.seq, "segment": one.segment}


def _checkpoint_row(one: StoredCheckpoint) -> dict[str, Any]:
    return {"size": one.size, "root": one.root, "note": one.note}


def _rows(checkpoints: Sequence[StoredCheckpoint], kind: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for one in checkpoints:
        for said in getattr(one, kind):
            yield {"size": one.size, **dict(zip(columns, said, strict=True))}
