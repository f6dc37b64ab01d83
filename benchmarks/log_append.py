"""How many records the log takes, and how soon a signed checkpoint covers them: alone, and beside the running mesh.

`alone` is a log of its own on the same disk, with nothing else running. `beside the mesh` is the mesh's own log, written by one
gateway more, while requests at a fixed rate go through the mesh, each leaving a record in the same log. Load is the number of
callers; each appends its next record when the one before is durable. Figures: `rate`, durable appends per second (the mesh's own
records are not counted); `p50_ms` and `p99_ms` until a record is acknowledged; `covered_p50_ms`, `covered_p99_ms` and
`covered_max_ms` until a signed checkpoint over it is stored; `mesh_rate` and `mesh_p99_ms`, what the mesh did meanwhile.

The callers are a process of their own, `python -m benchmarks.log_append DATABASE LOG_KEY`: what it says, it says in JSON.
"""

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import uvloop

from benchmarks.errors import BenchError
from benchmarks.log_records import Records
from benchmarks.open_loop import run_once
from benchmarks.rounds import WARM_UP
from benchmarks.samples import Sample, percentile
from benchmarks.targets import Target
from exchange import ExchangeLog, NoteSigner

CALLERS = 64
RATE = 500
"""Requests per second through the mesh meanwhile."""
_MADE_FOR_SECOND = 12_000
"""Records are made before: that is not what is measured."""
_LOOK_S = 0.005
_LAST_CHECKPOINT_S = 30.0


def measure(meshes: Sequence[tuple[Target, Path]], folder: Path, *, rounds: int, seconds: int) -> Iterator[Sample]:
    """One sample for each log and round; the warm-up has round -1 and lasts 1 s.

    Args:
        meshes: Running meshes, each with its data folder; one, or none.
        folder: For a log of its own.

    Raises:
        BenchError: The callers ended without figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.key").write_text(NoteSigner.generate("benchmark.datong.example/log").skey)
    for number in range(WARM_UP, rounds):
        length = 1 if number == WARM_UP else seconds
        yield _sample("alone", number, _Callers(folder, length).figures())
        for target, data in meshes:
            callers = _Callers(data, length)
            gc.collect()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                beside = runner.run(run_once(target, RATE, number, length))
            figures = callers.figures()
            told = {"mesh_rate": beside.figures["answered"] * RATE, "mesh_p99_ms": beside.figures["p99_ms"]}
            yield _sample("beside the mesh", number, {**figures, **told}, beside.faults)


def _sample(name: str, number: int, figures: Mapping[str, float], faults: Mapping[str, int] | None = None) -> Sample:
    refused = {"refused": int(figures["refused"])}
    kept = {name: value for name, value in figures.items() if name != "refused"}
    return Sample(
        part="log", target=name, load=CALLERS, round=number, figures=kept, faults={**refused, **(faults or {})}
    )


class _Callers:
    """The process that appends. It has begun when this was made."""

    def __init__(self, folder: Path, seconds: int) -> None:
        database, key = f"sqlite:///{folder / 'log.db'}", str(folder / "log.key")
        command = [sys.executable, "-m", "benchmarks.log_append", database, key]
        self._process = subprocess.Popen(
            [*command, "--callers", str(CALLERS), "--seconds", str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        if self._process.stdout.readline() != b"ready\n":
            self._process.communicate()
            raise BenchError("the callers of the log did not become ready")
        self._process.stdin.write(b"begin\n")
        self._process.stdin.flush()

    def figures(self) -> dict[str, float]:
        """Wait for its end."""
        said, _ = self._process.communicate()
        if self._process.returncode:
            raise BenchError("the callers of the log ended without figures")
        found: dict[str, float] = json.loads(said)
        return found


async def append(database: str, log_key: Path, *, callers: int, seconds: float) -> dict[str, float]:
    """Append for some seconds, then wait for the last checkpoint.

    Raises:
        BenchError: It did not come.
    """
    log = await ExchangeLog.start(database=database, log_key=log_key, gateway=f"benchmark-{os.getpid()}")
    rows = Records(10**8, seed=int.from_bytes(os.urandom(8), "big")).take(int(_MADE_FOR_SECOND * seconds))
    waiting = list(rows)[::-1]
    durable: list[tuple[int, float, float]] = []
    """(number, when appended, when acknowledged)."""
    signed: list[tuple[float, int]] = []
    refused = 0
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    gc.collect()
    gc.disable()
    begun = time.perf_counter()

    async def call() -> None:
        nonlocal refused
        while waiting and time.perf_counter() < begun + seconds:
            exchange_id, at_ms, client, service, outcome, rule, salt, leaf = waiting.pop()
            at = time.perf_counter()
            future = log.append(
                leaf,
                exchange_id=exchange_id,
                salt=salt or b"",
                at_ms=at_ms,
                client=client,
                service=service,
                outcome=outcome,
                rule=rule,
                settles_intent=False,
            )
            try:
                durable.append((await future, at, time.perf_counter()))
            except Exception:  # noqa: BLE001  # counted, whatever it was
                refused += 1

    async def look() -> None:
        size = 0
        while True:
            newest = await log.reader.latest_checkpoint()
            if newest is not None and newest.size > size:
                size = newest.size
                signed.append((time.perf_counter(), size))
            await asyncio.sleep(_LOOK_S)

    looking = asyncio.create_task(look())
    await asyncio.gather(*[call() for _ in range(callers)])
    ended = time.perf_counter()
    gc.enable()
    last = max((seq for seq, _, _ in durable), default=-1)
    while not signed or signed[-1][1] <= last:
        if time.perf_counter() > ended + _LAST_CHECKPOINT_S:
            raise BenchError("no checkpoint covers the last record")
        await asyncio.sleep(_LOOK_S)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await log.close()
    return {**_figures(durable, signed, ended - begun), "refused": refused}


def _figures(
    durable: list[tuple[int, float, float]], signed: list[tuple[float, int]], seconds: float
) -> dict[str, float]:
    waits = sorted((acknowledged - at) * 1e3 for _, at, acknowledged in durable)
    covered, checkpoints = [], iter(signed)
    when, size = next(checkpoints)
    for seq, at, _ in sorted(durable):
        while size <= seq:
            when, size = next(checkpoints)
        covered.append((when - at) * 1e3)
    covered.sort()
    return {
        "rate": len(durable) / seconds,
        "p50_ms": percentile(waits, 0.50),
        "p99_ms": percentile(waits, 0.99),
        "covered_p50_ms": percentile(covered, 0.50),
        "covered_p99_ms": percentile(covered, 0.99),
        "covered_max_ms": covered[-1],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.log_append", description="Append to a log and measure.")
    parser.add_argument("database", help="sqlite:///PATH or postgresql://USER@HOST/NAME")
    parser.add_argument("log_key", type=Path, help="the key of the log")
    parser.add_argument("--callers", type=int, default=CALLERS, metavar="N", help=f"at once ({CALLERS})")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="how long (3)")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(
            append(options.database, options.log_key, callers=options.callers, seconds=options.seconds)
        )
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
