"""The registry's record of changes as others read it: its identity, its pages, and up to where logs have it."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa

from exchange import MemberId
from registry import Change, ChangeBook, ChangeFilter, Member, Registry
from tests.registry.conftest import Clock

WHO: dict[str, Any] = {"by": "tester", "why": "a test"}
LOG = "log.example/gov+0a1b2c3d"


async def add(registry: Registry, number: int, **who: Any) -> Change:
    member = Member(id=MemberId(f"CN/GOV/{number}"), name="某局", check_exception="试验")
    change = await registry.add_member(member, **{**WHO, **who})
    assert change is not None
    return change


async def test_a_registry_has_one_identity_for_good(database_url: str) -> None:
    registries = await asyncio.gather(*(Registry.open(database_url) for _ in range(3)))
    identities = {await ChangeBook(registry).identity() for registry in registries}
    assert len(identities) == 1
    assert len(identities.pop()) == 36
    await asyncio.gather(*(registry.close() for registry in registries))


async def test_changes_come_page_by_page_and_by_version(empty_registry: Registry, clock: Clock) -> None:
    book = ChangeBook(empty_registry)
    made = [await add(empty_registry, number, by="a (李四)" if number % 2 else "ab") for number in range(7)]
    first, more = await book.page(ChangeFilter(), limit=4)
    rest, end = await book.page(ChangeFilter(), before=first[-1].version, limit=4)
    assert (more, end) == (True, False)
    assert (*first, *rest) == tuple(made[::-1])
    assert await book.find(3) == made[2]
    assert await book.find(8) is None
    assert sorted(each.version for each in await book.all_of([2, 5, 9])) == [2, 5]
    assert await book.after(5, limit=1) == (made[5],)
    assert [each.version for each in (await book.page(ChangeFilter(by="a ("), limit=9))[0]] == [6, 4, 2]
    assert [each.version for each in (await book.page(ChangeFilter(target="CN/GOV/4"), limit=9))[0]] == [5]
    assert (await book.page(ChangeFilter(until=clock.now), limit=9)) == ((), False)
    assert len((await book.page(ChangeFilter(since=clock.now, action="member.a"), limit=9))[0]) == 7


async def test_what_is_kept_about_a_log_takes_no_version_and_stays(empty_registry: Registry) -> None:
    book = ChangeBook(empty_registry)
    for number in range(4):
        await add(empty_registry, number)
    assert await book.unrecorded(LOG, limit=2) == (0, await book.after(0, limit=2))
    await book.mark_recorded(LOG, 3)
    await book.mark_recorded(LOG, 2)
    assert (await book.recorded(LOG), await book.recorded("another")) == (3, 0)
    assert [each.version for each in (await book.unrecorded(LOG, limit=9))[1]] == [4]
    assert [each.version for each in (await book.unrecorded(LOG, limit=9, start_at=1))[1]] == [2, 3, 4]
    assert await empty_registry.version() == 4


async def test_a_place_beyond_the_last_change_is_not_believed(empty_registry: Registry) -> None:
    book = ChangeBook(empty_registry)
    await add(empty_registry, 1)
    await book.mark_recorded(LOG, 10**9)
    assert await book.recorded(LOG) == 0
    await book.mark_recorded(LOG, 1)
    async with empty_registry.reading() as connection:
        assert (await connection.execute(sa.text("SELECT version FROM recorded_changes"))).scalar_one() == 1
