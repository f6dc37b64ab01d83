"""MySQL and MariaDB as a department's database: what its sessions need to be told, and what its transactions let through."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ca_auth import DemoCA
from department_adapters import SqlOperation, SqlSource
from department_adapters.sql.mysql import MysqlDatabase
from department_adapters.sql.rows import Rows
from exchange import BackendError
from tests.conftest import Pki
from tests.department_adapters.sql_kit import count, execute, get, running
from tests.mariadb import MariaServer

TABLE = "CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(60) CHARACTER SET utf8mb4)"
DELETE = SqlOperation(path="/delete", query="DELETE FROM people RETURNING id")
NAMES = SqlOperation(path="/names", query="SELECT name FROM people ORDER BY id", result="many")


@pytest.fixture(scope="module")
def people(maria_server: MariaServer) -> str:
    """A database with a table, and routines that write."""

    async def make() -> str:
        url = await maria_server.create_database()
        await execute(
            url,
            TABLE,
            "INSERT INTO people VALUES (1, '王小明')",
            "CREATE SEQUENCE numbers",
            "CREATE FUNCTION sneak() RETURNS INTEGER BEGIN DELETE FROM people; RETURN 1; END",
            "CREATE PROCEDURE sneak_out() BEGIN COMMIT; SET SESSION TRANSACTION READ WRITE;"
            " START TRANSACTION; DELETE FROM people; COMMIT; SELECT 1; END",
        )
        return url

    return asyncio.run(make())


NO_QUERIES = {
    "another mode for this statement": "SET STATEMENT tx_read_only=0 FOR DELETE FROM people RETURNING id",
    "another mode for the session": "SET SESSION TRANSACTION READ WRITE",
    "another mode for the next transaction": "SET TRANSACTION READ WRITE",
    "a variable": "SET autocommit = 1",
    "a variable of the server": "SET GLOBAL max_connections = 101",
    "the end of the transaction": "COMMIT",
    "the end of the transaction and a new one": "ROLLBACK AND CHAIN",
    "a transaction that writes": "START TRANSACTION READ WRITE",
    "a text that is executed": "EXECUTE IMMEDIATE 'DELETE FROM people'",
    "a file of the server": "SELECT id FROM people INTO OUTFILE '{file}'",
    "a file of the server, in brackets": "(SELECT id FROM people INTO OUTFILE '{file}')",
    "a file of the server, in a union": "SELECT 1 UNION SELECT id FROM people INTO OUTFILE '{file}'",
    "a variable of the session": "SELECT id FROM people INTO @x",
    "a procedure that ends the transaction": "CALL sneak_out()",
    "a function that writes": "SELECT sneak()",
    "a number that is used up": "SELECT NEXTVAL(numbers)",
    "a temporary table": "CREATE TEMPORARY TABLE t (a INTEGER)",
    "a lock": "LOCK TABLES people WRITE",
    "a flush": "FLUSH TABLES",
    "a handler": "HANDLER people OPEN",
    "an end to the server": "SHUTDOWN",
    "an end to a session": "KILL CONNECTION_ID()",
    "maintenance": "OPTIMIZE TABLE people",
    "another transaction": "XA START 'x'",
    "a block": "BEGIN NOT ATOMIC COMMIT; DELETE FROM people; SELECT 1; END",
    "two statements": "SELECT 1; DELETE FROM people",
    "two statements, the second hidden": "SELECT 1) ; DELETE FROM people; SELECT (1",
    "two statements behind a comment": "SELECT 1 -- \n; DELETE FROM people",
    "an account": "CREATE USER sneak",
}


@pytest.mark.parametrize("what", NO_QUERIES)
async def test_what_is_no_query_is_refused_by_the_server_itself(
    people: str, maria_server: MariaServer, what: str
) -> None:
    """The account here may do everything."""
    file = maria_server.folder / "data" / "outfile"
    operation = SqlOperation(path="/no", query=NO_QUERIES[what].format(file=file))
    async with running(people, operation, DELETE, NAMES, connections=1) as source:
        for path in ("/no", "/delete", "/no", "/delete"):
            with pytest.raises(BackendError):
                await get(source, path)
        assert (await get(source, "/names")).body["items"] == [{"name": "王小明"}]
    assert await count(people) == 1
    assert not file.exists()


async def test_values_of_its_types_have_the_form_that_other_databases_give_them(people: str) -> None:
    strange = SqlOperation(
        path="/strange",
        query=(
            "SELECT TIMESTAMP'2026-01-02 03:04:05.25' AS local, FROM_UNIXTIME(1767294245) AS unix, TIME'12:30:00' AS clock,"
            " TIME'-30:00:01.5' AS span, CAST(0.10 AS DECIMAL(30, 20)) AS small, DATE'2026-01-02' AS day,"
            " 18446744073709551615 AS large, X'00FF' AS bytes, '😀' AS face, 1.5e0 AS number, NULL AS nothing,"
            " CAST('0000-00-00' AS DATE) AS zeros, JSON_OBJECT('a', 1) AS document, @@session.time_zone AS zone,"
            " @@session.max_statement_time AS longest"
        ),
        json=("document",),
    )
    async with running(people, strange) as source:
        body = (await get(source, "/strange")).body
    assert body == {
        "local": "2026-01-02T03:04:05.250000",
        "unix": "2026-01-01T19:04:05",  # the server's own time is eight hours ahead
        "clock": "12:30:00",
        "span": "-30:00:01.500000",
        "small": "0.10000000000000000000",
        "day": "2026-01-02",
        "large": 18446744073709551615,
        "bytes": "AP8=",
        "face": "😀",
        "number": 1.5,
        "nothing": None,
        "zeros": body["zeros"],  # what the server makes of it is its own business; that it is told is ours
        "document": {"a": 1},
        "zone": "+00:00",
        "longest": 120.0,
    }


async def test_a_timestamp_is_a_moment(people: str) -> None:
    await execute(
        people,
        "CREATE TABLE moments (at TIMESTAMP(3) NULL, flag BIT(1), bits BIT(12))",
        "SET time_zone = '+08:00'",
        "INSERT INTO moments VALUES ('2026-01-02 03:04:05.250', b'1', b'100000000001')",
    )
    moment = SqlOperation(path="/moment", query="SELECT at, flag, bits FROM moments", booleans=("flag",))
    async with running(people, moment) as source:
        assert (await get(source, "/moment")).body == {"at": "2026-01-01T19:04:05.250000Z", "flag": True, "bits": 2049}


@pytest.mark.parametrize("mode", ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,PIPES_AS_CONCAT", "ANSI"])
async def test_values_stay_values_whatever_the_servers_mode(maria_server: MariaServer, mode: str) -> None:
    """An escape that one mode understands ends a text in another; nothing is escaped here."""
    url = await maria_server.create_database()
    await execute(url, TABLE, "INSERT INTO people VALUES (1, 'a')")
    found = SqlOperation(path="/people/{name}", query="SELECT id FROM people WHERE name = :name")
    before = (await execute(url, "SELECT @@global.sql_mode"))[0][0]
    await execute(url, f"SET GLOBAL sql_mode = '{mode}'")
    try:
        async with running(url, found) as source:
            assert (await get(source, "/people/a")).status == 200
            for hostile in ("%5C' OR 1=1 -- ", "' OR '1'='1", '" OR 1=1 -- ', "%5C", "a'", "%BF' OR 1=1"):
                assert (await get(source, f"/people/{hostile.replace(' ', '%20')}")).status in (404, 400)
    finally:
        await execute(url, f"SET GLOBAL sql_mode = '{before}'")


async def test_a_collation_of_the_column_does_not_stand_in_the_way_of_a_value(maria_server: MariaServer) -> None:
    url = await maria_server.create_database()
    columns = ["utf8mb4_bin", "utf8mb4_unicode_520_ci", "latin1_swedish_ci", "gbk_chinese_ci"]
    listed = ", ".join(
        f"c{number} VARCHAR(20) CHARACTER SET {name.partition('_')[0]} COLLATE {name}"
        for number, name in enumerate(columns)
    )
    await execute(url, f"CREATE TABLE texts ({listed})", "INSERT INTO texts VALUES ('a', 'a', 'a', '王')")
    operations = [
        SqlOperation(path=f"/{number}/{{text}}", query=f"SELECT c{number} AS text FROM texts WHERE c{number} = :text")
        for number in range(len(columns))
    ]
    async with running(url, *operations) as source:
        for number in range(3):
            assert (await get(source, f"/{number}/a")).body == {"text": "a"}
        assert (await get(source, "/3/%E7%8E%8B")).body == {"text": "王"}
        # A character that the column cannot hold is the caller's mistake.
        assert (await get(source, "/2/%E7%8E%8B")).status == 400


async def test_kept_connections_that_the_server_has_closed_are_renewed(people: str) -> None:
    who = SqlOperation(path="/who", query="SELECT CAST(CONNECTION_ID() AS CHAR) AS id, SLEEP(0.05) AS slept")
    async with running(people, who, connections=3) as source:
        opened = {asked.body["id"] for asked in await asyncio.gather(*[get(source, "/who") for _ in range(3)])}
        assert len(opened) == 3
        for connection in opened:
            await execute(people, f"KILL {connection}")
        for _ in range(2):
            again = {asked.body["id"] for asked in await asyncio.gather(*[get(source, "/who") for _ in range(3)])}
            assert not again & opened


async def test_a_query_that_is_put_again_begins_anew(people: str) -> None:
    """The connection is lost in the middle: what was taken before does not count, and nothing is missing after."""
    rows = 3000
    # The rows are wide, so that most of them are still on the way when the first are here.
    wide = SqlOperation(
        path="/wide",
        query=f"SELECT seq AS n, REPEAT('x', 20000) AS body FROM seq_1_to_{rows}",
        result="many",
        max_rows=rows,
    )
    who = SqlOperation(path="/who", query="SELECT CONNECTION_ID() AS id")
    async with running(people, wide, who, connections=1, max_answer=100 << 20) as source:
        connection = (await get(source, "/who")).body["id"]
        taken: list[int] = []
        take = Rows.take

        def take_and_lose(self: Rows, rows: Sequence[Sequence[object]]) -> None:
            taken.append(len(rows))
            if len(taken) == 2:
                killed.set()
            take(self, rows)

        killed = asyncio.Event()

        async def kill() -> None:
            await killed.wait()
            await execute(people, f"KILL {connection}")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Rows, "take", take_and_lose)
            killing = asyncio.create_task(kill())
            asked = await get(source, "/wide", timeout=60)
            await killing
    assert sum(taken) > rows, "it was not put again"
    assert [item["n"] for item in asked.body["items"]] == list(range(1, rows + 1))
    assert asked.body["truncated"] is False


async def test_a_query_that_is_cut_short_leaves_a_connection_that_works(
    people: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rows were still on the way: the next answer must not begin with them."""
    numbers = "SELECT seq AS n FROM seq_1_to_1000000 LIMIT 1000000"
    who = SqlOperation(path="/who", query="SELECT CONNECTION_ID() AS id")
    endless = SqlOperation(path="/endless", query=numbers.partition("LIMIT")[0], result="many", max_rows=5)
    cut = SqlOperation(path="/cut", query=numbers, result="many", max_rows=100_000, max_bytes=2000)
    async with running(
        people, cut, replace(cut, path="/few", max_rows=5), NAMES, who, endless, connections=1
    ) as source:
        connection = (await get(source, "/who")).body
        for _ in range(2):
            assert len((await get(source, "/endless")).body["items"]) == 5
        # The server itself stopped: nothing was left on the way, and the connection is kept.
        assert (await get(source, "/who")).body == connection
        for _ in range(3):
            asked = await get(source, "/cut")
            assert asked.body["truncated"]
            assert [item["n"] for item in asked.body["items"]] == list(range(1, len(asked.body["items"]) + 1))
            assert [item["n"] for item in (await get(source, "/few")).body["items"]] == [1, 2, 3, 4, 5]
            assert (await get(source, "/names")).body == {"items": [{"name": "王小明"}], "truncated": False}
    assert not caplog.records  # the pool had nothing to clear up


