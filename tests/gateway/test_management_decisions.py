"""`POST /v1/decisions`: it says what the exchange face does, and to nobody more than they may know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from deploy.trial_mesh import CALLER, PROVIDER, STRANGER
from exchange import ServiceId
from gateway.api.decisions import DecisionView
from tests.gateway.management_desk import SECRET, WHO, Desk, made, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHY = {"why": "测试"}
ROLLS = ServiceId(f"{PROVIDER}/rolls")
PATHS = (
    "/rolls/{id}",
    "/old/{id}",
    "/signed/{id}",
    "/cases/{id}",
    "/two/{id}",
    "/later/{id}",
    "/over/{id}",
    "/gone/{id}",
)
TERMS: dict[str, dict[str, Any]] = {
    "rolls": {"purposes": ["audit"], "items": ["name"], "masks": {"name": "name"}, "quota_per_day": 9},
    "signed": {"purposes": ["audit"], "signed_requests": True},
    "cases": {"purposes": ["audit"], "case_pattern": "A-###"},
    "two": {"purposes": ["audit", "review"]},
    "gone": {"purposes": ["audit"]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _grants(desk: Desk) -> None:
    operations = [{"method": "GET", "path": path} for path in PATHS]
    for service in (ROLLS, f"{PROVIDER}/shut"):
        body = {"id": service, "title_zh": "名册", "operations": operations, **WHY}
        made(await desk.post("owner", "/v1/services", body), 201, "service")
    for name, terms in TERMS.items():
        body = {"id": name, "client": CALLER, "service": ROLLS, "method": "GET", "path": f"/{name}/{{id}}", **terms}
        made(await desk.post("owner", "/v1/grants", {**body, "valid_to": "2099-01-01", **WHY}), 201, "grant")
    made(await desk.post("owner", "/v1/grants/gone/revoke", WHY), 200, "grant")
    now = datetime.now(UTC)
    timed: dict[str, Any] = {"client": CALLER, "service": ROLLS, "purposes": ["audit"], "backdated": True, **WHO}
    give = desk.trial.registry.grant
    await give(path="/later/{id}", valid_from=now + timedelta(days=1), valid_to=now + timedelta(days=2), **timed)
    await give(path="/over/{id}", valid_from=now - timedelta(days=2), valid_to=now - timedelta(days=1), **timed)
    shut = {"client": CALLER, "service": f"{PROVIDER}/shut", "purposes": ["audit"], "valid_to": "2099-01-01", **WHY}
    made(await desk.post("owner", "/v1/grants", shut), 201, "grant")
    made(await desk.post("owner", f"/v1/services/{PROVIDER}/shut/close", {"notice": "停用", **WHY}), 200, "service")


async def decided(desk: Desk, party: str, question: dict[str, Any], **more: Any) -> DecisionView:
    response = await desk.post(party, "/v1/decisions", question, **more)
    assert response.status_code == 200, response.text
    return DecisionView.model_validate_json(response.content, extra="forbid")


CALLS: list[tuple[str, str, dict[str, Any], str | None]] = [
    ("caller", "GET /rolls/1", {}, None),
    ("caller", "GET /rolls/1", {"purpose": "audit"}, None),
    ("caller", "GET /rolls/%E5%BC%A0", {}, None),
    ("caller", "GET /rolls/1", {"purpose": "spying"}, "purpose"),
    ("caller", "GET /signed/1", {"signed": False, "purpose": "audit"}, "signature-missing"),
    ("caller", "GET /cases/1", {}, "case-required"),
    ("caller", "GET /cases/1", {"case": "A-12"}, "case-pattern"),
    ("caller", "GET /cases/1", {"case": "A-123"}, None),
    ("caller", "GET /two/1", {}, "purpose-required"),
    ("caller", "GET /two/1", {"purpose": "review"}, None),
    ("caller", "GET /later/1", {}, "grant-not-yet-valid"),
    ("caller", "GET /over/1", {}, "grant-expired"),
    ("caller", "GET /gone/1", {}, "grant-revoked"),
    ("caller", "POST /rolls/1", {}, "grant-method-path"),
    ("caller", "GET /elsewhere", {}, "grant-method-path"),
    ("caller", "GET /a/%2e%2e/b", {}, "path-dot-segment"),
    ("caller", "GET /rolls/1", {"service": f"{PROVIDER}/none"}, "service-registered"),
    ("caller", "GET /rolls/1", {"service": SECRET}, "service-registered"),
    ("caller", "GET /rolls/1", {"service": f"{PROVIDER}x/none"}, "provider-registered"),
    ("caller", "GET /rolls/1", {"service": f"{PROVIDER}/shut"}, "service-open"),
    ("stranger", "GET /rolls/1", {}, "grant"),
    ("owner", "GET /rolls/1", {}, "grant"),
]


@pytest.mark.parametrize(("party", "call", "more", "rule"), CALLS, ids=lambda value: str(value)[:40])
async def test_it_says_what_the_exchange_face_says(
    desk: Desk, party: str, call: str, more: dict[str, Any], rule: str | None
) -> None:
    """The same rule, text and next step, in both languages; nothing is called and nothing recorded by asking."""
    method, path = call.split(" ")
    version = await desk.version()
    question = {"service": ROLLS, "method": method, "path": path, **more}
    client = {"caller": CALLER, "stranger": STRANGER, "owner": PROVIDER}[party]
    for lang in ("en", "zh"):
        view = await decided(desk, party, question, lang=lang)
        headers = {"X_Road_Client": client}
        headers |= {"Datong_Purpose": more["purpose"]} if "purpose" in more else {}
        headers |= {"X_Road_Issue": more["case"]} if "case" in more else {}
        faced = await desk.call(party, method, f"/r1/{question['service']}{path}", lang=lang, **headers)
        assert (view.permitted, view.rule) == (rule is None, rule)
        if rule is None:
            assert faced.json()["rule"] == "adapter-connected", "it was permitted, and nobody serves it here"
            assert view.grant is not None
            assert view.operation is not None
            assert (view.status, view.code, view.nearest) == (None, None, None)
        else:
            problem = faced.json()
            assert (view.status, view.rule) == (faced.status_code, problem["rule"])
            assert (view.detail, view.next) == (problem["detail"], problem["next"])
            assert problem["type"] == f"/problems/{view.code}"
            assert (view.grant, view.purpose, view.conditions) == (None, None, None)
    assert await desk.version() == version


async def test_a_permission_names_the_grant_and_what_else_must_hold(desk: Desk) -> None:
    view = await decided(desk, "caller", {"service": ROLLS, "method": "GET", "path": "/rolls/1"})
    assert view.grant is not None
    assert view.conditions is not None
    assert (view.grant.id, view.purpose, view.client) == ("rolls", "audit", CALLER)
    assert view.operation is not None
    assert (view.operation.path, view.operation.safe) == ("/rolls/{id}", True)
    assert (view.conditions.items, view.conditions.masks, view.conditions.quota_per_day) == (
        ["name"],
        {"name": "name"},
        9,
    )
    open_ended = await decided(desk, "caller", {"service": ROLLS, "method": "GET", "path": "/signed/1"})
    assert open_ended.permitted
    assert open_ended.conditions is not None
    assert open_ended.conditions.signed_requests
    assert "docs/signed-requests.md" in open_ended.next


async def test_a_refusal_names_the_nearest_grant_of_the_caller_and_of_nobody_else(desk: Desk) -> None:
    for path, nearest in (("/gone/1", "gone"), ("/cases/1", "cases")):
        view = await decided(desk, "caller", {"service": ROLLS, "method": "GET", "path": path})
        assert view.nearest is not None
        assert view.nearest.id == nearest
    response = await desk.post("stranger", "/v1/decisions", {"service": ROLLS, "method": "GET", "path": "/rolls/1"})
    assert response.json()["nearest"] is None
    assert "rolls" not in response.text.replace(ROLLS, "").replace("/rolls/1", "")
    assert CALLER not in response.text


async def test_who_asks_about_others_is_operator_auditor_or_the_owner_of_the_service(desk: Desk) -> None:
    question = {"client": CALLER, "service": ROLLS, "method": "GET", "path": "/rolls/1"}
    for party in ("operator", "auditor", "owner", "caller"):
        assert (await decided(desk, party, question)).permitted
    for party in ("stranger", "other", "integrator"):
        told(await desk.post(party, "/v1/decisions", question), 403, "role")
    told(await desk.post("other", "/v1/decisions", {**question, "service": SECRET}), 403, "role")
    told(await desk.post("other", "/v1/decisions", {**question, "service": f"{PROVIDER}/none"}), 403, "role")
    unknown = await decided(desk, "operator", {**question, "client": f"{CALLER}x"})
    assert (unknown.permitted, unknown.rule) == (False, "client-registered")
    told(await desk.post(None, "/v1/decisions", question), 401, "client-certificate")


async def test_another_time_is_decided_by_what_holds_then(desk: Desk) -> None:
    later = (datetime.now(UTC) + timedelta(hours=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    question = {"service": ROLLS, "method": "GET", "path": "/later/1"}
    assert (await decided(desk, "caller", {**question, "at": later})).permitted
    assert not (await decided(desk, "caller", question)).permitted
    before = (datetime.now(UTC) - timedelta(days=400)).strftime("%Y-%m-%dT%H:%M:%SZ")
    told(await desk.post("caller", "/v1/decisions", {**question, "at": before}), 403, "role")
    past = await decided(desk, "auditor", {**question, "client": CALLER, "at": before})
    assert not past.permitted
