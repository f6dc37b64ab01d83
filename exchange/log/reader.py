"""Reading the exchange log: for auditors, receipts and checks. In the gateway or a command, never in the writer.

Rules:
1. What is looked for by more than its number or its exchange is looked for in the index (`exchange.search`), not here.
2. The time of an entry is its gateway's clock, so entries are in order of time only nearly. A search by time narrows
   the numbers by bisection, assuming clocks within five minutes of each other, and then compares exactly. Where an
   entry was removed, the next that is there stands for it.
3. Every read is short: a long one would keep SQLite from ever shortening its write-ahead log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from exchange.log.change_record import CHANGE
from exchange.log.log_event import KINDS
from exchange.log.store import SignedSize, first_hash
from exchange.log.tables import (
    certificates,
    checkpoints,
    cosignatures,
    entries,
    evidence,
    intents,
    removed,
    revocations,
    stamps,
    state,
    tiles,
)
from exchange.storage.database import reading
from exchange.transparency.tiles import WIDTH, Tile, Wanted, consistency_proof, inclusion_proof

CLOCKS_APART_MS = 300_000
Kind = Literal["exchange", "change", "access", "retention", "any"]
_CHUNK = 1000
# Spelled out, not a parameter: only then is the index used that holds these entries alone.
_IS_CHANGE = entries.c.outcome == sa.literal_column(f"'{CHANGE}'")
_IS_EVENT = entries.c.outcome.in_([sa.literal_column(f"'{kind}'") for kind in sorted(KINDS)])
_IS_EXCHANGE = entries.c.outcome.not_in([CHANGE, *sorted(KINDS)])

# SQLite lets anyone store a text where bytes belong: read as bytes, it is what a check can name, and no crash.
_ENTRY = [
    sa.cast(column, sa.LargeBinary).label(column.name) if isinstance(column.type, sa.LargeBinary) else column
    for column in entries.c
]

_TILE = [
    tiles.c.level,
    tiles.c.number,
    *[sa.cast(tiles.c[name], sa.LargeBinary).label(name) for name in ("root", "hashes")],
]

_STORED_TILE = """SELECT {part}, number, hashes FROM log_tiles
    WHERE number >= :first{part} AND number < :end{part} AND level = :level{part}"""
_ROOTS_BELOW = """SELECT {part}, number, root FROM log_tiles
    WHERE number >= :first{part} AND number < :end{part} AND level = :level{part}"""
# Entries may have been removed: when the tile that now holds these hashes is complete, it is asked, not the entries.
_LEAF_HASHES = """SELECT {part}, seq, leaf_hash FROM log_entries WHERE seq >= :first{part} AND seq < :end{part}
    AND NOT EXISTS (SELECT 1 FROM log_tiles WHERE level = 0 AND number = :number{part})"""
_LEAF_TILE = """SELECT {part}, number, hashes FROM log_tiles WHERE level = 0 AND number = :number{part}"""

_BISECT = sa.text(
    """
    WITH RECURSIVE search (low, high) AS (
        SELECT CAST(0 AS BIGINT), (SELECT size FROM log_state)
        UNION ALL
        SELECT CASE WHEN (SELECT at_ms FROM log_entries WHERE seq >= (low + high) / 2 ORDER BY seq LIMIT 1) < :at_ms
                    THEN (low + high) / 2 + 1 ELSE low END,
               CASE WHEN (SELECT at_ms FROM log_entries WHERE seq >= (low + high) / 2 ORDER BY seq LIMIT 1) < :at_ms
                    THEN high ELSE (low + high) / 2 END
        FROM search WHERE low < high
    )
    SELECT max(low) FROM search
    """
)


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One entry of the log, with the columns that stand beside its bytes for searching."""

    seq: int
    exchange_id: str
    at_ms: int
    client: str
    service: str
    outcome: str
    rule: str
    leaf_hash: bytes
    salt: bytes | None
    """None once it was erased."""
    leaf: bytes
    """The record's bytes."""


