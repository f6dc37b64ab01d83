"""`datong up`, as a user runs it: a real mesh in a folder of its own, and what was printed, pasted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_mesh import DATA, SOURCE, Up, datong_up, source_environment, start
from tests.waiting import alive, wait_until


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One mesh for the tests that leave it as it is."""
    with datong_up(tmp_path_factory.mktemp("mesh"), "--port", "0") as running:
        yield running


def test_it_says_what_came_up(mesh: Up) -> None:
    what = mesh.what
    assert what["demo_only"] is True
    assert what["reused"] is False
    assert len(what["ca"]["root_sha256"]) == 64
    assert what["nats"]["version"].startswith("2.")
    assert what["nats"]["url"].startswith("tls://127.0.0.1:")
    assert what["databases"]["log"] == f"SQLite {DATA}/log.db"
    assert what["gateway"].startswith("https://localhost:")
    assert {each["key"] for each in what["departments"]} >= {
        "tax",
        "civil",
        "housing",
        "stranger",
        "audit",
        "health",
        "land",
    }
    departments = {"tax-bureau", "land-bureau", *(f"adapter-{key}" for key in ("tax", "civil", "health", "land"))}
    departments |= {"witness-audit", "witness-civil"}
    assert set(mesh.pids) == {"nats-server", "gateway", *departments}
    assert all(alive(pid) for pid in mesh.pids.values())


def test_each_printed_curl_line_works_when_pasted(mesh: Up) -> None:
    for example in mesh.what["examples"]:
        if example["status"] is not None:
            assert mesh.status(example["command"]) == example["status"], example["what"]


def test_the_printed_receipt_line_fetches_and_verifies(mesh: Up) -> None:
    (example,) = [each for each in mesh.what["examples"] if each["status"] is None]
    done = mesh.paste(example["command"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((mesh.folder / DATA / "receipt.json").read_text())


def test_departments_are_asked_callers_refused_and_the_auditor_looks(mesh: Up) -> None:
    assert [each["status"] for each in mesh.what["examples"]] == [200, 200, 200, 200, 403, 401, 200, None]


def test_a_second_mesh_on_the_same_folder_is_a_clear_error(mesh: Up) -> None:
    said = refusal(mesh.folder)
    assert f"A mesh is already up on {DATA}" in said
    assert f"process {mesh.process.pid}" in said
    assert "--data" in said


def test_a_busy_port_is_a_clear_error(mesh: Up, tmp_path: Path) -> None:
    port = mesh.what["gateway"].rpartition(":")[2]
    assert f"Port {port} on 127.0.0.1 is in use" in refusal(tmp_path, "--port", port)


def refusal(folder: Path, *options: str) -> str:
    """What `datong up` says when it does not come up."""
    done = subprocess.run(
        [*SOURCE, "up", "--data", DATA, *options],
        cwd=folder,
        env=source_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_private_keys_are_readable_by_their_owner_only(mesh: Up) -> None:
    folder = mesh.folder / DATA
    assert folder.stat().st_mode & 0o077 == 0
    keys = [*folder.glob("pki/*.key"), folder / "log.key", folder / "subject.key", folder / "mesh.json"]
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["adapter-tax", "nats-server", "tax-bureau", "gateway"])
def test_a_killed_part_comes_back_and_it_is_said(mesh: Up, name: str) -> None:
    old = mesh.pids[name]
    os.kill(old, signal.SIGKILL)
    assert mesh.read_until("child", kind="died", name=name)["code"] == -signal.SIGKILL
    mesh.pids[name] = mesh.read_until("child", kind="ready", name=name)["pid"]
    assert mesh.pids[name] != old
    wait_until(lambda: mesh.paste(mesh.command(200)).stdout.startswith("HTTP/1.1 200"))


@pytest.mark.faults
def test_state_survives_ctrl_c_and_a_kill_and_no_child_outlives_either(tmp_path: Path) -> None:
    with datong_up(tmp_path, "--port", "0") as mesh:
        first = mesh.what
        for example in first["examples"][:6]:
            assert mesh.status(example["command"]) == example["status"]
        assert stopped_by_ctrl_c(mesh) == {*mesh.pids}
        assert not any(alive(pid) for pid in mesh.pids.values())
    with datong_up(tmp_path) as mesh:
        again = mesh.what
        assert again["reused"] is True
        assert again["exchanges"] >= 4
        assert again["created_at"] == first["created_at"]
        assert again["ca"] == first["ca"]
        # What was printed by the first run still works, word for word.
        assert again["examples"] == first["examples"]
        assert mesh.status(first["examples"][0]["command"]) == 200
        mesh.process.kill()
        mesh.process.wait(30)
        wait_until(lambda: not any(alive(pid) for pid in mesh.pids.values()))
    with datong_up(tmp_path) as mesh:
        assert mesh.what["reused"] is True
        assert mesh.status(mesh.command(200)) == 200


def stopped_by_ctrl_c(mesh: Up) -> set[str]:
    """End the mesh as a terminal does, and look in which order its parts were stopped; their names."""
    os.killpg(mesh.process.pid, signal.SIGINT)  # to the whole foreground group
    assert mesh.process.wait(30) == 0
    assert mesh.process.stdout
    stopped = [
        line["name"]
        for line in map(json.loads, mesh.process.stdout)
        if line["event"] == "child" and line["kind"] == "stopped"
    ]
    assert stopped[0] == "gateway"
    assert stopped[-2:] == ["tax-bureau", "nats-server"]
    return set(stopped)


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", ["a new mesh in", "demo CA: root SHA-256", "DEMO ONLY", "-> 403", "stopping", "gateway stopped"]),
        ("zh", ["建立新的演示环境", "根证书 SHA-256", "仅供演示", "-> 403", "正在停止", "gateway 已停止"]),
    ],
)
def test_people_read_it_in_their_language(tmp_path: Path, language: str, expected: list[str]) -> None:
    with start(tmp_path, "--port", "0", "--lang", language) as process:
        assert process.stdout
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "verify" in line:  # the last command
                process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    text = "".join(said)
    for each in expected:
        assert each in text
    assert (tmp_path / "stderr").read_text() == ""
