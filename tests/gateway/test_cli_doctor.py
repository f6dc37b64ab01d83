"""`datong doctor`: every line of it, on a mesh that is well and on one that was broken in just that way."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import typer
from typer.testing import CliRunner

from ca_auth import CertificateRequest, DemoCA, client_context
from deploy.trial_mesh import AUDITOR, CALLER, ECHO, PROVIDER, TrialMesh, bus_users, trial_mesh
from exchange import NoteSigner, SubsystemId, member_of
from gateway.cli.doctor import doctor
from registry import Subsystem
from tests.small_disks import small_disk

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Report:
    """What the doctor said."""

    code: int
    text: str
    healthy: bool
    checks: list[dict[str, str]]

    def of(self, name: str) -> dict[str, str]:
        """The one check whose name begins so."""
        (found,) = [each for each in self.checks if each["check"].startswith(name)]
        return found

    def failed(self) -> list[str]:
        return [each["check"] for each in self.checks if each["state"] == "failed"]


@dataclass(frozen=True, slots=True)
class Doctor:
    """Asks about a folder, with the addresses of the mesh unless told otherwise."""

    mesh: TrialMesh

    async def __call__(self, *arguments: str, data: Path | None = None, **environment: str) -> Report:
        app = typer.Typer()
        app.command("doctor")(doctor)
        here = {"DATONG_GATEWAY": self.mesh.url, "DATONG_BUS_URL": self.mesh.nats.url, "LC_ALL": "C.UTF-8"}
        whole = ["--data", str(data or self.mesh.folder), "--json", *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, app, whole, env={**here, **environment})
        assert "Traceback" not in result.output
        assert result.exit_code in (0, 1), (result.output, result.exception)
        told = json.loads(result.stdout)
        assert (
            (result.exit_code == 0)
            == told["healthy"]
            == (not any(each["state"] == "failed" for each in told["checks"]))
        )
        for each in told["checks"]:
            assert each["says"]
            assert each["state"] == "ok" or each["todo"] or "gateway" in each["check"], each
        return Report(result.exit_code, result.output, told["healthy"], told["checks"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrialMesh]:
    folder = tmp_path_factory.mktemp("mesh")
    folder.chmod(0o700)
    async with trial_mesh(folder) as trial:
        for secret in ("log.key", "subject.key"):
            (folder / secret).chmod(0o600)
        await trial.add_adapter("adapter", trial.http_contract("http://127.0.0.1:9"))
        tls = client_context(trial.trust_anchors, *trial.files("caller"))
        async with httpx.AsyncClient(verify=tls, trust_env=False) as client:
            for _ in range(3):
                asked = await client.get(f"{trial.url}/r1/{ECHO}/x", headers={"X-Road-Client": CALLER})
                assert asked.status_code == 502, "there is no backend, and all but that works"
            # Every change of the registry is on the log, too.
            size = str(3 + await trial.registry.version())
            async with asyncio.timeout(20):
                while (await client.get(f"{trial.url}/v1/log/checkpoint")).text.split("\n")[1] != size:
                    await asyncio.sleep(0.01)
        yield trial


@pytest.fixture
def ask(mesh: TrialMesh) -> Doctor:
    return Doctor(mesh)


@pytest.fixture
async def copy(mesh: TrialMesh, tmp_path: Path) -> Path:
    """The mesh's files, to be broken while the mesh runs on."""
    target = tmp_path / "data"
    for name in ("registry.db", "log.db"):
        target.mkdir(exist_ok=True, mode=0o700)
        with closing(sqlite3.connect(mesh.folder / name)) as source, closing(sqlite3.connect(target / name)) as aim:
            source.backup(aim)
    shutil.copytree(mesh.folder / "pki", target / "pki")
    for secret in ("log.key", "subject.key"):
        shutil.copy(mesh.folder / secret, target / secret)
    return target


