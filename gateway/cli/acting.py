"""In whose name a command changes the registry: the machine's own operator, or a subsystem with its roles."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from exchange import NotFoundError, SubsystemId
from gateway.cli import console_io as io

if TYPE_CHECKING:
    from registry import Actor, Registry

AsOption = Annotated[
    str,
    typer.Option("--as", help="Act for this subsystem, with the roles it holds; default: as operator of the registry."),
]


async def actor_of(registry: Registry, subsystem: str, by: str) -> Actor:
    """Who acts.

    Args:
        subsystem: As `--as` gives it; empty for the operator.
        by: As `--by` gives it.

    Raises:
        NotFoundError: There is no such subsystem.
    """
    from registry import Actor

    if not subsystem:
        return Actor.operator(io.who(by))
    snapshot = await registry.snapshot()
    if snapshot.subsystem(SubsystemId(subsystem)) is None:
        raise NotFoundError(what=f"subsystem {subsystem}", what_zh=f"子系统 {subsystem}")
    roles = snapshot.roles_of(SubsystemId(subsystem), time.time())
    return Actor(subsystem=SubsystemId(subsystem), official=io.who(by), roles=roles)
