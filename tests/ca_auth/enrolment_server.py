"""`datong ca serve` in a process of its own, and a server that only pretends to be one."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass
class CaServer:
    """A running `datong ca serve`; `kill` and `start` as a test likes."""

    folder: Path
    run: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return (self.run / "serve.log").read_text()

    def start(self) -> None:
        ready = self.run / "ready"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "deploy.cli", "ca", "serve", str(self.folder), "--port", "0"]
        with (self.run / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--ready-file", str(ready), *self.arguments],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        wait_until(lambda: (ready.exists() and ready.read_text()) or self.process is None or self._ended(), within=60)
        assert not self._ended(), self.log
        self.url = ready.read_text()

    def kill(self) -> None:
        """As a power cut does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


@contextmanager
def ca_server(folder: Path, run: Path, *arguments: str) -> Iterator[CaServer]:
    server = CaServer(folder, run, arguments)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()


@dataclass
class Impostor:
    """A TLS server that answers every GET with the certificates given, and writes down all it is sent."""

    port: int
    received: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


@contextmanager
def impostor(certificate: Path, key: Path, shown: bytes) -> Iterator[Impostor]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Impostor(listener.getsockname()[1])
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    raw, _ = listener.accept()
                    raw.settimeout(10)
                    with context.wrap_socket(raw, server_side=True) as connection:
                        server.received.append(connection.recv(65536))
                        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(shown)}\r\nConnection: close\r\n\r\n"
                        connection.sendall(head.encode() + shown)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=5):
                pass
            thread.join(15)
            assert not thread.is_alive()
