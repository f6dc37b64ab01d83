"""What is read of a log to archive it, beside what `exchange.log.reader` reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from exchange.archive.segment_checks import StoredCheckpoint
from exchange.log.reader import LogReader
from exchange.log.tables import certificates, checkpoints, cosignatures, entries, evidence, revocations, stamps
from exchange.storage.database import reading
from exchange.transparency.tiles import WIDTH

_CHUNK = 500
_COSIGNED_AHEAD = 64
"""Among so many cosignatures beyond the end of a segment, the checkpoint with most of them is looked for."""


class ArchiveSource:
    """Reads one log for its archive."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.log = LogReader(engine)

    async def covers(self, end: int) -> list[int]:
        """Sizes of the checkpoints to keep with the first `end` entries, in order; empty if none covers them.

        The first that covers them, the one that most witnesses have cosigned, and the first that an authority has stamped.
        """
        first = await self.log.checkpoints_from(end, 1)
        counts: dict[int, int] = defaultdict(int)
        for size, _ in await self.log.cosigned_from(end, _COSIGNED_AHEAD):
            counts[size] += 1
        stamped = await self.log.stamped_from(end, 1)
        best = sorted(counts, key=lambda size: (-counts[size], size))[:1]
        return sorted({*[one.size for one in first], *best, *[size for size, _ in stamped]}) if first else []

    async def archivable(self, end: int | None, until_ms: int | None, *, tail: bool) -> int:
        """Where the last segment may end: at the end of the last whole tile that a signed checkpoint covers, or with it.

        Args:
            end: No further than this, if given.
            until_ms: No further than the first entry at or after this instant, if given.
            tail: Up to the newest checkpoint, whatever its size.
        """
        newest = await self.log.latest_checkpoint()
        bounds = [newest.size if newest is not None else 0]
        if end is not None:
            bounds.append(end)
        if until_ms is not None:
            bounds.append(await self.log.first_at(until_ms))
        return bounds[0] if tail and min(bounds) == bounds[0] else min(bounds) // WIDTH * WIDTH

    async def checkpoints(self, first: int, last: int) -> AsyncIterator[StoredCheckpoint]:
        """The checkpoints of trees of `first` to `last` entries, in order, with what stands beside them."""
        while first <= last:
            query = sa.select(checkpoints).where(checkpoints.c.size >= first, checkpoints.c.size <= last)
            async with reading(self._engine) as connection:
                rows = (await connection.execute(query.order_by(checkpoints.c.size).limit(_CHUNK))).all()
                if not rows:
                    return
                between = rows[0].size, rows[-1].size
                lines = await _beside(connection, cosignatures, between, ("witness", "at_ms", "line"))
                tokens = await _beside(connection, stamps, between, ("authority", "at_ms", "token"))
            for row in rows:
                said = [tuple(lines.get(row.size, ())), tuple(tokens.get(row.size, ()))]
                yield StoredCheckpoint(row.size, bytes(row.root), row.note, *said)
            first = rows[-1].size + 1

    async def evidence(self, first: int, end: int) -> dict[int, bytes]:
        """Number of an entry -> the caller's own signature, for the entries [first, end) that have one."""
        query = sa.select(entries.c.seq, sa.cast(evidence.c.evidence, sa.LargeBinary).label("evidence"))
        query = query.join(evidence, evidence.c.exchange_id == entries.c.exchange_id)
        async with reading(self._engine) as connection:
            rows = await connection.execute(query.where(entries.c.seq >= first, entries.c.seq < end))
            return {row.seq: row.evidence for row in rows}

    async def certificates(self) -> dict[str, tuple[int, bytes]]:
        """Fingerprint -> unix ms at which it was first seen, and DER; few, since each stands there once."""
        async with reading(self._engine) as connection:
            rows = await connection.execute(sa.select(certificates))
            return {row.fingerprint: (row.first_seen_ms, row.der) for row in rows}

    async def revocations(self, about: Collection[str], since_ms: int, until_ms: int) -> list[dict[str, Any]]:
        """Rows of the news about issuers and certificates that held at some time in a range; without the news itself."""
        columns = [column for column in revocations.c if column.name != "der"]
        held = sa.or_(revocations.c.next_update_ms.is_(None), revocations.c.next_update_ms >= since_ms)
        found: list[dict[str, Any]] = []
        names = sorted(about)
        for at in range(0, len(names), _CHUNK):
            query = sa.select(*columns).where(held, revocations.c.this_update_ms <= until_ms)
            query = query.where(revocations.c.about.in_(names[at : at + _CHUNK])).order_by(revocations.c.digest)
            async with reading(self._engine) as connection:
                found += [dict(row) for row in (await connection.execute(query)).mappings()]
        return found

    async def revocation(self, digest: str) -> bytes:
        """The news itself, DER."""
        async with reading(self._engine) as connection:
            der = await connection.execute(sa.select(revocations.c.der).where(revocations.c.digest == digest))
            return bytes(der.scalar_one())


async def _beside(
    connection: Any, table: sa.Table, between: tuple[int, int], columns: Sequence[str]
) -> dict[int, list[tuple[Any, ...]]]:
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    query = sa.select(table.c.size, *[table.c[name] for name in columns])
    query = query.where(table.c.size.between(*between)).order_by(table.c.size, table.c[columns[0]])
    for size, *rest in await connection.execute(query):
        found[size].append(tuple(rest))
    return found
