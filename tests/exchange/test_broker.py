"""The straight path: intent before the department, record before release, and no word of a department taken on trust."""

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
from cryptography.hazmat.primitives.asymmetric import ec
from nats.aio.msg import Msg

from deploy.demo.identities import CIVIL_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import (
    ANSWER_CONTEXT,
    AdapterUnavailableError,
    Answer,
    AnswerHead,
    AnswerStatement,
    AnswerTimeoutError,
    BackendError,
    BadAnswerError,
    Broker,
    BusUnavailableError,
    Headers,
    LogUnavailableError,
    MeshError,
    OverloadedError,
    PartHead,
    QueryHead,
    QuestionRefusedError,
    SealVerifier,
    ServiceId,
    content_digest,
    header_block,
    instance_nats_subjects,
    load_identity,
    pack,
    read_record,
    service_nats_subject,
    statement_bytes,
    subject_token,
    unpack,
)
from exchange.broker.broker import outcome_of
from exchange.broker.query import Query
from exchange.bus.transport import BusLostError
from exchange.messages.envelope import PART_SIZE
from exchange.signatures.seal import check_seal, seal_all
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import Carrier, carrier_on
from tests.exchange.bus_kit import department

SECRET = b"what the department would have released"
INBOX = instance_nats_subjects(TAX_SUBSYSTEM).removesuffix(">")


@pytest.fixture
async def carrier(nats_server: NatsServer, pki: Pki) -> AsyncIterator[Carrier]:
    async with carrier_on(nats_server, pki) as carrier:
        yield carrier


class Honest:
    """A department that answers as it should, unless told otherwise."""

    def __init__(self, pki: Pki, party: str = "tax") -> None:
        self.identity = load_identity(pki.certificate(party), pki.key(party))
        self.key: Any = self.identity.key
        self.context = ANSWER_CONTEXT
        self.status, self.error = 200, ""
        self.headers: Headers = [(b"content-type", b"text/plain")]
        self.body = SECRET
        self.said: dict[str, Any] = {}
        """Fields of the statement that are not as they should be."""
        self.sent: dict[str, Any] = {}
        """Fields of the message's head that are not as they should be."""
        self.sent_body: bytes | None = None
        self.questions: list[QueryHead] = []

    def answer(self, question: QueryHead) -> bytes:
        self.questions.append(question)
        error = bool(self.error)
        headers, body = ([], b"") if error else (self.headers, self.body)
        statement = statement_bytes(
            msgspec.structs.replace(
                AnswerStatement(
                    adapter=self.identity.fingerprint,
                    answered_at="2026-01-01T00:00:00.000Z",
                    body_digest=content_digest(question.salt, body),
                    body_size=len(body),
                    error=self.error,
                    headers_digest=content_digest(question.salt, header_block(headers)),
                    id=json.loads(question.statement)["id"],
                    query_digest=hashlib.sha256(question.statement).hexdigest(),
                    status=self.status,
                ),
                **self.said,
            )
        )
        seal = seal_all(self.key, self.context, [statement])[0]
        head = msgspec.structs.replace(AnswerHead(statement, seal, headers), **self.sent)
        return pack(head, body if self.sent_body is None else self.sent_body)

    async def handle(self, message: Msg) -> None:
        question, _ = unpack(QueryHead, message.data)
        await message.respond(self.answer(question))


@asynccontextmanager
async def answering(server: NatsServer, pki: Pki, honest: Honest | None = None) -> AsyncIterator[Honest]:
    honest = honest or Honest(pki)
    async with department(server, pki, honest.handle):
        yield honest


def last_record(carrier: Carrier) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(carrier.log.records[-1])
    return record


