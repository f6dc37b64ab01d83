"""Quotas of grants: never more calls than allowed, whatever gateway they came to, and no call forgotten by a crash.

Rules:
1. A call counts only when that is on disk, and only a call that counts is carried out.
2. Fail closed: what cannot be counted in time is refused, with 503. While the database is silent, at once.
3. All calls that wait while a transaction is on its way go into the next one, of all grants together.
4. A refused call costs nothing. A call that is accepted has used its quota, whatever becomes of it later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from exchange import DatabaseFailedError, GroupCommit, SqliteWriter, open_writer
from registry.quotas.counting import SECOND, Counts, QuotaState, Verdict
from registry.quotas.quota_refusals import QuotaExceededError, QuotasUnavailableError
from registry.quotas.quota_tables import PostgresqlQuotaTable, QuotaTable, SqliteQuotaTable

_CLEAR_EVERY: Final = 600.0
"""Seconds between two removals of counts that are over."""

events = structlog.get_logger("datong.quotas")


@dataclass(frozen=True, slots=True)
class _Ask:
    grant: str
    per_second: int
    per_day: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """When this process first saw a grant's newest call, of a grant for which the clock was set back."""

    accepted: int
    newest: int
    since: float


class QuotaUsage:
    """What calls have used under one grant, read without using any of it."""

    def __init__(self, counts: Counts, clock: int) -> None:
        counts.settle(clock, max(clock, counts.newest))
        self._counts = counts
        self._clock = clock

    @property
    def used_today(self) -> int:
        """Calls accepted since midnight in China."""
        return self._counts.used

    def state(self, *, per_second: int, per_day: int) -> QuotaState:
        """How quotas of this size stand."""
        return self._counts.state(per_second, per_day, self._clock)


class QuotaStore:
    """The counts of all grants, as one gateway process sees them; `open` makes one. Belongs to one event loop.

    Args:
        table: Where they are kept.
        timeout: Seconds in which a call has to be counted.
    """

    def __init__(self, table: QuotaTable, *, timeout: float = 2.0) -> None:
        self._table = table
        self._commits = GroupCommit(self._write, unavailable=QuotasUnavailableError, name="quotas", timeout=timeout)
        self._seen: dict[str, _Seen] = {}
        self._cleared_at = -_CLEAR_EVERY

    @classmethod
    async def open(cls, database: str, *, clock: Callable[[], float] = time.time, timeout: float = 2.0) -> QuotaStore:
        """Bring the tables at `database` (a URL as `exchange.database_url` accepts it) up to date and use them.

        Args:
            clock: Unix seconds; on PostgreSQL the server's clock counts instead.

        Raises:
            QuotasUnavailableError: The database cannot be reached or written; our events say why.
        """
        try:
            writer = await open_writer(database, "registry.quotas.migrations", "quotas")
        except DatabaseFailedError as error:
            events.error("quotas.open", error=str(error))
            raise QuotasUnavailableError from error
        if isinstance(writer, SqliteWriter):
            return cls(SqliteQuotaTable(writer, lambda: int(clock() * SECOND)), timeout=timeout)
        return cls(PostgresqlQuotaTable(writer), timeout=timeout)

    async def take(self, grant: str, *, per_second: int, per_day: int) -> QuotaState:
        """Count a call against the quotas of a grant; from then on it has used them.

        Args:
            per_second: Most calls in any one second, 0: any number; the same for `per_day`, midnight to midnight in China.

        Raises:
            QuotaExceededError: There is nothing left; the call used nothing.
            QuotasUnavailableError: It is not known to be on disk.
            ValueError: The grant has no quota: nothing is counted then.
        """
        if per_second <= 0 and per_day <= 0:
            raise ValueError("only calls under a quota are counted")
        verdict = await self._commits.submit(_Ask(grant, per_second, per_day))
        if verdict.refused:
            raise QuotaExceededError(grant, verdict)
        return verdict.state

    async def usage(self, grants: Iterable[str]) -> dict[str, QuotaUsage]:
        """What calls have used so far, for each of the grants; raises QuotasUnavailableError."""
        try:
            counts, clock = await self._table.read(list(dict.fromkeys(grants)))
        except DatabaseFailedError as error:
            events.error("quotas.read", error=str(error))
            raise QuotasUnavailableError from error
        return {grant: QuotaUsage(each, clock) for grant, each in counts.items()}

    async def close(self) -> None:
        """Wait for what is being counted, then let go of the database; what comes later is refused."""
        await self._commits.close()
        await self._table.close()

    async def _write(self, batch: list[_Ask]) -> list[Verdict]:
        """One transaction: accept or refuse each, in the order in which they came."""
        verdicts: list[Verdict] = []
        grants = list(dict.fromkeys(ask.grant for ask in batch))
        began = time.monotonic()
        stood: dict[str, Counts] = {}

        def decide(counts: dict[str, Counts], clock: int) -> Sequence[Counts]:
            verdicts.clear()  # should the transaction be tried again
            stood.clear()
            before = {grant: each.accepted for grant, each in counts.items()}
            times = {grant: self._time(each, clock, began) for grant, each in counts.items()}
            for ask in batch:
                verdicts.append(counts[ask.grant].ask(ask.per_second, ask.per_day, clock, times[ask.grant]))
            stood.update((grant, each) for grant, each in counts.items() if clock < each.newest)
            return [each for grant, each in counts.items() if each.accepted != before[grant]]

        clear = began - self._cleared_at > _CLEAR_EVERY
        await self._table.change(grants, decide, clear=clear)
        if clear:
            self._cleared_at = began
        self._see(grants, stood)
        return verdicts

    def _time(self, counts: Counts, clock: int, now: float) -> int:
        """Where time stands for a grant: at the clock, unless that is behind its newest call."""
        if clock >= counts.newest:
            return clock
        seen = self._seen.get(counts.grant)
        if seen is None or (seen.accepted, seen.newest) != (counts.accepted, counts.newest):
            return counts.newest
        # Since we first saw that call as the newest, so much time passed at least.
        return counts.newest + int((now - seen.since) * SECOND)

    def _see(self, grants: Sequence[str], stood: dict[str, Counts]) -> None:
        """Remember the grants for which the clock is behind, and since when their newest call is known."""
        now = time.monotonic()
        for grant in grants:
            counts = stood.get(grant)
            if counts is None:
                self._seen.pop(grant, None)
                continue
            seen = self._seen.get(grant)
            if seen is None or (seen.accepted, seen.newest) != (counts.accepted, counts.newest):
                self._seen[grant] = _Seen(counts.accepted, counts.newest, now)
