"""The two sides of a comparison of documents: what each says of its operations, with references followed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.descriptions.document import Document, Place
from registry.descriptions.operations import Endpoint, anonymous, endpoints_of
from registry.descriptions.references import References
from registry.descriptions.shapes import Schema, Shapes

_STYLES = {"query": "form", "cookie": "form", "path": "simple", "header": "simple"}
_NOT_PARAMETERS = frozenset(("accept", "content-type", "authorization"))  # as OpenAPI has it


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two documents."""

    document: Document
    references: References
    shapes: Shapes
    endpoints: Mapping[tuple[str, str], Endpoint]

    @classmethod
    def of(cls, document: Document, references: References) -> Side:
        found = {
            (each.operation.method, anonymous(each.operation.path)): each for each in endpoints_of(document, references)
        }
        return cls(document, references, Shapes(document, references), found)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, with how it is written."""

    place: Place
    name: str
    required: bool
    style: str
    schema: Schema


def parameters_of(side: Side, endpoint: Endpoint) -> dict[tuple[str, str], Parameter]:
    """The parameters of an operation by where they stand and their name, those of the path by their position."""
    positions = {name: index for index, name in enumerate(re.findall(r"\{([^{}/]+)\}", endpoint.path))}
    own = endpoint.value.get("parameters")
    listed = list(endpoint.shared)
    if isinstance(own, list):
        listed += [(each, (*endpoint.place, "parameters", index)) for index, each in enumerate(own)]
    found: dict[tuple[str, str], Parameter] = {}
    for stated, where in listed:
        value, place = side.references.resolve(stated, where)
        if not isinstance(value, dict):
            continue
        name, kind = str(value.get("name")), str(value.get("in"))
        key = name.lower() if kind == "header" else f"#{positions.get(name, name)}" if kind == "path" else name
        if kind == "header" and key in _NOT_PARAMETERS:
            continue
        content = content_of(value, place)
        schema = schema_of(side, *(next(iter(content.values())) if content else (value, place)))
        style = str(value.get("style") or _STYLES.get(kind, ""))
        explode = value.get("explode", style == "form")
        written = ", ".join(content) or (f"{style} explode" if explode is True else style)
        required = value.get("required") is True or kind == "path"
        found[kind, key] = Parameter(place, name, required, written, schema)
    return found


def answers_of(side: Side, endpoint: Endpoint) -> dict[str, tuple[Any, Place]]:
    found = {}
    for status, stated in mapping_of(endpoint.value, "responses").items():
        if not status.startswith("x-"):
            found[status] = side.references.resolve(stated, (*endpoint.place, "responses", status))
    return found


def demands_of(side: Side, endpoint: Endpoint) -> list[frozenset[str]]:
    """What callers must prove, as alternatives; one that is empty demands nothing."""
    stated = endpoint.value.get("security", side.document.tree.get("security"))
    if not isinstance(stated, list) or not stated:
        return [frozenset()]
    return [
        frozenset(proof for scheme, scopes in each.items() for proof in (scheme, *(f"{scheme}:{s}" for s in scopes)))
        for each in stated
        if isinstance(each, dict)
    ]


def content_of(value: Any, place: Place) -> dict[str, tuple[Any, Place]]:
    """Media type -> what is said of it, and where."""
    return {
        media_type.lower().replace(" ", ""): (said, (*place, "content", media_type))
        for media_type, said in mapping_of(value, "content").items()
    }


def schema_of(side: Side, value: Any, place: Place) -> Schema:
    """The schema of a media type or parameter; one that says nothing if there is none."""
    stated = value.get("schema", True) if isinstance(value, dict) else True
    return side.shapes.schema(stated, (*place, "schema"))


def mapping_of(value: Any, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
