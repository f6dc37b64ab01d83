"""What a department's database is found to hold, on each kind: tables, types, keys, and queries made of them that work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import pytest

from department_adapters import SqlOperation
from department_adapters.sql.inspection import (
    ColumnDescription,
    InspectionError,
    TableDescription,
    answer_schema,
    describe_table,
    key_query,
    sample,
    tables,
)
from tests.department_adapters.sql_kit import database_of, execute, get, kind, running

MARRIAGE = {
    "sqlite": [
        'CREATE TABLE marriage (id_no CHAR(18) PRIMARY KEY, "姓名" VARCHAR(60) NOT NULL, certificate VARCHAR(50) UNIQUE,'
        ' wed DATE, amount NUMERIC(12, 2), valid BOOLEAN, doc JSON, pic BLOB, rate REAL, n INTEGER, "Odd: Name" TEXT)'
    ],
    "postgresql": [
        'CREATE TABLE marriage (id_no CHAR(18) PRIMARY KEY, "姓名" VARCHAR(60) NOT NULL, certificate VARCHAR(50) UNIQUE,'
        ' wed DATE, amount NUMERIC(12, 2), valid BOOLEAN, doc JSONB, pic BYTEA, rate FLOAT, n BIGINT, "Odd: Name" TEXT,'
        " at TIMESTAMPTZ, u UUID)",
        "COMMENT ON TABLE marriage IS '婚姻登记'",
        "COMMENT ON COLUMN marriage.id_no IS '身份号码'",
        "CREATE UNIQUE INDEX part ON marriage (n) WHERE n > 3",
        "CREATE UNIQUE INDEX expression ON marriage (lower(certificate))",
    ],
    "mysql": [
        "CREATE TABLE marriage (id_no CHAR(18) PRIMARY KEY COMMENT '身份号码', `姓名` VARCHAR(60) NOT NULL,"
        " certificate VARCHAR(50) UNIQUE, wed DATE, amount DECIMAL(12, 2), valid BOOLEAN, doc JSON, pic BLOB, rate DOUBLE,"
        " n BIGINT, `Odd: Name` TEXT, at TIMESTAMP NULL, flags SET('a', 'b')) COMMENT '婚姻登记'"
    ],
}
KINDS = {
    "id_no": "text", "姓名": "text", "certificate": "text", "wed": "date", "amount": "decimal", "valid": "boolean",
    "doc": "json", "pic": "bytes", "rate": "number", "n": "integer", "Odd: Name": "text",
}  # fmt: skip
ROW = "'450102199001010011', '王小明', 'J45-1', '2020-05-20', 9.90, {true}, '{{\"a\": [1]}}', NULL, 1.5, 7, 'odd'"


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def civil(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that this project has never seen."""

    async def make() -> str:
        url = await database_of(request.param, request, tmp_path_factory.mktemp("civil"))
        await execute(url, *MARRIAGE[request.param], "CREATE VIEW valid_marriages AS SELECT id_no, wed FROM marriage")
        columns = ", ".join(f"`{name}`" if request.param == "mysql" else f'"{name}"' for name in KINDS)
        row = ROW.format(true="true" if request.param == "postgresql" else "1")
        await execute(url, f"INSERT INTO marriage ({columns}) VALUES ({row})")
        return url

    return asyncio.run(make())


async def test_tables_and_views_are_listed_and_the_databases_own_are_not(civil: str) -> None:
    assert await tables(civil) == ["marriage", "valid_marriages"]


async def test_a_table_is_described(civil: str) -> None:
    table = await describe_table(civil, "marriage")
    assert (table.backend, table.name, table.schema, table.view) == (kind(civil), "marriage", None, False)
    assert table.primary_key == ("id_no",)
    assert table.unique == (("certificate",),)  # and no index on some of the rows, or on what is made of a column
    assert {column.name: column.kind for column in table.columns if column.name in KINDS} == KINDS
    assert not table.column("id_no").nullable
    assert not table.column("姓名").nullable
    assert table.column("certificate").nullable
    assert (table.column("姓名").length, table.column("n").length) == (60, None)
    comments = (table.comment, table.column("id_no").comment)
    assert comments == (("", "") if kind(civil) == "sqlite" else ("婚姻登记", "身份号码"))
    with pytest.raises(KeyError):
        table.column("absent")


async def test_a_view_is_described_and_has_no_key(civil: str) -> None:
    view = await describe_table(civil, "valid_marriages")
    assert (view.view, view.primary_key, view.unique, view.comment) == (True, (), (), "")
    assert [column.kind for column in view.columns] == ["text", "date"]


async def test_a_table_of_another_schema_is_named_with_it(postgres_url: str) -> None:
    await execute(
        postgres_url,
        "CREATE TABLE marriage (id_no CHAR(18))",
        "CREATE SCHEMA archive",
        "CREATE TABLE archive.marriage (year INTEGER, id_no CHAR(18), PRIMARY KEY (year, id_no))",
    )
    assert await tables(postgres_url) == ["archive.marriage", "marriage"]
    table = await describe_table(postgres_url, "archive.marriage")
    assert (table.schema, table.table, table.primary_key) == ("archive", "marriage", ("year", "id_no"))
    made = key_query(table, ["id_no"], {"year": "year", "number": "id_no"})
    assert made.query == "SELECT id_no FROM archive.marriage WHERE year = :year AND id_no = :number"
    assert made.integers == ("year",)


