"""What an adapter can do on the bus besides its work: nothing. Each attack is tried with a real adapter's certificate.

The attacker is the tax bureau's adapter, or whoever has its key; the victim is civil affairs. `test_nats` and `test_isolation`
have what an honest library does in the same places; here the attacker writes what it likes to its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from ca_auth import CertificateRequest, identity_uri
from deploy.admission import bus_users, follow
from deploy.demo.identities import CIVIL_SUBSYSTEM, OPERATOR_SUBSYSTEM, TAX_SUBSYSTEM
from deploy.nats import BusServerError, BusUsers, NatsServer, key_pin, nats_server_program
from exchange import (
    ServiceId,
    SubsystemId,
    bus_tls,
    compose_uscc,
    fingerprint_of,
    inbox_prefix,
    instance_nats_subjects,
    member_of,
    service_nats_subject,
    subject_token,
)
from registry import Member, Operation, Registry, RegistryMirror, Service, Subsystem
from tests.ci import missing
from tests.conftest import Pki
from tests.deploy.raw_bus import RawClient, raw_client
from tests.running_mesh import SOURCE, source_environment
from tests.waiting import until

SEED = Path(__file__).parents[2] / "deploy/demo/seed.toml"
OWN = service_nats_subject(ServiceId(f"{TAX_SUBSYSTEM}/enterprises"))
UNREGISTERED = service_nats_subject(ServiceId(f"{TAX_SUBSYSTEM}/salaries"))
FOREIGN = service_nats_subject(ServiceId(f"{CIVIL_SUBSYSTEM}/residents"))
FOREIGN_INSTANCE = instance_nats_subjects(CIVIL_SUBSYSTEM).replace(">", "0123456789abcdef012345")
INBOX = inbox_prefix(identity_uri(OPERATOR_SUBSYSTEM))
WITHIN = 5.0
"""Seconds from a change in the registry to the bus's obedience."""

NOT_TO_BE_HEARD = [
    *(FOREIGN, UNREGISTERED, ">", "*", "*.>", "dt.>", "dt.q.>", "dt.q.*.*", "dt.*.*.*"),
    *(f"dt.q.{subject_token(TAX_SUBSYSTEM)}.*", f"dt.q.{subject_token(TAX_SUBSYSTEM)}.>"),
    *("dt.i.>", "dt.i.*.>", instance_nats_subjects(CIVIL_SUBSYSTEM), FOREIGN_INSTANCE),
    *("_INBOX.>", "_INBOX.*.>", f"{INBOX}.>", f"{INBOX}.*", f"{INBOX}.1"),
    f"{inbox_prefix(identity_uri(CIVIL_SUBSYSTEM))}.>",
    *("$SYS.>", "$SYS.ACCOUNT.>", "$JS.>", "$JS.API.>", "$JS.ACK.>", "$KV.>", "$O.>", "$SRV.>", "$G.>", "_R_.>"),
]
NOT_TO_BE_SAID = [
    *(OWN, FOREIGN, UNREGISTERED, FOREIGN_INSTANCE, "dt.q.>", "dt.q.*.*", ">"),
    *(f"{INBOX}.1", f"{INBOX}.>", "_INBOX.>", "_INBOX.1"),
    *("$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.USER.INFO", "$SYS.REQ.SERVER.X.RELOAD"),
    *("$JS.API.INFO", "$JS.API.STREAM.CREATE.x", "$JS.ACK.x", "$KV.x.y", "$SRV.PING", "$SRV.STATS.civil"),
]


@pytest.fixture
async def tax(nats_server: NatsServer, pki: Pki) -> AsyncIterator[RawClient]:
    """The attacker, where it may be: on its own service."""
    async with raw_client(nats_server, pki.bus_tls("tax")) as client:
        await client.say(f"SUB {OWN} own".encode())
        yield client


@pytest.fixture
async def gateway(nats_server: NatsServer, pki: Pki) -> AsyncIterator[RawClient]:
    async with raw_client(nats_server, pki.bus_tls("gateway")) as client:
        await client.say(f"SUB {INBOX}.> inbox".encode())
        yield client


