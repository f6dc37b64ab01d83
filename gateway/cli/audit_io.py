"""What the commands of `datong audit` share: where the log is, how it is read, how progress and trouble are told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from exchange import (
    InvalidRequestError,
    Language,
    LedgerError,
    LogReader,
    create_engine,
    database_url,
    parse_rfc3339,
    sqlite_path,
)
from gateway.cli import console_io as io
from registry import ChangeBook, Registry

_T = TypeVar("_T")

DATABASE_VARIABLE = "DATONG_LOG_DATABASE"
DataOption = Annotated[
    Path, typer.Option("--data", help="Data folder of the mesh, with the log (log.db) and the registry (registry.db).")
]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        envvar=DATABASE_VARIABLE,
        help="Database of the log, instead of --data: sqlite:///PATH or postgresql://USER@HOST/NAME.",
    ),
]
RegistryOption = Annotated[
    str,
    typer.Option(
        "--registry",
        envvar=io.DATABASE_VARIABLE,
        help="Database of the registry, instead of --data: sqlite:///PATH or postgresql://USER@HOST/NAME.",
    ),
]


def read_log(data: Path, database: str, speak: Language, work: Callable[[LogReader], Awaitable[_T]]) -> _T:
    """Do `work` on the log; what stands in the way of reading it ends the command with exit code 2."""
    return read_log_and_registry(data, database, "", speak, lambda reader, _: work(reader), with_registry=False)


def read_log_and_registry(
    data: Path,
    database: str,
    registry: str,
    speak: Language,
    work: Callable[[LogReader, ChangeBook | None], Awaitable[_T]],
    *,
    with_registry: bool = True,
) -> _T:
    """Do `work` on the log, and on the registry if it is named, or lies in the data folder like the log.

    Neither is changed, not even their schema. What stands in the way of reading them ends the command with exit code 2.
    """
    log_url = _url(database or f"sqlite:///{data / 'log.db'}", "--database")
    file = sqlite_path(log_url)
    if file is not None and not file.exists():
        unusable({"en": f"there is no log at {file}", "zh": f"{file} 处没有日志"}[speak])
    registry_url = _url(registry or f"sqlite:///{data / 'registry.db'}", "--registry")
    file = sqlite_path(registry_url)
    if registry and file is not None and not file.exists():
        unusable({"en": f"there is no registry at {file}", "zh": f"{file} 处没有登记簿"}[speak])
    if not registry and (database or file is None or not file.exists()):
        with_registry = False  # the folder's registry need not be that of another log

    async def opened() -> _T:
        engine = create_engine(log_url)
        opened_registry = Registry(create_engine(registry_url)) if with_registry else None
        try:
            book = ChangeBook(opened_registry) if opened_registry is not None else None
            return await work(LogReader(engine), book)
        finally:
            await engine.dispose()
            if opened_registry is not None:
                await opened_registry.close()

    try:
        return asyncio.run(opened())
    except InvalidRequestError as error:
        unusable(error.detail_in(speak))
    except (SQLAlchemyError, OSError) as error:
        if isinstance(error, LedgerError):
            raise
        # Not str() of SQLAlchemy's: it carries the statement and its parameters.
        cause = getattr(error, "orig", None) or (error if isinstance(error, OSError) else type(error).__name__)
        what = {"en": "the database of the log or the registry", "zh": "日志或登记数据库"}
        if not with_registry:
            what = {"en": "the log's database", "zh": "日志数据库"}
        unusable({"en": f"{what['en']} cannot be read: {cause}", "zh": f"{what['zh']}无法读取：{cause}"}[speak])


def unusable(problem: str) -> NoReturn:
    """End the command with exit code 2."""
    typer.echo(f"error: {problem}", err=True)
    raise typer.Exit(2)


def instant(text: str, option: str) -> int | None:
    """Unix milliseconds of a date (UTC) or an RFC 3339 instant; None if nothing was given."""
    if not text:
        return None
    try:
        if len(text) == 10:
            return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
        return parse_rfc3339(text)
    except ValueError as error:
        raise typer.BadParameter("write 2026-11-01 or 2026-11-01T08:00:00+08:00", param_hint=option) from error


def progress(as_json: bool) -> Callable[[int, int], None] | None:
    """Tells on a terminal how far a long command is."""
    if as_json or not sys.stderr.isatty():
        return None
    return lambda done, size: typer.echo(f"\r{done} / {size}", nl=False, err=True)


def clear_progress() -> None:
    """Make room for what is printed after `progress`."""
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)


def _url(text: str, option: str) -> URL:
    try:
        return database_url(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
