"""What a department's database holds: for whoever sets an adapter up, not for questions.

Nothing is written. All three kinds of databases are asked in the same words, through SQLAlchemy's inspector.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, text, types
from sqlalchemy import inspect as inspector_of
from sqlalchemy.dialects import mysql as mysql_types
from sqlalchemy.dialects import postgresql as postgresql_types
from sqlalchemy.engine import Dialect, Inspector
from sqlalchemy.exc import CompileError, NoSuchTableError, UnsupportedCompilationError
from sqlalchemy.ext.asyncio import AsyncConnection

from department_adapters.sql.account import Finding, check_read_only
from department_adapters.sql.database import dialect_of, quoted
from department_adapters.sql.looking import InspectionError, at_database

__all__ = [
    "ColumnDescription",
    "ColumnKind",
    "DeclaredQuery",
    "Finding",
    "InspectionError",
    "TableDescription",
    "answer_schema",
    "check_read_only",
    "describe_table",
    "key_query",
    "sample",
    "tables",
]

ColumnKind = Literal[
    "text", "integer", "decimal", "number", "boolean", "date", "time", "datetime", "bytes", "json", "other"
]
"""`decimal` keeps its digits, `number` is a float; `other` is told as text."""

_PARAMETER = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDescription:
    """One column of a table or view."""

    name: str
    kind: ColumnKind
    type: str
    """As the database spells it: `VARCHAR(60)`; empty if it has none."""
    nullable: bool
    comment: str = ""
    length: int | None = None
    """Most characters of a text."""
    zoned: bool = False
    """Whether a `datetime` is a moment: told in UTC, with a Z."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDescription:
    """One table or view."""

    backend: Literal["postgresql", "mysql", "sqlite"]
    name: str
    """As `tables` tells it: with its schema unless that is the account's own."""
    schema: str | None
    table: str
    view: bool
    comment: str
    columns: tuple[ColumnDescription, ...]
    primary_key: tuple[str, ...]
    """Its columns in order; empty without one, as for every view."""
    unique: tuple[tuple[str, ...], ...]
    """Other keys: values of these columns, none of them NULL, stand for one row."""

    def column(self, name: str) -> ColumnDescription:
        """The column of that name; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def booleans(self) -> tuple[str, ...]:
        """For an operation's `booleans`: columns whose truth values arrive as 0 and 1."""
        return () if self.backend == "postgresql" else self._of("boolean")

    @property
    def json(self) -> tuple[str, ...]:
        """For an operation's `json`: columns whose JSON arrives as text."""
        return () if self.backend == "postgresql" else self._of("json")

    def _of(self, kind: ColumnKind) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.kind == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredQuery:
    """For an operation of `adapter.toml`: its `query`, and which of its parameters are `integers`."""

    query: str
    integers: tuple[str, ...]


async def tables(url: str) -> list[str]:
    """Names of all tables and views that are not the database's own, as `describe_table` takes them.

    Args:
        url: As in `adapter.toml`; references to the environment are replaced.

    Raises:
        InspectionError: The URL names no database, or it cannot be read.
    """

    return sorted(await at_database(url, lambda connection: connection.run_sync(_places)))


async def describe_table(url: str, table: str) -> TableDescription:
    """The columns and keys of a table or view.

    Args:
        table: `name` or `schema.name`, as `tables` tells it.

    Raises:
        InspectionError: The URL names no database, it cannot be read, or it has no such table.
    """
    return await at_database(url, lambda connection: connection.run_sync(_description, table))


async def sample(url: str, table: TableDescription, columns: Sequence[str], rows: int = 100) -> list[dict[str, Any]]:
    """Some rows, whichever the database has at hand: values as Python has them.

    Raises:
        InspectionError: The database cannot be read, or the account may not read this table.
        KeyError: A column is not the table's.
    """

    async def read(connection: AsyncConnection) -> list[dict[str, Any]]:
        listed = ", ".join(quoted(connection.dialect, table.column(name).name) for name in columns)
        statement = text(f"SELECT {listed} FROM {_from(connection.dialect, table)} LIMIT {rows:d}")
        return [dict(row) for row in (await connection.execute(statement)).mappings()]

    return await at_database(url, read)


