"""Who acts through the management API: the caller's subsystem, its roles now, and the official it names."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Request

from exchange import InvalidRequestError
from gateway.api.callers import CallerDep
from gateway.api.fields import LONGEST_LINE
from registry import ROLES, Actor

LONGEST_NOTE = 255


async def actor(request: Request, caller: CallerDep) -> Actor:
    """Who acts, for the registry to judge and to put on record.

    Raises:
        InvalidRequestError: X-Road-UserId is too long, or not printable.
        MeshError: As `gateway.api.callers.caller`.
    """
    if caller.principal.person is None:
        # The record of a change names the certificate by fingerprint; a receipt must be able to show it years later.
        request.app.state.gateway.log.remember_certificate(caller.principal.fingerprint, caller.principal.der)
    longest = min(LONGEST_NOTE, LONGEST_LINE - len(caller.subsystem) - len(" ()"))  # on record both stand in one line
    return Actor(
        subsystem=caller.subsystem,
        official=note_of(request, "X-Road-UserId", longest=longest),
        certificate=caller.principal.fingerprint,
        roles=frozenset(role for role in ROLES if caller.has_role(role)),
    )


ActorDep = Annotated[Actor, Depends(actor)]


def note_of(request: Request, name: str, *, longest: int = LONGEST_NOTE) -> str:
    """A header that goes on record, as text: UTF-8, percent-encoded or as it is; empty when there is none.

    Raises:
        InvalidRequestError: It is longer than `longest` characters, not printable, or given more than once.
    """
    values = request.headers.getlist(name)
    raw = values[0].encode("latin-1") if values else b""
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # not percent-encoded UTF-8 after all: kept as it was sent
    text = text.strip()
    if len(values) > 1 or len(text) > longest or not text.isprintable():
        raise InvalidRequestError(
            "header-value",
            problem=f"{name} must be printable, at most {longest} characters, and given once.",
            problem_zh=f"{name} 必须是可打印字符，不超过 {longest} 个字符，且只出现一次。",
        )
    return text
