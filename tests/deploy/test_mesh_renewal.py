"""Certificates are renewed while the mesh carries questions: every question is answered, and every receipt holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ca_auth import client_context, fingerprint_of
from deploy.demo.identities import HOUSING_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.demo.synthetic import ENTERPRISE_IN_GOOD_ORDER
from exchange import LogReader, create_engine, verify_receipt
from tests.running_mesh import DATA, SOURCE, Up, datong_up
from tests.waiting import until

COMPANY = f"{TAX_SUBSYSTEM}/enterprises/enterprises/{ENTERPRISE_IN_GOOD_ORDER}"
LOOK, SETTLE = "0.2", "2"
"""Seconds; shorter than in earnest, so that the test ends soon."""
CALLERS = 6
PAUSE = 0.1
"""Seconds between two questions of one caller: enough are under way whatever changes, and two cores stand it."""
HEADERS = {"X-Road-Client": HOUSING_SUBSYSTEM, "Datong-Purpose": "public-rental-housing"}


@dataclass
class Load:
    """What callers were told."""

    statuses: list[int] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, response: httpx.Response) -> None:
        self.statuses.append(response.status_code)
        if response.status_code in (200, 201):
            self.receipts.append(response.headers["datong-receipt"])
        else:
            self.problems.append(response.text)

    async def more(self, count: int) -> None:
        goal = len(self.statuses) + count
        await until(lambda: len(self.statuses) >= goal, 60)


@contextlib.asynccontextmanager
async def load(mesh: Up) -> AsyncIterator[Load]:
    """Callers on kept and on new connections, that read and that change something, while the block runs."""
    found, stop = Load(), False
    url = f"{mesh.what['gateway']}/r1/{COMPANY}"

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        if number % 3:
            found.add(await client.get(url))
        else:
            found.add(await client.post(f"{url}/certificates", json={"applicant": "某局", "purpose": "核查"}))

    async def keep_asking(number: int) -> None:
        async with client_of(mesh) as client:
            while not stop:
                if number % 2:
                    await ask(client, number)
                else:
                    async with client_of(mesh) as fresh:  # with what is in the files now
                        await ask(fresh, number)
                await asyncio.sleep(PAUSE)

    tasks = [asyncio.create_task(keep_asking(number)) for number in range(CALLERS)]
    try:
        yield found
    finally:
        stop = True
        await asyncio.gather(*tasks)


def client_of(mesh: Up) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=context_of(mesh), headers=HEADERS, timeout=30, trust_env=False)


def context_of(mesh: Up) -> ssl.SSLContext:
    """TLS with the files of the caller as they are now."""
    pki = mesh.folder / DATA / "pki"
    while True:
        try:
            return client_context(pki / "ca.pem", pki / "housing.crt", pki / "housing.key")
        except ssl.SSLError as error:
            if error.reason != "KEY_VALUES_MISMATCH":
                raise  # else: two files cannot be replaced in one step, and this was in between


def fingerprint(mesh: Up, name: str) -> str:
    certificate = x509.load_pem_x509_certificate((mesh.folder / DATA / "pki" / f"{name}.crt").read_bytes())
    return fingerprint_of(certificate.public_bytes(serialization.Encoding.DER))


def shown_by_server(mesh: Up) -> str:
    port = int(mesh.what["gateway"].rpartition(":")[2])
    return fingerprint_of(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("localhost", port))))


async def renew(mesh: Up, name: str) -> str:
    """What `datong ca renew` does for one of the mesh's own certificates; the new fingerprint."""
    before = fingerprint(mesh, name)
    url, files = mesh.what["gateway"], f"{DATA}/pki/{name}.crt"
    arguments = [*SOURCE, "ca", "renew", "--url", url, "--cert", files, "--now"]
    done = await asyncio.to_thread(
        subprocess.run, arguments, cwd=mesh.folder, env=mesh.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    after = fingerprint(mesh, name)
    assert after != before
    return after


def loaded(mesh: Up, log: str, name: str) -> bool:
    lines = (mesh.folder / DATA / "run" / f"{log}.log").read_text().splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return any(each["event"] == "certificate.loaded" and each["name"] == name for each in found)


def hasten(mesh: Up) -> None:
    """Let the tax bureau's adapter look often: its file says so from its next start on."""
    contract = mesh.folder / DATA / "adapters" / "tax" / "adapter.toml"
    text = contract.read_text("utf-8")
    quick = f"certificate_look = {LOOK}\ncertificate_settle = {SETTLE}\nrenewal_url"
    contract.write_text(text.replace("renewal_url", quick, 1), "utf-8")
    os.kill(mesh.pids["adapter-tax"], signal.SIGKILL)
    mesh.read_until("child", kind="ready", name="adapter-tax")


async def test_a_renewal_under_load_drops_nothing(tmp_path: Path) -> None:
    """Gateway, server, adapter and a caller get new certificates; both old and new ones seal, and nobody notices."""
    quick = {"DATONG_CERTIFICATE_LOOK": LOOK, "DATONG_CERTIFICATE_SETTLE": SETTLE}
    with datong_up(tmp_path, "--port", "0", **quick) as mesh:
        hasten(mesh)
        old = {name: fingerprint(mesh, name) for name in ("gateway", "server", "tax", "housing")}
        async with load(mesh) as under:
            await under.more(50)
            new = {name: await renew(mesh, name) for name in old}
            for log, name in (("gateway", "gateway"), ("gateway", "server"), ("adapter-tax", "adapter tax")):
                await until(lambda log=log, name=name: loaded(mesh, log, name), 60)  # type: ignore[misc]
            await under.more(50)
        assert under.problems == []
        assert set(under.statuses) == {200, 201}
        assert await asyncio.to_thread(shown_by_server, mesh) == new["server"]

        records = [record async for record in recorded(mesh)]
        assert {record["query"]["gateway"] for record in records} == {old["gateway"], new["gateway"]}
        assert {record["answer"]["adapter"] for record in records} == {old["tax"], new["tax"]}
        assert {record["query"]["certificate"] for record in records} == {old["housing"], new["housing"]}
        assert len(records) == len(under.receipts)
        await every_receipt_holds(mesh, under.receipts)

        # The bus comes back, and both reach it with the new certificates.
        os.kill(mesh.pids["nats-server"], signal.SIGKILL)
        mesh.read_until("child", kind="ready", name="nats-server")
        async with client_of(mesh) as client, asyncio.timeout(20):
            while (await client.get(f"{mesh.what['gateway']}/r1/{COMPANY}")).status_code != 200:
                await asyncio.sleep(0.1)
        assert mesh.stop() == 0


async def recorded(mesh: Up) -> AsyncIterator[dict[str, dict[str, str]]]:
    """Every record of an exchange that the log holds."""
    engine = create_engine(f"sqlite:///{mesh.folder / DATA / 'log.db'}")
    try:
        async for entry in LogReader(engine).iter_entries(kind="exchange"):
            yield json.loads(entry.leaf)
    finally:
        await engine.dispose()


async def every_receipt_holds(mesh: Up, receipts: list[str]) -> None:
    keys = (mesh.folder / DATA / "keys.json").read_bytes()
    async with client_of(mesh) as client:
        for url in receipts:
            checks = verify_receipt((await client.get(url)).content, keys)
            assert all(check.ok for check in checks), checks
