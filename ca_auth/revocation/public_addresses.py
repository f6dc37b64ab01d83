"""Which addresses a certificate may make us call: public ones only.

A certificate comes from a caller. If an address in it could lead anywhere, a caller could have the gateway send requests
to itself, to its neighbours or to the metadata service of its cloud.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final, TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV4_INSIDE: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""NAT64 (RFC 6052, RFC 8215): the last 32 bits are an IPv4 address."""
_SPECIAL: Final = tuple(
    ipaddress.ip_network(each)
    for each in ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "::/96", "2001::/32", "2002::/16")
)
"""Protocol assignments, relays and tunnels, and site-local addresses, which the library calls global."""


def is_public(address: IPAddress) -> bool:
    """Whether an address belongs to the public internet.

    Private, loopback, link-local (with the metadata services at 169.254.169.254), shared (100.64.0.0/10, with another at
    100.100.100.200), reserved and multicast addresses do not, nor do IPv6 addresses that stand for such IPv4 ones.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in _IPV4_INSIDE):
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast


async def addresses_of(host: str, port: int) -> list[IPAddress]:
    """Look a host up, or read it if it is an address.

    Raises:
        OSError: There is no such host.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A scope ("fe80::1%eth0") belongs to link-local addresses only, which are never public.
    return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
