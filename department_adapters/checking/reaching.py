"""Whether the system behind an HTTP or SOAP source takes a connection: for when nothing may be asked of it."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from department_adapters.http.outbound import Connector
from department_adapters.http.section import HttpService
from department_adapters.soap.section import SoapService


async def reach(section: HttpService | SoapService) -> tuple[str, float]:
    """Connect, TLS included, as the source would, and let go.

    Returns:
        Where to, and how many seconds it took.

    Raises:
        ContractError: The WSDL cannot be read.
        OSError: Nothing answers there, TLS failed, or the section does not allow the address; the message says which.
        ValueError: The URL names no host that may be connected to.
    """
    base = section.base_url if isinstance(section, HttpService) else section.address or section.read_wsdl().address
    url = urlsplit(base)
    outbound, tls = section.outbound(), url.scheme == "https"
    port = url.port or (443 if tls else 80)
    connector = Connector(outbound.check_host(url.hostname or ""), port, tls=tls, outbound=outbound)
    begun = time.perf_counter()
    holder = await connector.connect(_Holder)
    seconds = time.perf_counter() - begun
    holder.transport.close()
    return f"{url.scheme}://{url.hostname}:{port}", seconds


class _Holder(asyncio.Protocol):
    """Holds a connection and says nothing."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
