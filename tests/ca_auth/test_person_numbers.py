"""Numbers of people: our arithmetic, an independent implementation, and numbers outside the standard. All invented."""

from __future__ import annotations

import hashlib
import hmac
import traceback
import unicodedata
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import ric
from stdnum.exceptions import ValidationError

from ca_auth.profiles.person_numbers import (
    check_character,
    citizen_number,
    document_number,
    is_plausible_citizen_number,
    military_number,
)
from exchange import pseudonym_of
from tests.ca_auth.profile_kit import PERSON, PERSON_KEY, citizen

TODAY = date(2026, 1, 5)
DIGITS = st.text("0123456789", min_size=17, max_size=17)
BIRTHS = st.dates(date(1900, 1, 1), TODAY).map(lambda day: day.strftime("%Y%m%d"))
ORDERS = st.text("0123456789", min_size=3, max_size=3)
DIVISIONS = st.sampled_from(["110101", "310115", "440106", "650102", "330106"])


@given(DIGITS)
def test_the_check_character_is_the_one_an_independent_implementation_computes(first17: str) -> None:
    assert check_character(first17) == ric.calc_check_digit(first17 + "0")


@given(DIGITS, st.sampled_from("0123456789X"))
def test_what_the_independent_check_accepts_has_no_fault_here(first17: str, last: str) -> None:
    number = first17 + last
    try:
        ric.validate(number)
    except (ValidationError, KeyError):  # KeyError: it knows of no county there, and does not expect that
        return
    if ric.get_birth_date(number) <= TODAY and ric.get_birth_date(number).year >= 1850:
        assert citizen_number(number).faults(TODAY) == ()


@given(DIVISIONS, BIRTHS, ORDERS)
def test_composed_numbers_pass_ours_and_the_independent_arithmetic(division: str, born: str, order: str) -> None:
    number = citizen(division, born, order)
    assert citizen_number(number).faults(TODAY) == ()
    assert is_plausible_citizen_number(number, TODAY)
    assert number[17] == ric.calc_check_digit(number)
    assert ric.get_birth_date(number).strftime("%Y%m%d") == born


@given(DIVISIONS, BIRTHS, ORDERS, st.integers(0, 17), st.sampled_from("0123456789"))
def test_one_wrong_digit_is_always_noticed(division: str, born: str, order: str, place: int, other: str) -> None:
    number = citizen(division, born, order)
    wrong = number[:place] + other + number[place + 1 :]
    assert (citizen_number(wrong).faults(TODAY) == ()) == (wrong == number)


@pytest.mark.parametrize(
    ("number", "kinds"),
    [
        pytest.param(citizen("810000"), (), id="residence-permit-of-hong-kong"),
        pytest.param(citizen("820000"), (), id="residence-permit-of-macao"),
        pytest.param(citizen("830000"), (), id="residence-permit-of-taiwan"),
        pytest.param(citizen("911156"), (), id="permanent-residence-of-a-foreigner-since-2023"),
        pytest.param("USA110080010101", (), id="permanent-residence-of-a-foreigner-before"),
        pytest.param(citizen()[:17] + ("0" if citizen()[17] != "0" else "1"), ("check-character",), id="check-fails"),
        pytest.param(citizen(born="19900230"), ("birth-date",), id="no-such-day"),
        pytest.param(citizen(born="20270101"), ("birth-date",), id="not-born-yet"),
        pytest.param(citizen(born="17000101"), ("birth-date",), id="born-too-long-ago"),
        pytest.param(citizen("990101"), ("division",), id="no-such-province"),
        pytest.param(citizen("000000", "00000000"), ("birth-date", "division"), id="two-faults"),
    ],
)
def test_a_number_outside_the_standard_is_a_number_with_a_warning(number: str, kinds: tuple[str, ...]) -> None:
    faults = citizen_number(number).faults(TODAY)
    assert tuple(fault.kind for fault in faults) == kinds
    assert all(fault.problem and fault.problem_zh and number not in repr(fault) for fault in faults)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("110101900307001", id="fifteen-digits-of-the-first-generation"),
        pytest.param(PERSON[:17], id="one-short"),
        pytest.param(PERSON + "0", id="one-long"),
        pytest.param(PERSON + "\n", id="a-newline-behind"),
        pytest.param(" " + PERSON, id="a-space-before"),
        pytest.param(PERSON[:6] + " " + PERSON[6:14] + " " + PERSON[14:], id="groups"),
        pytest.param("".join(chr(ord(digit) + 0xFEE0) for digit in PERSON), id="full-width"),
        pytest.param(PERSON.replace("1", "١"), id="arabic-indic-digits"),
        pytest.param(PERSON[:17] + "Ⅹ", id="a-roman-ten-for-x"),
        pytest.param(PERSON[:17] + "х", id="a-cyrillic-letter-for-x"),
        pytest.param("", id="empty"),
    ],
)
def test_another_form_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="form of a citizen number") as caught:
        citizen_number(text)
    assert not text or text not in "".join(traceback.format_exception(caught.value))


def test_a_small_x_is_the_same_number() -> None:
    ending_in_x = next(number for order in range(1000) if (number := citizen(order=f"{order:03}")).endswith("X"))
    assert citizen_number(ending_in_x.lower()).hashed(PERSON_KEY) == citizen_number(ending_in_x).hashed(PERSON_KEY)


def test_the_hash_is_the_one_kept_for_datong_subject() -> None:
    """The same person, named by a certificate or by a caller's header, is one entry in the record."""
    normal = unicodedata.normalize("NFKC", f" {PERSON.lower()} ").strip().upper()
    of_header = hmac.new(PERSON_KEY, normal.encode(), hashlib.sha256).hexdigest()
    assert citizen_number(PERSON).hashed(PERSON_KEY) == of_header == pseudonym_of(PERSON_KEY, f" {PERSON.lower()} ")


def test_documents_of_different_kinds_and_countries_are_different_persons() -> None:
    numbers = [document_number(kind, "12345678") for kind in ("PASKR", "PASDE", "IDCDE", "PAS")]
    numbers += [military_number("12345678"), military_number("军字第12345678号")]
    assert len({number.hashed(PERSON_KEY) for number in numbers}) == len(numbers)
    assert not any(number.faults(TODAY) for number in numbers)


@given(st.text(min_size=1, max_size=70))
def test_no_two_spellings_of_an_officers_number_are_one_person(text: str) -> None:
    """What hashing would fold together is refused before: a look-alike never becomes another person."""
    try:
        number = military_number(text)
    except ValueError:
        return
    assert number == military_number(unicodedata.normalize("NFKC", text).strip().upper())
    assert unicodedata.normalize("NFKC", text).strip().upper() == text


@pytest.mark.parametrize(
    "number", [citizen_number(PERSON), document_number("PASKR", "M12345678"), military_number("军字第1234567号")]
)
def test_a_number_shows_itself_nowhere(number: object) -> None:
    shown = repr(number) + str(number) + f"{number}" + repr([number]) + repr({"number": number})
    assert not any(secret in shown for secret in (PERSON, "M12345678", "1234567"))
