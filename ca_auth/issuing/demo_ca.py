"""A certificate authority for demonstrations and tests: keys in files, no ceremony, no revocation.

Never for production. Files are PEM, keys PKCS #8; each is written whole and flushed before it gets its name, the key
before the certificate.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth.edge.client_cert import fingerprint_of
from ca_auth.issuing.issuance import CertificateRequest, leaf_certificate, root_certificate, says

_ROOT = "root"
_BUNDLE = "ca.pem"
_BACKDATED = timedelta(minutes=5)
"""How far validity reaches back: clocks of callers differ a little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path

    def x509(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())

    @property
    def der(self) -> bytes:
        return self.x509().public_bytes(serialization.Encoding.DER)

    @property
    def fingerprint(self) -> str:
        """Lower-case hex SHA-256 of the DER."""
        return fingerprint_of(self.der)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DemoCA:
    """A root that issues leaf certificates into its own folder. Use `create`, `load` or `open`."""

    def __init__(
        self, folder: Path, root: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Callable[[], datetime]
    ) -> None:
        self._folder = folder
        self._root = root
        self._key = key
        self._clock = clock

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        name: str = "Datong demo root CA",
        days: int = 3650,
        clock: Callable[[], datetime] = _utc_now,
    ) -> Self:
        """Make a new root in `folder` (created if missing).

        Raises:
            FileExistsError: There is a root already.
        """
        folder.mkdir(parents=True, exist_ok=True)
        certificate_file, key_file = _files(folder, _ROOT)
        if certificate_file.exists():
            raise FileExistsError(
                f"{certificate_file} exists: a second root would orphan every certificate of the first"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        now = clock()
        root = root_certificate(name, key, now - _BACKDATED, now + timedelta(days=days))
        _write(key_file, _pem_of_key(key), 0o600)
        _write(certificate_file, root.public_bytes(serialization.Encoding.PEM), 0o644)
        _write(folder / _BUNDLE, root.public_bytes(serialization.Encoding.PEM), 0o644)
        return cls(folder, root, key, clock)

    @classmethod
    def load(cls, folder: Path, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """Read the root in `folder`.

        Raises:
            OSError, ValueError: A file is missing or damaged, or the key is not that of the certificate.
        """
        certificate_file, key_file = _files(folder, _ROOT)
        root = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = _read_key(key_file)
        if key.public_key() != root.public_key():
            raise ValueError(f"{key_file} is not the key of {certificate_file}")
        _write(folder / _BUNDLE, root.public_bytes(serialization.Encoding.PEM), 0o644)
        return cls(folder, root, key, clock)

    @classmethod
    def open(cls, folder: Path, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """`load`, or `create` when there is no root yet."""
        if _files(folder, _ROOT)[0].exists():
            return cls.load(folder, clock=clock)
        return cls.create(folder, clock=clock)

    @property
    def bundle(self) -> Path:
        """The trust anchors, PEM: for `curl --cacert` and for every context and authenticator."""
        return self._folder / _BUNDLE

    @property
    def trust_anchors(self) -> bytes:
        """The content of `bundle`."""
        return self._root.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """Lower-case hex SHA-256 of the root's DER."""
        return fingerprint_of(self._root.public_bytes(serialization.Encoding.DER))

    def issue(
        self,
        name: str,
        request: CertificateRequest,
        *,
        days: float = 365,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> IssuedCertificate:
        """Make a new key and certificate, `<name>.key` and `<name>.crt`, over any older ones.

        `not_before` and `not_after` (aware) override `days`, for instance for a certificate that has already expired.
        """
        now = self._clock()
        key = ec.generate_private_key(ec.SECP256R1())
        begin = not_before if not_before is not None else now - _BACKDATED
        end = not_after if not_after is not None else now + timedelta(days=days)
        begin = min(begin, end - timedelta(seconds=1))
        certificate = leaf_certificate(request, key.public_key(), begin, end, issuer=self._root, issuer_key=self._key)
        issued = self._place(name)
        _write(issued.key, _pem_of_key(key), 0o600)
        _write(issued.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return issued

    def ensure(self, name: str, request: CertificateRequest, *, days: float = 365) -> IssuedCertificate:
        """Return the certificate called `name`; issue it if it is missing, damaged, of another CA, for another request
        or within a tenth of its lifetime of its end. Doing it again changes nothing."""
        issued = self._place(name)
        return issued if self._is_current(issued, request) else self.issue(name, request, days=days)

    def _place(self, name: str) -> IssuedCertificate:
        if name == _ROOT or not name or "/" in name or name.startswith("."):
            raise ValueError(f"not a name for a certificate: {name!r}")
        certificate, key = _files(self._folder, name)
        return IssuedCertificate(certificate=certificate, key=key)

    def _is_current(self, issued: IssuedCertificate, request: CertificateRequest) -> bool:
        try:
            certificate = issued.x509()
            key = _read_key(issued.key)
            certificate.verify_directly_issued_by(self._root)
            begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            return (
                key.public_key() == certificate.public_key()
                and says(certificate, request)
                and begin <= self._clock() < end - (end - begin) / 10
            )
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.crt", folder / f"{name}.key"


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"not an elliptic-curve key: {file}")
    return key


def _write(file: Path, content: bytes, mode: int) -> None:
    """Replace `file` in one step; readable by nobody else, even for a moment, where `mode` says so."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    draft.replace(file)
