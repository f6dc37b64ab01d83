"""Requests that somebody else makes of a document: what keeps to it is never refused, whatever its form.

schemathesis makes the requests, requests writes them on the wire, and jsonschema, with OpenAPI's own rules for 3.0, is the other
opinion of a body.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS30StrictValidator, OAS31Validator

from exchange import Contract, Headers, InvalidRequestError, parse_path
from tests.exchange.contract_kit import OK, VERSIONS, Found, Tree, document, parameter, posting, wrong

EXAMPLES = settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)
WORDS: Tree = {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "minItems": 1}
NUMBERS: Tree = {"type": "array", "items": {"type": "integer"}, "minItems": 1}


def members(**properties: Tree) -> Tree:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def offered(version: str) -> Tree:
    """Every way to write a parameter, and bodies with references, alternatives and nulls."""
    old = version.startswith("3.0")

    def nullable(schema: Tree) -> Tree:
        return {**schema, "nullable": True} if old else {**schema, "type": [schema["type"], "null"]}

    node = members(
        id={"type": "string", "format": "uuid"},
        name=nullable({"type": "string", "maxLength": 5}),
        children={"type": "array", "maxItems": 2, "items": {"$ref": "#/components/schemas/Node"}},
        when={"type": "string", "format": "date-time"},
        count={"type": "integer", "format": "int32"},
        share={"type": "number", "exclusiveMinimum": True, "minimum": 0}
        if old
        else {"type": "number", "exclusiveMinimum": 0},
        kind={"enum": ["甲", "乙"]},
    ) | {"required": ["id"]}
    pair = [
        members(k={"enum": [kind]}, v=value) | {"required": ["k"]}
        for kind, value in (("a", {"type": "integer"}), ("b", {"type": "string", "format": "date"}))
    ]
    parameters = [
        parameter("s", {"type": "string", "minLength": 1, "maxLength": 8}, "path"),
        parameter("i", {"type": "integer"}, "path"),
        parameter("text", {"type": "string"}),
        parameter("whole", {"type": "integer", "minimum": -5}),
        parameter("number", {"type": "number"}),
        parameter("flag", {"type": "boolean"}),
        parameter("each", NUMBERS),
        parameter("comma", WORDS, explode=False),
        parameter("space", WORDS, style="spaceDelimited", explode=False),
        parameter("pipe", NUMBERS, style="pipeDelimited", explode=False),
        parameter("deep", members(a={"type": "integer"}, b={"type": "string"}), style="deepObject"),
        parameter("spread", members(sa={"type": "integer"}, sb={"type": "string"})),
        parameter("X-Number", {"type": "integer"}, "header"),
        parameter("X-Many", NUMBERS, "header"),
        parameter("cookie", {"type": "integer"}, "cookie"),
        {
            "name": "json",
            "in": "query",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Node"}}},
        },
    ]

    def body(schema: Tree) -> Tree:
        return {
            "post": {
                "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
                "responses": OK,
            }
        }

    paths: Tree = {
        "/a/{s}/{i}": {"get": {"parameters": parameters, "responses": OK}},
        "/tree": body({"$ref": "#/components/schemas/Node"}),
        "/pair": body({"oneOf": pair}),
    }
    return document(paths, version, {"Node": node})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", ["/a/{s}/{i}", "/tree", "/pair"])
def test_a_request_that_keeps_to_the_contract_is_never_refused(version: str, path: str) -> None:
    tree = offered(version)
    contract = Contract.of(tree)
    method = "POST" if "post" in tree["paths"][path] else "GET"
    operation = schemathesis.openapi.from_dict(tree)[path][method]
    checked = 0

    @EXAMPLES
    @given(operation.as_strategy())
    def try_each(case: Any) -> None:
        nonlocal checked
        found = found_wrong(contract, case)
        checked += found is not None
        assert not found, (case, found)

    try_each()
    assert checked > 10


def found_wrong(contract: Contract, case: Any) -> Found | None:
    """What is wrong with a case as it comes over the wire; None if it could not come."""
    try:
        arguments = case.as_transport_kwargs(base_url="http://x")
        taken = ("method", "url", "headers", "params", "json", "data", "cookies")
        sent = requests.Request(**{name: value for name, value in arguments.items() if name in taken}).prepare()
        url = urlsplit(str(sent.url))
        _, segments, _ = parse_path(b"/r1/CN/GOV/1/s/x" + url.path.encode())
    except (InvalidRequestError, ValueError):
        return None
    if contract.find(str(sent.method), segments) is None:
        return None  # an empty segment, or a slash in one
    body = sent.body.encode() if isinstance(sent.body, str) else sent.body or b""
    assert isinstance(body, bytes)
    headers: Headers = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in sent.headers.items()
    ]
    target = "/" + "/".join(quote(each, safe="") for each in segments)
    return wrong(contract, f"{target}?{url.query}", body, headers, method=str(sent.method))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, "", "ab", "甲", "2026-01-01", 10**20]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=6,
)
LEAVES = st.sampled_from(
    [
        {"type": "integer", "minimum": 0},
        {"type": "number", "maximum": 1, "multipleOf": 0.5},
        {"type": "string", "maxLength": 1},
        {"type": "string", "pattern": "^[ab]+$"},
        {"type": "string", "enum": ["ab", "甲"]},
        {"type": "boolean"},
        {"$ref": "#/components/schemas/Word"},
        {"type": "array", "maxItems": 1, "items": {}},
        {},
    ]
)


def _composed(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    several = st.lists(inner, min_size=1, max_size=2)
    an_object = st.builds(
        lambda properties, required, closed: {
            "type": "object",
            "properties": properties,
            "required": required,
            **({"additionalProperties": False} if closed else {}),
        },
        st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
        st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2, unique=True),
        st.booleans(),
    )
    in_place = st.builds(lambda key, each: {key: each}, st.sampled_from(["allOf", "anyOf", "oneOf"]), several)
    return (
        an_object
        | in_place
        | inner.map(lambda each: {"type": "array", "items": each})
        | inner.map(lambda each: {"not": each})
    )


SCHEMAS = st.recursive(LEAVES, _composed, max_leaves=4)


@pytest.mark.parametrize(("version", "other"), [("3.0.3", OAS30StrictValidator), ("3.1.0", OAS31Validator)])
def test_a_body_is_judged_as_another_validator_judges_it(version: str, other: Callable[..., Any]) -> None:
    word = {"type": "string", "minLength": 2}

    @EXAMPLES
    @given(SCHEMAS, st.lists(VALUES, min_size=5, max_size=10))
    def try_each(schema: Tree, values: list[Any]) -> None:
        contract = posting(schema, version, Word=word)
        alone = json.loads(json.dumps(schema).replace('{"$ref": "#/components/schemas/Word"}', json.dumps(word)))
        for value in values:
            found = wrong(contract, body=json.dumps(value).encode())
            assert (not found) == other(alone).is_valid(value), (schema, value, found)

    try_each()
