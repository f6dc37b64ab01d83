"""An export as an Office Open XML workbook (ECMA-376), written as it goes: nothing of it is kept but the part in hand.

Libraries that write workbooks gather the whole file first, or in files of their own; a million records must not need either.

Rules:
1. The first sheet tells of the export; the records follow, with headings that stay in sight. A sheet takes MOST_ROWS records or
   MOST_BYTES of XML, then the next one begins: programs take 1,048,576 rows, and parts of this zip must stay below 4 GiB. The last
   row of the last sheet is the number of records. A file that was cut off is no zip.
2. A text is a text: no cell holds a formula, whatever it begins with. One that would become a formula when it is typed again
   (`gateway.exports.cells`) carries the mark of a quoted text besides. Numbers are numbers.
3. What XML cannot hold stands as U+FFFD; what looks like an escape of a spreadsheet program (`_x000D_`) is escaped itself.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from typing import IO, Final
from xml.sax.saxutils import escape

from exchange import StoredEntry
from gateway.exports.cells import is_formula_like
from gateway.exports.columns import COLUMNS, Cell, cells_of
from gateway.exports.heading import Heading

MOST_ROWS: Final = 1_000_000
MOST_BYTES: Final = 1 << 30
LONGEST_TEXT: Final = 32_767
"""Characters of a cell."""

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_HEADING, _QUOTED = 1, 2
_STYLES = (
    f'{_HEAD}<styleSheet xmlns="{_MAIN}"><fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>'
    '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="3"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    '<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/>'
    '<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" quotePrefix="1" applyNumberFormat="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)
_ROOT_RELATIONS = (
    f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
)
_FROZEN = (
    '<sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/>'
    "</sheetView></sheetViews>"
)
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LIKE_AN_ESCAPE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_NAMES = {"en": ("about", "records"), "zh": ("说明", "记录")}


class _Output(io.RawIOBase):
    """Where the zip is written to: gives out what came in since the last time, and cannot go back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]  # any buffer
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class XlsxWriter:
    """See `gateway.exports.writers`."""

    media_type = f"{_TYPE}.sheet"

    def __init__(self, *, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES) -> None:
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._output = _Output()
        # Level 1: an export waits for the network or the disk, and others for the processor.
        self._zip = zipfile.ZipFile(self._output, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._sheets: list[str] = []
        self._sheet: IO[bytes] | None = None
        self._rows = self._bytes = 0
        self._headings = ""
        self._count = ""
        self._name = ""

    def begin(self, heading: Heading) -> bytes:
        about, self._name = _NAMES[heading.language]
        self._count = heading.mark("count")
        self._headings = _row([column.heading(heading.language) for column in COLUMNS], _HEADING)
        self._open_sheet(about, _columns([28, 100]))
        self._write("".join([_row(line) for line in heading.lines()]))
        self._close_sheet()
        self._open_records()
        return self._output.take()

    def rows(self, entries: Sequence[StoredEntry]) -> bytes:
        for entry in entries:
            if self._rows >= self._most_rows or self._bytes >= self._most_bytes:
                self._close_sheet()
                self._open_records()
            self._write(_row(cells_of(entry)))
            self._rows += 1
        return self._output.take()

    def end(self, count: int) -> bytes:
        self._write(_row([f"# {self._count}: {count}"]))
        self._close_sheet()
        numbers = range(1, len(self._sheets) + 1)
        sheets = "".join(
            f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"/>'
            for number, name in zip(numbers, self._sheets, strict=True)
        )
        relations = "".join(
            f'<Relationship Id="rId{number}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{number}.xml"/>'
            for number in numbers
        )
        types = "".join(
            f'<Override PartName="/xl/worksheets/sheet{number}.xml" ContentType="{_TYPE}.worksheet+xml"/>'
            for number in numbers
        )
        for name, content in (
            ("xl/styles.xml", _STYLES),
            (
                "xl/workbook.xml",
                f'{_HEAD}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>',
            ),
            (
                "xl/_rels/workbook.xml.rels",
                f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">{relations}'
                f'<Relationship Id="rId0" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
            ),
            ("_rels/.rels", _ROOT_RELATIONS),
            (
                "[Content_Types].xml",
                f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">'
                '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
                '<Default Extension="xml" ContentType="application/xml"/>'
                f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
                f'<Override PartName="/xl/styles.xml" ContentType="{_TYPE}.styles+xml"/>{types}</Types>',
            ),
        ):
            self._zip.writestr(name, content)
        self._zip.close()
        return self._output.take()

    def close(self) -> None:
        if self._sheet is not None and not self._sheet.closed:
            self._sheet.close()
        self._zip.close()
        self._output.take()

    def _open_records(self) -> None:
        number = len(self._sheets)  # the first sheet is no sheet of records
        self._open_sheet(
            self._name if number == 1 else f"{self._name} {number}",
            _FROZEN + _columns([column.width for column in COLUMNS]),
        )
        self._write(self._headings)
        self._rows = 0

    def _open_sheet(self, name: str, before_rows: str) -> None:
        self._sheets.append(name)
        self._sheet = self._zip.open(f"xl/worksheets/sheet{len(self._sheets)}.xml", "w")
        self._bytes = 0
        self._write(f'{_HEAD}<worksheet xmlns="{_MAIN}">{before_rows}<sheetData>')

    def _write(self, text: str) -> None:
        assert self._sheet is not None  # `begin` opened one
        data = text.encode("utf-8")
        self._bytes += len(data)
        self._sheet.write(data)

    def _close_sheet(self) -> None:
        assert self._sheet is not None  # as above
        self._write("</sheetData></worksheet>")
        self._sheet.close()


def _columns(widths: Iterable[int]) -> str:
    columns = [f'<col min="{at}" max="{at}" width="{width}" customWidth="1"/>' for at, width in enumerate(widths, 1)]
    return f"<cols>{''.join(columns)}</cols>"


def _row(cells: Iterable[Cell], style: int = 0) -> str:
    return f"<row>{''.join([_cell(cell, style) for cell in cells])}</row>"


def _cell(cell: Cell, style: int) -> str:
    if cell is None:
        return "<c/>"
    if isinstance(cell, int):
        return f"<c><v>{cell}</v></c>"
    text = cell if len(cell) <= LONGEST_TEXT else cell[: LONGEST_TEXT - 1] + "…"
    style = style or (_QUOTED if is_formula_like(text) else 0)
    if "_x" in text or not text.isprintable():
        text = _LIKE_AN_ESCAPE.sub("_x005F_", _NOT_IN_XML.sub("\ufffd", text)).replace("\r", "_x000D_")
    mark = f' s="{style}"' if style else ""
    return f'<c{mark} t="inlineStr"><is><t xml:space="preserve">{escape(text)}</t></is></c>'
