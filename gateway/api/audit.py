"""What the record is verified with: the keys and the newest checkpoint, for anybody; and reading the log for a handler.

The records themselves are shown by `gateway.api.exchanges`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from exchange import ExchangeLog, UnavailableError
from gateway.api import exchange_refusals as refusals
from gateway.api.openapi import problems
from gateway.api.paging import known_parameters

router = APIRouter(prefix="/v1", tags=["exchanges"])


def key_list(trust_anchors: bytes, vkey: str, others: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that receipts of this gateway are verified with.

    Args:
        trust_anchors: Of the accepted CAs, PEM.
        vkey: Of the log.
        others: What `Vouching.keys` says of witnesses and time stamping authorities.
    """
    return {"format": "datong-keys/1", "logs": [vkey], "trust_anchors": [trust_anchors.decode("ascii")], **others}


@router.get("/keys", responses=problems(refusals.PARAMETERS))
async def show_keys(request: Request) -> dict[str, Any]:
    """The key list that `datong verify` takes. Compare it with one obtained another way before relying on it."""
    known_parameters(request)
    gateway = request.app.state.gateway
    return key_list(gateway.trust.trust.pem(), gateway.log.vkey, gateway.vouching.keys())


@router.get(
    "/log/checkpoint",
    response_class=Response,
    responses={
        **problems(refusals.PARAMETERS, refusals.LOG_AWAY, refusals.NOT_RECORDED),
        200: {
            "description": "A signed note.",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "log.example/gov\n42\nq3…=\n\n— log.example/gov …\n",
                }
            },
        },
    },
)
async def show_checkpoint(request: Request) -> Response:
    """The newest signed checkpoint (C2SP tlog-checkpoint); a record is under one within the checkpoint interval."""
    known_parameters(request)
    async with reading_log(request) as log:
        # The stored one: anybody may ask, and must not make the writer sign and flush each time.
        newest = await log.reader.latest_checkpoint()
        note = newest.note if newest is not None else await log.checkpoint()
    return Response(note, media_type="text/plain; charset=utf-8")


@asynccontextmanager
async def reading_log(request: Request) -> AsyncIterator[ExchangeLog]:
    """The log, to be read; raises UnavailableError while its database is away."""
    try:
        yield request.app.state.gateway.log
    except (SQLAlchemyError, OSError) as error:
        raise UnavailableError("log-readable") from error
