"""Which subsystem a certificate names. Pure.

Identity stands in a URI SAN: `datong:<member>/<subsystem>`, or `datong:<member>`, which may act as any of the member's.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from exchange import IdentityError, SubsystemId, fingerprint_of, member_of, sealing_key
from registry.records import CERTIFICATE_USES, Certificate, CertificateUse
from registry.rules import unprocessable

URI_PREFIX = "datong:"
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def read_certificate(data: bytes, subsystem: SubsystemId, *, use: CertificateUse, now: datetime) -> Certificate:
    """Return the record of a certificate (PEM or DER; the first of a PEM chain) that speaks for `subsystem`.

    Checks identity and dates; not who issued it, nor whether it is revoked: that is asked at every use.

    Raises:
        UnprocessableError: Not a certificate, a CA's, of somebody else, or not valid now.
    """
    if use not in CERTIFICATE_USES:
        uses = ", ".join(CERTIFICATE_USES)
        raise unprocessable("use", f"A certificate's use is one of {uses}.", f"证书用途应为 {uses} 之一。", "/use")
    try:
        pem = b"-----BEGIN" in data
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        extensions = certificate.extensions
    except ValueError as error:
        raise unprocessable(
            "certificate",
            "This is not an X.509 certificate in PEM or DER.",
            "不是 PEM 或 DER 格式的 X.509 证书。",
            "/certificate",
        ) from error
    constraints = _extension(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise unprocessable(
            "certificate",
            "This is a CA's certificate, not a subsystem's.",
            "这是 CA 证书，不是子系统证书。",
            "/certificate",
        )
    names = _extension(extensions, x509.SubjectAlternativeName)
    uris = set(names.get_values_for_type(x509.UniformResourceIdentifier)) if names is not None else set()
    if not uris & {URI_PREFIX + subsystem, URI_PREFIX + member_of(subsystem)}:
        named = ", ".join(sorted(uris)) or "nobody"
        raise unprocessable(
            "certificate-identity",
            f"The certificate names {named}, not {URI_PREFIX}{subsystem}.",
            f"证书标识为 {named}，而不是 {URI_PREFIX}{subsystem}。",
            "/certificate",
        )
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        begin, end = certificate.not_valid_before_utc.isoformat(), certificate.not_valid_after_utc.isoformat()
        raise unprocessable(
            "certificate-validity",
            f"The certificate is valid from {begin} to {end}, not now.",
            f"证书有效期为 {begin} 至 {end}，当前不在有效期内。",
            "/certificate",
        )
    if use != "client":
        try:
            sealing_key(certificate)
        except IdentityError as error:
            raise unprocessable(
                "certificate-key",
                f"The certificate's key cannot seal: {error}.",
                f"证书密钥不能用于签封：{error}。",
                "/certificate",
            ) from error
    return Certificate(
        fingerprint=fingerprint_of(certificate),
        subsystem=subsystem,
        der=certificate.public_bytes(Encoding.DER),
        use=use,
    )


def _extension(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
