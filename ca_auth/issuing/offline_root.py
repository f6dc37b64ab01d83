"""The root of our own CA: a key that is used a few times a year, on a machine without a network.

Its state is what it has signed: for a CRL the one before is handed in, since there is no database to remember it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth.issuing import ca_certificates
from ca_auth.issuing.ca_certificates import Reason, RevokedEntry
from ca_auth.issuing.ca_folder import read_certificates, refused
from ca_auth.issuing.key_provider import read_key


class OfflineRoot:
    """A root certificate and its key, opened."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def open(cls, certificate: Path, key: Path, passphrase: bytes | None) -> OfflineRoot:
        """Read both; raises CaOperationError if they cannot be opened or do not belong together."""
        root = read_certificates(certificate)[0]
        opened = read_key(key, passphrase)
        if opened.public_key() != root.public_key():
            raise refused("ca-key", f"{key} is not the key of {certificate}.", f"{key} 不是 {certificate} 的密钥。")
        return cls(root, opened)

    def sign(
        self,
        request: x509.CertificateSigningRequest,
        now: datetime,
        days: float,
        *,
        permit_dns: tuple[str, ...] = (),
        crl_url: str = "",
    ) -> x509.Certificate:
        """A certificate for the issuing CA that made `request`, as `ca_certificates.issuing_ca` describes it.

        Raises:
            CaOperationError: The request is not acceptable.
        """
        try:
            return ca_certificates.issuing_ca(
                request,
                now,
                days,
                root=self.certificate,
                root_key=self._key,
                permit_dns=permit_dns,
                crl_url=crl_url,
            )
        except ValueError as error:
            raise refused(
                "ca-request", f"The request cannot be signed: {error}.", f"无法签发该请求：{error}。"
            ) from error

    def crl(
        self,
        previous: x509.CertificateRevocationList | None,
        revoke: list[tuple[x509.Certificate, Reason]],
        now: datetime,
        days: float,
    ) -> x509.CertificateRevocationList:
        """The root's next CRL: what `previous` lists, and what is revoked now.

        Args:
            previous: The last one made; None only for the very first.
            days: Until nextUpdate, at most 400: somebody has to take the key out again before that.

        Raises:
            CaOperationError: `previous` or a certificate is not of this root, or `days` is out of bounds.
        """
        if not 0 < days <= 400:
            raise refused("ca-crl", "A root's CRL is valid for at most 400 days.", "根 CA 的 CRL 有效期最长 400 天。")
        entries: list[RevokedEntry] = []
        number = 0
        if previous is not None:
            key = self.certificate.public_key()
            if (
                not isinstance(key, ec.EllipticCurvePublicKey)
                or previous.issuer != self.certificate.subject
                or not previous.is_signature_valid(key)
            ):
                raise refused("ca-crl", "The previous CRL is not of this root.", "前一份 CRL 不是该根 CA 签发的。")
            entries, number = ca_certificates.entries_of(previous), ca_certificates.number_of(previous)
        listed = {entry.serial_number for entry in entries}
        for certificate, reason in revoke:
            try:
                certificate.verify_directly_issued_by(self.certificate)
            except (InvalidSignature, ValueError, TypeError) as error:
                named = certificate.subject.rfc4514_string()
                raise refused(
                    "ca-revoke", f"The root did not issue {named}.", f"{named} 不是该根 CA 签发的。"
                ) from error
            if certificate.serial_number not in listed:
                at = now.replace(microsecond=0)
                entries.append(RevokedEntry(serial_number=certificate.serial_number, at=at, reason=reason))
        return ca_certificates.crl(
            entries,
            number=ca_certificates.next_crl_number(number, now),
            now=now,
            next_update=min(now + timedelta(days=days), self.certificate.not_valid_after_utc),
            issuer=self.certificate,
            issuer_key=self._key,
        )
