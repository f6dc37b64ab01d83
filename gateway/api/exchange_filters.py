"""Which records are looked for: query parameters of `/v1/exchanges`, its statistics and its export, and what they come to.

Rules:
1. All conditions hold at once; what is left out means any. Bounds are inclusive, but for `until`.
2. A person or company is looked for by number, or by the hash that a record shows. A number is hashed at once: it is not in our
   events, not on record and not in an export. `Datong-Subject` keeps it out of the records of proxies, too.
3. What goes on record and into an export names a subject by the hash that records have of it now (`gateway.api.access_records`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from fastapi import Request
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from exchange import InvalidRequestError, RecordFilter
from gateway.api.actors import note_of
from gateway.api.fields import InstantMs, Service, Subsystem
from gateway.api.paging import MAX_PAGE

SUBJECT_HEADER: Final = "Datong-Subject"
SUBJECT_PARAMETER: Final[dict[str, Any]] = {
    "name": SUBJECT_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 255},
    "description": "In place of `subject`: a number that should not stand in an address. 对象号码（替代 subject）。",
}
"""For `openapi_extra`."""

_LARGEST: Final = 1 << 53
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_PRIVATE: Final = ("subject", "person", "user", "represented", "case", "message_id")
"""Conditions by which counts would be about one person or matter."""

_Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
_Code = Annotated[str, StringConstraints(pattern="^[a-z0-9.-]{1,64}$")]


def _without_colons(text: str) -> str:
    return text.replace(":", "").lower()


class RecordQuery(BaseModel):
    """Which records to look for; what is left out means any."""

    kind: Literal["exchange", "change", "access", "retention", "any"] = Field(
        "exchange",
        description="Exchanges; changes of the registry (action as `rule`, target as `service`); who looked at the record "
        "(`access`); archiving, removal and erasure (`retention`). 记录种类。",
        examples=["exchange"],
    )
    client: Subsystem | None = Field(
        None, description="The subsystem that asked. 调用方。", examples=["CN/GOV/11997001DT0000035E/housing"]
    )
    owner: Subsystem | None = Field(
        None, description="The subsystem that was asked. 提供方。", examples=["CN/GOV/11997001DT0000019Q/tax"]
    )
    service: Service | None = Field(None, description="服务。", examples=["CN/GOV/11997001DT0000019Q/tax/enterprises"])
    purpose: _Text | None = Field(None, description="Datong-Purpose. 用途。", examples=["public-rental-housing"])
    case: _Text | None = Field(
        None, description="X-Road-Issue: the case or document number. 办件编号。", examples=["沪民政〔2026〕17号"]
    )
    user: _Text | None = Field(None, description="X-Road-UserId: the acting official. 经办人。", examples=["张三"])
    represented: _Text | None = Field(
        None, description="X-Road-Represented-Party. 被代表方。", examples=["CN/COM/91110000MA0012345X"]
    )
    subject: _Text | None = Field(
        None,
        description="Who was asked about: the number itself (better in `Datong-Subject`), or its hash as records show it. "
        "查询对象号码或其哈希。",
        examples=["ab" * 32],
    )
    person: _Text | None = Field(
        None,
        description="The natural person whose certificate called: number or hash. 自然人证书持有人号码或其哈希。",
        examples=["ab" * 32],
    )
    outcome: Literal["answered", "refused", "failed", "unknown"] | None = Field(
        None, description="结果。", examples=["refused"]
    )
    rule: _Code | None = Field(None, description="The rule that refused. 拒绝规则。", examples=["purpose"])
    code: _Code | None = Field(
        None, description="Code of the error that the caller was given. 错误代码。", examples=["access-denied"]
    )
    source: Literal["gateway", "bus", "adapter", "backend"] | None = Field(
        None, description="Where an error arose. 错误来源。", examples=["gateway"]
    )
    certificate: str | None = Field(
        None,
        description="SHA-256 of the caller's certificate, hex. 证书指纹。",
        pattern="^[0-9a-fA-F]{64}$",
        examples=["0f" * 32],
    )
    certificate_serial: Annotated[
        str | None,
        Field(
            description="Its serial number, hex; zeros in front, colons and case do not count. 证书序列号。",
            pattern="^[0-9a-fA-F:]{1,80}$",
            examples=["0A:1B"],
        ),
        AfterValidator(lambda text: text and _without_colons(text)),
    ] = None
    message_id: _Text | None = Field(None, description="X-Road-Id. 消息编号。", examples=["m-4711"])
    method: str | None = Field(None, pattern="^[A-Z]{1,20}$", description="方法。", examples=["GET"])
    path_template: _Text | None = Field(
        None, description="As it is declared. 声明的路径。", examples=["/enterprises/{uscc}"]
    )
    channel: Literal["hall", "web", "mobile", "kiosk", "hotline"] | None = Field(
        None, description="渠道。", examples=["hall"]
    )
    grant: _Text | None = Field(
        None, description="Id of a grant, in any version or as `g42@7`. 授权编号。", examples=["g42"]
    )
    min_status: int | None = Field(None, ge=0, le=599, description="HTTP status. 状态码下限。", examples=[400])
    max_status: int | None = Field(None, ge=0, le=599, description="状态码上限。", examples=[599])
    min_duration_ms: int | None = Field(
        None, ge=0, lt=_LARGEST // 1000, description="How long it took. 用时下限。", examples=[500]
    )
    max_duration_ms: int | None = Field(None, ge=0, lt=_LARGEST // 1000, description="用时上限。", examples=[60000])
    min_request_bytes: int | None = Field(
        None, ge=0, lt=_LARGEST, description="Of the request's body. 请求体下限。", examples=[1]
    )
    max_request_bytes: int | None = Field(None, ge=0, lt=_LARGEST, description="请求体上限。", examples=[1048576])
    min_answer_bytes: int | None = Field(
        None, ge=0, lt=_LARGEST, description="Of the answer's body. 应答体下限。", examples=[1]
    )
    max_answer_bytes: int | None = Field(None, ge=0, lt=_LARGEST, description="应答体上限。", examples=[1048576])
    since: InstantMs | None = Field(
        None, description="RFC 3339, inclusive. 起始时间（含）。", examples=["2026-11-01T00:00:00+08:00"]
    )
    until: InstantMs | None = Field(
        None, description="RFC 3339, exclusive. 截止时间（不含）。", examples=["2026-12-01T00:00:00+08:00"]
    )


class ExchangeSearch(RecordQuery):
    """Which records to list."""

    cursor: str | None = Field(
        None, description="`next_cursor` of the page before.", pattern="^[0-9]{1,18}$", examples=["4711"]
    )
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="How many at most.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for."""

    search: RecordFilter
    told: dict[str, Any]
    """The same as it may stand on record and in an export."""


