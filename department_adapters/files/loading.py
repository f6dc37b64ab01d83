"""From a folder to a table: which files there are, whether they have changed, and what is in them."""

from __future__ import annotations

import glob
import stat
import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from department_adapters.files.columns import Column
from department_adapters.files.reading import FileError, Form, read_rows
from department_adapters.files.table import Table, TableBuilder, TooLargeError

_TOLD = 5
"""Repeated keys that are named, at most."""
_ROWS_AT_ONCE = 100
_PAUSE = 0.0001
"""Seconds after so many rows: the interpreter runs one thread at a time, and would let answers wait 5 ms for each of its turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableForm:
    """What is read from the files, and how."""

    files: str
    """Glob, absolute."""
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    searched: tuple[str, ...] = ()
    """Names of the columns by which rows are searched."""
    last: bool = False
    """Of rows with the same key, the last one counts; otherwise they refuse the files."""
    form: Form = field(default_factory=Form)
    max_bytes: int = 256 << 20
    """Most bytes of the files together, unpacked, and most memory of the rows."""


@dataclass(frozen=True, slots=True)
class FileMark:
    """What tells one state of a file from another without reading it."""

    path: str
    inode: int
    size: int
    modified_ns: int


class LoadError(Exception):
    """The files cannot be used. For the department's own log; holds nothing of their rows."""

    def __init__(self, file: str, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.file, self.problem, self.line = file, problem, line


class StoppedError(Exception):
    """Nobody waits for the table any more."""


def look(pattern: str) -> tuple[FileMark, ...]:
    """The files that match, by name. Left out: what is no regular file, hidden ones and the locks that Office programs leave.

    Raises:
        OSError: The folder cannot be read.
    """
    found = []
    for path in sorted(glob.glob(pattern, recursive=True)):
        if Path(path).name.startswith(("~$", ".~")):
            continue
        try:
            state = Path(path).stat()
        except FileNotFoundError:
            continue  # gone since the folder was read
        if stat.S_ISREG(state.st_mode):
            found.append(FileMark(path, state.st_ino, state.st_size, state.st_mtime_ns))
    return tuple(found)


def load(table: TableForm, marks: Sequence[FileMark], stop: threading.Event) -> tuple[Table, int]:
    """The table of these files, and how many rows were replaced by a later one. Blocks: for a thread.

    Raises:
        LoadError: A file cannot be used, or a key is there twice.
        StoppedError: `stop` was set.
    """
    builder = TableBuilder(table.columns, table.key, table.searched, last=table.last, max_bytes=table.max_bytes)
    headings = [column.heading for column in table.columns]
    begins: list[int] = []
    lines = array("Q")
    room = table.max_bytes
    for mark in marks:
        begins.append(len(lines))
        if mark.size > room:
            raise LoadError(mark.path, f"with it, the files are larger than max_bytes, {table.max_bytes}")
        room -= mark.size
        _add_file(builder, mark, headings, table, lines, stop)
    built, twice = builder.finish()
    if twice and not table.last:
        raise _repeated(marks, begins, lines, twice)
    return built, len(twice)


def _add_file(
    builder: TableBuilder,
    mark: FileMark,
    headings: Sequence[str],
    table: TableForm,
    lines: array[int],
    stop: threading.Event,
) -> None:
    line: int | None = None
    try:
        for line, cells in read_rows(Path(mark.path), headings, table.form, table.max_bytes):
            builder.add(cells)
            lines.append(line)
            if len(lines) % _ROWS_AT_ONCE == 0:
                if stop.is_set():
                    raise StoppedError
                time.sleep(_PAUSE)
        line = None
    except TooLargeError as error:
        raise LoadError(mark.path, str(error)) from error
    except FileError as error:
        raise LoadError(mark.path, str(error), error.line or line) from error
    except OSError as error:
        raise LoadError(mark.path, error.strerror or "cannot be read") from error
    except (StoppedError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # Libraries in Rust end in panics, which are no Exception, and any library meets files nobody thought of.
        raise LoadError(mark.path, f"cannot be read: {type(error).__name__}", line) from error


def _repeated(
    marks: Sequence[FileMark], begins: Sequence[int], lines: Sequence[int], twice: Sequence[tuple[int, int]]
) -> LoadError:
    """Which lines have the key of an earlier one; never the key itself."""

    def place(number: int) -> tuple[str, int]:
        file = max(index for index, begin in enumerate(begins) if begin <= number)
        return marks[file].path, lines[number]

    told = []
    for earlier, later in twice[:_TOLD]:
        (file, line), (other, first) = place(later), place(earlier)
        told.append(
            f"line {line} repeats the key of line {first}" + (f" of {Path(other).name}" if other != file else "")
        )
    more = f" and {len(twice) - _TOLD} more" if len(twice) > _TOLD else ""
    file, line = place(twice[0][1])
    return LoadError(file, "; ".join(told) + more, line)
