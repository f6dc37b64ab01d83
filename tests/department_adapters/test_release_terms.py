"""Release terms at an adapter: what they withhold leaves neither the department nor a trace in what lasts."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import pytest
import structlog

from department_adapters import SourceAnswer, SourceRequest, SqlOperation, SqlSource
from deploy.nats import NatsServer
from exchange import (
    MASKS,
    AnswerTimeoutError,
    BackendError,
    BadAnswerError,
    Headers,
    QuestionRefusedError,
    read_answer_statement,
    read_ledger,
    read_query_statement,
)
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import (
    Carrier,
    FullDisk,
    FunctionSource,
    Gateway,
    adapter_on,
    says,
)

NUMBER = "450102199001011234"
PERSON = {"name": "张三丰", "id_number": NUMBER, "address": {"city": "南宁市", "street": "民族大道100号"}, "born": None}
TERMS = ("address.city", "id_number=number", "name=name")
JSON_TYPE = (b"content-type", b"application/json")


def person(*headers: tuple[bytes, bytes], status: int = 200, body: bytes | None = None) -> FunctionSource:
    return says(status, [JSON_TYPE, *headers], json.dumps(PERSON).encode() if body is None else body)


async def test_only_what_the_terms_release_leaves_the_department(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path
) -> None:
    """Not in the answer, not in the statement that is sealed, not on the ledger."""
    async with adapter_on(nats_server, pki, {"enterprises": person()}, ledger):
        said = await gateway.ask(release=TERMS)
    assert json.loads(said.body) == {"name": "张**", "id_number": "450************234", "address": {"city": "南宁市"}}
    assert said.head.headers == [
        JSON_TYPE,
        (b"datong-masked", b"id_number,name"),
        (b"datong-withheld", b"address.street,born"),
    ]
    assert (said.statement.masked, said.statement.withheld) == (("id_number", "name"), ("address.street", "born"))
    (line,) = read_ledger(ledger_folder)
    assert read_query_statement(bytes(line.query)).release == TERMS
    assert read_answer_statement(bytes(line.answer)) == said.statement  # type: ignore[arg-type]
    kept = b"".join(path.read_bytes() for path in ledger_folder.rglob("*") if path.is_file())
    assert b"19900101" not in kept
    assert "张三丰".encode() not in kept


async def test_without_terms_everything_passes_as_it_is(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    source = says(200, [JSON_TYPE, (b"etag", b'"1"')], b'{ "a" : 1.10 }')
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        said = await gateway.ask(headers=[(b"accept-encoding", b"gzip"), (b"if-none-match", b'"0"')])
    assert (said.body, said.head.headers) == (b'{ "a" : 1.10 }', [JSON_TYPE, (b"etag", b'"1"')])
    assert b"withheld" not in said.head.statement
    assert b"masked" not in said.head.statement
    assert source.asked[0].headers == [(b"accept-encoding", b"gzip"), (b"if-none-match", b'"0"')]


async def test_a_source_is_asked_for_the_whole_uncompressed_and_without_conditions(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    conditions: Headers = [
        *[(name, b"x") for name in (b"range", b"if-range", b"if-none-match", b"if-match", b"accept-encoding", b"a-im")],
        *[(name, b"x") for name in (b"if-modified-since", b"if-unmodified-since")],
    ]
    source = person()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        await gateway.ask(headers=[(b"accept", b"*/*"), *conditions], release=TERMS)
        await gateway.ask("PUT", headers=[(b"if-match", b'"7"'), (b"range", b"bytes=0-1")], release=TERMS)
    assert source.asked[0].headers == [(b"accept", b"*/*"), (b"accept-encoding", b"identity")]
    # A change that was to be made only if nobody else made one must not become a change in any case.
    assert source.asked[1].headers == [(b"if-match", b'"7"'), (b"accept-encoding", b"identity")]


async def test_headers_that_speak_of_the_whole_body_stay_behind(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    names = b"etag content-digest repr-digest digest content-md5 content-length content-range accept-ranges".split()
    untrue = [(b"Datong-Withheld", b"nothing"), (b"datong-masked", b"nothing"), (b"datong-receipt", b"x")]
    kept = [(b"last-modified", b"Mon, 01 Jan 2024 00:00:00 GMT"), (b"x-page", b"1"), (b"cache-control", b"no-store")]
    source = person(*[(name, b"x") for name in names], *untrue, *kept, (b"content-encoding", b"identity"))
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        said = await gateway.ask(release=("*",))
        head = await gateway.ask("HEAD", release=("name",))
    assert said.head.headers == [JSON_TYPE, *kept]
    assert json.loads(said.body) == PERSON
    assert (b"etag", b"x") not in head.head.headers


@pytest.mark.parametrize(
    ("declared", "left"),
    [
        (b"application/json", b"application/json"),
        (b"application/json;charset=UTF-8", b"application/json;charset=UTF-8"),
        (b'application/json; charset="utf-8"', b'application/json; charset="utf-8"'),
        (b"application/json;charset=GBK", b"application/json"),
        (b"application/hal+json ; charset=iso-8859-1; v=2", b"application/hal+json"),
    ],
)
async def test_an_answer_claims_no_other_encoding_than_it_was_read_in(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, declared: bytes, left: bytes
) -> None:
    source = says(200, [(b"content-type", declared)], b'{"name":1}')
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        said = await gateway.ask(release=("name",))
    assert said.head.headers == [(b"content-type", left)]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], b"<p>" + NUMBER.encode()),
        ([], NUMBER.encode() + b"\xff"),
        ([], ("张三 " + NUMBER).encode("gbk")),
        ([], b"[" * 70 + b"]" * 70),
        ([(b"content-encoding", b"gzip")], gzip.compress(json.dumps(PERSON).encode())),
        ([(b"content-encoding", b"br")], json.dumps(PERSON).encode()),
        ([(b"content-encoding", b"identity, gzip")], json.dumps(PERSON).encode()),
    ],
)
async def test_a_success_that_cannot_be_judged_is_a_failure_of_the_source_and_the_log_says_why(
    nats_server: NatsServer,
    pki: Pki,
    gateway: Gateway,
    ledger: FullDisk,
    ledger_folder: Path,
    headers: Headers,
    body: bytes,
) -> None:
    async with adapter_on(nats_server, pki, {"enterprises": says(200, headers, body)}, ledger):
        with structlog.testing.capture_logs() as logged:
            said = await gateway.ask(release=TERMS)
            acted = await gateway.ask("POST", release=TERMS)
    assert (said.statement.error, said.body, said.head.headers) == (BackendError.code, b"", [])
    # It acted, and what it said of that is not known: whoever reads "failed" would try again.
    assert (acted.statement.error, acted.body) == (AnswerTimeoutError.code, b"")
    reasons = [line["reason"] for line in logged if line["event"] == "adapter.not_within_terms"]
    assert len(reasons) == 2
    assert "no terms can be applied" in reasons[0]
    assert NUMBER not in repr(logged)
    assert "\\xff" not in repr(logged)
    kept = b"".join(path.read_bytes() for path in ledger_folder.rglob("*") if path.is_file())
    assert NUMBER.encode() not in kept


@pytest.mark.parametrize(
    "terms",
    [(), ("name", "id_number"), ("name=sound",), ("name", "name=name"), ("a..b",), ("name ", "name\n"), ("x" * 7000,)],
)
async def test_a_question_under_terms_that_cannot_be_read_reaches_no_source(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path, terms: tuple[str, ...]
) -> None:
    source = person()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger) as runner:
        said = await gateway.ask(release=terms)
        large = await gateway.question("POST", body=bytes(600 << 10), parts=3, release=terms)
        refused = await gateway.send(large)
        assert runner.counts()[large.statement.service].refused == 2  # type: ignore[index]
    assert said.statement.error == refused.statement.error == QuestionRefusedError.code
    assert source.asked == []
    assert list(read_ledger(ledger_folder)) == []


async def test_an_answer_without_a_body_has_nothing_to_withhold(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    for status, method in ((200, "HEAD"), (204, "DELETE"), (304, "GET"), (201, "POST"), (404, "GET")):
        async with adapter_on(nats_server, pki, {"enterprises": person(status=status, body=b"")}, ledger):
            said = await gateway.ask(method, release=TERMS)
        assert (said.statement.status, said.statement.error, said.body) == (status, "", b"")
        assert b"withheld" not in said.head.statement


async def test_of_a_refusal_of_the_source_only_what_it_says_of_itself_passes(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    body = json.dumps({"title": "未找到", "status": 404, "data": PERSON, "errors": [NUMBER]}).encode()
    source = says(404, [(b"content-type", b"application/problem+json")], body)
    page = says(500, [(b"content-type", b"text/html")], f"<h1>{NUMBER}</h1>".encode())
    zipped = says(500, [JSON_TYPE, (b"content-encoding", b"gzip")], gzip.compress(body))
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        said = await gateway.ask(release=TERMS)
    assert (said.statement.status, said.statement.error) == (404, "")
    assert json.loads(said.body) == {"title": "未找到", "status": 404}
    assert said.statement.withheld == ("data", "errors")
    for unreadable in (page, zipped):
        async with adapter_on(nats_server, pki, {"enterprises": unreadable}, ledger):
            said = await gateway.ask(release=TERMS)
        assert (said.statement.status, said.statement.error, said.body) == (500, "", b"")
        assert said.head.headers == [(b"datong-withheld", b"*")]


def register() -> FunctionSource:
    """Answers with as many people as asked for."""

    async def answer(request: SourceRequest) -> SourceAnswer:
        count = int(request.target.rpartition(b"=")[2])
        people = [PERSON | {"n": number} for number in range(count)]
        return SourceAnswer(200, [JSON_TYPE], json.dumps({"items": people}, ensure_ascii=False).encode())

    return FunctionSource(answer)


@pytest.mark.parametrize("count", [1, 100, 20_000])
async def test_bodies_of_every_size_are_released_within_the_terms_and_pass_the_gateway(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk, count: int
) -> None:
    """The largest is some megabytes before and after: it comes in parts and is gone through beside the loop."""
    async with adapter_on(nats_server, pki, {"enterprises": register()}, ledger):
        answer = await carrier.perform(
            target=b"/x?count=%d" % count, release=("items.id_number=number", "items.n"), timeout=20
        )
    items = json.loads(answer.body)["items"]
    assert items == [{"id_number": "450************234", "n": number} for number in range(count)]
    assert (b"datong-withheld", b"items.address,items.born,items.name") in answer.headers
    assert carrier.log.happened == ["answered"]


@pytest.mark.parametrize("count", [1, 20_000])
async def test_an_adapter_that_knows_nothing_of_terms_gets_nothing_past_the_gateway(
    nats_server: NatsServer,
    pki: Pki,
    carrier: Carrier,
    ledger: FullDisk,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    monkeypatch.setattr("department_adapters.runner.terms_of", lambda _: None)
    async with adapter_on(nats_server, pki, {"enterprises": register()}, ledger):
        with pytest.raises(BadAnswerError) as refused:
            await carrier.perform(target=b"/x?count=%d" % count, release=("items.n",), timeout=20)
    assert refused.value.rule == "release-terms"
    record = json.loads(carrier.log.records[-1])
    assert (record["outcome"], record["rule"]) == ("failed", "release-terms")
    assert record["answer"]["status"] == 200, "what the department said stands on the record"
    assert NUMBER.encode() not in carrier.log.records[-1]


async def test_a_masked_value_is_no_key(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, tmp_path: Path
) -> None:
    """What a masked answer shows finds nothing when it is asked for: parameters are bound, `*` is no wildcard."""
    with sqlite3.connect(tmp_path / "people.db") as database:
        database.execute("CREATE TABLE people (id_number TEXT, name TEXT)")
        database.execute("INSERT INTO people VALUES (?, '张三丰')", (NUMBER,))
    database.close()
    source = SqlSource(
        f"sqlite:///{tmp_path / 'people.db'}",
        [SqlOperation(path="/people/{number}", query="SELECT * FROM people WHERE id_number = :number")],
    )
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        said = await gateway.ask(target=f"/people/{NUMBER}".encode(), release=TERMS)
        masked = json.loads(said.body)["id_number"]
        assert masked == MASKS["number"].of(NUMBER)
        again = await gateway.ask(target=f"/people/{masked}".encode(), release=TERMS)
    assert (said.statement.status, again.statement.status) == (200, 404)
