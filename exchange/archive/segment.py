"""A segment as a file: a zip of members that are stored as they are, read strictly, written so that it is whole or not there.

Rules:
1. Nothing is read but by the manifest: a member has the size and the SHA-256 that stand there, or an error names it. There is no
   member that the manifest does not name.
2. Nothing is compressed: the same members make the same bytes with every version of every library, and no small file becomes
   a large one on the reader's machine. Nothing is ever unpacked into a folder.
3. Reading holds one bundle or tile in memory, and the list of members: a segment of a million entries takes as little as others.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from exchange.archive.manifest import FORMAT, MANIFEST, NOTE, ArchiveError, Digest, Manifest, statement
from exchange.transparency.checkpoint import NoteError, NoteVerifier, open_note

_LARGEST_MANIFEST: Final = 256 << 20
_LARGEST_NOTE: Final = 1 << 16
_LARGEST_MEMBER: Final = 256 << 20
"""Of those that are read in one piece: bundles, tiles, certificates, CRLs."""
_LONGEST_LINE: Final = 16 << 20
_CHUNK: Final = 1 << 20
_MAGIC: Final = b"PK\x03\x04"
_UNREADABLE: Final = (
    *(zipfile.BadZipFile, struct.error, EOFError, OSError),
    *(ValueError, RuntimeError, KeyError, NotImplementedError, OverflowError),
)
"""What `zipfile` raises for bytes that are no such file."""


def is_archive(path: Path) -> bool:
    """Whether a file begins like a segment; raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class Segment:
    """A segment that is being read; a context manager.

    Raises:
        ArchiveError: It is not one, or a member is not the one that was archived.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            self._zip, self.manifest, self.sha256 = self._opened()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._file.close()

    def check_signature(self, verifiers: list[NoteVerifier]) -> None:
        """Return if the log whose entries these are has signed the manifest; raises ArchiveError otherwise."""
        manifest = self.manifest
        try:
            note = self._read(NOTE, _LARGEST_NOTE).decode()
            text, signed = open_note(note, verifiers)
        except (NoteError, UnicodeDecodeError) as error:
            raise ArchiveError(f"the note over the manifest: {error}", f"清单签名：{error}") from error
        if text != statement(manifest.origin, manifest.first, manifest.end, self.sha256):
            raise ArchiveError("the manifest is not the one that was signed", "清单与已签名的不符")
        if manifest.origin not in signed:
            raise ArchiveError("the log itself has not signed the manifest", "日志自身未签署清单")

    def read(self, name: str) -> bytes:
        """A member, which is the one that was archived."""
        digest = self.manifest.members[name]
        data = self._read(name, min(digest.size, _LARGEST_MEMBER))
        if Digest.of(data) != digest:
            raise changed(name)
        return data

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a member, without their ends. Whether it is the one that was archived is known after the last."""
        hashed, size = hashlib.sha256(), 0
        try:
            with self._zip.open(name) as file:
                while line := file.readline(_LONGEST_LINE):
                    hashed.update(line)
                    size += len(line)
                    if not line.endswith(b"\n"):
                        raise changed(name)
                    yield line[:-1]
        except ArchiveError:
            raise
        except _UNREADABLE as error:
            raise changed(name) from error
        if Digest(hashed.hexdigest(), size) != self.manifest.members[name]:
            raise changed(name)

    def _opened(self) -> tuple[zipfile.ZipFile, Manifest, str]:
        try:
            self._zip = archive = zipfile.ZipFile(self._file)
            infos = archive.infolist()
        except _UNREADABLE as error:
            raise ArchiveError(f"it is not a zip file: {error}", "不是 zip 文件") from error
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
                raise ArchiveError(f"{info.filename[:100]} is not stored as it is", "成员被压缩或加密")
        names = [info.filename for info in infos]
        if MANIFEST not in names or NOTE not in names:
            raise ArchiveError(f"it is not a segment of {FORMAT}: there is no signed manifest", "缺少已签名的清单")
        data = self._read(MANIFEST, _LARGEST_MANIFEST)
        manifest = Manifest.from_data(data)
        if sorted(names) != sorted([MANIFEST, NOTE, *manifest.members]):
            odd = sorted(set(names) ^ {MANIFEST, NOTE, *manifest.members}) or ["some member, twice"]
            raise ArchiveError(f"{odd[0][:100]} is missing, or was added", f"成员缺失或被添加：{odd[0][:100]}")
        return archive, manifest, hashlib.sha256(data).hexdigest()

    def _read(self, name: str, most: int) -> bytes:
        try:
            with self._zip.open(name) as file:
                data = file.read(most + 1)
        except _UNREADABLE as error:
            raise changed(name) from error
        if len(data) > most:
            raise ArchiveError(f"{name} is larger than it may be", f"{name} 过大")
        return data


def changed(name: str) -> ArchiveError:
    """The error for a member that is not the one that was archived."""
    return ArchiveError(f"{name} was changed: it has not the digest in the manifest", f"{name} 被改动，与清单摘要不符")


class SegmentWriter:
    """Writes the members of a segment, one after the other, into a file that must not be there yet."""

    def __init__(self, path: Path) -> None:
        self._file = new_file(path)
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)
        self.members: dict[str, Digest] = {}

    def add(self, name: str, data: bytes) -> None:
        """A member."""
        self._zip.writestr(_info(name), data)
        self.members[name] = Digest.of(data)

    def add_lines(self, name: str) -> _Lines:
        """A member that is written line by line, in a `with` block. No other is written meanwhile."""
        return _Lines(self, name, self._zip.open(_info(name), "w"))

    def finish(self, manifest: bytes, note: str) -> None:
        """The signed manifest; then all of it is on disk."""
        self._zip.writestr(_info(MANIFEST), manifest)
        self._zip.writestr(_info(NOTE), note.encode())
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file, whatever is in it."""
        self._zip.fp = None  # else it would write its directory when it is collected
        self._file.close()


class _Lines:
    def __init__(self, writer: SegmentWriter, name: str, file: IO[bytes]) -> None:
        self._writer = writer
        self._name = name
        self._file = file
        self._hashed = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._writer.members[self._name] = Digest(self._hashed.hexdigest(), self._size)

    def add(self, line: bytes) -> None:
        """A line, without its end."""
        line += b"\n"
        self._hashed.update(line)
        self._size += len(line)
        self._file.write(line)


def new_file(path: Path) -> IO[bytes]:
    """A file that was not there and that nobody else may read: records name officials. Raises FileExistsError."""
    path.touch(mode=0o600, exist_ok=False)
    return path.open("wb")


def _info(name: str) -> zipfile.ZipInfo:
    """A member's head, the same for the same member whenever and wherever it is written."""
    info = zipfile.ZipInfo(name)  # 1980-01-01
    info.create_system = 3
    info.external_attr = 0o100600 << 16
    return info
