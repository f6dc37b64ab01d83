"""What one slow department costs the others: `python -m benchmarks.slow_department`.

A real mesh with two departments, each with its adapter. One of them, in code, is asked at a steady rate, and how long it
takes is measured, counted from when each request was due. Meanwhile the other, over HTTP, is asked at a rate of its own:

1. `alone`: not at all;
2. `quick`: its system answers at once;
3. `slow`: its system takes seconds, so that its adapter's turns and queue fill, then its share of the gateway, and the
   rest is told to come back.

The figure that matters is `slow` next to `quick`: the same requests at the same rate, but for the seconds. Each round has
all three, in an order that moves on; ratios are taken inside a round, then the median over rounds. Everything is on
127.0.0.1, and ends with the program.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.https import Connection, client_context, close_all, connect
from benchmarks.machine import hardware, revision
from benchmarks.open_loop import run_once
from benchmarks.overload import allow_many_files
from benchmarks.progress import say
from benchmarks.rounds import WARM_UP, rotated
from benchmarks.targets import Identity, Target
from ca_auth import CertificateRequest
from deploy.nats import AdapterUser, BusUsers
from deploy.trial_mesh import (
    CALLER,
    ECHO,
    FOR_EVER,
    OPERATOR,
    PROVIDER,
    STRANGER,
    TrialMesh,
    trial_mesh,
)
from exchange import ServiceId
from registry import Operation, Service

SLOW = ServiceId(f"{STRANGER}/slow")
PHASES = ("alone", "quick", "slow")
_SLOW_CONNECTIONS = 600
_TIMEOUT = 10.0
_WHO: dict[str, Any] = {"by": "benchmark", "why": "benchmark"}
_KILOBYTE = json.dumps({"pad": ""}).ljust(1024).encode()


async def _backend() -> None:
    """A department's system: `GET /delay/MS` is answered with a kilobyte after so many milliseconds."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(int(head.split(b" ", 2)[1].rpartition(b"/")[2]) / 1000)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1024\r\n\r\n")
                writer.write(_KILOBYTE)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@asynccontextmanager
async def _backend_process() -> AsyncIterator[str]:
    """The system in a process of its own; yields its base URL."""
    pipe = asyncio.subprocess.PIPE
    arguments = ("-m", "benchmarks.slow_department", "--backend")
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe)
    assert process.stdout
    assert process.stdin
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()


async def _furnish(mesh: TrialMesh, backend: str) -> None:
    """The second department: its service, its grant, its place on the bus, its adapter."""
    operations = (Operation.of("GET", "/**"),)
    await mesh.registry.add_service(
        Service(id=SLOW, title_zh="慢", title_en="Slow", operations=operations, timeout=_TIMEOUT), **_WHO
    )
    await mesh.registry.grant(client=CALLER, service=SLOW, purposes=["trial"], valid_to=FOR_EVER, **_WHO)
    issued = mesh.ca.ensure("stranger", CertificateRequest.for_subsystem(STRANGER))
    await mesh.registry.register_certificate(STRANGER, issued.der, **_WHO)
    adapters = tuple(
        AdapterUser(identity=f"datong:{subsystem}", subsystem=subsystem, services=frozenset({service}))
        for subsystem, service in ((PROVIDER, ECHO), (STRANGER, SLOW))
    )
    await mesh.nats.set_users(BusUsers(gateways=frozenset({f"datong:{OPERATOR}"}), adapters=adapters, keys=None))
    await mesh.add_adapter("quick", mesh.http_contract(backend), module="deploy.trial_adapter")
    contract = mesh.http_contract(backend)
    for old, new in ((PROVIDER, STRANGER), ("provider.", "stranger."), ("services.echo", "services.slow")):
        contract = contract.replace(old, new)
    await mesh.add_adapter("slow", contract)


class _Neighbour:
    """Requests to the other department at a steady rate, whatever becomes of them."""

    def __init__(self, target: Target, rate: int) -> None:
        self._target = target
        self._rate = rate
        self._connections: list[Connection] = []
        self._free: list[Connection] = []
        self.statuses: Counter[int] = Counter()
        self.skipped = 0
        """Requests that were due when every connection was waiting."""

    async def open(self) -> None:
        """Make the connections: handshakes cost the gateway more than requests, and are not what is measured."""
        context = client_context(self._target.identity)
        self._connections = [await connect(self._target, self, context) for _ in range(_SLOW_CONNECTIONS)]
        self._free.extend(self._connections)

    async def run(self, until: asyncio.Event) -> None:
        """Ask until told to stop, then wait for what is on its way."""
        start, index = time.perf_counter(), 0
        while not until.is_set():
            early = start + index / self._rate - time.perf_counter()
            if early > 0:
                await asyncio.sleep(early)
            index += 1
            if not self._free or not self._free.pop().send(time.perf_counter()):
                self.skipped += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * _TIMEOUT):
                while any(connection.busy for connection in self._connections):
                    await asyncio.sleep(0.05)
        await close_all(self._connections)

    def on_answer(self, connection: Connection, status: int) -> None:
        self.statuses[status] += 1
        self._free.append(connection)

    def on_lost(self, connection: Connection) -> None:
        pass


