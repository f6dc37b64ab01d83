"""What all tests share: real certificates, a real bus, free ports. Each part is made when first asked for."""

from __future__ import annotations

import importlib.util
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from ca_auth import CertificateRequest, DemoCA, IssuedCertificate, identity_uri
from deploy.demo.identities import CIVIL_SUBSYSTEM, DEPARTMENTS, OPERATOR_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import ANY_PORT, AdapterUser, BusAddress, BusServerError, BusUsers, NatsServer, nats_server_program
from deploy.state import free_port
from deploy.supervisor import Supervisor
from exchange import ServiceId, SubsystemId, bus_tls
from tests.ci import missing

_WITH_FIXTURES = ("tests.databases", "tests.foreign.verifiers", "tests.mariadb")
pytest_plugins = [name for name in _WITH_FIXTURES if importlib.util.find_spec(name)]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes that are no text name no test: packers put the time into theirs, and all processes must name tests alike."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode().isprintable()):
        return argname
    return None


@pytest.fixture(autouse=True)
def _events_go_to_this_test() -> Iterator[None]:
    """A command run inside a test points the events at that test's standard error, which is closed after it."""
    yield
    structlog.reset_defaults()


@dataclass(frozen=True, slots=True)
class Pki:
    """One demo CA with the certificates of the demo mesh, named as in a data folder: `tax`, `gateway`, `server`, ..."""

    ca: DemoCA
    folder: Path
    issued: dict[str, IssuedCertificate]

    @property
    def trust_anchors(self) -> Path:
        return self.ca.bundle

    def certificate(self, name: str) -> Path:
        return self.issued[name].certificate

    def key(self, name: str) -> Path:
        return self.issued[name].key

    def bus_tls(self, name: str) -> ssl.SSLContext:
        """Towards the bus, as `name`."""
        return bus_tls(self.certificate(name), self.key(name), self.trust_anchors)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """One demo CA for the whole run, with certificates for the departments of the demo, the gateway and the servers."""
    folder = tmp_path_factory.mktemp("pki")
    ca = DemoCA.create(folder)
    requests = {
        department.key: CertificateRequest.for_subsystem(department.subsystem, department.name_zh)
        for department in DEPARTMENTS
    }
    requests["gateway"] = requests.pop("operator")
    requests["server"] = CertificateRequest.for_server()
    requests["nats"] = CertificateRequest.for_server()
    return Pki(ca, folder, {name: ca.issue(name, request) for name, request in requests.items()})


@pytest.fixture
def free_ports() -> Callable[[], int]:
    """Each call returns a port of the loopback address that nobody listens on."""
    return lambda: free_port("127.0.0.1")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty data folder, for its owner only, with `run` in it."""
    folder = tmp_path / "data"
    (folder / "run").mkdir(parents=True)
    folder.chmod(0o700)
    return folder


def bus_users(services: dict[SubsystemId, tuple[str, ...]] | None = None) -> BusUsers:
    """The demo's gateway, and adapters with the given service codes (default: those of the demo)."""
    if services is None:
        services = {TAX_SUBSYSTEM: ("enterprises",), CIVIL_SUBSYSTEM: ("divisions", "residents")}
    return BusUsers(
        gateways=frozenset({identity_uri(OPERATOR_SUBSYSTEM)}),
        adapters=tuple(
            AdapterUser(
                identity=identity_uri(subsystem),
                subsystem=subsystem,
                services=frozenset(ServiceId(f"{subsystem}/{code}") for code in codes),
            )
            for subsystem, codes in sorted(services.items())
        ),
        keys=None,
    )


@pytest.fixture
async def nats_server(pki: Pki, data_dir: Path) -> AsyncIterator[NatsServer]:
    """A bus of the demo mesh on a free port, over mTLS. It is not restarted: a test may stop, kill and start it."""
    try:
        nats_server_program()
    except BusServerError as error:
        missing(str(error))
    address = BusAddress(
        host="127.0.0.1",
        port=ANY_PORT,
        certificate=pki.certificate("nats"),
        key=pki.key("nats"),
        trust_anchors=pki.trust_anchors,
    )
    async with Supervisor(data_dir / "run") as supervisor:
        server = NatsServer(supervisor, address, folder=data_dir / "nats", run_folder=data_dir / "run", restart=False)
        await server.start(bus_users())
        yield server
