"""Types of a function's arguments and results as JSON: how values are read, written and described.

Rules:
1. `msgspec.Struct`, TypedDict and what holds one belong to msgspec; everything else (plain types, dataclasses, pydantic models) to
   pydantic. One annotation cannot hold both.
2. Bodies are strict: "5" is no number. Parameters are text, so there it is one.
3. What is wrong is told by place and rule, never with the value; what a check of the department's own says is not told at all.
4. A result that is not of the declared type is a fault of the code: it goes to no caller.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import pydantic
import pydantic_core

Schema = dict[str, Any]
Fault = tuple[str, str]
"""RFC 6901 pointer to the member that is wrong, and the rule it breaks."""

_REFERENCE = "#/components/schemas/{name}"
_PLACE = re.compile(r"^(?P<rule>.*?)(?: - at `(?P<place>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class UnfitError(ValueError):
    """A value is not of its type."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults[0][1])
        self.faults = faults


class ResultError(TypeError):
    """A function's result is not of the type it declares."""


class Shape(Protocol):
    """One type."""

    annotation: Any

    def from_text(self, text: str | list[str]) -> Any:
        """The value that a parameter's text is; raises UnfitError."""

    def from_json(self, body: bytes) -> Any:
        """The value that a body is; raises UnfitError, with no pointer if it is no JSON."""

    def to_json(self, value: Any) -> bytes:
        """A result as JSON; raises ResultError."""


def shape_of(annotation: Any) -> Shape:
    """The shape of a type; raises TypeError if nothing can read and write it."""
    try:
        return _MsgspecShape(annotation) if _is_for_msgspec(annotation) else _PydanticShape(annotation)
    except (pydantic.errors.PydanticUserError, TypeError) as error:
        raise TypeError(f"{_name(annotation)} cannot be told as JSON: {str(error).splitlines()[0]}") from error


def any_to_json(value: Any) -> bytes:
    """A value of no declared type as JSON; raises ResultError."""
    try:
        return pydantic_core.to_json(value, by_alias=True, fallback=msgspec.to_builtins)
    except (pydantic_core.PydanticSerializationError, TypeError) as error:
        raise ResultError(f"a result of type {type(value).__name__} has no form as JSON") from error


def described(shapes: Sequence[tuple[Shape, bool]]) -> tuple[list[Schema], dict[str, Schema]]:
    """Their JSON Schemas in that order, and the components that these name.

    Args:
        shapes: Each with whether it is for results; for those, a member with a default is always there.

    Raises:
        TypeError: Two different types have the same name, or one has no schema.
    """
    of_msgspec = [shape.annotation for shape, _ in shapes if isinstance(shape, _MsgspecShape)]
    structs, components = msgspec.json.schema_components(of_msgspec, ref_template=_REFERENCE)
    wanted: list[tuple[int, Any, pydantic.TypeAdapter[Any]]] = [
        (number, "serialization" if result else "validation", shape.adapter)
        for number, (shape, result) in enumerate(shapes)
        if isinstance(shape, _PydanticShape)
    ]
    try:
        models, defined = pydantic.TypeAdapter.json_schemas(
            wanted, ref_template=_REFERENCE.replace("{name}", "{model}")
        )
    except pydantic.errors.PydanticUserError as error:
        raise TypeError(str(error).splitlines()[0]) from error
    components = dict(components)
    for name, schema in defined.get("$defs", {}).items():
        if name in components:
            raise TypeError(f"two types are called {name}")
        components[name] = schema
    left = iter(structs)
    modes = {number: mode for number, mode, _ in wanted}
    schemas = [dict(models[number, modes[number]]) if number in modes else next(left) for number in range(len(shapes))]
    return schemas, components


class _PydanticShape:
    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self.adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)

    def from_text(self, text: str | list[str]) -> Any:
        try:
            # There is no such thing as a list that is text; its members are taken as leniently.
            return self.adapter.validate_strings(text) if isinstance(text, str) else self.adapter.validate_python(text)
        except pydantic.ValidationError as error:
            raise UnfitError(_faults(error)) from None

    def from_json(self, body: bytes) -> Any:
        try:
            return self.adapter.validate_json(body, strict=True)
        except pydantic.ValidationError as error:
            raise UnfitError(_faults(error)) from None

    def to_json(self, value: Any) -> bytes:
        try:
            return self.adapter.dump_json(value, by_alias=True, warnings="error")
        except pydantic_core.PydanticSerializationError:
            # Its text holds the value, and ends up in a log.
            raise ResultError(f"the result is not {_name(self.annotation)}, as declared") from None


class _MsgspecShape:
    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self._decoder = msgspec.json.Decoder(annotation)
        self._encoder = msgspec.json.Encoder(decimal_format="string")

    def from_text(self, text: str | list[str]) -> Any:
        try:
            return msgspec.convert(text, self.annotation, strict=False)
        except msgspec.ValidationError as error:
            raise UnfitError([_fault(error)]) from None

    def from_json(self, body: bytes) -> Any:
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise UnfitError([_fault(error)]) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UnfitError([("", "not JSON")]) from None

    def to_json(self, value: Any) -> bytes:
        try:
            return self._encoder.encode(msgspec.convert(value, self.annotation))
        except (msgspec.ValidationError, TypeError):
            raise ResultError(f"the result is not {_name(self.annotation)}, as declared") from None


def _faults(error: pydantic.ValidationError) -> list[Fault]:
    found = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        kind = each["type"]
        if kind == "json_invalid":
            return [("", "not JSON")]
        # The text of a check of the department's own may hold anything.
        own = kind in ("value_error", "assertion_error") or kind not in pydantic_core.core_schema.ErrorType.__args__  # type: ignore[attr-defined]
        rule = "is not allowed" if own else each["msg"]
        pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in each["loc"])
        found.append((pointer, rule))
    return found


def _fault(error: msgspec.ValidationError) -> Fault:
    told = _PLACE.match(str(error))
    assert told is not None
    steps = _STEP.findall(told["place"] or "")
    pointer = "".join(f"/{(name or index).replace('~', '~0').replace('/', '~1')}" for name, index in steps)
    own = error.__cause__ is not None  # raised by a hook of the department's own
    return pointer, "is not allowed" if own else told["rule"]


def _is_for_msgspec(annotation: Any) -> bool:
    if typing.is_typeddict(annotation) or (isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)):
        return True
    return any(map(_is_for_msgspec, typing.get_args(annotation)))


def members_of(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)


def own_problem() -> Mapping[str, Any]:
    """The schema of the problems that sources tell callers."""
    return {
        "type": "object",
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "pointer": {"type": "string"},
                        "parameter": {"type": "string"},
                        "detail": {"type": "string"},
                    },
                },
            },
        },
        "required": ["status", "detail"],
    }