async def _phase(
    mesh: TrialMesh, phase: str, number: int, given: argparse.Namespace
) -> tuple[dict[str, float], dict[str, int]]:
    """The quick department's figures in one phase, and what became of the other's requests."""
    certificate, key = mesh.files("caller")
    identity = Identity(cert=certificate, key=key, ca=mesh.trust_anchors)

    def target(service: ServiceId, path: str) -> Target:
        url = f"{mesh.url}/r1/{service}{path}"
        return Target(name=phase, role="mesh", url=url, identity=identity, pids=(), headers={"X-Road-Client": CALLER})

    stop = asyncio.Event()
    neighbour = _Neighbour(target(SLOW, f"/delay/{given.delay_ms if phase == 'slow' else 0}"), given.slow_rate)
    beside = None
    if phase != "alone":
        await neighbour.open()
        beside = asyncio.create_task(neighbour.run(stop))
        await asyncio.sleep(given.fill)  # until turns, queue and share are full
    gc.collect()
    gc.disable()
    try:
        sample = await run_once(target(ECHO, "/b/1k"), given.rate, number, given.seconds)
    finally:
        gc.enable()
        stop.set()
        if beside is not None:
            await beside
    others = {str(status): count for status, count in sorted(neighbour.statuses.items())}
    if neighbour.skipped:
        others["skipped"] = neighbour.skipped
    figures = {**sample.figures, **{f"fault_{kind}": float(count) for kind, count in sample.faults.items() if count}}
    line = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
    say(f"{'warm-up' if number == WARM_UP else f'round {number + 1}':8} {phase:6} {line}  other department: {others}")
    return figures, others


async def measure(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Every round's figures, by phase."""
    rounds: list[dict[str, Any]] = []
    async with _backend_process() as backend, trial_mesh(folder) as mesh:
        await _furnish(mesh, backend)
        for number in range(WARM_UP, given.rounds):
            phases = {}
            for phase in rotated(PHASES, number):
                figures, others = await _phase(mesh, phase, number, given)
                phases[phase] = {"figures": figures, "other_department": others}
            if number != WARM_UP:
                rounds.append(phases)
    return rounds


def summary(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians by phase, and of the ratios inside each round, with their range."""
    found: dict[str, Any] = {}
    for figure in ("p50_ms", "p99_ms"):
        for phase in PHASES:
            found[f"{phase}_{figure}"] = statistics.median(each[phase]["figures"][figure] for each in rounds)
        for one, other in (("slow", "quick"), ("slow", "alone")):
            ratios = sorted(each[one]["figures"][figure] / each[other]["figures"][figure] for each in rounds)
            found[f"{one}_to_{other}_{figure}"] = [statistics.median(ratios), ratios[0], ratios[-1]]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the figures, keep them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_department", description=main.__doc__)
    add = parser.add_argument
    add("--rate", type=int, default=200, help="requests per second to the quick department (200)")
    add("--slow-rate", type=int, default=100, help="the same to the other one (100)")
    add("--delay-ms", type=int, default=5000, help="what the other's system takes when it is slow (5000)")
    add("--fill", type=float, default=6.0, help="seconds of the other's load before anything is measured (6)")
    add("--seconds", type=int, default=10, help="length of one measurement (10)")
    add("--rounds", type=int, default=5, help="counted rounds (5)")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the numbers")
    add("--backend", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.backend:
        asyncio.run(_backend())
        return
    allow_many_files()
    work = Path(__file__).parent / ".work"
    work.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        machine = hardware(Path(folder))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rounds = runner.run(measure(given, Path(folder)))
    found = summary(rounds)
    options = {name: value for name, value in vars(given).items() if name not in ("out", "backend")}
    result = {
        "format": "datong-slow-department/1",
        "machine": machine,
        "revision": revision(Path(__file__).parents[1]),
        "options": options,
        "summary": found,
        "rounds": rounds,
    }
    file = given.out / time.strftime("slow-department-%Y-%m-%dT%H%M%SZ.json", time.gmtime())
    file.write_text(json.dumps(result, indent=1) + "\n")
    for phase in PHASES:
        print(f"{phase:6} p50 {found[f'{phase}_p50_ms']:8.2f} ms   p99 {found[f'{phase}_p99_ms']:8.2f} ms")
    for ratio in ("slow_to_quick", "slow_to_alone"):
        told = "   ".join(
            f"{figure[:3]} {median:.2f} ({least:.2f} to {most:.2f})"
            for figure, (median, least, most) in ((name, found[f"{ratio}_{name}"]) for name in ("p50_ms", "p99_ms"))
        )
        print(f"{ratio.replace('_', ' ')}: {told}")
    print(file)


if __name__ == "__main__":
    main()
