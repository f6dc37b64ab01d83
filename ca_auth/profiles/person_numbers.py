"""Numbers of natural persons: read, checked, hashed, and never shown. Pure.

The citizen number (GB 11643-1999) has 18 characters: 6 division at the time of issue, 8 birth date, 3 order, 1 check
character (ISO 7064 MOD 11-2, X for ten). The same form carries the residence permits of people from Hong Kong, Macao
and Taiwan (divisions 81, 82, 83) and, since 2023, of foreigners (first digit 9, then the province, then the country).

Rules:
1. Only the form decides whether a text is a number. Real numbers exist whose check character, birth date or division
   is wrong, so such a fault is a warning to record, never a refusal.
2. Numbers of 15 digits ended with the cards of the first generation in 2013 and are refused: the number that follows
   from one by arithmetic is not always the number the person was given.
3. A `PersonNumber` shows itself nowhere: not in `repr`, `str`, an error or a warning. What leaves is its pseudonym, with the
   key and the spelling that `Datong-Subject` has, so that both agree about one person (`exchange.pseudonym_of`).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal

from exchange import normal_form, pseudonym_of

_CITIZEN: Final = re.compile(r"[0-9]{17}[0-9Xx]")
_FOREIGNER_BEFORE_2023: Final = re.compile(r"[A-Z]{3}[0-9]{12}")
_DOCUMENT: Final = re.compile(r"[A-Z0-9]{4,24}")
_PROVINCES: Final = frozenset(
    map(str, (*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71))
)
_RESIDENTS_OF_HONG_KONG_MACAO_TAIWAN: Final = frozenset({"81", "82", "83"})
_FIRST_BIRTH: Final = date(1850, 1, 1)
_MAX_TEXT: Final = 64

FaultKind = Literal["check-character", "birth-date", "division"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFault:
    """Why a number does not satisfy its standard, told in both languages without telling the number."""

    kind: FaultKind
    problem: str
    problem_zh: str


_FAULTS: Final[dict[FaultKind, NumberFault]] = {
    fault.kind: fault
    for fault in (
        NumberFault(
            kind="check-character",
            problem="the last character is not the check character of the others",
            problem_zh="末位与其余各位的校验码不符",
        ),
        NumberFault(
            kind="birth-date",
            problem="positions 7 to 14 are not a birth date before the certificate was issued",
            problem_zh="第 7 至 14 位不是早于证书签发日的出生日期",
        ),
        NumberFault(
            kind="division",
            problem="the first two digits are no province and no group of residence permits",
            problem_zh="前两位既不是省级代码，也不是居住证类别",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class PersonNumber:
    """A number that names a natural person. Made by `citizen_number` or `document_number`."""

    _text: str = field(repr=False)

    def faults(self, on: date) -> tuple[NumberFault, ...]:
        """What is wrong with a citizen number by GB 11643; nothing for documents, which have no check of ours.

        Args:
            on: The day by which the person must have been born.
        """
        if _CITIZEN.fullmatch(self._text) is None:
            return ()
        found: list[FaultKind] = []
        if self._text[17] != check_character(self._text[:17]):
            found.append("check-character")
        if not _is_birth_date(self._text[6:14], on):
            found.append("birth-date")
        if not _is_division(self._text):
            found.append("division")
        return tuple(_FAULTS[kind] for kind in found)

    def hashed(self, key: bytes) -> str:
        """The person's pseudonym, 64 hex digits: what the mesh knows them by."""
        return pseudonym_of(key, self._text)


def citizen_number(text: str) -> PersonNumber:
    """Return the number in `text`: 18 characters, or three letters and twelve digits (foreigners' cards before 2023).

    Raises:
        ValueError: `text` has another form. The message does not quote it.
    """
    if _CITIZEN.fullmatch(text):
        return PersonNumber(text.upper())
    if _FOREIGNER_BEFORE_2023.fullmatch(text):
        return PersonNumber(text)
    raise ValueError("not the form of a citizen number")


def document_number(kind: str, text: str) -> PersonNumber:
    """Return the number of a document of a `kind`, as ETSI EN 319 412-1 writes it: `PASKR` gives `PASKR-M12345678`.

    Raises:
        ValueError: `text` has other characters than digits and capital letters, or is too short or long for a document.
    """
    if _DOCUMENT.fullmatch(text) is None:
        raise ValueError("not the form of a document number")
    return PersonNumber(f"{kind}-{text}")


def military_number(text: str) -> PersonNumber:
    """Return the number of an officer's card, which may hold Chinese characters, as `MIL-...`.

    Raises:
        ValueError: `text` is short or long, holds anything but letters, digits and hyphens, or is a spelling that
            hashing would change into another (small letters, compatibility characters).
    """
    strange = any(unicodedata.category(character)[0] not in "LN" and character != "-" for character in text)
    if not 4 <= len(text) <= _MAX_TEXT or strange or normal_form(text) != text:
        raise ValueError("not the form of an officer's number")
    return PersonNumber(f"MIL-{text}")


def check_character(first17: str) -> str:
    """Return the 18th character for 17 digits (ISO 7064 MOD 11-2)."""
    total = sum(int(digit) * pow(2, 17 - position, 11) for position, digit in enumerate(first17))
    return "10X98765432"[total % 11]


def is_plausible_citizen_number(text: str, on: date) -> bool:
    """Whether `text` is a citizen number without a fault: about one in a thousand of other digits would be."""
    return _CITIZEN.fullmatch(text) is not None and not PersonNumber(text.upper()).faults(on)


def _is_birth_date(text: str, on: date) -> bool:
    try:
        born = date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return _FIRST_BIRTH <= born <= on


def _is_division(text: str) -> bool:
    if text[0] == "9":
        return text[1:3] in _PROVINCES
    return text[:2] in _PROVINCES or text[:2] in _RESIDENTS_OF_HONG_KONG_MACAO_TAIWAN
