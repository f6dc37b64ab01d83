"""uvicorn's HTTP/1.1 protocol at less cost: everything of it that is replaced, in one place.

What is here follows uvicorn 0.54 (pinned; a test fails when what is replaced has changed) and does the same with less: a request's
scope is a copy of one that the connection keeps; a request costs one task and no callback at its end. What differs: there is no
timer per request and no other protocol to change to (`ca_auth.edge.edge` has deadlines, and says what becomes of an upgrade);
trailers never become headers.
"""

from __future__ import annotations

import asyncio
import contextvars
import urllib.parse
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, cast

import httptools
from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl, service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ca_auth.edge.corked import CorkedTransport
from ca_auth.edge.cycle import Cycle

_LONGEST_PARSED: Final = 65535
"""Bytes of a request target that httptools takes."""


class HttpProtocol(HttpToolsProtocol):
    """One connection. Its requests are run one after the other, each by a `Cycle`."""

    transport: CorkedTransport  # type: ignore[assignment]
    cycle: Cycle | None  # type: ignore[assignment]
    """Of the newest request whose head is complete."""
    pipeline: deque[tuple[Cycle, ASGI3Application]]  # type: ignore[assignment]
    """Requests that wait for the answers of earlier ones, newest first."""

    in_message = False
    """Whether a request has begun to arrive and has not ended."""
    received: Sequence[tuple[bytes, bytes]] = ()
    """Headers of the newest request, as far as they came, without trailers."""
    _blank_scope: HTTPScope
    """What the scopes of all requests of this connection have in common, and room for the rest."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.connections.add(self)
        self.transport = CorkedTransport(transport, self.loop)
        self.flow = FlowControl(transport)
        # Not of the socket, as uvicorn asks for them: uvloop would make one for each question.
        here, there = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self.server = _host_and_port(here) or ((here, None) if isinstance(here, str) else None)
        self.client = _host_and_port(there)
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._blank_scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "headers": (),
            "state": {},
            "extensions": {},
            "method": "",
            "path": "",
            "raw_path": b"",
            "query_string": b"",
        }

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        cycle = self.cycle
        if cycle is not None:
            if not cycle.response_complete:
                cycle.disconnected = True
            cycle.wake()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        # They hold this object: without them it is gone at once.
        self.cycle = None
        self.pipeline.clear()
        self.parser = None  # type: ignore[assignment]

    # What the parser calls

    def on_message_begin(self) -> None:
        self.url = b""
        self.received = self.headers = []
        self.in_message = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, target = self.parser, self.url
        if target.startswith(b"/") and b"#" not in target and len(target) <= _LONGEST_PARSED:
            raw_path, _, query_string = target.partition(b"?")
        else:
            url = httptools.parse_url(target)
            raw_path, query_string = url.path, url.query or b""
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        if self.root_path:
            path, raw_path = self.root_path + path, self.root_path.encode("ascii") + raw_path
        scope = self._blank_scope.copy()
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"] = path
        scope["raw_path"] = raw_path
        scope["query_string"] = query_string
        scope["headers"] = self.headers
        scope["state"] = self.request_state()
        before = self.cycle
        self.cycle = cycle = Cycle(self, scope, parser.should_keep_alive(), self.expect_100_continue)
        app = self.app
        if self.limit_concurrency is not None and self.limit_concurrency <= max(len(self.connections), len(self.tasks)):
            self.logger.warning("Exceeded concurrency limit.")
            app = cast(ASGI3Application, service_unavailable)
        # The parser hands on the trailers of a chunked body like headers.
        self.headers = _NO_TRAILERS
        if before is None or before.response_complete:
            self.start(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and cycle.take(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self.in_message = False
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.more_body = False
            cycle.wake()

    # What becomes of a request

    def request_state(self) -> dict[str, Any]:
        """The `state` of a request whose headers are complete, made anew for it."""
        return self.app_state.copy()

    def start(self, cycle: Cycle, app: ASGI3Application) -> None:
        """Hand a request to the application."""
        context = contextvars.Context() if self.config.reset_contextvars else None
        cycle.task = task = self.loop.create_task(cycle.run_asgi(app), context=context)
        self.tasks.add(task)


def _host_and_port(address: object) -> tuple[str, int] | None:
    """Of an address of TCP; None for one of a Unix socket."""
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None


class _NoTrailers(list[tuple[bytes, bytes]]):
    """Forgets what is appended: a request may have trailers, and they mean nothing here (RFC 9110 section 6.5.1)."""

    def append(self, item: tuple[bytes, bytes], /) -> None:
        pass


_NO_TRAILERS: Final = _NoTrailers()
