"""The parts of a one-machine mesh: where each keeps its things, and how each is started."""

from __future__ import annotations

import importlib.resources
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.adapters import civil_adapter, health_adapter, land_adapter, tax_adapter
from deploy.nats import ANY_PORT, BusAddress
from deploy.state import MeshState
from deploy.supervisor import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things of one mesh are."""

    data: Path
    """As the user wrote it: printed paths and commands start with it."""
    state: MeshState

    @property
    def folder(self) -> Path:
        """The data folder, absolute."""
        return self.data.resolve()

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def ca(self) -> Path:
        """Folder of the CA; not there in a data folder of an older version."""
        return self.folder / "ca"

    @property
    def trust_file(self) -> Path:
        return self.folder / "trust.toml"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def registry_database(self) -> str:
        return self.state.database or f"sqlite:///{self.folder / 'registry.db'}"

    @property
    def log_database(self) -> str:
        return self.state.log_database or f"sqlite:///{self.folder / 'log.db'}"

    @property
    def nonce_database(self) -> str:
        return f"sqlite:///{self.folder / 'nonces.db'}"

    @property
    def quota_database(self) -> str:
        return f"sqlite:///{self.folder / 'quotas.db'}"

    @property
    def subject_database(self) -> str:
        return f"sqlite:///{self.folder / 'subjects.db'}"

    @property
    def witness_policy(self) -> Path:
        return self.folder / "witness-policy.txt"

    @property
    def civil_database(self) -> Path:
        return self.folder / "backends" / "civil.sqlite"

    @property
    def health_files(self) -> Path:
        """The health bureau's own folder."""
        return self.folder / "backends" / "health"

    @property
    def land_register(self) -> Path:
        """The natural-resources bureau's own register."""
        return self.folder / "backends" / "land.sqlite"

    @property
    def land_url(self) -> str:
        """Its own SOAP service."""
        return f"http://127.0.0.1:{self.state.land_port}/services/land"

    @property
    def gateway_url(self) -> str:
        host = self.state.host
        name = "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        return f"https://{name}:{self.state.port}"

    @property
    def backend_url(self) -> str:
        """The tax bureau's own API."""
        return f"http://127.0.0.1:{self.state.backend_port}"


def bus_address(place: Place) -> BusAddress:
    """Where the bus listens, and its certificate."""
    return BusAddress(
        host="127.0.0.1",
        port=place.state.nats_port or ANY_PORT,
        certificate=place.pki / "nats.crt",
        key=place.pki / "nats.key",
        trust_anchors=place.pki / "ca.pem",
    )


def write_contracts(place: Place, bus_url: str) -> None:
    """Write each department's `adapter.toml`: addresses in it are those of this run."""
    renewal_url = place.gateway_url if place.ca.exists() else ""
    for name, text in {
        "tax": tax_adapter(bus_url=bus_url, base_url=place.backend_url, renewal_url=renewal_url),
        "civil": civil_adapter(bus_url=bus_url, renewal_url=renewal_url),
        "health": health_adapter(bus_url=bus_url, renewal_url=renewal_url),
        "land": land_adapter(bus_url=bus_url, address=place.land_url, renewal_url=renewal_url),
    }.items():
        folder = place.folder / "adapters" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter.toml").write_text(text, encoding="utf-8")
    # As a department has it: a file that was handed over when the system was built.
    wsdl = importlib.resources.files("deploy.demo") / "land_bureau.wsdl"
    (place.folder / "adapters" / "land" / "land_bureau.wsdl").write_bytes(wsdl.read_bytes())


def tax_bureau(place: Place) -> Program:
    """The tax bureau's own system."""
    folder = place.folder / "backends"
    folder.mkdir(exist_ok=True)
    ready = place.run / "tax-bureau.port"
    return Program(
        name="tax-bureau",
        argv=(
            *python("deploy.demo.tax_bureau"),
            *("--data", str(folder), "--port", str(place.state.backend_port), "--port-file", str(ready)),
        ),
        ready_file=ready,
        environment=module_path(),
    )


def land_bureau(place: Place) -> Program:
    """The natural-resources bureau's own system."""
    ready = place.run / "land-bureau.port"
    return Program(
        name="land-bureau",
        argv=(
            *python("deploy.demo.land_bureau"),
            *("--data", str(place.land_register.parent)),
            *("--port", str(place.state.land_port), "--port-file", str(ready)),
        ),
        ready_file=ready,
        environment=module_path(),
    )


def adapter(place: Place, name: str) -> Program:
    """The adapter of one department."""
    ready = place.run / f"adapter-{name}.ready"
    contract = place.folder / "adapters" / name / "adapter.toml"
    return Program(
        name=f"adapter-{name}",
        argv=(*python("deploy.cli"), "adapter", "run", str(contract), "--ready-file", str(ready)),
        ready_file=ready,
        environment=module_path(),
    )


def gateway(place: Place, bus_url: str) -> Program:
    """The gateway."""
    ready = place.run / "gateway.url"
    pki = place.pki
    settings = {
        "TRUST_ANCHORS": pki / "ca.pem",
        "SERVER_CERTIFICATE": pki / "server.crt",
        "SERVER_KEY": pki / "server.key",
        "GATEWAY_CERTIFICATE": pki / "gateway.crt",
        "GATEWAY_KEY": pki / "gateway.key",
        "LOG_KEY": place.folder / "log.key",
        "SUBJECT_KEY": place.folder / "subject.key",
        "KEYS_FILE": place.folder / "keys.json",
        "HOST": place.state.host,
        "PORT": place.state.port,
        "PUBLIC_URL": place.gateway_url,
        "BUS_URL": bus_url,
        "REGISTRY_DATABASE": place.registry_database,
        "LOG_DATABASE": place.log_database,
        "NONCE_DATABASE": place.nonce_database,
        "QUOTA_DATABASE": place.quota_database,
        "SUBJECT_DATABASE": place.subject_database,
        "WITNESS_POLICY": place.witness_policy,
        "READY_FILE": ready,
        "REVOCATION_FOLDER": place.folder / "revocation",
    }
    if place.ca.exists():
        settings |= {"TRUST_FILE": place.trust_file, "CA_FOLDER": place.ca, "RENEWAL_URL": place.gateway_url}
    return Program(
        name="gateway",
        argv=(*python("deploy.cli"), "gateway"),
        ready_file=ready,
        environment={f"DATONG_{name}": str(value) for name, value in settings.items()} | module_path(),
    )


def python(module: str) -> tuple[str, ...]:
    """The command that runs one of our modules."""
    # -P: a folder the user happens to stand in must not lend us a package called `gateway`.
    return (sys.executable, "-P", "-m", module)


def module_path() -> dict[str, str]:
    """Where our packages are, for children: also when Datong runs from its source tree without being installed."""
    ours = str(Path(__file__).resolve().parents[1])
    return {"PYTHONPATH": os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH", ""))))}
