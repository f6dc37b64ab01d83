"""One operation written in Python: what its signature asks for, how it is called, and what its result becomes.

Rules:
1. An argument named in the path is of the path, one of type `SourceRequest` is the request itself, one of a plain type (or a list
   of them) is of the query string, and the one that is left is the body. `from_` stands for a parameter called `from`.
2. A parameter without a default is required; one that nobody declared is refused.
3. A function that is not `async` runs in a thread. It cannot be stopped there: after the deadline nobody waits for it.
4. A result becomes JSON. None is 404, or 204 where nothing else is declared; a pair (status, body) brings its own status; a
   `SourceAnswer` goes out as it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import typing
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, Literal
from uuid import UUID

from department_adapters.code.shapes import Shape, UnfitError, any_to_json, members_of, shape_of
from department_adapters.replies import (
    CallerError,
    decoded,
    path_parameters,
    path_pattern,
    query_pairs,
    unknown_parameter,
)
from department_adapters.source import SourceAnswer, SourceRequest
from exchange import Headers

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Place = Literal["path", "query", "body", "request"]

_PLAIN = (str, int, float, bool, date, datetime, time, timedelta, Decimal, UUID)
_SEVERAL = (list, set, frozenset, tuple)
_JSON: Headers = [(b"content-type", b"application/json")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a function."""

    name: str
    """In the function."""
    told: str
    """In requests."""
    place: Place
    shape: Shape | None
    """None for the request itself and for a body that is bytes."""
    required: bool
    several: bool = False
    """Whether the parameter may come more than once."""
    default: Any = None


class Operation:
    """A function that answers requests for a method and a path."""

    def __init__(
        self, method: Method, path: str, function: Callable[..., Any], *, safe: bool, status: int = 200
    ) -> None:
        """
        Args:
            path: Template, `/people/{number}`.
            safe: Whether it changes nothing.
            status: Of its answers.

        Raises:
            TypeError, ValueError: Its signature cannot be served; the message names the function and says why.
        """
        self.method, self.path, self.safe, self.status = method, path, safe, status
        self.function = function
        self.name: str = getattr(function, "__name__", "operation")
        self.pattern = path_pattern(path)
        self._in_thread = not inspect.iscoroutinefunction(function)
        try:
            self._in_path = path_parameters(path)
            hints = typing.get_type_hints(function, include_extras=True)
            self.arguments = tuple(_arguments(function, hints, self._in_path, method))
            self._read_result(hints)
        except NameError as error:
            raise TypeError(f"{self.name}: {error}: define the type before the function") from error
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name}: {error}") from error
        self._query = {each.told: each for each in self.arguments if each.place == "query"}
        self._body = next((each for each in self.arguments if each.place == "body"), None)

    def _read_result(self, hints: dict[str, Any]) -> None:
        self.declared = "return" in hints
        members = members_of(hints.get("return", Any))
        self.may_be_missing = type(None) in members and members != (type(None),)
        self.without_body = members == (type(None),)
        pairs = [each for each in members if typing.get_origin(each) is tuple and typing.get_args(each)[:1] == (int,)]
        others = [each for each in members if each not in (type(None), SourceAnswer, *pairs)]
        self.result = shape_of(_union(others)) if self.declared and others and others != [Any] else None
        bodies = [typing.get_args(each)[1] for each in pairs if len(typing.get_args(each)) == 2]
        self.other_result = shape_of(_union(bodies)) if bodies else None

    async def answer(self, request: SourceRequest, segments: Sequence[str], threads: Executor) -> SourceAnswer:
        """Call the function; raises CallerError if the request does not fit it, and what the function raises."""
        values = self._values(request, segments)
        if self._in_thread:
            call = partial(contextvars.copy_context().run, self.function, **values)
            result = await asyncio.get_running_loop().run_in_executor(threads, call)
        else:
            result = await self.function(**values)
        return self._answer(result)

    def _values(self, request: SourceRequest, segments: Sequence[str]) -> dict[str, Any]:
        in_path = dict(zip(self._in_path, segments, strict=True))
        given = self._given(request)
        values: dict[str, Any] = {}
        for each in self.arguments:
            if each.place == "path":
                values[each.name] = _from_text(each, decoded(in_path[each.told]))
            elif each.place == "request":
                values[each.name] = request
            elif each.place == "body":
                if request.body or each.required:
                    values[each.name] = _from_body(each, request)
            elif texts := given.get(each.told):
                values[each.name] = _from_text(each, texts if each.several else texts[0])
            elif each.required:
                raise _wrong_parameter(each.told, "is required", "必填")
        return values

    def _given(self, request: SourceRequest) -> dict[str, list[str]]:
        given: dict[str, list[str]] = {}
        for name, text in query_pairs(request):
            argument = self._query.get(name)
            if argument is None:
                raise unknown_parameter(name)
            if name in given and not argument.several:
                raise _wrong_parameter(name, "is given twice", "重复")
            given.setdefault(name, []).append(text)
        if request.body and self._body is None:
            raise CallerError(400, "This operation takes no body.", "此操作不接收请求体。")
        return given

    def _answer(self, result: Any) -> SourceAnswer:
        if isinstance(result, SourceAnswer):
            return result
        status, shape = self.status, self.result
        if isinstance(result, tuple) and len(result) == 2 and type(result[0]) is int and not self._is_pair():
            status, result = result
            shape = self.other_result
        elif result is None:
            if self.without_body:
                return SourceAnswer(204, [], b"")
            raise CallerError(404, "There is no such record.", "没有这条记录。")
        if result is None:
            return SourceAnswer(status, [], b"")
        return SourceAnswer(status, _JSON, any_to_json(result) if shape is None else shape.to_json(result))

    def _is_pair(self) -> bool:
        """Whether a pair is what the function declares as its body."""
        return (
            self.other_result is None
            and self.result is not None
            and (typing.get_origin(self.result.annotation) is tuple)
        )


