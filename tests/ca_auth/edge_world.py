"""The edge for tests: a real uvicorn in a thread, a caller on a raw TLS socket, certificates from the demo CA."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import uvicorn

from ca_auth import (
    REFUSAL_KEY,
    Authenticator,
    CertificateRequest,
    DemoCA,
    EdgeLimits,
    HandshakeRefusal,
    IssuedCertificate,
    Judge,
    Refusal,
    TerminatorTrust,
    Trust,
    client_context,
    edge_protocol,
    server_context,
)
from exchange import UnauthenticatedError, member_id, subsystem_id

TAX = subsystem_id("CN/GOV/11990000000000000X/tax")
TAX_MEMBER = member_id("CN/GOV/11990000000000000X")
Application = Callable[[Any, Any, Any], Awaitable[None]]
TIMEOUT = 20.0
"""Long enough for a busy machine; nothing in the tests waits for it to pass."""


@dataclass
class Pki:
    """One CA with a server and a caller, and a foreign CA with a caller of the same name."""

    ca: DemoCA
    foreign: DemoCA
    server: IssuedCertificate
    tax: IssuedCertificate
    member: IssuedCertificate
    stranger: IssuedCertificate

    @classmethod
    def create(cls, folder: Path) -> Pki:
        ca, foreign = DemoCA.create(folder / "pki"), DemoCA.create(folder / "foreign")
        return cls(
            ca=ca,
            foreign=foreign,
            server=ca.issue("server", CertificateRequest.for_server()),
            tax=ca.issue("tax", CertificateRequest.for_subsystem(TAX, "税务局")),
            member=ca.issue("member", CertificateRequest.for_member(TAX_MEMBER, "税务局")),
            stranger=foreign.issue("tax", CertificateRequest.for_subsystem(TAX, "税务局")),
        )

    def context_of(self, caller: IssuedCertificate | None) -> ssl.SSLContext:
        if caller is None:
            return client_context(self.ca.bundle)
        return client_context(self.ca.bundle, caller.certificate, caller.key)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.body))


@dataclass
class Edge:
    """A running server and what it was told."""

    pki: Pki
    port: int
    authenticator: Authenticator
    executed: list[str] = field(default_factory=list)
    refused: queue.Queue[tuple[str, int, str | None]] = field(default_factory=queue.Queue)
    cut_short: queue.Queue[Refusal | None] = field(default_factory=queue.Queue)
    """Why the edge ended requests whose head the application had."""
    handshakes: queue.Queue[HandshakeRefusal] = field(default_factory=queue.Queue)
    release: threading.Event = field(default_factory=threading.Event)
    stop: Callable[[], None] = lambda: None
    """Tell the server to stop."""
    now: float | None = None
    """The application's clock; None: real time."""

    def clock(self) -> float:
        return time.time() if self.now is None else self.now

    @contextmanager
    def connect(
        self,
        caller: IssuedCertificate | None,
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> Iterator[Connection]:
        context = context or self.pki.context_of(caller)
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with raw, context.wrap_socket(raw, server_hostname="localhost", session=session) as tls:
            yield Connection(tls)

    def around(self, application: Application) -> Application:
        """The application, and the lifespan that it does not know."""

        async def living(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await self.application(scope, receive, send)
            else:
                await application(scope, receive, send)

        return living

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        """Says who called and what arrived. `/wait` answers when released, `/early` before the body is read."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.executed.append(scope["path"])
        body, more = bytearray(), scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.cut_short.put(scope["state"].get(REFUSAL_KEY))
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/wait":
            await asyncio.get_running_loop().run_in_executor(None, self.release.wait, TIMEOUT)
        state = scope["state"]
        status, headers = 200, [(b"content-type", b"application/json")]
        try:
            principal = await self.authenticator.caller(state, self.clock())
            said: dict[str, Any] = {
                "member": principal.member,
                "subsystem": principal.subsystem,
                "fingerprint": principal.fingerprint,
                "spoken_for": state["peer_spoken_for"],
            }
        except UnauthenticatedError as error:
            status, said = 401, {"rule": error.rule, "detail": str(error)}
            headers.append((b"connection", b"close"))
        tls = dict(scope["extensions"].get("tls", {}))
        tls.pop("client_cert", None)
        said |= {
            "path": scope["path"],
            "tls": tls,
            "headers": [name.decode() for name, _ in scope["headers"]],
            "received": len(body),
        }
        content = json.dumps(said).encode()
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class Connection:
    """The caller's end: raw bytes out, responses in."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self._read = b""

    def send(self, data: bytes) -> None:
        self.tls.sendall(data)

    def send_for_ever(self, data: bytes) -> NoReturn:
        while True:
            self.send(data)

    def get(self, path: str = "/", *, more: str = "") -> Answer:
        self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
        return self.answer()

    def answer(self) -> Answer:
        """The next response, by its Content-Length."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._read) < length:
            self._more()
        body, self._read = self._read[:length], self._read[length:]
        return Answer(int(status_line.split()[1]), headers, body)

    def hears_within(self, seconds: float) -> bool:
        """Whether a byte of an answer arrives in that time. (Readable is not enough: session tickets are.)"""
        self.tls.settimeout(seconds)
        try:
            self._more()
        except (TimeoutError, ssl.SSLWantReadError):
            return False
        finally:
            self.tls.settimeout(TIMEOUT)
        return True

    def is_closed(self) -> bool:
        """Wait for the server to close; False if it sends something instead."""
        try:
            return not self._read and self.tls.recv(1) == b""
        except (ConnectionError, ssl.SSLEOFError):
            return True

    def _more(self) -> None:
        data = self.tls.recv(65536)
        if not data:
            raise EOFError(f"closed after {self._read!r}")
        self._read += data


@contextmanager
def running_edge(
    pki: Pki,
    limits: EdgeLimits | None = None,
    *,
    loop: Literal["uvloop", "asyncio"] = "uvloop",
    terminators: Callable[[], TerminatorTrust] = TerminatorTrust,
    anchors: bytes | None = None,
    application: Application | None = None,
) -> Iterator[Edge]:
    """Run a server until the end of the block.

    Args:
        application: Answers requests in place of the edge's own.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        edge = Edge(
            pki, port, Authenticator(Judge(Trust.from_bundle(anchors or pki.ca.trust_anchors)), lambda: edge.clock())
        )
        context = server_context(
            pki.server.certificate, pki.server.key, pki.ca.bundle, on_handshake_refused=edge.handshakes.put
        )
        config = uvicorn.Config(
            edge.application if application is None else edge.around(application),
            http=edge_protocol(
                limits or EdgeLimits(),
                lambda *what: edge.refused.put(what),
                terminators=terminators,
            ),
            interface="asgi3",
            loop=loop,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            ssl_context_factory=lambda *_: context,
        )
        server = uvicorn.Server(config)

        def stop() -> None:
            server.should_exit = True

        edge.stop = stop
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield edge
        finally:
            edge.release.set()
            stop()
            thread.join(TIMEOUT)
            assert not thread.is_alive()
