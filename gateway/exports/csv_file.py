"""An export as CSV (RFC 4180), so that spreadsheet programs open it well.

Rules:
1. UTF-8 with a byte order mark, without which Excel takes it for something else; lines end with CR LF.
2. Lines about the export stand in one cell each, which begins with `# `: before the headings, and at the end the number of records.
3. A text that would be a formula (`gateway.exports.cells`) gets an apostrophe in front. That is all that is altered.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from exchange import StoredEntry
from gateway.exports.cells import is_formula_like
from gateway.exports.columns import COLUMNS, Cell, cells_of
from gateway.exports.heading import Heading


class CsvWriter:
    """See `gateway.exports.writers`."""

    media_type = "text/csv; charset=utf-8"

    def __init__(self) -> None:
        self._count = ""

    def begin(self, heading: Heading) -> bytes:
        self._count = heading.mark("count")
        told: list[list[Cell]] = [[f"# {name}: {value}"] for name, value in heading.lines()]
        headings: list[Cell] = [column.heading(heading.language) for column in COLUMNS]
        return b"\xef\xbb\xbf" + _lines([*told, headings])

    def rows(self, entries: Sequence[StoredEntry]) -> bytes:
        return _lines(cells_of(entry) for entry in entries)

    def end(self, count: int) -> bytes:
        return _lines([[f"# {self._count}: {count}"]])

    def close(self) -> None:
        """Nothing is held."""


def _lines(rows: Iterable[Sequence[Cell]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_safe(cell) for cell in row] for row in rows)
    # A text of ours cannot hold half a character, but a damaged log may.
    return text.getvalue().encode("utf-8", "replace")


def _safe(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and is_formula_like(cell) else cell
