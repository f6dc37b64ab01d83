"""A time-stamping authority that is called over HTTP, and can be slow, silent, or something else altogether."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from exchange import StampAuthority
from tests.exchange.tsa_kit import Issuer, Tsa, make_tsa


@dataclass(eq=False)
class TsaServer:
    """`tsa` answers, unless `raw` says what is sent instead; nothing is sent until `answers` is set."""

    issuer: Issuer
    tsa: Tsa
    url: str = ""
    raw: bytes | None = None
    drips: bool = False
    """Whether an answer comes a byte at a time and never ends."""
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    requests: int = 0
    headers: list[bytes] = field(default_factory=list)
    """Of the last request."""
    _connections: set[asyncio.StreamWriter] = field(default_factory=set)

    def authority(
        self, name: str = "national", *, timeout: float = 10.0, policy: str = "", url: str = ""
    ) -> StampAuthority:
        return StampAuthority(
            name=name,
            url=url or self.url,
            anchors=(self.issuer.certificate,),
            policy=policy,
            digest="sha256",
            timeout=timeout,
            tls_anchors=None,
        )

    def away(self) -> None:
        """Nothing is answered from now on."""
        self.answers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.headers = head.lower().split(b"\r\n")
                (length,) = [int(line[15:]) for line in self.headers if line.startswith(b"content-length:")]
                body = await reader.readexactly(length)
                self.requests += 1
                await self.answers.wait()
                if self.drips:
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    while True:
                        writer.write(b"1\r\n0\r\n")
                        await writer.drain()
                        await asyncio.sleep(0.01)
                if self.raw is not None:
                    writer.write(self.raw)
                    break
                answer = self.tsa.respond(body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(answer) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller went away
        finally:
            self._connections.discard(writer)
            writer.close()

    def close_connections(self) -> None:
        for writer in list(self._connections):
            writer.transport.abort()


@asynccontextmanager
async def tsa_server(issuer: Issuer | None = None, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[TsaServer]:
    """One on a free port of the loopback address."""
    issuer = issuer or Issuer.root()
    server = TsaServer(issuer, make_tsa(issuer))
    server.answers.set()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{port}/tsa"
    try:
        yield server
    finally:
        listening.close()
        server.close_connections()
        await listening.wait_closed()


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
