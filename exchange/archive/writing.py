"""Archiving a log: segments of its entries, written one after the other, each whole or not there.

Rules:
1. A segment is verified like that of a stranger before it gets its name. What is damaged in the log is not archived: it is named.
2. It is written under another name, is on disk, and is renamed then. What a power cut leaves behind is done again.
3. No file is ever overwritten, but for salts and signatures beside a segment that was never finished.
4. One command at a time writes to a folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange.archive.draft import SegmentDraft
from exchange.archive.manifest import SUFFIX, ArchiveError, Digest, file_name
from exchange.archive.segment import Segment
from exchange.archive.segment_checks import Progress, check_segment, private_path
from exchange.archive.source import ArchiveSource
from exchange.receipts.receipt_checks import Keys
from exchange.transparency.checkpoint import NoteSigner, NoteVerifier
from exchange.transparency.tiles import WIDTH

ENTRIES: Final = 65536
"""In a segment, unless told otherwise; segments begin at multiples of it."""

_UNFINISHED: Final = ".part"
_LOCK: Final = ".archiving"


@dataclass(frozen=True, slots=True)
class ArchivedSegment:
    """A segment in a folder, as its manifest says."""

    path: Path
    origin: str
    first: int
    end: int
    sha256: str
    """Of the manifest, hex: what a record of removed entries names."""


def segments_in(folder: Path) -> list[ArchivedSegment]:
    """The segments in a folder, by their bounds; nothing of them is verified.

    Raises:
        ArchiveError: A file that has the name of a segment is none.
        OSError: The folder cannot be read.
    """
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            with Segment(path) as segment:
                manifest = segment.manifest
                found.append(ArchivedSegment(path, manifest.origin, manifest.first, manifest.end, segment.sha256))
        except ArchiveError as error:
            raise ArchiveError(f"{path.name}: {error}", f"{path.name}：{error.zh}") from error
    return sorted(found, key=lambda one: (one.first, one.end))


def archived_up_to(segments: Sequence[ArchivedSegment], origin: str) -> int:
    """Where the segments of a log, one after the other from its beginning, end; a tail is not counted."""
    end = 0
    for one in segments:
        if one.origin == origin and one.first <= end and not one.end % WIDTH:
            end = max(end, one.end)
    return end


def bounds_of(first: int, end: int, size: int = ENTRIES) -> list[tuple[int, int]]:
    """The segments to write for the entries [first, end)."""
    starts = [first, *range(first - first % size + size, end, size)]
    return list(zip(starts, [*starts[1:], end], strict=True)) if first < end else []


class LogArchiver:
    """Writes the archive of one log into a folder.

    Args:
        signer: The log's key.
        verifiers: All keys that the log ever had, this one among them.
    """

    def __init__(
        self, source: ArchiveSource, signer: NoteSigner, verifiers: Sequence[NoteVerifier], folder: Path
    ) -> None:
        self._source = source
        self._signer = signer
        self._keys = Keys(tuple(verifiers), ())
        self._folder = folder

    async def write(
        self, bounds: Sequence[tuple[int, int]], at_ms: int, progress: Progress | None = None
    ) -> AsyncIterator[ArchivedSegment]:
        """Write segments with these bounds, and yield each when it is on disk.

        Args:
            at_ms: Now.
            progress: Told of (entries done, entries in all), twice for each: written, and verified.

        Raises:
            ArchiveError: The log is damaged, or no signed checkpoint covers these entries.
            FileExistsError: There is such a segment already, or another command is writing to the folder.
            OSError: The folder cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(self._folder):
            for first, end in bounds:
                yield await self._segment(first, end, at_ms, progress)

    async def _segment(self, first: int, end: int, at_ms: int, progress: Progress | None) -> ArchivedSegment:
        covers = await self._source.covers(end)
        if end % WIDTH and covers[:1] == [end]:
            covers = [end]
        if not covers or (end % WIDTH and covers != [end]):
            raise ArchiveError(
                f"no signed checkpoint covers the entries up to {end - 1}", f"没有检查点覆盖至第 {end - 1} 条记录"
            )
        name = file_name(self._signer.verifier.name, first, end)
        if (self._folder / name).exists():
            raise FileExistsError(f"{name} is there already")
        unfinished = self._folder / (name + _UNFINISHED)
        for left_over in (unfinished, private_path(unfinished)):
            left_over.unlink(missing_ok=True)
        draft = SegmentDraft(self._source, first, end, covers, progress)
        manifest = await draft.write(unfinished, self._signer, at_ms)
        failed = next((check for check in check_segment(unfinished, self._keys) if not check.ok), None)
        if failed is not None:
            raise ArchiveError(
                f"entries {first} to {end - 1} of the log: {failed.en}", f"日志第 {first} 至 {end - 1} 条：{failed.zh}"
            )
        if manifest.private is not None:
            private_path(unfinished).replace(private_path(self._folder / name))
        unfinished.rename(self._folder / name)
        _sync(self._folder)
        return ArchivedSegment(self._folder / name, manifest.origin, first, end, Digest.of(manifest.data).sha256)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileExistsError(f"another command is writing to {folder}") from error
        yield
    finally:
        os.close(lock)


def _sync(folder: Path) -> None:
    """A name in a folder is on disk when the folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
