"""A CA's revocations, and the CRLs that tell of them.

Rules:
1. A revocation is on disk before its CRL is made; if that fails (token away), the next call of `current` makes it up.
2. CRL numbers only rise, also after the CA was restored from an older copy, and a CRL is on disk before it is shown.
3. A CRL is renewed when half its time has passed, so that those who fetch it have the other half.

Calls block (disk, token): off the event loop with them. Any thread may call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth.issuing import ca_certificates
from ca_auth.issuing.ca_certificates import Reason, RevokedEntry, whole_seconds
from ca_auth.issuing.ca_folder import CaFolder, refused
from ca_auth.issuing.ca_rows import CertificateRow, CrlRow, RevocationRow
from ca_auth.issuing.ca_settings import CaSettings
from ca_auth.issuing.ca_store import CaStore
from ca_auth.issuing.durable_files import PUBLIC, replace_file


class RevocationBook:
    """What one CA has revoked. `IssuingCA.revocations` is the way to it."""

    def __init__(
        self,
        folder: CaFolder,
        settings: CaSettings,
        issuer: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        store: CaStore,
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._issuer = issuer
        self._key = key
        self._store = store
        self._clock = clock

    def revoke(self, rows: list[CertificateRow], reason: Reason, *, by: str, why: str = "") -> list[CertificateRow]:
        """Revoke certificates, for good, and make a CRL; returns those that were not revoked before.

        For `keyCompromise` all that was renewed with them is revoked, too: whoever has the key could have done that.

        Raises:
            SigningKeyError: The revocations are on disk, the CRL could not be made.
        """
        wanted = {row.serial: row for row in rows}
        if reason == "keyCompromise":
            wanted |= {later.serial: later for row in rows for later in self._store.renewed_from(row.serial)}
        at = int(self._clock())
        with self._store.writing():
            new = [
                row
                for row in wanted.values()
                if self._store.add_revocation(
                    RevocationRow(serial=row.serial, at=at, reason=reason, by=by, why=why, not_after=row.not_after)
                )
            ]
        if new:
            self.new()
        return [replace(row, revoked_at=at, reason=reason) for row in new]

    def revoke_unknown(self, certificate: x509.Certificate, reason: Reason, *, by: str, why: str = "") -> bool:
        """Revoke a certificate this CA has signed and forgotten (restored from an older copy); whether that is new.

        Raises:
            CaOperationError: The CA has not signed it.
        """
        try:
            certificate.verify_directly_issued_by(self._issuer)
        except (InvalidSignature, ValueError, TypeError) as error:
            raise refused("ca-revoke", "This CA did not issue that certificate.", "该证书不是本 CA 签发的。") from error
        row = RevocationRow(
            serial=f"{certificate.serial_number:x}",
            at=int(self._clock()),
            reason=reason,
            by=by,
            why=why,
            not_after=int(certificate.not_valid_after_utc.timestamp()),
        )
        with self._store.writing():
            new = self._store.add_revocation(row)
        if new:
            self.new()
        return new

    def merge(self, older: x509.CertificateRevocationList, *, by: str) -> int:
        """Take over what a CRL of this CA lists and the CA, restored from an older copy, has forgotten; returns how many.

        Raises:
            CaOperationError: It is not a CRL of this CA.
        """
        if older.issuer != self._issuer.subject or not older.is_signature_valid(self._key.public_key()):
            raise refused("ca-crl", "The CRL is not of this CA.", "该 CRL 不是本 CA 签发的。")
        try:
            number = ca_certificates.number_of(older)
        except ValueError as error:
            raise refused("ca-crl", "The CRL has no number.", "该 CRL 没有编号。") from error
        with self._store.writing():
            new = 0
            for entry in ca_certificates.entries_of(older):
                serial = f"{entry.serial_number:x}"
                known = self._store.certificate(serial)
                new += self._store.add_revocation(
                    RevocationRow(
                        serial=serial,
                        at=int(entry.at.timestamp()),
                        reason=entry.reason,
                        by=by,
                        why="from an earlier CRL",
                        not_after=known.not_after if known is not None else None,
                    )
                )
        self.new(above=number)
        return new

    def current(self) -> CrlRow:
        """The CRL in force; a new one if there is none, half its time has passed, or a revocation is not on it."""
        latest, now = self._store.latest_crl(), self._clock()
        half = latest.this_update + (latest.next_update - latest.this_update) / 2 if latest is not None else 0.0
        if latest is None or now >= half or self._store.has_unlisted_revocations():
            return self.new()
        self._publish(latest)  # a crash may have come between the store and the file
        return latest

    def new(self, *, next_update: timedelta | None = None, above: int = 0) -> CrlRow:
        """Make a CRL and put it into the folder.

        Args:
            next_update: From now; default: as the settings say.
            above: Its number is above this one as well.

        Raises:
            CaOperationError: `next_update` is not within 30 days.
            SigningKeyError: The key cannot sign now.
        """
        period = timedelta(days=self._settings.crl_days) if next_update is None else next_update
        if not timedelta(0) < period <= timedelta(days=30):
            raise refused("ca-crl", "A CRL is valid for at most 30 days.", "CRL 有效期最长 30 天。")
        with self._store.writing():
            now = datetime.fromtimestamp(self._clock(), UTC)
            latest = self._store.latest_crl()
            number = ca_certificates.next_crl_number(max(above, latest.number if latest is not None else 0), now)
            # A CRL that outlives its issuer would be worth nothing, and would look as if it were.
            end = min(now + period, self._issuer.not_valid_after_utc).replace(microsecond=0)
            made = ca_certificates.crl(
                (
                    RevokedEntry(serial_number=int(row.serial, 16), at=whole_seconds(row.at), reason=row.reason)
                    for row in self._store.revocations_to_list()
                ),
                number=number,
                now=now,
                next_update=end,
                issuer=self._issuer,
                issuer_key=self._key,
            )
            row = CrlRow(
                number=number,
                this_update=int(now.timestamp()),
                next_update=int(end.timestamp()),
                der=made.public_bytes(serialization.Encoding.DER),
            )
            self._store.add_crl(row)
        self._publish(row)
        return row

    def upstream(self) -> bytes:
        """PEM of the CRLs of the CAs above, as the operator imported them; empty if there are none."""
        try:
            return self._folder.upstream_crls.read_bytes()
        except FileNotFoundError:
            return b""

    def _publish(self, row: CrlRow) -> None:
        file = self._folder.crl
        if not file.exists() or file.read_bytes() != row.der:
            replace_file(file, row.der, PUBLIC)
