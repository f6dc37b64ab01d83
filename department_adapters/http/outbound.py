"""Where an adapter's HTTP source may connect to, and as whom.

Rules:
1. The host is one that the section names; a name is resolved for each connection, and the address that was looked at is the
   one that is connected to: an answer of the name server that changes in between leads nowhere else.
2. Of addresses, only public ones are used, unless the section lists them: what stands in a private network, on this
   machine or on its link is reached because somebody wrote that it may be. An IPv4 address in an IPv6 one counts as itself.
3. Addresses at which clouds hand out credentials count as listed only by themselves, never as a part of a network.
4. The certificate of an https system is checked against the name in `base_url`, whatever the address. There is no switch.
5. Secrets are read from the environment or from a file, and are not told.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import structlog

from department_adapters.section import ContractError
from exchange import Headers

CONNECT_SECONDS = 3.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
TlsVersion = Literal["1.2", "1.3"]
_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)

METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"))
)
"""Where clouds answer any process on a machine with its credentials."""

# The registries of IANA, IPv4 and IPv6 Special-Purpose Address Space; of IPv6, nothing but 2000::/3 is given out.
_NOT_PUBLIC_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))  # 2001::/23: Teredo, too
)
_NUMBER_LIKE = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[!-~\x80-\U0010ffff](?:[ \t!-~\x80-\U0010ffff]*[!-~\x80-\U0010ffff])?")

events = structlog.get_logger("datong.adapter")


class AddressRefusedError(OSError):
    """No address of the host may be connected to; the message says which line of the section would allow it."""


class CredentialError(OSError, ContractError):
    """A file that says who we are to the system cannot be read; the message names the file, never what is in it."""


def network(text: str) -> Network:
    """A network or a single address; raises ValueError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no network such as 10.1.0.0/16, and no address") from error


