"""What the benchmarks read from others: wrk's report, /proc, answers on the wire, the mesh's announcement, options."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.__main__ import read_plan
from benchmarks.cpu import cpu_seconds, parse_stat, process_tree, read_stat
from benchmarks.errors import BenchError
from benchmarks.https import get_request, parse_head
from benchmarks.mesh import parse_announcement
from benchmarks.peers.body import BODY_BYTES, body
from benchmarks.rounds import WARM_UP, rotated, visits
from benchmarks.targets import Identity, Target, path_of
from benchmarks.wrk import parse_report

REPORT = {
    "requests": 1010,
    "duration_us": 2_000_000,
    "p50_us": 1500,
    "p99_us": 9250,
    "faults": {"connect": 0, "read": 1, "write": 0, "status": 10, "timeout": 2},
}
WRK_SAYS = f"""Running 2s test @ https://127.0.0.1:1/b/1k
  1 threads and 64 connections
Requests/sec:    505.00
REPORT {json.dumps(REPORT)}
"""
NOWHERE = Identity(cert=Path("c"), key=Path("k"), ca=Path("ca"))


def target(name: str, **headers: str) -> Target:
    url = "https://127.0.0.1:8443/r1/CN/GOV?x=1"
    return Target(name=name, role="peer", url=url, identity=NOWHERE, pids=(1,), headers=headers)


def test_the_report_of_wrk_is_found_among_its_other_lines() -> None:
    report = parse_report(WRK_SAYS)

    assert (report.p50_ms, report.p99_ms, report.seconds) == (1.5, 9.25, 2.0)
    assert report.faults == REPORT["faults"]


def test_an_error_status_is_no_good_answer() -> None:
    report = parse_report(WRK_SAYS)

    assert report.good == 1000
    assert report.rate == 500.0


@pytest.mark.parametrize("output", ["", "unable to connect", "REPORT {", "REPORT {}", 'REPORT {"requests": []}'])
def test_a_report_that_is_missing_or_broken_is_an_error(output: str) -> None:
    with pytest.raises(BenchError, match="wrk gave"):
        parse_report(output)


def test_a_process_may_have_spaces_and_parentheses_in_its_name() -> None:
    numbers = " ".join(str(n) for n in range(4, 53))

    stat = parse_stat(f"42 (a (b) c) S 7 {numbers}")

    ticks = os.sysconf("SC_CLK_TCK")
    assert (stat.pid, stat.parent) == (42, 7)
    # Fields 14, 15 and 22 of proc(5); the numbers above begin with field 5 as 4.
    assert stat.cpu_s == pytest.approx((13 + 14) / ticks)
    assert stat.started == 21


def test_this_process_is_in_its_parents_tree_and_uses_time() -> None:
    assert os.getpid() in {stat.pid for stat in process_tree([os.getppid()])}
    assert cpu_seconds([os.getpid()]) > 0


def test_a_process_that_is_no_more_has_no_stat_and_costs_nothing() -> None:
    no_pid = 2**22 + 1  # above the highest pid that Linux gives

    assert read_stat(no_pid) is None
    assert cpu_seconds([no_pid]) == 0


def test_the_head_of_an_answer_gives_status_and_length_in_any_case() -> None:
    head = parse_head(b"HTTP/1.1 503 Service Unavailable\r\nX-Content-Length: 1\r\ncOnTeNt-LeNgTh: 77\r\nA: b")

    assert (head.status, head.length) == (503, 77)


def test_an_answer_without_a_length_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="without Content-Length"):
        parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")


def test_a_request_carries_the_query_and_the_headers_of_its_target() -> None:
    mesh = target("mesh", **{"X-Road-Client": "CN/GOV/A/b"})

    lines = get_request(mesh, mesh.url, close=True).decode().split("\r\n")

    assert lines[0] == "GET /r1/CN/GOV?x=1 HTTP/1.1"
    assert {"Host: 127.0.0.1:8443", "X-Road-Client: CN/GOV/A/b", "Connection: close"} <= set(lines)
    assert lines[-2:] == ["", ""]


def test_a_url_without_path_asks_for_the_root() -> None:
    assert path_of("https://127.0.0.1:1") == "/"


ANNOUNCED = {
    "url": "https://127.0.0.1:9443/r1/CN/GOV/1/bench/echo/b/1k",
    "headers": {"X-Road-Client": "CN/GOV/2/caller"},
    "pids": [11, 12],
    "cert": "pki/c.crt",
    "key": "pki/c.key",
    "ca": "pki/ca.pem",
}


def test_the_mesh_announces_how_it_is_reached() -> None:
    mesh = parse_announcement("mesh", json.dumps({**ANNOUNCED, "limit": 512}), extra_pids=(13,))

    assert mesh.pids == (11, 12, 13)
    assert mesh.address == ("127.0.0.1", 9443)
    assert mesh.headers == {"X-Road-Client": "CN/GOV/2/caller"}
    assert mesh.local_url == "https://127.0.0.1:9443/healthz"
    assert mesh.limit == 512


def test_a_mesh_that_names_no_limit_has_none() -> None:
    assert parse_announcement("mesh", json.dumps(ANNOUNCED)).limit is None


@pytest.mark.parametrize("missing", ["url", "headers", "pids", "cert"])
def test_an_incomplete_announcement_is_an_error(missing: str) -> None:
    announced = {key: value for key, value in ANNOUNCED.items() if key != missing}

    with pytest.raises(BenchError, match="unreadable"):
        parse_announcement("mesh", json.dumps(announced))


@pytest.mark.parametrize("size", [BODY_BYTES, 200, 65536])
def test_every_server_answers_with_exactly_as_many_bytes(size: int) -> None:
    assert len(body(size)) == size
    assert json.loads(body(size))["count"] >= 1


def test_each_round_visits_every_target_under_every_load_after_one_warm_up() -> None:
    targets = [target("a"), target("b"), target("c")]

    visited = [(number, load, found.name) for number, load, found in visits(targets, (1, 64), rounds=2)]

    assert len(visited) == len(set(visited)) == 3 * 2 * 3
    assert [number for number, *_ in visited] == [WARM_UP] * 6 + [0] * 6 + [1] * 6
    assert [name for number, load, name in visited if (number, load) == (0, 64)] == ["a", "b", "c"]
    assert [name for number, load, name in visited if (number, load) == (1, 64)] == ["b", "c", "a"]


def test_turning_no_targets_gives_none() -> None:
    assert rotated([], 3) == []


def test_without_options_the_whole_measurement_is_planned() -> None:
    plan = read_plan([])

    assert (plan.connections, plan.rates) == ((1, 16, 64, 256), (200, 1000, 2500))
    assert (plan.rounds, plan.seconds) == (5, 3)
    assert plan.parts == ("closed", "open", "handshakes", "overload", "decisions", "log", "growth")


def test_a_quick_run_gives_way_to_what_is_said_explicitly() -> None:
    plan = read_plan(["--quick", "--rounds", "4", "--only", "open"])

    assert (plan.connections, plan.rounds, plan.seconds) == ((1, 16, 64), 4, 1)
    assert plan.parts == ("open",)


@pytest.mark.parametrize("options", [["--rounds", "0"], ["--connections", "-1"], ["--only", "everything"]])
def test_options_that_make_no_sense_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_plan(options)
    assert "error" in capsys.readouterr().err
