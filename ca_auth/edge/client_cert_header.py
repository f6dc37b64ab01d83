"""The client certificate behind a TLS terminator (RFC 9440): `Client-Cert` and `Client-Cert-Chain`.

Rules:
1. Only a terminator may speak for a caller: a connection on one of our Unix sockets, or one with TLS whose certificate is
   pinned by fingerprint. For everybody else the headers do not exist: they are neither read nor passed on.
2. A terminator's own certificate is never a caller's: a request that comes without `Client-Cert` has no certificate.
3. `Client-Cert` is one byte sequence, once; `Client-Cert-Chain` a list of them, in TLS order without the leaf, and only
   beside it. A terminator that sends anything else is refused, whatever the request asks.
4. The name is exact. Many systems read `_` as `-`, and every product has its own header for the same thing: whatever
   looks like one is stripped from every request, before anything of it is forwarded.

What comes out is not yet believed: the authenticator validates it like a certificate of our own TLS. Who may open a Unix
socket is the business of its file's permissions. A terminator's requests have larger heads (a chain of four is about
8 KiB): its listener needs an `EdgeLimits.head_bytes` of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

import http_sf

from exchange import UnauthenticatedError

CLIENT_CERT: Final = b"client-cert"
CLIENT_CERT_CHAIN: Final = b"client-cert-chain"
MAX_CERTIFICATE: Final = 8 << 10
"""Bytes of DER; in base64 a third more."""
MAX_CHAIN: Final = 8

_MAX_FIELD: Final = (MAX_CERTIFICATE + 16) * 4 // 3 * MAX_CHAIN
_SPEAKING_OF_CERTIFICATES: Final = (
    "clientcert",  # RFC 9440; X-Client-Cert; Envoy, Traefik: X-Forwarded-[Tls-]Client-Cert; Azure: X-ARR-ClientCert;
    # AWS: X-Amzn-Mtls-Clientcert-*; Cloudflare: Cf-Client-Cert-*; Google: X-Client-Cert-*; WebLogic: WL-Proxy-Client-Cert
    "sslclient",  # HAProxy: X-SSL-Client-*; ingress-nginx: ssl-client-verify, ssl-client-subject-dn; Apache: SSL_CLIENT_S_DN
    "sslcert",  # nginx recipes: X-SSL-CERT
    "tlsclient",
    "sslissuer",
    "sslserial",
    "sslverif",
    "certchain",  # Keycloak's CERT_CHAIN
    "mtls",
    "peercert",
)
"""What names of such headers contain once `-`, `_` and `.` are taken out."""
_OTHERS: Final = frozenset({"$wscc", "$wssc", "xfcc"})


class RefusedHeaderError(UnauthenticatedError):
    """A terminator sent what RFC 9440 does not allow."""

    next = {
        "en": "Tell the operator of the TLS terminator: RFC 9440 says how Client-Cert is sent.",
        "zh": "请联系 TLS 终端代理的运维人员：Client-Cert 的格式见 RFC 9440。",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How a request came in. Made once per connection."""

    unix_socket: str = ""
    """Path of our socket it came by; empty for TCP."""
    peer: str = ""
    """Fingerprint of the certificate that our own TLS verified, lower-case hex; empty without one."""
    leaf: bytes = b""
    """That certificate, DER."""
    chain: tuple[bytes, ...] = ()
    """What came with it, in TLS order, DER."""


class PresentedCertificate(NamedTuple):
    """The certificate a caller showed, to us or to a terminator."""

    leaf: bytes
    chain: tuple[bytes, ...]


