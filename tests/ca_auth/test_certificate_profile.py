"""Whom a certificate names, and which certificates name nobody."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from ca_auth import Identity, identity_of, identity_uri
from exchange import UnauthenticatedError, member_id, subsystem_id

KEY = ec.generate_private_key(ec.SECP256R1())
URI = x509.UniformResourceIdentifier
TAX = "CN/GOV/11990000000000000X/tax"


def certificate(*extensions: x509.ExtensionType) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anybody")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256())


def names(*uris: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([URI(uri) for uri in uris])


def usage(*, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_agreement=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (f"datong:{TAX}", Identity(member_id(TAX.rpartition("/")[0]), subsystem_id(TAX))),
        ("datong:CN/GOV/M", Identity(member_id("CN/GOV/M"), None)),
        ("datong:CN/GOV/M/what%3F", Identity(member_id("CN/GOV/M"), subsystem_id("CN/GOV/M/what?"))),
    ],
)
def test_one_uri_names_the_member_and_perhaps_a_subsystem(uri: str, expected: Identity) -> None:
    assert identity_of(certificate(names(uri))) == expected
    assert (
        identity_of(certificate(names("https://tax.example/", uri), CLIENT, usage(digital_signature=True))) == expected
    )
    assert identity_uri(expected.subsystem or expected.member) == uri


@pytest.mark.parametrize(
    "uris",
    [
        pytest.param([], id="none"),
        pytest.param(["https://tax.example/"], id="another-scheme-only"),
        pytest.param(["datong:CN/GOV/A", "datong:CN/GOV/B"], id="two"),
        pytest.param(["datong:CN/GOV/A", "datong:CN/GOV/A"], id="the-same-twice"),
        pytest.param(["datong:CN/GOV/A", "DATONG:CN/GOV/B"], id="two-in-different-case"),
        pytest.param(["Datong:CN/GOV/A"], id="upper-case-scheme"),
        pytest.param(["datong:"], id="empty"),
        pytest.param(["datong:CN/GOV"], id="class-only"),
        pytest.param(["datong:CN/GOV/A/b/c"], id="a-service"),
        pytest.param(["datong:/CN/GOV/A"], id="leading-slash"),
        pytest.param(["datong://CN/GOV/A"], id="authority"),
        pytest.param(["datong:CN/GOV/A/"], id="trailing-slash"),
        pytest.param(["datong:CN/GOV/../A"], id="dot-segment"),
        pytest.param(["datong:CN/GOV/%41"], id="needless-escape"),
        pytest.param(["datong:CN/GOV/A%3f"], id="lower-case-escape"),
        pytest.param(["datong:CN/GOV/A%2Fb"], id="escaped-slash"),
        pytest.param(["datong:CN/GOV/A%"], id="broken-escape"),
        pytest.param(["datong:CN/GOV/A b"], id="space"),
        pytest.param(["datong:CN/GOV/A\x00b"], id="nul"),
        pytest.param(["datong:CN/GOV/A*"], id="wildcard"),
        pytest.param(["datong:CN/GOV/" + "A" * 65], id="too-long"),
    ],
)
def test_a_missing_doubled_or_malformed_identity_is_refused_by_name(uris: list[str]) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        identity_of(certificate(names(*uris)) if uris else certificate())
    assert caught.value.rule == "certificate-profile"
    assert caught.value.detail_in("zh") != caught.value.detail_in("en")


@pytest.mark.parametrize(
    "extension",
    [
        pytest.param(x509.BasicConstraints(ca=True, path_length=None), id="a-ca"),
        pytest.param(usage(digital_signature=False), id="key-usage-without-signature"),
        pytest.param(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), id="server-only"),
        pytest.param(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), id="any-purpose"),
        pytest.param(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.15"), b"\x04\x01\x00"), id="unreadable-key-usage"
        ),
    ],
)
def test_a_certificate_for_another_purpose_is_refused_by_name(extension: x509.ExtensionType) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        identity_of(certificate(names(f"datong:{TAX}"), extension))
    assert caught.value.rule == "certificate-profile"


def test_a_dns_name_an_address_or_a_common_name_carries_no_authority() -> None:
    other = x509.SubjectAlternativeName([x509.DNSName("datong"), x509.RFC822Name("datong@gov.example")])
    with pytest.raises(UnauthenticatedError):
        identity_of(certificate(other))


PART = st.text(alphabet="ABCxyz019'()+,-.=?_", min_size=1, max_size=64).filter(lambda part: part not in (".", ".."))


@settings(max_examples=50, deadline=None)
@given(st.lists(PART, min_size=3, max_size=4))
def test_every_identifier_survives_the_way_into_a_certificate_and_back(parts: list[str]) -> None:
    text = "/".join(parts)
    identifier = member_id(text) if len(parts) == 3 else subsystem_id(text)
    identity = identity_of(certificate(names(identity_uri(identifier))))
    assert (identity.subsystem or identity.member) == identifier


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="datong:DATONG/CNGOV%2Ff.?#", max_size=40))
def test_any_text_as_uri_is_an_identity_or_a_named_refusal(text: str) -> None:
    with suppress(UnauthenticatedError):
        identity = identity_of(certificate(names("datong:" + text)))
        assert identity_uri(identity.subsystem or identity.member) == "datong:" + text
