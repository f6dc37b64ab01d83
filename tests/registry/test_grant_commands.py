"""`datong grant|group|role`: terms, groups and roles as people give them, and what was in force on a day."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry import Catalogue, Registry
from tests.registry.catalogue_kit import publish
from tests.registry.conftest import AUDIT, ENTERPRISES, HOUSING, TAX
from tests.registry.test_registry_commands import Command, database_url, datong, parsed, seeded

__all__ = ["database_url", "datong", "seeded"]

TODAY = (datetime.now(UTC) + timedelta(hours=8)).date().isoformat()
GIVE = ("grant", "add", HOUSING, ENTERPRISES, "--path", "/enterprises", "--purpose", "inspection", "--why", "批复")
CALL = ("grant", "explain", HOUSING, ENTERPRISES, "GET", "/enterprises", "--purpose", "inspection")


def test_terms_are_given_shown_listed_and_explained(seeded: Command) -> None:
    terms = ("--item", "name", "--item", "owner", "--mask", "owner.phone=phone", "--mask", r"owner.a\=b=name")
    limits = ("--per-second", "5", "--per-day", "500", "--case", "A-####", "--signed", "--decided-by", "示例市税务局")
    given = parsed(seeded(*GIVE, *terms, *limits, "--json"))
    assert given["items"] == ["name", "owner"]
    assert given["masks"] == {"owner.phone": "phone", r"owner.a\=b": "name"}
    assert (given["quota_per_second"], given["quota_per_day"], given["case_pattern"]) == (5, 500, "A-####")
    assert given["release"] == ["name", "owner", r"owner.a\=b=name", "owner.phone=phone"]
    shown = seeded("grant", "show", given["id"]).stdout
    for part in ("A-####", "5/second, 500/day", "name, owner", "owner.phone=phone", "own key", "示例市税务局"):
        assert part in shown
    assert "2 个数据项" in seeded("grant", "list", "--lang", "zh").stdout
    assert "[case-required]" in seeded(*CALL, exit_code=1).stdout
    explained = seeded(*CALL, "--case", "A-2026").stdout
    for part in (given["id"], "A-####", "500/day", "owner.phone=phone", "Operation: GET /enterprises"):
        assert part in explained
    as_json = parsed(seeded(*CALL, "--case", "A-2026", "--json"))
    assert as_json["conditions"]["masks"] == given["masks"]
    assert (as_json["permitted"], as_json["purpose"], as_json["nearest"]) == (True, "inspection", None)
    refused = parsed(seeded(*CALL, "--json", exit_code=1))
    assert (refused["rule"], refused["nearest"]["id"], refused["code"]) == (
        "case-required",
        given["id"],
        "access-denied",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--item", "a..b"), "a..b"),
        (("--mask", "phone=rot13"), "rot13"),
        (("--item", "name", "--mask", "phone=phone"), "phone"),
        (("--per-day", "-1"), "quota_per_day"),
        (("--group", "nobody"), "client or a group"),
        (("--from", "2020-01-01"), "at the earliest"),
    ],
)
def test_terms_that_break_a_rule_are_refused(seeded: Command, arguments: tuple[str, ...], said: str) -> None:
    assert said in seeded(*GIVE, *arguments, exit_code=1).stderr


def test_a_mask_without_a_name_is_wrong_usage(seeded: Command) -> None:
    assert "ITEM=MASK" in seeded(*GIVE, "--mask", "phone", exit_code=2).output


def test_an_overlapping_grant_is_refused_with_the_other_one_named(seeded: Command) -> None:
    given = parsed(seeded(*GIVE, "--json"))
    refused = seeded(*GIVE, "--method", "GET", exit_code=1).stderr
    assert given["id"] in refused
    assert "已覆盖" in seeded(*GIVE, "--lang", "zh", exit_code=1).stderr


def test_a_group_is_registered_given_to_changed_and_closed(seeded: Command) -> None:
    why = ("--why", "方案", "--by", "admin")
    seeded(
        "member", "add", "CN/GOV/1199000000000102XG", "--name", "示例市住房保障局", "--level", "city", "--replace", *why
    )
    criteria = ("--level", "city", "--division", "990000", "--code", "housing")
    seeded("group", "add", "housing-bureaus", "--name", "各市住房系统", *criteria, *why)
    given = parsed(
        seeded("grant", "add", ENTERPRISES, "--group", "housing-bureaus", *GIVE[4:], "--per-day", "9", "--json")
    )
    assert (given["client"], given["group"], given["service"]) == ("", "housing-bureaus", ENTERPRISES)
    assert given["id"] in seeded(*CALL).stdout
    assert "group housing-bureaus" in seeded("grant", "list", "--group", "housing-bureaus").stdout
    shown = seeded("group", "show", "housing-bureaus").stdout
    assert HOUSING in shown
    assert "group.add" in shown
    assert parsed(seeded("group", "list", "--json"))[0]["holds"] == [HOUSING]
    seeded("group", "add", "housing-bureaus", "--name", "各市住房系统", "--member", AUDIT, "--replace", *why)
    assert "[grant-method-path]" in seeded(*CALL, exit_code=1).stdout
    assert parsed(seeded("group", "close", "housing-bureaus", "--json", *why))["changed"] is True
    assert "已关闭" in seeded("group", "list", "--lang", "zh").stdout
    assert (
        "housing-bureaus"
        in seeded("grant", "add", ENTERPRISES, "--group", "housing-bureaus", *GIVE[4:], exit_code=1).stderr
    )
    missing = seeded("group", "show", "nothing", exit_code=1)
    assert "group nothing" in missing.stderr


def test_a_resource_is_granted_and_an_owner_acts_for_itself(seeded: Command, database_url: str) -> None:
    async def prepare() -> str:
        registry = await Registry.open(database_url)
        code = await publish(Catalogue(registry))
        await registry.close()
        return code

    code = asyncio.run(prepare())
    call = (*CALL[:5], "/enterprises/9", *CALL[6:])
    assert code in seeded(*call, exit_code=1).stdout  # what to apply for
    resource = ("grant", "add", HOUSING, "--resource", code, "--purpose", "inspection", "--why", "批复")
    refused = seeded(*resource, "--as", AUDIT, exit_code=1)
    assert "owner" in refused.stderr
    given = parsed(seeded(*resource, "--as", TAX, "--by", "张三", "--json"))
    assert (given["resource"], given["service"], given["decided_by"]) == (code, "", f"{TAX} (张三)")
    assert given["id"] in seeded(*call).stdout
    assert f"resource {code}" in seeded("grant", "list", "--resource", code).stdout
    seeded("grant", "revoke", given["id"], "--why", "停用", "--as", TAX)
    assert "[grant-revoked]" in seeded(*call, exit_code=1).stdout
    nobody = seeded(*resource, "--as", "CN/GOV/NOBODY/x", exit_code=1)
    assert "CN/GOV/NOBODY/x" in nobody.stderr


def test_roles_are_granted_listed_and_revoked(seeded: Command) -> None:
    why = ("--why", "审计通知", "--by", "admin")
    granted = parsed(seeded("role", "grant", HOUSING, "auditor", "--until", "2039-12-31", *why, "--json"))
    assert (granted["role"], granted["decided_by"]) == ("auditor", "admin")
    listed = parsed(seeded("role", "list", "--json"))
    assert {"subsystem": TAX, "role": "owner"} in listed["standing"]
    assert [(each["id"], each["state"]) for each in listed["granted"]] == [(granted["id"], "valid")]
    assert granted["id"] in seeded("role", "list", "--subsystem", HOUSING).stdout
    assert granted["id"] in seeded("role", "grant", HOUSING, "auditor", *why, exit_code=1).stderr
    seeded("role", "revoke", granted["id"], *why)
    assert parsed(seeded("role", "list", "--json"))["granted"] == []
    assert "已撤销" in seeded("role", "list", "--all", "--lang", "zh").stdout
    seeded("role", "revoke", TAX, "--role", "owner", *why)
    assert parsed(seeded("role", "list", "--subsystem", TAX, "--json"))["standing"] == []
    assert "is so already" in seeded("role", "revoke", TAX, "--role", "owner", *why).stdout
    assert "king" in seeded("role", "grant", HOUSING, "king", *why, exit_code=1).stderr
    assert "operator" in seeded("role", "grant", HOUSING, "owner", "--as", AUDIT, *why, exit_code=1).stderr


@pytest.mark.parametrize("arguments", [("r1", "--role", "owner"), (TAX,)])
def test_a_role_is_revoked_by_its_grant_or_by_subsystem_and_name(seeded: Command, arguments: tuple[str, ...]) -> None:
    assert "--role" in seeded("role", "revoke", *arguments, "--why", "x", exit_code=2).output


def test_a_day_tells_who_could_see_what_and_who_decided(seeded: Command) -> None:
    given = parsed(seeded(*GIVE, "--by", "operator", "--decided-by", "示例市税务局", "--json"))
    seeded("grant", "revoke", given["id"], "--why", "项目结束", "--by", "李四")
    again = parsed(seeded(*GIVE, "--item", "name", "--json"))
    today = parsed(seeded("grant", "as-of", TODAY, "--client", HOUSING, "--json"))
    by_id = {each["grant"]["id"]: each for each in today["grants"]}
    assert {given["id"], again["id"], "housing-reads-enterprises"} <= by_id.keys()
    ended: dict[str, Any] = by_id[given["id"]]
    assert (ended["recorded_by"], ended["grant"]["decided_by"], ended["revoked_by"]) == (
        "operator",
        "示例市税务局",
        "李四",
    )
    assert ended["ends"] == ended["grant"]["revoked_at"]
    shown = seeded("grant", "as-of", TODAY, "--service", ENTERPRISES).stdout
    for part in (given["id"], "示例市税务局", "项目结束", "1 items"):
        assert part in shown
    assert parsed(seeded("grant", "as-of", "2025-06-01", "--json"))["grants"] == []  # nothing was recorded then
    known = parsed(seeded("grant", "as-of", "2025-06-01", "--known-at", "now", "--json"))["grants"]
    assert {each["grant"]["id"] for each in known} == {"housing-reads-enterprises", "housing-orders-certificates"}
    assert "2026-13-01" in seeded("grant", "as-of", "2026-13-01", exit_code=2).output
    assert "yesterday" in seeded("grant", "as-of", TODAY, "--known-at", "yesterday", exit_code=2).output


def test_members_say_where_they_act(seeded: Command) -> None:
    add = ("member", "add", "CN/GOV/11990000000001046B", "--name", "新", "--why", "x")
    seeded(*add, "--level", "county", "--division", "450102")
    shown = seeded("member", "show", "CN/GOV/11990000000001046B").stdout
    assert "county" in shown
    assert "450102" in shown
    for wrong in (("--level", "village"), ("--division", "45")):
        assert wrong[0].strip("-") in seeded(*add, *wrong, "--replace", exit_code=1).stderr
