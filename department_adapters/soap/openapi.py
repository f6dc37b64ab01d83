"""The contract of a SOAP source: an OpenAPI 3.1 document of what it offers, made from the WSDL.

Rules:
1. What the document promises is what is written and read: both go by the same model.
2. Texts of the WSDL's documentation become descriptions; enumerations, lengths, bounds and patterns are kept, patterns as
   far as both languages have them.
3. Of a choice, the members are optional; that one of them must be there is told by the source, not by the document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from department_adapters.soap import values
from department_adapters.soap.markup import local_name
from department_adapters.soap.model import TEXT, TYPE, Complex, ElementParticle, Member, Simple
from department_adapters.soap.operation import BoundOperation, Parameter, SoapOperation, bind, every_operation
from department_adapters.soap.wsdl import Wsdl

Schema = dict[str, Any]
_PROBLEM: Schema = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["type", "status", "detail"],
}
_LENGTHS = {"minLength": "minLength", "maxLength": "maxLength"}
_BOUNDS = {
    "minInclusive": "minimum",
    "maxInclusive": "maximum",
    "minExclusive": "exclusiveMinimum",
    "maxExclusive": "exclusiveMaximum",
}
_NO_LENGTH = frozenset({*values.INTEGERS, *values.FLOATS, *values.FORMS, "boolean", "base64Binary", "union"})


def openapi_of(
    wsdl: Wsdl, operations: Sequence[SoapOperation] = (), *, title: str = "", version: str = "1.0.0"
) -> dict[str, Any]:
    """An OpenAPI 3.1 document, ready to be written as JSON or YAML.

    Args:
        operations: What is offered; none: every operation of the WSDL, as `POST /{operation}`.
        title: Of the document; empty: the service's name in the WSDL.

    Raises:
        SchemaError: The WSDL does not have what is declared.
    """
    told = _Schemas()
    paths: dict[str, Any] = {}
    for each in [bind(wsdl, declared) for declared in operations or every_operation(wsdl)]:
        paths.setdefault(each.declared.path, {})[each.declared.method.lower()] = _operation(each, told)
    info = {"title": title or wsdl.service or "SOAP", "version": version}
    if wsdl.documentation:
        info["description"] = wsdl.documentation
    document: dict[str, Any] = {"openapi": "3.1.0", "info": info, "paths": paths}
    document["components"] = {"schemas": {"Problem": _PROBLEM, **told.finished()}}
    return document


def _operation(bound: BoundOperation, told: _Schemas) -> dict[str, Any]:
    declared, operation = bound.declared, bound.operation
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.name}
    if operation.documentation:
        described["description"] = operation.documentation
    if bound.parameters:
        described["parameters"] = [_parameter(name, each, told) for name, each in bound.parameters.items()]
    elsewhere = {each.member for each in bound.parameters.values()} | set(bound.fixed)
    if declared.method == "POST" and operation.question is not None:
        body = told.message(operation.question, elsewhere)
        if body.get("properties") or "$ref" in body or "anyOf" in body:
            needed = bool(body.get("required")) or "$ref" in body or "anyOf" in body
            described["requestBody"] = {"required": needed, "content": {"application/json": {"schema": body}}}
    responses: dict[str, Any] = {}
    if operation.answer is None:
        responses["204"] = {"description": "Done"}
    else:
        schema = told.message(operation.answer, set())
        if bound.result:
            schema = told.selected(operation.answer, bound.result)
        responses["200"] = {"description": "OK", "content": {"application/json": {"schema": schema}}}
    refused = {"$ref": "#/components/schemas/Problem"}
    responses["4XX"] = {"description": "Refused", "content": {"application/problem+json": {"schema": refused}}}
    described["responses"] = responses
    return described


def _parameter(name: str, parameter: Parameter, told: _Schemas) -> dict[str, Any]:
    schema = told.simple(parameter.type)
    described: dict[str, Any] = {
        "name": name,
        "in": "path" if parameter.in_path else "query",
        "required": parameter.required,
        "schema": {"type": "array", "items": schema} if parameter.many else schema,
    }
    if parameter.documentation:
        described["description"] = parameter.documentation
    return described


class _Schemas:
    """JSON Schemas of types, with those that have names as components."""

    def __init__(self) -> None:
        self._names: dict[tuple[Complex, bool], str] = {}
        # Told as one of several, a type names itself in `@type`.
        self._made: dict[str, Schema] = {}

    def finished(self) -> dict[str, Schema]:
        """The components."""
        return self._made

    def message(self, element: ElementParticle, without: set[tuple[str, ...]]) -> Schema:
        """What stands for a message.

        Args:
            without: Members that are given elsewhere.
        """
        if isinstance(element.type, Simple):
            label = local_name(element.name)
            inside = {} if (label,) in without else {label: self._element(element)}
            return {"type": "object", "properties": inside, "required": list(inside), "additionalProperties": False}
        if not without:
            return self._complex(element.type)
        return self._object(element.type, without)

    def selected(self, element: ElementParticle, path: tuple[str, ...]) -> Schema:
        """A member of an answer."""
        kind, schema = element.type, {}
        for label in path:
            assert isinstance(kind, Complex)  # as binding it made sure
            member = kind.members[label]
            # Where it is null, it is told that there is nothing.
            schema = self._described(self._type(member.element.type), member.element.documentation)
            schema = _array(schema, member) if member.many else schema
            kind = member.element.type
        return schema

    def simple(self, kind: Simple) -> Schema:
        """Of a text."""
        schema = self._base(kind)
        if kind.enumeration and "type" in schema:
            schema["enum"] = [
                each for each in (_read_or_none(kind, text) for text in kind.enumeration) if each is not None
            ]
        return self._described(schema, kind.documentation)

    def _base(self, kind: Simple) -> Schema:
        base, facets = kind.base, kind.facets
        if base == "list" and kind.items is not None:
            bounds = {"minLength": "minItems", "maxLength": "maxItems"}
            return {"type": "array", "items": self.simple(kind.items), **_numbers(facets, bounds)}
        if base == "union":
            return {"anyOf": [self.simple(each) for each in kind.members]}
        if base in values.INTEGERS:
            least, greatest = values.INTEGERS[base]
            given = {"minimum": least, "maximum": greatest}
            return {"type": "integer", **{name: each for name, each in given.items() if each is not None}} | _numbers(
                facets, _BOUNDS
            )
        if base in values.FLOATS:
            return {"anyOf": [{"type": "number", **_numbers(facets, _BOUNDS)}, {"enum": ["NaN", "INF", "-INF"]}]}
        if base == "boolean":
            return {"type": "boolean"}
        schema: Schema = {"type": "string"}
        if base == "base64Binary":
            return schema | {"contentEncoding": "base64"}
        if base == "date":
            return schema | {"format": "date"}
        if base in values.FORMS:
            return schema | {"pattern": f"^(?:{_ascii(values.FORMS[base])})$"}
        if base not in _NO_LENGTH:
            schema |= _numbers(facets, _LENGTHS)
            if length := facets.get("length"):
                schema |= _numbers({"minLength": length, "maxLength": length}, _LENGTHS)
        if patterns := [pattern for each in kind.patterns if (pattern := ecma(each))]:
            schema["pattern"] = f"^(?:{patterns[-1]})$"  # the last one is the narrowest
        return schema

    def _type(self, kind: Simple | Complex) -> Schema:
        return self.simple(kind) if isinstance(kind, Simple) else self._complex(kind)

    def _complex(self, kind: Complex) -> Schema:
        if kind.anything:
            return {}
        variants = list(kind.variants())
        if len(variants) > 1 or kind.abstract:
            return {"anyOf": [self._variant(each, kind) for each in variants]}
        return self._reference(kind)

    def _variant(self, kind: Complex, declared: Complex) -> Schema:
        if kind is declared:
            return self._reference(kind)
        known = (kind, True) in self._names
        name = self._name(kind, f"{local_name(kind.name)}.variant", variant=True)
        if not known:
            self._made[name] = {}
            schema = self._object(kind, set())
            schema["properties"] = {TYPE: {"const": local_name(kind.name)}, **schema["properties"]}
            schema["required"] = [TYPE, *schema.get("required", [])]
            self._made[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}

    def _reference(self, kind: Complex) -> Schema:
        if not kind.name:
            return self._object(kind, set())
        known = (kind, False) in self._names
        name = self._name(kind, local_name(kind.name), variant=False)
        if not known:
            self._made[name] = {}  # it may contain itself
            self._made[name] = self._object(kind, set())
        return {"$ref": f"#/components/schemas/{name}"}

    def _name(self, kind: Complex, wanted: str, *, variant: bool) -> str:
        if (kind, variant) not in self._names:
            self._names[kind, variant] = _component(wanted, {"Problem", *self._made})
        return self._names[kind, variant]

    def _object(self, kind: Complex, without: set[tuple[str, ...]]) -> Schema:
        properties: dict[str, Schema] = {}
        required: list[str] = []
        for label, member in kind.members.items():
            deeper = {path[1:] for path in without if path[0] == label}
            if () in deeper:
                continue
            if deeper and isinstance(member.element.type, Complex):
                inside = self._object(member.element.type, deeper)
                properties[label] = inside
                if member.required and inside.get("required"):
                    required.append(label)
                continue
            schema = self._element(member.element)
            properties[label] = _array(schema, member) if member.many else schema
            if member.required and member.element.fixed is None:
                required.append(label)
        for label, attribute in kind.attribute_members.items():
            if (label,) not in without:
                properties[label] = self._described(self.simple(attribute.type), attribute.documentation)
                required += [label] if attribute.required and attribute.fixed is None else []
        if kind.text is not None:
            properties[TEXT] = self.simple(kind.text)
            required.append(TEXT)
        schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            schema["required"] = required
        return self._described(schema, kind.documentation)

    def _element(self, element: ElementParticle) -> Schema:
        schema = self._type(element.type)
        if element.nillable:
            schema = {"anyOf": [schema, {"type": "null"}]}
        return self._described(schema, element.documentation)

    @staticmethod
    def _described(schema: Schema, documentation: str) -> Schema:
        return {**schema, "description": documentation} if documentation else schema


def _array(schema: Schema, member: Member) -> Schema:
    array: Schema = {"type": "array", "items": schema}
    element = member.element
    if member.required and element.minimum > 1:
        array["minItems"] = element.minimum
    if element.maximum is not None and element.maximum > 1:
        array["maxItems"] = element.maximum
    return array


def _component(wanted: str, taken: set[str]) -> str:
    """A name that a component may have: ASCII, and nobody else's."""
    name = wanted if re.fullmatch(r"[A-Za-z0-9._-]+", wanted) else "T" + wanted.encode().hex()
    number = 2
    while name in taken:
        name, number = f"{wanted}{number}", number + 1
    return name


