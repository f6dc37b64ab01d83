"""Errors of the management API become problem details, like those of the exchange face."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from exchange import InvalidRequestError, MeshError, NotFoundError
from gateway.api.bodies import body_error, complaint_of
from gateway.problems import render

events = structlog.get_logger("datong.api")


class MethodNotAllowedError(InvalidRequestError):
    status, code, rule_name = 405, "method-not-allowed", "method"
    title = {"en": "The method is not offered here", "zh": "此处不支持该方法"}
    next = {"en": "See /v1/openapi.json for what is offered.", "zh": "请参见 /v1/openapi.json。"}


def install_error_handlers(api: FastAPI) -> None:
    """Map every error of the API to problem details; what is outside the tree becomes a plain 500."""

    @api.exception_handler(MeshError)
    async def _mesh(request: Request, error: MeshError) -> Response:
        return _respond(request, error)

    @api.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        if found[0]["loc"][:1] == ("body",):
            return _respond(request, body_error(({**each, "loc": each["loc"][1:]} for each in found), error.body))
        return _respond(request, parameter_error(found[0]))

    @api.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            refusal: MeshError = MethodNotAllowedError(
                problem=f"{request.method} is not offered here.", problem_zh=f"此处不支持 {request.method}。"
            )
        elif error.status_code == 404:
            refusal = NotFoundError(what="such address", what_zh="该地址")
        else:
            refusal = InvalidRequestError(problem="The request cannot be read.", problem_zh="请求无法解析。")
        response = _respond(request, refusal)
        if error.status_code == 405:
            response.headers["allow"] = _allowed(error.headers)
        return response

    @api.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> Response:
        # The number is all that the caller learns, and it finds the fault in our own logs.
        fault = str(uuid.UUID(bytes=os.urandom(16), version=4))
        events.error("api.fault", fault=fault, path=request.url.path, error=repr(error), exc_info=error)
        return _respond(request, MeshError(), fault=fault)


def _allowed(headers: Mapping[str, str] | None) -> str:
    """`Allow` of a 405: what the routes offer; HEAD where GET is, which is GET without its body (`gateway.api.management`)."""
    methods = {each.strip() for each in (headers or {}).get("Allow", "GET").split(",")}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def parameter_error(found: Mapping[str, Any]) -> InvalidRequestError:
    """What a caller is told about one of pydantic's findings; a value of theirs is never repeated."""
    name = found["loc"][-1]
    en, zh = complaint_of(found)
    return InvalidRequestError(
        "query-parameter", problem=f"The query parameter {name} {en}.", problem_zh=f"查询参数 {name} {zh}。"
    )


def _respond(request: Request, error: MeshError, *, fault: str = "") -> Response:
    log = events.warning if error.status >= 500 else events.info
    cause = repr(error.__cause__) if error.__cause__ else None
    log("api.refused", path=request.url.path, status=error.status, code=error.code, rule=error.rule, cause=cause)
    headers, body = render(
        error,
        exchange_id=fault,
        accept=request.headers.get("accept", "").encode("latin-1"),
        accept_language=request.headers.get("accept-language", "").encode("latin-1"),
    )
    response = Response(body, error.status)
    response.raw_headers = headers
    return response
