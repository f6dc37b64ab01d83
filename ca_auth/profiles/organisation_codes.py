"""Codes of organisations in certificates: their form, and how one becomes a member of the mesh. Pure.

Rules:
1. A unified social credit code (GB 32100-2015) has 18 digits or capital letters without I, O, S, V, Z. Nothing is
   trimmed, folded or translated: another spelling is another text, and refused.
2. The check characters do not decide. Real codes exist that fail them, and the registry holds the exception.
3. A citizen number of digits only has the form of such a code. It is refused in its place unless it also passes the
   check of GB 32100: otherwise a person's number would become the public identifier of a member.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Final

from ca_auth.profiles.identity import breach
from ca_auth.profiles.person_numbers import is_plausible_citizen_number
from exchange import MemberId, UnauthenticatedError, member_id, uscc_fault

MemberOfCode = Callable[[str], MemberId | None]
"""Which member a code stands for; None when there is no such member. Called on the event loop: no I/O."""

_USCC: Final = re.compile(r"[0-9A-HJ-NPQRTUWXY]{18}")
_ORGANISATION_CODE: Final = re.compile(r"([0-9A-Z]{8})-?([0-9X])")


def members_of_class(instance: str, member_class: str) -> MemberOfCode:
    """Every unified social credit code is a member `instance/class/code`; a shorter code is none."""
    prefix = f"{instance}/{member_class}/"
    member_id(f"{prefix}0")  # raises ValueError now rather than at the first certificate

    def member_of_code(code: str) -> MemberId | None:
        return member_id(prefix + code) if is_uscc_form(code) else None

    return member_of_code


def is_uscc_form(text: str) -> bool:
    """Whether `text` has the length and alphabet of a unified social credit code."""
    return _USCC.fullmatch(text) is not None


def organisation_code(text: str) -> str | None:
    """The nine characters of an organisation code (GB 11714), which may be written with a hyphen; None for other text."""
    found = _ORGANISATION_CODE.fullmatch(text)
    return found[1] + found[2] if found else None


def check_is_no_person(code: str, on: date) -> None:
    """Refuse a citizen number in the place of an organisation's code (rule 3).

    Raises:
        UnauthenticatedError: Rule `certificate-profile`.
    """
    if is_plausible_citizen_number(code, on) and uscc_fault(code) is not None:
        raise breach(
            "the number of a person stands where the code of an organisation belongs",
            "应填写机构代码的位置填写了个人证件号码",
        )


def member_for(code: str, member_of_code: MemberOfCode) -> MemberId:
    """Return the member that a code of 18 or nine characters stands for.

    Raises:
        UnauthenticatedError: There is none; rule `certificate-member`.
        ValueError: `member_of_code` names a member with another code, which is a fault of ours.
    """
    member = member_of_code(code)
    if member is None:
        raise UnauthenticatedError(
            "certificate-member",
            problem="The organisation that the certificate names is not a member of the mesh.",
            problem_zh="证书所属机构不是平台成员。",
        )
    found = member.rpartition("/")[2]
    if code not in (found, found[8:17]):
        raise ValueError("a member with another code was found")
    return member
