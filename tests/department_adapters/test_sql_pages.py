"""Answers in pages, on each kind of database: complete, in order, and stable while rows come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from department_adapters import SqlOperation, SqlSource
from department_adapters.sql.operation import Page
from exchange import BackendError, PayloadTooLargeError
from tests.department_adapters.sql_kit import database_of, execute, get, kind, running

CODES = [f"45{number:04}" for number in range(0, 230, 10)]

BY_CODE = SqlOperation(
    path="/places", query="SELECT code, name FROM places", result="many", page=Page(by=("code",), size=10)
)
OF_KIND = replace(
    BY_CODE, path="/kinds/{kind}", query="SELECT code, name FROM places WHERE kind = :kind -- of one kind"
)
BY_BOTH = replace(
    BY_CODE, path="/both", query="SELECT kind, code, name FROM places;", page=Page(by=("kind", "code"), size=4)
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Divisions 450000, 450010, ... of three kinds, in no order."""
    url = asyncio.run(database_of(request.param, request, tmp_path_factory.mktemp("places")))
    shuffled = sorted(CODES, key=lambda code: code[::-1])
    rows = ", ".join(f"('{code}', '第{code}号', '{'abc'[int(code[4]) % 3]}')" for code in shuffled)
    columns = "code CHAR(6) PRIMARY KEY, name VARCHAR(40) NOT NULL, kind VARCHAR(1) NOT NULL"
    asyncio.run(execute(url, f"CREATE TABLE places ({columns})", f"INSERT INTO places VALUES {rows}"))
    return url


@pytest.fixture
def changing(places: str) -> Iterator[str]:
    """The same; what a test puts between its codes is taken out again."""
    yield places
    asyncio.run(execute(places, "DELETE FROM places WHERE code NOT LIKE '%0'"))


async def pages(source: SqlSource, target: str) -> list[list[dict[str, Any]]]:
    """The items of all pages."""
    found, cursor = [], ""
    while cursor is not None:
        asked = await get(source, target + (f"?cursor={cursor}" if cursor else ""))
        assert asked.status == 200, asked
        found.append(asked.body["items"])
        assert set(asked.body) == {"items", "next"}
        cursor = asked.body["next"]
    return found


async def test_pages_hold_every_row_once_and_in_order(places: str) -> None:
    async with running(places, BY_CODE, OF_KIND, BY_BOTH) as source:
        read = await pages(source, "/places")
        assert [len(page) for page in read] == [10, 10, 3]
        assert [item["code"] for page in read for item in page] == CODES
        for each in "abc":
            of_kind = [code for code in CODES if "abc"[int(code[4]) % 3] == each]
            assert [item["code"] for page in await pages(source, f"/kinds/{each}") for item in page] == of_kind
        both = [(item["kind"], item["code"]) for page in await pages(source, "/both") for item in page]
        assert both == sorted(both)
        assert len(both) == len(CODES)
        assert await pages(source, "/kinds/x") == [[]]


async def test_a_last_page_that_is_full_is_known_to_be_the_last(places: str) -> None:
    exact = replace(BY_CODE, page=Page(by=("code",), size=len(CODES)))
    async with running(places, exact) as source:
        assert (await get(source, "/places")).body["next"] is None


async def test_rows_that_come_and_go_move_no_others(changing: str) -> None:
    async with running(changing, BY_CODE) as source:
        first = (await get(source, "/places")).body
        # Before the place, where a count of rows would push others to the next page, and after it; and the row of the place.
        await execute(changing, "INSERT INTO places VALUES ('450001', 'new', 'a'), ('450095', 'new', 'a')")
        await execute(changing, "DELETE FROM places WHERE code = '450090'")
        try:
            second = (await get(source, f"/places?cursor={first['next']}")).body
        finally:
            await execute(changing, "INSERT INTO places VALUES ('450090', '第450090号', 'a')")
    assert [item["code"] for item in first["items"]] == CODES[:10]
    assert [item["code"] for item in second["items"]] == ["450095", *CODES[10:19]]


