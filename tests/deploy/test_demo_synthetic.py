"""Numbers and names of the demo: right in form, and nobody's."""

from __future__ import annotations

from datetime import date

import pytest
from stdnum.cn import ric, uscc
from stdnum.exceptions import InvalidComponent

from deploy.demo import identities, synthetic
from deploy.demo.civil_affairs import make_residents, read_divisions
from deploy.demo.tax_register import enterprises
from exchange import member_of, subsystem_id

CODES = list(synthetic.usccs(synthetic.SEED, 500))
KEYS = ["tax", "civil", "housing", "stranger", "audit", "operator", "health", "land"]


@pytest.mark.parametrize("code", ["91110000600037341L", "11100000000013338W"])
def test_a_code_that_was_really_issued_is_recognised(code: str) -> None:
    assert synthetic.is_uscc(code)


@pytest.mark.parametrize("code", ["", "91110000600037341", "9111000060003734IL", "91110000600037342L", "x" * 18])
def test_a_broken_code_is_refused(code: str) -> None:
    assert not synthetic.is_uscc(code)


def test_every_code_passes_another_implementation() -> None:
    """python-stdnum was written from the same standard by others."""
    assert all(uscc.is_valid(code) for code in CODES)
    assert len(set(CODES)) == len(CODES)


def test_any_single_changed_character_is_noticed() -> None:
    """The weights of GB 32100 are powers of a generator of the field, so no single mistake can cancel out."""
    code = CODES[0]
    for place, right in enumerate(code):
        for wrong in "0123456789ABCDEFGHJKLMNPQRTUWXY".replace(right, ""):
            assert not synthetic.is_uscc(code[:place] + wrong + code[place + 1 :])


def test_citizen_numbers_have_the_right_check_character_and_no_birth_place() -> None:
    """python-stdnum agrees on the last character, and refuses the number because no county ever had the division."""
    for resident in make_residents(count=300):
        assert ric.calc_check_digit(resident.number) == resident.number[-1]
        assert ric.get_birth_date(resident.number) == resident.birth_date
        with pytest.raises(InvalidComponent):
            ric.validate(resident.number)


def test_the_reserved_division_is_assigned_to_nobody() -> None:
    """No division, province or region begins like it; read as a foreigner's number it names no province either."""
    codes = {division.code for division in read_divisions()}
    provinces = {code[:2] for code in codes if code.endswith("0000")}
    assert synthetic.RESERVED_DIVISION not in codes
    assert synthetic.RESERVED_DIVISION[:2] not in provinces
    assert synthetic.RESERVED_DIVISION[0] not in {province[0] for province in provinces}
    assert synthetic.RESERVED_DIVISION[1:3] not in provinces


def test_everybody_in_the_demo_is_of_the_reserved_division() -> None:
    members = {department.code for department in identities.DEPARTMENTS}
    companies = {enterprise.uscc for enterprise, _ in enterprises()}
    assert {code[2:8] for code in members | companies} == {synthetic.RESERVED_DIVISION}
    assert {resident.number[:6] for resident in make_residents()} == {synthetic.RESERVED_DIVISION}


def test_names_are_different_and_of_a_city_that_does_not_exist() -> None:
    names = [synthetic.person_name(index) for index in range(synthetic.NAMES)]
    assert len(set(names)) == synthetic.NAMES
    assert all(name.startswith("例") for name in names)
    assert all(enterprise.name.startswith("示例市") for enterprise, _ in enterprises(count=100))
    assert not any("示例" in division.name for division in read_divisions())


def test_the_same_seed_gives_the_same_data_everywhere() -> None:
    """Written out, so that a change of the drawing shows here and not in somebody's database."""
    assert [synthetic.draw("seed", index, "field", 1000) for index in range(5)] == [908, 20, 113, 315, 957]
    assert list(synthetic.usccs(synthetic.SEED, 2)) == [
        synthetic.ENTERPRISE_IN_GOOD_ORDER,
        synthetic.ENTERPRISE_IN_ARREARS,
    ]
    assert list(synthetic.usccs("another", 2)) != list(synthetic.usccs(synthetic.SEED, 2))


def test_a_citizen_number_is_written_as_the_standard_says() -> None:
    """The example of GB 11643 has division 110105, so only its form can be compared."""
    assert synthetic.citizen_check("11010519491231002") == "X"
    assert synthetic.citizen_check("44052418800101001") == "4"
    assert synthetic.citizen_number(date(1949, 12, 31), 2).startswith("99700119491231002")


@pytest.mark.parametrize("place", range(len(KEYS)))
def test_a_department_has_a_valid_code_of_a_government_body(place: int) -> None:
    department = identities.DEPARTMENTS[place]
    assert department.key == KEYS[place]
    assert department.code == synthetic.uscc("11", f"DT{place + 1:06d}")
    assert uscc.is_valid(department.code)
    assert subsystem_id(department.subsystem) == f"CN/GOV/{department.code}/{department.system}"
    assert member_of(department.subsystem) == department.member


def test_the_named_constants_are_the_departments() -> None:
    codes = [getattr(identities, key.upper()) for key in KEYS]
    subsystems = [getattr(identities, f"{key.upper()}_SUBSYSTEM") for key in KEYS]
    assert codes == [department.code for department in identities.DEPARTMENTS]
    assert subsystems == [department.subsystem for department in identities.DEPARTMENTS]
    assert identities.OPERATOR_SUBSYSTEM.endswith("/gateway")
