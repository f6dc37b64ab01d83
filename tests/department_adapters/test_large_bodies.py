"""Bodies larger than a message of the bus: in parts, both ways, whole or not at all."""

from __future__ import annotations

import asyncio
import os

import nats.errors
import pytest

from department_adapters import SourceAnswer, SourceRequest
from department_adapters.parts import PartStore
from deploy.nats import NatsServer
from exchange import (
    PART_SIZE,
    AnswerHead,
    AnswerTimeoutError,
    BadAnswerError,
    PartHead,
    QueryHead,
    Spool,
    pack,
    part_count,
    service_nats_subject,
    unpack,
)
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import (
    ENTERPRISES,
    Carrier,
    FullDisk,
    FunctionSource,
    Gateway,
    Question,
    adapter_on,
    echo,
    says,
    until,
)


async def _mirror(request: SourceRequest) -> SourceAnswer:
    return SourceAnswer(200, [], request.body)


def mirror() -> FunctionSource:
    """Answers with the body it was asked with."""
    return FunctionSource(_mirror)


async def begin(gateway: Gateway, question: Question) -> str:
    """Announce a large body; returns where its parts are to go."""
    message = await gateway.client.request(service_nats_subject(ENTERPRISES), question.message, timeout=5)
    head, _ = unpack(AnswerHead, message.data)
    assert not head.statement
    return head.inbox


def part(question: Question, number: int, body: bytes) -> bytes:
    data = body[number * PART_SIZE : (number + 1) * PART_SIZE]
    return pack(PartHead(question.statement.id, number, False), data)


@pytest.mark.parametrize("size", [(512 << 10), (512 << 10) + 1, 3 * PART_SIZE, 3 * PART_SIZE + 1, 13_000_000], ids=str)
async def test_a_body_of_any_size_arrives_whole_both_ways(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk, size: int
) -> None:
    body = os.urandom(size)
    source = mirror()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger, max_whole=13_000_000) as runner:
        answer = await carrier.perform("POST", body=body, timeout=30)
        assert answer.body == body
        assert source.asked[0].body == body
        assert not runner._parts._uploads
    assert [each for each in carrier.log.happened if each != "piece"] == ["intent", "answered"]


