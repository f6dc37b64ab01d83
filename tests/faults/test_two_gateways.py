"""Two gateways at one registry and one log: what one does holds for the other, and the end of one is not felt by the other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from deploy.trial_mesh import CALLER, ECHO, FOR_EVER
from exchange.log.frames import Frame
from exchange.log.store_sqlite import SqliteStore
from exchange.log.writer import LastSigned, LogWriter
from exchange.transparency.tiles import Edge
from tests.databases import PostgresServer
from tests.exchange.log_kit import Place, attempt
from tests.faults.fault_mesh import fault_mesh

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_two_gateways_share_registry_and_log(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    urls: dict[str, Any] = {}
    if database == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        urls = {name: await server.create_database() for name in ("registry_database", "log_database")}
    async with fault_mesh(tmp_path, gateways=2, **urls) as mesh:
        first, second = mesh.trial.gateways
        # Not without pause: this is about who answers, and two gateways share the machine with all the others.
        async with mesh.load(pause=0.03):
            await mesh.more_answers(mesh.dice.randrange(40, 80))
            for end in (mesh.kill, mesh.kill_alone):
                told = len(mesh.sent)
                await end(first)
                await mesh.more_answers(40)
                lost = [sent for sent in mesh.sent[told:] if sent.lost]
                assert len(lost) <= 10, "who had asked the first one"
                await mesh.start_again(first)
                await mesh.more_answers(20)
        assert not mesh.told(), "the second answered all it was asked"
        await mesh.verdict()

        # A grant ended by one process is ended for all of them, in less than a second.
        registry = mesh.trial.registry
        (grant,) = await registry.grants(client=CALLER, service=ECHO)
        url = second.ready_text()
        assert (await mesh.ask("POST", "/granted", b"x", url=url)).answered
        await registry.revoke(grant.id, by="test", why="test")
        revoked = time.monotonic()
        denied = await mesh.ask_until(lambda sent: not sent.answered, "POST", "/granted", b"x", url=url)
        assert time.monotonic() - revoked < 1
        assert (denied.status, denied.rule) == (403, "grant-revoked")
        await registry.grant(client=CALLER, service=ECHO, purposes=["trial"], valid_to=FOR_EVER, by="test", why="test")
        await mesh.verdict()


async def test_a_log_that_grows_while_a_writer_starts_is_not_taken_for_one_that_shrank(tmp_path: Path) -> None:
    """Between its looks at the end of the log and at what was signed, another writer appends and signs more."""
    place = Place(f"sqlite:///{tmp_path / 'log.db'}", tmp_path)
    await place.fill(3, signed=[3])
    file = tmp_path / "log.db"
    other_store = SqliteStore(file)
    other = LogWriter(other_store, place.signer, LastSigned(place.log_key), "gateway-2", "boot")

    class BusyStore(SqliteStore):
        async def load(self) -> Edge:
            edge = await super().load()
            await other.write([Frame(entries=[attempt().row])])
            await other.checkpoint()
            return edge

    store = BusyStore(file)
    writer = LogWriter(store, place.signer, LastSigned(place.log_key), "gateway-1", "boot")
    await writer.check()
    await writer.write([Frame(entries=[attempt().row])])
    await writer.checkpoint()
    await store.close()
    await other_store.close()
    assert (await place.check()).signed_size == 5
