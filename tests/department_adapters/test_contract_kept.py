"""A source behind the department's own contract: what breaks it does not reach the system, and does not leave."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec import UNSET, UnsetType

from department_adapters import ContractError, Source, SourceAnswer, SourceRequest
from department_adapters.contract_check import ContractKept, read_kept_contract
from department_adapters.guard import Breaker, Guarded
from department_adapters.section import ServiceSection
from department_adapters.source import UnusableAnswerError
from deploy.nats import NatsServer
from exchange import (
    BackendError,
    Contract,
    ContractBrokenError,
    Headers,
    MeshError,
    RequestBeyondContractError,
    Spool,
)
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import Carrier, FullDisk, FunctionSource, adapter_on, says
from tests.exchange.contract_kit import JSON, Tree, document, json_of, parameter

SECRET = "440106199001010017"
PERSON: Tree = {
    "type": "object",
    "required": ["name", "number"],
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "number": {"type": "string", "pattern": "^[0-9]{17}[0-9X]$"},
    },
    "additionalProperties": False,
}
GOOD = json.dumps({"name": "张三", "number": SECRET}).encode()
BAD = json.dumps({"name": "张三", "number": "1", SECRET: 1}).encode()
CONTRACT = Contract.of(
    document(
        {
            "/people/{n}": {
                "get": {
                    "parameters": [parameter("n", {"type": "integer"}, "path"), parameter("q", {"type": "boolean"})],
                    "responses": {"200": json_of(PERSON)},
                }
            },
            "/people": {
                "post": {
                    "requestBody": {"required": True, "content": {"application/json": {"schema": PERSON}}},
                    "responses": {"201": {"description": "made"}},
                }
            },
            "/photo": {
                "get": {
                    "responses": {"200": {"description": "", "content": {"image/*": {}}}, "206": {"description": ""}}
                }
            },
        }
    )
)


def asking(
    target: bytes = b"/people/7", method: str = "GET", body: bytes = b"", headers: Headers | None = None, **more: Any
) -> SourceRequest:
    headers = headers if headers is not None else JSON if body else []
    return SourceRequest("01", method, target, headers, body, 5.0, method == "GET", **more)


class Stream:
    """A body that comes piece by piece."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [*pieces[::-1]]
        self.closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()

    async def aclose(self) -> None:
        self.closed = True


async def test_what_keeps_to_the_contract_passes_both_ways() -> None:
    source = says(200, JSON, GOOD)
    answer = await ContractKept(source, CONTRACT).answer(asking(b"/people/7?q=true&other=1"))
    assert (answer.status, answer.body) == (200, GOOD)
    assert len(source.asked) == 1


@pytest.mark.parametrize(
    "request_",
    [
        asking(b"/people/x"),
        asking(b"/people/7?q=1"),
        asking(b"/nobody"),
        asking(b"/people", "DELETE"),
        asking(b"/people", "POST", BAD),
        asking(b"/people", "POST", GOOD, headers=[(b"content-type", b"text/plain")]),
        asking(b"/people", "POST"),
    ],
)
async def test_a_request_beyond_the_contract_never_reaches_the_system(request_: SourceRequest) -> None:
    source = says(200, JSON, GOOD)
    with structlog.testing.capture_logs() as logs, pytest.raises(RequestBeyondContractError) as raised:
        await ContractKept(source, CONTRACT).answer(request_)
    assert not source.asked
    assert (raised.value.status, raised.value.source) == (422, "adapter")
    assert [each["event"] for each in logs] == ["adapter.beyond_contract"]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (SourceAnswer(200, JSON, BAD), "body /number: does not fit the pattern of the contract"),
        (SourceAnswer(200, [(b"content-type", b"text/html")], GOOD), "body /: is not of a type"),
        (SourceAnswer(201, JSON, GOOD), "body /: is a status that the contract does not name"),
        (SourceAnswer(200, [*JSON, (b"content-encoding", b"gzip")], gzip.compress(BAD)), "body /number: does not fit"),
        (SourceAnswer(200, JSON, b"", Stream(BAD[:5], BAD[5:])), "body /number: does not fit"),
    ],
)
async def test_an_answer_that_breaks_the_contract_stays_and_its_own_log_says_where(
    answer: SourceAnswer, fault: str
) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(ContractBrokenError) as raised:
        await ContractKept(_Gives(answer), CONTRACT).answer(asking())
    assert (raised.value.status, raised.value.code, raised.value.rule) == (502, "contract-broken", "contract-kept")
    (event,) = logs
    assert event["exchange"] == "01"
    assert event["operation"] == "GET /people/{n}"
    assert any(each.startswith(fault) for each in event["faults"])
    assert SECRET not in json.dumps([*event["faults"], str(raised.value)]).replace(f"/{SECRET}", "")
    if answer.stream is not None:
        assert getattr(answer.stream, "closed")  # noqa: B009


