"""What others say in a receipt: witnesses of the checkpoint, and whether a certificate was revoked at the time."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from exchange.receipts.certificate_path import CertificateError
from exchange.receipts.receipt import build_receipt, verdict, verify_receipt
from exchange.receipts.revocation_evidence import RevocationEvidenceError, RevocationNews, names_of
from exchange.transparency.checkpoint import open_checkpoint
from exchange.transparency.cosignature import Cosigner
from tests.exchange.log_kit import Place
from tests.exchange.test_receipt import BODY, Parties, exchange, failed, parties, place, telling_places  # noqa: F401

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Issuer:
    """A CA whose key is at hand."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def crl(
        self, *revoked: tuple[int, datetime], since: datetime = NOW - HOUR, until: datetime = NOW + HOUR, **scope: Any
    ) -> bytes:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(since).next_update(until).add_extension(x509.CRLNumber(1), critical=False)
        for serial, when in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        if scope:
            fields = {
                "full_name": None,
                "relative_name": None,
                "only_contains_user_certs": False,
                "only_contains_ca_certs": False,
                "only_some_reasons": None,
                "indirect_crl": False,
                "only_contains_attribute_certs": False,
            }
            builder = builder.add_extension(x509.IssuingDistributionPoint(**{**fields, **scope}), critical=True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def answer(
        self,
        about: x509.Certificate,
        *,
        revoked_at: datetime | None = None,
        since: datetime = NOW - HOUR,
        until: datetime = NOW + HOUR,
        signer: Issuer | None = None,
        status: ocsp.OCSPCertStatus | None = None,
    ) -> bytes:
        signer = signer or self
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about,
            issuer=self.certificate,
            algorithm=hashes.SHA1(),
            cert_status=status or (ocsp.OCSPCertStatus.REVOKED if revoked_at else ocsp.OCSPCertStatus.GOOD),
            this_update=since,
            next_update=until,
            revocation_time=revoked_at,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
        if signer is not self:
            builder = builder.certificates([signer.certificate])
        return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def delegate(self, *uses: x509.ObjectIdentifier) -> Issuer:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder().subject_name(_name("responder")).issuer_name(self.certificate.subject)
        builder = builder.public_key(key.public_key()).serial_number(77)
        builder = builder.not_valid_before(NOW - HOUR).not_valid_after(NOW + HOUR)
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return Issuer(builder.sign(self.key, hashes.SHA256()), key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def new_ca(name: str) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(name)).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(NOW - HOUR).not_valid_after(NOW + HOUR)
    return Issuer(builder.sign(key, hashes.SHA256()), key)


@pytest.fixture(scope="module")
def ca(parties: Parties) -> Issuer:  # noqa: F811
    folder = parties.ca.bundle.parent
    key = serialization.load_pem_private_key((folder / "root.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Issuer(x509.load_pem_x509_certificate(parties.ca.bundle.read_bytes()), key)


@pytest.fixture
def certificate(parties: Parties) -> x509.Certificate:  # noqa: F811
    return parties.caller.x509()


def cleared(news: bytes, certificate: x509.Certificate, ca: Issuer, at: datetime = NOW) -> bool:
    return RevocationNews([news]).cleared(certificate, ca.certificate, at) is not None


def test_a_list_clears_who_is_not_on_it_while_it_holds(certificate: x509.Certificate, ca: Issuer) -> None:
    other = (certificate.serial_number + 1, NOW - HOUR)
    assert cleared(ca.crl(other), certificate, ca)
    assert not cleared(ca.crl(since=NOW + HOUR, until=NOW + 2 * HOUR), certificate, ca), "it was issued later"
    assert not cleared(ca.crl(since=NOW - 2 * HOUR, until=NOW - HOUR), certificate, ca), "it had run out"
    assert cleared(ca.crl((certificate.serial_number, NOW + timedelta(minutes=5))), certificate, ca), "revoked later"
    found = RevocationNews([ca.crl()]).cleared(certificate, ca.certificate, NOW)
    assert found is not None
    assert found.until == NOW + HOUR


@pytest.mark.parametrize(
    "scope",
    [
        {"only_contains_ca_certs": True},
        {"only_contains_attribute_certs": True},
        {"indirect_crl": True},
        {"only_some_reasons": frozenset([x509.ReasonFlags.key_compromise])},
    ],
)
def test_a_list_of_another_scope_says_nothing(certificate: x509.Certificate, ca: Issuer, scope: dict[str, Any]) -> None:
    assert not cleared(ca.crl(**scope), certificate, ca)
    assert cleared(ca.crl(only_contains_user_certs=True), certificate, ca)


def test_a_revoked_certificate_is_refused_also_by_news_that_ran_out(certificate: x509.Certificate, ca: Issuer) -> None:
    entry = (certificate.serial_number, NOW - 3 * HOUR)
    for news in (
        ca.crl(entry),
        ca.crl(entry, since=NOW - 2 * HOUR, until=NOW - HOUR),
        ca.answer(certificate, revoked_at=entry[1]),
    ):
        with pytest.raises(CertificateError, match="revoked"):
            cleared(news, certificate, ca)


def test_news_by_somebody_else_is_refused(certificate: x509.Certificate, ca: Issuer) -> None:
    forger = Issuer(ca.certificate, ec.generate_private_key(ec.SECP256R1()))
    answer = ca.answer(certificate)
    forged = answer[:-1] + bytes([answer[-1] ^ 1])
    for news in (forger.crl(), forged, ca.answer(certificate, signer=new_ca("stranger"))):
        with pytest.raises(CertificateError, match="not signed"):
            cleared(news, certificate, ca)
    assert not cleared(new_ca("stranger").crl(), certificate, ca), "of another issuer: it says nothing"


def test_an_answer_clears_its_certificate_alone(certificate: x509.Certificate, ca: Issuer, parties: Parties) -> None:  # noqa: F811
    news = ca.answer(certificate)
    assert cleared(news, certificate, ca)
    assert not cleared(news, parties.gateway.x509(), ca)
    assert not cleared(ca.answer(certificate, since=NOW + HOUR, until=NOW + 2 * HOUR), certificate, ca)
    assert not cleared(ca.answer(certificate, since=NOW - 2 * HOUR, until=NOW - HOUR), certificate, ca)
    assert not cleared(ca.answer(certificate, status=ocsp.OCSPCertStatus.UNKNOWN), certificate, ca)
    assert cleared(ca.answer(certificate, revoked_at=NOW + HOUR), certificate, ca), "revoked later"


def test_a_responder_must_be_named_by_the_issuer(certificate: x509.Certificate, ca: Issuer) -> None:
    assert cleared(ca.answer(certificate, signer=ca.delegate(ExtendedKeyUsageOID.OCSP_SIGNING)), certificate, ca)
    for signer in (ca.delegate(), ca.delegate(ExtendedKeyUsageOID.SERVER_AUTH)):
        with pytest.raises(CertificateError, match="responder"):
            cleared(ca.answer(certificate, signer=signer), certificate, ca)


def test_no_byte_of_news_can_be_changed(certificate: x509.Certificate, ca: Issuer) -> None:
    delegated = ca.answer(certificate, signer=ca.delegate(ExtendedKeyUsageOID.OCSP_SIGNING))
    for news in (ca.crl((5, NOW)), ca.answer(certificate), delegated):
        for at in range(len(news)):
            changed = news[:at] + bytes([news[at] ^ (1 << at % 8)]) + news[at + 1 :]
            try:
                assert not cleared(changed, certificate, ca), at
            except (RevocationEvidenceError, CertificateError):
                continue


def test_what_is_no_news_is_an_error() -> None:
    for data in (b"", b"\x30", b"\x30\x00", b"\x30\x82", b"{}", b"\x30\x03\x0a\x01\x00", b"\x30\x84\xff\xff\xff\xff"):
        with pytest.raises(RevocationEvidenceError):
            RevocationNews([data])


WITNESSES = [Cosigner.generate(f"witness.example/{name}") for name in ("audit", "civil")]
POLICY = (
    "".join(f"witness w{n} {one.verifier.vkey}\n" for n, one in enumerate(WITNESSES)) + "group g all w0 w1\nquorum g\n"
)


async def full_receipt(place: Place, parties: Parties, ca: Issuer, *, cosigned: int = 2, **crl: Any) -> bytes:  # noqa: F811
    """A receipt as a mesh with witnesses and lists of revocations gives it."""
    one = exchange(parties)
    place.signer = parties.signer
    place.log_key.write_text(parties.signer.skey)
    await place.fill(20, [], extra=[one], certificates=[each.der for each in parties.certificates])
    der = ca.crl(*crl.pop("revoked", ()), **crl)
    async with place.log() as log:
        about = names_of(parties.caller.x509())[-1]
        news = x509.load_der_x509_crl(der)
        times = [int(at.timestamp() * 1000) for at in (news.last_update_utc, news.next_update_utc or NOW)]
        await log.attach("revocation", "digest", "crl", about, *times, 0, der)
        note = await log.checkpoint()
        entry = await log.reader.entry(one.exchange_id)
        assert entry is not None
        text = open_checkpoint(note, [parties.signer.verifier]).text
        note += "".join(witness.cosign(text, int(NOW.timestamp())) for witness in WITNESSES[:cosigned])
        return await build_receipt(log.reader, entry, note)


async def test_a_receipt_with_everything_is_final_and_no_byte_of_it_can_be_changed(
    place: Place,  # noqa: F811
    parties: Parties,  # noqa: F811
    ca: Issuer,
) -> None:
    receipt = await full_receipt(place, parties, ca)
    keys = parties.keys(policy=POLICY, demands=["revocation"])
    checks = verify_receipt(receipt, keys, answer_body=BODY)
    assert verdict(checks) == "final", [check for check in checks if not check.ok]
    told = {check.name: check for check in checks}
    assert "cosigned by w0 at" in told["witnessed"].en
    assert told["revocation"].en == "3 certificates were not revoked at the time"
    for at in telling_places(receipt)[::3]:
        changed = receipt[:at] + bytes([receipt[at] ^ (1 << at % 8)]) + receipt[at + 1 :]
        assert verdict(verify_receipt(changed, keys, answer_body=BODY)) != "final", at


async def test_a_receipt_is_pending_until_the_quorum_is_reached(place: Place, parties: Parties, ca: Issuer) -> None:  # noqa: F811
    receipt = await full_receipt(place, parties, ca, cosigned=1)
    checks = verify_receipt(receipt, parties.keys(policy=POLICY))
    assert verdict(checks) == "pending"
    assert failed(checks) == {"witnessed"}
    assert verdict(verify_receipt(receipt, parties.keys(policy=POLICY.replace(" all ", " any ")))) == "final"
    assert verdict(verify_receipt(receipt, parties.keys())) == "final", "whoever names no witnesses wants none"
    one_known = POLICY.replace("group g all w0 w1\nquorum g", "quorum w1")
    assert verdict(verify_receipt(receipt, parties.keys(policy=one_known))) == "pending"
    assert verdict(verify_receipt(receipt, parties.keys(demands=["stamped"]))) == "pending"


async def test_a_receipt_of_a_revoked_caller_does_not_hold(place: Place, parties: Parties, ca: Issuer) -> None:  # noqa: F811
    serial = parties.caller.x509().serial_number
    receipt = await full_receipt(place, parties, ca, revoked=[(serial, NOW - HOUR)])
    checks = verify_receipt(receipt, parties.keys())
    assert failed(checks) == {"revocation"}
    assert verdict(checks) == "invalid"


async def test_news_that_no_certificate_needed_is_refused(place: Place, parties: Parties, ca: Issuer) -> None:  # noqa: F811
    receipt = json.loads(await full_receipt(place, parties, ca))
    receipt["revocations"].append(b64encode(new_ca("stranger").crl()).decode())
    changed = json.dumps(receipt, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    assert failed(verify_receipt(changed, parties.keys())) == {"revocation"}
    receipt["revocations"] = [b64encode(b64decode(receipt["revocations"][0])[:-1]).decode()]
    changed = json.dumps(receipt, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    assert failed(verify_receipt(changed, parties.keys())) == {"form"}


async def test_a_demand_that_nothing_meets_is_told(place: Place, parties: Parties, ca: Issuer) -> None:  # noqa: F811
    receipt = await full_receipt(place, parties, ca, since=NOW - 3 * HOUR, until=NOW - 2 * HOUR)
    assert "revocations" not in json.loads(receipt), "it had run out, and shows nothing"
    assert failed(verify_receipt(receipt, parties.keys(demands=["revocation", "signature"]))) == {
        "revocation",
        "signature",
    }
    assert verdict(verify_receipt(receipt, parties.keys())) == "final"
