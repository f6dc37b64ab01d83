"""The one-machine mesh of `datong up`: real parts, a CA of its own, departments that answer, state in one folder.

Rules:
1. Everything is made if it is missing and kept if it is there: certificates, keys, registry, log, departments' data.
2. The order of coming up is the order of need: certificates, registry, bus, then backends, witnesses, adapters and gateway at
   once, none of which needs another to start. The children stop in reverse order, the gateway first.
3. Who may be on the bus follows the registry while the mesh runs: a removed certificate is cut off within a second.
4. Nothing here is used by a production mesh, which runs the same gateway and adapters under its own supervisor.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import importlib.util
import ipaddress
import os
from collections.abc import Collection, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ca_auth import CertificateRequest
from deploy import mesh_ca, parts, witnesses
from deploy.admission import bus_users, follow
from deploy.demo import health_records, land_register
from deploy.demo.civil_affairs import build
from deploy.demo.identities import (
    CIVIL_SUBSYSTEM,
    DEPARTMENTS,
    HEALTH_SUBSYSTEM,
    LAND_SUBSYSTEM,
    OPERATOR_SUBSYSTEM,
    TAX_SUBSYSTEM,
)
from deploy.mesh_ca import Wanted
from deploy.nats import NatsServer, nats_server_program
from deploy.parts import Place
from deploy.state import MeshOptions, data_folder, decide, load_state, save_state
from deploy.supervisor import Event, Program, StartError, Supervisor
from exchange import ConflictError, LogReader, NoteSigner, create_engine
from registry import CertificateUse, Registry, RegistryMirror

_SERVER_NAMES = ("localhost", "127.0.0.1", "::1")
_USES: dict[str, tuple[CertificateUse, str]] = {
    TAX_SUBSYSTEM: ("adapter", "tax"),
    CIVIL_SUBSYSTEM: ("adapter", "civil"),
    HEALTH_SUBSYSTEM: ("adapter", "health"),
    LAND_SUBSYSTEM: ("adapter", "land"),
    OPERATOR_SUBSYSTEM: ("gateway", "gateway"),
}
"""What the certificates of those who do not only call are registered for, and the names of their files."""
_LIBRARIES = {"health": "python_calamine"}
"""What an adapter needs that only the extra `demo` brings."""
_LOG_ORIGIN = "demo.datong.example/exchange-log"


@dataclass(slots=True, kw_only=True)
class Report:
    """What came up, filled as it does."""

    place: Place
    reused: bool
    """Whether an earlier run left state here."""
    exchanges: int = 0
    """On record before this run."""
    ca_fingerprint: str = ""
    nats_version: str = ""
    nats_url: str = ""
    members: int = 0
    services: int = 0
    pids: dict[str, int] = field(default_factory=dict)


class Announcer(Protocol):
    """Tells the user."""

    def step(self, name: str, report: Report) -> None:
        """Step `name` is done: state, ca, registry, civil, health, nats, tax, land, witnesses, adapters, gateway."""

    def up(self, report: Report) -> None:
        """All is up."""

    def event(self, event: Event) -> None:
        """Something happened to a child."""

    def trouble(self, name: str, **facts: object) -> None:
        """The mesh goes on without something: not_admitted, not_installed (an adapter), bus_behind (the registry), old_ca."""

    def stopping(self) -> None:
        """The mesh was told to stop, and stops its children now."""


async def bring_up(options: MeshOptions, announcer: Announcer) -> None:
    """Bring a mesh up and keep it up until cancelled; every child of it has ended when this returns or raises.

    Raises:
        MeshStateError: The folder or a port is taken.
        BusServerError, StartError: A part does not start.
    """
    nats_server_program()  # said before anything is made
    with data_folder(options.data):
        earlier = load_state(options.data)
        state = decide(options, earlier, now=datetime.now(UTC))
        place = Place(data=options.data, state=state)
        report = Report(place=place, reused=earlier is not None)
        report.exchanges = await _exchanges_on_record(place) if earlier else 0
        save_state(options.data, state)
        announcer.step("state", report)
        _make_keys(place, report)
        announcer.step("ca", report)
        if mesh_ca.is_old(place):
            announcer.trouble("old_ca")
        registry = await Registry.open(place.registry_database)
        try:
            await _fill_registry(registry, place)
            mirror = RegistryMirror(registry)
            await mirror.start()
            try:
                await _run(place, report, mirror, announcer)
            finally:
                await mirror.stop()
        finally:
            await registry.close()


async def _run(place: Place, report: Report, mirror: RegistryMirror, announcer: Announcer) -> None:
    report.members, report.services = len(mirror.snapshot.members()), len(mirror.snapshot.services())
    announcer.step("registry", report)
    await build(f"sqlite:///{place.civil_database}")
    announcer.step("civil", report)
    await asyncio.to_thread(health_records.build, place.health_files)
    announcer.step("health", report)
    await asyncio.to_thread(land_register.build, place.land_register)
    async with Supervisor(place.run, announcer.event) as supervisor:
        nats = NatsServer(supervisor, parts.bus_address(place), folder=place.folder / "nats", run_folder=place.run)
        users = bus_users(mirror.snapshot)
        await nats.start(users)
        report.nats_version, report.nats_url = nats.version, nats.url
        (place.run / "nats.url").write_text(nats.url, encoding="utf-8")  # for adapters started by hand
        announcer.step("nats", report)
        parts.write_contracts(place, nats.url)
        admitted = {adapter.subsystem for adapter in users.adapters}
        adapters = adapters_to_start(place, admitted, announcer)

        async def start(step: str, *programs: Program) -> None:
            await asyncio.gather(*(supervisor.start(program) for program in programs))
            announcer.step(step, report)

        # Most of a start is loading code: on two cores, all at once takes half the time of one after the other.
        await _all_of(
            start("tax", parts.tax_bureau(place)),
            start("land", parts.land_bureau(place)),
            start("witnesses", *[witnesses.witness(place, office) for office in witnesses.OFFICES]),
            start("adapters", *adapters),
            start("gateway", parts.gateway(place, nats.url)),
        )
        report.pids = {name: child.pid for name, child in supervisor.children.items()}
        announcer.up(report)
        try:
            await follow(nats, mirror, lambda problem: announcer.trouble("bus_behind", problem=problem))
        finally:
            announcer.stopping()


def adapters_to_start(place: Place, admitted: Collection[str], announcer: Announcer) -> list[Program]:
    """The adapters of the demo's departments, without those that cannot run here, which is said.

    Args:
        admitted: Subsystems whose adapters the bus lets in.
    """
    programs = []
    for subsystem, (use, name) in _USES.items():
        if use != "adapter":
            continue
        if name in _LIBRARIES and importlib.util.find_spec(_LIBRARIES[name]) is None:
            announcer.trouble("not_installed", adapter=name)
        elif subsystem in admitted:
            programs.append(parts.adapter(place, name))
        else:
            # Revoked or suspended in an earlier run, on purpose. The rest of the mesh does not wait for it.
            announcer.trouble("not_admitted", adapter=name)
    return programs


async def _all_of(*starts: Coroutine[None, None, None]) -> None:
    """Run all; the first that fails ends the others, and its error is raised."""
    failure: StartError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except* StartError as failed:
        errors = [error for error in failed.exceptions if isinstance(error, StartError)]
        failure = errors[0]
    if failure is not None:
        raise failure


async def _exchanges_on_record(place: Place) -> int:
    path = place.folder / "log.db"
    if not place.state.log_database and not path.exists():
        return 0  # the first start ended before the gateway made it
    engine = create_engine(place.log_database)
    try:
        return (await LogReader(engine).counts())[0]
    finally:
        await engine.dispose()


def _make_keys(place: Place, report: Report) -> None:
    wanted = {}
    for department in DEPARTMENTS:
        name = "gateway" if department.subsystem == OPERATOR_SUBSYSTEM else department.key
        request = CertificateRequest.for_subsystem(department.subsystem, department.name_zh)
        wanted[name] = Wanted(request=request, attended=department.subsystem in _USES)
    host = place.state.host
    names = () if host in _SERVER_NAMES or _is_unspecified(host) else (host,)
    server = replace(CertificateRequest.for_server(*names), self_renewing=True)
    wanted["server"] = Wanted(request=server, attended=True)
    wanted["nats"] = Wanted(request=CertificateRequest.for_server())
    _make_secret(place.folder / "subject.key", os.urandom(32))
    _make_secret(place.folder / "log.key", NoteSigner.generate(_LOG_ORIGIN).skey.encode())
    witnesses.make_policy(place)
    report.ca_fingerprint = mesh_ca.make_certificates(place, wanted)


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _make_secret(path: Path, content: bytes) -> None:
    """Write a secret once; a later start keeps it, and so does one that follows a crash in the middle of this."""
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


async def _fill_registry(registry: Registry, place: Place) -> None:
    with importlib.resources.as_file(importlib.resources.files("deploy.demo") / "seed.toml") as seed:
        await registry.seed(seed, by="datong up", why="demo seed")
    snapshot = await registry.snapshot()
    for department in DEPARTMENTS:
        if department.subsystem not in _USES:
            continue
        use, name = _USES[department.subsystem]
        known = [
            each.active for each in snapshot.certificates() if (each.subsystem, each.use) == (department.subsystem, use)
        ]
        if known and not any(known):
            continue  # revoked, on purpose: a new certificate from the CA does not undo that
        certificate = (place.pki / f"{name}.crt").read_bytes()
        try:
            await registry.register_certificate(
                department.subsystem, certificate, use=use, by="datong up", why="demo certificate"
            )
        except ConflictError:
            # It was revoked since, on purpose: a start does not undo that.
            continue
