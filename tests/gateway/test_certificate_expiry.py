"""A caller whose certificate ends soon is told so in every answer; nobody else is, and no department can say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ca_auth import CertificateRequest
from deploy.trial_mesh import AUDITOR, CALLER
from tests.gateway.exchange_mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEADER = "datong-certificate-expires"
REQUEST = CertificateRequest.for_subsystem(CALLER)


async def test_answers_and_refusals_to_a_caller_whose_certificate_ends_in_30_days_say_when(mesh: Mesh) -> None:
    now = datetime.now(UTC)
    end = (now + timedelta(days=29)).replace(microsecond=0)
    mesh.certificates["ends"] = mesh.trial.ca.issue(
        "ends", REQUEST, not_before=now - timedelta(days=300), not_after=end
    )
    said = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (await mesh.ask(party="ends")).response.headers[HEADER] == said
    refused = await mesh.ask(to="ungranted", party="ends")
    assert (refused.status, refused.response.headers[HEADER]) == (403, said)
    listed = await mesh.client("ends").get("/v1/exchanges", headers={"X-Road-Client": CALLER})
    assert listed.headers[HEADER] == said
    missing = await mesh.client("ends").get("/v1/exchanges/none", headers={"X-Road-Client": CALLER})
    assert (missing.status_code, missing.headers[HEADER]) == (404, said)


@pytest.mark.parametrize(("lived", "left"), [(300, 31), (1, 29)], ids=["far", "a short life is no reason"])
async def test_others_are_not_warned(mesh: Mesh, lived: int, left: int) -> None:
    now = datetime.now(UTC)
    name = f"lives{left}"
    mesh.certificates[name] = mesh.trial.ca.issue(
        name, REQUEST, not_before=now - timedelta(days=lived), not_after=now + timedelta(days=left)
    )
    assert HEADER not in (await mesh.ask(party=name)).response.headers
    assert HEADER not in (await mesh.client("auditor").get("/v1/exchanges", headers={"X-Road-Client": AUDITOR})).headers


async def test_a_department_cannot_warn_in_our_name(mesh: Mesh) -> None:
    raw = b"HTTP/1.1 200 OK\r\nDatong-Certificate-Expires: 2000-01-01T00:00:00Z\r\nContent-Length: 0\r\n\r\n"
    with mesh.answering("/forged", raw):
        reply = await mesh.ask(path="/forged")
    assert reply.status == 200
    assert HEADER not in reply.response.headers
