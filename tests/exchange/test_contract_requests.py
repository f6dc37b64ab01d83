"""Requests against a contract: what breaks it is told with its place, and what keeps to it is never refused."""

from __future__ import annotations

import gzip
import json
from typing import Any

import msgspec
import pytest

from exchange import Contract, ContractBreachError, ContractDocumentError, Headers, read_contract_document
from exchange.contracts.contract import LARGEST, read_plan
from exchange.contracts.planning import plan_of
from tests.exchange.contract_kit import (
    JSON,
    OK,
    VERSIONS,
    Found,
    Tree,
    asking,
    document,
    parameter,
    posting,
    wrong,
)

INTEGERS: Tree = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
WORDS: Tree = {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}}
RANGE: Tree = {
    "type": "object",
    "properties": {"from": {"type": "integer"}, "to": {"type": "integer"}},
    "additionalProperties": False,
}

GOOD_PARAMETERS: list[tuple[Tree, str]] = [
    (parameter("n", {"type": "integer"}), "/?n=-5"),
    (parameter("n", {"type": "integer"}), "/?n=123456789012345678901234567890"),
    (parameter("n", {"type": "integer"}), "/?other=x"),
    (parameter("n", {"type": "number", "maximum": 2}), "/?n=1.5e0"),
    (parameter("n", {"type": "boolean"}), "/?n=true"),
    (parameter("n", {"type": "string"}), "/?n=007"),
    (parameter("n", {"type": "string", "enum": ["1", "2"]}), "/?n=2"),
    (parameter("n", {"enum": [1, 2]}), "/?n=2"),
    (parameter("n", {"type": "string", "pattern": r"^\p{Script=Han}{2,4}$"}), "/?n=%E5%BC%A0%E4%B8%89"),
    (parameter("n", {"type": "string", "format": "date"}), "/?n=2026-11-23"),
    (parameter("n", {"anyOf": [{"type": "integer"}, {"type": "string", "format": "uuid"}]}), "/?n=7"),
    (parameter("n", {"type": ["integer", "null"]}), "/?n="),
    (parameter("n", {"type": "integer"}, allowEmptyValue=True), "/?n"),
    (parameter("n", INTEGERS), "/?n=1&n=2"),
    (parameter("n", INTEGERS, explode=False), "/?n=1,2"),
    (parameter("n", INTEGERS, explode=False), "/?n=1%2C2"),
    (parameter("n", WORDS, explode=False, style="pipeDelimited"), "/?n=a%7Cb"),
    (parameter("n", WORDS, explode=False, style="spaceDelimited"), "/?n=a%20b"),
    (parameter("n", WORDS, explode=False, style="spaceDelimited"), "/?n=a+b"),
    (parameter("n", {"type": "array", "items": {"type": "string"}}, explode=False), "/?n=a%2Cb,c"),
    (parameter("n", {"oneOf": [{"type": "string"}, WORDS]}), "/?n=x&n=y"),
    (parameter("n", RANGE, style="deepObject"), "/?n[from]=1&n%5Bto%5D=2"),
    (parameter("n", RANGE), "/?from=1&to=2&other=3"),
    (parameter("n", RANGE, explode=False), "/?n=from,1,to,2"),
    ({"name": "n", "in": "query", "content": {"application/json": {"schema": RANGE}}}, "/?n=%7B%22from%22%3A1%7D"),
]
BAD_PARAMETERS: list[tuple[Tree, str, Found]] = [
    (parameter("n", {"type": "integer"}, required=True), "/?m=1", [("query", "/n", "missing")]),
    (parameter("n", {"type": "integer"}), "/?n=1.5", [("query", "/n", "type")]),
    (parameter("n", {"type": "integer", "format": "int32"}), "/?n=2147483648", [("query", "/n", "maximum")]),
    (parameter("n", {"type": "integer"}), "/?n=1&n=2", [("query", "/n", "repeated")]),
    (parameter("n", {"type": "boolean"}), "/?n=yes", [("query", "/n", "type")]),
    (
        parameter("n", {"type": "string", "maxLength": 2}),
        "/?n=%E5%BC%A0%E4%B8%89%E4%B8%89",
        [("query", "/n", "maxLength")],
    ),
    (parameter("n", {"type": "string"}), "/?n=%FF", [("query", "/n", "encoding")]),
    (parameter("n", {"type": "string", "format": "date"}), "/?n=2026-13-01", [("query", "/n", "format")]),
    (parameter("n", INTEGERS), "/?n=1&n=x", [("query", "/n/1", "type")]),
    (parameter("n", RANGE, style="deepObject"), "/?n[from]=x", [("query", "/n/from", "type")]),
    (parameter("n", RANGE, style="deepObject"), "/?n[of]=1", [("query", "/n/of", "additionalProperties")]),
    (parameter("n", RANGE, style="deepObject"), "/?n[to]=1&n[to]=2", [("query", "/n", "repeated")]),
    (
        {"name": "n", "in": "query", "content": {"application/json": {"schema": RANGE}}},
        "/?n=x",
        [("query", "/n", "json")],
    ),
]


