"""Errors of the management API become problem details, like those of the exchange face."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from exchange import InvalidRequestError, MeshError, NotFoundError
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
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _respond(request, InvalidRequestError(problem=f"{where}: {first['msg']}"))

    @api.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            refusal: MeshError = MethodNotAllowedError(
                problem=f"{request.method} is not offered here.", problem_zh=f"此处不支持 {request.method}。"
            )
        elif error.status_code == 404:
            refusal = NotFoundError(what="such address")
        else:
            refusal = InvalidRequestError(problem=str(error.detail))
        return _respond(request, refusal)

    @api.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> Response:
        events.error("api.fault", path=request.url.path, error=repr(error))
        return _respond(request, MeshError())


def _respond(request: Request, error: MeshError) -> Response:
    headers, body = render(
        error,
        exchange_id="",
        accept=request.headers.get("accept", "").encode(),
        accept_language=request.headers.get("accept-language", "").encode(),
    )
    response = Response(b"" if request.method == "HEAD" else body, error.status)
    response.raw_headers = headers
    return response