async def wanted_records(request: Request, query: RecordQuery) -> Wanted:
    """What a query comes to, with numbers hashed.

    Raises:
        InvalidRequestError: Bounds are the wrong way round, or the subject is given twice.
        UnavailableError: The keys of subjects cannot be read now.
    """
    _check_order(query)
    number = note_of(request, SUBJECT_HEADER)
    if number and query.subject is not None:
        raise InvalidRequestError(
            "query-parameter",
            problem=f"The subject is given twice, as subject and in {SUBJECT_HEADER}.",
            problem_zh=f"查询对象重复：参数 subject 与请求头 {SUBJECT_HEADER}。",
        )
    subjects, subjects_told = await _hashes(request, number or query.subject)
    persons, persons_told = await _hashes(request, query.person)
    search = RecordFilter(
        kind=query.kind,
        client=query.client or "",
        owner=query.owner or "",
        service=query.service or "",
        purpose=query.purpose or "",
        case=query.case or "",
        user=query.user or "",
        represented=query.represented or "",
        subjects=subjects,
        persons=persons,
        outcome=query.outcome or "",
        rule=query.rule or "",
        code=query.code or "",
        source=query.source or "",
        certificate=query.certificate or "",
        certificate_serial=query.certificate_serial or "",
        message_id=query.message_id or "",
        method=query.method or "",
        path_template=query.path_template or "",
        channel=query.channel or "",
        grant=query.grant or "",
        status_min=query.min_status,
        status_max=query.max_status,
        duration_min_us=_microseconds(query.min_duration_ms),
        duration_max_us=_microseconds(query.max_duration_ms),
        request_size_min=query.min_request_bytes,
        request_size_max=query.max_request_bytes,
        answer_size_min=query.min_answer_bytes,
        answer_size_max=query.max_answer_bytes,
        since_ms=query.since,
        until_ms=query.until,
    )
    return Wanted(search, replace(search, subjects=subjects_told, persons=persons_told).to_plain())


def private_condition(request: Request, query: RecordQuery) -> str | None:
    """The name of a condition by which counts would be about one person or matter; None if there is none."""
    if SUBJECT_HEADER.lower() in request.headers:
        return SUBJECT_HEADER
    return next((name for name in _PRIVATE if getattr(query, name) is not None), None)


def _check_order(query: RecordQuery) -> None:
    if query.since is not None and query.until is not None and query.since >= query.until:
        raise InvalidRequestError(
            "query-parameter", problem="since must be before until.", problem_zh="since 必须早于 until。"
        )
    for name in ("status", "duration_ms", "request_bytes", "answer_bytes"):
        least, most = getattr(query, f"min_{name}"), getattr(query, f"max_{name}")
        if least is not None and most is not None and least > most:
            raise InvalidRequestError(
                "query-parameter",
                problem=f"min_{name} must not be above max_{name}.",
                problem_zh=f"min_{name} 不得大于 max_{name}。",
            )


async def _hashes(request: Request, text: str | None) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """The hashes that a number or hash may stand under in records, and those of them that may be told."""
    if text is None:
        return None, None
    if _HASH.fullmatch(text):
        return (found := frozenset({text.lower()})), found
    hashes: list[str] = await request.app.state.gateway.subjects.hashes_of(text)
    return frozenset(hashes), frozenset(hashes[:-1])


def _microseconds(ms: int | None) -> int | None:
    return None if ms is None else ms * 1000
