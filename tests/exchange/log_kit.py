"""What tests of the log share: records as a gateway writes them, logs with a key, a check of everything stored."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from msgspec import UNSET, Raw

from exchange.audit.log_check import LogSummary, check_log
from exchange.log.change_record import ChangeRecord
from exchange.log.frames import Frame
from exchange.log.log import ExchangeLog, _asyncpg_arguments
from exchange.log.reader import LogReader
from exchange.log.record import Outcome, Record, record_bytes, salt_digest
from exchange.log.store import LogStore
from exchange.log.store_postgresql import PostgresqlStore
from exchange.log.store_sqlite import SqliteStore, create_file
from exchange.log.writer import LastSigned, LogWriter
from exchange.messages.envelope import AnswerStatement, QueryStatement, statement_bytes
from exchange.moments import Entropy, Rfc3339, uuid7
from exchange.storage.database import create_engine, database_url, sqlite_path, upgrade
from exchange.transparency.checkpoint import NoteSigner, NoteVerifier

ORIGIN = "log.example/test"
CLIENTS = [f"CN/GOV/MEMBER{number}/housing" for number in range(7)]
SERVICES = [f"CN/GOV/OWNER{number}/tax/enterprises" for number in range(3)]

SALT = b"s" * 16

_entropy = Entropy()
_time_text = Rfc3339()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def query_statement(exchange_id: str, number: int = 0, at_ms: int = 0, **changes: Any) -> QueryStatement:
    asked_at = _time_text(at_ms or now_ms())
    fields: dict[str, Any] = {
        "asked_at": asked_at,
        "case": f"案{number}",
        "certificate": hashlib.sha256(b"caller").hexdigest(),
        "channel": "hall",
        "client": CLIENTS[number % len(CLIENTS)],
        "deadline": asked_at,
        "gateway": hashlib.sha256(b"gateway").hexdigest(),
        "grant": "g1@1",
        "id": exchange_id,
        "message_id": exchange_id,
        "method": "GET",
        "path_template": "/enterprises/{uscc}",
        "purpose": "public-rental-housing",
        "represented": "",
        "request_digest": hashlib.sha256(b"request").hexdigest(),
        "request_size": 0,
        "safe": True,
        "service": SERVICES[number % len(SERVICES)],
        "subject": "",
        "user": "official",
    }
    return QueryStatement(**{**fields, **changes})


@dataclass(frozen=True, slots=True)
class Attempt:
    """A record and everything that `ExchangeLog.append` wants beside it."""

    record: bytes
    exchange_id: str
    at_ms: int
    client: str
    service: str
    outcome: Outcome | Literal["change", "access", "retention"]
    rule: str
    salt: bytes = SALT

    @property
    def row(self) -> tuple[str, int, str, str, str, str, bytes | None, bytes]:
        return (
            self.exchange_id,
            self.at_ms,
            self.client,
            self.service,
            self.outcome,
            self.rule,
            self.salt or None,
            self.record,
        )

    def append_to(self, log: ExchangeLog, *, settles_intent: bool = False) -> asyncio.Future[int]:
        return log.append(
            self.record,
            exchange_id=self.exchange_id,
            salt=self.salt,
            at_ms=self.at_ms,
            client=self.client,
            service=self.service,
            outcome=self.outcome,
            rule=self.rule,
            settles_intent=settles_intent,
        )


def new_id(at_ms: int = 0) -> str:
    return uuid7(at_ms or now_ms(), _entropy)


def attempt(
    number: int = 0, *, exchange_id: str = "", at_ms: int = 0, outcome: Outcome = "answered", rule: str = ""
) -> Attempt:
    """A record of an exchange, by default answered."""
    at_ms = at_ms or now_ms()
    exchange_id = exchange_id or new_id(at_ms)
    asked = query_statement(exchange_id, number, at_ms)
    said = AnswerStatement(
        adapter=hashlib.sha256(b"adapter").hexdigest(),
        answered_at=_time_text(at_ms),
        body_digest=hashlib.sha256(b"body").hexdigest(),
        body_size=4,
        error="",
        headers_digest=hashlib.sha256(b"headers").hexdigest(),
        id=exchange_id,
        masked=("phone",) if number % 3 == 0 else UNSET,
        withheld=("address", "称谓") if number % 3 == 0 else UNSET,
        query_digest=hashlib.sha256(statement_bytes(asked)).hexdigest(),
        status=200,
    )
    answered = outcome == "answered"
    record = Record(
        answer=Raw(statement_bytes(said)) if answered else UNSET,
        answer_seal="c2VhbA==" if answered else UNSET,
        duration_us=1234,
        ended_at=_time_text(at_ms),
        id=exchange_id,
        outcome=outcome,
        query=Raw(statement_bytes(asked)),
        query_seal="c2VhbA==" if answered else UNSET,
        rule=rule,
        salt_digest=salt_digest(SALT),
        status=200 if answered else 403,
    )
    return Attempt(record_bytes(record), exchange_id, at_ms, asked.client, asked.service, outcome, rule)


def change_record(version: int = 1, **changes: Any) -> ChangeRecord:
    """A change of a registry, by default one that somebody made at the machine itself."""
    fields: dict[str, Any] = {
        "registry": "6a1f7a0e-0000-4000-8000-000000000001",
        "version": version,
        "at": datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC),
        "by": "张三",
        "certificate": "",
        "why": "批复〔2026〕7号",
        "action": "grant.revoke",
        "target": f"g{version}",
        "before": {"id": f"g{version}", "purposes": ["a", "b"], "revoked_at": None, "state": "active"},
        "after": {"id": f"g{version}", "purposes": ["a", "b"], "revoked_at": "2026-05-04", "state": "revoked"},
    }
    return ChangeRecord.of(**{**fields, **changes})


def change_attempt(change: ChangeRecord, at_ms: int = 0) -> Attempt:
    """A change as it is appended to a log."""
    at_ms = at_ms or now_ms()
    exchange_id, record = change.entry(_time_text(at_ms))
    return Attempt(record, exchange_id, at_ms, "", change.target, "change", change.action, b"")


@dataclass
class Place:
    """Where a log is kept: its database, its key, and the logs opened there."""

    database: str
    folder: Path
    signer: NoteSigner = field(default_factory=lambda: NoteSigner.generate(ORIGIN))

    def __post_init__(self) -> None:
        self.log_key.write_text(self.signer.skey)

    @property
    def log_key(self) -> Path:
        return self.folder / "log.key"

    @property
    def verifiers(self) -> Sequence[NoteVerifier]:
        return [self.signer.verifier]

    @asynccontextmanager
    async def log(self, gateway: str = "gateway-1", **settings: Any) -> AsyncIterator[ExchangeLog]:
        """An open log. It is closed with the block."""
        log = await self.start(gateway, **settings)
        try:
            yield log
        finally:
            await log.close()

    async def start(self, gateway: str = "gateway-1", **settings: Any) -> ExchangeLog:
        return await ExchangeLog.start(database=self.database, log_key=self.log_key, gateway=gateway, **settings)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[LogReader]:
        engine = create_engine(self.database)
        try:
            yield LogReader(engine)
        finally:
            await engine.dispose()

    async def fill(
        self,
        size: int,
        signed: Sequence[int],
        *,
        extra: Sequence[Attempt] = (),
        certificates: Sequence[bytes] = (),
        made: Callable[[int], Attempt] = attempt,
    ) -> None:
        """Write a log of `size` entries with checkpoints where `signed` says, without a process of its own.

        Args:
            made: Makes entry number n.
            extra: Written in the middle, beyond `size`; then all is signed.
            certificates: DER.
        """
        url = database_url(self.database)
        file = sqlite_path(url)
        if file:
            create_file(file)
        await upgrade(url, "exchange.migrations")
        store: LogStore = SqliteStore(file) if file else PostgresqlStore(_asyncpg_arguments(url))
        writer = LogWriter(store, self.signer, LastSigned(self.log_key), "gateway-1", "boot")
        named = [(hashlib.sha256(der).hexdigest(), der) for der in certificates]
        start = 0
        for end in sorted({*signed, size}):
            rows = [made(number).row for number in range(start, end)]
            await writer.write([Frame(entries=rows, certificates=[] if start else named)])
            if end in signed:
                await writer.checkpoint()
            start = end
        if extra:
            await writer.write([Frame(entries=[one.row for one in extra], certificates=named)])
            await writer.write([Frame(entries=[attempt(number).row for number in range(size)])])
            await writer.checkpoint()
        await store.close()

    async def check(self) -> LogSummary:
        """Derive all that is stored again; raises DamagedLogError."""
        async with self.reader() as reader:
            return await check_log(reader, self.verifiers)

    async def stored_ids(self) -> list[str]:
        async with self.reader() as reader:
            return [entry.exchange_id async for entry in reader.iter_entries()]


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Return when `condition` (a function, or one that gives an awaitable) holds."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)