async def test_signs_that_mean_something_to_drivers_mean_nothing_in_a_query(people: str) -> None:
    signs = SqlOperation(
        path="/signs/{name}",
        query=r"SELECT '?' AS mark, '%s' AS format, '100%' AS percent, 7 % 4 AS rest, '\:x' AS colon, '\\' AS slash, @x AS variable"
        " FROM people WHERE name LIKE '王%' AND name <> :name /* ? */ -- ?",
    )
    async with running(people, signs) as source:
        assert (await get(source, "/signs/%25s")).body == {
            "mark": "?",
            "format": "%s",
            "percent": "100%",
            "rest": 3,
            "colon": ":x",
            "slash": "\\",
            "variable": None,
        }


@pytest.mark.parametrize(
    "query", ["SELECT id FROM people ;\n", "SELECT id FROM people -- the end", "(SELECT id FROM people)"]
)
async def test_a_query_may_end_as_people_end_theirs(people: str, query: str) -> None:
    async with running(people, SqlOperation(path="/id", query=query)) as source:
        assert (await get(source, "/id")).body == {"id": 1}


async def test_a_query_keeps_its_own_limit_in_subqueries_and_totals(people: str) -> None:
    """The server is told how many rows are wanted; only of the answer."""
    total = SqlOperation(path="/total", query="SELECT COUNT(*) AS n FROM (SELECT seq FROM seq_1_to_5000) AS s")
    async with running(people, total) as source:
        assert (await get(source, "/total")).body == {"n": 5000}