async def test_only_what_is_told_of_types_is_of_this_kind(civil: str) -> None:
    table = await describe_table(civil, "marriage")
    if kind(civil) == "postgresql":
        assert (table.booleans, table.json, table.column("at").zoned) == ((), (), True)
    else:
        assert (table.booleans, table.json) == (("valid",), ("doc",))
    if kind(civil) == "mysql":
        assert (table.column("flags").length, table.column("at").zoned) == (None, True)


async def test_a_query_by_any_column_finds_the_row_and_its_answer_is_as_described(civil: str) -> None:
    """What the scaffold writes is what the source can run, and what it says of answers is true of them."""
    table = await describe_table(civil, "marriage")
    names = [column.name for column in table.columns]
    values = {
        "id_no": "450102199001010011", "姓名": "王小明", "certificate": "J45-1", "wed": "2020-05-20", "amount": "9.90",
        "rate": "1.5", "n": "7", "Odd: Name": "odd",
    }  # fmt: skip
    operations = []
    for number, name in enumerate(values):
        made = key_query(table, names, {"key": name})
        operations.append(
            SqlOperation(
                path=f"/{number}/{{key}}",
                query=made.query,
                integers=made.integers,
                booleans=table.booleans,
                json=table.json,
            )
        )
    valid = jsonschema_rs.validator_for(
        {
            "type": "object",
            "required": names,
            "properties": {column.name: answer_schema(column, table.backend) for column in table.columns},
            "additionalProperties": False,
        },
        validate_formats=True,
    )
    async with running(civil, *operations) as source:
        for number, (name, value) in enumerate(values.items()):
            asked = await get(source, f"/{number}/{quote(value)}")
            assert asked.status == 200, name
            valid.validate(asked.body)
            assert asked.body["doc"] == {"a": [1]}
            assert asked.body["valid"] is True
            assert (
                await get(source, f"/{number}/{'8' if name in ('n', 'rate', 'amount') else '2001-01-01'}")
            ).status == 404


async def test_rows_are_sampled(civil: str) -> None:
    table = await describe_table(civil, "marriage")
    assert await sample(civil, table, ["id_no", "Odd: Name"]) == [{"id_no": "450102199001010011", "Odd: Name": "odd"}]
    assert await sample(civil, table, ["id_no"], 0) == []


async def test_nothing_is_written_by_looking(civil: str, tmp_path: Path) -> None:
    name = 'id_no FROM marriage; DROP TABLE marriage; --"`'
    evil = ColumnDescription(name=name, kind="text", type="", nullable=True)
    with contextlib.suppress(InspectionError):  # SQLite takes an unknown name for a text
        await sample(civil, table_of(kind(civil), evil), [name])
    with pytest.raises(KeyError):
        await sample(civil, await describe_table(civil, "marriage"), [name])
    assert "marriage" in await tables(civil)
    with pytest.raises(InspectionError, match="No such file"):
        await tables(f"sqlite:///{tmp_path}/absent.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["absent", "absent.marriage", "marriage; DROP TABLE marriage", "", "."])
async def test_an_absent_table_is_said_to_be_absent(civil: str, name: str) -> None:
    with pytest.raises(InspectionError, match="there is no table or view") as raised:
        await describe_table(civil, name)
    assert "没有" in raised.value.problem_zh


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:canary@127.0.0.1:1/civil",
        "mysql://reader:canary@127.0.0.1:1/civil",
        "oracle://reader:canary@127.0.0.1/civil",
        "sqlite:////absent/canary-free.db",
        "postgresql://reader:${ABSENT}@127.0.0.1/civil",
        "nonsense",
    ],
)
@pytest.mark.parametrize("look", [tables, lambda url: describe_table(url, "marriage")])
async def test_what_cannot_be_reached_is_said_plainly_and_without_a_password(
    look: Callable[[str], Any], url: str
) -> None:
    with pytest.raises(InspectionError) as raised:
        await look(url)
    for said in (raised.value.problem, raised.value.problem_zh):
        assert said
        assert "canary@" not in said
        assert "canary:" not in said
        assert "\n" not in said


async def test_a_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await execute(f"sqlite:///{tmp_path}/civil.db", "CREATE TABLE a (b)")
    monkeypatch.setenv("DATABASE", f"sqlite:///{tmp_path}/civil.db")
    assert await tables("${DATABASE}") == ["a"]


def table_of(backend: Any, *columns: ColumnDescription) -> TableDescription:
    return TableDescription(
        backend=backend,
        name="marriage",
        schema=None,
        table="marriage",
        view=False,
        comment="",
        columns=columns,
        primary_key=(),
        unique=(),
    )


def test_a_query_quotes_what_needs_it_and_takes_only_names_for_parameters() -> None:
    odd = ColumnDescription(name="Odd: Name", kind="text", type="TEXT", nullable=False)
    table = table_of("postgresql", odd)
    assert key_query(table, ["Odd: Name"], {"odd": "Odd: Name"}).query == (
        'SELECT "Odd\\: Name" FROM marriage WHERE "Odd\\: Name" = :odd'
    )
    assert key_query(table_of("mysql", odd), ["Odd: Name"], {}).query == "SELECT `Odd\\: Name` FROM marriage"
    with pytest.raises(ValueError, match="must be a-z"):
        key_query(table, ["Odd: Name"], {"x = 1 OR 1": "Odd: Name"})
    with pytest.raises(ValueError, match="at least one column"):
        key_query(table, [], {})
    with pytest.raises(KeyError):
        key_query(table, ["absent"], {})
