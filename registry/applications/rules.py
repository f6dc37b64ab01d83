"""What an application must say. Pure.

Rules:
1. A draft may be incomplete, but not wrong. From submission on it is complete.
2. The sharing class is the strictest of the resource and of the items wanted: whoever leaves the strict ones out is judged less
   strictly, and a resource is never judged less strictly than its owner published it.
3. What is not shared may be applied for only with a basis that overrides: the article that obliges the owner to give it. Its
   clock is that of what is shared conditionally, and nothing of it is ever approved without somebody looking.

Checks return a value or raise UnprocessableError, whose pointer names the member of what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from exchange import UnprocessableError, item_keys
from registry.applications.application import Ask, Item, Offer
from registry.catalogue.resource import SHARING_CLASSES, SharingClass
from registry.clock.jurisdictions import DutyClass
from registry.grants.cases import compile_case_pattern

LONGEST_TEXT: Final = 2000
LONGEST_LINE: Final = 500
MOST_PURPOSES: Final = 20
MOST_ITEMS: Final = 1000
LARGEST_VOLUME: Final = 10**12

_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NEEDED: Final[Mapping[str, tuple[str, str]]] = {
    "purposes": (
        "name at least one purpose, such as public-rental-housing",
        "请至少填写一个用途代码，如 public-rental-housing",
    ),
    "purpose_text": ("say what the data is for", "请说明数据用于什么"),
    "legal_basis": ("name the article of law that the use rests on", "请写明使用数据所依据的法律法规条款"),
    "scenario": ("say in which step of which matter the data is used", "请说明在何事项的何环节使用数据"),
    "contact": ("say whom the owner can ask", "请填写提供方可以联系的人员及方式"),
    "official": ("name the official who answers for the use", "请填写对数据使用负责的人员"),
    "valid_to": ("say until when the data is needed", "请填写使用期限的截止日期"),
}
"""What no submission may lack, in the order in which it is told, and what is wanted of it."""
_WANTED: Final[Mapping[str, tuple[str, str]]] = {
    **_NEEDED,
    "text": ("say it in words", "请用文字说明"),
    "basis": ("name the law that this rests on", "请写明法律依据"),
    "document": ("name the document of the ruling", "请写明裁定文号"),
}
_SPACES = {ord("\n"): None, ord("\u3000"): None}
"""Lines, and the wide space of Chinese texts."""
_TEXTS = ("purpose_text", "legal_basis", "scenario", "contact", "official", "overriding_basis", "mode")
_LINES = frozenset({"contact", "official", "mode"})


def wrong(rule: str, pointer: str, problem: str, problem_zh: str) -> UnprocessableError:
    """The error for a member of what was sent; to be raised."""
    return UnprocessableError(rule, problem=problem, problem_zh=problem_zh, pointer=pointer)


def check_text(field: str, text: str, *, empty: bool = False) -> None:
    """A text that somebody wrote to explain: lines of printable characters, at most `LONGEST_TEXT` of them."""
    if not text.strip():
        if text or not empty:
            raise _missing((field,))
        return
    if len(text) > LONGEST_TEXT or text != text.strip() or not text.translate(_SPACES).isprintable():
        raise wrong(
            field.replace("_", "-"),
            f"/{field}",
            f"{field} must be at most {LONGEST_TEXT} printable characters, without spaces around it.",
            f"{field} 应不超过 {LONGEST_TEXT} 个可打印字符，首尾不含空格。",
        )


def _missing(fields: Sequence[str]) -> UnprocessableError:
    """The error for what is not said: the first with what is wanted of it, and the others by name."""
    first, *others = [f"/{each}" for each in fields]
    wanted, wanted_zh = _WANTED.get(fields[0], ("", ""))
    problem = f"{first} is missing{wanted and f': {wanted}'}"
    problem_zh = f"缺少 {first}{wanted_zh and f'：{wanted_zh}'}"
    if others:
        listed = " and ".join(filter(None, (", ".join(others[:-1]), others[-1])))
        problem += f"; {listed} {'are' if others[1:] else 'is'} missing, too"
        problem_zh += f"；另缺 {'、'.join(others)}"
    return wrong(fields[0].replace("_", "-"), first, f"{problem}.", f"{problem_zh}。")


def check_line(field: str, text: str, *, empty: bool = False) -> None:
    """A name or the like: one printable line of at most `LONGEST_LINE` characters."""
    check_text(field, text, empty=empty)
    if len(text) > LONGEST_LINE or not text.isprintable():
        raise wrong(
            field.replace("_", "-"),
            f"/{field}",
            f"{field} must be one line of at most {LONGEST_LINE} characters.",
            f"{field} 应为单行文本，不超过 {LONGEST_LINE} 个字符。",
        )


def check_draft(ask: Ask, offer: Offer) -> None:
    """What is said already must be right."""
    for field in _TEXTS:
        (check_line if field in _LINES else check_text)(field, getattr(ask, field), empty=True)
    check_purposes(ask.purposes, "/purposes")
    check_items(ask.items, offer)
    if ask.mode and ask.mode not in offer.modes:
        raise wrong(
            "mode",
            "/mode",
            f"The resource is not offered as {ask.mode[:40]!r}; it is offered as {', '.join(offer.modes) or 'nothing yet'}.",
            f"该资源不以“{ask.mode[:40]}”方式提供；可用方式：{'、'.join(offer.modes) or '暂无'}。",
        )
    if not 0 <= ask.calls_per_day <= LARGEST_VOLUME:
        raise wrong(
            "calls-per-day",
            "/calls_per_day",
            f"calls_per_day must be between 0 and {LARGEST_VOLUME}.",
            f"calls_per_day 应在 0 至 {LARGEST_VOLUME} 之间。",
        )
    check_case_rule(ask.case_rule, "/case_rule")
    _check_order(ask.valid_from, ask.valid_to)


def check_submission(ask: Ask, offer: Offer, now: datetime) -> SharingClass:
    """The application is complete; returns its sharing class."""
    check_draft(ask, offer)
    missing = tuple(field for field in _NEEDED if not getattr(ask, field))
    if missing:
        raise _missing(missing)
    assert ask.valid_to is not None  # or it would be missing
    if ask.valid_to <= now:
        raise wrong("valid-to", "/valid_to", "The period has ended already.", "使用期限已过。")
    found = sharing_class(ask, offer)
    if found == "not-shared" and not ask.overriding_basis:
        strict = [item.path for item in wanted_items(ask, offer) if item.sharing_class == "not-shared"]
        which = ", ".join(strict[:5]) or offer.code
        raise wrong(
            "overriding-basis",
            "/overriding_basis",
            f"{which} is not shared. Leave it out, or name the article of law that obliges its owner to give it to you.",
            f"{which} 属于不予共享。请去掉该项，或填写规定提供方必须向您提供的法律法规条款。",
        )
    return found


def sharing_class(ask: Ask, offer: Offer) -> SharingClass:
    """The strictest of the resource and of what is wanted of it."""
    wanted = [item.sharing_class for item in wanted_items(ask, offer)]
    return max([offer.sharing_class, *wanted], key=SHARING_CLASSES.index)


def duty_class(found: SharingClass) -> DutyClass:
    """The class whose deadlines hold (rule 3)."""
    return "unconditional" if found == "unconditional" else "conditional"


def wanted_items(ask: Ask, offer: Offer) -> tuple[Item, ...]:
    """Items of the resource that an application touches: those named, those above them and those below."""
    if not ask.items:
        return offer.items
    return tuple(
        item for item in offer.items if any(covers(item.path, path) or covers(path, item.path) for path in ask.items)
    )


def covers(path: str, other: str) -> bool:
    """Whether what lies at `other` lies at or below `path`; a key's own dots are escaped, so texts can be compared."""
    return other == path or other.startswith(f"{path}.")


