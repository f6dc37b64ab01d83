"""An adapter at work: which questions count, how many at once, what it says, what it keeps to itself."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import nats.errors
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from department_adapters import SourceAnswer, SourceRequest
from department_adapters.answers import MAX_HEAD
from department_adapters.questions import CLOCK_SKEW, LONGEST_TIMEOUT, QuestionDesk, RefusedQuestionError
from deploy.demo.identities import TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import (
    QUERY_CONTEXT,
    AccessDeniedError,
    AnswerTimeoutError,
    BackendError,
    OverloadedError,
    QueryHead,
    Rfc3339,
    SealVerifier,
    ServiceId,
    discovery_nats_subject,
    read_ledger,
    service_nats_subject,
)
from exchange.signatures.seal import seal_all
from tests.conftest import Pki, bus_users
from tests.department_adapters.adapter_kit import (
    ENTERPRISES,
    FullDisk,
    FunctionSource,
    Gateway,
    Question,
    adapter_on,
    bus_client,
    echo,
    fails,
    gateway_on,
    says,
    until,
)

CANARY = "口令 canary-7f3a password=hunter2 440106199001010017"


class Gate:
    """A source whose questions wait until they are let through."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.opened = asyncio.Event()
        self.source = FunctionSource(self._answer)

    async def _answer(self, request: SourceRequest) -> SourceAnswer:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.opened.wait()
        finally:
            self.inside -= 1
        return SourceAnswer(200, [], request.target)


def kinds(folder: Path) -> list[str]:
    return [line.kind for line in read_ledger(folder)]


async def test_a_question_is_answered_under_the_departments_seal(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path
) -> None:
    source = echo()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger) as runner:
        question = await gateway.question("GET", b"/enterprises/91?a=%20", [(b"accept", b"*/*")])
        said = await gateway.send(question)
        assert (said.statement.status, said.statement.error) == (200, "")
        assert said.body == b"GET /enterprises/91?a=%20"
        assert said.head.headers == [(b"content-type", b"text/plain")]
        assert said.statement.adapter == pki.issued["tax"].fingerprint
        counts = runner.counts()[ENTERPRISES]
        assert (counts.received, counts.answered, counts.errors, counts.refused) == (1, 1, 0, 0)
    asked = source.asked[0]
    assert (asked.exchange_id, asked.headers, asked.body) == (question.statement.id, [(b"accept", b"*/*")], b"")
    assert 0 < asked.timeout <= 5
    assert (source.started, source.stopped) == (1, 1)
    line = next(read_ledger(ledger_folder))
    assert (line.kind, bytes(line.query)) == ("answer", question.head.statement)


# -- which questions count


Change = Callable[[Gateway, Question], Any]


def replaced(question: Question, **changes: Any) -> Question:
    return Question(question.statement, msgspec.structs.replace(question.head, **changes), question.body)


async def forged(gateway: Gateway, question: Question) -> Question:
    """Signed by somebody else who claims to be the gateway."""
    seal = seal_all(ec.generate_private_key(ec.SECP256R1()), QUERY_CONTEXT, [question.head.statement])[0]
    return replaced(question, seal=seal)


async def of_another_statement(gateway: Gateway, question: Question) -> Question:
    return replaced(question, seal=(await gateway.question()).head.seal)


async def with_an_answers_context(gateway: Gateway, question: Question) -> Question:
    """A seal the gateway's key made, but for an answer: must never pass for a question's."""
    seal = seal_all(gateway.identity.key, b"datong/answer-seal/1\n", [question.head.statement])[0]
    return replaced(question, seal=seal)