def host_name(text: str) -> str:
    """A host in the form that it is compared in; raises ValueError for one that could be read in two ways."""
    host = text.rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", host):
        raise ValueError("the host of a base URL is a name in ASCII or an address")
    # 2130706433, 0x7f.1 and 127.1 are 127.0.0.1 to the system, and a name to whoever reads the file.
    if _NUMBER_LIKE.fullmatch(host.rpartition(".")[2]):
        raise ValueError("the host of a base URL is written as an address is: 127.0.0.1, not 127.1 or 0x7f000001")
    return host


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What one source may connect to and as whom. The defaults are the strict ones.

    Args:
        hosts: Names or addresses that may stand in the base URL; empty: whatever stands there.
        allow_addresses: Networks that may be connected to although they are not public.
        trust_anchors: PEM bundle for an https system; without it, those of this machine.
        client_certificate, client_key: PEM files to show to an https system.
        tls_min: The oldest version of TLS that is spoken.
        bearer: Token that is sent as `Authorization: Bearer`, in place of what the caller sent.
        bearer_file: File of such a token; it is read again when it changes.
        headers: Sent with each request, in place of the caller's of the same name. Names are in lower case.

    Raises:
        ValueError: They contradict each other or cannot be sent; the message tells no value.
    """

    hosts: Sequence[str] = ()
    allow_addresses: Sequence[str] = ()
    trust_anchors: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    tls_min: TlsVersion = "1.2"
    bearer: str | None = field(default=None, repr=False)
    bearer_file: Path | None = None
    headers: Headers = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        for text in self.allow_addresses:
            network(text)
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key go together")
        if self.bearer is not None and self.bearer_file is not None:
            raise ValueError("of bearer and bearer_file there can be only one")
        if self.bearer is not None:
            _token(self.bearer)
        for name, _ in self.headers:
            if name == b"authorization" and (self.bearer is not None or self.bearer_file is not None):
                raise ValueError("of bearer and a header Authorization there can be only one")

    def check_host(self, text: str) -> str:
        """The host of a base URL, as it is connected to; raises ValueError if the section does not allow it."""
        host = host_name(text)
        if self.hosts and host not in {host_name(each) for each in self.hosts}:
            raise ValueError(f"the base URL's host {host} is not one of hosts")
        literal = _literal(host)
        if literal is not None and not Addresses(self.allow_addresses).allowed(literal):
            raise ValueError(f"the base URL's host is not a public address: {_line(host, [literal])}")
        return host


class Addresses:
    """Which addresses may be connected to. Pure."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        """
        Args:
            allowed: Networks and addresses beyond the public ones.
        """
        self._allowed = [network(text) for text in allowed]

    def allowed(self, address: Address) -> bool:
        """Whether the address may be connected to."""
        address = _itself(address)
        listed = [each for each in self._allowed if each.version == address.version and address in each]
        if address in METADATA:
            return any(each.num_addresses == 1 for each in listed)
        return bool(listed) or _public(address)


def static_headers(pairs: Sequence[tuple[str, str]], *, ours: frozenset[bytes]) -> Headers:
    """Headers as a source sends them; raises ValueError, which tells names and no value.

    Args:
        ours: Names that frame the request, which nobody else sets.
    """
    headers: Headers = []
    for name, value in pairs:
        raw = name.lower().encode("ascii", "replace")
        if not _HEADER_NAME.fullmatch(name) or raw in ours:
            raise ValueError(f"the header {name!r} cannot be set")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of the header {name!r} cannot be sent")
        if raw in (each for each, _ in headers):
            raise ValueError(f"the header {name!r} stands there twice")
        headers.append((raw, value.encode()))
    return headers


class Connector:
    """Connects to one host and port, and knows what we say there of ourselves."""

    def __init__(
        self, host: str, port: int, *, tls: bool, outbound: Outbound, ours: frozenset[bytes] = frozenset()
    ) -> None:
        """
        Args:
            host: From `Outbound.check_host`.
            ours: Names of headers that frame the request, which are not taken from the caller.
        """
        self._host = host
        self._port = port
        self._tls = tls
        self._outbound = outbound
        self._addresses = Addresses(outbound.allow_addresses)
        self._context: ssl.SSLContext | None = None
        self._context_of: tuple[tuple[int, int, int] | None, ...] = ()
        self._token: bytes = b""
        self._token_of: tuple[int, int, int] | None = None
        self._said = list(outbound.headers)
        if outbound.bearer is not None:
            self._said.append((b"authorization", b"Bearer " + _token(outbound.bearer)))
        self._replaced = ours.union(name for name, _ in self._said)
        if outbound.bearer_file is not None:
            self._replaced |= {b"authorization"}

    def headers(self, headers: Headers) -> Headers:
        """A request's headers with ours in place of the caller's, a new list; raises CredentialError."""
        replaced, file = self._replaced, self._outbound.bearer_file
        said = [pair for pair in headers if pair[0] not in replaced]
        said += self._said
        if file is not None:
            said.append((b"authorization", b"Bearer " + self._bearer_of(file)))
        return said

    def context(self) -> ssl.SSLContext | None:
        """What TLS is spoken with, made anew when a file of it has changed; raises OSError."""
        if not self._tls:
            return None
        outbound = self._outbound
        certificate, key = outbound.client_certificate, outbound.client_key
        files = tuple(
            _version(file) if file is not None else None for file in (outbound.trust_anchors, certificate, key)
        )
        if self._context is None or files != self._context_of:
            self._context = _context(outbound)
            self._context_of = files
        return self._context

    async def connect(self, protocol: Callable[[], _Protocol]) -> _Protocol:
        """Connect to the first address that takes us.

        Raises:
            AddressRefusedError: None of them may be connected to.
            OSError: None took us within CONNECT_SECONDS, or TLS failed.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + CONNECT_SECONDS
        async with asyncio.timeout_at(end):
            context = self.context()
            addresses = await self._resolved()
            for left in range(len(addresses), 0, -1):
                try:
                    # The last one has all the time that is left; the others leave some.
                    async with asyncio.timeout((end - loop.time()) / left):
                        _, made = await loop.create_connection(
                            protocol,
                            addresses[-left],
                            self._port,
                            ssl=context,
                            server_hostname=self._host if context is not None else None,
                        )
                        return made
                except ssl.SSLCertVerificationError:
                    raise  # the same name has the same certificate
                except OSError as error:  # timeouts are such, too
                    if left == 1:
                        raise
                    events.warning("adapter.address_failed", host=self._host, error=repr(error))
        raise AssertionError("there is an address")

    async def _resolved(self) -> list[str]:
        """The addresses that may be connected to, each once."""
        if (literal := _literal(self._host)) is not None:
            found: list[Address] = [literal]
        else:
            rows = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            found = [ipaddress.ip_address(row[4][0]) for row in rows]
        # As they are: a link-local one keeps the link that it is on.
        allowed = [str(address) for address in found if self._addresses.allowed(address)]
        if not allowed:
            refused = AddressRefusedError(f"{self._host} is at no public address: {_line(self._host, found)}")
            events.error("adapter.address_refused", host=self._host, reason=str(refused))
            raise refused
        return list(dict.fromkeys(allowed))

    def _bearer_of(self, file: Path) -> bytes:
        version = _version(file)
        if version != self._token_of or not self._token:
            try:
                self._token = _token(file.read_text(encoding="ascii").strip())
            except (OSError, ValueError) as error:
                raise CredentialError(f"{file}: no token can be read: {type(error).__name__}") from None
            self._token_of = version
        return self._token


def _context(outbound: Outbound) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=outbound.trust_anchors)
    except (OSError, ValueError) as error:
        raise CredentialError(f"{outbound.trust_anchors}: no certificates can be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if outbound.tls_min == "1.3" else ssl.TLSVersion.TLSv1_2
    if outbound.client_certificate is not None:
        try:
            # A password would be asked for at a terminal that nobody looks at.
            context.load_cert_chain(outbound.client_certificate, outbound.client_key, password="")
        except (OSError, ValueError) as error:
            raise CredentialError(
                f"{outbound.client_certificate}, {outbound.client_key}: no certificate and key that fit: {error}"
            ) from error
    return context


def _version(file: Path) -> tuple[int, int, int]:
    try:
        stat = file.stat()
    except OSError as error:
        raise CredentialError(f"{file}: {error.strerror}") from error
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _token(text: str) -> bytes:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("the bearer token cannot be sent: it is empty, or not printable ASCII without spaces")
    return text.encode()


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _itself(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does; without the link that it is on."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address))


def _public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in each for each in _NOT_PUBLIC_4)
    return address in _PUBLIC_6 and not any(address in each for each in _NOT_PUBLIC_6)


def _line(host: str, addresses: Sequence[Address]) -> str:
    """What to write, so that it may be reached."""
    listed = ", ".join(f'"{each}"' for each in dict.fromkeys(map(_itself, addresses)))
    return f"to allow {host}, write allow_addresses = [{listed}] in the service's section"
