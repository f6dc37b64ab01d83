"""What the exchange face answers when it does not answer with data: status, rule, record, and how fast."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ca_auth import CertificateRequest
from deploy.trial_mesh import AUDITOR, CALLER, ECHO, OPERATOR, PROVIDER, STRANGER
from exchange import ServiceId, verify_receipt
from tests.gateway.conftest import GHOST, SIBLING, bus_users
from tests.gateway.exchange_mesh import WAIT, Mesh, head, service, target, xml_error
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 2.0
"""Seconds: far below every deadline, above what a busy machine makes of a few milliseconds."""


# Who is calling


async def test_without_a_certificate_a_caller_is_told_how_to_call(mesh: Mesh) -> None:
    reply = await mesh.ask(party=None)
    problem = mesh.problem(reply, 401, "client-certificate")
    for flag in ("--cert", "--key", "--cacert"):
        assert flag in problem["next"]
    assert reply.response.headers["www-authenticate"].startswith("ClientCertificate")
    assert reply.response.headers["connection"] == "close"
    assert reply.response.headers["x-road-error"] == "server.clientproxy.ssl_authentication_failed"
    assert (reply.record["outcome"], reply.query["certificate"], reply.query["client"]) == ("refused", "", "")


@pytest.mark.parametrize(
    ("party", "rule"),
    [
        ("foreign", "certificate-chain"),
        ("expired", "certificate-expired"),
        ("early", "certificate-not-yet-valid"),
        ("nobody", "certificate-profile"),
    ],
)
async def test_a_certificate_that_does_not_verify_ends_the_handshake_and_is_recorded(
    mesh: Mesh, party: str, rule: str
) -> None:
    """TLS cannot explain itself; the record can."""
    async with mesh.one_record() as records:
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await mesh.client(party).get(target("echo"), headers={"X-Road-Client": CALLER})
    (record,) = records
    assert (record["outcome"], record["status"], record["rule"]) == ("refused", 0, rule)
    assert (record["code"], record["source"]) == ("unauthenticated", "gateway")


async def test_bytes_that_are_no_tls_are_recorded(mesh: Mesh) -> None:
    async with mesh.one_record() as records:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(mesh.url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(WAIT):
            await reader.read()
        writer.close()
    assert (records[0]["rule"], records[0]["status"]) == ("tls-handshake", 0)


async def test_an_open_connection_does_not_outlive_its_certificate(mesh: Mesh) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    mesh.certificates["brief"] = mesh.trial.ca.issue("brief", CertificateRequest.for_subsystem(CALLER), not_after=end)
    async with mesh.connect("brief") as caller:
        asked = 0
        async with asyncio.timeout(WAIT):
            while True:
                asked += 1
                await caller.send(head("GET", target("ungranted")))
                response = await caller.answer()
                if response.status_code != 403:
                    break
                await asyncio.sleep(0.05)
        mesh.recorded += asked
        assert asked > 1
        mesh.told(response, 401, "certificate-expired", exchange_id=response.headers["x-road-request-id"])
        assert await caller.is_closed()
    assert datetime.now(UTC) > end


# For whom


async def test_a_certificate_speaks_for_its_own_member_only(mesh: Mesh) -> None:
    reply = await mesh.ask(party="stranger", client=CALLER)
    problem = mesh.problem(reply, 403, "client-of-certificate")
    assert STRANGER in problem["detail"]
    assert reply.response.headers["x-road-error"] == "server.clientproxy.unknown_member"
    assert reply.query["client"] == CALLER, "whom it pretended to be is on the record"
    assert reply.query["certificate"] != ""


async def test_a_subsystems_certificate_does_not_speak_for_its_sibling(mesh: Mesh) -> None:
    mesh.problem(await mesh.ask(client=SIBLING), 403, "client-of-certificate")


async def test_a_members_certificate_speaks_for_each_of_its_subsystems(mesh: Mesh) -> None:
    assert (await mesh.ask(party="member", client=CALLER)).status == 200
    mesh.problem(await mesh.ask(party="member", client=SIBLING), 403, "grant")
    mesh.problem(await mesh.ask(party="member", client=STRANGER), 403, "client-of-certificate")


async def test_an_unregistered_client_is_refused_though_its_certificate_is_good(mesh: Mesh) -> None:
    reply = await mesh.ask(party="ghost", client=GHOST)
    mesh.problem(reply, 403, "client-registered")
    assert reply.query["client"] == GHOST


# May they


async def test_a_stranger_has_no_grant(mesh: Mesh) -> None:
    before = len(mesh.backend.received)
    reply = await mesh.ask(party="stranger", client=STRANGER, path="/personal")
    mesh.problem(reply, 403, "grant")
    assert reply.response.headers["x-road-error"] == "server.serverproxy.access_denied"
    assert (reply.record["outcome"], reply.record["code"]) == ("refused", "access-denied")
    assert "query_seal" not in reply.record, "nothing was carried"
    assert len(mesh.backend.received) == before


@pytest.mark.parametrize(
    ("to", "method", "path", "headers", "rule"),
    [
        ("echo", "GET", "/", {"Datong-Purpose": "another"}, "purpose"),
        ("choosy", "GET", "/", {}, "purpose-required"),
        ("choosy", "GET", "/", {"Datong-Purpose": "trial"}, "purpose"),
        ("expired", "GET", "/", {}, "grant-expired"),
        ("future", "GET", "/", {}, "grant-not-yet-valid"),
        ("ungranted", "GET", "/", {}, "grant"),
        ("records", "GET", "/records/1/more", {}, "grant-method-path"),
        ("records", "GET", "/records", {}, "grant-method-path"),
        ("records", "GET", "/Records/1", {}, "grant-method-path"),
        ("records", "DELETE", "/records/1", {}, "grant-method-path"),
        ("records", "GET", "/open/a/b", {}, "operation"),
        ("records", "DELETE", "/open/a", {}, "operation"),
        ("records", "HEAD", "/open/a", {}, "operation"),
        ("closed", "GET", "/", {}, "service-open"),
    ],
)
async def test_what_no_grant_covers_is_refused_with_the_rule_that_failed(
    mesh: Mesh, to: str, method: str, path: str, headers: dict[str, str], rule: str
) -> None:
    before = len(mesh.backend.received)
    if method == "HEAD":
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head(method, target(to, path)))
            assert (await caller.answer(head_only=True)).status_code == 403
        assert records[0]["rule"] == rule
    else:
        reply = await mesh.ask(method, path, to=to, headers=headers)
        problem = mesh.problem(reply, 503 if rule == "service-open" else 403, rule)
        assert reply.query["service"] == service(to)
        if rule == "service-open":
            assert "stocktaking" in problem["detail"]
            assert reply.response.headers["retry-after"] == "300"
            assert reply.response.headers["x-road-error"] == "server.serverproxy.service_disabled"
    assert len(mesh.backend.received) == before, "the provider was not asked"


async def test_a_named_purpose_that_is_granted_stands_on_the_record(mesh: Mesh) -> None:
    reply = await mesh.ask(to="choosy", headers={"Datong-Purpose": "audit"})
    assert (reply.status, reply.query["purpose"]) == (200, "audit")
    grant_id, _, version = reply.query["grant"].partition("@")
    (grant,) = await mesh.trial.registry.grants(service=service("choosy"))
    assert (grant_id, int(version)) == (grant.id, grant.version)


async def test_a_revoked_grant_refuses_within_a_second(mesh: Mesh) -> None:
    assert (await mesh.ask(to="revoked")).status == 200
    await mesh.trial.registry.revoke("to-be-revoked", by="owner", why="the project ended")
    revoked_at = time.monotonic()
    reply = await mesh.wait_for(403, within=WAIT, to="revoked")
    assert time.monotonic() - revoked_at < 1.5, "a poll is every 250 ms; the rest is for a busy machine"
    problem = mesh.problem(reply, 403, "grant-revoked")
    assert "the project ended" in problem["detail"]


@pytest.mark.parametrize(
    ("to", "rule", "xroad"),
    [
        (f"CN/GOV/{'9' * 18}/nobody/service", "provider-registered", "server.clientproxy.unknown_member"),
        (f"{PROVIDER}x/echo", "provider-registered", "server.clientproxy.unknown_member"),
        (service("nothing"), "service-registered", "server.serverproxy.unknown_service"),
        (service("Echo"), "service-registered", "server.serverproxy.unknown_service"),
        (service("getWsdl"), "service-registered", "server.serverproxy.unknown_service"),
    ],
)
async def test_what_does_not_exist_is_404(mesh: Mesh, to: str, rule: str, xroad: str) -> None:
    reply = await mesh.ask(to=ServiceId(to))
    problem = mesh.problem(reply, 404, rule)
    assert reply.response.headers["x-road-error"] == xroad
    assert (reply.query["service"], reply.record["outcome"]) == (to, "refused")
    assert to.rsplit("/", 1)[0] in problem["detail"]


# The other side


async def test_a_service_without_an_adapter_is_503_at_once(mesh: Mesh) -> None:
    started = time.monotonic()
    reply = await mesh.ask(to="absent")
    assert time.monotonic() - started < AT_ONCE
    problem = mesh.problem(reply, 503, "adapter-connected", source="bus")
    assert (problem["type"], reply.response.headers["retry-after"]) == ("/problems/adapter-unavailable", "5")
    assert PROVIDER in problem["detail"]
    assert (reply.record["outcome"], "query_seal" in reply.record) == ("failed", True)


async def test_a_slow_system_is_504_at_the_deadline_and_the_outcome_unknown(mesh: Mesh) -> None:
    gate = mesh.backend.hold("/slow")
    started = time.monotonic()
    reply = await mesh.ask("POST", "/slow", to="slow", content=b"x")
    took = time.monotonic() - started
    gate.set()
    mesh.problem(reply, 504, "deadline", source="adapter")
    assert 0.4 <= took < AT_ONCE
    assert reply.record["outcome"] == "unknown", "whether the department acted cannot be known from here"
    assert reply.response.headers["x-road-error"] == "server.serverproxy.io_error"


async def test_a_late_answer_reaches_nobody(mesh: Mesh) -> None:
    """What comes after the deadline is not given to the next caller."""
    gate = mesh.backend.hold("/late")
    late = asyncio.create_task(mesh.ask("GET", "/late", to="slow"))
    assert (await late).status == 504
    gate.set()
    reply = await mesh.ask("POST", "/next", content=b"mine")
    assert (reply.status, reply.response.content) == (200, b"mine")


async def test_a_system_that_is_down_is_502(mesh: Mesh) -> None:
    reply = await mesh.ask(to="down")
    mesh.problem(reply, 502, "backend-answers", source="backend")
    assert reply.response.headers["x-road-error"] == "server.serverproxy.network_error"
    assert "secret-prefix" not in reply.response.text
    assert reply.record["answer"]["error"] == "backend-failed", "the department said so itself, under its seal"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"SECRET NONSENSE\r\n\r\n", id="no-http"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nshort", id="short-body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n", id="bad-header"),
    ],
)
async def test_a_system_that_does_not_speak_http_is_502_or_its_doing_unknown(mesh: Mesh, raw: bytes) -> None:
    with mesh.answering("/broken", raw):
        asked = await mesh.ask("GET", "/broken")
    mesh.problem(asked, 502, "backend-answers", source="backend")
    assert "SECRET" not in asked.response.text
    with mesh.answering("/broken", raw):
        told = await mesh.ask("POST", "/broken", content=b"x")
    mesh.problem(told, 504, "deadline", source="adapter")
    assert told.record["outcome"] == "unknown", "it may have acted before it failed"


async def test_only_a_request_that_changes_nothing_is_made_again_when_the_system_hangs_up(mesh: Mesh) -> None:
    await mesh.ask("GET", "/keeps-a-connection")
    with mesh.answering("/hangs-up", b"", once=True):
        asked = await mesh.ask("GET", "/hangs-up")
    assert (asked.status, mesh.backend.times_seen("/hangs-up")) == (200, 2)
    with mesh.answering("/hangs-up-again", b"", once=True):
        told = await mesh.ask("POST", "/hangs-up-again", content=b"x")
    assert (told.status, mesh.backend.times_seen("/hangs-up-again")) == (504, 1)


async def test_a_dead_adapter_is_503_at_once_and_a_frozen_one_504(mesh: Mesh) -> None:
    contract = mesh.trial.http_contract(mesh.backend.url).replace("[services.echo]", "[services.mortal]")
    adapter = await mesh.trial.add_adapter("mortal", contract)
    assert (await mesh.ask(to="mortal")).status == 200

    adapter.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    frozen = await mesh.ask(to="mortal")
    assert 1.9 <= time.monotonic() - started < 2 + AT_ONCE
    mesh.problem(frozen, 504, "deadline", source="adapter")
    adapter.send_signal(signal.SIGCONT)
    await mesh.wait_for(200, within=WAIT, to="mortal")

    adapter.kill()
    await adapter.wait()
    await mesh.wait_for(503, within=WAIT, to="mortal")  # a question may be lost with it, before the bus knows
    started = time.monotonic()
    dead = await mesh.ask(to="mortal")
    assert time.monotonic() - started < 1.5
    mesh.problem(dead, 503, "adapter-connected", source="bus")


async def test_another_department_goes_on_while_one_is_stuck(mesh: Mesh) -> None:
    gate = mesh.backend.hold("/stuck")
    stuck = [
        asyncio.create_task(mesh.client().get(target("echo", "/stuck"), headers={"X-Road-Client": CALLER}))
        for _ in range(8)
    ]
    async with mesh.one_record(9):
        await until(lambda: mesh.backend.times_seen("/stuck") == 8)
        started = time.monotonic()
        response = await mesh.client("member").get(target("records", "/records/1"), headers={"X-Road-Client": CALLER})
        assert (response.status_code, time.monotonic() - started < AT_ONCE) == (200, True)
        gate.set()
        assert {response.status_code for response in await asyncio.gather(*stuck)} == {200}


# Limits


async def test_a_body_over_the_limit_is_413_before_it_is_sent(mesh: Mesh) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("POST", target("records", "/records"), "Expect: 100-continue", "Content-Length: 1001"))
        response = await caller.answer()
        problem = mesh.told(response, 413, "body-limit", exchange_id=response.headers["x-road-request-id"])
        assert "1000" in problem["detail"]
        assert response.headers["connection"] == "close"
        assert await caller.is_closed()
    assert (records[0]["rule"], records[0]["outcome"]) == ("body-limit", "refused")
    assert (await mesh.ask("POST", "/records", to="records", content=b"x" * 1000)).status == 200


async def test_a_chunked_body_over_the_limit_is_413_as_soon_as_that_is_known(mesh: Mesh) -> None:
    async with mesh.one_record() as records, mesh.connect() as caller:
        await caller.send(head("POST", target("records", "/records"), "Transfer-Encoding: chunked"))
        await caller.send(b"1f4\r\n" + b"x" * 500 + b"\r\n")
        await caller.send(b"1f5\r\n" + b"x" * 501 + b"\r\n")
        response = await caller.answer()
    mesh.told(response, 413, "body-limit", exchange_id=records[0]["id"])


async def test_a_caller_that_sends_a_large_body_all_the_same_reads_the_413(mesh: Mesh) -> None:
    reply = await mesh.ask("POST", "/records", to="records", content=b"x" * (4 << 20))
    mesh.problem(reply, 413, "body-limit")


async def test_a_refusal_does_not_wait_for_the_body(mesh: Mesh) -> None:
    async with mesh.one_record(2), mesh.connect("stranger") as caller:
        await caller.send(head("POST", target("echo"), "Content-Length: 100000", client=STRANGER))
        assert (await caller.answer()).status_code == 403
        # The connection stays usable: the rest of the body is passed over.
        await caller.send(b"x" * 100000 + head("GET", target("echo"), client=STRANGER))
        assert (await caller.answer()).status_code == 403


async def test_a_caller_that_leaves_in_the_middle_of_its_body_is_recorded_and_nothing_carried(mesh: Mesh) -> None:
    before = len(mesh.backend.received)
    for sent in (b"", b"half"):
        async with mesh.one_record() as records, mesh.connect() as caller:
            await caller.send(head("POST", target("echo", "/left"), "Content-Length: 8") + sent)
            # Answered when the gateway has read the other: both are on its loop.
            assert (await mesh.client().get("/healthz")).status_code == 200
            caller.abort()
        assert (records[0]["rule"], records[0]["outcome"]) == ("body-complete", "refused")
    assert len(mesh.backend.received) == before


async def test_a_caller_that_leaves_before_its_answer_is_recorded_as_answered(mesh: Mesh) -> None:
    """A request that was carried ends in its record, whether or not anybody waits."""
    gate = mesh.backend.hold("/gone")
    async with mesh.one_record() as records:
        async with mesh.connect() as caller:
            await caller.send(head("GET", target("echo", "/gone")))
            await until(lambda: mesh.backend.seen("/gone"))
            caller.abort()
        gate.set()
    assert (records[0]["outcome"], records[0]["status"]) == ("answered", 200)


async def test_more_requests_at_once_than_the_limit_are_told_to_come_back(mesh: Mesh) -> None:
    """A second gateway of the mesh, with room for five, so for three at one department, and for two of one client."""
    limits = {"DATONG_MAX_IN_PROGRESS": "5", "DATONG_MAX_IN_PROGRESS_PER_CLIENT": "2", "DATONG_BODY_TIMEOUT": "0.5"}
    url = (await mesh.trial.add_gateway("small", **limits)).ready_text()
    sibling: dict[str, Any] = {"party": "member", "client": SIBLING, "to": "records", "url": url}
    gate, gate_of_sibling = mesh.backend.hold("/busy"), mesh.backend.hold("/records/busy")

    busy = [asyncio.create_task(mesh.ask("GET", "/busy", url=url)) for _ in range(2)]
    await until(lambda: mesh.backend.times_seen("/busy") == 2)
    full = await mesh.ask("GET", "/third", url=url)
    problem = mesh.problem(full, 503, "concurrency-limit")
    assert (problem["type"], full.response.headers["retry-after"]) == ("/problems/overloaded", "1")
    assert not mesh.backend.seen("/third")
    assert (await mesh.ask("GET", "/elsewhere")).status == 200, "the other gateway is not full"

    assert (await mesh.ask("GET", "/records/1", **sibling)).status == 200, "one client cannot take all the room"
    busy.append(asyncio.create_task(mesh.ask("GET", "/records/busy", **sibling)))
    await until(lambda: mesh.backend.seen("/records/busy"))
    mesh.problem(await mesh.ask("GET", "/records/2", **sibling), 503, "owner-limit")
    elsewhere = f"{OPERATOR}/listMethods"
    assert (await mesh.ask("GET", "", **{**sibling, "to": elsewhere})).status < 500, "another department is not full"

    gate.set()
    gate_of_sibling.set()
    assert [reply.status for reply in await asyncio.gather(*busy)] == [200, 200, 200]
    assert (await mesh.ask(url=url)).status == 200


async def test_bodies_that_are_still_coming_count_as_in_progress(mesh: Mesh) -> None:
    """Otherwise a limit on requests would be none on memory: bodies are held before they are carried."""
    url = mesh.trial.gateways[-1].ready_text()
    async with mesh.one_record(3) as records, AsyncExitStack() as stack:
        first, second, third = [await stack.enter_async_context(mesh.connect(url=url)) for _ in range(3)]
        for caller in (first, second):
            await caller.send(head("POST", target("echo", "/coming"), "Expect: 100-continue", "Content-Length: 1"))
            assert (await caller.answer()).status_code == 100
        await third.send(head("GET", target("echo")))
        assert (await third.answer()).status_code == 503
        for caller in (first, second):
            await caller.send(b"x")
            assert (await caller.answer()).status_code == 200
    assert [record["status"] for record in records] == [503, 200, 200]
    assert (await mesh.ask(url=url)).status == 200, "what was counted was taken back"


async def test_a_body_that_does_not_come_is_refused_once(mesh: Mesh) -> None:
    url = mesh.trial.gateways[-1].ready_text()
    async with mesh.one_record() as records, mesh.connect(url=url) as caller:
        await caller.send(head("POST", target("echo", "/slow-body"), "Content-Length: 8") + b"half")
        response = await caller.answer()
        assert response.status_code == 408
        mesh.told(response, 408, response.json()["rule"])
    assert (records[0]["outcome"], records[0]["status"]) == ("refused", 408)
    assert not mesh.backend.seen("/slow-body")
    assert (await mesh.ask(url=url)).status == 200


# How it is told


async def test_a_problem_is_chinese_for_who_reads_chinese(mesh: Mesh) -> None:
    reply = await mesh.ask(party="stranger", client=STRANGER, headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"})
    problem = mesh.problem(reply, 403, "grant")
    assert (problem["title"], reply.response.headers["content-language"]) == ("没有授权覆盖此请求", "zh-CN")
    assert "没有" in problem["detail"]
    assert "申请" in problem["next"]
    xml = await mesh.ask(party="stranger", client=STRANGER, headers={"Accept-Language": "zh", "Accept": "text/xml"})
    assert "没有" in xml_error(xml.response)["message"]


@pytest.mark.parametrize("path", ["/", "/r1", "/r2/CN/GOV/1/a/b", "/R1/CN/GOV/1/a/b", "/nothing", "/v1/nothing"])
async def test_beside_the_exchange_face_there_is_a_404_and_no_exchange(mesh: Mesh, path: str) -> None:
    response = await mesh.client().get(path)
    mesh.told(response, 404, "exists")


async def test_the_page_behind_a_problem_type_exists(mesh: Mesh) -> None:
    reply = await mesh.ask(party="stranger", client=STRANGER)
    page = await mesh.client("stranger").get(reply.response.json()["type"])
    assert (page.status_code, page.json()["status"], page.json()["x_road_error"]) == (
        200,
        403,
        reply.response.headers["x-road-error"],
    )


async def test_the_auditor_finds_every_attempt(mesh: Mesh) -> None:
    refused = await mesh.ask(party="stranger", client=STRANGER)
    answered = await mesh.ask("GET", "/found")
    response = await mesh.client("auditor").get("/v1/exchanges", params={"limit": 2})
    assert [exchange["record"] for exchange in response.json()["exchanges"]] == [answered.record, refused.record]
    own = await mesh.client().get(answered.response.headers["datong-receipt"])
    assert own.status_code == 200
    assert json.loads(own.content)
    other = await mesh.client("stranger").get(answered.response.headers["datong-receipt"])
    assert other.status_code == 404
    assert AUDITOR not in own.text


async def test_the_record_holds_what_is_promised(mesh: Mesh) -> None:
    chosen = {
        "X-Road-UserId": "user",
        "X-Road-Issue": "case-7",
        "Datong-Channel": "hall",
        "X-Road-Represented-Party": "GOV/1",
        "X-Road-Id": "message-1",
    }
    reply = await mesh.ask("POST", "/p", content=b"12345", headers=chosen)
    query, record = reply.query, reply.record
    assert {key: query[key] for key in ("user", "case", "channel", "represented", "message_id")} == {
        "user": "user",
        "case": "case-7",
        "channel": "hall",
        "represented": "GOV/1",
        "message_id": "message-1",
    }
    assert (query["client"], query["service"], query["method"], query["path_template"]) == (CALLER, ECHO, "POST", "/**")
    assert (query["safe"], query["request_size"], query["purpose"]) == (False, 5, "trial")
    assert record["certificate_serial"]
    assert (record["answer"]["status"], record["answer"]["body_size"], record["answer"]["error"]) == (200, 5, "")
    assert record["query_seal"]
    assert record["answer_seal"]
    assert record["duration_us"] > 0
    assert query["asked_at"] <= record["answer"]["answered_at"] <= record["ended_at"]
    asked, deadline = (datetime.fromisoformat(query[key]) for key in ("asked_at", "deadline"))
    # Counted from when the body was complete, which comes after the head was.
    assert timedelta(seconds=5) <= deadline - asked < timedelta(seconds=10)


# Last, since it takes the bus away


async def test_without_the_bus_every_request_is_503_at_once_until_it_is_back(mesh: Mesh) -> None:
    gate = mesh.backend.hold("/in-flight")
    in_flight = asyncio.create_task(mesh.ask("GET", "/in-flight"))
    await until(lambda: mesh.backend.seen("/in-flight"))
    await mesh.trial.nats.stop()
    lost = await in_flight
    gate.set()
    mesh.problem(lost, 503, "bus-kept", source="bus")
    assert lost.record["outcome"] == "unknown"

    started = time.monotonic()
    reply = await mesh.wait_for(503, within=WAIT, path="/down")
    assert time.monotonic() - started < AT_ONCE
    mesh.problem(reply, 503, "bus-connected", source="bus")
    assert not mesh.backend.seen("/down")

    await mesh.trial.nats.start(bus_users())
    back = await mesh.wait_for(200, within=WAIT, path="/back")
    assert back.record["outcome"] == "answered"


# Large answers


def peak_memory(pid: int) -> int:
    """MiB that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))


