"""An OpenAPI 3.1 document for services that look up records by a key: what tables and files become. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

SAMPLE = "x-datong-sample"
"""In a parameter: where `datong adapter check` finds a value that something is found by. Records stand in no contract."""

_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a record."""

    name: str
    schema: Mapping[str, Any]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A value that records are looked up by."""

    name: str
    where: Literal["path", "query"]
    schema: Mapping[str, Any]
    title: str = ""
    required: bool = True
    sample: Mapping[str, str] = field(default_factory=dict)
    """See SAMPLE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One operation: records by their key."""

    path: str
    record: str
    """Name of the record's schema."""
    title: str
    parameters: Sequence[Parameter]
    members: Sequence[Member]
    list_members: Mapping[str, Mapping[str, Any]] | None = None
    """Of an operation that answers several records: what stands beside `items`. None: it answers one record, or 404."""


def lookup_contract(title: str, description: str, lookups: Sequence[Lookup]) -> bytes:
    """The document, as YAML without anchors."""
    document = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1.0.0", "description": description},
        "paths": {each.path: {"get": _operation(each)} for each in lookups},
        "components": {
            "schemas": {
                **{each.record: _record(each) for each in lookups},
                "Problem": _PROBLEM,
            },
            "responses": {
                "Refused": _answer(
                    "A parameter is wrong. 参数有误。", "application/problem+json", _reference("Problem")
                ),
                "NotFound": _answer(
                    "There is no such record. 无此记录。", "application/problem+json", _reference("Problem")
                ),
            },
        },
    }
    return written_document(document)


def written_document(document: Mapping[str, Any]) -> bytes:
    """A document as YAML without anchors."""
    copied = json.loads(json.dumps(document))  # what stands in it twice is written twice: the registry takes no anchors
    text: str = yaml.safe_dump(copied, allow_unicode=True, sort_keys=False, width=120)
    return text.encode()


def _operation(lookup: Lookup) -> dict[str, Any]:
    record = _reference(lookup.record)
    if lookup.list_members is not None:
        record = {
            "type": "object",
            "properties": {"items": {"type": "array", "items": record}, **lookup.list_members},
            "required": ["items"],
        }
    answers = {
        "200": _answer(lookup.title, "application/json", record),
        "400": {"$ref": "#/components/responses/Refused"},
    }
    if lookup.list_members is None:
        answers["404"] = {"$ref": "#/components/responses/NotFound"}
    return {
        "summary": lookup.title,
        "parameters": [_parameter(each) for each in lookup.parameters],
        "responses": answers,
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"name": parameter.name, "in": parameter.where, "required": parameter.required}
    if parameter.title:
        found["description"] = parameter.title
    found["schema"] = dict(parameter.schema)
    if parameter.sample:
        found[SAMPLE] = dict(parameter.sample)
    return found


def _record(lookup: Lookup) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            each.name: {**each.schema, **({"title": each.title} if each.title else {})} for each in lookup.members
        },
        "required": [each.name for each in lookup.members],
        "additionalProperties": False,
    }


def _answer(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
