"""The demo's seed in a real registry: what it permits and refuses, and that it matches what the departments offer."""

from __future__ import annotations

import re
import tomllib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from department_adapters.files.section import FilesService
from deploy.demo import adapters, identities
from deploy.demo.identities import (
    CIVIL_SUBSYSTEM,
    DEPARTMENTS,
    HEALTH_SUBSYSTEM,
    HOUSING_SUBSYSTEM,
    LAND_SUBSYSTEM,
    STRANGER_SUBSYSTEM,
    TAX_SUBSYSTEM,
)
from deploy.demo.tax_bureau import create_app
from deploy.demo.tax_register import Register
from exchange import AccessDeniedError, ServiceId
from registry import Registry, Snapshot, read_seed

SEED = Path(identities.__file__).with_name("seed.toml")
ENTERPRISES = ServiceId(f"{TAX_SUBSYSTEM}/enterprises")
DIVISIONS = ServiceId(f"{CIVIL_SUBSYSTEM}/divisions")
RESIDENTS = ServiceId(f"{CIVIL_SUBSYSTEM}/residents")
BIRTHS = ServiceId(f"{HEALTH_SUBSYSTEM}/births")
PROPERTIES = ServiceId(f"{LAND_SUBSYSTEM}/properties")
NOW = datetime(2027, 6, 1, tzinfo=UTC).timestamp()
RENTAL = "public-rental-housing"


@pytest.fixture
async def snapshot(tmp_path: Path) -> AsyncIterator[Snapshot]:
    registry = await Registry.open(f"sqlite:///{tmp_path}/registry.db")
    await registry.seed(SEED)
    assert not (await registry.seed(SEED)).differing  # a second start finds what the first registered
    yield await registry.snapshot()
    await registry.close()


def test_the_seed_names_each_department_as_the_constants_do() -> None:
    seed = read_seed(SEED)
    assert [(member.id, member.name, member.name_en) for member in seed.members] == [
        (department.member, department.name_zh, department.name_en) for department in DEPARTMENTS
    ]
    assert [(s.code, s.name, s.name_en) for member in seed.members for s in member.subsystems] == [
        (department.system, department.system_zh, department.system_en) for department in DEPARTMENTS
    ]


def test_roles_are_with_those_who_need_them(snapshot: Snapshot) -> None:
    roles = {subsystem.id: subsystem.roles for subsystem in snapshot.subsystems()}
    assert roles[identities.AUDIT_SUBSYSTEM] == ("auditor",)
    assert roles[identities.OPERATOR_SUBSYSTEM] == ("operator",)
    assert roles[HOUSING_SUBSYSTEM] == roles[STRANGER_SUBSYSTEM] == ()


@pytest.mark.parametrize(
    ("service", "method", "path", "safe"),
    [
        (ENTERPRISES, "GET", "enterprises/X", True),
        (ENTERPRISES, "GET", "enterprises/X/arrears", True),
        (ENTERPRISES, "POST", "enterprises/X/certificates", False),
        (RESIDENTS, "GET", "residents/X", True),
        (RESIDENTS, "GET", "residents/X/marriage", True),
        (DIVISIONS, "GET", "divisions", True),
        (DIVISIONS, "GET", "divisions/450103", True),
        (BIRTHS, "GET", "births/X", True),
        (PROPERTIES, "GET", "owners/X/properties", True),
    ],
)
@pytest.mark.parametrize("purpose", [RENTAL, None])
async def test_housing_may_ask_what_it_needs_for_rental_housing(
    snapshot: Snapshot, service: ServiceId, method: str, path: str, safe: bool, purpose: str | None
) -> None:
    """With the purpose named or, as an X-Road client would, without."""
    decision = snapshot.decide(HOUSING_SUBSYSTEM, service, method, tuple(path.split("/")), purpose, NOW)
    assert (decision.purpose, decision.operation.safe) == (RENTAL, safe)
    with pytest.raises(AccessDeniedError):
        snapshot.decide(STRANGER_SUBSYSTEM, service, method, tuple(path.split("/")), purpose, NOW)


@pytest.mark.parametrize(
    ("method", "path", "purpose", "because"),
    [
        ("GET", "enterprises", RENTAL, "2023-12-31|ended|expired|until"),
        ("GET", "certificates/X", RENTAL, "talent-housing"),
        ("GET", "enterprises/X", "curiosity", RENTAL),
        ("DELETE", "enterprises/X", RENTAL, "DELETE"),
    ],
)
async def test_housing_is_refused_what_its_grants_do_not_cover(
    snapshot: Snapshot, method: str, path: str, purpose: str, because: str
) -> None:
    with pytest.raises(AccessDeniedError) as refusal:
        snapshot.decide(HOUSING_SUBSYSTEM, ENTERPRISES, method, tuple(path.split("/")), purpose, NOW)
    assert re.search(because, str(refusal.value))


async def test_what_is_registered_is_what_the_departments_offer(snapshot: Snapshot, tmp_path: Path) -> None:
    """The tax bureau's own document and the other adapters' files list the same operations as the seed."""
    offered = {
        ServiceId(f"{CIVIL_SUBSYSTEM}/{code}"): {("GET", operation["path"]) for operation in service["operations"]}
        for code, service in tomllib.loads(adapters.civil_adapter(bus_url="tls://127.0.0.1:1"))["services"].items()
    }
    for code, service in tomllib.loads(adapters.health_adapter(bus_url="tls://127.0.0.1:1"))["services"].items():
        paths = FilesService.model_validate(service).paths()
        offered[ServiceId(f"{HEALTH_SUBSYSTEM}/{code}")] = {("GET", path) for path in paths}
    register = Register(tmp_path / "tax.sqlite")
    transport = httpx.ASGITransport(create_app(register, lambda: datetime.now(UTC)))
    async with httpx.AsyncClient(transport=transport, base_url="http://bureau") as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    register.close()
    offered[ENTERPRISES] = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    for service, operations in offered.items():
        registered = snapshot.service(service)
        assert registered is not None
        assert {(operation.method, operation.path) for operation in registered.operations} == operations
