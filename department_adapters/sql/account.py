"""What the account of a database may do besides reading: an adapter's account should only read.

Rules:
1. An account may do what its roles may do, active or not: it can switch to them.
2. A privilege that is not known to be harmless is told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from department_adapters.sql.database import kind_of
from department_adapters.sql.looking import at_database, inspected_url

_NAMED = 5
"""Tables that a finding names; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something an account may do that an adapter's account should not."""

    rule: str
    """`superuser`, `account-role`, `writes`, `owns`, `creates`, `server-files`, `grants`, `routines` or `file`."""
    level: Literal["error", "note"]
    """`note`: the adapter does not use it, and nothing is lost by it alone."""
    problem: str
    problem_zh: str
    fix: str
    fix_zh: str


async def check_read_only(url: str) -> list[Finding]:
    """What the account may do besides reading; empty if it may only read.

    Raises:
        InspectionError: The URL names no database, or it cannot be asked.
    """
    made = inspected_url(url)
    if kind_of(made) == "sqlite":
        await at_database(url, lambda connection: connection.execute(text("SELECT 1 FROM sqlite_master")))
        return _of_file(made.database or "")
    return await at_database(url, _of_postgresql if kind_of(made) == "postgresql" else _of_mysql)


# PostgreSQL


_ROLE = """
SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER') ORDER BY rolname <> current_user, rolname
"""
_TABLES = """
SELECT n.nspname || '.' || c.relname,
    pg_has_role(current_user, c.relowner, 'MEMBER'),
    EXISTS (
        SELECT 1 FROM pg_roles r WHERE pg_has_role(current_user, r.oid, 'MEMBER') AND (
            has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
            OR has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE')
        )
    )
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    AND n.nspname NOT LIKE 'pg\\_temp\\_%' AND n.nspname NOT LIKE 'pg\\_toast\\_temp\\_%'
ORDER BY 1
"""
_SCHEMAS = """
SELECT nspname FROM pg_namespace n
WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' AND EXISTS (
    SELECT 1 FROM pg_roles r
    WHERE pg_has_role(current_user, r.oid, 'MEMBER') AND has_schema_privilege(r.oid, n.oid, 'CREATE')
) ORDER BY 1
"""
_DEFINERS = """
SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prosecdef AND p.provolatile = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND has_function_privilege(current_user, p.oid, 'EXECUTE') ORDER BY 1
"""
_SERVER_ROLES = frozenset(
    ("pg_write_all_data", "pg_write_server_files", "pg_read_server_files", "pg_execute_server_program")
)
_ATTRIBUTES = ("rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")


async def _of_postgresql(connection: AsyncConnection) -> list[Finding]:
    roles = (await connection.execute(text(_ROLE))).mappings().all()
    if any(role["rolsuper"] for role in roles):
        # Of whom everything else is true as well.
        return [_superuser("a superuser, or a member of one", "超级用户，或其成员", _POSTGRESQL_FIX)]
    found: list[Finding] = []
    if special := [role["rolname"] for role in roles if role["rolname"] in _SERVER_ROLES]:
        found.append(_server_files(", ".join(special)))
    if attributes := sorted({name[3:].upper() for role in roles for name in _ATTRIBUTES if role[name]}):
        listed = ", ".join(attributes)
        found.append(
            Finding(
                rule="account-role",
                level="error",
                problem=f"the account has attributes beyond reading: {listed}",
                problem_zh=f"该账户具有读取以外的属性：{listed}",
                fix="ALTER ROLE <account> " + " ".join(f"NO{name}" for name in attributes),
                fix_zh="执行 ALTER ROLE <账户> " + " ".join(f"NO{name}" for name in attributes),
            )
        )
    tables = (await connection.execute(text(_TABLES))).all()
    if owned := [name for name, owner, _ in tables if owner]:
        found.append(
            Finding(
                rule="owns",
                level="error",
                problem=f"the account owns {_some(owned, 'table')}, so that it may change and drop them",
                problem_zh=f"该账户是{_some_zh(owned)}的所有者，可以修改和删除",
                fix="let another role own them: ALTER TABLE <table> OWNER TO <owner>",
                fix_zh="改由其他角色拥有：ALTER TABLE <表> OWNER TO <所有者>",
            )
        )
    if written := [name for name, owner, writes in tables if writes and not owner]:
        found.append(_writes(written, "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON <table> FROM <account>"))
    if schemas := [name for (name,) in (await connection.execute(text(_SCHEMAS))).all()]:
        found.append(
            Finding(
                rule="creates",
                level="error",
                problem=f"the account may create tables in {_some(schemas, 'schema')}",
                problem_zh=f"该账户可以在模式 {'、'.join(schemas[:_NAMED])} 中建表",
                fix="REVOKE CREATE ON SCHEMA <schema> FROM <account>, and FROM PUBLIC",
                fix_zh="执行 REVOKE CREATE ON SCHEMA <模式> FROM <账户>，并对 PUBLIC 同样处理",
            )
        )
    if definers := [name for (name,) in (await connection.execute(text(_DEFINERS))).all()]:
        found.append(_routines(definers))
    return found