def change(database: Path, *statements: tuple[str, tuple[object, ...]] | str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for each in statements:
            connection.execute(*((each, ()) if isinstance(each, str) else each))


# A mesh that is well


async def test_a_mesh_that_is_well_has_nothing_to_do(ask: Doctor, mesh: TrialMesh) -> None:
    report = await ask()
    assert report.failed() == []
    assert report.code == 0
    said = {each["check"].split(" ", 1)[0]: each for each in report.checks}
    everything = {
        "folder",
        "disk",
        "keys",
        "CA",
        "certificate",
        "clock",
        "registry",
        "log",
        "bus",
        "adapter",
        "gateway",
    }
    assert said.keys() == everything
    assert {each["check"] for each in report.checks if each["state"] == "warning"} <= {"clock"}
    assert report.of("registry database")["says"].endswith("schema 0008")
    assert report.of("log checkpoint")["says"].startswith("signed by trial.datong.example/log, over ")
    assert report.of("adapter trial")["says"] == f"{PROVIDER} serves echo"
    assert report.of("bus")["says"].startswith("NATS 2.")
    assert report.of("gateway")["says"] == "ready"
    certificates = [each["check"] for each in report.checks if each["check"].startswith("certificate ")]
    assert certificates == [
        f"certificate {name}" for name in ("server", "gateway", "auditor", "caller", "nats", "provider", "stranger")
    ]


async def test_for_people_it_is_a_line_a_check_in_their_language(ask: Doctor, mesh: TrialMesh) -> None:
    app = typer.Typer()
    app.command("doctor")(doctor)
    environment = {"DATONG_GATEWAY": mesh.url, "DATONG_BUS_URL": mesh.nats.url, "LC_ALL": "zh_CN.UTF-8"}
    result = await asyncio.to_thread(CliRunner().invoke, app, ["--data", str(mesh.folder)], env=environment)
    assert result.exit_code == 0
    *lines, summary = [line for line in result.output.splitlines() if not line.startswith("    ")]
    assert {line[0] for line in lines} <= {"✔", "!"}
    assert f"✔ gateway {mesh.url}: 就绪" in lines
    assert summary.startswith(f"检查：{len(lines)} 项，失败：0 项")


async def test_it_changes_nothing_and_begins_nothing(ask: Doctor, copy: Path, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in copy.rglob("*")
            if path.is_file() and not path.name.endswith(("-wal", "-shm"))
        }

    before = files()
    await ask(data=copy)
    assert files() == before
    for name in ("registry.db", "log.db"):
        (copy / name).unlink()
    report = await ask(data=copy)
    assert {"registry database", "log database"} <= set(report.failed())
    assert not (copy / "registry.db").exists()
    missing = await ask(data=tmp_path / "nowhere")
    assert missing.failed() == [f"folder {tmp_path}/nowhere"]
    assert "datong up" in missing.checks[0]["todo"]
    assert not (tmp_path / "nowhere").exists()


# Files


async def test_a_key_that_others_may_read_is_named(ask: Doctor, copy: Path) -> None:
    for name in ("pki/caller.key", "log.key", "subject.key"):
        (copy / name).chmod(0o640)
        report = await ask(data=copy)
        assert f"key {copy / name}" in report.failed()
        assert f"chmod 600 {copy / name}" in report.of(f"key {copy / name}")["todo"]
        (copy / name).chmod(0o600)
    assert (await ask(data=copy)).of("keys")["state"] == "ok"


async def test_a_folder_that_others_may_enter_is_a_warning(ask: Doctor, copy: Path) -> None:
    copy.chmod(0o755)
    found = (await ask(data=copy)).of("folder")
    assert (found["state"], found["todo"]) == ("warning", f"chmod 700 {copy}")


async def test_a_disk_without_room_fails_before_it_is_full(ask: Doctor) -> None:
    with small_disk("8m") as disk:
        found = (await ask(data=disk)).of(f"disk of {disk}")
    assert (found["state"], found["says"]) == ("failed", "0.0 GB free")


async def test_certificates_that_end_or_do_not_fit_are_named(ask: Doctor, copy: Path) -> None:
    ca = DemoCA.load(copy / "pki")
    request = CertificateRequest.for_subsystem(CALLER)
    now = datetime.now(UTC)
    ca.issue("ended", request, not_after=now - timedelta(hours=1))
    ca.issue("early", request, not_before=now + timedelta(hours=1), not_after=now + timedelta(days=99))
    ca.issue("soon", request, not_before=now - timedelta(days=80), not_after=now + timedelta(days=10))
    ca.issue("week", request, not_before=now - timedelta(days=80), not_after=now + timedelta(days=7))
    ca.issue("now", request, not_before=now - timedelta(days=80), not_after=now + timedelta(hours=20))
    ca.issue("brief", request, days=10)  # a life shorter than the alarm is no reason for it
    ca.issue("mixed", request)
    shutil.copy(copy / "pki/caller.key", copy / "pki/mixed.key")
    ca.issue("alone", request)
    (copy / "pki/alone.key").unlink()
    foreign = DemoCA.create(copy.parent / "foreign", name="Somebody else's root").issue("x", request)
    shutil.copy(foreign.certificate, copy / "pki/foreign.crt")
    shutil.copy(foreign.key, copy / "pki/foreign.key")
    (copy / "pki/damaged.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (copy / "pki/damaged.key").write_text("")
    report = await ask(data=copy)
    for name, state, told in (
        ("ended", "failed", "expired on"),
        ("early", "failed", "valid from"),
        ("soon", "warning", "only 9 days left"),
        ("week", "warning", "only 6 days left"),
        ("now", "warning", "only a day or less left"),
        ("brief", "ok", "9 days left"),
        ("mixed", "failed", "mixed.key is not its key"),
        ("alone", "failed", "alone.key: No such file"),
        ("foreign", "failed", "Its issuer is neither"),
        ("damaged", "failed", "cannot be read"),
        ("caller", "ok", "days left"),
    ):
        found = report.of(f"certificate {name}")
        assert (found["state"], told in found["says"]) == (state, True), found


async def test_without_trust_anchors_it_says_so(ask: Doctor, copy: Path) -> None:
    for content in ("", "hello", (copy / "pki/caller.crt").read_text()):
        (copy / "pki/ca.pem").write_text(content)
        report = await ask(data=copy)
        assert f"CA {copy}/pki/ca.pem" in report.failed()
    (copy / "pki/ca.pem").unlink()
    assert "No such file" in (await ask(data=copy)).of("CA")["says"]


# Databases


@pytest.mark.parametrize("name", ["registry", "log"])
async def test_a_schema_of_another_version_is_told_with_the_direction(ask: Doctor, copy: Path, name: str) -> None:
    for revision, told in (("0000", "and this program needs"), ("9999", "newer than this program")):
        change(copy / f"{name}.db", (f"UPDATE {name}_schema_version SET version_num = ?", (revision,)))
        report = await ask(data=copy)
        assert f"{name} database" in report.failed()
        assert told in report.of(f"{name} database")["says"]
    change(copy / f"{name}.db", f"DROP TABLE {name}_schema_version")
    assert "has schema none" in (await ask(data=copy)).of(f"{name} database")["says"]


async def test_a_database_that_is_none_or_away_is_told_without_its_password(ask: Doctor, copy: Path) -> None:
    (copy / "log.db").write_bytes(b"this is no database " * 500)
    report = await ask(data=copy, DATONG_REGISTRY_DATABASE="postgresql://datong:s3cret@127.0.0.1:9/x")
    assert {"log database", "registry database"} <= set(report.failed())
    assert "s3cret" not in report.text
    assert "DATONG_REGISTRY_DATABASE" in report.of("registry database")["todo"]
    for url in ("mysql://x", "nonsense"):
        assert "registry database" in (await ask(data=copy, DATONG_REGISTRY_DATABASE=url)).failed()


async def test_a_checkpoint_of_another_key_or_over_more_than_there_is_fails(ask: Doctor, copy: Path) -> None:
    (copy / "log.key").write_text(NoteSigner.generate("trial.datong.example/log").skey)
    found = (await ask(data=copy)).of("log checkpoint")
    assert (found["state"], "does not verify" in found["says"], "audit check" in found["todo"]) == (
        "failed",
        True,
        True,
    )


async def test_records_that_vanished_below_the_checkpoint_are_noticed(ask: Doctor, copy: Path) -> None:
    change(copy / "log.db", "UPDATE log_state SET size = size - 1")
    found = (await ask(data=copy)).of("log checkpoint")
    assert found["state"] == "failed"
    assert "records, and only" in found["says"]


async def test_old_records_without_a_checkpoint_are_a_warning(ask: Doctor, copy: Path, mesh: TrialMesh) -> None:
    change(
        copy / "log.db",
        "DELETE FROM log_checkpoints",
        ("UPDATE log_entries SET at_ms = ?", (time.time_ns() // 1_000_000 - 90_000,)),
    )
    found = (await ask(data=copy)).of("log checkpoint")
    recorded = await mesh.registry.version()
    assert (found["state"], found["says"]) == ("warning", f"{3 + recorded} records are not under one")


async def test_exchanges_that_never_ended_are_a_warning(ask: Doctor, copy: Path) -> None:
    change(copy / "log.db", "INSERT INTO log_intents VALUES ('x', 'gateway-7', 'boot', 0, 1, NULL, X'7b7d')")
    found = (await ask(data=copy)).of("log intents")
    assert found["state"] == "warning"
    assert "by gateway-7" in found["says"]


async def test_a_clock_that_lies_before_the_record_fails(ask: Doctor, copy: Path) -> None:
    change(copy / "log.db", ("UPDATE log_entries SET at_ms = ?", (time.time_ns() // 1_000_000 + 600_000,)))
    found = (await ask(data=copy)).of("clock")
    assert found["state"] == "failed"
    assert "before the newest record" in found["says"]


async def test_a_registered_certificate_that_ends_is_told_wherever_it_lies(ask: Doctor, copy: Path) -> None:
    begin, end = datetime.now(UTC) - timedelta(days=60), datetime.now(UTC) + timedelta(days=5)
    request = CertificateRequest.for_subsystem(PROVIDER)
    issued = DemoCA.load(copy / "pki").issue("other", request, not_before=begin, not_after=end)
    change(copy / "registry.db", ("UPDATE certificates SET der = ?", (issued.der,)))
    found = (await ask(data=copy)).of(f"registered certificate of {PROVIDER}")
    assert (found["state"], found["says"]) == ("warning", "only 4 days left")


# Parts that are gone


async def test_a_bus_that_is_down_is_told_and_so_is_what_the_gateway_says(ask: Doctor, mesh: TrialMesh) -> None:
    await mesh.nats.stop()
    try:
        report = await ask()
        bus = report.of("bus")
        assert bus["state"] == "failed"
        assert "DATONG_BUS_URL" in bus["todo"]
        assert report.of("gateway")["says"] == "not ready: bus"
        assert set(report.failed()) == {bus["check"], report.of("gateway")["check"]}
    finally:
        await mesh.nats.start(bus_users())
    async with asyncio.timeout(20):
        while (await ask()).code:
            await asyncio.sleep(0.1)


async def test_a_bus_that_does_not_admit_the_gateway_is_told(ask: Doctor, copy: Path) -> None:
    stranger = {
        "DATONG_GATEWAY_CERTIFICATE": str(copy / "pki/stranger.crt"),
        "DATONG_GATEWAY_KEY": str(copy / "pki/stranger.key"),
    }
    assert (await ask(data=copy, **stranger)).of("bus")["state"] == "failed"


async def test_a_gateway_that_is_down_or_something_else_is_told(
    ask: Doctor, copy: Path, free_ports: Callable[[], int]
) -> None:
    url = f"https://localhost:{free_ports()}"
    assert (await ask(data=copy, DATONG_GATEWAY=url)).of("gateway")["says"].startswith(f"no gateway listens at {url}")
    foreign = DemoCA.create(copy.parent / "foreign", name="Somebody else's root")
    (copy / "pki/ca.pem").write_bytes(foreign.trust_anchors)
    assert "does not verify" in (await ask(data=copy)).of("gateway")["says"]


async def test_a_service_without_an_adapter_is_told(ask: Doctor, mesh: TrialMesh) -> None:
    (adapter,) = mesh.adapters
    await mesh.supervisor.stop_child(adapter.program.name)
    report = await ask()
    assert report.failed() == [f"service {ECHO}"]
    assert "datong adapter run" in report.of("service")["todo"]
    mesh.adapters.clear()
    await mesh.add_adapter("adapter", mesh.http_contract("http://127.0.0.1:9"))
    assert (await ask()).failed() == []


# One certificate


async def test_a_certificate_that_is_good_is_tried_on_the_gateway(ask: Doctor, mesh: TrialMesh) -> None:
    for party in ("caller", "auditor", "stranger"):
        report = await ask("--cert", str(mesh.files(party)[0]))
        assert report.failed() == []
        assert report.of(f"gateway {mesh.url}")["says"] == "takes the certificate"
    assert (await ask("--cert", str(mesh.files("auditor")[0]))).of(f"registry {AUDITOR}")["says"].endswith("auditor")


async def test_a_members_certificate_shows_as_whom_it_may_act(ask: Doctor, mesh: TrialMesh) -> None:
    issued = mesh.ca.issue("whole", CertificateRequest.for_member(member_of(CALLER)))
    report = await ask("--cert", str(issued.certificate))
    assert report.failed() == []
    assert CALLER in report.of("registry")["says"]
    nobody = mesh.ca.issue("whole", CertificateRequest.for_member(member_of(SubsystemId("CN/GOV/none/x"))))
    assert "no subsystem of it is registered" in (await ask("--cert", str(nobody.certificate))).of("registry")["says"]
    for path in (issued.certificate, issued.key):
        path.unlink()


async def test_a_certificate_that_would_be_refused_is_told_why(ask: Doctor, mesh: TrialMesh, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ca = DemoCA.load(Path(shutil.copytree(mesh.folder / "pki", tmp_path / "pki")))
    request = CertificateRequest.for_subsystem(CALLER)
    foreign = DemoCA.create(tmp_path / "foreign", name="Somebody else's root")
    cases = [
        (ca.issue("ended", request, not_after=now - timedelta(days=1)), "rule certificate-expired"),
        (ca.issue("early", request, not_before=now + timedelta(days=1)), "rule certificate-not-yet-valid"),
        (foreign.issue("foreign", request), "rule certificate-chain"),
        (ca.issue("nobody", CertificateRequest(common_name="nobody", self_renewing=True)), "rule certificate-profile"),
        (ca.issue("server2", CertificateRequest.for_server()), "rule certificate-purpose"),
    ]
    for issued, told in cases:
        report = await ask("--cert", str(issued.certificate))
        assert report.code == 1
        assert told in report.checks[0]["says"]
    assert "Somebody else's root" in (await ask("--cert", str(cases[2][0].certificate))).checks[0]["todo"]


async def test_a_certificate_nobody_registered_or_that_is_suspended_is_told(ask: Doctor, mesh: TrialMesh) -> None:
    ghost = SubsystemId(f"{member_of(CALLER)}/ghost")
    issued = mesh.ca.issue("ghost", CertificateRequest.for_subsystem(ghost))
    report = await ask("--cert", str(issued.certificate))
    assert report.of("registry")["says"] == "is not registered"
    assert "client-registered" in report.of("gateway")["says"]
    who: dict[str, Any] = {"by": "test", "why": "test"}
    await mesh.registry.add_subsystem(Subsystem(id=ghost, name="ghost"), **who)
    await mesh.registry.set_subsystem_state(ghost, active=False, **who)
    report = await ask("--cert", str(issued.certificate))
    assert report.of("registry")["says"] == "is suspended"
    for path in (issued.certificate, issued.key):
        path.unlink()


async def test_a_key_that_does_not_belong_to_the_certificate_is_told(
    ask: Doctor, mesh: TrialMesh, tmp_path: Path
) -> None:
    certificate = str(mesh.files("caller")[0])
    wrong = await ask("--cert", certificate, "--key", str(mesh.files("stranger")[1]))
    assert wrong.of("key")["says"] == "is not the key of the certificate"
    garbage = tmp_path / "garbage.key"
    garbage.write_text("hello")
    assert "cannot be read" in (await ask("--cert", certificate, "--key", str(garbage))).of("key")["says"]
    assert "No such file" in (await ask("--cert", certificate, "--key", "/no/key")).of("key")["says"]


async def test_a_certificate_is_judged_without_a_mesh_too(ask: Doctor, mesh: TrialMesh, tmp_path: Path) -> None:
    """A department has a certificate and the CA's, and nothing else."""
    alone = tmp_path / "mine.crt"
    shutil.copy(mesh.files("caller")[0], alone)
    report = await ask("--cert", str(alone), "--cacert", str(mesh.trust_anchors), data=tmp_path / "nowhere")
    assert (report.code, len(report.checks)) == (0, 2)
    missing = await ask("--cert", str(tmp_path / "no.crt"), "--cacert", str(mesh.trust_anchors))
    assert "no.crt: No such file" in missing.checks[0]["says"]
    assert (await ask("--cert", str(alone), data=tmp_path / "nowhere")).code == 1


async def test_wrong_usage_is_status_2(mesh: TrialMesh) -> None:
    app = typer.Typer()
    app.command("doctor")(doctor)
    for arguments, environment in (
        (["--gateway", "localhost"], {}),
        (["--lang", "fr"], {}),
        ([], {"DATONG_PORT": "many"}),
    ):
        result = await asyncio.to_thread(
            CliRunner().invoke, app, ["--data", str(mesh.folder), *arguments], env={"DATONG_GATEWAY": "", **environment}
        )
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
