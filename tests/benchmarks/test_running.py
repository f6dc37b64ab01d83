"""The parts that run others: children that end with the run, and load on a real server over TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.errors import BenchError
from benchmarks.https import client_context, probe
from benchmarks.mesh import MeshUnderTest
from benchmarks.open_loop import measure as measure_open
from benchmarks.overload import run_once
from benchmarks.pki import Pki, make_pki
from benchmarks.processes import Processes, free_port
from benchmarks.targets import Target
from tests.waiting import alive, wait_until

LIMIT = 8
SERVER = """
import ssl, sys, uvicorn
port, pki, limit = sys.argv[1:]
uvicorn.run(
    "benchmarks.peers.bare:bare_app", host="127.0.0.1", port=int(port), http="httptools", ws="none", lifespan="on",
    log_level="warning", limit_concurrency=int(limit), timeout_graceful_shutdown=1, ssl_certfile=f"{pki}/server.crt",
    ssl_keyfile=f"{pki}/server.key", ssl_ca_certs=f"{pki}/ca.crt", ssl_cert_reqs=ssl.CERT_REQUIRED,
)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
ANNOUNCING = """
import json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("starting", flush=True)
print(json.dumps({"url": options["--backend-url"] + "/r1", "headers": {"X-Road-Client": options["--variant"]},
                  "pids": [1], "cert": "c", "key": "k", "ca": "a"}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    logs = tmp_path / "logs"
    logs.mkdir()
    with Processes(logs) as running:
        yield running


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "pki", now=dt.datetime.now(dt.UTC))


@pytest.fixture
def limited(processes: Processes, pki: Pki) -> Target:
    """A real server that answers with 503 and closes while it holds `LIMIT` connections or more."""
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port), str(pki.folder), str(LIMIT)]
    server = processes.start("limited", command)
    processes.wait_listening("limited", server, port)
    url = f"https://127.0.0.1:{port}/"
    return Target(name="limited", role="peer", url=url, identity=pki.client, pids=(server.pid,), limit=LIMIT)


def test_below_the_limit_nothing_is_refused_and_above_it_refusals_are_counted_apart(limited: Target) -> None:
    below = run_once(limited, LIMIT // 2, 0, 1)
    above = run_once(limited, LIMIT * 2, 0, 1)

    assert below.figures["refused_share"] == 0
    assert below.figures["accepted_rate"] > 0
    assert below.figures["accepted_p50_ms"] <= below.figures["accepted_p99_ms"]
    assert above.figures["refused_share"] > 0
    assert above.figures["refused_p99_ms"] > 0
    assert below.faults == above.faults == {}


def test_a_refusal_in_the_open_loop_is_a_fault_and_no_latency(limited: Target) -> None:
    """The open loop holds 64 connections, far more than this server takes."""
    (warm_up, counted) = measure_open([limited], rates=(100,), rounds=1, seconds=1)

    assert warm_up.round == -1
    assert counted.faults["status"] > 0
    assert counted.figures["answered"] == pytest.approx(1 - sum(counted.faults.values()) / 100)


def test_a_server_that_answers_passes_the_probe(limited: Target) -> None:
    asyncio.run(probe(limited))


def test_a_server_that_is_not_there_fails_the_probe(pki: Pki) -> None:
    url = f"https://127.0.0.1:{free_port()}/"
    absent = Target(name="absent", role="peer", url=url, identity=pki.client, pids=())

    with pytest.raises(BenchError, match="absent does not answer"):
        asyncio.run(probe(absent))


def test_the_certificates_of_a_run_make_a_client_context(pki: Pki) -> None:
    assert client_context(pki.client).get_ca_certs()


def test_a_child_that_ends_before_it_listens_is_reported_with_its_last_words(processes: Processes) -> None:
    child = processes.start("brief", [sys.executable, "-c", "raise SystemExit('no such file')"])

    with pytest.raises(BenchError, match="brief ended with code 1\nno such file"):
        processes.wait_listening("brief", child, free_port())


def test_what_a_child_started_ends_with_the_run(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start("parent", [sys.executable, "-c", PARENT])
        wait_until(lambda: processes.tail("parent").isdigit())
        grandchild = int(processes.tail("parent"))
        assert alive(grandchild)

    assert child.poll() is not None
    wait_until(lambda: not alive(grandchild))


def test_the_mesh_is_started_in_the_variant_asked_for(processes: Processes, tmp_path: Path) -> None:
    mesh = MeshUnderTest(
        processes,
        backend_url="https://127.0.0.1:1",
        backend_pids=(2,),
        work=tmp_path,
        program=(sys.executable, "-c", ANNOUNCING),
    )

    full, http = mesh.start("full"), mesh.start("http")

    assert (full.name, full.headers, full.pids) == ("mesh", {"X-Road-Client": "full"}, (1,))
    # The backend's CPU time belongs to whoever calls it.
    assert (http.name, http.headers, http.pids) == ("mesh_http", {"X-Road-Client": "http"}, (1, 2))


def test_a_mesh_that_does_not_start_is_an_error(processes: Processes, tmp_path: Path) -> None:
    program = (sys.executable, "-c", "raise SystemExit('no bus')")
    mesh = MeshUnderTest(processes, backend_url="", backend_pids=(), work=tmp_path, program=program)

    with pytest.raises(BenchError, match="no bus"):
        mesh.start("full")
