"""Large bodies, in parts: those that arrive for a question and those that wait to be fetched.

Rules:
1. What is held is bounded in bytes, and in time by the deadline of its exchange: after it nobody asks for it any more.
2. Parts may come twice or in any order. A body is complete when each of its parts is there.
3. Nothing is promised here: whether the parts are what was sealed is checked on the whole.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from exchange import PartHead, QueryHead, ServiceId

PART_SIZE = 256 << 10


def part_count(size: int) -> int:
    """How many parts a body has."""
    return -(-size // PART_SIZE)


@dataclass(slots=True)
class Upload:
    """The body of a question, arriving."""

    head: QueryHead
    service: ServiceId
    size: int
    started: float
    """time.perf_counter() when the question came."""
    parts: dict[int, bytes] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None

    def body(self) -> bytes:
        """The whole; to be called when it is complete."""
        return b"".join([self.parts[number] for number in range(self.head.parts)])


@dataclass(slots=True)
class _Download:
    body: bytes
    timer: asyncio.TimerHandle
    given: set[int] = field(default_factory=set)


class PartStore:
    """Holds large bodies while they travel."""

    def __init__(self, max_held: int) -> None:
        """
        Args:
            max_held: Bytes of all of them together.
        """
        self._max_held = max_held
        self._held = 0
        self._uploads: dict[str, Upload] = {}
        self._downloads: dict[str, _Download] = {}
        self.empty = asyncio.Event()
        """Set while nothing waits to be fetched."""
        self.empty.set()

    def has_room(self, size: int) -> bool:
        """Whether a body of `size` bytes may be held."""
        return self._held + size <= self._max_held

    def expect(self, exchange_id: str, upload: Upload, lifetime: float) -> None:
        """Take parts of a body for `lifetime` seconds."""
        self._drop_upload(exchange_id)
        self._held += upload.size
        self._uploads[exchange_id] = upload
        upload.timer = asyncio.get_running_loop().call_later(lifetime, self._drop_upload, exchange_id)

    def take(self, part: PartHead, data: bytes) -> tuple[bool, Upload | None]:
        """Add a part; returns whether it was wanted, and the upload if it is complete now."""
        upload = self._uploads.get(part.exchange_id)
        if upload is None or not 0 <= part.number < upload.head.parts or len(data) > PART_SIZE:
            return False, None
        upload.parts[part.number] = data
        if len(upload.parts) < upload.head.parts:
            return True, None
        self._drop_upload(part.exchange_id)
        return True, upload

    def keep(self, exchange_id: str, body: bytes, lifetime: float) -> None:
        """Give out parts of a body for `lifetime` seconds, or until each was given."""
        self._held += len(body)
        self.empty.clear()
        timer = asyncio.get_running_loop().call_later(lifetime, self._drop_download, exchange_id)
        self._downloads[exchange_id] = _Download(body, timer)

    def give(self, part: PartHead) -> bytes | None:
        """A part of a body that is kept, or None."""
        download = self._downloads.get(part.exchange_id)
        start = part.number * PART_SIZE
        if download is None or not 0 <= start < len(download.body):
            return None
        download.given.add(part.number)
        if len(download.given) == part_count(len(download.body)):
            self._drop_download(part.exchange_id)
        return download.body[start : start + PART_SIZE]

    def _drop_upload(self, exchange_id: str) -> None:
        upload = self._uploads.pop(exchange_id, None)
        if upload is not None:
            self._held -= upload.size
            if upload.timer is not None:
                upload.timer.cancel()

    def _drop_download(self, exchange_id: str) -> None:
        download = self._downloads.pop(exchange_id, None)
        if download is not None:
            self._held -= len(download.body)
            download.timer.cancel()
            if not self._downloads:
                self.empty.set()
