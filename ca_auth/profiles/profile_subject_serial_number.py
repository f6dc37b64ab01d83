"""Profile `subject-serial-number`: the subject's serialNumber (2.5.4.5), for CAs that put the number there.

Rules, beside those of `ca_auth.profiles.identity` and `ca_auth.profiles.naming`:
1. The subject holds serialNumber once.
2. What it holds is said by the trust file, since 18 digits may be a company or a person: `semantic` (ETSI EN 319 412-1:
   `NTRCN-` and the code of an organisation, `IDCCN-`, `PNOCN-`, `PAS..-` and the number of a person), `uscc` or
   `citizen` (the bare number).
3. A person's organisation is in organizationIdentifier, if anywhere.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from ca_auth.profiles.identity import Identity, breach, check_purpose
from ca_auth.profiles.naming import (
    Naming,
    malformed_person_number,
    natural_person,
    one_attribute,
    organization_identifier,
)
from ca_auth.profiles.organisation_codes import is_uscc_form
from ca_auth.profiles.person_numbers import citizen_number

NAME: Final = "subject-serial-number"


def identity(certificate: x509.Certificate, naming: Naming) -> Identity:
    """Return whom the certificate names.

    Raises:
        UnauthenticatedError: Rule `certificate-profile`, or `certificate-member` for an organisation that is no member.
    """
    extensions = check_purpose(certificate)
    text = one_attribute(certificate, NameOID.SERIAL_NUMBER)
    if naming.serial_number == "citizen":
        try:
            number = citizen_number(text)
        except ValueError:
            # The number must not travel with the error.
            raise malformed_person_number() from None
        code = organization_identifier(certificate, naming.scheme)
        return naming.person(extensions, certificate, number, code)
    if naming.serial_number == "semantic":
        person = natural_person(text)
        if person is not None:
            code = organization_identifier(certificate, naming.scheme)
            return naming.person(extensions, certificate, person, code)
        scheme, _, text = text.partition("-")
        if scheme != naming.scheme:
            raise breach(
                f"its serialNumber does not begin with {naming.scheme}-, IDC, PNO or PAS",
                f"其 serialNumber 不以 {naming.scheme}-、IDC、PNO 或 PAS 开头",
            )
    if not is_uscc_form(text):
        raise breach("its serialNumber holds no unified social credit code", "其 serialNumber 中不是统一社会信用代码")
    return naming.organisation(extensions, certificate, text)
