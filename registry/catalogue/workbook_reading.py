"""A workbook that people filled in, as resources to import.

Rules:
1. Columns are found by their headings, in any order; one that is not known, or is there twice, is refused, and so is a sheet that
   is none of ours: nothing is left out silently.
2. A number typed where a code belongs is read as its digits, unless it is longer than a spreadsheet keeps exactly.
3. A cell may hold what it is called in Chinese, or the value of the JSON form. Spaces around a text are not meant.
4. Every fault leads back to its cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from exchange import UnprocessableError
from registry.catalogue.documents import check_count, read_document
from registry.catalogue.imports import Candidate
from registry.catalogue.labels import YES_NO
from registry.catalogue.rules import Fault
from registry.catalogue.workbook_cells import Row, Value, Workbook, read_workbook
from registry.catalogue.workbook_columns import (
    ITEM_CODE,
    ITEM_COLUMNS,
    ITEMS_SHEET,
    NOTES_SHEET,
    RESOURCE_COLUMNS,
    RESOURCES_SHEET,
    Column,
    cell_name,
)

_EXACT: Final = 10**15
"""Spreadsheets keep 15 digits."""


@dataclass(slots=True)
class _Row:
    """One row of a sheet as members of the JSON form, and where each came from."""

    number: int
    document: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)
    """Pointer -> cell."""
    faults: list[Fault] = field(default_factory=list)


def candidates_in_workbook(data: bytes) -> tuple[Candidate, ...]:
    """The resources of an .xlsx file.

    Raises:
        UnprocessableError: The file is refused as it is (`workbook_cells`), a sheet or heading is not known, an item belongs to no
            resource of the file, or there are too many resources.
    """
    book = read_workbook(data)
    strange = [name for name in book.sheets if name not in (RESOURCES_SHEET, ITEMS_SHEET, NOTES_SHEET)]
    missing = [name for name in (RESOURCES_SHEET, ITEMS_SHEET) if name not in book.sheets]
    if strange or missing:
        what = f"There is no sheet {missing[0]}." if missing else f"The sheet {strange[0][:40]} is not known here."
        what_zh = f"缺少工作表“{missing[0]}”。" if missing else f"不认识工作表“{strange[0][:40]}”。"
        raise UnprocessableError("workbook", problem=what, problem_zh=what_zh)
    resources = _rows(book, RESOURCES_SHEET, RESOURCE_COLUMNS)
    check_count(len(resources))
    items: dict[str, list[_Row]] = {}
    codes = {row.document.get("code", "") for row in resources}
    for row in _rows(book, ITEMS_SHEET, ITEM_COLUMNS):
        code = row.document.pop(ITEM_CODE.heading, "")
        if code not in codes or not code:
            cell = row.cells.get(f"/{ITEM_CODE.heading}", cell_name(ITEMS_SHEET, row.number, 0))
            raise UnprocessableError(
                "workbook",
                problem=f"{cell}: the item belongs to no resource of this workbook.",
                problem_zh=f"{cell}：该信息项不属于本工作簿中的任何信息资源。",
            )
        items.setdefault(code, []).append(row)
    return tuple(
        _candidate(number, row, items.get(row.document.get("code", ""), [])) for number, row in enumerate(resources)
    )


def _candidate(number: int, row: _Row, items: Sequence[_Row]) -> Candidate:
    document = {**row.document, "items": [item.document for item in items]}
    cells = dict(row.cells)
    faults = list(row.faults)
    for position, item in enumerate(items):
        prefix = f"/items/{position}"
        cells[prefix] = cell_name(ITEMS_SHEET, item.number, 0)
        cells |= {prefix + pointer: cell for pointer, cell in item.cells.items()}
        faults += (Fault(prefix + each.pointer, each.rule, each.problem, each.problem_zh) for each in item.faults)
    return Candidate(
        pointer=f"/resources/{number}",
        document=tuple(faults) or read_document(document),
        place=_Places(cells, cell_name(RESOURCES_SHEET, row.number, 0)),
    )


@dataclass(frozen=True, slots=True)
class _Places:
    """Which cell a pointer within a resource stands for."""

    cells: Mapping[str, str]
    row: str
    """The first cell of the resource's row, for what has no cell of its own."""

    def __call__(self, pointer: str) -> str:
        while pointer:
            if pointer in self.cells:
                return self.cells[pointer]
            pointer = pointer.rpartition("/")[0]
        return self.row