def pouring(
    size: int, *, cut: int = 0, gate: asyncio.Event | None = None
) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """A backend's answer of so many MiB: the rest comes when the gate opens, or not at all."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % (size << 20))
        for number in range(cut or size):
            writer.write(bytes([number % 251]) * (1 << 20))
            await writer.drain()
            if gate is not None and number == 3:
                await gate.wait()

    return write


async def test_a_large_answer_is_never_whole_in_memory_and_its_receipt_verifies(mesh: Mesh) -> None:
    """256 MiB, of which no process holds more than a few at any time."""
    gateway, adapter = mesh.gateway.pid, mesh.trial.adapters[0].pid
    await mesh.ask(path="/warm")
    before = peak_memory(gateway), peak_memory(adapter)
    mesh.backend.written["/large"] = pouring(256)
    digest, size = hashlib.sha256(), 0
    async with mesh.one_record() as records:
        client = mesh.client()
        async with client.stream("GET", target("echo", "/large"), headers={"X-Road-Client": CALLER}) as response:
            assert response.headers["content-length"] == str(256 << 20)
            async for piece in response.aiter_raw():
                digest.update(piece)
                size += len(piece)
    expected = hashlib.sha256()
    for number in range(256):
        expected.update(bytes([number % 251]) * (1 << 20))
    assert (size, digest.digest()) == (256 << 20, expected.digest())
    assert (records[0]["outcome"], records[0]["answer"]["body_size"]) == ("answered", size)
    grown = peak_memory(gateway) - before[0], peak_memory(adapter) - before[1]
    assert max(grown) < 40, f"gateway and adapter took {grown} MiB more"
    receipt = await client.get(f"/v1/exchanges/{records[0]['id']}/receipt", headers={"X-Road-Client": CALLER})
    checks = verify_receipt(receipt.content, (await client.get("/v1/keys")).content)
    assert [check.name for check in checks if not check.ok] == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_answer_that_breaks_off_is_seen_to_be_incomplete(mesh: Mesh, chunked: bool) -> None:
    async def chunks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n600000\r\n" + bytes(6 << 20) + b"\r\n")
        await writer.drain()

    mesh.backend.written["/broken"] = chunks if chunked else pouring(8, cut=6)
    async with mesh.one_record() as records:
        with pytest.raises(httpx.TransportError):
            await mesh.client().get(target("echo", "/broken"), headers={"X-Road-Client": CALLER})
    (record,) = records
    assert (record["outcome"], record["code"], record["status"]) == ("failed", "backend-failed", 200)
    assert 0 < record["passed_on"] < record["answer"]["body_size"] <= 6 << 20
    assert (await mesh.ask()).status == 200


async def test_an_answer_that_breaks_before_anything_was_passed_on_is_a_problem(mesh: Mesh) -> None:
    """What is held back is more than this: so the caller can still be told."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n96000\r\n" + bytes(0x96000) + b"\r\nnonsense\r\n"
    mesh.backend.once.add("/early")
    mesh.backend.answers["/early"] = raw
    reply = await mesh.ask(path="/early")
    mesh.problem(reply, 502, "backend-answers", source="backend")
    assert "passed_on" not in reply.record


