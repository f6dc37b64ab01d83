"""`datong demo`, as a user runs it: it passes, leaves nothing behind, and a step that is broken ends it with status 1."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from deploy.demo.tour import HARMS, Tour, TourError, tamper
from deploy.nats import BusServerError, nats_server_program
from tests.ci import missing
from tests.waiting import alive, wait_until

ROOT = Path(__file__).parents[2]
STEPS = 15


@pytest.fixture(autouse=True)
def bus_server() -> None:
    try:
        nats_server_program()
    except BusServerError as error:
        missing(str(error))


def demo(tmp_path: Path, *options: str, errors: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    """The command, with temporary files in a place of the test's, and settings in the way that are not its own."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "demo", *options],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(tmp_path / "tmp"),
            "LC_ALL": "C.UTF-8",
            # Of a mesh that matters: the tour must not touch it.
            "DATONG_LOG_DATABASE": f"sqlite:///{tmp_path}/precious.db",
            "DATONG_REGISTRY_DATABASE": f"sqlite:///{tmp_path}/precious.db",
            "DATONG_GATEWAY": "https://precious.example",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


def test_the_tour_passes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        out, err = process.communicate(timeout=110)
    assert (process.returncode, err) == (0, ""), out + err
    lines = out.splitlines()
    assert [line.partition(".")[0] for line in lines if line[:1].isdigit()] == [str(n + 1) for n in range(STEPS)]
    assert lines[-1] == "✔ Every step showed what it was to show."
    for shown in (
        "$ datong call --data data --as housing --purpose public-rental-housing ",
        "The receipt holds.",
        "The receipt does NOT hold.",
        "The log was CHANGED.",
        "0 contradictions.",
    ):
        assert shown in out
    assert out.count("\n     403 ") == 3
    assert "\n     401 " in out
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "precious.db").exists()


def test_a_step_that_shows_something_else_ends_the_tour_and_the_mesh_with_status_1(tmp_path: Path) -> None:
    """Here a ledger is taken away under its hands: it no longer agrees. In Chinese, and what it made is kept."""
    kept = tmp_path / "kept"
    with (
        (tmp_path / "errors").open("w+") as errors,
        demo(tmp_path, "--lang", "zh", "--keep", "kept", errors=errors) as process,
    ):
        assert process.stdout
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("13. "):
                pids = [int(path.read_text()) for path in (kept / "data" / "run").glob("*.pid")]
                shutil.rmtree(kept / "data" / "adapters" / "civil" / "ledger")
        assert process.wait(60) == 1
        errors.seek(0)
        assert errors.read().startswith("\n✘ 这一步与预期不符：exit status ")
    assert [line for line in seen if line[:1].isdigit()][-1].startswith("14. ")
    for shown in ("没有授权的部门被拒绝", "回执有效。", "回执无效！", "日志已被改动！"):
        assert shown in "".join(seen)
    assert pids
    wait_until(lambda: not any(map(alive, pids)))
    assert {"data", "receipt.json", "forged.json", "tampered.db", "answer.json"} <= {
        path.name for path in kept.iterdir()
    }
    assert kept.stat().st_mode & 0o077 == 0
    assert not list((kept / "data" / "run").glob("*.pid"))
    with demo(tmp_path, "--keep", "kept") as second:
        _, err = second.communicate(timeout=60)
    assert second.returncode == 1
    assert err == "error: kept: File exists\n"


def test_a_mesh_that_does_not_come_up_ends_the_tour_with_status_1(tmp_path: Path) -> None:
    """No file may be larger than 64 kB: the department's database cannot be made."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
    try:
        process = demo(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with process:
        out, err = process.communicate(timeout=110)
    assert process.returncode == 1
    assert "1. A mesh of its own comes up" in out
    assert err.startswith("\n✘ This step did not show what it was to show: the mesh did not come up")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_killed_it_takes_its_mesh_with_it(tmp_path: Path) -> None:
    with demo(tmp_path, "--keep", "kept") as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("2. "):
                break
        pids = [int(path.read_text()) for path in (tmp_path / "kept" / "data" / "run").glob("*.pid")]
        assert pids
        process.kill()
        process.communicate()
    wait_until(lambda: not any(map(alive, pids)))


def test_a_command_is_judged_by_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tour = Tour(tmp_path, "en")
    (tmp_path / "keys.json").write_text("{}")
    with pytest.raises(TourError, match="exit status 2, not 0"):
        tour.run("verify", "receipt.json", "--keys", "keys.json")
    tour.run("verify", "receipt.json", "--keys", "keys.json", status=2)
    assert "$ datong verify receipt.json --keys keys.json" in capsys.readouterr().out
    with pytest.raises(TourError, match="no certificate of 'housing'"):
        tour.call("housing", "CN/GOV/a/b/c", expect=200)


@pytest.mark.parametrize("harm", HARMS)
def test_tampering_needs_something_to_tamper_with(tmp_path: Path, harm: str) -> None:
    """The step cannot pass by changing nothing: a copy of an empty log is not a log that was tampered with."""
    with closing(sqlite3.connect(tmp_path / "log.db")) as log:
        log.execute("CREATE TABLE log_entries (seq, outcome, leaf)")
        log.execute("CREATE TABLE log_checkpoints (size)")
    with pytest.raises(TourError, match="nothing was changed"):
        tamper(tmp_path / "log.db", tmp_path / "copy.db", HARMS[harm])
