"""The management API over a log of chosen records, in this process: real log, registry, keys of subjects and search.

Who calls is said in a header here; how a certificate proves it is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import httpx
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from ca_auth import Principal, fingerprint_of
from exchange import (
    CallerFacts,
    ExchangeLog,
    LogEvent,
    LogSearch,
    NoteSigner,
    SubjectKeys,
    SubsystemId,
    UnauthenticatedError,
    is_event,
    member_of,
    read_event,
)
from exchange.log.record import read_record, record_bytes
from gateway.api.management import management_api
from gateway.change_recorder import ChangeRecorder
from gateway.vouching import Vouching
from registry import Registry, RegistryMirror, Subsystem
from tests.exchange.log_kit import Attempt, attempt
from tests.registry.example import AUDIT, EXAMPLE_SEED, HOUSING, TAX

OPERATOR: Final = SubsystemId("CN/GOV/11990000000001011Q/operator")
SUBJECT_KEY: Final = b"k" * 32
PUBLIC_URL: Final = "https://gateway.example"
PARTIES: Final = {"auditor": AUDIT, "operator": OPERATOR, "owner": TAX, "caller": HOUSING}
CLERK: Final = "张三"


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class AuditDesk:
    """Where a test stands."""

    folder: Path
    log: ExchangeLog
    registry: Registry
    subjects: SubjectKeys
    search: Any
    app: Any
    gateway: SimpleNamespace
    client: httpx.AsyncClient
    records: list[dict[str, Any]] = field(default_factory=list)
    """What stands on the log of exchanges, oldest first."""

    async def get(
        self, path: str, *, party: str | None = "auditor", official: str = CLERK, **headers: str
    ) -> httpx.Response:
        return await self.call("GET", path, party=party, official=official, **headers)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        party: str | None = "auditor",
        official: str = CLERK,
        **headers: str,
    ) -> httpx.Response:
        """One call as a party, by a person."""
        sent = {"x-test-party": party or "", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if official:
            sent["x-road-userid"] = "".join(f"%{byte:02X}" for byte in official.encode())
        return await self.client.request(method, path, headers=sent, json=body)

    async def accesses(self) -> list[LogEvent]:
        """What was recorded of looks at the record, oldest first."""
        return [read_event(entry.leaf) async for entry in self.log.reader.iter_entries() if is_event(entry.leaf)]

    async def add(self, *attempts: Attempt) -> None:
        """Put exchanges on the log."""
        await asyncio.gather(*(each.append_to(self.log) for each in attempts))
        self.records += [json.loads(each.record) for each in attempts]


def exchange(number: int = 0, *, query: Mapping[str, Any] | None = None, **changes: Any) -> Attempt:
    """An exchange with some members of its record, and of the query in it, chosen."""
    made = attempt(number, at_ms=changes.pop("at_ms", 0))
    record = read_record(made.record)
    statement = {**json.loads(bytes(record.query)), **(query or {})}
    if changes.get("outcome", "answered") != "answered":
        changes = {"answer": msgspec.UNSET, "answer_seal": msgspec.UNSET, **changes}
    record = msgspec.structs.replace(
        record, query=msgspec.Raw(json.dumps(statement, ensure_ascii=False, separators=(",", ":")).encode()), **changes
    )
    return replace(
        made,
        record=record_bytes(record),
        client=statement["client"],
        service=statement["service"],
        outcome=record.outcome,
        rule=record.rule,
    )


@asynccontextmanager
async def audit_desk(folder: Path, attempts: Iterable[Attempt] = ()) -> AsyncIterator[AuditDesk]:
    """The API, with some exchanges on its log."""
    (folder / "log.key").write_text(NoteSigner.generate("log.example/test").skey)
    registry = await Registry.open(f"sqlite:///{folder / 'registry.db'}")
    await registry.seed(EXAMPLE_SEED)
    await _appoint(registry)
    mirror = RegistryMirror(registry, poll_seconds=0.05, max_age_seconds=60)
    await mirror.start()
    database = f"sqlite:///{folder / 'log.db'}"
    log = await ExchangeLog.start(database=database, log_key=folder / "log.key", gateway="gateway-1")
    recorder = ChangeRecorder(registry, mirror, log)
    await recorder.start()
    subjects = await SubjectKeys.open(f"sqlite:///{folder / 'subjects.db'}", SUBJECT_KEY)
    search = await LogSearch.open(database)
    gateway = SimpleNamespace(
        authenticator=_Authenticator(),
        registry=mirror,
        database=registry,
        log=log,
        recorder=recorder,
        subjects=subjects,
        search=search,
        vouching=Vouching(log, None, None),
        public_url=PUBLIC_URL,
    )

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        api.state.gateway = gateway
        yield

    api = management_api(lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        await api({**scope, "state": {"party": headers.get(b"x-test-party", b"").decode()}}, receive, send)

    async with (
        _started(api),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC_URL, timeout=20) as client,
    ):
        desk = AuditDesk(
            folder=folder,
            log=log,
            registry=registry,
            subjects=subjects,
            search=search,
            app=app,
            gateway=gateway,
            client=client,
        )
        await desk.add(*attempts)
        try:
            yield desk
        finally:
            for stop in (search.close, subjects.close, recorder.stop, log.close, mirror.stop, registry.close):
                await stop()


class _Authenticator:
    """Takes the word of the test's header."""

    def known(self, state: Mapping[str, Any], now: float) -> Principal | None:
        name = state["party"]
        return principal(name) if name else None

    async def caller(self, state: Mapping[str, Any], now: float) -> Principal:
        raise UnauthenticatedError(problem="No certificate.", problem_zh="没有证书。")

    def check_pin(self, subsystem: SubsystemId, fingerprint: str) -> None:
        pass


@cache
def principal(party: str) -> Principal:
    """Who calls as a party, with a certificate that can stand in a receipt."""
    subsystem, der = PARTIES[party], _certificate(party)
    return Principal(
        member=member_of(subsystem),
        subsystem=subsystem,
        kind="machine",
        person=None,
        profile="test",
        fingerprint=fingerprint_of(der),
        serial_number="01",
        issuer="CN=test",
        facts=CallerFacts(),
        not_before=0,
        not_after=4e9,
        der=der,
    )


def _certificate(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    began = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(named, named, key.public_key(), 1, began, began + timedelta(days=3650))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


async def _appoint(registry: Registry) -> None:
    async with registry.change(by="test", why="test") as change:
        await change.add_subsystem(Subsystem(id=OPERATOR, name="operator", roles=("operator",)))
        await change.add_subsystem(Subsystem(id=AUDIT, name="audit", roles=("auditor",)), replace=True)


@asynccontextmanager
async def _started(api: Any) -> AsyncIterator[None]:
    """The lifespan, which a transport within the process does not run."""
    received: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    sent: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.create_task(api({"type": "lifespan", "state": {}}, received.get, sent.put))
    await received.put({"type": "lifespan.startup"})
    assert (await sent.get())["type"] == "lifespan.startup.complete"
    yield
    await received.put({"type": "lifespan.shutdown"})
    await running
