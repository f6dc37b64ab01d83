"""Name constraints: for which names a CA may issue (RFC 5280 section 4.2.1.10). Pure.

Rules:
1. DNS names, e-mail addresses, IP addresses, URIs and directory names are compared. A constraint on any other kind of
   name, one with a minimum or maximum, and one that is not well-formed refuse the chain, critical or not: a limit that
   cannot be checked is not kept.
2. Every CA's constraints hold for every certificate below it, except that a self-issued CA certificate is free of them.
   That is the same as the intersections of section 6.1.4 (g), and lets a path be refused as soon as it goes wrong.
3. A name that is malformed, or that says too little to be compared, lies in no permitted subtree and in every excluded
   one. A wildcard lies in an excluded subtree if any name it stands for does.
4. E-mail addresses in the subject count as e-mail addresses, besides those in the alternative name.
5. The comparisons of one validation are counted, and beyond a bound the chain is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from ca_auth.validation import der
from ca_auth.validation.distinguished_names import CanonicalName, canonical_name, within
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.rejection import ChainRefusedError, OutOfEffort, printable, refusal

MAX_COMPARISONS: Final = 250_000
"""Names times constraints in one validation; about a tenth of a second."""

_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")
_URI: Final = re.compile(r"[A-Za-z0-9:/?#\[\]@!$&'()*+,;=._~%-]+")
"""RFC 3986: whatever else stands in a URI, two readers may find different hosts in it."""
_SMTP_UTF8_MAILBOX: Final = "1.3.6.1.5.5.7.8.9"

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Name = TypeVar("_Name")
_Subtree = TypeVar("_Subtree")


@dataclass(frozen=True, slots=True)
class Names:
    """The names in one certificate that constraints apply to."""

    dns: Sequence[str]
    emails: Sequence[str]
    addresses: Sequence[object]
    uris: Sequence[str]
    directories: Sequence[CanonicalName]
    count: int


@dataclass(frozen=True, slots=True)
class _Subtrees:
    dns: Sequence[str]
    emails: Sequence[str]
    addresses: Sequence[_Network]
    uris: Sequence[str]
    directories: Sequence[CanonicalName]
    count: int


class NameChecker:
    """Checks names against constraints during one validation, and keeps what it has read of each certificate."""

    def __init__(self) -> None:
        self._left = MAX_COMPARISONS
        self._names: dict[PathCertificate, Names] = {}
        self._constraints: dict[PathCertificate, tuple[_Subtrees, _Subtrees]] = {}

    def check(self, issuer: PathCertificate, below: Sequence[PathCertificate]) -> None:
        """Check the names of every certificate below an issuer, the leaf first.

        Raises:
            ChainRefusedError: A name lies outside (rule `certificate-name-constraints`), or a constraint cannot be
                evaluated (`certificate-constraint-unsupported`).
            OutOfEffort: There are too many names and constraints.
        """
        if x509.NameConstraints.oid.dotted_string not in issuer.extensions:
            return
        permitted, excluded = self._constraints_of(issuer)
        for position, certificate in enumerate(below):
            if position > 0 and certificate.is_self_issued:
                continue
            names = self._names_of(certificate)
            self._left -= names.count * (permitted.count + excluded.count)
            if self._left < 0:
                raise OutOfEffort(
                    refusal(
                        "certificate-chain-effort",
                        issuer.label,
                        f"There are too many names and name constraints to compare (more than {MAX_COMPARISONS}).",
                        f"名称与名称约束过多（比较次数超过 {MAX_COMPARISONS}）。",
                    )
                )
            _check(names, permitted, excluded, issuer, certificate)

    def _names_of(self, certificate: PathCertificate) -> Names:
        if certificate not in self._names:
            self._names[certificate] = names_of(certificate)
        return self._names[certificate]

    def _constraints_of(self, issuer: PathCertificate) -> tuple[_Subtrees, _Subtrees]:
        if issuer not in self._constraints:
            self._constraints[issuer] = _constraints(issuer)
        return self._constraints[issuer]


def names_of(certificate: PathCertificate) -> Names:
    """Return the names in a certificate that constraints apply to."""
    dns, emails, uris = [], [], []
    addresses: list[object] = []
    directories = [certificate.subject] if certificate.subject else []
    found = certificate.get(x509.SubjectAlternativeName)
    alternative = list(found) if found is not None else []
    for name in alternative:
        match name:
            case x509.DNSName():
                dns.append(name.value)
            case x509.RFC822Name():
                emails.append(name.value)
            case x509.UniformResourceIdentifier():
                uris.append(name.value)
            case x509.IPAddress():
                addresses.append(name.value)
            case x509.DirectoryName():
                directories.append(canonical_name(name.value))
            case x509.OtherName() if name.type_id.dotted_string == _SMTP_UTF8_MAILBOX:
                emails.append("")  # RFC 9598 subjects it to e-mail constraints; compared to none, it lies in none
            case _:
                pass  # constraints on other kinds refuse the chain by themselves
    attributes = list(certificate.certificate.subject)
    emails += [
        value if isinstance(value := attribute.value, str) else ""
        for attribute in attributes
        if attribute.oid == NameOID.EMAIL_ADDRESS
    ]
    return Names(dns, emails, addresses, uris, directories, count=len(alternative) + len(attributes))


def is_dns_name(name: str, *, wildcard: bool = False) -> bool:
    """Whether a text has the form of a DNS name (RFC 1034 section 3.5, with underscores), perhaps of a wildcard."""
    labels = name.split(".")
    if wildcard and labels[0] == "*" and len(labels) > 1:
        labels = labels[1:]
    return len(name) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def _constraints(issuer: PathCertificate) -> tuple[_Subtrees, _Subtrees]:
    value = issuer.get(x509.NameConstraints)
    if value is None or _has_distances(issuer.raw_extensions[x509.NameConstraints.oid.dotted_string]):
        raise _unsupported(issuer, "one with a minimum or maximum", "含最小或最大距离的约束")
    return (
        _subtrees(issuer, value.permitted_subtrees or ()),
        _subtrees(issuer, value.excluded_subtrees or ()),
    )


def _has_distances(raw: bytes) -> bool:
    # GeneralSubtree ::= SEQUENCE { base, minimum [0] DEFAULT 0, maximum [1] OPTIONAL }
    return any(
        len(der.elements(subtree.content)) != 1
        for subtrees in der.sequence(raw)
        for subtree in der.elements(subtrees.content)
    )


def _subtrees(issuer: PathCertificate, bases: Sequence[x509.GeneralName]) -> _Subtrees:
    dns, emails, uris = [], [], []
    addresses: list[_Network] = []
    directories = []
    for base in bases:
        match base:
            case x509.DNSName() if base.value == "" or is_dns_name(base.value):
                dns.append(base.value.lower())
            case x509.RFC822Name() if _is_email_constraint(base.value):
                emails.append(base.value)
            case x509.UniformResourceIdentifier() if is_dns_name(base.value.removeprefix(".")):
                uris.append(base.value.lower())
            case x509.IPAddress() if isinstance(base.value, ipaddress.IPv4Network | ipaddress.IPv6Network):
                addresses.append(base.value)
            case x509.DirectoryName():
                directories.append(canonical_name(base.value))
            case _:
                shown = printable(repr(base), 80)
                raise _unsupported(issuer, f"one on {shown}", f"约束对象 {shown}")
    return _Subtrees(dns, emails, addresses, uris, directories, count=len(bases))


def _unsupported(issuer: PathCertificate, which: str, which_zh: str) -> ChainRefusedError:
    return refusal(
        "certificate-constraint-unsupported",
        issuer.label,
        f"The CA's name constraints cannot be evaluated: {which}.",
        f"该 CA 的名称约束无法判定：{which_zh}。",
    )


def _is_email_constraint(base: str) -> bool:
    local, at, host = base.rpartition("@")
    if at:
        return _LOCAL_PART.fullmatch(local) is not None and is_dns_name(host)
    return is_dns_name(host.removeprefix("."))


def _check(
    names: Names, permitted: _Subtrees, excluded: _Subtrees, issuer: PathCertificate, certificate: PathCertificate
) -> None:
    place = (issuer, certificate)
    _check_kind("DNS", names.dns, permitted.dns, excluded.dns, _dns_lies_in, place)
    _check_kind("e-mail", names.emails, permitted.emails, excluded.emails, _email_lies_in, place)
    _check_kind("IP", names.addresses, permitted.addresses, excluded.addresses, _address_lies_in, place)
    _check_kind("URI", names.uris, permitted.uris, excluded.uris, _uri_lies_in, place)
    _check_kind("directory", names.directories, permitted.directories, excluded.directories, _directory_lies_in, place)


def _check_kind(
    kind: str,
    names: Sequence[_Name],
    permitted: Sequence[_Subtree],
    excluded: Sequence[_Subtree],
    lies_in: Callable[[_Name, _Subtree, bool], bool],
    place: tuple[PathCertificate, PathCertificate],
) -> None:
    issuer, certificate = place
    for name in names:
        if any(lies_in(name, subtree, True) for subtree in excluded):
            where, where_zh = "is excluded", "被排除"
        elif permitted and not any(lies_in(name, subtree, False) for subtree in permitted):
            where, where_zh = "is outside what is permitted", "超出允许范围"
        else:
            continue
        # Other names may hold the number of a person; the label says which certificate it is.
        shown = f" {printable(str(name), 80)}" if kind in ("DNS", "IP") else ""
        raise refusal(
            "certificate-name-constraints",
            certificate.label,
            f"Its {kind} name{shown} {where} by the name constraints of {issuer.label}.",
            f"其 {kind} 名称{shown} {where_zh}（{issuer.label} 的名称约束）。",
        )


def _dns_lies_in(name: str, subtree: str, excluding: bool) -> bool:
    if not is_dns_name(name, wildcard=True):
        return excluding
    name = name.lower()
    if name.startswith("*."):
        name = name[2:]
        if excluding and subtree.endswith(f".{name}"):
            return True  # the wildcard may stand for a name in the subtree
    return not subtree or name == subtree or name.endswith(f".{subtree}")


def _email_lies_in(name: str, subtree: str, excluding: bool) -> bool:
    local, _, host = name.rpartition("@")
    if not _LOCAL_PART.fullmatch(local) or not is_dns_name(host):
        return excluding
    base_local, at, base_host = subtree.rpartition("@")
    host, base_host = host.lower(), base_host.lower()
    if at:
        # The local part is case-sensitive (RFC 5321 section 2.4), but hardly any mail server thinks so.
        same = local.casefold() == base_local.casefold() if excluding else local == base_local
        return same and host == base_host
    return host.endswith(base_host) if base_host.startswith(".") else host == base_host


def _address_lies_in(name: object, subtree: _Network, excluding: bool) -> bool:
    if not isinstance(name, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return excluding
    return name in subtree


def _uri_lies_in(name: str, subtree: str, excluding: bool) -> bool:
    if not _URI.fullmatch(name):
        return excluding
    try:
        host = (urlsplit(name).hostname or "").lower()
    except ValueError:
        return excluding
    if not is_dns_name(host):  # no authority, or an IP address: "MUST reject"
        return excluding
    return host.endswith(subtree) if subtree.startswith(".") else host == subtree


def _directory_lies_in(name: CanonicalName, subtree: CanonicalName, excluding: bool) -> bool:
    return within(name, subtree)