async def test_an_answer_is_recorded_with_both_statements_and_both_seals(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    async with answering(nats_server, pki) as tax:
        query = carrier.query("GET", b"/x", [(b"accept", b"*/*")])
        answer = await carrier.broker.perform(query)
    assert answer == Answer(200, [(b"content-type", b"text/plain")], SECRET)
    record = read_record(carrier.log.records[0])
    assert (record.outcome, record.status, record.code, record.rule, record.source) == ("answered", 200, "", "", "")
    assert (record.id, record.certificate_serial) == (query.statement.id, "07")
    assert bytes(record.query) == statement_bytes(query.statement)
    assert isinstance(record.answer, msgspec.Raw)
    from base64 import b64decode

    for key, context, seal, statement in (
        (carrier.identity.key, b"datong/query-seal/1\n", record.query_seal, record.query),
        (tax.identity.key, ANSWER_CONTEXT, record.answer_seal, record.answer),
    ):
        assert isinstance(seal, str)
        check_seal(key.public_key(), context, b64decode(seal), bytes(statement))
    assert SECRET not in carrier.log.records[0]
    question = tax.questions[0]
    assert (question.target, question.headers, question.parts) == (b"/x", [(b"accept", b"*/*")], 0)
    assert 0 < question.budget_ms <= 5000


class Slow:
    """A bus that takes questions, and whose department never answers."""

    connected = True

    def __init__(self) -> None:
        self.posted: list[asyncio.Future[bytes]] = []
        self.flushed: list[int] = []

    def post(self, nats_subject: str, message: bytes, timeout: float, reply: asyncio.Future[bytes]) -> None:
        self.posted.append(reply)

    def flush(self) -> None:
        self.flushed.append(len(self.posted))

    async def request(self, nats_subject: str, message: bytes, timeout: float) -> bytes:
        raise NotImplementedError


@pytest.mark.parametrize("alone", [True, False])
async def test_a_query_that_is_alone_waits_for_no_other_to_share_a_signature_with(
    carrier: Carrier, alone: bool
) -> None:
    bus = Slow()
    broker = Broker(
        bus=bus,
        log=carrier.log,
        sealing_key=carrier.identity.key,
        verifier=SealVerifier(ANSWER_CONTEXT),
        adapter_key=lambda fingerprint: None,
    )
    query = carrier.query("GET", b"/x", [])
    query.at_once = (query,) if alone else (query, object())
    performing = broker.perform(query)
    performing.send(None)  # up to where it waits, within this turn of the event loop
    assert bus.flushed == ([1] if alone else [])
    await asyncio.sleep(0)
    assert bus.flushed == [1]
    bus.posted[0].cancel()
    performing.close()


async def test_what_may_change_something_is_carried_only_after_its_intent(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    tax = Honest(pki)

    async def note(message: Msg) -> None:
        carrier.log.happened.append("asked")
        await tax.handle(message)

    async with department(nats_server, pki, note):
        await carrier.perform("POST", body=b"x")
        await carrier.perform("GET")
    assert carrier.log.happened == ["intent", "asked", "answered", "asked", "answered"]


class BrokenLog:
    """A log that holds nothing, from some moment on."""

    def __init__(self, carrier: Carrier, *, intents: bool, records: bool) -> None:
        self.notes, self.intents, self.records = carrier.log, intents, records

    def append(self, record: bytes, **facts: Any) -> asyncio.Future[int]:
        return self.notes.append(record, **facts) if self.records else _refused()

    def intend(self, exchange_id: str, **facts: Any) -> asyncio.Future[None]:
        return self.notes.intend(exchange_id, **facts) if self.intents else _refused()


def _refused() -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(LogUnavailableError())
    return future


async def test_without_a_durable_intent_nothing_is_carried(nats_server: NatsServer, pki: Pki, carrier: Carrier) -> None:
    carrier.broker._log = BrokenLog(carrier, intents=False, records=True)
    async with answering(nats_server, pki) as tax:
        with pytest.raises(LogUnavailableError):
            await carrier.perform("POST", body=b"x")
        assert tax.questions == []
    assert carrier.log.happened == ["refused record-before-release"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_a_durable_record_nothing_is_released(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, method: str
) -> None:
    carrier.broker._log = BrokenLog(carrier, intents=True, records=False)
    async with answering(nats_server, pki):
        with pytest.raises(LogUnavailableError) as raised:
            await carrier.perform(method)
    # Of what may have been done, nobody is told to try it again.
    assert (raised.value.retry_after is None) == (method == "POST")
    assert SECRET.decode() not in str(raised.value)


Tell = Callable[[Honest, Pki], None]


def tell(**values: Any) -> Tell:
    def change(tax: Honest, _: Pki) -> None:
        for name, value in values.items():
            setattr(tax, name, value)

    return change


def as_civil(tax: Honest, pki: Pki) -> None:
    """The civil-affairs bureau's seal, which is as good as any, under the tax bureau's answer."""
    tax.identity = load_identity(pki.certificate("civil"), pki.key("civil"))
    tax.key = tax.identity.key


LIES: dict[str, tuple[Tell, str]] = {
    "under another key": (tell(key=ec.generate_private_key(ec.SECP256R1())), "answer-signature"),
    "under another department's certificate": (as_civil, "answer-signer"),
    "under a certificate nobody knows": (tell(said={"adapter": "ab" * 32}), "answer-signer"),
    "sealed as a question": (tell(context=b"datong/query-seal/1\n"), "answer-signature"),
    "with a seal of nonsense": (tell(sent={"seal": b"\x01"}), "answer-signature"),
    "without a seal": (tell(sent={"seal": b""}), "answer-signature"),
    "with a statement of nonsense": (tell(sent={"statement": b"{}"}), "answer-signature"),
    "without a statement": (tell(sent={"statement": b""}), "answer-signature"),
    "to another exchange": (tell(said={"id": "0193aaaa-bbbb-7ccc-8ddd-ffffffffffff"}), "answer-binding"),
    "to other bytes": (tell(said={"query_digest": "00" * 32}), "answer-binding"),
    "with another body": (tell(sent_body=b"other"), "answer-digest"),
    "with no body": (tell(sent_body=b""), "answer-digest"),
    "with other headers": (tell(sent={"headers": [(b"x", b"y")]}), "answer-digest"),
    "with no headers": (tell(sent={"headers": []}), "answer-digest"),
    "with a line break in a header": (tell(headers=[(b"x", b"1\r\nset-cookie: a=b")]), "answer-form"),
    "with a name that slips through filters": (tell(headers=[(b"Content-Length", b"1")]), "answer-form"),
    "with a status that is none": (tell(status=99), "answer-form"),
    "with a protocol change": (tell(status=101), "answer-form"),
    "with a status beyond all": (tell(status=600), "answer-form"),
    "with a body where none can be": (tell(status=204), "answer-form"),
    "with parts at another department": (
        tell(sent={"parts": 1, "inbox": f"dt.i.{subject_token(CIVIL_SUBSYSTEM)}.x"}),
        "answer-inbox",
    ),
    "with parts at a service": (
        tell(sent={"parts": 1, "inbox": service_nats_subject(ServiceId(f"{CIVIL_SUBSYSTEM}/residents"))}),
        "answer-inbox",
    ),
    "with parts everywhere": (tell(sent={"parts": 1, "inbox": f"{INBOX}>"}), "answer-inbox"),
    "with commands to the bus": (
        tell(sent={"parts": 1, "inbox": f"{INBOX}x r 0\r\n\r\nPUB $SRV.PING 0\r\n\r\nPUB {INBOX}x"}),
        "answer-inbox",
    ),
    "with a subject that ends the connection": (tell(sent={"parts": 1, "inbox": INBOX + "x" * 5000}), "answer-inbox"),
    "with parts in another alphabet": (tell(sent={"parts": 1, "inbox": f"{INBOX}税"}), "answer-inbox"),
    "with parts nowhere": (tell(sent={"parts": 1, "inbox": ""}), "answer-inbox"),
    "with fewer parts than none": (tell(sent={"parts": -2, "inbox": f"{INBOX}x"}), "answer-size"),
    "as if it were an opening": (tell(sent={"parts": -1, "inbox": f"{INBOX}x"}), "answer-signature"),
    "with more parts than allowed": (tell(sent={"parts": 2**40, "inbox": f"{INBOX}x"}), "answer-size"),
    "with parts nobody gives": (tell(sent={"parts": 1, "inbox": f"{INBOX}nobody"}), "answer-complete"),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_that_lies_is_not_released(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, lie: str, method: str
) -> None:
    change, rule = LIES[lie]
    tax = Honest(pki)
    change(tax, pki)
    async with answering(nats_server, pki, tax):
        with pytest.raises(BadAnswerError) as raised:
            await carrier.perform(method)
        assert raised.value.rule == rule
        record = last_record(carrier)
        # What was done before a lie, nobody knows.
        assert record["outcome"] == ("failed" if method == "GET" else "unknown")
        assert (record["rule"], record["status"], "answer" in record) == (rule, 502, False)
        assert len(carrier.log.records) == 1
        # And the bus serves the next one.
        tax.__init__(pki)  # type: ignore[misc]
        assert (await carrier.perform()).body == SECRET


@pytest.mark.parametrize("message", [b"", b"\0", b"\xff" * 9, b"\0\0\0\4\x91\x91\x91\x91", b"text"])
async def test_a_reply_that_is_no_answer_is_not_released(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, message: bytes
) -> None:
    async def nonsense(asked: Msg) -> None:
        await asked.respond(message)

    async with department(nats_server, pki, nonsense):
        with pytest.raises(BadAnswerError) as raised:
            await carrier.perform()
    assert raised.value.rule == "answer-form"


@pytest.mark.parametrize(
    ("code", "kind", "rule"),
    [
        ("backend-failed", BackendError, "backend-answers"),
        ("answer-timeout", AnswerTimeoutError, "deadline"),
        ("overloaded", OverloadedError, "concurrency-limit"),
        ("log-unavailable", LogUnavailableError, "record-before-release"),
        ("question-refused", QuestionRefusedError, "adapter-accepts"),
        ("payload-too-large", BadAnswerError, "answer-size"),  # not the caller's body, and not a 413
        ("access-denied", BackendError, "backend-answers"),
        ("<script>", BackendError, "backend-answers"),
    ],
)
async def test_a_department_says_which_error_and_never_with_which_words(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, code: str, kind: type[MeshError], rule: str
) -> None:
    async with answering(nats_server, pki) as tax:
        tax.error, tax.status = code, 418
        with pytest.raises(kind) as raised:
            await carrier.perform()
    assert (type(raised.value), raised.value.rule) == (kind, rule)
    assert "?" not in str(raised.value).replace("?q", "")  # every fact of its text is there
    record = last_record(carrier)
    assert (record["code"], record["status"]) == (kind.code, kind.status)
    assert json.loads(json.dumps(record["answer"]))["error"] == code  # the sealed word of the department is kept
    assert record["outcome"] == ("unknown" if kind is AnswerTimeoutError else "failed")


async def test_a_large_inline_answer_is_measured_too(nats_server: NatsServer, pki: Pki, carrier: Carrier) -> None:
    async with answering(nats_server, pki):
        with pytest.raises(BadAnswerError) as raised:
            await carrier.perform(max_answer=len(SECRET) - 1)
        assert raised.value.rule == "answer-size"
        assert (await carrier.perform(max_answer=len(SECRET))).body == SECRET


async def test_parts_larger_than_promised_are_not_released(nats_server: NatsServer, pki: Pki, carrier: Carrier) -> None:
    """A part may be as large as a message; the sum counts."""
    body = bytes(3 * PART_SIZE)
    tax = Honest(pki)
    tax.body, tax.sent_body, tax.sent = body, b"", {"parts": 1, "inbox": f"{INBOX}one"}

    async def give(asked: Msg) -> None:
        unpack(PartHead, asked.data)
        await asked.respond(body)

    async with answering(nats_server, pki, tax), department(nats_server, pki, give, f"{INBOX}one"):
        with pytest.raises(BadAnswerError) as raised:
            await carrier.perform(max_answer=PART_SIZE)
        assert raised.value.rule == "answer-size"


async def test_the_body_of_a_question_goes_to_nobody_but_the_owner(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    """An adapter that took the head names another department as the place for the body."""
    for inbox in (f"dt.i.{subject_token(CIVIL_SUBSYSTEM)}.x", "dt.q.x.y", "_INBOX.x", f"{INBOX}x y", f"{INBOX}*"):

        async def elsewhere(asked: Msg, inbox: str = inbox) -> None:
            await asked.respond(pack(AnswerHead(b"", b"", [], inbox=inbox)))

        async with department(nats_server, pki, elsewhere):
            with pytest.raises(BadAnswerError) as raised:
                await carrier.perform("POST", body=bytes(600_000))
            assert raised.value.rule == "answer-inbox"


async def test_an_adapter_that_dies_between_the_parts_of_a_question_has_not_acted(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    async def take_the_head(asked: Msg) -> None:
        await asked.respond(pack(AnswerHead(b"", b"", [], inbox=f"{INBOX}gone")))

    async with department(nats_server, pki, take_the_head):
        with pytest.raises(AdapterUnavailableError):
            await carrier.perform("POST", body=bytes(600_000))
    assert last_record(carrier)["outcome"] == "failed"


async def test_an_absent_department_is_known_at_once(carrier: Carrier) -> None:
    began = time.perf_counter()
    with pytest.raises(AdapterUnavailableError, match="No adapter of"):
        await carrier.perform("POST", timeout=60)
    assert time.perf_counter() - began < 5
    assert carrier.log.happened == ["intent", "failed adapter-connected"]


async def test_a_silent_department_leaves_the_outcome_unknown(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    async def say_nothing(asked: Msg) -> None: ...

    async with department(nats_server, pki, say_nothing):
        with pytest.raises(AnswerTimeoutError):
            await carrier.perform("POST", timeout=0.05)
    assert carrier.log.happened == ["intent", "unknown deadline"]


@pytest.mark.faults
async def test_a_bus_lost_in_the_middle_leaves_the_outcome_unknown_and_one_lost_before_does_not(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    asked = asyncio.Event()

    async def note(message: Msg) -> None:
        asked.set()

    async with department(nats_server, pki, note):
        performed = asyncio.create_task(carrier.perform("POST", timeout=60))
        await asyncio.wait_for(asked.wait(), 5)
        nats_server.kill()
        with pytest.raises(BusLostError):
            await performed
        with pytest.raises(BusUnavailableError):
            await carrier.perform("POST", timeout=60)
    assert carrier.log.happened == ["intent", "unknown bus-kept", "intent", "failed bus-connected"]


async def test_a_fault_of_ours_is_recorded_and_told_as_nothing_but_a_fault(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    class Faulty:
        connected = True

        def post(self, nats_subject: str, message: bytes, timeout: float, reply: asyncio.Future[bytes]) -> None:
            raise RuntimeError("canary: a bug")

        async def request(self, nats_subject: str, message: bytes, timeout: float) -> bytes:
            raise NotImplementedError

    carrier.broker._bus = Faulty()
    for method, outcome in (("GET", "failed"), ("POST", "unknown")):
        with pytest.raises(MeshError) as raised:
            await carrier.perform(method)
        assert type(raised.value) is MeshError
        assert "canary" not in str(raised.value)
        assert last_record(carrier)["outcome"] == outcome
        assert b"canary" not in carrier.log.records[-1]


async def test_many_at_once_each_get_their_own_answer_and_record(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    tax = Honest(pki)

    async def own(message: Msg) -> None:
        question, _ = unpack(QueryHead, message.data)
        tax.body = question.target
        await message.respond(tax.answer(question))

    async with department(nats_server, pki, own):
        queries: list[Query] = [carrier.query(target=b"/%d" % number, timeout=30) for number in range(300)]
        answers = await asyncio.gather(*[carrier.broker.perform(query) for query in queries])
    assert [answer.body for answer in answers] == [query.target for query in queries]
    assert sorted(read_record(each).id for each in carrier.log.records) == sorted(q.statement.id for q in queries)


@pytest.mark.parametrize(
    ("error", "carried", "safe", "outcome"),
    [
        (None, True, True, "answered"),
        (BackendError(), False, False, "refused"),
        (BackendError(), True, False, "failed"),
        (AnswerTimeoutError(), True, True, "unknown"),
        (BusLostError(), True, True, "unknown"),
        (BusUnavailableError(), True, False, "failed"),
        (BadAnswerError(problem="x"), True, True, "failed"),
        (BadAnswerError(problem="x"), True, False, "unknown"),
        (MeshError(), True, False, "unknown"),
    ],
)
def test_the_outcome_says_what_can_be_known(error: MeshError | None, carried: bool, safe: bool, outcome: str) -> None:
    assert outcome_of(error, carried=carried, safe=safe) == outcome


PERSON = '{"name":"张三丰","id_number":"450102199001011234"}'.encode()
WITHIN = '{"name":"张**"}'.encode()
TELLS: dict[str, Any] = {"masked": ("name",), "withheld": ("id_number",)}
TOLD: Headers = [(b"datong-masked", b"name"), (b"datong-withheld", b"id_number")]


async def test_an_answer_within_the_release_terms_passes(nats_server: NatsServer, pki: Pki, carrier: Carrier) -> None:
    tax = Honest(pki)
    tax.body, tax.headers, tax.said = WITHIN, TOLD, TELLS
    async with answering(nats_server, pki, tax):
        answer = await carrier.perform(release=("name=name",))
    assert answer == Answer(200, TOLD, WITHIN)
    assert last_record(carrier)["query"]["release"] == ["name=name"]
    assert last_record(carrier)["answer"]["withheld"] == ["id_number"]


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        pytest.param(PERSON, [], {}, id="everything"),
        pytest.param(PERSON, TOLD, TELLS, id="everything-and-says-otherwise"),
        pytest.param('{"name":"张三丰"}'.encode(), TOLD, TELLS, id="not-masked"),
        pytest.param('{"name":"张三丰","name":"张**"}'.encode(), TOLD, TELLS, id="twice"),
        pytest.param('{"name":"张**"} '.encode(), TOLD, TELLS, id="another-form"),
        pytest.param(b"<p>450102199001011234", TOLD, TELLS, id="not-json"),
        pytest.param(b"\x1f\x8b\x08", [*TOLD, (b"content-encoding", b"gzip")], TELLS, id="encoded"),
        pytest.param(WITHIN, [*TOLD, (b"etag", b'"1"')], TELLS, id="word-of-the-whole"),
        pytest.param(WITHIN, [], TELLS, id="not-told"),
        pytest.param(WITHIN, TOLD, {}, id="not-vouched-for"),
        pytest.param(b'{"detail":{"name":"x"}}', TOLD, {"status": 500, **TELLS}, id="problem"),
    ],
)
async def test_an_adapter_that_ignores_the_release_terms_is_not_believed(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, body: bytes, headers: Headers, said: dict[str, Any]
) -> None:
    tax = Honest(pki)
    tax.body, tax.headers, tax.said = body, headers, said
    async with answering(nats_server, pki, tax):
        for method, outcome in (("GET", "failed"), ("POST", "unknown")):
            with pytest.raises(BadAnswerError) as refused:
                await carrier.perform(method, release=("name=name",))
            assert refused.value.rule == "release-terms"
            record = last_record(carrier)
            assert (record["outcome"], record["rule"], record["status"]) == (outcome, "release-terms", 502)
            assert record["answer"]["adapter"] == tax.identity.fingerprint, (
                "the department did say it, and that is shown"
            )
            assert b"450102199001011234" not in carrier.log.records[-1]


async def test_without_release_terms_no_body_is_looked_into(
    nats_server: NatsServer, pki: Pki, carrier: Carrier
) -> None:
    tax = Honest(pki)
    tax.body, tax.headers = b'{"a":1,"a":2} ', [(b"etag", b'"1"')]
    async with answering(nats_server, pki, tax):
        assert (await carrier.perform()).body == tax.body
    assert "release" not in last_record(carrier)["query"]