class _Gives:
    """A source that answers with this."""

    def __init__(self, *answers: SourceAnswer) -> None:
        self.answers = [*answers]
        self.asked: list[SourceRequest] = []

    async def start(self) -> None: ...

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def stop(self) -> None: ...


async def test_a_large_answer_goes_on_as_a_stream_and_only_its_type_is_checked() -> None:
    large = [b" " * (1 << 19)] * 3
    answer = await ContractKept(_Gives(SourceAnswer(200, JSON, b"", Stream(*large))), CONTRACT).answer(asking())
    assert answer.stream is not None
    assert b"".join([piece async for piece in answer.stream]) == b"".join(large)
    html = Stream(*large)
    with pytest.raises(ContractBrokenError):
        await ContractKept(_Gives(SourceAnswer(200, [(b"content-type", b"text/html")], b"", html)), CONTRACT).answer(
            asking()
        )
    assert html.closed


async def test_a_failure_that_is_not_described_stays_inside() -> None:
    """Of an operation that changes nothing it is a failed backend; one that says it is down counts, and is asked again."""
    failing = SourceAnswer(503, [(b"content-type", b"text/plain")], b"Traceback: password=hunter2")
    source = _Gives(failing, SourceAnswer(200, JSON, GOOD))
    breaker = Breaker(failures=3)
    answer = await Guarded(ContractKept(source, CONTRACT), breaker=breaker, retries=1).answer(asking())
    assert answer.body == GOOD
    assert len(source.asked) == 2
    with pytest.raises(BackendError):
        await ContractKept(_Gives(failing), CONTRACT).answer(asking())
    # A 500 is the system at work: what provokes it again and again must not close it to everybody else.
    faulty = _Gives(SourceAnswer(500, [(b"content-type", b"text/plain")], b"Traceback"))
    guard = Guarded(ContractKept(faulty, CONTRACT), breaker=Breaker(failures=1), retries=1)
    with pytest.raises(UnusableAnswerError):
        await guard.answer(asking())
    assert (len(faulty.asked), guard.breaker.state) == (1, "closed")
    # Whether it acted, nobody knows: that is no failure that could be tried again.
    with pytest.raises(ContractBrokenError):
        await ContractKept(_Gives(failing), CONTRACT).answer(asking(b"/people", "POST", GOOD))
    # What a caller did wrong is told to the caller, described or not.
    refused = SourceAnswer(409, [(b"content-type", b"text/plain")], b"exists")
    assert await ContractKept(_Gives(refused), CONTRACT).answer(asking(b"/people", "POST", GOOD)) == refused


async def test_only_what_can_be_checked_is_asked_for() -> None:
    source = says(200, JSON, GOOD)
    headers = [(b"accept-encoding", b"br, gzip"), (b"range", b"bytes=0-5"), (b"if-range", b"x"), (b"accept", b"*/*")]
    await ContractKept(source, CONTRACT).answer(asking(headers=headers))
    assert source.asked[0].headers == [(b"accept", b"*/*"), (b"accept-encoding", b"gzip")]
    await ContractKept(source, CONTRACT).answer(asking(headers=[(b"accept-encoding", b"br")]))
    assert source.asked[1].headers == [(b"accept-encoding", b"identity")]
    photo = says(206, [(b"content-type", b"image/png")], b"")
    await ContractKept(photo, CONTRACT).answer(asking(b"/photo", headers=headers))
    assert photo.asked[0].headers == headers


async def test_a_body_on_disk_is_checked_as_far_as_it_is_checked_at_all(tmp_path: Path) -> None:
    source = says(201)
    for body, passes in (
        (BAD + b" " * (600 << 10), False),
        (GOOD + b" " * (600 << 10), True),
        (b" " * (2 << 20), True),
    ):
        spooled = Spool(tmp_path).open(len(body))
        await spooled.add(body)
        await spooled.finish()
        request = asking(b"/people", "POST", headers=JSON, spooled=spooled)
        if passes:
            await ContractKept(source, CONTRACT).answer(request)
        else:
            with pytest.raises(RequestBeyondContractError):
                await ContractKept(source, CONTRACT).answer(request)
        spooled.close()
    assert len(source.asked) == 2


