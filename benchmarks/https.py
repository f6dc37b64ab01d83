"""A small HTTPS client for measuring: GET on kept-alive connections, little work per answer, a call for each event."""

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from benchmarks.errors import BenchError
from benchmarks.targets import Identity, Target, path_of

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_GOODBYE_S = 2.0


class Listener(Protocol):
    """Who is told what happens on connections. Called from the loop; must not block."""

    def on_answer(self, connection: "Connection", status: int) -> None:
        """The answer has arrived whole; the connection may be used again."""

    def on_lost(self, connection: "Connection") -> None:
        """The connection is gone. `connection.busy` says whether a request was lost with it."""


def client_context(identity: Identity) -> ssl.SSLContext:
    """A context that trusts the target's CA only and presents the client's certificate."""
    context = ssl.create_default_context(cafile=str(identity.ca))
    context.load_cert_chain(str(identity.cert), str(identity.key))
    return context


def get_request(target: Target, url: str, *, close: bool = False) -> bytes:
    """The bytes of a GET for `url` with the target's headers."""
    host, port = target.address
    headers = {"Host": f"{host}:{port}", **target.headers, **({"Connection": "close"} if close else {})}
    lines = [f"GET {path_of(url)} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What is needed to find the end of an answer."""

    status: int
    length: int


def parse_head(head: bytes) -> AnswerHead:
    """Read status and length from the head of an answer (everything before the empty line).

    Raises:
        ValueError: There is no Content-Length; all targets send one.
    """
    lower = head.lower()
    start = lower.find(b"\r\n" + _LENGTH)
    if start < 0:
        raise ValueError(f"an answer without Content-Length: {head[:200]!r}")
    start += 2 + len(_LENGTH)
    end = lower.find(b"\r\n", start)
    return AnswerHead(status=int(head[9:12]), length=int(lower[start : end if end >= 0 else None]))


class Connection(asyncio.Protocol):
    """One connection with at most one request under way.

    Attributes:
        busy: A request was sent and its answer has not arrived whole.
        since: The time that `send` was given; latency counts from it.
        gone: Set once the connection is closed, by whichever side.
    """

    def __init__(self, listener: Listener, request: bytes) -> None:
        self._listener = listener
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._status = 0
        self._missing: int | None = None  # None: still reading the head
        self.busy = False
        self.since = 0.0
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no asyncio class, they only behave like one.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.gone.set()
        self._listener.on_lost(self)

    def send(self, since: float) -> bool:
        """Send the request. False: the connection is gone, nothing was sent."""
        if self._transport is None or self._transport.is_closing():
            return False
        self.busy, self.since = True, since
        self._transport.write(self._request)
        return True

    def close(self) -> None:
        """Say goodbye in TLS and close; `gone` is set when that is done."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close without another word."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._missing is None:
            self._head += data
            end = self._head.find(_HEAD_END)
            if end < 0:
                return
            head = parse_head(self._head[:end])
            self._status = head.status
            self._missing = head.length - (len(self._head) - end - len(_HEAD_END))
            self._head = b""
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            self._missing = None
            self.busy = False
            self._listener.on_answer(self, self._status)


async def connect(target: Target, listener: Listener, context: ssl.SSLContext) -> Connection:
    """Open one connection to the target, ready to `send` its request."""
    host, port = target.address
    request = get_request(target, target.url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(listener, request), host, port, ssl=context, server_hostname="localhost"
    )
    return connection


async def close_all(connections: Sequence[Connection]) -> None:
    """Close every connection and return when all are gone: a loop that ends earlier leaves their sockets open."""
    for connection in connections:
        connection.close()
    everyone = [asyncio.create_task(connection.gone.wait()) for connection in connections]
    if not everyone:
        return
    _, waiting = await asyncio.wait(everyone, timeout=_GOODBYE_S)
    for connection in connections:
        connection.abort()  # Nothing happens to those that are gone.
    if waiting:
        await asyncio.wait(waiting)


def latencies_ms(waits: list[float]) -> list[float]:
    """Seconds to ascending milliseconds."""
    return sorted(wait * 1e3 for wait in waits)


async def probe(target: Target) -> None:
    """Ask once, before anything is measured.

    Raises:
        BenchError: The target does not answer with 200.
    """
    listener = _Probe()
    try:
        connection = await connect(target, listener, client_context(target.identity))
        connection.send(time.perf_counter())
        status = await asyncio.wait_for(listener.status, timeout=30)
        await close_all([connection])
    except (OSError, TimeoutError) as error:
        raise BenchError(f"{target.name} does not answer at {target.url}: {error!r}") from error
    if status != 200:
        raise BenchError(f"{target.name} answers {status or 'nothing'} at {target.url}, not 200")


class _Probe:
    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_answer(self, connection: Connection, status: int) -> None:
        if not self.status.done():
            self.status.set_result(status)

    def on_lost(self, connection: Connection) -> None:
        self.on_answer(connection, 0)