async def test_a_caller_that_leaves_in_the_middle_of_a_large_answer_is_on_the_record(mesh: Mesh) -> None:
    gate = asyncio.Event()
    mesh.backend.written["/left"] = pouring(64, gate=gate)
    async with mesh.one_record() as records:
        client = mesh.client()
        async with client.stream("GET", target("echo", "/left"), headers={"X-Road-Client": CALLER}) as response:
            async for _ in response.aiter_raw():
                break
        gate.set()
    (record,) = records
    assert (record["outcome"], record["code"], record["rule"]) == ("failed", "caller-gone", "caller-stays")
    assert "answer" not in record


async def test_a_large_answer_has_the_length_its_system_told_or_none(mesh: Mesh) -> None:
    body = b"x" * (2 << 20)
    chunks = b"200000\r\n" + body + b"\r\n0\r\n\r\n"
    mesh.backend.answers["/chunks"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    reply = await mesh.ask(path="/chunks")
    assert (reply.status, reply.response.content) == (200, body)
    assert reply.response.headers["transfer-encoding"] == "chunked"
    for method, status in (("GET", 304), ("GET", 204), ("HEAD", 200)):
        raw = b"HTTP/1.1 %d X\r\nETag: x\r\nContent-Length: %d\r\n\r\n" % (status, len(body) if status == 200 else 0)
        mesh.backend.answers["/none"] = raw
        reply = await mesh.ask(method, path="/none")
        assert (reply.status, reply.response.content) == (status, b"")


async def test_a_gateway_told_to_stop_finishes_its_large_answers(mesh: Mesh) -> None:
    gate = asyncio.Event()
    mesh.backend.written["/stop"] = pouring(16, gate=gate)
    gateway = await mesh.trial.add_gateway("stopping")
    url = gateway.ready_text()
    async with mesh.one_record() as records:
        client = mesh.client("caller", url)
        size = 0
        async with client.stream("GET", target("echo", "/stop"), headers={"X-Road-Client": CALLER}) as response:
            async for piece in response.aiter_raw():
                if not size:
                    os.kill(gateway.pid, signal.SIGTERM)
                    gate.set()
                size += len(piece)
        assert size == 16 << 20
    assert records[0]["outcome"] == "answered"
