"""A small mesh for tests and benchmarks: one provider, one caller with a grant, one without, an auditor. Real parts only.

`python -m deploy.trial_mesh --dir DIR` runs one until its standard input ends, and prints one line of JSON when it is ready.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ca_auth import CertificateRequest, DemoCA
from deploy.nats import ANY_PORT, AdapterUser, BusAddress, BusUsers, NatsServer
from deploy.supervisor import Child, Program, Supervisor
from exchange import NoteSigner, ServiceId, Settings, SubsystemId, compose_uscc, member_of
from registry import Member, Operation, Registry, Role, Service, Subsystem

PROVIDER_CODE, CALLER_CODE, STRANGER_CODE, AUDITOR_CODE, OPERATOR_CODE = (
    compose_uscc("11", "990000", f"0000000{number}") for number in range(1, 6)
)
PROVIDER = SubsystemId(f"CN/GOV/{PROVIDER_CODE}/trial")
CALLER = SubsystemId(f"CN/GOV/{CALLER_CODE}/caller")
STRANGER = SubsystemId(f"CN/GOV/{STRANGER_CODE}/stranger")
AUDITOR = SubsystemId(f"CN/GOV/{AUDITOR_CODE}/audit")
OPERATOR = SubsystemId(f"CN/GOV/{OPERATOR_CODE}/gateway")
ECHO = ServiceId(f"{PROVIDER}/echo")
"""Every method and path, granted to CALLER for the purpose `trial`."""
PARTIES = {"provider": PROVIDER, "caller": CALLER, "stranger": STRANGER, "auditor": AUDITOR, "gateway": OPERATOR}
ROLES_OF: dict[str, tuple[Role, ...]] = {"auditor": ("auditor",), "gateway": ("operator",)}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
HTTP_SOURCE = """\
source = "http"
methods = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"]
allow_addresses = ["127.0.0.0/8"]"""
"""Of a service whose system is on this machine, without its address."""
LARGEST = 8 << 30
"""Bytes of a body that the registry allows; the gateway's and the adapter's own limits are lower."""
FOR_EVER = datetime(2099, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class TrialMesh:
    """A running mesh."""

    folder: Path
    ca: DemoCA
    supervisor: Supervisor
    nats: NatsServer
    registry: Registry
    gateways: list[Child]
    adapters: list[Child]

    @property
    def url(self) -> str:
        """Of the first gateway."""
        return self.gateways[0].ready_text()

    @property
    def pids(self) -> list[int]:
        """Of everything but the backend and this process."""
        return [self.nats.pid, *(child.pid for child in (*self.gateways, *self.adapters))]

    def files(self, party: str) -> tuple[Path, Path]:
        """Certificate and key of a party."""
        return self.folder / "pki" / f"{party}.crt", self.folder / "pki" / f"{party}.key"

    @property
    def trust_anchors(self) -> Path:
        return self.folder / "pki" / "ca.pem"

    async def add_adapter(self, name: str, contract: str, *, module: str = "deploy.cli", **environment: str) -> Child:
        """Start one more adapter of the provider from the text of its contract."""
        folder = self.folder / "adapters" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter.toml").write_text(contract, encoding="utf-8")
        ready = self.folder / "run" / f"{name}.ready"
        arguments = ["adapter", "run", str(folder / "adapter.toml"), "--ready-file", str(ready)]
        program = Program(
            name=name,
            argv=(sys.executable, "-m", module, *arguments),
            ready_file=ready,
            environment=environment,
            restart=False,
        )
        child = await self.supervisor.start(program)
        self.adapters.append(child)
        return child

    async def add_gateway(self, name: str = "gateway", *, module: str = "deploy.cli", **environment: str) -> Child:
        """Start one more gateway on a free port; `environment` sets DATONG_* on top of the mesh's own."""
        ready = self.folder / "run" / f"{name}.ready"
        program = Program(
            name=name,
            argv=(sys.executable, "-m", module, "gateway", "--data", str(self.folder), "--port", "0"),
            ready_file=ready,
            environment={
                "DATONG_BUS_URL": self.nats.url,
                "DATONG_READY_FILE": str(ready),
                "DATONG_GATEWAY_NAME": name,
                **environment,
            },
            restart=False,
        )
        child = await self.supervisor.start(program)
        self.gateways.append(child)
        return child

    def http_contract(self, base_url: str, *, extra: str = "") -> str:
        """A contract whose echo service is an HTTP API."""
        return self.contract(f'{HTTP_SOURCE}\nbase_url = "{base_url}"', extra=extra)

    def contract(self, service: str, *, extra: str = "") -> str:
        """A contract of the provider; `service` is the body of [services.echo], `extra` further sections."""
        return "\n".join(
            (
                "[adapter]",
                'name = "trial"',
                f'subsystem = "{PROVIDER}"',
                "[bus]",
                f'url = "{self.nats.url}"',
                'certificate = "../../pki/provider.crt"',
                'key = "../../pki/provider.key"',
                'trust_anchors = "../../pki/ca.pem"',
                'gateways = "../../pki/gateway.crt"',
                extra,
                "[services.echo]",
                service,
            )
        )


