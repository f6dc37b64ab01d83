"""Which items are about persons: proposed from what an item is called and from what stands in it. Pure.

Rules:
1. It is a proposal to the department, which knows its data; nothing is released or withheld because of it alone.
2. When in doubt the stricter one is proposed. Values can make a proposal stricter than the name does; they lift one only for
   an item that is merely called `name` and holds the names of something else.
3. A number counts as one of a kind when its check digits, or its date, are right in most of the values that were looked at.
4. No value that was looked at stands in a proposal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from exchange import uscc_fault

MOST = 0.6
"""Of the values: so many of a kind make the item one of that kind."""
_LONGEST_VALUE = 500
"""Characters of a value that are looked at."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed for one item."""

    sensitivity: str
    """Of the catalogue's: public, internal, personal, sensitive-personal."""
    mask: str
    """Name of a mask for grants (`exchange.release.masks`); empty: none."""
    why: str
    why_zh: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of item: how it is called, what its values look like, and what is proposed for it."""

    proposal: Proposal
    names: re.Pattern[str]
    """Of the name in small letters with `_` between its words, whole words."""
    chinese: re.Pattern[str]
    value: Callable[[str], bool] | None = None


_INTERNAL = Proposal("internal", "", "", "")

# The hundred most frequent surnames: some 85 % of all people.
_SURNAMES = frozenset(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林郑谢罗梁宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦傅方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
_NOT_A_PERSON = re.compile("[省市区县镇乡村州盟旗局厅部委院校店厂司社所站队街道路组]$")
_HAN = re.compile("[\u4e00-\u9fff\u00b7]+")
_NUMBER = re.compile(r"(?<![0-9])[0-9]{17}[0-9Xx](?![0-9A-Za-z])")
_MOBILE = re.compile(r"(?:\+?86[- ]?)?1[3-9][0-9]{9}")
_LANDLINE = re.compile(r"0[0-9]{2,3}[- ][0-9]{7,8}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
_PLATE = re.compile(
    "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][- \u00b7]?[0-9A-HJ-NP-Z]{5,6}"
)
_STREET = re.compile("(?:省|市|区|县|乡|镇).{0,20}(?:路|街|巷|村|屯|号|栋|室|弄|组)")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def is_citizen_number(text: str) -> bool:
    """Whether it is a citizen's number (GB 11643): 18 characters with the right check character, or 15 with a date in it."""
    if re.fullmatch(r"[1-9][0-9]{16}[0-9Xx]", text):
        total = sum(int(digit) * weight for digit, weight in zip(text[:17], _WEIGHTS, strict=True))
        return "10X98765432"[total % 11] == text[17].upper() and _is_date(text[6:14])
    return re.fullmatch(r"[1-9][0-9]{14}", text) is not None and _is_date("19" + text[6:12])


def is_card_number(text: str) -> bool:
    """Whether it is a bank card's number (ISO/IEC 7812): 16 to 19 digits that begin as cards do, and Luhn's check digit."""
    if not 16 <= len(text) <= 19 or not re.fullmatch(r"(?:62|4|5[1-5]|3[57])[0-9]+", text):
        return False
    digits = [int(each) for each in reversed(text)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * each, 10)) for each in digits[1::2])) % 10 == 0


def is_person_name(text: str) -> bool:
    """Whether it reads like a Chinese person's name; names of places and offices do not."""
    return (
        2 <= len(text) <= 4
        and _HAN.fullmatch(text) is not None
        and text[0] in _SURNAMES
        and not _NOT_A_PERSON.search(text)
    )


def _is_date(text: str) -> bool:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])).year >= 1800
    except ValueError:
        return False


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|_)(?:{pattern})(?:_|$)")


def _kind(
    sensitivity: str,
    mask: str,
    why: str,
    why_zh: str,
    names: str,
    chinese: str,
    value: Callable[[str], bool] | None = None,
) -> _Kind:
    return _Kind(Proposal(sensitivity, mask, why, why_zh), _words(names), re.compile(chinese), value)


