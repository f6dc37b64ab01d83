"""RFC 3161 tokens: which ones count. Two verifiers that were not written here say what they think of the same tokens."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc3161_client
from asn1crypto import cms, core, tsp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from exchange.timestamps import der
from exchange.timestamps.request import read_response, time_stamp_request
from exchange.timestamps.token import MOST_BYTES, Stamp, StampError, check_token, read_token
from tests.ci import missing
from tests.exchange.tsa_kit import DAY, POLICY, TEXT, Issuer, Tsa, make_tsa

STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
NONCE = (1 << 63) + 4711


@pytest.fixture(scope="module")
def root() -> Issuer:
    return Issuer.root()


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def tsa(root: Issuer) -> Tsa:
    return make_tsa(root)


def response(token: bytes) -> bytes:
    """As a TimeStampResp."""
    return tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": cms.ContentInfo.load(token)}).dump()


def others_accept(token: bytes, anchors: Sequence[x509.Certificate]) -> bool:
    """What `rfc3161-client`, which asks OpenSSL, says of a token that should be over TEXT and hold NONCE and POLICY."""
    builder = rfc3161_client.VerifierBuilder(roots=list(anchors), nonce=NONCE, policy_id=x509.ObjectIdentifier(POLICY))
    try:
        return builder.build().verify_message(rfc3161_client.decode_timestamp_response(response(token)), TEXT)
    except (rfc3161_client.VerificationError, ValueError):
        return False


def openssl_accepts(token: bytes, text: bytes, anchor: x509.Certificate, folder: Path) -> bool:
    """What `openssl ts` says."""
    (folder / "token").write_bytes(token)
    (folder / "text").write_bytes(text)
    (folder / "anchor.pem").write_bytes(anchor.public_bytes(Encoding.PEM))
    return openssl("ts -verify -data text -in token -token_in -CAfile anchor.pem", folder).returncode == 0


def openssl(command: str, folder: Path, *, check: bool = False) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("openssl")
    if program is None:
        missing("openssl")
    return subprocess.run([program, *command.split()], cwd=folder, check=check, capture_output=True, timeout=30)


# Tokens that count


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("kind", ["rsa", "rsa-pss", "p256", "p384", "p521"])
def test_a_token_of_each_algorithm_counts_here_and_elsewhere(
    root: Issuer, rsa_key: rsa.RSAPrivateKey, kind: str, digest: str, tmp_path: Path
) -> None:
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    tsa = make_tsa(root, rsa_key if kind.startswith("rsa") else ec.generate_private_key(curves[kind]))
    tsa.digest, tsa.pss = digest, kind == "rsa-pss"
    begin = datetime.now(UTC).replace(microsecond=0)
    token = tsa.stamp(algorithm=digest, nonce=NONCE)
    stamp = check_token(token, TEXT, [root.certificate], nonce=NONCE, policies={POLICY, "1.2"})
    assert stamp == read_token(token)
    assert begin <= stamp.gen_time <= datetime.now(UTC)
    assert stamp.gen_ms == stamp.gen_time.timestamp() * 1000
    assert (stamp.algorithm, stamp.imprint) == (digest, hashlib.new(digest, TEXT).digest())
    assert (stamp.policy, stamp.nonce, stamp.accuracy) == (POLICY, NONCE, timedelta(seconds=1.5))
    assert stamp.authority == "CN=国家时间,C=CN"
    if kind != "rsa-pss":  # what they call reads PKCS #7, which is older than PSS
        assert others_accept(token, [root.certificate])
        assert openssl_accepts(token, TEXT, root.certificate, tmp_path)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("reference", ["sha1", "sha256", "sha512"])
def test_tokens_of_openssl_count(
    root: Issuer, rsa_key: rsa.RSAPrivateKey, tmp_path: Path, reference: str, turned: bool
) -> None:
    """Also those of 3.0 with certificates sent along, in whatever order they stand there."""
    sub = root.sub("中间", purposes=[STAMPING])
    tsa = make_tsa(sub, rsa_key)
    chain = [each.public_bytes(Encoding.PEM) for each in (sub.certificate, root.certificate)]
    (tmp_path / "chain.pem").write_bytes(b"".join(reversed(chain) if turned else chain))
    (tmp_path / "tsa.pem").write_bytes(tsa.certificate.public_bytes(Encoding.PEM))
    key = rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "tsa.key").write_bytes(key)
    (tmp_path / "serial").write_text("01")
    (tmp_path / "conf").write_text(
        "[tsa]\nserial=serial\nsigner_cert=tsa.pem\ncerts=chain.pem\nsigner_key=tsa.key\nsigner_digest=sha384\n"
        f"default_policy={POLICY}\ndigests=sha256\naccuracy=millisecs:5,microsecs:7\ntsa_name=yes\nordering=yes\n"
        f"ess_cert_id_chain={'no' if turned else 'yes'}\ness_cert_id_alg={reference}\n"
    )
    (tmp_path / "request").write_bytes(time_stamp_request(TEXT, nonce=NONCE))
    command = "ts -reply -config conf -section tsa -queryfile request -out response"
    openssl(command, tmp_path, check=True)
    token = read_response((tmp_path / "response").read_bytes())
    stamp = check_token(token, TEXT, [root.certificate], nonce=NONCE, policies=[POLICY])
    assert stamp.accuracy == timedelta(milliseconds=5, microseconds=7)
    assert openssl_accepts(token, TEXT, root.certificate, tmp_path)
    with pytest.raises(StampError, match="not over this text"):
        check_token(token, TEXT + b"\n", [root.certificate])


def test_a_token_outlives_its_authority_s_certificate(root: Issuer) -> None:
    """It was valid at the time that the token tells; asked about today, it is not any more."""
    begins, ends = datetime.now(UTC) - 20 * DAY, datetime.now(UTC) - 10 * DAY
    old_root = Issuer.root(begins=begins, ends=ends)
    tsa = make_tsa(old_root, begins=begins, ends=ends)
    tsa.clock = -15 * DAY
    token = tsa.stamp()
    assert check_token(token, TEXT, [root.certificate, old_root.certificate]).gen_time < ends
    with pytest.raises(StampError, match="not valid at"):
        check_token(token, TEXT, [old_root.certificate], at=datetime.now(UTC))


@pytest.mark.parametrize("purposes", [None, [STAMPING], [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]])
@pytest.mark.parametrize("sent", [True, False])
def test_the_path_goes_over_cas_for_time_stamping(root: Issuer, purposes: Any, sent: bool) -> None:
    """Whether the authority sends them along, or the reader holds the one in between as an anchor."""
    sub = root.sub("中间", purposes=purposes)
    token = make_tsa(sub, above=[sub.certificate] if sent else []).stamp()
    check_token(token, TEXT, [root.certificate if sent else sub.certificate])


@pytest.mark.parametrize(
    "changes",
    [
        {"by_key_identifier": True},
        {"reference": "v1"},
        {"reference": "both"},
        {"drop": ["signing_time"]},
        {"tst": {"accuracy": None}},
        {"tst": {"ordering": True}},
        {"tst": {"gen_time": datetime.now(UTC).replace(microsecond=120_000)}},
        {"tst": {"extensions": [{"extn_id": "1.2.3.4.5", "critical": False, "extn_value": core.OctetString(b"x")}]}},
        {"tst": {"tsa": cms.GeneralName(name="uniform_resource_identifier", value="urn:x")}},
    ],
    ids=lambda changes: "-".join(changes.get("tst") or changes),  # not the values: one is the time
)
def test_what_an_authority_may_do_otherwise(tsa: Tsa, root: Issuer, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(tsa, name, value)
    stamp = check_token(tsa.stamp(), TEXT, [root.certificate])
    assert stamp.nonce is None
    assert stamp.gen_time.microsecond in (0, 120_000)


# Tokens that do not


def _tsa_with(**changes: Any) -> Callable[[Issuer], Tsa]:
    def make(root: Issuer) -> Tsa:
        tsa = make_tsa(root)
        for name, value in changes.items():
            setattr(tsa, name, value)
        return tsa

    return make


def _certified(**changes: Any) -> Callable[[Issuer], Tsa]:
    return lambda root: make_tsa(root, **changes)


def _under(**changes: Any) -> Callable[[Issuer], Tsa]:
    def make(root: Issuer) -> Tsa:
        sub = root.sub("中间", **changes)
        return make_tsa(sub, above=[sub.certificate])

    return make


def _under_a_leaf(root: Issuer) -> Tsa:
    leaf = make_tsa(root)
    tsa = make_tsa(Issuer(leaf.certificate, leaf.key), above=[leaf.certificate])
    return tsa


def _below_too_short_a_path(root: Issuer) -> Tsa:
    above = root.sub("上级", path_length=0)
    sub = above.sub("中间")
    return make_tsa(sub, above=[sub.certificate, above.certificate])


def _under_a_look_alike(root: Issuer) -> Tsa:
    """The same names as the anchor, another key."""
    forged = Issuer.root()
    return make_tsa(forged, above=[forged.certificate])


def _signed_by_another_key(root: Issuer) -> Tsa:
    tsa = make_tsa(root)
    tsa.key = ec.generate_private_key(ec.SECP256R1())
    return tsa


NOW = datetime.now(UTC)
BAD: dict[str, tuple[Callable[[Issuer], Tsa], str, bool]] = {
    # Name -> how it is made, what is said, and whether rfc3161-client refuses it, too.
    "other-text": (_tsa_with(text=b"other"), "not over this text", True),
    "other-policy": (_tsa_with(policy="1.2.3"), "which is not accepted", True),
    "other-nonce": (_tsa_with(nonce="other"), "does not hold the nonce", True),
    "no-nonce": (_tsa_with(nonce="none"), "does not hold the nonce", True),
    "no-certificates": (_tsa_with(keep_certificates=False), "does not hold its signer's certificate", True),
    "no-content-type": (_tsa_with(drop=["content_type"]), "content-type", False),
    "no-message-digest": (_tsa_with(drop=["message_digest"]), "message-digest", True),
    "no-reference": (_tsa_with(reference=""), "does not name its signer", False),
    "other-reference": (_tsa_with(reference="other"), "does not hold its signer's certificate", False),
    "sha1": (_tsa_with(digest="sha1"), "1.3.14.3.2.26 does not count", False),
    "another-key": (_signed_by_another_key, "does not verify", True),
    "expired": (_certified(begins=NOW - 2 * DAY, ends=NOW - DAY), "not valid at", True),
    "not-yet-valid": (_certified(begins=NOW + DAY / 2), "not valid at", True),
    "for-tls-too": (_certified(purposes=[STAMPING, ExtendedKeyUsageOID.CLIENT_AUTH]), "time stamping alone", True),
    "for-tls": (_certified(purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]), "time stamping alone", True),
    "for-anything": (_certified(purposes=None), "time stamping alone", True),
    "not-critically": (_certified(critical=False), "time stamping alone", True),
    "may-not-sign": (_certified(usage=False), "time stamping alone", True),
    "look-alike-root": (_under_a_look_alike, "no path to an anchor", True),
    "issuer-is-no-ca": (_under_a_leaf, "no path to an anchor", True),
    "path-too-long": (_below_too_short_a_path, "no path to an anchor", True),
    "expired-ca": (_under(begins=NOW - 2 * DAY, ends=NOW - DAY), "no path to an anchor", True),
    "ca-for-tls": (_under(purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]), "no path to an anchor", False),
    "critical-extension": (
        _tsa_with(
            tst={"extensions": [{"extn_id": "1.2.3.4.5", "critical": True, "extn_value": core.OctetString(b"x")}]}
        ),
        "the critical extension 1.2.3.4.5",
        False,
    ),
    "more-in-it": (_tsa_with(tail=b"\x05\x00"), "more than was expected", True),
    "other-version": (_tsa_with(tst={"version": 2}), "another version of TSTInfo", False),
}


@pytest.mark.parametrize("name", BAD)
def test_a_token_with_a_fault_is_refused_and_the_fault_is_named(root: Issuer, name: str) -> None:
    make, said, also_refused = BAD[name]
    tsa = make(root)
    token = read_response(tsa.respond(time_stamp_request(TEXT, nonce=NONCE)))
    with pytest.raises(StampError, match=said) as refused:
        check_token(token, TEXT, [root.certificate], nonce=NONCE, policies=[POLICY])
    assert refused.value.zh != str(refused.value)
    assert others_accept(token, [root.certificate]) != also_refused


def test_keys_that_are_weak_or_of_another_kind_do_not_count(root: Issuer) -> None:
    weak = make_tsa(root, rsa.generate_private_key(65537, 1024))
    other = make_tsa(root, ed25519.Ed25519PrivateKey.generate())
    other.digest = "sha512"
    for tsa in (weak, other):
        with pytest.raises(StampError, match="the signer's key does not count"):
            check_token(tsa.stamp(), TEXT, [root.certificate])


def test_the_mask_of_pss_has_the_digest_of_the_signature(root: Issuer, rsa_key: rsa.RSAPrivateKey) -> None:
    tsa = make_tsa(root, rsa_key)
    tsa.pss, tsa.mask_digest = True, "sha512"
    with pytest.raises(StampError, match="does not count"):
        check_token(tsa.stamp(), TEXT, [root.certificate])


def test_signed_attributes_that_were_put_in_another_order_are_refused(tsa: Tsa, root: Issuer) -> None:
    """What is signed is their sorted form: whether that is what was sent is not guessed."""
    token = tsa.stamp()
    attributes = cms.ContentInfo.load(token)["content"]["signer_infos"][0]["signed_attrs"]
    first, second = attributes[0].dump(), attributes[1].dump()
    assert token.count(first + second) == 1
    with pytest.raises(StampError, match="not in order"):
        check_token(token.replace(first + second, second + first), TEXT, [root.certificate])
    doubled = token.replace(first + second, first + first)
    with pytest.raises(StampError, match="not a time-stamp token"):
        check_token(doubled, TEXT, [root.certificate])


def test_checking_needs_no_library_but_cryptography() -> None:
    """Receipts are verified where nothing else is installed."""
    program = (
        "import sys; import exchange.timestamps.token;"
        "print(*{(getattr(each, '__file__', '') or '').partition('site-packages/')[2] for each in sys.modules.values()})"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    libraries = {file.partition("/")[0] for file in done.stdout.split() if not file.startswith(("_", "distutils"))}
    assert libraries == {"cryptography"}


def test_there_is_no_believing_without_an_anchor(tsa: Tsa) -> None:
    for anchors in ([], [Issuer.root().certificate], [make_tsa(Issuer.root()).certificate]):
        with pytest.raises(StampError, match="anchor"):
            check_token(tsa.stamp(), TEXT, anchors)
    check_token(tsa.stamp(), TEXT, [tsa.certificate])  # who believes this one authority and not its CA


def test_certificates_that_an_outsider_puts_in_change_nothing(tsa: Tsa, root: Issuer) -> None:
    """They are not signed; those that cannot be read or are too many are refused."""
    forger = make_tsa(Issuer.root())
    tsa.above = [forger.certificate, root.certificate, tsa.certificate]
    check_token(tsa.stamp(), TEXT, [root.certificate])
    tsa.above = [forger.certificate] * 16
    with pytest.raises(StampError, match="too many certificates"):
        check_token(tsa.stamp(), TEXT, [root.certificate])
    # The signature of one authority with the certificate of another that has the same names and number.
    twin = make_tsa(root)
    twin.key = tsa.key
    with pytest.raises(StampError, match="does not verify"):
        check_token(twin.stamp(), TEXT, [root.certificate])


def _accepted(token: bytes, root: Issuer) -> Stamp | None:
    try:
        return check_token(token, TEXT, [root.certificate])
    except StampError as error:
        told = str(error), error.zh
    assert all(told)
    return None


def test_no_changed_byte_of_a_token_is_accepted(tsa: Tsa, root: Issuer, rsa_key: rsa.RSAPrivateKey) -> None:
    """Each byte in turn, several times; and each way to cut the token off or to add to it."""
    chance = random.Random(3161)
    tsa.nonce = "same"
    token = tsa.stamp(nonce=NONCE)
    assert _accepted(token, root)
    for _ in range(3):
        for place in range(len(token)):
            changed = bytearray(token)
            changed[place] ^= chance.choice([1, 2, 4, 8, 16, 32, 64, 128, 255, chance.randrange(1, 256)])
            assert _accepted(bytes(changed), root) is None, place
    for size in range(len(token)):
        assert _accepted(token[:size], root) is None
    for added in (b"\0", b"\0\0", token):
        assert _accepted(token + added, root) is None
    assert _accepted(token + bytes(MOST_BYTES), root) is None


def test_a_changed_byte_of_an_rsa_token_says_nothing_else(root: Issuer, rsa_key: rsa.RSAPrivateKey) -> None:
    """`rsaEncryption` and `sha256WithRSAEncryption` are one bit apart and mean the same here: what is said does not change."""
    chance = random.Random(3161)
    tsa = make_tsa(root, rsa_key)
    token = tsa.stamp(nonce=NONCE)
    said = _accepted(token, root)
    assert said
    accepted = set()
    for place in range(len(token)):
        changed = bytearray(token)
        changed[place] ^= 1 << chance.randrange(8)
        if found := _accepted(bytes(changed), root):
            assert found == said
            accepted.add(place)
    assert len(accepted) <= 1


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_refused(data: bytes) -> None:
    for read in (read_token, read_response):
        with pytest.raises(StampError):
            read(data)


@given(st.data())
def test_values_in_values_are_no_more_than_refused(data: st.DataObject) -> None:
    """Well-formed DER of any shape, as the two readers meet it."""
    tags = st.sampled_from([0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x18, 0x80, 0xA0, 0xA1, 0x1F])
    leaves = st.builds(der.write, tags, st.binary(max_size=8))
    nested = st.recursive(
        leaves,
        lambda inner: st.builds(
            lambda tag, parts: der.write(tag, *parts), st.sampled_from([0x30, 0x31, 0xA0]), st.lists(inner)
        ),
        max_leaves=12,
    )
    value = data.draw(nested)
    for read in (read_token, read_response):
        with contextlib.suppress(StampError):
            read(value)


# Requests and answers


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("policy", ["", POLICY])
@pytest.mark.parametrize("nonce", [0, 127, 128, 255, 256, NONCE])
def test_a_request_says_to_others_what_it_should(digest: str, policy: str, nonce: int) -> None:
    request = time_stamp_request(TEXT, nonce=nonce, digest=digest, policy=policy)
    read = tsp.TimeStampReq.load(request, strict=True)
    assert read.native["version"] == "v1"
    assert read["message_imprint"]["hash_algorithm"]["algorithm"].native == digest
    assert read["message_imprint"]["hashed_message"].native == hashlib.new(digest, TEXT).digest()
    assert (read["nonce"].native, read["cert_req"].native) == (nonce, True)
    assert (read["req_policy"].dotted if policy else "") == policy


@pytest.mark.parametrize("status", ["rejection", "waiting", "revocation_warning", "revocation_notification"])
def test_a_refusal_tells_its_reason(tsa: Tsa, status: str) -> None:
    tsa.status = status
    with pytest.raises(StampError, match=r"refused .*timeNotAvailable: 今天不盖章\?$"):
        read_response(tsa.respond(time_stamp_request(TEXT, nonce=1)))


def test_a_grant_with_modifications_is_looked_at_like_any(tsa: Tsa, root: Issuer) -> None:
    tsa.status = "granted_with_mods"
    answer = tsa.respond(time_stamp_request(TEXT, nonce=NONCE))
    assert check_token(read_response(answer), TEXT, [root.certificate], nonce=NONCE)


def test_an_answer_with_more_or_less_than_a_token_is_refused(tsa: Tsa) -> None:
    answer = tsa.respond(time_stamp_request(TEXT, nonce=1))
    inside = der.Reader(answer).inside(der.SEQUENCE)
    status, token = inside.whole(der.SEQUENCE), inside.whole(der.SEQUENCE)
    for bad in (
        answer + b"\0",
        der.write(der.SEQUENCE, status),
        der.write(der.SEQUENCE, status, token, token),
        b"<html>",
    ):
        with pytest.raises(StampError, match="not a time-stamp response"):
            read_response(bad)


# DER


@pytest.mark.parametrize(
    "value",
    [
        "0200",  # no number
        "02020001",  # a byte too many
        "0202ff80",
        "028101 01",  # a length that needs no second byte
        "0282000101",
        "0280010000",  # an indefinite length
        "02850000000001 01",
        "0201",  # cut off
        "02",
        "1f0101",  # a tag of several bytes
        "040101",  # another tag
    ],
)
def test_an_integer_has_one_form(value: str) -> None:
    with pytest.raises(der.DerError):
        der.Reader(bytes.fromhex(value)).integer()


@given(st.integers(min_value=0, max_value=1 << 600))
def test_integers_are_read_as_they_are_written(number: int) -> None:
    reader = der.Reader(der.write_integer(number))
    assert (reader.integer(), reader.more) == (number, False)
    assert core.Integer(number).dump() == der.write_integer(number)


@pytest.mark.parametrize("dotted", ["0.0", "1.39", "2.999.3", "1.2.840.113549.1.9.16.2.47", "2.16.840.1.101.3.4.2.1"])
def test_identifiers_are_read_as_they_are_written(dotted: str) -> None:
    encoded = der.write_identifier(dotted)
    assert der.Reader(encoded).identifier() == dotted
    assert core.ObjectIdentifier(dotted).dump() == encoded


@pytest.mark.parametrize("dotted", ["", "1", "1.40", "3.1", "1.2.", "1..2", "1.02", "1.-2", "a.b", "1.2 "])
def test_what_is_no_identifier_is_not_written(dotted: str) -> None:
    with pytest.raises(der.DerError):
        der.write_identifier(dotted)


@pytest.mark.parametrize("value", ["0600", "0601 80", "06022a80", "0603 2a8001", "0641" + "01" * 65])
def test_what_is_no_identifier_is_not_read(value: str) -> None:
    with pytest.raises(der.DerError):
        der.Reader(bytes.fromhex(value)).identifier()
