"""`/v1/members` and `/v1/subsystems`: who takes part."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deploy.trial_mesh import CALLER, OPERATOR, PROVIDER, STRANGER
from exchange import compose_uscc, member_of
from tests.gateway.management_desk import CLERK, Desk, made, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

NANNING = f"CN/GOV/{compose_uscc('11', '450100', '00000777')}"
CONTENT: dict[str, Any] = {"name": "示例市民政局", "name_en": "Civil Affairs", "level": "city"}
WHY = {"why": "接入申请〔2026〕3号"}


async def test_a_member_is_registered_once_and_shown_to_everybody(desk: Desk) -> None:
    body = {"id": NANNING, **CONTENT, **WHY}
    record = made(await desk.post("operator", "/v1/members", body), 201, "member")
    assert record == {"id": NANNING, **CONTENT, "division": "450100", "check_exception": ""}
    version = await desk.version()
    again = await desk.post("operator", "/v1/members", body)
    assert made(again, 200, "member") == record
    assert (await desk.version(), again.json()["change"]) == (version, version)
    for party in ("caller", "stranger", "auditor", "operator"):
        shown = await desk.get(party, f"/v1/members/{NANNING}")
        assert (shown.status_code, shown.json()) == (200, record)


async def test_who_why_and_with_which_certificate_is_on_record(desk: Desk) -> None:
    body = {"id": NANNING, **CONTENT, "name_en": "Bureau of Civil Affairs", **WHY}
    version = made(await desk.call("operator", "PUT", f"/v1/members/{NANNING}", _less(body, "id")), 200, "member") and (
        await desk.version()
    )
    (change,) = await desk.trial.registry.changes(after=version - 1)
    assert (change.by, change.why) == (f"{OPERATOR} ({CLERK})", WHY["why"])
    assert change.certificate == desk.trial.ca.ensure("gateway", desk.request_of(OPERATOR)).fingerprint
    assert change.after["name_en"] == "Bureau of Civil Affairs"


async def test_other_content_is_a_conflict_unless_it_is_put_in_place(desk: Desk) -> None:
    version = await desk.version()
    body = {"id": NANNING, **CONTENT, "name": "另一名称", **WHY}
    told(await desk.post("operator", "/v1/members", body), 409, "registered-state")
    assert await desk.version() == version
    record = made(await desk.call("operator", "PUT", f"/v1/members/{NANNING}", _less(body, "id")), 200, "member")
    assert record["name"] == "另一名称"
    unknown = f"CN/GOV/{compose_uscc('11', '450200', '00000778')}"
    assert made(await desk.call("operator", "PUT", f"/v1/members/{unknown}", _less(body, "id")), 201, "member")


async def test_a_code_that_fails_its_check_needs_a_reason(desk: Desk) -> None:
    wrong = NANNING[:-1] + ("0" if NANNING[-1] != "0" else "1")
    body = {"id": wrong, **CONTENT, **WHY}
    version = await desk.version()
    problem = told(await desk.post("operator", "/v1/members", body), 422, "uscc-check-character", "/id")
    assert "exception" in problem["detail"]
    assert await desk.version() == version
    made(await desk.post("operator", "/v1/members", {**body, "check_exception": "旧码沿用"}), 201, "member")


async def test_members_are_found_by_name_level_and_division(desk: Desk) -> None:
    async def found(query: str) -> list[str]:
        response = await desk.get("stranger", f"/v1/members?{query}")
        assert response.status_code == 200, response.text
        return [each["id"] for each in response.json()["members"]]

    everybody = await found("limit=500")
    assert everybody == sorted(everybody)
    assert NANNING in everybody
    assert NANNING in await found("division=450000")
    assert NANNING in await found("division=450100")
    assert NANNING not in await found("division=450200")
    assert NANNING in await found("q=%E5%8F%A6%E4%B8%80")  # part of its name
    assert await found("q=no-such-name") == []
    assert NANNING in await found("level=city")
    assert await found("level=township") == []


async def test_pages_follow_each_other_without_gaps(desk: Desk) -> None:
    for noun in ("members", "subsystems", "services"):
        whole = (await desk.get("auditor", f"/v1/{noun}?limit=500")).json()[noun]
        seen: list[Any] = []
        cursor = ""
        while True:
            page = (await desk.get("auditor", f"/v1/{noun}?limit=2{cursor}")).json()
            seen += page[noun]
            if page["next_cursor"] is None:
                break
            assert len(page[noun]) == 2
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == whole


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "cursor=x",
        "cursor=WzFd",
        "cursor=%20",
        "cursor=",
        "level=moon",
        "division=45",
        "q=",
        "page=2",
        "q=a&q=b",
    ],
)
async def test_bad_parameters_are_refused_by_name(desk: Desk, query: str) -> None:
    problem = told(await desk.get("caller", f"/v1/members?{query}"), 400, "query-parameter")
    assert query.partition("=")[0] in problem["detail"]


async def test_a_subsystem_is_registered_suspended_and_activated(desk: Desk) -> None:
    identifier = f"{NANNING}/civil"
    body = {"id": identifier, "name": "婚姻登记系统", "roles": ["owner"], **WHY}
    record = made(await desk.post("operator", "/v1/subsystems", body), 201, "subsystem")
    assert record == {
        "id": identifier,
        "member": NANNING,
        "name": "婚姻登记系统",
        "name_en": "",
        "roles": ["owner"],
        "state": "active",
    }
    assert made(await desk.post("operator", "/v1/subsystems", body), 200, "subsystem") == record
    suspended = made(await desk.post("operator", f"/v1/subsystems/{identifier}/suspend", WHY), 200, "subsystem")
    assert suspended == {**record, "state": "suspended"}
    renamed = {**_less(body, "id"), "name": "婚姻登记"}
    put = made(await desk.call("operator", "PUT", f"/v1/subsystems/{identifier}", renamed), 200, "subsystem")
    assert put == {**suspended, "name": "婚姻登记"}, "whether it is suspended stays"
    made(await desk.post("operator", f"/v1/subsystems/{identifier}/activate", WHY), 200, "subsystem")
    listed = (await desk.get("stranger", f"/v1/subsystems?member={NANNING}&role=owner&state=active")).json()
    assert [each["id"] for each in listed["subsystems"]] == [identifier]
    assert (await desk.get("stranger", f"/v1/subsystems/{identifier}")).json() == {**put, "state": "active"}


async def test_a_suspended_subsystem_is_heard_no_more(desk: Desk) -> None:
    assert (await desk.get("stranger", "/v1/members?limit=1")).status_code == 200
    made(await desk.post("operator", f"/v1/subsystems/{STRANGER}/suspend", WHY), 200, "subsystem")
    try:
        told(await desk.get("stranger", "/v1/members?limit=1"), 403, "client-active")
    finally:
        made(await desk.post("operator", f"/v1/subsystems/{STRANGER}/activate", WHY), 200, "subsystem")
    assert (await desk.get("stranger", "/v1/members?limit=1")).status_code == 200


async def test_what_is_not_there_is_not_found(desk: Desk) -> None:
    for path in (f"/v1/members/{NANNING[:-1]}", "/v1/members/CN/GOV/%E5%B8%82", f"/v1/subsystems/{PROVIDER}x"):
        told(await desk.get("caller", path), 404, "exists")
    told(await desk.post("operator", f"/v1/subsystems/{PROVIDER}x/suspend", WHY), 404, "exists")
    told(await desk.get("caller", "/v1/members/CN/GOV"), 404, "exists")
    told(await desk.get("caller", f"/v1/members/{member_of(CALLER)}/x/y"), 404, "exists")


async def test_many_changes_at_once_are_all_made_and_each_seen_by_who_made_it(desk: Desk) -> None:
    names = [f"{NANNING}/load{number}" for number in range(12)]

    async def register(name: str) -> int:
        body = {"id": name, "name": name[-6:], **WHY}
        answer = await desk.post("operator", "/v1/subsystems", body)
        made(answer, 201, "subsystem")
        assert (await desk.get("operator", f"/v1/subsystems/{name}")).status_code == 200
        return int(answer.json()["change"])

    versions = await asyncio.gather(*map(register, names))
    assert len(set(versions)) == len(names)


def _less(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}
