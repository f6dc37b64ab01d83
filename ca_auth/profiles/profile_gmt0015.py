"""Profile `gmt-0015`: the identity is in the private extensions of GM/T 0015-2012, which Chinese CAs use.

    1.2.156.10260.4.1.1  identity-code       CHOICE { [0] citizen number, [1] officer's number, [2] passport number }
    1.2.156.10260.4.1.2  insurance-number    PrintableString
    1.2.156.10260.4.1.3  registration-number PrintableString, of the business registration: today the USCC
    1.2.156.10260.4.1.4  organization-code   PrintableString, nine characters; today mostly the USCC
    1.2.156.10260.4.1.5  taxation-number     PrintableString; today the USCC
    (no default)         uscc                for CAs with an extension of its own, as GM/T 0015-2023 has one

Rules, beside those of `ca_auth.profiles.identity` and `ca_auth.profiles.naming`:
1. The organisation is the USCC in `uscc`, `organization-code` or `registration-number`; all that hold one agree, and a
   nine-character organisation code is the one inside it. Nine characters alone name a member that the registry knows.
2. `taxation-number` names nobody by itself, since a person's tax number is the person's: one that has the form of a
   USCC agrees with the organisation.
3. With `identity-code` the certificate is a person's; with `insurance-number` alone too, and that must then be a
   citizen number.
4. Strings are strict DER (`ca_auth.profiles.der_strings`). The OIDs may be set per anchor: CAs differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from cryptography import x509

from ca_auth.profiles.der_strings import read_choice, read_string
from ca_auth.profiles.identity import Identity, breach, check_purpose
from ca_auth.profiles.naming import Naming, issued_on, malformed_person_number
from ca_auth.profiles.organisation_codes import is_uscc_form, organisation_code
from ca_auth.profiles.person_numbers import (
    PersonNumber,
    citizen_number,
    document_number,
    is_plausible_citizen_number,
    military_number,
)
from exchange import UnauthenticatedError

NAME: Final = "gmt-0015"

Field = Literal[
    "identity-code", "insurance-number", "registration-number", "organization-code", "taxation-number", "uscc"
]
FIELDS: Final[tuple[Field, ...]] = get_args(Field)

_OIDS: Final[Mapping[Field, str]] = {
    "identity-code": "1.2.156.10260.4.1.1",
    "insurance-number": "1.2.156.10260.4.1.2",
    "registration-number": "1.2.156.10260.4.1.3",
    "organization-code": "1.2.156.10260.4.1.4",
    "taxation-number": "1.2.156.10260.4.1.5",
}
_ORGANISATION_FIELDS: Final[tuple[Field, ...]] = ("uscc", "organization-code", "registration-number")
_MAX_VALUE_BYTES: Final = 256


def identity(certificate: x509.Certificate, naming: Naming) -> Identity:
    """Return whom the certificate names.

    Raises:
        UnauthenticatedError: Rule `certificate-profile`, or `certificate-member` for an organisation that is no member.
    """
    extensions = check_purpose(certificate)
    values = _values(extensions, naming.extensions)
    number = _person(values)
    code = _organisation(values, certificate)
    if number is not None:
        return naming.person(extensions, certificate, number, code)
    if code is None:
        raise breach(
            "it has no extension of GM/T 0015 that names an organisation or a person",
            "它没有标识机构或个人的 GM/T 0015 扩展项",
        )
    return naming.organisation(extensions, certificate, code)


def field_oids(other_oids: Mapping[str, str]) -> dict[Field, str]:
    """Which OID each field has when a CA's own take the place of the standard's."""
    oids = {field: other_oids.get(field, _OIDS.get(field)) for field in FIELDS}
    return {field: oid for field, oid in oids.items() if oid is not None}


def _values(extensions: x509.Extensions, other_oids: Mapping[str, str]) -> dict[Field, bytes]:
    by_oid = {
        extension.oid.dotted_string: extension.value.value
        for extension in extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    }
    values = {field: by_oid[oid] for field, oid in field_oids(other_oids).items() if oid in by_oid}
    for field, value in values.items():
        if len(value) > _MAX_VALUE_BYTES:
            raise _unreadable(field)
    return values


def _person(values: Mapping[Field, bytes]) -> PersonNumber | None:
    """The number of the person that the extensions name, None if they name none."""
    try:
        if "identity-code" in values:
            alternative, text = read_choice(values["identity-code"])
        elif "insurance-number" in values:
            alternative, text = None, read_string(values["insurance-number"])
        else:
            return None
    except ValueError:
        raise _unreadable("identity-code" if "identity-code" in values else "insurance-number") from None
    try:
        match alternative:
            case None | 0:
                return citizen_number(text)
            case 1:
                return military_number(text)
            case 2:
                return document_number("PAS", text)
            case _:
                raise _unreadable("identity-code")
    except ValueError:
        # The number must not travel with the error.
        raise malformed_person_number() from None


def _organisation(values: Mapping[Field, bytes], certificate: x509.Certificate) -> str | None:
    """The USCC that the extensions agree on, or the organisation code of nine characters if there is no USCC."""
    texts = {field: text for field in _ORGANISATION_FIELDS if (text := _text(values, field)) is not None}
    codes = {text for text in texts.values() if is_uscc_form(text)}
    short = None
    if "uscc" in texts and not is_uscc_form(texts["uscc"]):
        raise _no_code("uscc")
    if "organization-code" in texts and not is_uscc_form(texts["organization-code"]):
        short = organisation_code(texts["organization-code"])
        if short is None:
            raise _no_code("organization-code")
    code = codes.pop() if codes else None
    taxation = _text(values, "taxation-number")
    if taxation is not None and is_plausible_citizen_number(taxation, issued_on(certificate)):
        taxation = None  # the tax number of a person is the citizen number
    disagrees = bool(codes) or (
        code is not None
        and (
            (short is not None and short != code[8:17])
            or (taxation is not None and is_uscc_form(taxation) and taxation != code)
        )
    )
    if disagrees:
        raise breach("its extensions name different organisations", "其扩展项指向不同的机构")
    return code or short


def _text(values: Mapping[Field, bytes], field: Field) -> str | None:
    if field not in values:
        return None
    try:
        return read_string(values[field])
    except ValueError:
        raise _unreadable(field) from None


def _unreadable(field: Field) -> UnauthenticatedError:
    return breach(f"its extension {field} is no string in DER", f"其扩展项 {field} 不是 DER 编码的字符串")


def _no_code(field: Field) -> UnauthenticatedError:
    return breach(f"its extension {field} holds no code of an organisation", f"其扩展项 {field} 中不是机构代码")
