"""Documents in the registry: registered with their operations, numbered, kept, and whom they break."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from exchange import (
    ConflictError,
    NotFoundError,
    OverloadedError,
    RoleMissingError,
    ServiceId,
    SubsystemId,
    UnprocessableError,
)
from registry import (
    Access,
    Actor,
    BreakingChangeError,
    Descriptions,
    Examiner,
    Grant,
    Group,
    Operation,
    Registry,
    ResourceEntry,
    Rows,
    Service,
)
from registry.descriptions.difference import difference
from registry.descriptions.examination import AT_ONCE, examined
from registry.descriptions.impact import impact_of
from registry.descriptions.syntax import MAX_BYTES
from registry.descriptions.tables import service_documents
from tests.registry.conftest import AUDIT, ENTERPRISES, HOUSING, NOON, TAX, Clock
from tests.registry.description_kit import OK, Tree, answering, changed, of, read, ref, tree

WHO: Any = {"by": "test", "why": "test"}
OPERATOR = Actor.operator("operator")
OWNER = Actor(subsystem=TAX, official="张三", certificate="ab" * 32, roles=frozenset({"owner"}))
USCC: Tree = {"name": "uscc", "in": "path", "required": True, "schema": {"type": "string"}}
LEGAL: Tree = {"type": "object", "properties": {"name": {"type": "string"}, "number": {"type": "string"}}}
ENTERPRISE: Tree = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "legal": LEGAL}}
DOCUMENT: Tree = tree(
    "3.1.1",
    paths={
        "/enterprises/{uscc}": {"parameters": [USCC], "get": {"responses": answering(ref("Enterprise"))}},
        "/enterprises/search": {"post": {"responses": OK, "x-datong-safe": True}},
    },
    components={"schemas": {"Enterprise": ENTERPRISE}},
)


def without_number(found: Tree) -> None:
    del found["components"]["schemas"]["Enterprise"]["properties"]["legal"]["properties"]["number"]


def with_more(found: Tree) -> None:
    found["components"]["schemas"]["Enterprise"]["properties"]["more"] = {"type": "string"}


def without_search(found: Tree) -> None:
    del found["paths"]["/enterprises/search"]


@pytest.fixture
def descriptions(registry: Registry) -> Descriptions:
    return Descriptions(registry)


async def counts(registry: Registry) -> tuple[int, int]:
    """Version of the registry, and documents in it."""
    async with registry.reading() as connection:
        count = (await connection.execute(sa.select(sa.func.count()).select_from(service_documents))).scalar_one()
    return await registry.version(), count


async def service_of(registry: Registry) -> Service:
    found = (await registry.snapshot()).service(ENTERPRISES)
    assert found is not None
    return found


async def test_a_document_is_registered_with_the_operations_it_declares(
    registry: Registry, descriptions: Descriptions
) -> None:
    before = await service_of(registry)
    done = await descriptions.register(ENTERPRISES, of(DOCUMENT), actor=OWNER, why="目录〔2026〕12号")
    assert (done.number, done.comparison.breaking, done.comparison.difference.changed) == (1, (), ())
    assert len(done.comparison.difference.added) == 2
    assert done.change is not None
    after = await service_of(registry)
    assert after.operations == (
        Operation(method="POST", path="/enterprises/search", safe=True),
        Operation(method="GET", path="/enterprises/{uscc}", safe=True),
    )
    stored = await descriptions.document(ENTERPRISES)
    assert after == replace(before, operations=after.operations, document=stored.sha256), (
        "titles, limits and state stay"
    )
    assert (stored.number, stored.format, stored.openapi, stored.media_type) == (1, "json", "3.1.1", "application/json")
    assert stored.text.encode() == of(DOCUMENT)
    assert (stored.size, stored.registered_at, stored.registered_by) == (len(of(DOCUMENT)), NOON, f"{TAX} (张三)")

    (noted,) = await registry.changes(target=f"{ENTERPRISES}/openapi/1")
    assert noted == done.change
    assert (noted.action, noted.by, noted.why) == ("document.add", f"{TAX} (张三)", "目录〔2026〕12号")
    assert (noted.certificate, noted.before) == ("ab" * 32, None)
    assert (noted.after["sha256"], noted.after["size"]) == (stored.sha256, stored.size)
    assert "text" not in noted.after
    last = (await registry.changes(target=ENTERPRISES))[-1]
    assert (last.action, last.version) == ("service.replace", done.change.version + 1)
    assert [each["path"] for each in last.after["operations"]] == ["/enterprises/search", "/enterprises/{uscc}"]


async def test_the_same_bytes_again_change_nothing(registry: Registry, descriptions: Descriptions) -> None:
    await descriptions.register(ENTERPRISES, of(DOCUMENT), actor=OWNER)
    before = await counts(registry)
    for data in (of(DOCUMENT), b"\xef\xbb\xbf" + of(DOCUMENT)):
        again = await descriptions.register(ENTERPRISES, data, actor=OWNER)
        assert (again.number, again.change, again.comparison.difference.added) == (1, None, ())
    assert await counts(registry) == before


async def test_the_reason_is_the_version_if_none_is_given(descriptions: Descriptions) -> None:
    done = await descriptions.register(ENTERPRISES, of(DOCUMENT), actor=OWNER)
    assert done.change is not None
    assert done.change.why == "OpenAPI 3.1.1"


async def test_documents_are_numbered_and_all_are_kept(descriptions: Descriptions) -> None:
    yaml = (
        b"openapi: 3.0.3\ninfo: {title: x, version: '1'}\npaths: {/a: {get: {responses: {200: {description: ok}}}}}\n"
    )
    await descriptions.register(ENTERPRISES, of(DOCUMENT), actor=OWNER)
    await descriptions.register(ENTERPRISES, of(changed(DOCUMENT, with_more)), actor=OWNER)
    await descriptions.register(ENTERPRISES, yaml, actor=OPERATOR, accept_breaking=True)
    assert [each.number for each in await descriptions.documents(ENTERPRISES)] == [3, 2, 1]
    assert (await descriptions.document(ENTERPRISES)).text == yaml.decode()
    assert (await descriptions.document(ENTERPRISES)).media_type == "application/yaml"
    assert (await descriptions.document(ENTERPRISES, 1)).text.encode() == of(DOCUMENT)
    assert await descriptions.described(TAX) == {ENTERPRISES}
    assert await descriptions.described(HOUSING) == frozenset()
    with pytest.raises(NotFoundError, match="number 4"):
        await descriptions.document(ENTERPRISES, 4)
    forward = await descriptions.compare_registered(ENTERPRISES, 1, 2)
    assert [each.rule for each in forward.difference.added] == ["answer-property-added"]
    back = await descriptions.compare_registered(ENTERPRISES, 2, 1)
    assert [each.alteration.rule for each in back.breaking] == ["answer-property-removed"]


async def test_what_breaks_callers_is_refused_until_it_is_meant(registry: Registry, descriptions: Descriptions) -> None:
    await descriptions.register(ENTERPRISES, of(DOCUMENT), actor=OWNER)
    before = await counts(registry)
    new = of(changed(DOCUMENT, without_number))
    with pytest.raises(BreakingChangeError) as caught:
        await descriptions.register(ENTERPRISES, new, actor=OWNER)
    error = caught.value
    assert (error.status, error.rule) == (409, "breaking-change")
    assert error.pointer == "/components/schemas/Enterprise/properties/legal/properties/number"
    assert "breaks callers in 1 way, and 1 subsystem is concerned" in str(error)
    assert "legal.number in the answer is gone" in str(error)
    assert "legal.number 已删除" in error.detail_in("zh")
    assert await counts(registry) == before

    dry = await descriptions.register(ENTERPRISES, new, actor=OWNER, dry_run=True)
    (broken,) = dry.comparison.breaking
    assert (dry.number, dry.change) == (2, None)
    assert (broken.alteration.item, broken.affects) == ("legal.number", (HOUSING,))
    assert await counts(registry) == before

    done = await descriptions.register(ENTERPRISES, new, actor=OWNER, accept_breaking=True)
    assert (done.number, done.comparison) == (2, dry.comparison)
    assert done.change is not None


@pytest.mark.parametrize(
    ("actor", "may"),
    [
        (OPERATOR, True),
        (OWNER, True),
        (replace(OWNER, roles=frozenset({"integrator"})), True),
        (replace(OWNER, subsystem=SubsystemId(f"{TAX.rpartition('/')[0]}/sibling")), True),
        (replace(OWNER, roles=frozenset({"auditor"})), False),
        (replace(OWNER, roles=frozenset()), False),
        (replace(OWNER, subsystem=HOUSING), False),
    ],
)
async def test_who_may_describe_a_service(
    registry: Registry, descriptions: Descriptions, actor: Actor, may: bool
) -> None:
    if may:
        assert (await descriptions.register(ENTERPRISES, of(DOCUMENT), actor=actor)).number == 1
        return
    before = await counts(registry)
    with pytest.raises(RoleMissingError):
        await descriptions.register(ENTERPRISES, of(DOCUMENT), actor=actor)
    with pytest.raises(RoleMissingError):  # also about a service that is not there
        await descriptions.register(ServiceId(f"{TAX}/nothing"), b"", actor=actor)
    assert await counts(registry) == before


async def test_a_wrong_document_changes_nothing(registry: Registry, descriptions: Descriptions) -> None:
    before = await counts(registry)
    for data, pointer in ((b"{", ""), (of(tree(paths={"/a?": {}})), "/paths/~1a?"), (b" " * (MAX_BYTES + 1), "")):
        with pytest.raises(UnprocessableError) as caught:
            await descriptions.register(ENTERPRISES, data, actor=OWNER)
        assert caught.value.pointer == pointer
    with pytest.raises(NotFoundError):
        await descriptions.register(ServiceId(f"{TAX}/nothing"), of(DOCUMENT), actor=OWNER)
    with pytest.raises(NotFoundError):
        await descriptions.document(ENTERPRISES)
    assert await descriptions.documents(ENTERPRISES) == ()
    assert await counts(registry) == before


async def test_of_two_at_once_one_is_told_to_look_again(registry: Registry) -> None:
    """Both looked at the same state; the difference of the second would be against a document it never saw."""
    documents = [of(changed(DOCUMENT, lambda found, n=n: found["info"].update(title=f"T{n}"))) for n in range(2)]
    results = await asyncio.gather(
        *(Descriptions(registry).register(ENTERPRISES, each, actor=OWNER) for each in documents),
        return_exceptions=True,
    )
    refused = [each for each in results if isinstance(each, BaseException)]
    assert [type(each) for each in refused] == [ConflictError]
    assert [each.number for each in await Descriptions(registry).documents(ENTERPRISES)] == [1]


async def test_a_closed_or_hidden_service_stays_so(registry: Registry, descriptions: Descriptions) -> None:
    async with registry.change(**WHO) as change:
        found = replace(await service_of(registry), listed=False)
        await change.add_service(found, replace=True)
        await change.set_service_state(ENTERPRISES, is_open=False, notice="盘点")
    await descriptions.register(ENTERPRISES, of(DOCUMENT), actor=OWNER)
    after = await service_of(registry)
    assert (after.open, after.notice, after.listed) == (False, "盘点", False)


@pytest.mark.parametrize("code", ["listMethods", "allowedMethods", "getOpenAPI", "getWsdl", "listClients"])
async def test_the_meshs_own_service_codes_are_taken(registry: Registry, code: str) -> None:
    service = Service(id=ServiceId(f"{TAX}/{code}"), title_zh="x", operations=(Operation.of("GET", "/**"),))
    with pytest.raises(UnprocessableError) as caught:
        await registry.add_service(service, **WHO)
    assert (caught.value.rule, caught.value.pointer) == ("service-reserved", "/id")


# Whom it concerns


async def affected(registry: Registry, change: Any, clock: Clock) -> dict[str, tuple[SubsystemId, ...]]:
    """Rule -> whom it concerns, of a change of the document."""
    found = difference(read(DOCUMENT), read(changed(DOCUMENT, change)))
    snapshot = await registry.snapshot()
    return {
        each.alteration.rule: each.affects
        for each in impact_of(found.breaking, ENTERPRISES, snapshot, clock.now.timestamp())
    }


async def give(registry: Registry, **terms: Any) -> None:
    more: dict[str, Any] = {"purposes": ["test"], "valid_to": NOON + timedelta(days=9), "service": ENTERPRISES, **WHO}
    await registry.grant(**{**more, **terms})


async def test_who_may_call_the_operation_is_concerned(registry: Registry, clock: Clock) -> None:
    assert await affected(registry, without_search, clock) == {"operation-removed": ()}
    await give(registry, client=AUDIT, method="POST", path="/enterprises/s*")
    assert await affected(registry, without_search, clock) == {"operation-removed": (AUDIT,)}


@pytest.mark.parametrize(
    ("terms", "concerned"),
    [
        ({"method": "POST", "path": "/enterprises/search"}, True),
        ({"method": "GET", "path": "/enterprises/search"}, False),
        ({"path": "/**"}, True),
        ({"path": "/other/**"}, False),
        ({"valid_from": NOON + timedelta(days=1)}, True),
        ({"valid_from": NOON, "valid_to": NOON + timedelta(seconds=1)}, False),
    ],
)
async def test_method_path_and_time_decide(
    registry: Registry, clock: Clock, terms: dict[str, Any], concerned: bool
) -> None:
    await give(registry, client=AUDIT, **terms)
    clock.now = NOON + timedelta(hours=1)
    found = await affected(registry, without_search, clock)
    assert found == {"operation-removed": (AUDIT,) if concerned else ()}


async def test_a_revoked_grant_concerns_nobody(registry: Registry, clock: Clock) -> None:
    await give(registry, client=AUDIT, grant_id="gone")
    await registry.revoke("gone", **WHO)
    assert await affected(registry, without_search, clock) == {"operation-removed": ()}


@pytest.mark.parametrize(
    ("items", "concerned"),
    [
        ((), True),
        (("name", "legal.number"), True),
        (("legal",), True),
        (("legal.number.deeper",), True),
        (("name",), False),
        (("legal.name",), False),
        ((r"legal\.number",), False),
        (("leg",), False),
    ],
)
async def test_a_grant_that_lists_items_is_concerned_by_those(
    registry: Registry, clock: Clock, items: tuple[str, ...], concerned: bool
) -> None:
    await registry.revoke("housing-reads-enterprises", **WHO)
    await give(registry, client=AUDIT, method="GET", items=items)
    found = await affected(registry, without_number, clock)
    assert found == {"answer-property-removed": (AUDIT,) if concerned else ()}


async def test_groups_are_those_in_them(registry: Registry, clock: Clock) -> None:
    async with registry.change(**WHO) as change:
        await change.add_group(Group(id="both", name="两部门", members=(HOUSING, AUDIT)))
    await give(registry, group="both", method="POST")
    assert await affected(registry, without_search, clock) == {"operation-removed": (HOUSING, AUDIT)}


@pytest.mark.parametrize(
    ("access", "path", "concerned"),
    [
        (Access(service=ENTERPRISES, method="POST", path="/enterprises/search"), "**", True),
        (Access(service=ENTERPRISES, method="POST", path="/enterprises/**"), "/enterprises/s*", True),
        (Access(service=ENTERPRISES, method="POST", path="/enterprises/**"), "/enterprises/x*", False),
        (Access(service=ENTERPRISES, method="GET", path="/enterprises/search"), "**", False),
        (Access(service=ServiceId(f"{TAX}/other")), "**", False),
    ],
)
async def test_a_grant_of_a_resource_concerns_where_it_is_to_be_had(
    registry: Registry, access: Access, path: str, concerned: bool
) -> None:
    grant = Grant(
        id="of-resource",
        client=AUDIT,
        resource="R1",
        path=path,
        purposes=("test",),
        valid_from=NOON,
        valid_to=NOON + timedelta(days=1),
        reason="test",
        decided_by="test",
    )
    entry = ResourceEntry(code="R1", accesses=(access,))
    base = await registry.snapshot()
    snapshot = base.with_changes(Rows(version=base.version + 1, resources=(entry,), grants=(grant,)))
    found = difference(read(DOCUMENT), read(changed(DOCUMENT, without_search)))
    (one,) = impact_of(found.breaking, ENTERPRISES, snapshot, NOON.timestamp())
    assert one.affects == ((AUDIT,) if concerned else ())


# The process


async def test_what_the_process_finds_is_what_is_found_here() -> None:
    old, new = of(DOCUMENT), of(changed(DOCUMENT, without_number))
    assert await Examiner().examine(new, old) == examined(new, old)
    with pytest.raises(UnprocessableError) as there:
        await Examiner().examine(b'{"a": 1, "a": 2}')
    with pytest.raises(UnprocessableError) as here:
        examined(b'{"a": 1, "a": 2}')
    assert there.value.detail_in("en") == here.value.detail_in("en")
    assert there.value.detail_in("zh") == here.value.detail_in("zh")
    assert (there.value.rule, there.value.pointer) == (here.value.rule, here.value.pointer)


async def test_a_document_that_never_ends_is_given_up() -> None:
    """A regular expression that tries every way, on a default of the author's choice: nothing inside could stop it."""
    schema = {"type": "string", "pattern": "^(a+)+$", "default": "a" * 60 + "!"}
    with pytest.raises(UnprocessableError) as caught:
        await Examiner(seconds=2.0).examine(of(tree(components={"schemas": {"A": schema}})))
    assert caught.value.rule == "description-limit"


async def test_schemas_that_lead_through_thousands_of_others_are_fine() -> None:
    chain = {f"A{n}": {"type": "object", "properties": {"x": ref(f"A{n + 1}")}} for n in range(2000)}
    found = await Examiner().examine(of(tree(components={"schemas": {**chain, "A2000": {"type": "string"}}})))
    assert len(found.description.operations) == 1


async def test_a_document_before_that_cannot_be_read_any_more_breaks_everything() -> None:
    (told,) = examined(of(DOCUMENT), b"openapi: 2.0").difference.breaking
    assert (told.rule, told.path) == ("document-unreadable", "")


async def test_more_than_a_few_at_once_are_told_to_come_again() -> None:
    examiner = Examiner()
    results = await asyncio.gather(
        *(examiner.examine(of(DOCUMENT)) for _ in range(AT_ONCE + 2)), return_exceptions=True
    )
    assert [type(each) for each in results if isinstance(each, Exception)] == [OverloadedError] * 2
    assert await examiner.examine(of(DOCUMENT))
