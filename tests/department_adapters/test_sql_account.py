"""What an account may do besides reading is found out, from the database itself."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from department_adapters.sql.inspection import InspectionError, check_read_only
from tests.databases import PostgresServer
from tests.department_adapters.sql_kit import execute
from tests.mariadb import MariaServer

_accounts = (f"account_{number}" for number in itertools.count())


async def rules(url: str) -> dict[str, str]:
    """Rule -> what is said, both languages."""
    found = await check_read_only(url)
    for finding in found:
        assert finding.fix
        assert finding.fix_zh
    return {finding.rule: f"{finding.level}: {finding.problem} / {finding.problem_zh}" for finding in found}


POSTGRESQL = {
    "reads one table": (["GRANT SELECT ON people TO {account}"], set()),
    "reads one column": (["GRANT SELECT (id) ON people TO {account}"], set()),
    "reads everything": (["GRANT pg_read_all_data TO {account}"], set()),
    "inserts": (["GRANT SELECT, INSERT ON people TO {account}"], {"writes"}),
    "updates one column": (["GRANT UPDATE (name) ON people TO {account}"], {"writes"}),
    "truncates": (["GRANT TRUNCATE ON people TO {account}"], {"writes"}),
    "writes like everybody": (["GRANT DELETE ON people TO PUBLIC"], {"writes"}),
    "writes through a role it does not inherit": (
        [
            "ALTER ROLE {account} NOINHERIT",
            "CREATE ROLE {account}_writer",
            "GRANT DELETE ON people TO {account}_writer",
            "GRANT {account}_writer TO {account}",
        ],
        {"writes"},
    ),
    "writes all data": (["GRANT pg_write_all_data TO {account}"], {"server-files", "writes"}),
    "owns": (["ALTER TABLE people OWNER TO {account}"], {"owns"}),
    "creates tables": (["GRANT CREATE ON SCHEMA public TO {account}"], {"creates"}),
    "creates roles": (["ALTER ROLE {account} CREATEROLE CREATEDB"], {"account-role"}),
    "sees every row": (["ALTER ROLE {account} BYPASSRLS"], {"account-role"}),
    "reaches files": (["GRANT pg_write_server_files TO {account}"], {"server-files"}),
    "is a superuser": (["ALTER ROLE {account} SUPERUSER"], {"superuser"}),
    "may become a superuser": (
        ["CREATE ROLE {account}_boss SUPERUSER", "GRANT {account}_boss TO {account}"],
        {"superuser"},
    ),
    "calls what acts as its owner": (
        ["CREATE FUNCTION sneak() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM people RETURNING id'"],
        {"routines"},
    ),
}


@pytest.fixture(scope="module")
def shared_postgres(postgres_server: PostgresServer) -> str:
    """One database for all: what a test gives away in it, it takes back."""
    url = asyncio.run(postgres_server.create_database())
    asyncio.run(execute(url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    return url


@pytest.mark.parametrize("what", POSTGRESQL)
async def test_of_postgresql(shared_postgres: str, what: str) -> None:
    statements, expected = POSTGRESQL[what]
    account = next(_accounts)
    await execute(shared_postgres, "CREATE TABLE people (id integer, name text)", f"CREATE ROLE {account} LOGIN")
    try:
        await execute(shared_postgres, *(statement.format(account=account) for statement in statements))
        found = await rules(shared_postgres.replace("datong@", f"{account}@"))
    finally:
        await execute(shared_postgres, "DROP FUNCTION IF EXISTS sneak", "DROP TABLE people")
    assert set(found) == expected
    for rule, said in found.items():
        assert said.startswith("note: " if rule == "routines" else "error: ")
    if expected & {"writes", "owns"}:
        assert "public.people" in found[next(iter(expected & {"writes", "owns"}))]


MARIADB = {
    "reads one table": (["GRANT SELECT ON {database}.people TO {account}"], set()),
    "reads one column": (["GRANT SELECT (id) ON {database}.people TO {account}"], set()),
    "sees views": (["GRANT SELECT, SHOW VIEW ON {database}.* TO {account}"], set()),
    "inserts": (["GRANT SELECT, INSERT ON {database}.people TO {account}"], {"writes"}),
    "updates one column": (["GRANT SELECT (id), UPDATE (name) ON {database}.people TO {account}"], {"writes"}),
    "does everything with a database": (["GRANT ALL ON {database}.* TO {account}"], {"writes"}),
    "does everything": (["GRANT ALL ON *.* TO {account}"], {"superuser"}),
    "writes through a role": (
        [
            "CREATE ROLE {account}_writer",
            "GRANT DELETE ON {database}.people TO {account}_writer",
            "GRANT {account}_writer TO {account}",
        ],
        {"writes"},
    ),
    "writes through a role of a role": (
        [
            "CREATE ROLE {account}_inner",
            "CREATE ROLE {account}_outer",
            "GRANT DROP ON {database}.* TO {account}_inner",
            "GRANT {account}_inner TO {account}_outer",
            "GRANT {account}_outer TO {account}",
        ],
        {"writes"},
    ),
    "reaches files": (["GRANT FILE ON *.* TO {account}"], {"server-files"}),
    "hands on": (["GRANT SELECT ON {database}.people TO {account} WITH GRANT OPTION"], {"grants"}),
    "administers": (["GRANT RELOAD, SUPER ON *.* TO {account}"], {"grants"}),
    "calls routines": (
        ["CREATE PROCEDURE {database}.p() SELECT 1", "GRANT EXECUTE ON PROCEDURE {database}.p TO {account}"],
        {"routines"},
    ),
    "writes to an odd name": (
        ["CREATE TABLE {database}.`odd `` name` (a INTEGER)", "GRANT INSERT ON {database}.`odd `` name` TO {account}"],
        {"writes"},
    ),
}


@pytest.mark.parametrize("what", MARIADB)
async def test_of_mariadb(maria_url: str, maria_server: MariaServer, what: str) -> None:
    statements, expected = MARIADB[what]
    name, database = next(_accounts), maria_url.rpartition("/")[2]
    account = f"{name}@'127.0.0.1'"
    await execute(maria_url, "CREATE TABLE people (id INTEGER, name VARCHAR(20))", f"CREATE USER {account}")
    await execute(maria_url, f"GRANT SELECT ON {database}.people TO {account}")
    for statement in statements:
        of_role = "ROLE {account}" in statement or "{account}_" in statement
        made = statement.replace("{account}_", f"{name}_") if of_role else statement
        await execute(maria_url, made.format(account=account, database=database))
    found = await rules(maria_server.url(database, name))
    assert set(found) == expected
    for rule, said in found.items():
        assert said.startswith("note: " if rule == "routines" else "error: ")


async def test_of_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "civil.db"
    await execute(f"sqlite:///{file}", "CREATE TABLE people (id)")
    expected = {"file"} if os.access(file, os.W_OK) else set()
    assert set(await rules(f"sqlite:///{file}")) == expected
    (tmp_path / "none.db").write_text("This is no database, however long it may be." * 100)
    for absent in ("absent.db", "none.db"):
        with pytest.raises(InspectionError):
            await check_read_only(f"sqlite:///{tmp_path}/{absent}")


async def test_who_may_not_even_connect_is_told_so(maria_server: MariaServer, postgres_server: PostgresServer) -> None:
    with pytest.raises(InspectionError, match="Access denied"):
        await check_read_only(maria_server.url("mysql", "nobody:canary"))
    with pytest.raises(InspectionError, match="does not exist"):
        await check_read_only(postgres_server.url("postgres").replace("datong@", "nobody:canary@"))
