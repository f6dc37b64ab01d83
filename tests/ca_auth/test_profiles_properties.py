"""Whatever stands in a certificate, a profile names somebody or refuses; nobody passes for another; no number leaks."""

from __future__ import annotations

import traceback
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ca_auth.profiles.der_strings import read_choice, read_string
from ca_auth.profiles.identity import UNREADABLE, Identity
from ca_auth.profiles.naming import Naming, Persons
from ca_auth.profiles.organisation_codes import members_of_class
from ca_auth.profiles.profiles import PROFILES
from ca_auth.profiles.shown_names import HIDDEN, shown_name
from exchange import MemberId, UnauthenticatedError
from tests.ca_auth.profile_kit import (
    CODE,
    GMT,
    IDENTITY,
    MEMBER,
    ORGANIZATION,
    PERSON,
    PERSON_KEY,
    PLAIN,
    WITH_PERSONS,
    attribute,
    certificate,
    citizen,
    common_name,
    der,
    organization_identifier,
    printable,
    private,
    serial_number,
    unit,
)

# The library says so on reading a certificate; whoever made it meant to break something.
pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")

ANYBODY = Naming(
    member_of_code=members_of_class("CN", "GOV"),
    persons=Persons(key=PERSON_KEY, subsystem="desk", member=MemberId("CN/NAT/citizens")),
)
NAMINGS = (
    PLAIN,
    ANYBODY,
    replace(ANYBODY, subsystem_from="organizational-unit"),
    replace(ANYBODY, subsystem_from="uri"),
    replace(ANYBODY, serial_number="uscc"),
    replace(ANYBODY, serial_number="citizen"),
)

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text("NTRCIDPAS-0123456789X", max_size=30),
    st.sampled_from([f"NTRCN-{CODE}", CODE, PERSON, f"IDCCN-{PERSON}", "PASKR-M12345678", "tax"]),
)
BYTES = st.one_of(
    st.binary(max_size=60),
    st.builds(der, st.integers(0, 255), st.binary(max_size=40)),
    TEXT.map(lambda text: der(0x0C, text.encode())),
    TEXT.map(lambda text: der(0xA1, der(0x0C, text.encode()))),
)
KINDS = st.sampled_from(
    [
        NameOID.ORGANIZATION_IDENTIFIER,
        NameOID.SERIAL_NUMBER,
        NameOID.COMMON_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
        NameOID.GIVEN_NAME,
    ]
)
URIS = st.text("datong:CNGOV/0123%2Ff?", max_size=40)


def named_or_refused(subject: x509.Certificate) -> list[Identity]:
    """Whom all profiles make of a certificate, under all settings."""
    found = []
    for profile in PROFILES.values():
        for naming in NAMINGS:
            with suppress(UnauthenticatedError):
                identity = profile.identity(subject, naming)
                assert identity.profile == profile.name
                found.append(identity)
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.builds(attribute, KINDS, TEXT), max_size=4),
    st.dictionaries(st.integers(1, 6).map(lambda last: f"{GMT}{last}"), BYTES, max_size=4),
    st.lists(URIS, max_size=2),
)
def test_any_content_is_an_identity_or_a_named_refusal(
    names: list[x509.NameAttribute[str]], values: dict[str, bytes], uris: list[str]
) -> None:
    extensions = [private(oid, value) for oid, value in values.items()]
    for identity in named_or_refused(certificate(*names, extensions=extensions, uris=uris)):
        assert len(identity.member.split("/")) == 3
        assert identity.subsystem is None or identity.subsystem.startswith(identity.member + "/")


