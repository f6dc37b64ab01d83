"""A whole mesh to call: real gateway, adapter and bus processes, a backend of ours, callers with real certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ca_auth import CertificateRequest, DemoCA, IssuedCertificate
from deploy.nats import AdapterUser, BusUsers
from deploy.trial_mesh import CALLER, FOR_EVER, HTTP_SOURCE, OPERATOR, PROVIDER, TrialMesh, trial_mesh
from exchange import LogReader, SubsystemId, member_of
from exchange.storage.database import create_engine
from registry import Operation, Registry, Service, Subsystem
from tests.gateway.echo_backend import EchoBackend, echo_backend
from tests.gateway.exchange_mesh import Mesh, service
from tests.gateway.management_desk import Desk, furnish

WHO: dict[str, Any] = {"by": "test", "why": "test"}
GHOST = SubsystemId(f"{member_of(CALLER)}/ghost")
"""A subsystem that a certificate names and nobody registered."""
SIBLING = SubsystemId(f"{member_of(CALLER)}/sibling")
"""A registered subsystem of the caller's member, with a grant for `records` only."""

ANYTHING = tuple(
    Operation.of(method, path)
    for method in ("GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE")
    for path in ("/", "/**")
)
RECORDS = (
    Operation.of("GET", "/records/{number}"),
    Operation.of("PATCH", "/records/{number}"),
    Operation.of("POST", "/records"),
    Operation.of("GET", "/open/{name}"),
)


ODD = "It's_(1+1)=2,-or.v2?"
"""A service code with every kind of character that one may have."""
SERVED = ("echo", "records", "slow", "choosy", "revoked", "signed", "down")
"""Services of the mesh's one adapter; `down` has a backend that nobody runs."""
LISTENING = (*SERVED, "mortal", "rogue", ODD)
"""Services that the bus lets the provider serve."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """One mesh for a module, with one gateway and one adapter."""
    folder = tmp_path_factory.mktemp("mesh")
    async with echo_backend() as backend, trial_mesh(folder, gateways=0) as trial:
        await register(trial)
        await trial.nats.set_users(bus_users())
        large = str(1 << 30)
        await asyncio.gather(
            trial.add_adapter("adapter", contract(trial, backend)), trial.add_gateway(DATONG_MAX_BODY=large)
        )
        engine = create_engine(f"sqlite:///{folder / 'log.db'}")
        mesh = Mesh(trial=trial, backend=backend, log=LogReader(engine), certificates=issue(trial, folder))
        try:
            yield mesh
            # A record too many, left after its test, is found here.
            assert (await mesh.log.counts())[0] == mesh.recorded
        finally:
            await asyncio.gather(*(client.aclose() for client in mesh.clients.values()))
            await engine.dispose()
            # The bus last: one that a test has started again would be stopped first.
            for name in [*trial.supervisor.children][::-1]:
                if name != "nats-server":
                    await trial.supervisor.stop_child(name)


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(running_mesh: Mesh) -> AsyncIterator[Mesh]:
    """The module's mesh; after each test its log holds exactly one entry for each attempt made so far, beside changes."""
    yield running_mesh
    found = (await running_mesh.log.counts())[0]
    expected, running_mesh.recorded = running_mesh.recorded, found  # one test's fault is not the next one's
    assert found == expected


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """One gateway for a module, to manage."""
    async with trial_mesh(tmp_path_factory.mktemp("desk"), gateways=0) as trial:
        await furnish(trial)
        await trial.add_gateway()
        desk = Desk(trial=trial)
        try:
            yield desk
        finally:
            await asyncio.gather(*(client.aclose() for client in desk.clients.values()))


