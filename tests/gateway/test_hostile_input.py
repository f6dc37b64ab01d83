"""Callers and adapters that mean harm: nothing they send is executed, trusted, carried elsewhere or left unrecorded."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from nats.aio.client import Client
from nats.aio.msg import Msg

from deploy.trial_mesh import CALLER, ECHO, PROVIDER
from exchange import (
    ANSWER_CONTEXT,
    AnswerHead,
    AnswerStatement,
    Headers,
    PrivateKey,
    QueryHead,
    Sealer,
    bus_tls,
    content_digest,
    header_block,
    inbox_prefix,
    load_identity,
    pack,
    read_query_statement,
    service_nats_subject,
    statement_bytes,
    unpack,
)
from tests.gateway.conftest import WHO
from tests.gateway.echo_backend import answer
from tests.gateway.exchange_mesh import Mesh, head, service, target

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The path


DOTS = [
    "..",
    ".",
    "%2e%2e",
    "%2E.",
    ".%2E",
    "..%2f",
    "..%2F..%2f",
    "%2f",
    "..;",
    "..;x=1",
    ".%00",
    "..%5c",
    "%5c..%5c",
    "%0d%0a",
]
BROKEN = ["%c0%ae%c0%ae", "%c0%af", "%e0%80%ae", "%ff", "%", "%zz", "%u002e%u002e"]


@pytest.mark.parametrize("segment", DOTS + BROKEN)
async def test_a_path_that_could_mean_another_is_refused_and_goes_nowhere(mesh: Mesh, segment: str) -> None:
    """Also under a grant for everything: whether `**` covers it is not asked."""
    before = len(mesh.backend.received)
    for request_target in (target("echo", f"/{segment}"), target("records", f"/records/{segment}/../1")):
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head("GET", request_target))
            response = await caller.answer()
        (record,) = records
        assert record["rule"] in ("path-dot-segment", "path-character", "path-encoding")
        mesh.told(response, 400, record["rule"], exchange_id=record["id"])
        assert record["outcome"] == "refused"
    assert len(mesh.backend.received) == before


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [
        ("/%252e%252e/%252e", "/%252e%252e/%252e"),
        ("/a%252fb", "/a%252fb"),
        ("/%25c0%25ae", "/%25c0%25ae"),
        ("/...", "/..."),
    ],
)
async def test_what_is_encoded_twice_stays_literal(mesh: Mesh, path: str, forwarded: str) -> None:
    reply = await mesh.ask("GET", path)
    assert (reply.status, mesh.backend.last.target) == (200, forwarded)


@pytest.mark.parametrize(
    "request_target",
    [
        pytest.param("/r1/CN/GOV/*/trial/echo", id="star-as-member"),
        pytest.param(f"/r1/{PROVIDER}/*", id="star-as-service"),
        pytest.param(f"/r1/{PROVIDER}/%3E", id="greater-than-as-service"),
        pytest.param("/r1/%3E/%3E/%3E/%3E/%3E", id="greater-than-everywhere"),
        pytest.param(f"/r1/{PROVIDER}/$SYS", id="system-subject"),
        pytest.param(f"/r1/{PROVIDER}/echo%20x", id="space-in-service"),
        pytest.param(f"/r1/{PROVIDER}/echo%0D%0APUB%20dt.q.x%200", id="nats-protocol-in-service"),
        pytest.param(f"/r1/{PROVIDER}/{'e' * 5000}", id="five-kilobytes-as-service"),
        pytest.param(f"/r1/CN/GOV/{'9' * 5000}/trial/echo", id="five-kilobytes-as-member"),
        pytest.param(f"/r1/CN/GOV/{'%41' * 1700}/trial/echo", id="five-kilobytes-encoded"),
    ],
)
async def test_what_would_be_a_wildcard_on_the_bus_is_no_identifier(mesh: Mesh, request_target: str) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("GET", request_target))
        response = await caller.answer()
    mesh.told(response, 400, "path-identifier", exchange_id=records[0]["id"])
    assert records[0]["query"]["service"] == ""
    assert (await mesh.ask()).status == 200, "the bus is still there"


@pytest.mark.parametrize(
    ("path", "seen"), [("/*/%3E", "/*/%3E"), (f"/{'x' * 5000}", f"/{'x' * 5000}"), ("/dt.q.%3E", "/dt.q.%3E")]
)
async def test_in_the_rest_of_the_path_wildcards_and_length_mean_nothing(mesh: Mesh, path: str, seen: str) -> None:
    reply = await mesh.ask("GET", path)
    assert (reply.status, mesh.backend.last.target) == (200, seen)


@pytest.mark.parametrize(
    "client",
    [
        "", "*", ">", "CN", "CN/GOV/1", f"{CALLER}/more", f"{CALLER}/", f"/{CALLER}", CALLER.replace("/", "%2F"), "CN/GOV/*/>",
        "CN/GOV/../caller", "CN/GOV/%2e%2e/caller", f"{CALLER}%", f"{CALLER}%00", f"{CALLER}%0d%0aX-Evil:%201",
        f"CN/GOV/{'9' * 5000}/caller", "CN/GOV/税务/caller", "CN/GOV/%E7%A8%8E/caller", f"{CALLER},{CALLER}", f"{CALLER} x",
    ],
    ids=range(20),
)  # fmt: skip
async def test_x_road_client_must_be_an_identifier(mesh: Mesh, client: str) -> None:
    reply = await mesh.ask(client=None, headers=[(b"x-road-client", client.encode())])
    mesh.problem(reply, 400, "client-header")
    assert reply.query["client"] == ""
    assert reply.response.headers["x-road-error"] == "server.clientproxy.invalid_client_identifier"
    assert "evil" not in repr(reply.response.headers).lower()


async def test_a_query_string_with_raw_bytes_is_refused(mesh: Mesh) -> None:
    for query in ('a="b"', "a=<b>"):
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head("GET", target("echo", f"/q?{query}")))
            response = await caller.answer()
        mesh.told(response, 400, "query-form", exchange_id=records[0]["id"])


@pytest.mark.parametrize("method", ["PROPFIND", "MKCOL", "PURGE", "QUERY", "SEARCH"])
async def test_a_method_the_mesh_does_not_know_is_refused(mesh: Mesh, method: str) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head(method, target("echo")))
        response = await caller.answer()
    assert response.status_code == 400
    mesh.told(
        response, 400, records[0]["rule"], exchange_id="" if records[0]["rule"] == "http-syntax" else records[0]["id"]
    )


# Headers


@pytest.mark.parametrize(
    "name", ["X-Road-Id", "X-Road-UserId", "X-Road-Issue", "X-Road-Represented-Party", "Datong-Purpose"]
)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"x" * 256, id="too-long"),
        pytest.param("税".encode() * 256, id="too-long-chinese"),
        pytest.param(b"a\tb", id="tab"),
        pytest.param(b"a\xc2\x85b", id="next-line"),
        pytest.param("a\u202eb".encode(), id="right-to-left-override"),
        pytest.param("a\u2028b".encode(), id="line-separator"),
        pytest.param("a\u200bb".encode(), id="zero-width-space"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b"\xe7\xa8", id="half-a-character"),
    ],
)
async def test_what_goes_on_the_record_is_printable_and_short(mesh: Mesh, name: str, value: bytes) -> None:
    reply = await mesh.ask(headers=[(name.encode(), value)])
    mesh.problem(reply, 400, "header-value")
    assert name.lower() in reply.response.json()["detail"]


async def test_a_control_character_in_a_header_ends_the_connection_with_a_400(mesh: Mesh) -> None:
    for value in (b"a\x00b", b"a\x01b", b"a\x7fb", b"a\rb"):
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head("GET", target("echo"), b"X-Road-UserId: " + value))
            response = await caller.answer()
            assert await caller.is_closed()
        mesh.told(response, 400, "http-syntax")
        assert (records[0]["rule"], records[0]["status"], records[0]["outcome"]) == ("http-syntax", 400, "refused")


async def test_255_characters_are_not_too_long_and_chinese_is_kept(mesh: Mesh) -> None:
    chosen = [
        (b"x-road-userid", "张三（税务局）".encode()),
        (b"x-road-id", b"i" * 255),
        (b"x-road-issue", "案" * 255 and "案".encode() * 255),
    ]
    reply = await mesh.ask(headers=chosen)
    assert reply.status == 200
    assert (reply.query["user"], reply.query["message_id"], reply.query["case"]) == (
        "张三（税务局）",
        "i" * 255,
        "案" * 255,
    )
    assert mesh.backend.last.values("x-road-userid") == ["张三（税务局）".encode()]


async def test_a_message_id_in_chinese_comes_back_as_it_was_sent(mesh: Mesh) -> None:
    reply = await mesh.ask(headers=[(b"x-road-id", "编号-1".encode())])
    raw = [value for name, value in reply.response.headers.raw if name.lower() == b"x-road-id"]
    assert raw == ["编号-1".encode()]
    assert reply.query["message_id"] == "编号-1"


async def test_other_headers_reach_the_department_byte_for_byte(mesh: Mesh) -> None:
    """Also those that are not UTF-8: Latin-1 was once the rule."""
    for value in ("税务".encode(), b"caf\xe9", b"\xff\xfe"):
        reply = await mesh.ask(headers=[(b"x-any", value)])
        assert reply.status == 200
        assert mesh.backend.last.values("x-any") == [value]


@pytest.mark.parametrize("channel", ["shop", "HALL", "hall,web", " "])
async def test_the_channel_is_one_of_the_known(mesh: Mesh, channel: str) -> None:
    reply = await mesh.ask(headers={"Datong-Channel": channel})
    if channel == " ":
        assert (reply.status, reply.query["channel"]) == (200, "")
    else:
        mesh.problem(reply, 400, "channel")
        assert reply.query["channel"] == ""


async def test_a_head_over_the_limit_is_431_and_recorded(mesh: Mesh) -> None:
    for lines, rule in (
        ([f"X-Filler: {'x' * (16 << 10)}"], "head-size"),
        ([f"X-{n}: 1" for n in range(64)], "header-lines"),
    ):
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head("GET", target("echo"), *lines))
            response = await caller.answer()
            assert await caller.is_closed()
        mesh.told(response, 431, rule)
        assert (records[0]["rule"], records[0]["status"], records[0]["code"]) == (rule, 431, "headers-too-large")
        assert records[0]["query"]["certificate"], "who it was is on the record"


MALFORMED = {
    "nonsense": b"\x16\x03\x01 nonsense\r\n\r\n",
    "http-1.0": b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n",
    "no-host": f"GET {target('echo')} HTTP/1.1\r\nX-Road-Client: {CALLER}\r\n\r\n".encode(),
    "negative-length": head("POST", target("echo"), "Content-Length: -1"),
    "length-that-is-no-number": head("POST", target("echo"), "Content-Length: 1e3"),
    "length-beyond-64-bits": head("POST", target("echo"), f"Content-Length: {1 << 64}"),
    "two-lengths": head("POST", target("echo"), "Content-Length: 1", "Content-Length: 2") + b"xx",
    "length-and-chunked": head("POST", target("echo"), "Content-Length: 3", "Transfer-Encoding: chunked")
    + b"0\r\n\r\n",
    "unknown-coding": head("POST", target("echo"), "Transfer-Encoding: gzip"),
    "folded-line": head("GET", target("echo"), "X-A: b", " c"),
    "space-before-the-colon": head("GET", target("echo"), "X-Road-Id : x"),
    "raw-utf-8-in-the-path": head("GET", target("echo", "/税")),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_not_http_is_400_recorded_and_never_executed(mesh: Mesh, name: str) -> None:
    before = len(mesh.backend.received)
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(MALFORMED[name])
        response = await caller.answer()
        assert await caller.is_closed()
    mesh.told(response, 400, records[0]["rule"])
    assert (records[0]["status"], records[0]["outcome"], records[0]["code"]) == (400, "refused", "invalid-request")
    assert len(mesh.backend.received) == before


async def test_a_length_larger_than_anything_is_413(mesh: Mesh) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("POST", target("echo"), f"Content-Length: {(1 << 63) - 1}"))
        response = await caller.answer()
    mesh.told(response, 413, "body-limit", exchange_id=records[0]["id"])


async def test_broken_chunks_end_the_request_once_and_nothing_is_carried(mesh: Mesh) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("POST", target("echo", "/chunks"), "Transfer-Encoding: chunked") + b"3\r\nabc\r\nzz\r\n")
        response = await caller.answer()
        assert await caller.is_closed()
    mesh.told(response, 400, "http-syntax")
    assert (records[0]["rule"], records[0]["status"]) == ("http-syntax", 400)
    assert not mesh.backend.seen("/chunks")


async def test_a_request_smuggled_in_a_refused_body_is_not_executed(mesh: Mesh) -> None:
    smuggled = head("GET", target("echo", "/smuggled"))
    async with mesh.one_record() as records, mesh.connect() as caller:
        lines = ("Content-Length: 5", "Transfer-Encoding: chunked")
        await caller.send(head("POST", target("echo"), *lines) + b"0\r\n\r\n" + smuggled)
        assert (await caller.answer()).status_code == 400
        assert await caller.is_closed()
    assert len(records) == 1
    assert not mesh.backend.seen("/smuggled")


# The department's own system, and what it may do to the caller


async def test_a_providers_answer_cannot_split_the_response(mesh: Mesh) -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-A: b\rX-Evil: 1\r\nContent-Length: 0\r\n\r\n"
    with mesh.answering("/split", raw):
        reply = await mesh.ask("POST", "/split", content=b"x")
    assert "x-evil" not in reply.response.headers
    assert reply.status in (200, 502)


# An adapter that lies: it has the department's place on the bus, and not always its key


@dataclass(frozen=True, slots=True)
class Lie:
    """One answer of a rogue adapter."""

    says: dict[str, Any]
    """Fields of the statement that differ from an honest one's."""
    key: PrivateKey
    headers: Headers
    body: bytes
    sent_headers: Headers
    sent_body: bytes

    async def message(self, question: QueryHead, fingerprint: str) -> bytes:
        asked = read_query_statement(question.statement)
        honest = AnswerStatement(
            adapter=fingerprint,
            answered_at=asked.asked_at,
            body_digest=content_digest(question.salt, self.body),
            body_size=len(self.body),
            error="",
            headers_digest=content_digest(question.salt, header_block(self.headers)),
            id=asked.id,
            query_digest=hashlib.sha256(question.statement).hexdigest(),
            status=200,
        )
        fields = {name: getattr(honest, name) for name in honest.__struct_fields__}
        sealed = statement_bytes(AnswerStatement(**(fields | self.says)))
        seal = await Sealer(self.key, ANSWER_CONTEXT).seal(sealed)
        return pack(AnswerHead(sealed, seal, self.sent_headers), self.sent_body)


