"""The exchange log as a gateway uses it: append a record, intend, ask for a checkpoint, settle what a crash left open.

Rules:
1. A process of its own writes (`exchange.log.writer`), so that a slow disk does not stall the gateway's event loop. What
   one turn of the loop appends travels in few frames (`exchange.turns`), and the answer comes when it is durable.
2. Fail closed: no writer, no answer in time, a database that refuses: every waiting caller gets LogUnavailableError.
3. An intent ends in exactly one terminal record. Those of an earlier life of this gateway, and those past their
   deadline that nobody here works on any more, become `unknown`: `recover` does it at start and from time to time,
   the same code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

import structlog
from msgspec import UNSET, Raw
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from exchange.errors import LogUnavailableError
from exchange.log.frames import AnnexKind, Start
from exchange.log.link import Pending, WriterLink
from exchange.log.log_event import LogEvent
from exchange.log.reader import LogReader, StoredIntent
from exchange.log.record import Record, record_bytes, salt_digest
from exchange.log.store_sqlite import create_file
from exchange.messages.envelope import EnvelopeError, read_query_statement
from exchange.moments import Rfc3339, parse_rfc3339
from exchange.storage.database import create_engine, database_url, sqlite_path, upgrade
from exchange.turns import MOST

_SWEEP_SECONDS = 5.0
_FORGOTTEN_MS = 600_000
"""An intent so long past its deadline is nobody's any more, even if this process seems to work on it."""

events = structlog.get_logger("datong.log")


