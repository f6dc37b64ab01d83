"""What a decision may give, and what it must say. Pure.

Rules:
1. Nobody gets more than was asked for, nor more than the resource lists. Less than was asked for is an approval in part,
   whatever the owner calls it, and needs what a refusal needs: reason code, text and basis.
2. A decision bears today's date, in China, and what it grants does not begin before it.
3. Masks that the catalogue proposes come with their items, and are not a part withheld: they were there to read.
4. A grant names every item it releases: what the resource lists later was not decided about.

Checks return a value or raise UnprocessableError, whose pointer names the member of what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from exchange import MASKS, UnprocessableError, release_terms
from registry.applications.application import REASON_CODES, Ask, Offer, Outcome, Terms, Verdict
from registry.applications.rules import (
    LARGEST_VOLUME,
    check_case_rule,
    check_items,
    check_path,
    check_purposes,
    check_text,
    covers,
    wrong,
)
from registry.clock.deadlines import china_day


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
    check_purposes(verdict.purposes or (), "/purposes")
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
    check_items(verdict.items, offer)
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
        check_path("masks", path, where)
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
