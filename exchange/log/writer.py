"""The process that writes the exchange log: python -m exchange.log.writer --fd N, a child of the gateway.

Rules:
1. It takes everything that waits, writes it in one transaction, and answers all of it (group commit). Only what is
   durable is acknowledged.
2. It alone holds the log's key. It signs only what is stored, at most `checkpoint_interval` after a change or when
   asked, and never below or beside what it signed before: that is kept in the database and in a file beside the key,
   so that an old copy of the database is recognised.
3. No entry is long without a signed checkpoint over it, not even one that a writer left behind when it died. If signing fails
   for COVERED_WITHIN seconds, nothing more is appended until it succeeds.
4. A database that fails is an answer, not an end: the batch is refused and the next one tries again. A log that
   contradicts itself is an end.
5. It lives as long as the socket: when the gateway closes it or dies, what was received is written and the process
   ends. Signals meant for the gateway reach a whole process group; the writer ignores them, since the gateway still
   needs it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvloop

from exchange.log.frames import Entry, Frame, Messages, Reply, Start, Started, message
from exchange.log.store import Batch, CorruptLogError, DuplicateRecordError, LogStore, StoreError
from exchange.transparency.checkpoint import Checkpoint, NoteError, NoteSigner, open_checkpoint
from exchange.transparency.merkle import ProofError
from exchange.transparency.tiles import Edge, tree_root

CORRUPT, UNAVAILABLE = 3, 4
"""Exit codes: the log contradicts itself; the database or the key cannot be read."""

COVERED_WITHIN = 45.0
"""Seconds after which an entry without a signed checkpoint stops the log. A minute is promised."""

_LOOK_SECONDS = 20.0
"""How often a writer without work looks whether another one left entries unsigned."""
_AGAIN_SECONDS = 1.0
"""Until signing is tried again, at most."""
_BUFFER = 4 << 20


def open_store(start: Start) -> LogStore:
    """The store that the gateway named; nothing is connected yet."""
    if start.sqlite_path:
        from exchange.log.store_sqlite import SqliteStore

        return SqliteStore(start.sqlite_path)
    from exchange.log.store_postgresql import PostgresqlStore

    return PostgresqlStore(start.postgresql)


class LastSigned:
    """The largest checkpoint a key has signed, in a file beside the key: a bound that no old database can undo."""

    def __init__(self, key_path: Path) -> None:
        self._path = key_path.with_name(key_path.name + ".signed")
        self.size = -1

    def read(self, signer: NoteSigner) -> Checkpoint | None:
        """The checkpoint, None if there is none yet; raises CorruptLogError if it is not one of this key."""
        try:
            note = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            return open_checkpoint(note, [signer.verifier])
        except NoteError as error:
            raise CorruptLogError(
                f"{self._path.name}, the last checkpoint of the log's key, is damaged: {error}"
            ) from error

    def write(self, size: int, note: str) -> None:
        """Replace it by a larger one, durably; raises OSError."""
        if size <= self.size:
            return
        with self._turn() as folder:
            if size > self._stored_size():
                temporary = self._path.with_name(f"{self._path.name}.new")
                with temporary.open("w", encoding="utf-8") as file:
                    file.write(note)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._path)
                os.fsync(folder)
        self.size = size

    @contextlib.contextmanager
    def _turn(self) -> Iterator[int]:
        """The folder, while it is ours: writers of several gateways may share the key, and none undoes what another wrote."""
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(folder)

    def _stored_size(self) -> int:
        """What the file says now. Whether it was signed is looked at when a writer starts, not here."""
        try:
            return int(self._path.read_text(encoding="utf-8").split("\n")[1])
        except (FileNotFoundError, ValueError, IndexError):
            return -1


class LogWriter:
    """Writes batches and signs checkpoints. One task calls it."""

    def __init__(self, store: LogStore, signer: NoteSigner, last_signed: LastSigned, gateway: str, boot: str) -> None:
        self._store = store
        self._signer = signer
        self._last_signed = last_signed
        self._gateway = gateway
        self._boot = boot
        self._edge: Edge | None = None
        self._uncovered_since: float | None = None
        """Of `time.monotonic`: since when there is an entry that no signed checkpoint covers; None if there is none."""

    def sign_at(self, interval: float) -> float | None:
        """When (of `time.monotonic`) to sign, so that no entry waits longer than `interval` seconds; None if all are covered."""
        return None if self._uncovered_since is None else self._uncovered_since + min(interval, COVERED_WITHIN)

    @property
    def size(self) -> int:
        """Entries of the log as far as this writer knows."""
        return self._edge.size if self._edge else 0

    async def check(self) -> None:
        """Read the end of the log and compare it with what was signed.

        Raises:
            CorruptLogError: They do not agree.
            StoreError: The database does not answer.
        """
        # What was signed is read before the log: other writers may be at work, and what they sign later covers more.
        newest = await self._store.newest_checkpoint()
        remembered = self._last_signed.read(self._signer)
        edge = await self._store.load()
        if newest is not None:
            try:
                stored = open_checkpoint(newest.note, [self._signer.verifier])
            except NoteError as error:
                raise CorruptLogError(
                    f"the newest stored checkpoint was not signed by the log's key: {error}"
                ) from error
            if (stored.size, stored.root) != (newest.size, newest.root):
                raise CorruptLogError("the newest stored checkpoint was changed")
            await self._covers(edge, stored)
        if remembered is not None:
            await self._covers(edge, remembered)
            self._last_signed.size = remembered.size
        self._edge = edge
        # The next checkpoint is written to the file, too, if that was left behind.
        covered = min(newest.size if newest else 0, max(self._last_signed.size, 0))
        self._uncovered_since = time.monotonic() if covered < edge.size else None

    async def _covers(self, edge: Edge, signed: Checkpoint) -> None:
        if signed.size > edge.size:
            raise CorruptLogError(
                f"the log has {edge.size} entries, and a checkpoint of {signed.size} was signed: entries are missing,"
                " or an old copy of the database was put back"
            )
        try:
            root = await tree_root(self._store, signed.size)
        except ProofError as error:
            raise CorruptLogError("tiles of the log are damaged") from error
        if root != signed.root:
            raise CorruptLogError(f"the first {signed.size} entries are not those of the checkpoint signed over them")

    async def write(self, frames: Sequence[Frame]) -> list[Reply]:
        """Make the frames durable together, one reply for each; raises CorruptLogError."""
        batch = Batch(self._gateway, self._boot)
        probe = wants_note = False
        for frame in frames:
            probe |= frame.probe
            wants_note |= frame.checkpoint
            batch.entries += frame.entries
            batch.settled += frame.settled
            batch.settled += frame.dropped
            batch.intents += frame.intents
            batch.certificates += frame.certificates
            batch.evidence += frame.evidence
            batch.annexes += frame.annexes
        left_out: list[list[int]] = [[]] * len(frames)
        known: set[str] = set()
        try:
            if self._edge is None:
                await self.check()
                assert self._edge is not None
            await self._refuse_uncovered()
            begun = time.monotonic()
            while probe or batch:
                batch.at_ms = time.time_ns() // 1_000_000
                try:
                    self._edge = await self._store.append(self._edge, batch)
                    break
                except DuplicateRecordError as error:
                    known |= error.exchange_ids
                    batch.entries, left_out = _first_records(frames, known)
        except (StoreError, OSError) as error:
            return [Reply(problem=str(error) or type(error).__name__)] * len(frames)
        if batch.entries and self._uncovered_since is None:
            self._uncovered_since = begun
        seq = self._edge.size - len(batch.entries)
        note = ""
        if wants_note:
            # The entries are durable, whether or not the checkpoint over them can be stored.
            with contextlib.suppress(StoreError, OSError):
                note = await self.checkpoint()
        replies = []
        for frame, positions in zip(frames, left_out, strict=True):
            replies.append(Reply(seq, "", positions, note if frame.checkpoint else ""))
            seq += len(frame.entries) - len(positions)
        return replies

    async def checkpoint(self) -> str:
        """Sign what is stored, unless that was done before; raises StoreError, OSError, CorruptLogError."""
        if self._edge is None:
            await self.check()
            assert self._edge is not None
        self._edge, note = await self._store.checkpoint(self._edge, self._sign)
        self._last_signed.write(self._edge.size, note)
        self._uncovered_since = None
        return note

    async def _refuse_uncovered(self) -> None:
        """Raise StoreError if entries have waited too long for their checkpoint, and cannot get it now either."""
        since = self._uncovered_since
        if since is None or time.monotonic() - since < COVERED_WITHIN:
            return
        try:
            await self.checkpoint()
        except (StoreError, OSError) as error:
            raise StoreError(
                f"checkpoint-signed: nothing can be signed since {COVERED_WITHIN:.0f} s: {error}"
            ) from error

    def _sign(self, size: int, root: bytes) -> str:
        if size < self._last_signed.size:
            raise CorruptLogError(f"the log shrank below its last checkpoint of {self._last_signed.size} entries")
        return Checkpoint(self._signer.verifier.name, size, root).signed(self._signer)


def _first_records(frames: Sequence[Frame], known: set[str]) -> tuple[list[Entry], list[list[int]]]:
    """The entries that are the first record of their exchange, and for each frame where the others stood in it."""
    seen = set(known)
    first: list[Entry] = []
    left_out = []
    for frame in frames:
        positions = []
        for position, entry in enumerate(frame.entries):
            if entry[0] in seen:
                positions.append(position)
            else:
                seen.add(entry[0])
                first.append(entry)
        left_out.append(positions)
    return first, left_out


class _Link(asyncio.Protocol):
    """The socket to the gateway: collects frames until the writer takes them."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._loop = asyncio.get_running_loop()
        self.start: asyncio.Future[Start] = self._loop.create_future()
        self.closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        """Of `time.monotonic`."""
        self._starts = Messages(Start)
        self._messages = Messages(Frame)

    def data_received(self, data: bytes) -> None:
        if not self.start.done():
            # The gateway sends nothing else before it has our answer.
            for start in self._starts.feed(data):
                self.start.set_result(start)
            return
        self.frames += self._messages.feed(data)
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if not self.start.done():
            self.start.cancel()
        self._wake()

    async def wait(self, until: float) -> None:
        """Return when something has come or the socket closed, at the latest at `until` (of `time.monotonic`), or before."""
        if self._timer is None or until < self._timer_at:
            # One that rings too early, because there was more to wait for, costs less than a new one for every frame.
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(0.0, until - time.monotonic()), self._ring)
            self._timer_at = until
        self._waiter = self._loop.create_future()
        await self._waiter

    def _ring(self) -> None:
        self._timer = None
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


