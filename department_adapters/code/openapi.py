"""The contract of an adapter written in Python, from its types: an OpenAPI 3.1 document."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from department_adapters.code.operations import Operation
from department_adapters.code.shapes import Shape, described, own_problem
from department_adapters.replies import encode

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def openapi(title: str, version: str, description: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The document; raises TypeError if two types have the same name."""
    shapes: list[tuple[Shape, bool]] = []
    for each in operations:
        shapes += [(argument.shape, False) for argument in each.arguments if argument.shape is not None]
        shapes += [(shape, True) for shape in (each.result, each.other_result) if shape is not None]
    schemas, components = described(shapes)
    of_shape = {id(shape): schema for (shape, _), schema in zip(shapes, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, of_shape)
    info = {"title": title, "version": version} | ({"description": description} if description else {})
    document = {
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": {**components, "Problem": own_problem()}},
    }
    # Plain values only: what a default or an example is in Python becomes what it is in JSON.
    plain: dict[str, Any] = msgspec.json.decode(encode(document))
    return plain


def _operation(operation: Operation, of_shape: dict[int, Any]) -> dict[str, Any]:
    summary, _, rest = (inspect.getdoc(operation.function) or "").partition("\n")
    told: dict[str, Any] = {"operationId": operation.name}
    if summary:
        told["summary"] = summary
    if rest.strip():
        told["description"] = rest.strip()
    if operation.safe != (operation.method == "GET"):
        told["x-datong-safe"] = operation.safe
    parameters = [
        {
            "name": each.told,
            "in": each.place,
            "required": each.required,
            "schema": of_shape[id(each.shape)] | ({} if each.default is None else {"default": each.default}),
        }
        for each in operation.arguments
        if each.place in ("path", "query")
    ]
    if parameters:
        told["parameters"] = parameters
    for each in operation.arguments:
        if each.place == "body":
            content = (
                {"application/octet-stream": {}}
                if each.shape is None
                else {"application/json": {"schema": of_shape[id(each.shape)]}}
            )
            told["requestBody"] = {"required": each.required, "content": content}
    told["responses"] = _responses(operation, of_shape)
    return told


def _responses(operation: Operation, of_shape: dict[int, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if operation.without_body:
        responses["204"] = {"description": "Done."}
    else:
        schema = {} if operation.result is None else of_shape[id(operation.result)]
        content = {"application/json": {"schema": schema}}
        responses[str(operation.status)] = {"description": "The answer.", "content": content}
    responses["400"] = {"description": "The request is wrong.", "content": _PROBLEM}
    if operation.may_be_missing or not operation.declared:
        responses["404"] = {"description": "There is no such record.", "content": _PROBLEM}
    if any(each.place == "body" and each.shape is not None for each in operation.arguments):
        responses["415"] = {"description": "The body is not JSON.", "content": _PROBLEM}
        responses["422"] = {"description": "The body breaks the contract.", "content": _PROBLEM}
    if operation.other_result is not None:
        content = {"application/json": {"schema": of_shape[id(operation.other_result)]}}
        responses["default"] = {"description": "Another answer, with a status of its own.", "content": content}
    return responses
