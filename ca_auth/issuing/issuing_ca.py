"""An issuing CA at work: certificates, one-time codes, renewals. Revocations and CRLs are in `revocation_book`.

Rules:
1. Who a certificate is for comes from the operator (`issue`, `new_code`) or from the certificate it renews, never from the
   signing request, of which only the proven public key is taken.
2. A certificate is on disk before anyone gets it. Asking again with the same code or the same old certificate, and the same
   new key, gives the same certificate: an answer that got lost can be asked for again.
3. A code is good once, for one key. Wrong, unknown and void codes get one and the same answer.
4. No certificate outlives the CA: validity ends with the issuing certificate at the latest.

Calls block (disk, token): off the event loop with them. Any thread may call.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth.edge.client_cert import fingerprint_of
from ca_auth.issuing.ca_certificates import BACKDATED, whole_seconds
from ca_auth.issuing.ca_errors import CaOperationError, EnrolmentRateError, EnrolmentRefusedError
from ca_auth.issuing.ca_folder import CaFolder, refused
from ca_auth.issuing.ca_limits import granted_days
from ca_auth.issuing.ca_rows import CertificateRow, CodeRow
from ca_auth.issuing.ca_settings import CaSettings
from ca_auth.issuing.ca_store import CaStore
from ca_auth.issuing.csr import check_key, key_hash, read_request
from ca_auth.issuing.enrolment_code import EnrolmentCode
from ca_auth.issuing.issuance import CertificateRequest, LeafKey, leaf_certificate
from ca_auth.issuing.revocation_book import RevocationBook
from exchange import UnprocessableError

_DAY: Final = 86_400
_RENEWALS_A_DAY: Final = 5
"""Of one certificate: more is a client gone wild or a stolen key, and neither may fill the disk."""

events = structlog.get_logger("datong.ca")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that is safe on disk, and what leads from it to the root."""

    row: CertificateRow
    chain: tuple[x509.Certificate, ...]
    """The issuing CA and those above it, without the root."""

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.row.der)

    def pem(self) -> bytes:
        """The certificate, then its chain, as servers and clients load them."""
        return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (self.certificate, *self.chain))