REFUSED: dict[str, Change] = {
    "sealed by another key": forged,
    "sealed for another statement": of_another_statement,
    "sealed as an answer": with_an_answers_context,
    "with no seal": lambda _, question: replaced(question, seal=b""),
    "with a seal of nonsense": lambda _, question: replaced(question, seal=b"\x01" + bytes(70)),
    "with another body": lambda _, question: Question(question.statement, question.head, b"other"),
    "with a longer body": lambda _, question: Question(question.statement, question.head, question.body + b"x"),
    "with another target": lambda _, question: replaced(question, target=b"/y"),
    "with another header": lambda _, question: replaced(question, headers=[(b"x", b"2")]),
    "with one more header": lambda _, question: replaced(question, headers=[(b"x", b"1"), (b"y", b"1")]),
    "with another salt": lambda _, question: replaced(question, salt=bytes(16)),
    "for another service": lambda gateway, _: gateway.question(service=f"{TAX_SUBSYSTEM}/other"),
    "for a service of another department": lambda gateway, _: gateway.question(service="CN/GOV/1/civil/enterprises"),
    "of an unknown gateway": lambda gateway, _: gateway.question(gateway="ab" * 32),
    "whose time is over": lambda gateway, _: gateway.question(timeout=-CLOCK_SKEW / 1000 - 1),
    "whose deadline is next week": lambda gateway, _: gateway.question(timeout=7 * 86400),
    "whose deadline is no instant": lambda gateway, _: gateway.question(deadline="tomorrow"),
    "whose deadline has no offset": lambda gateway, _: gateway.question(deadline="2099-01-01T00:00:00"),
    "with a size that is not the body's": lambda gateway, _: gateway.question(request_size=5),
}


@pytest.mark.parametrize("how", REFUSED)
async def test_a_question_that_does_not_count_reaches_no_source(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path, how: str
) -> None:
    source = echo()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger) as runner:
        good = await gateway.question("POST", b"/x", [(b"x", b"1")], b"body")
        bad = REFUSED[how](gateway, good)
        bad = await bad if asyncio.iscoroutine(bad) else bad
        said = await gateway.send(bad)
        assert (said.statement.error, said.statement.status, said.body) == ("question-refused", 502, b"")
        assert source.asked == []
        counts = runner.counts()[ENTERPRISES]
        assert (counts.refused, counts.answered, counts.last_error) == (1, 0, "question-refused")
        # And the good one still counts: nothing of the bad one was taken for it.
        assert (await gateway.send(good)).statement.error == ""
    assert kinds(ledger_folder) == ["intent", "answer"]