def person_key(official: str) -> str:
    """By what two officials are told apart: their names, but for spaces and the case of letters."""
    return "".join(official.split()).casefold()


def check_case_rule(rule: str, pointer: str) -> None:
    """A pattern of case numbers, or nothing."""
    try:
        compile_case_pattern(rule)
    except ValueError as error:
        raise wrong(
            "case-rule",
            pointer,
            f"{str(error).capitalize()}; * ? # stand for any, one, and a digit.",
            "办件编号规则的写法不正确；* 任意多个字符，? 一个字符，# 一位数字。",
        ) from error


def check_purposes(purposes: Sequence[str], pointer: str) -> None:
    if len(purposes) > MOST_PURPOSES:
        raise wrong("purposes", pointer, f"At most {MOST_PURPOSES} purposes.", f"用途不得超过 {MOST_PURPOSES} 个。")
    for index, purpose in enumerate(purposes):
        if not _PURPOSE.fullmatch(purpose):
            raise wrong(
                "purposes",
                f"{pointer}/{index}",
                "A purpose is a code of 1 to 64 letters, digits, dots, dashes or underscores.",
                "用途代码由 1 至 64 个字母、数字、点、短横线或下划线组成。",
            )


def check_items(items: Sequence[str], offer: Offer) -> None:
    if len(items) > MOST_ITEMS:
        raise wrong("items", "/items", f"At most {MOST_ITEMS} items.", f"信息项不得超过 {MOST_ITEMS} 个。")
    for index, path in enumerate(items):
        check_path("items", path, f"/items/{index}")
        if not any(covers(item.path, path) for item in offer.items):
            listed = ", ".join(item.path for item in offer.items[:8])
            raise wrong(
                "items",
                f"/items/{index}",
                f"The resource {offer.code} has no item of this path; it lists {listed}.",
                f"资源 {offer.code} 没有该信息项；其信息项包括：{listed}。",
            )


def check_path(rule: str, path: str, pointer: str) -> None:
    try:
        item_keys(path)
    except ValueError as error:
        raise wrong(rule, pointer, f"{error}.", "信息项路径的写法不正确。") from error


def _check_order(valid_from: datetime | None, valid_to: datetime | None) -> None:
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise wrong("valid-to", "/valid_to", "It would end before it begins.", "截止时间早于开始时间。")


def amended(ask: Ask, changes: Mapping[str, object]) -> Ask:
    """What is asked for, with some members said anew; the resource stays."""
    return replace(ask, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


def one_line(texts: Iterable[str]) -> str:
    """Texts as the one line that a record of changes keeps as its reason."""
    line = " ".join(" ".join(texts).split())
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"