def _union(members: Sequence[Any]) -> Any:
    union = members[0]
    for member in members[1:]:
        union = union | member
    return union


def _arguments(
    function: Callable[..., Any], hints: dict[str, Any], in_path: Sequence[str], method: Method
) -> list[Argument]:
    found: list[Argument] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"the argument {name!r} cannot be given by name")
        found.append(_argument(name, parameter, hints.get(name, str), in_path))
    told = [each.told for each in found]
    if missing := [name for name in in_path if name not in told]:
        raise TypeError(f"the path names {missing[0]!r}, which is no argument")
    bodies = [each.name for each in found if each.place == "body"]
    if len(bodies) > 1:
        raise TypeError(f"{bodies[0]!r} and {bodies[1]!r} would both be the body")
    if bodies and method in ("GET", "DELETE"):
        raise TypeError(f"{bodies[0]!r} would be the body, and {method} has none")
    return found


def _argument(name: str, parameter: inspect.Parameter, annotation: Any, in_path: Sequence[str]) -> Argument:
    required = parameter.default is parameter.empty
    default = None if required else parameter.default
    told = name[:-1] if name.endswith("_") and name not in in_path else name
    if annotation is SourceRequest:
        return Argument(name=name, told=told, place="request", shape=None, required=True)
    several = _is_several(annotation)
    if told in in_path:
        if several or not _is_plain(annotation):
            raise TypeError(f"{name!r} is of the path, and must be of a plain type")
        return Argument(name=name, told=told, place="path", shape=shape_of(annotation), required=True)
    if several or _is_plain(annotation):
        return Argument(
            name=name,
            told=told,
            place="query",
            shape=shape_of(annotation),
            required=required,
            several=several,
            default=default,
        )
    shape = None if annotation is bytes else shape_of(annotation)
    return Argument(name=name, told=told, place="body", shape=shape, required=required, default=default)


def _bare(annotation: Any) -> Any:
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return annotation


def _is_plain(annotation: Any) -> bool:
    bare = _bare(annotation)
    members = members_of(bare)
    if len(members) > 1:
        return all(member is type(None) or _is_plain(member) for member in members)
    if typing.get_origin(bare) is Literal:
        return True
    return isinstance(bare, type) and (bare in _PLAIN or issubclass(bare, Enum))


def _is_several(annotation: Any) -> bool:
    members = [each for each in members_of(_bare(annotation)) if each is not type(None)]
    if len(members) != 1:
        return False
    bare = _bare(members[0])
    inner = [each for each in typing.get_args(bare) if each is not ...]
    return typing.get_origin(bare) in _SEVERAL and len(inner) == 1 and _is_plain(inner[0])


def _from_text(argument: Argument, text: str | list[str]) -> Any:
    assert argument.shape is not None
    try:
        return argument.shape.from_text(text)
    except UnfitError as error:
        raise _wrong_parameter(argument.told, f"is wrong: {error}", "不正确") from error


def _from_body(argument: Argument, request: SourceRequest) -> Any:
    if argument.shape is None:
        return request.body
    if not request.body:
        raise CallerError(400, "A body is required.", "缺少请求体。")
    kind = dict(request.headers).get(b"content-type", b"application/json").lower()
    essence, _, parameters = kind.partition(b";")
    essence = essence.strip()
    charset = parameters.partition(b"charset=")[2].strip(b'" \t') or b"utf-8"
    if not (essence == b"application/json" or essence.endswith(b"+json")) or charset != b"utf-8":
        raise CallerError(
            415, "The body must be application/json in UTF-8.", "请求体必须是 UTF-8 编码的 application/json。"
        )
    try:
        return argument.shape.from_json(request.body)
    except UnfitError as error:
        if error.faults == [("", "not JSON")]:
            raise CallerError(400, "The body is not JSON.", "请求体不是 JSON。") from error
        errors = [{"pointer": pointer, "detail": rule} for pointer, rule in error.faults[:20]]
        where = error.faults[0][0] or "/"
        raise CallerError(
            422, f"The body is wrong at {where}: {error}", f"请求体在 {where} 处不符合约定。", errors
        ) from error


def _wrong_parameter(name: str, what: str, what_zh: str) -> CallerError:
    return CallerError(
        400, f"The parameter {name!r} {what}.", f"参数 {name!r} {what_zh}。", [{"parameter": name, "detail": what}]
    )