async def test_another_departments_key_does_not_make_a_gateway(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    """The civil-affairs bureau's certificate is as good as any, and it is no gateway's."""
    source = echo()
    civil = Gateway(pki, gateway.client, "civil")
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        assert (await civil.ask()).statement.error == "question-refused"
        assert source.asked == []


async def test_a_question_counts_once(nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk) -> None:
    source = echo()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        question = await gateway.question("POST", body=b"pay")
        assert (await gateway.send(question)).statement.error == ""
        for again in (question, replaced(question, budget_ms=60_000), question):
            assert (await gateway.send(again)).statement.error == "question-refused"
        assert len(source.asked) == 1


async def test_copies_that_arrive_together_count_once(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    source = echo()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        question = await gateway.question("POST", body=b"pay")
        said = await asyncio.gather(*[gateway.send(question) for _ in range(20)])
        assert sorted(each.statement.error for each in said) == [""] + 19 * ["question-refused"]
        assert len(source.asked) == 1


def test_exchanges_are_remembered_as_long_as_a_copy_would_count(pki: Pki) -> None:
    """And no longer: what a gateway asked in an hour does not fill the memory."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = 1_800_000_000_000
    desk = QuestionDesk({"g": key.public_key()}, 1 << 20, lambda: now)
    text = Rfc3339()
    asked: list[tuple[Any, QueryHead, int]] = []
    from tests.department_adapters.adapter_kit import make_statement

    for minute in range(120):
        now += 60_000
        for timeout in (1_000, LONGEST_TIMEOUT):
            statement, salt = make_statement("g", "GET", b"/", [], b"", safe=True, timeout=1)
            statement = msgspec.structs.replace(statement, id=f"{minute}-{timeout}", deadline=text(now + timeout))
            data = msgspec.json.encode(statement)
            head = QueryHead(data, seal_all(key, QUERY_CONTEXT, [data])[0], salt, b"/", [], 1000)
            assert desk.check(ENTERPRISES, statement, head, b"") > 0
            asked.append((statement, head, now + timeout))
        for earlier, head, deadline in asked[-20:]:
            with pytest.raises(RefusedQuestionError) as refusal:
                desk.check(ENTERPRISES, earlier, head, b"")
            assert ("was asked before" in str(refusal.value)) == (deadline + CLOCK_SKEW > now)
    assert sum(map(len, desk._asked.values())) < 20


@pytest.mark.parametrize("message", [b"", b"\0\0\0\5hello", b"\xff" * 40, os.urandom(300)])
async def test_what_is_no_question_gets_no_answer(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, message: bytes
) -> None:
    source = echo()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger) as runner:
        with pytest.raises(nats.errors.TimeoutError):
            await gateway.client.request(service_nats_subject(ENTERPRISES), message, timeout=0.2)
        await until(lambda: runner.counts()[ENTERPRISES].refused == 1)
        assert (await gateway.ask()).body == b"GET /x"


async def test_a_statement_that_is_not_canonical_gets_no_answer(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    """Its bytes would stand in the ledger, where they must have one reading."""
    source = echo()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        question = await gateway.question()
        loose = question.head.statement.replace(b'","', b'", "', 1)
        seal = seal_all(gateway.identity.key, QUERY_CONTEXT, [loose])[0]
        with pytest.raises(nats.errors.TimeoutError):
            await gateway.send(replaced(question, statement=loose, seal=seal), wait=0.2)
        assert source.asked == []


async def test_a_question_nobody_waits_for_is_not_lost_in_an_error(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    async with adapter_on(nats_server, pki, {"enterprises": echo()}, ledger):
        with structlog.testing.capture_logs() as told:
            await gateway.client.publish(service_nats_subject(ENTERPRISES), (await gateway.question()).message)
            await until(lambda: any(each["event"] == "adapter.no_answer" for each in told))
        assert (await gateway.ask()).body == b"GET /x"


# -- how many at once


async def test_slow_questions_run_side_by_side(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    """Fifty that each wait for all fifty: one at a time, none would ever be answered."""
    everybody = asyncio.Barrier(50)

    async def together(request: SourceRequest) -> SourceAnswer:
        await everybody.wait()
        return SourceAnswer(200, [], b"")

    async with adapter_on(nats_server, pki, {"enterprises": FunctionSource(together)}, ledger):
        said = await asyncio.gather(*[gateway.ask() for _ in range(50)])
        assert {each.statement.status for each in said} == {200}


async def test_no_more_than_the_limit_reach_the_source_and_no_more_than_the_queue_wait(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path
) -> None:
    gate = Gate()
    async with adapter_on(nats_server, pki, {"enterprises": gate.source}, ledger, concurrency=4, queue=6) as runner:
        counts = runner.counts()[ENTERPRISES]
        accepted = [asyncio.create_task(gateway.ask()) for _ in range(10)]
        await until(lambda: counts.in_progress == 10)
        assert gate.inside == 4
        for _ in range(3):
            said = await gateway.ask("POST", body=b"x")
            assert (said.statement.error, said.statement.status) == (OverloadedError.code, 503)
        gate.opened.set()
        assert {each.statement.status for each in await asyncio.gather(*accepted)} == {200}
        assert gate.most == 4
        assert (counts.received, counts.answered, counts.errors, counts.in_progress) == (13, 13, 3, 0)
    assert kinds(ledger_folder) == ["answer"] * 13  # the overflow was no intent: nothing was going to be done


async def test_each_service_has_turns_of_its_own(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    await nats_server.set_users(bus_users({TAX_SUBSYSTEM: ("enterprises", "arrears")}))
    gate = Gate()
    arrears = ServiceId(f"{TAX_SUBSYSTEM}/arrears")
    async with adapter_on(
        nats_server, pki, {"enterprises": gate.source, "arrears": echo()}, ledger, concurrency=1, queue=1
    ) as runner:
        slow = [asyncio.create_task(gateway.ask())]
        await until(lambda: gate.inside == 1)
        slow.append(asyncio.create_task(gateway.ask()))
        await until(lambda: runner.counts()[ENTERPRISES].in_progress == 2)
        assert (await gateway.ask()).statement.error == OverloadedError.code
        said = await gateway.send(await gateway.question(service=arrears), service=arrears)
        assert said.body == b"GET /x"
        gate.opened.set()
        assert [each.statement.status for each in await asyncio.gather(*slow)] == [200, 200]


async def test_what_waited_too_long_is_not_begun(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path
) -> None:
    gate = Gate()
    async with adapter_on(nats_server, pki, {"enterprises": gate.source}, ledger, concurrency=1) as runner:
        first = asyncio.create_task(gateway.ask())
        await until(lambda: gate.inside == 1)
        said = await gateway.ask("POST", body=b"pay", timeout=0.1)
        assert said.statement.error == AnswerTimeoutError.code
        assert runner.counts()[ENTERPRISES].in_progress == 1  # its place in the queue is free again
        gate.opened.set()
        await first
        assert [request.method for request in gate.source.asked] == ["GET"]
    assert "intent" not in kinds(ledger_folder)


async def test_a_source_is_ended_at_the_deadline(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    gate = Gate()
    async with adapter_on(nats_server, pki, {"enterprises": gate.source}, ledger):
        began = time.perf_counter()
        said = await gateway.ask(timeout=0.1)
        assert 0.09 < time.perf_counter() - began < 3
        assert (said.statement.error, said.statement.status) == (AnswerTimeoutError.code, 504)
        assert gate.inside == 0


@pytest.mark.parametrize("budget_ms", [0, -5, -(2**60)])
async def test_a_question_without_time_is_not_begun(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, budget_ms: int
) -> None:
    source = echo()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        said = await gateway.send(replaced(await gateway.question(), budget_ms=budget_ms))
        assert said.statement.error == AnswerTimeoutError.code
        assert source.asked == []


async def test_the_budget_is_not_sealed_and_the_deadline_bounds_it(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    source = echo()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        await gateway.send(replaced(await gateway.question(), budget_ms=10**15))
        assert source.asked[0].timeout <= 5 + CLOCK_SKEW / 1000


# -- what it says, and what it keeps to itself


@pytest.mark.parametrize(
    ("error", "method", "code"),
    [
        (RuntimeError(CANARY), "GET", "backend-failed"),
        (RuntimeError(CANARY), "POST", "answer-timeout"),  # whether it acted, nobody knows
        (KeyError(CANARY), "GET", "backend-failed"),
        (TimeoutError(CANARY), "GET", "answer-timeout"),
        (BackendError(canary=CANARY), "POST", "backend-failed"),
        (AccessDeniedError(problem=CANARY), "GET", "access-denied"),
        (RecursionError(CANARY), "GET", "backend-failed"),
        (UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY), "GET", "backend-failed"),
    ],
)
async def test_no_text_of_an_error_leaves_the_department(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, error: Exception, method: str, code: str
) -> None:
    """Everything the gateway's side of the bus can hear is searched, statistics too."""
    heard: list[bytes] = []

    async def listen(message: Any) -> None:
        heard.append(repr(message.headers).encode() + message.data)

    async with adapter_on(nats_server, pki, {"enterprises": fails(error)}, ledger) as runner:
        inbox = gateway.client.new_inbox()
        await gateway.client.subscribe(f"{inbox}.*", cb=listen)
        question = await gateway.question(method)
        await gateway.client.publish(service_nats_subject(ENTERPRISES), question.message, reply=f"{inbox}.0")
        await until(lambda: len(heard) == 1)
        said = gateway.check(question, heard[0].removeprefix(b"None"))
        assert (said.statement.error, said.statement.status) == (code, said.statement.status)
        assert said.body == b""
        for verb in ("PING", "INFO", "STATS"):
            await gateway.client.publish(f"$SRV.{verb}", reply=f"{inbox}.{verb}")
        await until(lambda: len(heard) == 4)
        for each in heard:
            for piece in CANARY.split():
                assert piece.encode() not in each
        assert runner.counts()[ENTERPRISES].last_error == code
        assert runner.counts()[ENTERPRISES].errors == 1


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 70000])
async def test_a_status_that_is_none_is_a_failure_of_the_source(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, status: int
) -> None:
    async with adapter_on(nats_server, pki, {"enterprises": says(status)}, ledger):
        assert (await gateway.ask()).statement.error == BackendError.code


