"""Whom each trust anchor may speak for: the trust file, once read (`ca_auth.profiles.trust_file`). Immutable and pure.

Rules:
1. Every CA on the path counts: what a sub-CA may say is limited by its own entry, by those of the CAs above it and by
   the anchor's. No entry can widen what another narrows.
2. A limit is exact identifiers or prefixes; an anchor without a limit speaks for every member its profile can name.
3. A pinned subsystem is spoken for by the pinned certificates only, also by a certificate of the whole member: see
   `Trust.check_pin`, which the gateway calls once it knows the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ca_auth.profiles.identity import UNREADABLE, Identity, extension_of
from ca_auth.profiles.naming import Naming
from ca_auth.profiles.profiles import DEFAULT, PROFILES, Profile
from ca_auth.profiles.shown_names import shown_name
from exchange import MemberId, SubsystemId, UnauthenticatedError

DEFAULT_MAX_DEPTH: Final = 8


@dataclass(frozen=True, slots=True)
class MemberPattern:
    """`CN/GOV/11990000000000000X` for one member, `CN/GOV/*` or `CN/GOV/1199*` for all that begin so, `*` for all."""

    text: str

    def covers(self, member: MemberId) -> bool:
        """Whether it stands for `member`."""
        return member.startswith(self.text[:-1]) if self.text.endswith("*") else member == self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Where news of revoked certificates comes from, for the certificates below one anchor."""

    crl_paths: tuple[Path, ...] = ()
    """Files, and folders all of whose files are CRLs; PEM or DER."""
    crl_urls: tuple[str, ...] = ()
    ocsp: str = "off"
    """`off`, `aia` (the address in the certificate), or an address."""
    required: bool = False
    """Whether a certificate is refused when its status is not known."""
    grace: timedelta = timedelta(0)
    """How long after `nextUpdate` old news still counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubCA:
    """What one CA below an anchor may speak for. Named by the hash of its certificate or by its key."""

    sha256: str | None
    key_id: str | None
    """Subject key identifier, as the extension says or as RFC 5280 section 4.2.1.2 (1) computes it; lower-case hex."""
    members: tuple[MemberPattern, ...]

    def is_of(self, certificate: x509.Certificate) -> bool:
        """Whether this entry speaks of `certificate`; either spelling of its key identifier suffices."""
        if self.sha256 is not None:
            return certificate.fingerprint(hashes.SHA256()).hex() == self.sha256
        return self.key_id in _key_ids(certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One trusted root, or several of one operator, and what may be believed under it."""

    name: str
    certificates: tuple[x509.Certificate, ...]
    profile: Profile
    naming: Naming
    members: tuple[MemberPattern, ...] = (MemberPattern("*"),)
    sub_cas: tuple[SubCA, ...] = ()
    only_listed_sub_cas: bool = False
    max_depth: int = DEFAULT_MAX_DEPTH
    """Most CA certificates between the leaf and the anchor."""
    revocation: Revocation = field(default_factory=Revocation)

    def check_may_speak_for(self, member: MemberId, sub_cas: Sequence[x509.Certificate]) -> None:
        """Check the limits of this anchor and of every CA between it and the leaf.

        Raises:
            UnauthenticatedError: Rule `certificate-member`.
        """
        _check_limit(self.members, member, f"the anchor {self.name}", f"信任锚 {self.name}")
        for certificate in sub_cas:
            entries = [each for each in self.sub_cas if each.is_of(certificate)]
            if self.only_listed_sub_cas and not entries:
                raise _refused_member(
                    f"A CA below the anchor {self.name} is not listed in the trust file.",
                    f"信任锚 {self.name} 之下的某个子 CA 未列入信任文件。",
                )
            for entry in entries:
                _check_limit(entry.members, member, "its sub-CA", "其子 CA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminators:
    """Who may hand over the certificate of somebody else (RFC 9440 Client-Cert)."""

    sockets: tuple[Path, ...] = ()
    """Unix sockets of this gateway that only terminators can reach."""
    certificates: frozenset[str] = frozenset()
    """SHA-256 fingerprints of their own client certificates, lower-case hex."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Everything the trust file says. Made by `read_trust` or `Trust.from_bundle`; a changed file makes another."""

    anchors: tuple[Anchor, ...]
    pins: Mapping[SubsystemId, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    terminators: Terminators = field(default_factory=Terminators)
    files: tuple[Path, ...] = ()
    """What it was read from: when one of them changes, read it again."""

    @classmethod
    def from_bundle(cls, pem: bytes) -> Trust:
        """What a PEM bundle alone means: profile `datong-uri`, any member, no revocation.

        Raises:
            ValueError: The bundle is empty or holds something else than CA certificates.
        """
        anchor = Anchor(
            name="bundle",
            certificates=ca_certificates(pem),
            profile=PROFILES[DEFAULT],
            naming=Naming(member_of_code=lambda code: None),
        )
        return cls(anchors=(anchor,))

    @cached_property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """The certificates of all anchors."""
        return tuple(certificate for anchor in self.anchors for certificate in anchor.certificates)

    def pem(self) -> bytes:
        """The certificates of all anchors as a bundle, for OpenSSL."""
        return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in self.certificates)

    def anchor_of(self, certificate: x509.Certificate) -> Anchor:
        """The entry that an anchor's certificate belongs to.

        Raises:
            UnauthenticatedError: It is none of ours; rule `certificate-chain`.
        """
        anchor = self._anchors_by_fingerprint.get(certificate.fingerprint(hashes.SHA256()).hex())
        if anchor is None:
            raise _not_below_an_anchor()
        return anchor

    def principal(self, path: Sequence[x509.Certificate]) -> Identity:
        """Return whom the leaf of a validated path names, as its anchor's profile reads it.

        Args:
            path: Leaf first, anchor last, each issued by the next. Signatures, dates, key policy, name constraints
                and revocation have been checked; they are not checked here.

        Raises:
            UnauthenticatedError: `certificate-chain` (no anchor of ours, or more CAs than it allows),
                `certificate-profile`, `certificate-member` (a CA on the path may not speak for that member) or
                `certificate-pinned` (other certificates are pinned to the subsystem).
        """
        if len(path) < 2:
            raise _not_below_an_anchor()  # a leaf that is an anchor itself would be below no rule
        leaf, *sub_cas = path[:-1]
        anchor = self.anchor_of(path[-1])
        if len(sub_cas) > anchor.max_depth:
            raise UnauthenticatedError(
                "certificate-chain",
                problem=f"There are {len(sub_cas)} CAs between the certificate and its anchor, "
                f"and {anchor.max_depth} are allowed.",
                problem_zh=f"证书与信任锚之间有 {len(sub_cas)} 级 CA，超过允许的 {anchor.max_depth} 级。",
            )
        identity = anchor.profile.identity(leaf, anchor.naming)
        anchor.check_may_speak_for(identity.member, sub_cas)
        if identity.subsystem is not None:
            self.check_pin(identity.subsystem, leaf.fingerprint(hashes.SHA256()).hex())
        return identity

    def check_pin(self, subsystem: SubsystemId, fingerprint: str) -> None:
        """Check that the certificate with `fingerprint` (lower-case hex SHA-256) may act as `subsystem`.

        Raises:
            UnauthenticatedError: Other certificates are pinned to it; rule `certificate-pinned`.
        """
        pinned = self.pins.get(subsystem)
        if pinned is not None and fingerprint not in pinned:
            raise UnauthenticatedError(
                "certificate-pinned",
                problem=f"Another certificate is pinned to {subsystem}.",
                problem_zh=f"{subsystem} 已绑定其他证书。",
            )

    @cached_property
    def _anchors_by_fingerprint(self) -> Mapping[str, Anchor]:
        return {
            certificate.fingerprint(hashes.SHA256()).hex(): anchor
            for anchor in self.anchors
            for certificate in anchor.certificates
        }


def ca_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM bundle of anchors.

    Raises:
        ValueError: It is empty or holds something else than CA certificates.
    """
    try:
        certificates = tuple(x509.load_pem_x509_certificates(pem))
    except UNREADABLE as error:
        raise ValueError("not a bundle of certificates in PEM") from error
    if not certificates:
        raise ValueError("no trust anchors: nobody could be authenticated")
    for certificate in certificates:
        try:
            constraints = extension_of(certificate.extensions, x509.BasicConstraints)
        except UNREADABLE as error:
            raise ValueError("a CA certificate cannot be read") from error
        if constraints is None or not constraints.ca:
            raise ValueError(f"not a CA certificate: {shown_name(certificate.subject)}")
    return certificates


def _check_limit(patterns: tuple[MemberPattern, ...], member: MemberId, who: str, who_zh: str) -> None:
    if not any(pattern.covers(member) for pattern in patterns):
        raise _refused_member(
            f"The certificate names {member}, and {who} may not speak for that member.",
            f"证书标识的成员为 {member}，而{who_zh}无权为该成员签发证书。",
        )


def _refused_member(english: str, chinese: str) -> UnauthenticatedError:
    return UnauthenticatedError("certificate-member", problem=english, problem_zh=chinese)


def _not_below_an_anchor() -> UnauthenticatedError:
    return UnauthenticatedError(
        "certificate-chain",
        problem="The certificate does not lead to a CA that is accepted now.",
        problem_zh="证书不能追溯到当前受信任的 CA。",
    )


def _key_ids(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        computed = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest.hex()
        stated = extension_of(certificate.extensions, x509.SubjectKeyIdentifier)
    except UNREADABLE as error:
        raise _not_below_an_anchor() from error  # validation would not have let such a CA pass
    return (computed,) if stated is None else (stated.digest.hex(), computed)
