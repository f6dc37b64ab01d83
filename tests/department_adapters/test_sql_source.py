"""A department's database as a source: declared questions, bound values, nothing written. On SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import structlog

from ca_auth import DemoCA
from department_adapters import SourceRequest, SqlOperation, SqlSource
from department_adapters.source import ask
from exchange import AnswerTimeoutError, BackendError
from tests.conftest import Pki
from tests.databases import PostgresServer
from tests.department_adapters.sql_kit import RUNNING, SLOW, Asked, count, database_of, execute, get, kind, running

TABLE = """
CREATE TABLE people (
    id INTEGER PRIMARY KEY, name VARCHAR(60) NOT NULL, city TEXT, born DATE, income NUMERIC(12, 2), photo {bytes}
)
"""
PEOPLE = [
    (1, "王小明", "南宁市", "1990-01-31", "1234567890.10", b"\x00\xff"),
    (2, "O'Brien; DROP TABLE people; --", "柳州市", "1985-12-01", "0.05", None),
    (3, "欧阳修·😀", None, None, None, None),
    (4, "李四 %_", "南宁市", "2000-02-29", "-7.00", None),
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def people(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with people in it, one for all tests: the adapter changes nothing in it."""
    folder = tmp_path_factory.mktemp("people")
    url = asyncio.run(database_of(request.param, request, folder))

    def literal(value: object) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, bytes):
            return f"'\\x{value.hex()}'" if request.param == "postgresql" else f"X'{value.hex()}'"
        return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"

    rows = ", ".join("(" + ", ".join(map(literal, person)) + ")" for person in PEOPLE)
    table = TABLE.format(bytes="BYTEA" if request.param == "postgresql" else "BLOB")
    asyncio.run(execute(url, table, f"INSERT INTO people VALUES {rows}"))
    return url


BY_ID = SqlOperation(path="/people/{id}", query="SELECT id, name, city FROM people WHERE id = :id", integers=("id",))
BY_NAME = SqlOperation(path="/named/{name}", query="SELECT id, name FROM people WHERE name = :name")
LIST = SqlOperation(
    path="/people",
    query="SELECT id FROM people WHERE (:city IS NULL OR city = :city) AND (:above IS NULL OR id > :above) ORDER BY id",
    result="many",
    optional=("city", "above"),
    integers=("above",),
    max_rows=3,
)
BORN = SqlOperation(
    path="/born",
    query="SELECT id FROM people WHERE born = CAST(:day AS date) ORDER BY id",
    result="many",
    required=("day",),
)
ALL = SqlOperation(path="/all", query="SELECT * FROM people ORDER BY id", result="many")
USUAL = (BY_ID, BY_NAME, LIST, BORN, ALL)


async def test_a_row_is_an_object_and_no_row_is_404(people: str) -> None:
    async with running(people, *USUAL) as source:
        assert await get(source, "/people/1") == Asked(
            200, "application/json", {"id": 1, "name": "王小明", "city": "南宁市"}
        )
        missing = await get(source, "/people/99")
        assert (missing.status, missing.content_type) == (404, "application/problem+json")
        assert (await get(source, "/people/999999999999999")).status == 404


async def test_rows_are_items_and_more_than_the_limit_are_cut_off_and_said_to_be(people: str) -> None:
    async with running(people, *USUAL) as source:
        assert (await get(source, "/people")).body == {"items": [{"id": 1}, {"id": 2}, {"id": 3}], "truncated": True}
        assert (await get(source, "/people?above=1")).body == {
            "items": [{"id": 2}, {"id": 3}, {"id": 4}],
            "truncated": False,
        }
        assert (await get(source, "/people?city=%E5%8D%97%E5%AE%81%E5%B8%82&above=1")).body["items"] == [{"id": 4}]
        assert (await get(source, "/people?above=4")).body == {"items": [], "truncated": False}


@pytest.mark.parametrize("limit", ["", "LIMIT 1000000000"])
async def test_rows_beyond_the_limit_are_not_fetched(people: str, limit: str) -> None:
    """A query with a thousand million rows is answered at once."""
    endless = SqlOperation(
        path="/endless",
        query="WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000000) SELECT n FROM c",
        result="many",
        max_rows=10,
    )
    # These would work out the whole of a recursive table first.
    if kind(people) == "postgresql":
        query = "SELECT a.n FROM generate_series(1, 1000) a(n), generate_series(1, 1000) b, generate_series(1, 1000) c"
        endless = replace(endless, query=query)
    if kind(people) == "mysql":
        endless = replace(endless, query=f"SELECT a.seq AS n FROM seq_1_to_1000000 a, seq_1_to_1000 b {limit}")
    async with running(people, endless) as source:
        asked = await get(source, "/endless", timeout=5)
        assert len(asked.body["items"]) == 10
        assert asked.body["truncated"] is True


