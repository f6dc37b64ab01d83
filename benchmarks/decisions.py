"""What a decision costs as the registry grows, and what it costs to take in one more grant. Runs in this process alone.

Targets are ways in which grants may be spread: `spread` over many clients and services; `groups`, where each tenth grant is
of a group of its own, all for one service, and the client is in a tenth of the groups, a hundred at most; and `one pair`,
where one client holds all of them for one service, each for a path and a purpose of its own. Load is the number of grants.
Figures: `permitted_us` and `refused_us` for one decision, `implied_us` for one that names no purpose, `take_in_ms` for a new
grant to be in the snapshot, and `first_us` for the first decision after that, which puts together what the pair holds.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from benchmarks.progress import say
from benchmarks.rounds import WARM_UP, rotated
from benchmarks.samples import Sample
from exchange import MeshError, ServiceId, SubsystemId, member_of
from registry import Grant, Group, Member, Operation, Rows, Service, Snapshot, Subsystem
from registry.records import OperationEntry

LOADS = (10, 100, 1_000, 10_000, 100_000)
_DECISIONS = 5_000
_REFUSALS = 500
_TAKEN_IN = 5
_NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
_NOW = _NOON.timestamp()
_PATH = ("enterprises", "91990000000000000X")
_OWNER = SubsystemId("CN/GOV/11990000000001011Q/tax")
_CLIENT = SubsystemId("CN/GOV/1199000000000102XG/housing")
_SERVICE = ServiceId(f"{_OWNER}/enterprises")
_SHAPES = ("spread", "groups", "one pair")


@dataclass(frozen=True, slots=True)
class _Registry:
    """A registry of so many grants, and one more that is like them."""

    shape: str
    load: int
    snapshot: Snapshot
    added: Grant


def measure(*, rounds: int, loads: Sequence[int] = LOADS) -> Iterator[Sample]:
    """One sample for each shape, load and round; the warm-up has round -1."""
    registries = [_registry(shape, load) for load in loads for shape in _SHAPES]
    gc.collect()
    gc.freeze()  # as the gateway does with what it has loaded
    try:
        for number in range(WARM_UP, rounds):
            for registry in rotated(registries, number):
                yield _sample(registry, number)
    finally:
        gc.unfreeze()


def _sample(registry: _Registry, number: int) -> Sample:
    snapshot = registry.snapshot
    purpose = "p0"
    figures = {
        "permitted_us": _time(lambda: snapshot.decide(_CLIENT, _SERVICE, "GET", _PATH, purpose, _NOW), _DECISIONS),
        "implied_us": _time(lambda: snapshot.decide(_CLIENT, _SERVICE, "GET", _PATH, None, _NOW), _DECISIONS),
        "refused_us": _time(lambda: _refused(snapshot, ("enterprises",)), _REFUSALS),
    }
    taking, first = [], []
    for count in range(_TAKEN_IN):
        rows = Rows(version=10**9 + count, grants=(replace(registry.added, id=f"new{count}"),))
        begun = time.perf_counter()
        following = snapshot.with_changes(rows)
        taken = time.perf_counter()
        following.decide(_CLIENT, _SERVICE, "GET", _PATH, purpose, _NOW)
        first.append(time.perf_counter() - taken)
        taking.append(taken - begun)
    figures |= {"take_in_ms": min(taking) * 1e3, "first_us": min(first) * 1e6}
    return Sample(part="decisions", target=registry.shape, load=registry.load, round=number, figures=figures)


def _time(work: Callable[[], object], count: int) -> float:
    """Microseconds of one call, in the best of ten stretches: what else runs on the machine is not what is measured."""
    stretches = []
    for _ in range(10):
        begun = time.perf_counter()
        for _ in range(count // 10):
            work()
        stretches.append(time.perf_counter() - begun)
    return min(stretches) / (count // 10) * 1e6


def _refused(snapshot: Snapshot, path: tuple[str, ...]) -> None:
    try:
        snapshot.decide(_CLIENT, _SERVICE, "GET", path, "p0", _NOW)
    except MeshError:
        return
    raise AssertionError("the call should have been refused")


def _registry(shape: str, load: int) -> _Registry:
    grants, groups = {"spread": _spread, "groups": _grouped, "one pair": _paired}[shape](load)
    own = _grant(0, "own")
    clients = {_CLIENT, *(grant.client for grant in grants if grant.client)}
    services = {_SERVICE, *(grant.service for grant in grants)}
    rows = Rows(
        version=1,
        members=tuple(Member(id=member, name="成员") for member in sorted(map(member_of, {_OWNER, *clients}))),
        subsystems=tuple(Subsystem(id=each, name="系统") for each in sorted({_OWNER, *clients})),
        services=tuple(Service(id=each, title_zh="服务") for each in sorted(services)),
        operations=tuple(
            OperationEntry(service=each, operation=Operation.of("GET", path), active=True)
            for each in sorted(services)
            for path in ("/enterprises", "/enterprises/{uscc}")
        ),
        grants=(own, *grants),
        groups=groups,
    )
    begun = time.perf_counter()
    snapshot = Snapshot.empty().with_changes(rows)
    say(f"decisions: {load} grants, {shape}: loaded in {time.perf_counter() - begun:.2f} s")
    return _Registry(shape, load, snapshot, _grant(10**8, "new", path="/other/{x}", purpose="p0"))


def _grant(version: int, identifier: str, *, path: str = "/enterprises/{uscc}", purpose: str = "p0") -> Grant:
    """A grant of the measured client for the measured service."""
    return Grant(
        id=identifier,
        client=_CLIENT,
        service=_SERVICE,
        method="GET",
        path=path,
        purposes=(purpose,),
        valid_from=_NOON - timedelta(days=1),
        valid_to=_NOON + timedelta(days=365),
        reason="a measurement",
        decided_by="a measurement",
        version=version,
    )


def _spread(load: int) -> tuple[tuple[Grant, ...], tuple[Group, ...]]:
    """A thousand clients at most, and as many services as it takes, ten grants for each pair of them."""
    grants = []
    for number in range(load):
        pair = number // 10
        client = SubsystemId(f"CN/GOV/M{pair % 1000}/system")
        service = ServiceId(f"{_OWNER}/s{pair // 1000}") if number % 20 else _SERVICE
        grant = _grant(number, f"x{number}", path=f"/enterprises/{{uscc}}/part{number % 10}")
        grants.append(replace(grant, client=client, service=service))
    return tuple(grants), ()


def _grouped(load: int) -> tuple[tuple[Grant, ...], tuple[Group, ...]]:
    grants, groups = [], []
    for number in range(load):
        grant = _grant(number, f"x{number}", path=f"/enterprises/{{uscc}}/part{number}", purpose=f"p{number}")
        if number % 10:
            grants.append(replace(grant, client=SubsystemId(f"CN/GOV/M{number % 1000}/system")))
            continue
        identifier = f"group{number}"
        members = tuple(SubsystemId(f"CN/GOV/M{(number + each) % 1000}/system") for each in range(10))
        held = number % max(100, load // 100) == 0
        groups.append(Group(id=identifier, name="组", members=(*members, _CLIENT) if held else members))
        grants.append(replace(grant, client=SubsystemId(""), group=identifier))
    return tuple(grants), tuple(groups)


def _paired(load: int) -> tuple[tuple[Grant, ...], tuple[Group, ...]]:
    return (
        tuple(
            _grant(number, f"x{number}", path=f"/enterprises/e{number}", purpose=f"p{number}") for number in range(load)
        ),
        (),
    )


if __name__ == "__main__":
    from benchmarks.report import decisions_table
    from benchmarks.samples import summarise

    found = [sample for sample in measure(rounds=3) if sample.round >= 0]
    sys.stdout.write(decisions_table(summarise(found)) + "\n")
