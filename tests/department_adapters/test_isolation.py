"""One department cannot answer for another: the bus's server sees to it, whatever an adapter tries."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from nats.aio.msg import Msg

from ca_auth import identity_uri
from deploy.demo.identities import CIVIL_SUBSYSTEM, OPERATOR_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import AnswerHead as AnswerHead
from exchange import ServiceId, inbox_prefix, instance_nats_subjects, pack, service_nats_subject
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import (
    ENTERPRISES,
    FullDisk,
    Gateway,
    adapter_on,
    bus_client,
    echo,
    until,
)
from tests.department_adapters.test_runner import Gate

SUBJECT = service_nats_subject(ENTERPRISES)


@pytest.mark.parametrize(
    "nats_subject",
    [
        SUBJECT,
        instance_nats_subjects(TAX_SUBSYSTEM),
        f"{inbox_prefix(identity_uri(OPERATOR_SUBSYSTEM))}.>",
        f"{inbox_prefix(identity_uri(TAX_SUBSYSTEM))}.>",
        "dt.>",
        ">",
    ],
)
async def test_a_foreign_adapter_hears_nothing_of_anothers_questions(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, nats_subject: str
) -> None:
    heard: list[Msg] = []

    async def listen(message: Msg) -> None:
        heard.append(message)

    with structlog.testing.capture_logs() as told:
        async with (
            bus_client(nats_server, pki, "civil", CIVIL_SUBSYSTEM) as civil,
            adapter_on(nats_server, pki, {"enterprises": echo()}, ledger),
        ):
            await civil.subscribe(nats_subject, cb=listen)
            await civil.subscribe(nats_subject, queue="adapters", cb=listen)
            await until(lambda: sum("permissions violation" in str(each).lower() for each in told) >= 2)
            for _ in range(20):
                assert (await gateway.ask()).body == b"GET /x"
            await civil.flush()
    assert heard == []


async def test_a_foreign_adapter_cannot_slip_in_an_answer(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    """Even if it knows where the answer is awaited."""
    gate = Gate()
    with structlog.testing.capture_logs() as told:
        async with (
            bus_client(nats_server, pki, "civil", CIVIL_SUBSYSTEM) as civil,
            adapter_on(nats_server, pki, {"enterprises": gate.source}, ledger),
        ):
            reply = gateway.client.new_inbox()
            answers = await gateway.client.subscribe(reply)
            question = await gateway.question()
            await gateway.client.publish(SUBJECT, question.message, reply=reply)
            await until(lambda: gate.inside == 1)
            await civil.publish(reply, pack(AnswerHead(b"", b"", [])))
            await until(lambda: any("permissions violation for publish" in str(each).lower() for each in told))
            gate.opened.set()
            first = await answers.next_msg(timeout=5)
            assert gateway.check(question, first.data).statement.error == ""
            assert answers.pending_msgs == 0


async def test_a_department_that_was_asked_something_cannot_answer_another_question_with_it(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    """One question to the civil-affairs bureau allows one answer to that question, not to the tax bureau's."""
    asked: list[Msg] = []

    async def note(message: Msg) -> None:
        asked.append(message)

    gate = Gate()
    with structlog.testing.capture_logs() as told:
        async with (
            bus_client(nats_server, pki, "civil", CIVIL_SUBSYSTEM) as civil,
            adapter_on(nats_server, pki, {"enterprises": gate.source}, ledger),
        ):
            residents = service_nats_subject(ServiceId(f"{CIVIL_SUBSYSTEM}/residents"))
            await civil.subscribe(residents, cb=note)
            await civil.flush()
            await civil.flush()
            own, others = gateway.client.new_inbox(), gateway.client.new_inbox()
            own_answers = await gateway.client.subscribe(own)
            others_answers = await gateway.client.subscribe(others)
            await gateway.client.publish(residents, b"for civil", reply=own)
            await gateway.client.publish(SUBJECT, (await gateway.question()).message, reply=others)
            await until(lambda: asked and gate.inside == 1)
            await civil.publish(others, b"forged")
            await civil.publish(own, b"honest")
            assert (await own_answers.next_msg(timeout=5)).data == b"honest"
            # What the server says of it comes on another connection than the answer.
            await until(lambda: any("permissions violation for publish" in str(each).lower() for each in told))
            gate.opened.set()
            assert (await others_answers.next_msg(timeout=5)).data != b"forged"


async def test_a_foreign_adapter_cannot_ask_or_feed_another(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk
) -> None:
    source = echo()
    with structlog.testing.capture_logs() as told:
        async with (
            bus_client(nats_server, pki, "civil", CIVIL_SUBSYSTEM) as civil,
            adapter_on(nats_server, pki, {"enterprises": source}, ledger) as runner,
        ):
            await civil.publish(SUBJECT, (await gateway.question()).message, reply="x")
            await civil.publish(runner._desk.inbox, b"part", reply="x")
            await until(lambda: sum("permissions violation for publish" in str(each).lower() for each in told) >= 2)
            await asyncio.sleep(0)
            assert source.asked == []
