"""A request for each operation of a contract, made of the values that the contract gives, or that were found elsewhere. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from department_adapters.checking.documents import DocumentedOperation, Tree, followed
from exchange import Headers

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_PATH_SAFE = "!$&'()*+,;=:@-._~/"
_VALUE_SAFE = _PATH_SAFE.replace("/", "")
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A request that an operation should answer well."""

    target: str
    """Path and query, percent-encoded."""
    headers: Headers
    body: bytes


class NoSampleError(ValueError):
    """An operation needs a value that nobody gave; the message names it."""


def sample_of(tree: Tree, operation: DocumentedOperation, found: Mapping[str, Any] | None = None) -> Sample:
    """The request.

    Args:
        found: Name of a parameter in the path or query -> value that something is found by; before the contract's examples.

    Raises:
        NoSampleError: A value that must be given is not known.
    """
    in_path: dict[str, str] = {}
    in_query: list[tuple[str, str]] = []
    headers: Headers = []
    for parameter in operation.parameters:
        name, where = str(parameter.get("name")), parameter.get("in")
        value = (found or {}).get(name, _NOTHING) if where in ("path", "query") else _NOTHING
        if value is _NOTHING:
            value = example_of(tree, parameter)
        if value is _NOTHING or value is None:
            if parameter.get("required") or where == "path":
                raise NoSampleError(f"{where} {name}")
        elif where == "path":
            in_path[name] = ",".join(_texts(value))
        elif where == "query":
            in_query += [(name, text) for text in _texts(value)]
        elif where == "header":
            headers.append((name.lower().encode("latin-1", "replace"), ",".join(_texts(value)).encode()))
    path = "".join(
        _segment(part, in_path) if index % 2 else quote(part, safe=_PATH_SAFE)
        for index, part in enumerate(_PARAMETER.split(operation.path))
    )
    content, body = _body_of(tree, operation)
    if content:
        headers.append((b"content-type", content.encode()))
    return Sample(target=f"{path}?{urlencode(in_query)}" if in_query else path, headers=headers, body=body)


def example_of(tree: Tree, described: Tree) -> Any:
    """A value that the contract gives for a parameter or a media type, else for its schema; `_NOTHING` if it gives none."""
    if "example" in described:
        return described["example"]
    examples = described.get("examples")
    for each in examples.values() if isinstance(examples, dict) else ():
        if "value" in (example := followed(tree, each)):
            return example["value"]
    schema = followed(tree, described.get("schema"))
    for key in ("example", "const", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][0]
    return _NOTHING


def learnt(operation: DocumentedOperation, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the path of an operation, from what the list above it answered.

    Args:
        answers: Path as the contract writes it -> the JSON that was answered there.
    """
    found: dict[str, Any] = {}
    for match in _PARAMETER.finditer(operation.path):
        above = operation.path[: match.start()].rstrip("/")
        record = next(_records(answers[above]), None) if above in answers else None
        if record is not None and (value := _member(record, match[1])) is not None:
            found[match[1]] = value
    return found


def _records(value: Any) -> Iterator[Mapping[str, Any]]:
    """Objects in the list that an answer is, or that one of its members is."""
    lists = [value] if isinstance(value, list) else [*value.values()] if isinstance(value, dict) else []
    for each in lists:
        yield from (record for record in (each if isinstance(each, list) else ()) if isinstance(record, dict))


def _member(record: Mapping[str, Any], name: str) -> Any:
    """`petId`, `pet_id` and `id` may all be what the path calls {petId}."""
    wanted = re.sub(r"[^a-z0-9]", "", name.lower())
    for key, value in record.items():
        if re.sub(r"[^a-z0-9]", "", key.lower()) == wanted and isinstance(value, str | int):
            return value
    ends = re.search(r"(id|code|number|no|key|name)$", wanted)
    for key, value in record.items():
        if ends and key.lower() == ends[1] and isinstance(value, str | int):
            return value
    return None


def _segment(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        raise NoSampleError(f"path {name}")
    return quote(values[name], safe=_VALUE_SAFE)


def _texts(value: Any) -> Sequence[str]:
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)]


def _body_of(tree: Tree, operation: DocumentedOperation) -> tuple[str, bytes]:
    if operation.body is None:
        return "", b""
    content = operation.body.get("content")
    for media_type, described in content.items() if isinstance(content, dict) else ():
        value = example_of(tree, followed(tree, described))
        if value is not _NOTHING and re.fullmatch(r"application/([a-z0-9.+-]+\+)?json", media_type):
            return media_type, json.dumps(value, ensure_ascii=False).encode()
    if operation.body.get("required"):
        raise NoSampleError("body")
    return "", b""
