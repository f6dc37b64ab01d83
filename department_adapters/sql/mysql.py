"""MySQL and MariaDB as a department's database.

Rules:
1. Each query is a read-only transaction of its own, always rolled back, in a session that is read-only and speaks UTC.
   What such a transaction lets through (`CALL`, `SET`, `INTO OUTFILE`, `LOCK TABLES`, ...) is refused before it is prepared:
   the server must first take the statement as a subquery, and it takes nothing but what reads.
2. The driver would write values into the text of a statement. So the query is prepared in the server, once per connection;
   values become variables of the session through the binary protocol, and the prepared query is executed with those.
   No value is ever part of a text, and two statements in one cannot be prepared.
3. Rows come as they are read from the connection. When no more are wanted the server has stopped by itself
   (`sql_select_limit`) or, if the query has a larger LIMIT of its own, the connection is given up.
4. Who no longer waits has the connection killed, from another one: MySQL does not see that nobody listens.
5. Kept connections that the server has closed are renewed, and the query is put again: to read twice harms nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncmy
import msgspec
import structlog
from asyncmy.constants import FIELD_TYPE
from asyncmy.cursors import SSCursor
from sqlalchemy.dialects import mysql as mysql_dialect
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.elements import TextClause

from department_adapters.sql.database import CHUNK, LONGEST_STATEMENT, Sink, UnfitValueError, tls_of
from exchange import BackendError

events = structlog.get_logger("datong.adapter")

ERRORS = (SQLAlchemyError, OSError, asyncmy.errors.Error)

_CONNECT_SECONDS = 10
_CLOSED = frozenset((0, 1053, 1152, 1927, 2006, 2013, 2055, 4031))
"""Error numbers of a connection the server has closed; 0 is the driver's own "not connected"."""
_UNFIT = frozenset((1267, 1270, 1271, 1292, 1366, 1367, 1411, 1525))
"""Error numbers of values: characters that a column's character set lacks, dates that no calendar has."""
_NO_SUCH_THREAD = 1094
_DIALECT = mysql_dialect.dialect(paramstyle="qmark")


@dataclass(slots=True)
class _Session:
    """What a connection has been told."""

    queries: dict[str, str] = field(default_factory=dict)
    """Text of a query -> the name it is prepared under."""
    setters: dict[int, Any] = field(default_factory=dict)
    """Number of values -> prepared statement that sets as many variables."""
    limit: int = 0


