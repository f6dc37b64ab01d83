"""The demo CA: what it writes, and that doing it again changes nothing."""

from __future__ import annotations

import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca_auth import CertificateRequest, DemoCA, identity_of
from exchange import member_id, subsystem_id

TAX = subsystem_id("CN/GOV/11990000000000000X/tax")
REQUEST = CertificateRequest.for_subsystem(TAX, "税务局")


@pytest.fixture
def ca(tmp_path: Path) -> DemoCA:
    return DemoCA.create(tmp_path / "pki")


def test_a_key_is_readable_by_its_owner_only_and_no_draft_is_left(ca: DemoCA) -> None:
    ca.issue("tax", REQUEST)
    folder = ca.bundle.parent
    assert {file.name for file in folder.iterdir()} == {"root.crt", "root.key", "ca.pem", "tax.crt", "tax.key"}
    for file in folder.glob("*.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_subsystem_certificate_follows_the_profile(ca: DemoCA) -> None:
    certificate = ca.issue("tax", REQUEST).x509()
    assert identity_of(certificate).subsystem == TAX
    (code,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_IDENTIFIER)
    (organization,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert (code.value, organization.value) == ("NTRCN-11990000000000000X", "税务局")
    extensions = certificate.extensions
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_a_member_certificate_names_no_subsystem(ca: DemoCA) -> None:
    member = member_id("CN/GOV/11990000000000000X")
    identity = identity_of(ca.issue("member", CertificateRequest.for_member(member)).x509())
    assert (identity.member, identity.subsystem) == (member, None)


def test_a_server_certificate_names_the_loopback_and_what_was_asked(ca: DemoCA) -> None:
    request = CertificateRequest.for_server("gateway.example", "192.0.2.7", "localhost")
    certificate = ca.issue("server", request).x509()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "gateway.example"]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["127.0.0.1", "::1", "192.0.2.7"]


def test_openssl_accepts_what_the_ca_issued(ca: DemoCA) -> None:
    issued = ca.issue("tax", REQUEST)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"]
    try:
        verdict = subprocess.run([*command, ca.bundle, issued.certificate], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no openssl command on this machine")
    assert verdict.returncode == 0, verdict.stderr


def test_a_loaded_ca_is_the_same_ca(ca: DemoCA) -> None:
    again = DemoCA.load(ca.bundle.parent)
    assert again.fingerprint == ca.fingerprint
    assert again.trust_anchors == ca.trust_anchors == ca.bundle.read_bytes()
    again.issue("tax", REQUEST).x509().verify_directly_issued_by(x509.load_pem_x509_certificate(ca.trust_anchors))


def test_open_creates_once(tmp_path: Path) -> None:
    assert DemoCA.open(tmp_path).fingerprint == DemoCA.open(tmp_path).fingerprint


def test_a_second_root_is_never_put_over_the_first(ca: DemoCA) -> None:
    with pytest.raises(FileExistsError):
        DemoCA.create(ca.bundle.parent)


def test_a_root_with_anothers_key_is_refused(ca: DemoCA, tmp_path: Path) -> None:
    other = DemoCA.create(tmp_path / "other")
    (other.bundle.parent / "root.key").replace(ca.bundle.parent / "root.key")
    with pytest.raises(ValueError, match="not the key"):
        DemoCA.load(ca.bundle.parent)


def test_ensuring_again_changes_nothing(ca: DemoCA) -> None:
    first = ca.ensure("tax", REQUEST)
    before = (first.certificate.read_bytes(), first.key.read_bytes())
    again = DemoCA.load(ca.bundle.parent).ensure("tax", REQUEST)
    assert (again.certificate.read_bytes(), again.key.read_bytes()) == before


@pytest.mark.parametrize("damage", ["no-key", "no-certificate", "another-key", "truncated", "another-request"])
def test_ensuring_mends_what_is_broken(ca: DemoCA, damage: str) -> None:
    issued, request = ca.ensure("tax", REQUEST), REQUEST
    if damage == "no-key":
        issued.key.unlink()
    elif damage == "no-certificate":
        issued.certificate.unlink()
    elif damage == "another-key":
        ca.issue("other", REQUEST).key.replace(issued.key)
    elif damage == "truncated":
        issued.certificate.write_bytes(issued.certificate.read_bytes()[:100])
    else:
        request = CertificateRequest.for_subsystem(subsystem_id("CN/GOV/11990000000000000X/customs"), "税务局")
    mended = ca.ensure("tax", request)
    key = load_pem_private_key(mended.key.read_bytes(), None)
    assert key.public_key() == mended.x509().public_key()
    assert identity_of(mended.x509()).subsystem == request.identity


def test_ensuring_renews_before_the_end(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    first = DemoCA.create(tmp_path).ensure("tax", REQUEST, days=10).fingerprint
    for days, kept in ((8, True), (9.5, False)):
        later = now + timedelta(days=days)
        ca = DemoCA.load(tmp_path, clock=lambda later=later: later)  # type: ignore[misc]
        assert (ca.ensure("tax", REQUEST, days=10).fingerprint == first) is kept


def test_validity_can_be_chosen(ca: DemoCA) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    begin, end = now - timedelta(hours=2), now - timedelta(hours=1)
    certificate = ca.issue("expired", REQUEST, not_before=begin, not_after=end).x509()
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (begin, end)


@pytest.mark.parametrize("name", ["root", "", "../tax", ".tax"])
def test_a_name_that_leaves_the_folder_or_hits_the_root_is_refused(ca: DemoCA, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        ca.issue(name, REQUEST)
