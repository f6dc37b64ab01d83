"""What is proposed as sensitive: by name in three ways of writing Chinese data, and by values whose check digits are right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from department_adapters import propose_sensitivity as propose
from department_adapters.scaffold.sensitivity import PROPOSALS, is_card_number, is_citizen_number, is_person_name
from exchange import MASKS, compose_uscc

# All invented; the check characters are computed.
CITIZENS = ["11010519491231002X", "440524188001010014", "450102199001010917"]
CARDS = ["6222021234567890128", "4111111111111111", "5500005555555559"]


@pytest.mark.parametrize(
    ("name", "sensitivity", "mask"),
    [
        ("id_card", "sensitive-personal", "number"),
        ("idCardNo", "sensitive-personal", "number"),
        ("OWNER_ID_NUMBER", "sensitive-personal", "number"),
        ("sfzh", "sensitive-personal", "number"),
        ("公民身份号码", "sensitive-personal", "number"),
        ("passportNo", "sensitive-personal", "number"),
        ("bank-card-no", "sensitive-personal", "number"),
        ("银行卡号", "sensitive-personal", "number"),
        ("diagnosis", "sensitive-personal", "full"),
        ("xm", "personal", "name"),
        ("fullName", "personal", "name"),
        ("spouse.family_name", "personal", "name"),
        ("法定代表人", "personal", "name"),
        ("name", "personal", "name"),
        ("homePhone", "personal", "phone"),
        ("lxdh", "personal", "phone"),
        ("residential_address", "personal", "address"),
        ("csrq", "personal", "date"),
        ("birthDate", "personal", "date"),
        ("email", "personal", "full"),
        ("uscc", "public", ""),
        ("统一社会信用代码", "public", ""),
        ("ip_address", "internal", ""),
        ("area_code", "internal", ""),
        ("amount", "internal", ""),
        ("valid", "internal", ""),
        ("notebook", "internal", ""),
        ("hotel", "internal", ""),
        ("面积", "internal", ""),
    ],
)
def test_names_tell(name: str, sensitivity: str, mask: str) -> None:
    found = propose(name)
    assert (found.sensitivity, found.mask) == (sensitivity, mask)
    assert bool(found.why) == bool(found.why_zh) == (sensitivity != "internal")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (CITIZENS, "a citizen's number"),
        ([*CITIZENS, "unknown"], "a citizen's number"),
        (["11010519491231002x"], "a citizen's number"),
        (["130503670401001"], "a citizen's number"),
        (CARDS, "the number of a bank card or account"),
        (["13800138000", "+86 13900139000", "0771-5551234"], "a telephone number"),
        (["王小明", "李四", "诸葛亮", "陈静"], "a person's name"),
        (["a@example.com", "b@example.com", "c.d@example.org"], "an e-mail address"),
        ([compose_uscc("11", "990100", f"0000000{digit}") for digit in range(3)], "a unified social credit code"),
        (["南宁市青秀区民族大道100号", "南宁市江南区星光大道3号", "桂林市七星区漓江路9号"], "an address"),
        ([f"查 {CITIZENS[0]} 名下房产", "", None], "text in which citizens' numbers stand"),
        ([450102199001010917], "a citizen's number"),
    ],
)
def test_values_tell_whatever_the_column_is_called(values: list[object], why: str) -> None:
    assert propose("c17", "", values).why == why


@pytest.mark.parametrize(
    "values",
    [
        ["450102199001010910", "450102199001010911"],  # wrong check digits
        ["450102199013450917"],  # no such date
        ["6222021234567890129"] * 3,  # Luhn's digit is wrong
        ["1234567890"] * 3,
        [12.5, True, None, b"x", {"a": 1}],
        ["南宁市", "桂林市", "柳州市"],
        ["王小明", "李四"],  # two may be chance
    ],
)
def test_what_only_looks_like_it_is_left_alone(values: list[object]) -> None:
    assert propose("c17", "", values).sensitivity == "internal"


def test_a_mere_name_is_a_person_until_values_say_otherwise() -> None:
    assert propose("name").mask == propose("name", "", ["John Smith", "Jane Doe"]).mask == "name"
    assert propose("name", "", ["青秀区", "江南区", "王府井街道"]).sensitivity == "internal"
    assert propose("shop_name", "", ["新华书店", "人民商场"]).sensitivity == "internal"
    # A column that says that it holds persons' names is believed, whatever stands in it now.
    assert propose("xm", "", ["青秀区", "江南区"]).mask == "name"


@given(st.lists(st.one_of(st.none(), st.integers(), st.text(), st.floats()), max_size=20), st.text(max_size=30))
def test_any_name_and_any_values_get_a_proposal_that_a_grant_can_hold(values: list[object], name: str) -> None:
    found = propose(name, name, values)
    assert found.sensitivity in ("public", "internal", "personal", "sensitive-personal")
    assert not found.mask or found.mask in MASKS


def test_check_digits() -> None:
    assert all(map(is_citizen_number, CITIZENS))
    assert all(map(is_card_number, CARDS))
    for number in CITIZENS:
        changed = number[:6] + str((int(number[6]) + 1) % 10) + number[7:]
        assert not is_citizen_number(changed)
    assert not is_person_name("青秀区")


def test_the_document_lists_every_kind() -> None:
    document = (Path(__file__).parents[2] / "docs/drafts-and-checks.md").read_text(encoding="utf-8")
    for kind in PROPOSALS:
        mask = f"`{kind.mask}` " if kind.mask else ""
        assert f"| {kind.why} | {kind.why_zh} | `{kind.sensitivity}` | {mask}|" in document
