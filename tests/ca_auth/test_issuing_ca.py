"""The issuing CA: what it certifies, for whom, and that it neither forgets nor repeats itself."""

from __future__ import annotations

import shutil
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from structlog.testing import capture_logs

from ca_auth import (
    CaOperationError,
    CaSettings,
    CertificateRequest,
    EnrolmentRateError,
    EnrolmentRefusedError,
    Issued,
    IssuingCA,
    create_ca,
    identity_of,
)
from ca_auth.issuing.csr import key_hash, read_request
from ca_auth.issuing.enrolment_code import EnrolmentCode
from exchange import MeshError, UnprocessableError, member_id
from tests.ca_auth.issuing_world import (
    DAY,
    PASSPHRASE,
    POLICE,
    REQUEST,
    TAX,
    Clock,
    csr_for,
    hours,
    make_ca,
    new_key,
    pem,
    verdict_of_openssl,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ca(tmp_path: Path, clock: Clock) -> Iterator[IssuingCA]:
    opened = make_ca(tmp_path / "ca", clock)
    yield opened
    opened.close()


def issue(ca: IssuingCA, request: CertificateRequest = REQUEST, **options: Any) -> Issued:
    return ca.issue(request, new_key().public_key(), by="test", **options)


def refusal(error: pytest.ExceptionInfo[MeshError]) -> str:
    return error.value.rule


# Certificates


def test_openssl_and_cryptography_accept_what_it_issues_with_all_crls_checked(
    ca: IssuingCA, clock: Clock, tmp_path: Path
) -> None:
    issued = issue(ca)
    assert verdict_of_openssl(ca, pem(issued.certificate), tmp_path, at=clock()) == "OK"
    verifier = (
        PolicyBuilder().store(Store([ca.root])).time(datetime.fromtimestamp(clock(), UTC)).build_client_verifier()
    )
    path = verifier.verify(issued.certificate, list(issued.chain)).chain
    assert path == [issued.certificate, *ca.chain]
    assert identity_of(issued.certificate).subsystem == TAX


def test_a_certificate_says_what_the_operator_said_and_nothing_of_the_signing_request(ca: IssuingCA) -> None:
    key = new_key()
    code, _ = ca.new_code(REQUEST, by="test")
    forged = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "police")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"datong:{POLICE}")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    certificate = ca.enrol(code, forged.public_bytes(serialization.Encoding.PEM)).certificate
    assert identity_of(certificate).subsystem == TAX
    assert "police" not in certificate.subject.rfc4514_string()
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.public_key() == key.public_key()


def test_serial_numbers_are_random_and_of_128_bits(ca: IssuingCA) -> None:
    serials = {issue(ca).certificate.serial_number for _ in range(20)}
    assert len(serials) == 20
    assert all(0 < serial < 1 << 128 for serial in serials)
    assert max(serials) > 1 << 120


def test_what_was_issued_is_on_disk_before_it_is_handed_out(ca: IssuingCA, clock: Clock) -> None:
    """Another process that opens the folder at that moment knows it, and so does one after a kill."""
    issued = issue(ca)
    other = IssuingCA.open(ca.folder.path, clock=clock)
    assert other.store.certificate(issued.row.serial) == issued.row
    other.close()


def test_no_certificate_outlives_its_issuer(ca: IssuingCA, clock: Clock) -> None:
    clock.pass_days(1825 - 10)
    assert issue(ca).certificate.not_valid_after_utc == ca.certificate.not_valid_after_utc
    clock.pass_days(20)
    with pytest.raises(CaOperationError) as error:
        issue(ca)
    assert refusal(error) == "ca-expired"


def test_days_are_bounded(ca: IssuingCA) -> None:
    life = issue(ca, days=30).certificate
    assert (life.not_valid_after_utc - life.not_valid_before_utc) == timedelta(days=30, minutes=5)
    for days in (0.0, -1.0, 399.0):
        with pytest.raises(CaOperationError) as error:
            issue(ca, days=days)
        assert refusal(error) == "ca-request"