class Rogue:
    """Answers the service `rogue` from the test, as the provider on the bus."""

    def __init__(self, mesh: Mesh) -> None:
        identity = load_identity(*mesh.trial.files("provider"))
        self.fingerprint = identity.fingerprint
        self.key = identity.key
        self.uri = identity.uri
        self.questions: list[QueryHead] = []
        self.reply: Callable[[QueryHead], Awaitable[bytes | None]] = self.honest

    def lie(
        self, *, key: PrivateKey | None = None, body: bytes = b"data", headers: Headers | None = None, **says: Any
    ) -> Lie:
        headers = headers if headers is not None else [(b"content-type", b"text/plain")]
        return Lie(says, key or self.key, headers, body, headers, body)

    async def honest(self, question: QueryHead) -> bytes:
        return await self.lie().message(question, self.fingerprint)

    def tells(self, lie: Lie) -> None:
        async def reply(question: QueryHead) -> bytes:
            return await lie.message(question, self.fingerprint)

        self.reply = reply

    def sends(self, message: bytes) -> None:
        async def reply(question: QueryHead) -> bytes:
            return message

        self.reply = reply

    async def on_message(self, message: Msg) -> None:
        question, _ = unpack(QueryHead, message.data)
        self.questions.append(question)
        if (reply := await self.reply(question)) is not None:
            await message.respond(reply)


