"""Bytes to OpenAPI documents: what is taken, and what is refused with its place."""

from __future__ import annotations

import json
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exchange import UnprocessableError
from registry.descriptions.operations import describe
from registry.descriptions.reading import digest_of, read_document
from registry.descriptions.syntax import MAX_BYTES, MAX_DEPTH
from tests.registry.description_kit import OK, VERSIONS, Tree, answering, getting, of, read, ref, refused, tree

YAML = """\
openapi: 3.0.3  # a comment
info: {title: 企业登记查询, version: "1.0"}
paths:
  /enterprises/{uscc}:
    get:
      parameters:
      - {name: uscc, in: path, required: true, schema: {type: string}}
      responses:
        200:
          description: >
            folded
            text
          content:
            application/json: {schema: {type: object, properties: {day: {type: string, example: 2026-11-23}}}}
"""


def test_yaml_is_read_for_the_json_that_it_writes() -> None:
    document = read_document(
        b"openapi: 3.0.3\nx: [1, 007, 0x1F, -2, 1.5, 1e3, .5, yes, No, on, 2026-11-23, 12:30:45, ~, null, 'null', "
        b'"5", true, False, a b]\n200: status\nyes: no\n'
    )
    assert document.format == "yaml"
    assert document.tree["x"] == [
        *(1, 7, 31, -2, 1.5, 1000.0, 0.5, "yes", "No", "on", "2026-11-23", "12:30:45", None, None, "null"),
        *("5", True, False, "a b"),
    ]
    assert document.tree["200"] == "status"
    assert document.tree["yes"] == "no"


def test_a_document_in_yaml_with_numbers_for_statuses_is_valid() -> None:
    document, references = read(YAML)
    (found,) = describe(document, references).operations
    assert (found.operation.method, found.operation.path) == ("GET", "/enterprises/{uscc}")
    assert [item.path for item in found.items] == ["day"]


def test_json_and_yaml_of_the_same_document_say_the_same() -> None:
    document, _ = read(YAML)
    again = read_document(json.dumps(document.tree).encode())
    assert (again.format, again.tree) == ("json", document.tree)


def test_a_byte_order_mark_is_no_part_of_a_document() -> None:
    data = of(tree())
    document = read_document(b"\xef\xbb\xbf" + data)
    assert document.sha256 == digest_of(data) == digest_of(b"\xef\xbb\xbf" + data)