def _numbers(facets: Any, names: dict[str, str]) -> Schema:
    found: Schema = {}
    for facet, keyword in names.items():
        text = facets.get(facet)
        if text is not None and re.fullmatch(r"[+-]?[0-9]+", text):
            found[keyword] = int(text)
        elif text is not None and re.fullmatch(r"[+-]?[0-9]*\.[0-9]+", text):
            found[keyword] = float(text)
    return found


def ecma(pattern: str) -> str:
    """An expression of XML Schema as one of ECMA 262, without anchors; empty if it has what only XML Schema knows.

    `\\d` becomes the digits 0 to 9: those of other scripts, which XML Schema means as well, have no place in numbers here.
    """
    told, inside, at = "", False, 0
    while at < len(pattern):
        sign, pair = pattern[at], pattern[at : at + 2]
        at += 1
        if sign == "\\":
            at += 1
            if pair == r"\d":
                told += "0-9" if inside else "[0-9]"
            elif (pair[1:] in "nrts.?*+(){}[]|^$\\" and len(pair) == 2) or (pair == r"\-" and inside):
                told += pair
            elif pair == r"\-":
                told += "-"
            else:
                return ""
        elif (pair == "-[" and inside) or pair == "(?" or (sign in "^$" and not (inside and told[-1] == "[")):
            return ""
        else:
            inside = sign != "]" and (inside or sign == "[")
            told += sign
    return told


def _ascii(form: str) -> str:
    return form.replace(r"\d", "[0-9]") if r"[\d" not in form else form


def _read_or_none(kind: Simple, text: str) -> object:
    try:
        return values.read(kind, text)
    except ValueError:
        return None