class ExchangeLog:
    """The log of one gateway process; `start` makes one.

    Several may share a database and a key, each under a `gateway` name of its own.
    """

    def __init__(self, url: URL, start: Start, *, grace_ms: int, timeout: float) -> None:
        self._boot = start.boot
        self._gateway = start.gateway
        self._grace_ms = grace_ms
        self._loop = asyncio.get_running_loop()
        self._link = WriterLink(start, timeout=timeout, finished=self._on_finished)
        self._next = Pending()
        self._scheduled = False
        self._working_on: set[str] = set()
        """Exchanges with an intent of this process that it has not settled yet."""
        self._prolonged: dict[str, int] = {}
        """Those of them that may take longer than their intent says -> Unix ms."""
        self._certificates: set[str] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._time_text = Rfc3339()
        self._engine = create_engine(url)
        self.reader = LogReader(self._engine)
        """Reads the log, in this process."""

    @classmethod
    async def start(
        cls,
        *,
        database: str,
        log_key: Path,
        gateway: str,
        checkpoint_interval: float = 1.0,
        recovery_grace: float = 5.0,
        append_timeout: float = 5.0,
    ) -> ExchangeLog:
        """Bring the tables up to date, start the writer, settle what an earlier life left open.

        Args:
            database: URL as `exchange.storage.database.database_url` takes it.
            log_key: File with the note signer key. The writer keeps `<log_key>.signed` beside it.
            gateway: Name of this gateway process, unlike any other at the same log, and the same after a restart.
            append_timeout: Seconds after which a record that is not acknowledged is given up.

        Raises:
            CorruptLogError: The stored log contradicts itself or what was signed. It must be looked at.
            LogUnavailableError: The database or the key cannot be used; our events say why.
        """
        url = database_url(database)
        file = sqlite_path(url)
        if file:
            create_file(file)
        await upgrade(url, "exchange.migrations")
        start = Start(
            sqlite_path=str(file.absolute()) if file else "",
            postgresql={} if file else _asyncpg_arguments(url),
            log_key=str(log_key.absolute()),
            gateway=gateway,
            boot=os.urandom(8).hex(),
            checkpoint_interval=checkpoint_interval,
        )
        log = cls(url, start, grace_ms=int(recovery_grace * 1000), timeout=append_timeout)
        try:
            await log._link.open()
            await log.recover()
        except BaseException:
            await log.close()
            raise
        log._sweeping = asyncio.create_task(log._sweep())
        return log

    @property
    def ready(self) -> bool:
        """Whether a record appended now is expected to become durable."""
        return self._link.ready

    @property
    def writer_pid(self) -> int | None:
        """Process id of the writer, None while there is none."""
        return self._link.pid

    @property
    def vkey(self) -> str:
        """The public key of the log, for key lists."""
        return self._link.vkey

    def append(
        self,
        record: bytes,
        *,
        exchange_id: str,
        salt: bytes,
        at_ms: int,
        client: str,
        service: str,
        outcome: str,
        rule: str,
        settles_intent: bool,
        evidence: bytes = b"",
        alone: bool = False,
    ) -> asyncio.Future[int]:
        """The future number of the record in the log; done when the record would survive a power cut.

        `evidence`, the caller's own signature of the request, becomes durable together with it. `alone` says that no other
        record can follow within this turn of the event loop: then it is sent at once.

        The future raises LogUnavailableError if the record is not known to be durable, with the rule
        `one-record-per-exchange` if the exchange has its record already.
        """
        future: asyncio.Future[int] = self._loop.create_future()
        pending = self._next
        pending.entries.append((exchange_id, at_ms, client, service, outcome, rule, salt or None, record))
        pending.entry_futures.append(future)
        if evidence:
            pending.evidence.append((exchange_id, evidence))
        if settles_intent:
            pending.settled.append(exchange_id)
        if alone or len(pending.entries) >= MOST:
            self._send()
        else:
            self._schedule()
        return future

    def append_event(self, event: LogEvent) -> asyncio.Future[int]:
        """Append the record of an act on the log; as `append`. Raises ValueError if it is too long."""
        return self.append(
            event.leaf,
            exchange_id=event.id,
            salt=b"",
            at_ms=parse_rfc3339(event.at),
            client=event.by,
            service="",
            outcome=event.kind,
            rule=event.act,
            settles_intent=False,
        )

    def intend(
        self, exchange_id: str, *, deadline_ms: int, record: bytes, salt: bytes = b"", evidence: bytes = b""
    ) -> asyncio.Future[None]:
        """Done when it is durable that the query is about to be carried. `append` with `settles_intent` ends it.

        Args:
            deadline_ms: Unix time after which nobody waits for the answer.
            record: The query statement.
            evidence: The caller's own signature of the request, if there is one: then `append` need not bring it.
        """
        if evidence:
            self._next.evidence.append((exchange_id, evidence))
        self._next.intents.append((exchange_id, time.time_ns() // 1_000_000, deadline_ms, salt or None, record))
        self._working_on.add(exchange_id)
        return self._done()

    def prolong(self, exchange_id: str, deadline_ms: int) -> None:
        """Let an exchange of this process whose intent is durable take until `deadline_ms` (Unix); a crash still ends it."""
        self._prolonged[exchange_id] = deadline_ms

    def remember_certificate(self, fingerprint: str, der: bytes) -> None:
        """Keep a certificate that records name, for receipts. Call it for every record: repeated, it is a look-up.

        It becomes durable together with, or before, what is appended after it.
        """
        if fingerprint not in self._certificates:
            self._certificates.add(fingerprint)
            self._next.certificates.append((fingerprint, der))
            self._schedule()

    def attach(self, kind: AnnexKind, *row: str | int | bytes | None) -> asyncio.Future[None]:
        """Keep what others say of a checkpoint or a certificate; done when it is durable, or was there before.

        Args:
            kind: What it is.
            row: The values of its columns (`exchange.log.store.ANNEXES`).
        """
        self._next.annexes.append((kind, list(row)))
        return self._done()

    async def checkpoint(self) -> str:
        """A signed note that covers everything acknowledged so far; raises LogUnavailableError."""
        future: asyncio.Future[str] = self._loop.create_future()
        self._next.checkpoint_futures.append(future)
        self._schedule()
        return await future

    async def recover(self) -> int:
        """Settle intents that nobody works on any more; how many there were.

        Raises:
            LogUnavailableError: They could not be settled now. The next turn tries again.
        """
        now_ms = time.time_ns() // 1_000_000
        found = [intent for intent in await self.reader.intents(self._gateway) if self._orphaned(intent, now_ms)]
        await asyncio.gather(*[self._settle(intent, now_ms) for intent in found])
        if found:
            events.info("intents_settled", count=len(found), gateway=self._gateway)
        return len(found)

    async def close(self) -> None:
        """Wait for what was appended, end the writer, let go of the database."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        self._flush()
        await self._link.close()
        await self._engine.dispose()

    def _orphaned(self, intent: StoredIntent, now_ms: int) -> bool:
        if intent.boot != self._boot:
            return True
        grace_ms = _FORGOTTEN_MS if intent.exchange_id in self._working_on else self._grace_ms
        return now_ms > max(intent.deadline_ms, self._prolonged.get(intent.exchange_id, 0)) + grace_ms

    async def _settle(self, intent: StoredIntent, now_ms: int) -> None:
        """Give an intent its terminal record: whether the department acted cannot be known from here."""
        query, client, service = intent.record, "", ""
        try:
            statement = read_query_statement(query)
            client, service = statement.client, statement.service
        except EnvelopeError:
            # It still gets its record, with all that is certain about it.
            events.error("intent_unreadable", exchange_id=intent.exchange_id)
            query = b"{}"
        record = Record(
            duration_us=max(0, now_ms - intent.at_ms) * 1000,
            ended_at=self._time_text(now_ms),
            id=intent.exchange_id,
            outcome="unknown",
            query=Raw(query),
            rule="intent-unsettled",
            salt_digest=salt_digest(intent.salt) if intent.salt else UNSET,
            source="gateway",
            status=0,
        )
        try:
            await self.append(
                record_bytes(record),
                exchange_id=intent.exchange_id,
                salt=intent.salt or b"",
                at_ms=now_ms,
                client=client,
                service=service,
                outcome=record.outcome,
                rule=record.rule,
                settles_intent=True,
            )
        except LogUnavailableError as error:
            if error.rule != "one-record-per-exchange":
                raise
            # It has its record; only the intent was left behind.
            self._next.dropped.append(intent.exchange_id)
            await self._done()

    def _done(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._next.done_futures.append(future)
        self._schedule()
        return future

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._next:
            self._send()

    def _send(self) -> None:
        pending, self._next = self._next, Pending()
        self._link.send(pending)

    def _on_finished(self, pending: Pending, durable: bool) -> None:
        self._working_on.difference_update(pending.settled)
        for exchange_id in pending.settled if self._prolonged else ():
            self._prolonged.pop(exchange_id, None)
        if not durable:
            # Whether these intents are stored is not known. If so, nobody works on them: `recover` settles them.
            self._working_on.difference_update([intent[0] for intent in pending.intents])
            self._certificates.difference_update([fingerprint for fingerprint, _ in pending.certificates])

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            if self.ready:
                # Whoever noticed has told; the next turn tries again.
                with contextlib.suppress(LogUnavailableError, SQLAlchemyError, OSError):
                    await self.recover()


def _asyncpg_arguments(url: URL) -> dict[str, Any]:
    _, arguments = url.get_dialect()().create_connect_args(url)
    return dict(arguments)
