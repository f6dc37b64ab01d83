"""OpenAPI documents for tests: a small valid one, and ways to change it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from exchange import UnprocessableError
from registry.descriptions.difference import Alteration, Difference, difference
from registry.descriptions.document import Document
from registry.descriptions.operations import Described, check_paths, describe
from registry.descriptions.reading import read_document
from registry.descriptions.references import References
from registry.descriptions.validation import validate

Tree = dict[str, Any]
VERSIONS = ("3.0.3", "3.1.1")
OK: Tree = {"200": {"description": "ok"}}


def answering(schema: Any, status: str = "200", media_type: str = "application/json") -> Tree:
    """The responses of an operation that answers with a schema."""
    return {status: {"description": "answer", "content": {media_type: {"schema": schema}}}}


def ref(name: str) -> Tree:
    return {"$ref": f"#/components/schemas/{name}"}


def tree(version: str = "3.0.3", **members: Any) -> Tree:
    """A document with one operation, and these members instead of its own."""
    return {
        "openapi": version,
        "info": {"title": "企业登记查询", "version": "1.0"},
        "paths": {"/ping": {"get": {"responses": OK}}},
        **members,
    }


def getting(schema: Any, version: str = "3.0.3", **schemas: Any) -> Tree:
    """A document whose `GET /thing` answers with a schema; `schemas` are its components."""
    return tree(version, paths={"/thing": {"get": {"responses": answering(schema)}}}, components={"schemas": schemas})


def posting(schema: Any, version: str = "3.0.3", **more: Any) -> Tree:
    """A document whose `POST /thing` takes a schema."""
    body = {"content": {"application/json": {"schema": schema}}, **more}
    return tree(version, paths={"/thing": {"post": {"requestBody": body, "responses": OK}}})


def asking(*parameters: Tree, version: str = "3.0.3", path: str = "/thing") -> Tree:
    """A document whose `GET` on a path takes parameters."""
    return tree(version, paths={path: {"get": {"parameters": list(parameters), "responses": OK}}})


def query(name: str, schema: Any | None = None, **more: Any) -> Tree:
    return {"name": name, "in": "query", "schema": schema if schema is not None else {"type": "string"}, **more}


def of(found: Tree) -> bytes:
    return json.dumps(found, ensure_ascii=False).encode()


def read(found: Tree | bytes | str) -> tuple[Document, References]:
    """A document, wholly checked."""
    data = found if isinstance(found, bytes) else found.encode() if isinstance(found, str) else of(found)
    document = read_document(data)
    references = References(document)
    check_paths(document)
    validate(document, references)
    return document, references


def refused(found: Tree | bytes | str, rule: str, pointer: str) -> UnprocessableError:
    """The refusal of a document; it names the rule and the place, in both languages."""
    with pytest.raises(UnprocessableError) as caught:
        describe(*read(found))
    error = caught.value
    assert (error.rule, error.pointer) == (rule, pointer), str(error)
    assert str(error)
    assert error.detail_in("zh") != error.detail_in("en")
    assert len(str(error)) < 1000
    return error


def described(found: Tree) -> dict[str, Described]:
    """The operations of a document by `METHOD path`."""
    return {f"{each.operation.method} {each.operation.path}": each for each in describe(*read(found)).operations}


def items(found: Tree, operation: str = "GET /thing") -> list[str]:
    return [item.path for item in described(found)[operation].items]


def compared(old: Tree, new: Tree) -> Difference:
    return difference(read(old), read(new))


def changed(found: Tree, change: Callable[[Any], None]) -> Tree:
    """A copy of a document, changed."""
    made = copy.deepcopy(found)
    change(made)
    return made


def rules(alterations: tuple[Alteration, ...]) -> list[str]:
    return [each.rule for each in alterations]


def only(found: Difference, effect: str) -> Alteration:
    """The one thing that differs; it has this effect, and is told in both languages."""
    every = (*found.added, *found.changed, *found.breaking)
    assert [each.effect for each in every] == [effect], every
    (one,) = every
    assert one.en.endswith(".")
    assert one.zh.endswith("。")
    assert "{" not in one.en.replace(one.path, "")
    return one