@pytest.mark.parametrize(
    ("data", "rule", "pointer"),
    [
        (b"", "description-syntax", ""),
        (b"[]", "description-syntax", ""),
        (b"null", "description-syntax", ""),
        (b"\xff\xfe{\x00}\x00", "description-syntax", ""),
        (b'{"openapi": "3.0.3",}', "description-syntax", ""),
        (b'{"openapi": "3.0.3"} {}', "description-syntax", ""),
        (b"a: b: c", "description-syntax", ""),
        (b"a: [1", "description-syntax", ""),
        (b"a: 1\n\tb: 2", "description-syntax", ""),
        (b"openapi: 3.0.3\x00", "description-syntax", ""),
        (b"--- {}\n--- {}", "description-syntax", ""),
        (b'{"a": {"b": [1, {"c": 1, "c": 2}]}}', "description-syntax", "/a/b/1/c"),
        (b"a: {b: [1, {c: 1, c: 2}]}", "description-syntax", "/a/b/1/c"),
        (b"a:\n  1: x\n  '1': y", "description-syntax", "/a/1"),
        (b'{"a/b": {"~": [NaN]}}', "description-syntax", "/a~1b/~0/0"),
        (b'{"a": -Infinity}', "description-syntax", "/a"),
        (b'{"a": 1e400}', "description-syntax", "/a"),
        (b"a: [x, .nan]", "description-syntax", "/a/1"),
        (b"a: -.inf", "description-syntax", "/a"),
        (b"a: 1e999", "description-syntax", "/a"),
        (b"a: &x 1", "description-syntax", "/a"),
        (b"a: 1\nb: *a", "description-syntax", "/b"),
        (b"a: {<<: {b: 1}}", "description-syntax", "/a"),
        (b"a: !!python/object/apply:os.system [ls]", "description-syntax", "/a"),
        (b"a: !!binary aGk=", "description-syntax", "/a"),
        (b"a: !!int '5'", "description-syntax", "/a"),
        (b"? [a, b]\n: c", "description-syntax", ""),
        (b"? {a: b}\n: c", "description-syntax", ""),
        (b'{"a": "\\ud800"}', "description-syntax", "/a"),
        (b'{"a": {"\\udc00x": 1}}', "description-syntax", "/a/\ufffdx"),
        (b'{"a": ' + b"9" * 5000 + b"}", "description-syntax", ""),
        (b"a: " + b"9" * 5000, "description-syntax", "/a"),
        (b"x" * (MAX_BYTES + 1), "description-limit", ""),
        (b'{"a":' * 3000, "description-limit", ""),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "description-limit", "/a" * MAX_DEPTH),
        (b"[" * 100_000, "description-limit", "/0" * MAX_DEPTH),
        (b"- " * 100_000, "description-limit", "/0" * MAX_DEPTH),
        (b"a: " + b"[0," * 600_000, "description-limit", "/a" + "/1" * (MAX_DEPTH - 1)),
        (b'{"a": [' + b"0," * 1_000_000 + b"0]}", "description-limit", ""),
        (b"[" + b"0," * 1_000_000 + b"0]", "description-limit", ""),
    ],
)
def test_what_is_no_plain_document_is_refused_with_its_place(data: bytes, rule: str, pointer: str) -> None:
    refused(data, rule, pointer)


def test_a_bomb_of_aliases_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    error = refused("\n".join(lines), "description-syntax", "/a0")
    assert "line 1" in str(error)


def test_a_line_is_told_while_there_is_no_structure_yet() -> None:
    assert "line 3, column 1" in str(refused('{"openapi": "3.0.3",\n"a": 1\n"b": 2}', "description-syntax", ""))
    assert "line 2" in str(refused("openapi: 3.0.3\n a: 1", "description-syntax", ""))


@pytest.mark.parametrize(
    ("stated", "pointer"),
    [
        ({"swagger": "2.0"}, "/swagger"),
        ({"openapi": "2.0"}, "/openapi"),
        ({"openapi": "3.2.0"}, "/openapi"),
        ({"openapi": "4.0.0"}, "/openapi"),
        ({"openapi": "3.0"}, "/openapi"),
        ({"openapi": 3.1}, "/openapi"),
        ({"openapi": None}, "/openapi"),
        ({"openapi": "3.1.0" + "0" * 1000}, "/openapi"),
        ({}, ""),
    ],
)
def test_other_versions_are_refused_by_name(stated: Tree, pointer: str) -> None:
    found = {**tree(), **stated}
    if "openapi" not in stated:
        del found["openapi"]
    error = refused(found, "description-version", pointer)
    assert "3.1.1" in str(error)


@pytest.mark.parametrize("version", ["3.0.0", "3.0.4", "3.1.0", "3.1.2"])
def test_patch_versions_are_all_taken(version: str) -> None:
    document, _ = read(tree(version))
    assert document.version == version


