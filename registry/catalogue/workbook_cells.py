"""The cells of a workbook that somebody sent: values, and nothing that would have to be calculated. Pure.

Rules:
1. A formula or an error in any sheet is refused, and its sheet and cell are named: what such a cell shows depends on who opened
   the file last.
2. Counts and ranges that the file states of itself are not believed: only cells that are there take memory, and only within
   bounds. This is why no library reads them: those that were tried reserve as much memory as a file says it will need.
3. Shapes, comments, styles and widths are passed over.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, NoReturn

from registry.catalogue.workbook_columns import column_letters
from registry.catalogue.workbook_parts import WORKBOOK, parse_xml, refuse, workbook_parts

MAX_ROWS: Final = 100_000
MAX_COLUMNS: Final = 100
MAX_CELLS: Final = 1_200_000
_CELL: Final = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})")
_ESCAPED: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_RELATIONSHIPS: Final = "xl/_rels/workbook.xml.rels"
_STRINGS: Final = "xl/sharedStrings.xml"

Value = str | float | bool
Row = Mapping[int, Value]
"""Column, from 0 -> what the cell holds; cells without anything are left out."""


@dataclass(frozen=True, slots=True)
class Workbook:
    """What a workbook holds."""

    sheets: Mapping[str, Mapping[int, Row]]
    """Name -> row, from 0 -> its cells; in the order of the workbook."""
    day_zero: date
    """What dates are counted from."""

    def day(self, serial: float) -> date:
        """The date that a number in a cell stands for; raises OverflowError."""
        return self.day_zero + timedelta(days=int(serial))


def read_workbook(data: bytes) -> Workbook:
    """The cells of an .xlsx file.

    Raises:
        UnprocessableError: It is none, or holds what is refused; sheet and cell are named where there is one.
    """
    parts = workbook_parts(data)
    places, day_zero = _sheets(parts)
    strings = _strings(parts.get(_STRINGS))
    cells = 0
    sheets: dict[str, Mapping[int, Row]] = {}
    for name, part in places.items():
        reader = _Sheet(name, strings, MAX_CELLS - cells)
        parse_xml(parts[part], reader.start, reader.end, reader.text)
        cells += reader.count
        sheets[name] = reader.rows
    return Workbook(sheets, day_zero)


def _sheets(parts: Mapping[str, bytes]) -> tuple[dict[str, str], date]:
    """Name of each sheet -> its part; and what dates are counted from."""
    targets: dict[str, str] = {}
    found: dict[str, str] = {}
    day_zero = [date(1899, 12, 30)]

    def relationship(name: str, attributes: Mapping[str, str]) -> None:
        if name == "Relationship":
            if attributes.get("TargetMode", "").lower() == "external":
                refuse("The workbook holds links to other files.", "工作簿含有对其他文件的链接。")
            targets[attributes.get("Id", "")] = attributes.get("Target", "")

    def sheet(name: str, attributes: Mapping[str, str]) -> None:
        if name == "workbookPr" and attributes.get("date1904", "0") in ("1", "true"):
            day_zero[0] = date(1904, 1, 1)
        if name == "sheet":
            identifier = next((value for key, value in attributes.items() if key.rpartition(":")[2] == "id"), "")
            target = targets.get(identifier, "")
            part = target.lstrip("/") if target.startswith("/") else posixpath.normpath(f"xl/{target}")
            if part not in parts or "worksheets/" not in part:
                refuse("The workbook holds a sheet that is no table.", "工作簿含有非表格的工作表。")
            if found.setdefault(attributes.get("name", ""), part) != part:
                refuse("The workbook holds two sheets of one name.", "工作簿含有同名工作表。")

    parse_xml(parts.get(_RELATIONSHIPS, b""), relationship)
    parse_xml(parts[WORKBOOK], sheet)
    return found, day_zero[0]


def _strings(part: bytes | None) -> Sequence[str]:
    """The texts that cells share; readings of Chinese characters beside them are left out."""
    found: list[str] = []
    inside: list[str] = []
    pieces: list[str] = []

    def start(name: str, _: Mapping[str, str]) -> None:
        inside.append(name)
        if name == "si":
            pieces.clear()

    def end(name: str) -> None:
        inside.pop()
        if name == "si":
            found.append(_unescaped("".join(pieces)))

    def text(piece: str) -> None:
        if inside[-1] == "t" and "rPh" not in inside:
            pieces.append(piece)

    if part is not None:
        parse_xml(part, start, end, text)
    return found


@dataclass(slots=True)
class _Sheet:
    """Goes through the cells of one sheet."""

    name: str
    strings: Sequence[str]
    left: int
    """How many cells may still come."""
    rows: dict[int, dict[int, Value]] = field(default_factory=dict)
    count: int = 0
    row: int = 0
    column: int = 0
    kind: str = "n"
    inside: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.inside.append(name)
        if name == "row":
            given = attributes.get("r", "")
            self.row, self.column = int(given) if given.isdecimal() and len(given) < 9 else self.row + 1, 0
            self._check_place()
        elif name == "c":
            self._place(attributes.get("r", ""))
            self.kind = attributes.get("t", "n")
            self.pieces.clear()
            if self.kind == "e":
                self._refuse("shows an error", "显示错误值")
        elif name == "f" and "c" in self.inside:
            self._refuse("holds a formula: paste its value instead", "含有公式，请粘贴为数值")

    def end(self, name: str) -> None:
        self.inside.pop()
        if name == "c" and self.pieces:
            value = self._value("".join(self.pieces))
            if value != "":
                self.rows.setdefault(self.row - 1, {})[self.column - 1] = value

    def text(self, piece: str) -> None:
        if self.inside[-1] in ("v", "t") and "c" in self.inside and "rPh" not in self.inside:
            self.pieces.append(piece)

    def _value(self, text: str) -> Value:
        if self.kind == "s":
            number = int(text) if text.isdecimal() and len(text) < 9 else -1
            if not 0 <= number < len(self.strings):
                self._refuse("names a text that is not there", "引用的文本不存在")
            return self.strings[number]
        if self.kind == "b":
            return text.strip() in ("1", "true")
        if self.kind in ("str", "inlineStr", "d"):
            return _unescaped(text)
        try:
            return float(text)
        except ValueError:
            self._refuse("is no number", "不是数字")

    def _place(self, reference: str) -> None:
        self.count += 1
        if self.count > self.left:
            refuse(f"The workbook has more than {MAX_CELLS} cells.", f"工作簿的单元格超过 {MAX_CELLS} 个。")
        if not reference:
            self.column += 1
        else:
            match = _CELL.fullmatch(reference)
            if match is None:
                refuse(
                    f"Sheet {self.name[:40]} has a cell without a place.",
                    f"工作表 {self.name[:40]} 有位置不明的单元格。",
                )
            self.column = 0
            for letter in match[1]:
                self.column = self.column * 26 + ord(letter) - 64
            self.row = int(match[2])
        self._check_place()

    def _check_place(self) -> None:
        if self.row > MAX_ROWS or self.column > MAX_COLUMNS:
            self._refuse(
                f"lies outside the {MAX_ROWS} rows and {MAX_COLUMNS} columns that are read",
                f"超出可读取的 {MAX_ROWS} 行 {MAX_COLUMNS} 列范围",
            )

    def _refuse(self, what: str, what_zh: str) -> NoReturn:
        cell = f"{self.name[:40]}!{column_letters(max(self.column, 1) - 1)}{max(self.row, 1)}"
        refuse(f"Cell {cell} {what}.", f"单元格 {cell} {what_zh}。")


def _unescaped(text: str) -> str:
    """Characters that XML cannot hold are written `_x000D_` in workbooks."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
