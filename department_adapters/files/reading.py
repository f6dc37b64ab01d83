"""Rows of a file, whatever its format: CSV, a spreadsheet, Parquet.

Rules:
1. Only the columns that are asked for are handed on. A heading that is missing or there twice refuses the file.
2. Sizes are looked at before a file is unpacked: a spreadsheet of some kilobytes may hold gigabytes.
3. What is wrong is told with the line, as the department would find it: of the text in a CSV, of the sheet in a spreadsheet,
   the number of the row in Parquet.
"""

from __future__ import annotations

import codecs
import csv
import importlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

Row = tuple[int, Sequence[object]]
"""Line, and the cells of the columns that were asked for, in that order."""

TEXT: Final = frozenset((".csv", ".tsv", ".txt"))
SHEETS: Final = frozenset((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"))
PARQUET: Final = frozenset((".parquet",))
_PACKED: Final = frozenset((".xlsx", ".xlsm", ".xlsb", ".ods"))
_BOMS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_DELIMITERS: Final = ",\t;|"
_CHUNK: Final = 1 << 20
_BATCH: Final = 4096


class FileError(ValueError):
    """A file cannot be used; the message is for the department's own log and holds nothing of its rows."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How files are written, where it cannot be seen from them."""

    encoding: str = ""
    """Of CSV; empty: a byte order mark says it, else UTF-8 if it is that, else GB 18030."""
    delimiter: str = ""
    """Of CSV; empty: tab in `.tsv`, else what the headings are separated by."""
    sheet: str | int = 1
    """Name, or number from 1."""
    header: int = 1
    """Row of the headings, from 1."""


def extra_of(suffix: str) -> tuple[str, str] | None:
    """The library that reads files of this kind and the extra that brings it, None if none is needed."""
    if suffix in SHEETS:
        return "python_calamine", "files"
    return ("pyarrow.parquet", "parquet") if suffix in PARQUET else None


def read_rows(path: Path, headings: Sequence[str], form: Form, max_bytes: int) -> Iterator[Row]:
    """The rows of a file that hold anything.

    Args:
        headings: Of the columns that are wanted.
        max_bytes: Most bytes of the file, unpacked.

    Raises:
        FileError: The file cannot be read as what its name says, or is larger; also in the middle of it.
        OSError: It cannot be read at all.
    """
    suffix = path.suffix.lower()
    if path.stat().st_size > max_bytes:
        raise FileError(f"larger than max_bytes, {max_bytes}")
    if suffix in TEXT:
        return _text_rows(path, headings, form)
    if suffix in SHEETS:
        return _sheet_rows(path, headings, form, max_bytes)
    if suffix in PARQUET:
        return _parquet_rows(path, headings, max_bytes)
    raise FileError(f"{suffix or 'no suffix'} is no format: .csv, .tsv, .xlsx, .xls, .xlsb, .ods or .parquet")


def _text_rows(path: Path, headings: Sequence[str], form: Form) -> Iterator[Row]:
    with path.open("rb") as file:
        encoding = form.encoding or _encoding_of(file)
        file.seek(0)
        text = io.TextIOWrapper(file, encoding=encoding, errors="strict", newline="")
        try:
            yield from _records(text, headings, form, "\t" if path.suffix.lower() == ".tsv" else "")
        except UnicodeDecodeError as error:
            raise FileError(f"not {encoding}") from error


def _records(text: io.TextIOWrapper, headings: Sequence[str], form: Form, delimiter: str) -> Iterator[Row]:
    delimiter = form.delimiter or delimiter or _delimiter_of(text, form.header)
    text.seek(0)
    # A quotation mark that is never closed would swallow the rest of the file.
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        named = next((cells for number, cells in enumerate(reader, 1) if number == form.header), [])
        places = _places(named, headings, form.header)
        width = len(named)
        for cells in reader:
            if len(cells) != width and any(cells[width:] or cells):
                raise FileError(f"{len(cells)} fields, the headings are {width}", reader.line_num)
            if any(cells):
                yield reader.line_num, [cells[place] for place in places]
    except csv.Error as error:
        raise FileError(f"not CSV: {error}", reader.line_num) from error


def _encoding_of(file: BinaryIO) -> str:
    start = file.read(4)
    for mark, encoding in _BOMS.items():
        if start.startswith(mark):
            return encoding
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(start)
        while chunk := file.read(_CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8"


def _delimiter_of(text: io.TextIOWrapper, header: int) -> str:
    line = ""
    for _ in range(header):
        line = text.readline(_CHUNK)
    outside = "".join(line.split('"')[::2])
    return max(_DELIMITERS, key=outside.count)


def _sheet_rows(path: Path, headings: Sequence[str], form: Form, max_bytes: int) -> Iterator[Row]:
    calamine = importlib.import_module("python_calamine")
    if path.suffix.lower() in _PACKED:
        _check_unpacked(path, max_bytes)
    try:
        workbook = calamine.CalamineWorkbook.from_path(path)
    except calamine.PasswordError as error:
        raise FileError("protected by a password") from error
    except calamine.CalamineError as error:
        raise FileError(f"not a {path.suffix} file") from error
    with workbook:
        sheet = _sheet_of(workbook, calamine, form)
        places: list[int] = []
        for number, cells in enumerate(sheet.iter_rows(), 1):
            if number == form.header:
                places = _places([str(cell) for cell in cells], headings, number)
            elif number > form.header and any(cell != "" for cell in cells):
                yield number, [cells[place] for place in places]
        if not places:
            raise FileError("the row of the headings is not there", form.header)


def _sheet_of(workbook: Any, calamine: Any, form: Form) -> Any:
    try:
        if isinstance(form.sheet, str):
            return workbook.get_sheet_by_name(form.sheet)
        return workbook.get_sheet_by_index(form.sheet - 1)
    except calamine.CalamineError as error:
        raise FileError(f"there is no sheet {form.sheet!r}") from error


def _check_unpacked(path: Path, max_bytes: int) -> None:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(each.file_size for each in packed.infolist())
    except zipfile.BadZipFile as error:
        raise FileError(f"not a {path.suffix} file") from error
    if size > max_bytes:
        raise FileError(f"larger than max_bytes, {max_bytes}, when it is unpacked")


def _parquet_rows(path: Path, headings: Sequence[str], max_bytes: int) -> Iterator[Row]:
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    try:
        # Opened as a file: a library of many formats must not take a name for a URL.
        with path.open("rb") as opened, parquet.ParquetFile(opened, pre_buffer=False) as file:
            metadata = file.metadata
            size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
            if size > max_bytes:
                raise FileError(f"larger than max_bytes, {max_bytes}, when it is unpacked")
            _places(file.schema_arrow.names, headings, None)
            line = 0
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(headings), use_threads=False):
                named = [batch.column(batch.schema.get_field_index(heading)).to_pylist() for heading in headings]
                for cells in zip(*named, strict=True):
                    line += 1
                    yield line, cells
    except arrow.ArrowException as error:
        raise FileError("not a .parquet file, or damaged") from error


def _places(named: Sequence[str], headings: Sequence[str], line: int | None) -> list[int]:
    names = [name.strip() for name in named]
    for heading in headings:
        if names.count(heading) != 1:
            raise FileError(f"the heading {heading!r} is there {names.count(heading)} times, not once", line)
    return [names.index(heading) for heading in headings]
