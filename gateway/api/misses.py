"""`/v1/misses`: the public ledger of missed deadlines, and how each department keeps its own. Anybody may read it.

Rules:
1. No certificate is asked for, and a line names no person, no applicant, no purpose and no resource.
2. Lines are never taken away; one that counts no longer says why.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from gateway.api import fields
from gateway.api.changing import RegistryUnavailableError, answer, consulting, plain
from gateway.api.deadline_views import DepartmentView, MissView
from gateway.api.openapi import problems
from gateway.api.paging import PageQuery, cursor_of, known_parameters, read_cursor
from gateway.api.refusals import READING
from registry import Applications

router = APIRouter(prefix="/v1/misses", tags=["misses"])

_REFUSALS = (READING[0], RegistryUnavailableError())


class MissPage(BaseModel):
    """Missed deadlines, newest first."""

    misses: list[MissView]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end.")


class LeagueTable(BaseModel):
    """Departments that had something to decide, those that keep their deadlines worst first."""

    departments: list[DepartmentView]


class MissSearch(PageQuery):
    """Which to list; what is left out means any."""

    department: fields.Member | None = Field(None, description="Member that answers for it. 责任部门。")
    open: bool = Field(False, description="Only those that are late still. 仅列仍未办结的。")


@router.get("", response_model=MissPage, responses=problems(*_REFUSALS))
async def list_misses(request: Request, wanted: Annotated[MissSearch, Query()]) -> Response:
    """Missed deadlines, newest first. No certificate is needed."""
    known_parameters(request, MissSearch)
    before = int(read_cursor(wanted.cursor, int)[0]) if wanted.cursor is not None else None
    desk: Applications = request.app.state.gateway.applications
    async with consulting():
        found, following = await desk.misses(
            department=wanted.department or "", open_only=wanted.open, before=before, limit=wanted.limit
        )
    shown = [plain(MissView.of(each, desk.late_days(each))) for each in found]
    return answer({"misses": shown, "next_cursor": None if following is None else cursor_of(following)})


@router.get("/summary", response_model=LeagueTable, responses=problems(*_REFUSALS))
async def summarise_misses(request: Request) -> Response:
    """Per department: decided in time and late, overdue now, the median of working days. No certificate is needed."""
    known_parameters(request)
    desk: Applications = request.app.state.gateway.applications
    async with consulting():
        records = await desk.league_table()
    return answer({"departments": [plain(DepartmentView.of(each)) for each in records]})
