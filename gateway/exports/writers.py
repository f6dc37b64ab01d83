"""What the forms of an export have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from exchange import StoredEntry
from gateway.exports.heading import Heading


class ExportWriter(Protocol):
    """Turns records into the bytes of one file, part by part: `begin`, `rows` as often as needed, `end`; `close` in any case.

    What was given out is not kept. The file ends with the number of its records: one that was cut off does not.
    """

    media_type: str

    def begin(self, heading: Heading) -> bytes:
        """The first bytes."""
        ...

    def rows(self, entries: Sequence[StoredEntry]) -> bytes:
        """More bytes, for some records; there may be none yet."""
        ...

    def end(self, count: int) -> bytes:
        """The last bytes."""
        ...

    def close(self) -> None:
        """Let go of what was begun; the file has its end only if `end` gave it."""
        ...
