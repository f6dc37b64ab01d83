"""A service that a department's database answers, drafted from its tables.

Rules:
1. Each table becomes one operation, and none without its key in the path: nothing drafted here hands out a whole table.
2. The columns are listed. What is added to the table later leaves the department only when it is added here.
3. Some rows are looked at for what is proposed. None of them stands in what is written.
4. A password in the URL does not reach the file: it becomes a reference to the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from department_adapters.scaffold.adapter_file import listed, one_line, quoted, written_query
from department_adapters.scaffold.draft import ScaffoldError, SourceDraft, Told, variable
from department_adapters.scaffold.lookup_contract import Lookup, Member, Parameter, lookup_contract
from department_adapters.sql.inspection import (
    InspectionError,
    TableDescription,
    answer_schema,
    describe_table,
    key_query,
    sample,
    tables,
)
from exchange import item_path

LOOKED_AT = 200
"""Rows of a table."""
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_SECRET = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
_NAMED = 12
"""Tables that are named when one is not found."""


async def draft_from_database(
    name: str, service: str, url: str, names: Sequence[str], *, key: Sequence[str] = (), folder: Path
) -> SourceDraft:
    """The source.

    Args:
        name, service: Of the adapter, and the code of its service.
        url: Of the database, with an account that may only read. It may hold references to the environment.
        names: Tables or views, `name` or `schema.name`.
        key: Columns that rows are asked for by; without, the primary key, else the shortest unique key.
        folder: Where the adapter's file will lie.

    Raises:
        ScaffoldError: The database cannot be read, there is no such table, or it has no key and none was given.
    """
    written, secrets = _written_url(name, url, folder)
    drafted: list[tuple[TableDescription, tuple[str, ...]]] = []
    try:
        for each in names:
            table = await _described(url, each)
            drafted.append((table, _key_of(table, key)))
        rows = {table.name: await sample(url, table, _columns(table), LOOKED_AT) for table, _ in drafted}
    except InspectionError as error:
        raise ScaffoldError(f"{error.problem}.", f"{error.problem_zh}。") from error
    lookups = [
        _lookup(table, chosen, f"Record{number if len(drafted) > 1 else ''}", _segment(table, drafted))
        for number, (table, chosen) in enumerate(drafted, start=1)
    ]
    values: dict[str, list[Any]] = {}
    titles: dict[str, str] = {}
    for (table, _), lookup in zip(drafted, lookups, strict=True):
        prefix = "" if lookup.list_members is None else "items."
        for column in table.columns:
            path = prefix + item_path([column.name])
            values.setdefault(path, []).extend(row[column.name] for row in rows[table.name])
            titles.setdefault(path, column.comment)
    shown = "、".join(table.comment or table.name for table, _ in drafted)
    return SourceDraft(
        settings="\n".join(
            (
                "# 只声明的查询可被执行：参数绑定，只读事务。数据库账户也应只有 SELECT 权限。",
                "# Only declared queries run: bound parameters, read-only transactions. Give the account SELECT and nothing else.",
                'source = "sql"',
                f"database = {quoted(written)}",
                "connections = 8",
                'contract = "contract.yaml"',
            )
        ),
        tables="\n\n".join(
            _operation(service, table, chosen, lookup) for (table, chosen), lookup in zip(drafted, lookups, strict=True)
        ),
        contract=lookup_contract(shown, f"{name}: {', '.join(table.name for table, _ in drafted)}", lookups),
        values=values,
        titles=titles,
        secrets=secrets,
        notes=[note for table, chosen in drafted for note in _notes(table, chosen)],
        origin=Told(
            f"the table{'s' if len(drafted) > 1 else ''} {', '.join(table.name for table, _ in drafted)}",
            f"数据表 {'、'.join(table.name for table, _ in drafted)} ",
        ),
    )


async def _described(url: str, name: str) -> TableDescription:
    try:
        return await describe_table(url, name)
    except InspectionError as error:
        try:
            known = await tables(url)
        except InspectionError:
            raise error from None
        if name in known or not known:
            raise
        some, more = ", ".join(known[:_NAMED]), "…" if len(known) > _NAMED else ""
        raise ScaffoldError(
            f"there is no table {name}; there are: {some}{more}", f"没有数据表 {name}；现有：{some}{more}"
        ) from error


def _key_of(table: TableDescription, wanted: Sequence[str]) -> tuple[str, ...]:
    there = {column.name for column in table.columns}
    if unknown := [name for name in wanted if name not in there]:
        columns = ", ".join(column.name for column in table.columns)
        raise ScaffoldError(
            f"{table.name} has no column {unknown[0]}; it has: {columns}",
            f"{table.name} 没有列 {unknown[0]}；现有：{columns}",
        )
    found = tuple(wanted) or table.primary_key or next(iter(table.unique), ())
    if not found:
        columns = ", ".join(column.name for column in table.columns)
        raise ScaffoldError(
            f"{table.name} has no key: say with --key by which of its columns rows may be asked for: {columns}",
            f"{table.name} 没有主键或唯一键：请用 --key 指定按哪一列查询：{columns}",
        )
    return found


def _is_key(table: TableDescription, columns: Sequence[str]) -> bool:
    """Whether one row at most has given values there."""
    keys = [table.primary_key, *table.unique]
    return any(each and set(each) <= set(columns) for each in keys)


def _columns(table: TableDescription) -> list[str]:
    return [column.name for column in table.columns]


def _parameters(key: Sequence[str]) -> dict[str, str]:
    """Parameter -> column. A parameter is a-z, 0-9 and _; a column is whatever the database allows."""
    found: dict[str, str] = {}
    for number, name in enumerate(key, start=1):
        plain = name.lower()
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", plain) or plain in found:
            plain = "key" if len(key) == 1 else f"key{number}"
        found[plain] = name
    return found


def _lookup(table: TableDescription, key: tuple[str, ...], record: str, segment: str) -> Lookup:
    parameters = _parameters(key)
    one = _is_key(table, key)
    where = "".join(f"/{{{parameter}}}" for parameter in parameters) if one else ""
    return Lookup(
        path=f"/{segment}{where}",
        record=record,
        title=table.comment or table.name,
        parameters=[
            Parameter(
                name=parameter,
                where="path" if one else "query",
                schema=_key_schema(table, column),
                title=table.column(column).comment or ("" if column == parameter else column),
                sample={"table": table.name, "column": column},
            )
            for parameter, column in parameters.items()
        ],
        members=[
            Member(name=column.name, schema=_member_schema(table, column.name), title=column.comment)
            for column in table.columns
        ],
        list_members=None if one else {"truncated": {"type": "boolean"}},
    )


def _key_schema(table: TableDescription, name: str) -> dict[str, object]:
    column = table.column(name)
    if column.kind == "integer":
        return {"type": "integer", "format": "int64"}
    schema: dict[str, object] = {"type": "string", "minLength": 1}
    if column.kind == "date":
        schema["format"] = "date"
    if column.length is not None:
        schema["maxLength"] = column.length
    return schema


def _member_schema(table: TableDescription, name: str) -> dict[str, Any]:
    schema = dict(answer_schema(table.column(name), table.backend))
    schema.pop("description", None)  # the comment stands there as the title
    return schema


def _operation(service: str, table: TableDescription, key: tuple[str, ...], lookup: Lookup) -> str:
    parameters = _parameters(key)
    query = key_query(table, _columns(table), parameters)
    lines = [
        f"# {one_line(lookup.title)}",
        f"[[services.{service}.operations]]",
        f"path = {quoted(lookup.path)}",
        f"query = {written_query(query.query)}",
    ]
    if lookup.list_members is not None:
        lines += ['result = "many"', f"required = {listed(list(parameters))}", "max_rows = 100"]
    for setting, names in (("integers", query.integers), ("booleans", table.booleans), ("json", table.json)):
        if names:
            lines.append(f"{setting} = {listed(names)}")
    return "\n".join(lines)


def _notes(table: TableDescription, key: tuple[str, ...]) -> list[Told]:
    if _is_key(table, key):
        return []
    names = ", ".join(key)
    return [
        Told(
            f"{table.name}: {names} is no key, so up to 100 rows are answered for a value of it.",
            f"{table.name}：{names} 不是唯一键，每次查询最多返回 100 行。",
        )
    ]


def _written_url(name: str, url: str, folder: Path) -> tuple[str, dict[str, Told]]:
    """The URL as it is written down, and the variables that it names."""
    if _REFERENCE.fullmatch(url):
        return url, {url[2:-1]: Told("the URL of the database", "数据库地址")}
    try:
        made = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ScaffoldError(
            "That is no database URL: postgresql://user@host/name, mysql://user@host/name or sqlite:///path.",
            "数据库地址格式不正确：postgresql://用户@主机/库名、mysql://用户@主机/库名 或 sqlite:///路径。",
        ) from error
    if made.get_backend_name() == "sqlite":
        return _sqlite_url(made, folder), {}
    for parameter in made.query:
        if _SECRET.search(parameter):
            raise ScaffoldError(
                f"A secret stands in the URL's parameter {parameter}: give user and password before the host.",
                f"地址参数 {parameter} 中含有机密：请把用户名和口令写在主机名之前。",
            )
    secrets: dict[str, Told] = {}
    for reference in _REFERENCE.findall(url):
        secrets[reference[2:-1]] = Told("as it was when this was drafted", "与生成时相同")
    written = url
    if made.password and not _REFERENCE.fullmatch(str(made.password)):
        reference = variable(name, "DB_PASSWORD")
        secrets[reference] = Told(
            f"the password of the database account {made.username}", f"数据库账户 {made.username} 的口令"
        )
        user = made.username or ""
        written = made.set(username="DATONG_USER", password="DATONG_PASSWORD").render_as_string(hide_password=False)
        written = written.replace("DATONG_USER:DATONG_PASSWORD", f"{quote(user, safe='')}:${{{reference}}}")
    return written, secrets


def _sqlite_url(url: URL, folder: Path) -> str:
    if not url.database:
        raise ScaffoldError("A SQLite database is a file: sqlite:///path.", "SQLite 数据库是文件：sqlite:///路径。")
    return f"sqlite:///{quote(os.path.relpath(Path(url.database).resolve(), folder.resolve()))}"


def _segment(table: TableDescription, drafted: Sequence[tuple[TableDescription, object]]) -> str:
    """A table's name as a segment of a path; with its schema where another one has the same."""
    twice = sum(each.table.lower() == table.table.lower() for each, _ in drafted) > 1
    return re.sub(r"[^\w.~-]+", "-", table.name if twice else table.table).strip("-.") or "records"
