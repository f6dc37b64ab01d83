"""`/healthz`: the process answers. `/readyz`: it could carry an exchange now, and if not, why."""

from __future__ import annotations

import time
from email.utils import formatdate

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from ca_auth import Respond
from exchange import RegistryStaleError

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """Whether the process is up."""

    status: str = "ok"


class Readiness(BaseModel):
    """Whether each part could carry an exchange now."""

    ready: bool
    bus: bool
    log: bool
    registry: bool
    vouched: bool = Field(
        description="Nobody else's word stands against carrying anything: witnesses, demanded time stamps."
    )
    witnessed: bool | None = Field(
        description="As many witnesses cosign now as make a receipt final; null if none are named. Of no effect on `ready`."
    )
    stamped: bool | None = Field(
        description="No entries wait unusually long for a time stamp; null if none are named. Of no effect on `ready`."
    )


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers requests."""
    return Health()


_ALIVE = Health().model_dump_json().encode()


async def answer_alive(respond: Respond) -> None:
    """The answer of `/healthz`, without the framework: load balancers ask often, each time on a new connection."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(_ALIVE)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"date", formatdate(time.time(), usegmt=True).encode()),
    ]
    respond(200, headers, _ALIVE)


@router.get("/readyz", responses={503: {"model": Readiness, "description": "A part is not ready."}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Bus connected, exchange log writable, registry fresh, nobody's word against the log."""
    gateway = request.app.state.gateway
    try:
        gateway.registry.current(time.monotonic())
        fresh = True
    except RegistryStaleError:
        fresh = False
    bus, log, vouching = gateway.bus.connected, gateway.log.ready, gateway.vouching
    vouched = vouching.refusal() is None
    ready = bus and log and fresh and vouched
    response.status_code = 200 if ready else 503
    return Readiness(
        ready=ready,
        bus=bus,
        log=log,
        registry=fresh,
        vouched=vouched,
        witnessed=None if vouching.witnessing is None else vouching.witnessing.healthy,
        stamped=None if vouching.stamping is None else not vouching.stamping.state().gaps,
    )
