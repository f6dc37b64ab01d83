"""Whether certificates were not revoked at some moment, by the lists and answers in a receipt: with `cryptography` alone.

Rules:
1. News counts if who issued the certificate signed it, or for OCSP a responder that the issuer named, and if it held at the
   moment asked about: issued by then, and not run out.
2. That a certificate stands there as revoked counts, whenever the news ran out: a revocation is for ever. Only a revocation
   after the moment does not touch it.
3. An OCSP response may hold one certificate, the responder's: what no check covers is not let in.

Who is let in at the door is decided elsewhere (`ca_auth`), with all that RFC 5280 and 6960 allow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from exchange.receipts.certificate_path import UNREADABLE, CertificateError


class RevocationEvidenceError(ValueError):
    """Bytes are neither a CRL nor an OCSP response."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What cleared a certificate: the place of the news among those given, and until when it held; None if it is not said."""

    place: int
    until: datetime | None


class RevocationNews:
    """CRLs and OCSP responses, taken apart once.

    Raises:
        RevocationEvidenceError: One is neither.
    """

    def __init__(self, news: Sequence[bytes]) -> None:
        self._news = [_load(der) for der in news]

    def __len__(self) -> int:
        return len(self._news)

    def cleared(self, certificate: x509.Certificate, issuer: x509.Certificate, at: datetime) -> Cleared | None:
        """What shows that a certificate was not revoked at the moment `at`; None if nothing here does.

        Raises:
            CertificateError: It was revoked then, or news about it was not signed by its issuer.
        """
        found = None
        for place, news in enumerate(self._news):
            try:
                if isinstance(news, x509.CertificateRevocationList):
                    held = _by_list(news, certificate, issuer, at)
                else:
                    held = _by_answer(news, certificate, issuer, at)
            except CertificateError:
                raise
            except (ValueError, *UNREADABLE) as error:  # its parts are read when they are asked for
                raise CertificateError("news of revocations cannot be read", "吊销信息无法读取") from error
            if held is not None and found is None:
                found = Cleared(place, held if held != _FOREVER else None)
        return found


_ENUMERATED = 0x0A
_FOREVER = datetime.max.replace(tzinfo=UTC)


def _load(der: bytes) -> x509.CertificateRevocationList | ocsp.OCSPResponse:
    loaded: x509.CertificateRevocationList | ocsp.OCSPResponse
    try:
        # An OCSP response begins with its status, an ENUMERATED; a CRL with what is signed, a SEQUENCE.
        loaded = ocsp.load_der_ocsp_response(der) if _first_tag(der) == _ENUMERATED else x509.load_der_x509_crl(der)
        if loaded.public_bytes(Encoding.DER) != der:
            raise ValueError("not in canonical form")
    except (ValueError, *UNREADABLE) as error:
        raise RevocationEvidenceError("neither a CRL nor an OCSP response") from error
    return loaded


def _first_tag(der: bytes) -> int:
    """The tag of the first member of a SEQUENCE."""
    if len(der) < 4 or der[0] != 0x30:
        raise ValueError("not a SEQUENCE")
    header = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    return der[header] if header < len(der) else 0


def _by_list(
    news: x509.CertificateRevocationList, certificate: x509.Certificate, issuer: x509.Certificate, at: datetime
) -> datetime | None:
    if news.issuer != certificate.issuer or _speaks_of_others(news, certificate):
        return None
    key = issuer.public_key()
    try:
        if not news.is_signature_valid(key):  # type: ignore[arg-type]
            raise InvalidSignature
    except (InvalidSignature, TypeError, *UNREADABLE) as error:
        raise CertificateError("a CRL was not signed by its issuer", "CRL 并非由签发者签名") from error
    if news.last_update_utc > at:
        return None
    entry = news.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is not None:
        _refuse_revoked(entry.revocation_date_utc, at)
    until = news.next_update_utc or _FOREVER
    return until if at <= until else None


def _speaks_of_others(news: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    """Whether a list is of another scope than this certificate, or not complete: then it says nothing of it."""
    try:
        if any(isinstance(each.value, x509.DeltaCRLIndicator) for each in news.extensions):
            return True
        scope = news.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return False
    try:
        ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        ca = False
    return bool(
        scope.indirect_crl
        or scope.only_some_reasons is not None
        or scope.only_contains_attribute_certs
        or (scope.only_contains_ca_certs and not ca)
        or (scope.only_contains_user_certs and ca)
    )


def _by_answer(
    news: ocsp.OCSPResponse, certificate: x509.Certificate, issuer: x509.Certificate, at: datetime
) -> datetime | None:
    if news.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return None
    for single in news.responses:
        if single.serial_number != certificate.serial_number:
            continue
        digest = hashlib.new(single.hash_algorithm.name, certificate.issuer.public_bytes()).digest()
        if single.issuer_name_hash != digest:
            continue
        _check_signed(news, issuer)
        if single.this_update_utc > at:
            return None
        if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
            assert single.revocation_time_utc is not None
            _refuse_revoked(single.revocation_time_utc, at)
        elif single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
            return None
        until = single.next_update_utc or _FOREVER
        return until if at <= until else None
    return None


def _refuse_revoked(when: datetime, at: datetime) -> None:
    if when <= at:
        raise CertificateError(
            f"the certificate was revoked at {when.isoformat()}", f"证书已于 {when.isoformat()} 吊销"
        )


def _check_signed(news: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    problem = CertificateError(
        "an OCSP response was not signed by a responder of the issuer", "OCSP 应答的签名者无权应答"
    )
    responder = issuer
    if len(news.certificates) > 1:
        raise problem
    if news.certificates and news.certificates[0] != issuer:
        responder = news.certificates[0]
        try:
            responder.verify_directly_issued_by(issuer)
            uses = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound, *UNREADABLE) as error:
            raise problem from error
        lived = responder.not_valid_before_utc <= news.produced_at_utc <= responder.not_valid_after_utc
        if ExtendedKeyUsageOID.OCSP_SIGNING not in uses or not lived:
            raise problem
    key, algorithm = responder.public_key(), news.signature_hash_algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(news.signature, news.tbs_response_bytes, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(news.signature, news.tbs_response_bytes, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(news.signature, news.tbs_response_bytes)
        else:
            raise InvalidSignature
    except InvalidSignature as error:
        raise problem from error


def speaks_of(der: bytes, certificate: x509.Certificate) -> bool:
    """Whether kept news is of this certificate's scope, so that a receipt need not hold what says nothing of it."""
    try:
        news = _load(der)
    except RevocationEvidenceError:
        return False
    return isinstance(news, ocsp.OCSPResponse) or not _speaks_of_others(news, certificate)


def names_of(certificate: x509.Certificate) -> list[str]:
    """Under which names news about a certificate is kept (`log_revocations.about`), those of OCSP responses first."""
    issuer = certificate.issuer.public_bytes()
    serial = f"{certificate.serial_number:x}"
    hashed = [hashlib.sha1(issuer, usedforsecurity=False).hexdigest(), hashlib.sha256(issuer).hexdigest()]
    return [f"{each}:{serial}" for each in hashed] + [hashed[1]]
