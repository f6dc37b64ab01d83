"""What a new document adds, changes and breaks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.descriptions.difference import MAX_ALTERATIONS, Difference, difference
from tests.registry.description_kit import (
    OK,
    VERSIONS,
    Tree,
    answering,
    asking,
    changed,
    compared,
    getting,
    only,
    posting,
    query,
    read,
    ref,
    rules,
    tree,
)

TEXT: Tree = {"type": "string"}
DATE: Tree = {"type": "string", "format": "date"}
SCHEMA = "/paths/~1thing/get/responses/200/content/application~1json/schema"


def thing(required: Any = (), **properties: Any) -> Tree:
    more: Tree = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, **more}


def nothing(found: Difference) -> None:
    assert found == Difference()


# Operations


def test_the_first_document_adds_everything() -> None:
    found = difference(None, read(tree(paths={"/a": {"get": {"responses": OK}, "put": {"responses": OK}}})))
    assert rules(found.added) == ["operation-added", "operation-added"]
    assert [(each.method, each.path, each.pointer) for each in found.added] == [
        ("GET", "/a", "/paths/~1a/get"),
        ("PUT", "/a", "/paths/~1a/put"),
    ]
    assert (found.changed, found.breaking) == ((), ())


def test_operations_come_and_go() -> None:
    old = tree(paths={"/a": {"get": {"responses": OK}}, "/b": {"get": {"responses": OK}}})
    new = tree(paths={"/a": {"get": {"responses": OK}, "post": {"responses": OK}}})
    found = compared(old, new)
    assert [(each.rule, each.method, each.path) for each in found.breaking] == [("operation-removed", "GET", "/b")]
    assert [(each.rule, each.method, each.path) for each in found.added] == [("operation-added", "POST", "/a")]
    assert found.breaking[0].pointer == "/paths/~1b/get"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_document_differs_in_nothing(version: str) -> None:
    found = getting(
        ref("Node"),
        version,
        Node=thing(("a",), a=TEXT, node=ref("Node"), nodes={"type": "array", "items": ref("Node")}),
    )
    nothing(compared(found, found))


def test_texts_order_names_of_placeholders_and_where_schemas_stand_make_no_difference() -> None:
    def document(name: str, answer: Any, **more: Any) -> Tree:
        parameter = {"name": name, "in": "path", "required": True, "schema": TEXT}
        made = tree(
            paths={f"/a/{{{name}}}": {"get": {"parameters": [parameter], "responses": answering(answer)}}}, **more
        )
        made["info"]["title"] = f"title {name}"
        return made

    old = document("id", thing(("x", "y"), x={**TEXT, "description": "old"}, y=TEXT))
    new = document(
        "uscc", ref("T"), components={"schemas": {"T": thing(("y", "x"), y=TEXT, x={**TEXT, "example": "new"})}}
    )
    new["servers"] = [{"url": "https://elsewhere.example"}]
    nothing(compared(old, new))


def test_3_0_and_3_1_of_the_same_thing_do_not_differ() -> None:
    old = getting(thing(a={"type": "string", "nullable": True}, b={"type": "integer", "enum": [1]}), "3.0.3")
    new = getting(thing(a={"type": ["string", "null"]}, b={"type": "integer", "const": 1}), "3.1.1")
    nothing(compared(old, new))


def test_safety_and_deprecation_are_told() -> None:
    old = tree(paths={"/a": {"post": {"responses": OK, "x-datong-safe": True}}})
    new = tree(paths={"/a": {"post": {"responses": OK, "deprecated": True}}})
    assert rules(compared(old, new).changed) == ["operation-unsafe", "operation-deprecated"]
    assert rules(compared(new, old).changed) == ["operation-safe"]


# Parameters


@pytest.mark.parametrize(
    ("before", "after", "effect", "rule"),
    [
        ([], [query("a")], "added", "parameter-added"),
        ([], [query("a", required=True)], "breaking", "parameter-required"),
        ([query("a")], [query("a", required=True)], "breaking", "parameter-required"),
        ([query("a", required=True)], [query("a")], "changed", "parameter-optional"),
        ([query("a")], [], "changed", "parameter-removed"),
        ([query("a")], [query("a", {"type": "integer"})], "breaking", "parameter-type"),
        ([query("a", {"type": "number"})], [query("a", {"type": "integer"})], "breaking", "parameter-type"),
        ([query("a", {"type": "integer"})], [query("a", {"type": "number"})], "changed", "parameter-type"),
        ([query("a")], [query("a", DATE)], "breaking", "parameter-format"),
        ([query("a", DATE)], [query("a")], "changed", "parameter-format"),
        ([query("a")], [query("a", {"type": "string", "enum": ["x"]})], "breaking", "parameter-values"),
        ([query("a", {"enum": ["x", "y"]})], [query("a", {"enum": ["x"]})], "breaking", "parameter-values"),
        ([query("a", {"enum": ["x"]})], [query("a", {"enum": ["x", "y"]})], "changed", "parameter-values"),
        ([query("a")], [query("a", {"type": "string", "pattern": "^x"})], "breaking", "parameter-pattern"),
        ([query("a", {"type": "string", "pattern": "^x"})], [query("a")], "changed", "parameter-pattern"),
        ([query("a")], [query("a", {"type": "string", "maxLength": 5})], "breaking", "parameter-bound"),
        ([query("a", {"maximum": 9})], [query("a", {"maximum": 5})], "breaking", "parameter-bound"),
        ([query("a", {"maximum": 5})], [query("a", {"maximum": 9})], "changed", "parameter-bound"),
        ([query("a", {"minimum": 5})], [query("a", {"minimum": 9})], "breaking", "parameter-bound"),
        ([query("a", {"minimum": 5})], [query("a", {})], "changed", "parameter-bound"),
        (
            [query("a", {"type": "array", "items": TEXT})],
            [query("a", {"type": "array", "items": TEXT}, explode=False)],
            "breaking",
            "parameter-style",
        ),
    ],
)
def test_a_parameter(before: list[Tree], after: list[Tree], effect: str, rule: str) -> None:
    one = only(compared(asking(*before), asking(*after)), effect)
    assert (one.rule, one.method, one.path, one.part) == (rule, "GET", "/thing", "parameter")
    assert one.parameter == "query a"
    assert one.pointer.startswith("/paths/~1thing/get/parameters/0")
    assert "query parameter a" in one.en
    assert "查询参数 a" in one.zh


def test_parameters_of_the_path_and_those_behind_references_count() -> None:
    shared = {"name": "a", "in": "header", "schema": TEXT}
    old = tree(
        paths={"/thing": {"parameters": [{"$ref": "#/components/parameters/A"}], "get": {"responses": OK}}},
        components={"parameters": {"A": shared}},
    )
    new = changed(old, lambda made: made["components"]["parameters"]["A"].update(name="A", required=True))
    one = only(compared(old, new), "breaking")
    assert (one.rule, one.parameter, one.pointer) == ("parameter-required", "header A", "/components/parameters/A")


def test_an_operations_own_parameter_stands_before_the_paths() -> None:
    old = tree(
        paths={
            "/thing": {
                "parameters": [query("a", {"type": "integer"})],
                "get": {"parameters": [query("a")], "responses": OK},
            }
        }
    )
    new = changed(old, lambda made: made["paths"]["/thing"].pop("parameters"))
    nothing(compared(old, new))


def test_headers_that_openapi_does_not_count_as_parameters_are_left_out() -> None:
    nothing(compared(asking(), asking({"name": "Authorization", "in": "header", "required": True, "schema": TEXT})))


def test_parameters_in_a_path_are_told_apart_by_position() -> None:
    def document(*names: str, **schemas: Any) -> Tree:
        listed = [{"name": name, "in": "path", "required": True, "schema": schemas.get(name, TEXT)} for name in names]
        return asking(*listed, path="/" + "/".join(f"{{{name}}}" for name in names))

    nothing(compared(document("a", "b"), document("b", "a")))
    one = only(compared(document("a", "b"), document("x", "y", y={"type": "integer"})), "breaking")
    assert (one.rule, one.parameter, one.path) == ("parameter-type", "path y", "/{a}/{b}")


# Requests


@pytest.mark.parametrize(
    ("before", "after", "effect", "rule", "item"),
    [
        (thing(), thing(a=TEXT), "added", "request-property-added", "a"),
        (thing(), thing(("a",), a=TEXT), "breaking", "request-property-required", "a"),
        (thing(a=TEXT), thing(("a",), a=TEXT), "breaking", "request-property-required", "a"),
        (thing(("a",), a=TEXT), thing(a=TEXT), "changed", "request-property-optional", "a"),
        (thing(a=TEXT), thing(), "changed", "request-property-removed", "a"),
        (thing(a=TEXT), thing(a={"type": "integer"}), "breaking", "request-type", "a"),
        (thing(a=TEXT), thing(a={"type": "string", "enum": ["x"]}), "breaking", "request-values", "a"),
        (thing(a={"enum": ["x"]}), thing(a={"enum": ["x", "y"]}), "changed", "request-values", "a"),
        (
            thing(a=thing(b=TEXT)),
            thing(a=thing(b=DATE)),
            "breaking",
            "request-format",
            "a.b",
        ),
        (
            thing(**{"a.b": {"type": "array", "items": TEXT}}),
            thing(**{"a.b": {"type": "array", "items": {"type": "integer"}}}),
            "breaking",
            "request-type",
            r"a\.b",
        ),
        ({"type": "object"}, {"type": "array", "items": {}}, "breaking", "request-type", ""),
        (thing(a=TEXT), {"oneOf": [thing(a=TEXT), thing(b=TEXT)]}, "added", "request-property-added", "b"),
    ],
)
def test_a_request(before: Any, after: Any, effect: str, rule: str, item: str) -> None:
    one = only(compared(posting(before), posting(after)), effect)
    assert (one.rule, one.item, one.part) == (rule, item, "request")
    assert one.pointer.startswith("/paths/~1thing/post/requestBody/content/application~1json/schema")


def test_a_request_that_takes_no_other_properties_any_more() -> None:
    closed = {**thing(a=TEXT), "additionalProperties": False}
    found = compared(posting(thing(a=TEXT, b=TEXT)), posting(closed))
    assert rules(found.breaking) == ["request-property-removed", "request-closed"]


def test_whether_there_is_a_body() -> None:
    bare = tree(paths={"/thing": {"post": {"responses": OK}}})
    assert only(compared(bare, posting(TEXT)), "added").rule == "request-body-added"
    assert only(compared(bare, posting(TEXT, required=True)), "breaking").rule == "request-body-required"
    assert only(compared(posting(TEXT), posting(TEXT, required=True)), "breaking").rule == "request-body-required"
    assert only(compared(posting(TEXT, required=True), posting(TEXT)), "changed").rule == "request-body-optional"
    assert only(compared(posting(TEXT), bare), "changed").rule == "request-body-removed"


def test_media_types_of_requests() -> None:
    def document(*types: str) -> Tree:
        content = {each: {"schema": TEXT} for each in types}
        return tree(paths={"/thing": {"post": {"requestBody": {"content": content}, "responses": OK}}})

    found = compared(document("application/json", "text/csv"), document("application/json", "text/xml"))
    assert rules(found.breaking) == ["request-media-type-removed"]
    assert rules(found.added) == ["request-media-type-added"]


# Answers


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("before", "after", "effect", "rule", "item"),
    [
        (thing(), thing(a=TEXT), "added", "answer-property-added", "a"),
        (thing(a=TEXT), thing(), "breaking", "answer-property-removed", "a"),
        (thing(("a",), a=TEXT), thing(), "breaking", "answer-property-removed", "a"),
        (thing(("a",), a=TEXT), thing(a=TEXT), "breaking", "answer-property-optional", "a"),
        (thing(a=TEXT), thing(("a",), a=TEXT), "changed", "answer-property-always", "a"),
        (thing(a=TEXT), thing(a={"type": "integer"}), "breaking", "answer-type", "a"),
        (thing(a=TEXT), thing(a={}), "breaking", "answer-type", "a"),
        (thing(a={"type": "integer"}), thing(a={"type": "number"}), "breaking", "answer-type", "a"),
        (thing(a={"type": "number"}), thing(a={"type": "integer"}), "changed", "answer-type", "a"),
        (thing(a=DATE), thing(a={"type": "string", "format": "date-time"}), "breaking", "answer-format", "a"),
        (thing(a=TEXT), thing(a=DATE), "changed", "answer-format", "a"),
        (thing(a={"enum": ["x"]}), thing(a={"enum": ["x", "y"]}), "changed", "answer-values", "a"),
        (thing(a=thing(b=TEXT)), thing(a=thing()), "breaking", "answer-property-removed", "a.b"),
        (
            {"type": "array", "items": thing(a=TEXT)},
            {"type": "array", "items": thing()},
            "breaking",
            "answer-property-removed",
            "a",
        ),
        ({"type": "array", "items": TEXT}, TEXT, "breaking", "answer-type", ""),
        (
            {"allOf": [thing(("a",), a=TEXT), thing(b=TEXT)]},
            thing(a=TEXT, b=TEXT),
            "breaking",
            "answer-property-optional",
            "a",
        ),
        (
            thing(("a",), a=TEXT),
            {"oneOf": [thing(("a",), a=TEXT), thing(a=TEXT)]},
            "breaking",
            "answer-property-optional",
            "a",
        ),
    ],
)
def test_an_answer(version: str, before: Any, after: Any, effect: str, rule: str, item: str) -> None:
    one = only(compared(getting(before, version), getting(after, version)), effect)
    assert (one.rule, one.item, one.part) == (rule, item, "answer")
    assert one.pointer.startswith(SCHEMA)


def test_null_where_there_was_none_breaks() -> None:
    for version, nullable in (
        ("3.0.3", {"type": "string", "nullable": True}),
        ("3.1.1", {"type": ["string", "null"]}),
        ("3.1.1", {"anyOf": [TEXT, {"type": "null"}]}),
    ):
        one = only(compared(getting(thing(a=TEXT), version), getting(thing(a=nullable), version)), "breaking")
        assert (one.rule, one.item) == ("answer-nullable", "a")


def test_statuses_and_media_types() -> None:
    def document(*answers: tuple[str, str]) -> Tree:
        responses: Tree = {}
        for status, media_type in answers:
            responses.setdefault(status, {"description": "", "content": {}})["content"][media_type] = {"schema": TEXT}
        return tree(paths={"/thing": {"get": {"responses": responses}}})

    old = document(
        ("200", "application/json"), ("200", "text/csv"), ("201", "application/json"), ("404", "application/json")
    )
    new = document(("200", "application/json"), ("200", "text/xml"), ("202", "application/json"))
    found = compared(old, new)
    assert rules(found.breaking) == ["answer-media-type-removed", "answer-status-removed"]
    assert rules(found.changed) == ["answer-status-removed"], "who asks for what is not there is broken by nothing"
    assert rules(found.added) == ["answer-media-type-added", "answer-status-added"]
    assert "404" in found.changed[0].en
    ranged = compared(document(("200", "application/json")), document(("2XX", "application/json")))
    assert rules(ranged.added) == ["answer-status-added"]
    assert ranged.breaking == ()


def test_an_error_may_change() -> None:
    def document(answer: Any) -> Tree:
        return tree(paths={"/thing": {"get": {"responses": {**OK, **answering(answer, "404")}}}})

    assert only(compared(document(thing(a=TEXT)), document(thing())), "changed").rule == "answer-property-removed"


def test_headers_of_answers() -> None:
    def document(*names: str) -> Tree:
        headers = {name: {"schema": TEXT} for name in names}
        return tree(paths={"/thing": {"get": {"responses": {"200": {"description": "", "headers": headers}}}}})

    assert only(compared(document("X-Total", "x-next"), document("x-total")), "changed").rule == "answer-header-removed"


def test_a_change_of_a_shared_schema_is_told_for_each_operation_and_stands_where_the_schema_is() -> None:
    def document(**properties: Any) -> Tree:
        return tree(
            paths={
                path: {"get": {"responses": answering(answer)}}
                for path, answer in {"/one": ref("T"), "/all": {"type": "array", "items": ref("T")}}.items()
            },
            components={"schemas": {"T": thing(**properties)}},
        )

    found = compared(document(a=TEXT, b=TEXT), document(a=TEXT))
    assert [(each.path, each.item, each.pointer) for each in found.breaking] == [
        ("/one", "b", "/components/schemas/T/properties/b"),
        ("/all", "b", "/components/schemas/T/properties/b"),
    ]


def test_a_change_inside_a_tree_is_told_once() -> None:
    def document(kind: str) -> Tree:
        node = thing(name={"type": kind}, left=ref("Node"), right={"type": "array", "items": ref("Node")})
        return getting(ref("Node"), Node=node)

    found = compared(document("string"), document("integer"))
    assert [each.item for each in found.breaking] == ["name"]


# Security


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (None, [{"key": []}], "breaking"),
        ([], [{"key": []}], "breaking"),
        ([{"key": []}], [{"key": [], "other": []}], "breaking"),
        ([{"oauth": ["read"]}], [{"oauth": ["read", "write"]}], "breaking"),
        ([{"key": []}, {"other": []}], [{"key": []}], "breaking"),
        ([{"key": []}], [], "changed"),
        ([{"key": []}], [{"key": []}, {"other": []}], "changed"),
        ([{"key": []}], [{"key": []}, {}], "changed"),
        ([{"key": []}], [{"key": []}], None),
    ],
)
def test_security(before: Any, after: Any, effect: str | None) -> None:
    schemes = {"key": {"type": "apiKey", "name": "k", "in": "header"}, "other": {"type": "http", "scheme": "basic"}}
    schemes["oauth"] = {"type": "openIdConnect", "openIdConnectUrl": "https://example.org"}

    def document(demands: Any) -> Tree:
        made = tree(components={"securitySchemes": schemes})
        if demands is not None:
            made["security"] = demands
        return made

    found = compared(document(before), document(after))
    if effect is None:
        nothing(found)
    else:
        assert only(found, effect).rule == ("security-added" if effect == "breaking" else "security-removed")


# Bounds


def test_more_than_can_be_told_is_cut_and_said_so() -> None:
    def document(count: int) -> Tree:
        properties = {f"a{n}": TEXT for n in range(count)}
        return tree(
            paths={f"/p{n}": {"get": {"responses": answering(ref("T"))}} for n in range(100)},
            components={"schemas": {"T": thing(**properties)}},
        )

    found = compared(document(150), document(1))
    assert not found.complete
    assert len(found.breaking) == MAX_ALTERATIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_schemas_of_a_million_ways_are_compared_in_no_time(version: str) -> None:
    def document(kind: str) -> Tree:
        schemas: Tree = {
            f"A{n}": thing(x=ref(f"A{n + 1}"), y={"type": "array", "items": ref(f"A{n + 1}")}) for n in range(40)
        }
        return getting(ref("A0"), version, **schemas, A40={"type": kind})

    nothing(compared(document("string"), document("string")))
    assert compared(document("string"), document("integer")).complete


SCHEMAS = st.recursive(
    st.sampled_from(
        [
            TEXT,
            {"type": "integer"},
            {"type": "number", "maximum": 5},
            {},
            {"type": "string", "enum": ["a", "b"]},
            ref("A"),
            ref("B"),
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda each: {"type": "array", "items": each}),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(lambda each: thing(**each)),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2).map(
            lambda each: thing((min(each),), **each)
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda each: thing(o={"oneOf": each}, n={"allOf": each})),
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(SCHEMAS, SCHEMAS, SCHEMAS, SCHEMAS)
def test_any_two_documents_are_compared(one: Any, two: Any, three: Any, four: Any) -> None:
    """It ends, the same differs in nothing, and what is added one way is removed the other way."""
    before = getting(thing(top=one), "3.1.1", A=thing(a=two), B=thing(b=three))
    after = getting(thing(top=four), "3.1.1", A=thing(a=three), B=thing(b=two))
    nothing(compared(before, before))
    there, back = compared(before, after), compared(after, before)
    added = {each.item for each in there.added if each.rule == "answer-property-added"}
    removed = {each.item for each in back.breaking if each.rule == "answer-property-removed"}
    assert added == removed