def _rows(book: Workbook, sheet: str, columns: Sequence[Column]) -> list[_Row]:
    """The rows below the headings that hold anything."""
    lines = book.sheets[sheet]
    order = _columns(sheet, columns, lines.get(0, {}))
    found = []
    for number in sorted(lines.keys() - {0}):
        values = {at: value for at, value in lines[number].items() if not _is_blank(value)}
        if not values:
            continue
        row = _Row(number)
        for position, column in order.items():
            pointer = column.pointer or f"/{column.heading}"
            row.cells[pointer] = cell_name(sheet, number, position)
            read = _read(book, column, values.get(position, ""))
            if isinstance(read, Fault):
                row.faults.append(read)
            elif read is not None:
                _set(row.document, pointer, read)
        beyond = sorted(values.keys() - order.keys())
        if beyond:
            cell = cell_name(sheet, number, beyond[0])
            raise UnprocessableError(
                "workbook", problem=f"{cell}: the column has no heading.", problem_zh=f"{cell}：该列没有标题。"
            )
        found.append(row)
    return found


def _columns(sheet: str, columns: Sequence[Column], headings: Row) -> dict[int, Column]:
    """Position -> column, by the headings of a sheet."""
    known = {column.heading: column for column in columns}
    order: dict[int, Column] = {}
    for position, value in sorted(headings.items()):
        heading = str(value).strip()
        if not heading:
            continue
        column = known.get(heading)
        if column is None or column in order.values():
            cell = cell_name(sheet, 0, position)
            what = "is not known here" if column is None else "is there twice"
            what_zh = "不是本模板的列" if column is None else "重复出现"
            raise UnprocessableError(
                "workbook",
                problem=f"{cell}: the heading {heading[:40]!r} {what}.",
                problem_zh=f"{cell}：列标题“{heading[:40]}”{what_zh}。",
            )
        order[position] = column
    for column in columns:
        if column.needed and column not in order.values():
            raise UnprocessableError(
                "workbook",
                problem=f"The sheet {sheet} has no column {column.heading}.",
                problem_zh=f"工作表“{sheet}”缺少“{column.heading}”列。",
            )
    return order


def _is_blank(value: Value) -> bool:
    return isinstance(value, str) and not value.strip()


def _read(book: Workbook, column: Column, value: Value) -> Any:
    """What a cell says in the JSON form; None if it is empty, a Fault if it cannot say that."""
    if _is_blank(value):
        return "" if column.needed else None
    if column.kind == "date":
        return _date(book, column, value)
    if column.kind == "number":
        return _number(column, value)
    if column.kind == "yes-no":
        return _yes_no(column, value)
    text = _text(column, value)
    if isinstance(text, Fault):
        return text
    if column.kind == "choice":
        values = {label: chosen for chosen, label in (column.choices or {}).items()}
        return values.get(text, text)
    if column.kind == "lines":
        return [line.strip() for line in text.split("\n") if line.strip()]
    if column.kind == "accesses":
        return _accesses(column, text)
    return text


def _text(column: Column, value: Value) -> str | Fault:
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n").strip()
    if isinstance(value, bool):
        return YES_NO[value]
    if not value.is_integer():
        return repr(value)
    if abs(value) < _EXACT:
        return str(int(value))
    return _fault(
        column,
        "is a number with more digits than a spreadsheet keeps: make the cell a text",
        "数字位数超出电子表格精度，请将单元格设为文本",
    )


def _date(book: Workbook, column: Column, value: Value) -> str | Fault:
    try:
        if isinstance(value, str):
            return date.fromisoformat(value.strip().replace("/", "-")[:10]).isoformat()
        if not isinstance(value, bool) and value >= 1:
            return book.day(value).isoformat()
    except (ValueError, OverflowError):
        pass
    return _fault(column, "is not a date such as 2026-11-23", "不是日期（如 2026-11-23）")


def _number(column: Column, value: Value) -> int | Fault:
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 16:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _fault(column, "is not a whole number", "不是整数")


def _yes_no(column: Column, value: Value) -> bool | Fault:
    known = {"是": True, "否": False, "true": True, "false": False}
    found = known.get(str(value).strip().lower())
    return _fault(column, "is neither 是 nor 否", "应为“是”或“否”") if found is None else found


def _accesses(column: Column, text: str) -> list[dict[str, str]] | Fault:
    found = []
    for line in text.split("\n"):
        parts = line.split()
        if len(parts) != 3:
            return _fault(column, "must hold METHOD PATH SERVICE on each line", "每行应为：方法 路径 服务标识")
        found.append({"method": parts[0], "path": parts[1], "service": parts[2]})
    return found


def _fault(column: Column, en: str, zh: str) -> Fault:
    return Fault(column.pointer, "cell", f"{column.heading} {en}.", f"{column.heading}{zh}。")


def _set(document: dict[str, Any], pointer: str, value: Any) -> None:
    *steps, last = pointer.split("/")[1:]
    for step in steps:
        document = document.setdefault(step, {})
    document[last] = value
