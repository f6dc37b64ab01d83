"""How the commands of `datong audit` search: in the log itself, with its index as far as there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import typer
from sqlalchemy.exc import SQLAlchemyError

from exchange import (
    IndexStatus,
    Language,
    LogReader,
    LogSearch,
    MeshError,
    create_engine,
    database_url,
    sqlite_path,
)
from gateway.cli.audit_io import unusable

_T = TypeVar("_T")


def search_log(
    data: Path,
    database: str,
    search_database: str,
    speak: Language,
    work: Callable[[LogSearch, LogReader], Awaitable[_T]],
) -> tuple[_T, IndexStatus]:
    """Do `work` on the log, which is not changed; and how far its index is.

    What stands in the way of reading it ends the command with exit code 2.
    """
    url = database or f"sqlite:///{data / 'log.db'}"
    try:
        file = sqlite_path(database_url(url))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--database") from error
    if file is not None and not file.exists():
        unusable({"en": f"there is no log at {file}", "zh": f"{file} 处没有日志"}[speak])

    async def opened() -> tuple[_T, IndexStatus]:
        engine = create_engine(url)
        try:
            search = await LogSearch.open(url, search_database)
            try:
                return await work(search, LogReader(engine)), await search.status()
            finally:
                await search.close()
        finally:
            await engine.dispose()

    try:
        return asyncio.run(opened())
    except MeshError as error:
        unusable(error.detail_in(speak) if error.rule != "search-available" else _SILENT[speak])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--search-database") from error
    except (SQLAlchemyError, OSError) as error:
        # Not str() of SQLAlchemy's: it carries the statement and its parameters.
        cause = getattr(error, "orig", None) or (error if isinstance(error, OSError) else type(error).__name__)
        unusable({"en": f"the log's database cannot be read: {cause}", "zh": f"日志数据库无法读取：{cause}"}[speak])


def tell_index(status: IndexStatus, speak: Language) -> None:
    """Say on standard error that much was read without the index, so that nobody wonders what took so long."""
    behind = status.size - status.indexed
    if behind > _WORTH_TELLING:
        typer.echo(
            {
                "en": f"The search index holds {status.indexed} of {status.size} entries; the others were read one by one "
                "(a running gateway makes it, or datong audit index).",
                "zh": f"检索索引已覆盖 {status.size} 条中的 {status.indexed} 条，其余逐条读取"
                "（运行中的网关会自动建立，也可执行 datong audit index）。",
            }[speak],
            err=True,
        )


_WORTH_TELLING = 100_000
_SILENT = {
    "en": "the database of the log or of its index cannot be read, or is no such database",
    "zh": "日志或其索引的数据库无法读取，或不是日志数据库",
}