@pytest.fixture
async def civil(nats_server: NatsServer, pki: Pki) -> AsyncIterator[RawClient]:
    async with raw_client(nats_server, pki.bus_tls("civil")) as client:
        await client.say(f"SUB {FOREIGN} q".encode(), f"SUB {instance_nats_subjects(CIVIL_SUBSYSTEM)} i".encode())
        yield client


def refused(client: RawClient, what: str, nats_subject: str) -> bool:
    return any(f'Permissions Violation for {what} "{nats_subject}"' in each for each in client.errors)


@pytest.mark.parametrize("queue", ["", "adapters "])
async def test_it_hears_nobody_elses_questions_parts_and_replies(
    tax: RawClient, gateway: RawClient, civil: RawClient, queue: str
) -> None:
    for number, nats_subject in enumerate(NOT_TO_BE_HEARD):
        await tax.say(f"SUB {nats_subject} {queue}{number}".encode())
        what = f'Subscription to "{nats_subject}"' + (f' using queue "{queue.strip()}"' if queue else "")
        assert f"Permissions Violation for {what}" in tax.errors[-1:], nats_subject
    await gateway.publish(FOREIGN, b"question", reply=f"{INBOX}.1")
    await gateway.publish(FOREIGN_INSTANCE, b"part", reply=f"{INBOX}.2")
    for _, reply, _ in (await civil.heard(2)).copy():
        await civil.publish(reply, b"answer")
    assert [content for _, _, content in await gateway.heard(2)] == [b"answer"] * 2
    await tax.say()
    assert tax.messages == []


async def test_it_says_nothing_unasked(tax: RawClient, gateway: RawClient, civil: RawClient) -> None:
    """Neither as a message, nor with a place to reply to, nor with headers."""
    for nats_subject in NOT_TO_BE_SAID:
        for reply, headers in (("", b""), (OWN, b""), ("", b"A: b")):
            tax.errors.clear()
            await tax.publish(nats_subject, b"unasked", reply=reply, headers=headers)
            assert refused(tax, "Publish to", nats_subject), nats_subject
    for client in (gateway, civil, tax):
        await client.say()
        assert client.messages == []


async def test_it_answers_what_it_was_asked_once_and_there(
    tax: RawClient, gateway: RawClient, civil: RawClient
) -> None:
    await gateway.publish(FOREIGN, b"for civil", reply=f"{INBOX}.theirs")
    await gateway.publish(OWN, b"for tax", reply=f"{INBOX}.own")
    await civil.heard()
    await tax.heard()
    for elsewhere in (f"{INBOX}.theirs", f"{INBOX}.other", f"{INBOX}.*", f"{INBOX}.own.more", "dt.q.x.y"):
        await tax.publish(elsewhere, b"elsewhere")
        assert refused(tax, "Publish to", elsewhere)
    await tax.publish(f"{INBOX}.own", b"first", reply=FOREIGN)
    await tax.publish(f"{INBOX}.own", b"second")
    assert refused(tax, "Publish to", f"{INBOX}.own")
    await civil.publish(f"{INBOX}.theirs", b"theirs")
    assert [content for _, _, content in await gateway.heard(2)] == [b"first", b"theirs"]
    await civil.say()
    assert len(civil.messages) == 1


async def test_one_question_to_two_of_its_connections_is_one_reply_each(
    nats_server: NatsServer, pki: Pki, tax: RawClient, gateway: RawClient
) -> None:
    """What one connection was asked gives no other connection a right to reply."""
    async with raw_client(nats_server, pki.bus_tls("tax")) as second:
        await gateway.publish(OWN, b"question", reply=f"{INBOX}.own")
        await tax.heard()
        await second.publish(f"{INBOX}.own", b"not asked")
        assert refused(second, "Publish to", f"{INBOX}.own")
        await tax.publish(f"{INBOX}.own", b"asked")
        assert [content for _, _, content in await gateway.heard()] == [b"asked"]


