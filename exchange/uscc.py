"""The unified social credit code (GB 32100-2015), 18 characters, which is the member code of a Chinese organisation.

Layout, positions from 1: 1 registration authority, 2 kind of entity, 3-8 division code (GB/T 2260),
9-17 organisation code (GB 11714, its last character checks the eight before it), 18 check character over all.

Rules:
1. Letters occur in positions 1 and 2 (military, agriculture, other), so nothing there is refused but the alphabet.
2. Real codes exist that fail the outer check (issued in the pilot of 2015). A fault is therefore something to warn of
   and to decide about, never a reason to crash or to refuse for good.
"""

from __future__ import annotations

from dataclasses import dataclass

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # 31 characters: no I, O, S, V, Z
_VALUE = {character: value for value, character in enumerate(ALPHABET)}
_WEIGHTS = tuple(pow(3, position, 31) for position in range(17))

_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_ORGANISATION_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsccFault:
    """Why a code does not satisfy the standard, told in both languages."""

    kind: str  # length | alphabet | check-character | organisation-check-character
    problem: str
    problem_zh: str


def check_character(first17: str) -> str:
    """Return the 18th character for the first 17, which must be of `ALPHABET`."""
    total = sum(_VALUE[character] * weight for character, weight in zip(first17, _WEIGHTS, strict=True))
    return ALPHABET[-total % 31]


def organisation_check_character(first8: str) -> str:
    """Return the ninth character of an organisation code (position 17 of the whole) for its first eight."""
    total = sum(
        _ORGANISATION_ALPHABET.index(character) * weight
        for character, weight in zip(first8, _ORGANISATION_WEIGHTS, strict=True)
    )
    return "0123456789X0"[11 - total % 11]


def compose(authority_and_kind: str, division: str, organisation8: str) -> str:
    """Return the whole code with both check characters, e.g. `compose("11", "990100", "00000017")`."""
    first17 = authority_and_kind + division + organisation8 + organisation_check_character(organisation8)
    return first17 + check_character(first17)


def fault_of(code: str) -> UsccFault | None:
    """Return the first fault of `code`, None for a code that satisfies the standard.

    Checks length, alphabet and both check characters; not whether the division exists or the code was ever issued.
    """
    if len(code) != 18:
        return UsccFault(
            kind="length",
            problem=f"{code} has {len(code)} characters, a unified social credit code has 18",
            problem_zh=f"{code} 有 {len(code)} 个字符，统一社会信用代码应为 18 位",
        )
    strange = sorted(set(code) - _VALUE.keys())
    if strange:
        return UsccFault(
            kind="alphabet",
            problem=f"{code} holds {' '.join(strange)}; only digits and capital letters without I, O, S, V, Z occur",
            problem_zh=f"{code} 含有 {' '.join(strange)}；只允许数字和除 I、O、S、V、Z 以外的大写字母",
        )
    # The outer check first: it covers every character, so a typing error nearly always shows here.
    expected = check_character(code[:17])
    if code[17] != expected:
        return UsccFault(
            kind="check-character",
            problem=f"{code} ends in {code[17]}, its check character should be {expected}",
            problem_zh=f"{code} 的校验码为 {code[17]}，应为 {expected}",
        )
    expected = organisation_check_character(code[8:16])
    if code[16] != expected:
        return UsccFault(
            kind="organisation-check-character",
            problem=f"{code} has {code[16]} in position 17, the check character of its organisation code is {expected}",
            problem_zh=f"{code} 第 17 位为 {code[16]}，其组织机构代码校验码应为 {expected}",
        )
    return None
