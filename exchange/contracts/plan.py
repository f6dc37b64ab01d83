"""What is to be checked, read out of an OpenAPI document: plain values that can be handed from one process to another. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

Place = Literal["path", "query", "header", "cookie"]
Style = Literal["simple", "label", "matrix", "form", "spaceDelimited", "pipeDelimited", "deepObject"]
STYLES: tuple[str, ...] = Style.__args__  # type: ignore[attr-defined]
MAX_DEPTH = 64
"""How deep a body may be nested that is checked."""


class SchemaPlan(msgspec.Struct, frozen=True):
    """A schema, and what it may cost to try it."""

    index: int
    """Into `Plan.definitions`."""
    effort: tuple[int, ...] = (1,)
    """Most steps for a byte of a value nested no deeper than 0, 1, …; the last counts for all deeper ones
    (`exchange.contracts.effort`)."""


class Kinds(msgspec.Struct, frozen=True):
    """What a parameter's value may be, as far as reading it needs."""

    types: frozenset[str]
    items: frozenset[str] = frozenset()
    """Types of an array's items."""
    properties: dict[str, frozenset[str]] = {}
    """Types of an object's members."""
    open: bool = True
    """Whether an object may have others."""


class ParameterPlan(msgspec.Struct, frozen=True):
    """One parameter."""

    name: str
    place: Place
    required: bool
    schema: SchemaPlan
    kinds: Kinds
    style: Style = "form"
    explode: bool = True
    json: bool = False
    """Whether it is written as JSON (`content` in the document)."""
    may_be_empty: bool = False


class ContentPlan(msgspec.Struct, frozen=True):
    """One media type of a body."""

    media_type: str
    """Lower case, without parameters; may be `text/*` or `*/*`."""
    schema: SchemaPlan | None
    """What JSON of this type is checked against."""


class BodyPlan(msgspec.Struct, frozen=True):
    """The body of a request."""

    required: bool
    content: tuple[ContentPlan, ...]


class OperationPlan(msgspec.Struct, frozen=True):
    """One operation."""

    method: str
    path: str
    """As the document writes it."""
    parameters: tuple[ParameterPlan, ...]
    body: BodyPlan | None
    answers: dict[str, tuple[ContentPlan, ...]]
    """Status (`200`, `2XX`, `default`) -> media types; none if the answer has no body."""


class Plan(msgspec.Struct, frozen=True):
    """Everything that is checked of one document."""

    definitions: list[Any]
    """Schemas in Draft 2020-12, which refer to each other as `#/$defs/{index}`."""
    operations: tuple[OperationPlan, ...]
    nodes: int = 0
    """About how much room they take when compiled, in schemas."""
    unchecked: tuple[str, ...] = ()
    """Pointers to what of the document cannot be checked in bounds, or not at all."""


def schemas_of(operation: OperationPlan) -> Iterator[SchemaPlan]:
    """Every schema that something of an operation is checked against."""
    yield from (each.schema for each in operation.parameters)
    bodies = [*operation.answers.values(), *([operation.body.content] if operation.body else ())]
    yield from (each.schema for content in bodies for each in content if each.schema is not None)
