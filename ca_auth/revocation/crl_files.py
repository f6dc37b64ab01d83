"""CRLs that lie in files and folders, looked at again and again.

Rules:
1. A file is read when its stamp (time, size, inode) changes, and once more at the next look: a writer may not be done,
   and two changes may come within one tick of the file system's clock.
2. What cannot be used changes nothing: the lists that the file held before count while it is there.
3. In a folder every regular file is a CRL, but for those whose name begins with a dot: drafts of programs that rename.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from ca_auth.validation.crl import RevocationList, load_crls
from ca_auth.validation.rejection import printable

MAX_OCTETS: Final = 64 << 20
_MAX_FILES: Final = 10_000

_Stamp: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """What is wrong with a source, English and Chinese."""

    kind: Literal["crl-rejected", "crl-unreachable"]
    source: str
    problem: str
    problem_zh: str


@dataclass(frozen=True, slots=True)
class Offered:
    """What one source offers now."""

    lists: tuple[RevocationList, ...] = ()
    problems: tuple[SourceProblem, ...] = ()


@dataclass(slots=True)
class _File:
    stamp: _Stamp | None = None
    digest: bytes = b""
    settled: bool = False
    """It was read twice with the same stamp and content."""
    lists: tuple[RevocationList, ...] = ()
    problem: tuple[str, str] | None = None


class CrlFiles:
    """Remembers what was read. Its methods block: they belong to one thread, and not to that of an event loop."""

    def __init__(self) -> None:
        self._files: dict[Path, _File] = {}

    def look(self, paths: Iterable[Path]) -> Mapping[Path, Offered]:
        """Return what each of `paths`, files or folders, offers now. Never raises OSError."""
        seen: set[Path] = set()
        offered = {path: self._look(path, seen) for path in paths}
        for gone in self._files.keys() - seen:
            del self._files[gone]
        return offered

    def _look(self, path: Path, seen: set[Path]) -> Offered:
        problems: list[SourceProblem] = []
        try:
            files = _files_at(path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            return Offered(problems=(SourceProblem("crl-unreachable", str(path), reason, reason),))
        if len(files) > _MAX_FILES:
            text = (f"there are more than {_MAX_FILES} files", f"文件超过 {_MAX_FILES} 个")
            problems.append(SourceProblem("crl-rejected", str(path), *text))
        lists: list[RevocationList] = []
        for each in files[:_MAX_FILES]:
            seen.add(each)
            known = self._files.setdefault(each, _File())
            try:
                _read(each, known)
            except FileNotFoundError:
                seen.discard(each)  # removed since the folder was read
                continue
            except OSError as error:
                known.settled = False
                reason = error.strerror or type(error).__name__
                problems.append(SourceProblem("crl-unreachable", str(each), reason, reason))
            lists += known.lists
            if known.problem is not None and known.settled:
                problems.append(SourceProblem("crl-rejected", str(each), *known.problem))
        return Offered(tuple(lists), tuple(problems))


def _files_at(path: Path) -> list[Path]:
    if not stat.S_ISDIR(path.stat().st_mode):
        return [path]
    return sorted(each for each in path.iterdir() if not each.name.startswith(".") and each.is_file())


def _read(file: Path, known: _File) -> None:
    """Bring what is known of a file up to date; raises OSError."""
    found = file.stat()
    if known.settled and _stamp(found) == known.stamp:
        return
    if not stat.S_ISREG(found.st_mode):
        known.stamp, known.settled, known.problem = _stamp(found), True, ("not a file", "不是普通文件")
        return
    if found.st_size > MAX_OCTETS:
        text = (f"larger than {MAX_OCTETS} bytes", f"超过 {MAX_OCTETS} 字节")
        known.stamp, known.settled, known.problem = _stamp(found), True, text
        return
    with file.open("rb") as stream:
        content = stream.read(MAX_OCTETS + 1)
        after = _stamp(os.fstat(stream.fileno()))
    digest = hashlib.sha256(content).digest()
    known.settled = digest == known.digest and after == known.stamp == _stamp(found)
    known.stamp = after
    if digest == known.digest:
        return
    known.digest = digest
    lists, known.problem = usable_lists(content)
    if lists:
        known.lists = lists


def usable_lists(content: bytes) -> tuple[tuple[RevocationList, ...], tuple[str, str] | None]:
    """The lists in some bytes that may be used, and what is wrong with the first that may not (English, Chinese)."""
    try:
        lists = load_crls(content)
    except ValueError as error:
        shown = printable(str(error))
        return (), (f"{shown}", f"不是 PEM 或 DER 格式的 CRL（{shown}）")
    unusable = next((each for each in lists if each.defect is not None), None)
    good = tuple(each for each in lists if each.defect is None)
    if unusable is None or unusable.defect is None:
        return good, None
    english, chinese = unusable.defect
    return good, (f"the {unusable.label} must not be used: {english}", f"{unusable.label} 不可使用：{chinese}")


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
