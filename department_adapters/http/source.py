"""A source over the department's own HTTP API.

Rules:
1. The request goes to the configured base URL and nowhere else: redirects are passed on, not followed; proxies of the
   environment are not used; the target of a question only ever extends the path. Where that may lead, and as whom we go
   there, is in `department_adapters.http.outbound`.
2. Bytes pass untouched both ways, compressed ones too, and large bodies piece by piece. So do headers,
   the caller's Authorization among them, but for those
   that the section sets. A method that is not offered is answered with 405, and the system is not asked.
3. Connections are kept and bounded, so that a slow system is not drowned.
4. Only a request that is declared to change nothing is tried again: once, on a new connection, and only when the kept one
   turned out to be closed. Any other takes a connection that was in use a moment ago, or a new one, and if that breaks, it
   is said that nobody knows whether the system acted.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Set as AbstractSet
from typing import Literal
from urllib.parse import urlsplit

from msgspec import structs

from department_adapters.http.link import AnswerPieces, HttpLink, HttpLinkError
from department_adapters.http.outbound import Connector, CredentialError, Outbound
from department_adapters.source import NotAskedError, SourceAnswer, SourceRequest
from exchange import AnswerTimeoutError, BackendError, MeshError

HttpMethod = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"]
DEFAULT_METHODS: tuple[HttpMethod, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests say that their body is empty."""
KEEP_SECONDS = 60.0
FRESH_SECONDS = 1.0
"""So long after its last answer a connection is taken for open: servers close idle ones after 5 seconds or more."""

_TARGET = re.compile(rb"(?:[/?][!\"$-~]*)?")  # printable ASCII; no `#`, behind which nothing would be sent
_METHOD = re.compile(r"[A-Z]{1,20}")
OURS = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"te", b"trailer", b"upgrade")
)
"""Headers of the connection to the system, which is ours to frame."""


class HttpSource:
    """Passes requests to `base_url`."""

    takes_spooled = True

    def __init__(
        self,
        base_url: str,
        *,
        connections: int = 100,
        max_answer: int = 64 << 20,
        methods: AbstractSet[str] = frozenset(DEFAULT_METHODS),
        outbound: Outbound | None = None,
    ) -> None:
        """
        Args:
            base_url: Scheme, host and optional path prefix; the request's target is appended to it.
            connections: Most connections to the system at once.
            max_answer: Largest answer body in bytes.
            methods: What may be asked: names of methods, which are passed on as they are.
            outbound: Where it may connect to, and as whom; by default to public addresses only, and as nobody.

        Raises:
            ValueError: The URL cannot be a base, or leads where it may not; the message says why.
        """
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname or not base_url.isascii():
            raise ValueError("a base URL is http://host[:port][/path] or https://..., in ASCII")
        if url.username is not None or url.query or url.fragment or not _TARGET.fullmatch(url.path.encode()):
            raise ValueError("a base URL has no user, password, query or fragment, and its path is percent-encoded")
        tls = url.scheme == "https"
        outbound = outbound or Outbound()
        host = outbound.check_host(url.hostname)
        self._connector = Connector(host, url.port or (443 if tls else 80), tls=tls, outbound=outbound, ours=OURS)
        if not all(_METHOD.fullmatch(method) for method in methods):
            raise ValueError("a method is a word of A to Z")
        self._methods = methods
        self._refusal = _not_offered(methods)
        self._prefix = url.path.rstrip("/").encode()
        self._host_line = b" HTTP/1.1\r\nhost: %b\r\n" % url.netloc.encode()
        self._max_answer = max_answer
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[HttpLink] = []  # the one used last stands last
        self._busy = 0

    async def start(self) -> None:
        """Read what TLS needs; raises CredentialError."""
        self._connector.context()

    async def stop(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        method = request.method
        if method not in self._methods:
            return structs.replace(self._refusal, body=b"") if method == "HEAD" else self._refusal
        head = self._head(request)
        await self._slots.acquire()
        self._busy += 1
        answer: SourceAnswer | None = None
        try:
            link = self._kept(KEEP_SECONDS if request.safe else FRESH_SECONDS)
            if link is not None:
                try:
                    answer = await self._ask(link, request, head)
                except HttpLinkError:
                    if link.answering or not request.safe:
                        raise
            if answer is None:
                answer = await self._ask(await self._connect(), request, head)
            return answer
        except HttpLinkError as error:
            raise _unanswered(request) from error
        finally:
            if answer is None or answer.stream is None:
                self._done()

    def _done(self) -> None:
        self._busy -= 1
        self._slots.release()

    def _head(self, request: SourceRequest) -> bytes:
        """The request's head, as it is sent; raises NotAskedError if it could be read as something else."""
        target, method = self._prefix + request.target, request.method
        if not target.startswith(b"/"):
            target = b"/" + target
        try:
            headers = self._connector.headers(request.headers)
        except CredentialError as error:
            raise BackendError from error
        size = len(request.body) if request.spooled is None else len(request.spooled)
        if size or method in WITH_BODY:
            headers.append((b"content-length", b"%d" % size))
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        count = len(headers)
        if not _TARGET.fullmatch(request.target) or lines.count(b"\n") != count or lines.count(b"\r") != count:
            raise NotAskedError from ValueError("the request cannot be written as HTTP")
        return b"%b %b%b%b\r\n" % (method.encode("ascii"), target, self._host_line, lines)

    async def _ask(self, link: HttpLink, request: SourceRequest, head: bytes) -> SourceAnswer:
        spooled = request.spooled
        try:
            answer = await link.ask(
                request.method,
                head,
                request.body,
                streams=request.streams,
                pieces=None if spooled is None else spooled.pieces(),
            )
        except BaseException:
            link.close()
            raise
        if answer.stream is None:
            self._keep(link)
        else:
            assert isinstance(answer.stream, AnswerPieces)
            answer.stream.on_end = lambda: self._streamed(link)
            answer.stream.explain = lambda error: _unanswered(request) if isinstance(error, HttpLinkError) else error
        return answer

    def _streamed(self, link: HttpLink) -> None:
        """A streamed answer is at its end, or nobody wants the rest of it."""
        self._keep(link)
        self._done()

    def _keep(self, link: HttpLink) -> None:
        if link.reusable:
            link.idle_since = now = time.monotonic()
            idle = self._idle
            idle.append(link)
            while idle[0].idle_since < now - KEEP_SECONDS:
                idle.pop(0).close()

    def _kept(self, within: float) -> HttpLink | None:
        """The open connection that was used last, if that was less than `within` seconds ago."""
        idle = self._idle
        while idle:
            link = idle[-1]
            if link.reusable:
                if link.idle_since < time.monotonic() - within:
                    return None
                return idle.pop()
            idle.pop()
        return None

    async def _connect(self) -> HttpLink:
        if len(self._idle) + self._busy > self._connections:
            self._idle.pop(0).close()
        try:
            return await self._connector.connect(lambda: HttpLink(self._max_answer))
        except OSError as error:  # timeouts and TLS errors are such, too
            raise BackendError from error


def _unanswered(request: SourceRequest) -> MeshError:
    """What it means that the connection broke: the system may be asked again, or nobody knows whether it acted."""
    return BackendError() if request.safe else AnswerTimeoutError(seconds=f"{request.timeout:g}")


def _not_offered(methods: AbstractSet[str]) -> SourceAnswer:
    offered = ", ".join(sorted(methods)).encode()
    body = b'{"type":"about:blank","status":405,"detail":"Only %b are offered here."}' % offered
    return SourceAnswer(405, [(b"content-type", b"application/problem+json"), (b"allow", offered)], body)