# The first that fits counts. Pinyin initials are those of the population and social-security standards (GA/T 2000, LB).
_KINDS = (
    _kind(
        "sensitive-personal",
        "number",
        "a citizen's number",
        "公民身份号码",
        r"id_?card(?:_?(?:no|num|number))?|id_?no|id_?num(?:ber)?|identity(?:_?(?:no|number|card|code))?|national_?id(?:_?(?:no|number))?"
        r"|citizen_?(?:id|no|number)|resident_?(?:id|no|number)|ssn|sfz|sfzh|sfzhm|sfzjhm|gmsfhm|gmsfzh|shenfenzheng(?:hao)?",
        "身份证|身份号|公民身份",
        is_citizen_number,
    ),
    _kind(
        "public",
        "",
        "a unified social credit code",
        "统一社会信用代码",
        r"uscc|usci|(?:social_?)?credit_?code|unified_social_credit.*|tyshxydm|shxydm|xydm",
        "社会信用代码|信用代码",
        lambda text: uscc_fault(text) is None,
    ),
    _kind(
        "sensitive-personal",
        "number",
        "the number of a bank card or account",
        "银行卡号或账号",
        r"bank_?(?:card|account|acct)(?:_?(?:no|num|number))?|card_?(?:no|num|number)|account_?(?:no|num|number)|acct_?no|iban|yhkh|yhzh",
        "银行卡|银行账|账号|帐号|卡号",
        is_card_number,
    ),
    _kind(
        "sensitive-personal",
        "number",
        "the number of an identity document",
        "证件号码",
        r"passport(?:_?(?:no|num|number))?|driv(?:er|ing)_?licen[cs]e(?:_?(?:no|number))?|cert(?:ificate)?_?(?:no|num|number)|doc(?:ument)?_?(?:no|num|number)|zjhm|zjh|hzhm",
        "护照|驾驶证|证件号|证照号",
    ),
    _kind(
        "personal",
        "phone",
        "a telephone number",
        "电话号码",
        r"(?:\w+_)?(?:phone|mobile|telephone|tel|cellphone|cell)(?:_?(?:no|num|number))?|sjh|sjhm|lxdh|dhhm|lxfs|shouji(?:hao)?|dianhua",
        "电话|手机|联系方式",
        lambda text: _MOBILE.fullmatch(text) is not None or _LANDLINE.fullmatch(text) is not None,
    ),
    _kind(
        "personal",
        "full",
        "an e-mail address",
        "电子邮箱",
        r"e_?mail(?:_?(?:address|addr))?|dzyx|youxiang",
        "邮箱|电子邮件",
        lambda text: _EMAIL.fullmatch(text) is not None,
    ),
    _kind(
        "personal",
        "number",
        "the number of a vehicle",
        "机动车号牌",
        r"(?:license_)?plate(?:_?(?:no|num|number))?|cphm|cph|hphm",
        "车牌|号牌",
        lambda text: _PLATE.fullmatch(text) is not None,
    ),
    _kind(
        "personal",
        "date",
        "a date of birth",
        "出生日期",
        r"birth(?:_?(?:date|day|time|year))?|date_of_birth|birthday|birthdate|born(?:_?(?:on|at))?|dob|csrq|csny",
        "出生|生日",
    ),
    _kind(
        "sensitive-personal",
        "full",
        "about somebody's health",
        "健康信息",
        r"diagnos[ei]s|disease|illness|symptoms?|blood_?type|vaccin\w*|medical\w*|prescription|disab\w*|hiv|jbmc|zdmc|xx_?dm",
        "诊断|疾病|病史|病情|血型|疫苗|残疾|用药",
    ),
    _kind(
        "sensitive-personal",
        "full",
        "somebody's money",
        "财产、收入信息",
        r"salary|wages?|income|balance|gz|sr|gzsr",
        "工资|收入|余额|存款",
    ),
    _kind(
        "sensitive-personal",
        "full",
        "somebody's belief or origin",
        "宗教信仰、民族",
        r"religio\w*|ethnic\w*|mz|minzu|zjxy",
        "宗教|民族",
    ),
    _kind(
        "personal",
        "address",
        "an address",
        "住址",
        r"(?<!ip_)(?<!mac_)(?<!web_)(?<!url_)addr(?:ess)?(?:_?(?:line)?_?[0-9]?)?|residence|domicile|street|dz|zz|xxdz|jtzz|hjdz|zhuzhi|dizhi",
        "住址|地址|住所|户籍地|居住地",
        lambda text: len(text) >= 8 and _STREET.search(text) is not None,
    ),
    _kind(
        "personal",
        "name",
        "a person's name",
        "人员姓名",
        r"(?:full|real|person|persons?|first|last|given|family|sur|middle|birth|maiden|spouse|father|mother|parent|child|holder|owner|contact|applicant|patient|"
        r"student|teacher|employee|citizen|resident|customer|driver|payee|borrower|operator)_?name|surname|holder|applicant|patient|contact(?:_?person)?|"
        r"legal_?(?:rep(?:resentative)?|person)(?:_?name)?|spouse|xm|xingming|fddbr|frxm|lxr|lxrxm|sqr|sqrxm",
        "姓名|法定代表人|法人代表|负责人|联系人|申请人|持有人|权利人|产权人|患者|户主|配偶",
        is_person_name,
    ),
    _kind(
        "personal",
        "",
        "somebody's sex or marital status",
        "性别、婚姻状况",
        r"sex|gender|marital(?:_?status)?|xb|hyzk",
        "性别|婚姻",
    ),
)
_NAME = re.compile(r"(?:^|_)(?:name|mc)$")
_PERSONS_NAME = next(each.proposal for each in _KINDS if each.value is is_person_name)
_NUMBERS_WITHIN = Proposal(
    "sensitive-personal", "full", "text in which citizens' numbers stand", "文本中含有公民身份号码"
)