async def test_many_large_bodies_at_once_are_not_mixed_up(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    bodies = [os.urandom(700_000 + 1000 * number) for number in range(12)]
    async with adapter_on(nats_server, pki, {"enterprises": mirror()}, ledger):
        answers = await asyncio.gather(*[carrier.perform("POST", body=body, timeout=30) for body in bodies])
        assert [answer.body for answer in answers] == bodies


async def test_two_instances_serve_large_bodies_side_by_side(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    """All parts of a body go to the instance that took its head."""
    bodies = [os.urandom(800_000) for _ in range(12)]
    one, two = mirror(), mirror()
    async with (
        adapter_on(nats_server, pki, {"enterprises": one}, ledger),
        adapter_on(nats_server, pki, {"enterprises": two}, ledger),
    ):
        answers = await asyncio.gather(*[carrier.perform("POST", body=body, timeout=30) for body in bodies])
        assert [answer.body for answer in answers] == bodies
    assert one.asked
    assert two.asked


async def test_parts_may_come_in_any_order_and_twice(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    body = os.urandom(4 * PART_SIZE + 9)
    source = mirror()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger, max_answer=64 << 20):
        question = await gateway.question("POST", body=body, parts=5)
        inbox = await begin(gateway, question)
        for number in (3, 0, 3, 4, 1):
            assert (await gateway.client.request(inbox, part(question, number, body), timeout=5)).data == b""
        said = gateway.check(question, (await gateway.client.request(inbox, part(question, 2, body), timeout=5)).data)
        assert said.statement.error == ""
        assert source.asked[0].body == body
        with pytest.raises(nats.errors.TimeoutError):  # it is taken; nothing waits for parts any more
            await gateway.client.request(inbox, part(question, 2, body), timeout=0.1)
        assert len(source.asked) == 1


async def test_a_body_with_a_lost_part_is_never_asked_and_its_place_is_free_again(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    body = os.urandom(3 * PART_SIZE)
    source = mirror()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger) as runner:
        question = await gateway.question("POST", body=body, parts=3, timeout=0.3)
        inbox = await begin(gateway, question)
        assert len(runner._parts._uploads) == 1
        for number in (0, 2):
            await gateway.client.request(inbox, part(question, number, body), timeout=5)
        await until(lambda: not runner._parts._uploads)
        assert runner._parts._spool.promised == 0
        with pytest.raises(nats.errors.TimeoutError):
            await gateway.client.request(inbox, part(question, 1, body), timeout=0.1)
        assert source.asked == []


@pytest.mark.parametrize("lie", ["changed", "short", "empty", "shifted"])
async def test_parts_that_are_not_what_was_sealed_reach_no_source(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, lie: str
) -> None:
    body = os.urandom(2 * PART_SIZE + 100)
    sent = {"changed": body[:-1] + b"x", "short": body[:-1], "empty": b"", "shifted": body}[lie]
    source = mirror()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        question = await gateway.question("POST", body=body, parts=3)
        inbox = await begin(gateway, question)
        parts = [part(question, number, sent) for number in range(3)]
        if (
            lie == "shifted"
        ):  # the same bytes in the same order: hashed they are right, and on disk they would have a gap
            ends = [0, PART_SIZE - 9, 2 * PART_SIZE - 9, len(body)]
            for number in range(3):
                piece = body[ends[number] : ends[number + 1]]
                parts[number] = pack(PartHead(question.statement.id, number, False), piece)
        for number in (0, 1):
            await gateway.client.request(inbox, parts[number], timeout=5)
        message = await gateway.client.request(inbox, parts[2], timeout=5)
        assert gateway.check(question, message.data).statement.error == "question-refused"
        assert source.asked == []


@pytest.mark.parametrize("number", [-1, 3, 2**40, -(2**40)])
async def test_a_part_with_a_number_that_is_none_is_not_taken(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, number: int
) -> None:
    body = os.urandom(3 * PART_SIZE)
    async with adapter_on(nats_server, pki, {"enterprises": mirror()}, ledger) as runner:
        question = await gateway.question("POST", body=body, parts=3)
        inbox = await begin(gateway, question)
        for head in (PartHead(question.statement.id, number, False), PartHead(question.statement.id, number, True)):
            with pytest.raises(nats.errors.TimeoutError):
                await gateway.client.request(inbox, pack(head, b"x"), timeout=0.05)
        large = pack(PartHead(question.statement.id, 0, False), bytes(PART_SIZE + 1))
        with pytest.raises(nats.errors.TimeoutError):  # nor is one that is larger than a part
            await gateway.client.request(inbox, large, timeout=0.05)
        assert not next(iter(runner._parts._uploads.values())).came


async def test_a_large_body_is_not_taken_in_for_a_question_that_does_not_count(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    """Or anybody on the bus could fill the memory of an adapter."""
    body = os.urandom(3 * PART_SIZE)
    async with adapter_on(nats_server, pki, {"enterprises": mirror()}, ledger, max_request=4 * PART_SIZE) as runner:
        good = await gateway.question("POST", body=body, parts=3)
        bad = [
            await Gateway(pki, gateway.client, "civil").question("POST", body=body, parts=3),
            await gateway.question("POST", body=body, parts=2),
            await gateway.question("POST", body=body, parts=4),
            await gateway.question("POST", body=body, parts=-1),
            await gateway.question("POST", body=body, parts=2**30, request_size=2**30 * PART_SIZE),
            await gateway.question("POST", body=body, parts=5, request_size=5 * PART_SIZE),
            await gateway.question("POST", body=body, parts=3, timeout=-100),
        ]
        for question in bad:
            assert (await gateway.send(question)).statement.error == "question-refused"
        assert not runner._parts._uploads
        await begin(gateway, good)
        assert runner._parts._spool.promised == len(body)


async def test_a_large_question_counts_once(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    body = os.urandom(3 * PART_SIZE)
    source = mirror()
    async with adapter_on(nats_server, pki, {"enterprises": source}, ledger):
        question = await gateway.question("POST", body=body, parts=3)
        inbox = await begin(gateway, question)
        for number in (0, 1, 2):
            await gateway.client.request(inbox, part(question, number, body), timeout=5)
        assert (await gateway.send(question)).statement.error == "question-refused"
        assert len(source.asked) == 1


async def test_more_large_answers_than_fit_in_memory_are_told_to_come_back(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a gateway that takes no streams."""
    monkeypatch.setattr("department_adapters.runner.MAX_HELD", 5 * PART_SIZE)
    body = os.urandom(3 * PART_SIZE)
    async with adapter_on(
        nats_server, pki, {"enterprises": says(body=body)}, ledger, max_whole=4 * PART_SIZE
    ) as runner:
        assert (await gateway.ask("GET")).head.parts == 3
        # A safe question whose answer does not fit beside it comes back later; the answer to one that changed something is
        # held all the same.
        assert (await gateway.ask("GET")).statement.error == "overloaded"
        assert runner.counts()[ENTERPRISES].in_progress == 0
        assert (await gateway.ask("POST")).head.parts == 3


async def test_a_large_answer_is_given_once_each_part_and_then_forgotten(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    body = os.urandom(3 * PART_SIZE + 5)
    async with adapter_on(nats_server, pki, {"enterprises": says(body=body)}, ledger) as runner:
        question = await gateway.question()
        said = await gateway.send(question)
        assert said.head.parts == 4
        pieces = {}
        for number in (3, 0, 2, 0, 1):
            message = pack(PartHead(question.statement.id, number, True))
            pieces[number] = (await gateway.client.request(said.head.inbox, message, timeout=5)).data
        assert b"".join(pieces[number] for number in range(4)) == body
        assert runner._parts._held == 0
        message = pack(PartHead(question.statement.id, 0, True))
        with pytest.raises(nats.errors.TimeoutError):
            await gateway.client.request(said.head.inbox, message, timeout=0.05)


async def test_a_large_answer_nobody_fetches_is_forgotten_at_the_deadline(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    async with adapter_on(nats_server, pki, {"enterprises": says(body=bytes(3 * PART_SIZE))}, ledger) as runner:
        assert (await gateway.ask(timeout=0.3)).head.parts == 3
        assert runner._parts._held == 3 * PART_SIZE
        await until(lambda: runner._parts._held == 0)


async def test_an_adapter_that_leaves_waits_for_its_large_answers_to_be_fetched(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    async with adapter_on(nats_server, pki, {"enterprises": says(body=bytes(3 * PART_SIZE))}, ledger) as runner:
        question = await gateway.question(timeout=30)
        said = await gateway.send(question)
        stopping = asyncio.create_task(runner.stop())
        for number in range(3):
            message = pack(PartHead(question.statement.id, number, True))
            assert len((await gateway.client.request(said.head.inbox, message, timeout=5)).data) == PART_SIZE
        await asyncio.wait_for(stopping, 5)


@pytest.mark.parametrize("message", [b"", b"\xff" * 9, os.urandom(200), pack(AnswerHead(b"", b"", []))])
async def test_nonsense_in_an_instances_inbox_harms_nobody(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, carrier: Carrier, ledger: FullDisk, message: bytes
) -> None:
    async with adapter_on(nats_server, pki, {"enterprises": mirror()}, ledger) as runner:
        with pytest.raises(nats.errors.TimeoutError):
            await gateway.client.request(runner._desk.inbox, message, timeout=0.05)
        body = os.urandom(PART_SIZE * 3)
        assert (await carrier.perform("POST", body=body)).body == body


async def test_an_answer_larger_than_the_service_allows_is_not_fetched(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    async with adapter_on(nats_server, pki, {"enterprises": says(body=bytes(3 * PART_SIZE))}, ledger):
        with pytest.raises(BadAnswerError) as raised:
            await carrier.perform(max_answer=2 * PART_SIZE)
        assert raised.value.rule == "answer-size"
        with pytest.raises(BadAnswerError):
            await carrier.perform(max_answer=3 * PART_SIZE - 1)
        assert len((await carrier.perform(max_answer=3 * PART_SIZE)).body) == 3 * PART_SIZE


async def test_a_department_that_takes_the_head_and_falls_silent_is_known_at_the_deadline(
    nats_server: NatsServer, pki: Pki, carrier: Carrier, ledger: FullDisk
) -> None:
    """As if each part were lost."""
    async with adapter_on(nats_server, pki, {"enterprises": echo()}, ledger) as runner:
        runner._parts.take = lambda part, data: (None, False)  # type: ignore[method-assign]
        with pytest.raises(AnswerTimeoutError):
            await carrier.perform("POST", body=bytes(3 * PART_SIZE), timeout=0.3)
    assert carrier.log.happened == ["intent", "unknown deadline"]


async def test_what_is_held_is_counted_through_every_turn() -> None:
    spool = Spool()
    store = PartStore(10, spool)

    def expect(size: int) -> None:
        head = QueryHead(b"", b"", b"", b"", [], 0, part_count(size))
        store.expect("a", head, ENTERPRISES, size, 0.0, 60)

    expect(4)
    expect(6)  # again: the first is given up
    assert spool.promised == 6
    store.keep("b", b"1234", 60)
    assert store.has_room(6)
    assert not store.has_room(7)
    upload, fresh = store.take(PartHead("a", 0, False), b"abcdef")
    assert upload is not None
    assert fresh
    assert store.take(PartHead("a", 0, False), b"abcdef") == (upload, False)
    await upload.put(0, b"abcdef")
    assert upload.whole
    assert upload.fits
    assert store.hand_over("a", upload)
    assert not store.hand_over("a", upload)
    upload.body.close()
    assert spool.promised == 0
    assert store.give(PartHead("b", 0, True)) == b"1234"
    assert store.give(PartHead("b", 0, True)) is None
    assert store.has_room(10)
    assert store.empty.is_set()