async def test_values_of_every_type_have_a_form_in_json(people: str) -> None:
    async with running(people, *USUAL) as source:
        items = (await get(source, "/all")).body["items"]
    first, second, third, fourth = items
    assert (first["name"], third["name"]) == ("王小明", "欧阳修·😀")
    assert (first["born"], fourth["born"]) == ("1990-01-31", "2000-02-29")
    assert third == {"id": 3, "name": "欧阳修·😀", "city": None, "born": None, "income": None, "photo": None}
    assert first["photo"] == "AP8="
    if kind(people) != "sqlite":
        # Every digit, as text; SQLite keeps no decimals, only what it made of them.
        assert [first["income"], second["income"], fourth["income"]] == ["1234567890.10", "0.05", "-7.00"]
    else:
        assert [first["income"], second["income"], fourth["income"]] == [1234567890.1, 0.05, -7]


async def test_types_only_postgresql_has_are_told_as_text(postgres_url: str) -> None:
    strange = SqlOperation(
        path="/strange",
        query=(
            "SELECT CAST('10.0.0.1' AS inet) AS address, CAST('[1,5)' AS int4range) AS range, ARRAY[1,2] AS list,"
            " CAST('2026-01-02 03:04:05+08' AS timestamptz) AS moment, CAST('1 day' AS interval) AS span,"
            " CAST('0193aaaa-bbbb-7ccc-8ddd-ffffffffffff' AS uuid) AS uuid, true AS truth,"
            " CAST('NaN' AS float8) AS nan, CAST('NaN' AS numeric) AS none, CAST('12:30' AS time) AS clock"
        ),
    )
    async with running(postgres_url, strange) as source:
        body = (await get(source, "/strange")).body
    assert body["address"].startswith("10.0.0.1")
    assert body["list"] == [1, 2]
    assert body["moment"] == "2026-01-01T19:04:05Z"
    assert (body["truth"], body["nan"], body["none"]) == (True, None, "NaN")
    assert body["uuid"] == "0193aaaa-bbbb-7ccc-8ddd-ffffffffffff"
    assert isinstance(body["range"], str)
    assert isinstance(body["span"], str)


INJECTIONS = [
    "' OR '1'='1",
    "'; DELETE FROM people; --",
    "1 OR 1=1",
    "王小明' --",
    "\\' OR 1=1 --",
    "%",
    "_",
    "$1",
    ":name",
    "{name}",
    "%s",
    "''; ATTACH DATABASE 'x' AS y; --",
    "\u02bc OR 1=1",  # what some databases turn into a quote
    "王小明\n",
    "NULL",
]


@pytest.mark.parametrize("value", INJECTIONS)
async def test_a_value_stays_a_value(people: str, value: str) -> None:
    async with running(people, *USUAL) as source:
        assert (await get(source, f"/named/{quote(value, safe='')}")).status == 404
        assert (await get(source, f"/people?city={quote(value, safe='')}")).body["items"] == []
        assert (await get(source, f"/people/{quote(value, safe='')}")).status == 400
        assert (await get(source, f"/people?above={quote(value, safe='')}")).status == 400
    assert await count(people) == len(PEOPLE)


async def test_names_with_quotes_and_wildcards_are_found_by_their_exact_spelling(people: str) -> None:
    async with running(people, *USUAL) as source:
        for person in PEOPLE:
            assert (await get(source, f"/named/{quote(person[1], safe='')}")).body == {
                "id": person[0],
                "name": person[1],
            }


WRITES = {
    "insert": "INSERT INTO people (id, name) VALUES (9, 'x')",
    "insert returning": "INSERT INTO people (id, name) VALUES (9, 'x') RETURNING id",
    "update": "UPDATE people SET name = 'x' RETURNING id",
    "delete": "DELETE FROM people RETURNING id",
    "drop": "DROP TABLE people",
    "create": "CREATE TABLE more (id INTEGER)",
    "a write in a query": "WITH gone AS (DELETE FROM people RETURNING id) SELECT id FROM gone",
    "replace": "REPLACE INTO people (id, name) VALUES (1, 'x')",
    "attach": "ATTACH DATABASE 'attached.db' AS other",
    "allow writing": "PRAGMA query_only = OFF",
    "allow writing, as PostgreSQL says it": "SET default_transaction_read_only = off",
    "allow writing in this transaction": "SET TRANSACTION READ WRITE",
    "vacuum": "VACUUM",
    "truncate": "TRUNCATE people",
    "copy": "COPY people TO '/tmp/datong-copy'",
    "two statements": "SELECT 1; DELETE FROM people",
    "nonsense": "SELEKT",
    "an unknown table": "SELECT * FROM absent",
}


