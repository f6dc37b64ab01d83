"""Answers that come piece by piece: nobody has the whole of one without a record, and each ends in one record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from deploy.demo.identities import TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import (
    ABANDON,
    ANSWER_CONTEXT,
    CLOSING,
    OPENING_CONTEXT,
    PART_SIZE,
    PRESENT,
    STREAMED,
    Answer,
    AnswerBrokenError,
    AnswerHead,
    AnswerStatement,
    BackendError,
    BadAnswerError,
    CallerGoneError,
    Headers,
    LogUnavailableError,
    MeshError,
    OpeningStatement,
    PartHead,
    QueryHead,
    content_digest,
    header_block,
    instance_nats_subjects,
    load_identity,
    pack,
    read_query_statement,
    seal_all,
    statement_bytes,
    unpack,
)
from exchange.bus.streams import HELD_BACK
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import Carrier, carrier_on, until
from tests.exchange.bus_kit import department

INBOX = instance_nats_subjects(TAX_SUBSYSTEM).removesuffix(">") + "instance"
PARTS = [bytes([number]) * PART_SIZE for number in range(5)] + [b"the end"]
BODY = b"".join(PARTS)


@pytest.fixture
async def carrier(nats_server: NatsServer, pki: Pki) -> AsyncIterator[Carrier]:
    async with carrier_on(nats_server, pki) as carrier:
        carrier.broker._stall = 5.0
        yield carrier


class Streaming:
    """A department that streams `parts`, honestly unless told otherwise."""

    def __init__(self, pki: Pki) -> None:
        identity = load_identity(pki.certificate("tax"), pki.key("tax"))
        self.fingerprint, self.key = identity.fingerprint, identity.key
        self.parts = PARTS
        self.headers: Headers = [(b"content-type", b"text/plain")]
        self.sent_headers: Headers | None = None
        self.opening: dict[str, Any] = {"body_size": len(BODY)}
        """Fields of the opening that are not as they should be."""
        self.closing: dict[str, Any] = {}
        self.closing_message: bytes | None = None
        self.contexts = [OPENING_CONTEXT, ANSWER_CONTEXT]
        self.keys = [self.key, self.key]
        self.silent_from = 1 << 30
        """From this part on nothing is said."""
        self.asked: list[int] = []
        self.questions: dict[str, QueryHead] = {}
        self.present = True

    def open(self, message: bytes) -> bytes:
        question, _ = unpack(QueryHead, message)
        assert question.streams
        number = read_query_statement(question.statement).id
        self.questions[number] = question
        statement = OpeningStatement(
            adapter=self.fingerprint,
            headers_digest=content_digest(question.salt, header_block(self.headers)),
            id=number,
            opened_at="2026-01-01T00:00:00.000Z",
            query_digest=hashlib.sha256(question.statement).hexdigest(),
            status=200,
        )
        sealed = statement_bytes(msgspec.structs.replace(statement, **self.opening))
        seal = seal_all(self.keys[0], self.contexts[0], [sealed])[0]
        headers = self.headers if self.sent_headers is None else self.sent_headers
        return pack(AnswerHead(sealed, seal, headers, STREAMED, INBOX))

    def close(self, number: str) -> bytes:
        question = self.questions[number]
        body = b"".join(self.parts)
        statement = AnswerStatement(
            adapter=self.fingerprint,
            answered_at="2026-01-01T00:00:00.000Z",
            body_digest=content_digest(question.salt, body),
            body_size=len(body),
            error="",
            headers_digest=content_digest(question.salt, header_block(self.headers)),
            id=number,
            query_digest=hashlib.sha256(question.statement).hexdigest(),
            status=200,
        )
        sealed = statement_bytes(msgspec.structs.replace(statement, **self.closing))
        return pack(AnswerHead(sealed, seal_all(self.keys[1], self.contexts[1], [sealed])[0], []))

    def give(self, message: bytes) -> bytes | None:
        head, _ = unpack(PartHead, message)
        assert head.fetch
        self.asked.append(head.number)
        if head.number == CLOSING:
            return self.close(head.exchange_id) if self.closing_message is None else self.closing_message
        if head.number in (ABANDON, PRESENT):
            return b"" if self.present else None
        if head.number >= self.silent_from:
            return None
        return self.parts[head.number] if head.number < len(self.parts) else b""


@asynccontextmanager
async def streaming(server: NatsServer, pki: Pki, streams: Streaming | None = None) -> AsyncIterator[Streaming]:
    streams = streams or Streaming(pki)

    async def answer(message: Msg) -> None:
        await message.respond(streams.open(message.data))

    async def part(message: Msg) -> None:
        if (reply := streams.give(message.data)) is not None:
            await message.respond(reply)

    async with department(server, pki, answer) as client:
        subscription = await client.subscribe(INBOX, cb=part)
        await client.flush()
        await client.flush()  # nats-py writes the first ping ahead of the subscription
        yield streams
        await subscription.unsubscribe()


async def poured(carrier: Carrier, answer: Answer) -> list[bytes]:
    """All pieces of an answer, in order."""
    pieces: list[bytes] = []

    async def take(piece: bytes) -> None:
        carrier.log.happened.append("piece")
        pieces.append(piece)

    assert answer.stream is not None
    await answer.stream.pour(take)
    return pieces


def record_of(carrier: Carrier) -> dict[str, Any]:
    (record,) = carrier.log.records
    found: dict[str, Any] = json.loads(record)
    return found


@pytest.mark.parametrize("size", [len(BODY), None], ids=["announced", "unannounced"])
async def test_the_last_pieces_are_released_when_the_answer_is_on_the_record(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, size: int | None
) -> None:
    tax = Streaming(pki)
    if size is None:
        del tax.opening["body_size"]
    async with streaming(nats_server, pki, tax):
        answer = await carrier.broker.perform(carrier.query("GET"))
        assert carrier.log.happened == ["intent"], "before the first piece, its intent is durable"
        assert answer.stream is not None
        assert (answer.status, answer.headers, answer.stream.size) == (200, tax.headers, size)
        assert b"".join(await poured(carrier, answer)) == BODY
    assert carrier.log.happened == ["intent", *["piece"] * 4, "answered", *["piece"] * 2]
    record = record_of(carrier)
    assert (record["status"], record["answer"]["body_size"]) == (200, len(BODY))
    assert "passed_on" not in record
    assert ABANDON not in tax.asked


async def test_who_does_not_take_is_not_sent_more_than_a_few_parts(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    tax = Streaming(pki)
    tax.parts = [bytes(1000)] * 60
    tax.opening = {}
    async with streaming(nats_server, pki, tax):
        answer = await carrier.broker.perform(carrier.query("GET"))
        taking, go_on = asyncio.Event(), asyncio.Event()

        async def take(piece: bytes) -> None:
            taking.set()
            await go_on.wait()

        assert answer.stream is not None
        pouring = asyncio.create_task(answer.stream.pour(take))
        await taking.wait()
        for _ in range(50):
            await carrier.broker._bus.request(INBOX, pack(PartHead("x", PRESENT, True)), 5)
        assert max(tax.asked) <= HELD_BACK + 8 + 1
        go_on.set()
        await pouring
    assert record_of(carrier)["outcome"] == "answered"


def opening(**changed: Any) -> Callable[[Streaming, Pki], None]:
    return lambda tax, _: tax.opening.update(changed)


def closing(**changed: Any) -> Callable[[Streaming, Pki], None]:
    return lambda tax, _: tax.closing.update(changed)


def put(name: str, value: Any) -> Callable[[Streaming, Pki], None]:
    return lambda tax, _: setattr(tax, name, value)


def key(place: int) -> Callable[[Streaming, Pki], None]:
    def change(tax: Streaming, pki: Pki) -> None:
        tax.keys[place] = load_identity(pki.certificate("civil"), pki.key("civil")).key

    return change


def foreign(place: str) -> Callable[[Streaming, Pki], None]:
    def change(tax: Streaming, pki: Pki) -> None:
        civil = load_identity(pki.certificate("civil"), pki.key("civil"))
        tax.keys[place == "closing"] = civil.key
        getattr(tax, place)["adapter"] = civil.fingerprint

    return change


OTHER = "0197f0c1-2a3b-7c4d-8e5f-0123456789ab"
OPENING_LIES = {
    "sealed as an answer": (put("contexts", [ANSWER_CONTEXT, ANSWER_CONTEXT]), "answer-signature"),
    "under another key": (key(0), "answer-signature"),
    "under a certificate of another department": (foreign("opening"), "answer-signer"),
    "of another exchange": (opening(id=OTHER), "answer-binding"),
    "to another question": (opening(query_digest="0" * 64), "answer-binding"),
    "with other headers": (put("sent_headers", [(b"x-evil", b"1")]), "answer-digest"),
    "with headers that are none": (put("headers", [(b"x-a", b"b\r\nX-Evil: 1")]), "answer-form"),
    "with a status that has no body": (opening(status=204), "answer-form"),
    "with a status that is none": (opening(status=99), "answer-form"),
    "larger than the service allows": (opening(body_size=(64 << 20) + 1), "answer-size"),
}
CLOSING_LIES = {
    "sealed as an opening": (put("contexts", [OPENING_CONTEXT, OPENING_CONTEXT]), "answer-signature"),
    "under another key": (key(1), "answer-signature"),
    "under a certificate of another department": (foreign("closing"), "answer-signer"),
    "of another exchange": (closing(id=OTHER), "answer-binding"),
    "to another question": (closing(query_digest="0" * 64), "answer-binding"),
    "on another body": (closing(body_digest="0" * 64), "answer-digest"),
    "on a shorter body": (closing(body_size=len(BODY) - 1), "answer-digest"),
    "with another status than the opening": (closing(status=201), "answer-opening"),
    "with other headers than the opening": (closing(headers_digest="0" * 64), "answer-opening"),
    "of a body shorter than announced": (opening(body_size=len(BODY) + 1), "answer-opening"),
    "of a body longer than announced": (opening(body_size=len(BODY) - 1), "answer-opening"),
    "with a part that is too large": (put("parts", [*PARTS[:4], bytes(PART_SIZE + 1)]), "answer-form"),
    "that is nonsense": (put("closing_message", b"\xff" * 40), "answer-form"),
    "that is empty": (put("closing_message", pack(AnswerHead(b"", b"", []))), "answer-signature"),
}


@pytest.mark.parametrize("lie", OPENING_LIES)
async def test_nothing_is_passed_on_after_an_opening_that_lies(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, lie: str
) -> None:
    change, rule = OPENING_LIES[lie]
    tax = Streaming(pki)
    change(tax, pki)
    async with streaming(nats_server, pki, tax):
        for method in ("GET", "POST"):
            with pytest.raises(BadAnswerError) as raised:
                await carrier.perform(method)
            assert raised.value.rule == rule
    records = [json.loads(record) for record in carrier.log.records]
    assert [(each["outcome"], each["status"]) for each in records] == [("failed", 502), ("unknown", 502)]
    assert "piece" not in carrier.log.happened


@pytest.mark.parametrize("lie", CLOSING_LIES)
async def test_an_answer_whose_end_is_a_lie_is_never_whole(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, lie: str
) -> None:
    change, rule = CLOSING_LIES[lie]
    tax = Streaming(pki)
    change(tax, pki)
    # Under the department's seal, and of this answer: then it stands on the record, and there is nothing left to abandon.
    own_word = rule == "answer-opening" and "longer" not in lie
    async with streaming(nats_server, pki, tax):
        for method, outcome in (("GET", "failed"), ("POST", "unknown")):
            carrier.log.happened.clear()
            with pytest.raises(BadAnswerError) as raised:
                await carrier.perform(method)
            assert raised.value.rule == rule
            record = json.loads(carrier.log.records[-1])
            pieces = carrier.log.happened.count("piece")
            assert 0 < pieces <= len(PARTS) - HELD_BACK
            assert (record["outcome"], record["status"]) == (outcome, 200)
            assert record["passed_on"] == pieces * PART_SIZE
            assert ("answer" in record) == own_word
        if not own_word:
            await until(lambda: tax.asked.count(ABANDON) == 2)
    assert len(carrier.log.records) == 2
    assert own_word == (ABANDON not in tax.asked)


async def test_more_than_the_service_allows_is_not_passed_on(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    tax = Streaming(pki)
    tax.opening = {}
    async with streaming(nats_server, pki, tax):
        with pytest.raises(BadAnswerError) as raised:
            await carrier.perform(max_answer=len(BODY) - 1)
    assert raised.value.rule == "answer-size"
    assert record_of(carrier)["outcome"] == "failed"


async def test_under_release_terms_and_to_head_no_stream_is_taken(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    class Heedless(Streaming):
        def open(self, message: bytes) -> bytes:
            head, body = unpack(QueryHead, message)
            return super().open(pack(msgspec.structs.replace(head, streams=True), body))

    async with streaming(nats_server, pki, Heedless(pki)):
        for options, rule in (({"release": ("a",)}, "release-terms"), ({"method": "HEAD"}, "answer-form")):
            with pytest.raises(BadAnswerError) as raised:
                await carrier.perform(**options)  # type: ignore[arg-type]
            assert raised.value.rule == rule
    assert carrier.log.happened == ["failed release-terms", "failed answer-form"]


async def test_an_answer_that_its_department_breaks_off_is_told_under_its_seal(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    tax = Streaming(pki)
    tax.parts = PARTS[:4]
    tax.closing = {"error": "backend-failed", "status": 502, "headers_digest": "0" * 64}
    async with streaming(nats_server, pki, tax):
        with pytest.raises(BackendError):
            await carrier.perform()
    record = record_of(carrier)
    assert (record["outcome"], record["code"], record["status"]) == ("failed", "backend-failed", 200)
    assert record["answer"]["body_size"] == 4 * PART_SIZE, "what left the department, in its own words"
    assert record["passed_on"] == 2 * PART_SIZE


@pytest.mark.parametrize("present", [True, False])
async def test_a_department_that_falls_silent_or_goes_away_is_noticed(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, monkeypatch: pytest.MonkeyPatch, present: bool
) -> None:
    monkeypatch.setattr("exchange.bus.streams._LATE_SECONDS", 0.1)
    carrier.broker._stall = 0.4 if present else 30.0
    tax = Streaming(pki)
    tax.silent_from = 3
    async with streaming(nats_server, pki, tax):
        answer = await carrier.broker.perform(carrier.query("GET"))
        pouring = asyncio.create_task(poured(carrier, answer))
        await until(lambda: "piece" in carrier.log.happened)
        if present:
            with pytest.raises(AnswerBrokenError) as raised:
                await pouring
    if not present:  # it left the bus
        with pytest.raises(AnswerBrokenError) as raised:
            await pouring
    assert raised.value.rule == ("answer-flows" if present else "answer-complete")
    record = record_of(carrier)
    assert (record["outcome"], record["code"], record["passed_on"]) == ("failed", "answer-broken", PART_SIZE)


@pytest.mark.parametrize(("method", "outcome"), [("GET", "failed"), ("POST", "unknown")])
async def test_a_caller_that_leaves_ends_the_stream(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, method: str, outcome: str
) -> None:
    async with streaming(nats_server, pki) as tax:
        answer = await carrier.broker.perform(carrier.query(method))

        async def leave(piece: bytes) -> None:
            raise CallerGoneError

        assert answer.stream is not None
        with pytest.raises(CallerGoneError):
            await answer.stream.pour(leave)
        await until(lambda: ABANDON in tax.asked)
    record = record_of(carrier)
    assert (record["outcome"], record["code"], record["status"]) == (outcome, "caller-gone", 0)


@pytest.mark.parametrize(("name", "rule"), [("stopped", "gateway-stays"), ("faulty", "internal")])
async def test_a_gateway_that_is_stopped_or_faulty_leaves_one_record(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, name: str, rule: str
) -> None:
    async with streaming(nats_server, pki):
        answer = await carrier.broker.perform(carrier.query("GET"))
        taking = asyncio.Event()

        async def take(piece: bytes) -> None:
            taking.set()
            if name == "faulty":
                raise RuntimeError("a fault of ours")
            await asyncio.Event().wait()

        assert answer.stream is not None
        pouring = asyncio.create_task(answer.stream.pour(take))
        await taking.wait()
        if name == "stopped":
            pouring.cancel()
        with pytest.raises(MeshError):
            await pouring
    record = record_of(carrier)
    assert (record["outcome"], record["rule"]) == ("failed", rule)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_a_durable_record_the_last_pieces_stay_here(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, method: str
) -> None:
    notes = carrier.log
    deadlines: list[int] = []

    class Broken:
        def append(self, record: bytes, **facts: Any) -> asyncio.Future[int]:
            return _refused()

        def intend(self, exchange_id: str, **facts: Any) -> asyncio.Future[None]:
            deadlines.append(facts["deadline_ms"])
            return notes.intend(exchange_id, **facts)

        prolong = notes.prolong

    carrier.broker._log = Broken()
    async with streaming(nats_server, pki):
        with pytest.raises(LogUnavailableError) as raised:
            await carrier.perform(method)
    assert notes.happened.count("piece") == len(PARTS) - HELD_BACK
    assert raised.value.retry_after is None or method == "GET"
    # What is left is an intent whose time is soon over: it is settled then, not when the longest stream would have ended.
    assert 0 < deadlines[0] - time.time_ns() // 1_000_000 <= carrier.query(method).timeout * 1000


async def test_without_a_durable_intent_no_piece_is_asked_for(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    notes = carrier.log

    class Broken:
        append, prolong = notes.append, notes.prolong

        def intend(self, exchange_id: str, **facts: Any) -> asyncio.Future[None]:
            return _refused()

    carrier.broker._log = Broken()
    async with streaming(nats_server, pki) as tax:
        with pytest.raises(LogUnavailableError):
            await carrier.perform()
        await until(lambda: tax.asked == [ABANDON])
    assert record_of(carrier)["outcome"] == "failed"


def _refused() -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(LogUnavailableError())
    return future


async def test_more_streams_than_fit_wait_for_their_turn(nats_server: NatsServer, pki: Pki, carrier: Carrier) -> None:
    carrier.broker._streams = asyncio.Semaphore(1)
    async with streaming(nats_server, pki):
        one = await carrier.broker.perform(carrier.query("GET"))
        go_on = asyncio.Event()

        async def take(piece: bytes) -> None:
            await go_on.wait()

        assert one.stream is not None
        pouring = asyncio.create_task(one.stream.pour(take))
        await until(lambda: carrier.broker._streams.locked())
        two = asyncio.create_task(carrier.perform())
        go_on.set()
        await pouring
        assert (await two).body == BODY
    assert [json.loads(record)["outcome"] for record in carrier.log.records] == ["answered", "answered"]
