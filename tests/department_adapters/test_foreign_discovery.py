"""Adapters are found by a client that nobody here wrote: the NATS project's own, from npm, as the mesh's operator."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ca_auth import identity_uri
from deploy.demo.identities import CIVIL_SUBSYSTEM, OPERATOR_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import NatsServer
from exchange import ServiceId, inbox_prefix, service_nats_subject
from tests.conftest import Pki
from tests.department_adapters.adapter_kit import ENTERPRISES, FullDisk, Gateway, adapter_on, echo
from tests.foreign.npm import discover


async def test_the_nats_projects_own_client_finds_every_adapter_and_its_figures(
    nats_server: NatsServer, pki: Pki, gateway: Gateway, ledger: FullDisk, tmp_path: Path
) -> None:
    civil_ledger = await FullDisk.open(tmp_path / "civil", CIVIL_SUBSYSTEM)
    async with (
        adapter_on(nats_server, pki, {"enterprises": echo()}, ledger) as tax,
        adapter_on(
            nats_server, pki, {"residents": echo()}, civil_ledger, party="civil", subsystem=CIVIL_SUBSYSTEM
        ) as civil,
    ):
        for _ in range(3):
            await gateway.ask()
        found = await asyncio.to_thread(
            discover,
            nats_server.url,
            pki.trust_anchors,
            pki.certificate("gateway"),
            pki.key("gateway"),
            inbox_prefix(identity_uri(OPERATOR_SUBSYSTEM)),
        )
        instances = {"tax": tax.instance, "civil": civil.instance}
        assert {each["name"]: each["id"] for each in found["ping"]} == instances
        assert {each["metadata"]["subsystem"] for each in found["info"]} == {TAX_SUBSYSTEM, CIVIL_SUBSYSTEM}
        described = next(each for each in found["info"] if each["name"] == "tax")
        assert (described["version"], described["description"]) == ("1.2.3", "测试")
        endpoint = described["endpoints"][0]
        assert (endpoint["name"], endpoint["subject"]) == ("enterprises", service_nats_subject(ENTERPRISES))
        assert endpoint["metadata"] == {"service": ENTERPRISES}
        stats = next(each for each in found["stats"] if each["name"] == "tax")["endpoints"][0]
        assert (stats["num_requests"], stats["num_errors"], stats["data"]["answered"]) == (3, 0, 3)
        assert stats["processing_time"] > 0
        other = next(each for each in found["stats"] if each["name"] == "civil")["endpoints"][0]
        assert other["subject"] == service_nats_subject(ServiceId(f"{CIVIL_SUBSYSTEM}/residents"))
    await civil_ledger.close()