def key_query(table: TableDescription, columns: Sequence[str], filters: Mapping[str, str]) -> DeclaredQuery:
    """A query for the rows in which columns have given values.

    Args:
        columns: Those that are told.
        filters: Parameter -> the column that it must equal.

    Raises:
        KeyError: A column is not the table's.
        ValueError: A parameter is not a-z, 0-9 and _, or there are no columns.
    """
    if not columns:
        raise ValueError("a query tells at least one column")
    dialect = dialect_of(table.backend)
    listed = ", ".join(quoted(dialect, table.column(name).name) for name in columns)
    conditions, integers = [], []
    for parameter, name in filters.items():
        if not _PARAMETER.fullmatch(parameter):
            raise ValueError(f"the parameter {parameter!r} must be a-z, 0-9 and _, and not begin with a digit")
        column = table.column(name)
        if column.kind == "integer":
            integers.append(parameter)
        conditions.append(f"{quoted(dialect, name)} = {_bound(table.backend, parameter, column)}")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return DeclaredQuery(query=f"SELECT {listed} FROM {_from(dialect, table)}{where}", integers=tuple(integers))


def answer_schema(column: ColumnDescription, backend: str) -> dict[str, object]:
    """The JSON Schema (2020-12, as in OpenAPI 3.1) of the column's values in answers of the SQL source.

    Columns in `booleans` and `json` of the table are taken to be declared as such in the operation.
    """
    kinds: dict[ColumnKind, dict[str, object]] = {
        "text": {"type": "string"},
        "integer": {"type": "integer"},
        # SQLite keeps no decimals, only what it made of them.
        "decimal": {"type": ["number", "string"] if backend == "sqlite" else "string"},
        "number": {"type": "number"},
        "boolean": {"type": "boolean"},
        "date": {"type": "string", "format": "date"},
        "time": {"type": "string"},
        "datetime": {"type": "string", "format": "date-time"} if column.zoned else {"type": "string"},
        "bytes": {"type": "string", "contentEncoding": "base64"},
        "json": {},
        "other": {},
    }
    schema = dict(kinds[column.kind])
    if column.kind == "date" and backend == "sqlite":
        del schema["format"]  # it keeps whatever text was put in
    if column.length is not None and column.kind == "text" and backend != "sqlite":
        schema["maxLength"] = column.length
    may_be_null = column.nullable or (column.kind == "number" and backend == "postgresql")  # NaN has no other form
    if may_be_null and "type" in schema:
        kind = schema["type"]
        schema["type"] = [*(kind if isinstance(kind, list) else [kind]), "null"]
    if column.comment:
        schema["description"] = column.comment
    return schema


def _places(connection: Connection) -> dict[str, tuple[str | None, str]]:
    """Name -> schema and table of all tables and views that are not the database's own."""
    inspector = inspector_of(connection)
    found: dict[str, tuple[str | None, str]] = {}
    for schema in _schemas(inspector):
        prefix = "" if schema is None else f"{schema}."
        for table in (*inspector.get_table_names(schema), *inspector.get_view_names(schema)):
            found.setdefault(prefix + table, (schema, table))
    return found


def _schemas(inspector: Inspector) -> list[str | None]:
    """None, in which names without a schema are looked up, and those of others."""
    if inspector.dialect.name != "postgresql":
        return [None]
    own = inspector.default_schema_name
    found = (name for name in inspector.get_schema_names() if name != "information_schema" and name[:3] != "pg_")
    return [None, *(name for name in found if name != own)]


def _description(connection: Connection, name: str) -> TableDescription:
    places = _places(connection)
    if name not in places:
        raise NoSuchTableError(name)
    schema, table = places[name]
    inspector = inspector_of(connection)
    primary = tuple(inspector.get_pk_constraint(table, schema)["constrained_columns"])
    json = _json_of_mariadb(connection, table)
    columns = tuple(
        _column(column, connection.dialect, primary=column["name"] in primary, json=json)
        for column in inspector.get_columns(table, schema)
    )
    try:
        comment = inspector.get_table_comment(table, schema)["text"] or ""
    except (NotImplementedError, NoSuchTableError):  # of SQLite; of views of MariaDB
        comment = ""
    view = table in inspector.get_view_names(schema)
    backend = connection.dialect.name
    return TableDescription(
        backend="mysql" if backend == "mariadb" else backend,  # type: ignore[arg-type]
        name=name,
        schema=schema,
        table=table,
        view=view,
        comment="" if view and comment == "VIEW" else comment,
        columns=columns,
        primary_key=primary,
        unique=tuple(key for key in _unique(connection, table, schema) if key != primary),
    )