@pytest.mark.parametrize("version", VERSIONS)
class TestReferences:
    """What references may do, in both versions."""

    @pytest.mark.parametrize(
        "reference",
        [
            "http://127.0.0.1:9/schema.json",
            "https://example.org/x#/y",
            "//example.org/x",
            "file:///etc/passwd",
            "/etc/passwd",
            "other.yaml",
            "other.yaml#/components",
            "../up.json",
            "urn:x:y",
            "#anchor",
            "#",
            "",
            "#/components/schemas/Missing",
            "#/components/schemas/A/allOf/7",
            "#/components/schemas/A/allOf/-1",
            "#/info/title",
            "#/components/schemas/A/allOf/0/type/0",
        ],
    )
    def test_one_that_leads_elsewhere_or_nowhere_is_refused(self, version: str, reference: str) -> None:
        found = getting({"$ref": reference}, version, A={"allOf": [{"type": "object"}]})
        refused(
            found, "description-reference", "/paths/~1thing/get/responses/200/content/application~1json/schema/$ref"
        )

    @pytest.mark.parametrize("reference", [5, None, [], {}])
    def test_one_that_is_no_text_is_refused(self, version: str, reference: Any) -> None:
        found = tree(version, paths={"/a": {"get": {"responses": {"200": {"$ref": reference}}}}})
        refused(found, "description-reference", "/paths/~1a/get/responses/200/$ref")

    def test_a_schema_that_is_itself_is_refused(self, version: str) -> None:
        refused(getting(ref("A"), version, A=ref("A")), "description-reference", "/components/schemas/A/$ref")

    def test_schemas_that_are_each_other_are_refused(self, version: str) -> None:
        found = getting({"type": "string"}, version, A=ref("B"), B=ref("C"), C=ref("A"))
        with pytest.raises(UnprocessableError, match="circle") as caught:
            read(found)
        assert caught.value.pointer in {f"/components/schemas/{name}/$ref" for name in "ABC"}

    @pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
    def test_a_schema_that_holds_itself_of_the_same_value_is_refused(self, version: str, keyword: str) -> None:
        found = getting(ref("A"), version, A={keyword: [{"type": "object"}, ref("B")]}, B={keyword: [ref("A")]})
        with pytest.raises(UnprocessableError, match="circle") as caught:
            read(found)
        assert caught.value.rule == "description-reference"

    def test_a_schema_that_is_not_itself_is_refused(self, version: str) -> None:
        refused(
            getting(ref("A"), version, A={"not": ref("A")}), "description-reference", "/components/schemas/A/not/$ref"
        )

    def test_paths_that_are_each_other_are_refused(self, version: str) -> None:
        found = tree(version, paths={"/a": {"$ref": "#/paths/~1b"}, "/b": {"$ref": "#/paths/~1a"}})
        with pytest.raises(UnprocessableError, match="circle"):
            read(found)

    @pytest.mark.parametrize("kind", ["parameters", "responses", "requestBodies", "headers", "examples", "links"])
    def test_components_of_every_kind_may_not_be_themselves(self, version: str, kind: str) -> None:
        found = tree(version, components={kind: {"A": {"$ref": f"#/components/{kind}/A"}}})
        refused(found, "description-reference", f"/components/{kind}/A/$ref")

    def test_a_chain_that_is_too_long_is_refused(self, version: str) -> None:
        chain = {f"A{n}": ref(f"A{n + 1}") for n in range(5000)}
        found = getting({"type": "string"}, version, **chain, A5000={"type": "string"})
        with pytest.raises(UnprocessableError, match="follow each other"):
            read(found)

    def test_trees_are_fine(self, version: str) -> None:
        """A schema that comes back through properties, items, additionalProperties, or an allOf of lists."""
        found = getting(
            ref("Node"),
            version,
            Node={
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "parent": ref("Node"),
                    "children": {"type": "array", "items": ref("Node")},
                    "named": {"type": "object", "additionalProperties": ref("Node")},
                    "list": ref("List"),
                },
            },
            List={"allOf": [{"type": "array", "items": ref("List")}, {"type": "array", "items": ref("List")}]},
        )
        (operation,) = describe(*read(found)).operations
        assert [item.path for item in operation.items] == ["name", "parent", "children", "named", "list"]

    def test_what_looks_like_a_reference_in_data_is_none(self, version: str) -> None:
        data = {"$ref": "http://127.0.0.1:9/never"}
        found = getting({"type": "object", "example": data, "enum": [data], "x-any": data}, version)
        found["x-own"] = data
        found["paths"]["/thing"]["get"]["responses"]["200"]["content"]["application/json"]["example"] = data
        read(found)

    def test_a_property_may_have_the_name_of_a_reference(self, version: str) -> None:
        found = getting({"type": "object", "properties": {"$ref": {"type": "string"}}}, version)
        assert [item.path for item in describe(*read(found)).operations[0].items] == ["$ref"]

    def test_references_reach_what_stands_outside_components(self, version: str) -> None:
        there = "#/paths/~1thing/get/responses/200/content/application~1json/schema"
        found = getting({"type": "object", "properties": {"a": {"type": "string"}}}, version)
        found["paths"]["/also"] = {"get": {"responses": answering({"$ref": there})}}
        found["paths"]["/same"] = {"$ref": "#/paths/~1also"}
        operations = {each.operation.path: each for each in describe(*read(found)).operations}
        assert [item.path for item in operations["/also"].items] == ["a"]
        assert [item.path for item in operations["/same"].items] == ["a"]

    def test_nothing_is_fetched_wherever_it_stands(self, version: str, tmp_path: Path) -> None:
        """Also where the library follows references by itself."""
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"type": "string"}')

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "x.json").write_text('{"type": "string"}')
        try:
            for url in (f"http://127.0.0.1:{server.server_port}/x.json", f"file://{tmp_path}/x.json"):
                data = {"$ref": url}
                for found in (
                    tree(version, info=data),
                    tree(version, tags=[data]),
                    tree(version, tags=data),
                    tree(version, servers=[data]),
                    tree(version, paths=data),
                    tree(version, components=data),
                    tree(version, components={"schemas": data}),
                    tree(version, components={"securitySchemes": {"a": data}}),
                    tree(version, paths={"/a": {"get": data}}),
                    tree(version, paths={"/a": {"get": {"responses": data}}}),
                    tree(version, paths={"/a": {"get": {"responses": OK, "parameters": data}}}),
                    getting({"type": "string", "default": data}, version),
                    getting({"type": "string", "discriminator": data}, version),
                    getting({"properties": data}, version),
                ):
                    with pytest.raises(UnprocessableError):
                        describe(*read(found))
        finally:
            server.shutdown()
            server.server_close()
        assert asked == []


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("$id", "http://127.0.0.1:9/other"),
        ("$dynamicRef", "#node"),
        ("$recursiveRef", "#"),
        ("$schema", "http://127.0.0.1:9/dialect"),
        ("$schema", 5),
    ],
)
def test_what_would_change_the_meaning_of_references_is_refused(keyword: str, value: Any) -> None:
    found = getting({"type": "object", "properties": {"a": {keyword: value}}}, "3.1.1")
    place = "/paths/~1thing/get/responses/200/content/application~1json/schema/properties/a/"
    refused(found, "description-reference", place + keyword)


