"""Instants and identifiers, made cheaply: both are needed several times for every exchange."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_BUFFER = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""A digit of UUIDs whose upper bits are fixed, from a random digit."""
_FRACTION = [f".{ms:03d}Z" for ms in range(1000)]
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
    random = entropy.draw(10).hex()
    moment = f"{unix_ms:012x}"
    return f"{moment[:8]}-{moment[8:]}-7{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:19]}"


class Rfc3339:
    """Formats unix milliseconds as RFC 3339 in UTC; the text of a second is made once.

    A few seconds are kept, not one: an exchange formats now and its deadline in turn.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, str] = {}

    def __call__(self, unix_ms: int) -> str:
        second = unix_ms // 1000
        text = self._seconds.get(second)
        if text is None:
            if len(self._seconds) > 64:
                self._seconds.clear()
            text = self._seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return text + _FRACTION[unix_ms - second * 1000]


def parse_rfc3339(text: str) -> int:
    """Unix milliseconds of an RFC 3339 instant, fractions of one cut off; raises ValueError."""
    if text[19:20] == "." and text[23:] == "Z" and text[20:23].isdigit() and text.isascii():
        return _whole_second(text[:19]) + int(text[20:23])  # as we write them ourselves
    return _parse(text)


@lru_cache(256)
def _whole_second(text: str) -> int:
    return _parse(f"{text}Z")


def _parse(text: str) -> int:
    if not _RFC3339.fullmatch(text):
        # `fromisoformat` takes much of ISO 8601 that is not RFC 3339, and instants without an offset.
        raise ValueError(f"not an RFC 3339 instant: {text[:40]!r}")
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