@pytest.mark.parametrize("case", range(len(GOOD_PARAMETERS)))
def test_a_parameter_that_keeps_to_its_schema_and_style_passes(case: int) -> None:
    declared, target = GOOD_PARAMETERS[case]
    assert wrong(asking(declared), target) == []


@pytest.mark.parametrize("case", range(len(BAD_PARAMETERS)))
def test_a_parameter_that_does_not_is_named(case: int) -> None:
    declared, target, found = BAD_PARAMETERS[case]
    assert wrong(asking(declared), target) == found


@pytest.mark.parametrize(
    ("path", "style", "schema", "explode", "good", "bad"),
    [
        ("/{n}", "simple", {"type": "integer"}, False, "/7", "/x"),
        ("/{n}", "simple", {"type": "string", "maxLength": 3}, False, "/%251", "/%2525"),  # decoded once, not twice
        ("/{n}", "simple", INTEGERS, False, "/1,2", "/1,x"),
        ("/{n}.pdf", "simple", {"type": "integer"}, False, "/7.pdf", "/x.pdf"),
        ("/{n}", "label", {"type": "integer"}, False, "/.7", "/7"),
        ("/{n}", "matrix", {"type": "integer"}, False, "/;n=7", "/n=7"),
        ("/{n}", "matrix", INTEGERS, True, "/;n=7;n=8", "/;n=7;n=x"),
        ("/{n}", "simple", RANGE, True, "/from=1,to=2", "/from=x"),
    ],
)
def test_parameters_of_a_path_are_read_by_their_style(
    path: str, style: str, schema: Tree, explode: bool, good: str, bad: str
) -> None:
    contract = asking(parameter("n", schema, "path", style=style, explode=explode), path=path)
    if "%25" in good:  # "%25" is one character, "%2525" are three
        contract = asking(parameter("n", {**schema, "maxLength": 2}, "path"), path=path)
    assert wrong(contract, good) == []
    assert [part for part, _, _ in wrong(contract, bad)] == ["path"]


def test_headers_and_cookies_are_parameters_and_those_of_the_connection_are_not() -> None:
    contract = asking(
        parameter("X-Count", {"type": "integer"}, "header", required=True),
        parameter("X-Many", INTEGERS, "header"),
        parameter("session", {"type": "string", "minLength": 2}, "cookie"),
        parameter("Authorization", {"type": "integer"}, "header", required=True),
        parameter("User-Agent", {"type": "integer"}, "header", required=True),
    )

    def found(*headers: tuple[bytes, bytes]) -> Found:
        return wrong(contract, headers=[*headers], method="GET")

    assert found((b"x-count", b"3"), (b"x-many", b"1"), (b"x-many", b"2"), (b"cookie", b"a=b; session=xy")) == []
    assert found((b"x-many", b"1,x"), (b"cookie", b"session=x")) == [
        ("header", "/x-count", "missing"),
        ("header", "/x-many/1", "type"),
        ("cookie", "/session", "minLength"),
    ]


