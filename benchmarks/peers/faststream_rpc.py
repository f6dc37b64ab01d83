"""The framework peer: FastStream's request and reply over NATS behind FastAPI. No identity, no signature, no record.

`python -m benchmarks.peers.faststream_rpc NATS_URL` runs the side that answers; `faststream_gateway` makes the one
that asks.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from fastapi import FastAPI, Request, Response
from faststream import FastStream
from faststream.nats import NatsBroker

from benchmarks.peers.body import records

_SUBJECT = "bench.rpc"
_TIMEOUT_S = 30


def faststream_gateway(nats_url: str) -> FastAPI:
    """An HTTP front that puts every request to the responder and returns its answer."""
    broker = NatsBroker(nats_url, logger=None)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await broker.connect()
        yield
        await broker.stop()

    app = FastAPI(lifespan=lifespan)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def call(path: str, request: Request) -> Response:
        question: dict[str, Any] = {"method": request.method, "path": path, "body": (await request.body()).decode()}
        answer = await broker.request(question, _SUBJECT, timeout=_TIMEOUT_S)
        return Response(answer.body, media_type="application/json")

    return app


def _respond(nats_url: str) -> None:
    broker = NatsBroker(nats_url, logger=None)
    answer = records()

    @broker.subscriber(_SUBJECT, queue="responders")
    async def on_question(question: dict[str, Any]) -> dict[str, Any]:
        return answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(FastStream(broker).run())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The answering side of the FastStream peer.")
    parser.add_argument("nats_url")
    _respond(parser.parse_args().nats_url)