@asynccontextmanager
async def rogue_adapter(mesh: Mesh) -> AsyncIterator[Rogue]:
    rogue, client = Rogue(mesh), Client()
    tls = bus_tls(*mesh.trial.files("provider"), mesh.trial.trust_anchors)
    prefix = inbox_prefix(rogue.uri).encode()
    await client.connect(servers=[mesh.trial.nats.url], tls=tls, tls_handshake_first=True, inbox_prefix=prefix)
    try:
        await client.subscribe(service_nats_subject(service("rogue")), queue="adapters", cb=rogue.on_message)
        await client.flush()
        yield rogue
    finally:
        await client.close()


async def test_an_honest_answer_from_there_is_passed_on(mesh: Mesh) -> None:
    """The lies below fail for what is false in them, and not because of where they come from."""
    async with rogue_adapter(mesh):
        reply = await mesh.ask(to="rogue")
    assert (reply.status, reply.response.content) == (200, b"data")


async def refused(mesh: Mesh, rule: str) -> None:
    reply = await mesh.ask("POST", to="rogue", content=b"x")
    problem = mesh.problem(reply, 502, rule, source="adapter")
    assert problem["type"] == "/problems/bad-answer"
    assert reply.response.headers["x-road-error"] == "server.clientproxy.inconsistent_response"
    assert "data" not in reply.response.content.decode().replace("data", "", 1) or b"No data" in reply.response.content
    assert reply.record["outcome"] == "failed"
    assert "answer_seal" not in reply.record, "what was not proven does not stand on the record"