async def test_it_cannot_have_the_server_tell_others_of_a_reply(
    tax: RawClient, gateway: RawClient, civil: RawClient
) -> None:
    """Message tracing (Nats-Trace-Dest) would have the server itself publish, where the adapter may not."""
    for number, headers in enumerate(
        (
            f"Nats-Trace-Dest: {FOREIGN}".encode(),
            f"Nats-Trace-Dest: {INBOX}.trace\r\nNats-Trace-Only: true".encode(),
            f"traceparent: 00-{'a' * 32}-{'b' * 16}-01\r\nNats-Trace-Dest: {FOREIGN_INSTANCE}".encode(),
        )
    ):
        await gateway.publish(OWN, b"question", reply=f"{INBOX}.{number}")
        await tax.heard(number + 1)
        await tax.publish(f"{INBOX}.{number}", b"answer", headers=headers)
    for client in (civil, gateway):
        await client.say()
    assert civil.messages == []
    assert {subject for subject, _, _ in gateway.messages} <= {f"{INBOX}.{number}" for number in range(3)}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"PUB {INBOX}.1 {(1 << 20) + 1}".encode(), "Maximum Payload Violation"),
        (f"PUB {INBOX}.1 {1 << 62}".encode(), ""),
        (b"PUB %b 1" % (b"x" * 5000), "maximum control line exceeded"),
        (b"SUB %b 1" % (b"x." * 5000), "maximum control line exceeded"),
        (b"PUB x -1", ""),
        (b"\x00\xff\x00\xff", "Unknown Protocol Operation"),
        (b"RS+ $G dt.q.x.y", "Unknown Protocol Operation"),
    ],
    ids=["too-large", "absurd", "long-subject", "long-subscription", "negative", "binary", "as-a-route"],
)
async def test_what_is_too_much_ends_its_own_connection_and_no_other(
    nats_server: NatsServer, pki: Pki, tax: RawClient, gateway: RawClient, civil: RawClient, line: bytes, said: str
) -> None:
    await gateway.publish(OWN, b"question", reply=f"{INBOX}.1")
    await tax.heard()
    await tax.say(line, b"x")
    assert tax.closed
    assert said.lower() in " ".join(tax.errors).lower()
    async with raw_client(nats_server, pki.bus_tls("tax")) as again:
        await again.publish(f"{INBOX}.1", b"after all")
        assert refused(again, "Publish to", f"{INBOX}.1")  # the right to reply ended with the connection
    await gateway.publish(FOREIGN, b"question", reply=f"{INBOX}.2")
    await civil.heard()
    await civil.publish(f"{INBOX}.2", b"answer")
    assert [content for _, _, content in await gateway.heard()] == [b"answer"]


@pytest.mark.parametrize("claim", ["user", "nkey", "jwt", "auth_token"])
async def test_what_it_says_of_itself_makes_it_nobody_else(nats_server: NatsServer, pki: Pki, claim: str) -> None:
    """The certificate says who connects, whatever the greeting claims."""
    async with raw_client(nats_server, pki.bus_tls("tax"), **{claim: identity_uri(OPERATOR_SUBSYSTEM)}) as client:
        await client.say(f"SUB {INBOX}.> 1".encode())
        await client.publish(FOREIGN, b"question")
        assert client.closed or (
            refused(client, "Subscription to", f"{INBOX}.>") and refused(client, "Publish to", FOREIGN)
        )


async def test_a_second_greeting_changes_nothing(tax: RawClient) -> None:
    await tax.say(b'CONNECT {"user":"%b","account":"$SYS"}' % identity_uri(OPERATOR_SUBSYSTEM).encode())
    await tax.say(f"SUB {INBOX}.> 1".encode())
    assert tax.closed or refused(tax, "Subscription to", f"{INBOX}.>")


# -- who is on the bus follows the registry


@dataclass(frozen=True, slots=True)
class Followed:
    """A bus that follows a registry."""

    server: NatsServer
    registry: Registry
    pki: Pki
    said: list[str]

    async def lets_in(self, certificate: Path, key: Path) -> bool:
        """Whether a connection with this certificate is taken in now."""
        try:
            async with raw_client(self.server, bus_tls(certificate, key, self.pki.trust_anchors)) as client:
                return not client.closed
        except OSError:
            return False

    async def obeys(self, certificate: Path, key: Path, *, lets_in: bool) -> None:
        """Return when the certificate is let in, or is not, as said; raises TimeoutError after 5 s."""
        async with asyncio.timeout(WITHIN):
            while await self.lets_in(certificate, key) != lets_in:
                await asyncio.sleep(0.02)