def test_the_parameters_of_a_path_hold_for_all_its_operations_unless_one_declares_its_own() -> None:
    shared, own = parameter("n", {"type": "integer"}), parameter("n", {"type": "boolean"})
    contract = Contract.of(
        document(
            {
                "/": {
                    "parameters": [shared],
                    "get": {"responses": OK},
                    "delete": {"parameters": [own], "responses": OK},
                }
            }
        )
    )
    assert wrong(contract, "/?n=1") == []
    assert wrong(contract, "/?n=1", method="DELETE") == [("query", "/n", "type")]


def test_what_stands_beside_a_reference_to_a_path_counts_first() -> None:
    tree = document({"/": {"$ref": "#/components/pathItems/All", "parameters": [parameter("n", {"type": "boolean"})]}})
    tree["components"]["pathItems"] = {
        "All": {"parameters": [parameter("n", {"type": "integer"})], "get": {"responses": OK}}
    }
    contract = Contract.of(tree)
    assert wrong(contract, "/?n=true") == []
    assert wrong(contract, "/?n=1") == [("query", "/n", "type")]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_body_is_held_against_its_schema_through_references(version: str) -> None:
    person = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "maxLength": 3},
            "parents": {"type": "array", "maxItems": 2, "items": {"$ref": "#/components/schemas/Person"}},
        },
        "additionalProperties": False,
    }
    contract = posting({"$ref": "#/components/schemas/Person"}, version, Person=person)
    good = {"name": "张三", "parents": [{"name": "张二", "parents": [{"name": "张一"}]}]}
    assert wrong(contract, body=json.dumps(good).encode()) == []
    bad = {"name": "张三", "parents": [{"name": "欧阳修远"}, {"nom": "x"}]}
    assert sorted(wrong(contract, body=json.dumps(bad).encode())) == [
        ("body", "/parents/0/name", "maxLength"),
        ("body", "/parents/1", "required"),
        ("body", "/parents/1/nom", "additionalProperties"),
    ]


NULLABLE_3_0: list[tuple[Tree, str, bool]] = [
    ({"type": "string", "nullable": True}, "null", True),
    ({"type": "string"}, "null", False),
    ({"type": "string", "nullable": True, "enum": ["a"]}, "null", True),
    ({"type": "string", "nullable": True, "enum": ["a"]}, '"b"', False),
    ({"nullable": True, "allOf": [{"$ref": "#/components/schemas/Word"}]}, "null", True),
    ({"allOf": [{"$ref": "#/components/schemas/Word"}]}, "null", False),
    ({"$ref": "#/components/schemas/Word", "nullable": True}, "null", False),  # nothing counts beside a reference
    ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, "1", False),
    ({"type": "number", "minimum": 1, "exclusiveMinimum": False}, "1", True),
    ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, "1", False),
    ({"type": "number", "exclusiveMaximum": True}, "1", True),
    ({"type": "object", "properties": {"nullable": {"type": "integer"}}}, '{"nullable": "x"}', False),
    ({"type": "object", "properties": {"example": {"type": "integer"}}}, '{"example": 1}', True),
    ({"enum": [{"type": "x", "nullable": True}]}, '{"type": "x", "nullable": true}', True),
]


@pytest.mark.parametrize("case", range(len(NULLABLE_3_0)))
def test_what_openapi_3_0_says_in_its_own_way_is_understood(case: int) -> None:
    schema, body, good = NULLABLE_3_0[case]
    found = wrong(posting(schema, "3.0.3", Word={"type": "string"}), body=body.encode())
    assert (found == []) is good


def test_openapi_3_1_counts_what_stands_beside_a_reference() -> None:
    contract = posting({"$ref": "#/components/schemas/Word", "maxLength": 2}, Word={"type": "string"})
    assert wrong(contract, body=b'"abc"') == [("body", "", "maxLength")]


