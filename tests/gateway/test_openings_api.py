"""`/v1/openings`: an operator looks at one record when a second person agreed, and each look is on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from exchange import is_change
from gateway.api.openings import OpeningChanged, OpeningPage, OpeningView
from tests.gateway.audit_desk import OPERATOR, AuditDesk, audit_desk, exchange, principal
from tests.registry.example import TAX, Clock

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHY = "投诉〔2026〕9号"
ABSENT = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AuditDesk]:
    query = {"client": TAX, "service": f"{TAX}/enterprises"}
    async with audit_desk(tmp_path_factory.mktemp("openings"), [exchange(n, query=query) for n in range(4)]) as desk:
        yield desk


def told(response: httpx.Response, status: int, rule: str, pointer: str = "") -> dict[str, Any]:
    problem: dict[str, Any] = response.json()
    found = (response.status_code, problem["rule"], problem.get("pointer", ""))
    assert found == (status, rule, pointer), problem
    return problem


async def ask(desk: AuditDesk, exchange_id: str, **how: Any) -> httpx.Response:
    how = {"party": "operator", **how}
    return await desk.call("POST", "/v1/openings", {"exchange": exchange_id, "why": WHY}, **how)


async def decide(desk: AuditDesk, opening: str, what: str, *, official: str = "李四", **how: Any) -> httpx.Response:
    how = {"party": "auditor", **how}
    return await desk.call("POST", f"/v1/openings/{opening}/{what}", {"why": "属实"}, official=official, **how)


def view(response: httpx.Response, status: int) -> OpeningView:
    assert response.status_code == status, response.text
    changed = OpeningChanged.model_validate_json(response.content, extra="forbid")
    assert response.headers["datong-change"] == str(changed.change)
    assert changed.recorded is not None
    return changed.opening


async def test_an_operator_sees_one_record_after_a_second_person_agreed_and_every_look_is_on_record(
    desk: AuditDesk,
) -> None:
    one, other = desk.records[0]["id"], desk.records[1]["id"]
    told(await desk.get(f"/v1/exchanges/{one}", party="operator"), 404, "exists")
    asked = view(await ask(desk, one), 201)
    assert (asked.exchange, asked.why, asked.asked_by, asked.official) == (one, WHY, OPERATOR, "张三")
    assert (asked.state, asked.open, asked.valid_until) == ("asked", False, None)
    assert view(await ask(desk, one), 200).id == asked.id
    told(await desk.get(f"/v1/exchanges/{one}", party="operator"), 404, "exists")
    for official in ("张三", "张 三", ""):
        for party in ("operator", "auditor"):
            told(await decide(desk, asked.id, "approval", official=official, party=party), 422, "two-persons")
    approved = view(await decide(desk, asked.id, "approval"), 200)
    assert (approved.state, approved.open) == ("approved", True)
    assert approved.decided_by.endswith("/audit (李四)")
    before = len(await desk.accesses())
    shown = await desk.get(f"/v1/exchanges/{one}", party="operator")
    assert (shown.status_code, shown.json()["record"]) == (200, desk.records[0])
    assert (await desk.get(f"/v1/exchanges/{one}/receipt", party="operator")).status_code == 200
    for path, how in (
        (f"/v1/exchanges/{other}", {}),
        (f"/v1/exchanges/{one}", {"official": "王五"}),
        (f"/v1/exchanges/{one}", {"official": ""}),
        (f"/v1/exchanges/{one}", {"party": "caller"}),
    ):
        told(await desk.get(path, **{"party": "operator", **how}), 404, "exists")
    told(await desk.get("/v1/exchanges", party="operator"), 403, "role")
    looks = (await desk.accesses())[before:]
    assert [(each.act, each.by, each.user, each.why) for each in looks] == [
        ("exchange.show", OPERATOR, "张三", WHY),
        ("exchange.receipt", OPERATOR, "张三", WHY),
    ]
    assert looks[0].details == {"exchange": one, "found": True, "opening": asked.id}
    assert looks[0].certificate == principal("operator").fingerprint
    assert (await desk.get(f"/v1/openings/{asked.id}", party="operator")).json()["open"] is True


async def test_after_a_day_it_is_closed_again(desk: AuditDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    one = desk.records[2]["id"]
    asked = view(await ask(desk, one), 201)
    view(await decide(desk, asked.id, "approval"), 200)
    assert (await desk.get(f"/v1/exchanges/{one}", party="operator")).status_code == 200
    later = Clock(desk.registry.now() + timedelta(hours=24))
    monkeypatch.setattr(desk.registry, "_clock", later)
    told(await desk.get(f"/v1/exchanges/{one}", party="operator"), 404, "exists")
    assert (await desk.get(f"/v1/openings/{asked.id}")).json()["open"] is False
    assert view(await ask(desk, one), 201).id != asked.id


async def test_what_was_refused_stays_closed_and_decided(desk: AuditDesk) -> None:
    one = desk.records[3]["id"]
    asked = view(await ask(desk, one), 201)
    refused = view(await decide(desk, asked.id, "refusal"), 200)
    assert (refused.state, refused.open, refused.decision_why) == ("refused", False, "属实")
    assert view(await decide(desk, asked.id, "refusal"), 200) == refused
    problem = told(await decide(desk, asked.id, "approval", official="王五"), 409, "opening-state")
    assert "refused it already" in problem["detail"]
    told(await desk.get(f"/v1/exchanges/{one}", party="operator"), 404, "exists")
    # Each step stands on the log, like every change of the registry.
    changes = [entry async for entry in desk.log.reader.iter_entries(kind="change") if entry.service == asked.id]
    assert [entry.rule for entry in changes] == ["opening.ask", "opening.refuse"]
    assert all(is_change(entry.leaf) for entry in changes)


async def test_what_cannot_be_recorded_is_not_shown(desk: AuditDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    from exchange import LogUnavailableError

    def fails(event: Any) -> Any:
        raise LogUnavailableError

    one = desk.records[1]["id"]
    asked = view(await ask(desk, one), 201)
    view(await decide(desk, asked.id, "approval"), 200)
    monkeypatch.setattr(desk.log, "append_event", fails)
    told(await desk.get(f"/v1/exchanges/{one}", party="operator"), 503, "record-before-release")


async def test_only_operators_and_auditors_know_of_openings(desk: AuditDesk) -> None:
    one = desk.records[0]["id"]
    asked = view(await ask(desk, one, official="孙八"), 201)
    for party in ("caller", "owner"):
        for exchange_id in (one, ABSENT):
            told(await ask(desk, exchange_id, party=party), 403, "role")
        told(await decide(desk, asked.id, "approval", party=party), 403, "role")
        told(await desk.get("/v1/openings", party=party), 403, "role")
        told(await desk.get(f"/v1/openings/{asked.id}", party=party), 403, "role")
    for path in ("/v1/openings", f"/v1/openings/{asked.id}"):
        assert (await desk.get(path, party=None)).status_code == 401


async def test_bad_requests_are_refused_by_name(desk: AuditDesk) -> None:
    told(await ask(desk, ABSENT), 422, "exchange-recorded", "/exchange")
    told(await ask(desk, "x"), 422, "body", "/exchange")
    told(await ask(desk, desk.records[0]["id"], official=""), 422, "two-persons")
    body = {"exchange": ABSENT}
    told(await desk.call("POST", "/v1/openings", body, party="operator"), 422, "body", "/why")
    told(await desk.call("POST", "/v1/openings", {**body, "why": WHY, "x": 1}, party="operator"), 422, "body", "/x")
    for identifier in ("o0", "o999999", "x", "o", "o1%00", "o" + "9" * 30):
        told(await decide(desk, identifier, "approval"), 404, "exists")
        told(await desk.get(f"/v1/openings/{identifier}"), 404, "exists")
    told(await desk.get("/v1/openings?state=open"), 400, "query-parameter")


async def test_openings_are_listed_newest_first(desk: AuditDesk) -> None:
    shown: list[str] = []
    path = "/v1/openings?limit=2"
    while True:
        page = OpeningPage.model_validate_json((await desk.get(path)).content, extra="forbid")
        shown += [each.id for each in page.openings]
        if page.next_cursor is None:
            break
        path = f"/v1/openings?limit=2&cursor={page.next_cursor}"
    assert len(shown) > 4
    assert shown == sorted(shown, key=lambda each: -int(each[1:]))
    one = desk.records[3]["id"]
    found = (await desk.get(f"/v1/openings?exchange={one}&state=refused&asked_by={OPERATOR}")).json()["openings"]
    assert [each["exchange"] for each in found] == [one]