async def test_a_cursor_of_another_question_is_400(places: str) -> None:
    async with running(places, BY_CODE, OF_KIND, replace(BY_BOTH, page=Page(by=("kind", "code"), size=2))) as source:
        cursors = [(await get(source, target)).body["next"] for target in ("/places", "/both")]
        assert None not in cursors
        for target, cursor in (
            ("/both", cursors[0]),
            ("/places", cursors[1]),
            ("/kinds/a", cursors[0]),
            ("/places", ""),
            ("/places", "450000"),
            ("/places", cursors[0][:-2]),
            ("/places", quote("' OR 1=1 --")),
        ):
            asked = await get(source, f"{target}?cursor={cursor}")
            assert (asked.status, asked.content_type) == (400, "application/problem+json")
            assert "cursor" in asked.body["detail"]
        twice = await get(source, f"/places?cursor={cursors[0]}&cursor={cursors[0]}")
        assert (twice.status, twice.body["detail"]) == (400, "The query parameter 'cursor' is given twice.")
        assert (await get(source, "/places?after=1")).status == 400


async def test_a_cursor_belongs_to_the_values_of_its_filters(places: str) -> None:
    of_kind = replace(OF_KIND, page=Page(by=("code",), size=2))
    async with running(places, of_kind) as source:
        cursor = (await get(source, "/kinds/a")).body["next"]
        assert (await get(source, f"/kinds/a?cursor={cursor}")).status == 200
        assert (await get(source, f"/kinds/b?cursor={cursor}")).status == 400


async def test_instances_with_one_secret_take_each_others_cursors(places: str) -> None:
    secret = b"a secret that is shared by instances"
    async with (
        running(places, BY_CODE, cursor_secret=secret) as one,
        running(places, BY_CODE, cursor_secret=secret) as other,
        running(places, BY_CODE) as stranger,
    ):
        cursor = (await get(one, "/places")).body["next"]
        assert (await get(other, f"/places?cursor={cursor}")).status == 200
        assert (await get(stranger, f"/places?cursor={cursor}")).status == 400
        assert "4500" not in cursor


async def test_a_page_that_would_be_too_large_is_shorter_and_nothing_is_lost(places: str) -> None:
    narrow = replace(BY_CODE, max_bytes=200)
    async with running(places, narrow, replace(BY_CODE, path="/tiny", max_bytes=20)) as source:
        read = await pages(source, "/places")
        assert {len(page) for page in read[:-1]} < set(range(1, 10))
        assert [item["code"] for page in read for item in page] == CODES
        with pytest.raises(PayloadTooLargeError):
            await get(source, "/tiny")


@pytest.mark.parametrize(
    ("query", "by"),
    [
        ("SELECT kind, code FROM places", ("kind",)),  # not unique
        ("SELECT NULLIF(code, '450000') AS code FROM places", ("code",)),  # NULL in one row
        ("SELECT name FROM places", ("code",)),  # not told
    ],
)
async def test_a_key_that_would_lose_rows_is_a_failure_of_the_backend(
    places: str, query: str, by: tuple[str, ...]
) -> None:
    """On PostgreSQL NULL comes last, so the first page is without it."""
    operation = SqlOperation(path="/wrong", query=query, result="many", page=Page(by=by, size=100))
    async with running(places, operation) as source:
        with pytest.raises(BackendError):
            await get(source, "/wrong")


KEYS = {
    "integer": ("BIGINT", [str(-(2**63)), "-1", "0", "7", str(2**63 - 1)]),
    "decimal": ("NUMERIC(30, 4)", ["-1.5000", "12345678901234567890.0001", "12345678901234567890.0002"]),
    "date": ("DATE", ["'1900-01-01'", "'2000-02-29'", "'2026-11-23'"]),
    "local time": ("{TIMESTAMP}", ["'2026-01-02 03:04:05'", "'2026-01-02 03:04:05.25'", "'2026-01-02 03:04:06'"]),
    "number": ("DOUBLE PRECISION", ["-0.1", "0.1", "0.3", "1e300"]),
    "text": ("VARCHAR(60)", ["''", "' '", "''''", "'%'", "'a;b'", "'中'", "'😀'"]),
}


