"""Starts every peer on free ports and says how to reach it."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import nginx
from benchmarks.pki import Pki
from benchmarks.processes import Processes, free_port
from benchmarks.targets import Target
from benchmarks.toolchain import Toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """The running peers.

    Attributes:
        backend_url: The HTTP backend (GET `/b/1k`), shared by nginx, the plain proxies and the mesh's HTTP source.
        backend_pids: What that backend runs as; its CPU time belongs to whoever calls it.
    """

    targets: tuple[Target, ...]
    backend_url: str
    backend_pids: tuple[int, ...]


def start_peers(processes: Processes, tools: Toolchain, pki: Pki, work: Path) -> Peers:
    """Start all peers and return when each of them accepts connections.

    Args:
        work: Folder for configurations; it exists.

    Raises:
        BenchError: One of them did not start.
    """
    starter = _Starter(processes=processes, pki=pki)
    edge, backend = free_port(), free_port()
    conf = nginx.write_config(work / "nginx", pki, edge=edge, backend=backend)
    nginx_pid = starter.start("nginx", [tools.nginx, "-p", conf.parent, "-e", "stderr", "-c", conf], port=edge)
    nats = free_port()
    nats_pid = starter.start("nats", [tools.nats_server, "-a", "127.0.0.1", "-p", str(nats)], port=nats)
    nats_url = f"nats://127.0.0.1:{nats}"
    responder = [sys.executable, "-m", "benchmarks.peers.faststream_rpc", nats_url]
    responder_pid = starter.start("faststream-responder", responder, port=None)
    backend_url = f"http://127.0.0.1:{backend}"
    targets = (
        Target(
            name="nginx",
            role="peer",
            url=f"https://127.0.0.1:{edge}{nginx.BODY_PATH}",
            local_url=f"https://127.0.0.1:{edge}{nginx.LOCAL_PATH}",
            identity=pki.client,
            pids=(nginx_pid,),
        ),
        starter.python("httpx", path=nginx.BODY_PATH, behind=backend_url, behind_pids=(nginx_pid,)),
        starter.python("aiohttp", path=nginx.BODY_PATH, behind=backend_url, behind_pids=(nginx_pid,)),
        starter.python("faststream", path="/rpc", behind=nats_url, behind_pids=(responder_pid, nats_pid)),
        starter.python("bare", path="/", behind="", behind_pids=(), local=True),
    )
    starter.wait_for_all()
    return Peers(targets=targets, backend_url=backend_url, backend_pids=(nginx_pid,))


class _Starter:
    """Starts processes first and waits afterwards, so that slow imports overlap."""

    def __init__(self, *, processes: Processes, pki: Pki) -> None:
        self._processes = processes
        self._pki = pki
        self._waiting: list[tuple[str, subprocess.Popen[bytes], int]] = []

    def start(self, name: str, command: Sequence[str | Path], *, port: int | None) -> int:
        process = self._processes.start(name, command)
        if port is not None:
            self._waiting.append((name, process, port))
        return process.pid

    def python(self, name: str, *, path: str, behind: str, behind_pids: tuple[int, ...], local: bool = False) -> Target:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.peers.serve", name]
        options = ["--port", str(port), "--pki", str(self._pki.folder), "--behind", behind]
        pid = self.start(name, [*command, *options], port=port)
        url = f"https://127.0.0.1:{port}{path}"
        return Target(
            name=name,
            role="peer",
            url=url,
            local_url=url if local else None,
            identity=self._pki.client,
            pids=(pid, *behind_pids),
        )

    def wait_for_all(self) -> None:
        for name, process, port in self._waiting:
            self._processes.wait_listening(name, process, port)
