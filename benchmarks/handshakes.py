"""How many new connections with client certificates a target takes in a second, and whether it resumes sessions.

Measured on `Target.local_url`, an answer without a backend, so that the handshake is most of the work. Figures:
`full_rate` (16 at once, full handshakes), `full_cpu_us` (the target's CPU for one of them), and one after the other
`full_ms`, `resumed_ms` and `resumed_share`, the share of connections that were offered a session and resumed it.
"""

import socket
import ssl
import time
from collections.abc import Iterator, Sequence

from benchmarks.cpu import cpu_seconds, settle
from benchmarks.https import client_context, get_request
from benchmarks.rounds import WARM_UP, visits
from benchmarks.samples import Sample, percentile
from benchmarks.targets import Target
from benchmarks.wrk import Wrk

CONNECTIONS = 16
_IN_SEQUENCE = 100
_IN_SEQUENCE_WARM_UP = 10
_TIMEOUT_S = 10.0


def measure(wrk: Wrk, targets: Sequence[Target], *, rounds: int, seconds: int) -> Iterator[Sample]:
    """One sample for each target with a `local_url` and round; the warm-up has round -1 and is shorter."""
    local = [target for target in targets if target.local_url]
    for number, load, target in visits(local, (CONNECTIONS,), rounds=rounds):
        assert target.local_url is not None
        warm_up = number == WARM_UP
        before = cpu_seconds(target.pids)
        report = wrk.run_new_connections(target, target.local_url, connections=load, seconds=1 if warm_up else seconds)
        settle(target.pids)
        used = cpu_seconds(target.pids) - before
        count = _IN_SEQUENCE_WARM_UP if warm_up else _IN_SEQUENCE
        full_ms, _ = _in_sequence(target, target.local_url, count, resume=False)
        resumed_ms, resumed = _in_sequence(target, target.local_url, count, resume=True)
        yield Sample(
            part="handshakes",
            target=target.name,
            load=load,
            round=number,
            figures={
                "full_rate": report.rate,
                "full_cpu_us": used / max(1, report.requests) * 1e6,
                "full_ms": full_ms,
                "resumed_ms": resumed_ms,
                "resumed_share": resumed,
            },
            faults=report.faults,
        )


def _in_sequence(target: Target, url: str, count: int, *, resume: bool) -> tuple[float, float]:
    """Median milliseconds of one connection with one request, and the share of connections that resumed a session."""
    context = client_context(target.identity)
    request = get_request(target, url, close=True)
    # The first connection only fetches a session, so that each counted one has a session to offer.
    session = _one(target.address, context, request, None)[0] if resume else None
    waits, resumed = [], 0
    for _ in range(count):
        start = time.perf_counter()
        fresh, reused = _one(target.address, context, request, session)
        waits.append((time.perf_counter() - start) * 1e3)
        resumed += reused
        # A session of TLS 1.3 is meant to be used once.
        session = fresh if resume else None
    return percentile(sorted(waits), 0.5), resumed / count


def _one(
    address: tuple[str, int], context: ssl.SSLContext, request: bytes, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool]:
    with (
        socket.create_connection(address, timeout=_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
    ):
        connection.sendall(request)
        while connection.recv(65536):
            pass
        # Read last: a session of TLS 1.3 arrives after the handshake.
        return connection.session, bool(connection.session_reused)
