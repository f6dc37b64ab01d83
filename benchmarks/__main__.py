"""`python -m benchmarks`: start everything, measure, print the tables, keep the numbers, end everything."""

import argparse
import asyncio
import datetime as dt
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn, get_args

from benchmarks import closed_loop, decisions, handshakes, log_append, log_growth, open_loop, overload
from benchmarks.errors import BenchError
from benchmarks.goals import all_goals, evaluate
from benchmarks.https import probe
from benchmarks.machine import describe, revision
from benchmarks.mesh import NAMES, MeshUnderTest
from benchmarks.peers import start_peers
from benchmarks.pki import make_pki
from benchmarks.processes import Processes
from benchmarks.progress import say, say_sample
from benchmarks.report import Run, as_json, as_markdown
from benchmarks.samples import Part, Sample
from benchmarks.targets import Target
from benchmarks.toolchain import Toolchain, prepare
from benchmarks.wrk import Wrk

HERE = Path(__file__).resolve().parent
_ENDING = (signal.SIGINT, signal.SIGTERM)
_PARTS: tuple[Part, ...] = get_args(Part)
# httpx drowns at the higher rates and bare has no backend, so neither says anything about latency at a fixed rate.
_NOT_IN_OPEN_LOOP = frozenset({"httpx", "bare", NAMES["no-evidence"]})
_NOT_IN_HANDSHAKES = frozenset({NAMES["http"], NAMES["no-evidence"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and for how long."""

    connections: tuple[int, ...]
    rates: tuple[int, ...]
    rounds: int
    seconds: int
    parts: tuple[Part, ...]
    servers: tuple[str, ...]
    peers_only: bool
    log_sizes: tuple[int, ...]
    log_database: log_growth.Database
    out: Path

    def wants(self, target: Target) -> bool:
        return not self.servers or target.name in self.servers


def read_plan(arguments: Sequence[str]) -> Plan:
    """The command line as a plan; argparse ends the program if it is not understood."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the mesh next to its peers on this machine."
    )
    add = parser.add_argument
    add("--connections", type=_positive, nargs="+", metavar="N", help="closed loop (1 16 64 256)")
    add("--rates", type=_positive, nargs="+", metavar="N", help="open loop, requests per second (200 1000 2500)")
    add("--rounds", type=_positive, metavar="N", help="counted rounds (5)")
    add("--seconds", type=_positive, metavar="N", help="length of one run (3)")
    add("--only", nargs="+", choices=_PARTS, metavar="PART", help=f"measure only: {', '.join(_PARTS)}")
    add("--servers", nargs="+", default=[], metavar="NAME", help="measure only these servers, by name")
    add("--peers-only", action="store_true", help="leave the mesh out")
    sizes = " ".join(map(str, log_growth.SIZES))
    add("--log-sizes", type=_positive, nargs="+", metavar="N", help=f"entries of the logs that are to grow ({sizes})")
    add("--log-database", choices=get_args(log_growth.Database), default="sqlite", help="where they are (sqlite)")
    add("--quick", action="store_true", help="2 rounds of 1 s without 256 connections: does it work, not how fast")
    add("--out", type=Path, default=HERE / "results", metavar="DIR", help="folder for the numbers (benchmarks/results)")
    given = parser.parse_args(arguments)
    quick = given.quick
    return Plan(
        connections=tuple(given.connections or ((1, 16, 64) if quick else (1, 16, 64, 256))),
        rates=tuple(given.rates or (200, 1000, 2500)),
        rounds=given.rounds or (2 if quick else 5),
        seconds=given.seconds or (1 if quick else 3),
        parts=tuple(given.only or _PARTS),
        servers=tuple(given.servers),
        peers_only=given.peers_only,
        log_sizes=tuple(given.log_sizes or (log_growth.SIZES[:2] if quick else log_growth.SIZES)),
        log_database=given.log_database,
        out=given.out,
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def main() -> int:
    """Exit code 0 whatever the timings; 1 if something did not start; 130 on Ctrl-C."""
    # SIGINT too: a shell starts background jobs with it ignored, and then Python leaves it so.
    for number in _ENDING:
        signal.signal(number, _interrupted)
    plan = read_plan(sys.argv[1:])
    # Beside the sources rather than in /tmp, which may be memory: what a durable log costs is part of the result.
    below = HERE / ".work"
    below.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=below))
    try:
        return _run(plan, work)
    except BenchError as error:
        say(f"benchmarks: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    # Only once: a second Ctrl-C would cut the ending of the servers short.
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    say("interrupted: ending the servers")
    raise KeyboardInterrupt


def _run(plan: Plan, work: Path) -> int:
    started = dt.datetime.now(dt.UTC)
    tools = prepare(work)
    overload.allow_many_files()
    machine, version = describe(tools, work), revision(HERE.parent)
    samples: list[Sample] = []
    complete = False
    logs = work / "logs"
    logs.mkdir()
    try:
        with Processes(logs) as processes:
            alone = {*plan.parts} <= {"decisions", "growth"}  # they need no servers
            targets = [] if alone else _start(plan, processes, tools, work, now=started)
            for sample in _measure(plan, targets, Wrk(program=tools.wrk, shim=tools.shim), work):
                samples.append(sample)
                say_sample(sample)
        complete = True
    finally:
        # Also when interrupted: the rounds made until then are whole.
        if any(sample.round >= 0 for sample in samples):
            run = Run(
                started=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
                revision=version,
                complete=complete,
                machine=machine,
                options={
                    "connections": plan.connections,
                    "rates": plan.rates,
                    "rounds": plan.rounds,
                    "seconds": plan.seconds,
                    "parts": plan.parts,
                },
                samples=samples,
                verdicts=evaluate(all_goals(), samples),
            )
            _keep(run, plan.out / f"{started:%Y-%m-%dT%H%M%SZ}")
    return 0


def _start(plan: Plan, processes: Processes, tools: Toolchain, work: Path, *, now: dt.datetime) -> list[Target]:
    say("starting the servers")
    peers = start_peers(processes, tools, make_pki(work / "pki", now=now), work)
    targets = list(peers.targets)
    if not plan.peers_only:
        mesh = MeshUnderTest(
            processes, backend_url=peers.backend_url, backend_pids=peers.backend_pids, work=work / "mesh"
        )
        targets += [mesh.start(variant) for variant, name in NAMES.items() if not plan.servers or name in plan.servers]
    wanted = [target for target in targets if plan.wants(target)]
    for target in wanted:
        asyncio.run(probe(target))
    say(f"all answer: {', '.join(target.name for target in wanted)}")
    return wanted


def _measure(plan: Plan, targets: Sequence[Target], wrk: Wrk, work: Path) -> Iterator[Sample]:
    """All parts of the plan, one after the other; `work` holds the data folders of the meshes."""
    rounds, seconds = plan.rounds, plan.seconds
    steady = [target for target in targets if target.name not in _NOT_IN_OPEN_LOOP]
    shaking = [target for target in targets if target.name not in _NOT_IN_HANDSHAKES]
    mesh = [target for target in targets if target.name == NAMES["full"]]
    parts: dict[Part, Callable[[], Iterator[Sample]]] = {
        "closed": lambda: closed_loop.measure(
            wrk, targets, connections=plan.connections, rounds=rounds, seconds=seconds
        ),
        "open": lambda: open_loop.measure(steady, rates=plan.rates, rounds=rounds, seconds=seconds),
        "handshakes": lambda: handshakes.measure(wrk, shaking, rounds=rounds, seconds=seconds),
        "overload": lambda: (
            sample for target in mesh for sample in overload.measure(target, rounds=rounds, seconds=seconds)
        ),
        "decisions": lambda: decisions.measure(rounds=rounds),
        "log": lambda: log_append.measure(
            [(target, _data_of(target, work)) for target in mesh], work / "log", rounds=rounds, seconds=seconds
        ),
        "growth": lambda: log_growth.measure(
            work.with_name(f"growth-{work.name}"), sizes=plan.log_sizes, database=plan.log_database, rounds=rounds
        ),
    }
    for part, measure in parts.items():
        if part in plan.parts:
            yield from measure()


def _data_of(target: Target, work: Path) -> Path:
    return work / "mesh" / target.name


def _keep(run: Run, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    tables = as_markdown(run)
    stem.with_suffix(".json").write_text(as_json(run) + "\n")
    stem.with_suffix(".md").write_text(tables)
    print(tables, flush=True)
    say(f"kept as {stem.name}.json and {stem.name}.md in {stem.parent}")


if __name__ == "__main__":
    sys.exit(main())
