"""What of a database's rows goes into an answer, on each kind of database: JSON, truth values, and not too much."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from department_adapters import ContractError, SqlOperation, SqlSource, read_contract
from department_adapters.serve import make_source
from exchange import AnswerTimeoutError, BackendError, PayloadTooLargeError
from tests.department_adapters.sql_kit import RUNNING, SLOW, database_of, execute, get, kind, running, started

DOCUMENT = '{"b": [1, 2.50, 12345678901234567890.123456789], "a": "\\u738b \\"x\\"", "n": null}'
"""Numbers that a float would spoil, names in an order of their own."""

NOTES = SqlOperation(
    path="/notes/{id}", query="SELECT doc, yes, no, doc AS text FROM notes WHERE id = :id", integers=("id",)
)
DECLARED = replace(NOTES, json=("doc",), booleans=("yes", "no"))
WIDE = SqlOperation(path="/wide", query="SELECT id, body FROM wide ORDER BY id", result="many", max_rows=1000)


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def notes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table with documents and truth values, and one of wide rows."""
    url = asyncio.run(database_of(request.param, request, tmp_path_factory.mktemp("notes")))
    boolean = "SMALLINT" if request.param == "postgresql" else "BOOLEAN"
    text = DOCUMENT.replace("\\", "\\\\") if request.param == "mysql" else DOCUMENT
    filled = " UNION ALL ".join(f"SELECT {number}, '{'x' * 1000}'" for number in range(40))
    asyncio.run(
        execute(
            url,
            f"CREATE TABLE notes (id INTEGER PRIMARY KEY, doc TEXT, yes {boolean}, no {boolean})",
            f"INSERT INTO notes VALUES (1, '{text}', 1, 0), (2, 'no json', 1, 0), (3, NULL, NULL, NULL), (4, '1', 2, 0)",
            "CREATE TABLE wide (id INTEGER PRIMARY KEY, body VARCHAR(1000))",
            f"INSERT INTO wide {filled}",
        )
    )
    return url


async def test_json_and_truth_values_are_told_as_such_where_they_are_declared(notes: str) -> None:
    async with running(notes, DECLARED) as source:
        body = (await get(source, "/notes/1")).body
        assert body == {
            "doc": {"b": [1, 2.5, 12345678901234567890.123456789], "a": '王 "x"', "n": None},
            "yes": True,
            "no": False,
            "text": DOCUMENT,
        }
        assert (await get(source, "/notes/3")).body == dict.fromkeys(("doc", "yes", "no", "text"))


async def test_numbers_in_json_keep_their_digits(notes: str) -> None:
    async with running(notes, replace(DECLARED, query="SELECT doc FROM notes WHERE id = :id", booleans=())) as source:
        answer = await source.answer(request("/notes/1"))
        assert answer.body == b'{"doc":%s}' % DOCUMENT.encode()


async def test_what_is_not_declared_is_told_as_the_database_has_it(notes: str) -> None:
    async with running(notes, NOTES) as source:
        assert (await get(source, "/notes/1")).body == {"doc": DOCUMENT, "yes": 1, "no": 0, "text": DOCUMENT}


@pytest.mark.parametrize("wrong", ["/notes/2", "/notes/4"])
async def test_a_value_that_is_not_what_is_declared_is_a_failure_of_the_backend(notes: str, wrong: str) -> None:
    async with running(notes, DECLARED) as source:
        with pytest.raises(BackendError):
            await get(source, wrong)
    async with running(notes, replace(NOTES, json=("dok",))) as source:
        with pytest.raises(BackendError):
            await get(source, "/notes/1")


