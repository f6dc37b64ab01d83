"""Changing and reading the registry, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from exchange import (
    AccessDeniedError,
    ConflictError,
    MemberId,
    MeshError,
    NotFoundError,
    ServiceDisabledError,
    ServiceId,
    SubsystemId,
    UnprocessableError,
)
from registry import Grant, Member, Operation, Registry, Service, Snapshot, Subsystem
from tests.registry.conftest import ENTERPRISES, HOUSING, NOON, TAX, Clock

WHO: dict[str, Any] = {"by": "tester", "why": "a test"}
NEW = MemberId("CN/GOV/11990000000001046B")


async def untouched(registry: Registry, version: int) -> None:
    """Nothing was changed or recorded after `version`."""
    assert await registry.version() == version
    assert await registry.changes(after=version) == ()


async def test_every_change_takes_the_next_version_and_says_who_and_why(empty_registry: Registry) -> None:
    registry = empty_registry
    change = await registry.add_member(Member(id=MemberId(TAX.rsplit("/", 1)[0]), name="税务局"), **WHO)
    assert change is not None
    assert (change.version, change.by, change.why, change.at) == (1, "tester", "a test", NOON)
    assert (change.action, change.before, change.after["name"]) == ("member.add", None, "税务局")
    await registry.add_subsystem(Subsystem(id=TAX, name="税务", roles=("owner",)), **WHO)
    service = Service(id=ENTERPRISES, title_zh="企业", operations=(Operation.of("GET", "/enterprises/{uscc}"),))
    await registry.add_service(service, **WHO)
    assert await registry.version() == 3
    recorded = await registry.changes()
    assert recorded[0] == change
    assert [each.action for each in recorded] == ["member.add", "subsystem.add", "service.add"]
    assert recorded[2].after["operations"] == [{"method": "GET", "path": "/enterprises/{uscc}", "safe": True}]
    assert (await registry.snapshot()).service(ENTERPRISES) == service


async def test_the_same_again_changes_nothing_and_another_content_is_a_conflict(registry: Registry) -> None:
    version = await registry.version()
    snapshot = await registry.snapshot()
    member, subsystem = snapshot.members()[0], snapshot.subsystem(TAX)
    service = snapshot.service(ENTERPRISES)
    assert subsystem is not None
    assert service is not None
    assert await registry.add_member(member, **WHO) is None
    assert await registry.add_subsystem(subsystem, **WHO) is None
    assert await registry.add_service(service, **WHO) is None
    with pytest.raises(ConflictError):
        await registry.add_member(replace(member, name="别名"), **WHO)
    with pytest.raises(ConflictError):
        await registry.add_subsystem(replace(subsystem, roles=("auditor",)), **WHO)
    with pytest.raises(ConflictError):
        await registry.add_service(replace(service, timeout=9.0), **WHO)
    with pytest.raises(ConflictError):
        await registry.add_service(replace(service, operations=service.operations[:1]), **WHO)
    await untouched(registry, version)


async def test_replacing_keeps_what_was_on_record(registry: Registry) -> None:
    service = (await registry.snapshot()).service(ENTERPRISES)
    assert service is not None
    withdrawn, *kept = service.operations
    added = Operation.of("POST", "/enterprises/{uscc}/freeze")
    wanted = replace(service, title_zh="企业（新）", operations=(*kept, added))
    change = await registry.add_service(wanted, replace=True, **WHO)
    assert change is not None
    assert change.before is not None
    assert change.before["title_zh"] == service.title_zh
    assert len(change.before["operations"]) == len(service.operations)
    found = (await registry.snapshot()).service(ENTERPRISES)
    assert found is not None
    assert set(found.operations) == {*kept, added}
    # An operation that was withdrawn may come back.
    await registry.add_service(service, replace=True, **WHO)
    assert (await registry.snapshot()).service(ENTERPRISES) == service
    assert withdrawn in service.operations


@pytest.mark.parametrize(
    ("member", "rule"),
    [
        (Member(id=MemberId("CN/GOV"), name="x"), "member"),
        (Member(id=MemberId("CN/GOV/91350100M0001TGQXM"), name="x"), "uscc-check-character"),
        (Member(id=MemberId("CN/GOV/SHORT"), name="x"), "uscc-length"),
        (Member(id=NEW, name=""), "name"),
        (Member(id=NEW, name="two\nlines"), "name"),
        (Member(id=NEW, name="x" * 501), "name"),
    ],
)
async def test_a_member_that_breaks_a_rule_is_refused_by_its_name(
    empty_registry: Registry, member: Member, rule: str
) -> None:
    with pytest.raises(UnprocessableError) as caught:
        await empty_registry.add_member(member, **WHO)
    assert caught.value.rule == rule
    await untouched(empty_registry, 0)


async def test_a_real_code_that_fails_its_check_is_registered_with_the_reason(empty_registry: Registry) -> None:
    pilot = Member(id=MemberId("CN/GOV/91350100M0001TGQXM"), name="试点", check_exception="登记机关确认")
    await empty_registry.add_member(pilot, **WHO)
    assert (await empty_registry.snapshot()).member(pilot.id) == pilot


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"title_zh": ""}, "title_zh"),
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": 121.0}, "timeout"),
        ({"max_request_bytes": 0}, "max_request_bytes"),
        ({"max_answer_bytes": 1 << 50}, "max_answer_bytes"),
        ({"operations": ()}, "operations"),
        ({"operations": (Operation.of("GET", "/a"), Operation.of("GET", "/a"))}, "operations"),
        ({"operations": (Operation.of("get", "/a"),)}, "method"),
        ({"operations": (Operation.of("*", "/a"),)}, "method"),
        ({"operations": (Operation.of("GET", "a"),)}, "path"),
        ({"operations": (Operation.of("GET", "/a/../b"),)}, "path"),
    ],
)
async def test_a_service_that_breaks_a_rule_is_refused(registry: Registry, changed: dict[str, Any], rule: str) -> None:
    version = await registry.version()
    service = Service(id=ServiceId(f"{TAX}/other"), title_zh="x", operations=(Operation.of("GET", "/a"),))
    with pytest.raises(UnprocessableError) as caught:
        await registry.add_service(replace(service, **changed), **WHO)
    assert caught.value.rule == rule
    await untouched(registry, version)


async def test_what_is_referred_to_must_exist(registry: Registry) -> None:
    version = await registry.version()
    nobody = SubsystemId(f"{NEW}/x")
    until = NOON + timedelta(days=1)
    with pytest.raises(NotFoundError):
        await registry.add_subsystem(Subsystem(id=nobody, name="x"), **WHO)
    service = Service(id=ServiceId(f"{nobody}/y"), title_zh="x", operations=(Operation.of("GET", "/a"),))
    with pytest.raises(NotFoundError):
        await registry.add_service(service, **WHO)
    with pytest.raises(NotFoundError):
        await registry.grant(client=nobody, service=ENTERPRISES, purposes=["p"], valid_to=until, **WHO)
    with pytest.raises(NotFoundError):
        await registry.grant(client=HOUSING, service=ServiceId(f"{TAX}/none"), purposes=["p"], valid_to=until, **WHO)
    with pytest.raises(NotFoundError):
        await registry.revoke("no-such-grant", **WHO)
    with pytest.raises(NotFoundError):
        await registry.set_service_state(ServiceId(f"{TAX}/none"), is_open=True, **WHO)
    with pytest.raises(NotFoundError):
        await registry.set_subsystem_state(nobody, active=False, **WHO)
    with pytest.raises(NotFoundError):
        await registry.revoke_certificate("00", **WHO)
    await untouched(registry, version)


@pytest.mark.parametrize(
    ("terms", "rule"),
    [
        ({"purposes": []}, "purposes"),
        ({"purposes": ["公租房"]}, "purposes"),
        ({"purposes": ["a", ""]}, "purposes"),
        ({"valid_to": NOON}, "validity"),
        ({"valid_to": NOON - timedelta(days=1)}, "validity"),
        ({"valid_to": datetime(2027, 1, 1)}, "validity"),  # noqa: DTZ001
        ({"method": "get"}, "method"),
        ({"path": "enterprises"}, "path"),
        ({"grant_id": "g7"}, "grant-id"),
        ({"grant_id": "Große"}, "grant-id"),
        ({"client": "CN/GOV/x"}, "client"),
        ({"service": "CN/GOV/x/../y"}, "service"),
        ({"why": ""}, "reason"),
        ({"by": " "}, "decided_by"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_grant_that_breaks_a_rule_is_refused(
    shared_registry: Registry, terms: dict[str, Any], rule: str
) -> None:
    version = await shared_registry.version()
    base: dict[str, Any] = {
        "client": HOUSING,
        "service": ENTERPRISES,
        "purposes": ["p"],
        "valid_to": NOON + timedelta(days=1),
    }
    with pytest.raises(UnprocessableError) as caught:
        await shared_registry.grant(**{**base, **WHO, **terms})
    assert caught.value.rule in (rule, "by", "why")
    await untouched(shared_registry, version)


async def _decide(registry: Registry, method: str, *segments: str, purpose: str | None = None) -> str:
    snapshot: Snapshot = await registry.snapshot()
    try:
        return snapshot.decide(HOUSING, ENTERPRISES, method, segments, purpose, NOON.timestamp()).grant.id
    except AccessDeniedError as error:
        return error.rule


async def test_a_grant_is_given_read_back_revoked_and_never_comes_back(registry: Registry, clock: Clock) -> None:
    assert await _decide(registry, "GET", "enterprises") == "grant-method-path"
    granted = await registry.grant(
        client=HOUSING,
        service=ENTERPRISES,
        purposes=["b", "a", "a"],
        method="GET",
        path="/enterprises",
        valid_to=NOON + timedelta(days=1),
        **WHO,
    )
    assert granted.id == f"g{granted.version}"
    assert granted.version == await registry.version()
    assert (granted.purposes, granted.valid_from, granted.decided_by) == (("a", "b"), NOON, "tester")
    assert await registry.find_grant(granted.id) == granted
    assert await _decide(registry, "GET", "enterprises", purpose="a") == granted.id

    clock.now = NOON + timedelta(hours=1)
    change = await registry.revoke(granted.id, by="owner", why="项目结束")
    assert change is not None
    assert change.action == "grant.revoke"
    assert await registry.revoke(granted.id, by="other", why="again") is None
    found = await registry.find_grant(granted.id)
    assert found is not None
    assert (found.active, found.revoked_at, found.revocation_reason) == (False, clock.now, "项目结束")
    assert await _decide(registry, "GET", "enterprises", purpose="a") == "grant-revoked"

    with pytest.raises(ConflictError):
        async with registry.change(**WHO) as changes:
            await changes.add_grant(replace(granted, id="housing-reads-enterprises"))
    assert granted in [replace(each, **_as_given(granted)) for each in await registry.grants(revoked=True)]
    assert granted.id not in [each.id for each in await registry.grants(client=HOUSING, service=ENTERPRISES)]


def _as_given(grant: Grant) -> dict[str, Any]:
    return {"active": True, "revoked_at": None, "revocation_reason": "", "version": grant.version}


async def test_a_revoked_grant_with_its_own_id_stays_revoked_when_given_again(registry: Registry) -> None:
    granted = await registry.find_grant("housing-reads-enterprises")
    assert granted is not None
    async with registry.change(**WHO) as changes:
        assert await changes.add_grant(granted) is None
    await registry.revoke(granted.id, **WHO)
    with pytest.raises(ConflictError):
        async with registry.change(**WHO) as changes:
            await changes.add_grant(granted)
    assert await _decide(registry, "GET", "enterprises", "9111") == "grant-revoked"


async def test_a_service_closes_with_a_notice_and_opens_again(registry: Registry) -> None:
    await registry.set_service_state(ENTERPRISES, is_open=False, notice="周一恢复", **WHO)
    with pytest.raises(ServiceDisabledError, match="周一恢复"):
        await _decide(registry, "GET", "enterprises", "9111")
    with pytest.raises(UnprocessableError):
        await registry.set_service_state(ENTERPRISES, is_open=False, **WHO)  # without a notice
    # Replacing the description of a closed service does not open it.
    service = (await registry.snapshot()).service(ENTERPRISES)
    assert service is not None
    await registry.add_service(replace(service, title_zh="新名称", open=True, notice=""), replace=True, **WHO)
    with pytest.raises(ServiceDisabledError):
        await _decide(registry, "GET", "enterprises", "9111")
    await registry.set_service_state(ENTERPRISES, is_open=True, **WHO)
    assert await registry.set_service_state(ENTERPRISES, is_open=True, **WHO) is None
    assert await _decide(registry, "GET", "enterprises", "9111") == "housing-reads-enterprises"


async def test_a_suspended_subsystem_is_refused_until_it_is_active_again(registry: Registry) -> None:
    await registry.set_subsystem_state(HOUSING, active=False, **WHO)
    assert await _decide(registry, "GET", "enterprises", "9111") == "client-active"
    await registry.set_subsystem_state(HOUSING, active=True, **WHO)
    assert await _decide(registry, "GET", "enterprises", "9111") == "housing-reads-enterprises"


async def test_several_changes_are_all_made_or_none(registry: Registry) -> None:
    version = await registry.version()

    async def two_changes() -> None:
        async with registry.change(**WHO) as changes:
            await changes.add_member(Member(id=NEW, name="新成员"))
            await changes.add_subsystem(Subsystem(id=SubsystemId("CN/GOV/NOBODY/x"), name="x"))

    with pytest.raises(MeshError):
        await two_changes()
    await untouched(registry, version)
    assert (await registry.snapshot()).member(NEW) is None


async def test_changes_from_many_sides_at_once_get_versions_without_a_gap(
    registry: Registry, database_url: str, clock: Clock
) -> None:
    version = await registry.version()
    other = await Registry.open(database_url, clock=clock)
    until = NOON + timedelta(days=1)
    granted = await asyncio.gather(
        *(
            each.grant(client=HOUSING, service=ENTERPRISES, purposes=[f"p{number}{side}"], valid_to=until, **WHO)
            for number in range(10)
            for side, each in (("a", registry), ("b", other))
        ),
        # The same member from both sides: one registers it, the other finds it registered.
        registry.add_member(Member(id=NEW, name="新成员"), **WHO),
        other.add_member(Member(id=NEW, name="新成员"), **WHO),
    )
    await other.close()
    versions = sorted(each.version for each in granted if each is not None)
    assert versions == list(range(version + 1, version + 22))
    assert await registry.version() == version + 21


async def test_only_what_changed_is_loaded(registry: Registry) -> None:
    version = await registry.version()
    await registry.revoke("housing-reads-enterprises", **WHO)
    rows = await registry.rows_since(version)
    assert rows.version == version + 1
    assert [each.id for each in rows.grants] == ["housing-reads-enterprises"]
    assert (rows.members, rows.subsystems, rows.services, rows.operations, rows.certificates) == ((), (), (), (), ())


def certificate(
    uri: str | None,
    *,
    begin: datetime = NOON - timedelta(days=1),
    end: datetime = NOON + timedelta(days=1),
    ca: bool = False,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> x509.Certificate:
    """A self-signed certificate: who issued it is not the registry's question."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "adapter")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if uri is not None:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256())