def test_an_unknown_dialect_for_all_is_refused_and_a_known_one_taken() -> None:
    refused(tree("3.1.1", jsonSchemaDialect="http://127.0.0.1:9/x"), "description-reference", "/jsonSchemaDialect")
    read(tree("3.1.1", jsonSchemaDialect="https://spec.openapis.org/oas/3.1/dialect/base"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"info": {"version": "1"}}, "/info"),
        ({"info": {"title": 5, "version": "1"}}, "/info/title"),
        ({"paths": []}, "/paths"),
        ({"paths": {"/a": None}}, "/paths/~1a"),
        ({"paths": {"/a": {"get": {"responses": {"200": {}}}}}}, "/paths/~1a/get/responses/200"),
        (
            {
                "paths": {
                    "/a": {"get": {"responses": OK, "operationId": "x"}, "put": {"responses": OK, "operationId": "x"}}
                }
            },
            "/paths/~1a/put",
        ),
        ({"paths": {"/a/{b}": {"get": {"responses": OK}}}}, "/paths/~1a~1{b}/get"),
        ({"components": {"schemas": {"A": {"type": "strin"}}}}, "/components/schemas/A/type"),
        (
            {"components": {"schemas": {"A": {"properties": {"b": {"type": 5}}}}}},
            "/components/schemas/A/properties/b/type",
        ),
        ({"components": {"schemas": {"A": {"pattern": "("}}}}, "/components/schemas/A/pattern"),
        ({"components": {"schemas": {"A": {"required": "b"}}}}, "/components/schemas/A/required"),
        ({"components": {"schemas": {"A": {"type": "integer", "default": "x"}}}}, "/components/schemas/A/default"),
        ({"components": {"schemas": {"A": 5}}}, "/components/schemas/A"),
        (
            {"components": {"parameters": {"A": {"name": "a", "in": "body", "schema": {}}}}},
            "/components/parameters/A/in",
        ),
    ],
)
def test_what_breaks_the_specification_is_refused_with_its_place(version: str, members: Tree, pointer: str) -> None:
    refused(tree(version, **members), "description-openapi", pointer)


