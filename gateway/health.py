"""`/healthz`: the process answers. `/readyz`: it could carry an exchange now, and if not, why."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

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


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers requests."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "A part is not ready."}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Bus connected, exchange log writable, registry fresh."""
    gateway = request.app.state.gateway
    try:
        gateway.registry.current(time.monotonic())
        fresh = True
    except RegistryStaleError:
        fresh = False
    bus, log = gateway.bus.connected, gateway.log.ready
    ready = bus and log and fresh
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, bus=bus, log=log, registry=fresh)