@pytest.mark.parametrize("what", WRITES)
async def test_a_query_that_writes_fails_and_leaves_no_trace(
    people: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    operations = [SqlOperation(path="/write", query=WRITES[what]), SqlOperation(path="/again", query=WRITES["delete"])]
    async with running(people, *operations, ALL, connections=1) as source:
        for _ in range(2):
            with pytest.raises(BackendError):
                await get(source, "/write")
        # Nor did it open the way for another one, on the same connection.
        with pytest.raises(BackendError):
            await get(source, "/again")
        assert len((await get(source, "/all")).body["items"]) == len(PEOPLE)
    assert await count(people) == len(PEOPLE)
    assert set(tmp_path.iterdir()) == before


async def test_a_function_that_writes_is_stopped_by_the_transaction(postgres_url: str) -> None:
    await execute(
        postgres_url,
        "CREATE TABLE people (id integer)",
        "CREATE FUNCTION sneak() RETURNS integer LANGUAGE sql VOLATILE AS 'INSERT INTO people VALUES (1) RETURNING id'",
        "CREATE FUNCTION unlock() RETURNS text LANGUAGE sql VOLATILE AS"
        " $$SELECT set_config('transaction_read_only', 'off', false)$$",
    )
    both = "SELECT unlock(), sneak() AS id"
    operations = [
        SqlOperation(path="/sneak", query="SELECT sneak() AS id"),
        SqlOperation(path="/both", query=both),
        SqlOperation(path="/unlock", query="SELECT set_config('default_transaction_read_only', 'off', false) AS x"),
    ]
    async with running(postgres_url, *operations, connections=1) as source:
        assert (await get(source, "/unlock")).status == 200  # which changes nothing:
        for path in ("/sneak", "/both", "/sneak"):
            with pytest.raises(BackendError):
                await get(source, path)
    assert await count(postgres_url) == 0


def slow(url: str) -> SqlOperation:
    """Takes ten minutes or longer."""
    return SqlOperation(path="/slow", query=SLOW[kind(url)])


async def test_a_slow_query_ends_at_the_deadline_in_the_database_too(people: str) -> None:
    async with running(people, slow(people), BY_ID, connections=2) as source:
        async with asyncio.timeout(5):
            asked = [get(source, "/slow", timeout=0.2) for _ in range(6)]
            for outcome in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(outcome, AnswerTimeoutError)
            # The connections are there again.
            assert [one.status for one in await asyncio.gather(*[get(source, "/people/1") for _ in range(4)])] == [
                200
            ] * 4
        if kind(people) in RUNNING:
            async with asyncio.timeout(5):
                while (await execute(people, RUNNING[kind(people)]))[0][0]:
                    pass


async def test_no_more_connections_than_allowed_are_open(postgres_url: str) -> None:
    who = SqlOperation(
        path="/who",
        query="SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'datong adapter'"
        " AND datname = current_database()) AS open, CAST(pg_sleep(0.01) AS text) AS slept",
    )
    async with running(postgres_url, who, connections=3) as source:
        opened = await asyncio.gather(*[get(source, "/who") for _ in range(30)])
        assert max(asked.body["open"] for asked in opened) <= 3


async def test_slow_queries_run_side_by_side(people: str) -> None:
    """One of them waits for the other's lock on nothing: each just has to be running while the others are."""
    async with running(people, slow(people), BY_ID, connections=3) as source:
        hanging = [asyncio.create_task(get(source, "/slow", timeout=30)) for _ in range(2)]
        for _ in range(3):
            assert (await get(source, "/people/1", timeout=5)).status == 200
        for task in hanging:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*hanging, return_exceptions=True), 5)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("/people?city=a&city=b", "twice"),
        ("/people?town=x", "not known"),
        ("/people?city=%ff", "UTF-8"),
        ("/named/%ff", "UTF-8"),
        ("/named/a%00b", "cannot be stored"),
        ("/people?city=%00", "cannot be stored"),
        ("/people/1?city=x", "not known"),
        ("/born", "required"),
        ("/born?day=", "required"),
        ("/people/1x", "whole number"),
        ("/people/1.0", "whole number"),
        ("/people/%EF%BC%91", "whole number"),  # a full-width 1
        ("/people/1_0", "whole number"),
        ("/people/+1", "whole number"),
        ("/people/%201", "whole number"),
        ("/people/" + "9" * 19, "whole number"),
        ("/people/" + "9" * 5000, "whole number"),
        ("/people?above=", "whole number"),
        ("/people?" + "&".join(f"a{number}=1" for number in range(200)), "too many"),
    ],
)
async def test_parameters_that_are_wrong_are_400_and_say_why(people: str, target: str, problem: str) -> None:
    async with running(people, *USUAL) as source:
        asked = await get(source, target)
    assert (asked.status, asked.content_type) == (400, "application/problem+json")
    assert problem in asked.body["detail"]


