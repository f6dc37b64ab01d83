"""`datong audit index`: make the search index, make it anew, or compare it with the records."""

from __future__ import annotations

from typing import Annotated

import typer

from exchange import IndexFault, Language, LogReader, LogSearch
from gateway.cli import console_io as io
from gateway.cli.audit_filters import DATA, DataOption, SearchOption
from gateway.cli.audit_io import DatabaseOption, clear_progress, progress
from gateway.cli.audit_search import search_log


def index(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Begin again from nothing.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Make no index, but compare the one that is there with every record.")
    ] = False,
    data: DataOption = DATA,
    database: DatabaseOption = "",
    search_database: SearchOption = "",
    as_json: io.JsonOption = False,
    lang: io.LangOption = "",
) -> None:
    """Bring the search index up to date with the log. A running gateway does that by itself; then this waits for it.

    The index is derived from the log, and may be lost or made anew at any time.

    Exit status: 0 if done or in order, 1 if `--check` found a difference, 2 if a database cannot be used.
    """
    if rebuild and check:
        raise typer.BadParameter("say --rebuild or --check", param_hint="--check")
    speak = io.language(lang)

    async def work(search: LogSearch, _: LogReader) -> IndexFault | None:
        if check:
            return await search.check(progress(as_json))
        await search.make_index(rebuild=rebuild, progress=progress(as_json))
        return None

    fault, status = search_log(data, database, search_database, speak, work)
    if as_json:
        io.print_json({"ok": fault is None, **io.plain(status), **({"fault": io.plain(fault)} if fault else {})})
    else:
        clear_progress()
        _print_fault(fault, speak) if fault else typer.echo(
            {
                "en": f"✓ The search index holds {status.indexed} of {status.size} entries; newer ones are read from the log.",
                "zh": f"✓ 检索索引已覆盖 {status.size} 条中的 {status.indexed} 条；更新的记录直接从日志读取。",
            }[speak]
        )
    if fault:
        raise typer.Exit(1)


def _print_fault(fault: IndexFault, speak: Language) -> None:
    said = fault.problem_zh if speak == "zh" else fault.problem
    typer.echo(
        {
            "en": f"✗ index of entries {fault.first} to {fault.end - 1}: {said}",
            "zh": f"✗ 第 {fault.first} 至 {fault.end - 1} 条的索引：{said}",
        }[speak]
    )
    typer.echo(
        {
            "en": "The log itself is not concerned (datong audit check). Make the index anew: datong audit index --rebuild",
            "zh": "日志本身不受影响（可执行 datong audit check）。请重建索引：datong audit index --rebuild",
        }[speak]
    )
