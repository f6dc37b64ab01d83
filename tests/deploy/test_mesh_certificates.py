"""Certificates in a running mesh: revoked, and the next request on an open connection is refused, in every gateway; enrolled."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ca_auth import CertificateRequest, DemoCA
from deploy.demo.identities import (
    CIVIL_SUBSYSTEM,
    DEPARTMENTS,
    HOUSING_SUBSYSTEM,
    OPERATOR_SUBSYSTEM,
    STRANGER_SUBSYSTEM,
    TAX_SUBSYSTEM,
)
from deploy.demo.synthetic import ENTERPRISE_IN_GOOD_ORDER
from tests.running_mesh import DATA, SOURCE, Up, datong_up, source_environment
from tests.waiting import wait_until

COMPANY = f"{TAX_SUBSYSTEM}/enterprises/enterprises/{ENTERPRISE_IN_GOOD_ORDER}"
WITHIN = 5.0
"""Seconds from the command to the first refusal."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with datong_up(tmp_path_factory.mktemp("certificates"), "--port", "0") as running:
        yield running


def datong(mesh: Up, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command, standing where the mesh was started, with its CA."""
    return subprocess.run(
        [*SOURCE, *arguments],
        cwd=mesh.folder,
        env={**mesh.environment, "DATONG_CA": f"{DATA}/ca", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def done(mesh: Up, *arguments: str, **environment: str) -> dict[str, object]:
    """What a command that succeeds says, as JSON."""
    ran = datong(mesh, *arguments, "--json", **environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result: dict[str, object] = json.loads(ran.stdout)
    return result


@contextmanager
def second_gateway(mesh: Up) -> Iterator[str]:
    """One more gateway process on the same folder; its address."""
    ready = mesh.folder / "second.url"
    environment = {
        "DATONG_GATEWAY_NAME": "second",
        "DATONG_BUS_URL": mesh.what["nats"]["url"],
        "DATONG_READY_FILE": str(ready),
    }
    with (mesh.folder / "second.log").open("w") as log:
        process = subprocess.Popen(
            [*SOURCE, "gateway", "--data", DATA, "--port", "0"],
            cwd=mesh.folder,
            env=source_environment() | environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: ready.exists() and ready.read_text(), within=60)
        yield ready.read_text()
    finally:
        process.terminate()
        process.wait(30)


@dataclass
class Loop:
    """A curl that asks again and again over one connection, and when each answer came."""

    process: subprocess.Popen[str]
    answers: list[tuple[float, int, int]] = field(default_factory=list)
    """Time, status, connections that were opened for it."""

    def read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            if found := re.match(r"answer (\d+) (\d+)$", line):
                self.answers.append((time.monotonic(), int(found[1]), int(found[2])))

    def refusals(self) -> list[tuple[float, int, int]]:
        return [each for each in self.answers if each[1] != 200]


@contextmanager
def asking(mesh: Up, url: str, name: str) -> Iterator[Loop]:
    """`curl` as the certificate `name`, ten times a second."""
    pki = f"{DATA}/pki"
    command = [
        *("curl", "-sS", "--noproxy", "*", "--rate", "600/m", "-o", "/dev/null"),
        *("-w", r"%{stderr}answer %{http_code} %{num_connects}\n"),
        *("--cacert", f"{pki}/ca.pem", "--cert", f"{pki}/{name}.crt", "--key", f"{pki}/{name}.key"),
        *("-H", f"X-Road-Client: {HOUSING_SUBSYSTEM}", "-H", "Datong-Purpose: public-rental-housing"),
        f"{url}/r1/{COMPANY}?n=[1-3000]",
    ]
    with subprocess.Popen(
        command, cwd=mesh.folder, env=mesh.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        loop = Loop(process)
        thread = threading.Thread(target=loop.read, daemon=True)
        thread.start()
        try:
            yield loop
        finally:
            process.kill()
            thread.join(10)


def test_a_revoked_certificate_is_refused_on_open_connections_within_five_seconds_by_every_gateway(mesh: Up) -> None:
    """Before: 200 over one connection. After: 401 on that very connection, which closes, and 401 on each new one."""
    with second_gateway(mesh) as second:
        urls = (mesh.what["gateway"], second)
        with asking(mesh, urls[0], "housing") as first_loop, asking(mesh, urls[1], "housing") as second_loop:
            loops = (first_loop, second_loop)
            wait_until(lambda: all(len(loop.answers) > 5 for loop in loops))
            assert not any(loop.refusals() for loop in loops)
            assert all(loop.answers[0][2] == 1 and {each[2] for each in loop.answers[1:]} == {0} for loop in loops)

            started = time.monotonic()
            said = done(mesh, "ca", "revoke", "--for", HOUSING_SUBSYSTEM, "--reason", "keyCompromise", "--why", "test")
            assert len(said["revoked"]) == 1  # type: ignore[arg-type]
            wait_until(lambda: all(len(loop.refusals()) > 2 for loop in loops))
        for loop in loops:
            at, status, connects = loop.refusals()[0]
            assert at - started < WITHIN
            assert (status, connects) == (401, 0)
            after = loop.answers[loop.answers.index((at, status, connects)) + 1 :]
            assert {each[1:] for each in after} == {(401, 1)}
            print(f"refused {at - started:.2f} s after the command began")
    listed = done(mesh, "audit", "list", "--data", DATA, "--outcome", "refused", "--limit", "1")
    (record,) = listed["exchanges"]  # type: ignore[misc]
    assert record["record"]["rule"] == "certificate-revoked"


def test_a_department_enrols_calls_and_renews(mesh: Up, tmp_path: Path) -> None:
    """With the commands of the README: a code, a certificate for a key made here, a call, the next certificate."""
    url = mesh.what["gateway"]
    fingerprint = mesh.what["ca"]["root_sha256"]
    registered = datong(mesh, "member", "list", "--data", DATA, "--json")
    assert registered.returncode == 0
    code = done(mesh, "ca", "code", "--for", CIVIL_SUBSYSTEM, "--why", "test")
    enrolled = done(
        *(mesh, "ca", "enroll", "--url", url, "--root-fingerprint", fingerprint, "--out", str(tmp_path)),
        DATONG_ENROLMENT_CODE=str(code["code"]),
    )
    certificate = Path(str(enrolled["certificate"]))
    before = certificate.read_bytes()
    asked = mesh.paste(curl(mesh, tmp_path, url, CIVIL_SUBSYSTEM, COMPANY))
    assert "HTTP/1.1 403" in asked.stdout, asked.stdout + asked.stderr  # known, and without a grant
    renewed = datong(mesh, "ca", "renew", "--url", url, "--cert", str(certificate), "--now")
    assert renewed.returncode == 0, renewed.stderr
    assert certificate.read_bytes() != before
    assert "HTTP/1.1 403" in mesh.paste(curl(mesh, tmp_path, url, CIVIL_SUBSYSTEM, COMPANY)).stdout


def test_what_is_posted_is_not_got(mesh: Up) -> None:
    """A 405 names what the address offers."""
    address = f"{mesh.what['gateway']}/v1/certificates/enrolments"
    said = mesh.paste(shlex.join(["curl", "-sSi", "--noproxy", "*", "--cacert", f"{DATA}/pki/ca.pem", address])).stdout
    assert "HTTP/1.1 405" in said
    assert "allow: POST" in said


def curl(mesh: Up, folder: Path, url: str, client: str, path: str) -> str:
    files = ("--cacert", f"{folder}/ca.pem", "--cert", f"{folder}/client.crt", "--key", f"{folder}/client.key")
    return shlex.join(
        [
            "curl",
            "-sSi",
            "--noproxy",
            "*",
            *files,
            "-H",
            f"X-Road-Client: {client}",
            "-H",
            "Datong-Purpose: x",
            f"{url}/r1/{path}",
        ]
    )


def test_a_restart_keeps_certificates_and_undoes_no_revocation(tmp_path: Path) -> None:
    """The revoked adapter is cut off while the mesh runs, by the bus, and does not come back; nor does a revoked caller."""
    with datong_up(tmp_path, "--port", "0") as first:
        ask = first.command(200)
        assert first.status(ask) == 200
        done(first, "ca", "revoke", "--for", TAX_SUBSYSTEM)
        wait_until(lambda: first.status(ask) == 503)  # the registry follows the CA, and the bus the registry
        assert "Reloaded server configuration" in (tmp_path / DATA / "run" / "nats-server.log").read_text()
        done(first, "ca", "revoke", "--for", STRANGER_SUBSYSTEM)
        assert first.stop() == 0
    pki = tmp_path / DATA / "pki"
    before = {path.name: path.read_bytes() for path in pki.glob("*.crt")}
    (pki / "audit.key").unlink()
    with datong_up(tmp_path) as again:
        assert {"event": "trouble", "trouble": "not_admitted", "adapter": "tax"} in again.lines
        assert "adapter-tax" not in again.pids
        after = {path.name: path.read_bytes() for path in pki.glob("*.crt")}
        assert {name for name in before if before[name] != after[name]} == {"audit.crt"}
        audit = next(each for each in again.what["examples"] if "/v1/exchanges" in each["command"])
        assert again.status(audit["command"]) == 200  # with its new one
        assert again.status(ask) == 503
        assert again.status(again.command(403)) == 401  # stranger's
        assert again.stop() == 0


def test_a_folder_of_an_older_version_still_starts_and_it_is_said(tmp_path: Path) -> None:
    """Its root signs everything itself; it goes on so, without a trust file and without a CA to renew at."""
    old = DemoCA.open(tmp_path / DATA / "pki")
    for each in DEPARTMENTS:
        name = "gateway" if each.subsystem == OPERATOR_SUBSYSTEM else each.key
        old.ensure(name, CertificateRequest.for_subsystem(each.subsystem, each.name_zh))
    before = {path.name: path.read_bytes() for path in (tmp_path / DATA / "pki").glob("*.crt")}
    with datong_up(tmp_path, "--port", "0") as mesh:
        assert {"event": "trouble", "trouble": "old_ca"} in mesh.lines
        assert mesh.what["ca"]["root_sha256"] == old.fingerprint
        asked = [each for each in mesh.what["examples"] if each["status"] is not None]
        assert [mesh.status(each["command"]) for each in asked] == [each["status"] for each in asked]
        assert mesh.stop() == 0
    after = {name: (tmp_path / DATA / "pki" / name).read_bytes() for name in before}
    assert after == before
    assert not (tmp_path / DATA / "ca").exists()
