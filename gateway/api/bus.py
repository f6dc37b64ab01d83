"""`/v1/bus`: what an adapter needs to know besides its own certificate, so that nobody has to carry files around.

None of it is a secret: an address, and certificates. It is told to registered subsystems only, over the connection that their
certificate made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway import own_certificates
from gateway.api import refusals
from gateway.api.callers import CallerDep
from gateway.api.changing import answer, plain
from gateway.api.openapi import BY_CERTIFICATE, problems
from gateway.api.paging import known_parameters
from registry import Snapshot

router = APIRouter(prefix="/v1/bus", tags=["adapters"])


class BusView(BaseModel):
    """The bus, and whose seals and signatures count there."""

    url: str = Field(description="Servers of the bus, comma-separated. 消息总线地址。")
    gateways: str = Field(description="PEM: certificates of the registered gateways, whose questions count. 网关证书。")
    callers: str = Field(description="PEM: CAs whose certificates sign requests. 调用方签名证书的 CA。")
    renewal_url: str = Field(description="Where certificates are renewed; empty: not here. 证书续期地址。")


@router.get("", response_model=BusView, responses=problems(*refusals.READING), openapi_extra=BY_CERTIFICATE)
async def show_bus(request: Request, caller: CallerDep) -> Response:
    """What an adapter is set up with (`datong adapter enrol`)."""
    known_parameters(request)
    gateway: Any = request.app.state.gateway
    settings = gateway.settings
    anchors = x509.load_pem_x509_certificates(gateway.trust.trust.pem())
    view = BusView(
        url=settings.bus_public_url or settings.bus_url,
        gateways=_pem([gateway.identity.certificate, *_gateways(caller.snapshot)]),
        callers=_pem([*anchors, *own_certificates.sent_along(settings)]),
        renewal_url=gateway.public_url if gateway.certificates is not None else "",
    )
    return answer(plain(view))


def _gateways(snapshot: Snapshot) -> Iterable[x509.Certificate]:
    for each in snapshot.certificates():
        subsystem = snapshot.subsystem(each.subsystem)
        if each.use == "gateway" and each.active and subsystem is not None and subsystem.active:
            yield x509.load_der_x509_certificate(each.der)


def _pem(certificates: Iterable[x509.Certificate]) -> str:
    """Each once, in a fixed order after the first."""
    return "".join(dict.fromkeys(each.public_bytes(Encoding.PEM).decode("ascii") for each in certificates))