async def test_an_answer_under_another_key_is_refused(mesh: Mesh) -> None:
    async with rogue_adapter(mesh) as rogue:
        rogue.tells(rogue.lie(key=ec.generate_private_key(ec.SECP256R1())))
        await refused(mesh, "answer-signature")


async def test_an_answer_under_somebody_elses_certificate_is_refused(mesh: Mesh) -> None:
    """Not registered, and registered for another subsystem: either way not the owner's."""
    async with rogue_adapter(mesh) as rogue:
        other = load_identity(*mesh.trial.files("caller"))
        rogue.tells(rogue.lie(key=other.key, adapter=other.fingerprint))
        await refused(mesh, "answer-signer")
        certificate = mesh.trial.files("caller")[0].read_bytes()
        await mesh.trial.registry.register_certificate(CALLER, certificate, **WHO)
        await refused(mesh, "answer-signer")


async def test_an_answer_to_another_question_is_refused(mesh: Mesh) -> None:
    async with rogue_adapter(mesh) as rogue:
        assert (await mesh.ask(to="rogue")).status == 200
        rogue.sends(await rogue.honest(rogue.questions[0]))
        await refused(mesh, "answer-binding")
        rogue.tells(rogue.lie(id="0197f0c1-2a3b-7c4d-8e5f-0123456789ab"))
        await refused(mesh, "answer-binding")
        rogue.tells(rogue.lie(query_digest="0" * 64))
        await refused(mesh, "answer-binding")


