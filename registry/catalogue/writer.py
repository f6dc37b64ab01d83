"""Writing resources, through `Changes`: drafts, versions, withdrawals.

Rules:
1. Describing a resource is for owners and integrators of its provider, publishing and withdrawing for its owner; the operator
   may do both. For those who may not see a draft, one that was never published does not exist.
2. What is in force stays so until the next version is published: a draft lies beside it.
3. A version is a publication. The record of changes holds each whole, with who and why; nothing is ever deleted.
4. What a resource names must be there when it is written and again when it is published: its provider, its services.
5. A resource stays with its provider, and its code is never given to another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from dataclasses import replace as with_fields
from typing import Any

import sqlalchemy as sa

from exchange import ConflictError, ServiceId, SubsystemId
from registry import rows
from registry.actors import Actor
from registry.catalogue.codes import NATIONAL, CodeScheme
from registry.catalogue.resource import Resource, plain, resource_of
from registry.catalogue.rules import check_resource
from registry.catalogue.store import PUBLISH, may_see_drafts, no_resource
from registry.catalogue.tables import resource_index, resources
from registry.catalogue.words import texts_of
from registry.changes import Changes
from registry.records import Change, Member
from registry.tables import members, services, subsystems
from registry.validity import CHINA

_AT_ONCE = 500


async def save_resource(
    change: Changes,
    actor: Actor,
    resource: Resource,
    *,
    replace: bool = False,
    schemes: Sequence[CodeScheme] = NATIONAL,
) -> Change | None:
    """Write a draft; see `ResourceWriter.save`."""
    return await ResourceWriter(change, actor, schemes).save(resource, replace=replace)


async def publish_resource(
    change: Changes, actor: Actor, code: str, *, schemes: Sequence[CodeScheme] = NATIONAL
) -> Change | None:
    """Put a draft into force; see `ResourceWriter.publish`."""
    return await ResourceWriter(change, actor, schemes).publish(code)


async def withdraw_resource(change: Changes, actor: Actor, code: str) -> Change | None:
    """Take a resource out of force; see `ResourceWriter.withdraw`."""
    return await ResourceWriter(change, actor).withdraw(code)


class ResourceWriter:
    """Writes resources in one transaction, for one actor; what many of them refer to is looked up once.

    Args:
        schemes: Which codes are known here.
    """

    def __init__(self, change: Changes, actor: Actor, schemes: Sequence[CodeScheme] = NATIONAL) -> None:
        self._change = change
        self._actor = actor
        self._schemes = schemes
        self._rows: dict[str, dict[str, Any] | None] = {}
        self._providers: dict[SubsystemId, Member] = {}
        self._services: set[ServiceId] = set()

    async def look_up(self, codes: Sequence[str]) -> None:
        """Read the rows of many resources ahead."""
        for begin in range(0, len(codes), _AT_ONCE):
            some = codes[begin : begin + _AT_ONCE]
            query = sa.select(resources).where(resources.c.code.in_(some))
            self._rows |= dict.fromkeys(some)
            for row in (await self._change.connection.execute(query)).mappings():
                self._rows[row["code"]] = {name: value for name, value in row.items() if name != "version"}

    async def save(self, resource: Resource, *, replace: bool = False, checked: bool = False) -> Change | None:
        """Write a draft: of a new resource, or of the next version of one that is there. None if it is so already.

        Args:
            replace: Whether one that is there is meant; without it, it must be a new one.
            checked: Whether the caller knows that it breaks none of the `rules`.

        Raises:
            RoleMissingError: The actor may not describe what this provider offers.
            UnprocessableError: A rule is broken; the pointer says where.
            NotRegisteredError: The provider or a service is not registered; likewise.
            ConflictError: The resource is there, and `replace` was not said; or it is another provider's.
        """
        if not checked:
            check_resource(resource, self._schemes)
        self._actor.require_describer_of(resource.provider)
        resource = await self._placed(resource)
        await self._check_accesses(resource)
        before = await self._before(resource.code)
        content = plain(resource)
        if before is None:
            return await self._write(None, {"published": None, "draft": content, "state": "draft", "number": 0})
        if before["provider"] != resource.provider:
            raise ConflictError(
                "resource-provider",
                problem=f"{resource.code} is a resource of {before['provider']}, and stays its own.",
                problem_zh=f"{resource.code} 是 {before['provider']} 的信息资源，不能改由他方提供。",
                pointer="/provider",
            )
        in_force = _in_force(before, content)
        if before["draft"] == content or (before["draft"] is None and in_force):
            return None
        if not replace:
            raise ConflictError(
                problem=f"Resource {resource.code} is in the catalogue with other content; say replace if that is meant.",
                problem_zh=f"信息资源 {resource.code} 已编目且内容不同；如确需修改，请指明替换（replace）。",
                pointer="/code",
            )
        return await self._write(before, {**before, "draft": None if in_force else content}, "resource.draft")

    async def publish(self, code: str) -> Change | None:
        """Put the draft into force as the next version, or a withdrawn version again; None if there is nothing to publish.

        Raises:
            NotFoundError: There is no such resource, or none that this actor may see.
            RoleMissingError: The actor does not own it.
            UnprocessableError, NotRegisteredError: It breaks a rule by now, or names what is gone.
        """
        before = await self._seen(code)
        self._actor.require_owner_of(before["provider"])
        if before["draft"] is None and before["state"] == "published":
            return None
        resource = resource_of(before["draft"] or before["published"])
        if resource.publication_date is None:
            resource = with_fields(resource, publication_date=self._change.now.astimezone(CHINA).date())
        check_resource(resource, self._schemes)
        await self._check_accesses(resource)
        content = {"published": plain(resource), "draft": None, "state": "published", "number": before["number"] + 1}
        return await self._write(before, {**content, "changed_at": self._change.now}, PUBLISH)

    async def withdraw(self, code: str) -> Change | None:
        """Take a resource out of force; what was granted on it permits nothing any more. None if it is withdrawn already.

        Raises: like `publish`.
        """
        before = await self._seen(code)
        self._actor.require_owner_of(before["provider"])
        if before["state"] == "withdrawn":
            return None
        after = {**before, "state": "withdrawn", "changed_at": self._change.now}
        return await self._write(before, after, "resource.withdraw")

    async def _before(self, code: str) -> dict[str, Any] | None:
        if code not in self._rows:
            self._rows[code] = await self._change.find(resources, code=code)
        return self._rows[code]

    async def _seen(self, code: str) -> dict[str, Any]:
        """The row of a resource that the actor may know of."""
        before = await self._before(code)
        if before is None or (before["published"] is None and not may_see_drafts(self._actor, before["provider"])):
            raise no_resource(code)
        return before

    async def _placed(self, resource: Resource) -> Resource:
        """The resource with level and division, its provider's where it has none of its own."""
        member = self._providers.get(resource.provider)
        if member is None:
            subsystem = await self._change.must_exist(subsystems, resource.provider, "subsystem", pointer="/provider")
            query = sa.select(members).where(members.c.id == subsystem["member"])
            member = rows.member_of_row((await self._change.connection.execute(query)).mappings().one())
            self._providers[resource.provider] = member
        return with_fields(
            resource, level=resource.level or member.level, division=resource.division or member.division_code
        )

    async def _check_accesses(self, resource: Resource) -> None:
        for number, access in enumerate(resource.accesses):
            if access.service not in self._services:
                pointer = f"/accesses/{number}/service"
                await self._change.must_exist(services, access.service, "service", pointer=pointer)
                self._services.add(access.service)

    async def _write(
        self, before: Mapping[str, Any] | None, content: Mapping[str, Any], action: str = "resource"
    ) -> Change:
        """Write the row with what is derived from its contents, and what it is found by."""
        shown = resource_of(content["published"] or content["draft"])
        row = {
            "code": shown.code,
            "provider": shown.provider,
            "state": content["state"],
            "number": content["number"],
            "accesses": content["published"]["accesses"] if content["published"] else [],
            "published": content["published"],
            "draft": content["draft"],
            "changed_at": content.get("changed_at"),
        }
        change = await self._change.record(action, shown.code, before, row)
        await self._change.write(resources, row, change.version, exists=before is not None)
        await self._index(shown, row)
        self._rows[shown.code] = row
        return change

    async def _index(self, shown: Resource, row: Mapping[str, Any]) -> None:
        """Write what a resource is found and listed by; it is there from the first change on."""
        values = {
            "provider": shown.provider,
            "state": row["state"],
            "number": row["number"],
            "name": shown.name,
            "name_en": shown.name_en,
            "sharing_class": shown.sharing_class,
            "mode": shown.mode,
            "level": shown.level,
            "division": shown.division,
            **asdict(texts_of(shown)),
        }
        statement: sa.Insert | sa.Update = sa.insert(resource_index).values(code=shown.code, **values)
        if self._rows.get(shown.code) is not None:
            statement = sa.update(resource_index).where(resource_index.c.code == shown.code).values(**values)
        await self._change.connection.execute(statement)


def _in_force(row: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """Whether the published version says this already; a date it got when it was published is not asked for again."""
    published = row["published"]
    if published is None or row["state"] != "published":
        return False
    dated = {**content, "publication_date": content["publication_date"] or published["publication_date"]}
    return bool(published == dated)