async def test_an_account_that_may_only_read_is_enough_and_its_password_may_be_of_any_script(
    people: str, maria_server: MariaServer
) -> None:
    database = people.rpartition("/")[2]
    await execute(
        people,
        "CREATE USER reader@'127.0.0.1' IDENTIFIED BY '密码 @:/?#'",
        f"GRANT SELECT ON {database}.people TO reader@'127.0.0.1'",
    )
    url = maria_server.url(database, "reader:%E5%AF%86%E7%A0%81%20%40%3A%2F%3F%23")
    async with running(url, NAMES, DELETE) as source:
        assert (await get(source, "/names")).body["items"] == [{"name": "王小明"}]
        # It may end its own queries, though it may do nothing else.
        slow = SqlOperation(path="/slow", query="SELECT BENCHMARK(1000000000000, SHA2('x', 512)) AS n")
        async with running(url, slow, connections=1) as other:
            asking = asyncio.create_task(get(other, "/slow"))
            like = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'reader' AND info LIKE '%SHA2%'"
            async with asyncio.timeout(10):
                while not (await execute(people, like))[0][0]:
                    pass
                asking.cancel()
                while (await execute(people, like))[0][0]:
                    pass
            with pytest.raises(asyncio.CancelledError):
                await asking


def test_mariadb_is_mysql() -> None:
    assert isinstance(SqlSource("mariadb://u@h/d", [NAMES])._database, MysqlDatabase)


