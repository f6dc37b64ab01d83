"""An adapter's own ledger: what it was asked to do, what it released, to whom and when.

Rules:
1. Append-only files of JSON lines (RFC 8785), `00000001.jsonl` and so on. A line holds the statements byte for byte as they were
   sealed, and both seals: the department can prove the question, and what it answered.
2. An unsafe question is on disk (`fdatasync`) before the department's system is touched. An answer's line is with the operating
   system before it is released, so that it survives this process, and on disk within a second.
3. A write that fails is undone and releases nothing. A last line that a power cut tore, of the newest file or of the one before it,
   is cut off at the next start, and said.
4. Lines that come together are one write. Syncing never stalls the loop.
5. One process at a time: the folder is locked.
6. What is on disk goes into the ledger's own tree within a second, which is signed (`exchange.ledger.tree`): a few lines in a turn
   of the event loop, and nobody waits for it. The key lies outside the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from binascii import b2a_base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
import structlog
from msgspec import UNSET, Raw, UnsetType

from exchange.errors import LogUnavailableError
from exchange.ledger.tree import LedgerTree, LedgerTreeError
from exchange.moments import Rfc3339

SEGMENT_BYTES = 64 << 20
SYNC_SECONDS = 1.0
LINES_A_TURN = 128
"""Lines that are hashed in one turn of the event loop: 0.2 ms, and more than a turn brings. In a thread they would take as long,
and as only one thread of the interpreter runs at a time, whatever the loop does would wait up to 5 ms for it."""

events = structlog.get_logger("datong.ledger")


class LedgerError(OSError):
    """The ledger cannot be opened or read; the message says why."""


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line. Fields in alphabetical order; `query` and `answer` are the statements' canonical bytes."""

    answer: Raw | UnsetType = UNSET
    answer_seal: str | UnsetType = UNSET
    at: str
    """RFC 3339, by the adapter's clock."""
    kind: Literal["intent", "answer"]
    query: Raw
    query_seal: str


Answered = tuple[bytes, bytes, bytes, bytes]
"""An answer that was released: query statement, its seal, answer statement, its seal."""

_decode = msgspec.json.Decoder(LedgerLine).decode

# What the encoder would make of a `LedgerLine`: the statements are JSON, and neither base64 nor an instant needs escapes.
_INTENT = b'{"at":"%b","kind":"intent","query":%b,"query_seal":"%b"}'
_ANSWER = b'{"answer":%b,"answer_seal":"%b","at":"%b","kind":"answer","query":%b,"query_seal":"%b"}'