async def serve(connection: socket.socket) -> int:
    """Write the log for the gateway at the other end of `connection` until it closes; the process's exit code."""
    loop = asyncio.get_running_loop()
    transport, link = await loop.create_unix_connection(_Link, sock=connection)
    try:
        start = await link.start
    except asyncio.CancelledError:
        return 0
    try:
        signer = NoteSigner.from_skey(Path(start.log_key).read_text(encoding="utf-8"))
        writer = LogWriter(open_store(start), signer, LastSigned(Path(start.log_key)), start.gateway, start.boot)
        await writer.check()
    except (CorruptLogError, NoteError) as error:
        transport.write(message(Started(str(error), fatal=True)))
        transport.close()
        return CORRUPT
    except (StoreError, OSError) as error:
        transport.write(message(Started(str(error) or type(error).__name__)))
        transport.close()
        return UNAVAILABLE
    transport.write(message(Started(size=writer.size, vkey=signer.verifier.vkey)))
    try:
        await _write_until_closed(link, transport, writer, start.checkpoint_interval)
    except CorruptLogError as error:
        # The gateway starts the next writer, which will refuse with the same reason and be heard; this is for the
        # journal.
        sys.stderr.write(f"exchange log: {error}\n")
        transport.abort()
        return CORRUPT
    return 0


