"""A gateway behind TLS terminators: over a Unix socket and over TLS with a pinned certificate (RFC 9440)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
import pytest_asyncio
from starlette.requests import Request

from ca_auth import IssuedCertificate
from deploy.trial_mesh import CALLER
from gateway.enrolment import peer_of_connection
from tests.gateway.exchange_mesh import WAIT, Mesh, target

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, kw_only=True)
class Behind:
    """A second gateway of the mesh, whose terminators are a Unix socket and the holder of the stranger's certificate."""

    mesh: Mesh
    url: str
    socket: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def behind(running_mesh: Mesh) -> AsyncIterator[Behind]:
    trial = running_mesh.trial
    pinned = certificate(running_mesh, "stranger").fingerprint
    with TemporaryDirectory(prefix="dt-") as short:  # the path of a socket has at most 107 bytes
        socket = Path(short) / "run" / "terminator.sock"
        trust = trial.folder / "behind.toml"
        trust.write_text(
            f"""
[[anchor]]
name = "ours"
certificates = "pki/ca.pem"
[anchor.revocation]
required = false
[[terminator]]
unix = "{socket}"
[[terminator]]
certificate = "{pinned}"
""",
            encoding="utf-8",
        )
        child = await trial.add_gateway("behind", DATONG_TRUST_FILE=str(trust))
        try:
            yield Behind(mesh=running_mesh, url=child.ready_text(), socket=socket)
        finally:
            await trial.supervisor.stop_child("behind")
            trial.gateways[1:] = []
        assert not socket.exists()


def header(der: bytes) -> dict[str, str]:
    return {"Client-Cert": f":{base64.b64encode(der).decode()}:"}


def certificate(mesh: Mesh, party: str) -> IssuedCertificate:
    path, key = mesh.trial.files(party)
    return IssuedCertificate(certificate=path, key=key)


async def test_a_caller_behind_a_unix_socket_is_served_and_recorded_by_its_own_certificate(
    mesh: Mesh, behind: Behind
) -> None:
    caller = certificate(mesh, "caller")
    transport = httpx.AsyncHTTPTransport(uds=str(behind.socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=WAIT) as client:
        response = await client.get(target("echo"), headers={"X-Road-Client": CALLER, **header(caller.der)})
        mesh.recorded += 1
        assert response.status_code == 200, response.text
        assert "client-cert" not in response.text.lower()  # the backend shows what reached it
        record = await mesh.record(response.headers["x-road-request-id"])
        assert record["query"]["certificate"] == caller.fingerprint
        refused = await client.get(target("echo"), headers={"X-Road-Client": CALLER})
        mesh.recorded += 1
        assert (refused.status_code, refused.json()["rule"]) == (401, "client-certificate")


async def test_a_pinned_terminator_speaks_for_callers_and_never_for_itself(mesh: Mesh, behind: Behind) -> None:
    caller = certificate(mesh, "caller")
    reply = await mesh.ask(party="stranger", url=behind.url, headers=header(caller.der))
    assert (reply.status, reply.query["certificate"]) == (200, caller.fingerprint)
    mesh.problem(await mesh.ask(party="stranger", url=behind.url), 401, "client-certificate")
    broken = await mesh.ask(party="stranger", url=behind.url, headers={"Client-Cert": "nonsense"})
    mesh.problem(broken, 401, "client-cert-header")


@pytest.mark.parametrize("name", ["Client-Cert", "client-cert", "Client_Cert", "X-Client-Cert", "X-SSL-Client-Cert"])
async def test_nobody_else_speaks_for_others_and_the_header_goes_no_further(
    mesh: Mesh, behind: Behind, name: str
) -> None:
    other = certificate(mesh, "auditor")
    value = f":{base64.b64encode(other.der).decode()}:"
    for url in (behind.url, mesh.url):
        reply = await mesh.ask(url=url, headers={name: value})
        assert reply.query["certificate"] == certificate(mesh, "caller").fingerprint
        assert value not in reply.response.text


@pytest.mark.parametrize("spoken_for", [False, True])
async def test_a_certificate_that_was_handed_over_is_not_proof_enough_for_another_one(spoken_for: bool) -> None:
    """Certificates are no secrets: whoever speaks as a terminator would get one for anybody."""
    request = Request({"type": "http", "state": {"peer_der": b"a certificate", "peer_spoken_for": spoken_for}})
    assert peer_of_connection(request) == (None if spoken_for else b"a certificate")
