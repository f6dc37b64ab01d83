"""A source over a department's SOAP service: each declared operation is asked with JSON and answers with JSON.

Rules:
1. Only declared operations exist; without a declaration, those of the WSDL, each as `POST /{operation}`.
2. What is asked is checked against the schema before anything is sent: 422 with a pointer to the member, 400 for a parameter.
3. The envelope goes through an `HttpSource`: its pool, its limits, its TLS, its list of hosts. Of the caller's request,
   nothing but the values goes along, no header.
4. A fault that is declared is answered with its status; `Client` (`Sender`) with 422; any other is a failure of the system.
   The text of a fault stays in the department's own log: what it holds nobody knows beforehand.
5. If an operation that changes something was asked and the answer cannot be read, it is said that nobody knows whether the
   system acted.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import structlog

from department_adapters.guard import FAILING
from department_adapters.replies import (
    CallerError,
    decoded,
    json_answer,
    path_of,
    path_parameters,
    path_pattern,
    problem_answer,
    query_pairs,
    unknown_parameter,
    without_body,
)
from department_adapters.soap import values
from department_adapters.soap.answer import Fault, read_answer
from department_adapters.soap.markup import XmlError
from department_adapters.soap.operation import BoundOperation, SoapOperation, bind, every_operation
from department_adapters.soap.question import QuestionError, write_question
from department_adapters.soap.security import UsernameToken
from department_adapters.soap.wsdl import Operation, Wsdl
from department_adapters.source import Source, SourceAnswer, SourceRequest, UnusableAnswerError
from exchange import AnswerTimeoutError, BackendError, Headers

LARGE = 256 << 10
"""Envelopes larger than this are read in a thread, so that others need not wait."""
_XML_TYPES = frozenset({"text/xml", "application/soap+xml", "application/xml"})
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9._-]{1,40})", re.IGNORECASE)


events = structlog.get_logger("datong.adapter")


class SoapFaultError(Exception):
    """The service answered with a fault; the text is for the department's own log."""


class SoapSource:
    """Answers declared operations from a SOAP service."""

    def __init__(
        self,
        wsdl: Wsdl,
        http: Source,
        target: bytes,
        operations: Sequence[SoapOperation] = (),
        *,
        faults: Mapping[str, int] | None = None,
        token: UsernameToken | None = None,
    ) -> None:
        """
        Args:
            http: What carries envelopes to the service's host.
            target: Path and query of the service's address.
            operations: What may be asked; none: every operation of the WSDL.
            faults: Name of a fault -> status to answer it with.

        Raises:
            SchemaError: The WSDL does not have what is declared.
        """
        self._wsdl = wsdl
        self._http = http
        self._target = target
        self._faults = dict(faults or {})
        self._token = token
        self._left_out = {} if operations else wsdl.unsupported
        bound = [bind(wsdl, each) for each in operations or every_operation(wsdl)]
        self._operations = [(path_pattern(each.declared.path), each) for each in bound]

    async def start(self) -> None:
        for name, reason in self._left_out.items():
            events.warning("adapter.operation_left_out", operation=name, reason=reason)
        await self._http.start()

    async def stop(self) -> None:
        await self._http.stop()

    async def answer(self, request: SourceRequest) -> SourceAnswer:
        try:
            asked, value = self._asked(request)
            try:
                envelope = write_question(asked.operation, value, self._wsdl.soap, self._header())
            except QuestionError as error:
                raise _broken(error) from error
            answer = await self._ask(request, asked, envelope)
        except CallerError as error:
            answer = problem_answer(request, error, *self._allowed(request, error))
        return without_body(answer) if request.method == "HEAD" else answer

    def _asked(self, request: SourceRequest) -> tuple[BoundOperation, object]:
        """The operation, and the value its question is written from; raises CallerError."""
        path, method = path_of(request), "GET" if request.method == "HEAD" else request.method
        for pattern, each in self._operations:
            if each.declared.method == method and (match := pattern.fullmatch(path)):
                return each, _value(each, request, match.groups())
        if any(pattern.fullmatch(path) for pattern, _ in self._operations):
            offered = self._methods(path)
            raise CallerError(405, f"Only {offered} are offered here.", f"此处仅支持 {offered}。")
        raise CallerError(404, "There is no such operation.", "没有这样的操作。")

    def _methods(self, path: str) -> str:
        offered = {each.declared.method for pattern, each in self._operations if pattern.fullmatch(path)}
        return ", ".join(sorted({*offered, "HEAD"} if "GET" in offered else offered))

    def _allowed(self, request: SourceRequest, error: CallerError) -> Headers:
        return [(b"allow", self._methods(path_of(request)).encode())] if error.status == 405 else []

    def _header(self) -> str:
        return self._token.header(datetime.now(UTC), os.urandom(16)) if self._token is not None else ""

    async def _ask(self, request: SourceRequest, asked: BoundOperation, envelope: bytes) -> SourceAnswer:
        answer = await self._http.answer(
            SourceRequest(
                request.exchange_id,
                "POST",
                self._target,
                self._headers(asked.operation.action),
                envelope,
                request.timeout,
                request.safe,
            )
        )
        try:
            told = await _told(asked.operation, answer)
            if isinstance(told, Fault):
                return self._fault(told)
        except XmlError as error:
            if request.safe:
                # A proxy before the service says that it is down.
                raise (BackendError if answer.status in FAILING else UnusableAnswerError) from error
            raise AnswerTimeoutError(seconds=f"{request.timeout:g}") from error
        return _selected(asked, told)

    def _headers(self, action: str) -> Headers:
        if self._wsdl.soap == "1.1":
            return [
                (b"content-type", b"text/xml; charset=utf-8"),
                (b"accept", b"text/xml"),
                (b"soapaction", f'"{action}"'.encode()),
            ]
        parameter = f'; action="{action}"' if action else ""
        return [
            (b"content-type", f"application/soap+xml; charset=utf-8{parameter}".encode()),
            (b"accept", b"application/soap+xml"),
        ]

    def _fault(self, fault: Fault) -> SourceAnswer:
        cause = SoapFaultError(f"{', '.join(fault.names)[:200]}: {fault.text[:500]}")
        for name in fault.names:
            if status := self._faults.get(name):
                raise CallerError(
                    status, f"The department's system refused: {name}.", f"部门业务系统拒绝了该请求：{name}。"
                ) from cause
        if fault.code == "Client":
            raise CallerError(
                422,
                "The department's system does not accept this request (fault Client).",
                "部门业务系统不接受该请求（Client 错误）。",
            ) from cause
        raise UnusableAnswerError from cause


