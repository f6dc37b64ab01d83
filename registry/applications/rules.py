"""What an application must say, and what a decision may give. Pure.

Rules:
1. A draft may be incomplete, but not wrong. From submission on it is complete.
2. The sharing class is the strictest of the resource and of the items wanted: whoever leaves the strict ones out is judged less
   strictly, and a resource is never judged less strictly than its owner published it.
3. What is not shared may be applied for only with a basis that overrides: the article that obliges the owner to give it. Its
   clock is that of what is shared conditionally, and nothing of it is ever approved without somebody looking.
4. Nobody gets more than was asked for, nor more than the resource lists. Less than was asked for is an approval in part,
   whatever the owner calls it, and needs what a refusal needs: reason code, text and basis.
5. A decision bears today's date, in China, and what it grants does not begin before it.
6. Masks that the catalogue proposes come with their items, and are not a part withheld: they were there to read.

Checks return a value or raise UnprocessableError, whose pointer names the member of what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Final

from exchange import MASKS, UnprocessableError, item_keys, release_terms
from registry.applications.application import (
    REASON_CODES,
    Ask,
    Item,
    Offer,
    Outcome,
    Terms,
    Verdict,
)
from registry.cases import compile_case_pattern
from registry.catalogue.resource import SHARING_CLASSES, SharingClass
from registry.clock.deadlines import china_day
from registry.clock.jurisdictions import DutyClass

LONGEST_TEXT: Final = 2000
LONGEST_LINE: Final = 500
MOST_PURPOSES: Final = 20
MOST_ITEMS: Final = 1000
LARGEST_VOLUME: Final = 10**12

_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NEEDED = (
    ("purpose_text", "what the data is for", "使用目的"),
    ("legal_basis", "the legal basis of the use", "使用依据"),
    ("scenario", "in which step of which matter it is used", "应用场景"),
    ("contact", "a contact", "联系人"),
    ("official", "the official who answers for the use", "责任人"),
)
_LINES = frozenset({"contact", "official", "mode"})


def wrong(rule: str, pointer: str, problem: str, problem_zh: str) -> UnprocessableError:
    """The error for a member of what was sent; to be raised."""
    return UnprocessableError(rule, problem=problem, problem_zh=problem_zh, pointer=pointer)


def check_text(field: str, text: str, *, empty: bool = False, pointer: str = "") -> None:
    """A text that somebody wrote to explain: lines of printable characters, at most `LONGEST_TEXT` of them."""
    where = pointer or f"/{field}"
    if not text.strip():
        if text or not empty:
            raise wrong(field.replace("_", "-"), where, f"{field} is missing.", f"缺少 {field}。")
        return
    if len(text) > LONGEST_TEXT or text != text.strip() or not text.replace("\n", "").isprintable():
        raise wrong(
            field.replace("_", "-"),
            where,
            f"{field} must be at most {LONGEST_TEXT} printable characters, without spaces around it.",
            f"{field} 应不超过 {LONGEST_TEXT} 个可打印字符，首尾不含空格。",
        )


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
    for field, _, _ in (*_NEEDED, ("overriding_basis", "", ""), ("mode", "", "")):
        (check_line if field in _LINES else check_text)(field, getattr(ask, field), empty=True)
    _check_purposes(ask.purposes, "/purposes")
    _check_items(ask.items, offer)
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
    if not ask.purposes:
        raise wrong(
            "purposes",
            "/purposes",
            "Name at least one purpose, such as public-rental-housing.",
            "请至少填写一个用途代码。",
        )
    for field, what, what_zh in _NEEDED:
        if not getattr(ask, field):
            raise wrong(
                field.replace("_", "-"), f"/{field}", f"{field} is missing: {what}.", f"缺少 {field}：请填写{what_zh}。"
            )
    if ask.valid_to is None:
        raise wrong("valid-to", "/valid_to", "Say until when the data is needed.", "请填写使用期限的截止日期。")
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


def check_verdict(verdict: Verdict, received: datetime, now: datetime) -> date:
    """The verdict says what its kind must say, and is dated today; returns the date.

    Raises:
        UnprocessableError: With the member that is missing, wrong, or backdated.
    """
    check_text("text", verdict.text, empty=verdict.approve)
    check_text("basis", verdict.basis, empty=verdict.approve)
    if (verdict.reason_code or not verdict.approve) and verdict.reason_code not in REASON_CODES:
        raise wrong(
            "reason-code",
            "/reason_code",
            f"A reason code is one of {', '.join(REASON_CODES)}.",
            f"理由代码应为：{'、'.join(REASON_CODES)}。",
        )
    today = china_day(now)
    decided_on = verdict.decided_on or today
    if decided_on < china_day(received):
        raise wrong(
            "backdated",
            "/decided_on",
            f"The application was received on {china_day(received)}: nobody decided about it before.",
            f"申请于 {china_day(received)} 收到，决定日期不能早于该日。",
        )
    if decided_on != today:
        raise wrong(
            "backdated" if decided_on < today else "postdated",
            "/decided_on",
            f"A decision bears the date on which it is made, today {today}.",
            f"决定日期应为作出决定的当日（{today}），不得倒签或预签。",
        )
    if not verdict.approve:
        for field in ("items", "masks", "purposes", "valid_from", "valid_to", "case_pattern"):
            if getattr(verdict, field) is not None:
                raise wrong(
                    "refusal", f"/{field}", "A refusal grants nothing: leave it out.", "拒绝时不得填写授权内容。"
                )
    return decided_on


def settle(verdict: Verdict, ask: Ask, offer: Offer, now: datetime) -> tuple[Outcome, Terms | None]:
    """What a checked verdict comes to: whether all, a part or nothing of what was asked for, and on which terms.

    Raises:
        UnprocessableError: It would give more than was asked for or listed, or withholds a part without saying why.
    """
    if not verdict.approve:
        return "refused", None
    items = _granted_items(verdict, ask, offer)
    purposes = tuple(sorted(set(verdict.purposes if verdict.purposes is not None else ask.purposes)))
    _check_purposes(verdict.purposes or (), "/purposes")
    for index, purpose in enumerate(verdict.purposes or ()):
        if purpose not in ask.purposes:
            raise _too_much(f"/purposes/{index}", f"The purpose {purpose}", f"用途 {purpose}")
    if not purposes:
        raise wrong(
            "purposes", "/purposes", "Grant for one purpose at least, or refuse.", "请至少授权一个用途，或予以拒绝。"
        )
    valid_from, valid_to = _granted_period(verdict, ask, now)
    for field, number in (("quota_per_second", verdict.quota_per_second), ("quota_per_day", verdict.quota_per_day)):
        if not 0 <= number <= LARGEST_VOLUME:
            raise wrong(field.replace("_", "-"), f"/{field}", f"{field} must not be below 0.", f"{field} 不得小于 0。")
    if verdict.case_pattern is not None:
        check_case_rule(verdict.case_pattern, "/case_pattern")
    masks, added = _granted_masks(verdict, items, offer)
    asked_items = _listed(ask.items, offer)
    terms = Terms(
        items=_fitting(items, masks, asked_for_all=set(items) == {item.path for item in offer.items}),
        masks=masks,
        purposes=purposes,
        valid_from=valid_from,
        valid_to=valid_to,
        quota_per_second=verdict.quota_per_second,
        quota_per_day=verdict.quota_per_day,
        signed_requests=verdict.signed_requests,
        case_pattern=ask.case_rule if verdict.case_pattern is None else verdict.case_pattern,
    )
    less = (
        any(not any(covers(given, path) for given in items) for path in asked_items)
        or set(purposes) < set(ask.purposes)
        or valid_from > max(now, ask.valid_from or now)
        or (ask.valid_to is not None and valid_to < ask.valid_to)
        or (0 < verdict.quota_per_day < ask.calls_per_day)
        or added
    )
    if less:
        _check_grounds(verdict)
    return ("partly-approved" if less else "approved"), terms


def check_not_less(terms: Terms, earlier: Terms) -> None:
    """A decision made anew takes nothing back that the one before gave."""
    lost: list[tuple[str, str]] = [
        (f"the item {path}", f"信息项 {path}")
        for path in earlier.items
        if terms.items and not any(covers(given, path) for given in terms.items)
    ]
    lost += [(f"the purpose {each}", f"用途 {each}") for each in earlier.purposes if each not in terms.purposes]
    lost += [
        (f"{path} unmasked", f"未脱敏的 {path}")
        for path, mask in terms.masks.items()
        if earlier.masks.get(path, mask) != mask
        or (path not in earlier.masks and any(covers(given, path) for given in earlier.items))
    ]
    if terms.valid_to < earlier.valid_to:
        lost.append((f"the period until {earlier.valid_to.isoformat()}", f"至 {earlier.valid_to.isoformat()} 的期限"))
    for quota, before in (
        (terms.quota_per_second, earlier.quota_per_second),
        (terms.quota_per_day, earlier.quota_per_day),
    ):
        if quota and (not before or quota < before):
            lost.append(("the number of calls", "调用次数"))
    if lost:
        raise UnprocessableError(
            "reopened",
            problem=f"What was granted before the dispute stands; this would take back {lost[0][0]}.",
            problem_zh=f"争议前已批准的内容继续有效；本决定将收回{lost[0][1]}。",
        )


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


def _check_grounds(verdict: Verdict) -> None:
    """What was not given was refused: reason code, text and basis."""
    for field in ("reason_code", "text", "basis"):
        if not getattr(verdict, field):
            raise wrong(
                "grounds",
                f"/{field}",
                f"This gives less than was asked for: {field} is missing for what is withheld.",
                f"批准内容少于申请内容，须说明未予批准部分的 {field}。",
            )


def _check_purposes(purposes: Sequence[str], pointer: str) -> None:
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


def _check_items(items: Sequence[str], offer: Offer) -> None:
    if len(items) > MOST_ITEMS:
        raise wrong("items", "/items", f"At most {MOST_ITEMS} items.", f"信息项不得超过 {MOST_ITEMS} 个。")
    for index, path in enumerate(items):
        _check_path(path, f"/items/{index}")
        if not any(covers(item.path, path) for item in offer.items):
            listed = ", ".join(item.path for item in offer.items[:8])
            raise wrong(
                "items",
                f"/items/{index}",
                f"The resource {offer.code} has no item of this path; it lists {listed}.",
                f"资源 {offer.code} 没有该信息项；其信息项包括：{listed}。",
            )


def _check_path(path: str, pointer: str) -> None:
    try:
        item_keys(path)
    except ValueError as error:
        raise wrong("items", pointer, f"{error}.", "信息项路径的写法不正确。") from error


def _check_order(valid_from: datetime | None, valid_to: datetime | None) -> None:
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise wrong("valid-to", "/valid_to", "It would end before it begins.", "截止时间早于开始时间。")


def _listed(items: Sequence[str], offer: Offer) -> tuple[str, ...]:
    """Named items, or all of the resource, each once and in order."""
    return tuple(sorted(set(items or (item.path for item in offer.items))))


def _granted_items(verdict: Verdict, ask: Ask, offer: Offer) -> tuple[str, ...]:
    asked = _listed(ask.items, offer)
    # The catalogue may have changed since the application came: what it no longer lists cannot be given.
    gone = [path for path in asked if not any(covers(item.path, path) for item in offer.items)]
    if verdict.items is None:
        if gone:
            raise wrong(
                "items",
                "/items",
                f"The resource no longer lists {', '.join(gone[:5])}: name the items to grant.",
                f"资源目录已不含 {'、'.join(gone[:5])}：请指明授权的信息项。",
            )
        return asked
    if not verdict.items:
        raise wrong("items", "/items", "Name one item at least, or refuse.", "请至少授权一个信息项，或予以拒绝。")
    _check_items(verdict.items, offer)
    for index, path in enumerate(verdict.items):
        if not any(covers(each, path) for each in asked):
            raise _too_much(f"/items/{index}", f"The item {path}", f"信息项 {path}")
    return _listed(verdict.items, offer)


def _granted_period(verdict: Verdict, ask: Ask, now: datetime) -> tuple[datetime, datetime]:
    if verdict.valid_from is not None:
        if china_day(verdict.valid_from) < china_day(now):
            raise wrong(
                "backdated", "/valid_from", "A grant does not begin before it is decided.", "授权不得早于决定之日开始。"
            )
        if ask.valid_from is not None and verdict.valid_from < ask.valid_from:
            raise _too_much("/valid_from", "This beginning", "该开始时间")
    asked_to = ask.valid_to
    if verdict.valid_to is not None and asked_to is not None and verdict.valid_to > asked_to:
        raise _too_much("/valid_to", "This end", "该截止时间")
    valid_from = max(now, verdict.valid_from or ask.valid_from or now)
    valid_to = verdict.valid_to or asked_to
    if valid_to is None or valid_to <= valid_from:
        raise wrong(
            "valid-to",
            "/valid_to",
            "The grant would end before it begins: what was asked for may be over by now.",
            "授权截止时间早于开始时间：申请的使用期限可能已过。",
        )
    return valid_from, valid_to


def _granted_masks(verdict: Verdict, items: Sequence[str], offer: Offer) -> tuple[dict[str, str], bool]:
    """Masks by path, and whether the owner hides more than the catalogue said."""
    masks: dict[str, str] = {}
    for item in offer.items:
        if item.mask and any(covers(given, item.path) for given in items):
            masks[item.path] = item.mask
        elif item.mask:
            masks.update({given: item.mask for given in items if covers(item.path, given)})
    proposed = dict(masks)
    for path, mask in (verdict.masks or {}).items():
        where = "/masks/" + path.replace("~", "~0").replace("/", "~1")
        _check_path(path, where)
        if mask and mask not in MASKS:
            raise wrong(
                "masks",
                where,
                f"There is no mask {mask[:40]!r}; there are {', '.join(sorted(MASKS))}.",
                f"没有脱敏规则“{mask[:40]}”；可用：{'、'.join(sorted(MASKS))}。",
            )
        if not any(covers(given, path) for given in items):
            raise wrong("masks", where, "The item is not among those granted.", "该信息项不在授权范围内。")
        if mask:
            masks[path] = mask
        else:
            masks.pop(path, None)
    return masks, any(proposed.get(path) != mask for path, mask in masks.items())


def _fitting(items: tuple[str, ...], masks: Mapping[str, str], *, asked_for_all: bool) -> tuple[str, ...]:
    """The items as a grant can carry them in each signed question.

    Where all of a resource with very many items is granted, that is said by naming none.
    """
    try:
        release_terms(items, masks)
    except ValueError as error:
        if not asked_for_all:
            raise wrong(
                "items",
                "/items",
                f"{error}: grant fewer items.",
                "授权的信息项过多，无法写入授权声明：请减少信息项。",
            ) from error
        return ()
    return items


def _too_much(pointer: str, what: str, what_zh: str) -> UnprocessableError:
    return wrong(
        "more-than-asked",
        pointer,
        f"{what} was not asked for: an approval gives no more.",
        f"{what_zh} 不在申请范围内。",
    )


def amended(ask: Ask, changes: Mapping[str, object]) -> Ask:
    """What is asked for, with some members said anew; the resource stays."""
    return replace(ask, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


def one_line(texts: Iterable[str]) -> str:
    """Texts as the one line that a record of changes keeps as its reason."""
    line = " ".join(" ".join(texts).split())
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"
