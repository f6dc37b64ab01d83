"""Large bodies on disk while they travel: written once, hashed as they come, gone with the process.

Rules:
1. A file has no name, so that a crash leaves nothing behind, and its content is encrypted (AES-256-CTR) under a key that
   exists in this process's memory only: whoever reads the disk later reads noise.
2. A part is written where it belongs, once; the digests are over the parts in order, whatever order they came in.
3. What may be promised is what the disk has free: a body that does not fit is refused before it comes, not in the middle.
4. Disk and hashing never hold up the event loop: they run in threads, one at a time for each body.

Not checked here: whether the digests are those that were sealed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from exchange.errors import OverloadedError
from exchange.messages.envelope import PART_SIZE

KEPT_FREE: Final = 64 << 20
"""Bytes of the disk that bodies never take."""
_BLOCK: Final = 16

events = structlog.get_logger("datong.spool")


class SpoolRoomError(OverloadedError):
    """The disk has no room for the body now."""

    rule_name = "spool-room"
    detail = {
        "en": "There is no room for a body of this size at the moment.",
        "zh": "当前没有足够空间暂存该大小的报文体。",
    }
    retry_after: int | None = 30


class Spool:
    """Where one process keeps large bodies. Belongs to one event loop."""

    def __init__(self, folder: Path | None = None) -> None:
        """
        Args:
            folder: On the disk that is to be used; default: the system's folder for temporary files.
        """
        self._folder = folder or Path(tempfile.gettempdir())
        self._key = os.urandom(32)
        self._promised = 0

    @property
    def promised(self) -> int:
        """Bytes that bodies may still write."""
        return self._promised

    def open(self, size: int = 0, *, sha512: bool = True) -> Spooled:
        """A place for a body of `size` bytes, or more; it is to be closed. Raises SpoolRoomError.

        Args:
            sha512: Whether that digest is wanted, too.
        """
        self.promise(size)
        try:
            return Spooled(self, self._folder, self._key, size, sha512)
        except OSError as error:
            self._promised -= size
            events.error("spool.open", folder=str(self._folder), error=error.strerror)
            raise SpoolRoomError from error

    def promise(self, size: int) -> None:
        """Set `size` bytes of the disk apart; raises SpoolRoomError."""
        try:
            disk = os.statvfs(self._folder)
        except OSError as error:
            events.error("spool.folder", folder=str(self._folder), error=error.strerror)
            raise SpoolRoomError from error
        if size + self._promised + KEPT_FREE > disk.f_bavail * disk.f_frsize:
            events.warning("spool.room", folder=str(self._folder), wanted=size, promised=self._promised)
            raise SpoolRoomError
        self._promised += size

    def settle(self, size: int) -> None:
        """The same bytes are written, or will never be."""
        self._promised -= size


class Spooled:
    """A body on disk: written part by part, then read."""

    def __init__(self, spool: Spool, folder: Path, key: bytes, promised: int, sha512: bool) -> None:
        self._spool = spool
        self._promised = promised
        self._key = key
        self._nonce = os.urandom(8)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # closed by `close`
        self._turn = asyncio.Lock()
        self._guard = threading.Lock()
        """Held while a thread uses the file."""
        self._closed = False
        self._sha256 = hashlib.sha256()
        self._sha512 = hashlib.sha512() if sha512 else None
        self._size = 0
        self._sizes: dict[int, int] = {}
        """Number -> bytes of parts that are written, and not hashed yet."""
        self._hashed = 0
        """Parts that are hashed: all before it are there."""
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._writing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def sha256(self) -> bytes:
        """Of what is written, up to the first part that is missing."""
        return self._sha256.digest()

    @property
    def sha512(self) -> bytes:
        """Likewise; raises ValueError if it was not asked for when the place was opened."""
        if self._sha512 is None:
            raise ValueError("this digest was not made")
        return self._sha512.digest()

    async def add(self, piece: bytes) -> None:
        """Append a piece of any size to a body that comes in order; `finish` writes what is left.

        While one part is written the next may come, and no more than that.

        Raises:
            SpoolRoomError: The disk is full, or has no more room for a body whose size nobody told.
        """
        self._rest.append(piece)
        self._rest_size += len(piece)
        if self._rest_size >= PART_SIZE:
            await self._written()
            data = b"".join(self._rest)
            end = len(data) - len(data) % PART_SIZE
            self._rest, self._rest_size = [data[end:]], len(data) - end
            self._writing = asyncio.create_task(self._append(data, end))

    async def finish(self) -> None:
        """Return when all that was added is written; raises as `add`."""
        await self._written()
        data = b"".join(self._rest)
        self._rest, self._rest_size = [], 0
        await self._append(data, len(data))

    async def _append(self, data: bytes, end: int) -> None:
        for start in range(0, end, PART_SIZE):
            await self.put(self._hashed, data[start : min(start + PART_SIZE, end)])

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def put(self, number: int, data: bytes) -> None:
        """Write part `number`, of PART_SIZE bytes unless it is the last; each part is to be put once.

        Raises:
            SpoolRoomError: The disk is full.
        """
        async with self._turn:
            beyond = len(data) - self._promised
            if beyond > 0:
                self._spool.promise(beyond)
                self._promised += beyond
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._write, number, data)
            except OSError as error:
                events.error("spool.write", error=error.strerror)
                raise SpoolRoomError from error
            self._size += len(data)
            if not self._closed:
                self._promised -= len(data)
                self._spool.settle(len(data))

    async def read(self, start: int, size: int) -> bytes:
        """Bytes of the body; `start` is a multiple of 16."""
        return await asyncio.get_running_loop().run_in_executor(None, self._read, start, size)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The whole, in parts."""
        loop = asyncio.get_running_loop()
        coming = loop.run_in_executor(None, self._read, 0, PART_SIZE)
        for start in range(PART_SIZE, self._size + PART_SIZE, PART_SIZE):
            piece = await coming
            if start < self._size:  # read on while this piece is taken
                coming = loop.run_in_executor(None, self._read, start, PART_SIZE)
            yield piece

    def close(self) -> None:
        """Give the place back, now or when a thread is done with the file."""
        if self._closed:
            return
        self._closed = True
        if self._writing is not None:
            self._writing.cancel()
        self._spool.settle(self._promised)
        self._rest = []
        if self._guard.acquire(blocking=False):
            self._guard.release()
            self._close_file()
        else:
            asyncio.get_running_loop().run_in_executor(None, self._close_file)

    # -- in threads

    def _write(self, number: int, data: bytes) -> None:
        with self._guard:
            if self._file.closed:
                return
            start = number * PART_SIZE
            hidden = memoryview(self._cipher(start).encryptor().update(data))
            while hidden:
                written = os.pwrite(self._file.fileno(), hidden, start)
                hidden, start = hidden[written:], start + written
            if number != self._hashed:
                self._sizes[number] = len(data)
                return
            self._hash(data)
            while (size := self._sizes.pop(self._hashed, None)) is not None:
                self._hash(self._plain(self._hashed * PART_SIZE, size))

    def _hash(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._sha512 is not None:
            self._sha512.update(data)
        self._hashed += 1

    def _read(self, start: int, size: int) -> bytes:
        with self._guard:
            # Closed while it was to be sent: who reads on is on its way out, and what is short matches no length.
            return b"" if self._file.closed else self._plain(start, size)

    def _plain(self, start: int, size: int) -> bytes:
        pieces = []
        at = start
        while size and (piece := os.pread(self._file.fileno(), size, at)):
            pieces.append(piece)
            at, size = at + len(piece), size - len(piece)
        return self._cipher(start).decryptor().update(b"".join(pieces))

    def _close_file(self) -> None:
        with self._guard:
            self._file.close()

    def _cipher(self, start: int) -> Cipher[CTR]:
        return Cipher(AES(self._key), CTR(self._nonce + (start // _BLOCK).to_bytes(8, "big")))
