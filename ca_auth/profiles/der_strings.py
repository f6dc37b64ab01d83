"""Character strings in DER (X.690), as the extensions of GM/T 0015 hold them. Pure and strict.

Rules:
1. One value and nothing after it; definite length in its shortest form; primitive encoding (X.690 sections 8.1, 10.1).
2. UTF8String, NumericString, PrintableString and IA5String, each with its own characters only (X.680 section 41).
3. Whatever breaks these raises `ValueError` with a text that quotes nothing: the value may be a person's number.
"""

from __future__ import annotations

import re
from typing import Final

from ca_auth.validation.der import read

_CHARACTERS: Final = {
    0x12: re.compile(rb"[0-9 ]*"),  # NumericString
    0x13: re.compile(rb"[A-Za-z0-9 '()+,\-./:=?]*"),  # PrintableString
    0x16: re.compile(rb"[\x00-\x7f]*"),  # IA5String
}
_UTF8_STRING: Final = 0x0C
_APPLICATION: Final = 0x40
_CONTEXT_SPECIFIC: Final = 0x80
_PRIVATE: Final = 0xC0
_CONSTRUCTED: Final = 0x20


def read_string(der: bytes) -> str:
    """Return the text of one character string.

    Raises:
        ValueError: It breaks the rules above.
    """
    tag, content = _read_value(der)
    if tag == _UTF8_STRING:
        return _utf8(content)
    characters = _CHARACTERS.get(tag)
    if characters is None:
        raise ValueError("not a character string of a known type")
    if characters.fullmatch(content) is None:
        raise ValueError("characters that its string type does not have")
    return content.decode("ascii")


def read_choice(der: bytes) -> tuple[int | None, str]:
    """Return which alternative of a CHOICE was taken, and its text; None for a bare string without an outer tag.

    GM/T 0015-2012 does not say whether its tags are IMPLICIT or EXPLICIT, and CAs differ: both are read, for the
    alternatives [0] to [30]. An implicit string is UTF-8, which all the allowed types are part of.

    Raises:
        ValueError: It breaks the rules above.
    """
    tag, content = _read_value(der)
    if not tag & _CONTEXT_SPECIFIC:
        return None, read_string(der)
    alternative = tag & 0x1F
    if tag & _CONSTRUCTED:
        return alternative, read_string(content)
    return alternative, _utf8(content)


def _read_value(der: bytes) -> tuple[int, bytes]:
    element = read(der)
    if element.whole != der:
        raise ValueError("more than one value")
    if element.tag & 0xC0 in (_APPLICATION, _PRIVATE):
        raise ValueError("a tag of another kind")
    return element.tag, element.content


def _utf8(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        # The decoder's own error carries the bytes.
        raise ValueError("not UTF-8") from None