@dataclass(frozen=True, slots=True)
class StoredIntent:
    """A query that was about to be carried and has no record yet."""

    exchange_id: str
    gateway: str
    boot: str
    at_ms: int
    deadline_ms: int
    salt: bytes | None
    record: bytes


class StampTime(NamedTuple):
    """That an authority stamped the checkpoint of a size, and when, by its own clock."""

    size: int
    authority: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class StoredRevocation:
    """A CRL or an OCSP response that a gateway went by."""

    digest: str
    kind: Literal["crl", "ocsp"]
    about: str
    """Hex SHA-256 of the issuer's name (DER); for an OCSP response a colon and the serial number in hex follow."""
    this_update_ms: int
    next_update_ms: int | None
    der: bytes


@dataclass(frozen=True, slots=True)
class Removed:
    """Entries that were removed when their time was over. All of them lie in complete tiles, which stay."""

    first: int
    end: int
    """Exclusive."""
    seq: int
    """Number of the record that says so: a `LogEvent` of kind `retention` and act `segment.pruned`, whose details have
    `[first, end]` among `ranges`."""
    segment: str
    """Hex SHA-256 of the manifest of the archive segment that holds them; the record says it too, as `segment`."""


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, newest first, and where to go on; None if there are no more."""

    entries: tuple[StoredEntry, ...]
    next_cursor: str | None


class LogReader:
    """Reads one log. Any number of tasks may use it at once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @property
    def engine(self) -> AsyncEngine:
        """Where it reads; for those in this room who read more of the same log."""
        return self._engine

    async def size(self) -> tuple[int, bytes]:
        """Number of entries and root of the tree, as stored."""
        async with reading(self._engine) as connection:
            row = (await connection.execute(sa.select(state.c.size, state.c.root))).one()
        return row.size, row.root

    async def entry(self, exchange_id: str) -> StoredEntry | None:
        """The one record of an exchange."""
        async with reading(self._engine) as connection:
            row = (await connection.execute(sa.select(*_ENTRY).where(entries.c.exchange_id == exchange_id))).first()
        return StoredEntry(*row) if row else None

    async def numbers(self, exchange_ids: Sequence[str]) -> dict[str, int]:
        """Those of the ids, a thousand at most, that have their record, and its number."""
        query = sa.select(entries.c.exchange_id, entries.c.seq).where(entries.c.exchange_id.in_(exchange_ids))
        async with reading(self._engine) as connection:
            return {row[0]: row[1] for row in await connection.execute(query)}

    async def counts(self) -> tuple[int, int]:
        """How many exchanges and how many changes are on record; acts on the log are neither."""
        count = sa.select(sa.func.count()).select_from(entries)
        async with reading(self._engine) as connection:
            size = int((await connection.execute(sa.select(state.c.size))).scalar_one())
            changes = int((await connection.execute(count.where(_IS_CHANGE))).scalar_one())
            acts = int((await connection.execute(count.where(_IS_EVENT))).scalar_one())
        return size - changes - acts, changes

    async def entry_at(self, seq: int) -> StoredEntry | None:
        """The entry with a number."""
        async with reading(self._engine) as connection:
            row = (await connection.execute(sa.select(*_ENTRY).where(entries.c.seq == seq))).first()
        return StoredEntry(*row) if row else None

    async def entries_at(self, numbers: Sequence[int]) -> list[StoredEntry]:
        """Those of the entries with these numbers, a thousand at most, that are there; in any order."""
        async with reading(self._engine) as connection:
            rows = (await connection.execute(sa.select(*_ENTRY).where(entries.c.seq.in_(numbers)))).all()
        return [StoredEntry(*row) for row in rows]

    async def first_at(self, at_ms: int) -> int:
        """Number of the first entry at or after an instant, if entries were in order of time (rule 2)."""
        async with reading(self._engine) as connection:
            return int((await connection.execute(_BISECT, {"at_ms": at_ms})).scalar_one())

    async def iter_entries(
        self, first: int = 0, last: int | None = None, *, kind: Kind = "any"
    ) -> AsyncIterator[StoredEntry]:
        """Entries number `first` up to, not including, `last` in order; to the end if `last` is None."""
        while last is None or first < last:
            query = sa.select(*_ENTRY).where(entries.c.seq >= first).order_by(entries.c.seq).limit(_CHUNK)
            if kind != "any":
                query = query.where(_of_kind(kind))
            if last is not None:
                query = query.where(entries.c.seq < last)
            async with reading(self._engine) as connection:
                rows = (await connection.execute(query)).all()
            for row in rows:
                yield StoredEntry(*row)
            if len(rows) < _CHUNK:
                return
            first = rows[-1].seq + 1

    async def inclusion(self, seq: int, size: int) -> list[bytes]:
        """Inclusion proof of an entry in the tree of the first `size` entries; raises ProofError outside it."""
        return await inclusion_proof(self, seq, size)

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Proof that the log of `new_size` entries begins with that of `old_size`; raises ProofError."""
        return await consistency_proof(self, old_size, new_size)

    async def latest_checkpoint(self) -> SignedSize | None:
        """The stored checkpoint of the largest tree."""
        query = sa.select(checkpoints.c.size, checkpoints.c.root, checkpoints.c.note)
        async with reading(self._engine) as connection:
            row = (await connection.execute(query.order_by(checkpoints.c.size.desc()).limit(1))).first()
        return SignedSize(*row) if row else None

    async def checkpoints_from(self, size: int, limit: int) -> list[SignedSize]:
        """Stored checkpoints of trees of at least `size` entries, the smallest first."""
        query = sa.select(checkpoints.c.size, checkpoints.c.root, checkpoints.c.note)
        query = query.where(checkpoints.c.size >= size).order_by(checkpoints.c.size).limit(limit)
        async with reading(self._engine) as connection:
            return [SignedSize(*row) for row in (await connection.execute(query)).all()]

    async def cosignatures(self, size: int) -> dict[str, str]:
        """Name of a witness's key -> its signature line (with its newline) over the checkpoint of a size."""
        query = sa.select(cosignatures.c.witness, cosignatures.c.line).where(cosignatures.c.size == size)
        async with reading(self._engine) as connection:
            return {row.witness: row.line for row in await connection.execute(query)}

    async def cosigned_from(self, size: int, limit: int) -> list[tuple[int, str]]:
        """(size, witness) of cosignatures over trees of at least `size` entries, in order of size."""
        query = sa.select(cosignatures.c.size, cosignatures.c.witness).where(cosignatures.c.size >= size)
        query = query.order_by(cosignatures.c.size, cosignatures.c.witness).limit(limit)
        async with reading(self._engine) as connection:
            return [(row.size, row.witness) for row in await connection.execute(query)]

    async def next_cosigned(self, witnesses: Sequence[str], size: int) -> dict[str, int]:
        """Name of a witness's key -> the smallest tree of at least `size` entries that it has cosigned, where there is one."""
        found = {}
        async with reading(self._engine) as connection:
            for name in witnesses:
                query = sa.select(cosignatures.c.size).where(
                    cosignatures.c.size >= size, cosignatures.c.witness == name
                )
                row = (await connection.execute(query.order_by(cosignatures.c.size).limit(1))).first()
                if row is not None:
                    found[name] = int(row.size)
        return found

    async def stamps(self, size: int) -> dict[str, bytes]:
        """Name of an authority -> its RFC 3161 token (DER) over the text of the checkpoint of a size."""
        query = sa.select(stamps.c.authority, sa.cast(stamps.c.token, sa.LargeBinary).label("token"))
        async with reading(self._engine) as connection:
            return {row.authority: row.token for row in await connection.execute(query.where(stamps.c.size == size))}

    async def stamped_from(self, size: int, limit: int) -> list[tuple[int, str]]:
        """(size, authority) of stamps on checkpoints of at least `size` entries, in order of size."""
        query = sa.select(stamps.c.size, stamps.c.authority).where(stamps.c.size >= size)
        async with reading(self._engine) as connection:
            rows = await connection.execute(query.order_by(stamps.c.size, stamps.c.authority).limit(limit))
            return [(row.size, row.authority) for row in rows]

    async def stamp_times(
        self, *, above: int = -1, below: int | None = None, authority: str = "", limit: int
    ) -> list[StampTime]:
        """When stamps were made, on checkpoints of more than `above` and fewer than `below` entries, the largest first.

        Args:
            authority: Whose; empty: of all, by name where they stamped the same checkpoint.
        """
        columns = [stamps.c[name] for name in StampTime._fields]
        query = sa.select(*columns).where(stamps.c.size > above).limit(limit)
        if below is not None:
            query = query.where(stamps.c.size < below)
        if authority:
            query = query.where(stamps.c.authority == authority)
        async with reading(self._engine) as connection:
            rows = await connection.execute(query.order_by(stamps.c.size.desc(), stamps.c.authority))
            return [StampTime(*row) for row in rows]

    async def entered_at(self, first: int, end: int) -> int | None:
        """Time of the first entry that is there among those from number `first` up to, not including, `end`; unix ms."""
        query = sa.select(entries.c.at_ms).where(entries.c.seq >= first, entries.c.seq < end)
        async with reading(self._engine) as connection:
            return (await connection.execute(query.order_by(entries.c.seq).limit(1))).scalar()

    async def revocations(self, about: Sequence[str], *, at_ms: int, limit: int) -> list[StoredRevocation]:
        """News about issuers and certificates that held at an instant, the newest first."""
        columns = [revocations.c[name] for name in StoredRevocation.__slots__]
        query = sa.select(*columns).where(revocations.c.about.in_(about), revocations.c.this_update_ms <= at_ms)
        query = query.where(sa.or_(revocations.c.next_update_ms.is_(None), revocations.c.next_update_ms >= at_ms))
        async with reading(self._engine) as connection:
            rows = await connection.execute(query.order_by(revocations.c.this_update_ms.desc()).limit(limit))
            return [StoredRevocation(*row) for row in rows]

    async def removed(self, first: int = 0, end: int | None = None) -> list[Removed]:
        """Ranges of removed entries that touch [first, end), in order; to the end of the log if `end` is None."""
        query = sa.select(*[removed.c[name] for name in Removed.__slots__]).where(removed.c.end > first)
        # Ranges do not overlap: the last that begins by `first` is the first that can reach beyond it.
        below = sa.select(sa.func.max(removed.c.first)).where(removed.c.first <= first).scalar_subquery()
        query = query.where(removed.c.first >= sa.func.coalesce(below, 0)).order_by(removed.c.first)
        if end is not None:
            query = query.where(removed.c.first < end)
        async with reading(self._engine) as connection:
            return [Removed(*row) for row in await connection.execute(query)]

    async def iter_checkpoints(self) -> AsyncIterator[SignedSize]:
        """All checkpoints, by size."""
        after = -1
        while True:
            query = sa.select(checkpoints.c.size, checkpoints.c.root, checkpoints.c.note)
            query = query.where(checkpoints.c.size > after).order_by(checkpoints.c.size).limit(_CHUNK)
            async with reading(self._engine) as connection:
                rows = (await connection.execute(query)).all()
            for row in rows:
                yield SignedSize(*row)
            if len(rows) < _CHUNK:
                return
            after = rows[-1].size

    async def certificates_of(self, fingerprints: Sequence[str]) -> dict[str, bytes]:
        """Fingerprint -> DER of those certificates that are kept with the log."""
        query = sa.select(certificates.c.fingerprint, certificates.c.der)
        async with reading(self._engine) as connection:
            rows = await connection.execute(query.where(certificates.c.fingerprint.in_(fingerprints)))
            return {row.fingerprint: bytes(row.der) for row in rows}

    async def certificates(self) -> list[bytes]:
        """DER of all certificates that were seen; few, since each stands here once."""
        async with reading(self._engine) as connection:
            rows = (await connection.execute(sa.select(certificates.c.der))).all()
        return [row.der for row in rows]

    async def evidence(self, exchange_id: str) -> bytes | None:
        """The caller's own signature of an exchange; None if there was none, or it was erased with the salt."""
        query = sa.select(sa.cast(evidence.c.evidence, sa.LargeBinary)).where(evidence.c.exchange_id == exchange_id)
        async with reading(self._engine) as connection:
            return (await connection.execute(query)).scalar()

    async def intents(self, gateway: str | None = None) -> list[StoredIntent]:
        """Open intents, of one gateway or of all."""
        query = sa.select(*[intents.c[name] for name in StoredIntent.__slots__])
        if gateway is not None:
            query = query.where(intents.c.gateway == gateway)
        async with reading(self._engine) as connection:
            rows = (await connection.execute(query)).all()
        return [StoredIntent(*row) for row in rows]

    async def doubled(self) -> str | None:
        """An exchange with more than one record, if an index was removed to allow it."""
        query = sa.select(entries.c.exchange_id).group_by(entries.c.exchange_id).having(sa.func.count() > 1).limit(1)
        async with reading(self._engine) as connection:
            return (await connection.execute(query)).scalar()

    async def stored_tiles(self, level: int, first: int, count: int) -> dict[int, Tile]:
        """The complete tiles of a level with numbers from `first` on, `count` at most."""
        query = sa.select(*_TILE).where(tiles.c.level == level, tiles.c.number >= first, tiles.c.number < first + count)
        async with reading(self._engine) as connection:
            rows = (await connection.execute(query)).all()
        return {row.number: Tile(*row) for row in rows}

    async def last_tiles(self) -> dict[int, int]:
        """The number of the last complete tile of each level."""
        query = sa.select(tiles.c.level, sa.func.max(tiles.c.number)).group_by(tiles.c.level)
        async with reading(self._engine) as connection:
            return {row[0]: row[1] for row in await connection.execute(query)}

    async def tiles(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """Hashes of tiles, all in one read (`exchange.transparency.tiles.TileReader`). What it reads never changes."""
        if not wanted:
            return []
        selects: list[str] = []
        values: dict[str, int] = {}
        for part, tile in enumerate(wanted):
            first = first_hash(tile)
            if tile.width == WIDTH:
                select, bounds = _STORED_TILE, {"first": tile.number, "end": tile.number + 1, "level": tile.level}
            elif tile.level:
                select, bounds = _ROOTS_BELOW, {"first": first, "end": first + tile.width, "level": tile.level - 1}
            else:
                select, bounds = _LEAF_HASHES, {"first": first, "end": first + tile.width, "number": tile.number}
                selects.append(_LEAF_TILE.format(part=part))
            selects.append(select.format(part=part))
            values |= {f"{name}{part}": value for name, value in bounds.items()}
        async with self._engine.connect() as connection:
            rows = (await connection.execute(sa.text(" UNION ALL ".join(selects)), values)).all()
        parts: list[list[bytes]] = [[] for _ in wanted]
        for part, _, hashes in sorted([tuple(row) for row in rows]):
            parts[part].append(hashes)
        return [b"".join(part) for part in parts]


def _of_kind(kind: Kind) -> sa.ColumnElement[bool]:
    """Which entries are of a kind, as the column beside them says."""
    if kind == "exchange":
        return _IS_EXCHANGE
    return _IS_CHANGE if kind == CHANGE else entries.c.outcome == kind
