"""A certificate revocation list taken apart once (RFC 5280 section 5). Pure.

A list that must not be used is kept with the reason in `defect`, so that the one who asks hears of it:
1. It has a number, not critical, and says when the next one comes.
2. No extension of the list or of an entry is critical and unknown: one such entry spoils the whole list (section 5.3).
3. `removeFromCRL` stands in delta lists only, an entry's own issuer in indirect lists only.

Whether the list is fresh, signed and about a certificate is judged in `ca_auth.validation.revocation`.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from ca_auth.profiles.shown_names import shown_name
from ca_auth.validation import der
from ca_auth.validation.distinguished_names import CanonicalName, canonical_name
from ca_auth.validation.path_certificate import PathCertificate
from ca_auth.validation.rejection import printable

_PROCESSED: Final = (
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.ISSUING_DISTRIBUTION_POINT,
    ExtensionOID.DELTA_CRL_INDICATOR,
)
_PROCESSED_IN_ENTRIES: Final = (CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.CERTIFICATE_ISSUER)
_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----\s*(.*?)-----END X509 CRL-----", re.DOTALL)
_EXTENSIONS: Final = 0xA0
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class CrlNumberError(ValueError):
    """A list is older than the one it is to replace. The text says which numbers, in English."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RevocationList:
    """One list, complete or delta. Made by `load_crls`; equal only to itself."""

    crl: x509.CertificateRevocationList | None
    """None: the bytes are not a CRL."""
    label: str
    """Issuer and number, for people."""
    defect: tuple[str, str] | None = None
    """Why it must not be used, English and Chinese; then the fields below may mean nothing."""
    issuer: CanonicalName = ()
    number: int = 0
    base_number: int | None = None
    """For a delta list: the number of the complete list it adds to."""
    this_update: datetime = _NEVER
    next_update: datetime = _NEVER
    distribution: x509.IssuingDistributionPoint | None = None
    raw_distribution: bytes = b""
    raw_authority: bytes = b""
    authority_key: bytes | None = None
    """Identifier of the key that signed it, as the list says."""
    entries: dict[CanonicalName, dict[int, x509.ReasonFlags]] = field(default_factory=dict)
    """By issuer of the certificate and serial number."""

    @property
    def scope(self) -> tuple[CanonicalName, bytes, bool]:
        """Lists of one scope replace each other: issuer, distribution point, whether it is a delta."""
        return self.issuer, self.raw_distribution, self.base_number is not None

    def reason_for(self, certificate: PathCertificate) -> x509.ReasonFlags | None:
        """Why a certificate is on the list, or None if it is not."""
        return self.entries.get(certificate.issuer, {}).get(certificate.serial_number)


def check_supersedes(held: RevocationList, offered: RevocationList) -> None:
    """Check that `offered` may replace `held`: numbers never go back (section 5.2.3).

    The same number is good if it is the same list, and a new one needs a later `thisUpdate`, too.

    Raises:
        CrlNumberError: It goes back.
        ValueError: The two are not of one scope.
    """
    if held.scope != offered.scope:
        raise ValueError("the lists have different issuers or scopes")
    if offered.number < held.number or offered.this_update < held.this_update:
        raise CrlNumberError(
            f"CRL number {offered.number} of {offered.this_update:%Y-%m-%dT%H:%M:%SZ} goes back behind "
            f"{held.number} of {held.this_update:%Y-%m-%dT%H:%M:%SZ}"
        )
    if offered.number == held.number and offered.entries != held.entries:
        raise CrlNumberError(f"two different CRLs have the number {held.number}")


def load_crls(data: bytes) -> tuple[RevocationList, ...]:
    """Take apart the CRLs in a file: PEM or DER, one or several.

    A CRL that is there and cannot be used is returned with its defect.

    Raises:
        ValueError: There is no CRL in it.
    """
    blocks: list[bytes] = []
    if _PEM.search(data):
        for block in _PEM.finditer(data):
            try:
                blocks.append(base64.b64decode(b"".join(block[1].split()), validate=True))
            except ValueError:
                blocks.append(b"")  # a block that is labelled as a CRL and is none
    elif data[:1] == b"\x30":
        try:
            blocks = der.concatenated(data)
        except der.DerError:
            blocks = [data]  # perhaps a CRL that was cut off: it is said why it cannot be used
    if not blocks:
        raise ValueError("no CRL in PEM or DER")
    return tuple(_load(block) for block in blocks)


def _load(encoded: bytes) -> RevocationList:
    crl: x509.CertificateRevocationList | None = None
    label = "a CRL that cannot be read"
    try:
        crl = x509.load_der_x509_crl(encoded)
        label = f"CRL of {printable(shown_name(crl.issuer))}"
        return _take_apart(crl, label)
    except Exception as error:  # noqa: BLE001
        # As for certificates: whatever the parser raises for hostile bytes means that the list is not used.
        shown = printable(str(error) or type(error).__name__)
        return RevocationList(crl=crl, label=label, defect=(f"it cannot be read: {shown}", f"无法解析：{shown}"))