async def test_an_answer_that_is_not_what_was_sealed_is_refused(mesh: Mesh) -> None:
    async with rogue_adapter(mesh) as rogue:
        for change in (
            {"sent_body": b"date"},
            {"sent_body": b""},
            {"sent_headers": []},
            {"sent_headers": [(b"a", b"b")]},
        ):
            rogue.tells(replace(rogue.lie(), **change))
            await refused(mesh, "answer-digest")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"nonsense", id="nonsense"),
        pytest.param(b"\xff\xff\xff\xff" + b"x" * 100, id="head-longer-than-the-message"),
        pytest.param(pack(AnswerHead(b"{}", b"", [])), id="no-statement"),
        pytest.param(pack(AnswerHead(b"\xff", b"seal", [])), id="no-json"),
        pytest.param(pack(AnswerHead(b'{"adapter":1}', b"seal", [])), id="wrong-types"),
    ],
)
async def test_an_answer_that_is_none_is_refused(mesh: Mesh, message: bytes) -> None:
    async with rogue_adapter(mesh) as rogue:
        rogue.sends(message)
        reply = await mesh.ask("POST", to="rogue", content=b"x")
    assert mesh.problem(reply, 502, reply.record["rule"], source="adapter")["type"] == "/problems/bad-answer"


async def test_an_answer_with_a_seal_of_nonsense_is_refused(mesh: Mesh) -> None:
    async with rogue_adapter(mesh) as rogue:
        for seal in (
            b"",
            b"\x01",
            b"\x02" + b"\x00" * 80,
            b"\x01\x00\x00\x00\x01\x40" + b"\x30" * 64,
            b"\x01" + b"\xff" * 500,
        ):

            async def reply(question: QueryHead, seal: bytes = seal) -> bytes:
                honest, body = unpack(AnswerHead, await rogue.honest(question))
                return pack(AnswerHead(honest.statement, seal, honest.headers), body)

            rogue.reply = reply
            await refused(mesh, "answer-signature")


