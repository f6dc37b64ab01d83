"""Deriving a whole stored log again, and naming the first thing in it that was changed.

Rules:
1. Nothing stored is believed because something else stored beside it agrees: the only anchor is the log's public key.
   Records lead to leaf hashes, these to tiles and roots, and every signed checkpoint must be the root at its size.
2. What stands beside a record for searching must say what the record says: changed, it would hide a record from a
   search.
3. The signature of a caller beside a record is the one whose digest is in the record, as long as there is a salt.
4. The record of a change has the id that its content makes; whether the registry still says the same is for
   `datong audit check` to compare.
5. Whoever changed a record together with all hashes above it is found at the next checkpoint. Then the damage lies
   between two checkpoints, and cannot be placed better than that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from exchange.change_record import CHANGE, is_change, read_change
from exchange.checkpoint import Checkpoint, NoteError, NoteVerifier, open_checkpoint
from exchange.log_reader import LogReader, StoredEntry
from exchange.merkle import hash_leaf, root_of
from exchange.moments import parse_rfc3339
from exchange.recorded_signatures import evidence_digest
from exchange.store import SignedSize
from exchange.tiles import WIDTH, Edge, Tile, tree_root

_TILES_AHEAD = 64
_COLUMNS_DIFFER = "what is stored for searching differs from the record", "检索字段与记录内容不符"

_Scalar = str | bool | Annotated[int, msgspec.Meta(gt=-(2**53), lt=2**53)]
_decode = msgspec.json.Decoder(dict[str, _Scalar | dict[str, _Scalar | list[str]]]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class DamagedLogError(ValueError):
    """Something stored is not what was written.

    Args:
        where: `entry 17`, `tile 0/3`, `checkpoint 4096`, `state`.
        problem: What is wrong with it, English.
        problem_zh: The same in Chinese.
        exchange_id: Of the entry, if it is one.
    """

    def __init__(self, where: str, problem: str, problem_zh: str, exchange_id: str = "") -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem
        self.problem_zh = problem_zh
        self.exchange_id = exchange_id


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What a check found in order."""

    size: int
    root: bytes
    tiles: int
    checkpoints: int
    signed_size: int
    """Entries under a signed checkpoint; those beyond are only as old as the checkpoint interval."""


Progress = Callable[[int, int], None]
"""(entries checked, entries in all)."""


async def check_log(
    reader: LogReader,
    verifiers: Sequence[NoteVerifier],
    *,
    held: Sequence[Checkpoint] = (),
    progress: Progress | None = None,
) -> LogSummary:
    """Check everything that a log holds; it may grow meanwhile.

    Args:
        verifiers: Public keys of the log.
        held: Checkpoints kept elsewhere, opened with these keys: from a receipt, or from the file beside the log's key.

    Raises:
        DamagedLogError: Names the first damage.
    """
    size, root = await reader.size()
    check = _Check(reader, verifiers, size)
    async for entry in reader.iter_entries(0, size):
        await check.entry(entry)
        if progress and not entry.seq % 1000:
            progress(entry.seq, size)
    summary = await check.end(root)
    for checkpoint in held:
        await check.held(checkpoint)
    if progress:
        progress(size, size)
    return summary