class TerminatorTrust:
    """Decides which connections may speak with the headers of RFC 9440.

    Args:
        unix_sockets: Paths of our sockets that terminators connect to.
        fingerprints: SHA-256 of the client certificates that terminators connect with, lower-case hex.
    """

    def __init__(self, *, unix_sockets: Iterable[str] = (), fingerprints: Iterable[str] = ()) -> None:
        self._unix_sockets = frozenset(unix_sockets)
        self._fingerprints = frozenset(fingerprints)
        if any(len(each) != 64 or set(each) - set("0123456789abcdef") for each in self._fingerprints):
            raise ValueError("a terminator is pinned by the SHA-256 of its certificate, 64 lower-case hex digits")
        if "" in self._unix_sockets:
            raise ValueError("a socket has a path")  # or TCP would pass for it

    def trusts(self, connection: Connection) -> bool:
        """Whether this is a terminator, which speaks for others and never for itself."""
        return connection.unix_socket in self._unix_sockets or connection.peer in self._fingerprints

    def certificate_of(
        self, connection: Connection, headers: Sequence[tuple[bytes, bytes]]
    ) -> PresentedCertificate | None:
        """Return the caller's certificate: the connection's own, or from the headers if a terminator speaks. None: no certificate.

        Args:
            headers: As received, names in lower case.

        Raises:
            RefusedHeaderError: Rule `client-cert-header`: a terminator sent what RFC 9440 does not allow.
        """
        if self.trusts(connection):
            return parse_client_cert(headers)
        return PresentedCertificate(connection.leaf, connection.chain) if connection.leaf else None


def parse_client_cert(headers: Sequence[tuple[bytes, bytes]]) -> PresentedCertificate | None:
    """Read `Client-Cert` and `Client-Cert-Chain`, whoever sent them; None without either.

    The bytes are not parsed as certificates here.

    Raises:
        RefusedHeaderError: They break rule 3.
    """
    leaves = [value for name, value in headers if name == CLIENT_CERT]
    chains = [value for name, value in headers if name == CLIENT_CERT_CHAIN]
    if not leaves:
        if chains:
            _refuse("Client-Cert-Chain came without Client-Cert", "有 Client-Cert-Chain 而没有 Client-Cert")
        return None
    if len(leaves) > 1:
        _refuse("Client-Cert came more than once", "Client-Cert 出现了多次")
    return PresentedCertificate(_leaf(leaves[0]), _chain(b", ".join(chains)) if chains else ())


def strip_client_cert(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers without any that speaks of a client certificate, in whatever spelling; order is kept."""
    return [pair for pair in headers if not speaks_of_certificates(pair[0])]


@functools.lru_cache(4096)
def speaks_of_certificates(name: bytes) -> bool:
    """Whether a header of this name may be read as a caller's certificate by some system behind us."""
    text = name.lower().decode("latin-1")
    plain = text.translate(_PUNCTUATION)
    return text in _OTHERS or any(part in plain for part in _SPEAKING_OF_CERTIFICATES)


_PUNCTUATION: Final = str.maketrans("", "", "-_.")


@functools.lru_cache(1024)  # a caller comes back with the same certificate; only terminators get here
def _leaf(value: bytes) -> bytes:
    return _certificate("Client-Cert", _parsed("Client-Cert", value, "item"))


@functools.lru_cache(1024)
def _chain(value: bytes) -> tuple[bytes, ...]:
    items = _parsed("Client-Cert-Chain", value, "list")
    if not isinstance(items, list) or not 0 < len(items) <= MAX_CHAIN:
        _refuse(
            f"Client-Cert-Chain holds 1 to {MAX_CHAIN} certificates", f"Client-Cert-Chain 应有 1 至 {MAX_CHAIN} 张证书"
        )
    return tuple(_certificate("Client-Cert-Chain", item) for item in items)


def _parsed(name: str, value: bytes, kind: str) -> object:
    if len(value) > _MAX_FIELD:
        _refuse(f"{name} is too long", f"{name} 过长")
    try:
        return http_sf.parse(value, tltype=kind)
    except ValueError:  # StructuredFieldError is one
        _refuse(f"{name} is not made of byte sequences :BASE64:", f"{name} 应由字节序列 :BASE64: 组成")


def _certificate(name: str, item: object) -> bytes:
    der = item[0] if isinstance(item, tuple) else item
    if not isinstance(der, bytes) or not 0 < len(der) <= MAX_CERTIFICATE:
        _refuse(
            f"{name} must hold certificates of at most {MAX_CERTIFICATE} bytes as :BASE64:",
            f"{name} 应为 :BASE64: 形式的证书，每张不超过 {MAX_CERTIFICATE} 字节",
        )
    return der


def _refuse(what: str, what_zh: str) -> NoReturn:
    raise RefusedHeaderError("client-cert-header", problem=f"{what} (RFC 9440).", problem_zh=f"{what_zh}（RFC 9440）。")
