"""The plain peers: a FastAPI reverse proxy over httpx, and one over aiohttp. No identity, no signature, no record."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

_METHODS = ["GET", "POST", "PUT", "DELETE"]
_CONNECTIONS = 200
_TIMEOUT_S = 30
_PIECE = 256 << 10
# About one connection, not about the message: each side of a proxy has its own.
_OWN_HEADERS = frozenset({"host", "connection", "content-length"})


def httpx_proxy(backend: str) -> FastAPI:
    """A proxy that passes every request to the HTTP server `backend` with httpx."""
    limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    client = httpx.AsyncClient(base_url=backend, limits=limits, timeout=_TIMEOUT_S)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.api_route("/{path:path}", methods=_METHODS)
    async def forward(path: str, request: Request) -> Response:
        answer = await client.request(
            request.method,
            f"/{path}",
            params=request.query_params,
            headers=_forwarded(request),
            content=await request.body(),
        )
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    return app


def aiohttp_proxy(backend: str) -> FastAPI:
    """A proxy that passes every request to the HTTP server `backend` with aiohttp."""
    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        # Made here, since an aiohttp session belongs to the loop that runs when it is made.
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            sessions.append(session)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.api_route("/{path:path}", methods=_METHODS)
    async def forward(path: str, request: Request) -> Response:
        async with sessions[0].request(
            request.method,
            f"{backend}/{path}",
            params=request.query_params,
            headers=_forwarded(request),
            data=await request.body(),
        ) as answer:
            return Response(await answer.read(), answer.status, media_type=answer.headers.get("content-type"))

    return app


def streaming_proxy(backend: str) -> FastAPI:
    """As `aiohttp_proxy`, for large bodies: it passes them on as they come, and holds none."""
    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False, read_bufsize=_PIECE) as session:
            sessions.append(session)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.api_route("/{path:path}", methods=_METHODS)
    async def forward(path: str, request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in _OWN_HEADERS}
        length = request.headers.get("content-length")
        answer = await sessions[0].request(
            request.method,
            f"{backend}/{path}",
            headers=headers | ({"content-length": length} if length else {}),
            data=request.stream() if length else None,
        )

        async def pieces() -> AsyncIterator[bytes]:
            async with answer:
                async for piece in answer.content.iter_chunked(_PIECE):
                    yield piece

        told = {name: answer.headers[name] for name in ("content-type", "content-length") if name in answer.headers}
        return StreamingResponse(pieces(), answer.status, headers=told)

    return app


def _forwarded(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name not in _OWN_HEADERS}
