"""Keys and certificates as files: what fits together is loaded, anything else is told with the file's name."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from exchange import (
    IdentityError,
    bus_tls,
    certificate_uri,
    fingerprint_of,
    load_identity,
    load_sealing_keys,
    sealing_key,
)
from tests.conftest import Pki

PEM = serialization.Encoding.PEM
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | dsa.DSAPrivateKey


def certificate(key: Key, *, uri: str | None = "datong:CN/GOV/1/a") -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if uri is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), False)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def pem(key: Key, password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, protection)


def write(folder: Path, cert: bytes, key: bytes) -> tuple[Path, Path]:
    (folder / "one.crt").write_bytes(cert)
    (folder / "one.key").write_bytes(key)
    return folder / "one.crt", folder / "one.key"


def test_a_department_is_known_by_the_uri_in_its_certificate(pki: Pki) -> None:
    identity = load_identity(pki.certificate("tax"), pki.key("tax"))
    assert identity.fingerprint == pki.issued["tax"].fingerprint == fingerprint_of(identity.certificate)
    assert identity.uri == certificate_uri(pki.certificate("tax"))
    assert identity.uri.startswith("datong:CN/GOV/")
    assert identity.uri.endswith("/tax")


@pytest.mark.parametrize(
    "make",
    [
        ed25519.Ed25519PrivateKey.generate,
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["ed25519", "p256", "p384", "p521"],
)
def test_keys_that_seal_are_loaded(tmp_path: Path, make: Callable[[], Key]) -> None:
    key = make()
    cert = certificate(key).public_bytes(PEM)
    other = certificate(ec.generate_private_key(ec.SECP256R1())).public_bytes(PEM)
    identity = load_identity(*write(tmp_path, cert + other, pem(key)))
    assert identity.key.public_key() == key.public_key()
    assert len(load_sealing_keys(tmp_path / "one.crt")) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: dsa.generate_private_key(2048),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    ],
    ids=["rsa", "dsa", "secp256k1", "brainpool"],
)
def test_keys_of_another_kind_are_refused(tmp_path: Path, make: Callable[[], Key]) -> None:
    key = make()
    cert = certificate(key)
    files = write(tmp_path, cert.public_bytes(PEM), pem(key))
    for load in (lambda: sealing_key(cert), lambda: load_identity(*files), lambda: load_sealing_keys(files[0])):
        with pytest.raises(IdentityError, match="only keys on NIST curves and Ed25519 keys seal"):
            load()


def test_what_cannot_be_loaded_is_told_with_the_files_name(tmp_path: Path) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    cert = certificate(key).public_bytes(PEM)
    der = certificate(key).public_bytes(serialization.Encoding.DER)
    wrong: dict[str, tuple[bytes, bytes, str]] = {
        "no PEM certificate": (b"text", pem(key), "one.crt"),
        "DER": (der, pem(key), "one.crt"),
        "an empty certificate file": (b"", pem(key), "one.crt"),
        "a torn certificate": (cert[:200] + cert[-26:], pem(key), "one.crt"),
        "no PEM key": (cert, b"text", "one.key"),
        "a certificate as key": (cert, cert, "one.key"),
        "a key with a password": (cert, pem(key, b"secret"), "one.key"),
        "another's key": (cert, pem(other), "one.key is not the key of"),
        "no name in it": (certificate(key, uri=None).public_bytes(PEM), pem(key), "one.crt has no URI"),
    }
    for cert_bytes, key_bytes, told in wrong.values():
        files = write(tmp_path, cert_bytes, key_bytes)
        with pytest.raises(IdentityError, match=told):
            load_identity(*files)
    files[0].unlink()
    for load in (lambda: load_identity(*files), lambda: load_sealing_keys(files[0]), lambda: certificate_uri(files[0])):
        with pytest.raises(IdentityError, match=r"one\.crt"):
            load()


def test_a_certificate_with_broken_extensions_is_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    der = certificate(key, uri="datong:x").public_bytes(serialization.Encoding.DER)
    broken = der.replace(b"\x86\x08datong:x", b"\x96\x08datong:x")  # a name of no kind there is
    assert broken != der
    text = ssl.DER_cert_to_PEM_cert(broken).encode()
    with pytest.raises(IdentityError, match=r"one\.crt"):
        load_identity(*write(tmp_path, text, pem(key)))


def test_tls_towards_the_bus_is_1_3_and_checks_the_server(pki: Pki) -> None:
    context = pki.bus_tls("tax")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_tls_files_that_cannot_be_used_are_told(pki: Pki, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    protected = write(tmp_path, certificate(key).public_bytes(PEM), pem(key, b"secret"))
    for files in (
        (pki.certificate("tax"), pki.key("civil"), pki.trust_anchors),
        (pki.certificate("tax"), pki.key("tax"), tmp_path / "absent.pem"),
        (tmp_path / "absent.crt", pki.key("tax"), pki.trust_anchors),
        (*protected, pki.trust_anchors),  # without asking for the password on the terminal
    ):
        with pytest.raises(IdentityError):
            bus_tls(*files)
