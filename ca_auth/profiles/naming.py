"""How the names in certificates of one anchor become identities of the mesh: what the trust file says beside a profile.

Pure; shared by every profile but `datong-uri`, which carries whole identifiers and needs none of it.

Rules:
1. A name that may occur once and occurs twice is refused, also when both are equal.
2. Whatever else in the certificate names an organisation or a member of ours must name the same one: a `datong:` URI
   (the bus maps its users by it) and organizationIdentifier.
3. A person speaks as the one subsystem that the trust file gives to persons, so a certificate for an employee's card
   never stands in for a machine. Without that setting, certificates of persons are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Final, Literal

from cryptography import x509
from cryptography.x509.oid import NameOID

from ca_auth.profiles.identity import UNREADABLE, Identity, breach
from ca_auth.profiles.organisation_codes import (
    MemberOfCode,
    check_is_no_person,
    is_uscc_form,
    member_for,
    members_of_class,
)
from ca_auth.profiles.person_numbers import PersonNumber, citizen_number, document_number
from ca_auth.profiles.profile import identity_uri, uris_of
from exchange import MemberId, SubsystemId, UnauthenticatedError, from_wire, subsystem_id

SubsystemFrom = Literal["none", "common-name", "organizational-unit", "uri"]
SerialNumberForm = Literal["semantic", "uscc", "citizen"]

USCC_SCHEME: Final = "NTRCN"
"""ETSI EN 319 412-1 section 5.1.4: NTR, a national trade register; CN, of China; its number is the USCC."""

_LEGAL_PERSON: Final = re.compile(r"([A-Z]{5})-([A-Z0-9][A-Z0-9.]{0,63})")
_NATURAL_PERSON: Final = re.compile(r"(IDC|PNO|PAS)([A-Z]{2})-(.+)", re.DOTALL)
_SUBSYSTEM_ATTRIBUTE: Final[Mapping[SubsystemFrom, x509.ObjectIdentifier]] = {
    "common-name": NameOID.COMMON_NAME,
    "organizational-unit": NameOID.ORGANIZATIONAL_UNIT_NAME,
}
_ATTRIBUTE_NAMES: Final = {
    NameOID.COMMON_NAME: "commonName",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "organizationalUnitName",
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
    NameOID.SERIAL_NUMBER: "serialNumber",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Persons:
    """That natural persons are accepted, and as whom they speak."""

    key: bytes = field(repr=False)
    """Of the hash under which a person is known: the one of `Datong-Subject`."""
    subsystem: str
    """Code of the subsystem of their member that persons speak as."""
    member: MemberId | None = None
    """Whose subsystem that is, when a certificate names no organisation; None: then it is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What one anchor's trust file entry says about the names in its certificates."""

    member_of_code: MemberOfCode
    subsystem_from: SubsystemFrom = "none"
    """Which name holds the subsystem's code; `none`: certificates speak for the whole member."""
    scheme: str = USCC_SCHEME
    """What stands before the hyphen of organizationIdentifier."""
    serial_number: SerialNumberForm = "semantic"
    """What the subject serialNumber holds (profile `subject-serial-number`)."""
    extensions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """OIDs that differ from those of GM/T 0015 (profile `gmt-0015`), by field name."""
    persons: Persons | None = None

    def organisation(self, extensions: x509.Extensions, certificate: x509.Certificate, code: str) -> Identity:
        """The identity of the organisation with `code`, or of one of its machines.

        Raises:
            UnauthenticatedError: `certificate-profile`, or `certificate-member` when there is no such member.
        """
        member = self._member(certificate, code)
        if self.subsystem_from == "none":
            identity = Identity(member)
        elif self.subsystem_from == "uri":
            identity = Identity(member, _subsystem_by_uri(uris_of(extensions), member))
        else:
            name = one_attribute(certificate, _SUBSYSTEM_ATTRIBUTE[self.subsystem_from])
            identity = Identity(member, _subsystem(member, name))
        _check_uris_agree(extensions, identity)
        return identity

    def person(
        self, extensions: x509.Extensions, certificate: x509.Certificate, number: PersonNumber, code: str | None
    ) -> Identity:
        """The identity of a natural person, of the organisation with `code` if there is one.

        Raises:
            UnauthenticatedError: As for `organisation`; also when persons are not accepted from this CA.
        """
        if self.persons is None:
            raise breach(
                "it names a natural person, and persons are not accepted from its CA",
                "它是自然人证书，而平台不接受该 CA 的自然人证书",
            )
        member = self.persons.member if code is None else self._member(certificate, code)
        if member is None:
            raise breach("it names a natural person without an organisation", "它是自然人证书，但没有所属机构")
        faults = number.faults(issued_on(certificate))
        identity = Identity(
            member,
            subsystem_id(f"{member}/{self.persons.subsystem}"),
            number.hashed(self.persons.key),
            warnings=tuple(f"person-number-{fault.kind}" for fault in faults),
        )
        _check_uris_agree(extensions, identity)
        return identity

    def _member(self, certificate: x509.Certificate, code: str) -> MemberId:
        check_is_no_person(code, issued_on(certificate))
        member = member_for(code, self.member_of_code)
        also = organization_identifier(certificate, self.scheme)
        if also is not None and also not in (code, member.rpartition("/")[2]):
            raise breach(
                "its organizationIdentifier names another organisation", "其 organizationIdentifier 指向另一机构"
            )
        return member


