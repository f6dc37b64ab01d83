"""`/v1/log/stamps`: the time stamps on checkpoints of the log, and where they are missing (docs/timestamps.md).

They say when the log had how many entries, and nothing of anybody: every registered subsystem may see them.
"""

from __future__ import annotations

import time
from base64 import b64encode
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field

from exchange import (
    AccessDeniedError,
    InvalidClientError,
    InvalidRequestError,
    NotFoundError,
    StampConfig,
    UnauthenticatedError,
    UnavailableError,
    read_stamped,
)
from gateway.api.audit import reading_log
from gateway.api.callers import CallerDep
from gateway.api.fields import rfc3339
from gateway.api.openapi import BY_CERTIFICATE, problems
from gateway.api.paging import DEFAULT_PAGE, MAX_PAGE, known_parameters
from gateway.stamping import Stamping, longest_wait_ms

router = APIRouter(prefix="/v1/log", tags=["exchanges"])


class StampView(BaseModel):
    """That an authority stamped a checkpoint."""

    size: int = Field(description="Entries of the log under the checkpoint.")
    authority: str = Field(description="Name of the authority in this gateway's configuration.")
    at: str = Field(description="The time that its token tells. RFC 3339.")
    token: str = Field(description="Where the token is.")


class GapView(BaseModel):
    """Entries that waited for the stamp of an authority longer than is normal."""

    authority: str
    size: int = Field(description="The entries from this number on waited.")
    since: str = Field(description="RFC 3339.")
    until: str | None = Field(description="When they were stamped, RFC 3339; null if they still wait.")


class AuthorityView(BaseModel):
    """How things are with an authority now."""

    name: str
    stamped: int = Field(description="Entries under its newest stamp.")
    last_stamp: str | None = Field(description="RFC 3339.")
    waiting_since: str | None = Field(
        description="Since when entries wait for its next stamp; null if none do. RFC 3339."
    )
    failing_since: str | None = Field(
        description="Since when its requests fail; null if the last one did not. RFC 3339."
    )
    problem: str = Field(description="What is wrong, if something is.")


class StampPage(BaseModel):
    """Stamps, those on the largest trees first."""

    stamps: list[StampView]
    gaps: list[GapView] = Field(description="Before and between these stamps, and, on the first page, after them.")
    authorities: list[AuthorityView] = Field(description="Those that this gateway asks.")
    refusing: bool = Field(description="Whether exchanges are refused because stamps are missing.")
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")


class StampSearch(BaseModel):
    """Which stamps to list."""

    cursor: str | None = Field(
        None, description="`next_cursor` of the page before.", pattern="^[0-9]{1,18}$", examples=["4711"]
    )
    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="How many at most.")


class StampTokens(BaseModel):
    """A checkpoint and the tokens over its text."""

    checkpoint: str = Field(description="The signed note. What is stamped is its text: all up to the empty line.")
    tokens: dict[str, str] = Field(description="Name of the authority -> RFC 3161 token (DER, base64).")


_REFUSALS = (
    InvalidRequestError("query-parameter", problem="There is no query parameter 'x'.", problem_zh="没有查询参数 'x'。"),
    InvalidClientError(problem="X-Road-Client is missing.", problem_zh="缺少 X-Road-Client。"),
    UnauthenticatedError(
        problem="The connection carries no client certificate.", problem_zh="连接没有出示客户端证书。"
    ),
    UnavailableError("log-readable"),
    AccessDeniedError(
        "client-registered",
        problem="CN/GOV/…/housing is not a registered subsystem.",
        problem_zh="CN/GOV/…/housing 不是已登记的子系统。",
    ),
)
_NOT_FOUND = NotFoundError(what="such stamp", what_zh="该时间戳")


@router.get("/stamps", responses=problems(*_REFUSALS), openapi_extra=BY_CERTIFICATE)
async def list_stamps(request: Request, caller: CallerDep, wanted: Annotated[StampSearch, Query()]) -> StampPage:
    """Time stamps on the log's checkpoints, and where they are missing. For every registered subsystem."""
    known_parameters(request, StampSearch)
    stamping: Stamping | None = request.app.state.gateway.vouching.stamping
    async with reading_log(request) as log:
        found = await read_stamped(
            log.reader,
            authorities=[each.name for each in stamping.config.authorities] if stamping is not None else (),
            longest_ms=longest_wait_ms(stamping.config if stamping is not None else StampConfig(authorities=())),
            now_ms=time.time_ns() // 1_000_000,
            below=None if wanted.cursor is None else int(wanted.cursor),
            limit=wanted.limit,
        )
    address = f"{request.app.state.gateway.public_url}/v1/log/stamps"
    state = stamping.state() if stamping is not None else None
    return StampPage(
        stamps=[
            StampView(size=size, authority=authority, at=_moment(at_ms), token=f"{address}/{size}")
            for size, authority, at_ms in found.stamps
        ],
        gaps=[
            GapView(
                authority=gap.authority,
                size=gap.size,
                since=_moment(gap.since_ms),
                until=None if gap.until_ms is None else _moment(gap.until_ms),
            )
            for gap in found.gaps
        ],
        authorities=[
            AuthorityView(
                name=each.name,
                stamped=each.last.size if each.last is not None else 0,
                last_stamp=_moment(each.last.at_ms) if each.last is not None else None,
                waiting_since=None if each.waiting_since_ms is None else _moment(each.waiting_since_ms),
                failing_since=None if each.failing_since_ms is None else _moment(each.failing_since_ms),
                problem=each.problem,
            )
            for each in (state.authorities if state is not None else ())
        ],
        refusing=state is not None and state.refusing,
        next_cursor=None if found.below is None else str(found.below),
    )


@router.get("/stamps/{size}", responses=problems(*_REFUSALS, _NOT_FOUND), openapi_extra=BY_CERTIFICATE)
async def show_stamps(
    request: Request,
    caller: CallerDep,
    size: Annotated[str, PathParameter(description="Entries under the checkpoint.", examples=["4711"])],
) -> StampTokens:
    """A stamped checkpoint and its tokens, to be verified by whatever reads RFC 3161. For every registered subsystem."""
    known_parameters(request)
    if not (size.isascii() and size.isdecimal() and len(size) <= 18):
        raise _not_found()
    async with reading_log(request) as log:
        tokens = await log.reader.stamps(int(size))
        checkpoints = await log.reader.checkpoints_from(int(size), 1)
    if not tokens or not checkpoints or checkpoints[0].size != int(size):
        raise _not_found()
    encoded = {authority: b64encode(token).decode() for authority, token in sorted(tokens.items())}
    return StampTokens(checkpoint=checkpoints[0].note, tokens=encoded)


def _not_found() -> NotFoundError:
    return NotFoundError(what="such stamp", what_zh="该时间戳")


def _moment(at_ms: int) -> str:
    return rfc3339(datetime.fromtimestamp(at_ms / 1000, UTC))
