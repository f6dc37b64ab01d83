"""A gateway whose management API a test works with: one caller for each role, over mTLS, and the registry beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from ca_auth import CertificateRequest, client_context
from deploy.trial_mesh import PROVIDER, STRANGER, TrialMesh
from exchange import Language, ServiceId, SubsystemId, member_of
from registry import Operation, Role, Service, Subsystem

INTEGRATOR: Final = SubsystemId(f"{member_of(PROVIDER)}/integrator")
"""Describes what the provider's member offers."""
OTHER: Final = SubsystemId(f"{member_of(STRANGER)}/other")
"""Owner and integrator of another member: nothing here is its business."""
SECRET: Final = ServiceId(f"{PROVIDER}/secret")
"""A service of the provider's that is not listed, and that nobody was granted."""
CLERK: Final = "张三"
WHO: Final[dict[str, Any]] = {"by": "test", "why": "test"}
PARTIES: Final = ("operator", "auditor", "owner", "integrator", "other", "caller", "stranger")
"""One for each role, an owner of something else, the provider's client and a registered subsystem without anything."""


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Desk:
    """Where a test stands."""

    trial: TrialMesh
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    def client(self, party: str | None) -> httpx.AsyncClient:
        """The client of a party; None shows no certificate."""
        name = party or ""
        if name not in self.clients:
            anchors = self.trial.trust_anchors
            context = (
                client_context(anchors, *self.trial.files(_NAMES.get(name, name))) if name else client_context(anchors)
            )
            self.clients[name] = httpx.AsyncClient(base_url=self.trial.url, verify=context, timeout=20, trust_env=False)
        return self.clients[name]

    async def call(
        self, party: str | None, method: str, path: str, body: Any = None, *, lang: Language = "en", **headers: str
    ) -> httpx.Response:
        """One call as a party, by the official `CLERK`; `body` is sent as JSON, bytes as they are."""
        sent = {"accept-language": lang, "x-road-userid": "%E5%BC%A0%E4%B8%89"}
        sent |= {name.replace("_", "-").lower(): value for name, value in headers.items()}
        how: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        if isinstance(body, bytes):
            sent.setdefault("content-type", "application/json")
        return await self.client(party).request(method, path, headers=sent, **how)

    async def get(self, party: str | None, path: str, **more: Any) -> httpx.Response:
        return await self.call(party, "GET", path, **more)

    async def post(self, party: str | None, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return await self.call(party, "POST", path, body, **more)

    def request_of(self, subsystem: SubsystemId) -> CertificateRequest:
        """What a party's certificate was asked for with."""
        return CertificateRequest.for_subsystem(subsystem)

    async def version(self) -> int:
        """The registry's version: it grows with each change, and with nothing else."""
        return await self.trial.registry.version()


def told(response: httpx.Response, status: int, rule: str, pointer: str = "") -> dict[str, Any]:
    """The problem in a response, checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (problem["status"], problem["rule"], problem.get("pointer", "")) == (status, rule, pointer), problem
    return problem


def made(response: httpx.Response, status: int, noun: str) -> dict[str, Any]:
    """The record in the answer to a change, checked."""
    assert response.status_code == status, response.text
    answer = response.json()
    assert answer.keys() == {noun, "change", "recorded"}
    assert response.headers["datong-change"] == str(answer["change"])
    assert answer["recorded"].endswith(f"/v1/changes/{answer['change']}")
    record: dict[str, Any] = answer[noun]
    return record


async def furnish(trial: TrialMesh) -> None:
    """One subsystem for each role, and their certificates."""
    roles: dict[SubsystemId, tuple[Role, ...]] = {
        PROVIDER: ("owner",),
        INTEGRATOR: ("integrator",),
        OTHER: ("owner", "integrator"),
    }
    async with trial.registry.change(**WHO) as change:
        for subsystem, held in roles.items():
            await change.add_subsystem(Subsystem(id=subsystem, name="test", roles=held), replace=True)
        operations = (Operation.of("GET", "/items/{id}"),)
        await change.add_service(Service(id=SECRET, title_zh="不公开的服务", operations=operations, listed=False))
    for name, subsystem in (("integrator", INTEGRATOR), ("other", OTHER)):
        trial.ca.ensure(name, CertificateRequest.for_subsystem(subsystem))


_NAMES: Final = {"operator": "gateway", "owner": "provider"}
"""Parties of the trial mesh that hold a role here."""
