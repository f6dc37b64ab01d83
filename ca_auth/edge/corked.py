"""A transport that writes once per turn of the event loop.

ASGI sends the head and the body of a response apart. Over TLS each write is a record of its own, which costs more than building the
response did; both together are one. An answer that comes whole need not wait for the end of the turn.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

_JOIN_BYTES: Final = 64 << 10
"""Beyond this a copy costs more than a record."""


class CorkedTransport:
    """Stands in for a transport; everything but writing and closing goes straight through."""

    __slots__ = ("_loop", "_pieces", "_size", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this turn, in order with what else was written."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _JOIN_BYTES:
            self._flush()

    def write_now(self, data: bytes) -> None:
        """Send `data` behind what else was written, without waiting for more."""
        if self._pieces:
            self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if not self._pieces:
            return
        pieces, self._pieces = self._pieces, []
        if self._size <= _JOIN_BYTES:
            self._transport.write(b"".join(pieces))
        else:
            for piece in pieces:
                self._transport.write(piece)
        self._size = 0
