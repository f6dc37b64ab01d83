"""`/v1/exchanges/statistics`: how many, how fast, when, and who asked whom. For auditors, and for operators.

Rules:
1. An operator sees counts and nothing by which they would be of one person or matter: such conditions are refused to it.
2. That somebody counted is put on record before the figures are shown, like every look at the record.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from exchange import Durations, Pair, RoleMissingError, Statistics, Step
from gateway.api import exchange_refusals as refusals
from gateway.api.access_records import record_access
from gateway.api.actors import ActorDep
from gateway.api.audit import reading_log
from gateway.api.callers import CallerDep
from gateway.api.exchange_filters import RecordQuery, private_condition, wanted_records
from gateway.api.exchanges import BY_AUDITOR, json_response
from gateway.api.fields import rfc3339
from gateway.api.openapi import problems
from gateway.api.paging import known_parameters

router = APIRouter(prefix="/v1/exchanges", tags=["exchanges"])


class StatisticsQuery(RecordQuery):
    """What to count."""

    step: Step = Field(
        "day",
        description="Of the series: minutes and hours of UTC, days and months of China. 时间粒度。",
        examples=["day"],
    )


class DurationsView(BaseModel):
    """How long it took, in microseconds; 0 where nothing was counted. The percentiles are within 0.4 %. 用时（微秒）。"""

    p50_us: int
    p95_us: int
    p99_us: int
    max_us: int


class SeriesView(BaseModel):
    """One step of time; steps without a record are left out."""

    start: str = Field(description="RFC 3339.", json_schema_extra={"format": "date-time"})
    count: int
    by_outcome: dict[str, int]
    p95_us: int = Field(description="Within 3 %.")


class PairView(BaseModel):
    """What one caller asked of one owner."""

    client: str
    owner: str
    count: int
    answered: int
    refused: int
    failed: int
    unknown: int


class StatisticsView(BaseModel):
    """Figures over all records that fit."""

    size: int = Field(description="Counted over the first so many entries of the log. 统计截至的日志条数。")
    total: int = Field(description="How many fit. 合计。")
    by_outcome: dict[str, int]
    by_rule: dict[str, int] = Field(description="Of what was refused or failed. 按拒绝规则。")
    by_status_class: dict[str, int] = Field(description='"2xx" and so on; "none" where nobody waited any more.')
    duration: DurationsView
    request_bytes: int = Field(description="Of all requests' bodies.")
    answer_bytes: int = Field(description="Of all answers' bodies.")
    step: Step
    series: list[SeriesView] = Field(description="In order of time. 时间序列。")
    matrix: list[PairView] = Field(description="Who asked whom, the most first; 10,000 at most. 调用方与提供方矩阵。")
    matrix_rest: PairView = Field(description="All other pairs together, with empty names. 其余合计。")
    by_service: dict[str, int] = Field(description="The 100 with the most records. 按服务。")
    by_purpose: dict[str, int] = Field(description="Likewise. 按用途。")


@router.get(
    "/statistics",
    response_model=StatisticsView,
    responses=problems(*refusals.SEARCHING),
    openapi_extra=BY_AUDITOR,
)
async def show_statistics(
    request: Request, caller: CallerDep, actor: ActorDep, query: Annotated[StatisticsQuery, Query()]
) -> Response:
    """Counts, a time series, latencies and who asked whom. Needs the role auditor or operator. 统计。

    An operator may not count by subject, person, official, represented party, case or message.
    """
    actor.require("auditor", "operator")
    known_parameters(request, StatisticsQuery)
    if not caller.has_role("auditor") and (private := private_condition(request, query)):
        raise RoleMissingError(
            problem=f"Counting by {private} needs the role auditor: it would be about one person or matter.",
            problem_zh=f"按 {private} 统计会指向特定个人或事项，需要 auditor 角色。",
        )
    wanted = await wanted_records(request, query)
    async with reading_log(request):
        found = await request.app.state.gateway.search.statistics(wanted.search, step=query.step)
    details = {"filter": wanted.told, "step": query.step, "count": found.total}
    await record_access(request, caller, "exchanges.statistics", details)
    return json_response(statistics_view(found))


def statistics_view(found: Statistics) -> dict[str, Any]:
    """A `StatisticsView` as plain JSON."""
    return {
        "size": found.size,
        "total": found.total,
        "by_outcome": dict(found.by_outcome),
        "by_rule": dict(found.by_rule),
        "by_status_class": dict(found.by_status_class),
        "duration": _plain(found.duration),
        "request_bytes": found.request_bytes,
        "answer_bytes": found.answer_bytes,
        "step": found.step,
        "series": [
            {
                "start": rfc3339(datetime.fromtimestamp(each.start_ms / 1000, UTC)),
                "count": each.count,
                "by_outcome": dict(each.by_outcome),
                "p95_us": each.p95_us,
            }
            for each in found.series
        ],
        "matrix": [_plain(each) for each in found.matrix],
        "matrix_rest": _plain(found.matrix_rest),
        "by_service": dict(found.by_service),
        "by_purpose": dict(found.by_purpose),
    }


def _plain(figures: Durations | Pair) -> dict[str, Any]:
    return {name: getattr(figures, name) for name in type(figures).__dataclass_fields__}