@pytest.mark.parametrize("status", [0, 42, 100, 101, 199, 600, 999, -1, 1 << 40])
async def test_an_answer_with_a_status_that_is_none_is_refused(mesh: Mesh, status: int) -> None:
    """Sealed by the department itself: still nothing that could be passed on."""
    async with rogue_adapter(mesh) as rogue:
        rogue.tells(rogue.lie(status=status))
        reply = await mesh.ask("POST", to="rogue", content=b"x")
    mesh.problem(reply, 502, "answer-form", source="adapter")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([(b"x-a", b"b\r\nX-Evil: 1")], id="crlf-in-value"),
        pytest.param([(b"x-a\r\nX-Evil", b"1")], id="crlf-in-name"),
        pytest.param([(b"x-a", b"b\nX-Evil: 1")], id="line-feed-in-value"),
        pytest.param([(b"x a", b"b")], id="space-in-name"),
        pytest.param([(b"", b"b")], id="no-name"),
        pytest.param([(b"x-a", b"\x00")], id="nul-in-value"),
    ],
)
async def test_an_answer_with_headers_that_are_none_is_refused(mesh: Mesh, headers: Headers) -> None:
    async with rogue_adapter(mesh) as rogue:
        rogue.tells(rogue.lie(headers=headers))
        reply = await mesh.ask("POST", to="rogue", content=b"x")
    assert "x-evil" not in reply.response.headers
    mesh.problem(reply, 502, "answer-form", source="adapter")


@pytest.mark.parametrize(
    "name",
    ["Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "X-ROAD-ERROR", "X-Road-Request-Id", "Server"],
)
async def test_an_adapter_cannot_set_what_is_the_gateways(mesh: Mesh, name: str) -> None:
    """In whatever case: the list holds names in lower case."""
    async with rogue_adapter(mesh) as rogue:
        rogue.tells(rogue.lie(headers=[(name.encode(), b"999")]))
        reply = await mesh.ask("POST", to="rogue", content=b"x")
    assert "999" not in reply.response.headers.get_list(name)


@pytest.mark.parametrize("status", [204, 304])
async def test_a_body_where_there_is_none_does_not_confuse_the_next_answer(mesh: Mesh, status: int) -> None:
    async with rogue_adapter(mesh) as rogue, mesh.one_record(2), mesh.connect() as caller:
        rogue.tells(rogue.lie(status=status, body=b"HTTP/1.1 200 OK\r\nX-Evil: 1\r\n\r\n"))
        await caller.send(head("GET", target("rogue")) + head("GET", target("echo", "/after")))
        first, second = await caller.answer(), await caller.answer()
    assert (first.status_code, second.status_code) == (status, 200)
    assert "x-evil" not in second.headers


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("backend-failed", 502),
        ("overloaded", 503),
        ("answer-timeout", 504),
        ("access-denied", 502),
        ("<b>x</b>", 502),
        ("x" * 9000, 502),
    ],
)
async def test_an_adapter_names_an_error_and_writes_none_of_its_text(mesh: Mesh, code: str, status: int) -> None:
    async with rogue_adapter(mesh) as rogue:
        rogue.tells(rogue.lie(error=code, status=599))
        reply = await mesh.ask("POST", to="rogue", content=b"x")
    assert reply.status == status
    assert reply.response.json()["type"].startswith("/problems/")
    assert len(reply.response.content) < 2000
    assert "<b>" not in reply.response.text


