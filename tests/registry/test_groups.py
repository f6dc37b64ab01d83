"""Groups: who is in one, by list, level, division and code, and what of it follows from a change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import MemberId, SubsystemId
from registry import Group, Level, Member
from registry.grants.groups import Groups, covering_part

CIVIL = SubsystemId("CN/GOV/11450102AAAAAAAA1X/civil")
MEMBER = Member(id=MemberId("CN/GOV/11450102AAAAAAAA1X"), name="县民政局", level="county")


def group(identifier: str = "g", **terms: object) -> Group:
    return replace(Group(id=identifier, name="分组"), **terms)


@pytest.mark.parametrize(
    ("terms", "held"),
    [
        ({"members": (CIVIL,)}, True),
        ({"members": (SubsystemId("CN/GOV/X/civil"),)}, False),
        ({"level": "county"}, True),
        ({"level": "city"}, False),
        ({"division": "450000"}, True),
        ({"division": "450100"}, True),
        ({"division": "450102"}, True),
        ({"division": "450103"}, False),
        ({"division": "460000"}, False),
        ({"division": "000000"}, True),
        ({"subsystem_code": "civil"}, True),
        ({"subsystem_code": "tax"}, False),
        ({"level": "county", "division": "450000", "subsystem_code": "civil"}, True),
        ({"level": "county", "division": "450000", "subsystem_code": "tax"}, False),
        ({"level": "city", "division": "450000", "subsystem_code": "civil"}, False),
        ({"level": "city", "members": (CIVIL,)}, True),
        ({"level": "county", "active": False}, False),
        ({"members": (CIVIL,), "active": False}, False),
    ],
)
def test_a_group_holds_those_listed_and_those_that_fit(terms: dict[str, object], held: bool) -> None:
    groups = Groups.none().with_changes((group(**terms),))
    assert groups.of(CIVIL, MEMBER) == ({"g"} if held else frozenset())


def test_a_stated_division_counts_before_the_one_in_the_member_code() -> None:
    groups = Groups.none().with_changes((group("a", division="450000"), group("b", division="110000")))
    assert groups.of(CIVIL, MEMBER) == {"a"}
    assert groups.of(CIVIL, replace(MEMBER, division="110101")) == {"b"}
    foreign = Member(id=MemberId("CN/GOV/SHORT"), name="无区划")
    assert groups.of(SubsystemId("CN/GOV/SHORT/x"), foreign) == frozenset()
    assert groups.of(CIVIL, None) == frozenset()


def test_zeros_at_the_end_stand_for_anything_pair_by_pair() -> None:
    assert [covering_part(each) for each in ("450000", "450100", "450102", "450010", "100000", "000000")] == [
        "45",
        "4501",
        "450102",
        "450010",
        "10",
        "",
    ]


_LEVELS: tuple[Level, ...] = ("", "city", "county")
_GROUPS = st.lists(
    st.builds(
        group,
        st.sampled_from(["a", "b", "c"]),
        members=st.sampled_from([(), (CIVIL,), (CIVIL, CIVIL), (SubsystemId("CN/GOV/X/y"),)]),
        level=st.sampled_from(_LEVELS),
        division=st.sampled_from(["", "450000", "450102", "000000", "110000"]),
        subsystem_code=st.sampled_from(["", "civil", "tax"]),
        active=st.booleans(),
    ),
    max_size=8,
)
_MEMBERS = st.builds(
    replace, st.just(MEMBER), level=st.sampled_from(_LEVELS), division=st.sampled_from(["", "110101", "450103"])
)


def holds(each: Group, member: Member) -> bool:
    """The rules, written out."""
    if not each.active:
        return False
    if CIVIL in each.members:
        return True
    stated = bool(each.level or each.division or each.subsystem_code)
    return (
        stated
        and each.level in ("", member.level)
        and (not each.division or member.division_code.startswith(covering_part(each.division)))
        and each.subsystem_code in ("", "civil")
    )


@given(_GROUPS, _MEMBERS)
def test_groups_that_change_one_by_one_hold_whom_the_rules_say(changes: list[Group], member: Member) -> None:
    gradual = Groups.none()
    for each in changes:
        gradual = gradual.with_changes((each,))
    newest = {each.id: each for each in changes}
    expected = {each.id for each in newest.values() if holds(each, member)}
    assert gradual.of(CIVIL, member) == expected
    assert Groups.none().with_changes(tuple(changes)).of(CIVIL, member) == expected
    assert gradual.all() == tuple(newest[key] for key in sorted(newest))
