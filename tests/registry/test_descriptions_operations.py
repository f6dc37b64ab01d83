"""What a document says a service offers: operations, titles, items."""

from __future__ import annotations

from typing import Any

import pytest

from exchange import item_keys
from registry.descriptions.operations import MAX_ITEMS, describe
from registry.patterns import compile_pattern, path_of
from tests.registry.description_kit import (
    OK,
    VERSIONS,
    Tree,
    answering,
    described,
    getting,
    items,
    of,
    read,
    ref,
    refused,
    tree,
)


def with_path(path: str) -> Tree:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return tree(paths={path: {"get": {"parameters": parameters, "responses": OK}}})


@pytest.mark.parametrize(
    ("path", "pattern", "matching"),
    [
        ("/", "/", ()),
        ("/a", "/a", ("a",)),
        ("/a/", "/a/", ("a", "")),
        ("/a/{id}", "/a/{id}", ("a", "7")),
        ("/a/{pet-id}/b", "/a/{pet_id}/b", ("a", "7", "b")),
        ("/a/{2x}", "/a/{_2x}", ("a", "7")),
        ("/a/{编号}", "/a/{__}", ("a", "7")),
        ("/a*b", r"/a\*b", ("a*b",)),
        (r"/a\b", r"/a\\b", None),
        ("/企业/查询", "/企业/查询", ("企业", "查询")),
        ("/%E4%BC%81", "/企", ("企",)),
    ],
)
def test_a_path_of_the_document_is_a_pattern_that_matches_its_calls(
    path: str, pattern: str, matching: tuple[str, ...] | None
) -> None:
    (found,) = described(with_path(path))
    assert found == f"GET {pattern}"
    if matching is not None:
        assert compile_pattern(pattern).matches(matching, path_of(matching) or "")
        assert not compile_pattern(pattern).matches((*matching, "more"), "/".join(("", *matching, "more")))


@pytest.mark.parametrize("path", ["/a?b=c", "/a#b", "/a/../b", "/./a", "/a{b", "/a}b", "/" + "x" * 600, "/a/%00"])
def test_a_path_that_cannot_be_called_is_refused(path: str) -> None:
    found = tree(paths={path: {"get": {"responses": OK}}})
    refused(found, "description-operation", "/paths/" + path.replace("/", "~1"))


@pytest.mark.parametrize(("one", "two"), [("/a/{b}", "/a/{c}"), ("/a/{b-c}", "/a/{b_c}"), ("/%61", "/a")])
def test_two_paths_that_are_the_same_are_refused(one: str, two: str) -> None:
    found = with_path(one)
    found["paths"] |= with_path(two)["paths"]
    refused(found, "description-operation", "/paths/" + two.replace("/", "~1"))


def test_a_document_without_operations_is_refused() -> None:
    refused(tree(paths={}), "description-operation", "/paths")
    refused(tree("3.1.1", paths={"/a": {"summary": "nothing"}}), "description-operation", "/paths")


def test_more_operations_than_a_service_may_have_are_refused() -> None:
    found = tree(paths={f"/p{n}": {"get": {"responses": OK}} for n in range(2001)})
    refused(found, "description-operation", "/paths")


def test_operations_are_safe_as_http_says_unless_the_document_says_otherwise() -> None:
    methods = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
    found = tree(
        paths={
            "/plain": {method: {"responses": OK} for method in methods},
            "/search": {"post": {"responses": OK, "x-datong-safe": True}},
            "/count": {"get": {"responses": OK, "x-datong-safe": False}},
        }
    )
    safe = {name for name, each in described(found).items() if each.operation.safe}
    assert safe == {"GET /plain", "OPTIONS /plain", "HEAD /plain", "TRACE /plain", "POST /search"}
    found["paths"]["/count"]["get"]["x-datong-safe"] = "no"
    refused(found, "description-operation", "/paths/~1count/get/x-datong-safe")


def test_operations_behind_a_reference_are_the_paths_own() -> None:
    found = tree(
        "3.1.1",
        paths={"/a": {"$ref": "#/components/pathItems/A"}},
        components={"pathItems": {"A": {"get": {"responses": OK, "summary": "查询\n一行"}}}},
    )
    assert described(found)["GET /a"].summary == "查询 一行"


@pytest.mark.parametrize(
    ("title", "zh", "en"),
    [
        ("企业登记查询", "企业登记查询", ""),
        ("Enterprises", "Enterprises", "Enterprises"),
        ("  a \n\t b\u200b ", "a b", "a b"),
    ],
)
def test_the_title_is_proposed_for_the_language_it_is_in(title: str, zh: str, en: str) -> None:
    found = describe(*read(tree(info={"title": title, "version": "1"})))
    assert (found.title_zh, found.title_en) == (zh, en)