class IssuingCA:
    """One CA. Use `open`, and `close` it."""

    def __init__(
        self,
        folder: CaFolder,
        settings: CaSettings,
        chain: tuple[x509.Certificate, ...],
        key: ec.EllipticCurvePrivateKey,
        store: CaStore,
        clock: Callable[[], float],
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.chain = chain
        """The issuing CA, those above it, the root last."""
        self._key = key
        self._store = store
        self._clock = clock
        self.revocations = RevocationBook(folder, settings, chain[0], key, store, clock)

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """Open the CA in a folder that `ca_setup.create` made.

        Raises:
            CaOperationError: It is none, it is not complete, its key cannot be used.
        """
        folder = CaFolder(path)
        settings = folder.settings()
        chain = folder.chain()
        key = folder.signing_key(settings)
        if key.public_key() != chain[0].public_key():
            raise refused("ca-key", "issuing.crt is not for the CA's key.", "issuing.crt 与 CA 密钥不符。")
        try:
            store = CaStore(folder.store)
        except (OSError, ValueError) as error:
            raise refused("ca-folder", f"{error}.", f"{error}。") from error
        return cls(folder, settings, chain, key, store, clock)

    def close(self) -> None:
        self._store.close()

    def now(self) -> float:
        """The CA's clock, Unix seconds."""
        return self._clock()

    @property
    def certificate(self) -> x509.Certificate:
        """The issuing CA's own."""
        return self.chain[0]

    @property
    def root(self) -> x509.Certificate:
        return self.chain[-1]

    @property
    def root_fingerprint(self) -> str:
        """What departments pin: lower-case hex SHA-256 of the root's DER."""
        return fingerprint_of(self.root.public_bytes(serialization.Encoding.DER))

    @property
    def store(self) -> CaStore:
        """For looking things up."""
        return self._store

    # Issuing

    def issue(
        self, request: CertificateRequest, key: LeafKey, *, days: float | None = None, by: str, why: str = ""
    ) -> Issued:
        """Certify `key` for what the operator says.

        Raises:
            CaOperationError: The request is outside of what this CA may do.
            UnprocessableError: The key is not one that is certified (rules `csr-key`, `csr-key-compromised`).
        """
        granted = granted_days(request, days, self.settings, self.certificate)
        self._check_key(key)
        with self._store.writing():
            return self._issued(self._sign(request, key, granted, by=by, why=why))

    def new_code(
        self,
        request: CertificateRequest,
        *,
        days: float | None = None,
        valid_for: timedelta = timedelta(hours=24),
        by: str,
        why: str = "",
    ) -> tuple[str, CodeRow]:
        """A one-time code for a certificate that says what `request` says; the text is not kept anywhere.

        Raises:
            CaOperationError: The request is outside of what this CA may do.
        """
        granted = granted_days(request, days, self.settings, self.certificate)
        if not timedelta(0) < valid_for <= timedelta(days=30):
            raise refused("ca-request", "A code is valid for at most 30 days.", "注册码有效期最长 30 天。")
        code, now = EnrolmentCode.new(), self._clock()
        row = CodeRow(
            name=code.name,
            secret_hash=code.secret_hash,
            request=request,
            holder=holder_of(request),
            days=granted,
            created_at=now,
            expires_at=now + valid_for.total_seconds(),
            by=by,
            why=why,
        )
        with self._store.writing():
            self._store.add_code(row)
        return code.text(), row

    def enrol(self, code_text: str, csr: bytes) -> Issued:
        """Give the certificate that a code entitles to, for the key of a signing request.

        Raises:
            EnrolmentRefusedError: With rule `enrolment-code` (no such code, or void), `enrolment-code-expired`,
                `enrolment-code-used` or `certificate-revoked` (the one it was spent on).
            UnprocessableError: The signing request is not acceptable (`ca_auth.issuing.csr`). The code stays good.
        """
        code = EnrolmentCode.parse(code_text)
        known = self._store.code(code.name) if code is not None else None
        # Compared also when there is nothing to compare with: an answer must not tell by its time either.
        if code is None or not code.opens(known.secret_hash if known is not None else None):
            raise _no_such_code()
        key = read_request(csr)
        self._check_key(key)
        wanted = key_hash(key)
        with self._store.writing():
            row = self._store.code(code.name)
            if row is None:
                raise _no_such_code()
            spent = row.key_hash
            if spent is None:
                self._check_open(row)
                certificate = self._sign(row.request, key, row.days, by=row.by, why=row.why, code=row.name)
                self._store.spend_code(row.name, wanted, self._clock())
                return self._issued(certificate)
            if spent != wanted:
                self._store.count_refused(row.name)
        if spent != wanted:
            # Whoever has the code a second time is not who used it first, or lost the key: somebody should look.
            events.error("ca.code.reused", code=row.name, holder=row.holder, first_used_at=row.used_at)
            raise EnrolmentRefusedError(
                "enrolment-code-used",
                problem="The code was used for another key. If that was not you, tell the operator of the CA at once.",
                problem_zh="该注册码已用于另一密钥。如非本人操作，请立即通知 CA 运维人员。",
            )
        return self._again(self._store.certificate_by_code(row.name))

    def renew(self, der: bytes, csr: bytes) -> Issued:
        """Give the holder of a certificate the next one, for a new key; the caller has seen proof of the old key (mTLS).

        Raises:
            EnrolmentRefusedError: With rule `renewal-unknown` (not from this CA, or from before it was restored),
                `certificate-revoked`, `certificate-expired`, or `renewal-not-permitted`.
            EnrolmentRateError: It was renewed five times within a day.
            UnprocessableError: The signing request is not acceptable, or its key is the old one (`csr-key-unchanged`).
        """
        now = self._clock()
        old = self._store.certificate_by_fingerprint(fingerprint_of(der))
        if old is None:
            raise EnrolmentRefusedError(
                "renewal-unknown",
                problem="The certificate is not on the books of this CA, so it cannot be renewed here.",
                problem_zh="本 CA 没有该证书的签发记录，无法在此续期。",
            )
        self._check_alive(old, now)
        key = read_request(csr)
        self._check_key(key)
        wanted = key_hash(key)
        if wanted == old.key_hash:
            raise UnprocessableError(
                "csr-key-unchanged",
                problem="A renewal needs a new key: this one is as old as the certificate.",
                problem_zh="续期须使用新密钥，不能沿用原证书的密钥。",
            )
        try:
            days = granted_days(old.request, min(old.days, self.settings.max_days), self.settings, self.certificate)
        except CaOperationError as error:
            raise EnrolmentRefusedError(
                "renewal-not-permitted",
                problem="This CA does not issue for the certificate's holder any more.",
                problem_zh="本 CA 不再为该证书的持有者签发证书。",
            ) from error
        with self._store.writing():
            present = self._store.certificate(old.serial)
            self._check_alive(present or old, now)  # it may have been revoked in between
            renewed = self._store.renewal_of(old.serial, wanted)
            if renewed is not None:
                return self._again(renewed)
            if self._store.renewals_since(old.serial, now - _DAY) >= _RENEWALS_A_DAY:
                events.error("ca.renewals.too_many", serial=old.serial, holder=old.holder)
                raise EnrolmentRateError(
                    "renewal-rate",
                    problem=f"The certificate was renewed {_RENEWALS_A_DAY} times within a day.",
                    problem_zh=f"该证书一天内已续期 {_RENEWALS_A_DAY} 次。",
                )
            row = self._sign(old.request, key, days, by=f"renewal of {old.serial}", why="", renews=old.serial)
            return self._issued(row)

    # Inside

    def _check_key(self, key: LeafKey) -> None:
        check_key(key)
        if key == self.certificate.public_key() or self._store.key_is_compromised(key_hash(key)):
            raise UnprocessableError(
                "csr-key-compromised",
                problem="This key must not be used: it is known to others, or it is the CA's own.",
                problem_zh="该密钥不得使用：已被泄露，或为 CA 自身的密钥。",
            )

    def _check_open(self, row: CodeRow) -> None:
        state = row.state(self._clock())
        if state == "expired":
            raise EnrolmentRefusedError(
                "enrolment-code-expired",
                problem=f"The code was good until {_moment(row.expires_at)}.",
                problem_zh=f"注册码已于 {_moment(row.expires_at)} 失效。",
            )
        if state == "void":
            raise _no_such_code()

    def _check_alive(self, row: CertificateRow, now: float) -> None:
        state = row.state(now)
        if state == "revoked":
            raise EnrolmentRefusedError(
                "certificate-revoked", problem="The certificate is revoked.", problem_zh="该证书已被吊销。"
            )
        if state != "valid":
            raise EnrolmentRefusedError(
                "certificate-expired",
                problem=f"The certificate is valid from {_moment(row.not_before)} to {_moment(row.not_after)}.",
                problem_zh=f"该证书有效期为 {_moment(row.not_before)} 至 {_moment(row.not_after)}。",
            )

    def _again(self, row: CertificateRow | None) -> Issued:
        if row is None:
            raise RuntimeError("a spent code has no certificate")  # they are written together
        self._check_alive(row, self._clock())
        return self._issued(row)

    def _sign(
        self,
        request: CertificateRequest,
        key: LeafKey,
        days: float,
        *,
        by: str,
        why: str,
        code: str | None = None,
        renews: str | None = None,
    ) -> CertificateRow:
        now = self._clock()
        begin = max(whole_seconds(now) - BACKDATED, self.certificate.not_valid_before_utc)
        end = min(whole_seconds(now + days * _DAY), self.certificate.not_valid_after_utc)
        if end <= whole_seconds(now):
            raise refused("ca-expired", "The issuing CA's own certificate has expired.", "签发 CA 自身的证书已过期。")
        certificate = leaf_certificate(
            request,
            key,
            begin,
            end,
            issuer=self.certificate,
            issuer_key=self._key,
            serial_number=secrets.randbits(128) or 1,  # zero is no serial number; it will not be drawn
            crl_urls=(self.settings.crl_url,) if self.settings.crl_url else (),
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        row = CertificateRow(
            serial=f"{certificate.serial_number:x}",
            fingerprint=fingerprint_of(der),
            subject=", ".join(filter(None, (request.common_name, request.organization))),
            holder=holder_of(request),
            not_before=int(begin.timestamp()),
            not_after=int(end.timestamp()),
            der=der,
            key_hash=key_hash(key),
            request=request,
            days=days,
            issued_at=now,
            by=by,
            why=why,
            code=code,
            renews=renews,
        )
        self._store.add_certificate(row)
        return row

    def _issued(self, row: CertificateRow) -> Issued:
        return Issued(row=row, chain=self.chain[:-1])


def holder_of(request: CertificateRequest) -> str:
    """What the CA's books call the holder: the identity, a server's first name, a person's name."""
    if request.person_number is not None:
        return request.common_name
    return request.identity or (request.server_names[0] if request.server_names else request.common_name)


def _no_such_code() -> EnrolmentRefusedError:
    return EnrolmentRefusedError(
        "enrolment-code", problem="This code entitles to no certificate.", problem_zh="该注册码无效。"
    )


def _moment(unix: float) -> str:
    return whole_seconds(unix).strftime("%Y-%m-%dT%H:%M:%SZ")