async def test_an_adapter_certificate_is_registered_found_and_revoked(registry: Registry) -> None:
    made = certificate(f"datong:{TAX}")
    pem, der = (made.public_bytes(each) for each in (serialization.Encoding.PEM, serialization.Encoding.DER))
    change = await registry.register_certificate(TAX, pem, **WHO)
    assert change is not None
    assert base64.b64decode(change.after["der"]) == der
    assert await registry.register_certificate(TAX, der, **WHO) is None  # the same, otherwise encoded
    fingerprint = made.fingerprint(hashes.SHA256()).hex()
    assert change.target == fingerprint
    assert (await registry.snapshot()).adapter_certificate(fingerprint) == (TAX, der)
    with pytest.raises(ConflictError):
        await registry.register_certificate(TAX, pem, use="gateway", **WHO)
    await registry.revoke_certificate(fingerprint, **WHO)
    assert (await registry.snapshot()).adapter_certificate(fingerprint) is None
    with pytest.raises(ConflictError):  # what was revoked does not come back
        await registry.register_certificate(TAX, pem, **WHO)


async def test_a_member_certificate_may_act_for_a_subsystem(registry: Registry) -> None:
    made = certificate("datong:" + TAX.rsplit("/", 1)[0])
    assert await registry.register_certificate(TAX, made.public_bytes(serialization.Encoding.DER), **WHO)


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (certificate(f"datong:{HOUSING}"), "certificate-identity"),
        (certificate(None), "certificate-identity"),
        (certificate(f"datong:{TAX}", ca=True), "certificate"),
        (certificate(f"datong:{TAX}", end=NOON - timedelta(hours=1)), "certificate-validity"),
        (certificate(f"datong:{TAX}", begin=NOON + timedelta(hours=1)), "certificate-validity"),
        (certificate(f"datong:{TAX}", key=rsa.generate_private_key(65537, 2048)), "certificate-key"),
        (None, "certificate"),
    ],
    ids=["other", "nobody", "ca", "expired", "upcoming", "rsa", "garbage"],
)
async def test_a_certificate_that_cannot_speak_for_the_subsystem_is_refused(
    registry: Registry, made: x509.Certificate | None, rule: str
) -> None:
    version = await registry.version()
    content = made.public_bytes(serialization.Encoding.DER) if made else b"-----BEGIN CERTIFICATE-----\nAAAA\n"
    with pytest.raises(UnprocessableError) as caught:
        await registry.register_certificate(TAX, content, **WHO)
    assert caught.value.rule == rule
    await untouched(registry, version)
