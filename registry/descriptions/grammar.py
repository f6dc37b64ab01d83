"""What stands where in an OpenAPI document: which of its values are schemas, parameters, answers and so on. Pure.

Examples, defaults, enumerations and extensions (`x-…`) hold data: what looks like a reference there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from registry.descriptions.document import METHODS, Place

Kind = Literal[
    "document",
    "components",
    "paths",
    "path item",
    "operation",
    "parameter",
    "header",
    "request body",
    "responses",
    "response",
    "media type",
    "encoding",
    "example",
    "link",
    "callback",
    "security scheme",
    "schema",
]
Holding = Literal["one", "list", "map"]
Members = Mapping[str, tuple[Holding, Kind]]

_CONTENT: Members = {"content": ("map", "media type")}
_EXAMPLES: Members = {"examples": ("map", "example")}
_SCHEMA: Members = {"schema": ("one", "schema")}

MEMBERS: Mapping[Kind, Members] = {
    "document": {"paths": ("one", "paths"), "webhooks": ("map", "path item"), "components": ("one", "components")},
    "components": {
        "schemas": ("map", "schema"),
        "responses": ("map", "response"),
        "parameters": ("map", "parameter"),
        "examples": ("map", "example"),
        "requestBodies": ("map", "request body"),
        "headers": ("map", "header"),
        "securitySchemes": ("map", "security scheme"),
        "links": ("map", "link"),
        "callbacks": ("map", "callback"),
        "pathItems": ("map", "path item"),
    },
    "path item": {"parameters": ("list", "parameter"), **dict.fromkeys(METHODS, ("one", "operation"))},
    "operation": {
        "parameters": ("list", "parameter"),
        "requestBody": ("one", "request body"),
        "responses": ("one", "responses"),
        "callbacks": ("map", "callback"),
    },
    "parameter": {**_SCHEMA, **_CONTENT, **_EXAMPLES},
    "header": {**_SCHEMA, **_CONTENT, **_EXAMPLES},
    "request body": _CONTENT,
    "response": {"headers": ("map", "header"), **_CONTENT, "links": ("map", "link")},
    "media type": {**_SCHEMA, **_EXAMPLES, "encoding": ("map", "encoding")},
    "encoding": {"headers": ("map", "header")},
    "schema": {
        **dict.fromkeys(("properties", "patternProperties", "dependentSchemas", "$defs"), ("map", "schema")),
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), ("list", "schema")),
        **dict.fromkeys(("items", "additionalProperties", "not", "if", "then", "else"), ("one", "schema")),
        **dict.fromkeys(("contains", "propertyNames", "contentSchema"), ("one", "schema")),
        **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties"), ("one", "schema")),
    },
}
FREE: Mapping[Kind, Kind] = {"paths": "path item", "responses": "response", "callback": "path item"}
"""Objects whose members have names of the author's own, and what those are."""

IN_PLACE = frozenset(("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"))
"""Where a schema's own schemas speak of the same value as it does, not of a part of that value."""


def members(value: Mapping[str, Any], kind: Kind) -> Iterator[tuple[Place, Any, Kind]]:
    """The objects directly inside one of a known kind: where in it, what, and of which kind."""
    if kind in FREE:
        for key, found in value.items():
            if not key.startswith("x-"):
                yield (key,), found, FREE[kind]
        return
    for key, (holding, inner) in MEMBERS.get(kind, {}).items():
        found = value.get(key)
        if holding == "one":
            if key in value:
                yield (key,), found, inner
        elif holding == "list":
            if isinstance(found, list):
                yield from (((key, index), each, inner) for index, each in enumerate(found))
        elif isinstance(found, dict):
            # Names of properties and components may begin with anything, also with `x-`.
            yield from (((key, name), each, inner) for name, each in found.items())