PROPOSALS = (*(each.proposal for each in _KINDS), _NUMBERS_WITHIN)
"""Everything that can be proposed, but for `internal`, which is said of the rest."""


def propose(path: str, title: str = "", values: Iterable[object] = ()) -> Proposal:
    """What is proposed for one item.

    Args:
        path: Its path or the column's name; the last key counts.
        title: What it is called for people, or a comment.
        values: Some of its values, of any type; those that are neither text nor whole numbers are passed over.
    """
    texts = [text for each in values if (text := _text(each))]
    if texts and (found := _by_values(texts)) is not None:
        return found
    name = _snake(path.rpartition(".")[2])
    for kind in _KINDS:
        if kind.names.search(name) or kind.chinese.search(name) or kind.chinese.search(title):
            return kind.proposal
    if _NAME.search(name) and not _names_of_things(texts):
        return _PERSONS_NAME
    return _INTERNAL


def _by_values(texts: Sequence[str]) -> Proposal | None:
    enough = max(1, MOST * len(texts))
    for kind in _KINDS:
        # One value may look like a name or a card by chance.
        if kind.value is not None and sum(map(kind.value, texts)) >= enough and (len(texts) > 2 or kind is _KINDS[0]):
            return kind.proposal
    if any(is_citizen_number(found) for text in texts for found in _NUMBER.findall(text)):
        return _NUMBERS_WITHIN
    return None


def _names_of_things(texts: Sequence[str]) -> bool:
    """Whether what is called a name is mostly that of places, offices, goods: Chinese, and unlike a person's."""
    chinese = [text for text in texts if _HAN.match(text)]
    return len(chinese) > len(texts) / 2 and sum(map(is_person_name, chinese)) < 0.3 * len(chinese)


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value).strip()[:_LONGEST_VALUE]


def _snake(name: str) -> str:
    """`idCardNo`, `ID-CARD-NO` -> `id_card_no`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[\s.\-]+", "_", spaced).lower()
