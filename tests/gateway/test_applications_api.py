"""`/v1/applications`, `/v1/standing-approvals`, `/v1/misses`: a department applies, its owner decides, anybody counts the days."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from deploy.trial_mesh import CALLER, PROVIDER, STRANGER
from exchange import member_of
from registry import Access, Actor, Applications, Ask, Registry, ends
from registry.catalogue.resource import Classification, ClassificationStep, Resource, ResourceItem
from registry.catalogue.writer import publish_resource, save_resource
from registry.validity import CHINA
from tests.gateway.management_desk import CLERK, SECRET, WHO, Desk, made, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Actor.operator("root")
FREE: Final = "306001/1"
CONDITIONAL: Final = "306001/2"
TWO_PERSONS: Final = "306001/3"
UNSHARED: Final = "306001/4"
OFF_PLATFORM: Final = "306001/5"
"""Nowhere to be called yet."""
WANTED: Final[Mapping[str, Any]] = {
    "resource": CONDITIONAL,
    "purposes": ["public-rental-housing"],
    "purpose_text": "核查公租房申请人名下企业",
    "legal_basis": "公共租赁住房管理办法第七条",
    "scenario": "公租房资格核查",
    "items": ["uscc", "owner.phone"],
    "valid_to": "2039-12-31",
    "calls_per_day": 1000,
    "contact": "0771-0000000",
    "official": "李四",
}
GROUNDS: Final = {"reason_code": "scope-too-wide", "text": "超出履职所需", "basis": "《政务数据共享条例》第二十条"}
_purposes = (f"p{number}" for number in itertools.count())


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def resources(desk: Desk) -> None:
    """What the provider offers."""
    items = (
        ResourceItem(path="uscc", name="统一社会信用代码"),
        ResourceItem(path="name", name="名称"),
        ResourceItem(path="owner.phone", name="联系电话", mask="phone"),
    )
    conditional = {"sharing_class": "conditional", "conditions": "用于履行职责"}
    async with desk.trial.registry.change(**WHO) as change:
        for code, facts in (
            (FREE, {"sharing_class": "unconditional"}),
            (CONDITIONAL, conditional),
            (TWO_PERSONS, {**conditional, "two_persons": True}),
            (UNSHARED, {"sharing_class": "not-shared", "legal_basis": "税收征收管理法第八条"}),
            (OFF_PLATFORM, {**conditional, "accesses": ()}),
        ):
            facts = {"accesses": (Access(service=SECRET),), **facts}
            described = Resource(
                code=code,
                classification=Classification(
                    category=ClassificationStep(code="3", name="部门"),
                    subcategory=ClassificationStep(code="06", name="税务"),
                    entry=ClassificationStep(code="001", name="征管"),
                ),
                provider=PROVIDER,
                name="企业信息",
                abstract="企业登记信息",
                format="database",
                items=items,
                mode="query-interface",
                update_cycle="daily",
                **facts,  # type: ignore[arg-type]
            )
            await save_resource(change, ROOT, described)
            await publish_resource(change, ROOT, code)


def wanted(**other: Any) -> dict[str, Any]:
    """A whole application, for a purpose that no other test uses."""
    return {**WANTED, "purposes": [next(_purposes)], **other}


async def submitted(desk: Desk, **other: Any) -> dict[str, Any]:
    response = await desk.post("caller", "/v1/applications", {**wanted(**other), "submit": True})
    return made(response, 201, "application")


async def step(desk: Desk, party: str, identifier: str, name: str, body: Any = None, **more: Any) -> httpx.Response:
    return await desk.post(party, f"/v1/applications/{identifier}/{name}", body, **more)


async def shown(desk: Desk, party: str, identifier: str) -> dict[str, Any]:
    response = await desk.get(party, f"/v1/applications/{identifier}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_department_applies_is_asked_and_is_granted_a_part(desk: Desk) -> None:
    nowhere = {"resource": OFF_PLATFORM}
    draft = made(await desk.post("caller", "/v1/applications", wanted(**nowhere, purposes=[])), 201, "application")
    identifier = draft["id"]
    assert (draft["state"], draft["applicant"], draft["provider"]) == ("draft", CALLER, PROVIDER)
    assert draft["possible"] == ["edit", "submit", "withdraw"]
    told(await step(desk, "caller", identifier, "submit"), 422, "purposes", "/purposes")
    body = wanted(**nowhere)
    edited = made(await desk.call("caller", "PUT", f"/v1/applications/{identifier}", body), 200, "application")
    assert edited["wanted"]["purposes"] == body["purposes"]
    handed_in = made(await step(desk, "caller", identifier, "submit"), 200, "application")
    answer = handed_in["deadlines"][-1]
    assert (answer["duty"], answer["working_days"], answer["working_days_left"]) == (
        "answer-unpublished",
        10,
        10,
    )
    assert (answer["state"], answer["responsible"], answer["jurisdiction"]) == ("running", PROVIDER, "CN")
    assert "809" in answer["basis"]["en"]
    made(await step(desk, "owner", identifier, "review"), 200, "application")
    asked = made(await step(desk, "owner", identifier, "ask", {"text": "请说明环节"}), 200, "application")
    assert [each["state"] for each in asked["deadlines"]] == ["done", "stopped", "running"]
    reply = {"text": "受理环节", "scenario": "公租房资格核查：受理"}
    replied = made(await step(desk, "caller", identifier, "supplement", reply), 200, "application")
    assert replied["wanted"]["scenario"] == reply["scenario"]
    verdict = {"decision": "approve", "items": ["owner.phone"], "quota_per_day": 500, **GROUNDS}
    response = await step(desk, "owner", identifier, "decide", verdict)
    decided = made(response, 200, "application")
    assert decided["state"] == "partly-approved"
    decision = decided["decision"]
    assert (decision["outcome"], decision["reason_code"], decision["late"]) == (
        "partly-approved",
        "scope-too-wide",
        False,
    )
    assert decision["terms"]["masks"] == {"owner.phone": "phone"}
    (grant,) = decision["grants"]
    stored = await desk.trial.registry.find_grant(grant)
    assert stored is not None
    assert (stored.client, stored.resource, stored.application) == (CALLER, OFF_PLATFORM, identifier)
    assert (stored.items, stored.quota_per_day) == (("owner.phone",), 500)
    delivered = made(await step(desk, "owner", identifier, "deliver", {}), 200, "application")
    assert delivered["delivered_at"] is not None
    file = await shown(desk, "caller", identifier)
    assert [each["action"] for each in file["events"]] == [
        "application.add",
        "application.edit",
        "application.submit",
        "application.review",
        "application.ask",
        "application.supplement",
        "grant.add",
        "application.approve-in-part",
        "application.deliver",
    ]
    assert file["events"][3]["by"] == f"{PROVIDER} ({CLERK})"
    assert {**delivered, "possible": file["possible"]}.items() <= file.items()


async def test_what_can_be_called_is_delivered_with_its_approval(desk: Desk) -> None:
    application = await submitted(desk)
    decided = made(await step(desk, "owner", application["id"], "decide", {"decision": "approve"}), 200, "application")
    assert decided["delivered_at"] == decided["decision"]["decided_at"]
    assert (decided["deadlines"][-1]["duty"], decided["deadlines"][-1]["state"]) == ("delivery", "done")
    assert decided["possible"] == []
    told(await step(desk, "owner", application["id"], "deliver", {}), 409, "application-state")
    event = (await shown(desk, "owner", application["id"]))["events"][-1]
    assert (event["action"], event["why"]) == ("application.deliver", "can be called at once")


async def test_steps_about_which_nothing_is_said_refuse_what_is_said_all_the_same(desk: Desk) -> None:
    draft = made(await desk.post("caller", "/v1/applications", wanted()), 201, "application")
    version = await desk.version()
    for party, name in (("caller", "submit"), ("owner", "review")):
        for body, rule, pointer in (({"text": "x"}, "body", "/text"), ([], "body", ""), (["x"], "body", "")):
            problem = told(await step(desk, party, draft["id"], name, body), 422, rule, pointer)
            chinese = told(await step(desk, party, draft["id"], name, body, lang="zh"), 422, rule, pointer)
            assert problem["detail"] != chinese["detail"]
        told(await step(desk, party, draft["id"], name, b"{"), 400, "json")
        told(await step(desk, party, draft["id"], name, b'{"a":1,"a":2}'), 422, "json-names", "/a")
        told(await step(desk, party, draft["id"], name, b" " * ((1 << 20) + 1)), 413, "body-limit")
        told(await step(desk, party, draft["id"], name, b"x=1", content_type="text/plain"), 415, "content-type")
    assert await desk.version() == version
    empty = {"content_type": "application/x-www-form-urlencoded"}
    made(await step(desk, "caller", draft["id"], "submit", b"", **empty), 200, "application")
    made(await step(desk, "owner", draft["id"], "review", {}), 200, "application")


async def test_a_change_is_made_with_the_certificate_on_record_and_in_the_evidence_log(desk: Desk) -> None:
    application = await submitted(desk)
    response = await step(desk, "caller", application["id"], "withdraw", {"text": "不再需要"})
    made(response, 200, "application")
    (change,) = await desk.trial.registry.changes(after=response.json()["change"] - 1)
    assert (change.by, change.why, change.action) == (f"{CALLER} ({CLERK})", "不再需要", "application.withdraw")
    assert change.certificate == desk.trial.ca.ensure("caller", desk.request_of(CALLER)).fingerprint
    assert (await desk.get("auditor", response.json()["recorded"])).status_code == 200


@pytest.mark.parametrize(
    ("other", "rule", "pointer"),
    [
        ({"resource": "306001/99"}, "resource", "/resource"),
        ({"resource": ""}, "body", "/resource"),
        ({"purposes": "rent"}, "body", "/purposes"),
        ({"purposes": ["a b"]}, "purposes", "/purposes/0"),
        ({"purposes": ["ok", 7]}, "body", "/purposes/1"),
        ({"items": ["uscc", "salary"]}, "items", "/items/1"),
        ({"items": ["owner."]}, "items", "/items/0"),
        ({"legal_basis": ""}, "legal-basis", "/legal_basis"),
        ({"scenario": "x" * 2001}, "body", "/scenario"),
        ({"contact": "a\nb"}, "body", "/contact"),
        ({"valid_to": "next year"}, "body", "/valid_to"),
        ({"valid_to": "2020-01-01"}, "valid-to", "/valid_to"),
        ({"valid_from": "2039-12-31T16:00:00Z"}, "valid-to", "/valid_to"),
        ({"calls_per_day": "1000"}, "body", "/calls_per_day"),
        ({"calls_per_day": -1}, "body", "/calls_per_day"),
        ({"mode": "file"}, "mode", "/mode"),
        ({"submit": "yes"}, "body", "/submit"),
        ({"state": "approved"}, "body", "/state"),
        ({"resource": UNSHARED}, "overriding-basis", "/overriding_basis"),
    ],
)
async def test_what_is_wrong_is_named_by_pointer_and_nothing_is_changed(
    desk: Desk, other: dict[str, Any], rule: str, pointer: str
) -> None:
    version = await desk.version()
    body = {**WANTED, "submit": True, **other}
    problem = told(await desk.post("caller", "/v1/applications", body), 422, rule, pointer)
    chinese = told(await desk.post("caller", "/v1/applications", body, lang="zh"), 422, rule, pointer)
    assert problem["detail"] != chinese["detail"]
    assert await desk.version() == version


@pytest.mark.parametrize(
    ("verdict", "rule", "pointer"),
    [
        ({}, "body", "/decision"),
        ({"decision": "maybe"}, "body", "/decision"),
        ({"decision": "refuse"}, "text", "/text"),
        ({"decision": "refuse", "text": "不行", "basis": "条例"}, "reason-code", "/reason_code"),
        ({"decision": "refuse", **GROUNDS, "reason_code": "dislike"}, "body", "/reason_code"),
        ({"decision": "refuse", **GROUNDS, "items": ["uscc"]}, "refusal", "/items"),
        ({"decision": "approve", "items": ["uscc"]}, "grounds", "/reason_code"),
        ({"decision": "approve", "items": ["name"], **GROUNDS}, "more-than-asked", "/items/0"),
        ({"decision": "approve", "purposes": ["gossip"], **GROUNDS}, "more-than-asked", "/purposes/0"),
        ({"decision": "approve", "valid_to": "2040-01-01"}, "more-than-asked", "/valid_to"),
        ({"decision": "approve", "valid_from": "2020-01-01"}, "backdated", "/valid_from"),
        ({"decision": "approve", "decided_on": "2020-01-01"}, "backdated", "/decided_on"),
        ({"decision": "approve", "decided_on": "2039-01-01"}, "postdated", "/decided_on"),
        ({"decision": "approve", "decided_on": "tomorrow"}, "body", "/decided_on"),
        ({"decision": "approve", "masks": {"uscc": "blur"}}, "masks", "/masks/uscc"),
        ({"decision": "approve", "masks": {"name": "name"}}, "masks", "/masks/name"),
        ({"decision": "approve", "quota_per_second": -1}, "body", "/quota_per_second"),
        ({"decision": "approve", "quota_per_second": 10**7}, "quota-per-second", "/quota_per_second"),
        ({"decision": "approve", "grants": ["g1"]}, "body", "/grants"),
    ],
)
async def test_a_decision_that_is_wrong_is_named_by_pointer_and_nothing_is_decided(
    desk: Desk, verdict: dict[str, Any], rule: str, pointer: str
) -> None:
    application = await submitted(desk)
    version = await desk.version()
    response = await step(desk, "owner", application["id"], "decide", verdict)
    assert response.status_code == 422, response.text
    problem = response.json()
    assert problem["pointer"] == pointer, problem
    assert rule in (problem["rule"], "quota-per-second"), problem
    assert await desk.version() == version


async def test_a_decision_dated_before_the_application_came_is_backdated(desk: Desk) -> None:
    application = await submitted(desk)
    yesterday = (datetime.now(CHINA) - timedelta(days=1)).date().isoformat()
    body = {"decision": "refuse", **GROUNDS, "decided_on": yesterday}
    problem = told(await step(desk, "owner", application["id"], "decide", body), 422, "backdated", "/decided_on")
    assert "received" in problem["detail"]
    today = datetime.now(CHINA).date().isoformat()
    made(await step(desk, "owner", application["id"], "decide", {**body, "decided_on": today}), 200, "application")


async def test_who_may_not_see_it_is_told_that_there_is_none_and_who_may_not_act_that_a_role_is_missing(
    desk: Desk,
) -> None:
    draft = made(await desk.post("caller", "/v1/applications", wanted()), 201, "application")
    application = await submitted(desk)
    hidden = {"stranger", "other", "integrator"}
    for party in ("caller", "owner", "auditor", "operator", *hidden):
        for each, unseen in ((draft, hidden | {"owner"}), (application, hidden)):
            response = await desk.get(party, f"/v1/applications/{each['id']}")
            listed = (await desk.get(party, "/v1/applications?limit=500")).json()["applications"]
            assert (each["id"] in [one["id"] for one in listed]) is (party not in unseen)
            if party in unseen:
                told(response, 404, "exists")
                told(await step(desk, party, each["id"], "decide", {"decision": "refuse", **GROUNDS}), 404, "exists")
            else:
                assert response.status_code == 200
    for party, name, body in (
        ("caller", "decide", {"decision": "approve"}),
        ("auditor", "decide", {"decision": "approve"}),
        ("caller", "review", None),
        ("owner", "withdraw", {"text": "x"}),
        ("operator", "supplement", {"text": "x"}),
    ):
        problem = told(await step(desk, party, application["id"], name, body), 403, "application-actor")
        assert problem["type"].endswith("role-missing")
    told(await desk.post("owner", "/v1/applications", wanted()), 422, "own-resource", "/resource")
    told(await desk.post(None, "/v1/applications", wanted()), 401, "client-certificate")
    for unknown in ("a0", "a999999", "x", "a1%00", "a" + "9" * 30):
        told(await desk.get("operator", f"/v1/applications/{unknown}"), 404, "exists")


async def test_what_is_not_possible_now_is_a_conflict_that_says_what_is(desk: Desk) -> None:
    application = await submitted(desk)
    problem = told(await step(desk, "caller", application["id"], "submit"), 409, "application-state")
    assert "Possible for you now: withdraw." in problem["detail"]
    assert "withdraw" in application["possible"]
    made(await step(desk, "owner", application["id"], "decide", {"decision": "refuse", **GROUNDS}), 200, "application")
    told(await step(desk, "owner", application["id"], "decide", {"decision": "approve"}), 409, "application-state")


async def test_of_decisions_sent_at_once_one_counts(desk: Desk) -> None:
    application = await submitted(desk)
    bodies = [{"decision": "approve"}, {"decision": "refuse", **GROUNDS}] * 3
    responses = await asyncio.gather(*(step(desk, "owner", application["id"], "decide", body) for body in bodies))
    assert sorted(each.status_code for each in responses) == [200, 409, 409, 409, 409, 409]
    file = await shown(desk, "owner", application["id"])
    assert sum(each["action"] == "grant.add" for each in file["events"]) == (file["state"] == "approved")


async def test_overlapping_grants_are_a_conflict_and_undo_the_decision(desk: Desk) -> None:
    first = await submitted(desk)
    second = await submitted(desk, purposes=first["wanted"]["purposes"])
    made(await step(desk, "owner", first["id"], "decide", {"decision": "approve"}), 200, "application")
    version = await desk.version()
    told(
        await step(desk, "owner", second["id"], "decide", {"decision": "approve"}), 409, "grant-overlap", "/purposes/0"
    )
    assert await desk.version() == version
    assert (await shown(desk, "owner", second["id"]))["state"] == "submitted"


async def test_a_second_person_confirms_by_name(desk: Desk) -> None:
    application = await submitted(desk, resource=TWO_PERSONS)
    proposed = made(await step(desk, "owner", application["id"], "decide", {"decision": "approve"}), 200, "application")
    assert (proposed["state"], proposed["proposal"]["outcome"]) == ("in-review", "approved")
    assert "confirm" in proposed["possible"]
    assert (await shown(desk, "caller", application["id"]))["proposal"] is None
    told(await step(desk, "owner", application["id"], "confirm", {"agree": True}), 422, "two-persons")
    other = {"x_road_userid": quote("赵六")}
    told(await step(desk, "owner", application["id"], "confirm", {"agree": False}, **other), 422, "text", "/text")
    confirmed = await step(desk, "owner", application["id"], "confirm", {"agree": True}, **other)
    decision = made(confirmed, 200, "application")["decision"]
    assert (decision["decided_by"], decision["confirmed_by"]) == (f"{PROVIDER} ({CLERK})", f"{PROVIDER} (赵六)")
    nameless = {"x_road_userid": ""}
    another = await submitted(desk, resource=TWO_PERSONS)
    told(await step(desk, "owner", another["id"], "decide", {"decision": "approve"}, **nameless), 422, "two-persons")


async def test_what_the_owner_approved_beforehand_is_approved_at_once(desk: Desk) -> None:
    body = {"resource": FREE, "text": "依法公开，随申随批"}
    told(await desk.post("caller", "/v1/standing-approvals", body), 403, "role")
    told(await desk.post("owner", "/v1/standing-approvals", {**body, "resource": CONDITIONAL}), 422,
         "standing-approval", "/resource")  # fmt: skip
    made(await desk.post("owner", "/v1/standing-approvals", body), 201, "standing_approval")
    (standing,) = (await desk.get("stranger", "/v1/standing-approvals")).json()["standing_approvals"]
    assert (standing["resource"], standing["provider"]) == (FREE, PROVIDER)
    application = await submitted(desk, resource=FREE)
    assert (application["state"], application["delivered_at"] is not None) == ("approved", True)
    ended = await desk.post("owner", "/v1/standing-approvals", {**body, "active": False})
    assert made(ended, 200, "standing_approval")["active"] is False
    told(await desk.post("owner", "/v1/standing-approvals", {**body, "active": False}), 404, "exists")


async def test_a_refusal_is_disputed_ruled_on_and_decided_anew(desk: Desk) -> None:
    application = await submitted(desk)
    identifier = application["id"]
    told(await step(desk, "caller", identifier, "dispute", {"about": "refusal", "text": "x"}), 409, "dispute-about")
    made(await step(desk, "owner", identifier, "decide", {"decision": "refuse", **GROUNDS}), 200, "application")
    told(await step(desk, "owner", identifier, "dispute/say", {"text": "x"}), 404, "exists")
    opened = await step(desk, "caller", identifier, "dispute", {"about": "refusal", "text": "依据明确"})
    dispute = made(opened, 201, "dispute")
    assert (dispute["level"], dispute["deadlines"][0]["responsible"]) == ("negotiating", "parties")
    told(await step(desk, "caller", identifier, "dispute", {"about": "refusal", "text": "x"}), 409, "dispute-open")
    made(await step(desk, "owner", identifier, "dispute/say", {"text": "该条不涉及"}), 200, "dispute")
    made(await step(desk, "caller", identifier, "dispute/escalate", {"text": "请协调"}), 200, "dispute")
    ruling = {"outcome": "overturned", "text": "应予提供", "document": "桂数〔2026〕3号"}
    told(await step(desk, "owner", identifier, "dispute/rule", ruling), 403, "dispute-party")
    told(await step(desk, "operator", identifier, "dispute/rule", {**ruling, "document": ""}), 422, "body", "/document")
    ruled = made(await step(desk, "operator", identifier, "dispute/rule", ruling), 200, "dispute")
    assert (ruled["state"], [each["kind"] for each in ruled["moves"]]) == (
        "overturned",
        ["open", "say", "escalate", "rule"],
    )
    told(await step(desk, "caller", identifier, "dispute/give-up", {"text": "x"}), 409, "dispute-state")
    file = await shown(desk, "caller", identifier)
    assert (file["state"], file["disputes"][0]["id"]) == ("in-review", dispute["id"])
    assert file["deadlines"][-1]["working_days_left"] == 10
    made(await step(desk, "owner", identifier, "decide", {"decision": "approve"}), 200, "application")


async def test_lists_are_filtered_and_paged(desk: Desk) -> None:
    made_now = [(await submitted(desk))["id"] for _ in range(3)]

    async def listed(query: str) -> list[str]:
        response = await desk.get("caller", f"/v1/applications?{query}")
        assert response.status_code == 200, response.text
        return [each["id"] for each in response.json()["applications"]]

    everything = await listed("limit=500")
    assert everything[:3] == made_now[::-1]
    assert set(made_now) <= set(await listed(f"state=submitted&resource={CONDITIONAL}&provider={PROVIDER}&limit=500"))
    assert await listed(f"applicant={STRANGER}") == []
    assert set(made_now) <= set(await listed("due_before=2039-01-01&limit=500"))
    assert await listed("due_before=2020-01-01") == []
    found, cursor = list[str](), ""
    while True:
        page = (await desk.get("caller", f"/v1/applications?limit=2{cursor}")).json()
        found += [each["id"] for each in page["applications"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == everything
    for query in ("state=sunk", "limit=0", "cursor=abc", "color=red", "state=draft&state=draft", "applicant=x"):
        told(await desk.get("caller", f"/v1/applications?{query}"), 400, "query-parameter")


async def test_anybody_reads_the_ledger_of_misses_and_finds_no_person_purpose_or_resource_in_it(desk: Desk) -> None:
    in_time = await submitted(desk)
    made(await step(desk, "owner", in_time["id"], "decide", {"decision": "refuse", **GROUNDS}), 200, "application")
    clock = _Clock(datetime(2025, 1, 24, 1, tzinfo=UTC))
    registry = await Registry.open(f"sqlite:///{desk.trial.folder / 'registry.db'}", clock=clock)
    past = Applications.of_files(registry)
    caller = Actor(subsystem=CALLER, official="李四")
    asked = Ask(
        resource=CONDITIONAL,
        purposes=("late-one",),
        purpose_text="核查目的",
        legal_basis="第七条",
        scenario="场景",
        items=("uscc",),
        valid_to=ends("2039-12-31"),
        contact="0771",
        official="李四",
    )
    late = [await past.draft(caller, asked, submit=True) for _ in range(3)]
    clock.now = datetime(2025, 2, 20, 1, tzinfo=UTC)
    await past.keep_time()
    await registry.close()
    response = await desk.get(None, "/v1/misses")
    assert response.status_code == 200, response.text
    lines = response.json()["misses"]
    assert [each["application"] for each in lines] == [each.id for each in late[::-1]]
    assert (lines[0]["responsible"], lines[0]["due_date"], lines[0]["duty"]) == (PROVIDER, "2025-02-13", "answer")
    assert [each["rung"] for each in lines[0]["escalations"]] == ["owner-office", "authority"]
    assert lines[0]["late_days"] > 400
    for secret in ("核查目的", "late-one", "李四", "第七条", "场景", CONDITIONAL, CALLER, "0771"):
        assert secret not in response.text
    department = member_of(PROVIDER)
    first = (await desk.get(None, f"/v1/misses?department={department}&limit=2&open=true")).json()
    rest = (await desk.get(None, f"/v1/misses?cursor={first['next_cursor']}")).json()
    assert first["misses"] + rest["misses"] == lines
    assert rest["next_cursor"] is None
    assert (await desk.get(None, f"/v1/misses?department={member_of(CALLER)}")).json()["misses"] == []
    for query in ("department=x", "cursor=zzz", "color=red"):
        told(await desk.get(None, f"/v1/misses?{query}"), 400, "query-parameter")
    departments = (await desk.get(None, "/v1/misses/summary")).json()["departments"]
    (record,) = [each for each in departments if each["department"] == department]
    assert (record["overdue"], record["misses"]) == (3, 3)
    assert record["decided"] == record["in_time"] >= 1
    # Answering late closes the line, and the table says so.
    made(await step(desk, "owner", late[0].id, "decide", {"decision": "refuse", **GROUNDS}), 200, "application")
    (closed,) = (await shown(desk, "caller", late[0].id))["misses"]
    assert closed["ended_at"] is not None
    (record,) = [
        each
        for each in (await desk.get(None, "/v1/misses/summary")).json()["departments"]
        if each["department"] == department
    ]
    assert (record["overdue"], record["late"]) == (2, 1)
    # The owner disputes a miss, and the applicant gives in: the line stays, and says why it counts no longer.
    miss = lines[0]
    told(
        await step(desk, "owner", miss["application"], "dispute", {"about": "miss", "text": "x"}), 422, "miss", "/miss"
    )
    body = {"about": "miss", "text": "系统故障", "miss": miss["id"]}
    made(await step(desk, "owner", miss["application"], "dispute", body), 201, "dispute")
    made(await step(desk, "caller", miss["application"], "dispute/concede", {"text": "属实"}), 200, "dispute")
    lines = (await desk.get(None, "/v1/misses")).json()["misses"]
    assert [each["id"] for each in lines if each["set_aside"]] == [miss["id"]]


class _Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


async def test_the_calls_describe_themselves_and_the_manual_names_them_all(desk: Desk) -> None:
    document = (await desk.get(None, "/v1/openapi.json")).json()
    ours = {path for path in document["paths"] if path.startswith(("/v1/applications", "/v1/misses", "/v1/standing"))}
    assert len(ours) == 19
    manual = (Path(__file__).parents[2] / "docs/applications.md").read_text(encoding="utf-8")
    for path in ours:
        assert f"{path}`" in manual
        for operation in document["paths"][path].values():
            assert bool(operation.get("security")) is not path.startswith("/v1/misses")