# MySQL and MariaDB


_GRANT = re.compile(
    r"GRANT (?P<what>.+?) ON (?:TABLE |FUNCTION |PROCEDURE |PACKAGE BODY |PACKAGE )?"
    r"(?P<where>(?:`(?:[^`]|``)*`|\*)(?:\.(?:`(?:[^`]|``)*`|\*))?) TO .*",
    re.DOTALL,
)
_ROLE_GRANT = re.compile(r"GRANT (?P<roles>(?:`(?:[^`]|``)*`(?:, ?)?)+) TO .*", re.DOTALL)
_NAME = re.compile(r"`(?:[^`]|``)*`")
_READING = frozenset(
    ("SELECT", "USAGE", "SHOW VIEW", "SHOW DATABASES", "REFERENCES", "PROCESS", "SHOW_ROUTINE",
     "BINLOG MONITOR", "SLAVE MONITOR", "REPLICA MONITOR", "REPLICATION CLIENT")
)  # fmt: skip
_HARMLESS = frozenset(("CREATE TEMPORARY TABLES",))
"""A read-only transaction lets it, and it is gone with the connection."""
_ON_DATA = frozenset(
    ("INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "TRIGGER", "CREATE VIEW", "CREATE ROUTINE",
     "ALTER ROUTINE", "EVENT", "LOCK TABLES", "DELETE HISTORY", "DELETE VERSIONING ROWS")
)  # fmt: skip
_POSTGRESQL_FIX = (
    "make a role of its own: CREATE ROLE <account> LOGIN PASSWORD ...; GRANT SELECT ON <tables> TO <account>",
    "单独建立角色：CREATE ROLE <账户> LOGIN PASSWORD ...；GRANT SELECT ON <表> TO <账户>",
)
_MYSQL_FIX = (
    "make an account of its own: CREATE USER <account> IDENTIFIED BY ...; GRANT SELECT ON <database>.<table> TO <account>",
    "单独建立账户：CREATE USER <账户> IDENTIFIED BY ...；GRANT SELECT ON <库>.<表> TO <账户>",
)


async def _of_mysql(connection: AsyncConnection) -> list[Finding]:
    lines = await _grants(connection)
    if connection.dialect.name == "mariadb" or getattr(connection.dialect, "is_mariadb", False):
        # One role at a time is active there. With it, those it has been granted are.
        roles = [
            role for line in lines if (match := _ROLE_GRANT.fullmatch(line)) for role in _NAME.findall(match["roles"])
        ]
        for role in roles:
            await connection.exec_driver_sql(f"SET ROLE {role.replace('%', '%%')}")
            lines += await _grants(connection)
    else:
        await connection.exec_driver_sql("SET ROLE ALL")
        lines += await _grants(connection)
    granted: set[tuple[str, str]] = set()
    for line in lines:
        if match := _GRANT.fullmatch(line):
            granted |= {(what, match["where"]) for what in _privileges(match["what"])}
            granted |= {("GRANT OPTION", match["where"])} if "WITH GRANT OPTION" in line else set()
    return _judged(granted)


