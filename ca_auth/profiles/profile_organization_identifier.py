"""Profile `organization-identifier`: the subject's organizationIdentifier (2.5.4.97), as ETSI EN 319 412-1 writes it.

Rules, beside those of `ca_auth.profiles.identity` and `ca_auth.profiles.naming`:
1. The subject holds organizationIdentifier once: `NTRCN-` and a unified social credit code, or the scheme that the
   trust file names and a code of it.
2. A certificate that shows signs of a natural person (given name, surname, pseudonym, or a person's number as
   serialNumber) names that person, of this organisation; then the number must be there.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from ca_auth.profiles.identity import Identity, breach, check_purpose
from ca_auth.profiles.naming import Naming, issued_on, natural_person, optional_attribute, organization_identifier
from ca_auth.profiles.person_numbers import PersonNumber, citizen_number, is_plausible_citizen_number

NAME: Final = "organization-identifier"

_OF_PERSONS: Final = (NameOID.GIVEN_NAME, NameOID.SURNAME, NameOID.PSEUDONYM)


def identity(certificate: x509.Certificate, naming: Naming) -> Identity:
    """Return whom the certificate names.

    Raises:
        UnauthenticatedError: Rule `certificate-profile`, or `certificate-member` for an organisation that is no member.
    """
    extensions = check_purpose(certificate)
    code = organization_identifier(certificate, naming.scheme)
    if code is None:
        raise breach("its subject has no organizationIdentifier", "其主体没有 organizationIdentifier")
    number = _person(certificate)
    if number is not None:
        return naming.person(extensions, certificate, number, code)
    return naming.organisation(extensions, certificate, code)


def _person(certificate: x509.Certificate) -> PersonNumber | None:
    """The number of the person that the certificate was issued to, None for an organisation's or machine's."""
    text = optional_attribute(certificate, NameOID.SERIAL_NUMBER)
    if text is not None:
        number = natural_person(text)
        if number is not None:
            return number
        if is_plausible_citizen_number(text, issued_on(certificate)):
            return citizen_number(text)
    if any(certificate.subject.get_attributes_for_oid(kind) for kind in _OF_PERSONS):
        raise breach(
            "it names a natural person without a number in its serialNumber",
            "它是自然人证书，但其 serialNumber 中没有证件号码",
        )
    return None