@pytest.fixture
async def followed(nats_server: NatsServer, pki: Pki, tmp_path: Path) -> AsyncIterator[Followed]:
    registry = await Registry.open(f"sqlite:///{tmp_path / 'registry.db'}")
    await registry.seed(SEED)
    for subsystem, name in ((TAX_SUBSYSTEM, "tax"), (CIVIL_SUBSYSTEM, "civil")):
        await registry.register_certificate(subsystem, pki.issued[name].der, by="test", why="test")
    await registry.register_certificate(
        OPERATOR_SUBSYSTEM, pki.issued["gateway"].der, use="gateway", by="test", why="test"
    )
    mirror = RegistryMirror(registry, poll_seconds=0.05)
    await mirror.start()
    await nats_server.set_users(bus_users(mirror.snapshot))
    said: list[str] = []
    following = asyncio.create_task(follow(nats_server, mirror, said.append))
    try:
        yield Followed(nats_server, registry, pki, said)
        assert said == []
    finally:
        following.cancel()
        await asyncio.wait([following])
        await mirror.stop()
        await registry.close()


@pytest.mark.parametrize("how", ["certificate", "subsystem"])
async def test_who_is_removed_is_cut_off_within_five_seconds_and_nobody_else(followed: Followed, how: str) -> None:
    pki, registry = followed.pki, followed.registry
    async with (
        raw_client(followed.server, pki.bus_tls("tax")) as tax,
        raw_client(followed.server, pki.bus_tls("civil")) as civil,
        raw_client(followed.server, pki.bus_tls("gateway")) as gateway,
    ):
        await tax.say(f"SUB {OWN} 1".encode())
        await civil.say(f"SUB {FOREIGN} 1".encode())
        if how == "certificate":
            await registry.revoke_certificate(pki.issued["tax"].fingerprint, by="test", why="test")
        else:
            await registry.set_subsystem_state(TAX_SUBSYSTEM, active=False, by="test", why="test")
        await tax.cut_off(WITHIN)
        assert not await followed.lets_in(pki.certificate("tax"), pki.key("tax"))
        await gateway.publish(FOREIGN, b"question")
        await civil.heard()
        assert (civil.errors, gateway.errors) == ([], [])
        if how == "subsystem":
            await registry.set_subsystem_state(TAX_SUBSYSTEM, active=True, by="test", why="test")
            await followed.obeys(pki.certificate("tax"), pki.key("tax"), lets_in=True)


async def test_a_withdrawn_service_is_heard_no_more(followed: Followed) -> None:
    """And one that is registered anew may be listened to at once: nobody edits a file."""
    refunds = ServiceId(f"{TAX_SUBSYSTEM}/refunds")
    nats_subject = service_nats_subject(refunds)
    service = Service(id=refunds, title_zh="退税", operations=(Operation.of("GET", "/refunds"),))
    async with raw_client(followed.server, followed.pki.bus_tls("tax")) as tax:
        await tax.say(f"SUB {nats_subject} 1".encode())
        assert refused(tax, "Subscription to", nats_subject)
        await followed.registry.add_service(service, by="test", why="test")

        async def is_heard() -> bool:
            tax.errors.clear()
            await tax.say(f"SUB {nats_subject} 1".encode())
            return not tax.errors

        async with asyncio.timeout(WITHIN):
            while not await is_heard():
                await asyncio.sleep(0.02)


async def test_an_older_certificate_of_the_same_name_opens_nothing_once_it_is_revoked(
    followed: Followed, tmp_path: Path
) -> None:
    """After a renewal, or because a key was stolen: the name in it is still that of a registered adapter."""
    old, registry = followed.pki.issued["tax"], followed.registry
    new = followed.pki.ca.issue("tax-renewed", CertificateRequest.for_subsystem(TAX_SUBSYSTEM))
    assert not await followed.lets_in(new.certificate, new.key)  # certified by the CA, unknown to the registry
    await registry.register_certificate(TAX_SUBSYSTEM, new.der, by="test", why="renewal")
    await followed.obeys(new.certificate, new.key, lets_in=True)
    assert await followed.lets_in(old.certificate, old.key)  # both, as long as both are registered
    async with (
        raw_client(followed.server, bus_tls(old.certificate, old.key, followed.pki.trust_anchors)) as with_old,
        raw_client(followed.server, bus_tls(new.certificate, new.key, followed.pki.trust_anchors)) as with_new,
    ):
        await registry.revoke_certificate(old.fingerprint, by="test", why="test")
        await with_old.cut_off(WITHIN)
        assert not await followed.lets_in(old.certificate, old.key)
        await with_new.say(f"SUB {OWN} 1".encode())
        assert (with_new.closed, with_new.errors) == (False, [])