class Ledger:
    """The ledger of one adapter process; `open` makes one."""

    def __init__(self, folder: Path, lock: int, tree: LedgerTree) -> None:
        self._folder = folder
        self._lock = lock
        self._tree = tree
        self._written: list[bytes] = []
        """Lines that are in the file and not known to be on disk."""
        self._on_disk: list[bytes] = []
        """Lines that are on disk and not in the tree."""
        self._growing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._time_text = Rfc3339()
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._to_sync: list[asyncio.Future[None]] = []
        self._syncing: asyncio.Task[None] | None = None
        self._sync_timer: asyncio.TimerHandle | None = None
        newest = _segments(folder)[-1:]
        self._number = int(newest[0].stem) if newest else 1
        self._fd, self._size = _open_whole(self._segment(self._number))
        self._ended: list[int] = []
        """Segments before this one that are not known to be on disk."""

    @classmethod
    async def open(cls, folder: Path, owner: str, key: Path | None = None) -> Ledger:
        """Open the ledger in `folder`, made if missing; cuts off a torn last line.

        Args:
            owner: The subsystem whose ledger it is.
            key: File of the note signer key, made if missing; by default `<folder>.key`, beside the folder.

        Raises:
            LedgerError: Another process has it open, the folder cannot be written, or lines that were signed over are missing.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise LedgerError(f"the ledger in {folder} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise LedgerError(f"another adapter process has the ledger in {folder} open") from error
        key = key or folder.with_name(folder.name + ".key")
        try:
            return cls(folder, lock, await asyncio.to_thread(_open_tree, folder, owner, key))
        except (LedgerTreeError, OSError) as error:
            os.close(lock)
            if isinstance(error, LedgerError):
                raise
            raise LedgerError(f"{folder}: {error}") from error

    @property
    def vkey(self) -> str:
        """The public key of the ledger's own log."""
        return self._tree.vkey

    async def intend(self, query: bytes, query_seal: bytes) -> None:
        """Return when it is on disk that the question is about to be asked; raises LogUnavailableError."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((_INTENT % (self._now(), query, _base64(query_seal)), future))
        if len(self._waiting) == 1:
            self._loop.call_soon(self._flush)
        await future

    def answered(self, answers: Sequence[Answered]) -> None:
        """Return when the answers' lines would survive this process.

        Raises:
            LogUnavailableError: They could not be written; none of them is there.
        """
        now = self._now()
        self._put(
            [
                _ANSWER % (answer, _base64(answer_seal), now, query, _base64(query_seal))
                for query, query_seal, answer, answer_seal in answers
            ]
        )
        self._sync_soon()

    async def close(self) -> None:
        """Write and sync what is left; let go of the folder."""
        self._flush()
        while self._syncing is not None:
            await self._syncing
        if self._sync_timer is not None:
            self._sync_timer.cancel()
        self._closing.set()
        if self._growing is not None:
            await self._growing
        await self._sync_files()
        self._on_disk += self._written
        await self._grow()
        with contextlib.suppress(OSError):
            self._tree.keep()
        os.close(self._fd)
        os.close(self._lock)

    def _now(self) -> bytes:
        return self._time_text(time.time_ns() // 1_000_000).encode()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            self._put([line for line, _ in waiting])
        except LogUnavailableError as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        self._to_sync += [future for _, future in waiting]
        self._start_sync()

    def _sync_soon(self) -> None:
        if self._sync_timer is None and self._syncing is None:
            self._sync_timer = self._loop.call_later(SYNC_SECONDS, self._start_sync)

    def _put(self, lines: list[bytes]) -> None:
        try:
            if self._size >= SEGMENT_BYTES and self._syncing is None:
                self._next_segment()
            self._write(b"\n".join([*lines, b""]))
            self._written += lines
        except OSError as error:
            events.error("ledger.write", error=error.strerror)
            raise LogUnavailableError("ledger-written") from error

    def _write(self, data: bytes) -> None:
        """All of it or nothing; raises OSError."""
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def _start_sync(self) -> None:
        if self._sync_timer is not None:
            self._sync_timer.cancel()
            self._sync_timer = None
        if self._syncing is None:
            self._syncing = self._loop.create_task(self._sync())

    async def _sync(self) -> None:
        try:
            while True:
                futures, self._to_sync = self._to_sync, []
                lines, self._written = self._written, []
                on_disk = self._size
                try:
                    await self._sync_files()
                except OSError as error:
                    events.error("ledger.sync", error=error.strerror)
                    self._written = lines + self._written
                    for future in futures:
                        if not future.done():
                            future.set_exception(LogUnavailableError("ledger-written"))
                else:
                    self._on_disk += lines
                    if self._growing is None and lines:
                        self._growing = self._loop.create_task(self._grow())
                    for future in futures:
                        if not future.done():
                            future.set_result(None)
                if not self._to_sync:
                    break
        finally:
            self._syncing = None
        if self._size != on_disk:
            self._sync_soon()  # lines that were written meanwhile

    async def _grow(self) -> None:
        """Take what is on disk into the tree and sign it, once a second while there is more."""
        while self._on_disk or not self._tree.signed:
            lines, self._on_disk = self._on_disk, []
            for at in range(0, len(lines), LINES_A_TURN):
                self._tree.add(lines[at : at + LINES_A_TURN])
                await asyncio.sleep(0)
            try:
                await asyncio.to_thread(self._tree.sign)
            except OSError as error:
                events.error("ledger.tree", error=error.strerror)
            if self._closing.is_set():
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SYNC_SECONDS):
                    await self._closing.wait()
        self._growing = None

    def _next_segment(self) -> None:
        # The old one is let go when the new one is there: on a full disk it may not be.
        fd = os.open(self._segment(self._number + 1), os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        self._ended.append(self._fd)
        self._number, self._fd, self._size = self._number + 1, fd, 0

    async def _sync_files(self) -> None:
        """Return when all that was written before is on disk; raises OSError. No segment begins meanwhile."""
        ended, fd = self._ended, self._fd

        def sync() -> None:
            for each in (*ended, fd):
                os.fdatasync(each)
            if ended:
                _sync_folder(self._folder)

        await self._loop.run_in_executor(None, sync)
        while ended:
            os.close(ended.pop())

    def _segment(self, number: int) -> Path:
        return self._folder / f"{number:08d}.jsonl"


def _base64(seal: bytes) -> bytes:
    return b2a_base64(seal, newline=False)


def _open_tree(folder: Path, owner: str, key: Path) -> LedgerTree:
    """The ledger's tree, after a torn last line was cut off; blocks."""
    # Of the newest segment and of the one before it: that had just ended, perhaps, and was not on disk when the power failed.
    for segment in _segments(folder)[-2:]:
        os.close(_open_whole(segment)[0])
    return LedgerTree.open(folder, key, owner, lambda first: read_lines(folder, first))