@pytest.mark.parametrize(
    "target",
    ["", "/", "/nothing", "/people/", "/people/1/", "/people/1/2", "//people", "/People", "/people;x", "/peopl%65"],
)
async def test_what_is_not_declared_is_404(people: str, target: str) -> None:
    async with running(people, *USUAL) as source:
        assert (await get(source, target)).status == 404


async def test_an_empty_optional_value_is_not_an_absent_one(people: str) -> None:
    async with running(people, *USUAL) as source:
        assert (await get(source, "/people?city=")).body["items"] == []


async def test_a_date_is_cast_in_the_query_and_what_is_none_is_400(people: str) -> None:
    """It is the caller's mistake; that the department's system is down must not be concluded from it."""
    async with running(people, BORN) as source:
        if kind(people) != "sqlite":  # whose dates are text, and which casts to nothing
            assert (await get(source, "/born?day=2000-02-29")).body["items"] == [{"id": 4}]
        if kind(people) == "postgresql":
            for day in ("someday", "2001-02-29", "5874898-01-01"):
                asked = await get(source, f"/born?day={day}")
                assert (asked.status, asked.body["detail"]) == (
                    400,
                    "The database takes no such value for a parameter.",
                )
    divided = SqlOperation(path="/divided", query="SELECT 1 / 0 AS n")
    if kind(people) == "postgresql":
        async with running(people, divided) as source:
            with pytest.raises(BackendError):
                await get(source, "/divided")


async def test_an_operation_of_another_script_and_the_root_are_served(people: str) -> None:
    operations = [
        SqlOperation(path="/居民/{id}", query="SELECT name FROM people WHERE id = :id", integers=("id",)),
        SqlOperation(path="/", query="SELECT count(*) AS n FROM people"),
        SqlOperation(path="/a.b/{id}(x)", query="SELECT id FROM people WHERE id = :id", integers=("id",)),
    ]
    async with running(people, *operations) as source:
        assert (await get(source, "/%E5%B1%85%E6%B0%91/1")).body == {"name": "王小明"}
        for target in ("", "/"):
            assert (await get(source, target)).body == {"n": 4}
        assert (await get(source, "/a.b/2(x)")).body == {"id": 2}
        assert (await get(source, "/aXb/2(x)")).status == 404


async def test_head_is_get_without_the_body(people: str) -> None:
    async with running(people, *USUAL) as source:
        for target, status in (("/people/1", 200), ("/people/99", 404), ("/people/x", 400)):
            asked = await get(source, target, method="HEAD")
            assert (asked.status, asked.body) == (status, None)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_405(people: str, method: str) -> None:
    async with running(people, *USUAL) as source:
        answer = await ask(source, SourceRequest("id", method, b"/people/1", [], b"{}", 5))
    assert answer.status == 405
    assert (b"allow", b"GET, HEAD") in answer.headers


async def test_a_database_that_is_absent_is_a_failure_of_the_backend(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/absent.db", "postgresql://nobody@127.0.0.1:1/none"):
        async with running(url, *USUAL) as source:
            with pytest.raises(BackendError):
                await get(source, "/people/1", timeout=5)
    assert list(tmp_path.iterdir()) == []


async def test_a_database_that_comes_back_is_found_again(postgres_server: PostgresServer) -> None:
    url = await postgres_server.create_database()
    await execute(
        url, "CREATE TABLE people (id integer, name text, city text)", "INSERT INTO people VALUES (1, 'a', 'b')"
    )
    async with running(url, BY_ID, connections=3) as source:
        await asyncio.gather(*[get(source, "/people/1") for _ in range(3)])
        # All of its kept connections are cut, as by a restart or a firewall; the next question is answered all the same.
        admin = await asyncpg.connect(url)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'datong adapter' AND datname = current_database()"
        )
        await admin.close()
        for _ in range(5):
            assert (await get(source, "/people/1")).status == 200


