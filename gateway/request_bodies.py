"""The body of a request, read whole before anything is carried: in memory if it is small, on disk if it is large."""

from __future__ import annotations

from starlette.types import Receive, Scope

from ca_auth import REFUSAL_KEY, Refusal
from exchange import INLINE_BODY, Body, InvalidRequestError, MeshError, PayloadTooLargeError, Spool
from gateway.attempt import Attempt
from gateway.problems import edge_error


async def read_body(attempt: Attempt, scope: Scope, receive: Receive, limit: int, spool: Spool) -> Body:
    """The whole body; the edge sees to it that it arrives in time.

    Args:
        limit: Bytes that it may have.
        spool: Where a large one waits until it is whole. It is the attempt's then, to be closed at its end.

    Raises:
        PayloadTooLargeError: It is larger.
        MeshError: The edge refused the rest of it, or the caller left.
    """
    length = attempt.noted.get(b"content-length")
    if length is not None and int(length) > limit:
        raise PayloadTooLargeError(limit=limit)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _cut_short(scope["state"].get(REFUSAL_KEY))
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise PayloadTooLargeError(limit=limit)
        more = message.get("more_body", False)
        if size > INLINE_BODY:
            return await _spooled(attempt, scope, receive, limit, spool, [*pieces, piece], more)
        if not more:
            return b"".join((*pieces, piece)) if pieces else piece
        pieces.append(piece)


async def _spooled(
    attempt: Attempt, scope: Scope, receive: Receive, limit: int, spool: Spool, pieces: list[bytes], more: bool
) -> Body:
    """The whole body, on disk: `pieces` of it and the rest, read no faster than it is written."""
    size = sum(map(len, pieces))
    attempt.spooled = body = spool.open(int(attempt.noted.get(b"content-length", size)))
    for piece in pieces:
        await body.add(piece)
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _cut_short(scope["state"].get(REFUSAL_KEY))
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size > limit:
            raise PayloadTooLargeError(limit=limit)
        await body.add(piece)
    await body.finish()
    return body


def _cut_short(refusal: Refusal | None) -> MeshError:
    """Why the rest of a body never comes: the edge refused it, or the caller left."""
    if refusal is not None:
        return edge_error(refusal.rule, refusal.status)
    return InvalidRequestError(
        "body-complete",
        problem="The caller left before the body was complete.",
        problem_zh="请求体未传完调用方即断开。",
    )