def _unique(connection: Connection, table: str, schema: str | None) -> list[tuple[str, ...]]:
    """Column lists that are unique in the whole table, shortest first."""
    found = _unique_of_sqlite(connection, table) if connection.dialect.name == "sqlite" else set[tuple[str, ...]]()
    inspector = inspector_of(connection)
    try:
        for constraint in inspector.get_unique_constraints(table, schema):
            found.add(tuple(constraint["column_names"]))
        for index in inspector.get_indexes(table, schema):
            names = index["column_names"]
            partial = any(option.endswith("_where") for option in index.get("dialect_options", {}))
            if index["unique"] and not partial and None not in names and not index.get("expressions"):
                found.add(tuple(name for name in names if name is not None))
    except NoSuchTableError:  # a view has none
        return []
    return sorted(found, key=lambda key: (len(key), key))


def _unique_of_sqlite(connection: Connection, table: str) -> set[tuple[str, ...]]:
    """Those of constraints without a name, which the inspector reads from the text of the table, and not from every text."""
    within = quoted(connection.dialect, table)
    found = set()
    for _, index, unique, _, partial in connection.exec_driver_sql(f"PRAGMA index_list({within})").all():
        if unique and not partial:
            names = connection.exec_driver_sql(f"PRAGMA index_info({quoted(connection.dialect, index)})").all()
            found.add(tuple(name for _, _, name in names))
    return {key for key in found if None not in key}


_JSON_OF_MARIADB = text(
    "SELECT check_clause FROM information_schema.check_constraints"
    " WHERE constraint_schema = DATABASE() AND table_name = :table"
)


def _json_of_mariadb(connection: Connection, table: str) -> set[str]:
    """Columns declared as JSON, which MariaDB keeps as text under a constraint."""
    if not getattr(connection.dialect, "is_mariadb", False):
        return set()
    clauses = connection.execute(_JSON_OF_MARIADB, {"table": table}).scalars()
    found = (re.fullmatch(r"json_valid\(`((?:[^`]|``)*)`\)", str(clause)) for clause in clauses)
    return {match[1].replace("``", "`") for match in found if match}


def _column(column: Mapping[str, Any], dialect: Dialect, *, primary: bool, json: Collection[str]) -> ColumnDescription:
    kind = "json" if column["name"] in json else _kind(column["type"])
    several = isinstance(column["type"], mysql_types.SET)
    try:
        spelled = column["type"].compile(dialect=dialect)
    except (CompileError, UnsupportedCompilationError):  # one the inspector does not know
        spelled = ""
    return ColumnDescription(
        name=column["name"],
        kind=kind,
        type=spelled,
        nullable=bool(column["nullable"]) and not primary,
        comment=column.get("comment") or "",
        length=getattr(column["type"], "length", None) if kind == "text" and not several else None,
        zoned=bool(getattr(column["type"], "timezone", False)) or isinstance(column["type"], mysql_types.TIMESTAMP),
    )


def _kind(of: types.TypeEngine[Any]) -> ColumnKind:
    one_bit = isinstance(of, mysql_types.TINYINT) and of.display_width == 1  # what MySQL makes of BOOLEAN
    if one_bit or (isinstance(of, mysql_types.BIT) and of.length == 1):
        return "boolean"
    for kind, known in _KINDS.items():
        if isinstance(of, known):
            return kind
    return "other"


_KINDS: dict[ColumnKind, tuple[type[types.TypeEngine[Any]], ...]] = {
    "boolean": (types.Boolean,),
    "integer": (types.Integer, mysql_types.BIT, mysql_types.YEAR),
    "number": (types.Float,),  # before Numeric, of which it is a kind
    "decimal": (types.Numeric,),
    "date": (types.Date,),
    "datetime": (types.DateTime,),
    "time": (types.Time,),
    "json": (types.JSON,),
    "bytes": (types.LargeBinary, types.BINARY, types.VARBINARY),
    "text": (types.String, postgresql_types.UUID, types.Uuid, mysql_types.SET),
}


def _bound(backend: str, parameter: str, column: ColumnDescription) -> str:
    """The parameter in a comparison with a column: with the column's type where the database insists on one."""
    as_it_is = column.kind in ("text", "integer") and not column.type.upper().startswith("UUID")
    if backend == "postgresql" and not as_it_is and column.type:
        return f"CAST(:{parameter} AS {column.type})"
    if backend == "mysql" and column.kind == "decimal":  # which would be compared as floats
        return f"CAST(:{parameter} AS {column.type.replace('NUMERIC', 'DECIMAL')})"
    return f":{parameter}"


def _from(dialect: Dialect, table: TableDescription) -> str:
    prefix = f"{quoted(dialect, table.schema)}." if table.schema else ""
    return prefix + quoted(dialect, table.table)
