"""What stands in the bytes of a certificate and no library hands out: raw names, raw extensions, forms of time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ca_auth.validation import der

_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_NULL: Final = 0x05
_DSA: Final = bytes.fromhex("2a8648ce380401")
_EC: Final = bytes.fromhex("2a8648ce3d0201")


@dataclass(frozen=True, slots=True)
class CertificateBytes:
    """A certificate's fields as they are encoded. Made by `take_apart`."""

    signed: bytes
    """What the signature is over."""
    version: int
    """1, 2 or 3."""
    serial_number: int
    serial_octets: int
    issuer: bytes
    subject: bytes
    generalized_times: tuple[bool, bool]
    """Whether the beginning and the end are written as GeneralizedTime."""
    key_info: bytes
    key_algorithm: tuple[der.Element, ...]
    """Identifier and, if there are any, parameters."""
    key_bits: bytes
    """The key's BIT STRING without its count of unused bits."""
    extensions: dict[str, bytes]

    @property
    def lacks_dsa_parameters(self) -> bool:
        """Whether the key is a DSA key whose parameters are those of the issuer's (RFC 5280 section 6.1.4 (e))."""
        identifier, *parameters = self.key_algorithm
        return identifier.content == _DSA and (not parameters or parameters[0].tag == _NULL)

    @property
    def spells_out_its_curve(self) -> bool:
        """Whether the key's curve is given by numbers, not by name: it need not be the curve it looks like.

        RFC 5480 section 2.1.1 forbids it.
        """
        identifier, *parameters = self.key_algorithm
        return identifier.content == _EC and (not parameters or parameters[0].tag != der.OBJECT_IDENTIFIER)


def take_apart(encoded: bytes) -> CertificateBytes:
    """Return the fields of a certificate.

    Raises:
        ValueError: It is not one, or names two different signature algorithms.
    """
    signed, outer_algorithm, _ = der.sequence(encoded)
    fields = der.elements(signed.content)
    version = 1
    if fields[0].tag == _VERSION:
        version = 1 + der.integer(der.read(fields.pop(0).content))
    serial, algorithm, issuer, validity, subject, key_info = fields[:6]
    if algorithm.whole != outer_algorithm.whole:
        raise ValueError("the two signature algorithms in it differ")
    key_algorithm, key_bits = der.elements(key_info.content)
    begin, end = der.elements(validity.content)
    extensions: dict[str, bytes] = {}
    for field in fields[6:]:
        if field.tag == _EXTENSIONS:
            for each in der.sequence(field.content):
                identifier, *_, value = der.elements(each.content)
                extensions[der.dotted(identifier)] = value.content
    return CertificateBytes(
        signed=signed.whole,
        version=version,
        serial_number=der.integer(serial),
        serial_octets=len(serial.content),
        issuer=issuer.whole,
        subject=subject.whole,
        generalized_times=(begin.tag == der.GENERALIZED_TIME, end.tag == der.GENERALIZED_TIME),
        key_info=key_info.whole,
        key_algorithm=tuple(der.elements(key_algorithm.content)),
        key_bits=key_bits.content[1:],
        extensions=extensions,
    )


def with_dsa_parameters(encoded: bytes, p: int, q: int, g: int) -> bytes:
    """Return a certificate with these parameters in its DSA key, for readers that cannot do without.

    The signature is no longer right: it is that of the certificate without them.
    """
    signed, *rest = der.sequence(encoded)
    fields = [field.whole for field in der.elements(signed.content)]
    place = 6 if fields[0][0] == _VERSION else 5
    algorithm, bits = der.sequence(fields[place])
    identifier = der.elements(algorithm.content)[0]
    parameters = der.encode(der.SEQUENCE, b"".join(der.encode_integer(number) for number in (p, q, g)))
    fields[place] = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, identifier.whole + parameters) + bits.whole)
    whole = der.encode(der.SEQUENCE, b"".join(fields)) + b"".join(field.whole for field in rest)
    return der.encode(der.SEQUENCE, whole)
