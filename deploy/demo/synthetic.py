"""Numbers and names that pass every check and can belong to nobody; all people and companies of the demo have them.

Rules:
1. Every number is drawn from the division code `997001`. GB/T 2260 numbers provinces 11 to 82: a first digit of 9
   belongs to no region, so no county can have issued one of these numbers. The identity numbers that do begin with 9
   are those of foreign permanent residents; their next two digits are a province, and no province is 97.
2. Check digits are right: GB 32100 (outer) and GB 11714 (inner, the ninth character of the organisation code) for
   organisations, GB 11643 for citizens. A system that rejects these numbers does so for the division, not the form.
3. Names are from a city that does not exist (示例市, "Sample City") and from the sexagenary cycle, with the surname 例
   ("example"), so that nobody can read them as people.
4. Drawing is by SHA-256 of (seed, index, field): the same seed gives the same data on every Python, in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date

RESERVED_DIVISION = "997001"
SEED = "datong-demo-1"
"""Change it and every synthetic person and company changes with it."""

_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_CITIZEN_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)

_STEMS = "甲乙丙丁戊己庚辛壬癸"
_BRANCHES = "子丑寅卯辰巳午未申酉戌亥"
_THOUSAND = (
    "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳"
    "云腾致雨露结为霜金生丽水玉出昆冈剑号巨阙珠称夜光果珍李柰菜重芥姜"
)
NAMES = 60 * len(_THOUSAND)
"""How many different names `given_name` can make."""


def draw(seed: str, index: int, field: str, below: int) -> int:
    """Return a number 0 <= n < `below` that depends on nothing but the arguments."""
    digest = hashlib.sha256(f"{seed}/{index}/{field}".encode()).digest()
    return int.from_bytes(digest[:8]) % below


def organisation_check(body: str) -> str:
    """The check character of an organisation code (GB 11714) for its first eight characters, `0-9A-Z`."""
    total = sum(int(character, 36) * weight for character, weight in zip(body, _ORGANISATION_WEIGHTS, strict=True))
    value = 11 - total % 11
    return {10: "X", 11: "0"}.get(value, str(value))


def uscc_check(first17: str) -> str:
    """The last character of a unified social credit code (GB 32100) for the 17 before it."""
    total = sum(
        _USCC_ALPHABET.index(character) * weight for character, weight in zip(first17, _USCC_WEIGHTS, strict=True)
    )
    return _USCC_ALPHABET[-total % 31]


def uscc(kind: str, body: str) -> str:
    """A unified social credit code of the reserved division.

    Args:
        kind: Registration authority and entity type: `11` government body, `91` enterprise, `92` sole trader.
        body: First eight characters of the organisation code, of the alphabet of GB 32100 (no I, O, S, V, Z).
    """
    first17 = f"{kind}{RESERVED_DIVISION}{body}{organisation_check(body)}"
    return first17 + uscc_check(first17)


def is_uscc(text: str) -> bool:
    """Whether `text` has the form and both check characters of a unified social credit code; not whether it exists."""
    if len(text) != 18 or any(character not in _USCC_ALPHABET for character in text):
        return False
    return text[16] == organisation_check(text[8:16]) and text[17] == uscc_check(text[:17])


def usccs(seed: str, count: int) -> Iterator[str]:
    """`count` different codes, nine in ten of enterprises (`91`), the others of sole traders (`92`)."""
    seen: set[str] = set()
    index = 0
    while len(seen) < count:
        body = "DE" + "".join(_USCC_ALPHABET[draw(seed, index, f"organisation{place}", 31)] for place in range(6))
        code = uscc("92" if draw(seed, index, "kind", 10) == 0 else "91", body)
        index += 1
        if code not in seen:
            seen.add(code)
            yield code


def citizen_check(first17: str) -> str:
    """The last character of a citizen number (GB 11643) for the 17 digits before it."""
    total = sum(int(digit) * weight for digit, weight in zip(first17, _CITIZEN_WEIGHTS, strict=True))
    return "10X98765432"[total % 11]


def citizen_number(birth: date, order: int) -> str:
    """A citizen number of the reserved division; `order` is 0 to 999, odd for men and even for women."""
    first17 = f"{RESERVED_DIVISION}{birth:%Y%m%d}{order:03d}"
    return first17 + citizen_check(first17)


def phone_number(number: int) -> str:
    """A telephone number of eleven digits for 0 <= number < 10^8. No mobile number begins with 100."""
    return f"100{number:08d}"


def given_name(index: int) -> str:
    """The three characters that tell synthetic names apart, 0 <= index < NAMES: place in the cycle, then a counter."""
    round_, place = divmod(index, 60)
    return _STEMS[place % 10] + _BRANCHES[place % 12] + _THOUSAND[round_]


def person_name(index: int) -> str:
    """A resident's name: surname 例, which is nobody's, and a name of `given_name`."""
    return "例" + given_name(index)


def enterprise_name(index: int, trade: str, *, sole_trader: bool) -> str:
    """A company's or sole trader's name in the city that does not exist."""
    return f"示例市{given_name(index)}{trade}" + ("商行" if sole_trader else "有限公司")


# For examples that are printed or typed: written out here, and a test finds each in the data.
ENTERPRISE_IN_GOOD_ORDER = "91997001DE5KQ6036M"
ENTERPRISE_IN_ARREARS = "91997001DE0HP4F55F"
RESIDENT_MARRIED = "997001195402177090"
RESIDENT_SINGLE = "997001196812174436"
RESIDENT_CHILD = "997001197811094543"
"""Of the household of RESIDENT_MARRIED."""
