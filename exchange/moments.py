"""Instants and identifiers, made cheaply: both are needed several times for every exchange."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime, timedelta

_BUFFER = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


class Entropy:
    """Random bytes from the system, drawn in blocks: a system call per draw was 5 % of an exchange."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def draw(self, count: int) -> bytes:
        """`count` fresh random bytes, at most 64; none is ever given out twice."""
        at = self._at
        end = at + count
        if end > len(self._block):
            self._block = os.urandom(_BUFFER)
            at, end = 0, count
        self._at = end
        return self._block[at:end]


def uuid7(unix_ms: int, entropy: Entropy) -> str:
    """A UUIDv7 (RFC 9562) as text: 48 bits of milliseconds, 74 random bits."""
    random = int.from_bytes(entropy.draw(10), "big")
    low = random & 0x3FFFFFFFFFFFFFFF | 0x8000000000000000
    high = random >> 68 & 0xFFF | 0x7000
    digits = f"{unix_ms:012x}{high:04x}{low:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Rfc3339:
    """Formats unix milliseconds as RFC 3339 in UTC; the text of a second is made once.

    A few seconds are kept, not one: an exchange formats now and its deadline in turn.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, str] = {}

    def __call__(self, unix_ms: int) -> str:
        second, ms = divmod(unix_ms, 1000)
        text = self._seconds.get(second)
        if text is None:
            if len(self._seconds) > 64:
                self._seconds.clear()
            text = self._seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{text}.{ms:03d}Z"


def parse_rfc3339(text: str) -> int:
    """Unix milliseconds of an RFC 3339 instant, fractions of one cut off; raises ValueError."""
    if not _RFC3339.fullmatch(text):
        # `fromisoformat` takes much of ISO 8601 that is not RFC 3339, and instants without an offset.
        raise ValueError(f"not an RFC 3339 instant: {text[:40]!r}")
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
