"""Large bodies, in parts: those that arrive for a question and those that wait to be fetched.

Rules:
1. What arrives goes to disk (`exchange.broker.spool`). What waits in memory is bounded in bytes. Both are bounded in time by
   the deadline of their exchange: after it nobody asks for it any more.
2. Parts may come twice or in any order. A body is complete when each of its parts is there.
3. Nothing is promised here: whether the parts are what was sealed is checked on the whole.
4. Answers that leave piece by piece are in `department_adapters.streams`; here is what has to be whole first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from exchange import PART_SIZE, PartHead, QueryHead, ServiceId, Spool, Spooled, SpoolRoomError, part_count


@dataclass(slots=True)
class Upload:
    """The body of a question, arriving."""

    head: QueryHead
    service: ServiceId
    size: int
    started: float
    """time.perf_counter() when the question came."""
    body: Spooled
    came: set[int] = field(default_factory=set)
    written: int = 0
    """Parts that are on disk, or could not be written."""
    fits: bool = True
    """Whether each part had the size that its number demands."""
    failure: SpoolRoomError | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing more is to come."""
        return self.written == self.head.parts

    async def put(self, number: int, data: bytes) -> None:
        """Write a part; what goes wrong is told when the body is complete."""
        self.fits &= len(data) == min(PART_SIZE, self.size - number * PART_SIZE)
        try:
            if self.failure is None:
                await self.body.put(number, data)
        except SpoolRoomError as error:
            self.failure = error
        self.written += 1


@dataclass(slots=True)
class _Download:
    body: bytes
    timer: asyncio.TimerHandle
    given: set[int] = field(default_factory=set)


class PartStore:
    """Holds large bodies while they travel."""

    def __init__(self, max_held: int, spool: Spool) -> None:
        """
        Args:
            max_held: Bytes of all bodies together that wait in memory to be fetched.
            spool: Where those go that arrive.
        """
        self._max_held = max_held
        self._spool = spool
        self._held = 0
        self._uploads: dict[str, Upload] = {}
        self._downloads: dict[str, _Download] = {}
        self.empty = asyncio.Event()
        """Set while nothing waits to be fetched."""
        self.empty.set()

    def has_room(self, size: int) -> bool:
        """Whether a body of `size` bytes may be held."""
        return self._held + size <= self._max_held

    def expect(
        self, exchange_id: str, head: QueryHead, service: ServiceId, size: int, started: float, lifetime: float
    ) -> None:
        """Take parts of a body for `lifetime` seconds; raises SpoolRoomError."""
        upload = Upload(head, service, size, started, self._spool.open(size, sha512=bool(head.evidence)))
        self._drop_upload(exchange_id)
        self._uploads[exchange_id] = upload
        upload.timer = asyncio.get_running_loop().call_later(lifetime, self._drop_upload, exchange_id)

    def take(self, part: PartHead, data: bytes) -> tuple[Upload | None, bool]:
        """The upload that a part is wanted for, and whether it is to be `put`: not if it came before."""
        upload = self._uploads.get(part.exchange_id)
        if upload is None or not 0 <= part.number < upload.head.parts or len(data) > PART_SIZE:
            return None, False
        if part.number in upload.came:
            return upload, False
        upload.came.add(part.number)
        return upload, True

    def hand_over(self, exchange_id: str, upload: Upload) -> bool:
        """Take no more parts of it: its body is now the caller's, to be closed. False if its time was over before."""
        if self._uploads.get(exchange_id) is not upload:
            return False
        del self._uploads[exchange_id]
        if upload.timer is not None:
            upload.timer.cancel()
        return True

    def close(self) -> None:
        """Give up what is still arriving."""
        for exchange_id in list(self._uploads):
            self._drop_upload(exchange_id)

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
            upload.body.close()
            if upload.timer is not None:
                upload.timer.cancel()

    def _drop_download(self, exchange_id: str) -> None:
        download = self._downloads.pop(exchange_id, None)
        if download is not None:
            self._held -= len(download.body)
            download.timer.cancel()
            if not self._downloads:
                self.empty.set()