def _take_apart(crl: x509.CertificateRevocationList, label: str) -> RevocationList:
    issuer = canonical_name(crl.issuer)
    raw = _raw_extensions(crl)
    if crl.next_update_utc is None:
        return _unusable(crl, label, issuer, "it does not say when the next one comes", "未注明下次更新时间")
    unknown = [each for each in crl.extensions if each.critical and each.oid not in _PROCESSED]
    numbers = [each for each in crl.extensions if isinstance(each.value, x509.CRLNumber)]
    if not numbers or numbers[0].critical:
        return _unusable(crl, label, issuer, "its number is missing or critical", "编号缺失或被标为关键")
    if unknown:
        oid = unknown[0].oid.dotted_string
        return _unusable(crl, label, issuer, f"its critical extension {oid} is unknown", f"含有未知的关键扩展项 {oid}")
    number, base, distribution, authority_key = 0, None, None, None
    for extension in crl.extensions:
        match extension.value:
            case x509.CRLNumber():
                number = extension.value.crl_number
            case x509.DeltaCRLIndicator():
                base = extension.value.crl_number
            case x509.IssuingDistributionPoint():
                distribution = extension.value
            case x509.AuthorityKeyIdentifier():
                authority_key = extension.value.key_identifier
    label = f"{label}, number {number}"
    indirect = distribution is not None and distribution.indirect_crl
    try:
        entries = _entries(crl, issuer, indirect=indirect, delta=base is not None)
    except _EntryError as error:
        return _unusable(crl, label, issuer, f"an entry {error.args[0]}", f"条目{error.args[1]}")
    return RevocationList(
        crl=crl,
        label=label,
        issuer=issuer,
        number=number,
        base_number=base,
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        distribution=distribution,
        raw_distribution=raw.get(ExtensionOID.ISSUING_DISTRIBUTION_POINT.dotted_string, b""),
        raw_authority=raw.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER.dotted_string, b""),
        authority_key=authority_key,
        entries=entries,
    )


def _unusable(
    crl: x509.CertificateRevocationList, label: str, issuer: CanonicalName, english: str, chinese: str
) -> RevocationList:
    return RevocationList(crl=crl, label=label, issuer=issuer, defect=(english, chinese))


class _EntryError(Exception):
    """An entry spoils the list; what about it, English and Chinese."""


def _entries(
    crl: x509.CertificateRevocationList, issuer: CanonicalName, *, indirect: bool, delta: bool
) -> dict[CanonicalName, dict[int, x509.ReasonFlags]]:
    entries: dict[CanonicalName, dict[int, x509.ReasonFlags]] = {}
    current = issuer
    for entry in crl:
        reason = x509.ReasonFlags.unspecified
        for extension in entry.extensions:
            if extension.critical and extension.oid not in _PROCESSED_IN_ENTRIES:
                raise _EntryError(
                    f"has the unknown critical extension {extension.oid.dotted_string}",
                    f"含有未知的关键扩展项 {extension.oid.dotted_string}",
                )
            match extension.value:
                case x509.CRLReason():
                    reason = extension.value.reason
                case x509.CertificateIssuer():
                    # It holds for the entries after it, too, until another names its own.
                    current = _issuer_of(extension.value)
                    if not indirect:
                        raise _EntryError(
                            "names an issuer although the list is not indirect", "在非间接 CRL 中另指签发者"
                        )
        if reason is x509.ReasonFlags.remove_from_crl and not delta:
            raise _EntryError("is removed although the list is complete", "在完整 CRL 中使用 removeFromCRL")
        entries.setdefault(current, {})[entry.serial_number] = reason
    return entries


def _issuer_of(value: x509.CertificateIssuer) -> CanonicalName:
    names = value.get_values_for_type(x509.DirectoryName)
    if len(names) != 1:
        raise _EntryError("names an issuer that is not one directory name", "所指签发者不是单一目录名")
    return canonical_name(names[0])


def _raw_extensions(crl: x509.CertificateRevocationList) -> dict[str, bytes]:
    """By dotted identifier. Also makes sure that the two signature algorithms in the list agree.

    Raises:
        ValueError: They do not, or the list is not of version 2 although it has extensions.
    """
    signed, outer_algorithm, _ = der.sequence(crl.public_bytes(Encoding.DER))
    fields = der.elements(signed.content)
    has_version = fields[0].tag == der.INTEGER
    if fields[1 if has_version else 0].whole != outer_algorithm.whole:
        raise ValueError("the two signature algorithms in it differ")
    if fields[-1].tag != _EXTENSIONS:
        return {}
    if not has_version or der.integer(fields[0]) != 1:
        raise ValueError("extensions in a list that is not of version 2")
    found = {}
    for extension in der.sequence(fields[-1].content):
        identifier, *_, value = der.elements(extension.content)
        found[der.dotted(identifier)] = value.content
    return found