class _Check:
    def __init__(self, reader: LogReader, verifiers: Sequence[NoteVerifier], size: int) -> None:
        self._reader = reader
        self._verifiers = verifiers
        self._size = size
        self._edge = Edge.empty()
        self._hashes: list[bytes] = []
        self._tiles = 0
        self._stored: dict[int, dict[int, Tile]] = {}
        self._checkpoints: AsyncIterator[SignedSize] = reader.iter_checkpoints()
        self._next: SignedSize | None = None
        self._begun = False
        self._checked = 0
        self._signed_size = 0
        """Size of the last good checkpoint."""
        self._last_id = ""

    async def entry(self, entry: StoredEntry) -> None:
        """Take the next entry."""
        if not self._begun:
            self._begun = True
            await self._advance()
        expected = self._edge.size + len(self._hashes)
        if entry.seq != expected:
            raise DamagedLogError(f"entry {expected}", "the entry is missing", "该条记录缺失")
        digest = _check_entry(entry)
        if digest and entry.salt:
            await self._check_evidence(entry, entry.salt, digest)
        self._hashes.append(entry.leaf_hash)
        self._last_id = entry.exchange_id
        done = entry.seq + 1
        if not done % WIDTH or (self._next is not None and done == self._next.size):
            await self._extend()

    async def end(self, root: bytes) -> LogSummary:
        """After the last entry: what was expected and did not come, and what is there and should not be."""
        if not self._begun:
            await self._advance()
        await self._extend()
        edge = self._edge
        if edge.size != self._size:
            raise DamagedLogError(f"entry {edge.size}", "the entry is missing", "该条记录缺失")
        # The log may grow: what lies beyond its end is looked at before the end is.
        beyond = await self._reader.entry_at(self._size)
        last_tiles = await self._reader.last_tiles()
        grown, _ = await self._reader.size()
        if beyond and grown == self._size:
            raise DamagedLogError(f"entry {self._size}", "it lies beyond the size of the log", "超出日志长度")
        if edge.root != root:
            if self._signed_size == edge.size:
                raise DamagedLogError("state", "the stored root is not that of the entries", "存储的根哈希与记录不符")
            raise self._between(edge.size, "the entries do not lead to the stored root", "记录与存储的根哈希不符")
        if self._next is not None and self._next.size > grown:
            raise DamagedLogError(
                f"entry {grown}",
                f"a checkpoint of {self._next.size} entries was signed, the log ends here: entries were removed",
                f"已签署 {self._next.size} 条记录的检查点，而日志到此为止：记录被删除",
            )
        for level, number in last_tiles.items():
            if number >= grown >> (8 * (level + 1)):
                raise DamagedLogError(f"tile {level}/{number}", "it lies beyond the log", "超出日志长度")
        if (doubled := await self._reader.doubled()) is not None:
            raise DamagedLogError(f"exchange {doubled}", "it has two records", "存在两条记录", doubled)
        return LogSummary(edge.size, edge.root, self._tiles, self._checked, self._signed_size)

    async def held(self, checkpoint: Checkpoint) -> None:
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

    async def _check_evidence(self, entry: StoredEntry, salt: bytes, digest: str) -> None:
        evidence = await self._reader.evidence(entry.exchange_id)
        if evidence is None and await self._reader.entry_at(entry.seq) != entry:
            return  # its salt was erased while it was looked at
        if evidence is None or evidence_digest(salt, evidence) != digest:
            raise DamagedLogError(
                f"entry {entry.seq}",
                "the caller's signature beside it, or its salt, is missing or was changed",
                "旁存的调用方签名或盐值缺失或被改动",
                entry.exchange_id,
            )

    async def _extend(self) -> None:
        """Append the hashes that were taken, and compare the tiles and the checkpoint that they complete."""
        self._edge, tiles = self._edge.extended(self._hashes)
        self._hashes = []
        for tile in tiles:
            await self._check_tile(tile)
        if self._next is not None and self._next.size == self._edge.size:
            self._check_checkpoint(self._next)
            await self._advance()

    async def _advance(self) -> None:
        self._next = await anext(self._checkpoints, None)
        if self._next is not None and self._next.size == 0:
            self._check_checkpoint(self._next)
            self._next = await anext(self._checkpoints, None)

    def _check_checkpoint(self, stored: SignedSize) -> None:
        where = f"checkpoint {stored.size}"
        try:
            signed = open_checkpoint(stored.note, self._verifiers)
        except NoteError as error:
            raise DamagedLogError(where, str(error), "签名无效或格式不正确") from error
        if (signed.size, signed.root) != (stored.size, stored.root):
            raise DamagedLogError(where, "its columns differ from the signed note", "字段与签名内容不符")
        if signed.root != self._edge.root:
            raise self._between(
                stored.size,
                f"the entries are not those of the checkpoint signed at {stored.size}",
                f"记录与在 {stored.size} 条处签署的检查点不符",
            )
        self._checked += 1
        self._signed_size = stored.size

    def _between(self, size: int, problem: str, problem_zh: str) -> DamagedLogError:
        first, last = self._signed_size, size - 1
        where = f"entry {first}" if first == last else f"entries {first} to {last}"
        return DamagedLogError(where, problem, problem_zh, self._last_id if first == last else "")

    async def _check_tile(self, tile: Tile) -> None:
        stored = await self._stored_tile(tile.level, tile.number)
        where = f"tile {tile.level}/{tile.number}"
        self._tiles += 1
        if stored is None:
            raise DamagedLogError(where, "the tile is missing", "该数据块缺失")
        if stored.hashes == tile.hashes and stored.root == tile.root:
            return
        own_root = root_of([stored.hashes[at : at + 32] for at in range(0, len(stored.hashes), 32)])
        if tile.level or own_root != stored.root or len(stored.hashes) != len(tile.hashes):
            raise DamagedLogError(where, "the tile is not that of the entries", "数据块与记录不符")
        slot = next(
            at for at in range(WIDTH) if stored.hashes[32 * at : 32 * at + 32] != tile.hashes[32 * at : 32 * at + 32]
        )
        seq = tile.number * WIDTH + slot
        entry = await self._reader.entry_at(seq)
        raise DamagedLogError(
            f"entry {seq}",
            "it is not the one that its tile was made from: record and hash were changed together",
            "与生成数据块时的记录不符：记录及其哈希被一并改动",
            entry.exchange_id if entry else "",
        )

    async def _stored_tile(self, level: int, number: int) -> Tile | None:
        ahead = self._stored.setdefault(level, {})
        if number not in ahead:
            ahead.clear()
            ahead.update(await self._reader.stored_tiles(level, number, _TILES_AHEAD))
        return ahead.pop(number, None)


