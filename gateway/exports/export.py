"""Writing an export, in any of its forms, while the records are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final, Literal, get_args

from exchange import StoredEntry
from gateway.exports.csv_file import CsvWriter
from gateway.exports.heading import Heading
from gateway.exports.json_lines import JsonLinesWriter
from gateway.exports.writers import ExportWriter
from gateway.exports.xlsx_file import XlsxWriter

ExportFormat = Literal["csv", "xlsx", "jsonl"]
EXPORT_FORMATS: Final[tuple[ExportFormat, ...]] = get_args(ExportFormat)

_TOGETHER: Final = 16
"""Records between which nobody else gets a turn: less than a millisecond."""
_PART: Final = 32 << 10


def writer_for(form: ExportFormat) -> ExportWriter:
    """A writer of one file."""
    writers: dict[ExportFormat, Callable[[], ExportWriter]] = {
        "csv": CsvWriter,
        "xlsx": XlsxWriter,
        "jsonl": JsonLinesWriter,
    }
    return writers[form]()


async def export(
    writer: ExportWriter,
    heading: Heading,
    records: AsyncIterator[StoredEntry],
    *,
    ending: Callable[[int], Awaitable[object]],
) -> AsyncGenerator[bytes, None]:
    """The bytes of the file, in parts; as fast as they are taken, and with turns for others.

    Args:
        ending: Awaited with the number of records before the end of the file is given out; if it raises, there is none.
    """
    try:
        parts = [writer.begin(heading)]
        size, count = len(parts[0]), 0
        batch: list[StoredEntry] = []
        async for entry in records:
            batch.append(entry)
            if len(batch) < _TOGETHER:
                continue
            parts.append(writer.rows(batch))
            count += len(batch)
            batch.clear()
            size += len(parts[-1])
            if size >= _PART:
                yield b"".join(parts)
                parts, size = [], 0
            await asyncio.sleep(0)
        parts.append(writer.rows(batch))
        count += len(batch)
        await ending(count)
        parts.append(writer.end(count))
        yield b"".join(parts)
    finally:
        writer.close()
