"""What a caller is sent: an answer, whole or piece by piece, or what became of the request instead."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from functools import lru_cache

import structlog
from starlette.types import Receive, Scope, Send

from ca_auth import Respond
from exchange import Answer, AnswerStream, CallerGoneError, Headers, MeshError, ServiceId, to_wire
from gateway.attempt import Attempt, traceparent_of
from gateway.problems import EXPIRES, render
from gateway.quota_headers import NAMES, quota_headers

CLOSING = frozenset({401, 413})
"""After these the connection is closed: its certificate no longer counts, or its body was not read."""
SET_BY_US = frozenset(
    b"x-road-id x-road-client x-road-service x-road-request-id x-road-request-hash x-road-error datong-receipt "
    b"datong-certificate-expires connection content-length transfer-encoding keep-alive server".split()
)

events = structlog.get_logger("datong.exchange")


class Responses:
    """What callers are sent. It is on the record before, or, of a streamed answer, the stream sees to that."""

    def __init__(self, *, public_url: str, stall: float) -> None:
        """
        Args:
            stall: Seconds in which the caller must take a piece of a streamed answer.
        """
        self._receipt_url = f"{public_url}/v1/exchanges/".replace("%", "%%").encode() + b"%b/receipt"
        self._stall = stall
        self._http_date = HttpDate()

    def headers(self, attempt: Attempt, answer: Answer, request_hash: bytes) -> Headers:
        """The headers of an answer, but for what tells its length."""
        headers: Headers = []
        dated = False
        for pair in answer.headers:
            if pair[0] not in SET_BY_US:
                headers.append(pair)
                if pair[0] == b"date":
                    dated = True
        exchange_id = attempt.id.encode()
        headers += (
            (b"x-road-id", attempt.noted.get(b"x-road-id") or attempt.message_id.encode()),
            (b"x-road-client", attempt.noted[b"x-road-client"]),
            (b"x-road-service", _wire(attempt.service)),
            (b"x-road-request-id", exchange_id),
            (b"x-road-request-hash", request_hash),
            (b"datong-receipt", self._receipt_url % exchange_id),
        )
        if attempt.quota is not None:
            headers = [pair for pair in headers if pair[0] not in NAMES]
            headers += quota_headers(attempt.quota)
        if attempt.principal is not None and attempt.principal.expires_soon:
            headers.append((EXPIRES, attempt.principal.expires_soon))
        if not dated:
            headers.append((b"date", self._http_date(attempt.asked_ms // 1000)))
        return headers

    async def pour(
        self, scope: Scope, stream: AnswerStream, status: int, headers: Headers, receive: Receive, send: Send
    ) -> None:
        """Pass a streamed answer on as fast as the caller reads it.

        One that breaks after it began ends with the connection, so that nobody takes it for whole.

        Raises:
            MeshError: It broke before anything of it was passed on.
        """
        gone = asyncio.ensure_future(receive())  # whose body is read: nothing comes but the end of the connection
        begun = False

        async def take(piece: bytes) -> None:
            nonlocal begun
            if gone.done():
                raise CallerGoneError
            try:
                async with asyncio.timeout(self._stall):
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": status, "headers": headers})
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError as error:
                raise CallerGoneError("caller-reads") from error
            if gone.done():
                raise CallerGoneError

        try:
            await stream.pour(take)
            async with asyncio.timeout(self._stall):
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:  # it is on the record as answered; the caller does not take the last of it
            scope["state"]["abort"]()
        except MeshError as error:
            if not begun:
                raise
            events.warning("exchange.broke_off", code=error.code, rule=error.rule, cause=repr(error.__cause__))
            scope["state"]["abort"]()
            await asyncio.wait([gone])
        finally:
            gone.cancel()

    def tell(self, attempt: Attempt, error: MeshError, respond: Respond) -> None:
        """Tell what became of a request that has no answer."""
        events.warning(
            "exchange.refused" if error.status < 500 else "exchange.failed",
            exchange=attempt.id,
            client=attempt.client,
            service=attempt.service,
            method=attempt.method,
            status=error.status,
            code=error.code,
            rule=error.rule,
            traceparent=traceparent_of(attempt.noted),
            cause=repr(error.__cause__) if error.__cause__ else None,
        )
        noted = attempt.noted
        headers, body = render(
            error,
            exchange_id=attempt.id,
            accept=noted.get(b"accept", b""),
            accept_language=noted.get(b"accept-language", b""),
        )
        headers.append((b"date", self._http_date(attempt.asked_ms // 1000)))
        if attempt.principal is not None and attempt.principal.expires_soon:
            headers.append((EXPIRES, attempt.principal.expires_soon))
        if error.status in CLOSING:
            headers.append((b"connection", b"close"))
        if attempt.method == "HEAD":
            body = b""
        respond(error.status, headers, body)


class HttpDate:
    """The Date header's value, made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def __call__(self, second: int) -> bytes:
        if second != self._second:
            self._text = formatdate(second, usegmt=True).encode()
            self._second = second
        return self._text


@lru_cache(4096)
def _wire(service: ServiceId) -> bytes:
    return to_wire(service).encode()