def _check_entry(entry: StoredEntry) -> str:
    """The digest of the caller's signature, or nothing, if a row says what its record says, which has one reading.

    Raises:
        DamagedLogError: It does not.
    """
    digest = ""
    problem = None
    if hash_leaf(entry.leaf) != entry.leaf_hash:
        problem = "its bytes do not have its hash: it was changed", "内容与哈希不符：记录被改动"
    elif is_change(entry.leaf):
        problem = _fault_of_change(entry)
    else:
        try:
            record = _decode(entry.leaf)
        except msgspec.MsgspecError:
            problem = "it is not a record", "不是有效的记录"
        else:
            if _encode(record) != entry.leaf:
                problem = "it is not in canonical form", "不是规范格式"
            elif not _columns_agree(entry, record):
                problem = _COLUMNS_DIFFER
            else:
                query = record["query"]
                digest = str(query.get("signature_digest", "")) if isinstance(query, dict) else ""
    if problem:
        raise DamagedLogError(f"entry {entry.seq}", *problem, entry.exchange_id)
    return digest


def _fault_of_change(entry: StoredEntry) -> tuple[str, str] | None:
    """What is wrong with the record of a change or with what stands beside it, English and Chinese."""
    try:
        change, recorded_at = read_change(entry.leaf)
    except ValueError as error:
        return f"it is not a record of a change: {error}", "不是有效的变更记录"
    beside = (entry.exchange_id, entry.outcome, entry.rule, entry.at_ms, entry.client, entry.service)
    says = (change.id, CHANGE, change.action, parse_rfc3339(recorded_at), "", change.target)
    return None if beside == says else _COLUMNS_DIFFER


def _columns_agree(entry: StoredEntry, record: dict[str, _Scalar | dict[str, _Scalar | list[str]]]) -> bool:
    query, ended_at = record.get("query"), record.get("ended_at")
    if not isinstance(query, dict) or not isinstance(ended_at, str):
        return False
    try:
        at_ms = parse_rfc3339(ended_at)
    except ValueError:
        return False
    return (entry.exchange_id, entry.outcome, entry.rule, entry.at_ms, entry.client, entry.service) == (
        record.get("id"),
        record.get("outcome"),
        record.get("rule"),
        at_ms,
        query.get("client", ""),
        query.get("service", ""),
    )
