"""The life of a resource: drafts, versions, who may what, and what decisions learn of it; on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from exchange import ConflictError, NotFoundError, NotRegisteredError, RoleMissingError, ServiceId, UnprocessableError
from registry import Access, Actor, Catalogue, Member, Registry, ResourceEntry, Subsystem
from registry.catalogue.resource import plain
from tests.registry.catalogue_kit import (
    AUDITOR,
    CODE,
    INTEGRATOR,
    OPERATOR,
    OWNER,
    STRANGER,
    document,
    parsed,
    publish,
    resource,
)
from tests.registry.conftest import ENTERPRISES, HOUSING, NOON, TAX, Clock


@pytest.fixture
def catalogue(registry: Registry) -> Catalogue:
    return Catalogue(registry)


async def entries(registry: Registry) -> dict[str, ResourceEntry]:
    return {each.code: each for each in (await registry.rows_since(0)).resources}


async def test_a_resource_is_drafted_published_changed_and_withdrawn(
    catalogue: Catalogue, registry: Registry, clock: Clock
) -> None:
    drafted = await catalogue.save(INTEGRATOR, parsed(), why="编目")
    assert drafted is not None
    assert (drafted.action, drafted.target, drafted.by) == ("resource.add", CODE, INTEGRATOR.by)
    entry, department = await catalogue.entry(OWNER, CODE)
    assert (entry.state, entry.number, entry.published) == ("draft", 0, None)
    assert (department.name, department.uscc) == ("示例市税务局", "11990000000001011Q")
    assert CODE not in await entries(registry), "what was never published is nobody's to call"

    first = await catalogue.publish(OWNER, CODE, why="发布〔2026〕1号")
    assert first is not None
    assert first.action == "resource.publish"
    entry, _ = await catalogue.entry(STRANGER, CODE)
    assert (entry.state, entry.number, entry.draft, entry.changed_at) == ("published", 1, None, NOON)
    assert entry.content.publication_date == date(2026, 5, 4)
    assert entry.content.division == "990000", "the provider's, where a resource has none of its own"
    access = Access(service=ENTERPRISES, method="GET", path="/enterprises/{uscc}")
    assert (await entries(registry))[CODE] == ResourceEntry(code=CODE, accesses=(access,))

    clock.now += timedelta(days=1)
    changed = parsed(abstract="纳税人欠税。", accesses=[], sharing_class="unconditional", conditions="")
    assert await catalogue.save(INTEGRATOR, changed, why="更新", replace=True)
    assert (await entries(registry))[CODE].accesses == (access,), "what is in force stays so until the next version"
    assert (await catalogue.entry(STRANGER, CODE))[0].content.sharing_class == "conditional"
    assert await catalogue.publish(OWNER, CODE, why="发布〔2026〕2号")
    assert (await entries(registry))[CODE] == ResourceEntry(code=CODE, accesses=())

    one, two = await catalogue.versions(STRANGER, CODE)
    assert (one.number, one.by, one.why, one.at) == (1, OWNER.by, "发布〔2026〕1号", NOON)
    assert (two.number, two.resource.abstract) == (2, "纳税人欠税。")
    assert one.differences == ()
    pointers = {each.pointer for each in two.differences}
    assert pointers == {"/abstract", "/sharing_class", "/conditions", "/accesses/0", "/publication_date"}
    assert one.resource.abstract == resource().abstract

    assert await catalogue.withdraw(OWNER, CODE, why="职责调整")
    entry, _ = await catalogue.entry(STRANGER, CODE)
    assert (entry.state, entry.number, entry.content.abstract) == ("withdrawn", 2, "纳税人欠税。")
    assert not (await entries(registry))[CODE].active
    assert await catalogue.withdraw(OWNER, CODE, why="又一次") is None
    assert await catalogue.publish(OWNER, CODE, why="恢复")
    assert (await entries(registry))[CODE].active
    assert [each.number for each in await catalogue.versions(STRANGER, CODE)] == [1, 2, 3]


async def test_every_step_is_on_record_whole_with_who_and_why(catalogue: Catalogue, registry: Registry) -> None:
    certified = Actor(subsystem=TAX, official="李四", roles=frozenset({"owner"}), certificate="ab" * 32)
    await catalogue.save(certified, parsed(), why="编目")
    await catalogue.publish(certified, CODE, why="发布")
    await catalogue.withdraw(certified, CODE, why="撤销")
    added, published, withdrawn = await registry.changes(target=CODE)
    assert [each.action for each in (added, published, withdrawn)] == [
        "resource.add",
        "resource.publish",
        "resource.withdraw",
    ]
    assert {(each.by, each.certificate) for each in (added, published, withdrawn)} == {(f"{TAX} (李四)", "ab" * 32)}
    assert (added.before, added.after["state"], added.after["number"]) == (None, "draft", 0)
    assert published.before == added.after
    assert withdrawn.before == published.after
    assert withdrawn.after == {**published.after, "state": "withdrawn", "changed_at": withdrawn.after["changed_at"]}


async def test_what_is_so_already_is_no_change(catalogue: Catalogue, registry: Registry) -> None:
    await catalogue.save(OPERATOR, parsed(), why="编目")
    assert await catalogue.save(OPERATOR, parsed(), why="编目") is None
    await catalogue.publish(OPERATOR, CODE, why="发布")
    version = await registry.version()
    assert await catalogue.publish(OPERATOR, CODE, why="发布") is None
    assert await catalogue.save(OPERATOR, parsed(), why="编目") is None, "the date it got is not asked for again"
    assert await registry.version() == version
    # A draft that comes back to what is in force is no draft any more.
    await catalogue.save(OPERATOR, parsed(name="欠税"), why="更新", replace=True)
    assert (await catalogue.entry(OPERATOR, CODE))[0].draft is not None
    await catalogue.save(OPERATOR, parsed(), why="撤回更新", replace=True)
    assert (await catalogue.entry(OPERATOR, CODE))[0].draft is None
    assert await catalogue.publish(OPERATOR, CODE, why="发布") is None


async def test_describing_is_for_the_providers_member_and_publishing_for_its_owner(catalogue: Catalogue) -> None:
    for nobody in (STRANGER, AUDITOR, Actor(subsystem=TAX)):
        with pytest.raises(RoleMissingError):
            await catalogue.save(nobody, parsed(), why="x")
    await catalogue.save(INTEGRATOR, parsed(), why="编目")
    for nobody in (INTEGRATOR, AUDITOR):
        with pytest.raises(RoleMissingError):
            await catalogue.publish(nobody, CODE, why="x")
        with pytest.raises(RoleMissingError):
            await catalogue.withdraw(nobody, CODE, why="x")
    await catalogue.publish(OWNER, CODE, why="发布")
    with pytest.raises(RoleMissingError):
        await catalogue.withdraw(STRANGER, CODE, why="x")
    with pytest.raises(RoleMissingError):
        await catalogue.save(STRANGER, parsed(name="x"), why="x", replace=True)


async def test_a_draft_does_not_exist_for_others(catalogue: Catalogue) -> None:
    await catalogue.save(INTEGRATOR, parsed(), why="编目")
    for nobody in (STRANGER, Actor(subsystem=HOUSING)):
        for attempt in (
            catalogue.entry(nobody, CODE),
            catalogue.versions(nobody, CODE),
            catalogue.publish(nobody, CODE, why="x"),
            catalogue.withdraw(nobody, CODE, why="x"),
        ):
            with pytest.raises(NotFoundError):
                await attempt
    for somebody in (OWNER, INTEGRATOR, AUDITOR, OPERATOR):
        assert (await catalogue.entry(somebody, CODE))[0].draft is not None
    await catalogue.publish(OWNER, CODE, why="发布")
    await catalogue.save(INTEGRATOR, parsed(name="欠税"), why="更新", replace=True)
    assert (await catalogue.entry(STRANGER, CODE))[0].draft is None
    assert (await catalogue.entry(AUDITOR, CODE))[0].draft is not None


async def test_a_code_is_given_once_and_a_resource_stays_with_its_provider(
    catalogue: Catalogue, registry: Registry
) -> None:
    await catalogue.save(OPERATOR, parsed(), why="编目")
    with pytest.raises(ConflictError) as caught:
        await catalogue.save(OPERATOR, parsed(name="另一资源"), why="编目")
    assert caught.value.pointer == "/code"
    with pytest.raises(ConflictError) as caught:
        await catalogue.save(OPERATOR, parsed(provider=HOUSING, accesses=[]), why="编目", replace=True)
    assert caught.value.pointer == "/provider"


async def test_what_a_resource_names_must_be_registered(catalogue: Catalogue, registry: Registry) -> None:
    version = await registry.version()
    gone = f"{TAX.rpartition('/')[0]}/gone"
    with pytest.raises(NotRegisteredError) as caught:
        await catalogue.save(OPERATOR, parsed(provider=gone, accesses=[]), why="编目")
    assert caught.value.pointer == "/provider"
    nothing = [{"service": f"{TAX}/nothing"}]
    with pytest.raises(NotRegisteredError) as caught:
        await catalogue.save(OPERATOR, parsed(accesses=[*document()["accesses"], *nothing]), why="编目")
    assert (caught.value.pointer, caught.value.status) == ("/accesses/1/service", 422)
    with pytest.raises(UnprocessableError) as unprocessable:
        await catalogue.save(OPERATOR, parsed(department={"uscc": "1199000000000102XG"}), why="编目")
    assert unprocessable.value.pointer == "/department/uscc"
    assert await registry.version() == version


async def test_why_is_obligatory(catalogue: Catalogue, registry: Registry) -> None:
    with pytest.raises(UnprocessableError):
        await catalogue.save(OPERATOR, parsed(), why="")
    assert (await registry.changes(target=CODE)) == ()


async def test_level_and_division_are_the_providers_where_a_resource_has_none(
    catalogue: Catalogue, registry: Registry
) -> None:
    member = Member(id=TAX.rpartition("/")[0], name="示例市税务局", level="city", division="450100")  # type: ignore[arg-type]
    await registry.add_member(member, by="x", why="x", replace=True)
    await catalogue.save(OPERATOR, parsed(), why="编目")
    draft = (await catalogue.entry(OPERATOR, CODE))[0].content
    assert (draft.level, draft.division) == ("city", "450100")
    await catalogue.save(OPERATOR, parsed(level="county", division="450103"), why="编目", replace=True)
    draft = (await catalogue.entry(OPERATOR, CODE))[0].content
    assert (draft.level, draft.division) == ("county", "450103")


async def test_a_mirror_loads_only_the_resources_that_changed(catalogue: Catalogue, registry: Registry) -> None:
    await publish(catalogue)
    version = await registry.version()
    assert (await registry.rows_since(version)).resources == ()
    await publish(catalogue, code="306002/000002")
    await registry.add_subsystem(Subsystem(id=f"{TAX.rpartition('/')[0]}/new", name="新系统"), by="x", why="x")  # type: ignore[arg-type]
    changed = await registry.rows_since(version)
    assert [each.code for each in changed.resources] == ["306002/000002"]


async def test_the_record_alone_rebuilds_a_resource(catalogue: Catalogue, registry: Registry) -> None:
    await publish(catalogue)
    *_, newest = await registry.changes(target=CODE)
    entry, _ = await catalogue.entry(OPERATOR, CODE)
    assert newest.after["published"] == plain(entry.content)
    assert newest.after["accesses"] == [
        {"service": ServiceId(ENTERPRISES), "method": "GET", "path": "/enterprises/{uscc}"}
    ]


async def test_the_example_seed_registers_its_resource_once(catalogue: Catalogue) -> None:
    entry, _ = await catalogue.entry(STRANGER, "306001/000001")
    assert (entry.state, entry.number, entry.content.name) == ("published", 1, "企业登记信息")
