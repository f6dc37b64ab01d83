"""Operations as a department declares them, joined with what the WSDL says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from department_adapters.replies import path_parameters
from department_adapters.soap import values
from department_adapters.soap.markup import local_name
from department_adapters.soap.model import Complex, ElementParticle, SchemaError, Simple
from department_adapters.soap.wsdl import Operation, Wsdl

_PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapOperation:
    """One declared operation.

    Args:
        path: Template such as `/parcels/{number}`.
        soap: Name of the operation in the WSDL.
        method: With GET, what is asked stands in the path and the query string; with POST, in a JSON object as well.
        parameters: Parameter -> member of the question, `owner.number` for one inside another. A parameter of the path that
            is not named is the member of its name. With GET, parameters are also the question's members that are texts.
        fixed: Member -> text that is always sent.
        result: Member of the answer that is told instead of the whole; 404 if it is not there. Empty: the whole.
    """

    path: str
    soap: str
    method: Literal["GET", "POST"] = "POST"
    parameters: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of an operation, and the member it becomes."""

    member: tuple[str, ...]
    type: Simple
    many: bool
    required: bool
    in_path: bool
    documentation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundOperation:
    """A declared operation with what the WSDL says of it."""

    declared: SoapOperation
    operation: Operation
    parameters: Mapping[str, Parameter]
    fixed: Mapping[tuple[str, ...], object]
    result: tuple[str, ...]


def every_operation(wsdl: Wsdl) -> list[SoapOperation]:
    """What is offered when nothing is declared: each operation of the WSDL as `POST /{operation}`."""
    return [SoapOperation(path=f"/{name}", soap=name) for name in wsdl.operations]


def bind(wsdl: Wsdl, declared: SoapOperation) -> BoundOperation:
    """Join a declaration with the WSDL.

    Raises:
        SchemaError: The WSDL has no such operation or member, or what is declared cannot ask it. The message says why.
    """
    try:
        return _bound(wsdl, declared)
    except SchemaError as error:
        raise SchemaError(f"{declared.method} {declared.path}: {error}") from error


def _bound(wsdl: Wsdl, declared: SoapOperation) -> BoundOperation:
    operation = wsdl.operation(declared.soap)
    try:
        in_path = path_parameters(declared.path)
    except ValueError as error:
        raise SchemaError(str(error)) from error
    fixed: dict[tuple[str, ...], object] = {}
    for member, text in declared.fixed.items():
        at = tuple(member.split("."))
        found = _member(operation, at)
        try:
            value = values.read(found.type, text)
            values.write(found.type, value)
        except ValueError as error:
            raise SchemaError(f"the text that is fixed for {member!r} {error}") from error
        fixed[at] = [value] if found.many else value
    named = {name: tuple(declared.parameters.get(name, name).split(".")) for name in (*in_path, *declared.parameters)}
    if declared.method == "GET":
        taken = {*named.values(), *fixed}
        for label in _texts(operation.question):
            if (label,) not in taken:
                named.setdefault(label, (label,))
    parameters = {}
    for name, at in named.items():
        if not _PARAMETER_NAME.fullmatch(name) and (name in in_path or name in declared.parameters):
            raise SchemaError(f"the parameter {name!r} must be A-Z, a-z, 0-9 and _, and not begin with a digit")
        if at in fixed:
            raise SchemaError(f"{'.'.join(at)} is fixed and a parameter, too")
        found = _member(operation, at)
        parameters[name] = Parameter(
            member=at,
            type=found.type,
            many=found.many,
            required=name in in_path or found.required,
            in_path=name in in_path,
            documentation=found.documentation,
        )
    given = {at[0] for at in (*fixed, *named.values())}
    if declared.method == "GET" and (lacking := _required(operation.question) - given):
        raise SchemaError(f"the operation requires {min(lacking)!r}, and neither a parameter nor `fixed` gives it")
    result = tuple(declared.result.split(".")) if declared.result else ()
    if result:
        _in_answer(operation, result)
    return BoundOperation(declared=declared, operation=operation, parameters=parameters, fixed=fixed, result=result)


@dataclass(frozen=True, slots=True)
class _Found:
    type: Simple
    many: bool
    required: bool
    documentation: str


def _member(operation: Operation, path: tuple[str, ...]) -> _Found:
    """The text that a member of the question is; raises SchemaError."""
    element, shown = operation.question, ".".join(path)
    if element is not None and isinstance(element.type, Simple):
        if path == (local_name(element.name),):
            return _Found(element.type, False, True, element.documentation)
        raise SchemaError(f"the question has no member {shown!r}")
    kind: Simple | Complex | None = element.type if element is not None else None
    required = True
    for index, label in enumerate(path):
        last = index == len(path) - 1
        if not isinstance(kind, Complex):
            break
        if last and label in kind.attribute_members:
            attribute = kind.attribute_members[label]
            return _Found(attribute.type, False, required and attribute.required, attribute.documentation)
        member = kind.members.get(label)
        if member is None or (member.many and not last):
            break
        kind, required = member.element.type, required and member.required
        if last and isinstance(kind, Simple):
            return _Found(kind, member.many, required, member.element.documentation)
    raise SchemaError(f"the question has no member {shown!r} that is a text")


def _texts(element: ElementParticle | None) -> list[str]:
    """Members of the question that can be parameters."""
    if element is None:
        return []
    if isinstance(element.type, Simple):
        return [local_name(element.name)]
    kind = element.type
    texts = [label for label, member in kind.members.items() if isinstance(member.element.type, Simple)]
    return [*texts, *kind.attribute_members]


def _required(element: ElementParticle | None) -> set[str]:
    if element is None:
        return set()
    if isinstance(element.type, Simple):
        return {local_name(element.name)}
    kind = element.type
    needed = {label for label, member in kind.members.items() if member.required and member.element.fixed is None}
    return needed | {label for label, each in kind.attribute_members.items() if each.required and each.fixed is None}


def _in_answer(operation: Operation, path: tuple[str, ...]) -> None:
    kind = operation.answer.type if operation.answer is not None else None
    for label in path:
        member = kind.members.get(label) if isinstance(kind, Complex) else None
        if member is None:
            raise SchemaError(f"the answer has no member {'.'.join(path)!r}")
        kind = None if member.many else member.element.type