class MysqlDatabase:
    """Runs queries."""

    def __init__(self, url: URL, connections: int) -> None:
        self.url = url
        self._arguments = _arguments(url)
        self._connections = connections
        self._engine: AsyncEngine | None = None
        self._killing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._engine = engine(self.url, self._connections)

    async def stop(self) -> None:
        if self._killing:
            await asyncio.wait(self._killing)
        if self._engine is not None:
            await self._engine.dispose()

    async def read(self, query: TextClause, values: Mapping[str, object], sink: Sink) -> None:
        compiled = query.compile(dialect=_DIALECT)
        written = str(compiled).rstrip("; \t\r\n")
        ordered = [values[name] for name in compiled.positiontup or ()]
        limit = sink.wanted  # before it has taken anything: the query may be put again
        try:
            for _ in range(self._connections):
                if await self._read(written, ordered, sink, limit, may_be_closed=True):
                    return
            await self._read(written, ordered, sink, limit, may_be_closed=False)
        except ERRORS as error:
            raise (UnfitValueError if error.args and error.args[0] in _UNFIT else BackendError) from error

    async def _read(self, query: str, values: Sequence[object], sink: Sink, limit: int, *, may_be_closed: bool) -> bool:
        """Whether it was read; False if the connection was closed, and may be."""
        assert self._engine is not None, "start() comes first"
        async with self._engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            try:
                session: _Session = raw.info.setdefault("session", _Session())
                await _keep_to(driver, session, limit)
                done = await self._execute(driver, session, query, values, sink)
            except asyncio.CancelledError:
                self._kill(driver)
                await connection.invalidate()
                raise
            except asyncmy.errors.Error as error:
                if error.args and error.args[0] in _CLOSED:
                    await connection.invalidate()
                    if may_be_closed:
                        return False
                raise
            except BaseException:  # rows may be left in the connection
                await connection.invalidate()
                raise
            if not done:
                await connection.invalidate()
        return True

    async def _execute(self, driver: Any, session: _Session, query: str, values: Sequence[object], sink: Sink) -> bool:
        """Read; False if rows are left in the connection."""
        name = session.queries.get(query) or await _prepared(driver, session, query)
        using = ", ".join(f"@datong_{number}" for number in range(len(values)))
        if values:
            setter = session.setters.get(len(values))
            if setter is None:
                marks = ", ".join(f"@datong_{number} = ?" for number in range(len(values)))
                setter = session.setters[len(values)] = await driver.prepare(f"SET {marks}")
            await setter.execute(values)
        await driver.query("START TRANSACTION READ ONLY")
        cursor = driver.cursor(SSCursor)
        await cursor.execute(f"EXECUTE {name} USING {using}" if values else f"EXECUTE {name}")
        sink.begin([column[0] for column in cursor.description])
        convert = _converters(cursor.description)
        while wanted := min(sink.wanted, CHUNK):
            rows = await cursor.fetchmany(wanted)
            if not rows:
                break
            sink.take([_converted(row, convert) for row in rows] if convert else rows)
        else:
            if await cursor.fetchmany(1):
                return False
        await cursor.close()
        return True

    def _kill(self, driver: Any) -> None:
        task = asyncio.create_task(self._end(driver.thread_id()))
        self._killing.add(task)
        task.add_done_callback(self._killing.discard)

    async def _end(self, thread: int) -> None:
        """End a connection in the server."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connection: Any = await asyncmy.connect(**self._arguments)
                try:
                    await connection.query(f"KILL {thread:d}")
                finally:
                    connection.close()
        except (OSError, TimeoutError, asyncmy.errors.Error) as error:
            if not (error.args and error.args[0] == _NO_SUCH_THREAD):  # it had come to its end
                events.warning("a query may still run in the database", longest_seconds=LONGEST_STATEMENT)


def engine(url: URL, connections: int) -> AsyncEngine:
    """Connections that only read."""
    return create_async_engine(
        URL.create("mysql+asyncmy"),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # an error is logged, the person asked about is not
        connect_args={**_arguments(url), "async_creator_fn": _connect},
    )


def _arguments(url: URL) -> dict[str, Any]:
    """What the driver is told of a URL from `database_url`."""
    url, tls = tls_of(url)
    return {
        "host": url.host or "127.0.0.1",
        "port": url.port or 3306,
        "user": url.username,
        "password": (url.password or "").encode(),  # the driver's own encoding has no Chinese
        "database": url.database,
        "unix_socket": url.query.get("unix_socket"),
        "ssl": tls,
        "charset": "utf8mb4",
        "connect_timeout": _CONNECT_SECONDS,
        "program_name": "datong adapter",
    }


async def _connect(**arguments: Any) -> Any:
    connection: Any = await asyncmy.connect(**arguments)
    mariadb = "mariadb" in connection.get_server_info().lower()
    longest = f"max_statement_time = {LONGEST_STATEMENT}" if mariadb else f"max_execution_time = {LONGEST_STATEMENT}000"
    try:
        await connection.query(f"SET SESSION time_zone = '+00:00', {longest}")
        await connection.query("SET SESSION TRANSACTION READ ONLY")
    except BaseException:
        connection.close()
        raise
    return connection


async def _keep_to(driver: Any, session: _Session, limit: int) -> None:
    """Let the server stop by itself after so many rows."""
    if limit != session.limit:
        await driver.query(f"SET SESSION sql_select_limit = {limit:d}")
        session.limit = limit


async def _prepared(driver: Any, session: _Session, query: str) -> str:
    """The name of a query that is now prepared."""
    text = await driver.prepare("SET @datong_query = ?")
    # On lines of its own: the query may end with a comment.
    await text.execute([f"SELECT EXISTS (\n{query}\n)"])
    await driver.query("PREPARE datong_check FROM @datong_query")
    name = f"datong_{len(session.queries)}"
    await text.execute([query])
    await driver.query(f"PREPARE {name} FROM @datong_query")
    await text.close()
    session.queries[query] = name
    return name


def _converters(description: Sequence[Sequence[Any]]) -> list[tuple[int, Callable[[Any], object]]]:
    """Column -> what makes of the driver's value what other databases' drivers give."""
    return [(index, _CONVERT[column[1]]) for index, column in enumerate(description) if column[1] in _CONVERT]


def _converted(row: Sequence[Any], convert: list[tuple[int, Callable[[Any], object]]]) -> list[Any]:
    made = list(row)
    for index, function in convert:
        if made[index] is not None:
            made[index] = function(made[index])
    return made


def _moment(value: object) -> object:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value  # a date of zeros is text


def _clock(value: object) -> object:
    """`TIME` is a span to the driver, from -838 to 838 hours."""
    if not isinstance(value, timedelta):
        return value
    sign, value = ("-", -value) if value < timedelta() else ("", value)
    seconds = value.days * 86400 + value.seconds
    fraction = f".{value.microseconds:06}" if value.microseconds else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}"


def _bits(value: object) -> object:
    return int.from_bytes(value, "big") if isinstance(value, bytes) else value


def _json(value: object) -> object:
    return msgspec.Raw(value if isinstance(value, bytes) else str(value).encode())


_CONVERT: dict[int, Callable[[Any], object]] = {
    FIELD_TYPE.TIMESTAMP: _moment,
    FIELD_TYPE.TIME: _clock,
    FIELD_TYPE.BIT: _bits,
    FIELD_TYPE.JSON: _json,
}
