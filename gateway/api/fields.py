"""What members of bodies and query parameters may hold: pydantic types whose complaints exist in English and Chinese.

A complaint is a `PydanticCustomError` with the texts `en` and `zh` in its context; `gateway.api.bodies` and
`gateway.api.errors` put the name in front, so each text begins with a verb ("is not ...", "不是……").
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from exchange import MemberId, ServiceId, SubsystemId, member_id, parse_rfc3339, service_id, subsystem_id
from registry import begins, ends

LONGEST_LINE = 500

_T = TypeVar("_T")


def complaint(kind: str, en: str, zh: str, *, pointer: str = "") -> PydanticCustomError:
    """What a validator raises; `en` and `zh` go on after the name of the field.

    Args:
        pointer: RFC 6901, of the member it is about, from where the validator stands.
    """
    return PydanticCustomError("datong_" + kind, "{en}", {"en": en, "zh": zh, "pointer": pointer})


def _identifier(parse: Callable[[str], _T], form: str, form_zh: str) -> Callable[[str], _T]:
    def check(text: str) -> _T:
        try:
            return parse(text)
        except ValueError as error:
            raise complaint("identifier", f"is not {form}", f"不是 {form_zh} 的形式") from error

    return check


def _line(text: str) -> str:
    if text != text.strip() or not text.isprintable():
        raise complaint(
            "line",
            "must be one line of printable characters, without spaces around it",
            "应为单行可打印字符，首尾不含空格",
        )
    return text


def _instant(text: Any) -> int:
    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError, TypeError) as error:
        raise complaint(
            "instant",
            "is not an RFC 3339 instant such as 2026-11-23T08:00:00Z (a + is written %2B in a query)",
            "不是 RFC 3339 时间，例如 2026-11-23T08:00:00Z（查询串中的 + 须写作 %2B）",
        ) from error


def _moment(read: Callable[[str], datetime]) -> Callable[[Any], datetime]:
    def parse(text: Any) -> datetime:
        if isinstance(text, datetime):
            return text
        try:
            if not isinstance(text, str) or len(text) > 40:
                raise ValueError
            if len(text) != 10:
                parse_rfc3339(text)  # `fromisoformat` takes much more than RFC 3339 allows
            return read(text)
        except (ValueError, OverflowError) as error:
            raise complaint(
                "moment",
                "is neither a date such as 2027-12-31 (in China) nor an RFC 3339 instant such as 2027-12-31T16:00:00Z",
                "既不是日期（如 2027-12-31，按北京时间）也不是 RFC 3339 时间（如 2027-12-31T16:00:00Z）",
            ) from error

    return parse


def rfc3339(moment: datetime) -> str:
    """As instants leave this API: UTC, whole milliseconds if there are any."""
    text = moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")


_MOMENT_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "description": "A date (in China), or an RFC 3339 instant. 日期（北京时间）或 RFC 3339 时间。",
        "pattern": r"^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?$",
        "examples": ["2027-12-31", "2027-12-31T16:00:00Z"],
    },
    mode="validation",
)

_PART = r"[A-Za-z0-9'()+,\-.=?_]{1,64}"

Member = Annotated[
    MemberId,
    AfterValidator(_identifier(member_id, "instance/class/member", "实例/类别/成员代码")),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{_PART}(/{_PART}){{2}}$", "examples": ["CN/GOV/11990000000001011Q"]}
    ),
]
"""A member's identifier."""
Subsystem = Annotated[
    SubsystemId,
    AfterValidator(_identifier(subsystem_id, "instance/class/member/subsystem", "实例/类别/成员代码/子系统")),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{_PART}(/{_PART}){{3}}$", "examples": ["CN/GOV/11990000000001011Q/tax"]}
    ),
]
"""A subsystem's identifier."""
Service = Annotated[
    ServiceId,
    AfterValidator(
        _identifier(service_id, "instance/class/member/subsystem/service", "实例/类别/成员代码/子系统/服务")
    ),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{_PART}(/{_PART}){{4}}$",
            "examples": ["CN/GOV/11990000000001011Q/tax/enterprises"],
        }
    ),
]
"""A service's identifier."""
InstantMs = Annotated[int, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
"""An RFC 3339 instant, as unix milliseconds."""
Begins = Annotated[datetime, BeforeValidator(_moment(begins)), _MOMENT_SCHEMA]
"""From when something holds: a date (its first moment in China) or an RFC 3339 instant."""
Ends = Annotated[datetime, BeforeValidator(_moment(ends)), _MOMENT_SCHEMA]
"""From when something no longer holds: a date (through which it still does, in China) or an RFC 3339 instant."""
Line = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_LINE), AfterValidator(_line)]
"""A name, title or reason: one line, printable, not empty."""
OptionalLine = Annotated[str, StringConstraints(max_length=LONGEST_LINE), AfterValidator(_line)]
"""The same, or empty."""
Moment = Annotated[
    datetime, PlainSerializer(rfc3339), WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization")
]
"""An instant in an answer."""