def test_a_person_is_not_taken_for_the_member_and_the_books_do_not_show_the_number(ca: IssuingCA) -> None:
    request = CertificateRequest.for_person("张三", "IDCCN-11010519491231002X", member_id("CN/GOV/11990000000000000X"))
    issued = issue(ca, request)
    subject = {each.oid: each.value for each in issued.certificate.subject}
    assert subject[NameOID.SERIAL_NUMBER] == "IDCCN-11010519491231002X"
    assert subject[NameOID.ORGANIZATION_IDENTIFIER] == "NTRCN-11990000000000000X"
    with pytest.raises(x509.ExtensionNotFound):
        issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert issued.row.holder == "张三"
    assert "11010519491231002X" not in issued.row.subject


def test_a_server_certificate_may_ask_for_the_next_one_as_a_client(ca: IssuingCA) -> None:
    request = CertificateRequest(common_name="gw", server_names=("gw.example.cn",), self_renewing=True)
    purposes = issue(ca, request).certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_it_issues_only_for_the_members_the_operator_permits(tmp_path: Path, clock: Clock) -> None:
    settings = CaSettings(permit_members=("CN/GOV/11990000000000000X",))
    ca = make_ca(tmp_path / "ca", clock, settings=settings)
    issue(ca)
    issue(ca, CertificateRequest.for_member(member_id("CN/GOV/11990000000000000X")))
    with pytest.raises(CaOperationError):
        issue(ca, CertificateRequest.for_subsystem(POLICE))
    with pytest.raises(CaOperationError):
        ca.new_code(CertificateRequest.for_subsystem(POLICE), by="test")
    ca.close()


def test_name_limits_are_in_the_ca_certificate_and_it_keeps_to_them(tmp_path: Path, clock: Clock) -> None:
    ca = make_ca(tmp_path / "ca", clock, permit_dns=("gov.example.cn",))
    limits = ca.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    issued = issue(ca, CertificateRequest(common_name="x", server_names=("a.gov.example.cn",), self_renewing=True))
    assert verdict_of_openssl(ca, pem(issued.certificate), tmp_path, at=clock()) == "OK"
    for name in ("example.cn", "xgov.example.cn", "evil.example"):
        with pytest.raises(CaOperationError):
            issue(ca, CertificateRequest(common_name="x", server_names=(name,)))
    ca.close()


def test_a_crl_address_is_in_the_certificate_if_there_is_one(tmp_path: Path, clock: Clock) -> None:
    ca = make_ca(tmp_path / "ca", clock, settings=CaSettings(crl_url="http://ca.example/crl"))
    points = issue(ca).certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    names = points[0].full_name
    assert names is not None
    assert [each.value for each in names] == ["http://ca.example/crl"]
    ca.close()


# Keys and signing requests


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA-2048", "P-256", "P-384", "P-521", "Ed25519"],
)
def test_keys_that_are_certified(
    ca: IssuingCA,
    clock: Clock,
    tmp_path: Path,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        public = read_request(request.public_bytes(encoding))
        issued = ca.issue(REQUEST, public, by="test")
        assert issued.certificate.public_key() == key.public_key()
    assert verdict_of_openssl(ca, pem(issued.certificate), tmp_path, at=clock()) == "OK"


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(3, 2048),
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.SECP224R1()),
        dsa.generate_private_key(2048),
        ed448.Ed448PrivateKey.generate(),
    ],
    ids=["RSA-1024", "RSA exponent 3", "secp256k1", "P-224", "DSA", "Ed448"],
)
def test_keys_that_are_not(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey | ed448.Ed448PrivateKey,
) -> None:
    algorithm = None if isinstance(key, ed448.Ed448PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)
    with pytest.raises(UnprocessableError) as error:
        read_request(request.public_bytes(serialization.Encoding.PEM))
    assert refusal(error) == "csr-key"