def _value(asked: BoundOperation, request: SourceRequest, in_path: Sequence[str]) -> object:
    """What the question is written from; raises CallerError."""
    value: dict[str, object] = {}
    if request.method == "POST" and request.body:
        value = _json_object(request.body)
    given: dict[str, list[str]] = {}
    for name, segment in zip(path_parameters(asked.declared.path), in_path, strict=True):
        given[name] = [decoded(segment)]
    for name, text in query_pairs(request):
        parameter = asked.parameters.get(name)
        if parameter is None or parameter.in_path:
            raise unknown_parameter(name)
        given.setdefault(name, []).append(text)
    for name, texts in given.items():
        parameter = asked.parameters[name]
        if len(texts) > 1 and not parameter.many:
            raise _parameter_error(name, "is given twice", "重复")
        try:
            read = [values.read(parameter.type, text) for text in texts]
        except ValueError as error:
            raise _parameter_error(name, str(error), "格式不正确") from error
        _put(value, parameter.member, read if parameter.many else read[0])
    for name, parameter in asked.parameters.items():
        if parameter.required and name not in given and _lacks(value, parameter.member):
            raise _parameter_error(name, "is required", "缺失")
    for member, fixed in asked.fixed.items():
        _put(value, member, fixed)
    return value


def _json_object(body: bytes) -> dict[str, object]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallerError(400, "The body is not JSON.", "请求体不是 JSON。") from error
    if not isinstance(value, dict):
        raise CallerError(
            422, "The body must be an object.", "请求体必须是 JSON 对象。", [{"pointer": "", "detail": "type"}]
        )
    return value


def _put(value: dict[str, object], member: Sequence[str], inner: object) -> None:
    """Set a member that the path, the query string or the declaration gives; raises CallerError if the body has it, too."""
    for label in member[:-1]:
        deeper = value.setdefault(label, {})
        if not isinstance(deeper, dict):
            return  # of the wrong kind, as writing it will find
        value = deeper
    if member[-1] in value:
        raise _broken(QuestionError("/" + "/".join(member), "is given twice, outside the body as well"))
    value[member[-1]] = inner


def _lacks(value: object, member: Sequence[str]) -> bool:
    for label in member:
        if not isinstance(value, dict) or label not in value:
            return True
        value = value[label]
    return False


def _parameter_error(name: str, en: str, zh: str) -> CallerError:
    return CallerError(
        400, f"The parameter {name!r} {en}.", f"参数 {name!r} {zh}。", [{"parameter": name, "detail": en}]
    )


def _broken(error: QuestionError) -> CallerError:
    return CallerError(
        422,
        f"{error.pointer or 'The body'} {error.problem}.",
        f"{error.pointer or '请求体'} 不符合该操作的约定。",
        [{"pointer": error.pointer, "detail": error.problem}],
    )


async def _told(operation: Operation, answer: SourceAnswer) -> object | Fault:
    """What the service's answer says; raises XmlError if it is none."""
    body = answer.body
    if not body and 200 <= answer.status < 300 and operation.answer is None:
        return None
    headers = dict(answer.headers)
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _XML_TYPES:
        raise XmlError(f"status {answer.status}, {media_type[:80] or 'no content type'} instead of a SOAP envelope")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise XmlError("the answer is compressed, which nobody asked for")
    named = _CHARSET.search(content_type)
    charset = named[1] if named else ""
    if len(body) > LARGE:
        told = await asyncio.to_thread(read_answer, operation, body, charset)
    else:
        told = read_answer(operation, body, charset)
    if not isinstance(told, Fault) and not 200 <= answer.status < 300:
        raise XmlError(f"status {answer.status} with an envelope that tells no fault")
    return told


def _selected(asked: BoundOperation, told: object) -> SourceAnswer:
    if asked.operation.answer is None:
        return SourceAnswer(204, [], b"")
    for label in asked.result:
        told = told.get(label) if isinstance(told, dict) else None
    if asked.result and told is None:
        raise CallerError(404, "There is no such record.", "没有这条记录。")
    return json_answer(200, told)