def sample_naming(key: bytes) -> Naming:
    """What `datong ca check` reads names with when there is no trust file: class GOV, persons accepted as `person`."""
    anybody = MemberId("CN/NAT/person")
    return Naming(
        member_of_code=members_of_class("CN", "GOV"), persons=Persons(key=key, subsystem="person", member=anybody)
    )


def organization_identifier(certificate: x509.Certificate, scheme: str) -> str | None:
    """The code in the subject's organizationIdentifier (2.5.4.97), None if there is no such attribute.

    Raises:
        UnauthenticatedError: It occurs twice, has another form or another scheme, or is no USCC where it should be one.
    """
    text = optional_attribute(certificate, NameOID.ORGANIZATION_IDENTIFIER)
    if text is None:
        return None
    found = _LEGAL_PERSON.fullmatch(text)
    if found is None or found[1] != scheme:
        raise breach(
            f"its organizationIdentifier is not {scheme}- and a code",
            f"其 organizationIdentifier 不是 {scheme}- 加代码",
        )
    if scheme == USCC_SCHEME and not is_uscc_form(found[2]):
        raise breach(
            "its organizationIdentifier holds no unified social credit code",
            "其 organizationIdentifier 中不是统一社会信用代码",
        )
    return found[2]


def natural_person(text: str) -> PersonNumber | None:
    """The number in a semantic identifier of a natural person (ETSI EN 319 412-1 section 5.1.3), None for other text.

    `IDCCN-` and `PNOCN-` hold a citizen number; `PAS`, and the other two of other countries, a document's number.

    Raises:
        UnauthenticatedError: It begins as one and its number is malformed.
    """
    found = _NATURAL_PERSON.fullmatch(text)
    if found is None:
        return None
    kind, country, number = found.groups()
    try:
        if country == "CN" and kind != "PAS":
            return citizen_number(number)
        return document_number(kind + country, number)
    except ValueError:
        # The number must not travel with the error.
        raise malformed_person_number() from None


def malformed_person_number() -> UnauthenticatedError:
    """The refusal of a number that has not the form of its kind."""
    return breach(
        "the number of the person is malformed (18 characters are expected of a citizen number)",
        "个人证件号码格式不正确（公民身份号码应为 18 位）",
    )


def one_attribute(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> str:
    """The text of an attribute that the subject holds exactly once.

    Raises:
        UnauthenticatedError: It is missing, occurs twice, or is no text.
    """
    text = optional_attribute(certificate, kind)
    if text is None:
        raise _times(kind, 0)
    return text


def optional_attribute(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> str | None:
    """The text of an attribute that the subject holds once, None if it does not hold it.

    Raises:
        UnauthenticatedError: It occurs twice, or is no text.
    """
    try:
        found = certificate.subject.get_attributes_for_oid(kind)
    except UNREADABLE:
        # The parser's own error may quote what it could not read.
        raise breach("its subject cannot be read", "证书主体无法解析") from None
    if not found:
        return None
    if len(found) != 1:
        raise _times(kind, len(found))
    text = found[0].value
    if not isinstance(text, str):
        raise breach("its subject cannot be read", "证书主体无法解析")
    return text


def _times(kind: x509.ObjectIdentifier, count: int) -> UnauthenticatedError:
    name = _ATTRIBUTE_NAMES[kind]
    return breach(
        f"its subject holds {name} {count} times instead of once", f"其主体中 {name} 出现 {count} 次，应为一次"
    )


def issued_on(certificate: x509.Certificate) -> date:
    """The first day of a certificate: whoever it names had been born by then."""
    return certificate.not_valid_before_utc.date()


def _subsystem(member: MemberId, code: str) -> SubsystemId:
    try:
        return subsystem_id(f"{member}/{code}")
    except ValueError:
        raise breach(
            "the name of its subsystem has characters that identifiers do not have",
            "其子系统名称含有标识符不允许的字符",
        ) from None


def _subsystem_by_uri(uris: list[str], member: MemberId) -> SubsystemId:
    prefix = identity_uri(member) + "/"
    if len(uris) == 1 and uris[0].startswith(prefix):
        with suppress(ValueError):
            return _subsystem(member, from_wire(uris[0].removeprefix(prefix)))
    raise breach(
        "it holds no single URI datong:... of a subsystem of its own member",
        "它没有唯一一个属于本机构子系统的 URI datong:...",
    )


def _check_uris_agree(extensions: x509.Extensions, identity: Identity) -> None:
    uris = uris_of(extensions)
    if uris and uris != [identity_uri(identity.subsystem or identity.member)]:
        raise breach("its URI datong:... names somebody else", "其 URI datong:... 指向另一主体")