def test_a_request_signed_with_another_key_proves_nothing_and_spends_no_code(ca: IssuingCA) -> None:
    """The last byte of the signature is changed: the parser is content, the signature is not."""
    code, row = ca.new_code(REQUEST, by="test")
    der = x509.load_pem_x509_csr(csr_for(new_key())).public_bytes(serialization.Encoding.DER)
    with pytest.raises(UnprocessableError) as error:
        ca.enrol(code, der[:-1] + bytes([der[-1] ^ 1]))
    assert refusal(error) == "csr-signature"
    stored = ca.store.code(row.name)
    assert stored is not None
    assert stored.state(ca.now()) == "open"
    assert ca.enrol(code, csr_for(new_key())).row.code == row.name


def test_a_request_signed_with_a_short_hash_is_refused() -> None:
    with pytest.raises(UnprocessableError) as error:
        read_request(csr_for(new_key(), algorithm=hashes.SHA224()))
    assert refusal(error) == "csr-signature"


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", b"\x30" * 20_000])
def test_what_is_no_request_is_refused(content: bytes) -> None:
    with pytest.raises(UnprocessableError) as error:
        read_request(content)
    assert refusal(error) == "csr-form"


def test_the_cas_own_key_is_not_certified(ca: IssuingCA) -> None:
    with pytest.raises(UnprocessableError) as error:
        ca.issue(REQUEST, ca.folder.public_key(), by="test")
    assert refusal(error) == "csr-key-compromised"


# Codes


def test_a_code_gives_one_certificate_and_the_same_one_again_for_the_same_key(ca: IssuingCA, clock: Clock) -> None:
    code, _ = ca.new_code(REQUEST, days=10, by="李四", why="〔2026〕3号")
    key = new_key()
    first = ca.enrol(code, csr_for(key))
    clock.pass_days(5)  # the code has ended; what it was spent on has not
    again = ca.enrol(code.lower().replace("-", " "), csr_for(key, "anything"))
    assert again.row == first.row
    assert (first.row.by, first.row.why, first.row.days) == ("李四", "〔2026〕3号", 10)
    clock.pass_days(10)
    with pytest.raises(EnrolmentRefusedError) as error:
        ca.enrol(code, csr_for(key))
    assert refusal(error) == "certificate-expired"


def test_a_spent_code_is_refused_for_another_key_and_reported(ca: IssuingCA) -> None:
    code, row = ca.new_code(REQUEST, by="test")
    ca.enrol(code, csr_for(new_key()))
    with capture_logs() as events, pytest.raises(EnrolmentRefusedError) as error:
        ca.enrol(code, csr_for(new_key()))
    assert refusal(error) == "enrolment-code-used"
    assert [each["event"] for each in events] == ["ca.code.reused"]
    stored = ca.store.code(row.name)
    assert stored is not None
    assert stored.refused == 1
    assert len(ca.store.certificates(holder=TAX)) == 1


