"""Whom the certificates of other CAs name, by each profile, and why the rest are refused."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca_auth.profiles.identity import Identity
from ca_auth.profiles.naming import Naming, Persons, sample_naming
from ca_auth.profiles.organisation_codes import members_of_class
from ca_auth.profiles.profiles import PROFILES
from exchange import MemberId, UnauthenticatedError, pseudonym_of, subsystem_id
from tests.ca_auth.profile_kit import (
    CODE,
    IDENTITY,
    INSURANCE,
    MEMBER,
    ORGANIZATION,
    OTHER_CODE,
    OTHER_MEMBER,
    PERSON,
    PERSON_KEY,
    PLAIN,
    REGISTRATION,
    TAXATION,
    WITH_PERSONS,
    attribute,
    authority,
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

BY_IDENTIFIER = PROFILES["organization-identifier"]
BY_GMT = PROFILES["gmt-0015"]
BY_SERIAL = PROFILES["subject-serial-number"]

DESK = subsystem_id(f"{MEMBER}/desk")
PERSON_HASH = pseudonym_of(PERSON_KEY, PERSON)

BY_UNIT = replace(PLAIN, subsystem_from="organizational-unit")
BY_COMMON_NAME = replace(PLAIN, subsystem_from="common-name")
BY_URI = replace(PLAIN, subsystem_from="uri")
OF_USCC = replace(PLAIN, serial_number="uscc")
OF_CITIZENS = replace(WITH_PERSONS, serial_number="citizen")

NAMED = organization_identifier(f"NTRCN-{CODE}")


def refusal(profile: str, subject: x509.Certificate, naming: Naming = WITH_PERSONS) -> UnauthenticatedError:
    with pytest.raises(UnauthenticatedError) as caught:
        PROFILES[profile].identity(subject, naming)
    assert caught.value.detail_in("zh") != caught.value.detail_in("en")
    return caught.value


# organization-identifier


@pytest.mark.parametrize(
    ("subject", "naming", "subsystem"),
    [
        pytest.param(certificate(NAMED), PLAIN, None, id="the-organisation"),
        pytest.param(certificate(NAMED, serial_number("machine 12")), PLAIN, None, id="a-serial-number-of-a-device"),
        pytest.param(certificate(NAMED, unit("tax")), BY_UNIT, "tax", id="machine-by-unit"),
        pytest.param(certificate(NAMED, common_name("tax-1.gov")), BY_COMMON_NAME, "tax-1.gov", id="machine-by-name"),
        pytest.param(certificate(NAMED, uris=[f"datong:{MEMBER}/tax"]), BY_URI, "tax", id="machine-by-uri"),
        pytest.param(certificate(NAMED, uris=[f"datong:{MEMBER}/a%3F"]), BY_URI, "a?", id="machine-by-escaped-uri"),
        pytest.param(certificate(NAMED, uris=[f"datong:{MEMBER}"]), PLAIN, None, id="a-uri-that-agrees"),
        pytest.param(certificate(NAMED, uris=["https://tax.example/"]), PLAIN, None, id="another-uri"),
    ],
)
def test_the_organization_identifier_names_the_member(
    subject: x509.Certificate, naming: Naming, subsystem: str | None
) -> None:
    found = BY_IDENTIFIER.identity(subject, naming)
    expected = None if subsystem is None else subsystem_id(f"{MEMBER}/{subsystem}")
    assert found == Identity(MEMBER, expected, profile="organization-identifier")
    assert found.kind == ("organisation" if subsystem is None else "subsystem")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("NTRCN-", id="no-code"),
        pytest.param(CODE, id="no-scheme"),
        pytest.param(f"NTRCN{CODE}", id="no-hyphen"),
        pytest.param(f"NTRCN–{CODE}", id="a-dash-for-the-hyphen"),
        pytest.param(f"VATCN-{CODE}", id="another-scheme"),
        pytest.param(f"NTRDE-{CODE}", id="another-country"),
        pytest.param(f"ntrcn-{CODE}", id="small-scheme"),
        pytest.param(f"NTRCN-{CODE.lower()}x", id="small-letters"),
        pytest.param(f"NTRCN-{CODE[:17]}", id="one-short"),
        pytest.param(f"NTRCN-{CODE}0", id="one-long"),
        pytest.param(f" NTRCN-{CODE}", id="space-before"),
        pytest.param(f"NTRCN-{CODE} ", id="space-behind"),
        pytest.param(f"NTRCN-{CODE}\n", id="newline-behind"),
        pytest.param(f"NTRCN-{CODE}\x00", id="nul-behind"),
        pytest.param(f"NTRCN-{CODE}\x00{OTHER_CODE}", id="nul-between"),
        pytest.param(f"NTRCN-{CODE[:4]}\u200b{CODE[4:]}", id="zero-width-space"),
        pytest.param(f"NTRCN-\u202e{CODE}", id="right-to-left-override"),
        pytest.param("NTRCN-" + "".join(chr(ord(each) + 0xFEE0) for each in CODE), id="full-width"),
        pytest.param(f"NTRCN-{CODE.replace('1', 'I', 1)}", id="a-letter-the-code-lacks"),
        pytest.param(f"NTRCN-{CODE.replace('0', 'О', 1)}", id="a-cyrillic-letter"),
        pytest.param(f"NTRCN-{CODE}/tax", id="a-subsystem"),
        pytest.param(f"NTRCN-../{CODE[3:]}", id="a-path"),
    ],
)
def test_another_spelling_of_an_organization_identifier_is_refused(text: str) -> None:
    assert refusal("organization-identifier", certificate(organization_identifier(text))).rule == "certificate-profile"


@pytest.mark.parametrize(
    ("subject", "naming", "says"),
    [
        (certificate(common_name("x")), PLAIN, "no organizationIdentifier"),
        (certificate(NAMED, NAMED), PLAIN, "organizationIdentifier 2 times"),
        (certificate(NAMED, organization_identifier(f"NTRCN-{OTHER_CODE}")), PLAIN, "organizationIdentifier 2 times"),
        (certificate(NAMED), BY_UNIT, "organizationalUnitName 0 times"),
        (certificate(NAMED, unit("tax"), unit("vat")), BY_UNIT, "organizationalUnitName 2 times"),
        (certificate(NAMED, unit("税务局")), BY_UNIT, "name of its subsystem"),
        (certificate(NAMED, unit("a/b")), BY_UNIT, "name of its subsystem"),
        (certificate(NAMED, unit("..")), BY_UNIT, "name of its subsystem"),
        (certificate(NAMED, unit("tax ")), BY_UNIT, "name of its subsystem"),
        (certificate(NAMED), BY_URI, "no single URI"),
        (certificate(NAMED, uris=[f"datong:{OTHER_MEMBER}/tax"]), BY_URI, "no single URI"),
        (certificate(NAMED, uris=[f"datong:{MEMBER}/a", f"datong:{MEMBER}/a"]), BY_URI, "no single URI"),
        (certificate(NAMED, uris=[f"datong:{MEMBER}/a/b"]), BY_URI, "name of its subsystem"),
        (certificate(NAMED, uris=[f"datong:{MEMBER}/%61"]), BY_URI, "URI datong:... names somebody else"),
        (certificate(NAMED, uris=[f"datong:{OTHER_MEMBER}"]), PLAIN, "URI datong:... names somebody else"),
        (certificate(NAMED, uris=[f"datong:{MEMBER}/tax"]), PLAIN, "URI datong:... names somebody else"),
        (certificate(NAMED, uris=[f"DATONG:{MEMBER}"]), PLAIN, "URI datong:... names somebody else"),
        (certificate(NAMED, serial_number(f"IDCCN-{PERSON}")), PLAIN, "persons are not accepted"),
        (certificate(NAMED, serial_number(PERSON)), PLAIN, "persons are not accepted"),
        (certificate(NAMED, attribute(NameOID.SURNAME, "张")), WITH_PERSONS, "without a number"),
        (certificate(NAMED, attribute(NameOID.GIVEN_NAME, "三")), WITH_PERSONS, "without a number"),
        (certificate(NAMED, attribute(NameOID.PSEUDONYM, "p")), WITH_PERSONS, "without a number"),
        (certificate(NAMED, serial_number("IDCCN-110101900307001")), WITH_PERSONS, "number of the person is malformed"),
        (certificate(NAMED, serial_number(f"IDCCN-{PERSON}\n")), WITH_PERSONS, "number of the person is malformed"),
        (certificate(NAMED, serial_number("PASKR-m12345678")), WITH_PERSONS, "number of the person is malformed"),
        (certificate(NAMED, serial_number("1"), serial_number("1")), PLAIN, "serialNumber 2 times"),
        (certificate(organization_identifier(f"NTRCN-{PERSON}")), PLAIN, "number of a person stands where"),
        (authority("CA"), PLAIN, "CA certificate"),
    ],
)
def test_a_contradiction_or_an_ambiguity_is_refused_and_explained(
    subject: x509.Certificate, naming: Naming, says: str
) -> None:
    error = refusal("organization-identifier", subject, naming)
    assert error.rule == "certificate-profile"
    assert says in str(error)


def test_another_scheme_can_be_agreed_with_a_ca() -> None:
    naming = Naming(member_of_code=lambda code: MemberId(f"EE/COM/{code}"), scheme="NTREE")
    assert BY_IDENTIFIER.identity(certificate(organization_identifier("NTREE-10747013")), naming).member == (
        "EE/COM/10747013"
    )
    assert "is not NTREE-" in str(refusal("organization-identifier", certificate(NAMED), naming))


def test_an_employees_certificate_is_the_person_and_speaks_as_the_one_subsystem_of_persons() -> None:
    subject = certificate(NAMED, attribute(NameOID.SURNAME, "张"), serial_number(f"IDCCN-{PERSON}"), unit("tax"))
    found = BY_IDENTIFIER.identity(subject, WITH_PERSONS)
    assert found == Identity(MEMBER, DESK, PERSON_HASH, "organization-identifier")
    assert found.kind == "person"


@pytest.mark.parametrize("text", [f"IDCCN-{PERSON}", f"PNOCN-{PERSON}", PERSON])
def test_one_person_is_one_person_however_a_ca_writes_the_number(text: str) -> None:
    assert BY_IDENTIFIER.identity(certificate(NAMED, serial_number(text)), WITH_PERSONS).person == PERSON_HASH


# gmt-0015


def by_gmt(*fields: tuple[str, bytes], names: tuple[x509.NameAttribute[str], ...] = ()) -> x509.Certificate:
    return certificate(*names, extensions=[private(oid, value) for oid, value in fields])


SHORT = CODE[8:17]


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(by_gmt((ORGANIZATION, printable(CODE))), id="organization-code"),
        pytest.param(by_gmt((ORGANIZATION, der(0x0C, CODE.encode()))), id="as-utf-8-string"),
        pytest.param(by_gmt((ORGANIZATION, der(0x16, CODE.encode()))), id="as-ia5-string"),
        pytest.param(by_gmt((REGISTRATION, printable(CODE))), id="registration-number"),
        pytest.param(by_gmt((ORGANIZATION, printable(SHORT)), (REGISTRATION, printable(CODE))), id="old-code-inside"),
        pytest.param(
            by_gmt((ORGANIZATION, printable(f"{SHORT[:8]}-{SHORT[8]}")), (REGISTRATION, printable(CODE))),
            id="old-code-with-hyphen",
        ),
        pytest.param(
            by_gmt((ORGANIZATION, printable(CODE)), (REGISTRATION, printable("110000000000017"))),
            id="a-registration-number-from-before",
        ),
        pytest.param(
            by_gmt((ORGANIZATION, printable(CODE)), (REGISTRATION, printable(CODE)), (TAXATION, printable(CODE))),
            id="all-three-agree",
        ),
        pytest.param(
            by_gmt((ORGANIZATION, printable(CODE)), (TAXATION, printable("110101000000017"))),
            id="a-tax-number-from-before",
        ),
        pytest.param(by_gmt((ORGANIZATION, printable(CODE)), names=(NAMED,)), id="and-organization-identifier"),
    ],
)
def test_the_extensions_of_gmt_0015_name_the_organisation(subject: x509.Certificate) -> None:
    assert BY_GMT.identity(subject, PLAIN) == Identity(MEMBER, profile="gmt-0015")


def test_a_machine_of_an_organisation_by_gmt_0015() -> None:
    subject = by_gmt((ORGANIZATION, printable(CODE)), names=(unit("tax"),))
    assert BY_GMT.identity(subject, BY_UNIT).subsystem == f"{MEMBER}/tax"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(der(0x80, PERSON.encode()), id="implicit-tag"),
        pytest.param(der(0xA0, printable(PERSON)), id="explicit-tag"),
        pytest.param(printable(PERSON), id="no-tag"),
        pytest.param(der(0x12, PERSON.encode()), id="numeric-string"),
    ],
)
def test_the_identity_code_names_the_person(value: bytes) -> None:
    of_organisation = by_gmt((IDENTITY, value), (ORGANIZATION, printable(CODE)))
    assert BY_GMT.identity(of_organisation, WITH_PERSONS) == Identity(MEMBER, DESK, PERSON_HASH, "gmt-0015")
    assert "persons are not accepted" in str(refusal("gmt-0015", of_organisation, PLAIN))
    assert "without an organisation" in str(refusal("gmt-0015", by_gmt((IDENTITY, value))))


def test_a_citizen_without_an_organisation_speaks_as_the_member_the_trust_file_names() -> None:
    portal = MemberId("CN/NAT/citizens")
    naming = replace(PLAIN, persons=Persons(key=PERSON_KEY, subsystem="portal", member=portal))
    found = BY_GMT.identity(by_gmt((INSURANCE, printable(PERSON)), (TAXATION, printable(PERSON))), naming)
    assert found == Identity(portal, subsystem_id(f"{portal}/portal"), PERSON_HASH, "gmt-0015")


def test_officers_and_holders_of_passports_are_persons_too() -> None:
    organisation = (ORGANIZATION, printable(CODE))
    officer = by_gmt((IDENTITY, der(0xA1, der(0x0C, "军字第1234567号".encode()))), organisation)
    traveller = by_gmt((IDENTITY, der(0x82, b"E12345678")), organisation)
    persons = {BY_GMT.identity(subject, WITH_PERSONS).person for subject in (officer, traveller)}
    assert len(persons | {PERSON_HASH, None}) == 4


def test_a_number_with_a_fault_is_accepted_with_a_warning() -> None:
    subject = by_gmt((IDENTITY, printable(citizen("990101", "20300101"))), (ORGANIZATION, printable(CODE)))
    found = BY_GMT.identity(subject, WITH_PERSONS)
    assert found.kind == "person"
    assert found.warnings == ("person-number-birth-date", "person-number-division")


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        (certificate(common_name(CODE)), "no extension of GM/T 0015"),
        (by_gmt((TAXATION, printable(CODE))), "no extension of GM/T 0015"),
        (by_gmt((REGISTRATION, printable("110000000000017"))), "no extension of GM/T 0015"),
        (by_gmt((ORGANIZATION, printable("tax"))), "organization-code holds no code"),
        (by_gmt((ORGANIZATION, printable(CODE.lower()))), "organization-code holds no code"),
        (by_gmt((ORGANIZATION, printable(CODE + " "))), "organization-code holds no code"),
        (by_gmt((ORGANIZATION, printable(CODE)), (REGISTRATION, printable(OTHER_CODE))), "different organisations"),
        (by_gmt((ORGANIZATION, printable(CODE)), (TAXATION, printable(OTHER_CODE))), "different organisations"),
        (by_gmt((ORGANIZATION, printable("123456789")), (REGISTRATION, printable(CODE))), "different organisations"),
        (
            by_gmt((ORGANIZATION, printable(CODE)), names=(organization_identifier(f"NTRCN-{OTHER_CODE}"),)),
            "organizationIdentifier names another",
        ),
        (by_gmt((ORGANIZATION, printable(PERSON))), "number of a person stands where"),
        (by_gmt((ORGANIZATION, b"")), "organization-code is no string"),
        (by_gmt((ORGANIZATION, CODE.encode())), "organization-code is no string"),
        (by_gmt((ORGANIZATION, printable(CODE) + b"\x00")), "organization-code is no string"),
        (by_gmt((ORGANIZATION, printable(CODE)[:-1])), "organization-code is no string"),
        (by_gmt((ORGANIZATION, b"\x13\x81\x12" + CODE.encode())), "organization-code is no string"),
        (by_gmt((ORGANIZATION, b"\x33\x80" + printable(CODE) + b"\x00\x00")), "organization-code is no string"),
        (by_gmt((ORGANIZATION, der(0x04, printable(CODE)))), "organization-code is no string"),
        (by_gmt((ORGANIZATION, der(0x1E, CODE.encode("utf-16-be")))), "organization-code is no string"),
        (by_gmt((ORGANIZATION, der(0x0C, b"\xff" + CODE[1:].encode()))), "organization-code is no string"),
        (by_gmt((ORGANIZATION, printable(CODE * 20))), "organization-code is no string"),
        (by_gmt((IDENTITY, der(0x83, PERSON.encode()))), "identity-code is no string"),
        (by_gmt((IDENTITY, der(0xA0, PERSON.encode()))), "identity-code is no string"),
        (by_gmt((IDENTITY, der(0xA0, der(0x0C, PERSON.encode()) * 2))), "identity-code is no string"),
        (by_gmt((IDENTITY, printable(f"SF{PERSON}"))), "number of the person is malformed"),
        (by_gmt((INSURANCE, printable("0012345678"))), "number of the person is malformed"),
    ],
)
def test_extensions_that_are_missing_malformed_or_at_odds_are_refused(subject: x509.Certificate, says: str) -> None:
    error = refusal("gmt-0015", subject)
    assert error.rule == "certificate-profile"
    assert says in str(error)


def test_a_ca_with_oids_of_its_own_is_read_by_those_alone() -> None:
    naming = replace(
        PLAIN, extensions=MappingProxyType({"organization-code": "1.2.86.11.7.3", "uscc": "1.2.86.11.7.99"})
    )
    other = (ORGANIZATION, printable(OTHER_CODE))
    assert BY_GMT.identity(by_gmt(("1.2.86.11.7.3", printable(CODE)), other), naming).member == MEMBER
    assert BY_GMT.identity(by_gmt(("1.2.86.11.7.99", printable(CODE))), naming).member == MEMBER
    at_odds = by_gmt(("1.2.86.11.7.3", printable(OTHER_CODE)), ("1.2.86.11.7.99", printable(CODE)))
    assert "different organisations" in str(refusal("gmt-0015", at_odds, naming))
    assert "uscc holds no code" in str(refusal("gmt-0015", by_gmt(("1.2.86.11.7.99", printable("1"))), naming))


def test_an_old_code_alone_names_a_member_only_if_the_registry_knows_it() -> None:
    subject = by_gmt((ORGANIZATION, printable(SHORT)))
    known = replace(PLAIN, member_of_code={SHORT: MEMBER, CODE: MEMBER}.get)
    assert BY_GMT.identity(subject, known).member == MEMBER
    for naming in (PLAIN, replace(PLAIN, member_of_code={}.get)):
        error = refusal("gmt-0015", subject, naming)
        assert error.rule == "certificate-member"
        assert "not a member" in str(error)


def test_a_registry_that_answers_with_another_member_is_not_believed() -> None:
    with pytest.raises(ValueError, match="another code"):
        BY_IDENTIFIER.identity(certificate(NAMED), replace(PLAIN, member_of_code=lambda code: OTHER_MEMBER))


# subject-serial-number


@pytest.mark.parametrize(
    ("subject", "naming", "expected"),
    [
        (certificate(serial_number(f"NTRCN-{CODE}")), PLAIN, Identity(MEMBER)),
        (certificate(serial_number(CODE)), OF_USCC, Identity(MEMBER)),
        (certificate(serial_number(CODE), unit("tax")), replace(OF_USCC, subsystem_from="organizational-unit"),
         Identity(MEMBER, subsystem_id(f"{MEMBER}/tax"))),
        (certificate(serial_number(f"PNOCN-{PERSON}"), NAMED), WITH_PERSONS, Identity(MEMBER, DESK, PERSON_HASH)),
        (certificate(serial_number(PERSON), NAMED), OF_CITIZENS, Identity(MEMBER, DESK, PERSON_HASH)),
    ],
)  # fmt: skip
def test_the_serial_number_names_an_organisation_a_machine_or_a_person(
    subject: x509.Certificate, naming: Naming, expected: Identity
) -> None:
    assert BY_SERIAL.identity(subject, naming) == replace(expected, profile="subject-serial-number")


@pytest.mark.parametrize(
    ("subject", "naming", "says"),
    [
        (certificate(NAMED), PLAIN, "serialNumber 0 times"),
        (certificate(serial_number(CODE), serial_number(CODE)), OF_USCC, "serialNumber 2 times"),
        (certificate(serial_number(CODE)), PLAIN, "does not begin with NTRCN-"),
        (certificate(serial_number(PERSON)), WITH_PERSONS, "does not begin with NTRCN-"),
        (certificate(serial_number(f"NTRCN-{CODE}")), OF_USCC, "no unified social credit code"),
        (certificate(serial_number(f"NTRCN-{CODE[1:]}")), PLAIN, "no unified social credit code"),
        (certificate(serial_number(CODE.lower())), OF_USCC, "no unified social credit code"),
        (certificate(serial_number(PERSON)), OF_USCC, "number of a person stands where"),
        (certificate(serial_number(CODE), NAMED), OF_CITIZENS, "number of the person is malformed"),
        (certificate(serial_number(PERSON)), OF_CITIZENS, "without an organisation"),
        (certificate(serial_number(PERSON), NAMED), replace(OF_CITIZENS, persons=None), "persons are not accepted"),
        (
            certificate(serial_number(CODE), organization_identifier(f"NTRCN-{OTHER_CODE}")),
            OF_USCC,
            "organizationIdentifier names another",
        ),
    ],
)
def test_a_serial_number_of_another_kind_is_refused(subject: x509.Certificate, naming: Naming, says: str) -> None:
    error = refusal("subject-serial-number", subject, naming)
    assert (error.rule, says in str(error)) == ("certificate-profile", True), str(error)


# all of them


@pytest.mark.parametrize("name", PROFILES)
def test_a_certificate_for_another_purpose_names_nobody(name: str) -> None:
    subject = certificate(NAMED, serial_number(f"NTRCN-{CODE}"), uris=[f"datong:{MEMBER}"])
    assert name == "gmt-0015" or PROFILES[name].identity(subject, PLAIN).member == MEMBER
    of_server = certificate(
        NAMED, serial_number(f"NTRCN-{CODE}"), uris=[f"datong:{MEMBER}"], purpose=ExtendedKeyUsageOID.SERVER_AUTH
    )
    assert "clientAuth" in str(refusal(name, of_server))


def test_a_class_that_cannot_be_part_of_an_identifier_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="member identifier"):
        members_of_class("CN", "GOV/X")


def test_people_can_look_at_a_certificate_without_a_trust_file() -> None:
    naming = sample_naming(PERSON_KEY)
    assert BY_IDENTIFIER.identity(certificate(NAMED), naming).member == MEMBER
    assert BY_GMT.identity(by_gmt((IDENTITY, printable(PERSON))), naming).kind == "person"
