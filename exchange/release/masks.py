"""Masks: what of a value is shown where a grant does not release the whole of it. Pure.

Rules:
1. A mask is a function of the text alone. Each character of the result is the value's own, at the same place, or `*`:
   the length stays, nothing is moved, and nothing is shown that was not there.
2. To mask twice is to mask once, so that whoever gets an answer can try whether it was masked.
3. No mask shows a birth date: not positions 7-14 of a citizen's number, nor 7-12 of the old ones with 15, whatever spaces,
   dashes or other digits they are written with, and whichever mask was put on the number by mistake.
4. When in doubt, and where a value is short, nothing is shown. Letters count as Unicode has them, one by one.
5. What is not text: a whole number is masked as the text of its digits, null stays, other numbers and truth values become null,
   and of lists and objects each value is masked (`exchange.release.bodies`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

HIDDEN = "*"

_COMPOUND_SURNAMES = frozenset(
    re.findall(
        "..",
        "欧阳太史端木上官司马东方独孤南宫万俟闻人夏侯诸葛尉迟公羊赫连澹台皇甫宗政濮阳公冶太叔申屠公孙慕容仲孙"
        "钟离长孙宇文司徒鲜于司空闾丘子车亓官司寇巫马公西颛孙壤驷公良漆雕乐正宰父谷梁拓跋夹谷轩辕令狐段干百里"
        "呼延东郭南门羊舌微生公户公玉公仪梁丘公仲公上公门公山公坚左丘公伯西门公祖第五公乘贯丘公皙南荣东里东宫"
        "仲长子书子桑即墨达奚褚师纳兰歐陽諸葛司馬東方獨孤南宮聞人尉遲長孫鍾離鮮于淳于单于單于",
    )
)
_OF_A_NAME = re.compile("[^ \u3000\u00b7\u2022\u2027\u30fb\uff0e.'\u2019-]")
"""All but what stands between the parts of a name: spaces, the middle dots of minority names, apostrophes, hyphens."""

_MUNICIPALITIES = "(?:北京|上海|天津|重庆)市"
_REGIONS = "(?:内蒙古|广西壮族|西藏|宁夏回族|新疆维吾尔)自治区|(?:香港|澳门)特别行政区"
_PROVINCES = "河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|甘肃|青海|台湾"
_SHORT_REGIONS = "内蒙古|广西|西藏|宁夏|新疆"
_OF_A_CITY = "(?:(?![路街巷弄道号栋楼室村组区县省市])[\u4e00-\u9fff])"
"""One character of a prefecture's name; those left out are in none of them, and in many streets."""
_CITY = (
    rf"(?:{_OF_A_CITY}{{2,4}}市(?![场民政区])"
    rf"|{_OF_A_CITY}{{2,10}}?自治州"
    r"|(?:大兴安岭|阿里|和田|喀什|阿克苏|塔城|阿勒泰)地区|(?:兴安|锡林郭勒|阿拉善)盟)"
)
_GAP = "[ \u3000]*"
_SHOWN_ADDRESS = re.compile(
    rf"{_GAP}(?:{_MUNICIPALITIES}"
    rf"|(?:(?:{_REGIONS}|(?:{_PROVINCES})省){_GAP}(?:{_CITY})?)"
    rf"|(?:{_PROVINCES}|{_SHORT_REGIONS}){_GAP}{_CITY}"
    rf"|{_CITY})"
)

_DATE = re.compile(
    r"(?:1[6-9]|20)[0-9*]{2}"
    r"(?:([-/.])[0-9*]{1,2}(?:\1[0-9*]{1,2})?|年[0-9*]{1,2}月(?:[0-9*]{1,2}日)?|[0-9*]{4}|[0-9*]{10})"
    r"(?:[T ]?[0-9*]{1,2}:[0-9*]{2}(?::[0-9*]{2}(?:\.[0-9*]{1,9})?)?(?:Z|[+-][0-9*]{2}:?[0-9*]{2})?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Mask:
    """A way to show part of a value."""

    name: str
    en: str
    """What it shows, in one sentence."""
    zh: str
    of: Callable[[str], str]
    """The masked text of a text."""


def mask_name(text: str) -> str:
    """The surname, or the first letter of a name in other scripts; at least one character is hidden."""
    name = text.lstrip()
    hidden, letters = _OF_A_NAME.subn(HIDDEN, name)
    shown = 0
    if letters > 2 and name[:2] in _COMPOUND_SURNAMES:
        shown = 2
    elif letters > 1 and name[0].isalpha():
        shown = 1
    return text[: len(text) - len(name)] + name[:shown] + hidden[shown:]


def mask_number(text: str) -> str:
    """Three characters at each end from 15 characters on, one from 8 on."""
    # Three at the end: of an old number with 15 digits the twelfth is the last of the birth date.
    size = len(text)
    return _ends(text, 3, 3) if size >= 15 else _ends(text, 1, 1) if size >= 8 else HIDDEN * size


def mask_phone(text: str) -> str:
    """The first three and last four characters of 11 to 14; of longer ones three at each end; nothing beside letters."""
    size = len(text)
    if size < 11 or any(each.isalpha() for each in text):
        return HIDDEN * size
    # As many characters may be a citizen's number of 15 digits: see there.
    return _ends(text, 3, 4) if size <= 14 else _ends(text, 3, 3)


def mask_address(text: str) -> str:
    """Province and prefecture-level city, if the address begins with them."""
    # Not the county: its suffixes also end the names of housing estates and streets, and only a table of all would tell.
    found = _SHOWN_ADDRESS.match(text)
    end = found.end() if found else 0
    return text[:end] + HIDDEN * (len(text) - end)


def mask_date(text: str) -> str:
    """The decade of a date that begins with its year, and the signs between its parts."""
    # Not the year: with a county and a surname it leads to one person more often than not.
    if not _DATE.fullmatch(text):
        return HIDDEN * len(text)
    return text[:3] + "".join([HIDDEN if each in "0123456789" else each for each in text[3:]])


def mask_full(text: str) -> str:
    """Nothing but the length."""
    return HIDDEN * len(text)


def _ends(text: str, first: int, last: int) -> str:
    return text[:first] + HIDDEN * (len(text) - first - last) + text[-last:]


MASKS: Mapping[str, Mask] = MappingProxyType(
    {
        mask.name: mask
        for mask in (
            Mask(
                "name",
                "The surname (two characters of a compound one), or the first letter of a name in another script.",
                "保留姓氏（复姓保留两个字），其他文字的姓名保留首字母。",
                mask_name,
            ),
            Mask(
                "number",
                "Three characters at each end; one at each end of numbers shorter than 15; nothing of those below 8.",
                "保留前三位和后三位；不足 15 位的保留首尾各一位；不足 8 位的全部隐藏。",
                mask_number,
            ),
            Mask(
                "phone",
                "The first three and last four characters; three at each end of those longer than 14; nothing below 11.",
                "保留前三位和后四位；超过 14 位的保留前后各三位；不足 11 位的全部隐藏。",
                mask_phone,
            ),
            Mask(
                "address",
                "Province and city at the beginning; county, street and all else are hidden.",
                "保留开头的省和市，区县、街道等其余部分全部隐藏。",
                mask_address,
            ),
            Mask(
                "date",
                "The decade of a date that begins with its year; nothing of other forms.",
                "仅保留以年份开头的日期的年代（年份前三位），其他形式全部隐藏。",
                mask_date,
            ),
            Mask("full", "Nothing but the length.", "全部隐藏，仅保留长度。", mask_full),
        )
    }
)
