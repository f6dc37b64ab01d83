"""The management API as one application: its routes, its errors, its description of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api import (
    adapters,
    applications,
    audit,
    bus,
    certificates,
    changes,
    client_list,
    decisions,
    descriptions,
    disputes,
    exchange_exports,
    exchange_statistics,
    exchanges,
    grant_reports,
    grants,
    groups,
    health,
    log_stamps,
    log_tiles,
    members,
    misses,
    openings,
    problem_pages,
    resources,
    roles,
    services,
    standing_approvals,
    subsystems,
)
from gateway.api.callers import EXPIRES_SOON
from gateway.api.errors import install_error_handlers
from gateway.api.exchange_exports import ONLY_HEAD
from gateway.api.openapi import DESCRIPTION, describe_api
from gateway.problems import EXPIRES


def management_api(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> ASGIApp:
    """Everything but the exchange face. Handlers find the open gateway as `app.state.gateway`, which `lifespan` sets."""
    api = FastAPI(
        title="Datong gateway",
        summary="The record of who asked whom for what. 部门间数据交换留痕接口。",
        description=DESCRIPTION,
        version="1",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        # Starlette would put the caller's Host into the address that it redirects to.
        redirect_slashes=False,
        lifespan=lifespan,
    )
    install_error_handlers(api)
    for noun in (members, subsystems, services, descriptions, certificates, groups, roles, adapters, bus):
        api.include_router(noun.router)
    for noun in (
        resources,
        applications,
        disputes,
        standing_approvals,
        misses,
        grant_reports,
        grants,
        decisions,
        changes,
        log_stamps,
        audit,
        exchange_statistics,
        exchange_exports,
        exchanges,
        openings,
        log_tiles,
        client_list,
        health,
        problem_pages,
    ):
        api.include_router(noun.router)  # reports, figures and files first: their addresses would be identifiers
    describe_api(api)
    return _Framed(api)  # around all of it: middleware of FastAPI's would not see the response to a fault


class _Framed:
    """What every response has in common: HEAD is GET without its body, a Date, nothing may be guessed, and nothing kept but what
    says itself that it may be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def framed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                headers += (
                    (b"x-content-type-options", b"nosniff"),
                    (b"date", formatdate(time.time(), usegmt=True).encode()),
                )
                if expires := scope.get("state", {}).get(EXPIRES_SOON):
                    headers.append((EXPIRES, expires))
                message["headers"] = headers
            await send(message)

        if scope["method"] == "HEAD":
            # uvicorn, which knows better, leaves the body out.
            scope = {**scope, "method": "GET", "state": {**scope.get("state", {}), ONLY_HEAD: True}}
        await self._app(scope, receive, framed)