@asynccontextmanager
async def trial_mesh(
    folder: Path, *, registry_database: str = "", log_database: str = "", gateways: int = 1, **environment: str
) -> AsyncIterator[TrialMesh]:
    """Bring up certificates, registry, bus and gateways in `folder`; adapters are added by the caller.

    Args:
        environment: DATONG_* settings of every gateway.
    """
    (folder / "run").mkdir(parents=True, exist_ok=True)
    ca = make_pki(folder)
    url = registry_database or f"sqlite:///{folder / 'registry.db'}"
    registry = await Registry.open(url)
    try:
        await make_registry(registry, ca, folder)
        settings = {"DATONG_REGISTRY_DATABASE": url, **environment}
        if log_database:
            settings["DATONG_LOG_DATABASE"] = log_database
        async with Supervisor(folder / "run") as supervisor:
            pki = folder / "pki"
            address = BusAddress(
                host="127.0.0.1",
                port=ANY_PORT,
                certificate=pki / "nats.crt",
                key=pki / "nats.key",
                trust_anchors=pki / "ca.pem",
            )
            (folder / "nats").mkdir(exist_ok=True)
            nats = NatsServer(supervisor, address, folder=folder / "nats", run_folder=folder / "run", restart=False)
            await nats.start(bus_users())
            mesh = TrialMesh(
                folder=folder, ca=ca, supervisor=supervisor, nats=nats, registry=registry, gateways=[], adapters=[]
            )
            for number in range(gateways):
                await mesh.add_gateway(f"gateway{number}" if number else "gateway", **settings)
            yield mesh
    finally:
        await registry.close()


def bus_users() -> BusUsers:
    """Who may connect to the bus of a trial mesh."""
    adapter = AdapterUser(identity=f"datong:{PROVIDER}", subsystem=PROVIDER, services=frozenset({ECHO}))
    return BusUsers(gateways=frozenset({f"datong:{OPERATOR}"}), adapters=(adapter,), keys=None)


def make_pki(folder: Path) -> DemoCA:
    """Certificates of every party, and the keys of the gateway, in `folder`."""
    ca = DemoCA.open(folder / "pki")
    for name, subsystem in PARTIES.items():
        ca.ensure(name, CertificateRequest.for_subsystem(subsystem))
    ca.ensure("server", CertificateRequest.for_server())
    ca.ensure("nats", CertificateRequest.for_server())
    if not (folder / "log.key").exists():
        (folder / "log.key").write_text(NoteSigner.generate("trial.datong.example/log").skey)
        (folder / "subject.key").write_bytes(os.urandom(32))
    return ca


async def make_registry(registry: Registry, ca: DemoCA, folder: Path) -> None:
    """Members, the echo service, and its grant to CALLER."""
    for name, subsystem in PARTIES.items():
        await registry.add_member(Member(id=member_of(subsystem), name=name), by="trial", why="trial mesh")
        roles: tuple[Role, ...] = ROLES_OF.get(name, ())
        await registry.add_subsystem(Subsystem(id=subsystem, name=name, roles=roles), by="trial", why="trial mesh")
    operations = tuple(Operation.of(method, path) for method in METHODS for path in ("/", "/**"))
    await registry.add_service(
        Service(
            id=ECHO,
            title_zh="回声",
            title_en="Echo",
            operations=operations,
            max_request_bytes=LARGEST,
            max_answer_bytes=LARGEST,
        ),
        by="trial",
        why="trial mesh",
    )
    if not await registry.grants(client=CALLER, service=ECHO):
        await registry.grant(
            client=CALLER, service=ECHO, purposes=["trial"], valid_to=FOR_EVER, by="trial", why="trial mesh"
        )
    provider = ca.ensure("provider", CertificateRequest.for_subsystem(PROVIDER))
    await registry.register_certificate(PROVIDER, provider.der, by="trial", why="trial mesh")


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.run_in_executor(None, _until_end_of_input).add_done_callback(lambda _: stop.set())
    modules: Mapping[str, Sequence[str]] = {
        "full": ("deploy.cli", "deploy.trial_adapter"),
        "http": ("deploy.cli", "deploy.cli"),
        "no-evidence": ("benchmarks.no_evidence", "benchmarks.no_evidence"),
    }
    gateway, adapter = modules[arguments.variant]
    environment = {"log_database": arguments.log_database} if arguments.log_database else {}
    async with trial_mesh(arguments.dir, gateways=0, **environment) as mesh:
        await mesh.add_adapter("adapter", mesh.http_contract(arguments.backend_url), module=adapter)
        await mesh.add_gateway(module=gateway)
        certificate, key = mesh.files("caller")
        ready = {
            "url": f"{mesh.url}/r1/{ECHO}{arguments.path}",
            "headers": {"X-Road-Client": CALLER},
            "pids": mesh.pids,
            "cert": str(certificate),
            "key": str(key),
            "ca": str(mesh.trust_anchors),
            "limit": Settings.model_fields["max_in_progress"].default // 2,  # of one department
        }
        print(json.dumps(ready), flush=True)
        await stop.wait()


def _until_end_of_input() -> None:
    with contextlib.suppress(ValueError):
        sys.stdin.read()


def main() -> None:
    """Run a trial mesh until standard input ends or SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder for its state")
    parser.add_argument("--backend-url", default="http://127.0.0.1:9", help="backend of the http variant")
    parser.add_argument("--path", default="/b/1k", help="path the printed URL asks for")
    parser.add_argument("--variant", choices=("full", "http", "no-evidence"), default="full")
    parser.add_argument("--log-database", default="", help="database URL of the log; default SQLite in --dir")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
