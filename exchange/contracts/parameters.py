"""Parameters of a request as JSON values, by the styles of OpenAPI. Pure.

Rules:
1. A parameter is text; what it means depends on what its schema allows. Where several readings are possible (`1` as a number or
   as text, a comma inside an item or between two) it keeps to the contract if one of them does.
2. A parameter that is no list comes once. Systems differ in which of two they read.
3. Parameters that the contract does not name are passed on as they are: OpenAPI has no way to forbid them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from exchange.contracts.plan import Kinds, ParameterPlan

_INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,5})?")
_DEEP = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")
_DELIMITERS = {"form": ",", "simple": ",", "label": ",", "matrix": ",", "spaceDelimited": " ", "pipeDelimited": "|"}

Raw = Sequence[tuple[str, str]]
"""Names, decoded, and values as they were written."""


class UnreadableParameterError(ValueError):
    """A parameter cannot be read. `rule` is one of a fault."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def query_of(query: bytes) -> Raw:
    """The parameters of a query string in their order; raises UnreadableParameterError for one that is not UTF-8."""
    found = []
    for part in query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            found.append((_decoded(name.decode("latin-1")), value.decode("latin-1")))
    return found


def readings(parameter: ParameterPlan, raw: Raw) -> Iterator[Any]:
    """What a parameter may mean, the likeliest first; nothing if it is not there.

    Args:
        raw: Where it may be: the whole query, or the one value that stands for it.

    Raises:
        UnreadableParameterError: It is written in no way that its style allows.
    """
    kinds = parameter.kinds
    # A path comes decoded, and headers are not encoded.
    decoded = _decoded if parameter.place == "query" else str
    if not parameter.json and _is_exploded(parameter):
        members = _exploded(parameter, raw)
        if members:
            yield members
        return
    values = [value for name, value in raw if name == parameter.name]
    if not values:
        return
    if parameter.json:
        yield _json(decoded(_once(values)))
        return
    is_list = "array" in kinds.types and not kinds.types >= {"string", "number", "object"}
    if is_list and parameter.explode and parameter.style == "form":
        yield from _list_readings([decoded(value) for value in values], kinds.items)
        if len(values) == 1 and kinds.types != {"array"}:
            yield from _scalars(decoded(values[0]), kinds.types)
        return
    value = _unprefixed(parameter, _once(values))
    if is_list:
        for items in _split(parameter, value, decoded):
            yield from _list_readings(items, kinds.items)
    if _is_object(kinds):
        yield from _objects(parameter, value, decoded)
    yield from _scalars(decoded(value), kinds.types)


def _is_object(kinds: Kinds) -> bool:
    return "object" in kinds.types and (bool(kinds.properties) or not kinds.types & {"string", "array", "integer"})


def _is_exploded(parameter: ParameterPlan) -> bool:
    """Whether it is an object whose members are parameters of their own."""
    if parameter.style == "deepObject":
        return True
    in_query = parameter.place == "query" and parameter.style == "form"
    return in_query and parameter.explode and _is_object(parameter.kinds)


def _once(values: Sequence[str]) -> str:
    if len(values) > 1:
        raise UnreadableParameterError("repeated")
    return values[0]


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableParameterError("encoding") from error


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreadableParameterError("json") from error


def _unprefixed(parameter: ParameterPlan, value: str) -> str:
    """Without what the styles `label` and `matrix` of paths put before it."""
    if parameter.style == "label":
        if not value.startswith("."):
            raise UnreadableParameterError("encoding")
        return value[1:].replace(".", ",") if parameter.explode else value[1:]
    if parameter.style == "matrix":
        start = f";{parameter.name}="
        if parameter.explode and _is_object(parameter.kinds) and value.startswith(";"):
            return value[1:].replace(";", ",")
        if not value.startswith(start):
            raise UnreadableParameterError("encoding")
        return value[len(start) :].replace(start, ",") if parameter.explode else value[len(start) :]
    return value


def _split(parameter: ParameterPlan, value: str, decoded: Callable[[str], str]) -> Iterator[list[str]]:
    """The items of a list, decoded: split as they were written, or, for callers that encode everything, when decoded."""
    delimiter = _DELIMITERS.get(parameter.style, ",")
    written = value.replace("+", " ").replace("%20", " ") if delimiter == " " else value
    yield [decoded(item) for item in written.split(delimiter)]
    whole = decoded(value)
    if delimiter not in written and delimiter in whole:
        yield whole.split(delimiter)


def _objects(parameter: ParameterPlan, value: str, decoded: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    """An object that is written in one value: `a,1,b,2`, or `a=1,b=2` if exploded."""
    for items in _split(parameter, value, decoded):
        if parameter.explode and parameter.style != "form":
            pairs = [item.partition("=")[::2] for item in items]
        elif len(items) % 2 == 0:
            pairs = list(zip(items[::2], items[1::2], strict=True))
        else:
            continue
        yield _members(pairs, parameter.kinds)


def _exploded(parameter: ParameterPlan, raw: Raw) -> dict[str, Any]:
    """An object whose members are parameters of their own: `name[a]=1`, or `a=1`."""
    pairs = []
    for name, value in raw:
        if parameter.style == "deepObject":
            match = _DEEP.fullmatch(name)
            if match and match[1] == parameter.name:
                pairs.append((match[2], _decoded(value)))
        elif name in parameter.kinds.properties:
            pairs.append((name, _decoded(value)))
    return _members(pairs, parameter.kinds)


def _members(pairs: Sequence[tuple[str, str]], kinds: Kinds) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in pairs:
        types = kinds.properties.get(name, frozenset())
        value = next(iter(_scalars(text, types)))
        if "array" in types and not types >= {"string", "number", "object"}:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise UnreadableParameterError("repeated")
        else:
            found[name] = value
    return found


def _list_readings(items: Sequence[str], types: frozenset[str]) -> Iterator[list[Any]]:
    yield [next(iter(_scalars(item, types))) for item in items]
    if "string" in types or not types:
        yield list(items)
    if list(items) == [""]:
        yield []


def _scalars(text: str, types: frozenset[str]) -> Iterator[Any]:
    """What a text may be among scalar types; at least the text."""
    if types & {"integer", "number"}:
        if _INTEGER.fullmatch(text):
            yield int(text)
        elif _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            yield float(text)
    if "boolean" in types and text.lower() in ("true", "false"):
        yield text.lower() == "true"
    if "null" in types and text in ("", "null"):
        yield None
    yield text


def cookies_of(headers: Sequence[tuple[bytes, bytes]]) -> Raw:
    """Names and values of the cookies of a request."""
    found = []
    for name, value in headers:
        if name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, text = part.strip().partition("=")
                found.append((key, text.strip('"')))
    return found


def headers_of(headers: Sequence[tuple[bytes, bytes]], names: frozenset[str]) -> Mapping[str, str]:
    """The values of some headers; lines of one name are one list."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name = raw.decode("latin-1").lower()
        if name in names:
            try:
                text = value.decode("utf-8")
            except UnicodeDecodeError:
                text = value.decode("latin-1")
            found[name] = f"{found[name]},{text}" if name in found else text
    return found