def test_a_fault_behind_a_reference_is_placed_where_it_stands() -> None:
    found = tree(
        "3.1.1",
        paths={"/a": {"get": {"responses": {"200": {"$ref": "#/components/responses/R"}}}}},
        components={"responses": {"R": answering({"type": "array", "items": {"type": 7}})["200"]}},
    )
    refused(found, "description-openapi", "/components/responses/R/content/application~1json/schema/items/type")


def test_huge_values_are_not_repeated() -> None:
    refused(tree(info={"title": "x" * 100_000, "version": ["y" * 100_000]}), "description-openapi", "/info/version")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
WORDS = st.sampled_from(
    [
        *(
            "openapi",
            "info",
            "title",
            "version",
            "paths",
            "/a",
            "/a/{b}",
            "get",
            "post",
            "parameters",
            "responses",
            "200",
        ),
        *(
            "content",
            "application/json",
            "schema",
            "components",
            "schemas",
            "A",
            "B",
            "$ref",
            "allOf",
            "anyOf",
            "items",
        ),
        *(
            "properties",
            "type",
            "object",
            "array",
            "string",
            "required",
            "enum",
            "default",
            "name",
            "in",
            "query",
            "not",
        ),
        *("#/components/schemas/A", "#/components/schemas/B", "#/paths/~1a", "x-y", "description", "nullable", "3.0.3"),
    ]
)
LIKE_OPENAPI = st.recursive(
    WORDS | st.booleans() | st.integers(-2, 300) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=25,
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def survives(data: bytes) -> None:
    """Nothing but a document or an UnprocessableError comes out."""
    with suppress(UnprocessableError):
        describe(*read(data))


@QUICK
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"{")
@example(b"\xef\xbb\xbf")
@example(b"%YAML 9.9\n---\na: 1")
@example(b"%TAG ! tag:x,2000:\n--- !a b")
@example(b"a: |\n  x\n b")
@example(b"'")
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    survives(data)


@QUICK
@given(st.text(alphabet="{}[]:,-?&*!|>'\"%@`#~ \n\tabc0.1_/", max_size=120))
def test_any_text_like_yaml_is_a_document_or_refused(text: str) -> None:
    survives(b"openapi: 3.1.0\n" + text.encode())


@QUICK
@given(JSON)
def test_any_json_is_a_document_or_refused(value: Any) -> None:
    survives(json.dumps(value).encode())


@QUICK
@given(LIKE_OPENAPI, LIKE_OPENAPI, LIKE_OPENAPI, st.sampled_from(VERSIONS))
def test_any_paths_schemas_and_infos_are_a_document_or_refused(paths: Any, one: Any, two: Any, version: str) -> None:
    survives(of(tree(version, paths={"/a": paths}, components={"schemas": {"A": one, "B": two}})))


@QUICK
@given(LIKE_OPENAPI, LIKE_OPENAPI, st.sampled_from(VERSIONS))
def test_any_schema_of_an_answer_is_a_document_or_refused(answer: Any, other: Any, version: str) -> None:
    survives(of(getting(answer, version, A=other, B={"type": "object", "properties": {"a": answer}})))