@pytest.mark.parametrize(
    ("schema", "good", "bad", "rule"),
    [
        ({"type": "integer"}, "1e2", "1.5", "type"),
        ({"type": "integer", "maximum": 10**30}, str(10**30), str(10**30 + 1), "maximum"),
        ({"type": "integer", "format": "int64"}, str(2**63 - 1), str(2**63), "maximum"),
        ({"const": 12345678901234567890123}, "12345678901234567890123", "12345678901234567890124", "const"),
        ({"type": "string", "format": "uuid"}, '"6f61ea95-fb6f-1655-a8fa-23f0ee3b9b60"', '"6f61ea95"', "format"),
        ({"type": "string", "format": "date-time"}, '"2026-11-23T08:00:00+08:00"', '"2026-11-23 08:00"', "format"),
        ({"type": "string", "format": "ipv4"}, '"10.0.0.1"', '"10.0.0.256"', "format"),
        ({"type": "string", "format": "of-our-own"}, '"anything"', "1", None),
        ({"type": "string", "maxLength": 2}, '"\U00020000\U00020001"', '"abc"', "maxLength"),
        ({"type": "string", "pattern": "^(?!000)[0-9]{3}$"}, '"001"', '"000"', "pattern"),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, "[1]", "[1, 2]", None),
        ({"uniqueItems": True}, "[1, 2]", "[1, 1.0]", "uniqueItems"),
        ({"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}}, '{"a": 1}', '{"A": 1}', None),
        ({"type": "object", "patternProperties": {"^n": {"type": "integer"}}}, '{"n1": 1}', '{"n1": "x"}', "type"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, '{"a": 1, "b": 2}', '{"a": 1}', None),
        (
            {"allOf": [{"properties": {"a": True}}], "unevaluatedProperties": False, "type": "object"},
            '{"a": 1}',
            '{"b": 1}',
            "unevaluatedProperties",
        ),
        ({"if": {"type": "integer"}, "then": {"minimum": 5}}, '"x"', "1", "minimum"),
        ({"type": "array", "contains": {"const": 1}}, "[1]", "[2]", "contains"),
        ({"type": "object", "minProperties": 1}, '{"a": 1}', "{}", "minProperties"),
    ],
)
def test_every_keyword_that_judges_a_value_counts(schema: Tree, good: str, bad: str, rule: str | None) -> None:
    contract = posting(schema)
    assert wrong(contract, body=good.encode()) == []
    found = wrong(contract, body=bad.encode())
    if schema.get("format") == "of-our-own":
        assert found == [("body", "", "type")]
    elif rule is None:
        assert len(found) == 1
    else:
        assert [each for _, _, each in found] == [rule]


def test_of_several_forms_the_one_that_came_furthest_is_told() -> None:
    person = {
        "type": "object",
        "required": ["kind", "age"],
        "properties": {"kind": {"const": "p"}, "age": {"type": "integer"}},
    }
    firm = {"type": "object", "required": ["kind"], "properties": {"kind": {"const": "f"}}}
    contract = posting({"type": "object", "properties": {"party": {"oneOf": [person, firm]}}})
    found = wrong(contract, body=b'{"party": {"kind": "p", "age": "x"}}')
    assert found == [("body", "/party/age", "type")]
    assert wrong(contract, body=b'{"party": 5}') == [("body", "/party", "oneOf")]


def test_what_only_answers_hold_need_not_be_in_a_request() -> None:
    schema = {
        "type": "object",
        "required": ["id", "secret", "name"],
        "properties": {
            "id": {"$ref": "#/components/schemas/Id"},
            "secret": {"type": "string", "writeOnly": True},
            "name": {},
        },
    }
    contract = posting(schema, "3.0.3", Id={"type": "string", "readOnly": True})
    assert wrong(contract, body=b'{"secret": "x", "name": "y"}') == []
    assert wrong(contract, body=b'{"name": "y"}') == [("body", "", "required")]


@pytest.mark.parametrize(
    ("headers", "body", "found"),
    [
        (JSON, b"", [("body", "", "missing")]),
        (JSON, b"{", [("body", "", "json")]),
        (JSON, b'"\xff"', [("body", "", "json")]),
        (JSON, b"\xef\xbb\xbf{}", [("body", "", "json")]),
        (JSON, b"[" * 70 + b"]" * 70, [("body", "", "limit")]),
        (JSON, b"[" * 100_000, [("body", "", "limit")]),
        ([], b"{}", [("body", "", "content-type")]),
        ([(b"content-type", b"text/plain")], b"{}", [("body", "", "content-type")]),
        ([(b"content-type", b"application/json; charset=gbk")], b"{}", [("body", "", "content-type")]),
        ([(b"content-type", b'Application/JSON;charset="UTF-8"')], b"{}", []),
        ([(b"content-type", b"application/xml")], b"<a/>", []),
        ([(b"content-type", b"image/png")], b"\x89PNG", []),
        ([(b"content-type", b"application/merge-patch+json")], b"[]", [("body", "", "type")]),
        (JSON, b'{"a": "' + b"]" * 200 + b'\\"{{{"}', []),
        (JSON, None, []),
        ([*JSON, (b"content-encoding", b"gzip")], gzip.compress(b"{}"), []),
        ([*JSON, (b"content-encoding", b"gzip")], gzip.compress(b"[]"), [("body", "", "type")]),
        ([*JSON, (b"content-encoding", b"br")], b"\x0b\x01\x80{}\x03", [("body", "", "encoding")]),
        (JSON, b'{"a":"' + b"x" * LARGEST + b'"}', []),
    ],
)
def test_the_type_of_a_body_counts_and_json_is_read(headers: Headers, body: bytes | None, found: Found) -> None:
    content: Tree = {
        "application/json": {"schema": {"type": "object"}},
        "application/merge-patch+json; charset=utf-8": {"schema": {"type": "object"}},
        "application/xml": {"schema": {"type": "integer"}},
        "image/*": {},
    }
    body_of: Tree = {"required": True, "content": content}
    contract = Contract.of(document({"/": {"post": {"requestBody": body_of, "responses": OK}}}))
    assert wrong(contract, body=body, headers=headers, method="POST") == found


def test_a_body_that_may_be_left_out_may_and_one_where_none_is_described_may_not() -> None:
    assert wrong(posting({"type": "object"}, required=False), method="POST") == []
    assert wrong(asking(), body=b"{}", method="GET") == [("body", "", "undescribed")]


def test_the_most_literal_path_is_the_operation_and_head_is_get() -> None:
    paths: Tree = {
        path: {"get": {"operationId": path, "responses": OK}}
        for path in ("/{a}/{b}", "/people/{n}", "/people/me", "/{a}.{b}", "/", "/é/x")
    }
    contract = Contract.of(document(paths))

    def found(method: str, *segments: str) -> str | None:
        operation = contract.find(method, segments)
        return operation.path if operation else None

    assert found("GET", "people", "me") == "/people/me"
    assert found("GET", "people", "7") == "/people/{n}"
    assert found("HEAD", "x", "7") == "/{a}/{b}"
    assert found("GET", "x.y.z") == "/{a}.{b}"
    assert found("GET", "x.") is None
    assert found("GET", "x") is None
    assert found("GET") == found("GET", "") == "/"
    assert found("GET", "é", "x") == "/é/x"
    assert found("POST", "people", "me") is None
    assert found("GET", "a", "b", "c") is None


def test_a_text_tells_where_and_what_and_nothing_of_what_was_sent() -> None:
    secret = "11010519491231002X"
    contract = posting({"type": "object", "properties": {"number": {"enum": ["a"]}, "n": {"maximum": 5}}})
    operation = contract.find("POST", ())
    assert operation is not None
    with pytest.raises(ContractBreachError) as raised:
        operation.check_request((), b"", JSON, json.dumps({"number": secret, "n": 110105194912310020}).encode())
    breach = raised.value
    told = json.dumps([breach.errors_in("en"), breach.errors_in("zh"), breach.detail_in("en"), breach.detail_in("zh")])
    assert secret not in told
    assert "110105194912310020" not in told
    assert (breach.status, breach.code, breach.rule) == (422, "unprocessable", "contract-body")
    assert breach.pointer == breach.faults[0].pointer
    assert {"in": "body", "pointer": "/n", "rule": "maximum", "detail": "is above 5"} in breach.errors_in("en")
    assert breach.detail_in("en").endswith("And 1 more.")


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({}, "not an OpenAPI document"),
        ({"openapi": "2.0", "paths": {}}, "not an OpenAPI document"),
        ({"openapi": "3.1.0"}, "no paths"),
        (document({"/": {"get": {"parameters": [{"$ref": "#/no"}], "responses": OK}}}), "leads nowhere"),
        (document({"/": {"get": {"parameters": [{"$ref": "other.yaml"}], "responses": OK}}}), "not of the form"),
        (document({"/": {"get": {"parameters": 5, "responses": OK}}}), "cannot be read"),
    ],
)
def test_a_document_that_is_none_is_refused(tree: Tree, says: str) -> None:
    with pytest.raises(ContractDocumentError, match=says):
        Contract.of(tree)


