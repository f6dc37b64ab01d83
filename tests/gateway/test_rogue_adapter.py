"""Adapters that lie: they have a department's place on the bus, and not always its key."""

from __future__ import annotations

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
    bus_tls,
    content_digest,
    header_block,
    inbox_prefix,
    load_identity,
    pack,
    read_query_statement,
    seal_all,
    service_nats_subject,
    statement_bytes,
    subject_token,
    unpack,
)
from tests.gateway.conftest import WHO
from tests.gateway.exchange_mesh import Mesh, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = b"what the department would have released"


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
        seal = seal_all(self.key, ANSWER_CONTEXT, [sealed])[0]
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
        self, *, key: PrivateKey | None = None, body: bytes = SECRET, headers: Headers | None = None, **says: Any
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
        await client.flush()  # nats-py writes the first ping ahead of the subscription
        yield rogue
    finally:
        await client.close()


async def test_an_honest_answer_from_there_is_passed_on(mesh: Mesh) -> None:
    """The lies below fail for what is false in them, and not because of where they come from."""
    async with rogue_adapter(mesh):
        reply = await mesh.ask(to="rogue")
    assert (reply.status, reply.response.content) == (200, SECRET)


async def refused(mesh: Mesh, rule: str) -> None:
    """Ask, and check that the answer was not believed."""
    reply = await mesh.ask("POST", to="rogue", content=b"x")
    problem = mesh.problem(reply, 502, rule, source="adapter")
    assert problem["type"] == "/problems/bad-answer"
    assert reply.response.headers["x-road-error"] == "server.clientproxy.inconsistent_response"
    assert SECRET.decode() not in reply.response.text
    assert reply.record["outcome"] == "unknown", "it was an unsafe operation: what the department did is not proven"
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
        honest = rogue.lie()
        for lie in (
            replace(honest, sent_body=b"date"),
            replace(honest, sent_body=b""),
            replace(honest, sent_headers=[]),
            replace(honest, sent_headers=[*honest.headers, (b"x-more", b"1")]),
        ):
            rogue.tells(lie)
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


@pytest.mark.parametrize("status", [0, 42, 100, 101, 199, 600, 999, 1 << 40])
async def test_an_answer_with_a_status_that_is_none_is_refused(mesh: Mesh, status: int) -> None:
    """Sealed by the department itself: still nothing that could be passed on."""
    async with rogue_adapter(mesh) as rogue:
        rogue.tells(rogue.lie(status=status))
        await refused(mesh, "answer-form")


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


@pytest.mark.parametrize("name", [b"content-length", b"transfer-encoding", b"connection", b"x-road-error", b"server"])
async def test_an_adapter_cannot_set_what_is_the_gateways(mesh: Mesh, name: bytes) -> None:
    async with rogue_adapter(mesh) as rogue:
        rogue.tells(rogue.lie(headers=[(name, b"999")]))
        reply = await mesh.ask("POST", to="rogue", content=b"x")
        assert "999" not in reply.response.headers.get_list(name.decode())
        # The list above is in lower case, so a name that is not must not come as far as that.
        rogue.tells(rogue.lie(headers=[(name.title(), b"999")]))
        await refused(mesh, "answer-form")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_body_where_there_can_be_none_is_refused(mesh: Mesh, status: int) -> None:
    """Passed on, it would be read as the next answer on the connection."""
    async with rogue_adapter(mesh) as rogue:
        rogue.tells(rogue.lie(status=status, body=b"HTTP/1.1 200 OK\r\nX-Evil: 1\r\n\r\n"))
        await refused(mesh, "answer-form")


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
        pytest.param("dt.i.x y\r\nPUB dt.q.a.b 4\r\nevil", id="nats-protocol"),
        pytest.param("dt.i." + "x" * 6000, id="longer-than-the-server-takes"),
        pytest.param(service_nats_subject(ECHO), id="a-service"),
        pytest.param(f"dt.i.{subject_token(CALLER)}.instance", id="another-department"),
        pytest.param(f"dt.i.{subject_token(PROVIDER)}.>", id="wildcard"),
        pytest.param(f"dt.i.{subject_token(PROVIDER)}.a\n", id="line-feed-at-the-end"),
        pytest.param("$SRV.PING", id="discovery"),
        pytest.param("", id="empty"),
        pytest.param("收件箱", id="not-ascii"),
    ],
)
async def test_an_adapter_cannot_choose_where_the_gateway_publishes(mesh: Mesh, inbox: str) -> None:
    """Parts of large bodies travel to where the adapter says: that may only be an inbox of the same department."""
    async with rogue_adapter(mesh) as rogue:
        rogue.sends(pack(AnswerHead(b"x", b"x", [], 2, inbox)))
        await refused(mesh, "answer-inbox")
        if inbox:
            rogue.sends(pack(AnswerHead(b"", b"", [], 0, inbox)))
            reply = await mesh.ask("POST", to="rogue", content=b"x" * (600 << 10))
            mesh.problem(reply, 502, "answer-inbox", source="adapter")
    assert (await mesh.ask()).status == 200, "the gateway's link to the bus is unharmed"


@pytest.mark.parametrize("parts", [1 << 30, -2, 5])
async def test_an_answer_larger_than_the_service_allows_is_refused_before_it_is_fetched(mesh: Mesh, parts: int) -> None:
    async with rogue_adapter(mesh) as rogue:
        rogue.sends(pack(AnswerHead(b"x", b"x", [], parts, f"dt.i.{subject_token(PROVIDER)}.instance")))
        await refused(mesh, "answer-size")


async def test_an_adapter_that_goes_away_before_its_answer_is_fetched_is_not_called_absent(mesh: Mesh) -> None:
    """The department has acted: `no adapter` would invite the caller to try again."""
    async with rogue_adapter(mesh) as rogue:
        rogue.sends(pack(AnswerHead(b"x", b"x", [], 2, f"dt.i.{subject_token(PROVIDER)}.gone")))
        await refused(mesh, "answer-complete")


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