async def _write_until_closed(
    link: _Link, transport: asyncio.WriteTransport, writer: LogWriter, checkpoint_interval: float
) -> None:
    # A reply leaves at once, not at the end of the loop's turn: what follows it is no longer waited for.
    transport.set_write_buffer_limits(high=0)
    again = time.monotonic()
    """Not before that is signing tried again."""
    look = again + _LOOK_SECONDS
    while True:
        if link.frames:
            frames, link.frames = link.frames, []
            replies = await writer.write(frames)
            transport.write(b"".join([message(reply) for reply in replies]))
        now = time.monotonic()
        due = max(_either(writer.sign_at(checkpoint_interval), look), again)
        if now >= due:
            look = now + _LOOK_SECONDS
            try:
                await writer.checkpoint()
            except (StoreError, OSError):
                again = time.monotonic() + min(checkpoint_interval, _AGAIN_SECONDS)
        elif not link.frames:
            if link.closed:
                return
            await link.wait(due)


def _either(sign_at: float | None, look: float) -> float:
    return look if sign_at is None else min(sign_at, look)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m exchange.log.writer", description="Writes the log; started by a gateway."
    )
    parser.add_argument("--fd", type=int, required=True, help="inherited socket to the gateway")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=options.fd)
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    return uvloop.run(serve(connection))


if __name__ == "__main__":
    sys.exit(main())