async def test_a_connection_is_encrypted_when_the_url_says_so_and_only_with_the_server_meant(
    postgres_url: str, postgres_server: PostgresServer, pki: Pki, tmp_path: Path
) -> None:
    cipher = SqlOperation(path="/tls", query="SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    files = {"ssl_cert_file": pki.certificate("server"), "ssl_key_file": pki.key("server")}
    for name, file in files.items():
        copied = postgres_server.folder / file.name
        copied.write_bytes(file.read_bytes())
        copied.chmod(0o600)
        owner = postgres_server.folder.stat()
        os.chown(copied, owner.st_uid, owner.st_gid)
        await execute(postgres_url, f"ALTER SYSTEM SET {name} = '{copied}'")
    await execute(postgres_url, "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
    try:
        async with running(f"{postgres_url}?ssl_ca={pki.trust_anchors}", cipher) as source, asyncio.timeout(10):
            encrypted = None
            while not encrypted:  # the server reads its settings when it comes to it
                with contextlib.suppress(BackendError):
                    encrypted = (await get(source, "/tls")).body["ssl"]
        async with running(f"{postgres_url}?ssl_ca={DemoCA.create(tmp_path).bundle}", cipher) as source:
            with pytest.raises(BackendError):
                await get(source, "/tls")
    finally:
        await execute(postgres_url, "ALTER SYSTEM RESET ssl", "SELECT pg_reload_conf()")


async def test_an_error_tells_no_values_to_the_log(people: str) -> None:
    wrong = SqlOperation(path="/wrong/{name}", query="SELECT absent FROM people WHERE name = :name")
    async with running(people, wrong) as source:
        with structlog.testing.capture_logs(), pytest.raises(BackendError) as raised:
            await get(source, "/wrong/440106199001010017")
    told = repr(raised.value.__cause__) + str(raised.value.__cause__)
    assert "absent" in told
    assert "440106199001010017" not in told


async def test_a_path_with_odd_characters_is_found(tmp_path: Path) -> None:
    path = tmp_path / "数据 %25 库#?.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE people (id INTEGER, name TEXT, city TEXT)")
        connection.execute("INSERT INTO people VALUES (1, 'a', 'b')")
    connection.close()
    async with running(f"sqlite:///{quote(str(path))}", BY_ID) as source:
        assert (await get(source, "/people/1")).status == 200


async def test_a_database_being_written_is_read(tmp_path: Path) -> None:
    """In WAL mode, as a department's own program may have it."""
    path = tmp_path / "live.db"
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE people (id INTEGER, name TEXT, city TEXT)")
    writer.commit()
    async with running(f"sqlite:///{path}", BY_ID) as source:
        assert (await get(source, "/people/1")).status == 404
        writer.execute("INSERT INTO people VALUES (1, 'a', 'b')")
        writer.commit()
        assert (await get(source, "/people/1")).status == 200
        writer.execute("BEGIN IMMEDIATE")
        assert (await get(source, "/people/1")).status == 200
    writer.close()


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"path": "/x/{Id}", "query": "SELECT :Id"}, "'Id' must be a-z"),
        ({"path": "/x/{1d}", "query": "SELECT 1"}, "'1d' must be a-z"),
        ({"path": "/x/{}", "query": "SELECT 1"}, "'' must be a-z"),
        ({"path": "/x/{id}/{id}", "query": "SELECT :id"}, "'id' is declared twice"),
        ({"path": "/x/{id}", "query": "SELECT :id", "optional": ("id",)}, "'id' is declared twice"),
        ({"path": "/x/{id", "query": "SELECT 1"}, "has a brace"),
        ({"path": "/x/id}", "query": "SELECT 1"}, "has a brace"),
        ({"path": "/x", "query": "SELECT 1", "integers": ("id",)}, "integers names 'id', which is no parameter"),
        ({"path": "/x", "query": "SELECT :id"}, "the query binds :id, which is no parameter"),
        ({"path": "/x", "query": "SELECT to_char(now(), 'HH24 :MI')"}, "the query binds :MI"),
        ({"path": "/x/{id}", "query": "SELECT 1"}, "'id' is not used in the query"),
    ],
)
def test_an_operation_that_contradicts_itself_is_refused(parts: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SqlOperation(**parts)


def test_colons_that_are_no_parameters_are_written_with_a_backslash() -> None:
    SqlOperation(path="/x", query=r"SELECT 'a\:b', CAST(1 AS text), 1::text")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "text",
        "oracle://user:secret@host/db",
        "mysql://user:secret@host",
        "mysql://user:secret@host/db?init_command=x",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://user:secret@host",
        "x://:secret@",
    ],
)
def test_what_is_no_database_is_refused_and_its_password_not_told(url: str) -> None:
    with pytest.raises(ValueError, match="database") as raised:
        SqlSource(url, [BY_ID])
    assert "secret" not in str(raised.value)
