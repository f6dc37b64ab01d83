"""From an OpenAPI document (3.0, 3.1) to what is checked of it. Pure.

Rules:
1. Every operation is taken with the parameters of its path and its own; of two of the same name and place its own counts.
2. The headers `Accept`, `Content-Type` and `Authorization` are no parameters, as OpenAPI has it; nor are those that a gateway
   does not hand on.
3. Of a body, JSON is checked against the schema of its media type; of any other type only the type.
4. What would take more room than MAX_NODES is left unchecked, and listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from exchange.contracts.effort import Efforts
from exchange.contracts.faults import pointer_of
from exchange.contracts.plan import (
    STYLES,
    BodyPlan,
    ContentPlan,
    Kinds,
    OperationPlan,
    ParameterPlan,
    Place,
    Plan,
    SchemaPlan,
    Style,
)
from exchange.contracts.schemas import ContractDocumentError, Direction, SchemaBook, types_of
from exchange.signatures.signed_questions import NOT_FORWARDED

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
MAX_NODES: Final = 20_000
"""Schemas that one contract may hold when compiled: about 35 MB, and a quarter of a second to make."""
_STYLES: Final[Mapping[str, Style]] = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
_NOT_PARAMETERS: Final = frozenset(("accept", "content-type", "authorization", *map(bytes.decode, NOT_FORWARDED)))

Where = tuple[str, ...]


def plan_of(tree: Mapping[str, Any]) -> Plan:
    """What is checked of a document.

    Args:
        tree: The document as plain values, of a form that was checked before.

    Raises:
        ContractDocumentError: It is no document that could be checked against.
    """
    version, paths = tree.get("openapi"), tree.get("paths")
    if not isinstance(version, str) or not version.startswith(("3.0", "3.1")):
        raise ContractDocumentError("it is not an OpenAPI document of version 3.0 or 3.1")
    if not isinstance(paths, dict):
        raise ContractDocumentError("it describes no paths")
    try:
        return _Planning(tree, is_3_0=version.startswith("3.0")).plan(paths)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        # What stands in the place of an object is none: such a document would have been refused by the registry.
        raise ContractDocumentError(f"it cannot be read as OpenAPI ({type(error).__name__})") from error


class _Planning:
    def __init__(self, tree: Mapping[str, Any], *, is_3_0: bool) -> None:
        self._book = SchemaBook(tree, is_3_0=is_3_0)
        self._efforts = Efforts(self._book.definitions)
        self._planned: dict[int, SchemaPlan] = {}
        self._nodes = 0
        self._taken: set[int] = set()
        """Identities of the schemas that are to be compiled."""
        self._unchecked: list[str] = []

    def plan(self, paths: Mapping[str, Any]) -> Plan:
        operations = tuple(self._operations(paths))
        unchecked = tuple(dict.fromkeys((*self._unchecked, *self._book.unchecked)))
        return Plan(definitions=self._book.definitions, operations=operations, nodes=self._nodes, unchecked=unchecked)

    def _operations(self, paths: Mapping[str, Any]) -> Iterator[OperationPlan]:
        for path, stated in paths.items():
            if path.startswith("x-") or not isinstance(stated, dict):
                continue
            item, place = self._book.resolve(stated, ("paths", path))
            # What stands beside a reference counts before what it refers to.
            levels = [(stated, ("paths", path))] if item is stated else [(stated, ("paths", path)), (item, place)]
            shared = [
                (each, (*where, "parameters", str(index)))
                for value, where in reversed(levels)
                for index, each in enumerate(value.get("parameters") or ())
            ]
            for method in METHODS:
                for value, where in levels:
                    if isinstance(value.get(method), dict):
                        yield self._operation(method, path, value[method], (*where, method), shared)
                        break

    def _operation(
        self, method: str, path: str, value: Mapping[str, Any], where: Where, shared: list[tuple[Any, Where]]
    ) -> OperationPlan:
        own = [(each, (*where, "parameters", str(index))) for index, each in enumerate(value.get("parameters") or ())]
        parameters = {}
        for stated, stands in (*shared, *own):
            found, place = self._book.resolve(stated, stands)
            parameter = self._parameter(found, place)
            if parameter is not None:
                parameters[parameter.place, parameter.name] = parameter
        body = None
        if "requestBody" in value:
            found, place = self._book.resolve(value["requestBody"], (*where, "requestBody"))
            body = BodyPlan(required=found.get("required") is True, content=self._content(found, place, "request"))
        answers = {}
        for status, stated in (value.get("responses") or {}).items():
            if not status.startswith("x-"):
                found, place = self._book.resolve(stated, (*where, "responses", status))
                answers[status.upper() if status != "default" else status] = self._content(found, place, "answer")
        return OperationPlan(method.upper(), path, tuple(parameters.values()), body, answers)

    def _content(self, value: Mapping[str, Any], place: Where, direction: Direction) -> tuple[ContentPlan, ...]:
        content = []
        for stated, said in (value.get("content") or {}).items():
            media_type = stated.partition(";")[0].strip().lower()
            schema = None
            if is_json(media_type) or media_type in ("*/*", "application/*"):
                where = (*place, "content", stated, "schema")
                schema = self._schema((said or {}).get("schema", True), where, direction)
            content.append(ContentPlan(media_type, schema))
        return tuple(sorted(content, key=lambda each: each.media_type.count("*")))

    def _parameter(self, value: Mapping[str, Any], place: Where) -> ParameterPlan | None:
        name, stands = str(value["name"]), value["in"]
        if stands not in _STYLES or (stands == "header" and name.lower() in _NOT_PARAMETERS):
            return None
        content = value.get("content")
        style = value.get("style") or _STYLES[stands]
        if style not in STYLES:
            raise ContractDocumentError(f"there is no style {str(style)[:40]!r}")
        stated, where = value.get("schema", True), (*place, "schema")
        as_json = False
        if isinstance(content, dict) and content:
            media_type, said = next(iter(content.items()))
            as_json = is_json(media_type.partition(";")[0].strip().lower())
            stated, where = (
                (said.get("schema", True), (*place, "content", media_type, "schema")) if as_json else (True, where)
            )
        schema = self._schema(stated, where, "request")
        return ParameterPlan(
            name=name.lower() if stands == "header" else name,
            place=cast("Place", stands),
            required=value.get("required") is True or stands == "path",
            schema=schema or self._anything(),
            kinds=self._kinds(stated),
            style=cast("Style", style),
            explode=value.get("explode", style in ("form", "deepObject")) is True,
            json=as_json,
            may_be_empty=value.get("allowEmptyValue") is True,
        )

    def _kinds(self, schema: Any) -> Kinds:
        items: frozenset[str] = frozenset()
        properties: dict[str, frozenset[str]] = {}
        is_open = True
        for each in self._in_place(schema, 32):
            if "items" in each:
                items |= types_of(self._book, each["items"])
            for name, value in (each.get("properties") or {}).items():
                properties[name] = properties.get(name, frozenset()) | types_of(self._book, value)
            if each.get("additionalProperties") is False:
                is_open = False
        return Kinds(types_of(self._book, schema), items, properties, is_open)

    def _in_place(self, schema: Any, left: int) -> Iterator[Mapping[str, Any]]:
        """A schema and those that speak of the same value."""
        found, _ = self._book.resolve(schema, ())
        if not isinstance(found, dict) or left <= 0:
            return
        yield found
        for key in ("allOf", "anyOf", "oneOf"):
            for each in found.get(key) or ():
                yield from self._in_place(each, left - 8)

    def _anything(self) -> SchemaPlan:
        self._book.definitions.append(True)
        return SchemaPlan(index=len(self._book.definitions) - 1)

    def _schema(self, value: Any, place: Where, direction: Direction) -> SchemaPlan | None:
        """A schema's plan; None if there is no room for it."""
        index = self._book.add(value, place, direction)
        planned = self._planned.get(index)
        if planned is None:
            new = self._efforts.within(index, self._taken)
            room = sum(new.values())
            if self._nodes + room > MAX_NODES:
                self._unchecked.append(pointer_of(*place))
                return None
            self._nodes += room
            self._taken |= new.keys()
            planned = self._planned[index] = self._efforts.plan(index)
        return planned


def is_json(media_type: str) -> bool:
    """Whether bodies of a media type, in lower case and without parameters, are JSON."""
    return media_type.endswith(("/json", "+json"))