async def register(trial: TrialMesh) -> None:
    """Services and grants of these tests, in one transaction."""
    now = datetime.now(UTC)

    def declared(code: str, operations: tuple[Operation, ...] = ANYTHING, **more: Any) -> Service:
        return Service(id=service(code), title_zh="测试", title_en="Test", operations=operations, **more)

    async with trial.registry.change(**WHO) as change:
        await change.add_subsystem(Subsystem(id=SIBLING, name="sibling"))
        await change.add_service(declared("records", RECORDS, max_request_bytes=1000))
        await change.add_service(declared("slow", timeout=0.4))
        await change.add_service(declared("mortal", timeout=2.0))
        await change.add_service(declared("rogue", timeout=2.0, max_answer_bytes=1 << 20))
        for code in ("absent", "choosy", "closed", "down", "expired", "future", "revoked", "signed", "ungranted", ODD):
            await change.add_service(declared(code))
        await change.set_service_state(service("closed"), is_open=False, notice="盘点停用 Closed for stocktaking")
    far: dict[str, Any] = {"valid_to": FOR_EVER, "client": CALLER, **WHO}
    for code in ("absent", "closed", "down", "mortal", "rogue", "slow", ODD):
        await trial.registry.grant(service=service(code), purposes=["trial"], **far)
    await trial.registry.grant(service=service("signed"), purposes=["trial", "review"], signed_requests=True, **far)
    await trial.registry.grant(service=service("choosy"), purposes=["review", "audit"], **far)
    await trial.registry.grant(service=service("revoked"), purposes=["trial"], grant_id="to-be-revoked", **far)
    await trial.registry.grant(service=service("records"), purposes=["review"], method="GET", path="/records/*", **far)
    await trial.registry.grant(service=service("records"), purposes=["review"], method="POST", path="/records", **far)
    await trial.registry.grant(service=service("records"), purposes=["review"], path="/open/**", **far)
    sibling = {**far, "client": SIBLING}
    await trial.registry.grant(service=service("records"), purposes=["review"], **sibling)
    past: dict[str, Any] = {"valid_from": now - timedelta(days=2), "valid_to": now - timedelta(days=1)}
    # What is decided today cannot begin before today: this one was decided then.
    then = await Registry.open(f"sqlite:///{trial.folder / 'registry.db'}", clock=lambda: past["valid_from"])
    await then.grant(service=service("expired"), purposes=["trial"], client=CALLER, **past, **WHO)
    await then.close()
    await trial.registry.grant(service=service("future"), purposes=["trial"], valid_from=now + timedelta(days=1), **far)


def bus_users() -> BusUsers:
    adapter = AdapterUser(
        identity=f"datong:{PROVIDER}", subsystem=PROVIDER, services=frozenset(map(service, LISTENING))
    )
    return BusUsers(gateways=frozenset({f"datong:{OPERATOR}"}), adapters=(adapter,), keys=None)


def contract(trial: TrialMesh, backend: EchoBackend) -> str:
    """The adapter's contract: every served service on the backend, `down` on a port of nobody."""
    sections = [f'[services.{code}]\n{HTTP_SOURCE}\nbase_url = "{backend.url}"' for code in SERVED[1:-1]]
    sections[SERVED.index("signed") - 1] += "\nsigned_requests = true"
    sections.append(f'[services.down]\n{HTTP_SOURCE}\nbase_url = "http://127.0.0.1:9/secret-prefix"')
    # Tests of one service share it, and some make its system fail: what the breaker does is tested where it is.
    patient = "breaker = {failures = 1000}"
    limits = f"[limits]\nmax_request = {1 << 30}\nmax_answer = {1 << 30}"
    extra = "\n".join([limits, *[f"{section}\n{patient}" for section in sections]])
    return f"{trial.http_contract(backend.url, extra=extra)}\n{patient}"


def issue(trial: TrialMesh, folder: Path) -> dict[str, IssuedCertificate]:
    """Certificates beyond those of the trial mesh's parties."""
    now = datetime.now(UTC)
    caller = CertificateRequest.for_subsystem(CALLER)
    foreign = DemoCA.create(folder / "foreign", name="Somebody else's root")
    return {
        "member": trial.ca.issue("member", CertificateRequest.for_member(member_of(CALLER))),
        "ghost": trial.ca.issue("ghost", CertificateRequest.for_subsystem(GHOST)),
        "expired": trial.ca.issue("expired", caller, not_after=now - timedelta(hours=1)),
        "early": trial.ca.issue("early", caller, not_before=now + timedelta(hours=1)),
        "foreign": foreign.issue("caller", caller),
        "nobody": trial.ca.issue("nobody", CertificateRequest(common_name="nobody", server_names=("localhost",))),
    }
