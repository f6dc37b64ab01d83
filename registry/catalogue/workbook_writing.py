"""The catalogue, or an empty form for it, as a workbook.

Rules:
1. Whatever a text begins with, it is written as a text: never as a formula, a number or a link. One that a spreadsheet program
   would read as a formula when it is typed again carries the mark of a quoted text besides.
2. The same catalogue makes the same bytes: no times of making are in it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from registry.catalogue.documents import document_of
from registry.catalogue.labels import YES_NO
from registry.catalogue.resource import Department, Resource
from registry.catalogue.workbook_columns import (
    ITEM_CODE,
    ITEM_COLUMNS,
    ITEMS_SHEET,
    NOTES_SHEET,
    RESOURCE_COLUMNS,
    RESOURCES_SHEET,
    Column,
)

if TYPE_CHECKING:
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

_MADE: Final = datetime(2017, 6, 30, tzinfo=UTC).replace(tzinfo=None)
"""The day of the guide, in place of the time of making."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_LAST_ROW: Final = 20_000
_OPTIONS: Final = {
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
    "in_memory": True,
}


def workbook_of(resources: Iterable[tuple[Resource, Department]]) -> bytes:
    """An .xlsx file of resources, which can be imported again."""
    return _Workbook().filled([document_of(resource, department) for resource, department in resources])


def empty_workbook() -> bytes:
    """An .xlsx file to fill in: headings, lists to choose from, and a sheet that explains every column."""
    return _Workbook().filled([], notes=True)


class _Workbook:
    def __init__(self) -> None:
        self._file = io.BytesIO()
        import xlsxwriter  # for the few that write workbooks

        self._book = xlsxwriter.Workbook(self._file, _OPTIONS)
        self._book.set_properties({"created": _MADE})
        plain = {"valign": "top", "text_wrap": True, "num_format": "@"}
        self._text: Format = self._book.add_format(plain)
        self._quoted: Format = self._book.add_format({**plain, "quote_prefix": True})
        self._date: Format = self._book.add_format({"valign": "top", "num_format": "yyyy-mm-dd"})
        self._number: Format = self._book.add_format({"valign": "top", "num_format": "0"})
        head = {"bold": True, "text_wrap": True, "valign": "vcenter", "border": 1, "bg_color": "#DDEBF7"}
        self._head: Format = self._book.add_format(head)
        self._needed: Format = self._book.add_format({**head, "bg_color": "#FCE4D6"})

    def filled(self, documents: Sequence[Mapping[str, Any]], *, notes: bool = False) -> bytes:
        resources = self._sheet(RESOURCES_SHEET, RESOURCE_COLUMNS)
        items = self._sheet(ITEMS_SHEET, ITEM_COLUMNS)
        below = 1
        for row, document in enumerate(documents, start=1):
            self._write(resources, row, RESOURCE_COLUMNS, document)
            for item in document["items"]:
                self._write(items, below, ITEM_COLUMNS, item, code=document["code"])
                below += 1
        if notes:
            self._notes()
        self._book.close()
        return self._file.getvalue()

    def _sheet(self, name: str, columns: Sequence[Column]) -> Worksheet:
        sheet: Worksheet = self._book.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        for number, column in enumerate(columns):
            form = {"date": self._date, "number": self._number}.get(column.kind, self._text)
            # The format of the whole column: what people type into a text column stays as they type it, zeros in front too.
            sheet.set_column(number, number, column.width, form)
            sheet.write_string(0, number, column.heading, self._needed if column.needed else self._head)
            listed = YES_NO.values() if column.kind == "yes-no" else (column.choices or {}).values()
            if listed:
                sheet.data_validation(1, number, _LAST_ROW, number, {"validate": "list", "source": list(listed)})
        return sheet

    def _write(
        self, sheet: Worksheet, row: int, columns: Sequence[Column], document: Mapping[str, Any], code: str = ""
    ) -> None:
        for number, column in enumerate(columns):
            value = code if column is ITEM_CODE else _value(document, column.pointer)
            if isinstance(value, int) and column.kind == "number":
                if value:
                    sheet.write_number(row, number, value, self._number)
            elif column.kind == "date" and value:
                day = date.fromisoformat(value)
                sheet.write_datetime(row, number, datetime(day.year, day.month, day.day), self._date)  # noqa: DTZ001
            elif text := _written(column, value):
                sheet.write_string(row, number, text, self._quoted if text.startswith(_FORMULA) else self._text)

    def _notes(self) -> None:
        sheet: Worksheet = self._book.add_worksheet(NOTES_SHEET)
        sheet.set_column(0, 1, 20, self._text)
        sheet.set_column(2, 3, 12, self._text)
        sheet.set_column(4, 4, 80, self._text)
        for number, heading in enumerate(("工作表", "列", "必填", "对应字段", "说明")):
            sheet.write_string(0, number, heading, self._head)
        rows = [(RESOURCES_SHEET, column) for column in RESOURCE_COLUMNS]
        rows += [(ITEMS_SHEET, column) for column in ITEM_COLUMNS]
        for row, (name, column) in enumerate(rows, start=1):
            needed = YES_NO[column.needed]
            for number, text in enumerate((name, column.heading, needed, column.pointer, column.note)):
                sheet.write_string(row, number, text, self._text)


def _value(document: Mapping[str, Any], pointer: str) -> Any:
    found: Any = document
    for step in pointer.split("/")[1:]:
        found = found[step]
    return found


def _written(column: Column, value: Any) -> str:
    if column.kind == "yes-no":
        return YES_NO[bool(value)]
    if column.kind == "lines":
        return "\n".join(value)
    if column.kind == "accesses":
        return "\n".join(f"{each['method']} {each['path']} {each['service']}" for each in value)
    return column.choices.get(value, "") if column.choices is not None else str(value or "")
