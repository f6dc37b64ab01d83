"""An issuing CA for tests: in a folder, with a clock that is set, and what callers of it bring along."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca_auth import CaSettings, CertificateRequest, IssuingCA, create_ca
from exchange import subsystem_id
from tests.ci import require_or_skip

PASSPHRASE = b"correct horse battery staple"
TAX = subsystem_id("CN/GOV/11990000000000000X/tax")
POLICE = subsystem_id("CN/GOV/11990000000000001P/police")
REQUEST = CertificateRequest.for_subsystem(TAX, "税务局")
DAY = 86_400.0


@dataclass
class Clock:
    """Unix seconds; stands still until it is moved."""

    now: float = field(default_factory=lambda: float(int(datetime.now(UTC).timestamp())))

    def __call__(self) -> float:
        return self.now

    def pass_days(self, days: float) -> None:
        self.now += days * DAY


def make_ca(
    folder: Path, clock: Clock, *, settings: CaSettings | None = None, permit_dns: tuple[str, ...] = ()
) -> IssuingCA:
    """A new CA with a root of its own."""
    create_ca(
        folder,
        name="Test CA",
        organization="示例市",
        now=datetime.fromtimestamp(clock(), UTC),
        root_passphrase=PASSPHRASE,
        settings=settings,
        permit_dns=permit_dns,
    )
    return IssuingCA.open(folder, clock=clock)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr_for(
    key: ec.EllipticCurvePrivateKey, subject: str = "", algorithm: hashes.SHA224 | hashes.SHA256 | None = None
) -> bytes:
    """A signing request, PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else [])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm or hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run openssl; a machine without it skips the test."""
    try:
        return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        require_or_skip(False, "the openssl command")
        raise


def verdict_of_openssl(ca: IssuingCA, leaf: bytes, folder: Path, *, at: float | None = None) -> str:
    """What `openssl verify` says about a PEM certificate, with every CRL of the chain; `OK` or its error."""
    current = x509.load_der_x509_crl(ca.revocations.current().der).public_bytes(serialization.Encoding.PEM)
    for name, content in {
        "root.pem": pem(ca.root),
        "chain.pem": b"".join(map(pem, ca.chain[:-1])),
        "crls.pem": current + ca.revocations.upstream(),
        "leaf.pem": leaf,
    }.items():
        (folder / name).write_bytes(content)
    done = openssl(
        *("verify", "-x509_strict", "-crl_check_all", "-purpose", "sslclient"),
        *(("-attime", str(int(at))) if at is not None else ()),
        *("-CAfile", folder / "root.pem", "-untrusted", folder / "chain.pem", "-CRLfile", folder / "crls.pem"),
        folder / "leaf.pem",
    )
    return "OK" if done.returncode == 0 else done.stderr + done.stdout


def hours(count: float) -> timedelta:
    return timedelta(hours=count)