GOOD = certificate(
    organization_identifier(f"NTRCN-{CODE}"),
    unit("tax"),
    serial_number(f"IDCCN-{PERSON}"),
    extensions=[private(IDENTITY, der(0xA0, printable(PERSON))), private(ORGANIZATION, printable(CODE))],
    uris=[f"datong:{MEMBER}/tax"],
).public_bytes(serialization.Encoding.DER)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damaged_certificate_is_an_identity_or_a_named_refusal(changes: list[tuple[int, int]]) -> None:
    """Signatures are somebody else's business; what parses at all is read without a crash."""
    damaged = bytearray(GOOD)
    for place, value in changes:
        damaged[place] = value
    try:
        subject = x509.load_der_x509_certificate(bytes(damaged))
    except UNREADABLE:
        return
    named_or_refused(subject)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(
            certificate(extensions=[private("2.5.29.17", bytes.fromhex("3004a3020500"))]), id="an-x400-address"
        ),
        pytest.param(
            certificate(organization_identifier("AAAA"), by=(b"\x0c\x04AAAA", b"\x03\x04\x00AAA")),
            id="a-name-of-bits",
        ),
        pytest.param(
            certificate(extensions=[private("2.5.29.15", b"\x03\x02\x00\x80"), private("2.5.29.37", b"\x30\x00")]),
            id="no-purposes-at-all",
        ),
    ],
)
def test_what_the_parser_does_not_know_is_refused(name: str, subject: x509.Certificate) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        PROFILES[name].identity(subject, ANYBODY)
    assert caught.value.rule == "certificate-profile"


@given(st.binary(max_size=40))
@example(b"\x13\x80\x00\x00")
@example(b"\x13\x84\xff\xff\xff\xff")
@example(b"\x1f\x81\x01\x00")
def test_any_bytes_are_a_string_or_a_value_error(value: bytes) -> None:
    for read in (read_string, read_choice):
        with suppress(ValueError):
            read(value)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_every_string_is_read_back(text: str) -> None:
    assert read_string(der(0x0C, text.encode())) == text
    assert read_choice(der(0x81, text.encode())) == (1, text)
    assert read_choice(der(0xA1, der(0x0C, text.encode()))) == (1, text)


# Nobody passes for another.

CONFUSABLE: list[Callable[[str, int], str]] = [
    lambda text, place: text[:place] + "\u200b" + text[place:],
    lambda text, place: text[:place] + "\u00ad" + text[place:],
    lambda text, place: text[:place] + "\ufeff" + text[place:],
    lambda text, place: text[:place] + "\u202d" + text[place:],
    lambda text, place: text[:place] + "\u0301" + text[place:],
    lambda text, place: text[:place] + " " + text[place:],
    lambda text, place: text[:place] + "\t" + text[place:],
    lambda text, place: text[:place] + "\x00" + text[place:],
    lambda text, place: text[:place] + "\n" + text[place:],
    lambda text, place: text[:place] + chr(ord(text[place]) + 0xFEE0) + text[place + 1 :],
    lambda text, place: text[:place] + text[place].lower() + text[place + 1 :],
    lambda text, place: text[:place] + text[place].translate(str.maketrans("ABCEHKMNOPTXY01", "АВСЕНКМΝОРТХΥОl"))
    + text[place + 1 :],
    lambda text, place: text[:place] + unicodedata.normalize("NFD", text[place] + "\u0308") + text[place + 1 :],
    lambda text, place: text[:place] + f"%{ord(text[place]):02X}" + text[place + 1 :],
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CONFUSABLE), st.data())
def test_a_look_alike_of_a_code_is_nobody(confuse: Callable[[str, int], str], data: st.DataObject) -> None:
    for written in (f"NTRCN-{CODE}", CODE):
        text = confuse(written, data.draw(st.integers(0, len(written) - 1)))
        if text == written:
            continue
        value = der(0x0C, text.encode())
        for subject in (
            certificate(organization_identifier(text)),
            certificate(serial_number(text)),
            certificate(extensions=[private(ORGANIZATION, value)]),
        ):
            assert named_or_refused(subject) == []


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CONFUSABLE), st.data())
def test_a_look_alike_of_a_persons_number_is_nobody(confuse: Callable[[str, int], str], data: st.DataObject) -> None:
    for number in (PERSON, next(each for order in range(99) if (each := citizen(order=f"{order:03}")).endswith("X"))):
        text = confuse(number, data.draw(st.integers(0, len(number) - 1)))
        assume(text.upper() != number or not text.isascii())
        for subject in (
            certificate(organization_identifier(f"NTRCN-{CODE}"), serial_number(f"IDCCN-{text}")),
            certificate(extensions=[private(IDENTITY, der(0x0C, text.encode()))]),
        ):
            assert not [found for found in named_or_refused(subject) if found.person is not None]