async def test_headers_of_the_connection_and_of_the_mesh_stay_behind(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    source = says(
        headers=[
            (b"Content-Type", b"text/plain"),
            (b"connection", b"close, X-Hop"),
            (b"x-hop", b"1"),
            (b"keep-alive", b"5"),
            (b"Transfer-Encoding", b"chunked"),
            (b"content-length", b"3"),
            (b"X-Road-Request-Id", b"forged"),
            (b"datong-receipt", b"forged"),
            (b"server", b"Tomcat/4"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"etag", b'"x"'),
        ]
    )
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        assert (await gateway.ask()).head.headers == [
            (b"content-type", b"text/plain"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"etag", b'"x"'),
        ]


async def test_headers_that_fill_a_message_are_a_failure_of_the_source(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    """With a body beside them the message would be more than the bus takes, and would never arrive."""
    source = says(headers=[(b"x", bytes(MAX_HEAD))], body=bytes(500_000))
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        assert (await gateway.ask()).statement.error == BackendError.code


async def test_the_most_headers_beside_the_largest_inline_body_arrive(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    source = says(headers=[(b"x", b"y" * (MAX_HEAD - 1))], body=bytes(512 << 10))
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        assert len((await gateway.ask()).body) == 512 << 10


async def test_an_answer_that_is_too_large_is_not_released(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    async with adapter_on(nats_server, pki, {"enterprises": says(body=bytes(1001))}, ledger, max_answer=1000):
        said = await gateway.ask()
        assert (said.statement.error, said.body) == ("payload-too-large", b"")


# -- the ledger


async def test_an_unsafe_question_is_on_disk_before_the_source_is_asked(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path
) -> None:
    """Seen from inside the source, in the file, while the question is being answered."""
    seen: list[list[str]] = []
    synced: list[int] = []

    async def look(request: SourceRequest) -> SourceAnswer:
        seen.append(kinds(ledger_folder))
        synced.append(len(ledger._to_sync))
        return SourceAnswer(201, [], b"")

    async with adapter_on(nats_server, pki, {"enterprises": FunctionSource(look)}, ledger):
        question = await gateway.question("POST", body=b"x")
        assert (await gateway.send(question)).statement.status == 201
        await gateway.ask("GET")
    assert seen == [["intent"], ["intent", "answer"]]
    assert synced == [0, 0]
    intent = next(read_ledger(ledger_folder))
    assert bytes(intent.query) == question.head.statement


async def test_whether_an_operation_is_safe_is_the_gateways_word_not_the_methods(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path
) -> None:
    source = echo()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        await gateway.ask("GET", safe=False)
        await gateway.ask("POST", safe=True)
    assert kinds(ledger_folder) == ["intent", "answer", "answer"]
    assert [(request.method, request.safe) for request in source.asked] == [("GET", False), ("POST", True)]


@pytest.mark.faults
async def test_what_the_ledger_cannot_hold_is_not_done_and_not_released(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path
) -> None:
    source = says(body=CANARY.encode())
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger) as runner:
        ledger.full = True
        said = await gateway.ask("POST", body=b"x")
        assert (said.statement.error, said.statement.status, said.body) == ("log-unavailable", 503, b"")
        assert source.asked == []  # an unsafe one does not even begin
        said = await gateway.ask("GET")
        assert (said.statement.error, said.body, said.head.headers) == ("log-unavailable", b"", [])
        assert len(source.asked) == 1  # this one was asked, and its answer stays here
        ledger.full = False
        assert (await gateway.ask("POST", body=b"x")).body == CANARY.encode()
        assert runner.counts()[ENTERPRISES].in_progress == 0
    assert kinds(ledger_folder) == ["intent", "answer"]


@pytest.mark.faults
async def test_an_answer_whose_line_cannot_be_written_is_not_released_after_an_intent(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path
) -> None:
    async def fill_the_disk(request: SourceRequest) -> SourceAnswer:
        ledger.full = True
        return SourceAnswer(201, [], CANARY.encode())

    async with adapter_on(nats_server, pki, {"enterprises": FunctionSource(fill_the_disk)}, ledger):
        said = await gateway.ask("POST", body=b"x")
        # Not "try again": it was done.
        assert (said.statement.error, said.body) == ("answer-timeout", b"")
        ledger.full = False
    assert kinds(ledger_folder) == ["intent"]


async def test_the_ledgers_lines_prove_question_and_answer(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, ledger_folder: Path
) -> None:
    from base64 import b64decode

    async with adapter_on(nats_server, pki, {"enterprises": echo()}, ledger):
        said = await gateway.ask("POST", body=b"x")
    intent, answer = read_ledger(ledger_folder)
    assert (intent.kind, answer.kind) == ("intent", "answer")
    assert isinstance(answer.answer, msgspec.Raw)
    assert isinstance(answer.answer_seal, str)
    assert bytes(answer.answer) == said.head.statement
    assert b64decode(answer.answer_seal) == said.head.seal
    assert said.statement.query_digest == hashlib.sha256(bytes(answer.query)).hexdigest()
    SealVerifier(QUERY_CONTEXT).check(
        gateway.identity.fingerprint,
        gateway.identity.key.public_key(),
        b64decode(answer.query_seal),
        bytes(answer.query),
    )


# -- discovery


async def test_discovery_answers_as_the_standard_says_and_counts_what_happened(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

    async def slow(request: SourceRequest) -> SourceAnswer:
        await asyncio.sleep(0.02)  # what is counted as time at work
        if request.method == "PUT":
            raise BackendError
        return SourceAnswer(200, [], b"")

    async with adapter_on(nats_server, pki, {"enterprises": FunctionSource(slow)}, ledger) as runner:
        await asyncio.gather(*[gateway.ask() for _ in range(8)])
        await gateway.ask("PUT")
        await gateway.ask(service="CN/GOV/1/other/x")

        async def discover(verb: str) -> dict[str, Any]:
            answer: dict[str, Any] = msgspec.json.decode((await gateway.client.request(f"$SRV.{verb}", b"")).data)
            return answer

        ping = ServicePing.from_dict(await discover("PING"))
        assert (ping.name, ping.id, ping.version) == ("tax", runner.instance, "1.2.3")
        certificate = pki.issued["tax"].fingerprint
        assert ping.metadata.pop("connected")[:10] in (
            str(datetime.now(UTC) - timedelta(minutes=1))[:10],
            str(datetime.now(UTC))[:10],
        )
        assert ping.metadata == {"subsystem": TAX_SUBSYSTEM, "certificate": certificate}
        info = ServiceInfo.from_dict(await discover("INFO.tax"))
        assert info.description == "测试"
        endpoint = info.endpoints[0]
        assert (endpoint.name, endpoint.queue_group) == ("enterprises", "adapters")
        assert (endpoint.subject, endpoint.metadata) == (service_nats_subject(ENTERPRISES), {"service": ENTERPRISES})
        answer = await discover(f"STATS.tax.{runner.instance}")
        assert answer["type"] == "io.nats.micro.v1.stats_response"
        stats = ServiceStats.from_dict(answer).endpoints[0]
        assert (stats.num_requests, stats.num_errors, stats.last_error) == (10, 2, "question-refused")
        assert stats.data is not None
        assert {"answered": 9, "errors": 1, "refused": 1, "in_progress": 0}.items() <= stats.data.items()
        assert stats.processing_time >= 9 * 20_000_000
        assert stats.average_processing_time == stats.processing_time // 9
        assert stats.data["listening"] is True
        assert 20 <= stats.data["p50_ms"] <= stats.data["p95_ms"]
        # The same where only this subsystem's certificate may listen, and so answer.
        own = await gateway.client.request(discovery_nats_subject(TAX_SUBSYSTEM, "STATS"), b"")
        assert ServiceStats.from_dict(msgspec.json.decode(own.data)).id == runner.instance


async def test_a_service_with_a_name_that_discovery_does_not_take_is_served(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    service = ServiceId(f"{TAX_SUBSYSTEM}/v1.2+(test)")
    await nats_server.set_users(bus_users({TAX_SUBSYSTEM: ("v1.2+(test)",)}))
    async with adapter_on(nats_server, pki, {"v1.2+(test)": echo()}, ledger):
        said = await gateway.send(await gateway.question(service=service), service=service)
        assert said.body == b"GET /x"
        info = msgspec.json.decode((await gateway.client.request("$SRV.INFO", b"")).data)
        assert info["endpoints"][0]["name"] == "v1_2__test_"
        assert info["endpoints"][0]["metadata"] == {"service": service}


# -- coming and going


async def test_stopping_finishes_what_was_taken_and_takes_no_more(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    gate = Gate()
    async with adapter_on(nats_server, pki, {"enterprises": gate.source}, ledger) as runner:
        waiting = [asyncio.create_task(gateway.ask()) for _ in range(20)]
        await until(lambda: gate.inside == 20)
        stopping = asyncio.create_task(runner.stop())

        async def nobody_listens() -> bool:
            try:
                await gateway.client.request(service_nats_subject(ENTERPRISES), b"", timeout=0.05)
            except nats.errors.NoRespondersError:
                return True
            except nats.errors.TimeoutError:
                return False
            return False

        async with asyncio.timeout(10):
            while not await nobody_listens():
                await asyncio.sleep(0.01)
        assert not stopping.done()
        gate.opened.set()
        assert {each.statement.status for each in await asyncio.gather(*waiting)} == {200}
        await stopping


async def test_nothing_that_the_bus_handed_over_is_lost_when_an_adapter_leaves(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    """Two instances, one leaves in the middle: every question is answered by one of them."""
    async with bus_client(nats_server, pki, "tax", TAX_SUBSYSTEM):
        pass
    async with adapter_on(nats_server, pki, {"enterprises": echo()}, ledger):
        leaving = adapter_on(nats_server, pki, {"enterprises": echo()}, ledger)
        runner = await leaving.__aenter__()
        asked = [asyncio.create_task(gateway.ask()) for _ in range(500)]
        await until(lambda: runner.counts()[ENTERPRISES].received > 20)
        await leaving.__aexit__(None, None, None)
        said = await asyncio.gather(*asked)
        assert {each.statement.status for each in said} == {200}


async def test_a_source_that_never_ends_does_not_hold_up_the_end(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    gate = Gate()
    async with adapter_on(nats_server, pki, {"enterprises": gate.source}, ledger, grace=0.1):
        asked = asyncio.create_task(gateway.ask(timeout=60))
        await until(lambda: gate.inside == 1)
    assert gate.inside == 0
    assert gate.source.stopped == 1
    asked.cancel()


@pytest.mark.faults
async def test_an_adapter_stops_while_the_bus_is_down(nats_server: NatsServer, pki: Pki, ledger: FullDisk) -> None:
    source = echo()
    async with asyncio.timeout(5):
        async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
            nats_server.kill()
    assert source.stopped == 1


@pytest.mark.faults
async def test_an_adapter_is_back_by_itself_when_the_bus_is(
    nats_server: NatsServer, pki: Pki, ledger: FullDisk
) -> None:
    async with adapter_on(nats_server, pki, {"enterprises": echo()}, ledger):
        nats_server.kill()
        await nats_server.start(bus_users())
        async with gateway_on(nats_server, pki) as gateway, asyncio.timeout(10):
            while True:
                try:
                    assert (await gateway.ask()).body == b"GET /x"
                    return
                except nats.errors.NoRespondersError:
                    await asyncio.sleep(0.02)