@pytest.mark.parametrize("version", VERSIONS)
class TestItems:
    """The items of answers."""

    def test_they_are_the_ends_of_objects_and_lists_leave_no_trace(self, version: str) -> None:
        person = {
            "type": "object",
            "properties": {"name": {"type": "string"}, "phones": {"type": "array", "items": {"type": "string"}}},
        }
        answer = {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"id": {"type": "integer"}, "people": {"type": "array", "items": ref("P")}},
            },
        }
        assert items(getting(answer, version, P=person)) == ["id", "people.name", "people.phones"]

    def test_keys_are_escaped_as_grants_write_them(self, version: str) -> None:
        keys = ["a.b", "c=d", "*", "back\\slash", "姓名", "with space", ""]
        found = items(getting({"type": "object", "properties": {key: {"type": "string"} for key in keys}}, version))
        assert [item_keys(path) for path in found] == [(key,) for key in keys]

    def test_keys_that_nobody_can_write_are_left_out(self, version: str) -> None:
        assert items(getting({"properties": {"a\u0007": {"type": "string"}, "b": {"type": "string"}}}, version)) == [
            "b"
        ]

    def test_alternatives_and_parts_add_up(self, version: str) -> None:
        answer = {
            "allOf": [ref("Base"), {"properties": {"own": {"type": "string"}}}],
            "oneOf": [{"properties": {"one": {"type": "string"}}}, ref("Two")],
            "anyOf": [{"properties": {"any": {"type": "string"}}}],
        }
        base = {"type": "object", "properties": {"id": {"type": "string"}, "own": {"description": "again"}}}
        two = {"properties": {"two": {"allOf": [{"type": "object", "properties": {"deep": {"type": "number"}}}]}}}
        assert sorted(items(getting(answer, version, Base=base, Two=two))) == ["any", "id", "one", "own", "two.deep"]

    def test_only_successes_in_json_count(self, version: str) -> None:
        def one(name: str) -> Tree:
            return {"type": "object", "properties": {name: {"type": "string"}}}

        responses = {
            **answering(one("ok")),
            **answering(one("created"), "201", "application/vnd.x+json"),
            **answering(one("range"), "2XX", "application/json; charset=utf-8"),
            **answering(one("xml"), "202", "application/xml"),
            **answering(one("problem"), "404"),
            **answering(one("default"), "default"),
        }
        assert items(tree(version, paths={"/thing": {"get": {"responses": responses}}})) == ["ok", "created", "range"]

    def test_types_and_titles_come_with_them(self, version: str) -> None:
        nullable = {"type": "string", "nullable": True} if version == "3.0.3" else {"type": ["string", "null"]}
        answer = {
            "type": "object",
            "properties": {
                "day": {"type": "string", "format": "date", "title": "日期"},
                "count": {"type": "number", "description": "How\nmany"},
                "maybe": nullable,
                "free": {},
                "either": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            },
        }
        found = described(getting(answer, version))["GET /thing"].items
        assert [(item.path, item.type, item.title) for item in found] == [
            ("day", "string:date", "日期"),
            ("count", "number", "How many"),
            ("maybe", "string", ""),
            ("free", "any", ""),
            ("either", "integer|string", ""),
        ]

    def test_a_schema_of_a_million_ways_is_cut(self, version: str) -> None:
        def level(n: int) -> Any:
            return {"type": "object", "properties": {"x": ref(f"A{n + 1}"), "y": ref(f"A{n + 1}")}}

        found = items(getting(ref("A0"), version, **{f"A{n}": level(n) for n in range(60)}, A60={"type": "string"}))
        assert len(found) == MAX_ITEMS

    def test_booleans_are_schemas(self, version: str) -> None:
        answer = {"type": "object", "properties": {"a": {"type": "object", "additionalProperties": True}}}
        assert items(getting(answer, version)) == ["a"]
        if version == "3.1.1":
            assert items(getting({"properties": {"a": True, "b": False}}, version)) == ["a", "b"]


def test_a_document_of_a_thousand_operations_is_described() -> None:
    found = tree(
        paths={f"/p{n}": {"get": {"responses": answering(ref("A"))}} for n in range(1000)},
        components={"schemas": {"A": {"type": "object", "properties": {"a": {"type": "string"}}}}},
    )
    assert len(of(found)) > 100_000
    assert {len(each.items) for each in described(found).values()} == {1}
