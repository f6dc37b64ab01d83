"""What an OpenAPI document says of its operations, as far as calling them needs. Pure.

The document was examined before (`registry`), or is examined by whoever asks: here what cannot be understood is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
SAFE = "x-datong-safe"
_DEEPEST = 32
"""References that are followed one after the other."""

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentedOperation:
    """One operation."""

    method: str
    path: str
    """As the document writes it."""
    safe: bool
    parameters: Sequence[Tree]
    """Those of the path, too; references are followed."""
    body: Tree | None
    """The request body, references followed."""
    value: Tree

    @property
    def name(self) -> str:
        """As people write it: `GET /people/{number}`."""
        return f"{self.method} {self.path}"


def operations_of(tree: Tree) -> Iterator[DocumentedOperation]:
    """Every operation of a document."""
    paths = tree.get("paths")
    for path, item in paths.items() if isinstance(paths, dict) else ():
        item = followed(tree, item)
        for method in METHODS:
            value = item.get(method)
            if not isinstance(value, dict):
                continue
            declared = {}
            for each in (*_listed(item.get("parameters")), *_listed(value.get("parameters"))):
                parameter = followed(tree, each)
                declared[parameter.get("in"), parameter.get("name")] = parameter
            safe = value.get(SAFE)
            yield DocumentedOperation(
                method=method.upper(),
                path=path,
                safe=safe if isinstance(safe, bool) else method.upper() in SAFE_METHODS,
                parameters=list(declared.values()),
                body=followed(tree, value["requestBody"]) if "requestBody" in value else None,
                value=value,
            )


def followed(tree: Tree, value: Any) -> Tree:
    """The object that stands at a place, or that its reference leads to within the document; empty if there is none."""
    for _ in range(_DEEPEST):
        if not isinstance(value, dict):
            return {}
        reference = value.get("$ref")
        if not isinstance(reference, str):
            return value
        value = _at(tree, reference)
    return {}


def _at(tree: Tree, reference: str) -> Any:
    if not reference.startswith("#/"):
        return None
    place: Any = tree
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
            place = place[int(key)]
        elif isinstance(place, dict):
            place = place.get(key)
        else:
            return None
    return place


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