@pytest.mark.parametrize(
    "inbox",
    [
        pytest.param("dt.q.x y\r\nPUB dt.q.a.b 4\r\nevil", id="nats-protocol"),
        pytest.param("dt.i." + "x" * 6000, id="longer-than-the-server-takes"),
        pytest.param(service_nats_subject(ECHO), id="a-service"),
        pytest.param("$SRV.PING", id="discovery"),
        pytest.param("dt.i.>", id="wildcard"),
        pytest.param("", id="empty"),
        pytest.param("收件箱", id="not-ascii"),
    ],
)
async def test_an_adapter_cannot_choose_where_the_gateway_publishes(mesh: Mesh, inbox: str) -> None:
    """Large answers are fetched where the answer says: that may only be an inbox of the same department."""
    async with rogue_adapter(mesh) as rogue:
        rogue.sends(pack(AnswerHead(b"x", b"x", [], 2, inbox)))
        reply = await mesh.ask("POST", to="rogue", content=b"x")
        assert mesh.problem(reply, 502, "answer-form", source="adapter")
        # A large question is sent in parts to where the first reply says.
        rogue.sends(pack(AnswerHead(b"", b"", [], 0, inbox or "x")))
        reply = await mesh.ask("POST", to="rogue", content=b"x" * (600 << 10))
        assert mesh.problem(reply, 502, "answer-form", source="adapter")
    started = time.monotonic()
    assert (await mesh.ask()).status == 200, "the gateway's link to the bus is unharmed"
    assert time.monotonic() - started < 2


async def test_an_answer_larger_than_the_service_allows_is_refused(mesh: Mesh) -> None:
    async with rogue_adapter(mesh) as rogue:
        rogue.sends(pack(AnswerHead(b"x", b"x", [], 1 << 30, "dt.i.x")))
        reply = await mesh.ask("POST", to="rogue", content=b"x")
        assert reply.status == 502
        assert reply.record["rule"] in ("answer-size", "answer-form")


async def test_an_adapter_that_is_silent_is_504_at_the_deadline(mesh: Mesh) -> None:
    async with rogue_adapter(mesh) as rogue:

        async def silent(question: QueryHead) -> None:
            return None

        rogue.reply = silent
        started = time.monotonic()
        reply = await mesh.ask("POST", to="rogue", content=b"x")
        assert time.monotonic() - started >= 1.9
    mesh.problem(reply, 504, "deadline", source="adapter")
    assert reply.record["outcome"] == "unknown"


async def test_an_adapter_sees_what_it_is_asked_and_no_more(mesh: Mesh) -> None:
    async with rogue_adapter(mesh) as rogue:
        await mesh.ask("POST", "/p?q=1", to="rogue", content=b"x", headers={"Datong-Subject": "990100199001010017"})
    (question,) = rogue.questions
    assert (question.target, question.headers[0]) == (b"/p?q=1", (b"accept", b"*/*"))
    assert b"990100199001010017" not in pack(question)
    assert not [name for name, _ in question.headers if name in (b"user-agent", b"host", b"datong-subject")]


async def test_nothing_a_hostile_crowd_sends_at_once_disturbs_an_honest_caller(mesh: Mesh) -> None:
    gate = asyncio.Event()

    async def hostile(data: bytes) -> None:
        async with mesh.connect() as caller:
            await gate.wait()
            await caller.send(data)
            assert (await caller.answer()).status_code == 400

    crowd = [asyncio.create_task(hostile(data)) for data in MALFORMED.values()]
    async with mesh.one_record(len(crowd)):
        gate.set()
        honest = [await mesh.ask("POST", f"/honest-{n}", content=b"%d" % n) for n in range(5)]
        await asyncio.gather(*crowd)
    assert [reply.response.content for reply in honest] == [b"0", b"1", b"2", b"3", b"4"]


async def test_an_answer_cannot_pretend_to_be_the_gateways_own_error(mesh: Mesh) -> None:
    with mesh.answering("/pretend", answer(503, (b"X-Road-Error", b"server.clientproxy.network_error"), body=b"{}")):
        reply = await mesh.ask("GET", "/pretend")
    assert (reply.status, reply.record["outcome"]) == (503, "answered")
    assert "x-road-error" not in reply.response.headers
