"""Every changing call of the management API, by every role and by strangers: who may, and that nobody else changes anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from ca_auth import CertificateRequest
from deploy.trial_mesh import CALLER, ECHO, PROVIDER, STRANGER
from exchange import compose_uscc, member_of
from tests.gateway.management_desk import PARTIES, SECRET, WHO, Desk, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHY = {"why": "测试"}
NUMBERS = count(1000)
NAMED = {"name": "测试"}
SERVICE: dict[str, Any] = {"title_zh": "测试", "operations": [{"method": "GET", "path": "/a"}]}
UNTIL = "2099-12-31"

OPERATOR = {"operator"}
OWNER = {"operator", "owner"}
DESCRIBER = {"operator", "owner", "integrator"}

Prepared = Callable[[Desk], Awaitable[tuple[str, Any]]]


@dataclass(frozen=True, slots=True)
class Call:
    """A changing call, who may make it, and what to prepare before each time."""

    name: str
    method: str
    allowed: set[str]
    prepare: Prepared
    hidden_from: frozenset[str] = frozenset()
    """Parties that are told that there is nothing to change."""


def fresh(prefix: str = "x") -> str:
    return f"{prefix}{next(NUMBERS)}"


async def member(desk: Desk) -> tuple[str, Any]:
    code = compose_uscc("11", "990000", f"{next(NUMBERS):08}")
    return "/v1/members", {"id": f"CN/GOV/{code}", **NAMED, **WHY}


async def member_replaced(desk: Desk) -> tuple[str, Any]:
    return f"/v1/members/{member_of(STRANGER)}", {"name": fresh(), **WHY}


async def subsystem(desk: Desk) -> tuple[str, Any]:
    return "/v1/subsystems", {"id": f"{member_of(PROVIDER)}/{fresh()}", **NAMED, **WHY}


async def subsystem_replaced(desk: Desk) -> tuple[str, Any]:
    return f"/v1/subsystems/{await registered(desk)}", {"name": fresh(), **WHY}


async def suspended(desk: Desk) -> tuple[str, Any]:
    return f"/v1/subsystems/{await registered(desk)}/suspend", WHY


async def activated(desk: Desk) -> tuple[str, Any]:
    identifier = await registered(desk)
    await desk.trial.registry.set_subsystem_state(identifier, active=False, **WHO)
    return f"/v1/subsystems/{identifier}/activate", WHY


async def service(desk: Desk) -> tuple[str, Any]:
    return "/v1/services", {"id": f"{PROVIDER}/{fresh()}", **SERVICE, **WHY}


async def service_replaced(desk: Desk) -> tuple[str, Any]:
    return f"/v1/services/{await offered(desk)}", {**SERVICE, "title_zh": fresh(), **WHY}


async def closed(desk: Desk) -> tuple[str, Any]:
    return f"/v1/services/{await offered(desk)}/close", {"notice": "停用", **WHY}


async def opened(desk: Desk) -> tuple[str, Any]:
    identifier = await offered(desk)
    await desk.trial.registry.set_service_state(identifier, is_open=False, notice="停用", **WHO)
    return f"/v1/services/{identifier}/open", WHY


async def certificate(desk: Desk) -> tuple[str, Any]:
    return "/v1/certificates", {"subsystem": PROVIDER, "certificate": pem(desk), **WHY}


async def certificate_revoked(desk: Desk) -> tuple[str, Any]:
    issued = desk.trial.ca.issue(fresh("c"), CertificateRequest.for_subsystem(PROVIDER))
    await desk.trial.registry.register_certificate(PROVIDER, issued.der, **WHO)
    return f"/v1/certificates/{issued.fingerprint}/revoke", WHY


async def group(desk: Desk) -> tuple[str, Any]:
    return "/v1/groups", {"id": fresh("group"), **NAMED, "members": [CALLER], **WHY}


async def group_replaced(desk: Desk) -> tuple[str, Any]:
    _, body = await group(desk)
    return f"/v1/groups/{body.pop('id')}", body


async def group_closed(desk: Desk) -> tuple[str, Any]:
    path, body = await group(desk)
    assert (await desk.post("operator", path, body)).status_code == 201
    return f"/v1/groups/{body['id']}/close", WHY


async def role(desk: Desk) -> tuple[str, Any]:
    return "/v1/roles", {"subsystem": await registered(desk), "role": "auditor", "valid_to": UNTIL, **WHY}


async def role_revoked(desk: Desk) -> tuple[str, Any]:
    path, body = await role(desk)
    answer = await desk.post("operator", path, body)
    return f"/v1/roles/{answer.json()['role']['id']}/revoke", WHY


async def grant(desk: Desk) -> tuple[str, Any]:
    body = {"client": STRANGER, "service": await offered(desk), "purposes": ["p"], "valid_to": UNTIL, **WHY}
    return "/v1/grants", body


async def grant_revoked(desk: Desk) -> tuple[str, Any]:
    path, body = await grant(desk)
    answer = await desk.post("operator", path, {**body, "client": CALLER})
    assert answer.status_code == 201, answer.text
    return f"/v1/grants/{answer.json()['grant']['id']}/revoke", WHY


async def registered(desk: Desk) -> Any:
    path, body = await subsystem(desk)
    assert (await desk.post("operator", path, body)).status_code == 201
    return body["id"]


async def offered(desk: Desk) -> Any:
    path, body = await service(desk)
    assert (await desk.post("operator", path, body)).status_code == 201
    return body["id"]


def pem(desk: Desk) -> str:
    issued = desk.trial.ca.issue(fresh("c"), CertificateRequest.for_subsystem(PROVIDER))
    return issued.certificate.read_text(encoding="ascii")


CALLS = [
    Call("create member", "POST", OPERATOR, member),
    Call("replace member", "PUT", OPERATOR, member_replaced),
    Call("create subsystem", "POST", OPERATOR, subsystem),
    Call("replace subsystem", "PUT", OPERATOR, subsystem_replaced),
    Call("suspend subsystem", "POST", OPERATOR, suspended),
    Call("activate subsystem", "POST", OPERATOR, activated),
    Call("create service", "POST", DESCRIBER, service),
    Call("replace service", "PUT", DESCRIBER, service_replaced),
    Call("close service", "POST", OWNER, closed),
    Call("open service", "POST", OWNER, opened),
    Call("register certificate", "POST", OPERATOR, certificate),
    Call(
        "revoke certificate",
        "POST",
        OWNER,
        certificate_revoked,
        frozenset({"integrator", "other", "caller", "stranger"}),
    ),
    Call("create group", "POST", OPERATOR, group),
    Call("replace group", "PUT", OPERATOR, group_replaced),
    Call("close group", "POST", OPERATOR, group_closed),
    Call("grant role", "POST", OPERATOR, role),
    Call("revoke role", "POST", OPERATOR, role_revoked),
    Call("give grant", "POST", OWNER, grant),
    Call("revoke grant", "POST", OWNER, grant_revoked, frozenset({"integrator", "other", "stranger"})),
]


@pytest.mark.parametrize("party", [*PARTIES, None], ids=str)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name.replace(" ", "-"))
async def test_a_change_is_made_by_who_may_and_by_nobody_else(desk: Desk, call: Call, party: str | None) -> None:
    path, body = await call.prepare(desk)
    version = await desk.version()
    response = await desk.call(party, call.method, path, body)
    if party in call.allowed:
        assert response.status_code in (200, 201), response.text
        assert await desk.version() == version + 1 == response.json()["change"]
        assert response.json()["recorded"] is not None
        (change,) = await desk.trial.registry.changes(after=version)
        assert (change.why, change.by.endswith("(张三)")) == (WHY["why"], True)
        # The same again is the same change.
        again = await desk.call(party, call.method, path, body)
        if "id" in body or not path.endswith(("grants", "roles")):
            assert again.status_code == 200, again.text
            assert again.json() == response.json()
        assert await desk.version() == version + 1
        return
    if party is None:
        told(response, 401, "client-certificate")
    elif party in call.hidden_from:
        told(response, 404, "exists")
    else:
        problem = told(response, 403, "role")
        assert problem["type"] == "/problems/role-missing"
    assert await desk.version() == version


async def test_a_role_that_was_granted_counts_at_once_and_no_longer_than_it_is_held(desk: Desk) -> None:
    path, body = await member(desk)
    told(await desk.post("stranger", path, body), 403, "role")
    granting = {"subsystem": STRANGER, "role": "operator", "valid_to": UNTIL, **WHY}
    granted = (await desk.post("operator", "/v1/roles", granting)).json()["role"]
    assert granted["state"] == "valid"
    assert (await desk.post("stranger", path, body)).status_code == 201
    assert (await desk.post("operator", f"/v1/roles/{granted['id']}/revoke", WHY)).status_code == 200
    told(await desk.post("stranger", path, body), 403, "role")


async def test_an_owner_decides_about_its_own_services_only(desk: Desk) -> None:
    version = await desk.version()
    for party in ("other", "caller", "integrator"):
        body = {"client": STRANGER, "service": ECHO, "purposes": ["p"], "valid_to": UNTIL, **WHY}
        told(await desk.post(party, "/v1/grants", body), 403, "role")
    told(await desk.post("other", f"/v1/services/{SECRET}/close", {"notice": "x", **WHY}), 403, "role")
    told(await desk.post("other", f"/v1/services/{PROVIDER}/none/close", {"notice": "x", **WHY}), 403, "role")
    assert await desk.version() == version
