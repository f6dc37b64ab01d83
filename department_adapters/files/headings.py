"""The headings of a file, for whoever declares its columns."""

from __future__ import annotations

import csv
import importlib
import io
from itertools import islice
from pathlib import Path

from department_adapters.files.reading import (
    PARQUET,
    SHEETS,
    TEXT,
    FileError,
    Form,
    _check_unpacked,
    _delimiter_of,
    _encoding_of,
    _sheet_of,
)


def read_headings(path: Path, form: Form, max_bytes: int) -> list[str]:
    """What its columns are called, in their order, without the space around them.

    Raises:
        FileError: The file cannot be read as what its name says.
        OSError: It cannot be read at all.
    """
    suffix = path.suffix.lower()
    if path.stat().st_size > max_bytes:
        raise FileError(f"larger than max_bytes, {max_bytes}")
    if suffix in TEXT:
        found = _of_text(path, form)
    elif suffix in SHEETS:
        found = _of_sheet(path, form, max_bytes)
    elif suffix in PARQUET:
        found = _of_parquet(path)
    else:
        raise FileError(f"{suffix or 'no suffix'} is no format: .csv, .tsv, .xlsx, .xls, .xlsb, .ods or .parquet")
    return [each.strip() for each in found]


def _of_text(path: Path, form: Form) -> list[str]:
    with path.open("rb") as file:
        encoding = form.encoding or _encoding_of(file)
        file.seek(0)
        text = io.TextIOWrapper(file, encoding=encoding, errors="strict", newline="")
        try:
            delimiter = form.delimiter or ("\t" if path.suffix.lower() == ".tsv" else _delimiter_of(text, form.header))
            text.seek(0)
            return next(islice(csv.reader(text, delimiter=delimiter, strict=True), form.header - 1, None), [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise FileError(f"not CSV in {encoding}") from error


def _of_sheet(path: Path, form: Form, max_bytes: int) -> list[str]:
    calamine = importlib.import_module("python_calamine")
    if path.suffix.lower() in (".xlsx", ".xlsm", ".xlsb", ".ods"):
        _check_unpacked(path, max_bytes)
    try:
        with calamine.CalamineWorkbook.from_path(path) as workbook:
            rows = _sheet_of(workbook, calamine, form).iter_rows()
            return [str(cell) for cell in next(islice(rows, form.header - 1, None), [])]
    except calamine.CalamineError as error:
        raise FileError(f"not a {path.suffix} file") from error


def _of_parquet(path: Path) -> list[str]:
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    try:
        with path.open("rb") as opened, parquet.ParquetFile(opened, pre_buffer=False) as file:
            return [str(name) for name in file.schema_arrow.names]
    except arrow.ArrowException as error:
        raise FileError("not a .parquet file, or damaged") from error