@pytest.mark.parametrize(
    "schemas",
    [
        {"A": {"$ref": "#/components/schemas/A"}},
        {"A": {"allOf": [{"$ref": "#/components/schemas/B"}]}, "B": {"anyOf": [{"$ref": "#/components/schemas/A"}]}},
        {"A": {"type": 5}},
    ],
)
def test_schemas_that_mean_nothing_are_refused(schemas: Tree) -> None:
    with pytest.raises(ContractDocumentError):
        posting({"$ref": "#/components/schemas/A"}, **schemas)


YAML = """
openapi: 3.0.3
info: {title: x, version: 2024-01-01}
paths:
  /:
    get:
      parameters:
        - {name: flag, in: query, schema: {type: string, enum: [yes, no, 1_000, 2024-01-01]}}
      responses:
        200: {description: ok}
"""


def test_yaml_is_read_for_the_json_that_it_writes() -> None:
    tree = read_contract_document(YAML.encode())
    assert json.loads(json.dumps(tree)) == tree
    assert tree["paths"]["/"]["get"]["parameters"][0]["schema"]["enum"] == ["yes", "no", "1_000", "2024-01-01"]
    assert tree["paths"]["/"]["get"]["responses"] == {"200": {"description": "ok"}}
    contract = Contract.of(tree)
    assert wrong(contract, "/?flag=yes") == []
    assert wrong(contract, "/?flag=true") == [("query", "/flag", "enum")]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"{",
        b"[1]",
        b"a: [",
        b"a: &x 1\nb: *x",
        b"a: 1\na: 2",
        b"? [1]\n: 2",
        b"",
        gzip.compress(b"{}"),
        b"[" * 500 + b"]" * 500,
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_document_is_told_so(data: bytes) -> None:
    with pytest.raises(ContractDocumentError):
        read_contract_document(data)


def test_a_contract_is_made_anew_of_its_plan() -> None:
    """What a process hands to another makes the same contract, integers of any size included."""
    schema: Any = {"type": "integer", "maximum": 10**30}
    body = {"content": {"application/json": {"schema": schema}}}
    plan = plan_of(document({"/": {"post": {"requestBody": body, "responses": OK}}}))
    again = Contract(read_plan(msgspec.json.encode(plan)))
    assert wrong(again, body=str(10**30).encode()) == []
    assert wrong(again, body=str(10**30 + 1).encode()) == [("body", "", "maximum")]
    with pytest.raises(ContractDocumentError):
        read_plan(b"{}")