async def test_it_is_a_source_like_the_one_inside() -> None:
    source = says(200, JSON, GOOD)
    kept = ContractKept(source, CONTRACT)
    await kept.start()
    await kept.stop()
    assert (source.started, source.stopped, kept.takes_spooled) == (1, 1, False)
    source.takes_spooled = True  # type: ignore[attr-defined]
    assert kept.takes_spooled


class _Section(ServiceSection):
    def make_source(self, *, max_answer: int) -> Source:
        return says(200, JSON, BAD)


async def test_a_service_declares_its_contract_in_its_section(tmp_path: Path) -> None:
    file = tmp_path / "contract.yaml"
    file.write_text('openapi: 3.1.0\npaths: {/x: {get: {responses: {200: {description: ""}}}}}', encoding="utf-8")
    kept = _Section(contract=file).keeping_contract(says(200, JSON, BAD))
    with pytest.raises(ContractBrokenError):
        await kept.answer(asking(b"/x"))
    source = says(200, JSON, BAD)
    assert _Section().keeping_contract(source) is source


@pytest.mark.parametrize(
    ("text", "says_"), [("", "not an OpenAPI"), ("a: [", "not YAML in line"), ("openapi: '2'", "3.0 or")]
)
def test_a_file_that_is_no_contract_is_told_with_its_name(tmp_path: Path, text: str, says_: str) -> None:
    file = tmp_path / "contract.yaml"
    with pytest.raises(ContractError, match=r"contract\.yaml: No such file"):
        read_kept_contract(file)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=rf"contract\.yaml: .*{says_}"):
        read_kept_contract(file)


# At work, with a gateway


def kept(source: FunctionSource) -> Source:
    return Guarded(ContractKept(source, CONTRACT))


async def ends(carrier: Carrier, method: str, target: bytes, body: bytes = b"", **more: Any) -> tuple[MeshError, str]:
    """The error that an exchange ends with, and what stands on the record."""
    with pytest.raises(MeshError) as raised:
        await carrier.perform(method, target, body=body, headers=JSON if body else [], **more)
    return raised.value, carrier.log.happened[-1]


async def test_the_gateway_learns_which_side_broke_the_contract_and_nothing_more(
    nats_server: NatsServer, pki: Pki, ledger: FullDisk, carrier: Carrier
) -> None:
    source = says(200, JSON, BAD)
    async with adapter_on(nats_server, pki, {"enterprises": kept(source)}, ledger):
        error, record = await ends(carrier, "GET", b"/people/7")
        assert (type(error), record) == (ContractBrokenError, "failed contract-kept")
        assert (error.source, error.status) == ("backend", 502)
        # It acted, and what it did is not known: that is not to be taken for a failure that did nothing.
        error, record = await ends(carrier, "POST", b"/people", GOOD)
        assert (type(error), record) == (ContractBrokenError, "unknown contract-kept")
        asked = len(source.asked)
        error, record = await ends(carrier, "POST", b"/people", BAD)
        assert (type(error), record) == (RequestBeyondContractError, "failed contract-at-department")
        assert len(source.asked) == asked


@pytest.mark.parametrize(("release", "sent"), [(UNSET, GOOD), (("name",), b'{"name":"\\u5f20\\u4e09"}')])
async def test_release_terms_are_applied_to_what_was_checked(
    nats_server: NatsServer,
    pki: Pki,
    ledger: FullDisk,
    carrier: Carrier,
    release: tuple[str, ...] | UnsetType,
    sent: bytes,
) -> None:
    """Without `number` the answer would break the contract; with it withheld it is the answer that the grant allows."""
    source = says(200, JSON, GOOD)
    async with adapter_on(nats_server, pki, {"enterprises": kept(source)}, ledger):
        answer = await carrier.perform("GET", b"/people/7", release=release)
        assert answer.body == sent
        source._function = says(200, JSON, BAD)._function
        error, _ = await ends(carrier, "GET", b"/people/7", release=release)
        assert type(error) is ContractBrokenError
