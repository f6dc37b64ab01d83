"""A source over the department's own HTTP API.

Rules:
1. The request goes to the configured base URL and nowhere else: redirects are passed on, not followed; proxies of the
   environment are not used.
2. Bytes pass untouched both ways, compressed ones too.
3. Connections are pooled and kept; a pool is bounded, so that a slow system is not drowned.
4. Only a method that may be repeated is tried again, once, and only if the pooled connection turned out to be closed.
"""

from __future__ import annotations

import asyncio

import aiohttp
from yarl import URL

from department_adapters.source import SourceAnswer, SourceRequest
from exchange import AnswerTimeoutError, BackendError, PayloadTooLargeError

REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class HttpSource:
    """Passes requests to `base_url`."""

    def __init__(self, base_url: str, *, connections: int = 100, max_answer: int = 64 << 20) -> None:
        """
        Args:
            base_url: Scheme, host and optional path prefix; the request's target is appended to it.
            connections: Most connections to the system at once.
            max_answer: Largest answer body in bytes.
        """
        self._base = base_url.rstrip("/")
        self._connections = connections
        self._max_answer = max_answer
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=60),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        attempts = 2 if request.method in REPEATABLE else 1
        try:
            async with asyncio.timeout(request.timeout):
                while True:
                    attempts -= 1
                    try:
                        return await self._once(request)
                    except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                        if not attempts:
                            raise
        except TimeoutError as error:
            raise AnswerTimeoutError(seconds=f"{request.timeout:g}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise BackendError from error

    async def _once(self, request: SourceRequest) -> SourceAnswer:
        assert self._session is not None, "start() comes first"
        url = URL(self._base + request.target.decode("ascii"), encoded=True)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        async with self._session.request(
            request.method,
            url,
            headers=headers,
            data=request.body or None,
            allow_redirects=False,
            timeout=_NO_TIMEOUT,
        ) as answer:
            if (answer.content_length or 0) > self._max_answer and request.method != "HEAD":
                raise PayloadTooLargeError(limit=self._max_answer)
            body = await _read_bounded(answer, self._max_answer)
            return SourceAnswer(answer.status, [(n.lower(), v) for n, v in answer.raw_headers], body)


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=None)
"""One clock only: the exchange's deadline."""


async def _read_bounded(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    if answer.content_length is not None:
        return await answer.read()
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.content.iter_any():
        size += len(piece)
        if size > limit:
            raise PayloadTooLargeError(limit=limit)
        pieces.append(piece)
    return b"".join(pieces)