async def test_columns_of_json_are_told_as_json_by_postgresql_itself(postgres_url: str) -> None:
    both = SqlOperation(
        path="/both",
        query=f"SELECT CAST('{DOCUMENT}' AS json) AS plain, CAST('{DOCUMENT}' AS jsonb) AS b, CAST(NULL AS json) AS no,"
        " ARRAY[CAST('{\"x\"\\:1}' AS jsonb)] AS list".replace('\\u738b \\"x\\"', "王"),
        json=("plain",),
    )
    both = replace(both, query=both.query.replace('": ', '"\\: '))
    async with running(postgres_url, both) as source:
        body = (await get(source, "/both")).body
    assert body["plain"] == body["b"] == {"b": [1, 2.5, 12345678901234567890.123456789], "a": "王", "n": None}
    assert (body["no"], body["list"]) == (None, [{"x": 1}])


async def test_rows_that_exceed_the_bytes_are_cut_off_and_said_to_be(notes: str) -> None:
    async with running(notes, replace(WIDE, max_bytes=10_500), replace(WIDE, path="/all")) as source:
        asked = (await get(source, "/wide")).body
        assert [item["id"] for item in asked["items"]] == list(range(10))
        assert asked["truncated"] is True
        whole = (await get(source, "/all")).body
        assert (len(whole["items"]), whole["truncated"]) == (40, False)


async def test_the_adapters_limit_holds_as_well(notes: str) -> None:
    async with running(notes, WIDE, replace(WIDE, path="/more", max_bytes=1 << 30), max_answer=8_000) as source:
        for path in ("/wide", "/more"):
            answer = await source.answer(request(path))
            assert 6_000 < len(answer.body) <= 8_000


async def test_one_row_that_is_too_large_is_told_to_be(notes: str, caplog: pytest.LogCaptureFixture) -> None:
    one = replace(WIDE, result="one", max_bytes=500)
    async with running(notes, one, replace(one, path="/many", result="many"), connections=1) as source:
        for _ in range(2):
            for path in ("/wide", "/many"):
                with pytest.raises(PayloadTooLargeError, match="500 bytes"):
                    await get(source, path)
    assert not caplog.records  # the pool had nothing to clear up


async def test_a_large_table_is_never_whole_in_memory(notes: str) -> None:
    """A hundred times 40 rows of 1 MB: more than this process may take, on top of what it has."""
    repeat = {"mysql": "REPEAT(body, 1000)", "postgresql": "repeat(body, 1000)", "sqlite": "hex(zeroblob(500000))"}
    large = SqlOperation(
        path="/large",
        query=f"SELECT {repeat[kind(notes)]} AS body FROM wide CROSS JOIN (SELECT id AS other FROM wide) AS o",
        result="many",
        max_rows=100_000,
        max_bytes=3_000_000,
    )
    async with running(notes, large, connections=1) as source:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        asked = await get(source, "/large", timeout=60)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert (len(asked.body["items"]), asked.body["truncated"]) == (2, True)
    assert grown < 300 << 20


async def test_an_operation_has_a_deadline_of_its_own(notes: str) -> None:
    slow = SqlOperation(path="/slow", query=SLOW[kind(notes)], timeout=0.2)
    async with running(notes, slow, DECLARED, connections=1) as source:
        with pytest.raises(AnswerTimeoutError, match=r"0\.2"):
            await get(source, "/slow", timeout=30)
        assert (await get(source, "/notes/1")).status == 200
        if kind(notes) in RUNNING:
            async with asyncio.timeout(5):
                while (await execute(notes, RUNNING[kind(notes)]))[0][0]:
                    pass


def request(target: str) -> Any:
    from department_adapters import SourceRequest

    return SourceRequest("id", "GET", target.encode(), [], b"", 10)


DECLARATION = """
[adapter]
name = "civil"
subsystem = "CN/GOV/11997001DT0000027K/civil"
[bus]
url = "tls://127.0.0.1:4222"
certificate = "a"
key = "b"
trust_anchors = "c"
gateways = "d"
[services.places]
source = "sql"
database = "sqlite:///places.db"
{service}
[[services.places.operations]]
path = "/places"
query = "SELECT code, doc, yes FROM places"
{operation}
"""


