"""Certificates with whatever names and extensions a test wants, and synthetic numbers of people and organisations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from ca_auth.profiles.naming import Naming, Persons
from ca_auth.profiles.organisation_codes import members_of_class
from ca_auth.profiles.person_numbers import check_character
from exchange import compose_uscc, member_id

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUED = datetime(2026, 1, 5, tzinfo=UTC)
PERSON_KEY = bytes(range(32))

CODE = compose_uscc("11", "990100", "00000017")
OTHER_CODE = compose_uscc("91", "990100", "DT000001")
MEMBER = member_id(f"CN/GOV/{CODE}")
OTHER_MEMBER = member_id(f"CN/GOV/{OTHER_CODE}")

GMT = "1.2.156.10260.4.1."
IDENTITY, INSURANCE, REGISTRATION, ORGANIZATION, TAXATION = (f"{GMT}{last}" for last in range(1, 6))


def citizen(division: str = "110101", born: str = "19900307", order: str = "001") -> str:
    """A number that passes every check and, since the tests invent it, names nobody they know of."""
    first17 = division + born + order
    return first17 + check_character(first17)


PERSON = citizen()

PLAIN = Naming(member_of_code=members_of_class("CN", "GOV"))
WITH_PERSONS = Naming(member_of_code=members_of_class("CN", "GOV"), persons=Persons(key=PERSON_KEY, subsystem="desk"))


def attribute(kind: x509.ObjectIdentifier, text: str) -> x509.NameAttribute[str]:
    """An attribute of a subject with any text, also one that the library would refuse to write."""
    return x509.NameAttribute(kind, text, _type=_ASN1Type.UTF8String, _validate=False)


def organization_identifier(text: str) -> x509.NameAttribute[str]:
    return attribute(NameOID.ORGANIZATION_IDENTIFIER, text)


def serial_number(text: str) -> x509.NameAttribute[str]:
    return attribute(NameOID.SERIAL_NUMBER, text)


def unit(text: str) -> x509.NameAttribute[str]:
    return attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, text)


def common_name(text: str) -> x509.NameAttribute[str]:
    return attribute(NameOID.COMMON_NAME, text)


def der(tag: int, content: bytes) -> bytes:
    """One DER value of less than 64 KiB."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes(2 if size > 0xFF else 1)
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def printable(text: str) -> bytes:
    return der(0x13, text.encode("latin-1"))


def private(oid: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def certificate(
    *names: x509.NameAttribute[str],
    extensions: Sequence[x509.ExtensionType] = (),
    uris: Sequence[str] = (),
    issuer: x509.Certificate | None = None,
    ca: bool = False,
    key: ec.EllipticCurvePrivateKey = KEY,
    key_id: bool = True,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    by: tuple[bytes, bytes] = (b"", b""),
) -> x509.Certificate:
    """A certificate with these names and extensions; every one is signed by the same key.

    `by` replaces bytes of equal length afterwards, for what the library will not write; the signature is then wrong.
    """
    subject = x509.Name(names)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ISSUED)
        .not_valid_after(ISSUED + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if ca and key_id:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if not ca and not any(extension.oid == ExtensionOID.EXTENDED_KEY_USAGE for extension in extensions):
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if uris:
        names_of_subject = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names_of_subject), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(KEY, hashes.SHA256())
    if not by[0]:
        return signed
    return x509.load_der_x509_certificate(signed.public_bytes(serialization.Encoding.DER).replace(*by))


def authority(name: str, issuer: x509.Certificate | None = None, *, key_id: bool = True) -> x509.Certificate:
    """A CA certificate with a key of its own."""
    own = ec.generate_private_key(ec.SECP256R1())
    return certificate(common_name(name), issuer=issuer, ca=True, key=own, key_id=key_id)
