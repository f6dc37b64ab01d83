"""Contracts for tests: small documents, and what is found wrong with requests and answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from exchange import AnswerBreachError, Contract, ContractBreachError, Headers

Tree = dict[str, Any]
Found = list[tuple[str, str, str]]
"""Part, pointer and rule of each fault."""

VERSIONS = ("3.0.3", "3.1.0")
JSON: Headers = [(b"content-type", b"application/json")]
OK: Tree = {"200": {"description": "ok"}}


def document(paths: Tree, version: str = "3.1.0", schemas: Tree | None = None) -> Tree:
    """A document with these paths and components."""
    return {
        "openapi": version,
        "info": {"title": "户籍", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas or {}},
    }


def posting(schema: Any, version: str = "3.1.0", *, required: bool = True, **schemas: Any) -> Contract:
    """A contract whose `POST /` takes JSON of a schema; `schemas` are its components."""
    body = {"required": required, "content": {"application/json": {"schema": schema}}}
    return Contract.of(document({"/": {"post": {"requestBody": body, "responses": OK}}}, version, schemas))


def asking(*parameters: Tree, path: str = "/", version: str = "3.1.0") -> Contract:
    """A contract whose `GET` takes parameters."""
    return Contract.of(document({path: {"get": {"parameters": [*parameters], "responses": OK}}}, version))


def answering(responses: Tree, version: str = "3.1.0", **schemas: Any) -> Contract:
    """A contract whose `GET /` answers so."""
    return Contract.of(document({"/": {"get": {"responses": responses}}}, version, schemas))


def parameter(name: str, schema: Any, at: str = "query", **more: Any) -> Tree:
    return {"name": name, "in": at, "schema": schema, **({"required": True} if at == "path" else {}), **more}


def json_of(schema: Any, media_type: str = "application/json") -> Tree:
    return {"description": "", "content": {media_type: {"schema": schema}}}


def wrong(
    contract: Contract,
    target: str = "/",
    body: bytes | None = b"",
    headers: Headers | None = None,
    *,
    method: str | None = None,
) -> Found:
    """What is wrong with a request; the method is GET unless there is a body."""
    path, _, query = target.partition("?")
    segments = tuple(unquote(each) for each in path.split("/")[1:])
    operation = contract.find(method or ("POST" if body != b"" or headers else "GET"), segments)
    assert operation is not None
    if headers is None:
        headers = JSON if body != b"" else []
    try:
        operation.check_request(segments, query.encode(), headers, body)
    except ContractBreachError as breach:
        return [(each.part, each.pointer, each.rule) for each in breach.faults]
    return []


def wrong_answer(
    contract: Contract, status: int, body: bytes | None = b"", headers: Headers | None = None, *, head: bool = False
) -> Found:
    """What is wrong with an answer to `GET /`."""
    operation = contract.find("GET", ())
    assert operation is not None
    try:
        operation.check_answer(status, JSON if headers is None else headers, body, head=head)
    except AnswerBreachError as breach:
        return [(each.part, each.pointer, each.rule) for each in breach.faults]
    return []
