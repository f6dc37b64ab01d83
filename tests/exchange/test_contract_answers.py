"""Answers against a contract: what a department's system says is held to what the department promised."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest

from exchange import AnswerBreachError, Contract, Headers
from exchange.contracts.contract import LARGEST
from tests.exchange.contract_kit import JSON, VERSIONS, Found, Tree, answering, document, json_of, wrong_answer

PERSON: Tree = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "maxLength": 4}}}
RESPONSES: Tree = {
    "200": json_of({"$ref": "#/components/schemas/Person"}),
    "204": {"description": "none"},
    "4XX": json_of({"type": "object", "required": ["title"]}, "application/problem+json"),
    "404": {"description": "not found, without a word"},
}
GOOD, BAD = json.dumps({"name": "张三"}).encode(), json.dumps({"name": 3}).encode()
PROBLEM: Headers = [(b"content-type", b"application/problem+json")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("status", "body", "headers", "found"),
    [
        (200, GOOD, JSON, []),
        (200, BAD, JSON, [("body", "/name", "type")]),
        (200, b"{}", JSON, [("body", "", "required")]),
        (200, b"<html>", [(b"content-type", b"text/html")], [("body", "", "content-type")]),
        (200, GOOD, [], [("body", "", "content-type")]),
        (200, b"", JSON, [("body", "", "missing")]),
        (200, None, JSON, []),
        (200, None, [(b"content-type", b"text/html")], [("body", "", "content-type")]),
        (200, b'{"name": "' + b"x" * LARGEST + b'"}', JSON, []),
        (201, GOOD, JSON, [("body", "", "status")]),
        (302, b"", [(b"location", b"/x")], [("body", "", "status")]),
        (304, b"", [], []),
        (204, b"", [], []),
        (400, b'{"title": "x"}', PROBLEM, []),
        (400, b"{}", PROBLEM, [("body", "", "required")]),
        (400, GOOD, JSON, [("body", "", "content-type")]),
        (404, b"", [], []),
        (404, b"x", [(b"content-type", b"text/plain")], [("body", "", "undescribed")]),
        (500, b"Traceback", [(b"content-type", b"text/plain")], [("body", "", "status")]),
    ],
)
def test_status_type_and_body_of_an_answer_are_held_to_the_contract(
    version: str, status: int, body: bytes | None, headers: Headers, found: Found
) -> None:
    assert wrong_answer(answering(RESPONSES, version, Person=PERSON), status, body, headers) == found


def test_without_a_word_about_errors_those_of_callers_pass_and_those_of_the_system_do_not() -> None:
    contract = answering({"200": json_of(PERSON)})
    html: Headers = [(b"content-type", b"text/html")]
    assert wrong_answer(contract, 404, b"<html>", html) == []
    assert wrong_answer(contract, 503, b"<html>", html) == [("body", "", "status")]


def test_default_stands_for_every_status_that_is_not_named() -> None:
    contract = answering({"200": json_of(PERSON), "default": json_of({"type": "object", "required": ["code"]})})
    assert wrong_answer(contract, 500, b'{"code": 5}') == []
    assert wrong_answer(contract, 500, GOOD) == [("body", "", "required")]
    assert wrong_answer(contract, 304, b"", []) == []


def test_an_answer_to_head_has_no_body_to_look_at() -> None:
    contract = answering(RESPONSES, Person=PERSON)
    assert wrong_answer(contract, 200, b"", JSON, head=True) == []
    assert wrong_answer(contract, 201, b"", JSON, head=True) == [("body", "", "status")]


@pytest.mark.parametrize(
    ("encoding", "body", "found"),
    [
        (b"gzip", gzip.compress(GOOD), []),
        (b"gzip", gzip.compress(BAD), [("body", "/name", "type")]),
        (b"gzip", gzip.compress(BAD)[:-9], [("body", "", "encoding")]),
        (b"gzip", GOOD, [("body", "", "encoding")]),
        (b"br", GOOD, [("body", "", "encoding")]),
        (b"identity", BAD, [("body", "/name", "type")]),
        (b"gzip", gzip.compress(GOOD) + gzip.compress(BAD), [("body", "", "encoding")]),
    ],
    ids=["good", "bad", "cut", "not packed", "another", "none", "two"],
)
def test_a_compressed_answer_is_checked_as_what_it_says(encoding: bytes, body: bytes, found: Found) -> None:
    headers = [*JSON, (b"content-encoding", encoding)]
    assert wrong_answer(answering(RESPONSES, Person=PERSON), 200, body, headers) == found


def test_an_answer_that_is_large_when_unpacked_is_not_unpacked_whole() -> None:
    bomb = gzip.compress(b"[" + b" " * (32 << 20) + b"]")
    contract = answering(RESPONSES, Person=PERSON)
    tracemalloc.start()
    try:
        assert wrong_answer(contract, 200, bomb, [*JSON, (b"content-encoding", b"gzip")]) == []
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_what_only_requests_hold_need_not_be_in_an_answer() -> None:
    schema: Tree = {
        "type": "object",
        "required": ["id", "password"],
        "properties": {"id": {"type": "string", "readOnly": True}, "password": {"type": "string", "writeOnly": True}},
    }
    contract = answering({"200": json_of(schema)})
    assert wrong_answer(contract, 200, b'{"id": "1"}') == []
    assert wrong_answer(contract, 200, b'{"password": "1"}') == [("body", "", "required")]


def test_a_schema_is_used_for_requests_and_answers_alike_and_is_not_mixed_up() -> None:
    schema: Tree = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string", "readOnly": True}}}
    refers: Tree = {"$ref": "#/components/schemas/Thing"}
    body = {"content": {"application/json": {"schema": refers}}}
    contract = Contract.of(
        document(
            {"/": {"put": {"requestBody": body, "responses": {"200": json_of(refers)}}}}, schemas={"Thing": schema}
        )
    )
    operation = contract.find("PUT", ())
    assert operation is not None
    operation.check_request((), b"", JSON, b"{}")
    with pytest.raises(AnswerBreachError) as raised:
        operation.check_answer(200, JSON, b"{}")
    assert str(raised.value) == "body: lacks id."