def test_without_its_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "department_adapters.sql.mysql", raising=False)
    monkeypatch.setitem(sys.modules, "asyncmy", None)
    with pytest.raises(ValueError, match=r"pip install 'datong\[mysql\]'"):
        SqlSource("mysql://u@h/d", [NAMES])


@pytest.mark.parametrize("option", ["local_infile=1", "init_command=DROP", "read_default_file=/etc/passwd"])
def test_the_url_hands_the_driver_no_arguments_of_its_own(option: str) -> None:
    with pytest.raises(ValueError, match="is not known"):
        SqlSource(f"mysql://u@h/d?{option}", [NAMES])


async def test_a_connection_is_encrypted_when_the_url_says_so_and_only_with_the_server_meant(
    people: str, pki: Pki, tmp_path: Path
) -> None:
    cipher = SqlOperation(
        path="/cipher",
        query="SELECT variable_value AS cipher FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'",
    )
    async with running(people, cipher) as plain, running(f"{people}?ssl_ca={pki.trust_anchors}", cipher) as encrypted:
        assert (await get(plain, "/cipher")).body == {"cipher": ""}
        assert (await get(encrypted, "/cipher")).body["cipher"]
    stranger = DemoCA.create(tmp_path)
    async with running(f"{people}?ssl_ca={stranger.bundle}", cipher) as source:
        with pytest.raises(BackendError):
            await get(source, "/cipher")


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_files_of_an_encrypted_connection_are_looked_at_first(kind: str, pki: Pki) -> None:
    for options in ("ssl_ca=/absent", f"ssl_cert={pki.certificate('tax')}&ssl_key={pki.key('tax')}"):
        with pytest.raises(ValueError, match="ssl_ca"):
            SqlSource(f"{kind}://u@h/d?{options}", [NAMES])
