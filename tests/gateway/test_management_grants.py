"""`/v1/grants`: given, shown to its two sides, revoked, asked about as of a day; and what is left of a quota."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from deploy.trial_mesh import CALLER, ECHO, OPERATOR, PROVIDER, STRANGER
from exchange import ServiceId
from gateway.api.grants import GrantDetails
from registry import QuotaStore, begins, china_day
from tests.gateway.management_desk import CLERK, WHO, Desk, made, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHY = {"why": "批复〔2026〕7号"}
TAXES = ServiceId(f"{PROVIDER}/taxes")
TERMS: dict[str, Any] = {
    "service": TAXES,
    "method": "GET",
    "path": "/items/{id}",
    "purposes": ["housing", "audit"],
    "items": ["name", "owner.number"],
    "masks": {"owner.number": "number"},
    "quota_per_second": 5,
    "quota_per_day": 100,
    "case_pattern": "沪〔####〕*号",
    "signed_requests": True,
    "valid_to": "2099-12-31",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _service(desk: Desk) -> None:
    body = {"id": TAXES, "title_zh": "纳税", "operations": [{"method": "GET", "path": "/items/{id}"}], **WHY}
    assert (await desk.post("owner", "/v1/services", body)).status_code in (200, 201)


async def listed(desk: Desk, party: str, query: str = "limit=500") -> list[str]:
    response = await desk.get(party, f"/v1/grants?{query}")
    assert response.status_code == 200, response.text
    return [each["id"] for each in response.json()["grants"]]


async def test_an_owner_gives_a_grant_with_all_its_terms(desk: Desk) -> None:
    body = {"id": "full-terms", "client": STRANGER, **TERMS, **WHY}
    record = made(await desk.post("owner", "/v1/grants", body), 201, "grant")
    kept = {name: value for name, value in TERMS.items() if name != "valid_to"} | {"purposes": ["audit", "housing"]}
    assert {name: record[name] for name in kept} == kept
    assert (record["client"], record["group"], record["resource"], record["application"]) == (
        STRANGER,
        None,
        None,
        None,
    )
    assert (record["valid_to"], record["state"], record["reason"]) == ("2099-12-31T16:00:00Z", "valid", WHY["why"])
    assert record["decided_by"] == f"{PROVIDER} ({CLERK})"
    again = await desk.post("owner", "/v1/grants", body)
    assert made(again, 200, "grant") == record, "also where it leaves to us from when it holds"
    other = {**body, "quota_per_day": 101}
    told(await desk.post("owner", "/v1/grants", other), 409, "registered-state", "/id")
    overlapping = {**body, "id": "another"}
    problem = told(await desk.post("owner", "/v1/grants", overlapping), 409, "grant-overlap", "/purposes/0")
    assert "full-terms" in problem["detail"]


async def test_it_is_shown_with_its_history_to_both_sides_and_to_who_watches(desk: Desk) -> None:
    path = "/v1/grants/full-terms"
    for party in ("operator", "auditor", "owner", "stranger"):
        shown = await desk.get(party, path)
        details = GrantDetails.model_validate_json(shown.content)
        assert [(each.action, each.by, each.why) for each in details.history] == [
            ("grant.add", f"{PROVIDER} ({CLERK})", WHY["why"])
        ]
        assert "full-terms" in await listed(desk, party)
    for party in ("caller", "other", "integrator"):
        hidden = await desk.get(party, path)
        told(hidden, 404, "exists")
        assert hidden.content == (await desk.get(party, "/v1/grants/none")).content
        assert "full-terms" not in await listed(desk, party)
        told(await desk.get(party, f"{path}/quota"), 404, "exists")


async def test_what_a_group_was_given_is_shown_to_who_is_in_it(desk: Desk) -> None:
    group = {"id": "strangers", "name": "外部门", "members": [STRANGER], **WHY}
    made(await desk.post("operator", "/v1/groups", group), 201, "group")
    body = {"group": "strangers", "service": ECHO, "purposes": ["p"], "valid_to": "2099-01-01", **WHY}
    grant = made(await desk.post("owner", "/v1/grants", body), 201, "grant")
    assert (grant["client"], grant["group"]) == (None, "strangers")
    assert grant["id"] in await listed(desk, "stranger", "group=strangers")
    assert grant["id"] not in await listed(desk, "caller")
    left = {"name": "外部门", "members": [CALLER], **WHY}
    made(await desk.call("operator", "PUT", "/v1/groups/strangers", left), 200, "group")
    assert grant["id"] not in await listed(desk, "stranger")
    assert grant["id"] in await listed(desk, "caller")


async def test_grants_are_found_by_what_they_are_for_and_by_their_state(desk: Desk) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    later = {"id": "later", "client": CALLER, **TERMS, "valid_from": tomorrow, **WHY}
    assert made(await desk.post("operator", "/v1/grants", later), 201, "grant")["state"] == "upcoming"
    past = {"client": CALLER, "service": TAXES, "purposes": ["p"], "backdated": True, **WHO}
    now = datetime.now(UTC)
    old = await desk.trial.registry.grant(
        **past, grant_id="old", valid_from=now - timedelta(days=2), valid_to=now - timedelta(days=1)
    )
    everything = await listed(desk, "operator", f"service={TAXES}&limit=500")
    assert everything == sorted(everything)
    for state, expected in (("valid", "full-terms"), ("upcoming", "later"), ("expired", old.id)):
        found = await listed(desk, "operator", f"service={TAXES}&state={state}")
        assert expected in found
        assert len(found) < len(everything)
    assert set(await listed(desk, "owner", f"owner={PROVIDER}&client={CALLER}&limit=500")) >= {"later", "old"}
    assert await listed(desk, "owner", "resource=R1") == []
    assert await listed(desk, "owner", "application=a1") == []
    pages = []
    cursor = ""
    while True:
        page = (await desk.get("operator", f"/v1/grants?limit=1{cursor}")).json()
        pages += [each["id"] for each in page["grants"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert pages == await listed(desk, "operator")


async def test_a_revoked_grant_stays_on_record_and_does_not_come_back(desk: Desk) -> None:
    body = {"id": "short", "client": CALLER, **TERMS, "purposes": ["short"], **WHY}
    made(await desk.post("operator", "/v1/grants", body), 201, "grant")
    told(await desk.post("caller", "/v1/grants/short/revoke", WHY), 403, "role")
    revoked = made(await desk.post("owner", "/v1/grants/short/revoke", {"why": "项目结束"}), 200, "grant")
    assert (revoked["state"], revoked["revocation_reason"]) == ("revoked", "项目结束")
    again = await desk.post("operator", "/v1/grants/short/revoke", {"why": "又一次"})
    assert made(again, 200, "grant") == revoked
    told(await desk.post("operator", "/v1/grants", body), 409, "registered-state", "/id")
    history = (await desk.get("caller", "/v1/grants/short")).json()["history"]
    assert [each["action"] for each in history] == ["grant.add", "grant.revoke"]
    assert [each["by"] for each in history] == [f"{OPERATOR} ({CLERK})", f"{PROVIDER} ({CLERK})"]


async def test_a_day_is_answered_for_with_who_decided(desk: Desk) -> None:
    today = china_day(datetime.now(UTC))

    async def as_of(party: str, query: str = "") -> dict[str, Any]:
        response = await desk.get(party, f"/v1/grants/as-of?date={today}{query}")
        assert response.status_code == 200, response.text
        return {each["grant"]["id"]: each for each in response.json()["grants"]}

    found = await as_of("auditor")
    assert {"full-terms", "short"} <= found.keys()
    assert not {"later", "old"} & found.keys()
    short = found["short"]
    assert (short["recorded_by"], short["revoked_by"]) == (f"{OPERATOR} ({CLERK})", f"{PROVIDER} ({CLERK})")
    assert short["begins"] < short["ends"] == short["grant"]["revoked_at"]
    assert (await as_of("owner")).keys() >= {"full-terms", "short"}
    assert "full-terms" in await as_of("stranger")
    assert "short" not in await as_of("stranger")
    assert "full-terms" not in await as_of("caller")
    assert await as_of("other") == {}
    of_client = await as_of("owner", f"&client={STRANGER}")
    assert of_client.keys() & {"full-terms", "short"} == {"full-terms"}
    assert "full-terms" in await as_of("stranger", f"&service={TAXES}")
    assert "full-terms" not in await as_of("stranger", f"&service={ECHO}")
    assert await as_of("stranger", f"&client={CALLER}") == {}
    before = (begins(today) - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await as_of("auditor", f"&known_at={before}") == {}
    page = (await desk.get("auditor", f"/v1/grants/as-of?date={today}&limit=1")).json()
    assert len(page["grants"]) == 1
    rest = (await desk.get("auditor", f"/v1/grants/as-of?date={today}&cursor={page['next_cursor']}")).json()
    assert {each["grant"]["id"] for each in page["grants"] + rest["grants"]} == found.keys()


@pytest.mark.parametrize(
    "query", ["", "date=today", "date=2026-13-01", "date=2026-11-23T08:00:00Z", "date=2026-11-23&known_at=x"]
)
async def test_a_day_that_is_none_is_refused(desk: Desk, query: str) -> None:
    told(await desk.get("auditor", f"/v1/grants/as-of?{query}"), 400, "query-parameter")


async def test_what_is_left_of_a_quota_is_shown_to_both_sides(desk: Desk) -> None:
    store = await QuotaStore.open(f"sqlite:///{desk.trial.folder / 'quotas.db'}")
    try:
        for _ in range(3):
            await store.take("full-terms", per_second=5, per_day=100)
    finally:
        await store.close()
    for party in ("stranger", "owner", "auditor", "operator"):
        quota = (await desk.get(party, "/v1/grants/full-terms/quota")).json()
        day = quota["per_day"]
        assert (quota["grant"], quota["per_second"]["limit"]) == ("full-terms", 5)
        assert (day["limit"], day["used"], day["remaining"]) == (100, 3, 97)
        assert 0 < day["reset"] <= 86400
    free = {"id": "free", "client": CALLER, "service": TAXES, "purposes": ["free"], "valid_to": "2099-01-01", **WHY}
    made(await desk.post("owner", "/v1/grants", free), 201, "grant")
    assert (await desk.get("caller", "/v1/grants/free/quota")).json() == {
        "grant": "free",
        "per_second": None,
        "per_day": None,
    }


async def test_a_revocation_is_known_everywhere_within_a_second(desk: Desk) -> None:
    """To the gateway that was asked at once, to another one within its poll."""
    other = await desk.trial.add_gateway("second")
    service = {
        "id": f"{PROVIDER}/quick",
        "title_zh": "快",
        "operations": [{"method": "GET", "path": "/items/{id}"}],
        **WHY,
    }
    made(await desk.post("owner", "/v1/services", service), 201, "service")
    body = {
        "id": "quick",
        "client": CALLER,
        "service": service["id"],
        "purposes": ["quick"],
        "valid_to": "2099-01-01",
        **WHY,
    }
    made(await desk.post("owner", "/v1/grants", body), 201, "grant")
    question = {"service": service["id"], "method": "GET", "path": "/items/1", "purpose": "quick"}
    url = f"{other.ready_text()}/v1/decisions"
    async with asyncio.timeout(1):
        while not (await desk.post("caller", url, question)).json()["permitted"]:
            await asyncio.sleep(0.02)
    made(await desk.post("owner", "/v1/grants/quick/revoke", WHY), 200, "grant")
    assert (await desk.post("caller", "/v1/decisions", question)).json()["rule"] == "grant-revoked"
    async with asyncio.timeout(1):
        while (await desk.post("caller", url, question)).json()["permitted"]:
            await asyncio.sleep(0.02)
