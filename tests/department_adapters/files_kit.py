"""The same table in every format that the files source reads."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from xml.sax.saxutils import escape

import pyarrow
import pyarrow.parquet
import xlsxwriter

HEADINGS = ("身份证号", "姓名", "division", "born", "weight", "insured", "secret")
ROWS: list[tuple[str, str, str, date, float, bool, str]] = [
    ("997001195402177090", "例甲子天", "000102", date(1954, 2, 17), 61.5, True, "canary-1"),
    ("997001196812174436", "例乙丑地", "000102", date(1968, 12, 17), 70.25, False, "canary-2"),
    ("997001200001010019", '例,"丙"寅', "000203", date(2000, 1, 1), 3.0, True, "canary-3"),
]
COLUMNS = {
    "number": "身份证号",
    "name": "姓名",
    "division": "division",
    "born": "born",
    "weight": "weight",
    "insured": "insured",
}
TYPES = {"born": "date", "weight": "number", "insured": "boolean"}


def text(encoding: str, delimiter: str = ",") -> Callable[[Path], None]:
    """Writes CSV, with everything as people write it."""

    def write(path: Path) -> None:
        held = io.StringIO()
        writer = csv.writer(held, delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(HEADINGS)
        for number, name, division, born, weight, insured, secret in ROWS:
            writer.writerow([number, name, division, f"{born:%Y/%m/%d}", weight, "是" if insured else "否", secret])
        path.write_bytes(held.getvalue().encode(encoding))

    return write


def xlsx(path: Path, rows: Sequence[Sequence[object]] = ROWS, headings: Sequence[str] = HEADINGS) -> None:
    """A workbook with a title above the headings and a sheet before it."""
    with xlsxwriter.Workbook(str(path)) as book:
        book.add_worksheet("说明").write_string(0, 0, "nothing")
        sheet = book.add_worksheet("人员")
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        sheet.write_string(0, 1, "示例市人员表")
        sheet.write_row(2, 1, headings)
        for line, row in enumerate(rows, 3):
            for place, cell in enumerate(row, 1):
                if isinstance(cell, str):
                    sheet.write_string(line, place, cell)
                elif isinstance(cell, date | datetime):
                    sheet.write_datetime(line, place, cell, day)
                elif cell is not None:
                    sheet.write(line, place, cell)


def ods(path: Path) -> None:
    """A spreadsheet of the open format, with the least that makes one."""

    def cell(value: object) -> str:
        if isinstance(value, bool):
            return f'<table:table-cell office:value-type="boolean" office:boolean-value="{str(value).lower()}"/>'
        if isinstance(value, float):
            return f'<table:table-cell office:value-type="float" office:value="{value}"/>'
        if isinstance(value, date):
            return f'<table:table-cell office:value-type="date" office:date-value="{value}"/>'
        return f'<table:table-cell office:value-type="string"><text:p>{escape(str(value))}</text:p></table:table-cell>'

    rows = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in (HEADINGS, *ROWS))
    names = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document-content{names} office:version="1.3"><office:body>'
        f'<office:spreadsheet><table:table table:name="人员">{rows}</table:table></office:spreadsheet></office:body>'
        "</office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0" manifest:version="1.3">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/>'
        '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>'
    )
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("mimetype", kind, zipfile.ZIP_STORED)
        packed.writestr("META-INF/manifest.xml", manifest)
        packed.writestr("content.xml", content)


def parquet(path: Path) -> None:
    """Typed columns: decimals, dates, truth values."""
    columns = dict(zip(HEADINGS, zip(*ROWS, strict=True), strict=True))
    weights = pyarrow.array([Decimal(str(weight)) for weight in columns["weight"]], pyarrow.decimal128(10, 2))
    table = pyarrow.table({name: pyarrow.array(list(values)) for name, values in columns.items()})
    place = table.schema.get_field_index("weight")
    pyarrow.parquet.write_table(table.set_column(place, "weight", weights), path)
