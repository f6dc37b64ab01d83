"""Who acts through the management API: the caller's subsystem, its roles now, and the official it names."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Request

from exchange import InvalidRequestError
from gateway.callers import CallerDep
from registry import ROLES, Actor

LONGEST_NOTE = 255


async def actor(request: Request, caller: CallerDep) -> Actor:
    """Who acts, for the registry to judge and to put on record.

    Raises:
        InvalidRequestError: X-Road-UserId is too long, or not printable.
        MeshError: As `gateway.callers.caller`.
    """
    if caller.principal.person is None:
        # The record of a change names the certificate by fingerprint; a receipt must be able to show it years later.
        request.app.state.gateway.log.remember_certificate(caller.principal.fingerprint, caller.principal.der)
    return Actor(
        subsystem=caller.subsystem,
        official=note_of(request, "X-Road-UserId"),
        certificate=caller.principal.fingerprint,
        roles=frozenset(role for role in ROLES if caller.has_role(role)),
    )


ActorDep = Annotated[Actor, Depends(actor)]


def note_of(request: Request, name: str) -> str:
    """A header that goes on record, as text: UTF-8, percent-encoded or as it is; empty when there is none.

    Raises:
        InvalidRequestError: It is longer than `LONGEST_NOTE` characters, or not printable.
    """
    raw = request.headers.get(name, "").encode("latin-1")
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # not percent-encoded UTF-8 after all: kept as it was sent
    text = text.strip()
    if len(text) > LONGEST_NOTE or not text.isprintable():
        raise InvalidRequestError(
            "header-value",
            problem=f"{name} must be printable and at most {LONGEST_NOTE} characters.",
            problem_zh=f"{name} 必须是可打印字符，且不超过 {LONGEST_NOTE} 个字符。",
        )
    return text
