"""How a handler changes the registry: one transaction in the actor's name, and an answer that says where it is on record.

Rules:
1. The registry's own functions judge whether the actor may; a handler only names them.
2. The answer waits until this gateway's own snapshot holds the change: who changed something and asks again, sees it.
3. It waits a moment for the log, too. A change made while the log is away counts all the same, and is recorded later: then
   `recorded` is null.
4. The same change twice is one change: 200 with the record as it is, where the first time was 201.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from fastapi import Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from exchange import UnavailableError
from registry import Actor, Change, ChangeFilter, Changes, Snapshot

CHANGE_HEADER: Final = "Datong-Change"
_FOLLOW_SECONDS: Final = 2.0


class Recorded(BaseModel):
    """What every answer to a change says about the change."""

    change: int = Field(description="Version of the registry that the change made, or that last changed the record.")
    recorded: str | None = Field(
        description="Address of its entry in the evidence log; null: it counts, and is recorded when the log is back."
    )


class RegistryUnavailableError(UnavailableError):
    rule_name = "registry-available"
    detail = {"en": "The registry's database cannot be reached now.", "zh": "登记数据库当前不可用。"}


@asynccontextmanager
async def changing(request: Request, actor: Actor, why: str) -> AsyncIterator[Changes]:
    """Changes in one transaction, by the actor: all of them or none.

    Raises:
        RegistryUnavailableError: The database is away.
    """
    registry = request.app.state.gateway.database
    async with consulting(), registry.change(by=actor.by, why=why, certificate=actor.certificate) as change:
        yield change


@asynccontextmanager
async def consulting() -> AsyncIterator[None]:
    """Around reads of the registry's database; raises RegistryUnavailableError while it is away."""
    try:
        yield
    except (DataError, IntegrityError, ProgrammingError):
        raise  # not its absence: a fault of ours
    except (DBAPIError, PoolTimeoutError, OSError) as error:
        raise RegistryUnavailableError from error


async def changed(
    request: Request,
    change: Change | None,
    content: Callable[[Snapshot], Mapping[str, Any]],
    *,
    target: str,
    action: str,
) -> Response:
    """The answer to a change that was made, or was made before: 201 with a new record, 200 else.

    Args:
        change: None when everything was so already.
        content: What the answer holds besides `Recorded`, as plain JSON, from a snapshot that holds the change.
        target: The record's identifier.
        action: How the actions of changes of such records begin.

    Raises:
        RegistryUnavailableError: The change is made, and the database went away before it could be shown.
    """
    gateway = request.app.state.gateway
    async with consulting(), asyncio.timeout(_FOLLOW_SECONDS):
        if change is not None:
            version = newest = change.version
        else:
            newest = await gateway.database.version()
            found, _ = await gateway.recorder.book.page(ChangeFilter(target=target, action=action), limit=1)
            version = found[0].version
        snapshot = await gateway.registry.reach(newest)
    recorded = await gateway.recorder.recorded(version)
    said = {"change": version, "recorded": f"{gateway.public_url}/v1/changes/{version}" if recorded else None}
    created = change is not None and change.before is None
    return answer({**content(snapshot), **said}, 201 if created else 200, headers={CHANGE_HEADER: str(version)})


def answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(content), status, media_type="application/json", headers=headers)


def plain(view: BaseModel) -> dict[str, Any]:
    """A declared answer as plain JSON."""
    return view.model_dump(mode="json")
