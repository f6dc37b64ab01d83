"""A source over the department's own HTTP API.

Rules:
1. The request goes to the configured base URL and nowhere else: redirects are passed on, not followed; proxies of the
   environment are not used; the target of a question only ever extends the path.
2. Bytes pass untouched both ways, compressed ones too.
3. Connections are kept and bounded, so that a slow system is not drowned.
4. Only a request that is declared to change nothing is tried again: once, on a new connection, and only when the kept one
   turned out to be closed. Any other takes a connection that was in use a moment ago, or a new one, and if that breaks, it
   is said that nobody knows whether the system acted.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from department_adapters.http.link import HttpLink, HttpLinkError
from department_adapters.source import SourceAnswer, SourceRequest
from exchange import AnswerTimeoutError, BackendError, Headers

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests say that their body is empty."""
CONNECT_SECONDS = 3.0
KEEP_SECONDS = 60.0
FRESH_SECONDS = 1.0
"""So long after its last answer a connection is taken for open: servers close idle ones after 5 seconds or more."""

_TARGET = re.compile(rb"(?:[/?][!\"$-~]*)?")  # printable ASCII; no `#`, behind which nothing would be sent
_METHOD = re.compile(r"[A-Z]{1,20}")
_OURS = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"te", b"trailer", b"upgrade")
)
"""Headers of the connection to the system, which is ours to frame."""


class HttpSource:
    """Passes requests to `base_url`."""

    def __init__(
        self,
        base_url: str,
        *,
        connections: int = 100,
        max_answer: int = 64 << 20,
        trust_anchors: Path | None = None,
    ) -> None:
        """
        Args:
            base_url: Scheme, host and optional path prefix; the request's target is appended to it.
            connections: Most connections to the system at once.
            max_answer: Largest answer body in bytes.
            trust_anchors: PEM bundle for an `https` system; without it, those of this machine.

        Raises:
            ValueError: The URL cannot be a base; the message says why.
        """
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname or not base_url.isascii():
            raise ValueError("a base URL is http://host[:port][/path] or https://..., in ASCII")
        if url.username is not None or url.query or url.fragment or not _TARGET.fullmatch(url.path.encode()):
            raise ValueError("a base URL has no user, password, query or fragment, and its path is percent-encoded")
        self._tls = url.scheme == "https"
        self._host = url.hostname
        self._port = url.port or (443 if self._tls else 80)
        self._prefix = url.path.rstrip("/").encode()
        self._host_line = b" HTTP/1.1\r\nhost: %b\r\n" % url.netloc.encode()
        self._trust_anchors = trust_anchors
        self._context: ssl.SSLContext | None = None
        self._max_answer = max_answer
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[HttpLink] = []  # the one used last stands last
        self._busy = 0

    async def start(self) -> None:
        if self._tls:
            self._context = ssl.create_default_context(cafile=self._trust_anchors)

    async def stop(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        method, body = request.method, request.body
        head = self._head(request)
        async with self._slots:
            self._busy += 1
            try:
                link = self._kept(KEEP_SECONDS if request.safe else FRESH_SECONDS)
                if link is not None:
                    try:
                        return await self._ask(link, method, head, body)
                    except HttpLinkError:
                        if link.answering or not request.safe:
                            raise
                return await self._ask(await self._connect(), method, head, body)
            except HttpLinkError as error:
                if request.safe:
                    raise BackendError from error
                raise AnswerTimeoutError(seconds=f"{request.timeout:g}") from error
            finally:
                self._busy -= 1

    def _head(self, request: SourceRequest) -> bytes:
        """The request's head, as it is sent; raises BackendError if it could be read as something else."""
        target, method = self._prefix + request.target, request.method
        if not target.startswith(b"/"):
            target = b"/" + target
        headers: Headers = [pair for pair in request.headers if pair[0] not in _OURS]
        if request.body or method in WITH_BODY:
            headers.append((b"content-length", b"%d" % len(request.body)))
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        count = len(headers)
        if (
            not _TARGET.fullmatch(request.target)
            or not _METHOD.fullmatch(method)
            or lines.count(b"\n") != count
            or lines.count(b"\r") != count
        ):
            raise BackendError from ValueError("the request cannot be written as HTTP")
        return b"%b %b%b%b\r\n" % (method.encode("ascii"), target, self._host_line, lines)

    async def _ask(self, link: HttpLink, method: str, head: bytes, body: bytes) -> SourceAnswer:
        try:
            answer = await link.ask(method, head, body)
        except BaseException:
            link.close()
            raise
        if link.reusable:
            link.idle_since = now = asyncio.get_running_loop().time()
            idle = self._idle
            idle.append(link)
            while idle[0].idle_since < now - KEEP_SECONDS:
                idle.pop(0).close()
        return answer

    def _kept(self, within: float) -> HttpLink | None:
        """The open connection that was used last, if that was less than `within` seconds ago."""
        idle = self._idle
        while idle:
            link = idle[-1]
            if link.reusable:
                if link.idle_since < asyncio.get_running_loop().time() - within:
                    return None
                return idle.pop()
            idle.pop()
        return None

    async def _connect(self) -> HttpLink:
        if len(self._idle) + self._busy > self._connections:
            self._idle.pop(0).close()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, link = await asyncio.get_running_loop().create_connection(
                    lambda: HttpLink(self._max_answer),
                    self._host,
                    self._port,
                    ssl=self._context,
                    server_hostname=self._host if self._tls else None,
                )
        except OSError as error:  # timeouts and TLS errors are such, too
            raise BackendError from error
        return link
