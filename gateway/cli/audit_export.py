"""`datong audit export`: all records that fit, in one file."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange import LogReader, LogSearch, Rfc3339, StoredEntry
from gateway.cli import console_io as io
from gateway.cli.audit_filters import DATA, DataOption, SearchOption, Wanted, takes_filter
from gateway.cli.audit_io import DatabaseOption, clear_progress, progress, unusable
from gateway.cli.audit_search import search_log, tell_index
from gateway.exports.export import EXPORT_FORMATS, ExportFormat, export, writer_for
from gateway.exports.heading import Heading


@takes_filter
def export_records(
    file: Annotated[Path, typer.Argument(help="File to write: its ending, .csv, .xlsx or .jsonl, is the form.")],
    wanted: Wanted,
    by: io.ByOption = "",
    data: DataOption = DATA,
    database: DatabaseOption = "",
    search_database: SearchOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Write all records that fit into a file, oldest first, with the filter and the newest checkpoint over them.

    A file that is there is not overwritten. What cannot be finished leaves none.

    Example: datong audit export refused.xlsx --outcome refused --since 2026-11-01
    """
    speak = io.language(lang)
    form = _form(file)
    if file.exists():
        unusable({"en": f"{file} is there already", "zh": f"{file} 已存在"}[speak])

    async def write(search: LogSearch, reader: LogReader) -> tuple[int, int]:
        terms, told = await wanted.resolved(data)
        newest = await reader.latest_checkpoint()
        if newest is None:
            unusable({"en": "no checkpoint covers any record yet", "zh": "尚无检查点"}[speak])
        heading = Heading(
            filter=told.to_plain(),
            checkpoint=newest.note,
            size=newest.size,
            made_at=Rfc3339()(time.time_ns() // 1_000_000),
            made_by=io.who(by),
            language=speak,
        )
        counts: list[int] = []

        async def whole(count: int) -> None:
            counts.append(count)

        async def told_of(records: AsyncIterator[StoredEntry]) -> AsyncIterator[StoredEntry]:
            tell = progress(as_json)
            async for entry in records:
                if tell is not None and entry.seq % 256 == 0:
                    tell(entry.seq, newest.size)
                yield entry

        unfinished = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            with unfinished.open("xb") as output:
                parts = export(writer_for(form), heading, told_of(search.iterate(terms, newest.size)), ending=whole)
                async with aclosing(parts):
                    async for part in parts:
                        output.write(part)
                output.flush()
                os.fsync(output.fileno())
            os.link(unfinished, file)  # unlike a renaming, this fails if the file has come to be meanwhile
        finally:
            unfinished.unlink(missing_ok=True)
        return counts[0], newest.size

    (count, size), status = search_log(data, database, search_database, speak, write)
    if as_json:
        told: dict[str, Any] = {"file": str(file), "records": count, "size": size}
        io.print_json({**told, "indexed": status.indexed})
        return
    clear_progress()
    typer.echo(
        {
            "en": f"{count} records of the first {size} entries are in {file}.",
            "zh": f"已导出前 {size} 条日志中的 {count} 条记录：{file}。",
        }[speak]
    )
    tell_index(status, speak)


def _form(file: Path) -> ExportFormat:
    ending = file.suffix.removeprefix(".").lower()
    for form in EXPORT_FORMATS:
        if form == ending:
            return form
    raise typer.BadParameter(f"it must end in {', '.join('.' + form for form in EXPORT_FORMATS)}", param_hint="FILE")
