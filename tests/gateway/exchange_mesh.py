"""The mesh as a test uses it: callers, raw connections, and the record that every attempt leaves."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from xml.etree import ElementTree

import httpx

from ca_auth import IssuedCertificate, client_context
from deploy.supervisor import Child
from deploy.trial_mesh import CALLER, ECHO, PROVIDER, TrialMesh
from exchange import LogReader, ServiceId, SubsystemId
from tests.gateway.echo_backend import EchoBackend

WAIT = 20.0
"""Long enough for a busy machine; no test waits for it to pass."""


def service(code: str) -> ServiceId:
    """A service of the mesh's one provider."""
    return ServiceId(f"{PROVIDER}/{code}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller got, and the one record that it left."""

    response: httpx.Response
    record: dict[str, Any]

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def query(self) -> dict[str, Any]:
        """The statement of what was asked, as it stands in the record."""
        return cast("dict[str, Any]", self.record["query"])


class RawCaller:
    """A TLS connection on which a test writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, *, head_only: bool = False) -> httpx.Response:
        """The next response. `head_only` for one to HEAD. Interim responses come as they are."""
        async with asyncio.timeout(WAIT):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head[:-4].split(b"\r\n")
            headers = httpx.Headers([cast("tuple[bytes, bytes]", tuple(line.split(b": ", 1))) for line in lines])
            status = int(status_line.split(b" ")[1])
            assert "transfer-encoding" not in headers
            length = 0 if head_only or status < 200 else int(headers.get("content-length", "0"))
            # Not decoded: httpx would undo a content encoding.
            response = httpx.Response(status, headers=headers)
            response._content = await self._reader.readexactly(length)
            return response

    async def is_closed(self) -> bool:
        """Wait for the server to close; False if it sends something instead."""
        try:
            async with asyncio.timeout(WAIT):
                return await self._reader.read(1) == b""
        except (ConnectionError, ssl.SSLError):
            return True

    def abort(self) -> None:
        """Go away without a word."""
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(WAIT):
                await self._writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass  # the server closed first, in its way


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Mesh:
    """The mesh, and everything a test does with it. Every request a test makes is counted: each leaves one record."""

    trial: TrialMesh
    backend: EchoBackend
    log: LogReader
    certificates: dict[str, IssuedCertificate]
    recorded: int = 0
    clients: dict[tuple[str, str], httpx.AsyncClient] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.trial.url

    @property
    def gateway(self) -> Child:
        return self.trial.gateways[0]

    def context(self, party: str | None) -> ssl.SSLContext:
        """TLS as a party of the mesh; None shows no certificate."""
        if party is None:
            return client_context(self.trial.trust_anchors)
        issued = self.certificates.get(party)
        certificate, key = (issued.certificate, issued.key) if issued else self.trial.files(party)
        return client_context(self.trial.trust_anchors, certificate, key)

    def client(self, party: str | None = "caller", url: str | None = None) -> httpx.AsyncClient:
        """The client of a party, with its own kept connections."""
        key = (party or "", url or self.url)
        if key not in self.clients:
            self.clients[key] = httpx.AsyncClient(
                base_url=key[1], verify=self.context(party), timeout=WAIT, trust_env=False
            )
        return self.clients[key]

    @asynccontextmanager
    async def connect(self, party: str | None = "caller", url: str | None = None) -> AsyncIterator[RawCaller]:
        port = int((url or self.url).rpartition(":")[2])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=self.context(party), server_hostname="localhost", limit=1 << 20
        )
        caller = RawCaller(reader, writer)
        try:
            yield caller
        finally:
            await caller.close()

    async def ask(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        to: str | ServiceId = ECHO,
        party: str | None = "caller",
        headers: dict[str, str] | list[tuple[str, str]] | list[tuple[bytes, bytes]] | None = None,
        content: Any = None,
        client: SubsystemId | str | None = CALLER,
        url: str | None = None,
    ) -> Reply:
        """Make one request; return the answer with its record, having checked that there is one and that they agree."""
        target = f"/r1/{to if '/' in to else service(to)}{path}"
        every: list[Any] = [("X-Road-Client", client)] if client is not None else []
        every += headers.items() if isinstance(headers, dict) else headers or []
        response = await self.client(party, url).request(method, target, headers=every, content=content)
        self.recorded += 1
        record = await self.record(response.headers["x-road-request-id"])
        assert response.status_code == record["status"]
        return Reply(response, record)

    @asynccontextmanager
    async def one_record(self, count: int = 1) -> AsyncIterator[list[dict[str, Any]]]:
        """Inside the block one attempt is made (or `count`) without `ask`; afterwards the list holds what was recorded.

        A record is there before the answer is, so this waits for those only that nobody is told about.
        """
        first = self.recorded
        records: list[dict[str, Any]] = []
        yield records
        self.recorded += count
        async with asyncio.timeout(WAIT):
            while (await self.log.counts())[0] < self.recorded:
                await asyncio.sleep(0.01)
        # Changes of the registry are recorded among them, whenever the gateway gets to it.
        for entry in [entry async for entry in self.log.iter_entries(kind="exchange")][first:]:
            record = json.loads(entry.leaf)
            assert record["id"] == entry.exchange_id
            assert (record["outcome"], record["rule"]) == (entry.outcome, entry.rule)
            records.append(record)
        assert len(records) == self.recorded - first

    async def record(self, exchange_id: str) -> dict[str, Any]:
        entry = await self.log.entry(exchange_id)
        assert entry is not None
        return cast("dict[str, Any]", json.loads(entry.leaf))

    @contextmanager
    def answering(self, target: str, raw: bytes, *, once: bool = False) -> Iterator[None]:
        """The backend answers the target with these bytes, or only the first request for it, and they are used."""
        seen = self.backend.times_seen(target)
        self.backend.answers[target] = raw
        if once:
            self.backend.once.add(target)
        yield
        assert self.backend.times_seen(target) > seen, "the backend was not asked"
        self.backend.answers.pop(target, None)

    def secrets(self) -> list[str]:
        """What no caller may ever be told."""
        return [
            str(self.trial.folder),
            f"127.0.0.1:{self.backend.port}",
            f":{self.trial.nats.port}",
            *(
                "Traceback",
                ".py",
                "Error(",
                "exception",
                "sqlite",
                "SELECT",
                "nats",
                "dt.q.",
                "dt.i.",
                "_INBOX",
                "127.0.0.",
            ),
        ]

    def problem(self, reply: Reply, status: int, rule: str, *, source: str = "gateway") -> dict[str, Any]:
        """The problem a caller was told: complete, consistent with the record, and with nothing of ours in it."""
        assert (reply.status, reply.record["rule"], reply.record["source"]) == (status, rule, source)
        assert reply.record["outcome"] != "answered"
        return self.told(reply.response, status, rule, source=source, exchange_id=reply.record["id"])

    def told(
        self, response: httpx.Response, status: int, rule: str, *, source: str = "gateway", exchange_id: str = ""
    ) -> dict[str, Any]:
        """The same for a problem whose record stands elsewhere."""
        problem = cast("dict[str, Any]", response.json())
        assert response.headers["content-type"] == "application/problem+json"
        assert re.fullmatch(r"server\.(clientproxy|serverproxy)\.[a-z_]+", response.headers["x-road-error"])
        expected = {"type", "title", "status", "detail", "rule", "next", "source"} | (
            {"instance"} if exchange_id else set()
        )
        assert set(problem) == expected
        assert all(problem.values())
        assert (response.status_code, problem["status"], problem["rule"], problem["source"]) == (
            status,
            status,
            rule,
            source,
        )
        if exchange_id:
            assert problem["instance"] == f"urn:uuid:{exchange_id}"
            assert response.headers["x-road-request-id"] == exchange_id
            assert response.headers["cache-control"] == "no-store"
            assert len(response.headers.get_list("date")) == 1
        self.keeps_our_secrets(response)
        return problem

    def keeps_our_secrets(self, response: httpx.Response) -> None:
        said = response.text + repr(response.headers)
        assert [secret for secret in self.secrets() if secret.lower() in said.lower()] == []

    async def wait_for(self, status: int, *, within: float, **request: Any) -> Reply:
        """Ask until the answer has this status; raises TimeoutError."""
        async with asyncio.timeout(within):
            while (reply := await self.ask(**request)).status != status:
                await asyncio.sleep(0.02)
        return reply


def xml_error(response: httpx.Response) -> dict[str, str]:
    """An error in X-Road's XML form."""
    root = ElementTree.fromstring(response.content)
    assert root.tag == "error"
    return {child.tag: child.text or "" for child in root}


def target(code: str, path: str = "/") -> str:
    """Request target of a service of the provider."""
    return f"/r1/{service(code)}{path}"


def head(method: str, request_target: str, *lines: str | bytes, client: str | None = CALLER) -> bytes:
    """The bytes of a request head."""
    start = [f"{method} {request_target} HTTP/1.1", "Host: localhost"]
    start += [f"X-Road-Client: {client}"] if client is not None else []
    every = [line if isinstance(line, bytes) else line.encode() for line in (*start, *lines)]
    return b"\r\n".join(every) + b"\r\n\r\n"
