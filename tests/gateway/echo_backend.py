"""A department's own system for tests: a real HTTP/1.1 server that remembers each request byte for byte.

Unless a test says what to answer, it sends back the body it received.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

# Headers that belong to the connection between adapter and backend, not to the exchange.
OF_THE_CONNECTION = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: str) -> list[bytes]:
        """All values of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def has(self, name: str) -> bool:
        return bool(self.values(name))

    def forwarded(self) -> list[tuple[bytes, bytes]]:
        """The headers that came from the caller and the gateway, in order."""
        return [pair for pair in self.headers if pair[0].lower() not in OF_THE_CONNECTION]


@dataclass(slots=True, eq=False, repr=False)
class EchoBackend:
    """The server. `answers` and `held` are keyed by the request's target."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    """Raw bytes to answer with; empty closes the connection without an answer."""
    once: set[str] = field(default_factory=set)
    """Targets that are answered so only the first time."""
    written: dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]]] = field(default_factory=dict)
    """Writes the answer itself, once; then the connection is closed."""
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    """The answer waits until the event is set."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Received:
        return self.received[-1]

    def hold(self, target: str) -> asyncio.Event:
        self.held[target] = asyncio.Event()
        return self.held[target]

    def seen(self, target: str) -> bool:
        """Whether a request for the target has arrived."""
        return self.times_seen(target) > 0

    def times_seen(self, target: str) -> int:
        return sum(request.target == target for request in self.received)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                self.received.append(request)
                if held := self.held.get(request.target):
                    await held.wait()
                target = request.target
                if write := self.written.pop(target, None):
                    await write(writer)
                    break
                said = self.answers.pop(target, None) if target in self.once else self.answers.get(target)
                writer.write(echo(request) if said is None else said)
                await writer.drain()
                if said == b"" or (said is not None and b"\r\nConnection: close\r\n" in said):
                    break
        except ConnectionError:
            pass  # the adapter went away: tests kill it
        finally:
            writer.close()


def echo(request: Received) -> bytes:
    """200 with the request's own body and content type."""
    content_type = (request.values("content-type") or [b"application/octet-stream"])[0]
    body = b"" if request.method == "HEAD" else request.body
    return answer(200, (b"Content-Type", content_type), (b"Date", b"Thu, 01 Jan 2026 00:00:00 GMT"), body=body)


def answer(status: int, *headers: tuple[bytes, bytes], body: bytes = b"") -> bytes:
    """A whole response, with Content-Length where HTTP allows one."""
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%b: %b" % pair for pair in headers]
    if status not in (204, 304):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    request_line, *lines = head[:-4].split(b"\r\n")
    method, target, _ = request_line.decode("ascii").split(" ")
    headers = []
    for line in lines:
        name, _, value = line.partition(b":")
        headers.append((name, value.strip()))
    request = Received(method, target, headers, b"")
    assert not request.has("transfer-encoding"), "the adapter has the whole body and says its length"
    length = int((request.values("content-length") or [b"0"])[0])
    return Received(method, target, headers, await reader.readexactly(length))


@asynccontextmanager
async def echo_backend() -> AsyncIterator[EchoBackend]:
    backend = EchoBackend()
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0, limit=1 << 20)
    backend.port = server.sockets[0].getsockname()[1]
    try:
        yield backend
    finally:
        for event in backend.held.values():
            event.set()
        server.close()