async def _grants(connection: AsyncConnection) -> list[str]:
    return [line for (line,) in (await connection.exec_driver_sql("SHOW GRANTS")).all()]


def _privileges(listed: str) -> list[str]:
    """`SELECT (`a`, `b`), INSERT` -> `SELECT`, `INSERT`."""
    return [each.strip().upper() for each in re.sub(r"\([^)]*\)", "", listed).split(",")]


def _judged(granted: Collection[tuple[str, str]]) -> list[Finding]:
    """Findings about privileges and where they hold."""
    if any(what == "ALL PRIVILEGES" and where == "*.*" for what, where in granted):
        return [_superuser("an account with all privileges", "拥有全部权限的账户", _MYSQL_FIX)]
    found: list[Finding] = []
    writes = sorted({where for what, where in granted if what in _ON_DATA or what == "ALL PRIVILEGES"})
    if writes:
        found.append(_writes(writes, "REVOKE <privileges other than SELECT> ON <table> FROM <account>"))
    if any(what == "FILE" for what, _ in granted):
        found.append(_server_files("FILE"))
    if executes := sorted({where for what, where in granted if what == "EXECUTE"}):
        found.append(_routines(executes))
    known = _READING | _HARMLESS | _ON_DATA | {"ALL PRIVILEGES", "FILE", "EXECUTE"}
    if others := sorted({what for what, _ in granted} - known):
        listed = ", ".join(others)
        found.append(
            Finding(
                rule="grants",
                level="error",
                problem=f"the account has privileges that an adapter does not need: {listed}",
                problem_zh=f"该账户拥有适配器不需要的权限：{listed}",
                fix=_MYSQL_FIX[0],
                fix_zh=_MYSQL_FIX[1],
            )
        )
    return found


# What all kinds say


def _superuser(what: str, what_zh: str, fix: tuple[str, str]) -> Finding:
    return Finding(
        rule="superuser",
        level="error",
        problem=f"the adapter reads as {what}",
        problem_zh=f"适配器以{what_zh}的身份读取",
        fix=fix[0],
        fix_zh=fix[1],
    )


def _writes(places: Sequence[str], fix: str) -> Finding:
    return Finding(
        rule="writes",
        level="error",
        problem=f"the account may change data in {_some(places, 'place')}",
        problem_zh=f"该账户可以修改{_some_zh(places)}的数据",
        fix=fix,
        fix_zh=f"执行 {fix}",
    )


def _server_files(what: str) -> Finding:
    return Finding(
        rule="server-files",
        level="error",
        problem=f"the account may reach files or programs of the database's machine: {what}",
        problem_zh=f"该账户可以访问数据库主机上的文件或程序：{what}",
        fix=f"REVOKE {what} FROM <account>",
        fix_zh=f"执行 REVOKE {what} FROM <账户>",
    )


def _routines(names: Sequence[str]) -> Finding:
    return Finding(
        rule="routines",
        level="note",
        problem=f"the account may call {_some(names, 'routine')} that may act with their owners' rights",
        problem_zh=f"该账户可以调用以所有者权限执行的过程或函数：{'、'.join(names[:_NAMED])}",
        fix="REVOKE EXECUTE on those that the queries do not use",
        fix_zh="对查询不使用的过程或函数执行 REVOKE EXECUTE",
    )


def _of_file(path: str) -> list[Finding]:
    if not os.access(path, os.W_OK):
        return []
    return [
        Finding(
            rule="file",
            level="note",
            problem="the adapter opens the file read-only, but its own user may write to it",
            problem_zh="适配器以只读方式打开该文件，但其运行用户对文件有写权限",
            fix="run the adapter as a user that may only read the file, as long as no other program relies on writing to it",
            fix_zh="以对该文件只有读权限的用户运行适配器",
        )
    ]


def _some(names: Sequence[str], noun: str) -> str:
    listed = ", ".join(names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''} ({listed}{more})"


def _some_zh(names: Sequence[str]) -> str:
    more = f"等 {len(names)} 处" if len(names) > _NAMED else ""
    return f" {'、'.join(names[:_NAMED])} {more}".rstrip() + " "
