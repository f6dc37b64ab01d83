"""What an application must say and what a decision may give: pure rules, each fault named by its pointer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from exchange import SubsystemId, UnprocessableError
from registry.applications import rules, verdicts
from registry.applications.application import Ask, Item, Offer, Terms, Verdict

NOW = datetime(2026, 3, 2, 4, tzinfo=UTC)
"""A Monday, noon in China."""
RECEIVED = datetime(2026, 2, 27, 4, tzinfo=UTC)
END = datetime(2027, 12, 31, 16, tzinfo=UTC)
OFFER = Offer(
    code="306001/1",
    provider=SubsystemId("CN/GOV/11990000000001011Q/tax"),
    sharing_class="conditional",
    items=(
        Item(path="uscc", sharing_class="conditional"),
        Item(path="arrears", sharing_class="conditional"),
        Item(path="arrears.note", sharing_class="conditional", mask="full"),
        Item(path="owner.phone", sharing_class="conditional", mask="phone"),
        Item(path="case", sharing_class="not-shared"),
    ),
    modes=("query-interface",),
)
ASK = Ask(
    resource=OFFER.code,
    purposes=("housing", "rent"),
    purpose_text="核查",
    legal_basis="第七条",
    scenario="资格核查",
    items=("uscc", "arrears", "owner.phone"),
    valid_to=END,
    calls_per_day=1000,
    contact="0771",
    official="李四",
)
YES = Verdict(approve=True)
GROUNDS: Mapping[str, Any] = {"reason_code": "scope-too-wide", "text": "超出所需", "basis": "条例第二十条"}
NO = Verdict(approve=False, **GROUNDS)


def faults(caught: pytest.ExceptionInfo[UnprocessableError]) -> tuple[str, str]:
    assert caught.value.detail_in("zh") != caught.value.detail_in("en")
    return caught.value.rule, caught.value.pointer


@pytest.mark.parametrize(
    ("other", "rule", "pointer"),
    [
        ({"purposes": ("public housing",)}, "purposes", "/purposes/0"),
        ({"purposes": ("ok", "")}, "purposes", "/purposes/1"),
        ({"purposes": tuple(f"p{number}" for number in range(21))}, "purposes", "/purposes"),
        ({"purpose_text": " x"}, "purpose-text", "/purpose_text"),
        ({"purpose_text": "x" * 2001}, "purpose-text", "/purpose_text"),
        ({"legal_basis": "a\x07b"}, "legal-basis", "/legal_basis"),
        ({"contact": "two\nlines"}, "contact", "/contact"),
        ({"items": ("uscc", "salary")}, "items", "/items/1"),
        ({"items": ("owner",)}, "items", "/items/0"),
        ({"items": ("arrears.",)}, "items", "/items/0"),
        ({"mode": "file"}, "mode", "/mode"),
        ({"calls_per_day": -1}, "calls-per-day", "/calls_per_day"),
        ({"case_rule": "x" * 201}, "case-rule", "/case_rule"),
        ({"case_rule": " 1"}, "case-rule", "/case_rule"),
        ({"valid_from": END, "valid_to": END}, "valid-to", "/valid_to"),
    ],
)
def test_what_a_draft_says_already_must_be_right(other: dict[str, Any], rule: str, pointer: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        rules.check_draft(replace(ASK, **other), OFFER)
    assert faults(caught) == (rule, pointer)


def test_a_draft_may_be_all_but_empty_and_texts_may_have_lines() -> None:
    rules.check_draft(Ask(resource=OFFER.code), OFFER)
    rules.check_draft(replace(ASK, scenario="一\n二", items=("arrears.amount",), mode="query-interface"), OFFER)


@pytest.mark.parametrize(
    ("other", "rule", "pointer"),
    [
        ({"purposes": ()}, "purposes", "/purposes"),
        ({"purpose_text": ""}, "purpose-text", "/purpose_text"),
        ({"legal_basis": ""}, "legal-basis", "/legal_basis"),
        ({"scenario": ""}, "scenario", "/scenario"),
        ({"contact": ""}, "contact", "/contact"),
        ({"official": ""}, "official", "/official"),
        ({"valid_to": None}, "valid-to", "/valid_to"),
        ({"valid_to": NOW}, "valid-to", "/valid_to"),
        ({"items": ("uscc", "case")}, "overriding-basis", "/overriding_basis"),
        ({"items": ()}, "overriding-basis", "/overriding_basis"),
    ],
)
def test_a_submission_is_complete(other: dict[str, Any], rule: str, pointer: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        rules.check_submission(replace(ASK, **other), OFFER, NOW)
    assert faults(caught) == (rule, pointer)


@pytest.mark.parametrize(
    ("missing", "told", "told_zh"),
    [
        ("purposes", "name at least one purpose, such as public-rental-housing", "请至少填写一个用途代码"),
        ("purpose_text", "say what the data is for", "请说明数据用于什么"),
        ("legal_basis", "name the article of law that the use rests on", "请写明使用数据所依据的法律法规条款"),
        ("scenario", "say in which step of which matter the data is used", "请说明在何事项的何环节使用数据"),
        ("contact", "say whom the owner can ask", "请填写提供方可以联系的人员及方式"),
        ("official", "name the official who answers for the use", "请填写对数据使用负责的人员"),
        ("valid_to", "say until when the data is needed", "请填写使用期限的截止日期"),
    ],
)
def test_what_is_missing_is_told_with_what_is_wanted(missing: str, told: str, told_zh: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        rules.check_submission(replace(ASK, **{missing: getattr(Ask(resource="x"), missing)}), OFFER, NOW)
    assert caught.value.detail_in("en") == f"/{missing} is missing: {told}."
    assert caught.value.detail_in("zh").startswith(f"缺少 /{missing}：{told_zh}")


def test_of_several_missing_fields_the_first_is_told_and_the_others_are_named() -> None:
    with pytest.raises(UnprocessableError) as caught:
        rules.check_submission(replace(ASK, scenario="", contact=""), OFFER, NOW)
    assert faults(caught) == ("scenario", "/scenario")
    assert caught.value.detail_in("en").endswith("the data is used; /contact is missing, too.")
    assert caught.value.detail_in("zh").endswith("使用数据；另缺 /contact。")
    with pytest.raises(UnprocessableError) as caught:
        rules.check_submission(Ask(resource=OFFER.code), OFFER, NOW)
    assert faults(caught) == ("purposes", "/purposes")
    assert caught.value.detail_in("en").endswith(
        "; /purpose_text, /legal_basis, /scenario, /contact, /official and /valid_to are missing, too."
    )
    # Spaces are no contact, in a draft neither.
    with pytest.raises(UnprocessableError) as caught:
        rules.check_draft(replace(ASK, contact="  "), OFFER)
    assert caught.value.detail_in("en") == "/contact is missing: say whom the owner can ask."


def test_the_class_is_the_strictest_of_the_resource_and_of_what_is_wanted() -> None:
    assert rules.check_submission(ASK, OFFER, NOW) == "conditional"
    with_basis = replace(ASK, items=(), overriding_basis="监察法第十八条")
    assert rules.check_submission(with_basis, OFFER, NOW) == "not-shared"
    free = replace(
        OFFER, sharing_class="unconditional", items=tuple(_as(each, "unconditional") for each in OFFER.items)
    )
    assert rules.check_submission(ASK, free, NOW) == "unconditional"
    one_strict = replace(free, items=(*free.items[:2], _as(free.items[2], "conditional"), *free.items[3:]))
    # Whoever wants `arrears` wants what lies below it, too.
    assert rules.check_submission(ASK, one_strict, NOW) == "conditional"
    assert rules.check_submission(replace(ASK, items=("uscc",)), one_strict, NOW) == "unconditional"
    assert [rules.duty_class(each) for each in ("unconditional", "conditional", "not-shared")] == [
        "unconditional",
        "conditional",
        "conditional",
    ]


def _as(item: Item, sharing_class: Any) -> Item:
    return replace(item, sharing_class=sharing_class)


@pytest.mark.parametrize(
    ("verdict", "rule", "pointer"),
    [
        (replace(NO, reason_code=""), "reason-code", "/reason_code"),
        (replace(NO, reason_code="dislike"), "reason-code", "/reason_code"),
        (replace(YES, reason_code="dislike"), "reason-code", "/reason_code"),
        (replace(NO, text=""), "text", "/text"),
        (replace(NO, basis=""), "basis", "/basis"),
        (replace(NO, items=("uscc",)), "refusal", "/items"),
        (replace(NO, valid_to=END), "refusal", "/valid_to"),
        (replace(YES, decided_on=date(2026, 2, 26)), "backdated", "/decided_on"),
        (replace(YES, decided_on=date(2026, 3, 1)), "backdated", "/decided_on"),
        (replace(NO, decided_on=date(2026, 2, 27)), "backdated", "/decided_on"),
        (replace(YES, decided_on=date(2026, 3, 3)), "postdated", "/decided_on"),
    ],
)
def test_a_verdict_says_what_its_kind_must_and_bears_todays_date(verdict: Verdict, rule: str, pointer: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        verdicts.check_verdict(verdict, RECEIVED, NOW)
    assert faults(caught) == (rule, pointer)


def test_today_is_the_day_in_china() -> None:
    evening = datetime(2026, 3, 2, 17, tzinfo=UTC)
    assert verdicts.check_verdict(YES, RECEIVED, evening) == date(2026, 3, 3)
    assert verdicts.check_verdict(replace(NO, decided_on=date(2026, 3, 3)), RECEIVED, evening) == date(2026, 3, 3)


def test_approving_as_applied_for_gives_just_that_with_the_masks_of_the_catalogue() -> None:
    outcome, terms = verdicts.settle(YES, ASK, OFFER, NOW)
    assert (outcome, terms) == (
        "approved",
        Terms(
            items=("arrears", "owner.phone", "uscc"),
            masks={"arrears.note": "full", "owner.phone": "phone"},
            purposes=("housing", "rent"),
            valid_from=NOW,
            valid_to=END,
            quota_per_second=0,
            quota_per_day=0,
            signed_requests=False,
            case_pattern="",
        ),
    )
    assert verdicts.settle(NO, ASK, OFFER, NOW) == ("refused", None)


@pytest.mark.parametrize(
    "less",
    [
        {"items": ("uscc", "arrears")},
        {"items": ("uscc", "arrears.amount", "owner.phone")},
        {"purposes": ("rent",)},
        {"valid_to": datetime(2026, 12, 31, 16, tzinfo=UTC)},
        {"valid_from": datetime(2026, 4, 1, tzinfo=UTC)},
        {"quota_per_day": 999},
        {"masks": {"uscc": "number"}},
        {"masks": {"owner.phone": "full"}},
    ],
)
def test_less_than_was_asked_for_is_an_approval_in_part_and_needs_grounds(less: dict[str, Any]) -> None:
    for missing in GROUNDS:
        said = {name: text for name, text in GROUNDS.items() if name != missing}
        with pytest.raises(UnprocessableError) as caught:
            verdicts.settle(replace(YES, **less, **said), ASK, OFFER, NOW)
        assert faults(caught) == ("grounds", f"/{missing}")
    outcome, terms = verdicts.settle(replace(YES, **less, **GROUNDS), ASK, OFFER, NOW)
    assert outcome == "partly-approved"
    assert terms is not None
    for name, value in less.items():
        found = getattr(terms, name)
        assert value.items() <= found.items() if name == "masks" else found in (value, tuple(sorted(_seq(value))))


def _seq(value: Any) -> list[str]:
    return list(value) if isinstance(value, tuple) else []


def test_taking_a_mask_away_a_roomy_quota_or_the_whole_named_again_is_no_part_withheld() -> None:
    kind = replace(YES, masks={"owner.phone": ""}, quota_per_day=1000, items=ASK.items, purposes=ASK.purposes)
    outcome, terms = verdicts.settle(kind, ASK, OFFER, NOW)
    assert outcome == "approved"
    assert terms is not None
    assert terms.masks == {"arrears.note": "full"}
    below = replace(ASK, items=("owner.phone.mobile",))
    _, terms = verdicts.settle(YES, below, replace(OFFER, items=(*OFFER.items, _phone_parent())), NOW)
    assert terms is not None
    assert terms.masks == {"owner.phone.mobile": "phone"}


def _phone_parent() -> Item:
    return Item(path="owner.name", sharing_class="conditional")


@pytest.mark.parametrize(
    ("more", "rule", "pointer"),
    [
        ({"items": ("uscc", "case")}, "more-than-asked", "/items/1"),
        ({"items": ("salary",)}, "items", "/items/0"),
        ({"items": ()}, "items", "/items"),
        ({"purposes": ("rent", "gossip")}, "more-than-asked", "/purposes/1"),
        ({"purposes": ()}, "purposes", "/purposes"),
        ({"valid_to": datetime(2028, 1, 1, tzinfo=UTC)}, "more-than-asked", "/valid_to"),
        ({"valid_to": NOW}, "valid-to", "/valid_to"),
        ({"valid_from": datetime(2026, 3, 1, tzinfo=UTC)}, "backdated", "/valid_from"),
        ({"masks": {"uscc": "blur"}}, "masks", "/masks/uscc"),
        ({"masks": {"case": "full"}}, "masks", "/masks/case"),
        ({"masks": {"a/b~c": "full"}}, "masks", "/masks/a~1b~0c"),
        ({"masks": {"uscc.": "full"}}, "masks", "/masks/uscc."),
        ({"quota_per_second": -1}, "quota-per-second", "/quota_per_second"),
        ({"case_pattern": "x" * 201}, "case-rule", "/case_pattern"),
    ],
)
def test_nobody_gets_more_than_was_asked_for_or_than_there_is(more: dict[str, Any], rule: str, pointer: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        verdicts.settle(replace(YES, **more, **GROUNDS), ASK, OFFER, NOW)
    assert faults(caught) == (rule, pointer)


def test_a_period_that_began_meanwhile_begins_with_the_decision_and_one_that_ended_cannot_be_granted() -> None:
    early = replace(ASK, valid_from=datetime(2026, 3, 1, tzinfo=UTC))
    outcome, terms = verdicts.settle(YES, early, OFFER, NOW)
    assert terms is not None
    assert (outcome, terms.valid_from) == ("approved", NOW)
    later = replace(ASK, valid_from=datetime(2026, 6, 1, tzinfo=UTC))
    _, terms = verdicts.settle(YES, later, OFFER, NOW)
    assert terms is not None
    assert terms.valid_from == later.valid_from
    with pytest.raises(UnprocessableError) as caught:
        verdicts.settle(replace(YES, valid_from=datetime(2026, 4, 1, tzinfo=UTC)), later, OFFER, NOW)
    assert faults(caught) == ("more-than-asked", "/valid_from")
    with pytest.raises(UnprocessableError) as caught:
        verdicts.settle(YES, replace(ASK, valid_to=NOW), OFFER, NOW)
    assert faults(caught) == ("valid-to", "/valid_to")


def test_items_that_the_catalogue_dropped_since_are_not_granted() -> None:
    now_lists = replace(OFFER, items=OFFER.items[:3])
    with pytest.raises(UnprocessableError) as caught:
        verdicts.settle(YES, ASK, now_lists, NOW)
    assert faults(caught) == ("items", "/items")
    outcome, terms = verdicts.settle(replace(YES, items=("uscc",), **GROUNDS), ASK, now_lists, NOW)
    assert terms is not None
    assert (outcome, terms.items) == ("partly-approved", ("uscc",))


def test_all_of_a_resource_is_granted_by_name_as_long_as_a_statement_can_hold_it() -> None:
    many = replace(OFFER, items=tuple(Item(path=f"i{number}", sharing_class="conditional") for number in range(200)))
    everything = replace(ASK, items=())
    _, terms = verdicts.settle(YES, everything, many, NOW)
    assert terms is not None
    assert len(terms.items) == 200
    more = replace(many, items=(*many.items, Item(path="last", sharing_class="conditional", mask="full")))
    outcome, terms = verdicts.settle(YES, everything, more, NOW)
    assert terms is not None
    assert (outcome, terms.items, terms.masks) == ("approved", (), {"last": "full"})
    some = (*tuple(f"i{number}.a" for number in range(200)), "i1.b")
    with pytest.raises(UnprocessableError) as caught:
        verdicts.settle(replace(YES, items=some, **GROUNDS), everything, more, NOW)
    assert faults(caught) == ("items", "/items")


def test_a_decision_made_anew_takes_nothing_back() -> None:
    _, before = verdicts.settle(replace(YES, items=("uscc",), purposes=("rent",), **GROUNDS), ASK, OFFER, NOW)
    _, same = verdicts.settle(YES, ASK, OFFER, NOW)
    assert before is not None
    assert same is not None
    verdicts.check_not_less(same, before)
    for less in (
        {"items": ("arrears",)},
        {"purposes": ("housing",)},
        {"masks": {"uscc": "number"}},
        {"valid_to": NOW},
        {"quota_per_day": 5},
        {"quota_per_second": 5},
    ):
        with pytest.raises(UnprocessableError) as caught:
            verdicts.check_not_less(replace(same, **less), before)
        assert caught.value.rule == "reopened"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("王五", "王 五", True), ("Li Si", "li si", True), ("王五", "赵六", False), ("王五", "", False)],
)
def test_persons_are_told_apart_by_name_but_for_spaces_and_case(one: str, other: str, same: bool) -> None:
    assert (rules.person_key(one) == rules.person_key(other)) is same


def test_reasons_on_record_are_one_line() -> None:
    assert rules.one_line(["一\n二", " 三 "]) == "一 二 三"
    assert len(rules.one_line(["x" * 900])) == 500