@pytest.mark.parametrize("what", KEYS)
async def test_keys_of_every_type_lead_on(places: str, what: str) -> None:
    column, keys = KEYS[what]
    if kind(places) == "sqlite" and what == "decimal":
        return  # it keeps no decimals
    if what == "text" and kind(places) == "mysql":
        keys = [key for key in keys if key != "' '"]  # to whose collations it is the empty text
    fraction = "DATETIME(2)" if kind(places) == "mysql" else "TIMESTAMP"
    table = f"keys_{what.replace(' ', '_')}"
    await execute(
        places,
        f"CREATE TABLE {table} (k {column.format(TIMESTAMP=fraction)} NOT NULL PRIMARY KEY)",
        f"INSERT INTO {table} VALUES {', '.join(f'({key})' for key in keys)}",
    )
    operation = SqlOperation(path="/keys", query=f"SELECT k FROM {table}", result="many", page=Page(by=("k",), size=1))
    whole = SqlOperation(path="/all", query=f"SELECT k FROM {table} ORDER BY k", result="many")
    async with running(places, operation, whole) as source:
        read = await pages(source, "/keys")
        assert [page[0] for page in read] == (await get(source, "/all")).body["items"]
        assert len(read) == len(keys)


async def test_keys_only_postgresql_has_lead_on(postgres_url: str) -> None:
    await execute(
        postgres_url,
        "CREATE TABLE keys (u uuid PRIMARY KEY DEFAULT gen_random_uuid(), z timestamptz UNIQUE NOT NULL, b bytea UNIQUE"
        ' NOT NULL, t time UNIQUE NOT NULL, "Mixed Case:" text UNIQUE NOT NULL)',
        "INSERT INTO keys (z, b, t, \"Mixed Case:\") SELECT timestamptz '2026-01-01 00:00+08' + n * interval '0.001 s',"
        " decode(lpad(to_hex(n), 4, '0'), 'hex'), time '00:00' + n * interval '1 s', n::text FROM generate_series(1, 9) n",
    )
    for column in ("u", "z", "b", "t", "Mixed Case:"):
        query = 'SELECT u, z, b, t, "Mixed Case\\:" FROM keys'
        operation = SqlOperation(path="/keys", query=query, result="many", page=Page(by=(column,), size=2))
        async with running(postgres_url, operation) as source:
            read = await pages(source, "/keys")
        assert [len(page) for page in read] == [2, 2, 2, 2, 1]
        assert len({item[column] for page in read for item in page}) == 9


async def test_a_moment_is_a_key_in_mariadb(maria_url: str) -> None:
    await execute(
        maria_url,
        "CREATE TABLE moments (at TIMESTAMP(3) NOT NULL PRIMARY KEY)",
        "INSERT INTO moments VALUES ('2026-01-02 03:04:05.250'), ('2026-01-02 03:04:05.251'), ('2026-01-02 03:04:06')",
    )
    operation = SqlOperation(path="/k", query="SELECT at FROM moments", result="many", page=Page(by=("at",), size=1))
    async with running(maria_url, operation) as source:
        assert [len(page) for page in await pages(source, "/k")] == [1, 1, 1]


PLAN = {
    "postgresql": "EXPLAIN {query}",
    "mysql": "EXPLAIN FORMAT=JSON {query}",
    "sqlite": "EXPLAIN QUERY PLAN {query}",
}


async def test_a_later_page_begins_at_its_place_in_the_index(places: str) -> None:
    """It does not read, and sort, all that came before: the database takes the declared query apart."""
    source = SqlSource(places, [BY_CODE])
    paged = source._operations[0][1].pages
    assert paged is not None
    query, values = paged.after(b'[["s","450050"]]')
    bare = str(query).replace(":datong_after_0", "'450050'")
    settings = ["SET enable_seqscan = off"] if kind(places) == "postgresql" else []
    plan = " ".join(str(row) for row in await execute(places, *settings, PLAN[kind(places)].format(query=bare)))
    assert values == {"datong_after_0": "450050"}
    told = {
        "postgresql": ("Index Cond: (code >", "Index Cond: ((code"),
        "mysql": ('"access_type": "range"',),
        "sqlite": ("USING INDEX sqlite_autoindex_places_1 (code>?)",),
    }[kind(places)]
    assert any(each in plan for each in told), plan
    assert "Sort" not in plan.replace("sort_key", "")
    assert "filesort" not in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"result": "one"}, 'result = "many"'),
        ({"query": "SELECT :cursor AS code", "required": ("cursor",)}, "'cursor' is the pages' own"),
        ({"page": Page(by=(), size=1)}, "one at least"),
        ({"page": Page(by=("a", "a"), size=1)}, "each column once"),
        ({"query": "SELECT :datong_x AS code", "required": ("datong_x",)}, "must not begin with datong_"),
    ],
)
def test_pages_that_contradict_the_operation_are_refused(parts: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(BY_CODE, **parts)
