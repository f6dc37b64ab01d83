"""A connection to a department's database for whoever sets an adapter up: it only reads, and says plainly what is wrong.

What is told may name tables, columns and privileges; never a password.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy.engine import URL
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from department_adapters.section import resolved
from department_adapters.sql.database import database_url, kind_of

T = TypeVar("T")

_CONNECT_SECONDS = 15.0


class InspectionError(Exception):
    """The database cannot be looked at. Its texts are for whoever sets the adapter up, and name no password."""

    def __init__(self, problem: str, problem_zh: str) -> None:
        super().__init__(problem)
        self.problem, self.problem_zh = problem, problem_zh


async def at_database(url: str, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """What comes of the work on a connection that only reads.

    Args:
        url: As in `adapter.toml`; references to the environment are replaced.

    Raises:
        InspectionError: The URL names no database, it cannot be reached, or what was asked of it failed.
    """
    made = inspected_url(url)
    if kind_of(made) == "sqlite":
        _file_is_there(made.database or "")
    try:
        async with _engine(made) as engine:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connection = await engine.connect()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about types it does not know: they are told as text
                    return await work(connection)
            finally:
                await connection.close()
    except TimeoutError as error:
        raise InspectionError(
            f"the database did not answer within {_CONNECT_SECONDS:g} seconds",
            f"数据库在 {_CONNECT_SECONDS:g} 秒内没有应答",
        ) from error
    except NoSuchTableError as error:
        raise InspectionError(f"there is no table or view {error}", f"没有名为 {error} 的表或视图") from error
    except _errors(made) as error:
        said = _said(error, made)
        raise InspectionError(f"the database cannot be read: {said}", f"无法读取数据库：{said}") from error


def inspected_url(url: str) -> URL:
    """The URL with its references replaced; raises InspectionError."""
    try:
        return database_url(resolved(url, quoted=True))
    except ValueError as error:
        raise InspectionError(str(error), f"数据库地址不可用：{error}") from error


def _file_is_there(path: str) -> None:
    # Before SQLite finds out: its thread would tell an event loop that is gone by then.
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InspectionError(f"{path}: {error.strerror}", f"无法读取 {path}：{error.strerror}") from error


@asynccontextmanager
async def _engine(url: URL) -> AsyncIterator[AsyncEngine]:
    match kind_of(url):
        case "postgresql":
            from department_adapters.sql.postgresql import engine
        case "mysql":
            try:
                from department_adapters.sql.mysql import engine
            except ModuleNotFoundError as error:
                raise InspectionError(
                    "MySQL and MariaDB need another library: pip install 'datong[mysql]'",
                    "MySQL 与 MariaDB 需另装驱动：pip install 'datong[mysql]'",
                ) from error
        case _:
            from department_adapters.sql.sqlite import engine
    try:
        made = engine(url, 1)
    except ValueError as error:
        raise InspectionError(str(error), f"数据库地址不可用：{error}") from error
    try:
        yield made
    finally:
        await made.dispose()


def _errors(url: URL) -> tuple[type[BaseException], ...]:
    known: tuple[type[BaseException], ...]
    match kind_of(url):
        case "postgresql":
            from department_adapters.sql import postgresql

            known = postgresql.ERRORS
        case "mysql":
            from department_adapters.sql import mysql

            known = mysql.ERRORS
        case _:
            from department_adapters.sql import sqlite

            known = sqlite.ERRORS
    return (SQLAlchemyError, *known)


def _said(error: BaseException, url: URL) -> str:
    """The driver's own words in one line."""
    error = getattr(error, "orig", None) or error
    words = error.args[-1] if error.args and isinstance(error.args[-1], str) else error
    said = " ".join(str(words).split())[:300] or type(error).__name__
    return said.replace(url.password, "***") if url.password else said