def _open_whole(path: Path) -> tuple[int, int]:
    """Open a segment, made if missing, without a torn last line; file descriptor and size. Raises LedgerError."""
    fd = -1
    try:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        size = os.fstat(fd).st_size
        whole = _whole_lines(fd, size)
        if whole < size:
            events.warning("ledger.torn_line", segment=path.name, bytes_cut=size - whole)
            os.ftruncate(fd, whole)
        _sync_folder(path.parent)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from error
    return fd, whole


def _sync_folder(path: Path) -> None:
    """The names of new files must survive, too."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_lines(folder: Path, first: int = 0) -> Iterator[bytes]:
    """The lines of a ledger from number `first` on, as they are and without newlines; a torn last line is left out.

    Raises:
        LedgerError: A file cannot be read, or a line that is not the last is torn.
    """
    segments = _segments(folder)
    skip = first
    for segment in segments:
        try:
            with segment.open("rb") as file:
                if segment is not segments[-1] and skip and (count := _count_lines(file)) <= skip:
                    skip -= count
                    continue
                file.seek(0)
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        if segment is not segments[-1]:
                            raise LedgerError(f"{segment}, line {number}: torn, and not the last one")
                        return
                    if skip:
                        skip -= 1
                        continue
                    yield line[:-1]
        except OSError as error:
            if isinstance(error, LedgerError):
                raise
            raise LedgerError(f"{segment}: {error.strerror}") from error


def _count_lines(file: BinaryIO) -> int:
    return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def read_ledger(folder: Path) -> Iterator[LedgerLine]:
    """The lines of a ledger, oldest first; a torn last line is left out.

    Raises:
        LedgerError: There is no ledger, or a line is none of ours; the message names file and line.
    """
    segments = _segments(folder)
    if not segments:
        raise LedgerError(f"there is no ledger in {folder}")
    for segment in segments:
        with segment.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if segment is not segments[-1]:
                        raise LedgerError(f"{segment}, line {number}: torn, and not the last one")
                    return
                try:
                    yield _decode(line)
                except msgspec.MsgspecError as error:
                    raise LedgerError(f"{segment}, line {number}: {error}") from error


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdecimal())


def _whole_lines(fd: int, size: int) -> int:
    """How many bytes of the file are whole lines."""
    end = size
    while end > 0:
        start = max(0, end - 65536)
        block = os.pread(fd, end - start, start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
