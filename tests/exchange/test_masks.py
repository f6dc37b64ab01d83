"""Masks: how much of a value is shown, and that it is never a birth date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import MASKS, Mask

DOCUMENT = Path(__file__).parents[2] / "docs/masks.md"
EACH = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
STANDS_FOR = {str(each): str(each) for each in range(10)}
FULL_WIDTH = {str(each): chr(0xFF10 + each) for each in range(10)}
ARABIC = {str(each): chr(0x0660 + each) for each in range(10)}

# Texts that look like what the masks know, so that their branches are met, and anything else of Unicode.
PIECES = [
    *(
        "张",
        "欧阳",
        "三丰",
        "阿卜杜拉",
        "·",
        "買買提",
        "John",
        "Smith",
        "'",
        "-",
        " ",
        "\u3000",
        "é",
        "e\u0301",
        "\U00020bb7",
    ),
    *(
        "广西壮族自治区",
        "广西",
        "广东省",
        "南宁市",
        "北京市",
        "市",
        "自治州",
        "地区",
        "兴安盟",
        "青秀区",
        "民族大道",
        "场",
        "路",
    ),
    *(
        "1990",
        "19",
        "01",
        "450102",
        "1234",
        "12",
        "x",
        "X",
        "０",
        "٣",
        "年",
        "月",
        "日",
        "/",
        ".",
        "T",
        ":",
        "Z",
        "+86",
        "*",
        "**",
    ),
    *("\ud800", "\udfff", "\u200b", "\ufe0f", "\0", "\n", "😀", "〇", "②"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=40)


@st.composite
def written_numbers(draw: st.DrawFn) -> tuple[str, set[int]]:
    """A citizen's number in some way of writing it, and the places at which the digits of the birth date stand."""
    digits = "".join(str(draw(st.integers(0, 9))) for _ in range(17))
    number = draw(st.sampled_from([digits + draw(st.sampled_from("0123456789xX")), digits[:15]]))
    birth = range(6, 14) if len(number) == 18 else range(6, 12)
    figures = draw(st.sampled_from([STANDS_FOR, FULL_WIDTH, ARABIC]))
    between = st.text(st.sampled_from(" -·\u3000\u200b\t./"), max_size=draw(st.sampled_from([0, 0, 1, 3])))
    text, places = draw(between), set[int]()
    for position, each in enumerate(number):
        if position in birth:
            places.add(len(text))
        text += figures.get(each, each) + draw(between)
    return text, places


@EACH
@given(text=TEXTS)
def test_a_mask_keeps_the_length_and_shows_nothing_but_what_was_there(mask: Mask, text: str) -> None:
    masked = mask.of(text)
    assert len(masked) == len(text)
    assert all(new in (old, "*") for new, old in zip(masked, text, strict=True))


@EACH
@given(text=TEXTS)
def test_to_mask_twice_is_to_mask_once(mask: Mask, text: str) -> None:
    assert mask.of(mask.of(text)) == mask.of(text)


@EACH
@given(written=written_numbers())
def test_no_mask_shows_a_birth_date_in_a_citizens_number(mask: Mask, written: tuple[str, set[int]]) -> None:
    text, birth = written
    masked = mask.of(text)
    assert {masked[place] for place in birth} == {"*"}


@EACH
@given(written=written_numbers())
def test_a_number_that_is_masked_twice_by_different_masks_shows_no_more(
    mask: Mask, written: tuple[str, set[int]]
) -> None:
    text, birth = written
    for other in MASKS.values():
        assert {other.of(mask.of(text))[place] for place in birth} == {"*"}


@given(text=st.text(max_size=60))
def test_only_the_length_is_left_of_what_is_hidden_in_full(text: str) -> None:
    assert MASKS["full"].of(text) == "*" * len(text)


@given(text=TEXTS)
def test_an_address_never_shows_a_digit_and_a_name_only_letters_and_what_joins_them(text: str) -> None:
    assert not any(each.isdigit() for each in MASKS["address"].of(text))
    name = MASKS["name"].of(text).strip()
    assert re.fullmatch(r"(?:[^\W\d_]{0,2})[*\s\u00b7\u2022\u2027\u30fb\uff0e.'\u2019-]*", name)


@pytest.mark.parametrize(
    ("mask", "text", "shown"),
    [
        ("name", "", ""),
        ("name", "张", "*"),
        ("name", "张 ", "* "),
        ("name", "王五", "王*"),
        ("name", "令狐冲", "令狐*"),
        ("name", "令狐", "令*"),
        ("name", "諸葛孔明", "諸葛**"),
        ("name", " 王五", " 王*"),
        ("name", "\U00020bb7野家", "\U00020bb7**"),
        ("name", "É. Dupont", "É. ******"),
        ("name", "E\u0301ric", "E****"),
        ("name", "\ue000某", "**"),
        ("name", "O'Neil", "O'****"),
        ("number", "12345678", "1******8"),
        ("number", "1234567", "*******"),
        ("number", "91450100MA5KABCD1X", "914************D1X"),
        ("number", "450102 900101 123", "450***********123"),
        ("number", "450102-900101123", "450**********123"),
        ("phone", "020-12345678", "020*****5678"),
        ("phone", "12345678", "********"),
        ("phone", "110", "***"),
        ("phone", "0771-1234567转801", "****************"),
        ("phone", "450102900101123", "450*********123"),
        ("phone", "1990-01-01", "**********"),
        ("phone", "1990年01月01日", "***********"),
        ("address", "民族大道市场路5号", "*********"),
        ("address", "北海市场路2号", "*******"),
        ("address", "广西路12号", "******"),
        ("address", "南宁市阳光小区3栋", "南宁市******"),
        ("address", "北京市朝阳区花市大街", "北京市*******"),
        ("address", "广东省 深圳市 南山区", "广东省 深圳市****"),
        ("address", "内蒙古自治区锡林郭勒盟锡林浩特市", "内蒙古自治区锡林郭勒盟*****"),
        ("address", "伊犁哈萨克自治州伊宁市", "伊犁哈萨克自治州***"),
        ("address", "南宁", "**"),
        ("date", "19900101", "199*****"),
        ("date", "1990/1/1", "199*/*/*"),
        ("date", "1990-01", "199*-**"),
        ("date", "19900101083000", "199***********"),
        ("date", "1990-01-01 08:30", "199*-**-** **:**"),
        ("date", "900101", "******"),
        ("date", "1990", "****"),
        ("date", "01.01.1990", "**********"),
        ("date", "1990-01/01", "**********"),
        ("date", "民国七十九年", "******"),
        ("full", "", ""),
    ],
)
def test_values_of_all_kinds_are_masked_with_sense(mask: str, text: str, shown: str) -> None:
    assert MASKS[mask].of(text) == shown


def test_the_masks_are_those_of_the_contract_and_speak_both_languages() -> None:
    assert list(MASKS) == ["name", "number", "phone", "address", "date", "full"]
    for name, mask in MASKS.items():
        assert mask.name == name
        assert mask.en.endswith(".")
        assert mask.zh.endswith("。")


@EACH
def test_the_document_describes_the_mask_in_both_languages(mask: Mask) -> None:
    row = f"| `{mask.name}` | {mask.en} | {mask.zh} |"
    assert row in DOCUMENT.read_text(encoding="utf-8")


def test_every_example_of_the_document_is_true() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `([^`|]*)` \| `([^`|]*)` \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {mask for mask, _, _ in rows} == MASKS.keys()
    assert [(mask, value, MASKS[mask].of(value)) for mask, value, _ in rows] == rows