def test_of_two_keys_that_race_for_a_code_one_gets_it(ca: IssuingCA, clock: Clock) -> None:
    code, _ = ca.new_code(REQUEST, by="test")
    requests = [csr_for(new_key()) for _ in range(6)]
    processes = [IssuingCA.open(ca.folder.path, clock=clock) for _ in requests]
    outcomes: list[str] = []
    start = threading.Barrier(len(requests))

    def take(other: IssuingCA, csr: bytes) -> None:
        start.wait()
        try:
            outcomes.append(other.enrol(code, csr).row.serial)
        except EnrolmentRefusedError as error:
            outcomes.append(error.rule)

    threads = [threading.Thread(target=take, args=each) for each in zip(processes, requests, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.close()
    assert sorted(outcomes).count("enrolment-code-used") == 5
    assert len(ca.store.certificates(holder=TAX)) == 1


def test_wrong_unknown_and_void_codes_get_the_same_answer(ca: IssuingCA, clock: Clock) -> None:
    good, row = ca.new_code(REQUEST, by="test")
    known = EnrolmentCode.parse(good)
    assert known is not None
    void, void_row = ca.new_code(CertificateRequest.for_subsystem(POLICE), by="test")
    with ca.store.writing():
        assert ca.store.void_codes(POLICE, clock()) == 1
    answers = set()
    for code in (
        EnrolmentCode.new().text(),
        EnrolmentCode(known.name, EnrolmentCode.new().secret).text(),
        void,
        "",
        "nonsense",
        "\N{SNOWMAN}" * 300,
    ):
        with pytest.raises(EnrolmentRefusedError) as error:
            ca.enrol(code, csr_for(new_key()))
        answers.add((error.value.rule, str(error.value), error.value.detail_in("zh")))
    assert len(answers) == 1
    assert answers.pop()[0] == "enrolment-code"
    assert void_row.name != row.name


def test_an_expired_code_is_refused(ca: IssuingCA, clock: Clock) -> None:
    code, _ = ca.new_code(REQUEST, valid_for=hours(24), by="test")
    clock.pass_days(1.01)
    with pytest.raises(EnrolmentRefusedError) as error:
        ca.enrol(code, csr_for(new_key()))
    assert refusal(error) == "enrolment-code-expired"


def test_the_code_itself_is_kept_nowhere(ca: IssuingCA) -> None:
    code, row = ca.new_code(REQUEST, by="test")
    secret = code.replace("-", "")[8:]
    ca.store.close()
    kept = b"".join(path.read_bytes() for path in ca.folder.path.rglob("*") if path.is_file())
    assert row.name.encode() in kept
    assert secret.encode() not in kept
    assert secret not in repr(EnrolmentCode.parse(code))


@pytest.mark.parametrize("typed", ["lower", "spaces", "confused"])
def test_a_code_is_read_as_people_type_it(typed: str) -> None:
    code = EnrolmentCode("01ABCDEF", "0123456789ABCDEFGHJKMNPQRS")
    text = {
        "lower": code.text().lower(),
        "spaces": f"  {code.text().replace('-', ' ')}\n",
        "confused": code.text().replace("0", "o").replace("1", "l"),
    }[typed]
    assert EnrolmentCode.parse(text) == code


def test_a_code_has_130_random_bits() -> None:
    assert len({EnrolmentCode.new().secret for _ in range(100)}) == 100
    assert len(EnrolmentCode.new().secret) * 5 == 130


# Renewal


def test_a_renewal_has_the_same_names_and_the_old_certificate_stays_good(
    ca: IssuingCA, clock: Clock, tmp_path: Path
) -> None:
    old = issue(ca, days=30)
    clock.pass_days(15)
    new = ca.renew(old.row.der, csr_for(new_key(), "someone else"))
    assert new.certificate.subject == old.certificate.subject
    assert identity_of(new.certificate) == identity_of(old.certificate)
    assert new.row.not_after - old.row.not_after == 15 * DAY
    for each in (old, new):
        assert verdict_of_openssl(ca, pem(each.certificate), tmp_path, at=clock()) == "OK"


def test_a_repeated_renewal_gets_the_same_certificate(ca: IssuingCA) -> None:
    old, key = issue(ca), new_key()
    first = ca.renew(old.row.der, csr_for(key))
    assert ca.renew(old.row.der, csr_for(key)).row == first.row
    assert len(ca.store.certificates(holder=TAX)) == 2


def test_a_renewal_needs_a_new_key(ca: IssuingCA) -> None:
    key = new_key()
    old = ca.issue(REQUEST, key.public_key(), by="test")
    with pytest.raises(UnprocessableError) as error:
        ca.renew(old.row.der, csr_for(key))
    assert refusal(error) == "csr-key-unchanged"


def test_who_may_not_renew(ca: IssuingCA, clock: Clock, tmp_path: Path) -> None:
    """Certificates of another CA, revoked ones and expired ones."""
    other = make_ca(tmp_path / "other", clock)
    revoked, expired = issue(ca), issue(ca, days=1)
    ca.revocations.revoke([revoked.row], "superseded", by="test")
    clock.pass_days(2)
    for der, rule in (
        (issue(other).row.der, "renewal-unknown"),
        (b"nothing", "renewal-unknown"),
        (revoked.row.der, "certificate-revoked"),
        (expired.row.der, "certificate-expired"),
    ):
        with pytest.raises(EnrolmentRefusedError) as error:
            ca.renew(der, csr_for(new_key()))
        assert refusal(error) == rule
    other.close()


def test_one_certificate_is_renewed_five_times_a_day_at_most(ca: IssuingCA, clock: Clock) -> None:
    old = issue(ca)
    for _ in range(5):
        ca.renew(old.row.der, csr_for(new_key()))
    with pytest.raises(EnrolmentRateError) as error:
        ca.renew(old.row.der, csr_for(new_key()))
    assert refusal(error) == "renewal-rate"
    clock.pass_days(1.01)
    ca.renew(old.row.der, csr_for(new_key()))


def test_a_holder_the_ca_no_longer_serves_cannot_renew(ca: IssuingCA, clock: Clock) -> None:
    old = issue(ca)
    ca.close()
    text = ca.folder.settings_file.read_text()
    ca.folder.settings_file.write_text(text.replace("permit_members = []", 'permit_members = ["CN/COM"]'))
    narrowed = IssuingCA.open(ca.folder.path, clock=clock)
    with pytest.raises(EnrolmentRefusedError) as error:
        narrowed.renew(old.row.der, csr_for(new_key()))
    assert refusal(error) == "renewal-not-permitted"
    narrowed.close()


# The folder


def test_keys_and_books_are_for_the_owner_only_and_the_root_key_is_encrypted(ca: IssuingCA) -> None:
    folder = ca.folder
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    for file in (folder.issuing_key, folder.root_key, folder.store):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in folder.root_key.read_bytes()
    assert b"ENCRYPTED" not in folder.issuing_key.read_bytes()


def test_a_second_ca_is_not_made_over_the_first_and_a_failed_one_leaves_nothing(tmp_path: Path, clock: Clock) -> None:
    ca = make_ca(tmp_path / "ca", clock)
    ca.close()
    now = datetime.fromtimestamp(clock(), UTC)
    for folder, passphrase, name in (
        (tmp_path / "ca", PASSPHRASE, "x"),
        (tmp_path / "b", b"short", "x"),
        (tmp_path / "b", PASSPHRASE, ""),
        (tmp_path / "b", PASSPHRASE, "x" * 65),
    ):
        with pytest.raises(CaOperationError):
            create_ca(folder, name=name, organization="", now=now, root_passphrase=passphrase)
    assert [each.name for each in tmp_path.iterdir()] == ["ca"]


def test_a_key_that_others_may_read_is_not_used(ca: IssuingCA, clock: Clock) -> None:
    ca.close()
    ca.folder.issuing_key.chmod(0o640)
    with pytest.raises(CaOperationError) as error:
        IssuingCA.open(ca.folder.path, clock=clock)
    assert "chmod 600" in str(error.value)


def test_a_key_of_another_ca_is_not_used(ca: IssuingCA, clock: Clock, tmp_path: Path) -> None:
    other = make_ca(tmp_path / "other", clock)
    ca.close()
    other.close()
    shutil.copy(other.folder.issuing_key, ca.folder.issuing_key)
    with pytest.raises(CaOperationError) as error:
        IssuingCA.open(ca.folder.path, clock=clock)
    assert refusal(error) == "ca-key"


@pytest.mark.parametrize(
    "line", ["unknown = 1", 'default_days = "many"', "max_days = 9000", "not toml", "[pkcs11]\nmodule = 'x'"]
)
def test_settings_that_make_no_sense_are_named(ca: IssuingCA, clock: Clock, line: str) -> None:
    ca.close()
    ca.folder.settings_file.write_text(line + "\n")
    with pytest.raises(CaOperationError) as error:
        IssuingCA.open(ca.folder.path, clock=clock)
    assert "ca.toml" in str(error.value)


def test_a_folder_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(CaOperationError) as error:
        IssuingCA.open(tmp_path)
    assert "datong ca init" in str(error.value)


def test_a_key_hash_names_a_key_and_not_a_certificate(ca: IssuingCA) -> None:
    key = new_key().public_key()
    first, second = ca.issue(REQUEST, key, by="test"), ca.issue(REQUEST, key, by="test")
    assert first.row.key_hash == second.row.key_hash == key_hash(key)
    assert first.row.serial != second.row.serial
