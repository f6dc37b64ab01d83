"""Large bodies through the mesh and through a plain proxy: `python -m benchmarks.large_bodies --size 1024 --rounds 3`.

1. A body of so many MiB as an answer, and as a request: through the whole mesh, and through FastAPI with aiohttp, which passes
   it on as it comes. Both speak mTLS to the same client and HTTP to the same backend, on this machine.
2. They take turns, and the ratio is taken within each round. The time is the client's: to the last byte of the answer.
3. The most memory that the gateway and the adapter ever had is read when all is over (VmHWM of each process).
"""

import argparse
import asyncio
import datetime as dt
import json
import shutil
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import uvloop

from benchmarks.errors import BenchError
from benchmarks.https import client_context
from benchmarks.machine import hardware, revision
from benchmarks.pki import make_pki
from benchmarks.processes import Processes, free_port
from benchmarks.progress import say
from benchmarks.targets import Identity
from deploy.trial_mesh import CALLER, ECHO, LARGEST, trial_mesh

HERE = Path(__file__).resolve().parent
_PIECE = bytes(range(256)) * 1024
Direction = Literal["answer", "request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One body that went through."""

    server: str
    direction: Direction
    round: int
    bytes: int
    seconds: float

    @property
    def rate(self) -> float:
        """MiB a second."""
        return self.bytes / self.seconds / (1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What bodies are sent through."""

    name: str
    port: int
    path: str
    context: ssl.SSLContext
    headers: Sequence[str] = ()


class Backend(asyncio.Protocol):
    """`GET /N` answers N bytes; any other method takes a body, and answers how many bytes it had."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._missing: int | None = None
        self._length = 0
        self._to_send = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 20)

    def data_received(self, data: bytes) -> None:
        if self._missing is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            method, target, _ = head.split(b"\r\n")[0].split(b" ")
            if method == b"GET":
                self._to_send = int(target.rpartition(b"/")[2])
                self._write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._to_send)
                self._send()
                return
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self._length = self._missing = int(lengths[0][15:])
        self._missing -= len(data)
        if not self._missing:
            self._missing = None
            said = b"%d" % self._length
            self._write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def _send(self) -> None:
        while self._to_send and not self._paused:
            piece = _PIECE[: self._to_send]
            self._to_send -= len(piece)
            self._write(piece)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def _serve_backend(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port)
    await server.serve_forever()


