"""What others write into a contract never holds us up: hostile schemas and patterns, and the process for what may take long."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from exchange import (
    QUICK_CHECK,
    Contract,
    ContractBreachError,
    ContractDocumentError,
    ContractsAside,
    ContractTooLongError,
    OverloadedError,
)
from exchange.contracts import aside as aside_module
from exchange.contracts import planning
from exchange.contracts.schemas import pattern_size
from tests.exchange.contract_kit import JSON, OK, Tree, document, parameter, posting, wrong

DOUBLING: Tree = {
    f"A{level}": {"allOf": [{"$ref": f"#/components/schemas/A{level + 1}"}] * 2} for level in range(40)
} | {"A40": {"type": "string"}}
"""To try A0 takes 2^40 steps."""
GROWING: Tree = {
    "anyOf": [
        {"properties": {"a": {"$ref": "#/components/schemas/Node"}}, "required": [f"never{index}"]} for index in (1, 2)
    ]
}
"""Twice as much to try at each level of the value."""


def effort(contract: Contract, body: bytes, query: bytes = b"") -> int:
    operation = contract.find("POST" if body else "GET", ())
    assert operation is not None
    return operation.effort(query, JSON, body)


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def test_steps_that_double_with_each_reference_are_known_before_they_are_taken() -> None:
    assert effort(posting({"$ref": "#/components/schemas/A0"}, **DOUBLING), b'"x"') > 1 << 40


def test_steps_that_double_with_each_level_of_a_body_count_by_its_depth() -> None:
    contract = posting({"$ref": "#/components/schemas/Node"}, Node=GROWING)
    assert effort(contract, nested(3)) < QUICK_CHECK
    assert effort(contract, nested(40)) > QUICK_CHECK * 1000
    text = b'{"b": "' + b'{\\"[' * 60 + b'"}'  # what looks like depth inside a text is none
    assert effort(contract, text) < QUICK_CHECK


def test_what_a_compressed_body_takes_is_not_known() -> None:
    operation = posting({"type": "object"}).find("POST", ())
    assert operation is not None
    assert operation.effort(b"", [*JSON, (b"content-encoding", b"gzip")], b"small") > QUICK_CHECK


def test_ordinary_schemas_are_quick_however_wide_or_recursive() -> None:
    columns = {f"c{index}": {"type": "string", "maxLength": 50} for index in range(200)}
    tables = {f"t{index}": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}} for index in range(50)}
    schemas: Tree = {
        "Row": {"type": "object", "properties": columns, "required": [*columns]},
        "Tree": {
            "properties": {
                "left": {"$ref": "#/components/schemas/Tree"},
                "right": {"$ref": "#/components/schemas/Tree"},
            }
        },
        "Both": {
            "properties": {"a": {"$ref": "#/components/schemas/Both"}},
            "additionalProperties": {"$ref": "#/components/schemas/Both"},
        },
        "Json": {
            "anyOf": [
                {"type": ["string", "number", "boolean", "null"]},
                {"type": "array", "items": {"$ref": "#/components/schemas/Json"}},
                {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Json"}},
            ]
        },
    }
    large = json.dumps({"t0": [dict.fromkeys(columns, "x" * 20)] * 4}).encode()
    assert effort(posting({"type": "object", "properties": tables}, **schemas), large) < QUICK_CHECK
    for name in ("Tree", "Both", "Json"):
        assert effort(posting({"$ref": f"#/components/schemas/{name}"}, **schemas), nested(60)) < QUICK_CHECK


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "^(([a-z])+.)+[A-Z]([a-z])+$", r"^(?=(a|aa)+$)(?=a*b)", r"(a+)+\1$"]
)
def test_a_pattern_never_runs_away_on_a_text(pattern: str) -> None:
    contract = posting({"type": "string", "pattern": pattern})
    assert contract.unchecked == ()
    # With an engine that goes back and tries again, this would not end.
    wrong(contract, body=json.dumps("a" * 50_000 + "!").encode())


@pytest.mark.parametrize("pattern", ["(a{1,1000}){1,1000}", "(", r"\p{L}{1,5000}"])
def test_a_pattern_that_cannot_be_compiled_in_bounds_judges_nothing_and_is_listed(pattern: str) -> None:
    properties = {"a": {"type": "string", "pattern": pattern}, "b": {"type": "string", "pattern": "^x$"}}
    contract = posting({"type": "object", "properties": properties})
    assert contract.unchecked == ("/paths/~1/post/requestBody/content/application~1json/schema/properties/a/pattern",)
    assert wrong(contract, body=b'{"a": "!", "b": "y"}') == [("body", "/b", "pattern")]


def test_members_that_an_unusable_pattern_may_speak_of_are_not_refused() -> None:
    contract = posting(
        {"type": "object", "patternProperties": {"(": {"type": "integer"}}, "additionalProperties": False}
    )
    assert len(contract.unchecked) == 1
    assert wrong(contract, body=b'{"a": 1}') == []


def test_patterns_cost_by_their_size_in_bodies_and_in_queries() -> None:
    short, long = r"^\d{17}[\dX]$", "(.{0,9}x.{0,9}){6}z"
    assert 0 < pattern_size(short) < pattern_size(long)
    body = json.dumps("x" * 20_000).encode()
    assert effort(posting({"pattern": short}), body) < QUICK_CHECK < effort(posting({"pattern": long}), body)
    query = b"n=" + b"x" * 15_000
    for pattern, quick in ((short, True), (long, False)):
        contract = Contract.of(
            document({"/": {"get": {"parameters": [parameter("n", {"pattern": pattern})], "responses": OK}}})
        )
        assert (effort(contract, b"", query) < QUICK_CHECK) is quick


def test_a_document_takes_only_so_much_room_and_says_what_is_left_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_NODES", 600)

    def schema(name: str) -> Tree:
        return {"type": "object", "properties": {f"{name}{index}": {"maxLength": index} for index in range(90)}}

    paths: Tree = {
        f"/{name}": {
            "post": {"requestBody": {"content": {"application/json": {"schema": schema(name)}}}, "responses": OK}
        }
        for name in "abcdefgh"
    }
    contract = Contract.of(document(paths))
    assert contract.nodes < 700
    assert contract.unchecked == tuple(
        f"/paths/~1{name}/post/requestBody/content/application~1json/schema" for name in "gh"
    )
    assert wrong(contract, "/a", body=b'{"a1": "xx"}') == [("body", "/a1", "maxLength")]
    assert wrong(contract, "/h", body=b'{"h1": "xx"}') == []
    assert wrong(contract, "/h", body=b"{}", headers=[(b"content-type", b"text/plain")]) != []


def test_errors_in_a_large_body_are_not_all_gathered() -> None:
    contract = posting({"type": "array", "items": {"type": "string"}})
    assert len(wrong(contract, body=json.dumps([1] * 1000).encode())) == 10
    assert len(wrong(contract, body=json.dumps([1] * 100_000).encode())) == 1


# The process


@pytest.fixture
async def aside() -> AsyncIterator[ContractsAside]:
    aside = ContractsAside()
    yield aside
    await aside.stop()


def posted(schema: Any, **schemas: Any) -> bytes:
    body = {"content": {"application/json": {"schema": schema}}}
    return json.dumps(document({"/": {"post": {"requestBody": body, "responses": OK}}}, schemas=schemas)).encode()


async def check(aside: ContractsAside, key: str, plan: bytes, body: bytes, seconds: float = 30.0) -> list[str]:
    """The rules that a body breaks."""
    try:
        await aside.check_request(
            key, plan, method="POST", segments=(), query=b"", headers=JSON, body=body, seconds=seconds
        )
    except ContractBreachError as breach:
        return [f"{each.pointer} {each.rule}" for each in breach.faults]
    return []


async def test_a_request_is_checked_aside_as_it_is_here(aside: ContractsAside) -> None:
    plan = await aside.plan(posted({"type": "object", "properties": {"n": {"maximum": 10**30}}}))
    for _ in range(2):  # the second time the process has it
        assert await check(aside, "a", plan, b'{"n": %d}' % 10**30) == []
        assert await check(aside, "a", plan, b'{"n": %d}' % (10**30 + 1)) == ["/n maximum"]


async def test_what_takes_too_long_ends_with_the_process_and_the_next_gets_another(aside: ContractsAside) -> None:
    endless = await aside.plan(posted({"$ref": "#/components/schemas/A0"}, **DOUBLING))
    assert await check(aside, "endless", endless, b'"x"', seconds=0.5) == [" limit"]
    plan = await aside.plan(posted({"type": "integer"}))
    assert await check(aside, "a", plan, b'"x"') == [" type"]


async def test_one_who_stops_waiting_spoils_nothing_for_the_next(aside: ContractsAside) -> None:
    endless = await aside.plan(posted({"$ref": "#/components/schemas/A0"}, **DOUBLING))
    waiting = asyncio.create_task(check(aside, "endless", endless, b'"x"'))
    while aside._process is None or not aside._given:
        await asyncio.sleep(0.005)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    plan = await aside.plan(posted({"type": "integer"}))
    assert await check(aside, "a", plan, b"1") == []


async def test_a_process_that_was_ended_is_replaced(aside: ContractsAside) -> None:
    plan = await aside.plan(posted({"type": "integer"}))
    assert aside._process is not None
    aside._process.kill()
    await aside._process.wait()
    assert await check(aside, "a", plan, b"1") == []


async def test_contracts_beyond_what_the_process_keeps_are_given_again(
    aside: ContractsAside, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [await aside.plan(posted({"maximum": index})) for index in range(aside_module._KEPT + 2)]
    for _ in range(2):
        for index, plan in enumerate(plans):
            assert await check(aside, str(index), plan, b"%d" % index) == []
            assert await check(aside, str(index), plan, b"%d" % (index + 1)) == [" maximum"]


async def test_many_that_wait_are_told_to_come_again(aside: ContractsAside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside_module, "MAX_WAITING", 2)
    document = posted({"type": "integer"})
    first = [asyncio.create_task(aside.plan(document)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await aside.plan(document)
    assert all([await each for each in first])


async def test_a_document_that_is_none_or_takes_too_long_is_told(aside: ContractsAside) -> None:
    with pytest.raises(ContractDocumentError, match="not an OpenAPI document"):
        await aside.plan(b"{}")
    with pytest.raises(ContractTooLongError):
        await aside.plan(posted({"type": "integer"}), seconds=0.0)