@settings(max_examples=200, deadline=None)
@given(st.one_of(TEXT, st.from_regex(r"NTRCN-[0-9A-HJ-NPQRTUWXY]{18}", fullmatch=True)))
def test_a_member_is_named_by_one_spelling_only(text: str) -> None:
    with suppress(UnauthenticatedError):
        found = PROFILES["organization-identifier"].identity(certificate(organization_identifier(text)), PLAIN)
        assert "NTRCN-" + found.member.rpartition("/")[2] == text


# No number leaks.

NUMBERS = st.builds(
    citizen,
    st.sampled_from(["110101", "990101", "810000"]),
    st.dates().map(lambda day: day.strftime("%Y%m%d").zfill(8)),
    st.text("0123456789", min_size=3, max_size=3),
)


@settings(max_examples=100, deadline=None)
@given(NUMBERS, st.sampled_from(["", "IDCCN-", "PNOCN-", "IDCCN-x", "NTRCN-", "SF", "PASDE-"]), st.booleans())
def test_the_number_of_a_person_is_in_no_text_that_leaves(number: str, before: str, broken: bool) -> None:
    """Wherever it stands, right or wrong: not in the identity, the settings, an error or its whole traceback."""
    assume(not before.startswith("NTRCN"))
    text = before + (number[:9] + " " + number[9:] if broken else number)
    secrets = (number, number[:9] + " " + number[9:], number[6:17])
    subjects = (
        certificate(serial_number(text), organization_identifier(f"NTRCN-{CODE}"), common_name("x")),
        certificate(serial_number(text)),
        certificate(serial_number(text), serial_number(text), unit(text)),
        certificate(extensions=[private(IDENTITY, printable(text)), private(ORGANIZATION, printable(CODE))]),
        certificate(extensions=[private(IDENTITY, der(0xA1, der(0x0C, text.encode())))]),
        certificate(extensions=[private(f"{GMT}{last}", text.encode()) for last in range(1, 6)]),
    )
    for subject in subjects:
        for profile in PROFILES.values():
            for naming in (PLAIN, WITH_PERSONS, ANYBODY, replace(ANYBODY, serial_number="citizen")):
                try:
                    shown = repr(profile.identity(subject, naming))
                except UnauthenticatedError as error:
                    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.facts)
                    shown += error.detail_in("zh") + error.next_in("zh")
                assert not any(secret in shown + repr(naming) for secret in secrets)
        assert not any(secret in shown_name(subject.subject) for secret in secrets)


@pytest.mark.parametrize("naming", [WITH_PERSONS, ANYBODY])
def test_the_key_of_the_hash_shows_itself_nowhere(naming: Naming) -> None:
    assert repr(PERSON_KEY) not in repr(naming)
    assert PERSON_KEY.hex() not in repr(naming)


def test_a_name_is_shown_without_what_may_be_a_number() -> None:
    subject = certificate(
        organization_identifier(f"NTRCN-{CODE}"),
        serial_number("12"),
        common_name(f"张三 {PERSON}"),
        unit(f"{PERSON[:6]} {PERSON[6:14]} {PERSON[14:]}"),
        attribute(NameOID.USER_ID, "zhang"),
        attribute(NameOID.LOCALITY_NAME, "Division 110101"),
    ).subject
    assert shown_name(subject) == (
        f"L=Division 110101,UID={HIDDEN},OU={HIDDEN},CN=张三 {HIDDEN},2.5.4.5={HIDDEN},2.5.4.97=NTRCN-{CODE}"
    )
