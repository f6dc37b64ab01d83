"""`/v1/changes`: who decided what, when and why; each with its entry in the log of exchanges.

Rules:
1. Auditors and operators search. Whoever made a change is shown it, too; everybody else is told the same as if it were none.
2. A list tells of each row what the log tells of it: long documents by digest. One change is shown with its rows complete.
3. What is shown comes from the registry. Whether the log has exactly this is said by `seq`: the entry's id is made of all
   that the change says, so a row that was altered since is not found on the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field

from exchange import InvalidRequestError, NotFoundError, UnavailableError
from gateway.api.actors import ActorDep
from gateway.api.audit import reading_log
from gateway.api.changing import answer, consulting
from gateway.api.exchange_views import made_by
from gateway.api.fields import InstantMs, rfc3339
from gateway.api.openapi import BY_CERTIFICATE, problems
from gateway.api.paging import PageQuery, cursor_of, known_parameters, read_cursor
from gateway.api.refusals import READING, ROLE
from gateway.change_recorder import ChangeRecorder, change_record
from registry import Change, ChangeFilter

LARGEST_VERSION = 2**53 - 1

router = APIRouter(prefix="/v1/changes", tags=["changes"])
events = structlog.get_logger("datong.api")


class ChangeView(BaseModel):
    """One change of the registry and where it stands on the log."""

    version: int = Field(description="The version of the registry that it made. 登记簿版本。")
    at: str = Field(description="When it was made, RFC 3339. 变更时间。")
    by: str = Field(
        description="Who made it: a subsystem and the official it named, or a user of the machine. 操作人。"
    )
    certificate: str = Field(description="SHA-256 of the certificate that was shown, hex; empty at the machine itself.")
    why: str = Field(description="The reason. 理由。")
    action: str = Field(description="What was done. 动作。", examples=["grant.revoke"])
    target: str = Field(description="What it was done to. 对象。", examples=["g42"])
    before: dict[str, Any] | None = Field(description="The row before; null if there was none. 变更前。")
    after: dict[str, Any] = Field(description="The row after. 变更后。")
    before_digests: dict[str, Any] = Field(description="Members that are too long for a list: their SHA-256 and size.")
    after_digests: dict[str, Any] = Field(description="The same for the row after.")
    entry: str = Field(description="Identifier of its entry on the log of exchanges. 日志条目标识。")
    seq: int | None = Field(
        description="Number of the entry; null: it is not on the log yet. 日志序号，null 为尚未留痕。"
    )
    receipt: str | None = Field(description="Where its receipt is, once it is on the log. 回执地址。")


class ChangePage(BaseModel):
    """Changes, newest first."""

    changes: list[ChangeView]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")


class ChangeSearch(PageQuery):
    """Which changes to list; what is left out means any."""

    target: str | None = Field(
        None, description="What was changed.", min_length=1, max_length=400, pattern=r"^[^\x00]*$", examples=["g42"]
    )
    action: str | None = Field(
        None, description="How the action begins.", pattern=r"^[a-z][a-z0-9._-]{0,39}$", examples=["grant"]
    )
    by: str | None = Field(
        None,
        description="How `by` begins: a subsystem is whoever acted for it.",
        min_length=1,
        max_length=600,
        pattern=r"^[^\x00]*$",
        examples=["CN/GOV/11997001DT0000035E/housing"],
    )
    since: InstantMs | None = Field(None, description="RFC 3339, inclusive.", examples=["2026-11-01T00:00:00+08:00"])
    until: InstantMs | None = Field(None, description="RFC 3339, exclusive.", examples=["2026-12-01T00:00:00+08:00"])


_LOG_AWAY = UnavailableError("log-readable")
_NOT_FOUND = NotFoundError(what="such change", what_zh="该变更")


@router.get(
    "",
    response_model=ChangePage,
    responses=problems(*READING, ROLE, _LOG_AWAY),
    openapi_extra=BY_CERTIFICATE,
)
async def list_changes(request: Request, actor: ActorDep, wanted: Annotated[ChangeSearch, Query()]) -> Response:
    """Changes of the registry, newest first. Needs the role auditor or operator. 登记变更列表。

    Pages stay correct while changes are made: what is added meanwhile is newer than the first page.
    """
    actor.require("auditor", "operator")
    known_parameters(request, ChangeSearch)
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise InvalidRequestError(
            "query-parameter", problem="since must be before until.", problem_zh="since 必须早于 until。"
        )
    before = None
    if wanted.cursor is not None:
        (cursor,) = read_cursor(wanted.cursor, int)
        before = int(cursor)
    search = ChangeFilter(
        target=wanted.target or "",
        action=wanted.action or "",
        by=wanted.by or "",
        since=_moment(wanted.since),
        until=_moment(wanted.until),
    )
    recorder: ChangeRecorder = request.app.state.gateway.recorder
    async with consulting():
        found, more = await recorder.book.page(search, before=before, limit=wanted.limit)
    views = await _views(request, found)
    events.info("changes.listed", caller=actor.subsystem, count=len(found), query=request.url.query)
    return answer({"changes": views, "next_cursor": cursor_of(found[-1].version) if more else None})


@router.get(
    "/{version}",
    response_model=ChangeView,
    responses=problems(*READING, _NOT_FOUND, _LOG_AWAY),
    openapi_extra=BY_CERTIFICATE,
)
async def show_change(
    request: Request,
    actor: ActorDep,
    version: Annotated[str, PathParameter(description="Version of the registry. 登记簿版本。", examples=["42"])],
) -> Response:
    """One change, with the rows complete: for auditors, operators, and the subsystem that made it. 单项变更。"""
    known_parameters(request)
    recorder: ChangeRecorder = request.app.state.gateway.recorder
    change = None
    if version.isascii() and version.isdecimal() and len(version) <= len(str(LARGEST_VERSION)):
        async with consulting():
            change = await recorder.book.find(min(int(version), LARGEST_VERSION))
    ours = change is not None and actor.subsystem is not None and made_by(change.by, actor.subsystem)
    if change is None or not (ours or actor.holds("auditor", "operator")):
        raise NotFoundError(what="such change", what_zh="该变更")
    (view,) = await _views(request, [change])
    whole = {"before": change.before, "after": change.after, "before_digests": {}, "after_digests": {}}
    return answer({**view, **whole})


async def _views(request: Request, found: Sequence[Change]) -> list[dict[str, Any]]:
    gateway = request.app.state.gateway
    records = [change_record(gateway.recorder.registry_id, change) for change in found]
    ids = [record.id for record in records]
    async with reading_log(request) as log:
        numbers = await log.reader.numbers(ids)
    return [
        {
            "version": change.version,
            "at": rfc3339(change.at),
            "by": change.by,
            "certificate": change.certificate,
            "why": change.why,
            "action": change.action,
            "target": change.target,
            "before": record.before,
            "after": record.after,
            "before_digests": record.before_digests,
            "after_digests": record.after_digests,
            "entry": entry,
            "seq": numbers.get(entry),
            "receipt": f"{gateway.public_url}/v1/exchanges/{entry}/receipt" if entry in numbers else None,
        }
        for change, record, entry in zip(found, records, ids, strict=True)
    ]


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)