class _Client(asyncio.Protocol):
    """One request, its answer, the end. The future is the number of bytes of the answer's body."""

    def __init__(self, request: bytes, body: int) -> None:
        self._request = request
        self._to_send = body
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._missing: int | None = None
        self._paused = False
        self.size = 0
        self.body = b""
        """The first bytes of it."""
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 20)

    def ask(self) -> None:
        assert self._transport is not None
        self._transport.write(self._request)
        self._send()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def _send(self) -> None:
        while self._to_send and not self._paused and self._transport is not None:
            piece = _PIECE[: self._to_send]
            self._to_send -= len(piece)
            self._transport.write(piece)

    def data_received(self, data: bytes) -> None:
        if self._missing is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            lines = head.lower().split(b"\r\n")
            lengths = [line for line in lines if line.startswith(b"content-length:")]
            if int(head[9:12]) != 200 or not lengths:
                self._fail(BenchError(f"answered {(head + data)[:600].decode(errors='replace')}"))
                return
            self._missing = int(lengths[0][15:])
        self._missing -= len(data)
        self.size += len(data)
        self.body = (self.body + data[:100])[:100]
        if not self._missing and not self.done.done():
            self.done.set_result(self.size)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(BenchError(f"the connection ended after {self.size} bytes: {error}"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def transfer(server: Server, direction: Direction, size: int, number: int) -> Transfer:
    """Move one body and time it; raises BenchError if it did not arrive whole."""
    method, path, body = ("GET", f"/{size}", 0) if direction == "answer" else ("POST", "/sink", size)
    lines = [f"{method} {server.path}{path} HTTP/1.1", f"Host: localhost:{server.port}", *server.headers]
    lines += [f"Content-Length: {body}"] if body else []
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(
        lambda: _Client(request, body), "127.0.0.1", server.port, ssl=server.context, server_hostname="localhost"
    )
    started = time.perf_counter()
    client.ask()
    arrived = await client.done
    seconds = time.perf_counter() - started
    transport.abort()
    if (arrived if direction == "answer" else int(client.body)) != size:
        raise BenchError(f"{server.name}: of {size} bytes of a {direction} {arrived} arrived")
    return Transfer(server=server.name, direction=direction, round=number, bytes=size, seconds=seconds)


def peak_memory(pid: int) -> float:
    """The most memory that a process ever had, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise BenchError(f"process {pid} tells nothing of its memory")


async def measure(size: int, rounds: int, work: Path, note: Callable[[Transfer], None]) -> dict[str, float]:
    """Move bodies through both; the peak memory of gateway and adapter, MiB."""
    (work / "logs").mkdir()
    async with AsyncExitStack() as stack:
        processes = stack.enter_context(Processes(work / "logs"))
        backend, proxy = free_port(), free_port()
        pki = make_pki(work / "pki", now=dt.datetime.now(dt.UTC))
        started = {
            "backend": ([sys.executable, "-m", "benchmarks.large_bodies", "--backend", str(backend)], backend),
            "streaming": (
                [
                    *(sys.executable, "-m", "benchmarks.peers.serve", "streaming", "--port", str(proxy)),
                    *("--pki", str(pki.folder), "--behind", f"http://127.0.0.1:{backend}"),
                ],
                proxy,
            ),
        }
        for name, (command, port) in started.items():
            processes.wait_listening(name, processes.start(name, command), port)
        mesh = await stack.enter_async_context(trial_mesh(work / "mesh", gateways=0))
        limits = f"[limits]\nmax_request = {LARGEST}\nmax_answer = {LARGEST}\nspool_folder = '{work}'"
        adapter = await mesh.add_adapter("adapter", mesh.http_contract(f"http://127.0.0.1:{backend}", extra=limits))
        gateway = await mesh.add_gateway(DATONG_MAX_BODY=str(LARGEST), DATONG_SPOOL_FOLDER=str(work))
        certificate, key = mesh.files("caller")
        identity = Identity(cert=certificate, key=key, ca=mesh.trust_anchors)
        servers = [
            Server(
                name="mesh",
                port=int(mesh.url.rpartition(":")[2]),
                path=f"/r1/{ECHO}",
                context=client_context(identity),
                headers=[f"X-Road-Client: {CALLER}"],
            ),
            Server(name="proxy", port=proxy, path="", context=client_context(pki.client)),
        ]
        for server in servers:
            await transfer(server, "answer", 1 << 20, -1)
        for number in range(rounds):
            for direction in ("answer", "request"):
                for server in servers[:: 1 if number % 2 else -1]:
                    note(await transfer(server, cast(Direction, direction), size, number))
        return {"gateway": peak_memory(gateway.pid), "adapter": peak_memory(adapter.pid)}


def report(transfers: Sequence[Transfer], memory: dict[str, float], size: int) -> str:
    """The figures as a table: medians, and the ratio taken within each round."""
    lines = [
        f"bodies of {size >> 20} MiB; MiB/s, median of {max(each.round for each in transfers) + 1} rounds",
        "",
        "| body | mesh | plain proxy | mesh / proxy |",
        "|---|---|---|---|",
    ]
    for direction in ("answer", "request"):
        rates = {
            name: [each.rate for each in transfers if each.server == name and each.direction == direction]
            for name in ("mesh", "proxy")
        }
        ratios = [mesh / proxy for mesh, proxy in zip(rates["mesh"], rates["proxy"], strict=True)]
        lines.append(
            f"| {direction} | {statistics.median(rates['mesh']):.0f} | {statistics.median(rates['proxy']):.0f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    peaks = ", ".join(f"{name} {peak:.0f} MiB" for name, peak in memory.items())
    return "\n".join([*lines, "", f"most memory ever resident: {peaks}"])


def main() -> int:
    """Exit code 0 whatever the timings; 1 if something did not start or a body did not arrive."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_bodies", description="Large bodies beside a proxy."
    )
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of one body (1024)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(3)")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="folder for the numbers")
    parser.add_argument("--backend", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.backend:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_backend(options.backend))
    started = dt.datetime.now(dt.UTC)
    below = HERE / ".work"
    below.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="large-", dir=below))
    transfers: list[Transfer] = []

    def note(one: Transfer) -> None:
        transfers.append(one)
        say(f"round {one.round + 1}  {one.direction:8} {one.server:6} {one.rate:8.1f} MiB/s")

    size = options.size << 20
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            memory = runner.run(measure(size, options.rounds, work, note))
        print(report(transfers, memory, size))
        result = {
            "started": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "revision": revision(HERE.parent),
            "machine": hardware(work),
            "peak_memory_mib": memory,
            "transfers": [asdict(each) for each in transfers],
        }
        options.out.mkdir(parents=True, exist_ok=True)
        file = options.out / f"large-bodies-{started:%Y-%m-%dT%H%M%SZ}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")
    except BenchError as error:
        say(f"benchmarks.large_bodies: {error}")
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
