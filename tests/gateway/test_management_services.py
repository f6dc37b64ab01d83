"""`/v1/services`, `/v1/certificates`, `/v1/groups`, `/v1/roles`: what is offered, who speaks for whom, who belongs together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ca_auth import CertificateRequest
from deploy.trial_mesh import CALLER, PROVIDER, STRANGER
from exchange import member_of
from tests.gateway.management_desk import INTEGRATOR, PARTIES, SECRET, Desk, made, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHY = {"why": "目录〔2026〕12号"}
HOUSES = f"{PROVIDER}/houses"
CONTENT: dict[str, Any] = {
    "title_zh": "房屋查询",
    "title_en": "Houses",
    "operations": [
        {"method": "GET", "path": "/houses/{id}"},
        {"method": "POST", "path": "/houses/search", "safe": True},
    ],
    "timeout": 3,
}


async def test_a_service_is_registered_by_who_describes_it_and_shown_to_everybody(desk: Desk) -> None:
    record = made(await desk.post("integrator", "/v1/services", {"id": HOUSES, **CONTENT, **WHY}), 201, "service")
    assert record == {
        "id": HOUSES,
        "subsystem": PROVIDER,
        "title_zh": "房屋查询",
        "title_en": "Houses",
        "operations": [
            {"method": "POST", "path": "/houses/search", "safe": True},
            {"method": "GET", "path": "/houses/{id}", "safe": True},
        ],
        "timeout": 3.0,
        "max_request_bytes": 16 << 20,
        "max_answer_bytes": 64 << 20,
        "listed": True,
        "state": "open",
        "notice": "",
    }
    again = await desk.post("owner", "/v1/services", {"id": HOUSES, **CONTENT, **WHY})
    assert made(again, 200, "service") == record
    for party in ("stranger", "caller", "auditor"):
        assert (await desk.get(party, f"/v1/services/{HOUSES}")).json() == record
    listed = (await desk.get("stranger", f"/v1/services?owner={PROVIDER}&q=%E6%88%BF%E5%B1%8B&state=open")).json()
    assert [each["id"] for each in listed["services"]] == [HOUSES]


async def test_replacing_withdraws_operations_and_leaves_the_state(desk: Desk) -> None:
    notice = "盘点停用，周一恢复"
    closed = made(await desk.post("owner", f"/v1/services/{HOUSES}/close", {"notice": notice, **WHY}), 200, "service")
    assert (closed["state"], closed["notice"]) == ("closed", notice)
    content = {**CONTENT, "operations": CONTENT["operations"][:1], **WHY}
    replaced = made(await desk.call("integrator", "PUT", f"/v1/services/{HOUSES}", content), 200, "service")
    assert [each["path"] for each in replaced["operations"]] == ["/houses/{id}"]
    assert (replaced["state"], replaced["notice"]) == ("closed", notice)
    opened = made(await desk.post("owner", f"/v1/services/{HOUSES}/open", WHY), 200, "service")
    assert (opened["state"], opened["notice"]) == ("open", "")


async def test_a_service_of_a_suspended_subsystem_is_shown_as_closed(desk: Desk) -> None:
    await desk.post("operator", f"/v1/subsystems/{PROVIDER}/suspend", WHY)
    try:
        assert (await desk.get("stranger", f"/v1/services/{HOUSES}")).json()["state"] == "closed"
    finally:
        await desk.post("operator", f"/v1/subsystems/{PROVIDER}/activate", WHY)
    assert (await desk.get("stranger", f"/v1/services/{HOUSES}")).json()["state"] == "open"


async def test_what_is_not_listed_does_not_exist_for_those_without_a_grant(desk: Desk) -> None:
    async def seen(party: str) -> bool:
        shown = await desk.get(party, f"/v1/services/{SECRET}")
        listed = (await desk.get(party, "/v1/services?limit=500")).json()["services"]
        in_list = SECRET in [each["id"] for each in listed]
        if in_list:
            assert shown.status_code == 200
        else:
            nothing = await desk.get(party, f"/v1/services/{PROVIDER}/nothing")
            assert (shown.status_code, shown.content) == (404, nothing.content)
        return in_list

    seeing = {party for party in PARTIES if await seen(party)}
    assert seeing == {"operator", "auditor", "owner", "integrator"}
    body = {"client": CALLER, "service": SECRET, "purposes": ["p"], "valid_to": "2099-01-01", **WHY}
    grant = made(await desk.post("owner", "/v1/grants", body), 201, "grant")
    assert await seen("caller")
    assert not await seen("stranger")
    made(await desk.post("owner", f"/v1/grants/{grant['id']}/revoke", WHY), 200, "grant")
    assert await seen("caller"), "what it was told it cannot forget"


# Certificates


async def test_a_certificate_is_registered_shown_and_revoked(desk: Desk) -> None:
    issued = desk.trial.ca.issue("spare", CertificateRequest.for_subsystem(PROVIDER))
    text = issued.certificate.read_text(encoding="ascii")
    body = {"subsystem": PROVIDER, "certificate": text, **WHY}
    record = made(await desk.post("operator", "/v1/certificates", body), 201, "certificate")
    assert (record["fingerprint"], record["use"], record["state"]) == (issued.fingerprint, "adapter", "active")
    assert record["certificate"] == text
    assert made(await desk.post("operator", "/v1/certificates", body), 200, "certificate") == record
    path = f"/v1/certificates/{issued.fingerprint}"
    for party in ("operator", "auditor", "owner"):
        assert (await desk.get(party, path)).json() == record
        listed = (await desk.get(party, f"/v1/certificates?subsystem={PROVIDER}&state=active&use=adapter")).json()
        assert issued.fingerprint in [each["fingerprint"] for each in listed["certificates"]]
    for party in ("caller", "stranger", "other", "integrator"):
        told(await desk.get(party, path), 404, "exists")
        assert (await desk.get(party, "/v1/certificates")).json()["certificates"] == []
    revoked = made(await desk.post("owner", f"{path}/revoke", {"why": "密钥可能泄露"}), 200, "certificate")
    assert revoked == {**record, "state": "revoked"}
    told(await desk.post("operator", "/v1/certificates", body), 409, "registered-state")


async def test_a_certificate_of_somebody_else_is_not_registered(desk: Desk) -> None:
    issued = desk.trial.ca.issue("wrong", CertificateRequest.for_subsystem(STRANGER))
    body = {"subsystem": PROVIDER, "certificate": issued.certificate.read_text(encoding="ascii"), **WHY}
    version = await desk.version()
    told(await desk.post("operator", "/v1/certificates", body), 422, "certificate-identity", "/certificate")
    told(
        await desk.post("operator", "/v1/certificates", {**body, "certificate": "-----BEGIN CERTIFICATE-----"}),
        422,
        "certificate",
        "/certificate",
    )
    assert await desk.version() == version


async def test_addresses_of_the_ca_are_no_certificates(desk: Desk) -> None:
    """This gateway serves no CA: its addresses are not there, and no certificate stands in their place."""
    for path in ("ca", "crl", "enrolments", "0f" * 31, "0F" * 32):
        told(await desk.get("operator", f"/v1/certificates/{path}"), 404, "exists")


# Groups


async def test_a_group_holds_those_listed_and_those_that_fit(desk: Desk) -> None:
    body = {"id": "callers", "name": "调用方", "members": [STRANGER, STRANGER], "subsystem_code": "caller", **WHY}
    record = made(await desk.post("operator", "/v1/groups", body), 201, "group")
    assert (record["members"], record["state"]) == ([STRANGER], "active")
    shown = (await desk.get("caller", "/v1/groups/callers")).json()
    assert shown == {**record, "holds": sorted((CALLER, STRANGER))}
    holding = (await desk.get("caller", f"/v1/groups?holds={CALLER}&q=callers&state=active")).json()["groups"]
    assert holding == [record]
    narrower = {"name": "调用方", "subsystem_code": "caller", **WHY}
    made(await desk.call("operator", "PUT", "/v1/groups/callers", narrower), 200, "group")
    assert (await desk.get("caller", "/v1/groups/callers")).json()["holds"] == [CALLER]
    closed = made(await desk.post("operator", "/v1/groups/callers/close", WHY), 200, "group")
    assert closed["state"] == "closed"
    assert (await desk.get("caller", "/v1/groups/callers")).json()["holds"] == []
    told(await desk.call("operator", "PUT", "/v1/groups/callers", narrower), 409, "registered-state", "/id")
    told(await desk.get("caller", "/v1/groups/nobody"), 404, "exists")
    told(await desk.post("operator", "/v1/groups/nobody/close", WHY), 404, "exists")


# Roles


async def test_a_role_is_shown_to_who_holds_it_and_to_who_watches(desk: Desk) -> None:
    begins = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {
        "id": "later",
        "subsystem": STRANGER,
        "role": "auditor",
        "valid_from": begins,
        "valid_to": "2099-01-01",
        **WHY,
    }
    record = made(await desk.post("operator", "/v1/roles", body), 201, "role")
    assert (record["state"], record["valid_from"], record["valid_to"]) == ("upcoming", begins, "2099-01-01T16:00:00Z")
    assert (record["reason"], record["decided_by"].endswith("(张三)")) == (WHY["why"], True)
    assert made(await desk.post("operator", "/v1/roles", body), 200, "role") == record
    for party in ("operator", "auditor", "stranger"):
        assert (await desk.get(party, "/v1/roles/later")).json() == record
        assert record in (await desk.get(party, f"/v1/roles?subsystem={STRANGER}&state=upcoming")).json()["roles"]
    for party in ("caller", "owner"):
        told(await desk.get(party, "/v1/roles/later"), 404, "exists")
        assert (await desk.get(party, "/v1/roles")).json()["roles"] == []
    told(await desk.get("stranger", "/v1/exchanges"), 403, "role")
    other = {**body, "id": "sooner"}
    told(await desk.post("operator", "/v1/roles", other), 409, "role-overlap", "/role")
    revoked = made(await desk.post("operator", "/v1/roles/later/revoke", WHY), 200, "role")
    assert (revoked["state"], revoked["revocation_reason"]) == ("revoked", WHY["why"])
    told(await desk.post("operator", "/v1/roles/none/revoke", WHY), 404, "exists")


async def test_a_members_certificate_acts_as_the_subsystem_it_names(desk: Desk) -> None:
    desk.trial.ca.ensure("member", CertificateRequest.for_member(member_of(CALLER)))
    told(await desk.get("member", "/v1/members"), 400, "client-header")
    assert (await desk.get("member", "/v1/members", X_Road_Client=CALLER)).status_code == 200
    told(await desk.get("member", "/v1/members", X_Road_Client=INTEGRATOR), 403, "client-of-certificate")


@pytest.mark.parametrize(
    ("header", "recorded"),
    [("%E6%9D%8E%E5%9B%9B", "(李四)"), ("Li Si", "(Li Si)"), ("100%", "(100%)"), ("", "")],
)
async def test_the_official_is_named_as_the_caller_wrote_it(desk: Desk, header: str, recorded: str) -> None:
    version = await desk.version()
    body = {"id": f"{PROVIDER}/official{version}", **CONTENT, **WHY}
    made(await desk.post("owner", "/v1/services", body, X_Road_UserId=header), 201, "service")
    (change,) = await desk.trial.registry.changes(after=version)
    assert change.by == f"{PROVIDER} {recorded}".strip()


@pytest.mark.parametrize("header", ["x" * 256, "a%0Ab", "%00", "%E2%80%AE"])
async def test_an_official_that_cannot_be_shown_is_refused(desk: Desk, header: str) -> None:
    version = await desk.version()
    body = {"id": f"{PROVIDER}/unofficial", **CONTENT, **WHY}
    told(await desk.post("owner", "/v1/services", body, X_Road_UserId=header), 400, "header-value")
    assert await desk.version() == version