def declared(folder: Path, *, service: str = "", operation: str = 'page = {by = "code"}') -> SqlSource:
    file = folder / "adapter.toml"
    file.write_text(DECLARATION.format(service=service, operation=operation))
    contract = read_contract(file)
    source = make_source(contract.services["places"], contract)
    assert isinstance(source, SqlSource)
    return source


def test_every_key_is_declared_in_the_file(tmp_path: Path) -> None:
    source = declared(
        tmp_path,
        operation='page = {by = ["code", "yes"], size = 7}\njson = ["doc"]\nbooleans = ["yes"]\nmax_bytes = 1000\ntimeout = 1.5',
    )
    operation = source._operations[0][1].operation
    assert operation.page is not None
    assert (operation.result, operation.page.by, operation.page.size) == ("many", ("code", "yes"), 7)
    assert (operation.json, operation.booleans, operation.max_bytes, operation.timeout) == (
        ("doc",),
        ("yes",),
        1000,
        1.5,
    )


def test_the_cursors_secret_is_kept_beside_the_file_unless_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = [b"q"]
    cursor = declared(tmp_path)._cursors.seal(b"x", question)
    assert declared(tmp_path)._cursors.open(cursor, question) == b"x"
    (tmp_path / "cursor.key").unlink()
    monkeypatch.setenv("CURSOR_KEY", "k" * 32)
    given = 'cursor_key = "${CURSOR_KEY}"'
    cursor = declared(tmp_path, service=given)._cursors.seal(b"x", question)
    assert declared(tmp_path, service=given)._cursors.open(cursor, question) == b"x"
    declared(tmp_path, operation="")  # has no pages
    assert not (tmp_path / "cursor.key").exists()


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"service": 'cursor_key = "short"'}, "cursor_key: must be at least 32 characters"),
        ({"service": 'cursor_file = "absent/cursor.key"'}, "No such file"),
        ({"operation": 'page = {by = "code"}\nresult = "one"'}, 'result = "many"'),
        ({"operation": 'page = {by = "code", size = 0}'}, "page.size"),
        ({"operation": "timeout = 0"}, "timeout"),
        ({"operation": 'json = ["doc"]\nbooleans = ["doc"]'}, "under booleans and under json"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, parts: dict[str, str], problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        declared(tmp_path, **parts)


async def test_the_example_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs/sources/sql.md").read_text(encoding="utf-8")
    example = text.split("```toml\n", 1)[1].split("```", 1)[0]
    monkeypatch.setenv("CIVIL_PASSWORD", "p@ss")
    head = DECLARATION.partition("[services")[0]
    (tmp_path / "adapter.toml").write_text(head + example)
    assert read_contract(tmp_path / "adapter.toml")  # with the URL as it stands there
    (tmp_path / "adapter.toml").write_text(
        head + example.replace("mysql://reader:${CIVIL_PASSWORD}@db.example/civil", "sqlite:///civil.db")
    )
    await execute(
        f"sqlite:///{tmp_path}/civil.db",
        "CREATE TABLE residents (number TEXT PRIMARY KEY, name TEXT, born TEXT, married INTEGER, contacts TEXT,"
        " division TEXT)",
        """INSERT INTO residents VALUES ('45X', '王小明', '1990-01-31', 1, '{"phone": "1"}', '450102')""",
        "CREATE TABLE divisions (code TEXT, name TEXT, level INTEGER)",
        "INSERT INTO divisions VALUES ('450000', '广西', 1)",
    )
    contract = read_contract(tmp_path / "adapter.toml")
    source = make_source(contract.services["residents"], contract)
    assert isinstance(source, SqlSource)
    async with started(source):
        assert (await get(source, "/residents/45x")).body == {
            "number": "45X",
            "name": "王小明",
            "born": "1990-01-31",
            "married": True,
            "contacts": {"phone": "1"},
        }
        page = (await get(source, "/divisions/450102/residents")).body
        assert page == {"items": [{"number": "45X", "name": "王小明"}], "next": None}
        assert (await get(source, "/divisions?level=1")).body["items"][0]["code"] == "450000"