async def test_a_new_department_is_let_in_by_its_registration_alone(followed: Followed) -> None:
    subsystem = SubsystemId(f"CN/GOV/{compose_uscc('11', '997001', 'DT000009')}/land")
    issued = followed.pki.ca.issue("land-confined", CertificateRequest.for_subsystem(subsystem))
    registry = followed.registry
    assert not await followed.lets_in(issued.certificate, issued.key)
    await registry.add_member(Member(id=member_of(subsystem), name="示例市自然资源局"), by="test", why="test")
    await registry.add_subsystem(Subsystem(id=subsystem, name="不动产登记"), by="test", why="test")
    await registry.register_certificate(subsystem, issued.der, by="test", why="test")
    await followed.obeys(issued.certificate, issued.key, lets_in=True)


async def test_a_registry_that_lets_nobody_in_leaves_a_bus_that_lets_nobody_in(followed: Followed) -> None:
    """To the server an empty list of users means everybody, and an empty list of keys any: neither is ever given."""
    for name in ("tax", "civil", "gateway"):
        issued = followed.pki.issued[name]
        await followed.registry.revoke_certificate(issued.fingerprint, by="test", why="test")
        await followed.obeys(issued.certificate, issued.key, lets_in=False)
    housing = followed.pki.issued["housing"]
    for each in (housing, *(followed.pki.issued[name] for name in ("tax", "civil", "gateway"))):
        assert not await followed.lets_in(each.certificate, each.key)


async def test_without_users_nobody_connects_even_where_keys_are_not_looked_at(
    nats_server: NatsServer, pki: Pki
) -> None:
    await nats_server.set_users(BusUsers(gateways=frozenset(), adapters=(), keys=None))
    for name in ("tax", "gateway", "housing"):
        async with raw_client(nats_server, pki.bus_tls(name)) as client:
            assert client.closed
            assert client.errors == ["Authorization Violation"]


def test_a_pin_is_of_the_key_and_not_of_the_certificate(pki: Pki) -> None:
    certificate = x509.load_der_x509_certificate(pki.issued["tax"].der)
    assert key_pin(certificate) != fingerprint_of(certificate)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A bus that another process runs."""

    port: int


async def test_the_command_runs_a_bus_that_follows_its_registry(pki: Pki, tmp_path: Path) -> None:
    """`datong bus`, as a mesh in production has it: no file of its is edited when a department joins or leaves."""
    try:
        nats_server_program()
    except BusServerError as error:
        missing(str(error))
    database, ready = f"sqlite:///{tmp_path / 'registry.db'}", tmp_path / "ready"
    registry = await Registry.open(database)
    await registry.seed(SEED)
    process = await asyncio.create_subprocess_exec(
        *(*SOURCE, "bus", "--database", database, "--port", "0", "--data", str(tmp_path / "bus")),
        *("--cert", str(pki.certificate("nats")), "--key", str(pki.key("nats")), "--cacert", str(pki.trust_anchors)),
        *("--ready-file", str(ready)),
        env=source_environment(),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await until(lambda: ready.exists() and ready.read_text())
        bus = Elsewhere(int(ready.read_text().rpartition(":")[2]))
        tls = pki.bus_tls("tax")

        async def is_let_in() -> bool:
            try:
                async with raw_client(bus, tls) as client:
                    return not client.closed
            except OSError:
                return False

        assert not await is_let_in()
        await registry.register_certificate(TAX_SUBSYSTEM, pki.issued["tax"].der, by="test", why="test")
        async with asyncio.timeout(WITHIN):
            while not await is_let_in():
                await asyncio.sleep(0.02)
        async with raw_client(bus, tls) as client:
            await client.say(f"SUB {OWN} 1".encode())
            assert client.errors == []
            await registry.revoke_certificate(pki.issued["tax"].fingerprint, by="test", why="test")
            await client.cut_off(WITHIN)
    finally:
        process.terminate()
        ended = await process.wait()
        await registry.close()
    assert ended == 0
