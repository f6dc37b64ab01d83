"""The ASGI application of a witness: `POST /add-checkpoint`, `GET /<origin hash>/checkpoint`, `GET /`.

Rules:
1. Nobody is asked who he is: what a log has signed is all that counts. So everything is bounded: the body, the requests at once.
2. One thread does the work, in turn: comparing and replacing would take turns anyway, and a slow disk stalls no connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any, Final

import structlog

from exchange.witness.protocol import MOST_BYTES
from exchange.witness.witness import Witness, WitnessAnswer

MOST_AT_ONCE: Final = 64
"""Requests that are worked on or wait; beyond that 503."""

_MONITORING = re.compile(r"/([0-9a-f]{64})/checkpoint")
_Message = MutableMapping[str, Any]

events = structlog.get_logger("datong.witness")


class WitnessApp:
    """Serves one witness.

    Args:
        about: Text for `GET /`, for people: name, key, a line for policies.
    """

    def __init__(self, witness: Witness, about: str) -> None:
        self._witness = witness
        self._about = about
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="witness")
        self._at_once = 0

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        if self._at_once >= MOST_AT_ONCE:
            answer, headers = (
                WitnessAnswer(503, "too many requests at once; try again later\n"),
                [(b"retry-after", b"1")],
            )
        else:
            self._at_once += 1
            try:
                answer, headers = await self._answer(scope, receive)
            except _GoneError:
                return
            except Exception as error:  # noqa: BLE001  # one request must not end the witness; nothing was cosigned by it
                events.exception("witness.fault", error=type(error).__name__)
                answer, headers = WitnessAnswer(500, "the witness has a fault; nothing was cosigned\n"), []
            finally:
                self._at_once -= 1
        body = answer.body.encode()
        headers += [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"date", formatdate(usegmt=True).encode()),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def close(self) -> None:
        """End the thread, after what it is doing."""
        self._thread.shutdown()

    async def _answer(
        self, scope: _Message, receive: Callable[[], Awaitable[_Message]]
    ) -> tuple[WitnessAnswer, list[tuple[bytes, bytes]]]:
        path, method = scope["path"], scope["method"]
        monitored = _MONITORING.fullmatch(path)
        allowed = ("POST",) if path == "/add-checkpoint" else ("GET", "HEAD") if monitored or path == "/" else ()
        if not allowed:
            return WitnessAnswer(404, "there is POST /add-checkpoint and GET /<origin hash>/checkpoint\n"), []
        if method not in allowed:
            return WitnessAnswer(405, f"here is {' and '.join(allowed)}\n"), [(b"allow", ", ".join(allowed).encode())]
        if path == "/":
            return WitnessAnswer(200, self._about), []
        loop = asyncio.get_running_loop()
        if monitored:
            return await loop.run_in_executor(self._thread, self._witness.checkpoint, monitored[1]), []
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            body += message.get("body", b"")
            if len(body) > MOST_BYTES:
                return WitnessAnswer(413, f"a request has at most {MOST_BYTES} bytes\n"), [(b"connection", b"close")]
            more = message.get("more_body", False)
        answer = await loop.run_in_executor(self._thread, self._witness.add_checkpoint, body)
        return answer, [(b"retry-after", b"5")] if answer.status == 503 else []


class _GoneError(Exception):
    """Whoever asked is not there any more."""
